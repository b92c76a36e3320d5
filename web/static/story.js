/**
 * A story as a tree of changes. Every edit and every continuation is a node that replaces `removed` characters of its
 * parent's text at `at` by `inserted`; a retry is a sibling, undo goes to the parent, and nothing is ever taken out.
 * Pure: knows no page, no socket and no storage. Offsets are UTF-16 code units, as the DOM counts them.
 */

export const ROOT = "root";

/** Typing that goes on after a shorter pause than this belongs to the same step of undo. */
const PAUSE_MS = 1200;
/** A step that is longer than this ends before the next word. */
const STEP_MS = 30_000;
const STEP_LENGTH = 200;

/** Of a path that is walked, the texts of the last `STEPS` nodes are remembered, and every so many before them. */
const STEPS = 64;

/**
 * @typedef {object} Node
 * @property {string} id
 * @property {?string} parent
 * @property {"root"|"edit"|"continuation"} kind
 * @property {number} at
 * @property {number} removed
 * @property {string} inserted
 * @property {number} time  milliseconds since 1970
 * @property {string} [origin]  what stood there before, where that is not the parent: undo goes back to it
 * @property {number} [given]  characters of `inserted` that were chosen by hand before the model wrote on
 * @property {Tokens} [tokens]
 * @property {object} [made]  how it was made: seed, checkpoint, sampling, stream, reason, …
 *
 * @typedef {object} Tokens  one entry a token; `ends` are offsets in `inserted`
 * @property {number[]} ends
 * @property {number[]} logprobs
 * @property {[string, number][][]} choices
 *
 * @typedef {{node: string, from: number, to: number}} Piece  a stretch of some node's inserted text
 * @typedef {{at: number, removed: number, inserted: string}} Change
 */

/** @returns {string} a random id that two tabs will not draw both */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

export class Story {
  /** @param {{nodes?: Node[], current?: string}} [record] */
  constructor({ nodes = [], current = ROOT } = {}) {
    /** @type {Map<string, Node>} */
    this.nodes = new Map();
    this.children = new Map();
    /** the child that redo goes to */
    this.trail = new Map();
    /** ids of nodes that have changed since they were last saved */
    this.dirty = new Set();
    /** the edit that typing may still extend, and since when it has */
    this.open = null;
    this.openedAt = 0;
    /** pieces by node, the last remembered last @type {Map<string, Piece[]>} */
    this.documents = new Map();
    this.#put({ id: ROOT, parent: null, kind: "root", at: 0, removed: 0, inserted: "", time: 0 });
    this.adopt(nodes);
    this.current = ROOT;
    this.go(this.nodes.has(current) ? current : ROOT);
  }

  /** Take in nodes made elsewhere (storage, another tab); orphans, and what has been built on here, are left alone. */
  adopt(nodes) {
    for (const node of nodes) this.#renew(node);
    const below = Map.groupBy(nodes.filter((node) => !this.nodes.has(node.id)), (node) => node.parent);
    const parents = [...below.keys()].filter((id) => this.nodes.has(id));
    for (const parent of parents) {
      for (const node of below.get(parent) ?? []) {
        this.#put(node);
        parents.push(node.id);
      }
    }
  }

  /** @returns {Node} */
  node(id = this.current) {
    return this.nodes.get(id);
  }

  /** @returns {Node[]} from the root's child to `id` */
  path(id = this.current) {
    const path = [];
    for (let node = this.node(id); node.parent !== null; node = this.node(node.parent)) path.push(node);
    return path.reverse();
  }

  /** @returns {Piece[]} the text at a node, as stretches of what nodes inserted */
  pieces(id = this.current) {
    const unknown = [];
    let node = this.node(id);
    while (!this.documents.has(node.id) && node.parent !== null) {
      unknown.push(node);
      node = this.node(node.parent);
    }
    let pieces = this.documents.get(node.id) ?? [];
    for (const [index, next] of unknown.reverse().entries()) {
      pieces = splice(pieces, next.at, next.removed, { node: next.id, from: 0, to: next.inserted.length });
      if (index % STEPS === 0 || unknown.length - index <= STEPS) this.#remember(next.id, pieces);
    }
    return pieces;
  }

