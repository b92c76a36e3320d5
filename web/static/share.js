/**
 * A story on the server: kept there if the writer wishes, and shown to others by links that expire and can be withdrawn.
 * What the server does not understand of a node (where its change stands, the words' alternatives) travels in `details`.
 */

import { api, byId, day, h } from "./dom.js";
import { titleOf } from "./export.js";
import { newMeta } from "./storage.js";

const DAYS = 30;
const BATCH_BYTES = 2_000_000; // the server takes 4 MiB

/** what the server has of each story: its nodes' stamps, by story and node */
const sent = new Map();
let lastTurn = Promise.resolve();
let lastWish = Promise.resolve();

/**
 * @param {HTMLElement} root
 * @param {import("./desk.js").Desk} desk
 * @param {{meta: object, story: object}} [one]  the story, whatever lies on the desk when an answer comes
 */
export async function renderSharing(root, desk, one = { meta: desk.meta, story: desk.story }) {
  const { meta } = one;
  const attempt = (act) => async () => {
    await afterOthers(act).catch((error) => desk.notice(error.message));
    await renderSharing(root, desk, one);
  };
  const keep = h("input", { type: "checkbox", id: "on-server", "aria-describedby": "why-on-server" });
  keep.checked = meta.isOnServer;
  const move = () => {
    if (keep.checked) return keepOnServer(desk, one);
    if (links.length && !confirm("The links to it will stop working. Take it from the server?")) return undefined;
    return takeFromServer(desk, [meta], placeOf(meta));
  };
  keep.addEventListener("change", attempt(move));
  const share = h("button", { type: "button", class: "link", id: "share", onclick: attempt(() => makeLink(desk, one)) }, "Make a link to read it");
  const links = meta.isOnServer ? await listLinks(meta).catch(() => []) : [];
  const focused = root.contains(document.activeElement) ? document.activeElement.id : null;
  root.replaceChildren(
    h("h3", {}, "On the server"),
    h(
      "div",
      { class: "toggle" },
      keep,
      h("label", { for: "on-server" }, "Keep it there too"),
      h("small", { id: "why-on-server" }, meta.isOnServer ? "It is there, and every change follows." : "Otherwise the story stays in this browser; what the model reads of it may be logged, see Settings."),
    ),
    h("div", { class: "row" }, share),
    h("ul", { class: "links" }, ...links.map((link) => linkItem(link, meta, attempt))),
  );
  if (focused !== null) (byId(focused) ?? share).focus();
}

function linkItem(link, meta, attempt) {
  const url = new URL(link.path, location.href).href;
  const field = h("input", { readonly: true, value: url, "aria-label": "The link" });
  field.addEventListener("focus", () => field.select());
  const withdraw = () => api("DELETE", `${placeOf(meta)}/shares/${link.id}`);
  return h(
    "li",
    {},
    field,
    h("small", {}, `Opens until ${day(link.expires_at)}. `),
    h("button", { type: "button", class: "link", onclick: attempt(withdraw) }, "Withdraw"),
  );
}

async function makeLink(desk, one) {
  await keepOnServer(desk, one);
  const shown = { text: one.story.text(), title: titleOf(one), days: DAYS };
  await api("POST", `${placeOf(one.meta)}/shares`, shown);
}

async function listLinks(meta) {
  return (await api("GET", `${placeOf(meta)}/shares`)).shares;
}

function placeOf(meta) {
  return `/api/stories/${meta.id}`;
}

async function keepOnServer(desk, one) {
  if (!one.meta.isOnServer) sent.delete(one.meta.id); // what was there once has been deleted
  await upload(one);
  await desk.mark(one, { isOnServer: true });
}

/** Have the server delete what `path` names, which are these stories at least; no change of theirs follows. */
async function takeFromServer(desk, metas, path) {
  const mark = async (isOnServer) => {
    for (const meta of metas) await desk.mark({ meta }, { isOnServer });
  };
  await mark(false);
  try {
    await inTurn(() => api("DELETE", path));
  } catch (error) {
    if (error.status !== 404) { // else somebody was faster
      await mark(true);
      throw error;
    }
  }
  for (const { id } of metas) sent.delete(id);
}

/** Have the server delete everything that it keeps about the visitor. */
export async function forget(desk) {
  await afterOthers(async () => {
    const there = (await desk.shelf.list()).filter((meta) => meta.isOnServer);
    await takeFromServer(desk, there, "/api/me");
  });
}

/** What the writer wishes is done whole before the next wish is looked at. */
function afterOthers(act) {
  lastWish = lastWish.then(act, act);
  return lastWish;
}

/** Change what the server keeps, one change after another: nothing that was on its way arrives after its deletion. */
function inTurn(act) {
  lastTurn = lastTurn.then(act, act);
  return lastTurn;
}

/** Send what the server does not have yet; called after every save of a story that is kept there. */
export function upload({ meta, story }) {
  return inTurn(async () => {
    const known = sent.get(meta.id) ?? new Map();
    sent.set(meta.id, known);
    const stamps = new Map([...story.nodes.values()].map((node) => [node.id, stamp(node)]));
    const due = [...story.nodes.values()].filter(({ id }) => known.get(id) !== stamps.get(id));
    const { title, checkpoint, created } = meta;
    const facts = { title: titleOf({ meta, story }).slice(0, 300), details: { title, checkpoint, created } };
    const last = { ...facts, current_node_id: story.current };
    for (const batch of batches(due)) {
      const isLast = batch.at(-1) === due.at(-1);
      await api("PUT", placeOf(meta), { ...(isLast ? last : facts), nodes: batch.map(toServer) });
      for (const { id } of batch) known.set(id, stamps.get(id)); // the writer may have changed it meanwhile
    }
  });
}

/** Fetch a story that is kept on the server, as the shelf would give it. */
export async function fetchStory(id) {
  const answer = await api("GET", `/api/stories/${id}`);
  const nodes = answer.nodes.filter((node) => node.kind !== "prompt").map(fromServer);
  const { title = answer.title, checkpoint = null, created = Date.now() } = answer.details;
  const facts = { title, checkpoint, created, isOnServer: true };
  return { meta: newMeta({ id, ...facts, current: answer.current_node_id ?? "root" }), nodes, isNew: true };
}

/** Parents come before their children, and no request is too long. At least one batch, for the title. */
function batches(nodes) {
  const all = [[]];
  let size = 0;
  for (const node of nodes) {
    size += 500 + 2 * node.inserted.length + 200 * (node.tokens?.ends.length ?? 0);
    if (size > BATCH_BYTES && all.at(-1).length) {
      all.push([]);
      size = 0;
    }
    all.at(-1).push(node);
  }
  return all;
}

function stamp(node) {
  return `${node.at}.${node.removed}.${node.inserted.length}.${node.time}.${node.made?.reason}`;
}

function toServer({ id, parent, kind, inserted, made, ...details }) {
  return {
    id,
    parent_id: parent,
    kind: kind === "root" ? "prompt" : kind,
    text: inserted,
    sampling: made ? { ...made.sampling, seed: made.seed } : null,
    checkpoint: made?.checkpoint ?? null,
    prompt_tokens: made?.prompt_tokens ?? 0,
    completion_tokens: made?.completion_tokens ?? 0,
    reason: made?.reason ?? null,
    details,
  };
}

function fromServer({ id, parent_id, kind, text, sampling, checkpoint, reason, details }) {
  const { seed, ...rest } = sampling ?? {};
  const made = sampling ? { sampling: rest, seed, checkpoint, reason: reason ?? "interrupted" } : undefined;
  return { id, parent: parent_id, kind, inserted: text, made, ...details };
}
