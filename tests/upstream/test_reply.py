"""What a reply says, from JSON values alone."""

from typing import Any

import pytest

from rolebook.core.completion import Choice, Completion, Delta, Usage
from rolebook.core.errors import UpstreamConnectionError, UpstreamReplyError
from rolebook.upstream.body import Pieces, Whole, parse_json
from rolebook.upstream.reply import FailedReply, ReplyFold, read_usage, reason_of


def event(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **more.pop("choice", {})}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "model": "m-1",
        "choices": [choice],
        **more,
    }


def fold(*payloads: Any, is_last: bool = True, **options: Any) -> tuple[list[Delta], Completion]:
    reply = ReplyFold("chat", **options)
    deltas = list(reply.add(Pieces(payloads, is_last=is_last)))
    return deltas, reply.finish()


def test_stream_folds_into_the_reply_that_would_have_come_whole() -> None:
    deltas, completion = fold(
        event({"role": "assistant", "content": ""}, system_fingerprint="fp", x_new={"a": 1}),
        event(
            {"content": "Hel", "x_part": "same"},
            choice={"logprobs": {"content": [{"token": "Hel"}]}},
        ),
        event(
            {"content": "lo", "x_part": "same"}, choice={"logprobs": {"content": [{"token": "lo"}]}}
        ),
        event({}, "stop"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    )

    assert [delta.text for delta in deltas] == ["Hel", "lo"]
    assert completion.usage == Usage(3, 2, 5)
    assert completion.model == "m-1"
    assert completion.reply == {
        "id": "c1",
        "object": "chat.completion",
        "model": "m-1",
        "system_fingerprint": "fp",
        "x_new": {"a": 1},
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "x_part": "same"},
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": "Hel"}, {"token": "lo"}]},
            }
        ],
    }


def test_whole_reply_is_kept_as_it_came() -> None:
    payload = {
        "id": "c1",
        "choices": [{"message": {"content": "Hi", "x": None}, "finish_reason": "stop", "y": [1]}],
        "usage": None,
    }
    reply = ReplyFold("chat")

    assert list(reply.add(Whole(payload))) == [Delta("Hi")]
    assert reply.finish().reply == payload


def test_whole_reply_is_mended_wherever_it_holds_half_a_character() -> None:
    payload = {
        "choices": [{"message": {"content": "a\ud83d\ude00"}, "finish_reason": "stop"}],
        "x": {"\udc00": ["b\ud83d"]},
    }
    reply = ReplyFold("chat")

    assert list(reply.add(Whole(payload))) == [Delta("a😀")]
    kept = reply.finish().reply
    assert kept["choices"][0]["message"]["content"] == "a😀"
    assert kept["x"] == {"\ufffd": ["b\ufffd"]}


def test_tool_calls_of_two_tools_are_put_together() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return {"index": index, "function": function}

    _, completion = fold(
        event({"tool_calls": [{**call(0, name="f", arguments=""), "id": "a", "type": "function"}]}),
        event(
            {"tool_calls": [{**call(1, name="g", arguments="1"), "id": "b", "type": "function"}]}
        ),
        event({"tool_calls": [call(0, arguments='{"x":'), call(1, arguments="1")]}),
        event({"tool_calls": [call(0, arguments="2}")]}, "tool_calls"),
    )

    assert completion.choices[0].tool_calls == (
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":2}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "11"}},
    )
    assert completion.choices[0].finish_reason == "tool_calls"


def test_what_arrived_is_known_before_the_end() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x'}}
    reply = ReplyFold("chat", choices=4)
    arriving = (
        event({"role": "assistant", "content": ""}),
        event({"content": "Hi"}, choice={"index": 2, "finish_reason": "stop"}),
        event({"tool_calls": [call]}, choice={"index": 1}),
        event({"function_call": {"name": "f", "arguments": "{"}}, choice={"index": 3}),
    )
    assert reply.arrived() == ()

    list(reply.add(Pieces(arriving)))

    made = {"id": "a", "function": {"name": "f", "arguments": '{"x'}}
    assert reply.arrived() == (Choice(tool_calls=(made,)), Choice("Hi"), Choice())


def test_tool_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]

    _, completion = fold(event({"tool_calls": calls}, "tool_calls"))

    assert [call["id"] for call in completion.choices[0].tool_calls] == ["a", "b"]


