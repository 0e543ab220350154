// A comparison, live: answers appear as they come, columns move, and nothing that is shown is loaded twice.
import { announce, isComposing, post } from "./page.js";
import { readEvents } from "./sse.js";

const RETRY_MS = 2000;
const LOOK_MS = 5000;
const IN_STEP = "comparison.in-step";
const SQUARE = ".strip .marks > i";

/** Ends the stream that is being read. */
let following = new AbortController();
/** Where the keyboard stops among the squares, also once these are others. */
let stopped = { variant: "", place: 0 };
/** The answers that have got longer since the page was painted. */
const growing = new Set();

const board = () => document.getElementById("board");
const state = () => document.getElementById("state");

/* Following a run. */

/** Show what happens until the run ends; a line that breaks is taken up again. */
async function follow() {
  following.abort();
  if (!state()?.dataset.running) return;
  const { signal } = (following = new AbortController());
  while (!signal.aborted) {
    try {
      const { events, shows } = board().dataset;
      const response = await fetch(`${events}?${shows}`, { signal, headers: { Accept: "text/event-stream" } });
      if (response.ok) {
        state().querySelector(".problem")?.remove();
        if (await read(response.body)) return await finish();
      }
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    if (signal.aborted) return;
    if (!state().querySelector(".problem")) tell(board().dataset.broken);
    await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
  }
}

/** Whether a run is being followed. */
const isFollowing = () => Boolean(state().dataset.running) && !following.signal.aborted;

/** A page at rest looks now and then whether somebody goes on with the comparison elsewhere, and joins. */
async function look() {
  if (document.hidden || isFollowing()) return;
  const { stands } = state().dataset;
  const response = await fetch(board().dataset.state, { headers: { Accept: "application/json" } }).catch(() => null);
  const found = response?.ok ? await response.json() : { stands };
  if (found.stands === stands || state().dataset.stands !== stands || isFollowing()) return;
  if (found.stands.includes("deleted") !== stands.includes("deleted")) return location.reload();
  await load(location.href, ["state", "vote-blind", "board"]);
  if (state().dataset.running) return follow();
  await showEvidence();
}

/** Show the events of a stream; returns whether the run has ended. */
async function read(body) {
  for await (const { name, data } of readEvents(body)) {
    if (name === "cell") showCell(data);
    else if (name === "delta") addWords(data);
    else if (name === "marks") data.strips.forEach(showStrip);
    else if (name === "progress") document.getElementById("progress").replaceWith(parse(data.html));
    else if (name === "end") return true;
  }
  return false;
}

/** What the page shows of the whole, now that nothing moves any more. */
async function finish() {
  await load(location.href, ["state", "vote-blind", ...(board().querySelector(".matrix") ? ["board"] : [])]);
  const breaks = [...state().querySelectorAll(".break")].map((banner) => banner.textContent);
  announce([board().dataset.ended, ...breaks].join(" "));
  await showEvidence();
}

function showCell({ cell, mark, parts }) {
  for (const html of parts ?? []) showBox(parse(html));
  const [variant, input, repeat] = cell.split("-").map(Number);
  const strip = board().querySelector(`.strip .marks[data-variant="${variant}"]`);
  if (strip) showMark(strip.children[(input - 1) * repeats() + repeat - 1], mark);
}

/** Put a box in the place of the one on the page, with what the reader has done to that. */
function showBox(fresh) {
  const old = document.getElementById(fresh.id);
  if (!old || old.isEqualNode(fresh)) return;
  const hadFocus = old.contains(document.activeElement);
  const fold = fresh.querySelector(".folded");
  if (fold && old.querySelector(".folded.open")) unfold(fresh.querySelector(".unfold"));
  old.replaceWith(fresh);
  if (hadFocus) {
    fresh.tabIndex = -1;
    fresh.focus({ preventScroll: true });
  }
  if (isInStep()) reach(fresh);
}

function addWords({ id, text }) {
  const stream = document.getElementById(id)?.querySelector(".stream");
  if (!stream) return;
  stream.append(text);
  if (!growing.size) requestAnimationFrame(showLastWords);
  growing.add(stream);
}

/** All that has grown goes to its end at once: the page is laid out anew for each that does so alone. */
function showLastWords() {
  for (const stream of growing) stream.scrollTop = stream.scrollHeight;
  growing.clear();
}

const repeats = () => Number(board().querySelector(".matrix").dataset.repeats);

function showStrip(letters, variant) {
  const { children } = board().querySelector(`.strip .marks[data-variant="${variant + 1}"]`);
  [...letters].forEach((letter, place) => showMark(children[place], letter));
}

/** Give a square another meaning, and count it there. */
function showMark(square, letter) {
  if (square.className === letter) return;
  count(square.className, -1);
  count(letter, 1);
  square.className = letter;
  if (square === stop()) describe(square);
}

function count(letter, by) {
  const shown = board().querySelector(`[data-count="${letter}"]`);
  if (!shown) return;
  shown.number = (shown.number ?? Number(shown.textContent.replace(/\D/g, ""))) + by;
  shown.textContent = shown.number.toLocaleString(document.documentElement.lang);
}

/* Changing what is shown. */

/** Show these parts of a page in the place of ours; what had the focus has it again. */
async function load(url, ids) {
  const response = await fetch(url, { headers: { Accept: "text/html" } });
  if (!response.ok) return location.assign(url);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const focused = document.activeElement;
  const wasInState = state().contains(focused);
  const wasSquare = focused?.matches(SQUARE);
  const scrolled = document.getElementById("grid")?.scrollLeft ?? 0;
  for (const id of ids) document.getElementById(id)?.replaceWith(page.getElementById(id));
  prepare();
  document.getElementById("grid").scrollLeft = scrolled;
  if (focused?.isConnected) return;
  const next = wasSquare ? stop() : document.getElementById(focused.id) ?? (wasInState && state().querySelector("button"));
  (next || document.getElementById("grid")).focus({ preventScroll: true });
}

/** Lay the answers out otherwise; the address says how, so that it can be kept. */
async function swap(url) {
  following.abort();
  await load(url, ["board"]);
  const address = new URL(url);
  address.hash = "";
  history.replaceState(null, "", address);
  for (const next of document.querySelectorAll('input[name="next"]')) next.value = address.pathname + address.search;
  follow();
}

async function showEvidence() {
  const place = document.getElementById("evidence");
  if (!place) return;
  const verdict = document.getElementById("verdict");
  const response = await fetch(place.dataset.src, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return;
  const found = new DOMParser().parseFromString(await response.text(), "text/html");
  // What was found before a run began comes too late once the run's own page has taken the place of this one.
  if (!found.querySelector(".findings") || !verdict.isConnected) return;
  // What was found stands above the answers, what it rests on below them.
  verdict.replaceChildren(found.querySelector(".said") ?? "");
  place.replaceChildren(...found.body.childNodes);
  place.hidden = false;
}

/** Do what a form says, and show what came of it. */
async function act(form) {
  try {
    await post(form.action, new FormData(form));
    await load(location.href, ["state", "vote-blind", "verdict", "board"]);
    follow();
  } catch (error) {
    tell(error.message);
  }
}

function tell(message) {
  state().querySelector(".problem")?.remove();
  const paragraph = Object.assign(document.createElement("p"), { className: "problem", textContent: message });
  paragraph.setAttribute("role", "alert");
  state().append(paragraph);
}

function parse(html) {
  const piece = document.createElement("template");
  piece.innerHTML = html;
  return piece.content.firstElementChild;
}

function unfold(button) {
  const isOpen = button.previousElementSibling.classList.toggle("open");
  const { less } = button.dataset;
  button.dataset.less = button.textContent;
  button.textContent = less;
  button.setAttribute("aria-expanded", String(isOpen));
}

/* Long answers that scroll in step. */

const isInStep = () => document.getElementById("in-step")?.checked ?? false;

/** Let the keyboard scroll what is longer than its place, or may be so with the next words. */
function reach(root) {
  for (const fold of root.querySelectorAll(".fold")) {
    const isLong = fold.matches(".live") || fold.scrollHeight > fold.clientHeight;
    if (isInStep() && isLong) fold.tabIndex = 0;
    else fold.removeAttribute("tabindex");
  }
}

function stepOrNot() {
  board().classList.toggle("in-step", isInStep());
  reach(board());
}

/** The other answers of a row go as far down, each in proportion to its length. */
function scrollRow({ target }) {
  if (!isInStep() || !target.matches?.(".fold") || target !== scrolling(target)) return;
  const share = target.scrollTop / (target.scrollHeight - target.clientHeight || 1);
  for (const fold of target.closest("tr").querySelectorAll(".fold")) {
    if (fold !== target) fold.scrollTop = share * (fold.scrollHeight - fold.clientHeight);
  }
}

/** The one that the reader scrolls; the others only follow, and their own events must not lead. */
const scrolling = (fold) => fold.closest("tr").querySelector(".fold:hover, .fold:focus") ?? fold;

/* Listening. */

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-act]") || !board()) return;
  event.preventDefault();
  act(event.target);
});

