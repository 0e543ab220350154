"""The persona format: what it accepts, as users mean it, and what it says when something does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from rolebook.core.errors import InputError, VariableError
from rolebook.core.fault import FaultyDataError
from rolebook.core.naming import is_persona_id
from rolebook.core.persona import (
    RESERVED_NAMES,
    ResolvedPersona,
    Sampling,
    describe_persona,
    parse_parameters,
    parse_persona,
    persona_of_revision,
)
from rolebook.core.unknown_keys import find_unknown_keys
from tests.core.conftest import CHAT, Rendering
from tests.nasty import NASTY

MINIMAL = {"name": "p", "system": "s"}


def faults(data: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(FaultyDataError) as caught:
        parse_persona("p", data)
    return [(fault.path, fault.message % fault.parameters) for fault in caught.value.faults]


def test_name_and_system_are_enough() -> None:
    persona = parse_persona("ada", MINIMAL)
    assert ("ada", "chat", {}) == (persona.id, persona.template_name, persona.parameters)


def test_base_model_persona_uses_the_base_template() -> None:
    assert "base" == parse_persona("p", {**MINIMAL, "endpoint": "completions"}).template_name


FAULTS: list[tuple[dict[str, Any], tuple[str | int, ...], str]] = [
    (
        {"name": None},
        ("name",),
        "name must be text, got nothing: write the text there, or remove the key.",
    ),
    ({"name": "  "}, ("name",), "name must be text that is not empty, got '  '."),
    ({"endpoint": "a\n b\u2028c"}, ("endpoint",), "one of chat, completions, got 'a b c'."),
    ({"system": ["a"]}, ("system",), "system must be text, got a list, as '- ' or '[' makes one"),
    (
        {"system": {"a": "b"}},
        ("system",),
        "got a mapping, as ': ' or '{' makes one: put the text in quotes",
    ),
    ({"sampling": "warm"}, ("sampling",), "sampling must be 'key: value' pairs, got 'warm'."),
    (
        {"sampling": {"temperature": "warm"}},
        ("sampling", "temperature"),
        "sampling.temperature must be a number from 0 to 2, got 'warm'.",
    ),
    (
        {"sampling": {"temperature": "2.1"}},
        ("sampling", "temperature"),
        "sampling.temperature must be a number from 0 to 2, got '2.1'.",
    ),
    (
        {"sampling": {"temperature": False}},
        ("sampling", "temperature"),
        "sampling.temperature must be a number from 0 to 2, got 'False'.",
    ),
    (
        {"sampling": {"temperature": float("nan")}},
        ("sampling", "temperature"),
        "sampling.temperature must be a number from 0 to 2, got 'nan'.",
    ),
    (
        {"sampling": {"max_tokens": "1e3"}},
        ("sampling", "max_tokens"),
        "sampling.max_tokens must be a whole number from 1 to 10000000, got '1e3'.",
    ),
    (
        {"sampling": {"stop": list("abcde")}},
        ("sampling", "stop"),
        "'stop' takes at most four texts, none of them empty.",
    ),
    (
        {"examples": {"user": "u"}},
        ("examples",),
        "examples must be a list, each item after a '- ', got a mapping.",
    ),
    (
        {"examples": [{"user": "u"}]},
        ("examples", 0, "assistant"),
        "'examples[0].assistant' is missing.",
    ),
    (
        {"examples": [{"user": "u", "assistant": 3}]},
        ("examples", 0, "assistant"),
        "examples[0].assistant must be text, got '3'.",
    ),
    (
        {"endpoint": "chats"},
        ("endpoint",),
        "endpoint must be one of chat, completions, got 'chats'. Did you mean 'chat'?",
    ),
    (
        {"variables": {"level": {"type": "choice"}}},
        ("variables", "level"),
        "variables.level: choices belong to type 'choice', and it needs them.",
    ),
    (
        {"variables": {"n": {"type": "integer", "default": "x"}}},
        ("variables", "n", "default"),
        "variables.n.default must be a whole number, got 'x'.",
    ),
    (
        {"variables": {"n": {"type": "color"}}},
        ("variables", "n", "type"),
        "variables.n.type must be one of text, long_text, number, integer, boolean, choice, date,"
        " got 'color'.",
    ),
    (
        {"variables": {"n": {"type": "integr"}}},
        ("variables", "n", "type"),
        "got 'integr'. Did you mean 'integer'?",
    ),
    (
        {"variables": {"n": {"type": "integer", "min": "5", "max": "3"}}},
        ("variables", "n"),
        "variables.n: min is greater than max.",
    ),
    (
        {
            "variables": {
                "n": {"type": "choice", "choices": [f"c{n}" for n in range(500)], "default": "x"}
            }
        },
        ("variables", "n", "default"),
        "c39, …, got 'x'.",
    ),
    (
        {"context": {"turns": "-1"}},
        ("context", "turns"),
        "context.turns must be a whole number from 0",
    ),
    (
        {"request": {"api_key": "k"}},
        ("request", "api_key"),
        "'api_key' cannot be set under 'request'.",
    ),
    (
        {"request": {"apiKey": "k"}},
        ("request", "apiKey"),
        "'apiKey' cannot be set under 'request'.",
    ),
    (
        {"request": {"api_base": "https://elsewhere.example/v1"}},
        ("request", "api_base"),
        "cannot be set under 'request'.",
    ),
    (
        {"request": {"Authorization": "k"}},
        ("request", "Authorization"),
        "cannot be set under 'request'.",
    ),
    (
        {"request": {"seed_scale": float("inf")}},
        ("request", "seed_scale"),
        "request.seed_scale must be data without infinite numbers, got 'inf'.",
    ),
    ({"x": float("nan")}, ("x",), "x must be data without infinite numbers, got 'nan'."),
    (
        {"request": {"temperature": 1}},
        ("request", "temperature"),
        "'temperature' belongs under 'sampling'.",
    ),
]


@pytest.mark.parametrize(("data", "path", "message"), FAULTS)
def test_fault_says_where_what_was_expected_and_what_was_got(
    data: dict[str, Any], path: tuple[str | int, ...], message: str
) -> None:
    ((found_path, text),) = faults({**MINIMAL, **data})
    assert path == found_path
    assert message in text


def test_all_faults_are_reported_at_once() -> None:
    found = faults({"sampling": {"temperature": "x", "top_p": "y"}})
    assert [("name",), ("system",), ("sampling", "temperature"), ("sampling", "top_p")] == [
        path for path, _ in found
    ]


@pytest.mark.parametrize(
    "name", [*sorted(RESERVED_NAMES), "_x", "__class__", "1st", "a b", "a-b", ""]
)
def test_name_that_means_something_else_is_no_variable(name: str) -> None:
    ((path, text),) = faults({**MINIMAL, "variables": {name: "v"}})
    assert ("variables", name) == path
    assert f"'{name}'" in text


def test_variable_may_have_a_chinese_name(rendering: Rendering) -> None:
    pairs = rendering.pairs(
        CHAT, persona={"name": "p", "system": "教{{ 科目 }}", "variables": {"科目": "数学"}}
    )
    assert ("system", "教数学") == pairs[0]


@pytest.mark.parametrize(
    ("type_", "typed", "value"),
    [
        ("text", "no", "no"),
        ("text", "1.10", "1.10"),
        ("text", "2024-01-01", "2024-01-01"),
        ("number", "1.10", 1.1),
        ("number", "-.5e1", -5.0),
        ("integer", "0123", 123),
        ("boolean", "no", False),
        ("boolean", "On", True),
        ("date", "2024-02-29", "2024-02-29"),
    ],
)
def test_plain_yaml_text_is_read_by_the_type_of_its_field(
    type_: str, typed: str, value: object
) -> None:
    persona = parse_persona("p", {**MINIMAL, "variables": {"v": {"type": type_, "default": typed}}})
    assert value == persona.variables["v"].default
    assert {"v": value} == persona.parse_variables({})


@pytest.mark.parametrize(
    ("variable", "given", "message"),
    [
        ({"required": True}, "", "'v' is needed"),
        ({"required": True}, None, "'v' is needed"),
        ({"type": "integer"}, "3.5", "v must be a whole number, got '3.5'."),
        ({"type": "date"}, "2023-02-29", "v must be a date such as 2026-11-20"),
        ({"type": "boolean"}, "maybe", "v must be true or false, got 'maybe'."),
        ({"type": "choice", "choices": ["a", "b"]}, "c", "v must be one of a, b, got 'c'."),
        ({"type": "number"}, "1e999", "v must be a number"),
    ],
)
def test_value_that_does_not_fit_is_refused_by_name(
    variable: dict[str, Any], given: object, message: str
) -> None:
    persona = parse_persona("p", {**MINIMAL, "variables": {"v": variable}})
    with pytest.raises(VariableError) as caught:
        persona.parse_variables({"v": given})
    assert "v" == caught.value.name
    assert message in str(caught.value)


def test_unknown_variable_is_refused_with_the_known_ones() -> None:
    persona = parse_persona("p", {**MINIMAL, "variables": {"subject": "x"}})
    with pytest.raises(VariableError, match=r"no variable 'topic'. It has: subject\."):
        persona.parse_variables({"topic": "y"})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ({}, ""),
        ({"type": "boolean"}, False),
        ({"type": "choice", "choices": ["a", "b"]}, "a"),
        ({"type": "choice", "choices": ["a", "b"], "default": "b"}, "b"),
        ({"type": "integer"}, ""),
    ],
)
def test_variable_without_a_value_falls_back(variable: dict[str, Any], value: object) -> None:
    persona = parse_persona("p", {**MINIMAL, "variables": {"v": variable}})
    assert {"v": value} == persona.parse_variables({})


def test_empty_text_given_on_purpose_stays_empty() -> None:
    persona = parse_persona("p", {**MINIMAL, "variables": {"v": "default"}})
    assert {"v": ""} == persona.parse_variables({"v": ""})


def test_unknown_key_is_a_warning_that_names_the_nearest_key() -> None:
    data = {
        **MINIMAL,
        "temprature": 1,
        "sampling": {"top-p": 1},
        "examples": [{"usr": "x"}],
        "zzz": 1,
    }
    found = {fault.path: fault for fault in find_unknown_keys(data)}
    assert {("temprature",), ("zzz",), ("sampling", "top-p"), ("examples", 0, "usr")} == set(found)
    assert "top_p" in found["sampling", "top-p"].message % found["sampling", "top-p"].parameters
    assert "'x'" in found["zzz",].message % found["zzz",].parameters
    assert {"warning"} == {fault.severity for fault in found.values()}


def test_a_line_break_may_be_a_stop_text() -> None:
    persona = parse_persona("p", {**MINIMAL, "sampling": {"stop": ["\n\n", "END"]}})
    assert {"stop": ["\n\n", "END"]} == persona.parameters


def test_schema_tells_editors_the_limits() -> None:
    schema = Sampling.model_json_schema()["properties"]["temperature"]
    assert (0, 2) == (schema["anyOf"][0]["minimum"], schema["anyOf"][0]["maximum"])


def test_text_cut_by_a_comma_is_said_to_be_that() -> None:
    data = {**MINIMAL, "examples": [{"user": "Eat one piece", "how much is left?": None}]}
    (fault,) = find_unknown_keys(data)
    expected = "A comma cut the text before 'how much is left?'. Put the whole text in quotes."
    assert expected == fault.message % fault.parameters


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"temperature": "0.7"}, "'temperature' belongs under 'sampling'"),
        ({"tempreture": "0.7"}, "Did you mean 'temperature', under 'sampling'?"),
        ({"prompt": "x"}, "Did you mean 'system'?"),
        ({"examples": [{"user": "One", "two": None}]}, "A comma cut the text before 'two'."),
        ({"k" * 5000: "x"}, f"'{'k' * 79}…' is no known key"),
        ({"one\ntwo\u2028three": "x"}, "'one two three' is no known key"),
    ],
)
def test_unknown_key_is_told_where_it_belongs(data: dict[str, Any], words: str) -> None:
    (fault,) = find_unknown_keys({**MINIMAL, **data})
    assert words in fault.message % fault.parameters


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("teacher", True),
        ("a-b_c9", True),
        ("9lives", True),
        ("Teacher", False),
        ("-rf", False),
        ("_x", False),
        ("a" * 64, True),
        ("a" * 65, False),
        ("con", False),
        ("com1", False),
        ("a.b", False),
        ("a/b", False),
        ("a\0b", False),
        ("老师", False),
        ("", False),
        (".", False),
        ("..", False),
    ],
)
def test_persona_id(text: str, is_id: bool) -> None:
    assert is_id == is_persona_id(text)


def test_revision_changes_with_the_persona_and_with_its_templates_only() -> None:
    def revision(data: dict[str, Any], template: str = CHAT) -> str:
        return ResolvedPersona(parse_persona("p", data), {"chat": template}).revision.id

    base = revision(MINIMAL)
    assert base == revision({"system": "s", "name": "p"})
    assert base == revision({**MINIMAL, "sampling": {}, "tags": []})
    others = [
        revision({**MINIMAL, "system": "s "}),
        revision({**MINIMAL, "sampling": {"temperature": "0.5"}}),
        revision({**MINIMAL, "x": {"a": 1}}),
        revision(MINIMAL, CHAT + " "),
    ]
    assert 5 == len({base, *others})


def test_persona_comes_back_whole_from_its_revision() -> None:
    data = {
        **MINIMAL,
        "variables": {"level": {"type": "choice", "choices": ["a", "b"]}, "n": {"type": "integer"}},
        "sampling": {"temperature": "0.25", "stop": "END"},
        "request": {"user": "alice", "metadata": {"a": [1, None]}},
        "examples": [{"user": "u", "assistant": "a"}],
        "context": {"turns": 3},
        "x": {"foreign": [1.5, None, "no"]},
    }
    resolved = ResolvedPersona(parse_persona("p", data), {"chat": CHAT})
    again = persona_of_revision(resolved.revision)
    assert resolved.persona == again.persona
    assert resolved.revision == again.revision


def test_parameters_of_a_request_are_checked_and_may_take_one_away() -> None:
    given = {
        "temperature": "0.5",
        "top_p": "",
        "user": "alice",
        "response_format": '{"type": "json_object"}',
        "top_k": "40",
        "logit_bias": '{"5": 1}',
        "stop": '["a", "b"]',
    }
    expected = {
        "temperature": 0.5,
        "top_p": None,
        "user": "alice",
        "response_format": {"type": "json_object"},
        "top_k": 40,
        "logit_bias": {"5": 1.0},
        "stop": ["a", "b"],
    }
    assert expected == parse_parameters(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": "warm"}, "temperature must be a number from 0 to 2, got 'warm'"),
        ({"n": "0"}, "n must be a whole number from 1 to 16"),
        ({"options": {"n": 500}}, "n must be a whole number from 1 to 128"),
        ({"num_return_sequences": "129"}, "num_return_sequences must be a whole number"),
        ({"api_key": "x"}, "'api_key' cannot be set"),
        ({"messages": "[]"}, "'messages' cannot be set"),
        ({"stream": "true"}, "'stream' cannot be set"),
        ({"base_url": "http://127.0.0.1"}, "'base_url' cannot be set"),
        ({"organization": "org-1"}, "organization says who is billed"),
        ({"Project": ""}, "Project says who is billed"),
    ],
)
def test_parameter_that_does_not_fit_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_parameters(given)
    assert message in str(caught.value)


@pytest.mark.parametrize("system", NASTY)
def test_described_role_is_taken_literally(rendering: Rendering, system: str) -> None:
    assert ("system", system) == rendering.pairs(CHAT, persona=describe_persona(system))[0]
