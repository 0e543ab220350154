"""A comparison as a YAML file: what it says, the files of inputs that it names, and the place of whatever is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolebook.core.comparison_spec import ComparisonSpec, find_unknown_spec_keys, parse_spec
from rolebook.core.errors import FileError, InputError, Phrase, Problem
from rolebook.core.fault import Fault, FaultyDataError, describe_path
from rolebook.core.frozen import frozen
from rolebook.core.persona import Place
from rolebook.library.file_library import set_of
from rolebook.library.folder import shown
from rolebook.library.inputs_file import InputRow, read_bytes, read_inputs
from rolebook.library.persona_file import TextPlaces
from rolebook.library.yaml_text import Document, Mark, parse_yaml

#: Where a plain value has the type that YAML gives it; elsewhere the field decides.
_TYPED = (
    ("variants", "*", "request"),
    ("variants", "*", "changes", "request"),
    ("variants", "*", "changes", "x"),
    ("variants", "*", "changes", "checks", "*", "is_json"),
    ("checks", "*", "is_json"),
)
#: What may stand beside ``file``; it holds for every input of that file which does not say otherwise.
_BESIDE_FILE = ("file", "variables", "reference", "tags")
#: In the place of a file that cannot be read, so that nothing else is said to be missing because of it.
_UNREAD = {"input": "…"}


@frozen
class ComparisonFile:
    """A comparison file as it was read.

    ``data`` is what it says, with the inputs of other files in their places; ``spec`` is made from it. ``problems`` are
    warnings. ``place_of`` finds the place of a part of ``data`` by the path to it, in whichever file that stands,
    ``text_at`` where a text of a variant begins, if it stands there.
    """

    file: str
    data: dict[str, Any]
    spec: ComparisonSpec
    place_of: Callable[[tuple[str | int, ...]], Mark]
    text_at: Callable[[tuple[str | int, ...]], Place | None]
    problems: tuple[Problem, ...] = ()


def read_comparison_file(path: Path) -> ComparisonFile:
    """Read a comparison file. Files of inputs are looked for beside it.

    Raises InputError if it cannot be read, FileError with every problem in it.
    """
    return parse_comparison(read_bytes(path), file=shown(path), folder=path.parent)


def parse_comparison(
    source: bytes | str, *, file: str, folder: Path | None = None
) -> ComparisonFile:
    """The comparison that a YAML text describes.

    Arguments:
        file: its name, for problems.
        folder: where files of inputs are; ``None`` refuses them, for a text from elsewhere.

    Raises FileError with every problem in it.
    """
    document = parse_yaml(source, file=file, typed=_TYPED)
    data: dict[str, Any] = dict(document.data)
    inputs = _Inputs(document, folder)
    given = data.get("inputs")
    if isinstance(given, list):
        data["inputs"] = inputs.gather(given)
    found = [inputs.problem(fault, of_key=True) for fault in find_unknown_spec_keys(data)]
    try:
        spec = parse_spec(data)
    except FaultyDataError as error:
        found += [inputs.problem(fault, of_key=False) for fault in error.faults]
    problems = set_of([*document.problems, *inputs.problems, *found])
    problems.sort(key=lambda problem: (problem.file != file, problem.line, problem.column))
    if any(problem.severity == "error" for problem in problems):
        raise FileError(problems)

    def text_at(path: tuple[str | int, ...]) -> Place | None:
        mark = document.marks.get(path)
        if mark is None:
            return None
        text = source if isinstance(source, str) else source.decode("utf-8", "replace")
        return TextPlaces(text, [key.line for key in document.key_marks.values()]).of(mark)

    return ComparisonFile(file, data, spec, inputs.place_of, text_at, tuple(problems))


@dataclass
class _Inputs:
    """The inputs of a comparison file, gathered from wherever they stand.

    ``origins`` has for each of them the index of its entry in the file, ``rows`` those that come from another file.
    """

    document: Document
    folder: Path | None
    origins: list[int] = field(default_factory=list)
    rows: dict[int, InputRow] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def gather(self, given: Sequence[Any]) -> list[Any]:
        """All inputs, those of other files in the place of what names the file."""
        gathered: list[Any] = []
        for index, entry in enumerate(given):
            if isinstance(entry, Mapping) and "file" in entry:
                rows = self._read(entry, index)
                self.rows.update(enumerate(rows, start=len(gathered)))
                gathered += [_filled(row.data, entry) for row in rows] or [_UNREAD]
            else:
                gathered.append(entry)
            self.origins += [index] * (len(gathered) - len(self.origins))
        return gathered

    def place_of(self, path: tuple[str | int, ...]) -> Mark:
        """The place of a part of the gathered data: of an input from another file there."""
        match path:
            case ("inputs", int(index), *rest):
                row = self.rows.get(index)
                if row and _is_own(row, rest):
                    return row.place
                path = ("inputs", self.origins[index], *rest)
        return self._mark(path, of_key=False)

    def problem(self, fault: Fault, *, of_key: bool) -> Problem:
        """A fault in the gathered data, at the place of the value or of its key."""
        path, parameters = fault.path, fault.parameters
        if path[:1] == ("inputs",) and len(path) > 1:
            path = ("inputs", self.origins[int(path[1])], *path[2:])
            parameters = {**parameters, "key": describe_path(path)}
        mark = self._mark(path, of_key=of_key)
        return Problem(mark.file, mark.line, mark.column, fault.message, parameters, fault.severity)

    def _read(self, entry: Mapping[str, Any], index: int) -> list[InputRow]:
        here = ("inputs", index)
        for key in entry:
            if key not in _BESIDE_FILE:
                message = "'%(key)s' cannot stand beside 'file'. There is: %(known)s."
                known = ", ".join(_BESIDE_FILE)
                self._note((*here, key), Phrase(message, {"key": key, "known": known}))
        name = entry["file"]
        if not isinstance(name, str) or not name.strip():
            self._note((*here, "file"), Phrase("'file' must be the name of a file."))
        elif self.folder is None:
            message = "Here no other file can be read: put the inputs themselves in."
            self._note((*here, "file"), Phrase(message))
        else:
            path = self.folder / name
            try:
                return read_inputs(path)
            except FileError as error:
                self.problems += error.problems
            except InputError as error:
                self._note((*here, "file"), Phrase(error.message, error.parameters))
        return []

    def _note(self, path: tuple[str | int, ...], said: Phrase) -> None:
        mark = self._mark(path, of_key=False)
        self.problems.append(
            Problem(mark.file, mark.line, mark.column, said.message, dict(said.parameters))
        )

    def _mark(self, path: tuple[str | int, ...], *, of_key: bool) -> Mark:
        """The place of a value (or its key), else of the nearest thing around it."""
        first, second = self.document.marks, self.document.key_marks
        if of_key:
            first, second = second, first
        for end in range(len(path), -1, -1):
            mark = first.get(path[:end]) or second.get(path[:end])
            if mark is not None:
                return mark
        raise AssertionError("the root of a document has a mark")


def _is_own(row: InputRow, path: Sequence[str | int]) -> bool:
    """Whether a part of an input stands in its own file, and not beside the name of that."""
    match path:
        case ["variables", name]:
            return name in row.data.get("variables", ())
    return True


def _filled(data: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The data of an input with what stands beside the name of its file."""
    filled = {**{key: entry[key] for key in ("reference", "tags") if key in entry}, **data}
    common = entry.get("variables")
    if isinstance(common, Mapping):
        filled["variables"] = {**common, **data.get("variables", {})}
    return filled
