// What can be written at a place of a file: keys and values from the JSON Schema of personas, names that are known,
// and inside {{ }} the variables.

const TAGS = ["message", "endmessage", "history", "for", "endfor", "if", "elif", "else", "endif", "set", "include", "raw", "endraw"];
const FILTERS = ["upper", "lower", "title", "trim", "join", "length", "default", "replace", "first", "last", "list", "int", "round", "indent"];
const IN_TEMPLATES = ["system", "input", "examples", "history", "greeting", "persona"];
/** Keys whose values are names of other things. */
const NAMES = { extends: "personas", template: "templates", upstream: "upstreams", tags: "tags" };

/** The completions at the place of `context` in a file of a kind; `names` is asked for what is known. */
export async function completions(context, kind, names) {
  const { state, pos } = context;
  const before = state.doc.lineAt(pos).text.slice(0, pos - state.doc.lineAt(pos).from);
  const jinja = insideJinja(before);
  const known = await names();
  if (jinja) return fromJinja(jinja, context, kind, known);
  return kind === "persona" ? fromSchema(before, context, known) : null;
}

/** The mark that the text before the cursor opens and does not close, or null. */
function insideJinja(before) {
  return /(\{\{|\{%)((?:(?!\}\}|%\}).)*)$/.exec(before);
}

function fromJinja([, opening, inside], context, kind, known) {
  const word = /[\p{L}\p{N}_.]*$/u.exec(inside)[0];
  if (!word && !context.explicit && !/^[-\s]$/.test(inside)) return null;
  const isFilter = /\|\s*[\p{L}_]*$/u.test(inside);
  const isFirst = opening === "{%" && /^-?\s*\w*$/.test(inside);
  const words = isFilter ? FILTERS : isFirst ? TAGS : [...(known.variables ?? []), ...(kind === "template" ? IN_TEMPLATES : [])];
  const type = isFilter ? "function" : isFirst ? "keyword" : "variable";
  return listed(context.pos - word.length, words.map((label) => ({ label, type })));
}

function listed(from, options) {
  return options.length ? { from, options, validFor: /^[\p{L}\p{N}_.-]*$/u } : null;
}

