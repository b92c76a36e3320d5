/**
 * Streams of text over one WebSocket (docs/protocol.md). A dropped connection is dialled again and every open stream is
 * resumed after the last character that came; where the server no longer keeps it, the same seed writes it again and the
 * part that is already here is left out. Either way the caller sees no seam. A connection can die without a word: where
 * nothing comes any more, and no answer to a `ping` either, it is left for another. Knows nothing of stories or the page.
 */

import { toJson } from "./json.js";

/** before a stream that has been going on asks again, where too much was asked for lately */
const PATIENCE_MS = 2000;
const RETRY_MS = [200, 500, 1000, 2000, 4000, 8000];
/** of silence before the server is asked whether it is there */
const SILENCE_MS = 4000;
/** in which whatever is there answers a dial or a ping */
const ANSWER_MS = 6000;
/** in which a stream that is stopped ends */
const STOP_MS = 2000;

/**
 * @typedef {object} Handlers
 * @property {(message: {seed: number, checkpoint: string, stream?: string}) => void} [onAccepted]
 * @property {(message: {position: number, estimate_s: number}) => void} [onQueued]
 * @property {(text: string, tokens: object[]) => void} onText
 * @property {(message: object) => void} onDone
 * @property {(error: {code: string, message: string}) => void} onError
 */

export class Streams {
  /** @param {{onConnection?: (isOpen: boolean) => void, url?: string}} [options] */
  constructor({ onConnection = () => {}, url } = {}) {
    this.url = url ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
    this.onConnection = onConnection;
    this.open = new Map();
    this.socket = null;
    this.attempt = 0;
    this.count = 0;
  }

  /**
   * Start a stream, or go on with one that an earlier page began.
   * @param {object} request  the fields of `start`, without type and id
   * @param {Handlers} handlers
   * @param {{stream?: string, received?: number}} [earlier]  its key and how many characters of it are here
   * @returns {{stop: () => void}}
   */
  start(request, handlers, { stream, received = 0 } = {}) {
    const id = `s${++this.count}`;
    const one = { id, request, handlers, stream, received, skip: 0, isAnswered: false, isStopped: false };
    this.open.set(id, one);
    if (this.#isOpen) {
      this.#ask(one);
      this.#watch();
    } else this.connect();
    return { stop: () => one.isStopped || this.#stop(one) };
  }

  /** Dial now, so that the first stream need not wait for it. */
  connect() {
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) return;
    clearTimeout(this.timer);
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.#await();
    socket.onopen = () => {
      this.attempt = 0;
      this.onConnection(true);
      for (const one of this.open.values()) this.#ask(one);
      this.#watch();
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.#hear(JSON.parse(event.data));
      this.#watch();
    };
    socket.onclose = () => this.socket === socket && this.#lost();
  }

  get #isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Something has come: while a stream is open, more has to. */
  #watch() {
    clearTimeout(this.silence);
    if (!this.open.size) return;
    this.silence = setTimeout(() => {
      this.#send({ type: "ping" });
      this.#await();
    }, SILENCE_MS);
  }

  /** Leave the socket unless something comes. */
  #await() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      const { socket } = this;
      this.#lost();
      socket.close();
    }, ANSWER_MS);
  }

  #lost() {
    clearTimeout(this.silence);
    this.socket = null;
    if (!this.open.size) return;
    this.onConnection(false);
    for (const one of [...this.open.values()]) {
      if (one.isStopped) this.#cancel(one);
    }
    const wait = RETRY_MS[Math.min(this.attempt++, RETRY_MS.length - 1)];
    this.timer = setTimeout(() => this.connect(), wait);
  }

  #ask(one) {
    one.skip = 0;
    one.isAnswered = false;
    if (one.stream) this.#send({ type: "resume", id: one.id, stream: one.stream, received: one.received });
    else this.#again(one);
  }

  /** Write from the beginning; what is here already will come again and is left out. */
  #again(one) {
    one.skip = one.received;
    one.stream = undefined;
    this.#send({ type: "start", id: one.id, resumable: true, ...one.request });
  }

  #stop(one) {
    if (!this.open.has(one.id)) return;
    one.isStopped = true;
    if (!this.#isOpen) return this.#cancel(one);
    this.#send({ type: "stop", id: one.id });
    setTimeout(() => this.#cancel(one), STOP_MS);
    return undefined;
  }

  #cancel(one) {
    if (this.open.has(one.id)) this.#end(one, "onDone", { reason: "cancelled" });
  }

  #hear(message) {
    const one = this.open.get(message.id) ?? (message.type === "error" ? this.#unanswered() : undefined);
    if (!one) return;
    one.isAnswered = true;
    if (message.type === "accepted") {
      one.stream = message.stream;
      one.request = { ...one.request, seed: message.seed, checkpoint: message.checkpoint };
      one.handlers.onAccepted?.(message);
      if (one.isStopped) this.#stop(one);
    } else if (message.type === "queued") one.handlers.onQueued?.(message);
    else if (message.type === "text") this.#text(one, message);
    else if (message.type === "done") this.#end(one, "onDone", message);
    else if (message.code === "unknown_stream" && one.stream) this.#again(one);
    else if (message.code === "rate_limited" && one.stream) setTimeout(() => this.#askAgain(one), PATIENCE_MS);
    else this.#end(one, "onError", message);
  }

  /** @returns {object|undefined} the stream that an error without an id is about: the server could not read its start */
  #unanswered() {
    return [...this.open.values()].find((one) => !one.isAnswered);
  }

  #askAgain(one) {
    if (this.open.has(one.id) && this.#isOpen) this.#ask(one);
  }

  #text(one, { text, tokens = [] }) {
    const characters = [...text].length;
    if (one.skip >= characters && one.skip > 0) {
      one.skip -= characters;
      return;
    }
    if (one.skip) {
      text = [...text].slice(one.skip).join("");
      tokens = lastTokens(tokens, text.length);
    }
    one.received += characters - one.skip;
    one.skip = 0;
    one.handlers.onText(text, tokens);
  }

  #end(one, handler, message) {
    this.open.delete(one.id);
    one.handlers[handler](message);
  }

  #send(message) {
    this.socket.send(toJson(message));
  }
}

/** @returns {object[]} the tokens that make up the last `length` characters; the first may be the rest of one */
function lastTokens(tokens, length) {
  const kept = [];
  for (const token of tokens.toReversed()) {
    if (length <= 0) break;
    kept.unshift({ ...token, text: token.text.slice(-length) });
    length -= token.text.length;
  }
  return kept;
}
