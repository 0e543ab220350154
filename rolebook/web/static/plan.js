// The plan of a comparison: its buttons work without leaving the page, and what it would take follows the form.
import { announce, failure } from "./page.js";

const form = document.getElementById("plan");
let pending = new AbortController();
let timer = 0;

const region = () => document.getElementById("consequence");
const parse = (html) => new DOMParser().parseFromString(html, "text/html");

/** The form's texts; files go only where they are read. */
const texts = () => Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string"));

async function show() {
  pending.abort();
  pending = new AbortController();
  const waiting = setTimeout(() => region().classList.add("waiting"), 300);
  try {
    const response = await fetch(form.dataset.preview, {
      method: "POST",
      signal: pending.signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(texts()),
    });
    if (response.ok) replaceRegion(parse(await response.text()));
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    clearTimeout(waiting);
    region().classList.remove("waiting");
  }
}

function replaceRegion(page) {
  const fresh = page.getElementById("consequence");
  document.getElementById("sum").replaceWith(page.getElementById("sum"));
  const focused = region().contains(document.activeElement) ? document.activeElement.id : "";
  const top = region().scrollTop;
  keepOpen(region(), fresh);
  region().replaceWith(fresh);
  region().scrollTop = top;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

/** What somebody has opened or closed stays so when its surroundings come anew. */
function keepOpen(old, fresh) {
  for (const details of old.querySelectorAll("details[id]")) {
    const same = fresh.querySelector(`details[id="${details.id}"]`);
    if (same && !same.querySelector("[aria-invalid], [autofocus]")) same.open = details.open;
  }
}

/** Press one of the form's buttons without leaving the page; `next` is the id of what has the focus afterwards. */
async function press(button, next = "") {
  clearTimeout(timer);
  pending.abort();
  const body = new FormData(form, button);
  form.inert = true;
  try {
    const response = await fetch(button ? (button.getAttribute("formaction") ?? form.action) : form.dataset.edit, { method: "POST", body, headers: { Accept: "text/html" } });
    if (response.redirected) return location.assign(response.url);
    const fresh = parse(await response.text()).getElementById("plan");
    if (!fresh) throw failure(response, {});
    keepOpen(form, fresh);
    form.replaceChildren(...fresh.childNodes);
    form.inert = false;
    settle(next);
  } catch (error) {
    form.inert = false;
    complain(error.message);
  }
}

/** Go on where the server says, or at what is wrong. */
function settle(next) {
  const wrong = form.querySelector("[aria-invalid='true']");
  const target = wrong ?? document.getElementById(next) ?? form.querySelector("[autofocus]");
  for (const details of target ? ancestors(target, "details") : []) details.open = true;
  target?.focus();
  const problem = document.getElementById("plan-error");
  if (!problem.hidden) announce(problem.textContent);
}

function* ancestors(element, selector) {
  for (let found = element.closest(selector); found; found = found.parentElement.closest(selector)) yield found;
}

function complain(message) {
  const problem = document.getElementById("plan-error");
  problem.textContent = message;
  problem.hidden = false;
  announce(message);
}

form.addEventListener("submit", (event) => {
  if (event.submitter?.hasAttribute("data-leaves")) return;
  event.preventDefault();
  press(event.submitter);
});
form.addEventListener("input", ({ target }) => {
  target.removeAttribute("aria-invalid");
  clearTimeout(timer);
  if (!target.hasAttribute("data-redraw") && target.type !== "file") timer = setTimeout(show, 250);
});
form.addEventListener("change", ({ target }) => {
  if (target.hasAttribute("data-redraw")) press(null, target.id);
  if (target.type === "file" && target.files.length) press(target.closest(".with-button").querySelector("button"));
});
