"""A YAML file is read as it was meant, or refused at its place; no file does harm."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path as FilePath

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rolebook.library.yaml_text import (
    EVERY_KEY,
    MAX_BYTES,
    MAX_PROBLEMS,
    Document,
    Mark,
    YamlError,
    dump_yaml,
    parse_yaml,
    resolve_scalar,
)

QUOTE = "must be quoted"
ACCEPTED = "none of them is accepted"
WIDE = "replace it with ordinary spaces"
TABS = "use spaces only"

ALIAS_BOMB = "a: &a [x, x]\n" + "".join(
    f"{key}: &{key} [*{before}, *{before}, *{before}]\n"
    for before, key in zip("abcdefgh", "bcdefghi", strict=False)
)
MERGE_BOMB = "a: &a {k: v}\nb: &b {<<: [*a, *a, *a, *a, *a, *a, *a, *a]}\n"

# source, and the line, column and a part of each problem that it must be refused for
REFUSED: dict[str, tuple[str | bytes, list[tuple[int, int, str]]]] = {
    "alias bomb": (ALIAS_BOMB, [(1, 4, ACCEPTED)]),
    "alias to itself": ("a: &a [*a]\n", [(1, 4, "'&a'"), (1, 8, "'*a]'")]),
    "merge bomb": (MERGE_BOMB, [(1, 4, "'&a'"), (2, 4, "'&b'"), (2, 8, "'<<' is not read")]),
    "merge key": ("a: 1\n<<: {b: 2}\n", [(2, 1, "'<<' is not read")]),
    "anchor without alias": ("a: &amp text\n", [(1, 4, "'&amp'")]),
    "alias without anchor": ("a: *bold\n", [(1, 4, "'*bold'")]),
    "python tag": (
        "a: !!python/object/apply:os.system ['true']\n",
        [(1, 4, "'!!python/object/apply:os.system'")],
    ),
    "binary tag": ("a: !!binary aGk=\n", [(1, 4, "'!!binary'")]),
    "set tag": ("a: !!set {x}\n", [(1, 4, "'!!set'")]),
    "wrong int tag": ("a: !!int foo\n", [(1, 4, "'!!int'")]),
    "empty int tag": ('a: !!int ""\n', [(1, 4, "'!!int'")]),
    "wrong bool tag": ("a: !!bool foo\n", [(1, 4, "'!!bool'")]),
    "wrong timestamp tag": ("a: !!timestamp foo\n", [(1, 4, "'!!timestamp'")]),
    "unknown tag": ("a: !important x\n", [(1, 4, "'!important'")]),
    "bare tag": ("a: ! x\n", [(1, 4, "'!'")]),
    "tag on a key": ("a:\n  !x b: c\n", [(2, 3, "'!x'")]),
    "undefined tag handle": ("a: !x!y z\n", [(1, 4, QUOTE)]),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", [(3, 1, "'a' stands here again; it is already in line 1")]),
    "duplicate key in quotes": ('a: 1\n"a": 2\n', [(2, 1, "already in line 1")]),
    "duplicate key in brackets": ("m: {a: 1, a: 2}\n", [(1, 11, "already in line 1")]),
    "null key": ("a: 1\n~: 2\nnull: 3\n", [(2, 1, "cannot be empty"), (3, 1, "cannot be empty")]),
    "empty key": ("a: 1\n? \n: 2\n", [(2, 2, "cannot be empty")]),
    "no key": (": 2\n", [(1, 1, "No key stands before this colon")]),
    "list as key": ("? [a]\n: b\n", [(1, 3, "cannot be a key")]),
    "mapping as key": ("a: {{b: c}: d}\n", [(1, 4, "'{{' opens a YAML mapping")]),
    "empty": ("", [(1, 1, "The file is empty")]),
    "only comments": ("# nothing\n\n# here\n", [(1, 1, "The file is empty")]),
    "only a document mark": ("---\n", [(1, 1, "The file is empty")]),
    "list": ("- a\n- b\n", [(1, 1, "holds a list")]),
    "text": ("\nJust some text.\n", [(2, 1, "holds plain text")]),
    "quoted text": ('"name: Ada"\n', [(1, 1, "holds plain text")]),
    "two documents": ("a: 1\n---\nb: 2\n", [(2, 1, "A second document")]),
    "text after the end": ("a: 1\n...\nb: 2\n", [(3, 1, "The line '...'")]),
    "tab as indentation": ("a:\n\tb: 1\n", [(2, 1, TABS)]),
    "tab after spaces": ("a:\n  b: 1\n \tc: 2\n", [(3, 2, TABS)]),
    "tab in a block": ("a: |\n\ttext\n", [(2, 1, TABS)]),
    "tab after a dash": ("a:\n  -\tb\n", [(2, 4, TABS)]),
    "UTF-16": ("\ufeffa: b\n".encode("utf-16-le"), [(1, 1, "written in UTF-16")]),
    "UTF-16 without mark": ("a: b\n".encode("utf-16-be"), [(1, 1, "written in UTF-16")]),
    "UTF-32": ("\ufeffa: b\n".encode("utf-32-le"), [(1, 1, "written in UTF-32")]),
    "Latin-1": ("a: b\nname: Zoë\n".encode("latin-1"), [(2, 9, "looks like Latin-1")]),
    "GBK": ("a: b\nname: 老师，囍\n".encode("gb18030"), [(2, 7, "looks like GBK")]),
    "damaged UTF-8": ("名字: 老师们\nb: ".encode() + b"\x80\n", [(2, 4, "byte 0x80 is not UTF-8")]),
    "NUL": ("a: 1\nb: x\0y\n", [(2, 5, "U+0000")]),
    "control characters": ("a: \x1b[0m\x07\x1b\nb: \x9f\n", [(1, 4, "U+001B"), (1, 8, "U+0007"), (2, 4, "U+009F")]),
    "raw surrogate": ("a: \ud800\n", [(1, 4, "U+D800")]),
    "NUL as escape": (r'a: "\\0 b\0c"', [(1, 10, r"'\0' stands for no character")]),
    "lone surrogate": (r'a: "x \ud800"', [(1, 7, r"'\ud800' stands for no character")]),
    "surrogate pair": (r'a: "\ud83d\ude00"', [(1, 5, r"write '😀' itself, or '\U0001F600'")]),
    "beyond Unicode": (r'a: "\UFFFFFFFF"', [(1, 5, "stands for no character")]),
    "unknown escape": (r'a: "C:\path"', [(1, 7, r"'\p' is no escape")]),
    "short escape": (r'a: "\x4"', [(1, 5, "stands for no character")]),
    "deep brackets": ("a: " + "[" * 100_000, [(1, 23, "more than 20 levels")]),
    "deep mappings": ("{a: " * 60_000, [(1, 81, "more than 20 levels")]),
    "deep block": ("".join("  " * n + "a:\n" for n in range(300)), [(21, 41, "more than 20 levels")]),
    "deep keys": ("a: " + "? " * 1000 + "x", [(1, 4, QUOTE)]),
    "many values": ("a: [" + "x," * 6000 + "]", [(1, 9999, "more than 5000")]),
    "large": ("a: " + "x" * MAX_BYTES, [(1, 1, "262147 bytes; at most 262144")]),
    "full-width colon": ("name：老师\nsystem: x\n", [(1, 5, "write 'name: '")]),
    "full-width colon alone": ("name：老师\n", [(1, 5, "write 'name: '")]),
    "full-width colon below": ("name: 老师\nsystem：你好\ntags: [x]\n", [(2, 7, "write 'system: '")]),
    "full-width colon inside": ("sampling:\n  temperature：0.7\n", [(2, 14, "write 'temperature: '")]),
    "full-width colon after an item": ("a:\n  - b: 1\n    c：2\n    d: 3\n", [(3, 6, "write 'c: '")]),
    "full-width indentation": ("a:\n　　b: 1\n", [(2, 1, f"(U+3000) stands where YAML needs an ordinary one: {WIDE}")]),
    "non-breaking indentation": ("a: 1\nm:\n\u00a0\u00a0b: 1\n", [(3, 1, "(U+00A0)")]),
    "full-width block": ("system: |\n　　从前有座山\n", [(2, 1, "(U+3000)")]),
    "full-width space after colon": ("name:　老师\na: b\n", [(1, 6, "(U+3000)")]),
    "full-width space after dash": ("a:\n  -　x\n  -　y\n", [(2, 4, "(U+3000)")]),
    "zero-width space before a key": ("a: 1\n\u200bb: 2\n", [(2, 1, "(U+200B)")]),
    "template expression": ("a: {{ name }}\n", [(1, 4, "'{{' opens a YAML mapping")]),
    "expression and text": ("a: {{ name }}, hello\n", [(1, 4, "'{{' opens a YAML mapping")]),
    "expression in an item": ("a:\n  - {{ name }}\n", [(2, 5, "'{{' opens a YAML mapping")]),
    "expression in brackets": ("a: {user: Hi {{ name }}, b: c}\n", [(1, 14, "'{{' opens a YAML mapping")]),
    "template statement": ("a: {% if x %}y{% endif %}\n", [(1, 4, "'{%' opens a YAML mapping")]),
    "colon in text": ("content: Note: this\n", [(1, 14, "cannot stand in an unquoted text: put the text in quotes")]),
    "bold": ("a: *bold* text\n", [(1, 4, QUOTE)]),
    "Markdown item": ("a:\n  * x\n", [(2, 3, "write '- ' instead")]),
    "at sign": ("a: @you\n", [(1, 4, QUOTE)]),
    "backtick": ("a: `code`\n", [(1, 4, QUOTE)]),
    "percent": ("a: %d items\n", [(1, 4, QUOTE)]),
    "percent in front": ("%d: x\n", [(1, 1, QUOTE)]),
    "two directives": ("%YAML 1.1\n%YAML 1.1\n---\na: b\n", [(2, 1, "This is not valid YAML (found dup")]),
    "closing bracket": ("a: ] b\n", [(1, 4, QUOTE)]),
    "question mark": ("a: ? b\n", [(1, 4, QUOTE)]),
    "ampersand": ("a: & more\n", [(1, 4, QUOTE)]),
    "text beside a block mark": ("a: > quoted\n", [(1, 4, "'>' must be put in quotes")]),
    "dash beside a key": ("a: - b\n", [(1, 4, "each item on a line of its own")]),
    "item below a value": ("a: b\n- c\n", [(2, 1, "A list item stands where a key is expected")]),
    "no space after colon": ("name:Ada\nsystem: x\n", [(1, 5, "write 'name: '")]),
    "open bracket": ("a: [b, c\nd: e\n", [(1, 4, "write ']' at its end")]),
    "open bracket at the end": ("a: [b, c,\n", [(1, 4, "write ']' at its end")]),
    "missing comma": ("a: {b: c d: e}\n", [(1, 11, "a comma is expected here")]),
    "open quote": ('a: "b\nc: d\n', [(1, 4, "never closed")]),
    "quote closed by another": ('a: "b\nc: "d"\n', [(1, 4, "closed only further down")]),
    "apostrophe": ("a: 'it's so'\n", [(1, 8, "Text follows the closing quote")]),
    "quoted word first": ('a:\n  - b\n  - "c" d\n', [(3, 9, "Text follows the closing quote")]),
    "key being typed after a comment": ("a: 1  # b\n\nsam", [(3, 1, "This line is not 'key: value'")]),
    "stray line": ("a: |\n  b\nc d\ne: f\n", [(3, 1, "This line is not 'key: value'")]),
    "wrong indentation": ("a:\n    b: 1\n  c: 2\n", [(3, 3, "fits none of the lines above")]),
    "key below a text": ("a: 1\n  b: 2\n", [(2, 4, "give the key the indentation")]),
    "text cut by a comment": ("a: the #1\n  and more\nb: c\n", [(1, 8, "cuts the text here")]),
    "unfinished merge": ("a: b\n<<<<<<< HEAD\nc: d\n=======\nc: e\n>>>>>>> f\n", [(2, 1, "A merge was left")]),
    "merge of everything": ("<<<<<<< HEAD\na: b\n=======\na: c\n>>>>>>> f\n", [(1, 1, "delete the lines '<<<<<<<'")]),
    "merge in a block": ("a: |\n  b\n<<<<<<< HEAD\n  c\n=======\n  d\n>>>>>>> f\n", [(3, 1, "A merge was left")]),
    "front matter": ("---\nname: A\n---\nYou are a teacher.\n", [(3, 1, "write it below 'system: |'")]),
    "indented first key": (" a: b\nc: d\n", [(2, 1, "fits none of the lines above")]),
    "TOML": ('name = "A"\nsystem = "b"\n', [(1, 6, "write 'name: ' and then the value")]),
    "TOML below": ('a: b\nname = "A"\n', [(2, 6, "A '=' does not end a key")]),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", [(1, 1, "This is no text file")]),
    "archive": (b"\x1f\x8b\x08\0\xff", [(1, 1, "This is no text file")]),
    "several at once": (
        "a: !x b\nc: *d\ne: f\ne: g\nh: @i\n",
        [(1, 4, "'!x'"), (2, 4, "'*d'"), (4, 1, "already in line 3"), (5, 4, QUOTE)],
    ),
}  # fmt: skip

# A text that fills the limit, and what makes the parsers work hard.
LARGE = {
    "line breaks": "\n",
    "dashes": "-",
    "question marks": "?\n",
    "comments": "# x\n",
    "hashes": " #",
    "brackets": "[",
    "merges": "<<<<<<<\n",
    "half merges": "<<<<<<<\n=======\n",
    "equals": "a=\n",
    "braces": "{{",
    "pairs of brackets": "[]: ",
    "items": "- x\n",
    "duplicates": "a: b\n",
    "words in lines": "a\n ",
    "stray lines": "x\n",
    "colons": "a: ",
    "full-width colons": "a：\n",
    "full-width spaces": "　\n",
    "line separators": "\u2028\x85",
    "quotes": '"',
    "escapes": '"\\',
    "anchors": "&a ",
    "aliases": "*a\n",
    "tags": "! ",
    "directives": "%x\n",
    "documents": "---\n",
    "NULs": "\0",
    "tabs": "\t",
    "key without end": "k",
}


def outcome_of(source: str | bytes) -> Document | YamlError:
    try:
        return parse_yaml(source, file="ada.yaml")
    except YamlError as error:
        return error


def problems_of(source: str | bytes) -> list[tuple[int, int, str]]:
    with pytest.raises(YamlError) as refused:
        parse_yaml(source, file="ada.yaml")
    return [(p.line, p.column, p.text) for p in refused.value.problems]


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_file_is_refused_at_its_place(case: str) -> None:
    source, expected = REFUSED[case]
    problems = problems_of(source)
    for (line, column, part), (found_line, found_column, text) in zip(
        expected, problems, strict="bomb" not in case
    ):
        assert (line, column) == (found_line, found_column)
        assert part in text


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_file_is_refused_quickly(case: str) -> None:
    started = time.process_time()
    problems_of(REFUSED[case][0])
    assert time.process_time() - started < 1


@pytest.mark.parametrize("prefix", ["", "a: ", "a:\n", "a: |\n", "a: [", 'a: "', "a: 1\n"])
@pytest.mark.parametrize("unit", LARGE)
def test_large_file_is_read_or_refused_quickly(unit: str, prefix: str) -> None:
    repeated = LARGE[unit]
    room = MAX_BYTES - len(prefix)
    source = (prefix + repeated * (room // len(repeated.encode()))).encode()
    started = time.process_time()
    outcome = outcome_of(source)
    assert time.process_time() - started < 1
    assert len(outcome.problems) <= MAX_PROBLEMS


def test_hostile_files_are_refused_alike_without_the_c_parser() -> None:
    """The whole table again, in a process in which PyYAML's C extension cannot be imported."""
    program = (
        "import sys; sys.modules['yaml._yaml'] = None\n"
        "import yaml, pytest; assert not yaml.__with_libyaml__\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    selected = "at_its_place or keeps_its or every_position or have_their_places or typed"
    arguments = ["-q", "-p", "no:cacheprovider", "-n0", "-k", selected, __file__]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=FilePath(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "text",
    [
        *("no", "yes", "on", "off", "y", "n", "true", "False", "1.10", "0123", "0o17", "0x_", "1_000"),
        *("12:30", "12:30:45", "2024-01-01", "2024-13-45", "2024-01-01T25:00:00Z", "1e3", ".inf"),
        *("=", "-x", "--", "Null", "NULL", "nil", "a:b", "http://x/y", "C:\\path", "it's"),
        *("100%", "a@b", "x#y", "9" * 5000, "你好：世界", "x　y", "🎓"),
    ],
)  # fmt: skip
def test_plain_text_keeps_its_letters(text: str) -> None:
    document = parse_yaml(f"a: {text}x\nb: {text}\n", file="ada.yaml")
    assert {"a": f"{text}x", "b": text} == document.data
    assert document.problems == ()


@pytest.mark.parametrize("plain", ["", "~", "null"])
def test_empty_value_is_none(plain: str) -> None:
    data = parse_yaml(f"a: {plain}\nb: '{plain}'\nc: [x, {plain or '~'}]\n", file="f").data
    assert {"a": None, "b": plain, "c": ["x", None]} == data


def test_key_keeps_its_letters() -> None:
    source = (
        "1: a\nno: b\n1.10: c\n2024-01-01: d\n'null': e\n\"\": f\n'<<': g\n? h\n: i\n名 字: j\n"
    )
    expected = ["1", "no", "1.10", "2024-01-01", "null", "", "<<", "h", "名 字"]
    assert expected == list(parse_yaml(source, file="f").data)


def test_design_of_a_persona_file_is_read_without_complaint() -> None:
    source = """\
name: Socratic teacher
avatar: "🎓"
model: gpt-4o-mini          # else the configured default
system: |
  You are a patient teacher of {{ subject }}: ask, "don't tell".

  # This is no comment.
variables:
  subject: mathematics      # short form
  level: {type: choice, choices: [beginner, expert], default: beginner}
sampling: {temperature: 0.7, max_tokens: 600}
examples:
  - {user: What is a fraction?, assistant: If you cut a cake into four?}
starters: [Why is the sky blue?, Explain prime numbers]
"""
    document = parse_yaml(source, file="personas/socratic.yaml")
    system = (
        'You are a patient teacher of {{ subject }}: ask, "don\'t tell".\n\n# This is no comment.\n'
    )
    assert document.problems == ()
    assert {
        "name": "Socratic teacher",
        "avatar": "🎓",
        "model": "gpt-4o-mini",
        "system": system,
        "variables": {
            "subject": "mathematics",
            "level": {"type": "choice", "choices": ["beginner", "expert"], "default": "beginner"},
        },
        "sampling": {"temperature": "0.7", "max_tokens": "600"},
        "examples": [
            {"user": "What is a fraction?", "assistant": "If you cut a cake into four?"},
        ],
        "starters": ["Why is the sky blue?", "Explain prime numbers"],
    } == document.data


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a: b\u2028c\n", "b\u2028c"),
        ("a: |\n  b\u2028c\n  d\x85e\u2029f\n", "b\u2028c\nd\x85e\u2029f\n"),
        ('a: "\\U000F0000\u2028\\N\\L"\n', "\U000f0000\u2028\x85\u2028"),
        ("a: \U000f0000\U000f0001\u2028\n", "\U000f0000\U000f0001\u2028"),
        ("a: |\r\n  b\r\n  c\r\n", "b\nc\n"),
        ("a: >\n  b\n  c\n\n  d\n", "b c\nd\n"),
        ("a: b\n  c\n", "b c"),
        ('a: "\\ud7ff\\uFFFE\\e\\x07"\n', "\ud7ff\ufffe\x1b\x07"),
        ("a: |\n  　　从前\n", "　　从前\n"),
    ],
)
def test_text_keeps_its_characters(source: str, expected: str) -> None:
    assert {"a": expected} == parse_yaml(source.encode(), file="f").data


