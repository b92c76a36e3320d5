/** The form of the settings in the margin: a dial each, with a line that says what it does. */

import { api, h } from "./dom.js";
import { PRESETS } from "./settings.js";
import { forget } from "./share.js";

/** name, label, least, most, step, what it does; the server has the last word on ranges (docs/protocol.md) */
const FIELDS = [
  ["max_tokens", "Length", 16, 1000, 8, "How much to write at a time, in tokens; 100 are about 70 words."],
  ["temperature", "Temperature", 0, 2, 0.05, "Boldness. At 0 always the likeliest word; at 1 as the books read."],
  ["top_p", "Top-p", 0.05, 1, 0.01, "Draw only from the likeliest words that together reach this share."],
  ["min_p", "Min-p", 0, 0.5, 0.005, "Leave out what has less than this share of the likeliest word's chance. At 0 more words are made up."],
  ["top_k", "Top-k", 0, 200, 1, "Draw only from this many of the likeliest words; 0 is off."],
  ["repetition_penalty", "Repetition", 1, 2, 0.01, "Above 1, words already used come back less readily."],
  ["cache_strength", "Memory", 0, 1, 0.02, "How readily the story's own names and words return; 0 is off."],
];

export class Dials {
  /**
   * Build the form into `root`.
   * @param {HTMLElement} root
   * @param {{settings: import("./settings.js").Settings, desk: import("./desk.js").Desk}} parts
   */
  constructor(root, { settings, desk }) {
    Object.assign(this, { settings, desk });
    /** each shows one value in its field */
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
    settings.onShow = () => {
      for (const show of this.shown) show(settings.values);
    };
    settings.onShow();
  }

  #presets() {
    const buttons = Object.entries(PRESETS).map(([name, preset]) => {
      const button = h("button", { type: "button", onclick: () => this.settings.set(preset) }, name);
      this.shown.push(() => button.setAttribute("aria-pressed", this.settings.preset === name));
      return button;
    });
    return h("div", { class: "presets", role: "group", "aria-label": "Presets" }, ...buttons);
  }

  #slider(name, label, min, max, step, why) {
    const output = h("output", { for: `set-${name}` });
    const input = h("input", { type: "range", id: `set-${name}`, min, max, step, "aria-describedby": `why-${name}` });
    input.addEventListener("input", () => this.settings.set({ [name]: Number(input.value) }));
    this.shown.push((values) => {
      input.value = values[name];
      output.value = Number.isInteger(step) ? values[name] : values[name].toFixed(step < 0.01 ? 3 : 2);
    });
    const head = h("label", { for: `set-${name}` }, label);
    return h("div", { class: "field" }, head, output, input, h("small", { id: `why-${name}` }, why));
  }

  #stops() {
    const input = h("textarea", { id: "set-stop", rows: 1, "aria-describedby": "why-stop", placeholder: "one a line" });
    input.addEventListener("input", () => this.settings.set({ stop: input.value.split("\n").filter(Boolean).slice(0, 16) }));
    this.shown.push((values) => isBeingTypedIn(input) || (input.value = values.stop.join("\n")));
    const why = h("small", { id: "why-stop" }, "End before any of these words; one a line.");
    return h("div", { class: "field" }, h("label", { for: "set-stop" }, "Stop at"), input, why);
  }

  #seed() {
    const input = h("input", { id: "set-seed", inputmode: "numeric", "aria-describedby": "why-seed", placeholder: "a new one each time" });
    input.addEventListener("input", () => {
      const seed = input.value.trim() === "" ? null : Number(input.value);
      const isSeed = seed === null || (Number.isSafeInteger(seed) && seed >= 0);
      input.setCustomValidity(isSeed ? "" : "A whole number from 0 to 9007199254740991.");
      if (isSeed) this.settings.set({ seed });
      else input.reportValidity();
    });
    this.shown.push((values) => isBeingTypedIn(input) || (input.value = values.seed ?? ""));
    const why = h("small", { id: "why-seed" }, "Same seed, same text: hold one to write the same words again.");
    return h("div", { class: "field" }, h("label", { for: "set-seed" }, "Seed"), input, why);
  }

  #toggle(name, label, why) {
    const input = h("input", { type: "checkbox", id: `set-${name}`, "aria-describedby": `why-${name}` });
    input.addEventListener("change", () => this.settings.set({ [name]: input.checked }));
    this.shown.push((values) => (input.checked = values[name]));
    const text = h("label", { for: `set-${name}` }, label);
    return h("div", { class: "toggle", id: `toggle-${name}` }, input, text, h("small", { id: `why-${name}` }, why));
  }

  #log() {
    const input = h("input", { type: "checkbox", id: "set-log", "aria-describedby": "why-log" });
    input.addEventListener("change", async () => {
      try {
        const lasting = { keepalive: true }; // whoever leaves the page at once has said so as well
        const answer = await api("PUT", "/api/settings", { keep_text: input.checked }, lasting);
        this.settings.keepsLog = answer.settings.keep_text;
      } finally {
        this.settings.onShow();
      }
    });
    this.shown.push(() => (input.checked = this.settings.keepsLog));
    const why = h("small", { id: "why-log" }, "Helps whoever runs it to see how it is used; off, none of your text enters its log.");
    return h("div", { class: "toggle" }, input, h("label", { for: "set-log" }, "Let the server log them"), why);
  }

  #data() {
    const button = h("button", { type: "button", class: "link" }, "Delete all of it");
    button.addEventListener("click", async () => {
      if (!confirm("Delete everything the server keeps about you: stories, links, settings, log? Stories in this browser stay.")) return;
      const { keepsLog } = this.settings; // who wants no text logged wants none logged under the new key either
      const said = await forget(this.desk)
        .then(() => keepsLog || api("PUT", "/api/settings", { keep_text: false }).catch(() => (this.settings.keepsLog = true)))
        .then(() => "It is gone.", (error) => error.message)
        .finally(() => this.settings.onShow());
      button.replaceWith(h("span", { role: "status" }, said));
    });
    const take = h("a", { class: "link", href: "/api/me/export", download: "fablewright.json" }, "Take a copy");
    return h("div", {}, h("small", {}, "What the server keeps about you:"), h("div", { class: "row" }, take, button));
  }

  #theme() {
    const select = h("select", { id: "set-theme" }, ...["auto", "light", "dark"].map((name) => h("option", {}, name)));
    select.addEventListener("change", () => this.settings.set({ theme: select.value }));
    this.shown.push((values) => {
      select.value = values.theme;
      document.documentElement.dataset.theme = values.theme;
    });
    return h("div", { class: "field inline" }, h("label", { for: "set-theme" }, "Paper"), select);
  }
}

function isBeingTypedIn(input) {
  return document.activeElement === input;
}