function fromSchema(before, context, { schema, ...known }) {
  const lines = linesBefore(context);
  const path = pathTo(lines, before);
  if (!path) return null;
  const flow = /^\s*(?:- +)*(?:([\w-]+):\s+)?\{(.*)$/.exec(before);
  if (flow) return inFlow(flow, path, context, schema, known);
  const value = /^(\s*)((?:- )*)([\w-]+):\s+(\S*)$/.exec(before);
  if (value) return values([...path, value[3]], value[4], context, schema, known);
  const item = /^(\s*)- (\S*)$/.exec(before);
  if (item && NAMES[path.at(-2)]) return values(path, item[2], context, schema, known);
  const key = /^(\s*)((?:- )*)([\w-]*)$/.exec(before);
  if (!key || (!key[3] && !context.explicit)) return null;
  const column = key[1].length + key[2].length;
  return keys(path, key[3], context, schema, siblings(context, column), column);
}

function inFlow([, name, inside], path, context, schema, known) {
  const here = name ? [...path, name] : path;
  const last = inside.split(/[{,]/).at(-1);
  const value = /^\s*([\w-]+):\s+(\S*)$/.exec(last);
  if (value) return values([...here, value[1]], value[2], context, schema, known);
  const key = /^\s*([\w-]*)$/.exec(last);
  return key && (key[1] || context.explicit) ? keys(here, key[1], context, schema, new Set()) : null;
}

function linesBefore({ state, pos }) {
  const { number } = state.doc.lineAt(pos);
  return Array.from({ length: number - 1 }, (_, index) => state.doc.line(index + 1).text);
}

/** The keys around a line, outermost first; null inside a block of text. An item of a list counts as "*". */
function pathTo(lines, before) {
  const path = [];
  let column = 0;
  let isItem = false;
  const enter = (line) => {
    isItem = line.isItem;
    column = line.isItem ? line.margin : line.column;
    if (line.isItem) path.unshift("*");
  };
  enter(shapeOf(before));
  for (const text of lines.toReversed()) {
    if (!text.trim() || text.trim().startsWith("#")) continue;
    const line = shapeOf(text);
    if (isItem && line.isItem && line.margin === column) continue;
    if (line.column < column || (isItem && line.column === column && !line.isItem)) {
      if (!line.key || line.isBlock) return null;
      path.unshift(line.key);
      enter(line);
    } else if (line.isItem && line.margin < column) {
      enter(line);
    }
  }
  return path;
}

/** Where a line begins, where its key stands, and whether it is an item of a list. */
function shapeOf(text) {
  const [, margin, dashes, rest] = /^(\s*)((?:- +)*)(.*)$/.exec(text);
  return {
    margin: margin.length,
    column: margin.length + dashes.length,
    isItem: dashes !== "",
    key: /^([^\s:]+):/.exec(rest)?.[1],
    isBlock: /:\s*[|>][-+0-9]*\s*(#.*)?$/.test(rest),
  };
}

/** The keys that stand beside the line of the cursor already. */
function siblings({ state, pos }, indent) {
  const found = new Set();
  const here = state.doc.lineAt(pos).number;
  const look = (step) => {
    for (let number = here + step; number >= 1 && number <= state.doc.lines; number += step) {
      const { text } = state.doc.line(number);
      if (!text.trim()) continue;
      const margin = /^\s*(?:- )*/.exec(text)[0].length;
      if (margin < indent) return;
      const key = margin === indent && /^[\s-]*([\w-]+):/.exec(text);
      if (key) found.add(key[1]);
      if (margin === indent && /^\s*- /.test(text) && step < 0) return;
    }
  };
  look(-1);
  look(1);
  return found;
}

/** What can be written for a key; where it begins a line, at `column`, a mapping goes on below it. */
function keys(path, word, context, schema, taken, column = null) {
  const shape = shapeAt(path, schema);
  const ending = (detail) => (column !== null && detail === "{…}" ? `\n${" ".repeat(column + 2)}` : " ");
  const options = Object.entries(shape.properties ?? {})
    .filter(([name]) => !taken.has(name))
    .map(([name, part]) => [name, part, detailOf(resolved(part, schema))])
    .map(([name, part, detail]) => ({
      label: name, type: "property", apply: `${name}:${ending(detail)}`, detail, info: infoOf(part, schema),
    }));
  return listed(context.pos - word.length, options);
}

function values(path, word, context, schema, known) {
  const list = NAMES[path.at(-1)] ?? (path.at(-1) === "*" ? NAMES[path.at(-2)] : null);
  const shape = shapeAt(path, schema);
  const words = list && path.length < 3 ? known[list] : shape.enum ?? (shape.type === "boolean" ? ["true", "false"] : []);
  return listed(context.pos - word.length, (words ?? []).map((label) => ({ label: String(label), type: "constant" })));
}

const infoOf = (part, schema) => part.description ?? resolved(part, schema).description ?? null;

function detailOf({ type, enum: choices }) {
  if (choices) return choices.join(" | ");
  return { object: "{…}", array: "[…]", string: "", integer: "1", number: "0.5" }[[type].flat()[0]] ?? "";
}

/** What the schema says of a path; an empty shape where it says nothing. */
function shapeAt(path, schema) {
  return path.reduce((shape, key) => {
    if (key === "*") return resolved(shape.items ?? {}, schema);
    const part = shape.properties?.[key] ?? (typeof shape.additionalProperties === "object" ? shape.additionalProperties : {});
    return resolved(part, schema);
  }, resolved(schema, schema));
}

/** A part with its references followed and its alternatives laid together. */
function resolved(part, schema) {
  if (part.$ref) {
    const target = part.$ref.split("/").slice(1).reduce((at, name) => at[name], schema);
    return resolved({ ...target, ...part, $ref: undefined }, schema);
  }
  const parts = [part, ...(part.anyOf ?? []).filter((other) => other.$ref || other.type || other.enum).map((other) => resolved(other, schema))];
  return Object.assign({}, ...parts.toReversed());
}
