// The gallery answers while one types: the server finds, this shows.
import { announce, isComposing, post } from "./page.js";
import { Choice } from "./choice.js";

const form = document.getElementById("ask");
const field = document.getElementById("q");
const hint = document.getElementById("ask-hint");
const idle = hint.textContent;
let pending = new AbortController();
let timer = 0;
const choice = new Choice({ most: 8 });

const firstLink = () => document.querySelector("#results .persona a");

async function find() {
  // A description of several lines, or of a page, is nothing to look for.
  if (field.value.includes("\n") || field.value.length > 300) return describe();
  const address = new URL(form.action);
  for (const [name, value] of new FormData(form)) if (value) address.searchParams.set(name, value);
  if (await load(address)) tell();
}

/** Show what the gallery has at an address. False if something else was asked for meanwhile. */
async function load(address) {
  pending.abort();
  pending = new AbortController();
  try {
    const response = await fetch(address, { signal: pending.signal, headers: { Accept: "text/html" } });
    if (!response.ok) return false;
    const found = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("results");
    document.getElementById("results").replaceWith(found);
    history.replaceState(null, "", address);
    choice.show();
    return true;
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return false;
  }
}

/** Say below the line what Enter would do, or what is wrong. */
function say(text, isWrong = false) {
  hint.textContent = text;
  hint.classList.toggle("error", isWrong);
  field.setAttribute("aria-invalid", String(isWrong));
}

/** What is written is a role of one's own, whatever the gallery shows. */
function describe() {
  pending.abort();
  say(hint.dataset.describe);
}

/** Say what Enter would do now. */
function tell() {
  const first = firstLink();
  if (!field.value.trim() || choice.isOn) say(idle);
  else say(first ? hint.dataset.open.replace("{name}", first.textContent) : hint.dataset.start);
  announce(document.getElementById("found").textContent);
}

async function start() {
  try {
    const { url } = await post("/sessions", { system: field.value });
    location.assign(url);
  } catch (error) {
    say(error.message, true);
    announce(error.message);
    field.focus();
  }
}

field.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(find, 120);
});
field.addEventListener("keydown", async (event) => {
  if (isComposing(event)) return;
  if (event.key === "Escape" && field.value) {
    field.value = "";
    find();
  }
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    if (!field.value.trim()) return;
    clearTimeout(timer);
    await find();
    const isDescribed = hint.textContent === hint.dataset.describe;
    const first = isDescribed ? null : firstLink();
    if (first && choice.isOn) choice.focus();
    else if (first) location.assign(first.href);
    else start();
  }
});
// While several are chosen, filters and pages come without leaving this one, so that the choice stays.
document.addEventListener("click", (event) => {
  const link = event.target.closest("#results :is(.filters, .pages) a");
  if (!link || !choice.isOn || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  load(new URL(link.href)).then(() => {
    const { searchParams } = new URL(link.href);
    for (const name of ["tag", "language"]) remember(name, searchParams.get(name) ?? "");
    const same = [...document.querySelectorAll("#results :is(.filters, .pages) a")].find((other) => other.href === link.href);
    (same ?? document.getElementById("choosing")).focus();
    announce(document.getElementById("found").textContent);
  });
});

/** Let the next search keep to a filter. */
function remember(name, value) {
  const field = form.elements[name] ?? form.appendChild(Object.assign(document.createElement("input"), { type: "hidden", name }));
  field.value = value;
}

form.addEventListener("submit", (event) => {
  if (event.submitter?.formMethod !== "post") return;
  event.preventDefault();
  start();
});
