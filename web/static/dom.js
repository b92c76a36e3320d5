/** Small helpers for building the page. Text always goes in as text, never as markup. */

import { toJson } from "./json.js";

const TIMEOUT_MS = 30_000;

/**
 * @param {string} tag
 * @param {Record<string, any>} [props]  `on…` become listeners, `class` the class, the rest attributes; null, undefined
 *   and false leave an attribute out
 * @param {...(Node|string|null)} children
 */
export function h(tag, props = {}, ...children) {
  const isSvg = ["svg", "path", "line", "circle", "polyline", "text", "g", "title"].includes(tag);
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** @returns {HTMLElement} */
export const byId = (id) => document.getElementById(id);

/** @returns {string} "3.2 %", "0.04 %", "<0.01 %", "0 %" */
export function percent(share) {
  if (share === 0) return "0 %";
  if (share < 0.0001) return "<0.01 %";
  const value = share * 100;
  return `${value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

/** @returns {string} "1 word", "2,000 words", or "" where there is none */
export function counted(words) {
  return words ? `${words.toLocaleString("en-GB")} ${words === 1 ? "word" : "words"}` : "";
}

/** @returns {string} a day as a reader says it: with its year where that is another */
export function day(time) {
  const date = new Date(time);
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return date.toLocaleString("en-GB", { day: "numeric", month: "long", year, hour: "2-digit", minute: "2-digit" });
}

/** @returns {string} a title without what turns the direction of writing: it would turn the words around it, too */
export function straight(title) {
  return title.replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
}

/** Name the window. */
export function nameWindow(name) {
  document.title = `${straight(name)}${name && " · "}Fablewright`;
}

/** Say in words of ours that something could not be fetched. @returns {never} */
export function unreachable() {
  throw new Error("The server cannot be reached just now.");
}

/** Ask the server's JSON API; an error says what the server said. */
export async function api(method, path, body, options = {}) {
  const request = { method, headers: body ? { "Content-Type": "application/json" } : {}, signal: AbortSignal.timeout(TIMEOUT_MS), ...options };
  if (body) request.body = toJson(body);
  const response = await fetch(path, request).catch(unreachable);
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  throw Object.assign(new Error(answer?.error?.message ?? `The server answered ${response.status}.`), { status: response.status });
}
