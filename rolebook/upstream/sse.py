"""Server-sent events: bytes in, events out, within limits.

The format is section 9.2 of the WHATWG HTML standard. The openai client brings a parser too; this one has limits and
skips the client's objects, which halves the cost of a stream.
"""

from __future__ import annotations

from collections.abc import Iterator

from rolebook.core.frozen import frozen

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""The longest line and the largest event that are read: a whole book of text fits into it."""


class EventLimitError(ValueError):
    """A line or an event is larger than the limit."""


@frozen
class ServerEvent:
    """One event. ``name`` is empty unless the server gave one."""

    data: str
    name: str = ""


class EventParser:
    """Parses one stream, however its bytes are cut into pieces.

    Arguments:
        max_bytes: the limit for one line and for the data of one event.
    """

    def __init__(self, *, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._unfinished: list[bytes] = []
        self._unfinished_bytes = 0
        self._ended_in_cr = False
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""
        self.line_count = 0
        """Lines that have ended so far, comments included: what counts as a sign of life."""

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that end in ``piece``. It has to be exhausted before the next piece.

        Raises EventLimitError, or UnicodeDecodeError for an event that is no UTF-8.
        """
        if self._ended_in_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._ended_in_cr = False
        if not piece:
            return
        if self._is_event(piece):
            self._ended_in_cr = False
            self.line_count += 2
            yield ServerEvent(piece[6:-2].decode())
            return
        self._ended_in_cr = piece.endswith(b"\r")
        lines = piece.splitlines()
        rest = b"" if piece.endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            event = self._end_line(line)
            if event is not None:
                yield event
        if rest:
            self._keep(rest)

    def _is_event(self, piece: bytes) -> bool:
        """Whether it is one event of one line of data, as most servers send each of theirs."""
        is_between = not (self._unfinished or self._data or self._name)
        return (
            is_between
            and piece.startswith(b"data: ")
            and piece.endswith(b"\n\n")
            and piece.count(b"\n") == 2
            and b"\r" not in piece
            and len(piece) <= self._max_bytes
        )

    def finish(self) -> Iterator[ServerEvent]:
        """The event that the end of the stream left open.

        The standard drops it. Servers exist that end right after ``data: [DONE]``.
        """
        if self._unfinished:
            self._end_line(b"")
        event = self._end_event()
        if event is not None:
            yield event

    def _keep(self, part: bytes) -> None:
        self._unfinished.append(part)
        self._unfinished_bytes += len(part)
        if self._unfinished_bytes > self._max_bytes:
            raise EventLimitError

    def _end_line(self, line: bytes) -> ServerEvent | None:
        if self._unfinished:
            self._keep(line)
            line = b"".join(self._unfinished)
            self._unfinished.clear()
            self._unfinished_bytes = 0
        if not self.line_count:
            line = line.removeprefix(b"\xef\xbb\xbf")
        self.line_count += 1
        if not line:
            return self._end_event()
        self._take(line)
        return None

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_bytes:
                raise EventLimitError
        elif field == b"event":
            self._name = value.removeprefix(b" ")

    def _end_event(self) -> ServerEvent | None:
        data, name = self._data, self._name
        self._data, self._data_bytes, self._name = [], 0, b""
        if not data:
            return None
        return ServerEvent(b"\n".join(data).decode(), name.decode())
