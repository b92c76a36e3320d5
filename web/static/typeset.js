/** What a paragraph is, typographically: the page and a shared story set headings and scene breaks alike. */

/** @param {string} text @returns {""|"heading"|"scene"} */
export function kindOf(text) {
  if (/^\s*(\*\s*){3,5}$/.test(text)) return "scene";
  return /^(chapter|part|book)\s+([ivxlcdm]+|\d+)\b.{0,60}$/i.test(text) ? "heading" : "";
}

/** @param {string[]} paragraphs @returns {string} the first words that are neither a heading nor a break */
export function opening(paragraphs, words = 7) {
  const first = paragraphs.find((text) => text.trim() && !kindOf(text)) ?? paragraphs[0] ?? "";
  return first.slice(0, 200).trim().split(/\s+/).slice(0, words).join(" ").replace(/[,;:—]$/, "");
}
