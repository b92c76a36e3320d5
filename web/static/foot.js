/**
 * The foot of the desk: its buttons, the line that says in words how the writing goes, the seed, and the notice of what
 * went wrong. Does not know who writes or what is kept: the desk says what is so.
 */

import { byId, counted, h } from "./dom.js";

/** A prompt of so many characters takes a while to be read. */
const LONG_PROMPT = 20_000;

export class Foot {
  /**
   * @param {import("./announce.js").Announcer} announcer
   * @param {{words: () => number, isUnkept: () => boolean}} page  how much stands there, and whether it is more than the
   *   browser could keep
   */
  constructor(announcer, page) {
    this.announcer = announcer;
    this.page = page;
  }

  /** Offer what can be done, and the last words' seed. @param {import("./story.js").Story} story */
  offer(story, isWriting) {
    const [shown, gone] = isWriting ? [byId("stop"), byId("generate")] : [byId("generate"), byId("stop")];
    shown.hidden = false;
    if (document.activeElement === gone) shown.focus();
    gone.hidden = true;
    const focused = document.activeElement;
    const last = story.retryable();
    this.#showSeed(last?.made?.seed);
    byId("retry").disabled = !last;
    byId("undo").disabled = !story.canUndo();
    byId("redo").disabled = !story.canRedo();
    if (focused?.disabled) byId("page").focus({ preventScroll: true }); // or the keyboard's next press would go nowhere
  }

  /** Say how it goes, or how many words there are. */
  say(message = "") {
    const parts = [message || counted(this.page.words()), this.page.isUnkept() && "not kept"];
    byId("progress").textContent = parts.filter(Boolean).join(" · ");
  }

  /** Say how it goes, and have it read to those who cannot see it. */
  tell(message) {
    if (!byId("progress").textContent.startsWith(message)) this.announcer.say(message);
    this.say(message);
  }

  /** @param {{prompt: string, isCut: boolean}} what the model reads before it writes */
  reading({ prompt, isCut }) {
    const words = counted(prompt.match(/\S+/g)?.length ?? 0);
    this.say(isCut || prompt.length > LONG_PROMPT ? `Reading ${isCut ? "the last " : ""}${words}…` : "The pen is dipped…");
  }

  queued({ position, estimate_s }) {
    const wait = estimate_s >= 1 ? `, about ${Math.ceil(estimate_s)} s` : "";
    this.tell(position === 1 ? `Next in the queue${wait}` : `In the queue at place ${position}${wait}`);
  }

  /** @param {?number} rate  tokens a second, where it is known */
  writing(rate) {
    this.say(rate === null ? "writing" : `writing · ${rate} tokens/s`);
  }

  done({ reason, tokens_per_second }) {
    const end = { end: "The model ended here", shutdown: "The server is closing" }[reason];
    const rate = tokens_per_second && `${Math.round(tokens_per_second)} tokens/s`;
    this.say([end, rate].filter(Boolean).join(" · "));
  }

  /** Say that something went wrong, in words; it stays until it is read. */
  notice(message, action = null) {
    const hide = () => {
      byId("notice").hidden = true;
      if (!byId("desk").hidden) byId("page").focus({ preventScroll: true }); // the button that was pressed has gone
    };
    const close = h("button", { type: "button", onclick: hide }, "Close");
    action?.addEventListener("click", hide);
    byId("notice").replaceChildren(message, ...(action ? [action] : []), close);
    byId("notice").hidden = false;
  }

  #showSeed(seed) {
    byId("seed").hidden = seed === undefined;
    byId("seed").textContent = `seed ${seed}`;
    byId("seed").title = "Same seed, same text. Click to copy it.";
  }
}
