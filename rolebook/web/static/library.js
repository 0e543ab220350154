// The library: a file is written here, and what it would send stands beside the text while one types.
import { announce, isComposing, post } from "./page.js";
import { openEditor } from "./editor.js";
import { Unsaved } from "./unsaved.js";
import { Tabs } from "./tabs.js";
import { Trying } from "./trying.js";

const form = document.getElementById("draft");
const LOOK_MS = 250;
/** A variable that was just declared is empty: what it is by default goes between the quotes. */
const INSIDE_QUOTES = 1;

showUnsaved();
narrowFiles();
suggestId();
if (form) write();

/** Say in the list of files which of them hold text that is not saved. */
function showUnsaved() {
  const nav = document.querySelector(".files");
  if (!nav) return;
  for (const entry of nav.querySelectorAll("li[data-key]")) {
    const kept = Unsaved.newest(entry.dataset.key);
    const mark = entry.querySelector(".unsaved");
    mark.hidden = !kept;
    if (kept) mark.textContent = kept.etag === entry.dataset.etag ? nav.dataset.draft : nav.dataset.moved;
  }
  showFilesToCome(nav);
}

/** Text for a file that is not there, new or gone meanwhile, stands in the list too, for want of another way to it. */
function showFilesToCome(nav) {
  for (const entry of nav.querySelectorAll("li.to-come")) entry.remove();
  for (const key of Unsaved.files()) {
    if (!/^(persona|template)\/[a-z0-9][a-z0-9_-]*$/.test(key) || nav.querySelector(`li[data-key="${key}"]`)) continue;
    const [kind, id] = key.split("/");
    const list = nav.querySelector(`ul[data-kind="${kind}"]`);
    const entry = list.appendChild(document.createElement("li"));
    entry.className = "to-come";
    const link = entry.appendChild(document.createElement("a"));
    link.href = `${list.dataset.address}/${id}?new=`;
    link.textContent = id;
    const mark = entry.appendChild(document.createElement("span"));
    mark.className = "state unsaved";
    mark.textContent = nav.dataset.new;
  }
}

/** On a narrow page the list of files is closed at first wherever a file is open. */
function narrowFiles() {
  const files = document.getElementById("files");
  if (files && !document.querySelector("form.new") && matchMedia("(max-width: 64rem)").matches) files.open = false;
}

/** The id of a new file follows its name until somebody writes one. */
function suggestId() {
  const form = document.querySelector("form.new");
  if (!form) return;
  const { title, id } = form.elements;
  let suggested = "";
  title.addEventListener("input", () => {
    if (id.value !== suggested) return;
    const plain = title.value.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
    id.value = suggested = plain.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 64);
  });
}

