"""What a persona fixes, beside what a program gives."""

from __future__ import annotations

from typing import Any

import pytest

from rolebook.core.fixed import answers_of, filled_up


@pytest.mark.parametrize(
    ("fixed", "given", "left"),
    [
        ({"max_tokens": 5}, {"max_completion_tokens": 9}, {}),
        ({"max_tokens": 5}, {"num_predict": 9, "n_predict": 9, "maxOutputTokens": 9}, {}),
        ({"max_completion_tokens": 5}, {"max_tokens": 9, "Max-New-Tokens": 9}, {}),
        (
            {"max_tokens": 5},
            {"options": {"num_predict": 9, "top_k": 3}},
            {"options": {"top_k": 3}},
        ),
        (
            {"temperature": 0.0},
            {"extra": {"google": {"generationConfig": {"temperature": 1, "topK": 3}}}},
            {"extra": {"google": {"generationConfig": {"topK": 3}}}},
        ),
        ({"options": {"num_predict": 5}}, {"max_tokens": 9, "options": {"top_k": 1}}, {}),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "high"}, {}),
        ({"response_format": {"type": "json_object"}}, {"regex": "a+", "ebnf": "root ::= 'a'"}, {}),
        ({"n": 1}, {"num_return_sequences": 4, "candidateCount": 4}, {}),
        ({"top_k": 1}, {"options": {"top_k": 9}}, {"options": {}}),
        ({"top_k": 1}, {"num_predict": 9, "options": {"seed": 1}}, ...),
        ({}, {"max_tokens": 9, "num_predict": 9}, ...),
        ({"reasoning": {"max_tokens": 2000}}, {"max_tokens": 100}, ...),
        ({"max_tokens": 50}, {"reasoning": {"effort": "low", "max_tokens": 30}}, ...),
        (
            {"temperature": 0.0, "stop": ["."]},
            {"guided_json": {"properties": {"temperature": {}, "stop": {}}}, "format": {"seed": 1}},
            ...,
        ),
        (
            {"guided_json": {"properties": {"temperature": {}, "n": {}}}},
            {"temperature": 1, "n": 2},
            ...,
        ),
        (
            {"temperature": 0.0, "n": 1},
            {
                "metadata": {"temperature": "mild"},
                "response_format": {"json_schema": {"schema": {"properties": {"n": {}}}}},
                "tools": [{"function": {"parameters": {"properties": {"temperature": {}}}}}],
            },
            ...,
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_fixed_wins_by_whatever_name(
    fixed: dict[str, Any], given: dict[str, Any], left: Any
) -> None:
    assert {**fixed, **(given if left is ... else left)} == filled_up(fixed, given)


def test_objects_without_end_do_no_harm() -> None:
    nested: dict[str, Any] = {"seed": 1}
    for _ in range(900):
        nested = {"options": nested}
    assert nested == filled_up({}, nested)


def test_answers_are_counted_by_whatever_name() -> None:
    asked: list[dict[str, Any]] = [
        {"n": 3},
        {"num_return_sequences": 3, "n": 1},
        {"candidateCount": 3},
        {"n": 2, "best_of": 3},
        {"generationConfig": {"candidateCount": 3}},
        {"n": 2, "options": {"n": 3}},
    ]
    assert {3} == {answers_of(fields) for fields in asked}
    assert {1} == {answers_of(fields) for fields in ({}, {"n": None}, {"n": True}, {"n": -1})}
