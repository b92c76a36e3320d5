/**
 * The page as an editor of plain text: one <p> a paragraph ("\n\n" in the text), one text node in each, and nothing else,
 * so that input methods, spell checkers and screen readers meet ordinary text. Every change, typed or programmatic, is a
 * {at, removed, inserted}; joining the paragraphs by "\n\n" always gives exactly the text. Knows nothing of stories.
 */

import { difference } from "./story.js";
import { kindOf } from "./typeset.js";

const BREAK = "\n\n";
/** From this many paragraphs on, the browser need not lay out those that cannot be seen. */
const LONG = 400;
/** Pixels above and below a line's letters that still belong to it. */
const BETWEEN_LINES = 8;
/** Pixels of the window's top in which nothing is read. */
const HEAD = 80;
/** So many frames without a change, and the page is taken to be laid out. */
const STILL = 30;

/** @typedef {{element: HTMLElement, node: Text, text: string}} Paragraph */

export class Editor {
  /**
   * @param {HTMLElement} root
   * @param {{onEdit: (change: object) => void, onUndo: () => void, onRedo: () => void}} handlers  `onEdit` hears of every
   *   change the writer makes, after it stands on the page
   */
  constructor(root, handlers) {
    this.root = root;
    this.handlers = handlers;
    this.isComposing = false;
    this.shift = false;
    /** @type {Paragraph[]} */
    this.paragraphs = [];
    this.setText("");
    this.#listen();
  }

  get text() {
    return this.paragraphs.map((paragraph) => paragraph.text).join(BREAK);
  }

  setText(text) {
    this.#letGo();
    this.paragraphs = text.split(BREAK).map(paragraphOf);
    this.root.replaceChildren(...this.paragraphs.map((paragraph) => paragraph.element));
    this.#dress(0, this.paragraphs.length - 1);
  }

  /**
   * Change the text on the page without telling `onEdit`.
   * @returns {{first: number, last: number}} the paragraphs that were touched
   */
  apply(change) {
    this.#letGo();
    const { at, removed, inserted } = this.#beside(change);
    const from = this.locate(at);
    const to = removed ? this.locate(at + removed) : from;
    const first = this.paragraphs[from.index];
    if (from.index === to.index) {
      const text = first.text.slice(0, from.offset) + inserted + first.text.slice(to.offset);
      if (!text.includes(BREAK)) {
        first.node.replaceData(from.offset, removed, inserted);
        this.#settle(first, text);
        this.#dress(from.index, from.index);
        return { first: from.index, last: from.index };
      }
    }
    return this.#replace(from, to, inserted);
  }

  /** @returns {{index: number, offset: number}} the paragraph in which a place of the text stands */
  locate(at) {
    let rest = at;
    for (let index = 0; index < this.paragraphs.length; index++) {
      const { length } = this.paragraphs[index].text;
      if (rest <= length) return { index, offset: Math.max(0, rest) };
      rest -= length + BREAK.length;
    }
    const index = this.paragraphs.length - 1;
    return { index, offset: this.paragraphs[index].text.length };
  }

  /** The same change, but neither its beginning nor its end falls between the two characters of a paragraph break. */
  #beside({ at, removed, inserted }) {
    if (this.#splitsBreak(at)) [at, removed, inserted] = [at - 1, removed + 1, `\n${inserted}`];
    if (this.#splitsBreak(at + removed)) [removed, inserted] = [removed + 1, `${inserted}\n`];
    return { at, removed, inserted };
  }

  #splitsBreak(at) {
    let start = 0;
    for (const { text } of this.paragraphs) {
      start += text.length + BREAK.length;
      if (start > at) return start - 1 === at;
    }
    return false;
  }

  /** @returns {number} where a paragraph begins in the text */
  startOf(index) {
    let start = 0;
    for (let i = 0; i < index; i++) start += this.paragraphs[i].text.length + BREAK.length;
    return start;
  }

  /** @returns {?number} the place in the text of a DOM position, null outside the editor */
  placeOf(node, offset) {
    if (node === this.root) return this.#paragraphPlace(offset);
    if (!this.root.contains(node)) return null;
    let element = node;
    while (element.parentNode !== this.root) element = element.parentNode;
    const index = this.paragraphs.findIndex((paragraph) => paragraph.element === element);
    if (index < 0) return null;
    const { node: own, text } = this.paragraphs[index];
    const inside = node === own ? offset : node === element && offset > 0 ? text.length : 0;
    return this.startOf(index) + Math.min(inside, text.length);
  }

