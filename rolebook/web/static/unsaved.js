// Text that is not saved yet, kept in the browser so that it outlives a reload, a crash and a closed tab.
// Each tab keeps its own. What a tab has left behind belongs to the next one that opens the file.

const PREFIX = "rolebook:unsaved:";
const TAB = "rolebook:tab";
const RELOAD_MS = 1000;

/** The file of an entry and the tab that keeps it; the first entries of all were of no tab. */
function partsOf(name) {
  const [, file, tab = ""] = /^([^#]*)(?:#(.*))?$/.exec(name.slice(PREFIX.length));
  return { file, tab };
}

function entriesOf(file) {
  return Object.keys(localStorage).filter((name) => name.startsWith(PREFIX) && partsOf(name).file === file);
}

function readEntry(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

/** The tab's name. A tab that was duplicated has that of the other one, which shows in that the lock is held. */
async function nameTab() {
  let tab;
  try {
    tab = sessionStorage.getItem(TAB);
    if (tab && (await hold(tab))) return tab;
    tab = Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join("");
    sessionStorage.setItem(TAB, tab);
  } catch {
    return "";
  }
  await hold(tab);
  return tab;
}

/** Hold a lock as long as the page lives, so that others see it. The page before a reload may have it for a moment. */
function hold(tab) {
  // Pages that do not come over TLS or from this computer have no locks: there no tab knows of another.
  if (!navigator.locks) return true;
  return new Promise((resolve) => {
    const options = { signal: AbortSignal.timeout(RELOAD_MS) };
    const forEver = () => {
      resolve(true);
      return new Promise(() => {});
    };
    navigator.locks.request(`${TAB}:${tab}`, options, forEver).catch(() => resolve(false));
  });
}

async function tabsThatLive() {
  const held = navigator.locks ? (await navigator.locks.query()).held : [];
  return new Set(held.map(({ name }) => name.slice(TAB.length + 1)));
}

export class Unsaved {
  #name;
  #undecided = null;
  /** Whether this page has kept something itself. */
  #hasKept = false;

  constructor(name) {
    this.#name = name;
  }

  /** What this tab keeps of a file, as in "persona/teacher", with what other tabs have left behind. */
  static async open(file) {
    const tab = await nameTab();
    const unsaved = new Unsaved(`${PREFIX}${file}#${tab}`);
    try {
      const living = await tabsThatLive();
      unsaved.#takeOver(entriesOf(file).filter((name) => !living.has(partsOf(name).tab)));
    } catch {
      // Where nothing can be kept, nothing was left.
    }
    return unsaved;
  }

  /** The files, as in "persona/teacher", that hold such text. */
  static files() {
    try {
      const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
      return [...new Set(names.map((name) => partsOf(name).file))].sort();
    } catch {
      return [];
    }
  }

  /** The newest such text of a file, whichever tab keeps it; null if there is none. */
  static newest(file) {
    try {
      const kept = entriesOf(file).map(readEntry).filter(Boolean);
      return kept.sort((one, other) => other.at - one.at)[0] ?? null;
    } catch {
      return null;
    }
  }

  /** Let what others have left follow what is kept here, the newest first. It is written before anything is removed. */
  #takeOver(names) {
    const others = names.filter((name) => name !== this.#name);
    if (!others.length) return;
    const texts = [];
    for (const name of [this.#name, ...others]) {
      for (let kept = readEntry(name); kept; kept = kept.before) texts.push(name === this.#name ? kept : { ...kept, isSent: false });
    }
    texts.sort((one, other) => other.at - one.at);
    const chain = texts.reduceRight((before, kept) => ({ ...kept, before }), null);
    if (chain && !this.#put(chain)) return;
    for (const name of others) localStorage.removeItem(name);
  }

  /** {text, etag, at, before, isSent}: the text, what it began from, when it was kept, one of before that nobody has decided
   * about, and whether it was sent to be saved; null if there is none. */
  read() {
    return readEntry(this.#name);
  }

  /** Let a kept text outlive what is written from now on, until somebody has decided about it; null: they have. */
  hold(kept) {
    this.#undecided = kept;
  }

  keep({ text, etag }) {
    this.#hasKept = true;
    this.#put({ text, etag, at: Date.now(), before: this.#undecided });
  }

  /** What was written here is sent to be saved. If it is not, the page that says why shows it, or what was written since. */
  send() {
    const kept = this.read();
    if (kept && this.#hasKept) this.#put({ ...kept, isSent: true });
  }

  #put(kept) {
    try {
      localStorage.setItem(this.#name, JSON.stringify(kept));
      return true;
    } catch {
      // The browser's storage is full or forbidden; leaving the page still warns.
      return false;
    }
  }

  /** Forget what was written here. */
  drop() {
    if (this.#undecided) return void this.#put(this.#undecided);
    try {
      localStorage.removeItem(this.#name);
    } catch {
      // What cannot be kept need not be removed.
    }
  }
}
