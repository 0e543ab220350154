"""The sockets below a call: opened like httpcore2 opens its own, timed by the call, and cut off with it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import httpcore2

from rolebook.core.blocking import blocking
from rolebook.core.patience import set_patience
from rolebook.upstream.call import Call, current_call

Given = TypeVar("Given")
Got = TypeVar("Got")


class CallNetwork(httpcore2.NetworkBackend):
    """Connects like httpcore2 does, and hands out streams that know their call."""

    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> TimedStream:
        call = current_call()
        timeout = min(call.patience_s(), call.timeouts.connect_s)
        with blocking():
            stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return TimedStream(_PlainStream(stream))

    def sleep(self, seconds: float) -> None:
        current_call().pause(seconds)


class _Wrapping(httpcore2.NetworkStream):
    """A stream around another one, which does what is not said to be done otherwise."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

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


class _PlainStream(_Wrapping):
    """A stream as httpcore2 has it, but the system keeps the time."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        super().__init__(stream)
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._socket.settimeout(None)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            if timeout == 0:
                return self._socket.recv(max_bytes, socket.MSG_DONTWAIT)
            set_patience(self._socket, socket.SO_RCVTIMEO, timeout)
            with blocking():
                return self._socket.recv(max_bytes)
        except BlockingIOError as error:
            raise httpcore2.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            set_patience(self._socket, socket.SO_SNDTIMEO, timeout)
            with blocking():
                self._socket.sendall(buffer)
        except BlockingIOError as error:
            raise httpcore2.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error


class TimedStream(_Wrapping):
    """A stream that serves one call after the other, each by its own clock."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        super().__init__(stream)
        self._lock = threading.Lock()
        self._user: Call | None = None
        sock = stream.get_extra_info("socket")
        self._fd: int = sock.fileno()
        self._is_encrypted = isinstance(sock, ssl.SSLSocket)
        #: Whether all that had come was read, so that there is no need to look.
        self._is_drained = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        current_call().before_waiting()
        return self._by_the_clock(self._stream.read, max_bytes)

    def receive(self, max_bytes: int) -> bytes | None:
        """As ``read``; or None, where nothing has come and the call is suspended until something has."""
        call = current_call()
        if call.suspend is None:
            return self.read(max_bytes)
        arrived = None if self._is_drained else self._by_the_clock(self._arrived, max_bytes)
        if arrived is not None:
            # Encryption may keep something back.
            self._is_drained = not self._is_encrypted and len(arrived) < max_bytes
            return arrived
        self._is_drained = False
        return None if call.suspend(self._fd, call.patience_s()) else self.read(max_bytes)

    def _arrived(self, max_bytes: int, _patience_s: float | None) -> bytes | None:
        """What has come, without waiting for it."""
        try:
            return self._stream.read(max_bytes, 0.0)
        except httpcore2.ReadTimeout:
            return None
        except httpcore2.ReadError as error:
            # What has come may be less than the encryption needs to tell anything.
            if isinstance(error.__cause__, ssl.SSLWantReadError):
                return None
            raise

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
    ) -> TimedStream:
        call = current_call()
        timeout = min(call.patience_s(), call.timeouts.connect_s)
        with blocking():
            return TimedStream(super().start_tls(ssl_context, server_hostname, timeout))

    def shut(self, call: Call) -> None:
        """Shut the socket, which wakes whoever is blocked in it; closing it would not."""
        with self._lock:
            if self._user is not call:
                return
            sock = self._stream.get_extra_info("socket")
            with contextlib.suppress(OSError):
                # Not the method of an SSLSocket, which would take its state from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