document.addEventListener("click", (event) => {
  closeMenus(event.target);
  const link = event.target.closest("a[data-swap]");
  const isPlain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  if (link && isPlain) {
    event.preventDefault();
    swap(link.href);
  }
  if (event.target.matches(".unfold")) unfold(event.target);
  const square = event.target.closest(SQUARE);
  if (square && leads(square)) open(square);
});

document.addEventListener("pointerover", ({ target }) => {
  if (target.matches?.(SQUARE) && !target.title) target.title = whereIs(target);
});

/* Squares: one of them is where the keyboard stops, and the arrow keys lead on from there. */

/** The input and the repeat of a square, from 1. */
function placeOf(square) {
  const place = [...square.parentElement.children].indexOf(square);
  return [Math.floor(place / repeats()) + 1, (place % repeats()) + 1];
}

/** The key of a square's cell, as addresses have it. */
const keyOf = (square) => [square.parentElement.dataset.variant, ...placeOf(square)].join("-");

/** Go to the page of a square's cell. The address that one comes back to says which one it was. */
function open(square) {
  const { cells, kept } = board().dataset;
  history.replaceState(null, "", `#answer-${keyOf(square)}-1`);
  location.assign(`${cells}${keyOf(square)}${kept}`);
}

/** Whoever comes back from a cell goes on from its square. */
function comeBack() {
  const [, variant, input, repeat] = /^#answer-(\d+)-(\d+)-(\d+)-/.exec(location.hash) ?? [];
  const strip = variant && board().querySelector(`.strip .marks[data-variant="${variant}"]`);
  const square = strip?.children[(input - 1) * repeats() + Number(repeat) - 1];
  if (!square) return;
  stopAt(square);
  square.focus();
}

