// A persona as a form: what the fields make stands beside them while one fills them in.
import { announce, isComposing } from "./page.js";
import { Unsaved } from "./unsaved.js";
import { Tabs } from "./tabs.js";

const LOOK_MS = 250;
const form = document.getElementById("fields");
const told = document.getElementById("saved");
/** What is filled in, as it was when the page came; compared to know whether there is something to save. */
let untouched = filledIn();
const unsaved = await Unsaved.open(form.dataset.key);
const tabs = new Tabs(document.getElementById("tabs"));
let isLeaving = false;
let isSaving = false;
let pending = new AbortController();
let timer = 0;

/** Everything that becomes part of the file, in one text. */
function filledIn() {
  return JSON.stringify([...new FormData(form)].filter(([name]) => name.startsWith("f-")));
}

const isChanged = () => filledIn() !== untouched;

function lookSoon() {
  clearTimeout(timer);
  timer = setTimeout(look, LOOK_MS);
}

/** Ask what the fields make; `step` adds, removes or moves a row first. */
async function look(step = "") {
  clearTimeout(timer);
  pending.abort();
  pending = new AbortController();
  const { signal } = pending;
  const fields = Object.fromEntries(new FormData(form));
  if (step) fields.do = step;
  try {
    const response = await fetch(form.dataset.look, {
      method: "POST",
      signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(fields),
    });
    const seen = await response.json();
    if (!response.ok) throw new Error(seen.error.message);
    show(seen, step);
    return true;
  } catch (error) {
    if (error.name !== "AbortError") document.getElementById("trouble").textContent = error.message;
    return false;
  }
}

function show(seen, step) {
  const fresh = new DOMParser().parseFromString(seen.html, "text/html");
  const put = (id) => document.getElementById(id).replaceWith(fresh.getElementById(id));
  for (const id of ["trouble", "problems", "problem-count", "yaml", "elsewhere"]) put(id);
  // The last good preview stays, and says that it is not of the form as it stands.
  if (seen.hasPreview) put("preview");
  document.getElementById("preview").classList.toggle("stale", !seen.hasPreview);
  const shape = document.getElementById("variables").dataset.shape;
  if (seen.hasPreview && fresh.getElementById("variables").dataset.shape !== shape) put("variables");
  if (step.includes("examples")) put("examples");
  if (step.includes("variables")) put("fields-variables");
  showMistakes(seen.mistakes);
  if (isChanged()) unsaved.keep({ text: seen.text, etag: form.elements.etag.value });
  else unsaved.drop();
  // What was asked for before may come after it was sent.
  if (isSaving) unsaved.send();
  tell();
}

function showMistakes(mistakes) {
  for (const place of form.querySelectorAll("[data-error]")) {
    const said = mistakes[place.dataset.error] ?? "";
    place.textContent = said;
    place.hidden = !said;
    const field = document.getElementById(`f-${place.dataset.error}`);
    if (said) field?.setAttribute("aria-invalid", "true");
    else field?.removeAttribute("aria-invalid");
  }
}

function tell() {
  told.textContent = isChanged() ? told.dataset.changed : "";
}

/* Rows. */
async function take(button) {
  const step = button.value;
  const [verb, part, number] = step.split("-");
  if (!(await look(step))) return;
  const rows = document.getElementById(part === "examples" ? "examples" : "fields-variables");
  const entries = rows.querySelectorAll(".entry");
  const index = { add: entries.length - 1, up: Number(number) - 1, down: Number(number) + 1, remove: Number(number) }[verb];
  const entry = entries[Math.min(index, entries.length - 1)];
  const target = entry?.querySelector(verb === "add" ? "textarea, input:not([type=hidden])" : `[value^="${verb}-"]`) ?? entry?.querySelector(".moves button");
  (target ?? rows.querySelector("button")).focus();
  if (entry) announce(entry.querySelector("legend").textContent);
}

/* Sliders. */
function slide(range) {
  const field = document.getElementById(range.dataset.for);
  field.value = range.value;
  mark(field);
}

function mark(field) {
  const range = form.querySelector(`[data-for="${field.id}"]`);
  if (!range) return;
  const isSet = field.value.trim() !== "";
  range.toggleAttribute("data-unset", !isSet);
  range.value = isSet ? field.value : range.dataset.usual;
  form.querySelector(`[data-clear="${field.id}"]`).hidden = !isSet;
}

form.addEventListener("input", (event) => {
  const { target } = event;
  if (target.dataset.for) slide(target);
  else mark(target);
  if (target.name?.endsWith("-type")) target.closest(".variable").dataset.type = target.value;
  if (!isComposing(event)) lookSoon();
});
form.addEventListener("change", lookSoon);
form.addEventListener("click", (event) => {
  const name = event.target.closest("[data-clear]")?.dataset.clear;
  if (!name) return;
  const field = document.getElementById(name);
  field.value = "";
  mark(field);
  field.focus();
  lookSoon();
});
form.addEventListener("submit", (event) => {
  const { submitter } = event;
  if (submitter?.hasAttribute("data-step")) {
    event.preventDefault();
    take(submitter);
  } else if (submitter?.id === "save" || submitter?.hasAttribute("data-leaves")) {
    isLeaving = true;
    isSaving = submitter.id === "save";
    if (isSaving) unsaved.send();
  } else {
    event.preventDefault();
    look();
  }
});
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
  event.preventDefault();
  form.requestSubmit(document.getElementById("save"));
});
addEventListener("beforeunload", (event) => {
  if (isChanged() && !isLeaving) event.preventDefault();
});

/* From the preview and the problems to the line of the file. */
document.addEventListener("click", (event) => {
  const target = event.target.closest(".beside [data-line]");
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey || getSelection().toString()) return;
  event.preventDefault();
  tabs.show(document.querySelector("#tabs [href='#beside-yaml']"));
  for (const line of document.querySelectorAll("#yaml .here")) line.classList.remove("here");
  const line = document.getElementById(`line-${target.dataset.line}`);
  line?.classList.add("here");
  line?.scrollIntoView({ block: "nearest" });
});

const banner = document.getElementById("unsaved");
let offered = null;

/** Text that was left unsaved, here or in the view as text, can be gone on with. Nothing replaces it until it is decided. */
function offer(kept) {
  while (kept && kept.text === form.elements.text.value) kept = kept.before;
  offered = kept ?? null;
  unsaved.hold(offered);
  banner.hidden = !offered;
  if (!offered) return;
  const when = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" }).format(kept.at);
  document.getElementById("unsaved-said").textContent = banner.dataset.said.replace("{time}", when);
}

document.getElementById("take-up").addEventListener("click", () => {
  isLeaving = true;
  for (const field of [...form.elements]) if (field.name.startsWith("f-")) field.disabled = true;
  form.elements.text.value = offered.text;
  form.elements.etag.value = offered.etag;
  form.submit();
});
document.getElementById("drop").addEventListener("click", () => {
  offer(offered.before);
  if (isChanged()) look();
  else unsaved.drop();
});

const left = unsaved.read();
if ("saved" in form.dataset) unsaved.drop();
else offer("dirty" in form.dataset && left?.isSent ? left.before : left);
if ("dirty" in form.dataset) untouched = "";
tell();
document.querySelector("[aria-invalid]")?.focus();
