"""YAML as people mean it: text stays as typed, every value has its place, and no file can do harm.

Of PyYAML only the event stream is read: no tag is resolved, no alias followed, nothing constructed.
So neither can a small file become a large value, nor a text a date. The C parser is used where
PyYAML has it; the Python parser gives the same data, but refuses two things that do no harm: tabs
between values, and ``?`` in unquoted text between brackets.
"""

from __future__ import annotations

import codecs
import json
import re
from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from itertools import count, islice
from typing import Final, Literal, NoReturn

import yaml
from yaml.resolver import Resolver

from rolebook.core.errors import FileError, Problem
from rolebook.core.frozen import frozen
from rolebook.library import yaml_advice
from rolebook.library.yaml_advice import WIDE_SPACES, Advice, LastValue

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 20
MAX_NODES: Final = 5000
MAX_PROBLEMS: Final = 100

Path = tuple[str | int, ...]
"""Where a value stands: ``("variables", "level", "choices", 0)``. The root's path is ``()``."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS: Final = ("", "~", "null")

_BINARY = re.compile(rb"[\x00-\x06\x0e-\x1a]")
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")
# All but what YAML can hold; the few are listed, since it takes ten times as long to compile the many.
_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_OLD_LINE_BREAKS: Final = "\x85\u2028\u2029"
_UNHOLDABLE = re.compile(r"[\x00\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:(0|x00|[uU](?:0000)?(?:0000|[dD][89a-fA-F]..))|.)", re.DOTALL)
_TIGHT_COMMENT = re.compile(r" (#)[^\s#]")
_BRACKET = re.compile(r"[\[{]")
_WIDE_EDGE = re.compile(rf"\A[{WIDE_SPACES}]|[{WIDE_SPACES}]\Z")
_WIDE_INDICATOR = re.compile(rf"(?:-|[a-z][a-z0-9_]{{0,63}}:)([{WIDE_SPACES}])")
_WIDE_COLON = re.compile(r"([a-z][a-z0-9_]{0,63})：")

_PRINTABLE: Final = r" -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff"
# Compiled when something is written, since so large sets take longer than reading a file.
_UNPRINTABLE: Final = f"[^{_PRINTABLE}]"
_UNFIT_FOR_BLOCK: Final = rf"\A\n*(?:[ \t]|\Z)|[^\t\n{_PRINTABLE}]"
_UNFIT_FOR_PLAIN: Final = (
    r"\A(?:[\s,\[\]{}#&*!|>'\"%@`]|[-?:](?:\s|\Z)|---|\.\.\.)|:(?:\s|\Z)|\s#|\s\Z"
    rf"|[^{_PRINTABLE}]|[{WIDE_SPACES}]"
)
_FLOW_INDICATOR = re.compile(r"[,\[\]{}:?]")
_BLANKS: Final = "\n "
# What is longer, in characters, is written on more lines: a text, one that needs quotes, a list; a list's items.
_LONGEST_LINE: Final = 120
_LONGEST_QUOTED: Final = 60
_LONGEST_LIST: Final = 72
_LONGEST_WORD: Final = 24
_UNUSUAL_NAMES: Final = {"Infinity": ".inf", "-Infinity": "-.inf", "NaN": ".nan"}
_YAML_1_1: Final = Resolver()
# YAML allows a key of 1024 characters before its colon; longer ones need a "?" in front.
_LONGEST_KEY: Final = 1000

_LONGEST_NUMBER: Final = 400
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NON_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONSTANTS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class YamlError(FileError):
    """A YAML text that cannot be used.

    ``problems`` are all that were found, warnings among them, sorted by place.
    """


@frozen
class Mark:
    """A place in a file. Line and column count from 1, the column in characters."""

    file: str
    line: int
    column: int


@frozen
class Document:
    """What a YAML file says, and where.

    ``marks`` has the place of every value, ``key_marks`` that of the key before each value of a
    mapping. ``problems`` are warnings: what can be read, but hardly means what was meant.
    """

    data: dict[str, object]
    marks: Mapping[Path, Mark]
    key_marks: Mapping[Path, Mark]
    problems: tuple[Problem, ...] = ()


class _EveryKey:
    def __contains__(self, way: object) -> bool:
        return True


EVERY_KEY: Final[Container[Path]] = _EveryKey()
"""As ``typed``: the values below all keys are typed."""


def parse_yaml(source: bytes | str, *, file: str, typed: Container[Path] = ()) -> Document:
    """Read one YAML document whose root is a mapping.

    A plain (unquoted) value stays text exactly as typed, be it ``no``, ``1.10`` or ``2024-01-01``;
    only an empty one, ``~`` and ``null`` are None. Keys are always text. Aliases, anchors, tags,
    merge keys and duplicate keys are refused.

    Arguments:
        source: the file's content; bytes must be UTF-8, with or without a byte order mark.
        file: its name, for marks and problems.
        typed: the ways to the keys below which plain values are typed, by :func:`resolve_scalar`; ``*`` stands for
            any index, as in ``("checks", "*", "is_json")``.

    Raises:
        YamlError: for every source that cannot be read.
    """
    text = decode(source, file=file).lstrip("\ufeff")
    return _Reader(text, file=file, typed=typed).read()


def resolve_scalar(text: str) -> object:
    """The value of a plain scalar in YAML 1.2's core schema (yaml.org/spec/1.2.2, §10.3.2).

    Numbers of more than 400 characters stay text: no float holds them, and Python refuses to print
    integers that are much longer.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NON_FINITE.fullmatch(text) else text


