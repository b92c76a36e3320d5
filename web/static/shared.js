/** A story that somebody shared: set to be read, with nothing to press. */

import { api, day, h, nameWindow } from "./dom.js";
import { kindOf } from "./typeset.js";

/** @param {HTMLElement} root @param {string} id  as it stands in the address */
export async function showShared(root, id) {
  root.hidden = false;
  root.className = "reading";
  for (const unneeded of document.querySelectorAll("body > header > :not(#home)")) unneeded.hidden = true;
  try {
    const { title, text, expires_at } = await api("GET", `/api/shared/${id}`);
    nameWindow(title || "A story");
    const paragraphs = text.split("\n\n").filter((paragraph) => paragraph.trim());
    root.replaceChildren(
      h("h1", { dir: "auto" }, title || "A story"),
      h("article", {}, ...paragraphs.map((text, index) => h("p", { class: classOf(paragraphs, index) }, text))),
      h("p", { class: "colophon" }, `Written with Fablewright. This link opens until ${day(expires_at)}.`),
    );
  } catch (error) {
    const isGone = error.status === 404;
    nameWindow("Not here");
    root.replaceChildren(
      h("h1", {}, isGone ? "There is nothing here" : "This story could not be opened"),
      h("p", {}, isGone ? "The link has expired, was withdrawn, or never was." : error.message),
      h("p", {}, h("a", { href: "/" }, "To the desk")),
    );
  }
}

/** @returns {?string} the paragraph a story or chapter opens with has a large initial */
function classOf(paragraphs, index) {
  const kind = kindOf(paragraphs[index]);
  const before = index ? kindOf(paragraphs[index - 1]) : "heading";
  return kind || { heading: "initial", scene: "first", "": null }[before];
}
