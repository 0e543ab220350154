"""One persona file: its data, its bases merged in, and the place of whatever is wrong with it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from itertools import islice
from typing import Any

from rolebook.core.errors import Problem
from rolebook.core.fault import Fault, FaultyDataError, describe_path
from rolebook.core.frozen import frozen
from rolebook.core.persona import Persona, Place, expand_variable, parse_persona
from rolebook.core.session import Revision
from rolebook.core.unknown_keys import find_unknown_keys
from rolebook.library.yaml_text import (
    MAX_PROBLEMS,
    Document,
    Mark,
    YamlError,
    dump_yaml,
    parse_yaml,
)

Path = tuple[str | int, ...]

#: Below these keys a plain value has the type that YAML gives it; elsewhere the field decides.
TYPED_KEYS = (("request",), ("x",), ("checks", "*", "is_json"))
#: As in marks and in editors; ``splitlines`` knows others, such as U+2028.
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")
_SCHEMA_LINE = "# yaml-language-server: $schema="


@frozen
class PersonaFile:
    """A file as it was read. ``document`` is missing when it is no YAML that can be used."""

    id: str
    file: str
    text: str
    document: Document | None
    problems: tuple[Problem, ...] = ()

    @property
    def base(self) -> str:
        """The id that it extends, if any."""
        base = self.document.data.get("extends") if self.document else None
        return base if isinstance(base, str) else ""


def read_persona_file(persona_id: str, *, file: str, source: bytes) -> PersonaFile:
    """Read one file. Never raises: what is wrong is in its problems."""
    text = source.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        document = parse_yaml(source, file=file, typed=TYPED_KEYS)
    except YamlError as error:
        return PersonaFile(persona_id, file, text, None, error.problems)
    return PersonaFile(persona_id, file, text, document, document.problems)


@frozen
class _Merged:
    data: dict[str, Any]
    marks: dict[Path, Mark] = field(default_factory=dict)
    key_marks: dict[Path, Mark] = field(default_factory=dict)

    def mark_of(self, path: Path, file: str, *, of_key: bool) -> Mark:
        """The place of a value (or its key), else of the nearest thing around it."""
        first, second = (self.key_marks, self.marks) if of_key else (self.marks, self.key_marks)
        for end in range(len(path), -1, -1):
            mark = first.get(path[:end]) or second.get(path[:end])
            if mark is not None:
                return mark
        return Mark(file, 1, 1)


@frozen
class Built:
    """What files make: a persona, or where they have errors what could be read of one.

    ``unread`` are the keys at the root that could not be read. ``persona`` is missing where nothing could.
    """

    persona: Persona | None
    unread: frozenset[str]
    places: Mapping[str, Place]
    problems: tuple[Problem, ...]


def build_persona(chain: Sequence[PersonaFile], *, is_whole: bool = True) -> Built:
    """The persona of the last file of ``chain``, whose bases come before it, the furthest first.

    All files have a document. If the chain is not whole, a base that is missing could have any key and any variable.
    """
    last = chain[-1]
    merged = _Merged({})
    for file in chain:
        assert file.document is not None
        merged = _merge(merged, file.document)
    problems = [problem for file in chain[-1:] for problem in file.problems]
    own = last.document.data if last.document else {}
    unknown = islice(find_unknown_keys(own), MAX_PROBLEMS)
    problems += [_problem(fault, merged, last.file) for fault in unknown]
    unread = frozenset(() if is_whole else ("variables",))
    persona: Persona | None = None
    try:
        persona = parse_persona(last.id, merged.data)
    except FaultyDataError as error:
        faults = [fault for fault in error.faults if is_whole or _is_own(fault, merged.data)]
        problems += [_problem(fault, merged, last.file) for fault in faults[:MAX_PROBLEMS]]
        unread |= {str(part) for fault in error.faults for part in fault.path[:1]}
        read = {key: value for key, value in merged.data.items() if key not in unread}
        with suppress(FaultyDataError):
            persona = parse_persona(last.id, {"name": "…", "system": "", **read})
    return Built(persona, unread, dict(_places(merged, chain)), tuple(problems))


def _is_own(fault: Fault, data: Mapping[str, Any]) -> bool:
    """Whether it is wrong whatever a base that is missing has: that may bring the key, or the rest of the variable."""
    root, *rest = fault.path or ("",)
    return root in data and not (
        root == "variables" and (len(rest) == 1 or rest[-1:] == ["default"])
    )


def _merge(base: _Merged, document: Document) -> _Merged:
    """Maps merge key by key; lists and plain values replace what was there, with its places."""
    merged = _Merged(dict(base.data), dict(base.marks), dict(base.key_marks))
    _merge_into(merged.data, _with_long_variables(document.data), (), merged)
    merged.marks.update(document.marks)
    merged.key_marks.update(document.key_marks)
    return merged


def merge_data(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A persona's data with changes, as ``extends`` merges them: maps key by key, all else is replaced."""
    merged = _Merged(dict(base))
    _merge_into(merged.data, _with_long_variables(changes), (), merged)
    return merged.data


