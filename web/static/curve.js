/** A learning curve as a small drawing: one line for what the model had not seen, one for what it learned from. */

import { h } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [420, 170, 44, 24];

/**
 * @param {Record<string, number>[]} history  {tokens or step, train_loss and/or valid_loss or valid_bits_per_byte} in order
 * @returns {?HTMLElement}
 */
export function drawCurve(history) {
  const x = ["tokens", "step"].find((name) => history.some((point) => name in point));
  const names = [["valid_loss", "train_loss"], ["valid_bits_per_byte"], ["loss"]].find(([first]) => having(history, x, first).length > 1);
  if (!x || !names) return null;
  const lines = names.map((name) => having(history, x, name).map((point) => [point[x], point[name]])).filter((line) => line.length > 1);
  const values = lines.flat().map(([, value]) => value);
  const high = Math.max(...values);
  const low = Math.min(...values);
  const most = Math.max(...lines.flat().map(([at]) => at));
  const toX = (value) => LEFT + (value / most) * (WIDTH - LEFT - 8);
  const toY = (value) => 8 + ((high - value) / (high - low || 1)) * (HEIGHT - BOTTOM - 16);
  const unit = names[0].includes("bits") ? "bits a byte" : "nats a token";
  const [first, last] = [lines[0][0][1], lines[0].at(-1)[1]].map((value) => value.toFixed(2));
  const end = `${most.toLocaleString("en-US", { notation: "compact" })} ${x === "step" ? "steps" : x}`;
  const drawing = h(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Learning curve: from ${first} to ${last} ${unit}` },
    h("line", { x1: LEFT, x2: WIDTH - 8, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    ...[high, low].map((value) => h("text", { x: LEFT - 8, y: toY(value) + 4, "text-anchor": "end" }, value.toFixed(2))),
    h("text", { x: LEFT, y: HEIGHT - 6 }, unit),
    h("text", { x: WIDTH - 8, y: HEIGHT - 6, "text-anchor": "end" }, end),
    ...lines.map((line, index) => h("polyline", { points: line.map(([at, value]) => `${toX(at).toFixed(1)},${toY(value).toFixed(1)}`).join(" "), class: index ? "train" : "valid" })).toReversed(),
  );
  const legend = lines.length > 1 ? h("figcaption", {}, "Blue: books it had not seen. Grey: books it learned from.") : null;
  return h("figure", { class: "curve" }, drawing, legend);
}

function having(points, x, name) {
  return points.filter((point) => Number.isFinite(point[x]) && Number.isFinite(point[name]));
}
