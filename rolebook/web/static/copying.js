// Buttons that copy: the text in data-copy, or that of the element named in data-copy-from.
import { announce } from "./page.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  const { copy, copyFrom, done } = button.dataset;
  await write(copy ?? document.getElementById(copyFrom).textContent);
  const label = button.textContent;
  button.textContent = done;
  announce(done);
  setTimeout(() => { button.textContent = label; }, 1500);
}, true);

async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Under a name other than loopback a page without TLS has no clipboard of its own.
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
