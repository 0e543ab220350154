"""Behaviours whose answer is unusable, or breaks off before its end."""

import random
from collections.abc import Callable

from tests.fake_upstream.exchange import Behave, Exchange, answer, body_of, register, split
from tests.fake_upstream.wire import (
    EVENT_STREAM,
    JSON,
    End,
    Item,
    Pause,
    Step,
    Steps,
    chunk,
    dump,
    encode,
    frames,
    head,
    message,
)

MARK = "\ue000"
"""A private character that stands in a reply where something else is to go."""

PAGE = (
    b"<!doctype html><title>Sign in</title><script>window.__pwned=1</script>"
    b"<h1>Please sign in to the network</h1>"
)
NOISE = random.Random(7).randbytes(512).replace(b"\n", b"\x00")


@register("html-200", "broken", "an HTML page with status 200, as a captive portal sends it")
def html_200(x: Exchange) -> Steps:
    yield message(200, x.headers("text/html; charset=utf-8"), PAGE)


@register("204", "broken", "204 No Content")
def no_content(x: Exchange) -> Steps:
    yield head(204, {})


def _bodied(body: bytes) -> Behave:
    """A behaviour that answers `body`, labelled as asked for."""

    def behave(x: Exchange) -> Steps:
        yield message(200, x.headers(EVENT_STREAM if x.streams else JSON), body)

    return behave


def _json_200(body: bytes) -> Behave:
    """A behaviour that answers `body` as JSON, asked for a stream or not."""

    def behave(x: Exchange) -> Steps:
        yield message(200, x.headers(JSON), body)

    return behave


register("empty-200", "broken", "an empty body with status 200")(_bodied(b""))
register("only-done", "broken", "a stream of nothing but [DONE]")(_bodied(b"data: [DONE]\n\n"))
register("string-body", "broken", "the body is a JSON string")(_json_200(b'"ok"'))
register("array-body", "broken", "the body is a JSON array")(_json_200(b"[1, 2]"))
register("null-body", "broken", "the body is JSON null")(_json_200(b"null"))


def started(x: Exchange) -> Steps:
    """The beginning of the answer: `after` deltas of the stream, or half of the whole body."""
    reply = x.reply()
    if x.streams:
        before, _ = split(reply.script(), x.options["after"])
        yield x.stream_head()
        for frame in frames(before):
            yield frame if isinstance(frame, Pause) else chunk(frame)
    else:
        body = body_of(reply.whole())
        yield Pause(reply.duration_s)
        yield message(200, x.headers(JSON), body)[: -(len(body) // 2)]


def _started_then(*steps: Step) -> Behave:
    def behave(x: Exchange) -> Steps:
        yield from started(x)
        yield from steps

    return behave


register("rst-mid", "broken", "some text, then the connection is reset", after=2)(
    _started_then(End.RESET)
)
register("close-mid", "broken", "some text, then the connection is closed", after=2)(
    _started_then(End.CLOSE)
)


@register("rst", "broken", "the connection is reset before any byte")
def rst(x: Exchange) -> Steps:
    yield End.RESET


@register("close", "broken", "the connection is closed before any byte")
def close(x: Exchange) -> Steps:
    yield End.CLOSE


@register("not-http", "broken", "bytes that are no HTTP")
def not_http(x: Exchange) -> Steps:
    yield b"SSH-2.0-OpenSSH_9.2\r\n" + NOISE
    yield End.CLOSE


@register("bad-chunked", "broken", "some text, then a chunk of no valid length", after=2)
def bad_chunked(x: Exchange) -> Steps:
    body = body_of(x.reply().whole())
    if x.streams:
        yield from started(x)
    else:
        yield x.stream_head(JSON) + chunk(body[: len(body) // 2])
    yield b"ZZZ\r\nbroken\r\n0\r\n\r\n"
    yield End.CLOSE


@register("cut", "broken", "half an answer in perfect order: no finish reason, no [DONE]", after=2)
def cut(x: Exchange) -> Steps:
    before, _ = split(x.reply().script(), x.options["after"])
    body = body_of(x.reply().whole())
    return answer(x, whole=body[: len(body) // 2], items=before)


@register("truncated-json", "broken", "the JSON ends in the middle, the HTTP is sound", after=2)
def truncated_json(x: Exchange) -> Steps:
    before, rest = split(x.reply().script(), x.options["after"])
    body, event = body_of(x.reply().whole()), dump(rest[0] if rest else {})
    return answer(x, whole=body[: len(body) // 2], items=[*before, event[: len(event) // 2]])


def _spoiled(whole: Callable[[Exchange], bytes], event: Callable[[Exchange], bytes]) -> Behave:
    """A behaviour that answers `whole`, or a stream in which `event` stands for a piece of text.

    The rest of the stream follows, so that a client that skips what it cannot read loses text.
    """

    def behave(x: Exchange) -> Steps:
        before, rest = split(x.reply().script(), x.options["after"])
        items: list[Item] = [*before, event(x), *rest[1:]]
        return answer(x, whole=whole(x), items=items)

    return behave


def _deep(x: Exchange) -> bytes:
    depth: int = x.options["depth"]
    return b'{"choices":' + b"[" * depth + b"]" * depth + b"}"


def _bad_utf8(x: Exchange) -> bytes:
    marked = body_of(x.reply(text=f"before {MARK} after").whole())
    return marked.replace(encode(MARK), b"\xff\xfe\xc3\x28")


def _bad_utf8_event(x: Exchange) -> bytes:
    _, rest = split(x.reply(text=MARK).script(), 0)
    marked = b"".join(frame for frame in frames(rest[:1]) if isinstance(frame, bytes))
    return marked.replace(encode(MARK), b"\xff\xfe\xc3\x28")


register(
    "malformed-sse",
    "broken",
    "an event whose data is no JSON, and lines that are no field",
    after=2,
)(
    _spoiled(
        lambda x: b'{"choices": [{"message": oops}]}',
        lambda x: b'data: {"choices": [{"delta": oops}]}\n\nno field\n\ndata\n\n',
    )
)
register("bad-utf8", "broken", "bytes in the text that are no UTF-8", after=2)(
    _spoiled(_bad_utf8, _bad_utf8_event)
)
register("deep-json", "broken", "`choices` nested `depth` deep", after=2, depth=100_000)(
    _spoiled(_deep, lambda x: b"data: " + _deep(x) + b"\n\n")
)
register("garbage", "broken", "random bytes where the body, or an event, should be", after=2)(
    _spoiled(lambda x: NOISE, lambda x: b"data: " + NOISE + b"\n\n")
)
