// A session, live: what is said goes out without leaving the page, and the answer appears as it comes.
import { announce, failure, isComposing, post } from "./page.js";
import { readEvents } from "./sse.js";
import "./copying.js";

const dialogue = document.getElementById("dialogue");
const composer = document.getElementById("composer");
const input = document.getElementById("input");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
const POLL_MS = 1500;
const JUDGING_POLL_MS = 2500;
/** A judge that has not answered by then is not waited for on this page. */
const MOST_JUDGING_POLLS = 120;

/** The turn that is being answered on this page: its abort controller, and its id as soon as that is known. */
let running = null;

/* Asking. */

/** Ask, and show the answer where it belongs. What was written goes back into `field` if nothing came of it. */
async function ask(fields, field) {
  document.getElementById("beginning")?.remove();
  document.getElementById("error")?.remove();
  for (const old of dialogue.querySelectorAll(".problem.passing")) old.remove();
  const words = fields.get("input");
  const live = openAnswer(fields.get("position"), words);
  begin(new AbortController());
  toBottom();
  announce(composer.dataset.answering);
  try {
    const response = await fetch(composer.action, {
      method: "POST",
      body: new URLSearchParams([...fields]),
      signal: running.controller.signal,
      headers: { Accept: "text/event-stream" },
    });
    if (!response.ok) return await refused(live, response, words, field);
    const end = await follow(response.body, live);
    if (!end) live.tell(composer.dataset.broken);
    else if (end.error) await fail(live, end.error.message);
    else finish(live, end);
  } catch (error) {
    if (live.hasBegun) live.tell(composer.dataset.broken);
    else giveUp(live, composer.dataset.unreachable, words, field);
  } finally {
    settle(live);
  }
}

/** Show the events of a stream as they come; returns the data of the last one, or null if it never came. */
async function follow(body, live) {
  for await (const { name, data } of readEvents(body)) {
    const wasAtBottom = isAtBottom();
    if (name === "turn") {
      live.hasBegun = true;
      running.id = data.id;
      if (running.isStopping) halt();
    } else if (name === "delta") {
      live.add(data);
    } else if (name === "end" || name === "error") {
      return data;
    }
    if (wasAtBottom) toBottom();
  }
  return null;
}

/** No stream began. If the log has a turn of it all the same, that is shown; otherwise nothing was asked. */
async function refused(live, response, words, field) {
  const { message } = failure(response, await response.json().catch(() => ({})));
  running.id = response.headers.get("X-Rolebook-Turn") ?? "";
  return running.id ? fail(live, message) : giveUp(live, message, words, field);
}

/** Show a turn that failed as the log has it. */
async function fail(live, message) {
  try {
    finish(live, await lookUp(`/turns/${running.id}`), message);
  } catch {
    live.tell(message);
  }
}

function finish(live, pieces, message = "") {
  const wasAtBottom = isAtBottom();
  live.section = replaceSection(live.section, pieces);
  const answers = live.section.querySelectorAll(".answer");
  const said = answers[answers.length - 1].querySelector(".said");
  announce(message || said.innerText);
  if (wasAtBottom) toBottom();
}

function giveUp(live, message, words, field) {
  live.remove();
  if (field && !field.value) {
    field.value = words;
    grow(field);
  }
  composer.before(problem(message));
  announce(message);
}

function begin(controller) {
  running = { controller, id: "", isStopping: false };
  offer();
}

function settle(live) {
  const hadFocus = isNowhere(document.activeElement) || document.activeElement === stop;
  live.section?.classList.remove("live");
  running = null;
  offer();
  if (hadFocus) input.focus({ preventScroll: true });
}

/** The answer on this page that is on its way from elsewhere: begun in another tab, or before the page was loaded again. */
function awaited() {
  return dialogue.querySelector('.answer[data-status="pending"]');
}

/** Offer to stop while an answer is on its way, and to send otherwise. */
function offer() {
  if (!composer) return;
  const isAnswering = running !== null || awaited() !== null;
  const hadFocus = document.activeElement === stop;
  send.hidden = isAnswering;
  stop.hidden = !isAnswering;
  if (hadFocus && !isAnswering) input.focus({ preventScroll: true });
}

/** Stop the turn; before its id is known, as soon as it is. */
function halt() {
  if (running) running.isStopping = true;
  const id = running ? running.id : awaited()?.dataset.turn;
  if (id) post(`/turns/${id}/stop`, {}).catch((error) => announce(error.message));
}

/* Showing. */

