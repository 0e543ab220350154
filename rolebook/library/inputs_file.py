"""Files of inputs: CSV, JSON, JSON Lines and plain text become the raw data of inputs, each mistake with its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rolebook.core.comparison_spec import InputSpec, parse_spec
from rolebook.core.errors import FileError, InputError, Phrase, Problem
from rolebook.core.fault import FaultyDataError, describe_path
from rolebook.core.fields import in_line
from rolebook.core.frozen import frozen
from rolebook.library.folder import shown
from rolebook.library.yaml_text import Mark, _explain_undecodable, _wide_encoding

MAX_BYTES = 10 * 1024 * 1024
MAX_INPUTS = 10_000

#: Columns that are no variables, by their heading in small letters.
_COLUMNS = ("input", "name", "reference", "tags")
_TAG_BREAK = re.compile("[,;，；、]")
_QUESTION_MARKS = ("?", "？", "؟")
_SHORT_HEADING = 60
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")
_QUOTED = re.compile(r'"[^"]*"')
_MAX_PROBLEMS = 100
_SPACE = re.compile(r"[ \t\r\n]*")
_NO_JSON = "This is no JSON: %(reason)s."
_HEAVY_JSON = "This JSON cannot be read: a number in it is too long, or it has too many levels."


@frozen
class InputRow:
    """The raw data of one input, for ``InputSpec``, and the file and line where it begins."""

    data: Mapping[str, Any]
    file: str
    line: int

    @property
    def place(self) -> Mark:
        """Where it stands."""
        return Mark(self.file, self.line, 0)


def read_inputs(path: Path) -> list[InputRow]:
    """The inputs of a file; its ending says what kind of file it is.

    Raises InputError for a file that is not there or of no known kind, FileError with every problem in it.
    """
    return parse_inputs(read_bytes(path), file=shown(path))


def parse_inputs(source: bytes, *, file: str) -> list[InputRow]:
    """The inputs in the content of a file.

    Arguments:
        file: its name, for its ending and for problems.

    Raises InputError for a file of no known kind, FileError with every problem in it.
    """
    reader = _READERS.get(Path(file).suffix.lower())
    if reader is None:
        raise InputError(
            "%(file)s is no file of inputs that is known here. It must end in one of: %(known)s.",
            file=file,
            known=", ".join(INPUT_SUFFIXES),
        )
    faults = _Faults(file)
    text = _decode(source, faults)
    rows = _limited(reader(text, faults), faults)
    # Those that can be read are looked at all the same, so that nobody has to come again for what is wrong with them.
    _check(rows, faults)
    faults.raise_if_any()
    if not rows:
        faults.stop(0, Phrase("There is no input in this file."))
    return rows


def parse_pasted(text: str) -> list[dict[str, Any]]:
    """One input a line, blank lines left out. Raises InputError for none at all and for too many."""
    inputs: list[dict[str, Any]] = [{"input": line} for _, line in _lines(text)]
    if not inputs:
        raise InputError("There is no input yet: write at least one line.")
    if len(inputs) > MAX_INPUTS:
        raise InputError(
            "These are %(count)d inputs, and %(limit)d are the most.",
            count=len(inputs),
            limit=MAX_INPUTS,
        )
    return inputs


def read_bytes(path: Path) -> bytes:
    """The content of a file somebody named. Raises InputError, FileError if it is too large."""
    try:
        with path.open("rb") as file:
            # One byte more than allowed is enough to know; a device may have no end.
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            "%(path)s cannot be read: %(reason)s.", path=shown(path), reason=error.strerror
        ) from None


class _Faults:
    """Collects what is wrong in one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._problems: list[Problem] = []

    def add(self, line: int, said: Phrase, *, column: int = 0) -> None:
        """Note a problem; after very many of them the rest is not worth reading."""
        self._problems.append(Problem(self.file, line, column, said.message, dict(said.parameters)))
        if len(self._problems) >= _MAX_PROBLEMS:
            self.raise_if_any()

    def stop(self, line: int, said: Phrase, *, column: int = 0) -> NoReturn:
        """Note a problem behind which nothing can be read. Raises FileError."""
        problem = Problem(self.file, line, column, said.message, dict(said.parameters))
        raise FileError([*self._problems, problem])

    def raise_if_any(self) -> None:
        if self._problems:
            raise FileError(sorted(self._problems, key=lambda problem: problem.line))