def compose_yaml(text: str) -> yaml.MappingNode:
    """PyYAML's nodes of a text that :func:`parse_yaml` accepts: where they stand, not what they say."""
    stand_ins = _stand_ins(text)
    node = yaml.compose(text.translate(stand_ins) if stand_ins else text, Loader=_Loader)
    assert isinstance(node, yaml.MappingNode)
    return node


def dump_yaml(data: Mapping[str, object]) -> str:
    """Write a mapping as readable YAML: keys in their order, texts of several lines as blocks.

    Mappings, lists, text and None come back equal from :func:`parse_yaml`, whatever the text, and
    YAML 1.1 and 1.2 read them alike. Numbers and booleans are written plain.

    Raises:
        ValueError: for a text that no YAML file can hold: one with a NUL or a lone surrogate.
        TypeError: for a value of any other type.
    """
    return write_value(data, indent=0).lstrip(_BLANKS) + "\n"


def write_value(value: object, *, indent: int) -> str:
    """The value as it follows a ``:`` or ``-``, with its own lines indented by so many spaces."""
    margin = "\n" + " " * indent
    if isinstance(value, Mapping) and value:
        return "".join(_written_entry(key, value[key], indent=indent) for key in value)
    if isinstance(value, list | tuple) and value:
        if _is_short_list(value):
            return f" {write_flow(value)}"
        items = (write_value(item, indent=indent + 2) for item in value)
        # A mapping or list in a list begins on the line of its dash.
        return "".join(f"{margin}- {item.lstrip(_BLANKS)}" for item in items)
    if isinstance(value, str) and _is_long(value) and is_fit_for_block(value):
        return write_block(value, indent=indent)
    return f" {write_scalar(value)}"


def _written_entry(key: str, value: object, *, indent: int) -> str:
    margin = "\n" + " " * indent
    name = write_scalar(key)
    if len(name) > _LONGEST_KEY:
        name = f"? {name}{margin}"
    return f"{margin}{name}:{write_value(value, indent=indent + 2)}"


def _is_long(text: str) -> bool:
    """Whether a text is easier to read on lines of its own."""
    return "\n" in text or len(text) > (_LONGEST_LINE if is_plain(text) else _LONGEST_QUOTED)