def test_typed_keys_hold_yaml_1_2_values() -> None:
    values = "{a: 1, b: '1', c: [true, no, ~, 1.5], d: {e: 0x1F}, 1: 0o17}"
    document = parse_yaml(f"x: {values}\ny: {values}\nz: {{x: 1}}\n", file="f", typed=[("x",)])
    typed = {"a": 1, "b": "1", "c": [True, "no", None, 1.5], "d": {"e": 31}, "1": 15}
    text = {"a": "1", "b": "1", "c": ["true", "no", None, "1.5"], "d": {"e": "0x1F"}, "1": "0o17"}
    assert {"x": typed, "y": text, "z": {"x": "1"}} == document.data


def test_whole_document_can_be_typed() -> None:
    data = parse_yaml("a: 1\nb: {c: [false, '2']}\n", file="f", typed=EVERY_KEY).data
    assert data == {"a": 1, "b": {"c": [False, "2"]}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((null, None) for null in ("", "~", "null", "Null", "NULL")),
        *((true, True) for true in ("true", "True", "TRUE")),
        *((false, False) for false in ("false", "False", "FALSE")),
        *(("0", 0), ("-12", -12), ("+3", 3), ("0123", 123), ("0o17", 15), ("0xfF", 255)),
        *(("1.10", 1.1), (".5", 0.5), ("2.", 2.0), ("1e3", 1000.0), ("-1.5E-2", -0.015)),
        *((".inf", float("inf")), ("-.INF", float("-inf")), ("+.Inf", float("inf"))),
        *((text, text) for text in ("no", "yes", "on", "y", "tRUE", "nil", "nULL", "0o8", "0xG")),
        *((text, text) for text in ("12:30", "2024-01-01", "1_000", "0b1", "-0x1", "1e", ".", "-")),
        *((text, text) for text in ("+", "--1", "١٢", "1 2", "1\n", "e3", "inf", "nan", "9" * 5000)),
        ("0x" + "f" * 100_000, "0x" + "f" * 100_000),
    ],
)  # fmt: skip
def test_scalar_is_resolved_by_the_core_schema(text: str, expected: object) -> None:
    value = resolve_scalar(text)
    assert (type(expected), expected) == (type(value), value)


