/**
 * How the model is asked to write, and how the page shows it: the settings and their presets, kept in this browser for
 * the next visit. The form for them is dials.js.
 */

import { api } from "./dom.js";

const KEY = "fablewright.settings";

/** `balanced` is the server's own suggestion as soon as it has said it. */
export const PRESETS = {
  careful: { temperature: 0.6, top_p: 0.9, min_p: 0.02, top_k: 0, repetition_penalty: 1.05, cache_strength: 0 },
  balanced: { temperature: 1, top_p: 1, min_p: 0.005, top_k: 0, repetition_penalty: 1, cache_strength: 0 },
  wild: { temperature: 1.2, top_p: 1, min_p: 0.01, top_k: 0, repetition_penalty: 1, cache_strength: 0 },
};

/** tokens per second when the reader wants to watch it write */
const PACE = 18;

const DEFAULTS = {
  ...PRESETS.balanced,
  max_tokens: 160,
  stop: [],
  seed: null,
  watch: true,
  explain: true,
  tint: false,
  copied: false,
  theme: "auto",
};

export class Settings {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    /** shows the values in the form, while there is one */
    this.onShow = () => {};
    const kept = read();
    this.isFirstVisit = Object.keys(kept).length === 0;
    this.values = { ...DEFAULTS, ...kept };
    /** what the server accepts at most, as it is until it has said so */
    this.limits = { max_prompt_bytes: 262_144 };
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
    this.isFirstVisit = false;
    Object.assign(this.values, read(), changes); // another tab may have changed others
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // a browser that keeps nothing: the settings last as long as the tab
    }
    this.onShow();
    this.onChange();
  }

  get preset() {
    const isSame = ([, preset]) => Object.entries(preset).every(([name, value]) => this.values[name] === value);
    return Object.entries(PRESETS).find(isSame)?.[0] ?? null;
  }

  /** Learn once what the server allows, and on a first visit what it suggests; where it is away, what is known will do. */
  ask() {
    this.asking ??= this.#ask().catch(() => (this.asking = null));
  }

  async #ask() {
    const { settings, defaults, limits } = await api("GET", "/api/settings");
    this.limits = limits;
    this.keepsLog = settings.keep_text;
    for (const name of Object.keys(PRESETS.balanced)) PRESETS.balanced[name] = defaults[name] ?? PRESETS.balanced[name];
    if (this.isFirstVisit) Object.assign(this.values, PRESETS.balanced, { max_tokens: defaults.max_tokens });
    this.onShow();
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
