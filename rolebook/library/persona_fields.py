"""A persona file as fields of one text each, as a form has them; and the file's text after some of them changed.

A field that is as it was shown changes nothing, so what a form cannot show is safe: keys that it does not know, values
of another shape, numbers written in another way. Fields of rows are named ``examples-0-user``, ``variables-1-default``;
the field ``source`` of a row says which entry of the file it is, and ``examples-rows`` that a form shows them at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from rolebook.core.errors import InputError
from rolebook.core.frozen import frozen
from rolebook.library.persona_edit import edit_persona
from rolebook.library.persona_file import TYPED_KEYS
from rolebook.library.yaml_change import InOrder, is_same
from rolebook.library.yaml_text import Path, parse_yaml, resolve_scalar

Row = dict[str, str]

#: On one line, and on several.
LINE_KEYS: Final = (
    "name",
    "language",
    "avatar",
    "extends",
    "model",
    "upstream",
    "template",
)
TEXT_KEYS: Final = ("description", "system", "greeting")
LIST_KEYS: Final = ("tags", "starters")
SAMPLING_KEYS: Final = (
    "temperature",
    "top_p",
    "max_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "reasoning_effort",
    "stop",
)
CONTEXT_KEYS: Final = ("turns", "tokens")
EXAMPLE_KEYS: Final = ("user", "assistant")
VARIABLE_KEYS: Final = ("type", "choices", "default", "required", "description", "min", "max")
ROW_KEYS: Final = {
    "examples": ("source", *EXAMPLE_KEYS),
    "variables": ("source", "name", *VARIABLE_KEYS),
}
#: A form with more fields would not be read.
MAX_ROWS: Final = {"examples": 100, "variables": 50}
_TAG_SEPARATOR = re.compile(r"[,，、\n]")
_NUMBERED = re.compile(r"(examples|variables)-([0-9]{1,4})-([a-z]+)")
_LIMITS = ("min", "max")


class FieldsError(InputError):
    """Fields from which no file can be made. ``faults`` has what is wrong by the field that it is wrong in."""

    def __init__(self, faults: Mapping[str, InputError]) -> None:
        first = next(iter(faults.values()))
        super().__init__(first.message, **first.parameters)
        self.faults = dict(faults)


@frozen
class Shown:
    """What a form shows of a file: its fields, and the keys with values that it cannot show or does not know."""

    fields: Mapping[str, str]
    odd: frozenset[str] = frozenset()
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)


def show_fields(data: Mapping[str, Any]) -> Shown:
    """The fields of a persona file's data."""
    shown = _Shown(data)
    return Shown(shown.fields, frozenset(shown.odd), shown.others)


