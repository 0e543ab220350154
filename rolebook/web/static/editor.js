// The text of a file: CodeMirror where it was built, else the plain field of the page. Both answer to the same names.
import { completions } from "./completion.js";

/** The editor over a textarea. `source` is the address of the bundle, empty where there is none. */
export async function openEditor(area, { source, kind, names, phrases, place, declare }) {
  if (!source) return new PlainText(area);
  try {
    const codemirror = await import(source);
    return new RichText(area, codemirror, { kind, names, phrases, place, declare });
  } catch {
    return new PlainText(area);
  }
}

/** Index of a line (from 1) and column (from 1) in a text; the end of the line at most. */
function indexOf(text, line, column = 1) {
  let index = 0;
  for (let number = 1; number < line; number += 1) {
    const end = text.indexOf("\n", index);
    if (end < 0) break;
    index = end + 1;
  }
  const end = text.indexOf("\n", index);
  return Math.min(index + Math.max(column, 1) - 1, end < 0 ? text.length : end);
}

/** Which part of a text becomes which other one, so that it is the new text. */
function change(old, fresh) {
  const most = Math.min(old.length, fresh.length);
  let from = 0;
  while (from < most && old[from] === fresh[from]) from += 1;
  let same = 0;
  while (same < most - from && old[old.length - 1 - same] === fresh[fresh.length - 1 - same]) same += 1;
  return { from, to: old.length - same, insert: fresh.slice(from, fresh.length - same) };
}

class PlainText {
  isRich = false;
  #area;

  constructor(area) {
    this.#area = area;
  }

  get text() {
    return this.#area.value;
  }