@pytest.mark.parametrize(
    ("delta", "kind"),
    [
        ({"reasoning_content": "hm"}, "reasoning"),
        ({"reasoning": "hm"}, "reasoning"),
        ({"reasoning": "hm", "reasoning_content": "hm"}, "reasoning"),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
            "reasoning",
        ),
        ({"content": [{"type": "text", "text": "hm"}]}, "text"),
        ({"refusal": "hm"}, "refusal"),
    ],
)
def test_what_was_said_is_carried_as_what_it_is(delta: dict[str, Any], kind: str) -> None:
    deltas, completion = fold(event(delta), event({}, "stop"))

    assert deltas == [Delta("hm", kind=kind)]  # type: ignore[arg-type]
    assert getattr(completion.choices[0], kind) == "hm"


def test_choices_are_never_mixed() -> None:
    deltas, completion = fold(
        event({"content": "a"}),
        event({"content": "x"}, choice={"index": 1}),
        event({"content": "b"}, "stop"),
        event({"content": "y"}, "length", choice={"index": 1}),
        choices=2,
    )

    assert [(delta.index, delta.text) for delta in deltas] == [
        (0, "a"),
        (1, "x"),
        (0, "b"),
        (1, "y"),
    ]
    assert [(choice.text, choice.finish_reason) for choice in completion.choices] == [
        ("ab", "stop"),
        ("xy", "length"),
    ]


def test_halves_of_one_character_are_joined_and_a_lone_half_is_replaced() -> None:
    deltas, completion = fold(
        event({"content": "a\ud83d"}),
        event({"content": "\ude00b\ud83d"}),
        event({}, "stop", x="\udc00"),
    )

    assert [delta.text for delta in deltas] == ["a", "😀b", "\ufffd"]
    assert completion.choices[0].text == "a😀b\ufffd"
    assert completion.reply["x"] == "\ufffd"


def test_no_text_of_a_reply_is_kept_with_half_a_character() -> None:
    half = "a\ud800b"
    call = {"index": 0, "id": half, "type": half, "function": {"name": half, "arguments": half}}
    _, completion = fold(
        event(
            {"content": half, "role": half, "reasoning": half, "refusal": half, half: half},
            choice={half: {half: half}},
        ),
        event({"tool_calls": [call]}, half),
        {"choices": [], "model": half, "id": half, "usage": {half: half}},
    )

    assert "\\ud800" not in ascii(completion)
    assert completion.choices[0].finish_reason == "a\ufffdb"
    assert completion.model == "a\ufffdb"


