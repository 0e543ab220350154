"""HTTP/1.1 as a client speaks it: one connection, which sends one request after the other and reads the replies.

httpcore2 parses with h11, in Python: a third of the work of a call, and each chunk of a stream by itself. httptools
parses with llhttp, the parser of Node.js, and whatever has arrived together is passed on together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import httpcore2
import httptools
import httpx2

from rolebook.core.errors import UpstreamReplyError

MAX_HEAD_BYTES = 100 * 1024
"""The most that is read, headers and trailers and what frames the pieces, without anything of the body."""

_READ_BYTES = 64 * 1024
_HEAD = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.1\r\n(?:[\w!#$%&'*+.^`|~-]+: [^\0\r\n]*\r\n)+\r\n")
_FRAMING = (b"content-length", b"transfer-encoding")
_LENGTH = re.compile(rb"^content-length:([^\r\n]*)\r?\n", re.IGNORECASE | re.MULTILINE)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LONGEST_END = 4
#: Interim replies (RFC 9110, 15.2), each with its headers.
_INTERIM = re.compile(rb"\A(?:HTTP/1\.\d 1\d\d[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n)+")


class Stream(Protocol):
    """What a connection reads and writes."""

    def read(self, max_bytes: int) -> bytes:
        """What has come, after waiting for it. Empty: the end."""

    def receive(self, max_bytes: int) -> bytes | None:
        """As ``read``; or None: nothing has come, and another one waits until something has."""

    def write(self, buffer: bytes) -> None: ...

    def get_extra_info(self, info: str) -> Any: ...

    def close(self) -> None: ...


class Http1Connection:
    """One connection, which is opened when it is needed and serves one request at a time.

    Arguments:
        connect: opens a stream to the upstream.
    """

    def __init__(self, connect: Callable[[], Stream]) -> None:
        self._connect = connect
        self._stream: Stream | None = None

    def send(self, request: httpx2.Request) -> Http1Reply:
        """Send a request and return its reply once the headers have arrived. The reply has to be closed.

        Raises LocalProtocolError for headers that cannot be sent, what the stream raises, and RemoteProtocolError for
        what is no HTTP.
        """
        head = _head_of(request)
        stream = self._ready_stream()
        try:
            # A server that refuses a long body may answer and close before it has read all of it.
            with suppress(httpcore2.WriteError):
                stream.write(head + request.read())
            reply = Http1Reply(stream, on_unusable=self.close)
            reply.receive_head()
        except BaseException:
            self.close()
            raise
        return reply

    def close(self) -> None:
        """Close it; the next request opens it anew."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _ready_stream(self) -> Stream:
        # What comes without a question is the end of the connection, or belongs to no reply.
        if self._stream is not None and self._stream.get_extra_info("is_readable"):
            self.close()
        if self._stream is None:
            self._stream = self._connect()
        return self._stream


