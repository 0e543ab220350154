"""A comparison file: what it says becomes a comparison, and each mistake is told with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rolebook.core.check import Check
from rolebook.core.comparison_spec import ComparisonSpec, InputSpec, JudgeSpec, VariantSpec
from rolebook.core.errors import FileError, InputError
from rolebook.library.comparison_file import parse_comparison, read_comparison_file
from rolebook.library.inputs_file import INPUT_SUFFIXES, parse_inputs
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "comparison-files.md").read_text("utf-8")

WHOLE = """\
question: Which teacher asks better questions?
variants:
  - teacher
  - friend@3f9c2a
  - persona: teacher
    name: 1.10
    model: gpt-4o
    variables: {level: expert}
    sampling: {temperature: 0.2}
    request: {user: test, top_k: 40}
    changes: {system: Be brief., request: {top_k: 3}, checks: [{is_json: {minProperties: 1}}]}
inputs:
  - What is a fraction?
  - input: Why?
    tags: short
  - turns: [Hello, And then?]
  - {session: 01kajq3m5w8r2c9x0v, history: free}
  - {persona: teacher, last: 5}
repeats: 3
checks:
  - max_words: 80
  - is_json: {type: object, minProperties: 2}
judge: {model: gpt-4o}
context: {turns: 4}
recorded: yes
"""


def test_whole_file() -> None:
    spec = parse_comparison(WHOLE, file="c.yaml").spec
    assert ["teacher", "friend", "teacher"] == [variant.persona for variant in spec.variants]
    assert ("3f9c2a", "1.10") == (spec.variants[1].revision, spec.variants[2].name)
    assert {"temperature": 0.2, "user": "test", "top_k": 40} == spec.variants[2].parameters
    assert {"top_k": 3} == spec.variants[2].changes["request"]
    assert {"minProperties": 1} == spec.variants[2].changes["checks"][0]["is_json"]
    assert [("What is a fraction?",), ("Why?",), ("Hello", "And then?"), (), ()] == [
        entry.texts for entry in spec.inputs
    ]
    assert (3, True, 4) == (spec.repeats, spec.recorded, spec.context and spec.context.turns)
    assert {"type": "object", "minProperties": 2} == spec.checks[1].is_json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variants: [teacher]\n", ["c.yaml:1:1: 'inputs' is missing."]),
        ("variants: []\ninputs: [Hi]\n", ["c.yaml:1:11: "]),
        ("variants: [teacher]\ninputs: Hi\n", ["c.yaml:2:9: inputs must be a list"]),
        ("variants: [{name: x}]\ninputs: [Hi]\n", ["c.yaml:1:12: variants[0] needs either"]),
        (
            "variants: [teacher]\ninputs: [Hi]\nrepeats: 1000\n",
            ["c.yaml:3:10: repeats must be a whole number from 1 to 100, got '1000'."],
        ),
        (
            "variants: [teacher]\ninputs: [Hi]\nchecks:\n  - max_wrds: 3\n",
            ["c.yaml:4:15: 'checks[0].max_wrds' is nothing", "Did you mean 'max_words'?"],
        ),
        (
            "variants: [teacher]\ninputs:\n  - {input: a, turns: [b]}\nreapets: 2\n",
            ["c.yaml:3:5: inputs[0] needs one of", "c.yaml:4:1: warning: 'reapets' is no known"],
        ),
        (
            "variants:\n  - persona: teacher\n    changes:\n      sytem: Be brief.\n"
            "      sampling: {temprature: 3}\n      temperature: 1\n      extends: friend\ninputs: [Hi]\n",
            [
                "c.yaml:4:14: 'variants[0].changes.sytem' is no key of a persona file. Did you mean 'system'?",
                "c.yaml:5:30: 'variants[0].changes.sampling.temprature' is no key of a persona file.",
                "c.yaml:6:20: 'variants[0].changes.temperature' is no key of a persona file. Did you mean 'sampling.t",
                "c.yaml:7:16: variants[0].changes.extends: bases are merged before",
            ],
        ),
        (
            "variants:\n  - {persona: teacher, colour: red, modl: x, temperature: 1, template: plain}\n"
            "  - {persona: teacher, sampling: {temprature: 1, cache_prompt: 3}, tempalte: plain, prompt: Be brief.}\n"
            "  - {persona: teacher, system: Be brief.}\n  - {persona: teacher, name: A, and B}\ninputs: [Hi]\n",
            [
                "c.yaml:2:24: 'variants[0].colour' means nothing here and would change nothing: take it out.",
                "c.yaml:2:37: 'variants[0].modl' means nothing here and would change nothing. Did you mean 'model'?",
                "c.yaml:2:46: 'variants[0].temperature' belongs under 'sampling'; here it would change nothing.",
                "c.yaml:2:62: 'variants[0].template' belongs under 'changes'; here it would change nothing.",
                "c.yaml:3:35: 'variants[1].sampling.temprature' is no sampling parameter. Did you mean 'temperature'?",
                "c.yaml:3:50: 'variants[1].sampling.cache_prompt' is no sampling parameter. Other fields of the",
                "c.yaml:3:68: 'variants[1].tempalte' means nothing here and would change nothing. "
                "Did you mean 'changes.template'?",
                "Did you mean 'changes.system'?",
                "c.yaml:4:5: variants[2] has a persona and a system text of its own.",
                "A comma cut the text before 'and B'.",
            ],
        ),
        (
            "variants: [{persona: teacher, changes: {system: Be kind, and brief}}]\ninputs: [Hi]\n",
            ["c.yaml:1:", "A comma cut the text before 'and brief'."],
        ),
        ("- teacher\n", ["c.yaml:1:1: "]),
        ("variants: [teacher\ninputs: [Hi]\n", ["c.yaml:1:11: The '[' that opens here"]),
    ],
)
def test_mistakes_have_line_and_column(text: str, said: list[str]) -> None:
    with pytest.raises(FileError) as caught:
        parse_comparison(text, file="c.yaml")
    assert [] == [part for part in said if part not in str(caught.value)]


def test_unknown_keys_are_warnings_where_no_persona_is_compared_with_itself_by_them() -> None:
    text = "variants: [teacher]\ninputs:\n  - {input: Hi, colour: red}\n"
    found = parse_comparison(text, file="c.yaml")
    assert [("c.yaml:3:17", "warning")] == [(p.place, p.severity) for p in found.problems]
    assert "teacher" == found.spec.variants[0].persona


def test_inputs_of_another_file_stand_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "q.csv").write_text("input,level,tags\nA,high,x\nB,,\n", "utf-8")
    (tmp_path / "c.yaml").write_text(
        "variants: [teacher]\ninputs:\n  - First\n"
        "  - {file: sets/q.csv, tags: [all], variables: {level: low, subject: maths}}\n"
        "  - Last\n",
        "utf-8",
    )
    spec = read_comparison_file(tmp_path / "c.yaml").spec
    assert ["First", "A", "B", "Last"] == [entry.input for entry in spec.inputs]
    assert [(), ("x",), ("all",), ()] == [entry.tags for entry in spec.inputs]
    assert {"level": "high", "subject": "maths"} == spec.inputs[1].variables
    assert {"level": "low", "subject": "maths"} == spec.inputs[2].variables


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("file: q.csv", "q.csv:3: Cells in this row: 2"),
        ("file: gone.csv", "c.yaml:3:12: "),
        ("file: [a]", "c.yaml:3:12: 'file' must be the name of a file."),
        ("file: q.pdf", "c.yaml:3:12: "),
        ("file: good.txt, turns: [a]", "c.yaml:3:29: 'turns' cannot stand beside 'file'."),
        ("file: good.txt, tags: {a: b}", "c.yaml:3:28: inputs[0].tags must be "),
    ],
)
def test_mistakes_with_another_file(tmp_path: Path, entry: str, said: str) -> None:
    (tmp_path / "q.csv").write_text("input\ngood\nnot, good\n", "utf-8")
    (tmp_path / "good.txt").write_text("one\ntwo\n", "utf-8")
    (tmp_path / "q.pdf").write_bytes(b"%PDF")
    (tmp_path / "c.yaml").write_text(f"variants: [t]\ninputs:\n  - {{{entry}}}\n", "utf-8")
    with pytest.raises(FileError) as caught:
        read_comparison_file(tmp_path / "c.yaml")
    assert said in str(caught.value)
    assert 1 == len(caught.value.problems)


def test_fault_after_another_file_is_told_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("one\ntwo\nthree\n", "utf-8")
    (tmp_path / "c.yaml").write_text(
        "variants: [t]\ninputs:\n  - file: q.txt\n  - {input: a, tags: {b: c}}\n", "utf-8"
    )
    with pytest.raises(FileError, match=r"c\.yaml:4:22: inputs\[1\]\.tags must be"):
        read_comparison_file(tmp_path / "c.yaml")


def test_text_from_elsewhere_names_no_file() -> None:
    with pytest.raises(FileError, match=r"c\.yaml:1:21: Here no other file can be read"):
        parse_comparison("inputs: [Hi, {file: /etc/passwd}]\nvariants: [t]\n", file="c.yaml")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml cannot be read"):
        read_comparison_file(tmp_path / "gone.yaml")


def blocks_of(language: str) -> list[str]:
    """The examples of the page, in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_page_explains_every_key_and_every_kind_of_file() -> None:
    models = (ComparisonSpec, VariantSpec, InputSpec, JudgeSpec, Check)
    keys = {key for model in models for key in model.model_fields} | {*INPUT_SUFFIXES, "file"}
    assert [] == [key for key in sorted(keys) if f"`{key}" not in PAGE]


def test_examples_of_the_page_are_good(tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text(blocks_of("csv")[0], "utf-8")
    whole, variants = blocks_of("yaml")
    (tmp_path / "teachers.yaml").write_text(whole, "utf-8")
    found = read_comparison_file(tmp_path / "teachers.yaml")
    assert ((), 5) == (found.problems, len(found.spec.inputs))
    assert "Is 0.999… the same as 1, and why?" == found.spec.inputs[4].input
    assert () == parse_comparison(f"inputs: [Hi]\n{variants}", file="c.yaml").problems
    assert 3 == len(parse_inputs(blocks_of("json")[0].encode(), file="a.jsonl"))
