// The gallery answers while one types: the server finds, this shows.
import { announce, isComposing, post } from "./page.js";

const form = document.getElementById("ask");
const field = document.getElementById("q");
const hint = document.getElementById("ask-hint");
const idle = hint.textContent;
let pending = new AbortController();
let timer = 0;

const firstLink = () => document.querySelector("#results .persona a");

async function find() {
  // A description of several lines, or of a page, is nothing to look for.
  if (field.value.includes("\n") || field.value.length > 300) return describe();
  pending.abort();
  pending = new AbortController();
  const address = new URL(form.action);
  for (const [name, value] of new FormData(form)) if (value) address.searchParams.set(name, value);
  try {
    const response = await fetch(address, { signal: pending.signal, headers: { Accept: "text/html" } });
    if (!response.ok) return;
    const found = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("results");
    document.getElementById("results").replaceWith(found);
    history.replaceState(null, "", address);
    tell();
  } catch (error) {
    if (error.name !== "AbortError") throw error;
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
  if (!field.value.trim()) say(idle);
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
    if (first) location.assign(first.href);
    else start();
  }
});
form.addEventListener("submit", (event) => {
  if (event.submitter?.formMethod !== "post") return;
  event.preventDefault();
  start();
});
