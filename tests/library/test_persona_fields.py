"""The fields of a form and the file that they stand for: two views of one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolebook.library.persona_fields import (
    FieldsError,
    edit_fields,
    field_of,
    rows_of,
    show_fields,
    with_rows,
)
from rolebook.library.persona_file import TYPED_KEYS
from rolebook.library.yaml_text import parse_yaml
from tests.library.test_persona_edit import ADA, SHIPPED, difference


def fields_of(text: str) -> dict[str, str]:
    return dict(show_fields(parse_yaml(text, file="f", typed=TYPED_KEYS).data).fields)


def edited(text: str, **fields: str) -> str:
    """With fields as a form sends them, ``_`` in their names for ``-``."""
    given = {name.replace("_", "-", 1): value for name, value in fields.items()}
    return edit_fields(text, fields_of(text) | given)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_fields_as_they_are_shown_change_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == edit_fields(text, fields_of(text))
    assert text == edit_fields(text, {})


def test_odd_file_is_shown_as_far_as_it_can_be_and_left_alone() -> None:
    text = """\
name: [a]
system: "one\\r\\ntwo\\u2028"
tags: {a: b}
mood: warm
description:
sampling: {temperature: 0.70, logit_bias: {"1": 2}, stop: x}
context: none
examples: [{user: a, assistant: [b]}]
variables: {a: [b], c: ~}
"""
    shown = show_fields(parse_yaml(text, file="f").data)
    assert {"name", "tags", "context", "examples", "variables"} == shown.odd
    assert ["mood"] == shown.others[""]
    assert ["logit_bias"] == shown.others["sampling"]
    assert "one\ntwo\u2028" == shown.fields["system"]
    assert text == edit_fields(text, shown.fields)
    changed = edit_fields(text, {**shown.fields, "sampling-temperature": "1", "examples-rows": "1"})
    assert changed == text.replace("0.70", "1")


def test_a_description_of_several_lines_is_shown_whole_and_left_alone() -> None:
    text = "name: Ada\ndescription: |\n  Teaches.\n  Kindly.\nsystem: Teach.\n"
    shown = show_fields(parse_yaml(text, file="f").data)
    assert "Teaches.\nKindly.\n" == shown.fields["description"]
    assert text == edit_fields(text, shown.fields)


def test_fields_are_written_as_somebody_would() -> None:
    text = "name: Ada\nsystem: Teach.\n"
    assert """\
name: Ada L.
description: A teacher
tags: [education, maths]
model: gpt-4o
system: |-
  Teach.
  Kindly.
greeting: Hi
starters: ["Why?", "So, what?"]
sampling:
  temperature: 0.5
  max_tokens: 600
  stop: [END, "\\n\\n"]
context:
  turns: 12
""" == edited(
        text,
        name="Ada L. ",
        description="A teacher",
        tags="education，maths, ",
        model="gpt-4o",
        system="Teach.\nKindly.",
        greeting="Hi",
        starters="Why?\n\nSo, what?",
        sampling_temperature="0.5",
        sampling_stop="END\n\\n\\n",
        sampling_max_tokens="600",
        context_turns="12",
    )


def test_emptied_fields_go_and_leave_what_belongs_to_others() -> None:
    expected = ["tags: [education]", "  temperature: 0.70  # tried 1, wanders"]
    text = edited(ADA, tags=" ", sampling_temperature="")
    assert expected == [line[1:] for line in difference(ADA, text)]


def test_notes_in_an_emptied_part_stay() -> None:
    text = "name: A\nsampling:\n  temperature: 1\n  # top_p: 0.5\ncontext: {turns: 1}\n"
    assert "name: A\nsampling: {}\n  # top_p: 0.5\n" == edited(
        text, sampling_temperature="", context_turns=""
    )


def test_number_that_is_none_is_written_for_its_error() -> None:
    assert "sampling:\n  temperature: warm\n" in edited("name: A\n", sampling_temperature="warm")


def test_examples_are_moved_added_and_taken_out() -> None:
    fields = fields_of(ADA)
    first, second = rows_of(fields, "examples")
    rows = [second, {**first, "assistant": "56, or\n8 × 7"}, {"user": "", "assistant": ""}]
    text = edit_fields(ADA, with_rows(fields, "examples", rows))
    assert (
        """\
