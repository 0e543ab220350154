// A blind vote by one key. Forms do the rest, so that it works without this too.
import { isComposing } from "./page.js";

/** How far Shift with an arrow scrolls, as a share of the window. */
const STEP = 0.2;

/** One page sends one vote, however often a key is struck. */
let isSent = false;

const isField = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;
/** What takes the key for itself: a piece of code that scrolls, or anything that Space presses. */
const isTaken = (element, key) =>
  element.closest("[tabindex='0']") !== null || (key === " " && element.closest("a, button, summary") !== null);

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || isComposing(event) || isField(target)) return;
  if (event.shiftKey && (key === "ArrowUp" || key === "ArrowDown")) {
    event.preventDefault();
    window.scrollBy({ top: (key === "ArrowDown" ? STEP : -STEP) * window.innerHeight });
    return;
  }
  const button = document.querySelector(`[data-key="${CSS.escape(key.length > 1 ? key : key.toLowerCase())}"]`);
  if (!button || event.shiftKey || isTaken(target, key)) return;
  event.preventDefault();
  // A key that is held down would vote on whatever comes next.
  if (!event.repeat) button.click();
});

document.addEventListener("submit", (event) => {
  if (isSent) event.preventDefault();
  isSent = true;
});

// Whoever comes back to a page that the browser has kept sees it as it is now.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
