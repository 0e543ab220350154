// Several personas chosen in the gallery: the choice outlives what the gallery shows.

export class Choice {
  #chosen = new Map();
  #most;
  #switch = document.getElementById("choosing");
  #form = document.getElementById("compare");
  #said = document.getElementById("chosen");

  /** `most`: how many can be chosen at once. */
  constructor({ most }) {
    this.#most = most;
    document.addEventListener("change", ({ target }) => {
      if (target.matches("#results .pick input")) this.#take(target);
    });
    this.show();
  }

  /** Whether cards are ticks at the moment. */
  get isOn() {
    return this.#switch?.checked ?? false;
  }

  /** Go to the first card's tick. */
  focus() {
    this.#boxes[0]?.focus();
  }

  get #boxes() {
    return [...document.querySelectorAll("#results .pick input")];
  }

  #take(box) {
    if (box.checked) this.#chosen.set(box.value, box.dataset.name);
    else this.#chosen.delete(box.value);
    this.show();
  }

  /** Tick what is chosen among the cards that are there, and send the others along. */
  show() {
    const isFull = this.#chosen.size >= this.#most;
    const here = new Set();
    for (const box of this.#boxes) {
      here.add(box.value);
      box.checked = this.#chosen.has(box.value);
      box.disabled = isFull && !box.checked;
    }
    for (const field of this.#form.querySelectorAll("input")) field.remove();
    for (const value of this.#chosen.keys()) {
      if (!here.has(value)) this.#form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "variant", value }));
    }
    const { none, some } = this.#said.dataset;
    const names = new Intl.ListFormat(document.documentElement.lang, { style: "narrow" }).format(this.#chosen.values());
    this.#said.textContent = names ? some.replace("{count}", this.#chosen.size).replace("{names}", () => names) : none;
    this.#form.querySelector("button").disabled = this.#chosen.size === 0;
  }
}
