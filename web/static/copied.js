/** Which stretches of a text stand in the books that a model was trained on: the server knows, the page marks them. */

import { api, percent } from "./dom.js";

/**
 * Ask the server.
 * @param {?string} checkpoint  null for the server's default
 * @returns {Promise<{spans?: [number, number][], message: string}>} no `spans` where it cannot say; what to tell the reader
 */
export async function findCopied(text, checkpoint) {
  const request = { text, checkpoint: checkpoint ?? undefined };
  const { spans, share, problem } = await api("POST", "/api/copied", request).catch((error) => ({ problem: error.message }));
  if (!spans) return { message: problem ?? "This model has no index of its books" };
  return { spans: fromCodePoints(text, spans), message: `${percent(share)} copied` };
}

/** @returns {[number, number][]} where the stretches stand after a change; one that was changed is none any more */
export function movedBy(change, spans) {
  return spans.map(([from, to]) => moved(change, from, to)).filter(([from, to]) => from < to);
}

/** @returns {[number, number]} where a stretch stands after a change; a stretch that was changed shrinks to nothing */
function moved({ at, removed, inserted }, from, to) {
  if (to <= at) return [from, to];
  const by = inserted.length - removed;
  return from >= at + removed ? [from + by, to + by] : [0, 0];
}

/** The server counts characters, the page UTF-16 units. @returns {[number, number][]} */
function fromCodePoints(text, spans) {
  const places = [];
  let unit = 0;
  for (const character of text) {
    places.push(unit);
    unit += character.length;
  }
  places.push(unit);
  return spans.map(({ start, end }) => [places[start], places[end]]);
}
