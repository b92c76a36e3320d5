/** Model cards and reports are Markdown: the little of it that they use, built as elements, so that nothing in them can be markup. */

import { h } from "./dom.js";

/** A drawing that lies beside the report; nothing else is ever loaded. */
const drawing = /^!\[([^\]]*)\]\(([\w-]+\.svg)\)$/;

/** @param {string} source @param {string} folder  where drawings lie @returns {HTMLElement[]} */
export function fromMarkdown(source, folder = "") {
  const blocks = [];
  const lines = source.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  while (lines.length) {
    const line = lines.shift();
    const heading = /^(#{1,6})\s+(.*)/.exec(line);
    if (heading) blocks.push(h(heading[1].length < 2 ? "h3" : "h4", {}, ...inline(heading[2])));
    else if (line.startsWith("```")) blocks.push(h("pre", {}, take(lines, (one) => !one.startsWith("```"), true).join("\n")));
    else if (line.startsWith(">")) blocks.push(h("blockquote", {}, ...fromMarkdown(quoted([line, ...take(lines, (one) => one.startsWith(">"))]))));
    else if (folder && drawing.test(line)) blocks.push(h("img", { src: folder + drawing.exec(line)[2], alt: drawing.exec(line)[1] }));
    else if (line.startsWith("|")) blocks.push(table([line, ...take(lines, (one) => one.startsWith("|"))]));
    else if (/^[-*]\s/.test(line)) blocks.push(list([line, ...take(lines, (one) => /^([-*]\s|\s{2,}\S)/.test(one))]));
    else if (line.trim()) blocks.push(h("p", {}, ...inline([line, ...take(lines, (one) => /^[^#|`\s>!-]/.test(one))].join(" "))));
  }
  return blocks;
}

/** Take lines off the front while they fit; `andOne` takes the first that does not, and drops it. */
function take(lines, fits, andOne = false) {
  const taken = [];
  while (lines.length && fits(lines[0])) taken.push(lines.shift());
  if (andOne) lines.shift();
  return taken;
}

function quoted(lines) {
  return lines.map((line) => line.replace(/^> ?/, "")).join("\n");
}

function list(lines) {
  const items = lines.join("\n").split(/^[-*]\s+/m).filter(Boolean);
  return h("ul", {}, ...items.map((item) => h("li", {}, ...inline(item.replace(/\s+/g, " ")))));
}

function table(lines) {
  const [head, ...rows] = lines.filter((line) => !/^[|:\s-]+$/.test(line)).map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  const row = (tag, cells) => h("tr", {}, ...cells.map((cell) => h(tag, tag === "th" ? { scope: "col" } : {}, ...inline(cell))));
  // it can be scrolled sideways on a phone, so it can be focused too
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Table" }, h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, ...rows.map((cells) => row("td", cells)))));
}

/** @returns {(Node|string)[]} code, strong, emphasis and links; everything else stays text */
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|\[[^\]]+\]\(https?:[^)\s]+\))/).map((part) => {
    if (/^`.+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return h("strong", {}, part.slice(2, -2));
    if (/^\*.+\*$/.test(part)) return h("em", {}, part.slice(1, -1));
    const link = /^\[([^\]]+)\]\((https?:[^)]+)\)$/.exec(part);
    return link ? h("a", { href: link[2], rel: "noopener noreferrer" }, link[1]) : part;
  });
}
