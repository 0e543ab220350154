"""The transport below the openai client: one connection pool whose calls can be timed, limited and cut off.

httpx2's own transport lets nobody near its sockets before the headers have arrived, times single reads only, and
unpacks a compressed reply however large it gets. So the pool of httpcore2, which is the same, is used through its
public interface with a network backend of ours.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

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

Given = TypeVar("Given")
Got = TypeVar("Got")


class WireTransport(httpx2.BaseTransport):
    """Sends requests for one upstream.

    Arguments:
        is_encrypted: whether the upstream is reached by https; loading the trusted certificates takes 40 ms.
        proxy: its URL, or empty.
    """

    def __init__(self, *, is_encrypted: bool, proxy: str = "") -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context() if is_encrypted else None,
            proxy=_proxy(proxy) if proxy else None,
            # The threads of the server bound the calls; a second bound here would only make some of them wait unseen.
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=_Backend(),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request of the current call and return once the headers have arrived."""
        current_call().is_sent = True
        url = request.url
        assert isinstance(request.stream, httpx2.SyncByteStream)
        response = self._pool.handle_request(
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
        encoding = _encoding(response.headers)
        assert isinstance(response.stream, Iterable)
        return httpx2.Response(
            status_code=response.status,
            headers=[item for item in response.headers if item[0].lower() != b"content-encoding"],
            stream=_Body(response, encoding),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Drop the pooled connections."""
        self._pool.close()


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

    def __init__(self, response: httpcore2.Response, encoding: bytes) -> None:
        self._response = response
        self._encoding = encoding.strip()

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
        self._response.close()


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
            self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        current_call().pause(seconds)


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
