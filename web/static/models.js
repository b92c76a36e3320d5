/** The models: which there are, how well each knows its books, and a choice of one for the story on the desk. */

import { renderComparison } from "./compare.js";
import { drawCurve } from "./curve.js";
import { api, h, nameWindow } from "./dom.js";
import { fromMarkdown } from "./markdown.js";

/** @returns {Promise<object[]>} the server's checkpoints, the default one first */
export async function listModels() {
  return (await api("GET", "/api/checkpoints")).checkpoints;
}

/** A choice of the checkpoint that writes on in the story on the desk. */
export function modelSelect(desk) {
  const select = h("select", { id: "checkpoint", class: "plain" }, h("option", { value: "" }, "the default one"));
  const { checkpoint } = desk.meta;
  const offer = (models) => {
    select.append(...models.map(({ name }) => h("option", { value: name }, name)));
    if (checkpoint && !models.some(({ name }) => name === checkpoint)) select.append(h("option", { value: checkpoint }, `${checkpoint} (gone)`));
    select.value = checkpoint ?? "";
  };
  listModels().then(offer, () => offer([]));
  select.addEventListener("change", () => desk.choose(select.value || null));
  return h("div", { class: "field inline" }, h("label", { for: "checkpoint" }, "Model"), select);
}

/** @param {HTMLElement} root @param {{desk: import("./desk.js").Desk, settings: object, streams: object}} parts */
export async function showModels(root, parts) {
  nameWindow("Models");
  const title = h("h1", { tabindex: -1 }, "Models");
  let models;
  try {
    models = await listModels();
  } catch (error) {
    root.replaceChildren(title, h("p", {}, error.message));
    return;
  }
  const cards = h("div", { class: "models" });
  const draw = () => cards.replaceChildren(...models.map((model) => card(model, parts.desk, redraw)));
  const redraw = () => {
    draw();
    cards.querySelector(".chosen").focus();
  };
  draw();
  const comparison = h("section", { class: "comparison", "aria-label": "Side by side" });
  renderComparison(comparison, models, parts);
  const reports = h("section", { class: "report", "aria-label": "Comparisons of recipes" });
  root.replaceChildren(title, cards, comparison, reports);
  await showReports(reports);
}

/** How recipes of training compare, where the server has reports that say it. */
async function showReports(root) {
  const { reports } = await api("GET", "/api/reports").catch(() => ({ reports: [] }));
  if (reports.length) root.append(h("h2", {}, "Recipes compared"), ...reports.map(report));
}

function report({ name, title }) {
  const place = `/api/reports/${encodeURIComponent(name)}`;
  const whole = h("details", {}, h("summary", {}, title));
  const fetchOnce = async () => {
    const blocks = await api("GET", place).then(({ markdown }) => fromMarkdown(markdown, `${place}/`), (error) => [h("p", {}, error.message)]);
    whole.append(...blocks);
  };
  whole.addEventListener("toggle", fetchOnce, { once: true });
  return whole;
}

function card(model, desk, redraw) {
  const isChosen = desk.meta.checkpoint === model.name || (desk.meta.checkpoint === null && model.is_default);
  const choose = () => {
    desk.choose(model.is_default ? null : model.name);
    redraw();
  };
  const more = h("details", {}, h("summary", {}, "Its card"));
  const curve = h("div", {});
  api("GET", `/api/checkpoints/${encodeURIComponent(model.name)}`).then(
    (whole) => {
      more.append(...fromMarkdown(whole.card));
      curve.append(drawCurve(whole.curve) ?? "");
    },
    (error) => more.append(h("p", {}, error.message)),
  );
  return h(
    "article",
    {},
    h("h2", {}, model.name),
    isChosen
      ? h("p", { class: "chosen", tabindex: -1 }, "It writes in the story on your desk.")
      : h("p", {}, h("button", { type: "button", class: "link", onclick: choose, "aria-label": `Let ${model.name} write in this story` }, "Let it write in this story")),
    h("dl", {}, ...facts(model).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    curve,
    more,
  );
}

/** @returns {[string, string][]} */
function facts({ architecture, parameters, bytes, vocab_size, training, has_novelty_index }) {
  const { token_perplexity, bits_per_byte } = training.valid ?? {};
  const number = (value, digits = 0) => value.toLocaleString("en-GB", { maximumFractionDigits: digits });
  return [
    ["kind", architecture],
    ["weights", `${number(parameters / 1e6, 1)} million, ${number(bytes / 2 ** 20, 1)} MiB`],
    ["vocabulary", `${number(vocab_size)} pieces`],
    training.seconds ? ["trained", `${number(training.seconds / 60)} minutes, ${number((training.tokens ?? 0) / 1e6, 1)} million tokens`] : null,
    token_perplexity ? ["perplexity", `${number(token_perplexity, 1)} a piece, on books it had not seen`] : null,
    bits_per_byte ? ["bits a byte", number(bits_per_byte, 3)] : null,
    ["copies", has_novelty_index ? "can be found" : "not known: no index of its books"],
  ].filter(Boolean);
}
