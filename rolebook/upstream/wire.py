"""The transport below the openai client: connections whose calls can be timed, limited and cut off.

httpx2's own transport lets nobody near its sockets before the headers have arrived, times single reads only, and
unpacks a compressed reply however large it gets. So the pool of httpcore2, which is the same, is used through its
public interface with a network backend of ours.

Such a pool looks at every connection it has when a request begins and when one ends, one request at a time: with a
thousand streams under way that is most of the work. Therefore each connection has a pool of its own here, which one
request at a time uses, and the one that was used last is used next.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import httpcore2
import httpx2

from rolebook.core.errors import UpstreamReplyError
from rolebook.upstream.call import Call, current_call

MAX_REPLY_BYTES = 16 * 1024 * 1024
"""The longest reply that is read, as sent and unpacked: a hundred times a long answer."""

_PIECE_BYTES = 64 * 1024
_KEEP_ALIVE_S = 20.0
_IDLE_CONNECTIONS = 200
_ZLIB_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 47}

#: When the connection was used last, by the monotonic clock, and its pool.
_Idle = tuple[float, httpcore2.ConnectionPool]
Given = TypeVar("Given")
Got = TypeVar("Got")


class WireTransport(httpx2.BaseTransport):
    """Sends requests for one upstream.

    Arguments:
        is_encrypted: whether the upstream is reached by https; loading the trusted certificates takes 40 ms.
        proxy: its URL, or empty.
    """

    def __init__(self, *, is_encrypted: bool, proxy: str = "") -> None:
        self._open_pool = partial(
            httpcore2.ConnectionPool,
            ssl_context=httpx2.create_ssl_context() if is_encrypted else None,
            proxy=_proxy(proxy) if proxy else None,
            max_connections=1,
            keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=_Backend(),
        )
        self._lock = threading.Lock()
        self._idle: deque[_Idle] = deque()
        self._is_closed = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request of the current call and return once the headers have arrived."""
        current_call().is_sent = True
        url = request.url
        assert isinstance(request.stream, httpx2.SyncByteStream)
        # The threads of the server bound the calls; a second bound here would only make some of them wait unseen.
        pool = self._take()
        try:
            response = pool.handle_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except BaseException:
            self._give_back(pool)
            raise
        encoding = _encoding(response.headers)
        assert isinstance(response.stream, Iterable)
        return httpx2.Response(
            status_code=response.status,
            headers=[item for item in response.headers if item[0].lower() != b"content-encoding"],
            stream=_Body(response, encoding, on_close=partial(self._give_back, pool)),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Drop the connections that nobody uses; the others go when their call has ended."""
        with self._lock:
            self._is_closed = True
            idle = list(self._idle)
            self._idle.clear()
        for _, pool in idle:
            pool.close()

    def _take(self) -> httpcore2.ConnectionPool:
        with self._lock:
            if self._idle:
                return self._idle.pop()[1]
        return self._open_pool()

    def _give_back(self, pool: httpcore2.ConnectionPool) -> None:
        """Keep a connection for the next request, and close those that no request has wanted for long."""
        now = time.monotonic()
        done: list[httpcore2.ConnectionPool] = []
        with self._lock:
            self._idle.append((now, pool))
            while self._idle and (
                self._is_closed
                or len(self._idle) > _IDLE_CONNECTIONS
                or self._idle[0][0] < now - _KEEP_ALIVE_S
            ):
                done.append(self._idle.popleft()[1])
        for pool in done:
            pool.close()


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

    def __init__(
        self, response: httpcore2.Response, encoding: bytes, *, on_close: Callable[[], None]
    ) -> None:
        self._response = response
        self._encoding = encoding.strip()
        self._on_close = on_close
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        unpack = _unpacker(self._encoding)
        received, unpacked = 0, 0
        assert isinstance(self._response.stream, Iterable)
        for packed in self._response.stream:
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
                self._response.close()
            finally:
                self._on_close()


def _unpacker(encoding: bytes) -> Callable[[bytes], Iterator[bytes]]:
    if encoding in (b"", b"identity"):
        return lambda data: iter((data,))
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


class _Backend(httpcore2.NetworkBackend):
    """Connects like httpcore2 does, and hands out connections that know their call."""

    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        call = current_call()
        timeout = min(call.patience_s(), call.timeouts.connect_s)
        return _Connection(
            _Plain(self._backend.connect_tcp(host, port, timeout, local_address, socket_options))
        )

    def sleep(self, seconds: float) -> None:
        current_call().pause(seconds)


class _Plain(httpcore2.NetworkStream):
    """A connection as httpcore2 has it, but the system keeps the time.

    A socket with a timeout of Python's takes two system calls more for each piece, and with each of them Python changes
    threads: with hundreds of streams under way that is most of what a piece costs.
    """

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._socket.settimeout(None)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout))
            return self._socket.recv(max_bytes)
        except BlockingIOError as error:
            raise httpcore2.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
            self._socket.sendall(buffer)
        except BlockingIOError as error:
            raise httpcore2.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        return self._stream.start_tls(ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _timeval(seconds: float | None) -> bytes:
    """A limit as the system wants it, to which nothing at all would be no limit."""
    whole, rest = divmod(max(1, round((seconds or 0.0) * 1_000_000)), 1_000_000)
    return struct.pack("ll", *((whole, rest) if seconds is not None else (0, 0)))


class _Connection(httpcore2.NetworkStream):
    """A connection that serves one call after the other, each by its own clock."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._user: Call | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        current_call().before_waiting()
        return self._by_the_clock(self._stream.read, max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._by_the_clock(self._stream.write, buffer)

    def _by_the_clock(self, perform: Callable[[Given, float | None], Got], given: Given) -> Got:
        call = current_call()
        if self._user is not call:
            with self._lock:
                self._user = call
            call.use(self)
        try:
            got = perform(given, call.patience_s())
        except httpcore2.TimeoutException:
            raise call.timeout_error() from None
        except httpcore2.NetworkError as error:
            call.patience_s()
            raise error
        if call.is_cut:
            call.patience_s()
        return got

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        call = current_call()
        timeout = min(call.patience_s(), call.timeouts.connect_s)
        return _Connection(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()

    def shut(self, call: Call) -> None:
        """Shut the socket, which wakes whoever is blocked in it; closing it would not."""
        with self._lock:
            if self._user is not call:
                return
            sock = self._stream.get_extra_info("socket")
            with contextlib.suppress(OSError):
                # Not the method of an SSLSocket, which would take its state from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