  text(id = this.current) {
    return this.pieces(id).map((piece) => this.node(piece.node).inserted.slice(piece.from, piece.to)).join("");
  }

  length(id = this.current) {
    return this.pieces(id).reduce((sum, piece) => sum + piece.to - piece.from, 0);
  }

  /**
   * The writer changes the text. A change that touches the last one, soon after it, becomes part of it.
   * @param {Change} change
   */
  edit({ at, removed, inserted }, time = Date.now()) {
    const last = this.open === this.current ? this.node(this.open) : null;
    const touches = last && at <= last.at + last.inserted.length && at + removed >= last.at;
    const isLong = last && (last.inserted.length >= STEP_LENGTH || time - this.openedAt > STEP_MS) && !/^\w/.test(inserted);
    if (!touches || isLong || time - last.time > PAUSE_MS || this.children.get(last.id)?.length) {
      const node = this.#add({ kind: "edit", parent: this.current, at, removed, inserted, time });
      this.open = node.id;
      this.openedAt = time;
      return node;
    }
    const left = Math.max(0, last.at - at);
    const right = Math.max(0, at + removed - last.at - last.inserted.length);
    const keep = last.inserted.slice(0, Math.max(0, at - last.at));
    const rest = last.inserted.slice(Math.max(0, at + removed - last.at));
    Object.assign(last, { at: last.at - left, removed: last.removed + left + right, inserted: keep + inserted + rest, time });
    this.#changed(last.id);
    return last;
  }

  /** Every node must be saved afresh: they are kept nowhere. */
  soil() {
    for (const id of this.nodes.keys()) if (id !== ROOT) this.dirty.add(id);
  }

  /** The next edit starts a step of undo of its own. */
  seal() {
    this.open = null;
  }

  /**
   * The model is about to write: at the end, or from `at` on in place of what stands there. `given` is the word chosen
   * by hand that it goes on from. A continuation that replaces text leaves the old text on its own branch.
   */
  continueAt(at = this.length(), given = "", made = {}) {
    const parent = this.branchPoint(at);
    const origin = parent === this.current ? undefined : this.current;
    return this.#continuation({ parent, at, removed: this.length(parent) - at, origin }, given, made);
  }

  /** Another continuation in the place of the one that stands last, or null where the writer's words stand last. */
  retry(made = {}) {
    const node = this.retryable();
    if (!node) return null;
    const given = node.inserted.slice(0, node.given);
    const { parent, at, removed, origin } = node;
    if (node.id === this.current) return this.#continuation({ parent, at, removed, origin }, given, made);
    const { from } = this.remains(node.id);
    return this.#continuation({ parent: this.current, at: from, removed: this.length() - from }, given, made);
  }

  /** Stand on a copy of the path from the continuation `id` on, as it is now; the other may still grow. */
  copy(id) {
    const path = this.path();
    const from = path.findIndex((node) => node.id === id);
    let { parent } = path[from];
    for (const node of path.slice(from)) {
      const { id: copied, made, ...fields } = structuredClone(node);
      const facts = made && { made: { ...made, stream: undefined, reason: made.reason ?? "interrupted" } };
      parent = this.#add({ ...fields, ...facts, parent, time: Date.now() }).id;
    }
  }

  /** @returns {?Node} the first continuation of the path that may still grow, other than `own` */
  growing(own) {
    return this.path().find(({ id, made }) => made && !made.reason && id !== own) ?? null;
  }

  /** @returns {?Node} the continuation whose words are the last ones of the text */
  retryable() {
    if (this.node().kind === "continuation") return this.node();
    const pieces = this.pieces();
    const last = pieces.at(-1) && this.node(pieces.at(-1).node);
    if (last?.kind !== "continuation") return null;
    const first = pieces.findIndex((piece) => piece.node === last.id);
    return pieces.slice(first).every((piece) => piece.node === last.id) && pieces[first].from === 0 ? last : null;
  }