class _Shown:
    def __init__(self, data: Mapping[str, Any]) -> None:
        self.fields: dict[str, str] = {}
        self.odd: set[str] = set()
        self.others: dict[str, Sequence[str]] = {}
        for key in (*LINE_KEYS, *TEXT_KEYS):
            self._put(key, key, data.get(key))
        for key in LIST_KEYS:
            self._put_list(key, data.get(key))
        self._put_part("sampling", SAMPLING_KEYS, data.get("sampling"))
        self._put_part("context", CONTEXT_KEYS, data.get("context"))
        self._put_examples(data.get("examples"))
        self._put_variables(data.get("variables"))
        known = {*LINE_KEYS, *TEXT_KEYS, *LIST_KEYS, "sampling", "context", "examples", "variables"}
        self.others[""] = [key for key in data if key not in known]

    def _put(self, name: str, key: str, value: object) -> None:
        if isinstance(value, Mapping | list):
            self.odd.add(key)
            return
        text = _text(value)
        self.fields[name] = as_submitted(text, is_line=key in LINE_KEYS)

    def _put_list(self, key: str, value: object) -> None:
        items = [value] if isinstance(value, str) else value or []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            self.odd.add(key)
            return
        self.fields[key] = as_submitted(", ".join(items) if key == "tags" else _lines(items))

    def _put_part(self, part: str, keys: Sequence[str], value: object) -> None:
        if value is not None and not isinstance(value, Mapping):
            self.odd.add(part)
            return
        given = value or {}
        for key in keys:
            item = given.get(key)
            if isinstance(item, list) and all(isinstance(text, str) for text in item):
                item = _lines(item)
            if isinstance(item, Mapping | list):
                self.odd.add(f"{part}-{key}")
                continue
            self.fields[f"{part}-{key}"] = as_submitted(_text(item))
        self.others[part] = [key for key in given if key not in keys]

    def _put_examples(self, value: object) -> None:
        items = value if value is not None else []
        if not isinstance(items, list) or not all(map(_is_example, items)):
            self.odd.add("examples")
            return
        self._allow_rows("examples", len(items))
        for index, item in enumerate(items):
            self.fields[f"examples-{index}-source"] = str(index)
            for key in EXAMPLE_KEYS:
                self.fields[f"examples-{index}-{key}"] = as_submitted(_text(item.get(key)))

    def _allow_rows(self, part: str, number: int) -> None:
        if number > MAX_ROWS[part]:
            self.odd.add(part)
        else:
            self.fields[f"{part}-rows"] = "1"

    def _put_variables(self, value: object) -> None:
        given = value if value is not None else {}
        if not isinstance(given, Mapping) or any(isinstance(v, list) for v in given.values()):
            self.odd.add("variables")
            return
        self._allow_rows("variables", len(given))
        for index, (name, variable) in enumerate(given.items()):
            for key, text in _variable_fields(name, variable).items():
                self.fields[f"variables-{index}-{key}"] = as_submitted(text)


def _is_example(item: object) -> bool:
    return isinstance(item, Mapping) and not any(
        isinstance(item.get(key), Mapping | list) for key in EXAMPLE_KEYS
    )


def _variable_fields(name: str, variable: object) -> Row:
    long = variable if isinstance(variable, Mapping) else {"default": variable}
    row = {"source": name, "name": name}
    for key in VARIABLE_KEYS:
        value = long.get(key)
        if isinstance(value, list):
            value = _lines([_text(item) for item in value])
        row[key] = _text(value)
    row["type"] = row["type"] or "text"
    row["required"] = "true" if row["required"].lower() in {"true", "yes", "on"} else "false"
    return row


def _text(value: object) -> str:
    if value is None or isinstance(value, Mapping | list):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _lines(items: Sequence[str]) -> str:
    return "\n".join(item.replace("\n", "\\n") for item in items)


def _from_lines(text: str) -> list[str]:
    return [line.replace("\\n", "\n") for line in text.split("\n") if line.strip()]


