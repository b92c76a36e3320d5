/**
 * What the page shows about its words without touching the text: the model's ink, how wet it is, how surprising a word
 * was, what stands in the training books, the word in question. All of it is CSS highlights over plain text nodes.
 */

/** Bits of surprise from which a word gets tint 1, 2, 3, 4. */
const TINTS = [3, 5, 8, 11];
const WET_CHARS = 48;

export class Inks {
  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    this.isTinted = false;
    /** @type {[number, number][]} */
    this.copied = [];
    /** the marks of each paragraph's text node, so that a change repaints only what it touched
     * @type {Map<Text, [string, StaticRange][]>} */
    this.marks = new Map();
    this.highlights = {};
    for (const name of ["model", "wet", "copied", "word", ...TINTS.map((_, i) => `tint-${i + 1}`)]) {
      this.highlights[name] = new Highlight();
      CSS.highlights.set(name, this.highlights[name]);
    }
    this.highlights.word.priority = 3;
    this.highlights.wet.priority = 1;
  }

  /** Paint the paragraphs from `first` to `last` after they have changed. @param {import("./story.js").Story} story */
  paint(story, first = 0, last = this.editor.paragraphs.length - 1) {
    const { paragraphs } = this.editor;
    const from = this.editor.startOf(first);
    const window = { first, last, from, to: this.editor.startOf(last) + paragraphs[last].text.length };
    for (let index = first; index <= last; index++) this.#clear(paragraphs[index].node);
    if (this.marks.size > paragraphs.length + 20) this.#forgetRemoved();
    let start = 0;
    for (const piece of story.pieces()) {
      if (start >= window.to) break;
      const end = start + piece.to - piece.from;
      if (end > from) this.#paintPiece(story.node(piece.node), piece, start, window);
      start = end;
    }
    for (const [a, b] of this.copied) this.#mark("copied", a, b, window);
  }

  /** Paint everything afresh, after a jump to another text. */
  repaint(story) {
    for (const highlight of Object.values(this.highlights)) highlight.clear();
    this.marks.clear();
    this.paint(story);
  }

  /** Show the newest words still wet; null when the pen is lifted. @param {?number} seam */
  wet(seam) {
    this.highlights.wet.clear();
    if (seam === null) return;
    const { index } = this.editor.locate(Math.max(0, seam - WET_CHARS));
    for (const range of this.editor.ranges(seam - WET_CHARS, seam, index)) this.highlights.wet.add(range);
  }

  /** Mark the word that a note is about. */
  word(from, to) {
    this.highlights.word.clear();
    if (from === undefined) return;
    const { index } = this.editor.locate(from);
    for (const range of this.editor.ranges(from, to, index)) this.highlights.word.add(range);
  }

  #paintPiece(node, piece, start, window) {
    if (node.kind !== "continuation") return;
    this.#mark("model", start, start + piece.to - piece.from, window);
    if (!this.isTinted) return;
    let from = node.given;
    node.tokens.ends.forEach((end, i) => {
      const bits = -node.tokens.logprobs[i] / Math.LN2;
      const tint = TINTS.filter((limit) => bits >= limit).length;
      const space = node.inserted.slice(from, end).search(/\S|$/);
      const [a, b] = [Math.max(from + space, piece.from), Math.min(end, piece.to)];
      if (tint && a < b) this.#mark(`tint-${tint}`, start + a - piece.from, start + b - piece.from, window);
      from = end;
    });
  }

  #mark(name, from, to, window) {
    if (to <= window.from || from >= window.to) return;
    for (const range of this.editor.ranges(from, to, window.first, window.last)) {
      this.highlights[name].add(range);
      const node = range.startContainer;
      if (!this.marks.has(node)) this.marks.set(node, []);
      this.marks.get(node).push([name, range]);
    }
  }

  #clear(node) {
    for (const [name, range] of this.marks.get(node) ?? []) this.highlights[name].delete(range);
    this.marks.delete(node);
  }

  #forgetRemoved() {
    for (const node of this.marks.keys()) if (!node.isConnected) this.#clear(node);
  }
}