def _is_short_list(items: Sequence[object]) -> bool:
    """Whether a list is easier to read on one line: a few words, no sentences."""
    written = [write_flow(item) for item in items if not isinstance(item, Mapping | list | tuple)]
    return (
        len(written) == len(items)
        and all(len(item) <= _LONGEST_WORD for item in written)
        and sum(map(len, written)) <= _LONGEST_LIST
    )


def is_fit_for_block(text: str) -> bool:
    """Whether the text can stand below a ``|`` and means the same there, to YAML 1.1 and 1.2."""
    return not re.search(_UNFIT_FOR_BLOCK, text)


def write_block(text: str, *, indent: int) -> str:
    """A text below a ``|``, as :func:`write_value` gives it; it must be fit for that."""
    margin = "\n" + " " * indent
    lines = text.removesuffix("\n").split("\n")
    return f" |{chomping(text)}" + "".join(margin + line if line else "\n" for line in lines)


def chomping(text: str) -> str:
    """What stands behind the ``|`` or ``>`` of a text, for its last line breaks."""
    return "-" if not text.endswith("\n") else "+" if text.endswith("\n\n") else ""


def write_flow(value: object, *, quote: str = "") -> str:
    """The value as it stands between brackets, on one line. ``quote`` is as for :func:`write_scalar`."""
    if isinstance(value, Mapping) and value:
        pairs = (f"{write_flow(key)}: {write_flow(value[key])}" for key in value)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple) and value:
        return "[" + ", ".join(map(write_flow, value)) + "]"
    if isinstance(value, str) and _FLOW_INDICATOR.search(value):
        return write_scalar(value, quote=quote or '"')
    return write_scalar(value, quote=quote)


