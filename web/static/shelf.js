/** The shelf: every story this browser keeps, those kept on the server, and a way to bring one in from a file. */

import { api, counted, day, h, nameWindow, straight } from "./dom.js";
import { fetchStory } from "./share.js";
import { newMeta } from "./storage.js";
import { Story } from "./story.js";

const MOST_BYTES = 4 * 2 ** 20;

/**
 * @param {HTMLElement} root
 * @param {{desk: import("./desk.js").Desk, shelf: import("./storage.js").Shelf, open: (story: object) => Promise<void>}} parts
 */
export async function showShelf(root, parts) {
  const { shelf, open } = parts;
  nameWindow("Stories");
  const kept = await shelf.list();
  const here = kept.filter((meta) => (meta.nodes ?? meta.words) || meta.title);
  const known = new Set(kept.map((meta) => meta.id));
  const there = h("section", {});
  const fresh = () => open({ meta: newMeta(), nodes: [] });
  const file = h("input", { type: "file", accept: ".txt,.md,text/plain,text/markdown", id: "import" });
  file.addEventListener("change", () => file.files[0] && bringIn(file.files[0], parts));
  root.replaceChildren(
    h("h1", { tabindex: -1 }, "Stories"),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", class: "link", onclick: fresh }, "Begin a new one"),
      h("label", { class: "file link" }, "Bring one in from a file", file),
    ),
    h("ul", { class: "shelf" }, ...here.map((meta) => item(meta, root, parts))),
    ...(here.length ? [] : [h("p", { class: "hint" }, "Nothing here yet. What you write is kept in this browser by itself.")]),
    there,
  );
  // not waited for: what this browser keeps is shown whether the server answers or not
  api("GET", "/api/stories").then(
    ({ stories }) => there.append(...onServer(stories.filter(({ id }) => !known.has(id)), root, parts)),
    (error) => there.append(h("p", { class: "hint" }, `Stories that are only on the server are not shown: ${error.message}`)),
  );
}

/** Where the button that was pressed may have gone, its focus goes to the heading. */
async function showAgain(root, parts) {
  await showShelf(root, parts);
  root.querySelector("h1").focus();
}

function item(meta, root, parts) {
  const { shelf, desk, open } = parts;
  const title = meta.title || meta.opening || "Untitled";
  const remove = async () => {
    if (!confirm(`Delete “${straight(title)}” from this browser, with all its branches?`)) return;
    if (meta.id === desk.meta.id) await desk.replace({ meta: newMeta(), nodes: [] }); // first: it could save it again
    await shelf.remove(meta.id);
    await showAgain(root, parts);
  };
  const openIt = async () => {
    const kept = await shelf.take(meta.id);
    await (kept ? open(kept) : showAgain(root, parts)); // another tab may have deleted it
  };
  return h(
    "li",
    {},
    h("button", { type: "button", class: "title", dir: "auto", onclick: openIt }, title),
    h("small", {}, [counted(meta.words), day(meta.updated), meta.isOnServer && "also on the server"].filter(Boolean).join(" · ")),
    h("button", { type: "button", class: "link quiet", "aria-label": `Delete ${title}`, onclick: remove }, "Delete"),
  );
}

function onServer(stories, root, parts) {
  if (!stories.length) return [];
  const attempt = (act) => () => act().catch((error) => parts.desk.notice(error.message));
  const entry = ({ id, title, updated_at }) => {
    const name = title || "Untitled";
    const fetchAndOpen = async () => parts.open(await fetchStory(id));
    const remove = async () => {
      if (!confirm(`Delete “${straight(name)}” from the server, with all its branches and links? It is nowhere else.`)) return;
      await api("DELETE", `/api/stories/${id}`);
      await showAgain(root, parts);
    };
    return h(
      "li",
      {},
      h("button", { type: "button", class: "title", dir: "auto", onclick: attempt(fetchAndOpen) }, name),
      h("small", {}, day(updated_at)),
      h("button", { type: "button", class: "link quiet", "aria-label": `Delete ${name}`, onclick: attempt(remove) }, "Delete"),
    );
  };
  return [h("h2", {}, "Only on the server"), h("ul", { class: "shelf" }, ...stories.map(entry))];
}

/** UTF-8; UTF-16 where its mark comes first; or what old files of Windows are written in. */
function decoded(bytes) {
  const mark = String(new Uint8Array(bytes.slice(0, 2)));
  const encoding = { "255,254": "utf-16le", "254,255": "utf-16be" }[mark] ?? "utf-8";
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

async function bringIn(file, { desk, open }) {
  if (file.size > MOST_BYTES) return desk.notice(`A story may have at most ${MOST_BYTES} bytes; this file has ${file.size}.`);
  const inserted = decoded(await file.arrayBuffer()).replace(/\r\n?/g, "\n");
  if (inserted.includes("\0")) return desk.notice("This file holds something else than text.");
  const story = new Story();
  story.edit({ at: 0, removed: 0, inserted });
  const title = file.name.replace(/\.[^.]+$/, "");
  await open({ meta: newMeta({ title, current: story.current }), nodes: story.path(), isNew: true });
  return undefined;
}
