"""What a form says and what becomes of it."""

from __future__ import annotations

import pytest

from rolebook.core.errors import InputError
from rolebook.web.submission import start_of


def test_a_start_is_read_from_its_fields() -> None:
    start = start_of(
        {
            "persona": "teacher",
            "input": " Why?\n",
            "model": " gpt-4o ",
            "upstream": "openai",
            "v-subject": "art",
            "v-note": "",
            "s-temperature": "0.5",
            "s-top_p": " ",
            "s-stop": "END\n\n\\nSTOP",
            "more": "user=anna\n\nlogprobs=true",
        }
    )
    assert start.input == " Why?\n"
    assert start.session.persona_id == "teacher"
    assert (start.session.model, start.session.upstream) == ("gpt-4o", "openai")
    assert start.session.variables == {"subject": "art", "note": ""}
    assert start.session.parameters == {
        "temperature": 0.5,
        "stop": ["END", "\nSTOP"],
        "user": "anna",
        "logprobs": True,
    }


@pytest.mark.parametrize("name", ["system", "q"])
def test_a_role_of_ones_own_needs_no_persona(name: str) -> None:
    start = start_of({name: "You are a chess coach."})
    assert start.session.persona_id == ""
    assert start.system == "You are a chess coach."


@pytest.mark.parametrize(
    "fields", [{"s-n": "0"}, {"s-nothing": "{"}, {"more": "=x"}, {"more": "messages=[]"}]
)
def test_what_cannot_be_sent_is_refused(fields: dict[str, str]) -> None:
    if "s-nothing" in fields:
        # A name that is no sampling parameter is another field of the request, with any text as its value.
        assert start_of(fields).session.parameters == {"nothing": "{"}
    else:
        with pytest.raises(InputError):
            start_of(fields)


def test_each_start_has_an_id_of_its_own() -> None:
    assert start_of({}).session.id != start_of({}).session.id
