/**
 * The map of a story: its tree drawn small, a dot a node, time downwards, branches side by side. Every dot is a button
 * that goes there. Pure drawing; it knows nothing but the story.
 */

import { h } from "./dom.js";

const STEP = 24;
const LANE = 24;
const EDGE = 14;
/** steps above and below the current one that are drawn: thousands of buttons would stop the page at every pause */
const REACH = 300;

/**
 * @param {HTMLElement} root
 * @param {import("./story.js").Story} story
 * @param {(id: string) => void} onGo
 */
export function drawMap(root, story, onGo) {
  const places = layOut(story);
  const width = EDGE * 2 + LANE * Math.max(...[...places.values()].map((place) => place.lane));
  const height = EDGE * 2 + STEP * Math.max(...[...places.values()].map((place) => place.depth));
  const onPath = new Set(["root", ...story.path().map((node) => node.id)]);
  const lines = h("svg", { width, height, "aria-hidden": "true" });
  const here = places.get(story.current).depth;
  const dots = h("div", { class: "dots", role: "group", "aria-label": "Branches of this story" });
  for (const [id, { lane, depth }] of places) {
    if (Math.abs(depth - here) > REACH) continue;
    const node = story.node(id);
    const [x, y] = [EDGE + LANE * lane, EDGE + STEP * depth];
    if (node.parent !== null) {
      const from = places.get(node.parent);
      const line = h("path", { d: curve(EDGE + LANE * from.lane, EDGE + STEP * from.depth, x, y), class: onPath.has(id) ? "on" : null });
      if (onPath.has(id)) lines.append(line);
      else lines.prepend(line);
    }
    const name = describe(node);
    const state = id === story.current ? "current" : onPath.has(id) ? "on" : "off";
    const button = h("button", { type: "button", class: `${node.kind} ${state}`, "aria-label": name, title: name, onclick: () => onGo(id) });
    if (id === story.current) button.setAttribute("aria-current", "true");
    button.tabIndex = id === story.current ? 0 : -1;
    button.dataset.id = id;
    Object.assign(button.style, { left: `${x}px`, top: `${y}px` });
    dots.append(button);
  }
  const canvas = h("div", { class: "canvas" }, lines, dots);
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const hadFocus = root.contains(document.activeElement);
  root.replaceChildren(canvas);
  const current = root.querySelector(".current");
  root.scrollTop = current.offsetTop - root.clientHeight / 2;
  if (hadFocus) current.focus({ preventScroll: true });
  root.onkeydown = (event) => walk(event, story, root);
}

/** Arrow keys walk the tree as it is drawn: up to the parent, down to a child, left and right among siblings. */
function walk(event, story, root) {
  const id = event.target.dataset?.id;
  if (!id) return;
  const { parent } = story.node(id);
  const siblings = story.branches(parent);
  const beside = (step) => siblings[siblings.indexOf(id) + step];
  const goals = {
    ArrowUp: () => parent,
    ArrowDown: () => story.next(id),
    ArrowLeft: () => beside(-1),
    ArrowRight: () => beside(1),
  };
  const goal = goals[event.key]?.();
  if (event.key in goals) event.preventDefault();
  const button = root.querySelector(`[data-id="${goal}"]`);
  if (!button) return; // none there, or not drawn yet
  event.target.tabIndex = -1;
  button.tabIndex = 0;
  button.focus();
}

/** @returns {Map<string, {lane: number, depth: number}>} the first child goes on in its parent's lane, others to its right */
function layOut(story) {
  const places = new Map([["root", { lane: 0, depth: 0 }]]);
  const deepest = []; // how far down each lane is taken
  const waiting = ["root"];
  while (waiting.length) {
    const id = waiting.pop();
    const { lane, depth } = places.get(id);
    const children = story.branches(id);
    for (const child of children) places.set(child, { lane, depth: depth + 1 });
    waiting.push(...children.toReversed());
  }
  assignLanes("root", story, places, deepest);
  return places;
}

/** Walk each lane to its end before opening the next, so that branches nest as in a family tree. */
function assignLanes(start, story, places, deepest) {
  const branches = [[start, 0]];
  while (branches.length) {
    const [head, from] = branches.shift();
    const spine = [];
    for (let id = head; id; id = story.branches(id)[0]) spine.push(id);
    const [top, bottom] = [places.get(head).depth - 1, places.get(spine.at(-1)).depth];
    let lane = from;
    while ((deepest[lane] ?? []).some(([a, b]) => top <= b && bottom >= a)) lane++;
    (deepest[lane] ??= []).push([top, bottom]);
    for (const id of spine) places.get(id).lane = lane;
    const side = spine.flatMap((id) => story.branches(id).slice(1).map((child) => [child, lane + 1]));
    branches.unshift(...side.toReversed());
  }
}

function curve(x0, y0, x, y) {
  return x0 === x ? `M${x0} ${y0}V${y}` : `M${x0} ${y0}C${x0} ${y0 + STEP * 0.7} ${x} ${y0 + STEP * 0.3} ${x} ${Math.min(y, y0 + STEP)}V${y}`;
}

function describe(node) {
  if (node.kind === "root") return "the empty page";
  const words = node.inserted.trim().replace(/\s+/g, " ");
  const shown = words.length > 60 ? `${words.slice(0, 60)}…` : words;
  if (node.kind === "continuation") return `the model: ${shown || "nothing yet"}`;
  return words ? `you: ${shown}` : "you: a deletion";
}
