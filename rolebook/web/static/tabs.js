// Sections of a page as tabs, by the pattern of the ARIA guide; without script they stand below each other.

export class Tabs {
  #tabs;
  #nav;

  /** `nav` holds links to the sections. */
  constructor(nav) {
    this.#nav = nav;
    this.#tabs = [...nav.querySelectorAll("a")];
    nav.setAttribute("role", "tablist");
    for (const tab of this.#tabs) this.#prepare(tab);
    this.show(this.#tabs.find((tab) => tab.hash === location.hash) ?? this.#tabs[0]);
  }

  #prepare(tab) {
    const panel = this.#panel(tab);
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    tab.id ||= `tab-${panel.id}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      this.show(tab);
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === " ") {
        event.preventDefault();
        return this.show(tab);
      }
      if (!step) return;
      event.preventDefault();
      const next = this.#tabs.at((this.#tabs.indexOf(tab) + step) % this.#tabs.length);
      this.show(next);
      next.focus();
    });
  }

  #panel(tab) {
    return document.getElementById(tab.hash.slice(1));
  }

  /** Show the section of a tab, or of the id of one. */
  show(wanted) {
    const chosen = typeof wanted === "string" ? this.#tabs.find((tab) => tab.hash === `#${wanted}`) : wanted;
    for (const tab of this.#tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      this.#panel(tab).hidden = !isChosen;
    }
    this.#nav.dispatchEvent(new CustomEvent("show", { detail: this.#panel(chosen).id }));
  }
}