examples:
  - {user: Why?, assistant: Count them.}
  # An easy one first.
  - user: What is 7 × 8?
    assistant: |-
      56, or
      8 × 7
"""
        in text
    )
    assert "examples" not in edit_fields(
        ADA, with_rows(fields, "examples", []) | {"examples-rows": "1"}
    )


def test_variables_keep_the_form_they_have() -> None:
    fields = fields_of(ADA)
    subject, level = rows_of(fields, "variables")
    rows = [
        {**subject, "name": "topic", "default": "physics"},
        {**level, "choices": "beginner\nexpert\nmaster", "required": "true"},
        {"source": "", "name": "goal", "type": "text", "default": "an exam"},
        {"source": "", "name": "lessons", "type": "integer", "default": "3", "max": "9", "description": "How many"},
        {"source": "", "name": "sure", "type": "boolean", "default": "true"},
        {"source": "", "name": "", "type": "text", "default": ""},
    ]  # fmt: skip
    assert """\
variables:
  topic: physics
  level: {type: choice, choices: [beginner, expert, master], default: beginner, required: true}
  goal: an exam
  lessons:
    type: integer
    max: 9
    default: 3
    description: How many
  sure:
    type: boolean
    default: true
""" in edit_fields(ADA, with_rows(fields, "variables", rows))


def test_variables_move_with_their_comments_and_under_another_name() -> None:
    first, second = "  # first\n  a: 1  # one\n", "  b:\n    # second\n    default: x\n"
    head, tail = "# file\nvariables:\n", "  c: 0.70\nsystem: 'hi'  # end\n"
    text = head + first + second + tail
    fields = fields_of(text)
    a, b, c = rows_of(fields, "variables")
    assert head + second + first + tail == edit_fields(
        text, with_rows(fields, "variables", [b, a, c])
    )
    renamed = with_rows(fields, "variables", [b, {**a, "name": "z"}, c])
    assert head + second + first.replace("a: 1", "z: 1") + tail == edit_fields(text, renamed)


def test_variable_of_another_type_leaves_behind_what_that_cannot_have() -> None:
    fields = fields_of(ADA)
    rows = rows_of(fields, "variables")
    rows[1] |= {"type": "text"}
    assert "  level: {default: beginner}\n" in edit_fields(
        ADA, with_rows(fields, "variables", rows)
    )


def test_variables_without_a_name_or_with_one_twice_are_refused_at_their_field() -> None:
    fields = fields_of(ADA)
    subject, level = rows_of(fields, "variables")
    rows = [subject, {**level, "name": "subject"}, {"source": "", "name": " ", "default": "x"}]
    with pytest.raises(FieldsError) as refused:
        edit_fields(ADA, with_rows(fields, "variables", rows))
    assert ["variables-1-name", "variables-2-name"] == list(refused.value.faults)


def test_character_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(FieldsError, match="no file can hold"):
        edited("name: A\n", system="a\0b")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("name",), "name"),
        (("system",), "system"),
        (("sampling", "temperature"), "sampling-temperature"),
        (("sampling", "top_k"), ""),
        (("examples", 1, "assistant"), "examples-2-assistant"),
        (("examples", 0), "examples-1-user"),
        (("examples", 7), ""),
        (("variables", "level", "default"), "variables-1-default"),
        (("variables", "level"), "variables-1-name"),
        (("checks", 0), ""),
        ((), ""),
    ],
)
def test_places_in_the_file_have_their_field(path: tuple[str | int, ...], expected: str) -> None:
    fields = fields_of(ADA)
    rows = [{"source": "", "user": "", "assistant": ""}, *rows_of(fields, "examples")]
    assert expected == field_of(path, with_rows(fields, "examples", rows))
