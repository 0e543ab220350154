"""Checks: how they are written, what is said when they are written wrongly, and what they find in answers."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rolebook.core.check import Answer, Check, run_check
from rolebook.core.fault import FaultyDataError
from rolebook.core.persona import Persona, parse_persona

EVERY_KIND: list[dict[str, Any]] = [
    {"contains": ["a"]},
    {"contains": ["a", "b"], "ignore_case": True, "name": "both"},
    {"contains_any": ["a", "b"]},
    {"not_contains": ["a"]},
    {"equals": "a\n"},
    {"regex": "^a+$"},
    {"not_regex": "b"},
    {"min_words": 0},
    {"max_words": 80},
    {"min_characters": 1},
    {"max_characters": 1},
    {"min_questions": 1},
    {"max_questions": 1},
    {"is_json": True},
    {"is_json": {"type": "object", "properties": {"a": {"minimum": 1.5}}}},
    {"language": "zh"},
    {"similarity": {"at_least": 0.8}},
    {"similarity": {"to": "a b", "at_least": 0.0}},
    {"max_cost": 0.01},
    {"max_seconds": 2.5},
    {"finish_reason": "stop"},
    {"rubric": "Asks one question."},
    {"rubric": "Is patient.", "live": False},
]


def persona(checks: Any) -> Persona:
    return parse_persona("p", {"name": "p", "system": "s", "checks": checks})


def faults(checks: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(FaultyDataError) as caught:
        persona(checks)
    return [(fault.path, fault.message % fault.parameters) for fault in caught.value.faults]


def test_every_kind_of_check_comes_back_as_it_was_written() -> None:
    written = persona(EVERY_KIND)
    assert EVERY_KIND == written.as_data()["checks"]
    assert written.checks == persona(json.loads(json.dumps(written.as_data()["checks"]))).checks
    assert [check.as_data() for check in written.checks] == EVERY_KIND
    assert Check.model_validate(written.checks[0].model_dump()) == written.checks[0]


def test_persona_without_checks_says_nothing_of_them() -> None:
    assert "checks" not in persona([]).as_data()


def test_schema_for_editors_takes_every_check_and_refuses_two_in_one() -> None:
    validator = Draft202012Validator(Persona.model_json_schema())
    assert [] == list(validator.iter_errors({"name": "p", "system": "s", "checks": EVERY_KIND}))
    wrong = {"name": "p", "system": "s", "checks": [{"max_words": 1, "min_words": 1}]}
    assert list(validator.iter_errors(wrong))


def test_values_are_read_as_a_yaml_file_gives_them() -> None:
    checks = persona(
        [
            {"max_words": "80"},
            {"contains": "a", "ignore_case": "yes"},
            {"is_json": "true"},
            {"similarity": {"at_least": ".5"}},
            {"rubric": "r", "live": "no"},
        ]
    ).checks
    assert [80, ("a",), True, 0.5, "r"] == [
        check.similarity.at_least if check.similarity else check.wanted for check in checks
    ]
    assert checks[1].ignore_case
    assert not checks[4].live


FAULTS: list[tuple[Any, tuple[str | int, ...], str]] = [
    ([{"max_word": "80"}], ("checks", 0, "max_word"), "Did you mean 'max_words'?"),
    ([{"max_words": "80"}, {"sentiment": "x"}], ("checks", 1, "sentiment"), "There is: name, cont"),
    ([{"contains": "a", "ignorecase": "yes"}], ("checks", 0, "ignorecase"), "'ignore_case'?"),
    ([{"similarity": {"at_last": "1"}}], ("checks", 0, "similarity", "at_last"), "'at_least'?"),
    (
        [{"rubric": "One question", "at most": None}],
        ("checks", 0, "at most"),
        "A comma cut the text before 'at most'.",
    ),
    (
        [{"finish_reason": "stpo"}],
        ("checks", 0, "finish_reason"),
        "got 'stpo'. Did you mean 'stop'?",
    ),
    (
        [{"min_words": "1", "max_words": "2"}],
        ("checks", 0),
        "checks[0] is two checks in one, 'min_words' and 'max_words': write two.",
    ),
    ([{"name": "x"}], ("checks", 0), "checks[0] needs one of contains, contains_any,"),
    ([{"contains": None}], ("checks", 0), "checks[0] needs one of"),
    (["max_words"], ("checks", 0), "checks[0] must be 'key: value' pairs, got 'max_words'."),
    (
        {"max_words": "3"},
        ("checks",),
        "checks must be a list, each item after a '- ', got a mapping.",
    ),
    ([{"max_words": "3"}, {"max_words": "3"}], ("checks",), "are called 'max_words: 3'"),
    (
        [{"max_words": "many"}],
        ("checks", 0, "max_words"),
        "checks[0].max_words must be a whole number from 0 to 10000000, got 'many'.",
    ),
    ([{"contains": []}], ("checks", 0, "contains"), "none of them empty."),
    ([{"not_contains": ["a", ""]}], ("checks", 0, "not_contains"), "none of them empty."),
    (
        [{"regex": "(a"}],
        ("checks", 0, "regex"),
        "is no regular expression: missing ) at position 2.",
    ),
    ([{"regex": ""}], ("checks", 0, "regex"), "must be text that is not empty"),
    ([{"is_json": "no"}], ("checks", 0, "is_json"), "must be true or a JSON Schema, got 'no'."),
    ([{"is_json": []}], ("checks", 0, "is_json"), "must be true or a JSON Schema, got a list."),
    (
        [{"is_json": {"type": "x"}}],
        ("checks", 0, "is_json"),
        "as a JSON Schema: $.type: 'x' is not",
    ),
    ([{"language": "English"}], ("checks", 0, "language"), "must be one of ar, bg,"),
    ([{"similarity": {"to": "a"}}], ("checks", 0, "similarity", "at_least"), "is missing."),
    ([{"similarity": {"at_least": "2"}}], ("checks", 0, "similarity", "at_least"), "from 0 to 1"),
    ([{"max_cost": "free"}], ("checks", 0, "max_cost"), "a number from 0 to 100000, got 'free'."),
    ([{"max_words": "1", "ignore_case": "yes"}], ("checks", 0), "ignore_case belongs to contains"),
    ([{"max_words": "1", "live": "no"}], ("checks", 0), "live belongs to rubric."),
]


@pytest.mark.parametrize(("checks", "path", "message"), FAULTS)
def test_wrong_check_says_where_and_what_was_expected(
    checks: Any, path: tuple[str | int, ...], message: str
) -> None:
    ((found_path, text),) = faults(checks)
    assert path == found_path
    assert message in text


LABELS = [
    ({"max_words": 80}, "max_words: 80"),
    ({"contains": ["a", "b"]}, "contains: a, b"),
    ({"name": "short", "max_words": 80}, "short"),
    ({"is_json": True}, "is_json: true"),
    ({"is_json": {"type": "object"}}, 'is_json: {"type": "object"}'),
    ({"similarity": {"at_least": 0.5}}, "similarity: 0.5"),
    ({"similarity": {"at_least": 0.5, "to": "a b"}}, "similarity: 0.5 to a b"),
    ({"rubric": "Two\nlines"}, "rubric: Two lines"),
    ({"rubric": "x" * 100}, "rubric: " + "x" * 51 + "…"),
]


@pytest.mark.parametrize(("data", "label"), LABELS)
def test_label_tells_a_check_from_others(data: dict[str, Any], label: str) -> None:
    assert label == Check.model_validate(data).label


FINDINGS: list[tuple[dict[str, Any], Answer, bool | None, str, float | str | None]] = [
    ({"contains": "x"}, Answer("axb"), True, "The answer contains all that it must.", None),
    (
        {"contains": ["a", "B", "c"]},
        Answer("a b"),
        False,
        "The answer does not contain 'B', 'c'.",
        None,
    ),
    ({"contains": "STRASSE", "ignore_case": True}, Answer("die Straße"), True, "", None),
    ({"contains_any": ["x", "b"]}, Answer("b"), True, "The answer contains 'b'.", None),
    ({"contains_any": ["x"]}, Answer("b"), False, "The answer contains none of 'x'.", None),
    ({"not_contains": ["x"]}, Answer("X"), True, "contains nothing that it must not.", None),
    ({"not_contains": ["x"], "ignore_case": True}, Answer("X"), False, "contains 'x'.", None),
    ({"equals": "Yes.\n"}, Answer(" Yes."), True, "word for word", None),
    ({"equals": "Yes."}, Answer("yes."), False, "not word for word", None),
    ({"regex": "^b"}, Answer("a\nb"), False, "matches nowhere.", None),
    ({"regex": "(?m)^b"}, Answer("a\nb"), True, "matches.", None),
    ({"not_regex": "b"}, Answer("a\nb"), False, "matches.", None),
    ({"not_regex": "x"}, Answer("a\nb"), True, "matches nowhere.", None),
    ({"max_words": 2}, Answer("我 am 3"), False, "The number of words is 3; at most 2 is", 3),
    ({"min_words": 3}, Answer("我 am 3"), True, "The number of words is 3; at least 3 is", 3),
    ({"max_characters": 4}, Answer("你好。 ?"), True, "The number of characters is 4;", 4),
    ({"max_questions": 1}, Answer("A? B?!"), False, "The number of questions is 2;", 2),
    ({"is_json": True}, Answer(' {"a": 1}\n'), True, "The answer is JSON.", None),
    ({"is_json": True}, Answer('{\n"a": x}'), False, "line 2, column 6.", None),
    ({"is_json": True}, Answer(""), False, "The answer is no JSON", None),
    ({"is_json": True}, Answer('Here:\n```json\n{"a": 1}\n```'), False, "in a code block.", None),
    ({"is_json": {"type": "array"}}, Answer("[]"), True, "follows its schema.", None),
    (
        {"is_json": {"properties": {"a": {"type": "string"}}}},
        Answer('{"a": 1}'),
        False,
        "does not follow its schema at $.a: 1 is not of type 'string'.",
        "$.a",
    ),
    ({"language": "zh"}, Answer("你觉得呢？"), True, "The language of the answer is zh.", "zh"),
    ({"language": "en"}, Answer("你觉得呢？"), False, "is zh, and it should be en.", "zh"),
    ({"language": "en"}, Answer("42"), None, "cannot be told.", None),
    ({"similarity": {"at_least": 0.5}}, Answer("a b", reference="a c"), True, "0.5; at least", 0.5),
    ({"similarity": {"at_least": 0.6, "to": "a"}}, Answer("a b", reference="a b"), True, "", 0.667),
    ({"similarity": {"at_least": 0.6}}, Answer("a b"), None, "the input has no reference.", None),
    (
        {"max_cost": 0.01},
        Answer("", cost=0.002),
        True,
        "cost 0.002 US dollars; at most 0.01",
        0.002,
    ),
    ({"max_cost": 0.01}, Answer("", cost=0.02), False, "cost 0.02 US dollars", 0.02),
    ({"max_cost": 0.01}, Answer(""), None, "What the answer cost is not known.", None),
    ({"max_seconds": 1}, Answer("", duration_ms=1200), False, "took 1.20 seconds; at most 1", 1.2),
    ({"max_seconds": 1}, Answer(""), None, "How long the answer took is not known.", None),
    ({"finish_reason": "stop"}, Answer("", finish_reason="stop"), True, "with 'stop'.", "stop"),
    (
        {"finish_reason": "stop"},
        Answer("", finish_reason="length"),
        False,
        "'length', and",
        "length",
    ),
    ({"finish_reason": "stop"}, Answer(""), None, "is not known.", None),
    ({"rubric": "Is kind."}, Answer("Hello."), None, "A model has to judge this.", None),
]


@pytest.mark.parametrize(("data", "answer", "has_passed", "said", "value"), FINDINGS)
def test_check_finds_what_it_says(
    data: dict[str, Any],
    answer: Answer,
    has_passed: bool | None,
    said: str,
    value: float | str | None,
) -> None:
    result = run_check(Check.model_validate(data), answer)
    assert has_passed is result.has_passed
    assert said in str(result.said)
    assert value == result.value
    assert json.loads(json.dumps(dict(result.said.parameters))) == result.said.parameters


@pytest.mark.parametrize("text", ["", " \n"])
def test_answer_without_text_keeps_no_limit_and_meets_no_demand(text: str) -> None:
    forbidding: list[dict[str, Any]] = [
        {"not_contains": "x"},
        {"not_regex": "x"},
        {"max_words": 3},
        {"max_characters": 3},
        {"max_questions": 0},
    ]
    results = [run_check(Check.model_validate(data), Answer(text)) for data in forbidding]
    assert {None} == {result.has_passed for result in results}
    assert {"The answer has no text, so it could not break this."} == {
        str(result.said) for result in results
    }
    demanding: list[dict[str, Any]] = [
        {"contains": "x"},
        {"contains_any": ["x"]},
        {"equals": "x"},
        {"regex": "x"},
        {"min_words": 1},
        {"min_characters": 1},
        {"min_questions": 1},
        {"is_json": True},
        {"similarity": {"to": "x", "at_least": 0.1}},
    ]
    results = [run_check(Check.model_validate(data), Answer(text)) for data in demanding]
    assert {False} == {result.has_passed for result in results}


ENDLESS: list[tuple[dict[str, Any], str]] = [
    ({"regex": "(a|a)*$"}, "a" * 40 + "b"),
    ({"not_regex": "(a|a)*$"}, "a" * 40 + "b"),
    ({"is_json": True}, "[" * 500_000),
    ({"is_json": {"$ref": "#"}}, "1"),
    ({"is_json": {"pattern": "(a|a)*$"}}, json.dumps("a" * 40 + "b")),
]


@pytest.mark.parametrize(("data", "text"), ENDLESS)
def test_what_takes_too_long_has_not_passed_and_not_failed(data: dict[str, Any], text: str) -> None:
    start = time.process_time()
    result = run_check(Check.model_validate(data), Answer(text))
    assert result.has_passed is None
    assert str(result.said)
    assert time.process_time() - start < 1.5


@pytest.mark.parametrize("data", EVERY_KIND)
def test_answer_of_a_megabyte_takes_bounded_time(data: dict[str, Any]) -> None:
    text = "Is it so? 好吗？ " * 60_000
    start = time.process_time()
    run_check(Check.model_validate(data), Answer(text, reference=text[9:]))
    assert time.process_time() - start < 2
