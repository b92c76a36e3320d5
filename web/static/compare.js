/** Two models side by side: the same prompt, settings and seed through both at once. */

import { h } from "./dom.js";

const PROMPT = "The door at the end of the passage had always been locked, but that night";

/** @param {HTMLElement} root @param {object[]} models @param {{settings: object, streams: object}} parts */
export function renderComparison(root, models, { settings, streams }) {
  const names = models.map(({ name }) => name);
  const prompt = h("textarea", { id: "compare-prompt", rows: 2 });
  prompt.value = PROMPT;
  const seed = h("input", { id: "compare-seed", inputmode: "numeric", value: 7, required: true, pattern: "[0-9]{1,15}", title: "A whole number" });
  const sides = [new Side(names, names[0], "First model"), new Side(names, names[1] ?? names[0], "Second model")];
  const button = h("button", { type: "submit", class: "press" }, "Write both");
  const show = () => (button.textContent = sides.some((side) => side.handle) ? "Stop" : "Write both");
  const form = h(
    "form",
    {},
    h("div", { class: "field" }, h("label", { for: "compare-prompt" }, "Beginning"), prompt),
    h("div", { class: "row" }, h("div", { class: "field inline" }, h("label", { for: "compare-seed" }, "Seed"), seed), button),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (sides.some((side) => side.handle)) return sides.forEach((side) => side.handle?.stop());
    const request = { ...settings.request(), prompt: prompt.value, seed: Number(seed.value) };
    for (const side of sides) side.write(request, streams, show);
    show();
    return undefined;
  });
  root.replaceChildren(
    h("h2", {}, "Side by side"),
    h("p", { class: "hint" }, "The same beginning, settings and seed through two models at once."),
    form,
    h("div", { class: "sides" }, ...sides.map((side) => side.element)),
  );
}

class Side {
  constructor(names, chosen, label) {
    this.select = h("select", { class: "plain", "aria-label": label }, ...names.map((name) => h("option", {}, name)));
    this.select.value = chosen;
    this.status = h("small", { role: "status" });
    this.page = h("div", { class: "page" });
    this.element = h("div", {}, this.select, this.page, this.status);
    this.handle = null;
  }

  write(request, streams, onChange) {
    const written = document.createTextNode("");
    this.page.replaceChildren(h("span", { class: "given" }, request.prompt), written);
    const end = (message) => {
      this.handle = null;
      this.status.textContent = message;
      onChange();
    };
    this.status.textContent = "";
    this.handle = streams.start(
      { ...request, checkpoint: this.select.value },
      {
        onQueued: ({ position }) => (this.status.textContent = `In the queue at place ${position}`),
        onText: (text) => (written.isConnected ? written.appendData(text) : this.handle.stop()), // the reader has gone elsewhere
        onDone: ({ completion_tokens = 0, tokens_per_second = 0 }) => end(`${completion_tokens} tokens · ${Math.round(tokens_per_second)} tokens/s`),
        onError: ({ message }) => end(message),
      },
    );
  }
}
