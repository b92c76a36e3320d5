/**
 * The pen: one continuation while it is being written. Asks for its stream, puts what comes onto the page once a frame,
 * keeps the place it writes at in sight, and notes in the story how it was made and how it ended. Does not know what is
 * kept, what else the page shows, or where the story goes from here.
 */

/** words that the model thought of, for each that it wrote */
const CHOICES = 6;
const COMPOSING_MS = 100;
/** Pixels at the foot of the window that the pen is kept out of. */
const FOOT = 150;

/**
 * @typedef {object} Handlers  only the last two are called of a pen that has been lifted
 * @property {() => void} onAccepted
 * @property {(message: {position: number, estimate_s: number}) => void} onQueued
 * @property {() => void} onPut  more stands on the page
 * @property {(message: object) => void} onDone
 * @property {(error: {code: string, message: string}) => void} onError
 */

export class Pen {
  /**
   * @param {{story: import("./story.js").Story, node: string, before?: string, editor: import("./editor.js").Editor,
   *   inks: import("./inks.js").Inks, announcer: import("./announce.js").Announcer}} parts  `node` is the continuation,
   *   `before` where the story stood before it was begun
   * @param {Handlers} handlers
   */
  constructor(parts, handlers) {
    Object.assign(this, parts);
    this.handlers = handlers;
    this.handle = null;
    this.isStopping = false;
    this.isLifted = false;
    /** what has come but does not stand on the page yet */
    this.text = "";
    this.tokens = [];
    this.isDue = false;
    /** how many tokens have come, and when the first did */
    this.count = 0;
    this.first = null;
    this.follows = true;
  }

  /**
   * Ask for the stream, or go on with the one that an earlier page asked for.
   * @param {import("./stream.js").Streams} streams
   * @param {{pace?: number, maxBytes?: number}} limits  of the stream and of its prompt
   * @returns {{prompt: string, isCut: boolean}} what the model reads
   */
  write(streams, { pace, maxBytes }) {
    const { inserted, given, made } = this.story.node(this.node);
    const whole = this.story.prompt(this.node);
    const prompt = fitting(whole, maxBytes);
    const request = { ...made.sampling, pace, prompt, logprobs: CHOICES };
    if (made.seed !== undefined) request.seed = made.seed;
    const earlier = { stream: made.stream, received: [...inserted.slice(given)].length };
    this.handle = streams.start({ ...request, checkpoint: made.checkpoint ?? undefined }, this.#listeners(), earlier);
    return { prompt, isCut: prompt !== whole };
  }

  /** @returns {?number} where, in the current text, it writes next; null when that place is gone */
  get seam() {
    return this.story.seam(this.node);
  }

  /** Whether the story still stands on the continuation, and nothing of it has come. */
  get isUnwritten() {
    return this.story.current === this.node && !this.story.node(this.node).inserted;
  }

  /** @returns {?number} tokens a second, once there is something to tell it from */
  get rate() {
    const seconds = (performance.now() - this.first) / 1000;
    return seconds > 0.5 ? Math.round(this.count / seconds) : null;
  }

  /** Put what has come onto the page. */
  put() {
    this.isDue = false;
    if (this.isLifted || (!this.text && !this.tokens.length)) return;
    const { story, node, editor, inks, seam, text, tokens } = this;
    if (editor.isComposing) {
      this.#putSoon();
      return;
    }
    this.text = "";
    this.tokens = [];
    const selection = document.activeElement === editor.root ? editor.selection() : null;
    // a caret at the pen goes with it; where everything is selected, what comes is selected too
    const rides = selection?.to === seam && [0, seam].includes(selection.from);
    story.grow(node, text, tokens);
    if (seam !== null) {
      const end = seam + text.length;
      const { first, last } = editor.apply({ at: seam, removed: 0, inserted: text });
      if (rides) editor.select(selection.from === seam ? end : 0, end);
      inks.paint(story, first, last);
      inks.wet(this.isStopping ? null : end);
      if (this.follows) this.#follow(end);
    }
    this.announcer.hear(text);
    this.handlers.onPut();
  }

  /** Write no more; what is still on the way is put down. */
  stop() {
    if (this.isStopping) return;
    this.isStopping = true;
    this.handle.stop();
  }

  /** Write no more; what is still on the way was never seen and is let go. */
  leave() {
    this.lift();
    this.story.describe(this.node, { reason: "cancelled", stream: undefined });
    this.handle.stop();
  }

  /** Put nothing down any more. */
  lift() {
    this.isLifted = true;
    this.inks.wet(null);
    this.announcer.flush();
  }

  /** The reader has scrolled: away from the pen and it is not followed, back to it and it is again. */
  scrolled(isUp) {
    this.follows = this.#isHigh() || (this.follows && !isUp);
  }

  #listeners() {
    const { story, node, handlers } = this;
    return {
      onAccepted: ({ seed, checkpoint, stream }) => {
        story.describe(node, { seed, checkpoint, stream });
        if (!this.isLifted) handlers.onAccepted();
      },
      onQueued: (message) => this.isLifted || handlers.onQueued(message),
      onText: (text, tokens) => this.isLifted || this.#take(text, tokens),
      onDone: (done) => this.#onceComposed(() => this.#done(done)),
      onError: (error) => this.#onceComposed(() => this.#failed(error)),
    };
  }

  #take(text, tokens) {
    this.first ??= performance.now();
    this.count += tokens.length;
    this.text += text;
    this.tokens.push(...tokens);
    this.#putSoon();
  }

  #putSoon() {
    if (this.isDue) return;
    this.isDue = true;
    // no frames are drawn for a hidden tab, but the story must go on
    if (document.hidden) setTimeout(() => this.put(), 100);
    else requestAnimationFrame(() => this.put());
  }

  /** An input method would lose its place if the page changed under it. */
  #onceComposed(act) {
    if (this.editor.isComposing) setTimeout(() => this.#onceComposed(act), COMPOSING_MS);
    else act();
  }

  #done(done) {
    const { reason, completion_tokens, prompt_tokens, copied_share } = done;
    this.put();
    this.story.describe(this.node, { reason, stream: undefined, completion_tokens, prompt_tokens, copied_share });
    this.handlers.onDone(done);
  }

  #failed(error) {
    if (error.code !== "taken_over") { // else another tab goes on with it
      this.put();
      this.story.describe(this.node, { reason: "error", stream: undefined });
    }
    this.handlers.onError(error);
  }

  #follow(at) {
    const { bottom } = this.editor.rect(at);
    const low = innerHeight - FOOT;
    if (bottom > low) scrollBy(0, bottom - low);
  }

  /** @returns {boolean} whether following the pen would not move the page */
  #isHigh() {
    const { seam } = this;
    return seam !== null && this.editor.rect(seam).bottom <= innerHeight - FOOT + 1;
  }
}

/** @returns {string} as much of the end of a prompt as the server reads, from the beginning of a paragraph on */
function fitting(prompt, maxBytes = Infinity) {
  if (prompt.length * 3 <= maxBytes) return prompt;
  const bytes = new TextEncoder().encode(prompt);
  if (bytes.length <= maxBytes) return prompt;
  const tail = new TextDecoder().decode(bytes.subarray(bytes.length - maxBytes + 8)).replace(/^\uFFFD+/, "");
  const paragraph = tail.indexOf("\n\n");
  return paragraph >= 0 && paragraph < tail.length / 2 ? tail.slice(paragraph + 2) : tail;
}
