/** A story as a file: plain text just as it stands, or Markdown with its title and how it was made. */

import { h } from "./dom.js";
import { opening } from "./typeset.js";

export function toText(desk) {
  return desk.story.text();
}

export function toMarkdown(desk) {
  const title = escape(titleOf(desk));
  const body = desk.story.text().split("\n\n").map((paragraph) => escape(paragraph).replaceAll("\n", "  \n"));
  return [`# ${title}`, ...body, "---", made(desk)].join("\n\n") + "\n";
}

/** @returns {string} */
export function titleOf({ meta, story }) {
  return meta.title || opening(story.text().slice(0, 2000).split("\n\n")) || "Untitled";
}

export function download(desk, ending, content) {
  const name = titleOf(desk).replace(/[^\p{L}\p{N} ]/gu, "").trim().slice(0, 60) || "story";
  const url = URL.createObjectURL(new Blob([content], { type: ending === "md" ? "text/markdown" : "text/plain" }));
  h("a", { href: url, download: `${name}.${ending}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function escape(text) {
  return text.replace(/([\\`*_[\]<>])/g, "\\$1").replace(/^(\s*)([#>+-]|\d+\.)(?=\s)/gm, "$1\\$2");
}

/** @returns {string} which models wrote in it, with their seeds: same seed, same text */
function made({ story }) {
  const continuations = story.path().filter((node) => node.kind === "continuation" && node.made?.seed !== undefined);
  const seeds = continuations.map(({ made: { checkpoint, seed } }) => `${checkpoint} with seed ${seed}`);
  return seeds.length ? `*Written with Fablewright: ${seeds.join(", ")}.*` : "*Written with Fablewright.*";
}