class Http1Reply:
    """A reply, whose body arrives while it is iterated over: an empty piece says that nothing has come and another one
    waits.

    Arguments:
        on_unusable: called when it is closed and its connection cannot serve another request.
    """

    def __init__(self, stream: Stream, *, on_unusable: Callable[[], None]) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._stream = stream
        self._on_unusable = on_unusable
        self._parser = self._new_parser()
        self._head = bytearray()
        self._is_length_in_doubt = False
        self._arrived: list[bytes] = []
        self._bytes_without_body = 0
        self._problem: Exception | None = None
        self._has_head = False
        self._is_complete = False
        self._is_reusable = False

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # Servers are not always exact in these, and what they mean is never in doubt.
        parser.set_dangerous_leniencies(
            lenient_chunked_length=True,
            lenient_data_after_close=True,
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        return parser

    def receive_head(self) -> None:
        """Read until the headers have ended."""
        while not self._has_head:
            self._take(self._stream.read(_READ_BYTES))
            if self._problem and not self._arrived:
                raise self._problem

    def __iter__(self) -> Iterator[bytes]:
        while True:
            if self._arrived:
                piece = b"".join(self._arrived)
                self._arrived.clear()
                yield piece
            # What came before it is not lost with it.
            if self._problem:
                raise self._problem
            if self._is_complete:
                return
            data = self._stream.receive(_READ_BYTES)
            if data is None:
                yield b""
            else:
                self._take(data)

    def close(self) -> None:
        """End it. Its connection can only serve again if all of it was read."""
        if not (self._is_complete and self._is_reusable):
            self._on_unusable()

    def _take(self, data: bytes) -> None:
        """Parse what has come."""
        if not data:
            self._end()
            return
        self._bytes_without_body += len(data)
        if not self._has_head:
            self._head += data
        try:
            self._parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_reusable = False
            if not self._is_complete:
                self._problem = self._problem or httpx2.RemoteProtocolError(str(error))
        if self._bytes_without_body > MAX_HEAD_BYTES and not self._is_complete:
            self._problem = endless_headers()

    def _parse(self, data: bytes) -> None:
        if not self._is_length_in_doubt:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                if self._has_head or "Content-Length" not in str(error):
                    raise
                self._is_length_in_doubt = True
        # The parser refuses a length that is told twice, also where both say the same (RFC 9110, 8.6).
        begin = max(0, len(self._head) - len(data) - _LONGEST_END)
        if self._is_length_in_doubt and _END_OF_HEAD.search(self._head, begin):
            reply = _with_one_length(bytes(self._head))
            if reply is not None:
                self._is_length_in_doubt = False
                self._parser = self._new_parser()
                self.headers.clear()
                self._parser.feed_data(reply)

    def _end(self) -> None:
        """The server has closed the connection, which ends a body of which nothing told the length."""
        is_framed = any(name.lower() in _FRAMING for name, _ in self.headers)
        if not self._has_head or is_framed:
            raise httpx2.RemoteProtocolError("The server closed the connection in the middle.")
        self._is_complete = True

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A reply begins; after a complete one, to a question that nobody asked."""
        if self._is_complete:
            self._is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has ended, or something of a trailer, which nobody needs."""
        if not self._has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The headers have ended; those of an interim reply (RFC 9110, 15.2) only precede the reply."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
            return
        self._has_head = True
        codings = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        if codings and b",".join(codings).strip().lower() != b"chunked":
            # Its end could not be told.
            self._problem = httpx2.RemoteProtocolError("A Transfer-Encoding other than chunked.")

    def on_body(self, body: bytes) -> None:
        """Something of the body has arrived."""
        self._bytes_without_body = 0
        if not self._is_complete:
            self._arrived.append(body)

    def on_message_complete(self) -> None:
        """A reply has ended."""
        if self._has_head and not self._is_complete:
            self._is_complete = True
            self._is_reusable = self._parser.should_keep_alive()


def _head_of(request: httpx2.Request) -> bytes:
    head = b"\r\n".join(
        [
            b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path),
            *[b"%b: %b" % header for header in request.headers.raw],
            b"\r\n",
        ]
    )
    # A value that holds a whole line would be one more.
    if not _HEAD.fullmatch(head) or head.count(b"\n") != len(request.headers.raw) + 2:
        raise httpx2.LocalProtocolError(
            "A header holds a line break, or a sign that none may hold."
        )
    return head


def _with_one_length(data: bytes) -> bytes | None:
    """A reply without the interim ones before it, and its length told once where it always is the same.

    None: its headers have not ended yet.
    """
    data = _INTERIM.sub(b"", data)
    end = _END_OF_HEAD.search(data)
    if end is None:
        return None
    head, rest = data[: end.end()], data[end.end() :]
    values = {value.strip() for line in _LENGTH.finditer(head) for value in line[1].split(b",")}
    if len(values) != 1:
        return data
    status, _, headers = _LENGTH.sub(b"", head).partition(b"\n")
    return b"%b\nContent-Length: %b\r\n%b%b" % (status, values.pop(), headers, rest)


def endless_headers() -> UpstreamReplyError:
    """The error for headers that do not end."""
    return UpstreamReplyError(
        "%(upstream)s sent headers without an end, and was cut off. Check what answers at this address."
    )