/** Whether there is anything behind a square yet. */
const leads = (square) => !"wn".includes(square.className);

/** Of which cell a square is, in words. */
function whereIs(square) {
  const [number, repeat] = placeOf(square);
  const variant = square.closest(".strip").querySelector("h3").textContent;
  const words = { variant, number, repeat };
  return square.closest(".matrix").dataset.title.replace(/\{(\w+)\}/g, (_, name) => words[name]);
}

/** The square where the keyboard stops. */
const stop = () => board().querySelector(`${SQUARE}[tabindex]`);

/** Let the keyboard stop at a square, and no longer where it did. */
function stopAt(square) {
  for (const name of ["tabindex", "role", "aria-label", "aria-disabled"]) stop()?.removeAttribute(name);
  square.tabIndex = 0;
  square.setAttribute("role", "link");
  describe(square);
  stopped = { variant: square.parentElement.dataset.variant, place: [...square.parentElement.children].indexOf(square) };
}

/** Say what a square shows. */
function describe(square) {
  const matrix = square.closest(".matrix");
  const state = matrix.querySelector(`[data-state-of="${square.className}"]`)?.textContent ?? matrix.dataset.nothing;
  const said = { where: whereIs(square), state };
  square.setAttribute("aria-label", matrix.dataset.said.replace(/\{(where|state)\}/g, (_, name) => said[name]));
  square.setAttribute("aria-disabled", String(!leads(square)));
}