async function write() {
  // What came as the answer to a form cannot be gone back to or loaded again; the page of the file can.
  if (location.pathname !== form.getAttribute("action")) history.replaceState(null, "", form.action);
  const area = document.getElementById("text");
  const { etag } = form.elements;
  const isDirty = "dirty" in form.dataset;
  /** The text as it stands in the file; what a conflict has put together stands nowhere yet. */
  let saved = isDirty ? null : area.value;
  const unsaved = await Unsaved.open(form.dataset.key);
  let variables = [];
  let schema = null;
  const names = async () => {
    schema ??= fetch(form.dataset.names, { headers: { Accept: "application/json" } }).then((response) => response.json());
    return { ...(await schema), variables };
  };
  const editor = await openEditor(area, {
    source: form.dataset.editor ?? "",
    kind: form.dataset.kind,
    names,
    phrases: JSON.parse(form.dataset.phrases),
    place: document.getElementById("editor"),
    declare: (name) => declare(name),
  });

  /* Looking: what is written is read and rendered by the server, the newest only. */
  let pending = new AbortController();
  let timer = 0;
  const lookSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(look, LOOK_MS);
  };

  async function look() {
    pending.abort();
    pending = new AbortController();
    const { signal } = pending;
    const waiting = setTimeout(() => document.getElementById("preview").classList.add("waiting"), 400);
    try {
      const response = await fetch(form.dataset.look, {
        method: "POST",
        signal,
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(Object.fromEntries(new FormData(form))),
      });
      const seen = await response.json();
      if (!response.ok) throw new Error(seen.error.message);
      show(seen);
    } catch (error) {
      if (error.name !== "AbortError") document.getElementById("trouble").textContent = error.message;
    } finally {
      clearTimeout(waiting);
      document.getElementById("preview").classList.remove("waiting");
    }
  }

  /** Declare a variable that the text names, as if somebody had typed it, and go there to say what it is by default. */
  async function declare(name) {
    clearTimeout(timer);
    try {
      const { declared } = await post(form.dataset.look, { ...Object.fromEntries(new FormData(form)), declare: name });
      if (!declared) return lookSoon();
      editor.text = declared.text;
      editor.goTo(declared.line, declared.column + INSIDE_QUOTES);
    } catch (error) {
      document.getElementById("trouble").textContent = error.message;
    }
  }

  function show(seen) {
    const fresh = new DOMParser().parseFromString(seen.html, "text/html");
    const put = (id) => document.getElementById(id).replaceWith(fresh.getElementById(id));
    const trouble = document.getElementById("trouble").textContent;
    if (fresh.getElementById("trouble").textContent !== trouble) put("trouble");
    // The last good preview stays, and says that it is not of the text as it stands.
    if (seen.hasPreview) put("preview");
    document.getElementById("preview").classList.toggle("stale", !seen.hasPreview);
    put("problems");
    put("problem-count");
    const shape = document.getElementById("variables");
    if (seen.variables && fresh.getElementById("variables").dataset.shape !== shape.dataset.shape) put("variables");
    variables = seen.variables ?? variables;
    editor.showProblems(seen.problems);
    const isGone = Boolean(etag.value) && seen.etag === null;
    document.getElementById("moved").hidden = !etag.value || isGone || seen.etag === etag.value;
    tellGone(isGone);
  }

  /** That the file was deleted is said once, and instead of what was to be decided between it and the text. */
  function tellGone(isGone) {
    const isSaid = !document.getElementById("anew").hidden && !document.getElementById("refused").hidden;
    document.getElementById("gone").hidden = !isGone || isSaid;
    const conflict = document.getElementById("conflict");
    if (conflict) conflict.hidden = isGone;
    if (isGone) document.getElementById("moved").hidden = true;
  }

  /* Keeping: what is not saved outlives a reload, a crash, and the page being left. */
  const isChanged = () => editor.text !== saved;
  function keep() {
    if (isChanged()) unsaved.keep({ text: editor.text, etag: etag.value });
    else unsaved.drop();
  }
  editor.onChange(() => {
    keep();
    tellState();
    lookSoon();
  });

  const told = document.getElementById("saved");
  function tellState() {
    told.textContent = isChanged() ? told.dataset.changed : "";
  }

  addEventListener("beforeunload", (event) => {
    if (isChanged() && !isLeaving) event.preventDefault();
  });

  /* Saving, without leaving the page unless there is something to decide. */
  let isLeaving = false;
  let isSaving = false;

  async function save(button) {
    if (isSaving) return;
    isSaving = true;
    const sent = editor.text;
    const refused = document.getElementById("refused");
    const body = new URLSearchParams([...new FormData(form, button)]);
    try {
      const answer = await post(form.dataset.save, body);
      refused.hidden = true;
      document.getElementById("conflict")?.remove();
      const isNew = !etag.value || button?.name === "anew";
      etag.value = answer.etag;
      saved = sent;
      form.elements.message.value = "";
      keep();
      if (isNew) return leave(() => location.assign(answer.url));
      rename(answer);
      tellState();
      if (!isChanged()) told.textContent = answer.isChanged ? told.dataset.saved : told.dataset.same;
      look();
    } catch (error) {
      if (error.code === "changed_meanwhile") return leave(() => submitPlainly(button));
      // What was to be a new file stays one when it is saved with its errors.
      if (button?.name === "anew" && error.code === "faulty_draft") etag.value = "";
      refuse(refused, error);
    } finally {
      isSaving = false;
    }
  }

  function leave(go) {
    isLeaving = true;
    go();
  }

  /** Send the form as a page does: the answer shows both versions. */
  function submitPlainly() {
    form.action = form.dataset.save;
    form.submit();
  }

  function refuse(refused, error) {
    document.getElementById("refused-said").textContent = error.message;
    document.getElementById("insist").hidden = error.code !== "faulty_draft";
    document.getElementById("anew").hidden = error.code !== "not_found";
    refused.hidden = false;
    if (error.code === "not_found") tellGone(true);
    refused.scrollIntoView({ block: "nearest" });
  }

  /** The file may have another name now. */
  function rename({ name, etag: current }) {
    const entry = document.querySelector(`.files li[data-key="${form.dataset.key}"]`);
    document.querySelector(".heading h1").textContent = name;
    document.title = document.title.replace(/^.*?(?= · )/, name);
    if (!entry) return;
    entry.dataset.etag = current;
    entry.querySelector("a").textContent = name;
    showUnsaved();
  }

  const trying = new Trying(form, { goOn });
  form.addEventListener("submit", (event) => {
    const { submitter } = event;
    const address = submitter?.getAttribute("formaction");
    if (submitter?.name === "declare") {
      event.preventDefault();
      return void declare(submitter.value);
    }
    if (address === trying.address) {
      event.preventDefault();
      return trying.press();
    }
    if (address !== form.dataset.save || submitter.hasAttribute("data-plain")) return void (isLeaving = true);
    event.preventDefault();
    save(submitter);
  });
  addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    event.preventDefault();
    save(document.getElementById("save"));
  });
  document.getElementById("take-theirs")?.addEventListener("click", () => {
    isLeaving = true;
    unsaved.hold(null);
    unsaved.drop();
  });

  const banner = document.getElementById("unsaved");
  let offered = null;

  /** Offer a text that was left unsaved, and after it what was left before it. Nothing replaces it until it is decided. */
  function offer(kept) {
    while (kept && kept.text === editor.text) kept = kept.before;
    offered = kept ?? null;
    unsaved.hold(offered);
    banner.hidden = !offered;
    if (!offered) return;
    const when = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" }).format(kept.at);
    document.getElementById("unsaved-said").textContent = (kept.etag === etag.value ? banner.dataset.same : banner.dataset.moved).replace("{time}", when);
  }
  document.getElementById("take-up").addEventListener("click", () => {
    const { text, etag: began, before } = offered;
    // What was written meanwhile is offered in its turn.
    const rest = isChanged() ? { text: editor.text, etag: etag.value, at: Date.now(), before } : before;
    unsaved.hold(rest ?? null);
    // Saving is held against the text that it began from, so that nothing written meanwhile is lost.
    etag.value = began;
    editor.text = text;
    offer(rest);
    editor.focus();
  });
  document.getElementById("drop").addEventListener("click", () => {
    offer(offered.before);
    keep();
    editor.focus();
  });

  /* From the preview and the problems to the line. */
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-line]");
    if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (target.matches("span") && getSelection().toString()) return;
    event.preventDefault();
    editor.goTo(lineOf(target, event), Number(target.dataset.column ?? 1));
  });

  form.addEventListener("input", (event) => {
    if (event.target !== area && !isComposing(event)) lookSoon();
  });
  form.addEventListener("change", (event) => {
    if (event.target !== area) lookSoon();
  });
  document.getElementById("add-said").addEventListener("click", () => {
    const fresh = addSaid();
    fresh.querySelector("textarea").focus();
    announce(fresh.querySelector("legend").textContent);
  });
  const tabs = document.getElementById("tabs");
  tabs.addEventListener("show", ({ detail }) => {
    document.getElementById("circumstances").hidden = !["beside-preview", "beside-try"].includes(detail);
    if (detail === "beside-history") showHistory();
  });
  new Tabs(tabs);
  // What has come along with the page is the newest; a text of before is only looked at.
  if (!isDirty || "former" in form.dataset) offer(unsaved.read());
  if (!isDirty && !offered) unsaved.drop();
  tellState();
  look();
  const line = Number(new URLSearchParams(location.search).get("line"));
  const [declared, column] = (form.dataset.declared ?? "").split(" ").map(Number);
  if (declared) editor.goTo(declared, column + INSIDE_QUOTES);
  else if (line) editor.goTo(line, 1);
  else if (document.getElementById("conflict")) goToConflict(area.value, editor);
}

