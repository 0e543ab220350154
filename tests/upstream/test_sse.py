import random

import pytest

from rolebook.upstream.sse import EventLimitError, EventParser, ServerEvent


def parse(*pieces: bytes, max_bytes: int = 1000) -> list[ServerEvent]:
    parser = EventParser(max_bytes=max_bytes)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return [*events, *parser.finish()]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [ServerEvent("a"), ServerEvent("b")]),
        (b"data:a\r\n\r\ndata:b\r\n\r\n", [ServerEvent("a"), ServerEvent("b")]),
        (b"data: a\r\rdata: b\r\r", [ServerEvent("a"), ServerEvent("b")]),
        (b"data:  two blanks\n\n", [ServerEvent(" two blanks")]),
        (b"data: a\ndata\ndata: b\n\n", [ServerEvent("a\n\nb")]),
        (b": ping\n\n: ping\ndata: a\n\n", [ServerEvent("a")]),
        (b"event: error\nid: 7\nretry: 3\nother: x\ndata: a\n\n", [ServerEvent("a", "error")]),
        (b"event: lost\n\ndata: a\n\n", [ServerEvent("a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [ServerEvent("a")]),
        ("data: 世界 😀\u2028\x85\x0b\n\n".encode(), [ServerEvent("世界 😀\u2028\x85\x0b")]),
        (b"data: [DONE]\n", [ServerEvent("[DONE]")]),
        (b"data: [DONE]", [ServerEvent("[DONE]")]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_stream_is_parsed_the_same_however_it_is_cut(
    stream: bytes, events: list[ServerEvent]
) -> None:
    assert parse(stream) == events
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == events
    for seed in range(20):
        cuts = sorted(random.Random(seed).sample(range(len(stream) + 1), min(3, len(stream) + 1)))
        parts = [
            stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        ]
        assert parse(*parts) == events


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 2000],
        [b"x" * 400, b"x" * 400, b"x" * 400],
        [b"data: " + b"x" * 600 + b"\n", b"data: " + b"x" * 600 + b"\n"],
    ],
    ids=["one long line", "a line in pieces", "an event of many lines"],
)
def test_line_or_event_beyond_the_limit_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(EventLimitError):
        parse(*pieces)


def test_events_before_broken_utf8_are_not_lost() -> None:
    events = EventParser().feed(b"data: a\n\ndata: \xff\n\n")

    assert next(events) == ServerEvent("a")
    with pytest.raises(UnicodeDecodeError):
        next(events)


def test_byte_by_byte_line_costs_linear_time() -> None:
    stream = b"data: " + b"x" * 300_000 + b"\n\n"

    assert parse(*(stream[at : at + 1] for at in range(len(stream))), max_bytes=10**6) == [
        ServerEvent("x" * 300_000)
    ]