/** The square that a key leads to from another one. */
function beyond(square, key) {
  const strips = [...board().querySelectorAll(".strip .marks")];
  const at = strips.indexOf(square.parentElement);
  const { children } = strips[at];
  const place = [...children].indexOf(square);
  const broken = [...children].findIndex((each) => each.offsetTop > children[0].offsetTop);
  const columns = broken < 0 ? children.length : broken;
  const last = children.length - 1;
  const lastRow = (row) => row.length - 1 - ((row.length - 1) % columns);
  const above = strips[at - 1]?.children;
  switch (key) {
    case "ArrowLeft": return children[place - 1];
    case "ArrowRight": return children[place + 1];
    case "ArrowUp": return children[place - columns] ?? above?.[Math.min(lastRow(above) + place, above.length - 1)];
    case "ArrowDown": return place < lastRow(children) ? children[Math.min(place + columns, last)] : strips[at + 1]?.children[place % columns];
    case "PageUp": return strips[at - 1]?.children[place];
    case "PageDown": return strips[at + 1]?.children[place];
    case "Home": return children[0];
    case "End": return children[last];
    default: return undefined;
  }
}

/** Go on from the square that has the focus, as a key says. */
function goOn(square, event) {
  if (event.key === "Enter" && leads(square)) return open(square);
  const next = beyond(square, event.key);
  if (next) {
    stopAt(next);
    next.focus();
  }
  // The page must not scroll away below the last square.
  if (next || event.key.startsWith("Arrow")) event.preventDefault();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || isComposing(event)) return;
  if (event.key === "Escape") return closeMenus(null);
  if (event.target.matches?.(SQUARE)) return goOn(event.target, event);
  // Arrow keys also scroll and choose; they lead to other cells only where they would do neither.
  if (!event.key.startsWith("Arrow") || event.target.closest("input, textarea, select, [tabindex='0']")) return;
  const link = document.querySelector(`[data-key="${event.key}"]`);
  if (!link) return;
  event.preventDefault();
  location.assign(link.href);
});

function closeMenus(target) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu.contains(target)) continue;
    menu.open = false;
    if (!target) menu.querySelector("summary").focus();
  }
}

/** What the board needs each time that it is put on the page. */
function prepare() {
  prepareSquares();
  const box = document.getElementById("in-step");
  if (!box) return;
  box.checked = sessionStorage.getItem(IN_STEP) === "yes";
  box.addEventListener("change", () => {
    sessionStorage.setItem(IN_STEP, box.checked ? "yes" : "no");
    stepOrNot();
  });
  stepOrNot();
}

function prepareSquares() {
  const strips = [...board().querySelectorAll(".strip .marks")];
  if (!strips.length) return;
  // As long as nothing in it can be reached, all of a strip is one picture.
  for (const strip of strips) strip.setAttribute("role", "group");
  const strip = strips.find(({ dataset }) => dataset.variant === stopped.variant) ?? strips[0];
  stopAt(strip.children[stopped.place] ?? strip.children[0]);
}

document.addEventListener("scroll", scrollRow, { capture: true, passive: true });
if (board()) {
  prepare();
  comeBack();
  showEvidence();
  follow();
  setInterval(look, LOOK_MS);
  document.addEventListener("visibilitychange", look);
}
