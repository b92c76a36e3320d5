/** Tells screen readers what the model writes: sentence by sentence once each is finished, never token by token. */

const SENTENCE = /[\s\S]*?[.!?…]+["'”’)\]]*(?=\s)|[\s\S]*?\n\n/;

export class Announcer {
  /** @param {HTMLElement} region  an aria-live region */
  constructor(region) {
    this.region = region;
    this.waiting = "";
  }

  say(message) {
    this.region.append(Object.assign(document.createElement("p"), { textContent: message }));
    while (this.region.childElementCount > 4) this.region.firstChild.remove();
  }

  /** @param {string} text  what the model has just written */
  hear(text) {
    this.waiting += text;
    for (let found; (found = SENTENCE.exec(this.waiting)); ) {
      this.waiting = this.waiting.slice(found[0].length);
      if (found[0].trim()) this.say(found[0].trim());
    }
  }

  /** The model has stopped: say the rest, finished or not. */
  flush() {
    if (this.waiting.trim()) this.say(this.waiting.trim());
    this.waiting = "";
  }
}
