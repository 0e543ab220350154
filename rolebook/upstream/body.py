"""The body of a reply: bytes to JSON values, whole or piece by piece, whatever its content type claims."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from math import isfinite
from typing import Any

from rolebook.core.completion import Waiting
from rolebook.core.errors import UpstreamBrokenError, UpstreamReplyError
from rolebook.core.frozen import frozen
from rolebook.upstream.sse import EventLimitError, EventParser, ServerEvent

MAX_DEPTH = 64
"""How deep a reply may be nested; real ones stay below ten, and everything after us walks them by recursion."""

REASONING_FIELDS = ("reasoning_content", "reasoning")
OTHER_ANSWERS = ("audio", "function_call", "images")
"""Fields of a message that answer without any text."""

_ANSWERS = ("content", "text", "refusal", "tool_calls", *REASONING_FIELDS, *OTHER_ANSWERS)
_BLANKS = b" \t\r\n\xef\xbb\xbf"
_FIELD_STARTS = b"deir:"
"""The first letters of data, event, id and retry, and of a comment."""
_HTML = ("text/html", "application/xhtml+xml")


def _finite(number: str) -> float | None:
    value = float(number)
    return value if isfinite(value) else None


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=lambda name: None)


@frozen
class Whole:
    """The reply as one JSON value. ``is_cut``: it broke off, and this is what had come of it; its error follows."""

    payload: Any
    is_cut: bool = False


@frozen
class Pieces:
    """JSON values of a stream that arrived together. ``is_last``: ``[DONE]`` came after them."""

    payloads: tuple[Any, ...]
    is_last: bool = False


def read_body(
    chunks: Iterable[bytes],
    content_type: str,
    *,
    touch: Callable[[], None],
    gives_way: bool = False,
) -> Iterator[Whole | Pieces | Waiting]:
    """Read a reply with status 200. A chunk without anything in it, which says that another one waits, is a Waiting.

    Some servers stream where none was asked, answer whole where a stream was, or name the content type wrongly; so
    the first character decides, and the content type is only believed when it says HTML.

    Arguments:
        touch: called when something of the answer has arrived. An event that only names the role is nothing yet: some
            servers send it before they have read the prompt. Once the answer has begun, comments count too.
        gives_way: whether what says nothing of the answer is a Waiting, too: a server may send no end of it.

    Raises UpstreamReplyError, and UpstreamBrokenError for a reply that was cut in the middle. Before the error of one
    that is whole, whatever its error is, comes what can be read of it.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in _HTML:
        raise _no_reply(media_type)
    pieces = iter(chunks)
    start = yield from _significant(pieces)
    if not start:
        raise UpstreamReplyError(
            "%(upstream)s sent an empty reply. Try again, or check what answers at this address."
        )
    if start[:1] in b"{[":
        yield (yield from _read_whole(start, pieces, touch))
    elif start[0] in _FIELD_STARTS:
        yield from _read_events(start, pieces, touch, gives_way=gives_way)
    else:
        raise _no_reply(media_type, start)


def _no_reply(media_type: str, start: bytes = b"") -> UpstreamReplyError:
    return UpstreamReplyError(
        "%(upstream)s did not send an OpenAI-compatible reply (%(content_type)s). "
        "Check the base URL: for most servers it ends in /v1.",
        content_type=media_type[:80] or "no content type",
        detail=start[:500].decode("utf-8", "replace"),
    )


def _significant(pieces: Iterator[bytes]) -> Generator[Waiting, None, bytes]:
    """The first piece that is not blank, without its blanks; nothing before it counts as an answer."""
    for piece in pieces:
        if start := piece.lstrip(_BLANKS):
            return start
        if not piece:
            yield Waiting()
    return b""


def _read_whole(
    start: bytes, pieces: Iterator[bytes], touch: Callable[[], None]
) -> Generator[Whole | Waiting, None, Whole]:
    touch()
    received = [start]
    try:
        for piece in pieces:
            if piece:
                touch()
                received.append(piece)
            else:
                yield Waiting()
    except UpstreamReplyError:
        # It is too large to be an answer.
        raise
    except Exception:
        yield from _begun(b"".join(received))
        raise
    text = b"".join(received)
    try:
        return Whole(parse_json(text))
    except UpstreamReplyError:
        yield from _begun(text)
        raise