@pytest.mark.parametrize(
    ("payloads", "is_last", "kind", "words"),
    [
        ([], True, UpstreamReplyError, "no choices"),
        ([], False, UpstreamConnectionError, "broke"),
        ([event({"content": "a"})], True, UpstreamReplyError, "without saying why"),
        ([event({"content": "a"})], False, UpstreamConnectionError, "broke"),
        ([event({}, "stop")], True, UpstreamReplyError, "nothing"),
        (
            [event({"content": ""}, "stop"), event({"role": "assistant"})],
            True,
            UpstreamReplyError,
            "nothing",
        ),
        ([event({"content": 42})], True, UpstreamReplyError, "content cannot be int"),
        ([event({"content": {}})], True, UpstreamReplyError, "content cannot be dict"),
        ([event({"tool_calls": {}})], True, UpstreamReplyError, "tool_calls cannot be dict"),
        ([{"choices": {}}], True, UpstreamReplyError, "choices cannot be dict"),
        ([{"choices": ["x"]}], True, UpstreamReplyError, "choices cannot be str"),
        ([{"choices": [{"delta": "x"}]}], True, UpstreamReplyError, "message cannot be str"),
        ([{"choices": [{"index": -1}]}], True, UpstreamReplyError, "index cannot be int"),
        ([{"choices": [{"index": True}]}], True, UpstreamReplyError, "index cannot be bool"),
        (
            [{"choices": [{"finish_reason": ["stop"]}]}],
            True,
            UpstreamReplyError,
            "finish_reason cannot be list",
        ),
        (["text"], True, UpstreamReplyError, "reply cannot be str"),
        ([[]], True, UpstreamReplyError, "reply cannot be list"),
    ],
)
def test_reply_that_is_none_is_an_error_with_its_reason(
    payloads: list[Any], is_last: bool, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        fold(*payloads, is_last=is_last)

    assert words in caught.value.message % {**caught.value.parameters, "upstream": "fake"}  # type: ignore[attr-defined]


def test_finish_without_done_is_complete() -> None:
    assert fold(event({"content": "a"}, "stop"), is_last=False)[1].choices[0].text == "a"


@pytest.mark.parametrize("is_last", [True, False])
def test_server_that_ignores_n_has_answered_all_the_same(is_last: bool) -> None:
    _, completion = fold(event({"content": "a"}, "stop"), is_last=is_last, choices=2)

    assert [(choice.text, choice.finish_reason) for choice in completion.choices] == [("a", "stop")]


SECOND = event({"content": "b"}, choice={"index": 1})


def test_gateway_that_finishes_the_first_answer_only_has_answered_both() -> None:
    _, completion = fold(event({"content": "a"}), SECOND, event({}, "stop"), choices=2)

    assert [(choice.text, choice.finish_reason) for choice in completion.choices] == [
        ("a", "stop"),
        ("b", None),
    ]


def test_second_answer_without_a_reason_is_unfinished_where_nothing_says_that_it_is_the_last() -> (
    None
):
    with pytest.raises(UpstreamConnectionError):
        fold(event({"content": "a"}, "stop"), SECOND, is_last=False, choices=2)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.000015}, 0.000015),
        ({"cost": 2}, 2.0),
        ({"cost": 0}, None),
        ({"cost": -1}, None),
        ({"cost": float("inf")}, None),
        ({"cost": 10**400}, None),
        ({"cost": True}, None),
        ({"cost": "0.1"}, None),
        ({"cost": {"total_cost": 1}}, None),
        ({"cost_in_usd_ticks": 232_856_000}, 0.0232856),
        ({"cost_in_usd_ticks": 0}, None),
        ({"cost_in_usd_ticks": 10**400}, None),
        ({"cost": 2, "cost_in_usd_ticks": 1}, 2.0),
        ({"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}}, 20.0),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}}, 19.0),
        ({"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 1, "is_byok": True}, None),
        ({"cost": 19, "is_byok": False, "cost_details": {"upstream_inference_cost": 19}}, 19.0),
        ({}, None),
        (None, None),
    ],
)
def test_cost_is_taken_from_the_server_where_it_is_a_figure(usage: Any, cost: float | None) -> None:
    assert fold(event({"content": "a"}, "stop", usage=usage))[1].cost == cost


def test_failure_in_the_middle_is_reported_with_what_came_before() -> None:
    reply = ReplyFold("chat")
    deltas = reply.add(Pieces((event({"content": "a"}), {"error": {"message": "no"}})))

    assert next(deltas) == Delta("a")
    with pytest.raises(FailedReply):
        next(deltas)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ("many", Usage()),
        ({"prompt_tokens": -1, "completion_tokens": "2", "total_tokens": 1e300}, Usage()),
        (
            {"prompt_tokens": True, "completion_tokens": 10**13, "total_tokens": 0},
            Usage(total_tokens=0),
        ),
        ({"prompt_tokens_details": [], "completion_tokens_details": None}, Usage()),
        (
            {
                "prompt_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(prompt_tokens=9, cached_tokens=4, reasoning_tokens=2),
        ),
    ],
)
def test_usage_that_cannot_be_believed_is_unknown(usage: Any, expected: Usage) -> None:
    assert read_usage(usage) == expected


@pytest.mark.parametrize("told", [{}, {"total_tokens": None}, {"total_tokens": "12"}])
def test_total_that_is_not_told_is_that_of_the_others(told: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, **told}

    assert read_usage(usage) == Usage(9, 3, 12)


@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 100_000, "9" * 5000, "\ud800", "{}" * 2])
def test_text_that_is_no_json_is_a_reply_error(text: str) -> None:
    with pytest.raises(UpstreamReplyError):
        parse_json(text)


def test_nesting_is_limited_because_everyone_after_us_recurses() -> None:
    assert parse_json("[" * 60 + "]" * 60)
    with pytest.raises(UpstreamReplyError):
        parse_json("[" * 70 + "]" * 70)


def test_numbers_that_json_does_not_know_are_null() -> None:
    text = '{"a": NaN, "b": [-Infinity, 1e999, -1e400, 1.5e300, 0.1]}'
    assert parse_json(text) == {"a": None, "b": [None, None, None, 1.5e300, 0.1]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "why", "code": 1}}, "why"),
        ({"error": "why"}, "why"),
        ({"message": "why"}, "why"),
        (
            {"detail": [{"loc": ["body", "stop"], "msg": "why"}, {"msg": "too"}]},
            "body.stop: why; too",
        ),
        ({"detail": "why"}, "why"),
        ("why", "why"),
        (None, ""),
        ({"error": {}}, ""),
        (7, ""),
    ],
)
def test_reason_is_found_in_every_shape_in_which_servers_give_it(body: Any, reason: str) -> None:
    assert reason_of(body) == reason