def test_not_a_number_is_resolved() -> None:
    assert str(resolve_scalar(".nan")) == "nan"


def test_values_and_keys_have_their_places() -> None:
    source = '\ufeff名字: 老师🎓  \r\n"v":\r\n  - a: [1, 🎓x, {é: ~}]\r\n    b:\r\n  - |\r\n    c\r\nd: e\r\n'
    document = parse_yaml(source.encode(), file="ada.yaml")
    values = {path: (mark.line, mark.column) for path, mark in document.marks.items()}
    keys = {path: (mark.line, mark.column) for path, mark in document.key_marks.items()}
    assert values == {
        (): (1, 1),
        ("名字",): (1, 5),
        ("v",): (3, 3),
        ("v", 0): (3, 5),
        ("v", 0, "a"): (3, 8),
        ("v", 0, "a", 0): (3, 9),
        ("v", 0, "a", 1): (3, 12),
        ("v", 0, "a", 2): (3, 16),
        ("v", 0, "a", 2, "é"): (3, 20),
        ("v", 0, "b"): (4, 7),
        ("v", 1): (5, 5),
        ("d",): (7, 4),
    }
    assert keys == {
        ("名字",): (1, 1),
        ("v",): (2, 1),
        ("v", 0, "a"): (3, 5),
        ("v", 0, "a", 2, "é"): (3, 17),
        ("v", 0, "b"): (4, 5),
        ("d",): (7, 1),
    }
    assert Mark("ada.yaml", 7, 4) == document.marks["d",]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_line_separators_and_other_scripts_do_not_move_places(line_break: str) -> None:
    source = line_break.join(["a: x\u2028y\x85z", "老：师: 🎓", "b: @c", ""])
    assert [(line, column) for line, column, _ in problems_of(source)] == [(3, 4)]


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("a: item #1 of many\n", [(1, 9)]),
        ("a: #ff0000\n", [(1, 4)]),
        ("a:\n  - I am #1\n  - {b: c #d\n    }\n", [(2, 10), (3, 11)]),
        ("a: ai：人工智能\n", [(1, 6)]),
        ("a: {temperature：0.7}\n", [(1, 16)]),
    ],
)
def test_doubtful_text_is_read_with_a_warning(source: str, places: list[tuple[int, int]]) -> None:
    problems = parse_yaml(source, file="f").problems
    assert {"warning"} == {problem.severity for problem in problems}
    assert places == [(problem.line, problem.column) for problem in problems]