  /** @returns {?{from: number, to: number, focus: number}} what is selected in the editor */
  selection() {
    const { anchorNode, anchorOffset, focusNode, focusOffset } = getSelection();
    if (!anchorNode) return null;
    const anchor = this.placeOf(anchorNode, anchorOffset);
    const focus = this.placeOf(focusNode, focusOffset);
    if (anchor === null || focus === null) return null;
    return { from: Math.min(anchor, focus), to: Math.max(anchor, focus), focus };
  }

  select(from, to = from) {
    const a = this.#boundary(from);
    const b = this.#boundary(to);
    getSelection().setBaseAndExtent(...a, ...b);
  }

  /** @returns {?number} the place of the character that stands under a point of the window */
  characterAt(x, y) {
    const caret = document.caretPositionFromPoint?.(x, y);
    const place = caret ? this.placeOf(caret.offsetNode, caret.offset) : null;
    if (place === null) return null;
    // a caret stands at the nearer edge of a character, so it may be before it or after it
    const isUnder = (at) => {
      const { left, right, top, bottom } = this.rect(at, at + 1);
      return x >= left && x <= right && y > top - BETWEEN_LINES && y < bottom + BETWEEN_LINES;
    };
    return [place - 1, place].find((at) => at >= 0 && isUnder(at)) ?? null;
  }

  /** @returns {StaticRange[]} a stretch of text as ranges that highlights can use, one a paragraph */
  ranges(from, to, first = 0, last = this.paragraphs.length - 1) {
    const ranges = [];
    let start = this.startOf(first);
    for (let index = first; index <= last; index++) {
      const { node, text } = this.paragraphs[index];
      const a = Math.max(0, from - start);
      const b = Math.min(text.length, to - start);
      if (a < b) ranges.push(new StaticRange({ startContainer: node, startOffset: a, endContainer: node, endOffset: b }));
      start += text.length + BREAK.length;
      if (start >= to) break;
    }
    return ranges;
  }

  /** @returns {DOMRect} where a stretch of text stands on the screen */
  rect(from, to = from) {
    const range = document.createRange();
    range.setStart(...this.#boundary(from));
    range.setEnd(...this.#boundary(to));
    const { startContainer: at } = range; // an empty paragraph has no letters, but a place
    const element = at.nodeType === Node.TEXT_NODE ? at.parentElement : at;
    return range.getClientRects()[0] ?? element.getBoundingClientRect();
  }

  /** @returns {{index: number, by: number}} the paragraph at the top of the window, and how far down it begins */
  atTop() {
    const tops = this.paragraphs.map(({ element }) => element.getBoundingClientRect());
    const index = Math.max(0, tops.findIndex(({ bottom }) => bottom > HEAD));
    return { index, by: tops[index].top };
  }

  /** Scroll so that a paragraph begins so far down the window, and hold it there until the page stands still or the reader scrolls. */
  bringToTop({ index, by }) {
    const { element } = this.paragraphs[Math.min(index, this.paragraphs.length - 1)];
    const isAtEnd = () => scrollY + innerHeight >= document.documentElement.scrollHeight - 1;
    let at = scrollY;
    let still = 0;
    // the font may come later, and what has not been laid out yet be longer or shorter than it was taken for
    const hold = () => {
      if (scrollY !== at && !isAtEnd()) return this.#letGo();
      const off = element.getBoundingClientRect().top - by;
      if (Math.abs(off) >= 1) scrollBy(0, off);
      still = scrollY === at && document.fonts.status === "loaded" ? still + 1 : 0;
      at = scrollY;
      if (still === STILL) return this.#letGo();
      this.holding = requestAnimationFrame(hold);
    };
    this.#letGo();
    document.body.style.overflowAnchor = "none"; // or the browser would hold on to something else
    hold();
  }

  #letGo() {
    cancelAnimationFrame(this.holding);
    document.body.style.overflowAnchor = "";
  }

  /** Replace what is selected as if the writer had typed it. */
  type(inserted, selection = this.selection()) {
    if (!selection) return;
    this.#edit({ at: selection.from, removed: selection.to - selection.from, inserted });
  }

  #edit({ at, removed, inserted }) {
    const change = { at, removed: Math.min(removed, this.#paragraphPlace(this.paragraphs.length) - at), inserted };
    if (!change.removed && !change.inserted) return;
    const touched = this.apply(change);
    this.select(change.at + change.inserted.length);
    this.handlers.onEdit(change, touched);
    this.revealCaret();
  }

  /** Scroll so that the caret stands clear of the window's edges. */
  revealCaret() {
    const selection = this.selection();
    if (!selection) return;
    const { top, bottom } = this.rect(selection.focus);
    const low = innerHeight - 140;
    if (bottom > low) scrollBy(0, bottom - low);
    else if (top < HEAD) scrollBy(0, top - HEAD);
  }

  #boundary(at) {
    const { index, offset } = this.locate(at);
    const { element, node, text } = this.paragraphs[index];
    return text === "" ? [element, 0] : [node, offset];
  }

  #replace(from, to, inserted) {
    const old = this.paragraphs.slice(from.index, to.index + 1);
    const text = old[0].text.slice(0, from.offset) + inserted + old.at(-1).text.slice(to.offset);
    const parts = text.split(BREAK);
    const [head, ...added] = [old[0], ...parts.slice(1).map(paragraphOf)];
    if (head.text !== parts[0]) {
      const { at, removed, inserted: differing } = difference(head.text, parts[0]);
      head.node.replaceData(at, removed, differing);
    }
    this.#settle(head, parts[0]);
    for (const gone of old.slice(1)) gone.element.remove();
    head.element.after(...added.map((paragraph) => paragraph.element));
    this.paragraphs.splice(from.index, old.length, head, ...added);
    const last = from.index + added.length;
    this.#dress(from.index, last);
    return { first: from.index, last };
  }

