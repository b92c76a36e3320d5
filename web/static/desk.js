/**
 * The desk: one story on the page, the writer's hands on it and the model's. Ties the tree, the editor, the streams and
 * the shelf together; each of those knows nothing of the others.
 */

import { Announcer } from "./announce.js";
import { findCopied, movedBy } from "./copied.js";
import { byId, h, nameWindow } from "./dom.js";
import { Editor } from "./editor.js";
import { Foot } from "./foot.js";
import { Inks } from "./inks.js";
import { drawMap } from "./map.js";
import { Pen } from "./pen.js";
import { difference, Story } from "./story.js";
import { newMeta } from "./storage.js";
import { tab } from "./tab.js";
import { opening } from "./typeset.js";
import { Why } from "./why.js";

const SAVE_MS = 400;
const COPIED_MS = 900;
const SAVE_LIVE_MS = 1500;

export class Desk {
  /** @param {{shelf: import("./storage.js").Shelf, settings: import("./settings.js").Settings, streams: import("./stream.js").Streams}} parts */
  constructor(parts) {
    Object.assign(this, parts);
    this.story = new Story();
    this.meta = newMeta();
    /** while the model writes here @type {?Pen} */
    this.pen = null;
    /** the first words, which stand for the title where there is none */
    this.opening = "";
    /** the story's facts have changed since they were last saved */
    this.isTouched = false;
    /** what stands here is more than the browser could keep */
    this.isUnkept = false;
    /** another tab has deleted what stands here */
    this.isGone = false;
    /** called with `meta` and `story` after every save */
    this.onSaved = null;
    /** what is due: a save, the search for copies, a drawing of the map, and what that showed last */
    this.saving = null;
    this.copying = null;
    this.mapping = null;
    this.mapped = null;
    this.editor = new Editor(byId("page"), {
      onEdit: (change, touched) => this.#edited(change, touched),
      onUndo: () => this.undo(),
      onRedo: () => this.redo(),
    });
    this.inks = new Inks(this.editor);
    this.announcer = new Announcer(byId("announcer"));
    this.foot = new Foot(this.announcer, { words: () => this.#words(), isUnkept: () => this.isUnkept });
    this.why = new Why({
      root: byId("note"),
      editor: this.editor,
      inks: this.inks,
      story: () => this.story,
      isOn: () => this.settings.values.explain,
      onBranch: (at, choice) => this.branch(at, choice),
    });
    this.#listen();
  }

  // ---- stories on the desk

  /** Put a story on the desk; the one that lay there is saved first. */
  async show({ meta, nodes, isNew = false }) {
    await this.putAway();
    this.save(); // what was typed while it was being put away
    await this.replace({ meta, nodes, isNew });
  }

  /** Put a story on the desk and forget the one that lay there. `isNew`: the shelf does not have it yet. */
  async replace({ meta, nodes, isNew = false }) {
    this.#leave();
    this.meta = meta;
    this.isGone = false;
    this.story = new Story({ nodes, current: meta.current });
    const place = tab.get(`at.${meta.id}`); // another tab may stand elsewhere in it
    if (this.story.nodes.has(place)) this.story.go(place);
    if (isNew) this.story.soil();
    tab.set("story", meta.id);
    byId("title").value = meta.title;
    this.editor.setText(this.story.text());
    this.inks.copied = [];
    this.#redraw();
    this.#showCopiedSoon();
    if (isNew) await this.save();
    this.#pickUp();
  }

  /** Whether closing the window would lose what stands here. */
  get wouldLose() {
    return this.isUnkept || (!this.shelf.keeps && this.story.nodes.size > 1);
  }

  async putAway() {
    this.#leave();
    this.why.hide();
    this.notePlace();
    await this.save();
  }

  /** Remember, for this tab, what stands at the top of the window. */
  notePlace() {
    if (!byId("desk").hidden) tab.set(`top.${this.meta.id}`, JSON.stringify(this.editor.atTop()));
  }

  /** The desk is shown again: be where the reader was. */
  comeBack() {
    const place = JSON.parse(tab.get(`top.${this.meta.id}`));
    scrollTo(0, 0);
    if (place) this.editor.bringToTop(place);
    if (place) this.pen?.scrolled(true);
    this.#name();
  }

  /** Let another model write in this story from here on; null is the server's default. */
  choose(checkpoint) {
    this.meta.checkpoint = checkpoint;
    this.#touch();
  }

  /** Another tab has opened this story and may build on what stands here: what is typed from now on is a node of its own. */
  share(id) {
    if (id !== this.meta.id) return;
    this.story.seal();
    this.save();
  }

  /** Another tab has saved this story: take in the branches it has added, and its facts unless they have changed here. */
  async takeIn(id) {
    if (id !== this.meta.id) return;
    const wasTouched = this.isTouched;
    const kept = await this.shelf.load(id);
    if (id !== this.meta.id) return; // another story lies here by now
    this.isGone = !kept;
    if (!kept) return;
    this.story.adopt(kept.nodes);
    const { title, checkpoint, isOnServer } = wasTouched || this.isTouched ? this.meta : kept.meta;
    Object.assign(this.meta, { title, checkpoint, isOnServer });
    byId("title").value = title;
    if (this.story.text() !== this.editor.text) this.#showText();
    this.showMap();
  }

  async save() {
    clearTimeout(this.saving);
    this.saving = null;
    if (!this.story.dirty.size && !this.isTouched) return;
    this.isTouched = false;
    if (this.isGone) this.story.soil(); // another tab has deleted what is being written on here: keep it whole
    this.isGone = false;
    const paragraphs = this.editor.paragraphs.slice(0, 4).map(({ text }) => text);
    Object.assign(this.meta, {
      updated: Date.now(),
      current: this.story.current,
      opening: opening(paragraphs, 16),
      words: this.#words(),
      nodes: this.story.nodes.size - 1, // without the root
    });
    tab.set(`at.${this.meta.id}`, this.story.current);
    const { meta, story } = this;
    const failure = await this.shelf.save({ ...meta }, story).then(() => null, (error) => error);
    if (failure && !this.isUnkept) this.notice(`This browser could not keep the story (${failure.message}). Export it to be safe.`);
    if (Boolean(failure) !== this.isUnkept) {
      this.isUnkept = Boolean(failure);
      this.foot.say();
    }
    this.onSaved?.(meta, story);
  }

  /** Note facts of a story, whether it still lies on the desk or not. */
  async mark({ meta, story }, facts) {
    if (meta.id === this.meta.id) {
      Object.assign(this.meta, facts);
      this.isTouched = true;
      await this.save();
      return;
    }
    const kept = await this.shelf.note(meta.id, facts);
    if (kept && (story || !facts.isOnServer)) this.onSaved?.(kept, story);
  }

  // ---- the model's hand

  /** Write on from the end, or from `at` on in place of what stands there, beginning with the word `given`. */
  generate(at, given) {
    if (this.pen) return;
    this.editor.finish();
    this.#standApart();
    const before = this.story.current;
    const node = this.story.continueAt(at, given, this.#made());
    if (node.removed || node.given) this.#showText();
    this.#write(node, { before, again: () => this.generate(at, given) });
  }

  /** Write the last continuation again, with a seed of its own. */
  retry() {
    this.editor.finish();
    const before = this.#leave() ?? this.story.current;
    const { sampling: { seed, ...sampling }, checkpoint } = this.#made();
    const node = this.story.retry({ sampling, checkpoint });
    if (!node) return;
    this.#showText();
    this.#write(node, { before, again: () => this.retry() });
  }

  /** Another word in the place of one of the model's; the text as it was stays on its own branch. */
  branch(at, choice) {
    this.#leave();
    this.why.hide();
    this.generate(at, choice);
    this.editor.root.focus({ preventScroll: true });
    this.editor.select(this.editor.text.length);
  }

  /** Cut the text at the caret and write on from there. */
  generateHere() {
    const selection = this.editor.selection();
    if (selection) this.generate(selection.from);
  }

  /** Lift the pen: the page keeps what has been written, and what is still on the way. */
  stop() {
    this.pen?.stop();
  }

  /**
   * Lift the pen and turn elsewhere; what is still on the way was never seen and is let go.
   * @returns {string|undefined} where the story stood before the pen was dipped, if nothing at all has come since
   */
  #leave() {
    const { pen } = this;
    if (!pen) return undefined;
    pen.put();
    this.pen = null;
    pen.leave();
    this.#lifted();
    return pen.isUnwritten ? pen.before : undefined;
  }

  undo() {
    this.#step(() => this.story.undo());
  }

  redo() {
    this.#step(() => this.story.redo());
  }

  go(id) {
    this.editor.finish();
    if (id !== this.story.current) this.#step(() => this.story.go(id));
  }

  /** Walk the tree, and show what that changes. */
  #step(walk) {
    this.editor.finish();
    this.#leave();
    walk();
    this.#showText();
    if (document.activeElement === this.editor.root) this.editor.revealCaret();
  }

  /** Another tab may still write a continuation on this path: what is built on it would move as it grows. */
  #standApart() {
    const growing = this.story.growing(this.pen?.node);
    if (growing) this.story.copy(growing.id);
  }

