/** Builds the page and chooses its view: the desk, the shelf of stories, the models, a story that was shared. */

import { Desk } from "./desk.js";
import { byId, h, unreachable } from "./dom.js";
import { Panel } from "./panel.js";
import { Settings } from "./settings.js";
import { newMeta, Shelf } from "./storage.js";
import { Streams } from "./stream.js";
import { Story } from "./story.js";
import { tab } from "./tab.js";

const BEGINNINGS = [
  "Once upon a time, in a house at the edge of the great wood, there lived a clockmaker who had never seen the sea.",
  "\"You must not open it,\" said the old fox, and laid the little silver key upon the table.",
  "CHAPTER I\n\nIt had been raining for nine days when the stranger came to the castle gate.",
];

const UPLOAD_MS = 4000;
const MOST_UPLOAD_MS = 600_000;

async function main() {
  const settings = new Settings(() => desk?.restyle());
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // a hash of its own would turn to the desk
    byId(byId("other").hidden ? "page" : "other").focus();
  });
  const shared = /^\/shared\/([^/]+)$/.exec(location.pathname);
  if (shared) return (await import("./shared.js")).showShared(byId("other"), shared[1]);

  let desk;
  const shelf = await Shelf.open((id) => desk?.takeIn(id), (id) => desk?.share(id));
  const streams = new Streams({
    onConnection: (isOpen) => {
      desk.connected(isOpen);
      if (isOpen) settings.ask();
    },
  });
  desk = new Desk({ shelf, settings, streams });
  const panel = new Panel({ desk, settings, shelf });
  settings.ask();
  keepOnServer(desk, shelf);
  await putOnDesk(desk, shelf);
  offerBeginnings(desk);
  if (!shelf.keeps) desk.notice("This browser does not keep stories; export what you want to have again.");

  const views = {
    "": () => desk.comeBack(),
    stories: async (root) => (await import("./shelf.js").catch(unreachable)).showShelf(root, { desk, shelf, open: openStory }),
    models: async (root) => (await import("./models.js").catch(unreachable)).showModels(root, { desk, settings, streams }),
  };
  async function openStory(story) {
    if (story.meta.id !== desk.meta.id) await desk.show(story); // it may be being written there
    history.pushState(null, "", "/");
    await turn();
  }
  async function route() {
    const name = location.hash.slice(1) || (location.pathname === "/models" ? "models" : "");
    const view = Object.hasOwn(views, name) ? name : "";
    panel.close();
    desk.notePlace();
    byId("desk").hidden = byId("foot").hidden = byId("title").hidden = byId("open-story").hidden = view !== "";
    byId("other").hidden = view === "";
    byId("other").className = view === "models" ? "wide" : "";
    for (const [id, link] of [["open-shelf", "stories"], ["open-models", "models"]]) {
      if (view === link) byId(id).setAttribute("aria-current", "page");
      else byId(id).removeAttribute("aria-current");
    }
    const root = h("div", {}); // of its own: a view that comes late must not cover the one chosen since
    byId("other").replaceChildren(root);
    if (view) await desk.save();
    if (view) scrollTo(0, 0);
    await views[view](root);
  }
  /** Route anew; where the button that led there has gone with its view, go on from the heading of the new one. */
  async function turn() {
    await route();
    if (document.activeElement === document.body) document.querySelector("main:not([hidden]) h1")?.focus({ preventScroll: true });
  }
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    history.pushState(null, "", "/");
    turn();
  });
  panel.onNew = () => openStory({ meta: newMeta(), nodes: [] });
  addEventListener("popstate", turn); // comes with every change of the hash, too
  history.scrollRestoration = "manual";
  await route();
  addEventListener("beforeunload", (event) => desk.wouldLose && event.preventDefault());
  addEventListener("unhandledrejection", ({ reason }) => desk.notice(reason.message)); // what a click could not do
  streams.connect();
  sendUnsent(desk, shelf);
  (globalThis.requestIdleCallback ?? setTimeout)(fetchTheRest);
  return undefined;
}

/** What is not needed at first must not be missing later, when the server may be away. */
function fetchTheRest() {
  Promise.all([import("./about.js"), import("./dials.js"), import("./shelf.js")]).catch(() => {}); // they are asked for again
}

/** The story this tab had last, which may be blank yet; or the one touched last, or a new one. */
async function putOnDesk(desk, shelf) {
  const id = tab.get("story") ?? (await shelf.list())[0]?.id;
  const kept = id && (await shelf.take(id));
  await desk.show(kept || { meta: newMeta(id && { id }), nodes: [] });
}

/**
 * A story that is kept on the server too goes there soon after every save, whichever lies on the desk by then, or at once
 * when the page is left; what could not be sent is tried again.
 */
function keepOnServer(desk, shelf) {
  const due = new Map();
  const sendSoon = (one, wait = UPLOAD_MS) => {
    const { id } = one.meta;
    if (due.has(id)) due.get(id).one = one;
    else due.set(id, { one, wait, timer: setTimeout(() => send(id), wait) });
  };
  const take = (id) => {
    const taken = due.get(id);
    clearTimeout(taken?.timer);
    due.delete(id);
    return taken;
  };
  const send = async (id) => {
    const { one, wait } = take(id);
    try {
      const { upload } = await import("./share.js");
      const kept = (await shelf.list()).find((meta) => meta.id === id);
      if (!kept?.isOnServer) return;
      const sentAt = one.meta.updated;
      await upload(one);
      await shelf.note(id, { sentAt });
    } catch (error) {
      if (wait === UPLOAD_MS) desk.notice(`The server could not keep the story yet: ${error.message}`);
      sendSoon(due.get(id)?.one ?? one, Math.min(2 * wait, MOST_UPLOAD_MS));
    }
  };
  desk.onSaved = (meta, story) => (meta.isOnServer ? sendSoon({ meta, story }) : take(meta.id));
  document.addEventListener("visibilitychange", () => document.hidden && [...due.keys()].forEach(send));
}

/** Send what an earlier visit has left unsent. */
async function sendUnsent(desk, shelf) {
  for (const { id, isOnServer, updated, sentAt = 0 } of await shelf.list()) {
    const kept = isOnServer && updated > sentAt && (await shelf.load(id));
    if (!kept) continue;
    if (id === desk.meta.id) desk.onSaved(desk.meta, desk.story);
    else desk.onSaved(kept.meta, new Story({ nodes: kept.nodes, current: kept.meta.current }));
  }
}

function offerBeginnings(desk) {
  const begin = (text) => {
    desk.editor.root.focus();
    desk.editor.type(text, { from: 0, to: 0 });
    desk.generate();
  };
  byId("beginnings").replaceChildren(
    ...BEGINNINGS.map((text) => h("li", {}, h("button", { type: "button", onclick: () => begin(text) }, text.replace("\n\n", " — ")))),
  );
}

main().catch((error) => {
  byId("other").replaceChildren();
  byId("notice").textContent = `The desk could not be laid out: ${error.message}. A newer browser may do better.`;
  byId("notice").hidden = false;
  throw error; // for the browser's console
});
