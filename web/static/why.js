/**
 * The marginal note: why the model wrote this word, and what it might have written instead. Follows the pointer and the
 * caret; choosing an alternative branches there. Knows the story and the editor, not how a branch is written on.
 */

import { h, percent } from "./dom.js";

const HOVER_MS = 120;

export class Why {
  /**
   * @param {{root: HTMLElement, editor: object, inks: object, story: () => object, isOn: () => boolean,
   *   onBranch: (at: number, choice: string) => void}} parts
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.at = null;
    /** the note was asked for, and what the pointer passes on its way there does not replace it */
    this.isPinned = false;
    const { root: page } = this.editor;
    page.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.#hover(event));
    page.addEventListener("pointerleave", () => clearTimeout(this.timer));
    page.addEventListener("click", (event) => this.#atCaret(this.editor.characterAt(event.clientX, event.clientY)));
    page.addEventListener("keyup", (event) => /^(Arrow|Home|End|Page)/.test(event.key) && this.#atCaret());
    this.root.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Show the note for the token at a place of the text, or nothing where the model did not write it. */
  show(at) {
    const token = this.isOn() ? this.#tokenAt(at) : null;
    if (!token) return this.hide();
    if (this.at === token.from && !this.root.hidden) return undefined;
    this.at = token.from;
    this.root.replaceChildren(...this.#note(token));
    this.root.hidden = false;
    this.inks.word(token.word, token.to);
    this.#place(token);
    return undefined;
  }

  /** Show the note for the word at the caret and go into it, for a hand that stays on the keyboard. */
  focus() {
    const place = this.editor.selection()?.focus;
    if (place === undefined) return;
    this.at = null;
    this.show(place);
    if (this.root.hidden) this.show(place - 1);
    this.isPinned = !this.root.hidden;
    (this.root.querySelector("button:enabled") ?? this.root).focus();
  }

  hide() {
    this.isPinned = false;
    if (this.root.hidden) return;
    this.root.hidden = true;
    this.at = null;
    this.inks.word();
  }

  #hover(event) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const place = this.editor.characterAt(event.clientX, event.clientY);
      if (place !== null && !this.isPinned) this.show(place);
    }, HOVER_MS);
  }

  /** Unless something is selected; a click means the character that it hit. */
  #atCaret(hit = null) {
    const selection = this.editor.selection();
    if (!selection || selection.from !== selection.to) return;
    this.show(hit ?? selection.from);
    this.isPinned = !this.root.hidden;
  }

  /**
   * @returns {?{from: number, word: number, to: number, text: string, logprob: number, choices: [string, number][]}} a
   *   token, and where what the writer has left of it stands, and its word after the space
   */
  #tokenAt(at) {
    const story = this.story();
    const { node, offset } = story.owner(at) ?? {};
    if (node?.kind !== "continuation" || offset < node.given) return null;
    const { ends, logprobs, choices } = node.tokens;
    const index = ends.findIndex((end) => end > offset);
    if (index < 0) return null;
    const [begin, end] = [index ? ends[index - 1] : node.given, ends[index]];
    const text = node.inserted.slice(begin, end);
    const { from, to } = story.remains(node.id, begin, end);
    const { from: word } = story.remains(node.id, begin + text.search(/\S|$/), end) ?? { from: to };
    return { from, word, to, text, logprob: logprobs[index], choices: choices[index] };
  }

  #note({ from, text, logprob, choices }) {
    const share = Math.exp(logprob);
    const place = choices.findIndex(([choice]) => choice === text);
    const rank = place < 0 ? `not among the first ${choices.length}` : ["its first choice", "its second choice", "its third choice"][place] ?? `its ${place + 1}th choice`;
    const most = Math.max(share, ...choices.map(([, one]) => Math.exp(one)));
    return [
      h("p", { class: "chosen" }, h("i", {}, visible(text)), ` ${percent(share)}, ${choices.length ? rank : ""}`),
      h(
        "ol",
        { "aria-label": "What the model might have written here" },
        ...choices.map(([choice, one]) => this.#choice(from, choice, Math.exp(one), most, choice === text)),
      ),
      h("p", { class: "hint" }, "Choose another word to branch here."),
    ];
  }

  #choice(at, choice, share, most, isChosen) {
    const bar = h("span", { class: "bar" });
    bar.style.width = `${Math.max(2, (100 * share) / most)}%`;
    const label = [h("span", { class: "word" }, visible(choice)), h("span", { class: "share" }, percent(share)), bar];
    const isNoWord = choice === "" || isHalf(choice);
    const pick = () => this.onBranch(at, choice);
    return h("li", {}, h("button", { type: "button", onclick: pick, disabled: isNoWord || isChosen, "aria-current": isChosen }, ...label));
  }

  /** Beside its line where there is a margin; the stylesheet puts it at the foot of a narrow page. */
  #place({ from, to }) {
    const line = this.editor.rect(from, to);
    const column = this.root.parentElement.getBoundingClientRect();
    const top = Math.min(line.top, innerHeight - this.root.offsetHeight - 90);
    this.root.style.setProperty("--top", `${Math.max(60, top) - column.top}px`);
  }

  #onKey(event) {
    const buttons = [...this.root.querySelectorAll("button:enabled")];
    const index = buttons.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && index >= 0) {
      event.preventDefault();
      buttons[(index + step + buttons.length) % buttons.length].focus();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      this.hide();
      this.editor.root.focus();
    }
  }
}

/** @returns {boolean} whether a token is bytes that only others make a character of */
function isHalf(text) {
  return text.endsWith("\ufffd");
}

/** @returns {string} a token as a reader can see it */
function visible(text) {
  if (text === "") return "the end";
  if (isHalf(text)) return "part of a character";
  if (/^\n+$/.test(text)) return text.length > 1 ? "¶ new paragraph" : "↵ new line";
  if (/^ +$/.test(text)) return "␣ space";
  return /^\s/.test(text) ? text.trim() : `‑${text}`;
}
