"""A server on a loopback socket that answers with given bytes, whether or not they are HTTP."""

import re
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

CLOSE = b""
"""In a script: close the connection."""

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class ScriptedServer:
    """Answers the requests of its connections, one connection after the other.

    Arguments:
        replies: what each request gets, over all connections: pieces that are sent one by one.
        encryption: how its connections are encrypted.
        reads_bodies: whether it reads a request to its end before it answers.
    """

    def __init__(
        self,
        *replies: Sequence[bytes],
        encryption: ssl.SSLContext | None = None,
        reads_bodies: bool = True,
    ) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.has_closed = threading.Event()
        self._replies = list(replies)
        self._encryption = encryption
        self._reads_bodies = reads_bodies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                self.connections += 1
                with suppress(OSError), accepted, self._encrypted(accepted) as client:
                    client.settimeout(5)
                    self._converse(client)
                self.has_closed.set()

    def _encrypted(self, accepted: socket.socket) -> socket.socket:
        if self._encryption is None:
            return accepted
        return self._encryption.wrap_socket(accepted, server_side=True)

    def _converse(self, client: socket.socket) -> None:
        while request := self._read_request(client):
            self.requests.append(request)
            for piece in self._replies.pop(0):
                if piece == CLOSE:
                    return
                client.sendall(piece)

    def _read_request(self, client: socket.socket) -> bytes:
        request = b""
        while b"\r\n\r\n" not in request:
            if not (piece := client.recv(4096)):
                return b""
            request += piece
        head, _, body = request.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if self._reads_bodies else None
        while length and len(body) < int(length[1]):
            body += client.recv(65536)
        return head + b"\r\n\r\n" + body