/** A place for an answer that is to come: at the end, or beside the others at a position. */
function openAnswer(position, words) {
  const answer = clone("answering");
  let section = position ? document.getElementById(`turn-${position}`) : null;
  const isNew = section === null;
  if (isNew) {
    section = clone("asking");
    section.querySelector(".words").textContent = words;
    dialogue.append(section);
    entitle(words);
  } else {
    section.querySelector(".answers").classList.add("several");
    [...section.querySelectorAll(".answer"), answer].forEach(number);
    const isSame = section.querySelector(".asked .words")?.textContent === written(words);
    Object.assign(answer.querySelector(".words"), { textContent: words, hidden: isSame });
  }
  section.querySelector(".answers").append(answer);
  const said = answer.querySelector(".said");
  const choices = [];
  const choice = (index) => {
    said.querySelector(".waiting")?.remove();
    while (choices.length <= index) said.append(choices[choices.push(clone("choice")) - 1]);
    said.classList.toggle("many", choices.length > 1);
    return choices[index];
  };
  return {
    section,
    hasBegun: false,
    add({ index, kind, text }) {
      const reasoning = choice(index).querySelector(".reasoning");
      if (kind === "reasoning") reasoning.hidden = false;
      const place = kind === "reasoning" ? reasoning.querySelector(".stream") : reasoning.nextElementSibling;
      place.append(written(text));
    },
    tell(message) {
      said.querySelector(".waiting")?.remove();
      answer.append(problem(message));
      announce(message);
    },
    remove() {
      (isNew ? section : answer).remove();
      if (isNew || section.querySelectorAll(".answer").length > 1) return;
      section.querySelector(".answers").classList.remove("several");
      section.querySelector(".choosing").remove();
    },
  };
}

/** Head an answer that has others beside it, as the server does. */
function number(answer, index) {
  if (answer.querySelector(".choosing")) return;
  const heading = clone("numbered");
  heading.firstElementChild.textContent = composer.dataset.numbered.replace("{number}", index + 1);
  answer.prepend(heading);
}

/** A session without a title goes by how it began. */
function entitle(words) {
  const heading = document.getElementById("heading");
  if (!("untitled" in heading.dataset)) return;
  delete heading.dataset.untitled;
  const line = words.trim().replace(/\s+/g, " ");
  heading.textContent = written(line.length > 70 ? `${line.slice(0, 70)}…` : line);
  document.title = [heading.textContent, ...document.title.split(" · ").slice(1)].join(" · ");
}

/** Text with its invisible characters written out, as the server does for the finished answer. */
function written(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

function problem(message) {
  const paragraph = Object.assign(document.createElement("p"), { className: "problem passing", textContent: message });
  paragraph.setAttribute("role", "alert");
  return paragraph;
}

/** Put the server's version of a position, and of the sums above, in the place of those on the page. */
function replaceSection(section, { html, sums }) {
  const fresh = parse(html);
  section.replaceWith(fresh);
  document.getElementById("sums").replaceWith(parse(sums));
  watch(fresh);
  reach(fresh);
  offer();
  return fresh;
}

function parse(html) {
  const piece = document.createElement("template");
  piece.innerHTML = html;
  return piece.content.firstElementChild;
}

/** Let the keyboard scroll the tables that are wider than their place. */
function reach(root) {
  for (const table of root.querySelectorAll(".prose table")) if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
}

/** Look again at turns that are answered elsewhere, until they have ended. */
function watch(root) {
  for (const answer of root.querySelectorAll('.answer[data-status="pending"]')) setTimeout(lookAgain, POLL_MS, answer);
  watchJudges(root);
}

async function lookAgain(answer) {
  const section = answer.closest("section");
  if (!answer.isConnected || document.hidden) return setTimeout(lookAgain, POLL_MS, answer);
  try {
    const found = await lookUp(answer.dataset.url);
    if (found.turn.status !== "pending") return replaceSection(section, found);
  } catch {
    // Rolebook may be restarting; the next look will tell.
  }
  return setTimeout(lookAgain, POLL_MS, answer);
}

/** Put the server's version of some pieces, by their ids, in the place of those on the page. */
function swap(ids, { html }) {
  const fresh = parse(html);
  for (const id of ids) {
    const [old, piece] = [document.getElementById(id), fresh.querySelector(`#${id}`)];
    if (!old || !piece) continue;
    const opened = old.matches("details") ? null : old.querySelector("details[open]");
    old.replaceWith(piece);
    if (opened) piece.querySelector("details")?.setAttribute("open", "");
  }
  watchJudges(document);
}

/** Look again at answers that are being judged, until that is done. */
function watchJudges(root) {
  for (const noted of root.querySelectorAll("[data-judging]:not([data-watched])")) {
    noted.dataset.watched = "";
    setTimeout(lookAtJudges, JUDGING_POLL_MS, noted, 1);
  }
}

async function lookAtJudges(noted, times) {
  if (!noted.isConnected || times > MOST_JUDGING_POLLS) return;
  try {
    const found = document.hidden ? null : await lookUp(noted.closest(".answer").dataset.url);
    if (found && !parse(found.html).querySelector(`#${noted.id}[data-judging]`)) {
      swap([noted.id], found);
      const told = document.querySelector(`#${noted.id} .checks-line`).firstElementChild;
      return announce((told.querySelector("summary") ?? told).innerText);
    }
  } catch {
    // Rolebook may be restarting; the next look will tell.
  }
  setTimeout(lookAtJudges, JUDGING_POLL_MS, noted, times + 1);
}

/** A turn as the log has it now, with the piece of the page that shows it. */
async function lookUp(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" } });
  if (!response.ok) throw failure(response, {});
  return response.json();
}

function isAtBottom() {
  const { scrollHeight } = document.documentElement;
  return window.scrollY + window.innerHeight >= scrollHeight - 80;
}

function toBottom() {
  window.scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}

/** Let a field grow with its text where the browser does not do so itself. */
function grow(field) {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}

/* Listening. */

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-ask]")) {
    event.preventDefault();
    const fields = new FormData(form, event.submitter);
    if (running || awaited() || !fields.get("input")?.trim()) return;
    const field = form.querySelector("textarea");
    if (form === composer) {
      field.value = "";
      grow(field);
    }
    ask(fields, field);
  } else if (form.matches("[data-swap]")) {
    event.preventDefault();
    note(form, event.submitter);
  } else if (form.matches("[data-replace]")) {
    event.preventDefault();
    post(form.action, new FormData(form))
      .then((pieces) => replaceSection(form.closest("section"), pieces).focus({ preventScroll: true }))
      .catch((error) => form.append(problem(error.message)));
  }
});

