/** The models: which there are, how well each knows its books, and two of them side by side. */

import { api, h } from "./dom.js";

let known = null;

/** @returns {Promise<object[]>} the server's checkpoints */
export async function listModels() {
  known ??= api("GET", "/v1/models").then((answer) => answer.data);
  try {
    return await known;
  } catch {
    known = null;
    return [];
  }
}

/** A choice of the checkpoint that writes on in the story on the desk. */
export function modelSelect(desk) {
  const select = h("select", { id: "checkpoint", class: "plain" }, h("option", { value: "" }, "the default one"));
  listModels().then((models) => {
    for (const { id } of models) select.append(h("option", { value: id }, id));
    if (desk.meta.checkpoint && !models.some(({ id }) => id === desk.meta.checkpoint)) {
      select.append(h("option", { value: desk.meta.checkpoint }, `${desk.meta.checkpoint} (gone)`));
    }
    select.value = desk.meta.checkpoint ?? "";
  });
  select.addEventListener("change", () => {
    desk.meta.checkpoint = select.value || null;
    desk.isRetitled = true;
    desk.save();
  });
  return h("div", { class: "field inline" }, h("label", { for: "checkpoint" }, "Model"), select);
}

export async function showModels(root) {
  document.title = "Models · Fablewright";
  const models = await listModels();
  root.replaceChildren(h("h1", {}, "Models"), h("ul", {}, ...models.map(({ id }) => h("li", {}, id))));
}
