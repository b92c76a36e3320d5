/**
 * How the model is asked to write: the settings, their presets, and the form in the margin. Kept in this browser for the
 * next visit. Ranges are those of the server (docs/protocol.md), which has the last word.
 */

import { api, h } from "./dom.js";

const KEY = "fablewright.settings";

/** What each setting does, in one line. */
const FIELDS = [
  ["max_tokens", "Length", 16, 1000, 8, "How much to write at a time, in tokens; 100 are about 70 words."],
  ["temperature", "Temperature", 0, 2, 0.05, "Boldness. At 0 always the likeliest word; at 1 as the books read."],
  ["top_p", "Top-p", 0.05, 1, 0.01, "Draw only from the likeliest words that together reach this share."],
  ["min_p", "Min-p", 0, 0.5, 0.01, "Leave out words below this share of the likeliest one's chance; 0 is off."],
  ["top_k", "Top-k", 0, 200, 1, "Draw only from this many of the likeliest words; 0 is off."],
  ["repetition_penalty", "Repetition", 1, 2, 0.01, "Above 1, words already used come back less readily."],
  ["cache_strength", "Memory", 0, 1, 0.02, "How readily the story's own names and words return; 0 is off."],
];

export const PRESETS = {
  careful: { temperature: 0.6, top_p: 0.9, min_p: 0.02, top_k: 0, repetition_penalty: 1.05, cache_strength: 0 },
  balanced: { temperature: 0.8, top_p: 0.95, min_p: 0, top_k: 0, repetition_penalty: 1, cache_strength: 0 },
  wild: { temperature: 1.1, top_p: 1, min_p: 0.01, top_k: 0, repetition_penalty: 1, cache_strength: 0 },
};

/** tokens per second when the reader wants to watch it write */
const PACE = 18;

const DEFAULTS = {
  ...PRESETS.balanced, max_tokens: 160, stop: [], seed: null, watch: true, explain: true, tint: false, copied: false, theme: "auto",
};