  /** As if it was typed: whoever does not want it can undo it. */
  set text(text) {
    const area = this.#area;
    const { from, to, insert } = change(area.value, text);
    if (from === to && !insert) return;
    area.focus();
    area.setSelectionRange(from, to);
    if (document.execCommand(insert ? "insertText" : "delete", false, insert)) return;
    area.setRangeText(insert, from, to, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Call `listener` after each change. */
  onChange(listener) {
    this.#area.addEventListener("input", listener);
  }

  showProblems() {}

  /** Put the cursor into a line, and the line into sight. */
  goTo(line, column) {
    const area = this.#area;
    const index = indexOf(area.value, line, column);
    area.focus({ preventScroll: true });
    area.setSelectionRange(index, index);
    const height = parseFloat(getComputedStyle(area).lineHeight);
    area.scrollTop = Math.max(0, (line - 4) * height);
    area.scrollIntoView({ block: "nearest" });
  }

  focus() {
    this.#area.focus();
  }
}

class RichText {
  isRich = true;
  #area;
  #cm;
  #view;
  #listeners = [];
  #declare;
  #phrases;

  constructor(area, codemirror, { kind, names, phrases, place, declare }) {
    this.#area = area;
    this.#declare = declare;
    this.#phrases = phrases;
    this.#cm = codemirror;
    const { EditorState, EditorView } = codemirror;
    // In a root of its own it can have its styles without breaking the page's rule that none is written into it.
    const root = place.attachShadow({ mode: "open" });
    const hint = Object.assign(document.createElement("p"), {
      id: "hint", hidden: true, textContent: document.getElementById(area.getAttribute("aria-describedby")).innerText,
    });
    root.append(hint);
    place.hidden = false;
    this.#view = new EditorView({
      root,
      parent: root,
      state: EditorState.create({ doc: area.value, extensions: this.#extensions(kind, names, phrases) }),
    });
    area.hidden = true;
    document.getElementById(area.getAttribute("aria-describedby")).querySelector("#rich-hint").hidden = false;
    document.querySelector(`label[for="${area.id}"]`).addEventListener("click", () => this.focus());
  }

  #extensions(kind, names, phrases) {
    const cm = this.#cm;
    const { EditorState, EditorView, keymap } = cm;
    return [
      EditorState.phrases.of(phrases),
      cm.lineNumbers(),
      cm.highlightSpecialChars(),
      cm.history(),
      cm.indentUnit.of("  "),
      EditorState.tabSize.of(2),
      cm.indentOnInput(),
      ...(kind === "persona" ? [cm.indentService.of((...place) => indentBelowKey(cm, ...place))] : []),
      cm.bracketMatching(),
      cm.highlightActiveLine(),
      cm.highlightSelectionMatches(),
      cm.search({ top: true }),
      cm.lintGutter(),
      // Enter must not put in a word that merely has the typed letters somewhere.
      cm.autocompletion({ override: [(context) => completions(context, kind, names)], icons: false, filterStrict: true }),
      EditorView.lineWrapping,
      language(cm, kind),
      cm.syntaxHighlighting(colours(cm)),
      EditorView.theme(THEME),
      // The Tab key is left to the browser: it leaves the text, as everywhere on a page.
      keymap.of([...cm.completionKeymap, ...cm.lintKeymap, ...cm.searchKeymap, ...cm.historyKeymap, ...cm.defaultKeymap]),
      EditorView.domEventHandlers({ beforeinput: replaceSelected }),
      EditorView.contentAttributes.of({
        "aria-label": document.querySelector(`label[for="${this.#area.id}"]`).textContent,
        "aria-describedby": "hint",
        tabindex: "0",
      }),
      EditorView.updateListener.of((update) => {
        if (!update.docChanged) return;
        this.#area.value = update.state.doc.toString();
        for (const listener of this.#listeners) listener();
      }),
    ];
  }

  get text() {
    return this.#view.state.doc.toString();
  }

  /** In one step, which can be undone alone. */
  set text(text) {
    this.#view.dispatch({ changes: change(this.text, text), annotations: this.#cm.isolateHistory.of("full") });
  }

  onChange(listener) {
    this.#listeners.push(listener);
  }

  /** Mark problems ({line, column, severity, message}) on their lines; those of other files have line 0. */
  showProblems(problems) {
    const { doc } = this.#view.state;
    const marks = problems.filter(({ line }) => line).map(({ line, column, severity, message, declare: name }) => {
      const { from, to, text } = doc.line(Math.min(line, doc.lines));
      const start = Math.min(from + Math.max(column, 1) - 1, to);
      const word = /^[\p{L}\p{N}_-]+|^\S/u.exec(text.slice(start - from))?.[0].length ?? 0;
      const actions = name ? [{ name: this.#phrases["Declare"], apply: () => this.#declare(name) }] : [];
      return { from: start, to: start + word, severity, message, actions };
    });
    this.#view.dispatch(this.#cm.setDiagnostics(this.#view.state, marks.sort((a, b) => a.from - b.from)));
  }

  goTo(line, column) {
    const { doc } = this.#view.state;
    const { from, to } = doc.line(Math.min(Math.max(line, 1), doc.lines));
    const at = Math.min(from + Math.max(column ?? 1, 1) - 1, to);
    this.#view.dispatch({
      selection: { anchor: at },
      effects: this.#cm.EditorView.scrollIntoView(at, { y: "center" }),
    });
    this.#view.focus();
    this.#area.parentElement.scrollIntoView({ block: "nearest" });
  }

  focus() {
    this.#view.focus();
  }
}

/**
 * Type over a selection. Left to themselves, browsers keep the looks of what was there by writing styles into the page,
 * which its rules forbid.
 */
function replaceSelected(event, view) {
  if (event.inputType !== "insertText" || !event.data || view.composing || view.state.selection.main.empty) return false;
  event.preventDefault();
  view.dispatch(view.state.update(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true }));
  return true;
}

/** How far a new line below `key:` is indented; undefined where the line opens nothing, or is one of a text. */
function indentBelowKey({ syntaxTree }, context, position) {
  const opening = /^(\s*(?:- +)*)[^\s#][^#]*:\s*$/.exec(context.lineAt(position, -1).text);
  if (context.simulatedBreak === null || !opening) return undefined;
  for (let node = syntaxTree(context.state).resolve(position, -1); node; node = node.parent) {
    if (/Literal|Comment/.test(node.name)) return undefined;
  }
  return opening[1].length + context.unit;
}

/** YAML with Jinja in its texts, or a Jinja template. */
function language({ LanguageSupport, jinjaLanguage, parseMixed, yamlLanguage }, kind) {
  if (kind === "template") return new LanguageSupport(jinjaLanguage);
  const texts = new Set(["BlockLiteralContent", "Literal", "QuotedLiteral"]);
  const inner = jinjaLanguage.parser;
  return new LanguageSupport(yamlLanguage.configure({
    wrap: parseMixed((node, input) => {
      if (!texts.has(node.name)) return null;
      return /\{[{%#]/.test(input.read(node.from, node.to)) ? { parser: inner } : null;
    }),
  }));
}

function colours({ HighlightStyle, tags }) {
  return HighlightStyle.define([
    { tag: tags.comment, color: "var(--muted)" },
    { tag: [tags.propertyName, tags.definition(tags.propertyName), tags.tagName], color: "var(--code-name)" },
    { tag: [tags.keyword, tags.operatorKeyword, tags.controlKeyword], color: "var(--code-word)" },
    { tag: [tags.brace, tags.processingInstruction, tags.special(tags.brace), tags.meta], color: "var(--code-word)" },
    { tag: [tags.variableName, tags.function(tags.variableName)], color: "var(--code-word)", fontWeight: "600" },
    { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
    { tag: tags.attributeValue, color: "var(--code-text)" },
  ]);
}

const THEME = {
  "&": { color: "var(--ink)", backgroundColor: "var(--sheet)", fontSize: "0.875rem" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "2px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6", maxHeight: "var(--editor-height, 70vh)", minHeight: "20rem", overflow: "auto" },
  ".cm-content": { caretColor: "var(--ink)", padding: "0.5rem 0" },
  ".cm-gutters": { color: "var(--muted)", backgroundColor: "var(--sheet)", borderRight: "1px solid var(--rule)" },
  ".cm-activeLine": { backgroundColor: "color-mix(in oklab, var(--accent-wash), transparent 50%)" },
  ".cm-selectionMatch": { backgroundColor: "var(--mark)" },
  ".cm-searchMatch": { backgroundColor: "var(--mark)" },
  ".cm-searchMatch-selected": { backgroundColor: "var(--mark)", outline: "2px solid var(--accent)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--mark)" },
  "&.cm-focused .cm-nonmatchingBracket": { backgroundColor: "var(--bad-wash)" },
  ".cm-specialChar": { color: "var(--bad)" },
  ".cm-panels": { color: "var(--ink)", backgroundColor: "var(--paper)", fontFamily: "var(--sans)" },
  ".cm-panels.cm-panels-top": { borderBottom: "1px solid var(--rule)" },
  ".cm-panels.cm-panels-bottom": { borderTop: "1px solid var(--rule)" },
  ".cm-textfield": { color: "var(--ink)", backgroundColor: "var(--sheet)", border: "1px solid var(--edge)" },
  ".cm-button": { color: "var(--ink)", backgroundColor: "var(--sheet)", backgroundImage: "none", border: "1px solid var(--edge)", borderRadius: "var(--radius)" },
  ".cm-panel button[name=close]": { color: "var(--ink)" },
  ".cm-tooltip": { color: "var(--ink)", backgroundColor: "var(--sheet)", border: "1px solid var(--edge)", borderRadius: "var(--radius)", fontFamily: "var(--sans)", maxWidth: "min(30rem, 80vw)" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", maxHeight: "14rem" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]": { color: "var(--accent-ink)", backgroundColor: "var(--accent)" },
  ".cm-tooltip.cm-completionInfo": { padding: "0.5rem 0.75rem" },
  ".cm-completionDetail": { color: "inherit", fontStyle: "normal", opacity: "0.85" },
  ".cm-diagnostic": { padding: "0.375rem 0.75rem", whiteSpace: "pre-wrap" },
  ".cm-diagnosticAction": { color: "var(--ink)", backgroundColor: "var(--sheet)", border: "1px solid var(--edge)", borderRadius: "var(--radius)", font: "inherit", padding: "0.125rem 0.5rem", cursor: "pointer" },
  ".cm-diagnostic-error": { borderLeft: "3px solid var(--bad)" },
  ".cm-diagnostic-warning": { borderLeft: "3px solid var(--code-number)" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad)", textUnderlineOffset: "0.2em" },
  ".cm-lintRange-warning": { backgroundImage: "none", textDecoration: "underline wavy var(--code-number)", textUnderlineOffset: "0.2em" },
};
