// Text that is not saved yet, kept in the browser so that it outlives a reload, a crash and a closed tab.

const PREFIX = "rolebook:unsaved:";

export class Unsaved {
  #key;

  /** `key` names the file, as in "persona/teacher". */
  constructor(key) {
    this.#key = PREFIX + key;
  }

  /** {text, etag, at}: the text, what it began from, and when it was kept; null if there is none. */
  read() {
    try {
      return JSON.parse(localStorage.getItem(this.#key));
    } catch {
      return null;
    }
  }

  keep({ text, etag }) {
    try {
      localStorage.setItem(this.#key, JSON.stringify({ text, etag, at: Date.now() }));
    } catch {
      // The browser's storage is full or forbidden; leaving the page still warns.
    }
  }

  drop() {
    try {
      localStorage.removeItem(this.#key);
    } catch {
      // What cannot be kept need not be removed.
    }
  }
}