@pytest.mark.parametrize(
    "source",
    [
        "a: b # comment\n",
        "a: b    #comment\n",
        "a: 0.7 #hot\n",
        "a: #\n  b: c\n",
        "a: true #yes\nb: 'x' #y\n",
        "#!shebang\na: b\n",
        "a: 你好：世界\nb: 'ai：x'\n",
        "a: |\n  ai：x #1\n  -　y\n",
    ],
)
def test_usual_comment_or_colon_is_no_reason_for_a_warning(source: str) -> None:
    assert parse_yaml(source, file="f").problems == ()


def test_many_warnings_do_not_make_a_file_unreadable() -> None:
    document = parse_yaml("a:\n" + "  - x #1\n" * (2 * MAX_PROBLEMS), file="f")
    assert len(document.problems) == 2 * MAX_PROBLEMS


def test_many_errors_are_cut_off() -> None:
    assert len(problems_of("a: [" + "*x, " * 4000 + "]")) == MAX_PROBLEMS


def test_error_text_names_file_line_and_column() -> None:
    with pytest.raises(YamlError) as refused:
        parse_yaml("a: 1\na: 2\n", file="personas/ada.yaml")
    expected = "The key 'a' stands here again; it is already in line 1: remove one of the two."
    assert f"personas/ada.yaml:2:1: {expected}" == str(refused.value)