def _decode(source: bytes, faults: _Faults) -> str:
    if len(source) > MAX_BYTES:
        limit = MAX_BYTES // 1024 // 1024
        faults.stop(0, Phrase("The file has more than %(limit)d MB: split it.", {"limit": limit}))
    if encoding := _wide_encoding(source):
        message = "The file is written in %(encoding)s: save it as UTF-8."
        faults.stop(1, Phrase(message, {"encoding": encoding}), column=1)
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError([_explain_undecodable(source, error.start, faults.file)]) from None
    if "\0" in text:
        before = text[: text.index("\0")]
        faults.stop(
            before.count("\n") + 1,
            Phrase("There is a NUL character here: this is no text file, or it is damaged."),
            column=len(before) - before.rfind("\n"),
        )
    return text


def _limited(rows: Iterator[InputRow], faults: _Faults) -> list[InputRow]:
    taken: list[InputRow] = []
    for row in rows:
        if len(taken) == MAX_INPUTS:
            message = "There are more than %(limit)d inputs: split the file."
            faults.stop(row.line, Phrase(message, {"limit": MAX_INPUTS}))
        taken.append(row)
    return taken


def _check(rows: Sequence[InputRow], faults: _Faults) -> None:
    """Note what no input can be made of."""
    try:
        parse_spec({"variants": ["-"], "inputs": [dict(row.data) for row in rows]})
    except FaultyDataError as error:
        for fault in error.faults:
            match fault.path:
                case ("inputs", int(index), *path):
                    key = describe_path(path) or Phrase("the input")
                    said = Phrase(fault.message, {**fault.parameters, "key": key})
                    faults.add(rows[index].line, said)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, without white space around them, and their numbers."""
    for number, line in enumerate(_LINE_BREAK.split(text), start=1):
        if line.strip():
            yield number, line.strip()


def _read_lines(text: str, faults: _Faults) -> Iterator[InputRow]:
    for number, line in _lines(text):
        yield InputRow({"input": line}, faults.file, number)


def _read_json_lines(text: str, faults: _Faults) -> Iterator[InputRow]:
    for number, line in _lines(text):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            faults.add(number, Phrase(_NO_JSON, {"reason": error.msg}), column=error.colno)
        except (ValueError, RecursionError):
            faults.add(number, Phrase(_HEAVY_JSON))
        else:
            yield from _row_of(value, number, faults)


def _read_json(text: str, faults: _Faults) -> Iterator[InputRow]:
    """The entries of a list, read one by one so that each has its line."""
    decoder = json.JSONDecoder()
    index = _skip_space(text, 0)
    line = _line_after(text, 0, index, 1)
    if text[index : index + 1] != "[":
        faults.stop(
            line,
            Phrase(
                "The file must be a list of texts or of objects. One object a line belongs in a file that ends "
                "in .jsonl."
            ),
        )
    begun, index = index, _skip_space(text, index + 1)
    while text[index : index + 1] != "]":
        line, begun = _line_after(text, begun, index, line), index
        try:
            value, index = decoder.raw_decode(text, index)
            index = _skip_space(text, index)
            if text[index : index + 1] not in {",", "]"}:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, index)
        except json.JSONDecodeError as error:
            faults.stop(error.lineno, Phrase(_NO_JSON, {"reason": error.msg}), column=error.colno)
        except (ValueError, RecursionError):
            faults.stop(line, Phrase(_HEAVY_JSON))
        yield from _row_of(value, line, faults)
        if text[index] == ",":
            index = _skip_space(text, index + 1)
    after = _skip_space(text, index + 1)
    if after < len(text):
        line = _line_after(text, begun, after, line)
        faults.stop(line, Phrase(_NO_JSON, {"reason": "Extra data"}))


def _skip_space(text: str, index: int) -> int:
    found = _SPACE.match(text, index)
    return found.end() if found else index


def _line_after(text: str, begun: int, index: int, line: int) -> int:
    """The line of ``index``, told from that of ``begun``: counting from the top each time would take a square of it."""
    return line + text.count("\n", begun, index)


def _row_of(value: object, line: int, faults: _Faults) -> Iterator[InputRow]:
    """An input from a text or an object; keys that mean nothing for an input are variables."""
    if isinstance(value, str):
        yield InputRow({"input": value}, faults.file, line)
    elif isinstance(value, dict):
        data = {key: given for key, given in value.items() if key in InputSpec.model_fields}
        others = {key: given for key, given in value.items() if key not in data}
        if others:
            own = data.get("variables")
            data["variables"] = {**(own if isinstance(own, dict) else {}), **others}
        yield InputRow(data, faults.file, line)
    else:
        faults.add(line, Phrase("An input is a text, or an object with 'input' in it."))


def _read_csv(text: str, faults: _Faults) -> Iterator[InputRow]:
    rows = _csv_rows(text, faults)
    line, headings = next(rows, (0, None))
    if headings is None:
        return
    columns = [_column_of(heading) for heading in headings]
    for name, count in Counter(filter(None, columns)).items():
        if count > 1:
            faults.add(
                line, Phrase("Two columns are called '%(name)s': rename one.", {"name": name})
            )
    if "input" not in columns:
        # Many a table has its questions in front, under a heading of its own.
        free = [index for index, name in enumerate(columns) if name and name not in _COLUMNS]
        if not free:
            faults.stop(line, Phrase("No column holds the inputs: call one of them 'input'."))
        if (heading := columns[free[0]]).endswith(_QUESTION_MARKS):
            # Taken for a heading, the first question of a list without one would be lost without a word.
            message = (
                "The first row has to be headings, and '%(heading)s' looks like an input: put a row above it that says "
                "'input', or call the column so."
            )
            faults.stop(line, Phrase(message, {"heading": in_line(heading, _SHORT_HEADING)}))
        columns[free[0]] = "input"
    for line, cells in rows:
        if len(cells) != len(columns):
            message = (
                "Cells in this row: %(count)d, in the first one: %(wanted)d. Put double quotes around a text with the "
                "separator in it."
            )
            counts = {"count": len(cells), "wanted": len(columns)}
            faults.add(line, Phrase(message, counts))
        else:
            yield from _csv_row(columns, cells, line, faults)


def _csv_rows(text: str, faults: _Faults) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line in which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = _CSV_ERRORS.get(str(error)[:16], _CSV_ERROR)
            faults.stop(line, Phrase(message, {"reason": str(error)}))
        if any(cell.strip() for cell in cells):
            yield line, cells


_CSV_ERROR = "The row that begins here cannot be read: %(reason)s."
_CSV_ERRORS = {
    "unexpected end o": "A quotation mark that opens in this row is never closed.",
    "field larger tha": "A cell of this row is longer than 131,072 characters.",
}


def _delimiter(text: str) -> str:
    """The separator that stands most often in the first line, quoted parts left out."""
    first = _QUOTED.sub("", text.lstrip("\r\n").partition("\n")[0])
    return max(",;\t", key=first.count)


def _column_of(heading: str) -> str:
    name = heading.strip()
    return name.lower() if name.lower() in _COLUMNS else name


def _csv_row(
    columns: Sequence[str], cells: Sequence[str], line: int, faults: _Faults
) -> Iterator[InputRow]:
    if any(cell.strip() and not name for name, cell in zip(columns, cells, strict=True)):
        faults.add(line, Phrase("A cell of this row stands in a column without a heading."))
    row = {name: cell for name, cell in zip(columns, cells, strict=True) if name}
    text = row.pop("input")
    if not text.strip():
        faults.add(line, Phrase("The cell of the input is empty in this row."))
        return
    data: dict[str, Any] = {"input": text}
    tags = [tag.strip() for tag in _TAG_BREAK.split(row.pop("tags", "")) if tag.strip()]
    if tags:
        data["tags"] = tags
    for name in ("name", "reference"):
        if given := row.pop(name, ""):
            data[name] = given
    if variables := {name: value for name, value in row.items() if value.strip()}:
        data["variables"] = variables
    yield InputRow(data, faults.file, line)


_READERS: Mapping[str, Callable[[str, _Faults], Iterator[InputRow]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".txt": _read_lines,
    ".md": _read_lines,
}
#: The endings of files of inputs.
INPUT_SUFFIXES = tuple(_READERS)
