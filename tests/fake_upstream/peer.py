"""One client's connection: reading requests, sending steps, noticing that it left."""

import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from tests.fake_upstream.wire import End, Pause, Steps

MAX_HEAD = 1 << 20
MAX_BODY = 1 << 26
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class PeerGoneError(Exception):
    """The client closed or reset its connection before the reply was whole."""


class NotHTTPError(Exception):
    """What the client sent is no request that can be read."""


@dataclass(frozen=True)
class Incoming:
    """A request as it was read."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to use its connection again."""
        return self.headers.get("connection", "").lower() != "close"

    @property
    def content(self) -> Any:
        """The body as parsed JSON, or as it is where it is not JSON."""
        try:
            return json.loads(self.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return self.body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Peer:
    """The server's end of a connection, used by one thread.

    No call blocks longer than `patience_s`; all end at once when another thread shuts the socket.
    """

    def __init__(self, sock: socket.socket, patience_s: float) -> None:
        self._sock = sock
        self._patience_s = patience_s
        self._unread = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(patience_s)

    def read_request(self) -> Incoming | None:
        """The next request, None when the client is done. Raises NotHTTPError, OSError."""
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if len(self._unread) > MAX_HEAD:
                raise NotHTTPError("the headers are too long")
            if not self._receive():
                return None
        lines = self._unread[:end].decode("latin-1").split("\r\n")
        headers = _parse_headers(lines[1:])
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY or "transfer-encoding" in headers:
            raise NotHTTPError("the body has no length, or is too long")
        while len(self._unread) < end + 4 + int(length):
            if not self._receive():
                return None
        body = self._unread[end + 4 : end + 4 + int(length)]
        self._unread = self._unread[end + 4 + int(length) :]
        try:
            method, target, _ = lines[0].split(" ")
        except ValueError:
            raise NotHTTPError("the request line is not one") from None
        return Incoming(method, target, headers, body)

    def perform(self, steps: Steps) -> bool:
        """Send a reply step by step; tells whether the connection can be used again.

        Raises PeerGoneError, and TimeoutError when the client reads nothing for too long.
        """
        due = time.monotonic()
        for step in steps:
            if isinstance(step, bytes):
                self._send(step)
            elif isinstance(step, Pause):
                due += step.seconds
                self._wait(until=due)
            else:
                if step is End.RESET:
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                return False
        return True

    def _receive(self) -> bool:
        data = self._sock.recv(65536)
        self._unread += data
        return bool(data)

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except TimeoutError:
            raise
        except OSError as error:
            raise PeerGoneError from error

    def _wait(self, until: float) -> None:
        """Sleep, but wake when the client leaves; what it sends meanwhile is its next request."""
        try:
            while (left_s := until - time.monotonic()) > 0:
                self._sock.settimeout(left_s)
                if not self._receive() or len(self._unread) > MAX_BODY:
                    raise PeerGoneError
        except TimeoutError:
            pass
        except OSError as error:
            raise PeerGoneError from error
        finally:
            self._sock.settimeout(self._patience_s)


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
