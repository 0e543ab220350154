// Trying a draft: what the preview shows goes out, the answers come side by side.
import { announce, failure, post } from "./page.js";
import { readEvents } from "./sse.js";

export class Trying {
  #form;
  #button = document.getElementById("try");
  #beside = document.getElementById("beside");
  #trouble = document.getElementById("try-trouble");
  #trials = document.getElementById("trials");
  #goOn;
  /** The answers that are on their way: each with its abort controller, and its turn's id once that is known. */
  #running = new Set();

  /** `goOn` is called with an input and its answer when somebody wants to go on from there. */
  constructor(form, { goOn }) {
    this.#form = form;
    this.#goOn = goOn;
  }

  get address() {
    return this.#button.getAttribute("formaction");
  }

  /** Try the draft, and what is chosen beside it; or stop what runs. */
  async press() {
    if (this.#running.size) return this.#stop();
    this.#trouble.textContent = "";
    const fields = new FormData(this.#form);
    const words = fields.get("input");
    const trial = element("article", "trial");
    const asked = element("p", "meta asked", words);
    const answers = element("div", "trial-answers");
    trial.append(asked, answers);
    this.#trials.prepend(trial);
    this.#button.textContent = this.#button.dataset.stop;
    announce(this.#trials.dataset.answering);
    const places = ["", ...(this.#beside.value ? [this.#beside.value] : [])];
    const ends = await Promise.all(places.map((at) => this.#answer(fields, at, answers)));
    this.#button.textContent = this.#button.dataset.try;
    const [draft, other] = ends;
    if (!ends.some(Boolean)) return trial.remove();
    if (draft) this.#offerDraft(draft.turn.revision);
    if (draft && other && draft.turn.revision !== other.turn.revision) trial.append(this.#comparing(ends));
  }

  /** One answer, shown as it comes. Returns the data of its end, or null if none came. */
  async #answer(fields, at, answers) {
    const call = { controller: new AbortController(), turn: "" };
    const { draft, saved, former, broken } = this.#trials.dataset;
    const section = element("section");
    const stream = element("p", "stream voice");
    section.append(element("h3", "", at === "" ? draft : at === "saved" ? saved : former), stream);
    section.classList.add("live");
    answers.append(section);
    this.#running.add(call);
    const body = new URLSearchParams([...fields]);
    body.set("at", at);
    try {
      const response = await fetch(this.address, {
        method: "POST", body, signal: call.controller.signal, headers: { Accept: "text/event-stream" },
      });
      if (!response.ok) throw failure(response, await response.json().catch(() => ({})));
      for await (const { name, data } of readEvents(response.body)) {
        if (name === "turn") call.turn = data.id;
        else if (name === "delta" && data.kind !== "reasoning") stream.append(data.text);
        else if (name === "error") throw new Error(data.error.message);
        else if (name === "end") return this.#finish(section, data, fields.get("input"));
      }
      throw new Error(broken);
    } catch (error) {
      this.#fail(section, stream, error);
      return null;
    } finally {
      section.classList.remove("live");
      this.#running.delete(call);
    }
  }

  #finish(section, data, words) {
    const piece = new DOMParser().parseFromString(data.html, "text/html").querySelector(".trial-said");
    section.querySelector(".stream").replaceWith(piece);
    if (data.text) {
      const button = element("button", "quiet", this.#trials.dataset.goon);
      button.type = "button";
      button.addEventListener("click", () => this.#goOn(words, data.text));
      piece.querySelector(".trial-actions").prepend(button);
    }
    announce(data.text.slice(0, 200));
    return data;
  }

  /** What had come stays, with why it ended; without any of it the reason alone is told. */
  #fail(section, stream, error) {
    if (stream.textContent) {
      section.append(element("p", "problem", error.message));
    } else {
      section.remove();
      this.#trouble.textContent = error.message;
    }
  }

  #stop() {
    for (const { controller, turn } of this.#running) {
      // The end of a turn that was stopped still comes over its stream.
      if (turn) post(`/turns/${turn}/stop`, {}).catch(() => controller.abort());
      else controller.abort();
    }
  }

  /** What was tried can stand beside what is written next. */
  #offerDraft(revision) {
    if ([...this.#beside.options].some(({ value }) => value === revision)) return;
    const time = new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "short" }).format();
    const option = new Option(`${this.#trials.dataset.former}: ${time} (${revision.slice(0, 8)})`, revision);
    this.#beside.insertBefore(option, this.#beside.options[this.#beside.querySelector("[value=saved]") ? 2 : 1] ?? null);
  }

  #comparing(ends) {
    const link = element("a", "meta", this.#trials.dataset.compare);
    const variants = ends.map(({ turn }) => `variant=${encodeURIComponent(`${this.#form.dataset.persona}@${turn.revision}`)}`);
    link.href = `${this.#trials.dataset.plan}?${variants.join("&")}`;
    return link;
  }
}

function element(name, className = "", text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}