/**
 * Send a mark, or run the checks. Whoever is still on the button stays on it, or where it has gone to;
 * whoever has gone on meanwhile, to write a note perhaps, is not called back.
 */
async function note(form, submitter) {
  const summary = form.closest("details")?.querySelector("summary");
  const ids = form.dataset.swap.split(" ");
  try {
    swap(ids, await post(form.action, new FormData(form, submitter)));
    if (!isNowhere(document.activeElement)) return;
    const pressed = document.getElementById(submitter?.id || "none");
    (pressed ?? (summary && document.getElementById(ids.at(-1)).querySelector("summary")))?.focus({ preventScroll: true });
  } catch (error) {
    form.querySelector(".problem")?.remove();
    form.append(problem(error.message));
  }
}

/** Whether the focus is on nothing, as it is when what had it has left the page. */
function isNowhere(element) {
  return element === null || element === document.body;
}

document.addEventListener("keydown", (event) => {
  // While an input method composes, its keys belong to it.
  if (isComposing(event)) return;
  if (event.key === "Escape") return escape(event.target);
  const field = event.target.closest("form[data-ask] textarea");
  if (!field || event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  if (!running) field.form.requestSubmit();
});

/** Close a menu; if none is open, stop the answer that is on its way; if none is, leave the edit. */
function escape(target) {
  const menu = document.querySelector("details.menu[open]");
  if (!menu && (running || awaited())) return halt();
  const open = menu ?? target.closest("details.edit[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
}

// Whoever opens the edit means to write.
document.addEventListener("toggle", ({ target }) => {
  if (!target.matches("details.edit[open]")) return;
  const field = target.querySelector("textarea, input:not([type=hidden])");
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
  // A field that gets the focus is brought where its caret is seen, which is under the composer.
  field.form.scrollIntoView({ block: "nearest" });
}, true);

document.addEventListener("click", (event) => closeMenus(event.target));

function closeMenus(target) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
}

stop?.addEventListener("click", halt);
input?.addEventListener("input", () => grow(input));
watch(document);
reach(document);
offer();
if (composer) {
  new ResizeObserver(() => {
    composer.parentElement.style.setProperty("--composer", `${composer.offsetHeight}px`);
  }).observe(composer);
}

const key = `start:${location.pathname}`;
const first = sessionStorage.getItem(key);
sessionStorage.removeItem(key);
if (first && composer && !dialogue.querySelector("section.turn")) {
  const fields = new FormData();
  fields.set("input", first);
  ask(fields, input);
}
