// The page of a persona: the preview follows the form, and Start goes to the session before the model is asked.
import { announce, isComposing, post } from "./page.js";

const form = document.getElementById("start");
const input = document.getElementById("input");
const problem = document.getElementById("start-error");
const said = document.getElementById("models-said");
let pending = new AbortController();
let timer = 0;

const mark = (isWaiting) => document.getElementById("preview").classList.toggle("waiting", isWaiting);

function replace(fragment) {
  const fresh = new DOMParser().parseFromString(fragment, "text/html");
  for (const id of ["greeting", "preview"]) document.getElementById(id).replaceWith(fresh.getElementById(id));
}

async function show() {
  pending.abort();
  pending = new AbortController();
  const waiting = setTimeout(() => mark(true), 300);
  try {
    const response = await fetch(form.dataset.preview, {
      method: "POST",
      signal: pending.signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(Object.fromEntries(new FormData(form))),
    });
    if (response.ok) replace(await response.text());
  } catch (error) {
    if (error.name !== "AbortError") announce(error.message);
  } finally {
    clearTimeout(waiting);
    mark(false);
  }
}

async function start() {
  problem.hidden = true;
  try {
    const { url } = await post(form.action, new FormData(form));
    if (input.value.trim()) sessionStorage.setItem(`start:${url}`, input.value);
    location.assign(url);
  } catch (error) {
    showProblem(error);
  }
}

function showProblem(error) {
  problem.textContent = error.message;
  problem.hidden = false;
  const field = error.param && (form.elements[`v-${error.param}`] ?? form.elements[`s-${error.param}`] ?? form.elements[error.param]);
  if (!(field instanceof HTMLElement)) return;
  field.closest("details")?.setAttribute("open", "");
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

async function askForModels(button) {
  button.disabled = true;
  try {
    const { models } = await post(button.dataset.url, { upstream: form.elements.upstream?.value ?? "" });
    const options = models.map(({ id }) => Object.assign(document.createElement("option"), { value: id }));
    document.getElementById("models").replaceChildren(...options);
    said.textContent = button.dataset.found.replace("{count}", models.length);
    form.elements.model.focus();
  } catch (error) {
    said.textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

/** Keep the form in sight beside the preview: all of it, or its end if it is taller than the window. */
function stick() {
  form.style.setProperty("--stick", `${Math.min(24, innerHeight - form.offsetHeight - 24)}px`);
}

new ResizeObserver(stick).observe(form);
addEventListener("resize", stick);
form.addEventListener("input", (event) => {
  event.target.removeAttribute("aria-invalid");
  clearTimeout(timer);
  timer = setTimeout(show, 200);
});
form.addEventListener("submit", (event) => {
  const { submitter } = event;
  if (submitter?.hasAttribute("data-leaves")) return;
  event.preventDefault();
  if (!submitter?.classList.contains("starter")) return start();
  input.value = submitter.value;
  input.focus();
  show();
});
input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
  event.preventDefault();
  form.requestSubmit(document.getElementById("go"));
});
document.getElementById("ask-models").addEventListener("click", (event) => askForModels(event.currentTarget));
