// The list of sessions: tick all, and see how many are ticked.

const listing = document.getElementById("listing");
const every = document.getElementById("every");
const ticked = document.getElementById("ticked");

function count() {
  const boxes = [...listing.querySelectorAll('input[name="id"]')];
  const number = boxes.filter((box) => box.checked).length;
  ticked.textContent = number ? ticked.dataset.some.replace("{count}", number) : ticked.dataset.none;
  every.checked = number === boxes.length;
  every.indeterminate = number > 0 && number < boxes.length;
  for (const button of listing.querySelectorAll("[data-needs-tick]")) button.disabled = number === 0;
}

listing?.addEventListener("change", ({ target }) => {
  if (target === every) for (const box of listing.querySelectorAll('input[name="id"]')) box.checked = every.checked;
  count();
});
if (listing) count();
