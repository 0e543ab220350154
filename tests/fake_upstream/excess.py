"""Behaviours that never end, or are more than anyone should take.

Everything endless ends with the client, with `close()`, or after `max_wait_s`.
"""

import time
import zlib

from tests.fake_upstream.breakage import MARK, started
from tests.fake_upstream.exchange import Exchange, body_of, register, split
from tests.fake_upstream.framing import body_head, pieces_of
from tests.fake_upstream.wire import (
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
)

KIB = b"x" * 1024
MIB = KIB * 1024


def silence(x: Exchange) -> Steps:
    """Nothing more comes, and the connection stays open."""
    yield Pause(x.max_wait_s)
    yield End.CLOSE


def repeated(x: Exchange, piece: bytes, every_s: float = 0.0) -> Steps:
    """`piece` over and over, each `every_s` after the one before."""
    until = time.monotonic() + x.max_wait_s
    while time.monotonic() < until:
        yield piece
        if every_s:
            yield Pause(every_s)
    yield End.CLOSE


def dripped(data: bytes, every_s: float) -> Steps:
    """`data` byte by byte, each `every_s` after the one before."""
    for at in range(len(data)):
        yield data[at : at + 1]
        yield Pause(every_s)


@register("hang", "silent", "not a byte is answered")
def hang(x: Exchange) -> Steps:
    return silence(x)


@register("hang-headers", "silent", "the status line and a header, then nothing")
def hang_headers(x: Exchange) -> Steps:
    yield body_head(x).partition(b"\r\nx-request-id")[0]
    yield from silence(x)


@register("hang-body", "silent", "all headers, then nothing")
def hang_body(x: Exchange) -> Steps:
    yield body_head(x)
    yield from silence(x)


@register("hang-mid", "silent", "some text, then nothing", after=2)
def hang_mid(x: Exchange) -> Steps:
    yield from started(x)
    yield from silence(x)


@register("hang-end", "silent", "all the text, then neither [DONE] nor the end of the body")
def hang_end(x: Exchange) -> Steps:
    yield body_head(x)
    for piece in list(pieces_of(x))[: -1 if x.streams else None]:
        yield piece if isinstance(piece, Pause) else chunk(piece)
    yield from silence(x)


@register("hang-error", "silent", "the headers of an error, then nothing", code=400)
def hang_error(x: Exchange) -> Steps:
    yield head(x.options["code"], x.headers(JSON) | {"content-length": "100"})
    yield from silence(x)


@register("drip", "silent", "the body comes byte by byte, one every `every_ms`", every_ms=200.0)
def drip(x: Exchange) -> Steps:
    yield body_head(x)
    for piece in pieces_of(x):
        if isinstance(piece, bytes):
            yield from dripped(chunk(piece), x.options["every_ms"] / 1000)
    yield LAST_CHUNK


@register(
    "slow-headers", "silent", "the head comes byte by byte, one every `every_ms`", every_ms=200.0
)
def slow_headers(x: Exchange) -> Steps:
    yield from dripped(body_head(x), x.options["every_ms"] / 1000)
    yield from chunked(pieces_of(x))


@register(
    "100-endless", "silent", "100 Continue every `every_ms` and never an answer", every_ms=50.0
)
def continue_endless(x: Exchange) -> Steps:
    return repeated(x, head(100, {}), x.options["every_ms"] / 1000)


def _opened(x: Exchange) -> tuple[list[Item], list[Item]]:
    """The stream before its first text, and from there on."""
    return split(x.reply().script(), 0)


@register(
    "heartbeat", "silent", "comments (or blanks) every `every_ms` and never text", every_ms=50.0
)
def heartbeat(x: Exchange) -> Steps:
    yield body_head(x)
    beat = b": keep-alive\n\n" if x.streams else b" "
    yield from repeated(x, chunk(beat), x.options["every_ms"] / 1000)


@register(
    "empty-deltas", "silent", "deltas without text every `every_ms`, and no end", every_ms=50.0
)
def empty_deltas(x: Exchange) -> Steps:
    yield body_head(x)
    opening = [frame for frame in frames(_opened(x)[0][:1]) if isinstance(frame, bytes)]
    yield from repeated(x, chunk(b"".join(opening) or b" "), x.options["every_ms"] / 1000)


def around_text(x: Exchange) -> tuple[bytes, bytes]:
    """The body of an answer, before its text and after it."""
    reply = x.reply(text=MARK)
    if x.streams:
        pieces = [piece for piece in frames(reply.script()) if isinstance(piece, bytes)]
        body = b"".join(pieces)
    else:
        body = body_of(reply.whole())
    before, _, after = body.partition(encode(MARK))
    return before, after


@register("endless", "flood", "text without end, a delta every `delay_ms`")
def endless(x: Exchange) -> Steps:
    if not x.streams:
        yield from endless_line(x)
        return
    before, rest = _opened(x)
    yield x.stream_head()
    for frame in frames(before):
        yield frame if isinstance(frame, Pause) else chunk(frame)
    delta = b"".join(frame for frame in frames(rest[:1]) if isinstance(frame, bytes))
    yield from repeated(x, chunk(delta), x.options["delay_ms"] / 1000)


@register("endless-line", "flood", "one event, or one string of the body, that never ends")
def endless_line(x: Exchange) -> Steps:
    yield body_head(x) + chunk(around_text(x)[0])
    yield from repeated(x, chunk(KIB * 64))


@register(
    "huge-chunk", "flood", "one chunk with `kb` KiB of text in one event, or one string", kb=65536
)
def huge_chunk(x: Exchange) -> Steps:
    before, after = around_text(x)
    yield body_head(x)
    yield b"%x\r\n" % (len(before) + len(after) + 1024 * x.options["kb"]) + before
    for _ in range(x.options["kb"]):
        yield KIB
    yield after + b"\r\n" + LAST_CHUNK


@register("gzip-bomb", "flood", "`mb` MiB of text in one event, or one string, compressed", mb=512)
def gzip_bomb(x: Exchange) -> Steps:
    before, after = around_text(x)
    yield body_head(x, content_encoding="gzip")
    yield chunk(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + _deflated(before))
    checksum, block = zlib.crc32(before), chunk(_deflated(MIB))
    for _ in range(x.options["mb"]):
        yield block
        checksum = zlib.crc32(MIB, checksum)
    checksum = zlib.crc32(after, checksum)
    size = (len(before) + len(MIB) * x.options["mb"] + len(after)) % 2**32
    tail = checksum.to_bytes(4, "little") + size.to_bytes(4, "little")
    yield chunk(_deflated(after, zlib.Z_FINISH) + tail) + LAST_CHUNK


def _deflated(data: bytes, end: int = zlib.Z_FULL_FLUSH) -> bytes:
    """`data` as deflate blocks that lean on no others (RFC 1951), so that they can be repeated."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(end)


@register("huge-headers", "flood", "`kb` KiB of headers before a sound answer", kb=1024)
def huge_headers(x: Exchange) -> Steps:
    status, _, rest = body_head(x).partition(b"\r\n")
    yield status + b"\r\n"
    for number in range(x.options["kb"]):
        name = b"x-filler-%07d: " % number
        yield name + KIB[: 1022 - len(name)] + b"\r\n"
    yield rest
    yield from chunked(pieces_of(x))
