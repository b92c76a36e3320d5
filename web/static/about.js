/** What belongs to the story on the desk: its model, its files, its place on the server, its branches; and the keys. */

import { h } from "./dom.js";
import { download, toMarkdown, toText } from "./export.js";
import { modelSelect } from "./models.js";
import { renderSharing } from "./share.js";

const KEYS = [
  ["Ctrl Enter", "generate"],
  ["Esc", "stop"],
  ["Ctrl Shift Enter", "retry"],
  ["Ctrl Alt Enter", "write on from the caret"],
  ["Alt Enter", "why this word"],
  ["Ctrl Z, Ctrl Y", "undo, redo"],
  ["Shift Enter", "a line, not a paragraph"],
];

/** @param {HTMLElement} root @param {{desk: import("./desk.js").Desk, onNew: () => void}} parts */
export function showStory(root, { desk, onNew }) {
  const text = (label, act) => h("button", { type: "button", class: "link", onclick: act }, label);
  const sharing = h("div", {});
  root.replaceChildren(
    h("div", { class: "row" }, text("New story", onNew), h("a", { class: "link", href: "#stories" }, "All stories")),
    modelSelect(desk),
    h("h3", {}, "Take it with you"),
    h(
      "div",
      { class: "row" },
      text("Text", () => download(desk, "txt", toText(desk))),
      text("Markdown", () => download(desk, "md", toMarkdown(desk))),
    ),
    sharing,
    h("h3", {}, "Branches"),
    h("small", {}, "Everything that was ever written here. Choose a dot to go there."),
    h("div", { id: "branches", class: "branches" }),
    h("h3", {}, "Keys"),
    h("dl", { class: "keys" }, ...KEYS.flatMap(([keys, what]) => [h("dt", {}, keys), h("dd", {}, what)])),
  );
  desk.showMap();
  renderSharing(sharing, desk);
}
