/** The panel beside the page: the settings, or what belongs to the story on the desk. One of them at a time. */

import { byId, unreachable } from "./dom.js";

export class Panel {
  constructor({ desk, settings, shelf }) {
    Object.assign(this, { desk, settings, shelf });
    this.opener = null;
    byId("open-settings").addEventListener("click", () => this.toggle("settings"));
    byId("open-story").addEventListener("click", () => this.toggle("story"));
    byId("close-panel").addEventListener("click", () => this.close(true));
    byId("panel").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close(true);
    });
  }

  async toggle(name) {
    const isOpen = this.opener?.id === `open-${name}`;
    this.close();
    if (isOpen) return;
    const opener = byId(`open-${name}`);
    this.opener = opener;
    opener.setAttribute("aria-expanded", "true");
    byId("panel-title").textContent = name === "settings" ? "How it writes" : "This story";
    const body = byId("panel-body");
    const isHere = () => this.opener === opener; // or it was closed before it came
    const { Dials, showStory } = await (name === "settings" ? import("./dials.js") : import("./about.js")).catch(() => {
      if (isHere()) this.close();
      return unreachable();
    });
    if (!isHere()) return;
    if (name === "settings") new Dials(body, this);
    else showStory(body, this);
    byId("panel").hidden = false;
    byId("close-panel").focus({ preventScroll: true });
  }

  close(takeFocus = false) {
    if (!this.opener) return;
    byId("panel").hidden = true;
    byId("panel-body").replaceChildren();
    this.opener.setAttribute("aria-expanded", "false");
    if (takeFocus) this.opener.focus();
    this.opener = null;
  }
}
