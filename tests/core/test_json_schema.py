"""JSON Schema on answers: by the standard, without fetching anything, and never for long."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from rolebook.core.json_schema import Misfit, check_schema, find_misfit, parse_json

DRAFT_7 = "http://json-schema.org/draft-07/schema#"

UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"type": "strin"}, "$.type: 'strin' is not valid"),
    ({"properties": {"a": {"minimum": "3"}}}, "$.properties.a.minimum: '3' is not of type"),
    ({"$schema": "https://example.com/mine"}, "no known draft"),
    ({"$schema": 7}, "no known draft"),
    ({"items": {"$schema": DRAFT_7}}, "only the whole schema can name a draft"),
    ({"$ref": "https://example.com/schema.json"}, "nothing is fetched"),
    ({"$ref": "other.json"}, "nothing is fetched"),
    ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
    ({"allOf": [{"$ref": "https://json-schema.org/draft/2020-12/schema"}]}, "nothing is fetched"),
    ({"$ref": "#/$defs/a"}, "'#/$defs/a' leads nowhere"),
    ({"$ref": "#a"}, "leads nowhere"),
    ({"$ref": "#/shape", "shape": {"type": "strin"}}, "'strin' is not valid"),
    ({"$ref": "#/title", "title": "a"}, "'a' is not of type"),
    ({"$schema": "http://json-schema.org/draft-03/schema#"}, "no known draft"),
    ({"pattern": "(a"}, "missing )"),
    ({"properties": {"a": {"patternProperties": {"(": {}}}}}, "missing )"),
    ({"unevaluatedProperties": False}, "unevaluatedProperties is not supported"),
    ({"typ": "object"}, "'typ' is no keyword and checks nothing, and may mean 'type'"),
    (
        {"type": "object", "require": ["a"]},
        "'require' is no keyword and checks nothing, and may mean 'required'",
    ),
    (
        {"properties": {"a": {"minlength": 3}}},
        "'minlength' is no keyword and checks nothing, and may mean 'minLength'",
    ),
    ({"items": {"anyOf": [{"propertys": {}}]}}, "may mean 'properties'"),
    ({"$schema": DRAFT_7, "definitions": {"a": {"enums": [1]}}}, "may mean 'enum'"),
    (
        {"name": {"type": "string"}, "age": {}},
        "'name' is no keyword and checks nothing; fields stand under 'properties'",
    ),
]


@pytest.mark.parametrize(("schema", "reason"), UNUSABLE)
def test_unusable_schema_says_why(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        check_schema(schema)


USABLE: list[dict[str, Any]] = [
    {},
    {"$schema": DRAFT_7, "definitions": {"a": {"type": "string"}}, "$ref": "#/definitions/a"},
    {"$defs": {"a": {"$anchor": "here"}}, "$ref": "#here"},
    {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}},
    {"properties": {"x": {"const": {"pattern": 3}}}},
    {"properties": {"typ": {"type": "string"}, "item": True}, "dependentRequired": {"typ": []}},
    {"const": {"typ": 1}, "enum": [{"require": 1}], "default": {"item": 1}},
    {"type": "object", "x-type": 1, "note": "mine", "example": {"typ": 1}, "nullable": True},
    {"$comment": "anything", "title": "A", "description": "B", "examples": [{"typ": 1}]},
    {"$comment": "anything", "x-mine": 1},
]


@pytest.mark.parametrize("schema", USABLE)
def test_usable_schema_passes(schema: dict[str, Any]) -> None:
    check_schema(schema)


MISFITS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"type": "integer"}, "1", None),
    ({"type": "integer"}, "1.0", None),
    ({"type": "integer"}, "true", "$"),
    ({"required": ["a"]}, "{}", "$"),
    ({"properties": {"a": {"items": {"maxLength": 1}}}}, '{"a": ["b", "cd"]}', "$.a[1]"),
    ({"pattern": "^[a-z]+$"}, '"abc"', None),
    ({"pattern": "b"}, '"abc"', None),
    ({"pattern": "^b"}, '"abc"', "$"),
    ({"pattern": "b"}, "3", None),
    ({"patternProperties": {"^n_": {"type": "number"}}}, '{"n_a": 1, "b": "x"}', None),
    ({"patternProperties": {"^n_": {"type": "number"}}}, '{"n_a": "1"}', "$.n_a"),
    ({"patternProperties": {"^n_": {}}, "additionalProperties": False}, '{"n_a": 1}', None),
    ({"patternProperties": {"^n_": {}}, "additionalProperties": False}, '{"b": 1}', "$"),
    ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, '{"a": 1}', None),
    ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, '{"b": 1}', "$.b"),
    ({"additionalProperties": False}, "[1]", None),
    ({"uniqueItems": True}, "[1, true, [1], {}, 2]", None),
    ({"uniqueItems": True}, "[1, 1.0]", "$"),
    ({"uniqueItems": True}, '[{"a": [1], "b": 2}, {"b": 2, "a": [1.0]}]', "$"),
    ({"uniqueItems": False}, "[1, 1]", None),
    ({"$schema": DRAFT_7, "items": [{"type": "string"}]}, "[1]", "$[0]"),
    ({"$schema": DRAFT_7, "properties": {"a": {"$ref": "#"}}, "type": "object"}, '{"a": 1}', "$.a"),
]


@pytest.mark.parametrize(("schema", "text", "place"), MISFITS)
def test_misfit_is_found_and_placed(schema: dict[str, Any], text: str, place: str | None) -> None:
    check_schema(schema)
    found = find_misfit(schema, parse_json(text))
    assert place == (found.place if found else None)


def test_reason_is_short_however_long_the_answer() -> None:
    found = find_misfit({"type": "integer"}, "x" * 100_000)
    assert isinstance(found, Misfit)
    assert len(found.reason) <= 200


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"a": -Infinity}', "{'a': 1}", '{"a": 1} b', "01"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


def test_number_of_very_many_digits_is_still_a_number() -> None:
    assert find_misfit({"type": "number"}, parse_json("1" * 500_000)) is None


def doubling(depth: int) -> dict[str, Any]:
    """A schema of which every level asks the next one twice."""
    levels: dict[str, Any] = {
        f"a{level}": {"anyOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(depth)
    }
    return {"$defs": {**levels, f"a{depth}": {"type": "string"}}, "$ref": "#/$defs/a0"}


ENDLESS: list[tuple[dict[str, Any], object]] = [
    ({"pattern": "(a|a)*$"}, "a" * 40 + "b"),
    ({"patternProperties": {"(a|a)*$": {}}}, {"a" * 40 + "b": 1}),
    (
        {"patternProperties": {"(a|a)*$": {}}, "additionalProperties": False},
        {"a" * 40 + "b": 1},
    ),
    (doubling(40), 1),
    (
        {"$schema": DRAFT_7, "definitions": {}, "items": {"items": {"type": "string"}}},
        [["x"]] * 10**6,
    ),
]


@pytest.mark.parametrize(("schema", "value"), ENDLESS)
def test_what_takes_too_long_is_given_up(schema: dict[str, Any], value: object) -> None:
    check_schema(schema)
    start = time.process_time()
    with pytest.raises(TimeoutError):
        find_misfit(schema, value)
    assert time.process_time() - start < 2


def test_schema_that_goes_round_in_circles_is_given_up() -> None:
    with pytest.raises(RecursionError):
        find_misfit({"$ref": "#"}, 1)


def test_unique_items_of_a_megabyte_are_found_in_bounded_time() -> None:
    items: list[object] = [*range(20_000), "a", *({"a": number} for number in range(5_000))]
    assert find_misfit({"uniqueItems": True}, items) is None