  /** @returns {string} the deepest node of the path whose text up to `at` is that of the current text */
  branchPoint(at) {
    let node = this.node();
    while (node.parent !== null && node.at >= at) node = this.node(node.parent);
    return node.id;
  }

  /** @returns {string} what the model reads before it writes the continuation `id` */
  prompt(id) {
    const node = this.node(id);
    return this.text(node.parent).slice(0, node.at) + node.inserted.slice(0, node.given);
  }

  /**
   * The model has written more. Edits made meanwhile stay where the writer made them.
   * @param {string} id
   * @param {string} text
   * @param {{text: string, logprob: number, top: {text: string, logprob: number}[]}[]} [tokens]
   */
  grow(id, text, tokens = []) {
    const node = this.node(id);
    const seam = node.at + node.inserted.length;
    let end = node.tokens.ends.at(-1) ?? node.given;
    node.inserted += text;
    node.time = Date.now(); // so that another tab takes it for newer than its own
    for (const token of tokens) {
      end += token.text.length;
      node.tokens.ends.push(end);
      node.tokens.logprobs.push(token.logprob);
      node.tokens.choices.push(token.top.map((choice) => [choice.text, choice.logprob]));
    }
    this.#shift(id, seam, text.length);
    this.#changed(id);
  }

  /** Note how a continuation was made or how it ended. */
  describe(id, facts) {
    const node = this.node(id);
    node.made = { ...node.made, ...facts };
    node.time = Date.now(); // as in `grow`
    this.dirty.add(id);
  }

  /** @returns {?number} where, in the current text, the continuation `id` writes next; null when that place is gone */
  seam(id) {
    const path = this.path();
    const start = path.findIndex((node) => node.id === id);
    if (start < 0) return null;
    let seam = path[start].at + path[start].inserted.length;
    for (const node of path.slice(start + 1)) {
      if (node.at < seam && seam < node.at + node.removed) return null;
      seam = passed(node, seam);
    }
    return seam;
  }

  /** @returns {?{node: Node, offset: number}} whose character stands at `at`, and which of what it inserted that is */
  owner(at) {
    let start = 0;
    for (const { node, from, to } of this.pieces()) {
      const end = start + to - from;
      if (at < end) return { node: this.node(node), offset: from + at - start };
      start = end;
    }
    return null;
  }

  /**
   * @returns {?{from: number, to: number}} where, in the current text, begins and ends what is left of a stretch of what
   *   node `id` inserted; what was typed in between lies between them
   */
  remains(id, begin = 0, end = Infinity) {
    let left = null;
    let start = 0;
    for (const { node, from, to } of this.pieces()) {
      const [low, high] = [Math.max(begin, from), Math.min(end, to)];
      if (node === id && low < high) left = { from: left?.from ?? start + low - from, to: start + high - from };
      start += to - from;
    }
    return left;
  }

  go(id) {
    this.seal();
    this.current = id;
    for (const node of this.path(id)) this.trail.set(node.parent, node.id);
  }

  canUndo() {
    return this.current !== ROOT;
  }

  canRedo() {
    return Boolean(this.#ahead());
  }

  /** Back to what stood there before: the parent, or the end of the branch that this one left in the middle. */
  undo() {
    if (!this.canUndo()) return;
    const { id, parent, origin } = this.node();
    this.go(this.nodes.has(origin) ? origin : parent);
    this.trail.set(this.current, id);
  }

  redo() {
    if (this.canRedo()) this.go(this.#ahead());
  }

  /** @returns {string|undefined} where redo leads: to what was undone last, or down the branch that was left last */
  #ahead() {
    const undone = this.trail.get(this.current);
    return this.nodes.get(undone)?.origin === this.current ? undone : this.next();
  }

  /** @returns {string|undefined} the child that was stood on last, or the newest */
  next(id = this.current) {
    const branches = this.branches(id);
    const last = this.trail.get(id);
    return branches.includes(last) ? last : branches.at(-1);
  }

  /** @returns {string[]} the children that there is something of: not a continuation of which nothing ever came */
  branches(id) {
    const isWritten = (child) => {
      const { kind, inserted } = this.node(child);
      return kind !== "continuation" || inserted || child === this.current || this.children.has(child);
    };
    return (this.children.get(id) ?? []).filter(isWritten);
  }

  #continuation(change, given, made) {
    const tokens = { ends: [], logprobs: [], choices: [] };
    const fields = { kind: "continuation", ...change, inserted: given, given: given.length, tokens, made };
    return this.#add({ ...fields, time: Date.now() });
  }