def _with_long_variables(given: Mapping[str, Any]) -> dict[str, Any]:
    """Short forms would replace what a base says of a variable, instead of changing its default."""
    variables = given.get("variables")
    if not isinstance(variables, Mapping):
        return dict(given)
    expanded = {name: expand_variable(value) for name, value in variables.items()}
    return {**given, "variables": expanded}


def _merge_into(
    target: dict[str, Any], given: Mapping[str, Any], path: Path, merged: _Merged
) -> None:
    for key, value in given.items():
        here = (*path, key)
        old = target.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            target[key] = dict(old)
            _merge_into(target[key], value, here, merged)
        else:
            _forget(merged.marks, here)
            _forget(merged.key_marks, here)
            target[key] = value


def _forget(marks: dict[Path, Mark], path: Path) -> None:
    for known in [known for known in marks if known[: len(path)] == path]:
        del marks[known]


def _problem(fault: Fault, merged: _Merged, file: str) -> Problem:
    is_about_key = fault.severity == "warning"
    mark = merged.mark_of(fault.path, file, of_key=is_about_key)
    return Problem(
        mark.file, mark.line, mark.column, fault.message, fault.parameters, fault.severity
    )


def _places(merged: _Merged, chain: Sequence[PersonaFile]) -> Iterator[tuple[str, Place]]:
    """Where the first line of each text that is rendered stands: below a ``|``, else where the value begins."""
    keys: dict[str, list[int]] = {file.file: [] for file in chain}
    for key in merged.key_marks.values():
        keys[key.file].append(key.line)
    texts = {file.file: TextPlaces(file.text, keys[file.file]) for file in chain}
    for path in _rendered_texts(merged.data):
        mark = merged.marks.get(path)
        if mark is not None:
            yield describe_path(path), texts[mark.file].of(mark)


class TextPlaces:
    """Where texts begin that are values in a file, for errors inside them.

    Arguments:
        source: the text of the file.
        keys: the lines on which keys stand: there a text has ended.
    """

    def __init__(self, source: str, keys: Iterable[int]) -> None:
        self._lines = _LINE_BREAK.split(source)
        self._keys = sorted(keys)

    def of(self, mark: Mark) -> Place:
        """The place of the text whose value is marked."""
        after = bisect_right(self._keys, mark.line)
        end = self._keys[after] if after < len(self._keys) else len(self._lines) + 1
        return _place_of(mark, self._lines[: end - 1])


def _rendered_texts(data: Mapping[str, Any]) -> Iterator[Path]:
    yield ("system",)
    yield ("greeting",)
    examples = data.get("examples")
    for index in range(len(examples) if isinstance(examples, list) else 0):
        yield ("examples", index, "user")
        yield ("examples", index, "assistant")


def _place_of(mark: Mark, lines: Sequence[str]) -> Place:
    indicator = lines[mark.line - 1][mark.column - 1 : mark.column]
    if indicator == ">":
        return Place(mark.file, mark.line + 1, lines=tuple(lines[mark.line :]))
    if indicator != "|":
        is_quoted = indicator in {'"', "'"}
        folded = tuple(lines[mark.line - 1 :]) if len(lines) > mark.line else ()
        return Place(mark.file, mark.line, offset=mark.column - 1 + is_quoted, lines=folded)
    first = next((line for line in lines[mark.line :] if line.strip()), "")
    indent = len(first) - len(first.lstrip())
    return Place(mark.file, mark.line + 1, indent, indent)


def describe_revision(revision: Revision) -> str:
    """A revision as one text: the persona as its file could say it with its bases merged in, then its templates."""
    data = {key: value for key, value in revision.resolved.items() if key != "extends"}
    templates = [f"\n# {name}.jinja\n{text}" for name, text in sorted(revision.templates.items())]
    return dump_yaml(data) + "".join(
        text if text.endswith("\n") else f"{text}\n" for text in templates
    )


def schema_line(location: str) -> str:
    """The first line of a persona file, by which editors find the schema."""
    return f"{_SCHEMA_LINE}{location}\n"
