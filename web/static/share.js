/**
 * A story on the server: kept there if the writer wishes, and shown to others by links that expire and can be withdrawn.
 * What the server does not understand of a node (where its change stands, the words' alternatives) travels in `details`.
 */

import { api, day, h } from "./dom.js";
import { titleOf } from "./export.js";
import { newMeta } from "./storage.js";

const DAYS = 30;
const BATCH_BYTES = 2_000_000; // the server takes 4 MiB

/** @param {HTMLElement} root @param {import("./desk.js").Desk} desk */
export async function renderSharing(root, desk) {
  const again = () => renderSharing(root, desk);
  const attempt = (act) => async () => {
    try {
      await act();
    } catch (error) {
      desk.notice(error.message);
    }
    await again();
  };
  const keep = h("input", { type: "checkbox", id: "on-server", "aria-describedby": "why-on-server" });
  keep.checked = desk.meta.isOnServer;
  keep.addEventListener("change", attempt(() => (keep.checked ? keepOnServer(desk) : takeFromServer(desk))));
  const share = h("button", { type: "button", class: "link", onclick: attempt(() => makeLink(desk)) }, "Make a link to read it");
  const links = desk.meta.isOnServer ? await listLinks(desk).catch(() => []) : [];
  root.replaceChildren(
    h("h3", {}, "On the server"),
    h(
      "div",
      { class: "toggle" },
      keep,
      h("label", { for: "on-server" }, "Keep it there too"),
      h("small", { id: "why-on-server" }, desk.meta.isOnServer ? "It is there, and every change follows." : "Otherwise it stays in this browser alone."),
    ),
    h("div", { class: "row" }, share),
    h("ul", { class: "links" }, ...links.map((link) => linkItem(link, desk, attempt))),
  );
}

function linkItem(link, desk, attempt) {
  const url = new URL(link.path, location.href).href;
  const field = h("input", { readonly: true, value: url, "aria-label": "The link" });
  field.addEventListener("focus", () => field.select());
  const withdraw = () => api("DELETE", `/api/stories/${desk.meta.id}/shares/${link.id}`);
  return h(
    "li",
    {},
    field,
    h("small", {}, `Opens until ${day(link.expires_at)}. `),
    h("button", { type: "button", class: "link", onclick: attempt(withdraw) }, "Withdraw"),
  );
}

async function makeLink(desk) {
  await keepOnServer(desk);
  const shown = { text: desk.story.text(), title: titleOf(desk), days: DAYS };
  await api("POST", `/api/stories/${desk.meta.id}/shares`, shown);
}

async function listLinks(desk) {
  return (await api("GET", `/api/stories/${desk.meta.id}/shares`)).shares;
}

async function keepOnServer(desk) {
  await desk.save();
  await upload(desk);
  desk.meta.isOnServer = true;
  desk.isTouched = true;
  await desk.save();
}

async function takeFromServer(desk) {
  await api("DELETE", `/api/stories/${desk.meta.id}`);
  desk.meta.isOnServer = false;
  desk.sent = new Map();
  desk.isTouched = true;
  await desk.save();
}

/** Send what the server does not have yet; called after every save of a story that is kept there. */
export async function upload(desk) {
  const { meta, story } = desk;
  desk.sent ??= new Map();
  const sent = desk.sent.get(meta.id) ?? new Map();
  const due = [...story.nodes.values()].filter((node) => sent.get(node.id) !== stamp(node));
  const facts = { title: titleOf(desk).slice(0, 300), details: { checkpoint: meta.checkpoint, created: meta.created } };
  for (const batch of batches(due)) {
    const isLast = batch.at(-1) === due.at(-1);
    const current = isLast ? { current_node_id: story.current } : {};
    await api("PUT", `/api/stories/${meta.id}`, { ...facts, ...current, nodes: batch.map(toServer) });
    for (const node of batch) sent.set(node.id, stamp(node));
  }
  desk.sent.set(meta.id, sent);
}

/** Fetch a story that is kept on the server, as the shelf would give it. */
export async function fetchStory(id) {
  const answer = await api("GET", `/api/stories/${id}`);
  const nodes = answer.nodes.filter((node) => node.kind !== "prompt").map(fromServer);
  const facts = { title: answer.title, checkpoint: answer.details.checkpoint ?? null, isOnServer: true };
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
