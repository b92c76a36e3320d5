/** What a tab remembers from one load of the page to the next; where the browser keeps nothing, only until then. */

const memory = new Map();

export const tab = {
  /** @returns {?string} */
  get(name) {
    try {
      return sessionStorage.getItem(name);
    } catch {
      return memory.get(name) ?? null;
    }
  },

  set(name, value) {
    try {
      sessionStorage.setItem(name, value);
    } catch {
      memory.set(name, value);
    }
  },

  remove(name) {
    try {
      sessionStorage.removeItem(name);
    } catch {
      memory.delete(name);
    }
  },
};
