// What every page can do: send a form without leaving the page, say things to those who listen, jump to the search.

/** POST fields and return the JSON answer. Throws an Error with the server's message, status, code and param. */
export async function post(url, fields, { signal } = {}) {
  const body = new URLSearchParams(fields instanceof FormData ? [...fields] : fields);
  const response = await fetch(url, { method: "POST", body, signal, headers: { Accept: "application/json" } });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw failure(response, answer);
}

/** The Error that tells what a JSON error body says. */
export function failure(response, answer) {
  const { message, code, param } = answer.error ?? {};
  return Object.assign(new Error(message ?? `${response.status} ${response.statusText}`), {
    status: response.status, code, param,
  });
}

/** Say something to screen readers, once. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Whether a key belongs to an input method that composes; Safari says so of its last Enter only by the key code. */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

const isTyping = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const search = document.querySelector("[data-search]");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});
