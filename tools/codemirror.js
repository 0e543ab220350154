// What the pages take from CodeMirror. `npm run build` bundles it into rolebook/web/static/vendor/, which git ignores;
// all that is our own stands in rolebook/web/static/.
export { EditorState, EditorSelection, Compartment, Prec } from "@codemirror/state";
export {
  EditorView, crosshairCursor, drawSelection, dropCursor, highlightActiveLine, highlightSpecialChars, keymap, lineNumbers,
  rectangularSelection,
} from "@codemirror/view";
export { defaultKeymap, history, historyKeymap, isolateHistory } from "@codemirror/commands";
export { HighlightStyle, LanguageSupport, bracketMatching, indentOnInput, indentService, indentUnit, syntaxHighlighting, syntaxTree } from "@codemirror/language";
export { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, startCompletion } from "@codemirror/autocomplete";
export { forEachDiagnostic, lintGutter, lintKeymap, nextDiagnostic, setDiagnostics } from "@codemirror/lint";
export { highlightSelectionMatches, openSearchPanel, search, searchKeymap } from "@codemirror/search";
export { jinjaLanguage } from "@codemirror/lang-jinja";
export { yamlLanguage } from "@codemirror/lang-yaml";
export { parseMixed } from "@lezer/common";
export { tags } from "@lezer/highlight";
