"""The transport below the openai client: connections whose calls can be timed, limited and cut off.

httpx2's own transport lets nobody near its sockets before the headers have arrived, times single reads only, and
unpacks a compressed reply however large it gets; and its parser, in Python, is a third of the work of a call. So there
is an HTTP connection of ours (:mod:`rolebook.upstream.http1`). The ways through a proxy are those of httpcore2, whose
pools are used through their public interface, one for each connection.

One request at a time uses a connection, and the one that was used last is used next.
"""

from __future__ import annotations

import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import httpcore2
import httpx2

from rolebook.core.errors import UpstreamReplyError
from rolebook.upstream.call import current_call
from rolebook.upstream.http1 import Http1Connection, Stream
from rolebook.upstream.network import CallNetwork

MAX_REPLY_BYTES = 16 * 1024 * 1024
"""The longest reply that is read, as sent and unpacked: a hundred times a long answer."""

_PIECE_BYTES = 64 * 1024
_KEEP_ALIVE_S = 20.0
_IDLE_CONNECTIONS = 200
_ZLIB_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 47}


class Reply(Protocol):
    """A reply whose headers have arrived."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class Connection(Protocol):
    """What serves one request after the other."""

    def send(self, request: httpx2.Request) -> Reply: ...

    def close(self) -> None: ...


class WireTransport(httpx2.BaseTransport):
    """Sends requests to one upstream.

    Arguments:
        base_url: where it is.
        proxy: the URL of the proxy on the way to it, or empty.
    """

    def __init__(self, base_url: str, *, proxy: str = "") -> None:
        url = httpx2.URL(base_url)
        # Loading the trusted certificates takes 40 ms.
        context = _encryption() if url.scheme == "https" else None
        self._open: Callable[[], Connection] = (
            partial(_ProxiedConnection, proxy, context)
            if proxy
            else partial(Http1Connection, partial(_connect, url, context))
        )
        self._lock = threading.Lock()
        #: When each was used last, by the monotonic clock, and the connection.
        self._idle: deque[tuple[float, Connection]] = deque()
        self._is_closed = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request of the current call and return once the headers have arrived."""
        current_call().is_sent = True
        # The threads of the server bound the calls; a second bound here would only make some of them wait unseen.
        connection = self._take()
        try:
            reply = connection.send(request)
        except BaseException:
            self._give_back(connection)
            raise
        encoding = _encoding(reply.headers)
        return httpx2.Response(
            status_code=reply.status,
            headers=[item for item in reply.headers if item[0].lower() != b"content-encoding"],
            stream=_Body(reply, encoding, on_close=partial(self._give_back, connection)),
        )

    def close(self) -> None:
        """Drop the connections that nobody uses; the others go when their call has ended."""
        with self._lock:
            self._is_closed = True
            idle = list(self._idle)
            self._idle.clear()
        for _, connection in idle:
            connection.close()

    def close_idle(self) -> None:
        """Drop the connections that no request has wanted for long."""
        if self._idle:
            self._drop_idle(time.monotonic())

    def _take(self) -> Connection:
        with self._lock:
            if not self._idle:
                return self._open()
            used_at, connection = self._idle.pop()
        if used_at < time.monotonic() - _KEEP_ALIVE_S:
            # What lies between may have forgotten it without a word. Closed, it is opened anew when it is used.
            connection.close()
        return connection

    def _give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, and close those that no request has wanted for long."""
        now = time.monotonic()
        with self._lock:
            self._idle.append((now, connection))
        self._drop_idle(now)

    def _drop_idle(self, now: float) -> None:
        done: list[Connection] = []
        with self._lock:
            while self._idle and (
                self._is_closed
                or len(self._idle) > _IDLE_CONNECTIONS
                or self._idle[0][0] < now - _KEEP_ALIVE_S
            ):
                done.append(self._idle.popleft()[1])
        for connection in done:
            connection.close()


def _encryption() -> ssl.SSLContext:
    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connect(url: httpx2.URL, context: ssl.SSLContext | None) -> Stream:
    host = url.raw_host.decode("ascii")
    stream = CallNetwork().connect_tcp(host, url.port or (443 if context else 80))
    return stream.start_tls(context, host) if context else stream


class _ProxiedConnection:
    """A connection through a proxy: a pool of httpcore2 that holds a single one."""

    def __init__(self, proxy: str, context: ssl.SSLContext | None) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context,
            proxy=_proxy(proxy),
            max_connections=1,
            keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=CallNetwork(),
        )

    def send(self, request: httpx2.Request) -> Reply:
        url = request.url
        response = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.read(),
                extensions=request.extensions,
            )
        )
        return _ProxiedReply(response)

    def close(self) -> None:
        self._pool.close()


class _ProxiedReply:
    def __init__(self, response: httpcore2.Response) -> None:
        self.status = response.status
        self.headers = response.headers
        self.close = response.close
        self._stream = response.stream

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._stream, Iterable)
        return iter(self._stream)


def too_long() -> UpstreamReplyError:
    """The error for a reply, or a piece of one, that is larger than anyone should take."""
    return UpstreamReplyError(
        "%(upstream)s sent more than %(limit)d MB without an end, and was cut off. "
        "Ask for a shorter answer, or check what answers at this address.",
        limit=MAX_REPLY_BYTES // 1024 // 1024,
    )


def _proxy(url: str) -> httpcore2.Proxy:
    proxy = httpx2.Proxy(url)
    return httpcore2.Proxy(
        url=httpcore2.URL(
            scheme=proxy.url.raw_scheme,
            host=proxy.url.raw_host,
            port=proxy.url.port,
            target=proxy.url.raw_path,
        ),
        auth=proxy.raw_auth,
        ssl_context=httpx2.create_ssl_context() if proxy.url.scheme == "https" else None,
    )


def _encoding(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b",".join(
        value for name, value in headers if name.lower() == b"content-encoding"
    ).lower()


class _Body(httpx2.SyncByteStream):
    """The body of a reply, unpacked, in small pieces and never more than the limit."""

    def __init__(self, reply: Reply, encoding: bytes, *, on_close: Callable[[], None]) -> None:
        self._reply = reply
        self._encoding = encoding.strip()
        self._on_close = on_close
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        unpack = _unpacker(self._encoding)
        received, unpacked = 0, 0
        for packed in self._reply:
            if not packed:
                yield packed
            received += len(packed)
            for piece in unpack(packed):
                unpacked += len(piece)
                if unpacked > MAX_REPLY_BYTES:
                    raise too_long()
                yield piece
            if received > MAX_REPLY_BYTES:
                raise too_long()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            try:
                self._reply.close()
            finally:
                self._on_close()


def _unpacker(encoding: bytes) -> Callable[[bytes], Iterator[bytes]]:
    if encoding in (b"", b"identity"):
        return lambda data: iter((data,) if data else ())
    if encoding not in _ZLIB_WINDOWS:
        raise UpstreamReplyError(
            "%(upstream)s sent its answer compressed as %(encoding)s, which was not asked for and cannot be read.",
            encoding=encoding[:40].decode("ascii", "replace"),
        )
    decompressor = zlib.decompressobj(_ZLIB_WINDOWS[encoding])

    def unpack(data: bytes) -> Iterator[bytes]:
        while data:
            if piece := decompressor.decompress(data, _PIECE_BYTES):
                yield piece
            data = decompressor.unconsumed_tail

    return unpack