def write_scalar(value: object, *, quote: str = "") -> str:
    """A value on one line. A text gets the given quotes if it can stand in them, else none where it can do without."""
    if isinstance(value, str):
        if quote == "'" and not re.search(_UNPRINTABLE, value):
            return "'" + value.replace("'", "''") + "'"
        return value if is_plain(value) and not quote else _quoted(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    if value is None or isinstance(value, bool | int | float):
        return _UNUSUAL_NAMES.get(written := json.dumps(value), written)
    raise TypeError(f"{type(value).__name__} cannot be written as YAML")


def is_plain(text: str) -> bool:
    """Whether the text means itself without quotes, to YAML 1.1 and 1.2, to people and to us."""
    if re.search(_UNFIT_FOR_PLAIN, text) or _WIDE_COLON.match(text) or text in ("y", "Y", "n", "N"):
        return False
    tag = _YAML_1_1.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag == "tag:yaml.org,2002:str" and isinstance(resolve_scalar(text), str)


def _quoted(text: str) -> str:
    if _UNHOLDABLE.search(text):
        raise ValueError("a NUL or a lone surrogate cannot be written as YAML")
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(_UNPRINTABLE, lambda match: f"\\u{ord(match[0]):04x}", quoted)


def decode(source: bytes | str, *, file: str) -> str:
    """The text of a file that should be UTF-8. Raises YamlError with the place of what is not."""
    encoded = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_BYTES:
        message = "The file has %(size)d bytes; at most %(limit)d are read: shorten or split it."
        raise YamlError([Problem(file, 1, 1, message, {"size": len(encoded), "limit": MAX_BYTES})])
    if isinstance(source, str):
        return source
    if encoding := _wide_encoding(source):
        message = "The file is written in %(encoding)s: save it as UTF-8."
        raise YamlError([Problem(file, 1, 1, message, {"encoding": encoding})])
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise YamlError([_explain_undecodable(source, error.start, file)]) from None


def _wide_encoding(source: bytes) -> str | None:
    """The name of an encoding of two or four bytes a character, known by the first of them."""
    if source.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if source.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    return "UTF-16" if re.match(rb"(?:[^\0]\0){2}|(?:\0[^\0]){2}", source) else None


def _explain_undecodable(source: bytes, start: int, file: str) -> Problem:
    if _BINARY.search(source):
        message = "This is no text file: put one in its place that an editor can open."
        return Problem(file, 1, 1, message)
    before = source[:start].decode("utf-8").lstrip("\ufeff")
    line, column = _Places(before).of(len(before))
    if encoding := _narrow_encoding(source):
        message = "This is not UTF-8; the file looks like %(encoding)s: save it as UTF-8."
        return Problem(file, line, column, message, {"encoding": encoding})
    message = (
        "The byte 0x%(byte)02X is not UTF-8: save the file as UTF-8, or, if it is damaged just here,"
        " type the text again."
    )
    return Problem(file, line, column, message, {"byte": source[start]})


def _narrow_encoding(source: bytes) -> str | None:
    """A guess, or None if most of what is not ASCII is good UTF-8."""
    runs = _HIGH_BYTES.findall(source)
    good_runs = _HIGH_BYTES.findall(source.decode("utf-8", "ignore").encode("utf-8"))
    if 2 * sum(map(len, good_runs)) > sum(map(len, runs)):
        return None
    # GBK has its high bytes mostly in pairs, Latin-1 mostly alone.
    is_paired = 2 * sum(len(run) % 2 == 0 for run in runs) >= len(runs)
    if is_paired and "\ufffd" not in source.decode("gb18030", "replace"):
        return "GBK (GB 18030)"
    return "Latin-1 (Windows-1252)"


class _Places:
    """Turns an index into a text into line and column, counted from 1 as editors do.

    PyYAML's own lines and columns are not used, because its two parsers disagree about them.
    """

    def __init__(self, text: str) -> None:
        self._line_starts = [0, *(match.end() for match in _LINE_BREAK.finditer(text))]

    def of(self, index: int) -> tuple[int, int]:
        line = bisect_right(self._line_starts, index)
        return line, index - self._line_starts[line - 1] + 1


def _stand_ins(text: str) -> dict[int, str]:
    """Unused characters in place of those that YAML 1.1, and so PyYAML, takes for line breaks.

    To YAML 1.2 and to editors they are none. As a line break, a U+2028 in a pasted text would end
    the block that it stands in.
    """
    if not any(character in text for character in _OLD_LINE_BREAKS):
        return {}
    used = {*map(ord, text), *(int(code, 16) for code in re.findall(r"\\U([0-9a-fA-F]{8})", text))}
    # The private planes have more characters than a file of MAX_BYTES can name.
    unused = (chr(code) for code in count(0xF0000) if code not in used)
    return {ord(character): next(unused) for character in _OLD_LINE_BREAKS}


def _index(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


def _way(path: Path) -> Path:
    return tuple("*" if isinstance(part, int) else part for part in path)


class _Reader:
    """Builds the data of one document from PyYAML's events, and collects what is wrong."""

    def __init__(self, text: str, *, file: str, typed: Container[Path]) -> None:
        self._text = text
        self._file = file
        self._typed = typed
        self._places = _Places(text)
        self._marks: dict[Path, Mark] = {}
        self._key_marks: dict[Path, Mark] = {}
        self._problems: dict[tuple[int, int], Problem] = {}
        self._nodes = 0
        self._depth = 0
        self._read_to = 0
        self._last_value = LastValue()
        stand_ins = _stand_ins(text)
        self._originals = {ord(unused): chr(code) for code, unused in stand_ins.items()}
        self._events = yaml.parse(text.translate(stand_ins) if stand_ins else text, Loader=_Loader)

    def read(self) -> Document:
        self._refuse_unreadable_characters()
        data = self._document()
        problems = self._sorted_problems()
        if any(problem.severity == "error" for problem in problems):
            raise YamlError(problems)
        return Document(data, self._marks, self._key_marks, problems)

    def _document(self) -> dict[str, object]:
        self._next()
        root = self._next()
        if isinstance(root, yaml.DocumentStartEvent):
            root = self._next()
        if not isinstance(root, yaml.MappingStartEvent):
            self._stop(self._explain_root(root))
        self._refuse_properties(root)
        self._marks[()] = self._mark(root)
        data = self._mapping((), typed=False)
        self._next()
        following = self._next()
        if isinstance(following, yaml.DocumentStartEvent):
            self._stop(yaml_advice.explain_second_document(self._text, _index(following)))
        return data

    def _explain_root(self, root: yaml.Event) -> Advice:
        if isinstance(root, yaml.SequenceStartEvent):
            return yaml_advice.explain_list_root(_index(root))
        if isinstance(root, yaml.AliasEvent):
            return yaml_advice.explain_property(self._text, _index(root))
        if isinstance(root, yaml.ScalarEvent) and (root.value or root.style):
            is_plain = not root.style
            return yaml_advice.explain_text_root(self._text, _index(root), is_plain=is_plain)
        return yaml_advice.explain_empty_file()

    def _next(self) -> yaml.Event:
        """The next event, if it keeps the limits."""
        try:
            event: yaml.Event = next(self._events)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self._stop_at_syntax_error(error)
        self._read_to = event.end_mark.index if event.end_mark else 0
        if isinstance(event, yaml.NodeEvent):
            self._count(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        return event

    def _count(self, event: yaml.NodeEvent) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(yaml_advice.explain_too_many_nodes(_index(event), MAX_NODES))
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                self._stop(yaml_advice.explain_too_deep(_index(event), MAX_DEPTH))

    def _value(self, event: yaml.Event, path: Path, *, typed: bool) -> object:
        self._marks[path] = self._mark(event)
        self._refuse_properties(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, typed=typed)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, typed=typed)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, typed=typed)
        return None

    def _mapping(self, path: Path, *, typed: bool) -> dict[str, object]:
        data: dict[str, object] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event)
            if key is None:
                self._value(self._next(), path, typed=False)
                continue
            here = (*path, key)
            if key in data:
                first = self._key_marks[here]
                self._report(yaml_advice.explain_duplicate_key(_index(event), key, first.line))
            else:
                self._key_marks[here] = self._mark(event)
            is_typed = typed or _way(here) in self._typed
            data[key] = self._value(self._next(), here, typed=is_typed)
        return data

    def _sequence(self, path: Path, *, typed: bool) -> list[object]:
        data: list[object] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            data.append(self._value(event, (*path, len(data)), typed=typed))
        return data

    def _key(self, event: yaml.Event) -> str | None:
        """The key's text, or None if there is none, which has then been reported."""
        self._refuse_properties(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self._report(yaml_advice.explain_complex_key(self._text, _index(event)))
            self._skip()
        if not isinstance(event, yaml.ScalarEvent):
            return None
        text = self._scalar_text(event)
        if event.style:
            return text
        if text in _NULLS:
            self._report(yaml_advice.explain_empty_key(_index(event)))
        if text == "<<":
            self._report(yaml_advice.explain_merge_key(_index(event)))
        if edge := _WIDE_EDGE.search(text):
            index = _index(event) + edge.start()
            self._report(yaml_advice.explain_wide_space(index, edge[0]))
        self._examine_plain(event)
        return text

    def _skip(self) -> None:
        """Passes over the rest of a list or mapping that has just begun."""
        outside = self._depth - 1
        while self._depth > outside:
            self._next()

    def _scalar(self, event: yaml.ScalarEvent, *, typed: bool) -> object:
        text = self._scalar_text(event)
        if event.style:
            return text
        self._examine_plain(event)
        self._examine_comment(event)
        if typed:
            return resolve_scalar(text)
        return None if text in _NULLS else text

    def _scalar_text(self, event: yaml.ScalarEvent) -> str:
        text = event.value
        end = event.end_mark.index if event.end_mark else 0
        if text or event.style:
            self._last_value = LastValue(_index(event), end, is_plain=not event.style)
        if event.style == '"' and _UNHOLDABLE.search(text):
            escapes = _ESCAPE.finditer(self._text, _index(event), end)
            index = next(escape.start() for escape in escapes if escape[1])
            self._report(yaml_advice.explain_escape(self._text, index))
        return text.translate(self._originals) if self._originals else text

    def _examine_plain(self, event: yaml.ScalarEvent) -> None:
        """Reports full-width characters that stand where YAML's own were meant."""
        text = event.value
        if text.isascii():
            return
        start = _index(event)
        if space := _WIDE_INDICATOR.match(text):
            self._report(yaml_advice.explain_wide_space(start + space.start(1), space[1]))
        if colon := _WIDE_COLON.match(text):
            line = self._text.rfind("\n", 0, start) + 1
            is_alone = not self._text[line:start].strip(" ")
            self._report(
                yaml_advice.explain_wide_colon(start + colon.end(1), colon[1]),
                "error" if is_alone else "warning",
            )

    def _examine_comment(self, event: yaml.ScalarEvent) -> None:
        """Warns of ``item #1``: texts, not comments, have one space before a ``#`` and none after."""
        end = event.end_mark.index if event.end_mark else 0
        comment = _TIGHT_COMMENT.match(self._text, end)
        if comment and (not event.value or isinstance(resolve_scalar(event.value), str)):
            self._report(yaml_advice.explain_comment(comment.start(1)), "warning")

    def _refuse_unreadable_characters(self) -> None:
        for character in dict.fromkeys(_UNREADABLE.findall(self._text)):
            index = self._text.index(character)
            self._report(yaml_advice.explain_unreadable_character(index, character))
        if self._problems:
            raise YamlError(self._sorted_problems())

    def _refuse_properties(self, event: yaml.Event) -> None:
        is_tagged = getattr(event, "tag", None) is not None
        if is_tagged or (isinstance(event, yaml.NodeEvent) and event.anchor is not None):
            self._report(yaml_advice.explain_property(self._text, _index(event)))

    def _mark(self, event: yaml.Event) -> Mark:
        return Mark(self._file, *self._places.of(_index(event)))

    def _report(self, advice: Advice, severity: Literal["error", "warning"] = "error") -> None:
        """Adds a problem. Of several in one place the first error stands."""
        line, column = place = self._places.of(advice.index)
        earlier = self._problems.get(place)
        if earlier is None or earlier.severity == "warning":
            self._problems[place] = Problem(
                self._file, line, column, advice.message, advice.parameters, severity
            )
        if severity == "error" and len(self._problems) >= MAX_PROBLEMS:
            raise YamlError(self._sorted_problems())

    def _stop(self, advice: Advice) -> NoReturn:
        self._report(advice)
        raise YamlError(self._sorted_problems()) from None

    def _stop_at_syntax_error(self, error: Exception) -> NoReturn:
        if "nesting depth" in str(error):
            # The C parser reads ahead of its events, and newer ones have a limit of their own.
            brackets = _BRACKET.finditer(self._text, self._read_to)
            excess = next(islice(brackets, MAX_DEPTH - self._depth, None), None)
            if excess is not None:
                self._stop(yaml_advice.explain_too_deep(excess.start(), MAX_DEPTH))
        advice = yaml_advice.explain_syntax_error(self._text, error, value=self._last_value)
        line, _ = self._places.of(advice.index)
        errors = (problem for problem in self._problems.values() if problem.severity == "error")
        if all(earlier.line != line for earlier in errors):
            # In a line that has an error already, this is what follows from it.
            self._report(advice)
        raise YamlError(self._sorted_problems()) from None

    def _sorted_problems(self) -> tuple[Problem, ...]:
        return tuple(self._problems[place] for place in sorted(self._problems))
