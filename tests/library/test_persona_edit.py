"""A persona file is changed as somebody would do it by hand."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest

from rolebook.core.persona import Persona
from rolebook.library.persona_edit import KEY_ORDER, edit_persona
from rolebook.library.persona_file import TYPED_KEYS
from rolebook.library.yaml_text import parse_yaml

SHIPPED = sorted(Path("personas").glob("*.yaml"))

ADA = """\
# yaml-language-server: $schema=../docs/persona.schema.json
name: Ada   # the first
tags: [education]
mood: warm  # Rolebook does not know this

variables:
  subject: mathematics
  level: {type: choice, choices: [beginner, expert], default: beginner}
system: |
  You teach {{ subject }}
  to a {{ level }}.
examples:
  # An easy one first.
  - user: What is 7 × 8?
    assistant: 56
  - {user: Why?, assistant: Count them.}
sampling:
  temperature: 0.70  # tried 1, wanders
  top_k: 40
x:
  sort: 1
"""


def data_of(text: str) -> dict[str, Any]:
    return parse_yaml(text, file="f", typed=TYPED_KEYS).data


def difference(old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


MOVED = [
    {"user": "Why?", "assistant": "Count them."},
    {"user": "What is 7 × 8?", "assistant": "56"},
]
RENAMED = {"topic": "mathematics", "level": {"type": "choice", "choices": ["beginner", "expert"]}}

# The keys that change, the lines that go, and those that come.
CHANGES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"name": "Ada L."}, ["name: Ada   # the first"], ["name: Ada L.   # the first"]),
    ({"sampling": {"temperature": 0.7, "top_k": "40"}}, [], []),
    (
        {"sampling": {"temperature": 1, "top_k": "40", "max_tokens": 600}},
        ["  temperature: 0.70  # tried 1, wanders"],
        ["  temperature: 1  # tried 1, wanders", "  max_tokens: 600"],
    ),
    ({"model": "gpt-4o", "greeting": "Hi"}, [], ["model: gpt-4o", "greeting: Hi"]),
    (
        {"system": "You teach {{ subject }}\nto a {{ level }}, kindly.\n"},
        ["  to a {{ level }}."],
        ["  to a {{ level }}, kindly."],
    ),
    (
        {"variables": RENAMED},
        [
            "  subject: mathematics",
            "  level: {type: choice, choices: [beginner, expert], default: beginner}",
        ],
        ["  topic: mathematics", "  level: {type: choice, choices: [beginner, expert]}"],
    ),
    (
        {"examples": MOVED},
        ["  - {user: Why?, assistant: Count them.}"],
        ["  - {user: Why?, assistant: Count them.}"],
    ),
    ({"examples": None, "tags": None}, ["tags: [education]", *ADA.splitlines()[11:16]], []),
    ({"x": {"sort": 2}}, ["  sort: 1"], ["  sort: 2"]),
]


@pytest.mark.parametrize(("changes", "gone", "new"), CHANGES)
def test_only_the_lines_of_a_changed_value_change(
    changes: dict[str, Any], gone: list[str], new: list[str]
) -> None:
    lines = difference(ADA, edit_persona(ADA, changes))
    assert gone == [line[1:] for line in lines if line[0] == "-"]
    assert new == [line[1:] for line in lines if line[0] == "+"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_persona_is_edited_key_by_key(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    data = data_of(text)
    assert text == edit_persona(text, data)
    for key in [*data, "model", "greeting", "endpoint"]:
        for value in ("other: words", "two\nlines\n", None):
            wanted = {
                name: given for name, given in (data | {key: value}).items() if given is not None
            }
            edited = edit_persona(text, {key: value})
            assert wanted == data_of(edited)
            others = set(edited.splitlines()) - set(text.splitlines())
            assert len(others) <= 3


def test_every_key_has_its_place() -> None:
    assert set(Persona.model_fields) - {"id"} == set(KEY_ORDER)


def test_keys_of_shipped_personas_stand_in_the_usual_order() -> None:
    for path in SHIPPED:
        keys = list(data_of(path.read_text(encoding="utf-8")))
        assert sorted(keys, key=KEY_ORDER.index) == keys, path
