// Text that is not saved yet, kept in the browser so that it outlives a reload, a crash and a closed tab.

const PREFIX = "rolebook:unsaved:";

export class Unsaved {
  #key;
  #undecided = null;

  /** `key` names the file, as in "persona/teacher". */
  constructor(key) {
    this.#key = PREFIX + key;
  }

  /** The keys, as in "persona/teacher", of all files that hold such text. */
  static keys() {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).map((key) => key.slice(PREFIX.length)).sort();
    } catch {
      return [];
    }
  }

  /** {text, etag, at, before}: the text, what it began from, when it was kept, and one of before that nobody has decided
   * about; null if there is none. */
  read() {
    try {
      return JSON.parse(localStorage.getItem(this.#key));
    } catch {
      return null;
    }
  }

  /** Let a kept text outlive what is written from now on, until somebody has decided about it; null: they have. */
  hold(kept) {
    this.#undecided = kept;
  }

  keep({ text, etag }) {
    this.#put({ text, etag, at: Date.now(), before: this.#undecided });
  }

  #put(kept) {
    try {
      localStorage.setItem(this.#key, JSON.stringify(kept));
    } catch {
      // The browser's storage is full or forbidden; leaving the page still warns.
    }
  }

  /** Forget what was written here. */
  drop() {
    if (this.#undecided) return this.#put(this.#undecided);
    try {
      localStorage.removeItem(this.#key);
    } catch {
      // What cannot be kept need not be removed.
    }
  }
}
