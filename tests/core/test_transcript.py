"""What a program sends with every call is taken apart into turns, and recognised when it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from rolebook.core.completion import Choice
from rolebook.core.errors import InputError
from rolebook.core.transcript import Transcript, parse_transcript

SYSTEM = {"role": "system", "content": "Be a pirate."}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def tool(text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c1", "content": text}


def shape(transcript: Transcript) -> tuple[list[list[str]], str, list[str]]:
    return (
        [[message.content for message in turn] for turn in transcript.earlier],
        transcript.input.content,
        [message.role for message in transcript.later],
    )


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("a")], ([], "a", [])),
        ([SYSTEM, user("a")], ([["Be a pirate."]], "a", [])),
        ([user("a"), assistant("b"), user("c")], ([["a", "b"]], "c", [])),
        ([assistant("hi"), user("a"), assistant("b"), user("c")], ([["hi"], ["a", "b"]], "c", [])),
        ([SYSTEM, user("a"), assistant("b"), user("c")], ([["Be a pirate.", "a", "b"]], "c", [])),
        ([user("a"), user("b")], ([["a"]], "b", [])),
        ([user("a"), assistant(None, tool_calls=[CALL]), tool("1")], ([], "a", ["assistant", "tool"])),
        ([user("a"), assistant("begun")], ([], "a", ["assistant"])),
    ],
)  # fmt: skip
def test_transcript_is_taken_apart_into_turns(messages: Any, expected: Any) -> None:
    assert expected == shape(parse_transcript(messages))


def test_what_is_new_is_the_input_or_what_the_tools_gave() -> None:
    call = assistant(None, tool_calls=[CALL])
    assert "a" == parse_transcript([user("a")]).said
    assert "1\n2" == parse_transcript([user("a"), call, tool("1"), tool("2")]).said
    assert "1" == parse_transcript([user("a"), call, tool("1"), assistant("So")]).said
    assert "a" == parse_transcript([user("a"), assistant("So")]).said


def test_transcript_is_recognised_by_what_it_was_answered() -> None:
    first = parse_transcript([user("a")])
    assert "" == first.digest("scope")
    (digest,) = first.digests_with("scope", [Choice("b")])
    for back in (
        [user("a"), assistant("b"), user("c")],
        [user(" a"), assistant("b\n"), user("c")],
        [SYSTEM, user([{"type": "text", "text": "a"}]), assistant("b", name="x"), user("c")],
    ):
        assert digest == parse_transcript(back).digest("scope")
    for other in (
        [user("a"), assistant("B"), user("c")],
        [user("a"), assistant("b"), user("c"), assistant("d"), user("e")],
        [user("a b"), user("c")],
        [user("a"), assistant("b", tool_calls=[CALL]), tool("1")],
    ):
        assert digest != parse_transcript(other).digest("scope")
    assert digest != parse_transcript([user("a"), assistant("b"), user("c")]).digest("elsewhere")


def test_each_of_several_answers_is_recognised() -> None:
    digests = parse_transcript([user("a")]).digests_with("", [Choice("b"), Choice("c")])
    assert digests == tuple(
        parse_transcript([user("a"), assistant(text), user("d")]).digest("") for text in "bc"
    )


def test_call_of_a_tool_is_recognised() -> None:
    (digest,) = parse_transcript([user("a")]).digests_with("", [Choice("", tool_calls=(CALL,))])
    back = [user("a"), assistant(None, tool_calls=[CALL]), tool("1")]
    assert digest == parse_transcript(back).digest("")
    for calls in (None, [], [{**CALL, "id": "c2"}], [{"id": 1, "function": [1.5]}]):
        other = [user("a"), assistant("", tool_calls=calls), tool("1")]
        assert digest != parse_transcript(other).digest("")


def test_mistake_in_a_message_has_its_place() -> None:
    with pytest.raises(InputError) as raised:
        parse_transcript([user("a"), {"role": "function", "content": "x"}])
    assert str(raised.value) == (
        "messages[1].role must be one of system, developer, user, assistant, tool, got 'function'."
    )


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": "x", "Content": "y"}, "messages[0].Content"),
        ({"role": "user", "content": "x", "ROLE": "system"}, "messages[0].ROLE"),
        (user([{"type": "text", "text": "x"}, {"type": "text", "text": 5}]), "[1].text"),
        (user([{"type": "text"}]), "messages[0].content[0].text"),
    ],
    ids=str,
)
def test_message_that_others_would_read_otherwise_is_refused(
    message: dict[str, Any], place: str
) -> None:
    with pytest.raises(InputError) as raised:
        parse_transcript([message])
    assert str(raised.value.parameters["key"]).endswith(place)
