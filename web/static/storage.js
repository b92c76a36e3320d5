/**
 * Stories in this browser: IndexedDB, one record a story and one a node. Tabs only ever add nodes or save their own, so
 * two of them on one story cannot overwrite each other; a BroadcastChannel tells the others when to look, and when to
 * leave a node as it is because somebody else may build on it. Where the browser gives no database (some private
 * windows), a story lives as long as its tab. Knows nothing of servers.
 */

import { Story, newId } from "./story.js";

const NAME = "fablewright";
/** The shape of what is kept. A change of shape adds a step to `upgrade`; nothing is ever dropped. */
export const VERSION = 2;

const BLANK = { title: "", opening: "", words: 0, current: "root", checkpoint: null, isOnServer: false };

/**
 * @typedef {object} Meta  a story without its nodes
 * @property {string} id
 * @property {number} version
 * @property {string} title  "" while the first words stand for it
 * @property {string} opening  the first words
 * @property {number} words
 * @property {number} [nodes]  how many; an older page did not say
 * @property {number} created
 * @property {number} updated
 * @property {string} current
 * @property {?string} checkpoint  null for the server's default
 * @property {boolean} isOnServer
 * @property {number} [sentAt]  the `updated` of what the server has
 */

export class Shelf {
  /**
   * @param {(storyId: string) => void} [onChange]  another tab has saved this story
   * @param {(storyId: string) => void} [onOpen]  another tab has laid this story on its desk
   */
  static async open(onChange = () => {}, onOpen = () => {}) {
    const shelf = new Shelf();
    try {
      shelf.database = await openDatabase();
      shelf.channel = new BroadcastChannel(NAME);
      shelf.channel.onmessage = ({ data: { saved, opened } }) => (saved ? onChange(saved) : onOpen(opened));
    } catch {
      shelf.memory = new Map();
    }
    return shelf;
  }

  get keeps() {
    return !this.memory;
  }

  /** @returns {Promise<Meta[]>} the last touched first */
  async list() {
    const metas = this.memory ? [...this.memory.values()].map((one) => one.meta) : await this.#all("stories");
    return metas.map((meta) => ({ ...BLANK, ...meta })).sort((a, b) => b.updated - a.updated);
  }

  /** Load a story to write in it; from here on other tabs leave the nodes that it has as they are. */
  async take(id) {
    this.channel?.postMessage({ opened: id });
    return this.load(id);
  }

  /** @returns {Promise<?{meta: Meta, nodes: object[]}>} */
  async load(id) {
    if (this.memory) return this.memory.get(id) ?? null;
    const transaction = this.database.transaction(["stories", "nodes"]);
    const range = IDBKeyRange.bound([id], [id, []]);
    const [meta, nodes] = await Promise.all([
      result(transaction.objectStore("stories").get(id)),
      result(transaction.objectStore("nodes").getAll(range)),
    ]);
    if (!meta || meta.version >= VERSION) return meta ? { meta, nodes } : null;
    const upgraded = upgrade(meta, nodes);
    await this.put(upgraded.meta, upgraded.nodes);
    return upgraded;
  }

  /** Save the story's facts and those of its nodes that have changed. @param {Meta} meta @param {Story} story */
  async save(meta, story) {
    const nodes = [...story.dirty].map((id) => story.node(id));
    story.dirty.clear();
    if (meta.words) this.asked ??= navigator.storage?.persist?.().catch(() => false); // or a full disk may cost stories
    try {
      await this.put(meta, nodes);
    } catch (error) {
      for (const node of nodes) story.dirty.add(node.id);
      throw error;
    }
  }

  /** @param {Meta} meta @param {object[]} nodes */
  async put(meta, nodes) {
    if (this.memory) {
      const known = new Map((this.memory.get(meta.id)?.nodes ?? []).map((node) => [node.id, node]));
      for (const node of nodes) known.set(node.id, node);
      this.memory.set(meta.id, { meta, nodes: [...known.values()] });
      return;
    }
    const transaction = this.database.transaction(["stories", "nodes"], "readwrite");
    transaction.objectStore("stories").put(meta);
    for (const node of nodes) transaction.objectStore("nodes").put({ ...node, story: meta.id });
    transaction.commit(); // a page that is being left would never come to commit it by itself
    await finished(transaction);
    this.channel.postMessage({ saved: meta.id });
  }

  /** Note facts of a story that is kept here. @returns {Promise<?Meta>} */
  async note(id, facts) {
    if (this.memory) {
      const { meta } = this.memory.get(id) ?? {};
      return meta ? Object.assign(meta, facts) : null;
    }
    const transaction = this.database.transaction("stories", "readwrite");
    const stories = transaction.objectStore("stories");
    const meta = await result(stories.get(id));
    if (!meta) return null;
    stories.put(Object.assign(meta, facts));
    await finished(transaction);
    this.channel.postMessage({ saved: id });
    return meta;
  }

  async remove(id) {
    if (this.memory) return void this.memory.delete(id);
    const transaction = this.database.transaction(["stories", "nodes"], "readwrite");
    transaction.objectStore("stories").delete(id);
    transaction.objectStore("nodes").delete(IDBKeyRange.bound([id], [id, []]));
    await finished(transaction);
    this.channel.postMessage({ saved: id });
  }

  #all(store) {
    return result(this.database.transaction(store).objectStore(store).getAll());
  }
}

/** @returns {Meta} */
export function newMeta(fields = {}) {
  const now = Date.now();
  return { id: newId() + newId(), version: VERSION, ...BLANK, created: now, updated: now, ...fields };
}

/** Bring what an older page has kept into today's shape. */
function upgrade(meta, nodes) {
  const { text = "", ...rest } = meta; // version 1 was a text without history
  const story = new Story();
  if (text) story.edit({ at: 0, removed: 0, inserted: text }, meta.updated ?? Date.now());
  const upgraded = newMeta({ ...rest, version: VERSION, current: story.current });
  return { meta: upgraded, nodes: [...nodes, ...story.path()] };
}

async function openDatabase() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("stories", { keyPath: "id" });
    request.result.createObjectStore("nodes", { keyPath: ["story", "id"] });
  };
  return result(request);
}

/** @returns {Promise<any>} */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
}