  #made() {
    const { pace, ...sampling } = this.settings.request();
    return { sampling, checkpoint: this.meta.checkpoint };
  }

  /** @param {{before?: string, again?: () => void}} from  where the story stood, and what to do once more if nothing comes */
  #write(node, { before, again } = {}) {
    const { story, editor, inks, announcer } = this;
    const pen = new Pen({ story, node: node.id, before, editor, inks, announcer }, {
      onAccepted: () => {
        this.save(); // at once: from here on a reload finds the stream again
        this.#showState(); // the seed
      },
      onQueued: (message) => this.foot.queued(message),
      onPut: () => {
        this.foot.writing(pen.rate);
        this.#saveSoon();
      },
      onDone: (done) => this.#done(pen, done),
      onError: (error) => this.#failed(pen, error, again),
    });
    this.pen = pen;
    const limits = { pace: this.settings.request().pace, maxBytes: this.settings.limits.max_prompt_bytes };
    const read = pen.write(this.streams, limits);
    tab.set("live", node.id);
    this.foot.reading(read);
    this.#showState();
    this.editor.revealCaret();
  }

  #done(pen, done) {
    if (this.pen === pen) {
      this.#finish();
      this.foot.done(done);
    }
    this.#saveSoon();
    this.#showCopiedSoon();
  }

  #failed(pen, { message, code }, again) {
    if (code === "taken_over") {
      if (this.pen === pen) this.#handOver();
      return;
    }
    if (this.pen === pen) {
      const isUnwritten = this.#finish();
      this.foot.say();
      const { current } = this.story;
      const tryAgain = () => (isUnwritten && again && this.story.current === current ? again() : this.generate());
      const isGone = code === "unknown_checkpoint";
      this.notice(sentence(message), isGone ? h("a", { href: "#models" }, "Choose another") : h("button", { type: "button", onclick: tryAgain }, "Try again"));
    }
    this.#saveSoon();
  }

  /** Another tab goes on with the stream, from what this one has saved, and saves what comes. */
  #handOver() {
    const { pen } = this;
    this.story.dirty.delete(pen.node);
    this.pen = null;
    pen.lift();
    this.#lifted();
    this.foot.say();
  }

  /**
   * Nothing more will come. A continuation of which nothing came at all is no step to stand on.
   * @returns {boolean} whether it was one
   */
  #finish() {
    const { pen } = this;
    this.pen = null;
    pen.lift();
    const { isUnwritten, before } = pen;
    if (isUnwritten) {
      if (before) this.story.go(before);
      else this.story.undo();
      this.#showText(); // what it was to stand in place of
    }
    this.#lifted();
    return isUnwritten;
  }

  #lifted() {
    tab.remove("live");
    this.#showState();
    this.showMap();
  }

  /** Go on with a stream that this tab was receiving when it was reloaded. */
  #pickUp() {
    const node = this.story.nodes.get(tab.get("live"));
    if (this.pen || !node || node.made?.reason || node.made?.seed === undefined) return;
    this.#write(node);
  }

  // ---- the writer's hand

  #edited(change, { first, last }) {
    const seam = this.pen?.seam ?? null;
    const cutsPen = seam !== null && change.at < seam && seam <= change.at + change.removed;
    this.#standApart();
    this.story.edit(change);
    if (cutsPen) this.#leave();
    this.inks.copied = movedBy(change, this.inks.copied);
    this.inks.paint(this.story, first, last);
    this.why.hide();
    this.#showState();
    this.#showMapSoon();
    this.#saveSoon();
    this.#showCopiedSoon();
  }

  #listen() {
    const on = (id, act) => byId(id).addEventListener("click", act);
    on("generate", () => this.generate());
    on("stop", () => this.stop());
    on("retry", () => this.retry());
    on("undo", () => this.undo());
    on("redo", () => this.redo());
    on("seed", () => this.#copySeed());
    // the caret stays in the text when a mouse presses a button
    byId("foot").addEventListener("mousedown", (event) => event.preventDefault());
    addEventListener("keydown", (event) => this.#onKey(event));
    byId("title").addEventListener("input", (event) => {
      this.meta.title = event.target.value;
      this.#name();
      this.#touch();
    });
    const keep = () => {
      this.editor.finish();
      this.pen?.put(); // the frame that was asked for may never be drawn
      this.notePlace();
      this.save();
    };
    addEventListener("pagehide", keep);
    document.addEventListener("visibilitychange", () => document.hidden && keep());
    let top = scrollY;
    addEventListener("scroll", () => {
      const isUp = scrollY < top; // the page itself only goes down after the pen
      top = scrollY;
      this.pen?.scrolled(isUp);
    }, { passive: true });
  }

  #onKey(event) {
    if (byId("desk").hidden || event.isComposing) return;
    const isCommand = event.ctrlKey || event.metaKey;
    if (event.key === "Enter" && isCommand) {
      event.preventDefault();
      if (event.repeat) return;
      if (event.shiftKey) this.retry();
      else if (event.altKey) this.generateHere();
      else this.generate();
    } else if (event.key === "Enter" && event.altKey) {
      event.preventDefault();
      this.why.focus();
    } else if (event.key === "Escape") {
      if (this.pen) this.stop();
      else this.why.hide();
    }
  }

  async #copySeed() {
    const { seed } = this.story.retryable()?.made ?? {};
    const isCopied = await navigator.clipboard?.writeText(String(seed)).then(() => true, () => false);
    if (isCopied) this.foot.say("Copied: same seed, same text");
    else this.notice(`This browser does not let the page copy. The seed is ${seed}.`); // nor does any over plain HTTP
  }

  // ---- what the page shows

  /** Bring the page from whatever it shows to the text of the current node. */
  #showText() {
    const change = difference(this.editor.text, this.story.text());
    if (change.removed || change.inserted) {
      this.editor.apply(change);
      const end = change.at + change.inserted.length;
      if (document.activeElement === this.editor.root) this.editor.select(end);
    }
    this.inks.copied = [];
    this.why.hide();
    this.#touch();
    this.#redraw();
    this.#showCopiedSoon();
  }

  #redraw() {
    this.inks.isTinted = this.settings.values.tint;
    this.inks.repaint(this.story);
    this.#showState();
    this.showMap();
    if (!this.pen) this.foot.say();
  }

  /** The settings have changed. */
  restyle() {
    const { tint, explain } = this.settings.values;
    if (tint !== this.inks.isTinted) {
      this.inks.isTinted = tint;
      this.inks.repaint(this.story);
    }
    if (!explain) this.why.hide();
    if (!this.settings.values.copied && this.inks.copied.length) {
      this.inks.copied = [];
      this.inks.repaint(this.story);
    }
    this.#showCopiedSoon();
  }

  #showState() {
    const isLive = Boolean(this.pen);
    const isBlank = !isLive && this.editor.paragraphs.length === 1 && this.editor.paragraphs[0].text === "";
    this.foot.offer(this.story, isLive);
    byId("invitation").hidden = !isBlank || this.story.nodes.size > 1;
    byId("page").setAttribute("aria-busy", isLive);
    this.opening = opening(this.editor.paragraphs.slice(0, 4).map(({ text }) => text), 9);
    byId("title").placeholder = this.opening || "Untitled";
    this.#name();
  }

  #name() {
    if (!byId("desk").hidden) nameWindow(this.meta.title || this.opening);
  }

  #showMapSoon() {
    clearTimeout(this.mapping);
    const isSame = this.mapped?.current === this.story.current && this.mapped.size === this.story.nodes.size;
    this.mapped = { current: this.story.current, size: this.story.nodes.size };
    this.mapping = setTimeout(() => this.showMap(), isSame ? 600 : 0);
  }

  /** Draw the branches beside the page, and in the panel where it is open. */
  showMap() {
    byId("map").hidden = this.story.nodes.size < 2;
    for (const root of [byId("map"), byId("branches")]) {
      if (root && !root.hidden) drawMap(root, this.story, (id) => this.go(id));
    }
  }

  #words() {
    return this.editor.paragraphs.reduce((sum, { text }) => sum + (text.match(/\S+/g)?.length ?? 0), 0);
  }

  /** The story's facts have changed (its title, model, place in the tree), even if no node has. */
  #touch() {
    this.isTouched = true;
    this.#saveSoon();
  }

  #saveSoon() {
    this.saving ??= setTimeout(() => this.save(), this.pen ? SAVE_LIVE_MS : SAVE_MS);
  }

  /** Say that something went wrong. */
  notice(message, action) {
    this.foot.notice(message, action);
  }

  /** The connection was lost or is back. */
  connected(isOpen) {
    if (this.pen && !isOpen) this.foot.tell("The connection was lost; dialling again…");
  }

  #showCopiedSoon() {
    clearTimeout(this.copying);
    if (!this.settings.values.copied || this.pen) return;
    this.copying = setTimeout(() => this.#showCopied(), COPIED_MS);
  }

  /** Ask the server which stretches of the text stand in the training books, and underline them. */
  async #showCopied() {
    const { text } = this.editor;
    if (!text.trim()) return;
    const { spans, message } = await findCopied(text, this.meta.checkpoint);
    if (text !== this.editor.text || this.pen) return;
    if (spans) {
      this.inks.copied = spans;
      this.inks.repaint(this.story);
    }
    this.foot.say(message);
  }
}

function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