/** To the first lines that both have changed, which may stand far below what is said about them. */
function goToConflict(text, editor) {
  const index = text.split("\n").findIndex((line) => line.startsWith("<<<<<<< "));
  if (index >= 0) editor.goTo(index + 1, 1);
}

/** The line of what was clicked: of a text that stands in the file line by line, the line under the pointer. */
function lineOf(target, event) {
  const first = Number(target.dataset.line);
  if (!("literal" in target.dataset) || !event.detail) return first;
  const position = document.caretPositionFromPoint?.(event.clientX, event.clientY);
  if (!position || !target.contains(position.offsetNode)) return first;
  const before = target.textContent.slice(0, position.offset);
  const blank = /^\s*\n/.exec(target.textContent)?.[0].split("\n").length - 1 || 0;
  return first + Math.max(0, before.split("\n").length - 1 - blank);
}

/** Put the history beside the text, as its own page has it, and below it what git knows. */
async function showHistory() {
  const { url } = document.querySelector('#tabs a[href="#beside-history"]').dataset;
  const page = await load(url);
  if (!page) return;
  document.getElementById("history").replaceWith(page.getElementById("history"));
  const way = document.getElementById("ask-git");
  const found = way && (await load(way.querySelector("a").href))?.getElementById("commits");
  if (!way?.isConnected) return;
  if (found?.querySelector("li")) way.replaceWith(found);
  else way.remove();
}

async function load(url) {
  const response = await fetch(url, { headers: { Accept: "text/html" } });
  return response.ok ? new DOMParser().parseFromString(await response.text(), "text/html") : null;
}

/** Let an answer be what was said before, and ask for the next input. */
function goOn(words, answer) {
  const pairs = [...document.querySelectorAll(".said")];
  const isEmpty = (pair) => [...pair.querySelectorAll("textarea")].every((field) => !field.value.trim());
  const pair = pairs.find(isEmpty) ?? addSaid();
  const [asked, answered] = pair.querySelectorAll("textarea");
  asked.value = words;
  answered.value = answer;
  document.getElementById("before").open = true;
  const input = document.getElementById("input");
  input.value = "";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.focus();
}

/** One more turn to fill in, like the last one. */
function addSaid() {
  const said = document.getElementById("said");
  const number = said.children.length;
  const last = said.lastElementChild;
  const fresh = last.cloneNode(true);
  const renumber = (text) => text.replace(/said-\d+/, `said-${number}`);
  fresh.querySelector("legend").textContent = last.querySelector("legend").textContent.replace(/\d+/, number + 1);
  for (const label of fresh.querySelectorAll("label")) label.htmlFor = renumber(label.htmlFor);
  for (const field of fresh.querySelectorAll("textarea")) {
    Object.assign(field, { id: renumber(field.id), name: renumber(field.name), value: "" });
  }
  said.append(fresh);
  return fresh;
}