  #add(fields) {
    const node = { id: newId(), ...fields };
    this.#put(node);
    this.dirty.add(node.id);
    this.go(node.id);
    return node;
  }

  #put(node) {
    this.nodes.set(node.id, node);
    if (node.parent !== null) this.children.set(node.parent, [...(this.children.get(node.parent) ?? []), node.id]);
  }

  /** A known node that its own tab has typed on in. */
  #renew(node) {
    const own = this.node(node.id);
    const isBuiltOn = this.dirty.has(node.id) || this.children.get(node.id)?.length;
    if (!own || isBuiltOn || node.time <= own.time) return;
    Object.assign(own, node);
    this.documents.delete(node.id);
  }

  #remember(id, pieces) {
    this.documents.set(id, pieces);
    if (this.documents.size > 2 * STEPS) this.documents.delete(this.documents.keys().next().value);
  }

  #changed(id) {
    this.dirty.add(id);
    const stale = [id];
    for (const one of stale) {
      this.documents.delete(one);
      stale.push(...(this.children.get(one) ?? []));
    }
  }

  /** Move the changes below `id` out of the way of `length` characters that have come in at `seam`. */
  #shift(id, seam, length) {
    for (const childId of this.children.get(id) ?? []) {
      const child = this.node(childId);
      this.dirty.add(childId);
      if (child.at < seam && seam < child.at + child.removed) {
        child.removed += length; // the writer deleted this place: what comes late goes with it
      } else {
        const next = passed(child, seam);
        if (child.at >= seam) child.at += length;
        this.#shift(childId, next, length);
      }
    }
  }
}

/** @returns {number} where a place `seam` of a node's parent stands in the node's own text; insertions at it come after */
function passed(node, seam) {
  return node.at < seam ? seam - node.removed + node.inserted.length : seam;
}

/**
 * @param {Piece[]} pieces
 * @param {Piece} piece
 * @returns {Piece[]} a new list in which `piece` stands in place of `removed` characters at `at`
 */
export function splice(pieces, at, removed, piece) {
  const before = [];
  const after = [];
  let start = 0;
  for (const one of pieces) {
    const end = start + one.to - one.from;
    if (end <= at) before.push(one);
    else if (start < at) before.push({ ...one, to: one.from + at - start });
    if (start >= at + removed) after.push(one);
    else if (end > at + removed) after.push({ ...one, from: one.from + at + removed - start });
    start = end;
  }
  return before.concat(piece.to > piece.from ? piece : [], after);
}

const isHigh = (unit) => (unit & 0xfc00) === 0xd800;
const isLow = (unit) => (unit & 0xfc00) === 0xdc00;

/** @returns {Change} the smallest single change that turns one text into the other */
export function difference(before, after) {
  let at = 0;
  const shorter = Math.min(before.length, after.length);
  while (at < shorter && before.charCodeAt(at) === after.charCodeAt(at)) at++;
  let tail = 0;
  while (tail < shorter - at && before.charCodeAt(before.length - 1 - tail) === after.charCodeAt(after.length - 1 - tail)) tail++;
  // no change cuts a character of two code units in half: neither half is a text
  if (at && isHigh(before.charCodeAt(at - 1))) at--;
  if (tail && isLow(before.charCodeAt(before.length - tail))) tail--;
  return { at, removed: before.length - at - tail, inserted: after.slice(at, after.length - tail) };
}
