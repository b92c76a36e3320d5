/** What goes to the server: half a character (an editor can leave one) is no text to it, so it goes as U+FFFD. */

/** @returns {string} */
export function toJson(value) {
  return JSON.stringify(value, (_, one) => (typeof one === "string" ? one.toWellFormed() : one));
}