NASTY = [
    *("", " ", "  x", "x  ", "x \ny", "x\n", "x\n\n", "\n", "\nx", "x\ny", "x\n\n  y", "x\n\ty", "\tx"),
    *("x\r\ny", "x\ry", "x\x85y", "x\u2028y", "x\u2029", "\ufeffx", "x\ufeff\ny", "\u00a0x", "\u200bx"),
    *("no", "y", "~", "null", "true", "1.10", "0123", "0o17", "1e3", "12:30", "2024-01-01", "=", "<<"),
    *("-", "- x", "? x", ": x", "x:", "a: b", "a:\u200bb", "x #y", "#x", "*x", "&x", "!x", "|", ">", "%x"),
    *("@x", "`x`", "{{ x }}", "[x]", "'x'", '"x"', "---", "--- x", "...", "x\n---\ny", "key：x", "-　x"),
    *("\\", "\\n", "🎓", "🎓\n老师：\n", "\x1b[0m", "\x07\x7f\x9f", "\ufffe\uffff", "\U000f0000\u2028"),
    *("　　从前\n　　有座山", "x\n\u2028", "|\n  x", "x" * 2000, "x: " * 700),
]  # fmt: skip

texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.text(" \t\n\r:#-'\"\\{}[],&*!|>%@`~a1x.：　\x85\u2028\ufeff中🎓"),
)
values = st.recursive(
    st.none() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=250, deadline=None, database=None)
