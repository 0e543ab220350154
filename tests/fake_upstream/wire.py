"""The steps of a reply, and their encoding as HTTP/1.1 and as server-sent events.

A behaviour is a generator of steps and touches no socket; one loop in `server.py` performs them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for so long; counted from the start of the reply, so pauses do not drift."""

    seconds: float


class End(Enum):
    """How a reply ends that does not end as HTTP wants it."""

    RESET = "the connection is reset (TCP RST)"
    CLOSE = "the connection is closed in order (TCP FIN)"


Step = bytes | Pause | End
Steps = Iterator[Step]

Item = dict[str, Any] | str | bytes | Pause
"""One entry of a stream: an event's payload, an event's data as text, raw bytes, or a pause."""

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"
LAST_CHUNK = b"0\r\n\r\n"


def dump(value: Any) -> str:
    """`value` as compact JSON, its text not escaped, so that UTF-8 goes over the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def encode(text: str) -> bytes:
    """`text` in UTF-8; a lone surrogate becomes `\\udXXX`, which in JSON is its own escape."""
    return text.encode("utf-8", "backslashreplace")


def head(status: int, headers: dict[str, str]) -> bytes:
    """The status line and the headers."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode("latin-1", "replace")


def message(status: int, headers: dict[str, str], body: bytes) -> bytes:
    """A whole response of known length."""
    return head(status, {**headers, "content-length": str(len(body))}) + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sse(data: str) -> bytes:
    """One server-sent event (WHATWG HTML, section 9.2)."""
    return encode(f"data: {data}\n\n")


def frames(items: Iterable[Item], event: Callable[[str], bytes] = sse) -> Iterator[bytes | Pause]:
    """The bytes of each entry of a stream, its events encoded by `event`."""
    for item in items:
        if isinstance(item, dict):
            yield event(dump(item))
        elif isinstance(item, str):
            yield event(item)
        else:
            yield item


def chunked(pieces: Iterable[bytes | Pause]) -> Steps:
    """`pieces` as a whole chunked body, one chunk each.

    The last piece shares a segment with the last chunk: who leaves on `[DONE]` has had it all.
    """
    held = b""
    for piece in pieces:
        if held:
            yield held
        held = b""
        if isinstance(piece, Pause):
            yield piece
        else:
            held = chunk(piece)
    yield held + LAST_CHUNK
