"""Behaviours that give the answer of `ok` in an unusual wrapping, legal or common enough."""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from tests.fake_upstream.exchange import Behave, Exchange, answer, body_of, register
from tests.fake_upstream.wire import (
    EVENT_STREAM,
    JSON,
    LAST_CHUNK,
    End,
    Item,
    Pause,
    Steps,
    chunk,
    chunked,
    encode,
    frames,
    head,
    message,
    sse,
)


def event_as(template: str) -> Callable[[str], bytes]:
    """An encoding of events in which `{}` stands for the data."""
    return lambda data: encode(template.replace("{}", data))


def _multiline(data: str) -> bytes:
    if data == "[DONE]":
        return sse(data)
    lines = json.dumps(json.loads(data), ensure_ascii=False, indent=1).split("\n")
    return encode("".join(f"data: {line}\n" for line in lines) + "\n")


EVENTS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "crlf": ("lines of the stream end in CR LF", event_as("data: {}\r\n\r\n")),
    "cr": ("lines of the stream end in CR", event_as("data: {}\r\r")),
    "comments": ("comments between and inside events", event_as(": ping\n\n:\ndata: {}\n: x\n\n")),
    "multiline": ("the JSON of an event goes over several data lines", _multiline),
    "no-space": ("no space after `data:`", event_as("data:{}\n\n")),
    "event-names": (
        "events have names, ids and retry times",
        event_as("event: completion.chunk\nid: 7\nretry: 60000\nunknown: x\ndata: {}\n\n"),
    ),
}


def _encoded(event: Callable[[str], bytes]) -> Behave:
    return lambda x: answer(x, event=event)


for _name, (_description, _event) in EVENTS.items():
    register(_name, "whole", _description)(_encoded(_event))


@register("bom", "whole", "the stream, or the body, begins with a byte order mark")
def bom(x: Exchange) -> Steps:
    mark: Item = b"\xef\xbb\xbf"
    return answer(
        x, whole=b"\xef\xbb\xbf" + body_of(x.reply().whole()), items=[mark, *x.reply().script()]
    )


@register("done-no-blank", "whole", "nothing follows [DONE], not even the end of its line")
def done_no_blank(x: Exchange) -> Steps:
    return answer(x, items=[*x.reply().script()[:-1], b"data: [DONE]"])


def pieces_of(x: Exchange) -> Iterator[bytes | Pause]:
    """The body of the well-formed answer, event by event where it is a stream."""
    reply = x.reply()
    if x.streams:
        return frames(reply.script())
    return iter((Pause(reply.duration_s), body_of(reply.whole())))


def body_head(x: Exchange, **headers: str) -> bytes:
    """The head of the well-formed answer, announcing chunks."""
    return x.stream_head(EVENT_STREAM if x.streams else JSON, **headers)


def _recut(cut: Callable[[bytes], Iterable[bytes]]) -> Behave:
    """A behaviour whose body is cut anew, each piece an HTTP chunk and a segment of its own."""

    def behave(x: Exchange) -> Steps:
        yield body_head(x)
        yield from chunked(
            chain.from_iterable([p] if isinstance(p, Pause) else cut(p) for p in pieces_of(x))
        )

    return behave


def _bytes_of(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def _inside_characters(data: bytes) -> Iterator[bytes]:
    """Cut after the first byte of every multi-byte character (UTF-8 lead bytes are C2 to F4)."""
    return iter(re.split(rb"(?<=[\xc2-\xf4])", data))


register("byte-by-byte", "whole", "each byte of the body is a chunk and a segment of its own")(
    _recut(_bytes_of)
)
register("split-utf8", "whole", "chunks end inside the characters")(_recut(_inside_characters))


@register("one-segment", "whole", "head and body, all events included, in one segment")
def one_segment(x: Exchange) -> Steps:
    steps = [body_head(x), *chunked(pieces_of(x))]
    yield Pause(sum(step.seconds for step in steps if isinstance(step, Pause)))
    yield b"".join(step for step in steps if isinstance(step, bytes))


@register("gzip", "whole", "the body is compressed, a stream event by event")
def gzipped(x: Exchange) -> Steps:
    yield body_head(x, content_encoding="gzip")
    yield from chunked(_gzip(pieces_of(x)))


def _gzip(pieces: Iterable[bytes | Pause]) -> Iterator[bytes | Pause]:
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    for piece in pieces:
        if isinstance(piece, Pause):
            yield piece
        else:
            yield compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield compressor.flush()


@register("chunk-extensions", "whole", "chunks carry extensions, and trailers follow the last one")
def chunk_extensions(x: Exchange) -> Steps:
    yield body_head(x, trailer="x-checksum")
    for piece in pieces_of(x):
        yield piece if isinstance(piece, Pause) else chunk(piece).replace(b"\r\n", b";a=b\r\n", 1)
    yield b"0;last\r\nx-checksum: 1\r\n\r\n"


@register("close-delimited", "whole", "no length and no chunks: the end of the connection ends it")
def close_delimited(x: Exchange) -> Steps:
    yield head(200, x.headers(EVENT_STREAM if x.streams else JSON, connection="close"))
    yield from pieces_of(x)
    yield End.CLOSE


@register("100-flood", "whole", "`count` times 100 Continue before the answer", count=1000)
def continue_flood(x: Exchange) -> Steps:
    yield head(100, {}) * x.options["count"]
    yield from answer(x)


def _mislabelled(x: Exchange, *, stream: bool, content_type: str) -> Steps:
    """The answer as a stream or whole, whatever was asked for, under `content_type`."""
    if not stream:
        yield message(200, x.headers(content_type), body_of(x.reply().whole()))
        return
    body = b"".join(f for f in frames(x.reply().script()) if isinstance(f, bytes))
    yield x.stream_head(content_type) + chunk(body) + LAST_CHUNK


@register("sse-as-json", "broken", "a stream of events labelled application/json")
def sse_as_json(x: Exchange) -> Steps:
    return _mislabelled(x, stream=True, content_type=JSON)


@register("json-as-sse", "broken", "a whole JSON reply labelled text/event-stream")
def json_as_sse(x: Exchange) -> Steps:
    return _mislabelled(x, stream=False, content_type=EVENT_STREAM)


@register("always-stream", "broken", "a stream, honestly labelled, asked for or not")
def always_stream(x: Exchange) -> Steps:
    return _mislabelled(x, stream=True, content_type=EVENT_STREAM)


@register(
    "never-stream", "broken", "a whole reply, honestly labelled, though a stream was asked for"
)
def never_stream(x: Exchange) -> Steps:
    return _mislabelled(x, stream=False, content_type=JSON)


@register("plain-label", "whole", "the right body labelled text/plain")
def plain_label(x: Exchange) -> Steps:
    return _mislabelled(x, stream=x.streams, content_type="text/plain")


@register("no-label", "whole", "the right body without a content type")
def no_label(x: Exchange) -> Steps:
    headers = x.headers("")
    del headers["content-type"]
    body = b"".join(piece for piece in pieces_of(x) if isinstance(piece, bytes))
    yield message(200, headers, body)