@given(st.dictionaries(texts, values, max_size=5))
def test_written_data_comes_back(data: dict[str, object]) -> None:
    document = parse_yaml(dump_yaml(data), file="f")
    assert data == document.data
    assert list(data) == list(document.data)
    assert document.problems == ()


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_comes_back_from_every_position(text: str) -> None:
    data = {"a": text, text: {"b": [text, [text], {"c": text, text: None}]}, "end": "x"}
    written = dump_yaml(data)
    assert data == parse_yaml(written.encode(), file="f", typed=EVERY_KEY).data
    assert data == yaml.safe_load(written), "YAML 1.1 reads it differently"


def test_written_yaml_is_readable() -> None:
    data = {
        "name": "苏格拉底",
        "avatar": "🎓",
        "tags": ["no", "a b"],
        "system": "One\n\n  two\n",
        "greeting": "Hello\nthere",
        "sampling": {"temperature": 0.7, "seed": 5, "stream": True, "top_p": float("inf")},
        "examples": [{"user": "Why?", "assistant": "Look:\nhere"}, [], ["x", ["y"]]],
        "variables": {},
        "model": None,
    }
    assert dump_yaml(data) == (
        """\
name: 苏格拉底
avatar: 🎓
tags: ["no", a b]
system: |
  One

    two
greeting: |-
  Hello
  there
sampling:
  temperature: 0.7
  seed: 5
  stream: true
  top_p: .inf
examples:
  - user: Why?
    assistant: |-
      Look:
      here
  - []
  - - x
    - ["y"]
variables: {}
model: null
"""
    )


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_file_can_hold_is_not_written(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        dump_yaml({"a": [text]})


def test_foreign_value_is_not_written() -> None:
    with pytest.raises(TypeError, match="bytes cannot be written as YAML"):
        dump_yaml({"a": b"x"})


FRAGMENTS = [
    *("a", "b: ", "- ", "\n", "\n  ", "\n\t", " ", "\t", "{", "}", "[", "]", ",", ":", "：", "　"),
    *("\u00a0", "#", " #x", "|", "|\n", ">", '"', "'", "\\", "\\u", "\\UFFFFFFFF", "\\ud800", "\\x"),
    *("\0", "*", "*a ", "&a ", "!", "!!str ", "<<: ", "---\n", "...\n", "%", "@", "`", "%YAML 1.2\n"),
    *("? ", "{{ x }}", "{% if %}", "\r\n", "\r", "\x85", "\u2028", "\ufeff", "中", "🎓", "~", "null"),
    *("a: 1\n", "\x1b", "\ud800", "a:b", "'s ", "\U000f0000", "\U0010ffff"),
]  # fmt: skip

fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)


@settings(max_examples=800, deadline=None, database=None)
@given(st.one_of(fragments, fragments.map(lambda t: t.encode("utf-8", "replace")), st.binary()))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf")
@example("\ud800")
@example('"\\UFFFFFFFF')
def test_any_source_is_read_or_refused_with_places(source: str | bytes) -> None:
    outcome = outcome_of(source)
    if isinstance(outcome, YamlError):
        assert any(problem.severity == "error" for problem in outcome.problems)
    else:
        assert outcome.marks[()].file == "ada.yaml"
    assert all(problem.line and problem.column and problem.text for problem in outcome.problems)