  /** An empty paragraph, or one that ends in a line break, needs a <br> for the caret to have a line to stand on. */
  #settle(paragraph, text) {
    paragraph.text = text;
    const needsBreak = text === "" || text.endsWith("\n");
    const hasBreak = paragraph.element.lastChild !== paragraph.node;
    if (needsBreak && !hasBreak) paragraph.element.append(document.createElement("br"));
    if (!needsBreak && hasBreak) paragraph.element.lastChild.remove();
  }

  /** Give headings and scene breaks, and the paragraphs after them, their place in the typography. */
  #dress(first, last) {
    for (let index = first; index <= Math.min(last + 1, this.paragraphs.length - 1); index++) {
      const { element, text } = this.paragraphs[index];
      const previous = this.paragraphs[index - 1];
      const kind = kindOf(text);
      const name = kind || (previous && !kindOf(previous.text) ? "" : "first");
      if (element.className !== name) element.className = name;
    }
    this.root.classList.toggle("long", this.paragraphs.length > LONG);
  }

  #listen() {
    const { root } = this;
    root.addEventListener("keydown", (event) => this.#onKey(event));
    root.addEventListener("beforeinput", (event) => this.#onBeforeInput(event));
    root.addEventListener("input", () => this.isComposing || this.#readBack());
    root.addEventListener("compositionstart", () => (this.isComposing = true));
    root.addEventListener("compositionend", () => {
      this.isComposing = false;
      this.#readBack();
    });
    root.addEventListener("copy", (event) => this.#onCopy(event));
    root.addEventListener("cut", (event) => this.#onCopy(event) && this.type(""));
  }

  #onKey(event) {
    this.shift = event.shiftKey;
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    // on a keyboard of another script Ctrl+Z is Ctrl+я: then the place of the key decides
    const key = /^[ -~]$/.test(event.key) ? event.key.toLowerCase() : event.code.slice(3).toLowerCase();
    const isRedo = key === "y" || (key === "z" && event.shiftKey);
    if (!isRedo && key !== "z") return;
    event.preventDefault();
    if (isRedo) this.handlers.onRedo();
    else this.handlers.onUndo();
  }

  #onBeforeInput(event) {
    const type = event.inputType;
    if (type === "insertCompositionText" || event.isComposing) return; // not ours to stop; read back when it ends
    event.preventDefault();
    if (type === "historyUndo") this.handlers.onUndo();
    else if (type === "historyRedo") this.handlers.onRedo();
    else if (type === "insertParagraph" || type === "insertLineBreak") this.type(this.shift ? "\n" : BREAK);
    else if (type.startsWith("insert")) {
      const text = event.dataTransfer?.getData("text/plain") ?? event.data ?? "";
      this.type(text.replaceAll("\r\n", "\n").replaceAll("\r", "\n"), this.#target(event));
    } else if (type.startsWith("delete")) this.type("", this.#target(event));
  }

  /** @returns {?{from: number, to: number}} the text that an input event is about to replace */
  #target(event) {
    const [range] = event.getTargetRanges();
    const selection = this.selection();
    if (!range) return selection;
    const from = this.placeOf(range.startContainer, range.startOffset);
    const to = this.placeOf(range.endContainer, range.endOffset);
    if (from === null || to === null) return selection;
    if (from !== to || !event.inputType.startsWith("delete")) return { from, to };
    const { index, offset } = this.locate(from);
    if (!event.inputType.includes("Forward")) return { from: Math.max(0, from - (offset ? 1 : BREAK.length)), to };
    return { from, to: to + (offset < this.paragraphs[index].text.length ? 1 : BREAK.length) };
  }

  #onCopy(event) {
    const selection = this.selection();
    if (!selection || selection.from === selection.to) return false;
    event.preventDefault();
    event.clipboardData.setData("text/plain", this.text.slice(selection.from, selection.to));
    return true;
  }

  /** End what an input method is composing: it is part of the text from here on. */
  finish() {
    if (!this.isComposing) return;
    this.root.blur();
    this.root.focus({ preventScroll: true });
  }

  /** The browser has changed the page by itself (an input method, an extension): take its text as the writer's. */
  #readBack() {
    const before = this.text;
    const after = [...this.root.childNodes].map((child) => child.textContent).join(BREAK);
    if (after === before) return;
    const caret = this.#readCaret();
    const alone = this.#changedAlone();
    if (alone < 0) this.setText(after);
    else this.#takeIn(alone);
    if (caret !== null && this.selection()?.focus !== caret) this.select(Math.min(caret, after.length));
    const [first, last] = alone < 0 ? [0, this.paragraphs.length - 1] : [alone, alone];
    this.handlers.onEdit(difference(before, after), { first, last });
  }

  /** @returns {number} the paragraph in which all of the browser's change lies, or -1: the others need no redrawing */
  #changedAlone() {
    const { childNodes } = this.root;
    if (childNodes.length !== this.paragraphs.length) return -1;
    const changed = this.paragraphs.filter(({ element, text }, index) => childNodes[index] !== element || element.textContent !== text);
    const isAlone = changed.length === 1 && !changed[0].element.textContent.includes(BREAK);
    return isAlone ? this.paragraphs.indexOf(changed[0]) : -1;
  }

  /** An input method that begins in an empty paragraph brings a text node of its own: what it wrote goes into ours. */
  #takeIn(index) {
    const { element, node } = this.paragraphs[index];
    if (element.firstChild !== node || element.textContent !== node.data) {
      node.data = element.textContent;
      element.replaceChildren(node);
    }
    this.#settle(this.paragraphs[index], node.data);
    this.#dress(index, index);
  }

  /** @returns {?number} the caret's place in what the page shows, whatever the paragraphs were before; null elsewhere */
  #readCaret() {
    const { focusNode, focusOffset } = getSelection();
    if (!focusNode || !this.root.contains(focusNode)) return null;
    const range = document.createRange();
    let place = 0;
    for (const child of this.root.childNodes) {
      range.selectNodeContents(child);
      if (range.comparePoint(focusNode, focusOffset) <= 0) {
        range.setEnd(focusNode, focusOffset);
        return place + range.toString().length;
      }
      place += child.textContent.length + BREAK.length;
    }
    return place;
  }

  #paragraphPlace(index) {
    return index < this.paragraphs.length ? this.startOf(index) : this.startOf(index) - BREAK.length;
  }
}

/** @returns {Paragraph} */
function paragraphOf(text) {
  const element = document.createElement("p");
  const node = document.createTextNode(text);
  element.append(node);
  if (text === "" || text.endsWith("\n")) element.append(document.createElement("br"));
  return { element, node, text };
}
