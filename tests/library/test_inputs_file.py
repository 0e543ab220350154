"""Files of inputs: what each kind of file means, and where each mistake in it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rolebook.core.errors import FileError, InputError
from rolebook.library.inputs_file import (
    INPUT_SUFFIXES,
    MAX_BYTES,
    MAX_INPUTS,
    parse_inputs,
    parse_pasted,
    read_inputs,
)


def texts(inputs: list[dict[str, Any]]) -> list[str]:
    return [entry["input"] for entry in inputs]


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("a.csv", "input\nHello\n", [{"input": "Hello"}]),
        ("a.csv", "\ufeffinput,x\r\nHello,\r\n\r\n,\r\n", [{"input": "Hello"}]),
        ("a.csv", "Question\n=1+1\n", [{"input": "=1+1"}]),
        ("a.csv", "name;input\none;a, b\n", [{"input": "a, b", "name": "one"}]),
        ("a.tsv", "level\tinput\nhigh\ta, b; c\n", None),
        (
            "a.csv",
            'Input,Tags,reference,level\n"Two\nlines, ""quoted""",a; b，c,good,\nx,,,high\n',
            [
                {
                    "input": 'Two\nlines, "quoted"',
                    "tags": ["a", "b", "c"],
                    "reference": "good",
                },
                {"input": "x", "variables": {"level": "high"}},
            ],
        ),
        ("a.csv", "tags,frage,x,\nt,Was?,1,\n", None),
        ("a.jsonl", '"Hi"\n\n{"turns": ["a", "b"], "level": 3}\n', None),
        ("a.JSON", ' [ "Hi" ,\n{"input": "x", "variables": {"a": 1}, "b": 2}] \n', None),
        ("a.json", '["Hi"]', [{"input": "Hi"}]),
        ("a.txt", "\ufeff one \r\n\r\n二\u2028三\n", [{"input": "one"}, {"input": "二\u2028三"}]),
        ("a.md", "one\ntwo", [{"input": "one"}, {"input": "two"}]),
    ],
)
def test_kinds_of_files(name: str, source: str, expected: list[dict[str, Any]] | None) -> None:
    others = {
        "a.tsv": [{"input": "a, b; c", "variables": {"level": "high"}}],
        "a.csv": [{"input": "Was?", "tags": ["t"], "variables": {"x": "1"}}],
        "a.jsonl": [{"input": "Hi"}, {"turns": ["a", "b"], "variables": {"level": 3}}],
        "a.JSON": [{"input": "Hi"}, {"input": "x", "variables": {"a": 1, "b": 2}}],
    }
    wanted = others[name] if expected is None else expected
    assert wanted == [row.data for row in parse_inputs(source.encode(), file=name)]


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("a.csv", "", "a.csv: There is no input in this file."),
        ("a.csv", "input\n", "a.csv: There is no input in this file."),
        ("a.txt", " \n\n", "a.txt: There is no input in this file."),
        ("a.json", "[]", "a.json: There is no input in this file."),
        (
            "a.csv",
            "input,x\na,b\nHello, world, you\n",
            "a.csv:3: Cells in this row: 3, in the first one: 2",
        ),
        ("a.csv", "input,x\n\n\na\n", "a.csv:4: Cells in this row: 1"),
        ("a.csv", "input,x,x\na,b,c\n", "a.csv:1: Two columns are called 'x'"),
        ("a.csv", "input,\na,b\n", "a.csv:2: A cell of this row stands in a column without"),
        ("a.csv", "input,x\n,b\n", "a.csv:2: The cell of the input is empty"),
        ("a.csv", "name,tags\na,b\n", "a.csv:1: No column holds the inputs"),
        (
            "a.csv",
            "What is rain?\nWhat is snow?\n",
            "a.csv:1: The first row has to be headings, and",
        ),
        ("a.csv", "name,什么是雨？\nx,y\n", "'什么是雨？' looks like an input"),
        ("a.csv", 'input\nb\n"open\nc\n', "a.csv:3: A quotation mark that opens in this row"),
        ("a.csv", 'input\n"a"b\n', "a.csv:2: The row that begins here cannot be read"),
        ("a.csv", "input\n" + "x" * 140_000, "a.csv:2: A cell of this row is longer"),
        ("a.jsonl", '"a"\n{"input": }\n', "a.jsonl:2:11: This is no JSON: Expecting value."),
        ("a.jsonl", "\n3\n", "a.jsonl:2: An input is a text, or an object"),
        ("a.jsonl", '{"name": "x"}\n', "a.jsonl:1: the input needs one of 'input', 'turns'"),
        ("a.jsonl", '"a"\n{"turns": ["b", " "]}\n', "a.jsonl:2: turns[1] must be text that is not"),
        ("a.jsonl", '"a"\n{"input": 3}\n', "a.jsonl:2: input must be text, got '3'."),
        ("a.jsonl", "9" * 5000, "a.jsonl:1: This JSON cannot be read"),
        ("a.json", "[" * 100_000, "a.json:1: This JSON cannot be read"),
        ("a.json", "\n{}", "a.json:2: The file must be a list"),
        ("a.json", '["a",\n"b" "c"]', "a.json:2:5: This is no JSON: Expecting ',' delimiter."),
        ("a.json", '["a",\n{"input": "", "turns": []}]', "a.json:2: the input needs one of"),
        ("a.json", '["a"]\nx', "a.json:2: This is no JSON: Extra data."),
        ("a.json", '["a"', "a.json:1:5: This is no JSON"),
        ("a.txt", "one\nt\0wo\n", "a.txt:2:2: There is a NUL character here"),
        ("a.txt", b"one\ncaf\xe9\n", "a.txt:2:4: This is not UTF-8; the file looks like Latin-1"),
        ("a.csv", "input\n你好，世界\n".encode("gbk"), "a.csv:2:1: This is not UTF-8; the file"),
        # Too little to tell what it is.
        ("a.csv", "input\n天空为什么\n".encode("gbk"), "save the file as UTF-8"),
        ("a.csv", "input\nHi\n".encode("utf-16"), "a.csv:1:1: The file is written in UTF-16"),
        ("a.txt", b"x" * (MAX_BYTES + 1), "a.txt: The file has more than 10 MB"),
        ("a.txt", "x\n" * (MAX_INPUTS + 1), "a.txt:10001: There are more than 10000 inputs"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistake_is_told_with_its_place(name: str, source: str | bytes, said: str) -> None:
    content = source if isinstance(source, bytes) else source.encode()
    with pytest.raises(FileError) as caught:
        parse_inputs(content, file=name)
    assert said in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(FileError) as caught:
        parse_inputs(b"input,x\na\nb,1\n,2\n", file="a.csv")
    assert [2, 4] == [problem.line for problem in caught.value.problems]


def test_lines_that_are_no_json_and_lines_that_are_no_input_are_told_at_once() -> None:
    source = b'{"input":"a"}\nnot json\n{"input":5}\n{"foo":1}\n["a"]\n{"input":"ok"}\n'
    with pytest.raises(FileError) as caught:
        parse_inputs(source, file="a.jsonl")
    assert [2, 3, 4, 5] == [problem.line for problem in caught.value.problems]


def test_very_many_mistakes_are_not_all_told() -> None:
    with pytest.raises(FileError) as caught:
        parse_inputs(b"3\n" * 5000, file="a.jsonl")
    assert 100 == len(caught.value.problems)


def test_as_many_inputs_as_allowed_are_read() -> None:
    source = json.dumps([f"Question {number}" for number in range(MAX_INPUTS)], indent=1)
    assert MAX_INPUTS == len(parse_inputs(source.encode(), file="a.json"))


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.yaml"])
def test_other_kinds_of_files_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=", ".join(INPUT_SUFFIXES)):
        parse_inputs(b"Hello", file=name)


def test_file_is_read_and_a_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello\n", "utf-8")
    assert ["Hello"] == [row.data["input"] for row in read_inputs(tmp_path / "a.txt")]
    with pytest.raises(InputError, match=r"b\.txt cannot be read: No such file"):
        read_inputs(tmp_path / "b.txt")


def test_pasted_lines() -> None:
    assert ["one", "=2", '{"input": "three"}'] == texts(
        parse_pasted(' one\r\n\r\n=2\r\n{"input": "three"} ')
    )


@pytest.mark.parametrize(
    ("text", "said"), [(" \n", "no input yet"), ("x\n" * 10_001, "10001 inputs, and 10000")]
)
def test_pasted_lines_that_are_none_or_too_many(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_pasted(text)
    assert said in str(caught.value)