def as_submitted(text: str, *, is_line: bool = False) -> str:
    """A text as a browser sends it back when nobody has touched its field."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return unified.replace("\n", "") if is_line else unified


def rows_of(fields: Mapping[str, str], part: str) -> list[Row]:
    """The rows of examples or variables, in their order."""
    rows: dict[int, Row] = {}
    for name, value in fields.items():
        match = _NUMBERED.fullmatch(name)
        if match and match[1] == part and match[3] in ROW_KEYS[part]:
            rows.setdefault(int(match[2]), {})[match[3]] = value
    return [dict.fromkeys(ROW_KEYS[part], "") | rows[number] for number in sorted(rows)]


def with_rows(fields: Mapping[str, str], part: str, rows: Sequence[Row]) -> dict[str, str]:
    """The fields with other rows of examples or variables."""
    kept = {name: value for name, value in fields.items() if not name.startswith(f"{part}-")}
    for index, row in enumerate(rows):
        kept |= {f"{part}-{index}-{key}": value for key, value in row.items()}
    return {**kept, f"{part}-rows": "1"}


def edit_fields(text: str, fields: Mapping[str, str]) -> str:
    """The text of a persona file with the fields that differ from those that are shown of it.

    Raises YamlError for a text that cannot be read, FieldsError for fields from which no file can be made.
    """
    data = parse_yaml(text, file="", typed=TYPED_KEYS).data
    changes = _Changes(data, fields).found
    try:
        edited = edit_persona(text, changes)
        for key in ("sampling", "context"):
            if key in changes and not changes[key]:
                # What is left of an emptied part may be comments that are somebody's notes.
                noted = edit_persona(text, {**changes, key: {}})
                edited = noted if noted.count("#") > edited.count("#") else edited
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise FieldsError({"": InputError(_UNHOLDABLE)}) from None
    return edited


_UNHOLDABLE = (
    "The text holds a character that no file can hold (NUL, or half of a pair). Please remove it."
)


class _Changes:
    """The keys that fields change, with their new values; None for those that go."""

    def __init__(self, data: Mapping[str, Any], fields: Mapping[str, str]) -> None:
        self._data = data
        self._fields = fields
        self._shown = show_fields(data).fields
        self._faults: dict[str, InputError] = {}
        self.found: dict[str, Any] = dict(self._find())
        if self._faults:
            raise FieldsError(self._faults)

    def _is_changed(self, name: str) -> bool:
        return (
            name in self._shown and self._fields.get(name, self._shown[name]) != self._shown[name]
        )

    def _find(self) -> Iterator[tuple[str, Any]]:
        for key in (*LINE_KEYS, *TEXT_KEYS):
            if self._is_changed(key):
                value = self._fields[key]
                value = value.strip() if key in LINE_KEYS else value
                # A persona has a name, even an empty one that is complained about.
                yield key, value if value.strip() or key == "name" else None
        if self._is_changed("tags"):
            tags = [tag.strip() for tag in _TAG_SEPARATOR.split(self._fields["tags"])]
            yield "tags", [tag for tag in tags if tag] or None
        if self._is_changed("starters"):
            yield "starters", _from_lines(self._fields["starters"]) or None
        yield from self._find_part("sampling", SAMPLING_KEYS)
        yield from self._find_part("context", CONTEXT_KEYS)
        yield from self._find_examples()
        yield from self._find_variables()

    def _find_part(self, part: str, keys: Sequence[str]) -> Iterator[tuple[str, Any]]:
        changed = [key for key in keys if self._is_changed(f"{part}-{key}")]
        if not changed:
            return
        values = dict(self._data.get(part) or {})
        for key in changed:
            given = self._fields[f"{part}-{key}"]
            if not given.strip():
                values.pop(key, None)
            elif key == "stop":
                values[key] = _from_lines(given)
            else:
                values[key] = _number_or_text(given)
        yield part, values or None

    def _find_examples(self) -> Iterator[tuple[str, Any]]:
        if "examples-rows" not in self._fields or "examples-rows" not in self._shown:
            return
        rows = rows_of(self._fields, "examples")
        items = [self._example(row) for row in rows if not _is_empty_example(row)]
        if not is_same(self._data.get("examples") or [], items):
            yield "examples", items or None

    def _example(self, row: Row) -> Mapping[str, Any]:
        source = row["source"]
        given = self._data.get("examples") or []
        old = given[int(source)] if source.isdecimal() and int(source) < len(given) else None
        item = dict(old or {})
        for key in EXAMPLE_KEYS:
            if old is None or row[key] != as_submitted(_text(old.get(key))):
                item[key] = row[key]
        return item

    def _find_variables(self) -> Iterator[tuple[str, Any]]:
        if "variables-rows" not in self._fields or "variables-rows" not in self._shown:
            return
        variables: dict[str, Any] = {}
        given = self._data.get("variables") or {}
        for index, row in enumerate(rows_of(self._fields, "variables")):
            name = row["name"].strip()
            if _is_empty_variable(row):
                continue
            if not name:
                message = "A variable needs a name, by which the text calls it."
                self._faults[f"variables-{index}-name"] = InputError(message)
            elif name in variables:
                message = "There is already a variable '%(name)s': choose another name."
                self._faults[f"variables-{index}-name"] = InputError(message, name=name)
            else:
                variables[name] = _variable(given.get(row["source"], _NEW), row)
        if list(variables) != list(given) or not is_same(given, variables):
            yield "variables", InOrder(variables) or None


_NEW: Final = object()


def _is_empty_example(row: Row) -> bool:
    """Whether it is a new row that nobody has filled in."""
    return not row["source"] and not any(row[key].strip() for key in EXAMPLE_KEYS)


def _is_empty_variable(row: Row) -> bool:
    filled = ("name", "default", "description", "choices")
    return not row["source"] and not any(row[key].strip() for key in filled)


def _variable(old: object, row: Row) -> object:
    """A variable in the form, short or long, that it had, with what was changed of it."""
    is_long = isinstance(old, Mapping)
    shown = {} if old is _NEW else _variable_fields("", old)
    long: dict[str, Any] = dict(old) if isinstance(old, Mapping) else {}
    if old is not _NEW and not is_long:
        long["default"] = old
    if row["type"] != shown.get("type", "text"):
        _set_or_drop(long, "type", row["type"] if row["type"] != "text" else "")
    kind = row["type"]
    values: dict[str, object] = {
        "choices": _from_lines(row["choices"]) if kind == "choice" else "",
        "min": _number_or_text(row["min"]) if kind in {"number", "integer"} else "",
        "max": _number_or_text(row["max"]) if kind in {"number", "integer"} else "",
        "default": _default(row["default"], kind),
        "required": True if row["required"] == "true" else "",
        "description": row["description"],
    }
    is_other_type = kind != shown.get("type", "text")
    for key, value in values.items():
        was = as_submitted(shown.get(key, "false" if key == "required" else ""))
        if row[key] != was or (is_other_type and key in {"choices", "default", *_LIMITS}):
            _set_or_drop(long, key, value)
    return long.get("default", "") if not is_long and set(long) <= {"default"} else long


def _set_or_drop(target: dict[str, Any], key: str, value: object) -> None:
    if value in ("", [], None):
        target.pop(key, None)
    else:
        target[key] = value


def _default(text: str, kind: str) -> object:
    if kind in {"number", "integer"}:
        return _number_or_text(text)
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    return text


def _number_or_text(text: str) -> object:
    """A number where it is one; what is none is written as it stands, and complained about where it stands."""
    stripped = text.strip()
    value = resolve_scalar(stripped)
    is_finite = (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    )
    return value if is_finite else stripped


def field_of(path: Path, fields: Mapping[str, str]) -> str:
    """The field that shows the value at a path of the file that fields make; empty if none does."""
    head, *rest = path or ("",)
    if head in {*LINE_KEYS, *TEXT_KEYS, *LIST_KEYS}:
        return str(head)
    if head in {"sampling", "context"}:
        keys = SAMPLING_KEYS if head == "sampling" else CONTEXT_KEYS
        return f"{head}-{rest[0]}" if rest and rest[0] in keys else ""
    if head == "examples" and rest:
        rows = enumerate(rows_of(fields, "examples"))
        numbers = [index for index, row in rows if not _is_empty_example(row)]
        key = rest[1] if len(rest) > 1 and rest[1] in EXAMPLE_KEYS else EXAMPLE_KEYS[0]
        is_shown = isinstance(rest[0], int) and rest[0] < len(numbers)
        return f"examples-{numbers[int(rest[0])]}-{key}" if is_shown else ""
    if head == "variables" and rest:
        key = rest[1] if len(rest) > 1 and rest[1] in VARIABLE_KEYS else "name"
        for index, row in enumerate(rows_of(fields, "variables")):
            if row["name"].strip() == rest[0]:
                return f"variables-{index}-{key}"
    return ""