export class Settings {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    const kept = read();
    this.isFirstVisit = Object.keys(kept).length === 0;
    this.values = { ...DEFAULTS, ...kept };
    /** what the server accepts at most, once it has said so */
    this.limits = {};
    this.keepsLog = true;
  }

  /** @returns {object} the fields of a `start` message that these settings stand for */
  request() {
    const { watch, explain, tint, copied, theme, seed, stop, ...sampling } = this.values;
    const request = { ...sampling, pace: watch ? PACE : 0 };
    if (stop.length) request.stop = stop;
    if (seed !== null) request.seed = seed;
    return request;
  }

  set(changes) {
    Object.assign(this.values, changes);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // a browser that keeps nothing: the settings last as long as the tab
    }
    this.#show();
    this.onChange();
  }

  get preset() {
    const isSame = ([, preset]) => Object.entries(preset).every(([name, value]) => this.values[name] === value);
    return Object.entries(PRESETS).find(isSame)?.[0] ?? null;
  }

  /** Learn what the server allows, and on a first visit what it suggests. */
  async ask() {
    const { settings, defaults, limits } = await api("GET", "/api/settings");
    this.limits = limits;
    this.keepsLog = settings.keep_log ?? true;
    for (const name of Object.keys(PRESETS.balanced)) PRESETS.balanced[name] = defaults[name] ?? PRESETS.balanced[name];
    if (this.isFirstVisit) Object.assign(this.values, PRESETS.balanced);
    this.#show();
  }

  /** Build the form into `root`. */
  render(root) {
    this.shown = [];
    root.replaceChildren(
      this.#presets(),
      ...FIELDS.map((field) => this.#slider(...field)),
      this.#stops(),
      this.#seed(),
      h("h3", {}, "On the page"),
      this.#toggle("watch", "Watch it write", "Off: the words come at once, as fast as they are made."),
      this.#toggle("explain", "Why this word", "Point at one of the model's words, or put the caret in it."),
      this.#toggle("tint", "Tint the surprising words", "The darker, the less the model expected the word."),
      this.#toggle("copied", "Underline what stands in the books", "Phrases that the training books hold word for word."),
      this.#theme(),
      h("h3", {}, "Your texts"),
      this.#log(),
      this.#data(),
    );
    this.#show();
  }

  #show() {
    for (const show of this.shown ?? []) show(this.values);
  }

  #presets() {
    const buttons = Object.entries(PRESETS).map(([name, preset]) => {
      const button = h("button", { type: "button", onclick: () => this.set(preset) }, name);
      this.shown.push(() => button.setAttribute("aria-pressed", this.preset === name));
      return button;
    });
    return h("div", { class: "presets", role: "group", "aria-label": "Presets" }, ...buttons);
  }

  #slider(name, label, min, max, step, why) {
    const output = h("output", { for: `set-${name}` });
    const input = h("input", { type: "range", id: `set-${name}`, min, max, step, "aria-describedby": `why-${name}` });
    input.addEventListener("input", () => this.set({ [name]: Number(input.value) }));
    this.shown.push((values) => {
      input.value = values[name];
      output.value = Number.isInteger(step) ? values[name] : values[name].toFixed(2);
    });
    const head = h("label", { for: `set-${name}` }, label);
    return h("div", { class: "field" }, head, output, input, h("small", { id: `why-${name}` }, why));
  }

  #stops() {
    const input = h("textarea", { id: "set-stop", rows: 1, "aria-describedby": "why-stop", placeholder: "one a line" });
    const read = () => this.set({ stop: input.value.split("\n").filter(Boolean).slice(0, 16) });
    input.addEventListener("change", read);
    this.shown.push((values) => (input.value = values.stop.join("\n")));
    const why = h("small", { id: "why-stop" }, "End before any of these words; one a line.");
    return h("div", { class: "field" }, h("label", { for: "set-stop" }, "Stop at"), input, why);
  }

  #seed() {
    const input = h("input", { id: "set-seed", inputmode: "numeric", "aria-describedby": "why-seed", placeholder: "a new one each time" });
    input.addEventListener("change", () => {
      const seed = input.value.trim() === "" ? null : Number(input.value);
      if (seed === null || (Number.isSafeInteger(seed) && seed >= 0)) return this.set({ seed });
      input.setCustomValidity("A whole number from 0 to 9007199254740991.");
      input.reportValidity();
      return undefined;
    });
    input.addEventListener("input", () => input.setCustomValidity(""));
    this.shown.push((values) => (input.value = values.seed ?? ""));
    const why = h("small", { id: "why-seed" }, "Same seed, same text: hold one to write the same words again.");
    return h("div", { class: "field" }, h("label", { for: "set-seed" }, "Seed"), input, why);
  }

  #toggle(name, label, why) {
    const input = h("input", { type: "checkbox", id: `set-${name}`, "aria-describedby": `why-${name}` });
    input.addEventListener("change", () => this.set({ [name]: input.checked }));
    this.shown.push((values) => (input.checked = values[name]));
    const text = h("label", { for: `set-${name}` }, label);
    return h("div", { class: "toggle", id: `toggle-${name}` }, input, text, h("small", { id: `why-${name}` }, why));
  }

  #log() {
    const input = h("input", { type: "checkbox", id: "set-log", "aria-describedby": "why-log" });
    input.addEventListener("change", async () => {
      try {
        const answer = await api("PUT", "/api/settings", { keep_log: input.checked });
        this.keepsLog = answer.settings.keep_log ?? true;
      } finally {
        this.#show();
      }
    });
    this.shown.push(() => (input.checked = this.keepsLog));
    const why = h("small", { id: "why-log" }, "Helps whoever runs it to see how it is used; off, your texts leave no trace there.");
    return h("div", { class: "toggle" }, input, h("label", { for: "set-log" }, "Let the server log them"), why);
  }

  #data() {
    const forget = h("button", { type: "button", class: "link" }, "Delete all of it");
    forget.addEventListener("click", async () => {
      if (!confirm("Delete everything the server keeps about you: stories, links, settings, log? Stories in this browser stay.")) return;
      const said = await api("DELETE", "/api/me").then(() => "It is gone.", (error) => error.message);
      forget.replaceWith(h("span", { role: "status" }, said));
    });
    const take = h("a", { class: "link", href: "/api/me/export", download: "fablewright.json" }, "Take a copy");
    return h("div", {}, h("small", {}, "What the server keeps about you:"), h("div", { class: "row" }, take, forget));
  }

  #theme() {
    const select = h("select", { id: "set-theme" }, ...["auto", "light", "dark"].map((name) => h("option", {}, name)));
    select.addEventListener("change", () => this.set({ theme: select.value }));
    this.shown.push((values) => {
      select.value = values.theme;
      document.documentElement.dataset.theme = values.theme;
    });
    return h("div", { class: "field inline" }, h("label", { for: "set-theme" }, "Paper"), select);
  }
}

/** @returns {object} what an earlier visit kept, as far as it still makes sense */
function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
    const fits = ([name, value]) => name in DEFAULTS && (typeof value === typeof DEFAULTS[name] || (name === "seed" && Number.isSafeInteger(value)));
    return Object.fromEntries(Object.entries(kept).filter(fits));
  } catch {
    return {};
  }
}