def _begun(text: bytes) -> Iterator[Whole]:
    """What can be read of a JSON value that broke off: the last text in it as far as it goes."""
    # Nearly no reply breaks off.
    from pydantic_core import from_json

    with suppress(ValueError):
        value = from_json(text, allow_partial="trailing-strings")
        if not _is_deep(value):
            yield Whole(value, is_cut=True)


def _read_events(
    start: bytes, pieces: Iterator[bytes], touch: Callable[[], None], *, gives_way: bool
) -> Iterator[Pieces | Waiting]:
    parser = EventParser()
    has_begun, lines = False, 0
    for piece in chain((start,), pieces):
        if not piece:
            yield Waiting()
            continue
        arrived, problem = _payloads(parser.feed(piece))
        has_begun = has_begun or any(map(_is_answer, arrived.payloads))
        if has_begun and parser.line_count > lines:
            touch()
        lines = parser.line_count
        if arrived.payloads or arrived.is_last:
            yield arrived
        elif gives_way:
            yield Waiting()
        if problem is not None:
            raise problem
        if arrived.is_last:
            return
    arrived, problem = _payloads(parser.finish())
    if problem is not None:
        raise broken_off()
    yield arrived


def _is_answer(payload: Any) -> bool:
    """Whether an event says something of the answer, or why there is none."""
    choices = payload.get("choices") if isinstance(payload, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            said = choice.get("delta") or choice.get("message")
            said = said if isinstance(said, dict) else choice
            if choice.get("finish_reason") or any(said.get(name) for name in _ANSWERS):
                return True
    return False


def broken_off() -> UpstreamBrokenError:
    """The error for an answer that stopped before its end."""
    return UpstreamBrokenError(
        "The connection to %(upstream)s broke before the answer was finished. Try again."
    )


def _payloads(events: Iterator[ServerEvent]) -> tuple[Pieces, UpstreamReplyError | None]:
    """What can be read of ``events``, and what ended the reading: what came before is not lost with it."""
    payloads: list[Any] = []
    try:
        for event in events:
            if event.data.strip() == "[DONE]":
                return Pieces(tuple(payloads), is_last=True), None
            if event.name != "ping" and event.data.strip():
                payloads.append(_payload(event))
    except EventLimitError:
        return Pieces(tuple(payloads)), UpstreamReplyError(
            "%(upstream)s sent one piece of its answer that is too large to be one, and was cut off. "
            "Check what answers at this address."
        )
    except UnicodeDecodeError:
        return Pieces(tuple(payloads)), _not_json()
    except UpstreamReplyError as problem:
        return Pieces(tuple(payloads)), problem
    return Pieces(tuple(payloads)), None


def _payload(event: ServerEvent) -> Any:
    payload = parse_json(event.data)
    if event.name == "error" and not (isinstance(payload, dict) and payload.get("error")):
        return {"error": payload}
    return payload


def parse_json(text: str | bytes) -> Any:
    """A JSON value, in which NaN, the infinities and numbers beyond them that some servers send have become null.

    Raises UpstreamReplyError for what is no JSON or nested too deeply.
    """
    try:
        value = _decoder.decode(
            text.decode(json.detect_encoding(text), "surrogatepass")
            if isinstance(text, bytes)
            else text
        )
    except (ValueError, RecursionError):
        raise _not_json(text) from None
    brackets = (
        text.count(b"[") + text.count(b"{")
        if isinstance(text, bytes)
        else text.count("[") + text.count("{")
    )
    if brackets > MAX_DEPTH and _is_deep(value):
        raise _not_json()
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _not_json(text: str | bytes = "") -> UpstreamReplyError:
    start = text[:500]
    return UpstreamReplyError(
        "%(upstream)s sent something that is not readable as an answer. "
        "Try again, or check what answers at this address.",
        detail=start.decode("utf-8", "replace") if isinstance(start, bytes) else start,
    )
