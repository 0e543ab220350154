"""Streams of all kinds of servers become the stream that clients expect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rolebook.core.completion import Endpoint, Received
from rolebook.web.relay import Relay

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def relayed(
    *payloads: dict[str, Any], endpoint: Endpoint = "chat", wants_usage: bool = False
) -> list[Any]:
    """What a client gets of a stream, event by event."""
    relay = Relay("teacher", endpoint, wants_usage=wants_usage)
    sent = b"".join(relay.pieces(Received((payload,), ())) for payload in payloads)
    events = (sent + relay.ending()).decode().split("\n\n")
    assert ["data: [DONE]", ""] == events[-2:]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def piece(content: str | None, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}


def said(events: list[Any]) -> list[Any]:
    """Deltas and finish reasons of the first choice."""
    return [(e["choices"][0]["delta"], e["choices"][0]["finish_reason"]) for e in events]


def test_frame_is_the_same_in_every_event() -> None:
    first, *rest = relayed(
        piece("a", id="x", created=7, model="gpt"), piece("b"), piece(None, "stop")
    )
    assert ("x", 7, "teacher") == (first["id"], first["created"], first["model"])
    for event in rest:
        assert all(event[name] == first[name] for name in ("id", "created", "model", "object"))
    (alone, _) = relayed(piece("a", "stop"))
    assert alone["id"].startswith("chatcmpl-")
    assert alone["created"]


def test_role_that_a_server_leaves_out_is_put_first() -> None:
    events = relayed(piece("a"), piece("b"), piece(None, "stop"))
    assert [
        ({"role": "assistant", "content": "a"}, None),
        ({"content": "b"}, None),
        ({}, "stop"),
    ] == (said(events))


def test_end_that_comes_with_a_text_comes_after_it() -> None:
    assert [({"role": "assistant", "content": "a"}, None), ({}, "stop")] == said(
        relayed(piece("a", "stop"))
    )


def test_usage_comes_alone_at_the_end_or_not_at_all() -> None:
    stream = (
        piece("a", usage=None),
        piece(None, "stop", usage=USAGE),
        {"choices": [], "usage": USAGE},
    )
    *events, last = relayed(*stream, wants_usage=True)
    assert ([], USAGE) == (last["choices"], last["usage"])
    assert [None, None] == [event["usage"] for event in events]
    assert all("usage" not in event for event in relayed(*stream))
    assert 2 == len(relayed(*stream))
    assert 2 == len(relayed(piece("a"), piece(None, "stop"), wants_usage=True))


def test_end_of_one_answer_does_not_hold_up_the_others() -> None:
    def of(index: int, text: str, reason: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]}

    both = {"choices": [*of(0, "c", "stop")["choices"], *of(1, "d")["choices"]]}
    events = relayed(of(0, "a"), of(1, "b"), both, of(1, "", "length"))
    texts: dict[int, str] = {0: "", 1: ""}
    ends = []
    for event in events:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                ends.append((choice["index"], choice["finish_reason"], dict(texts)))
    done = {0: "ac", 1: "bd"}
    assert [(0, "stop", done), (1, "length", done)] == ends


def test_answer_that_comes_whole_is_streamed_all_the_same() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    first, last = relayed(whole)
    assert [{"index": 0, **call}] == first["choices"][0]["delta"]["tool_calls"]
    assert "chat.completion.chunk" == first["object"]
    assert ({}, "tool_calls") == said([last])[0]


@pytest.mark.parametrize("text", ["你好 😀", "\ud83d", "line\n\ndata: [DONE]\n\n"])
def test_no_text_breaks_the_frame(text: str) -> None:
    assert text == relayed(piece(text), piece(None, "stop"))[0]["choices"][0]["delta"]["content"]


def test_what_nobody_here_knows_is_passed_on() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.1234567890123456}]}
    choice = {"index": 0, "delta": {"content": "a", "x_thought": "b"}, "logprobs": logprobs}
    (event,) = relayed({"choices": [choice], "x_server": [1.5]})
    assert [1.5] == event["x_server"]
    assert logprobs == event["choices"][0]["logprobs"]
    assert "b" == event["choices"][0]["delta"]["x_thought"]
