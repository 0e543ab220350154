"""Requests on their way in: a thread reads each, and waits for a client that sends it bit by bit."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn import http  # type: ignore[import-untyped]
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]


class Arrival(SocketUnreader):  # type: ignore[misc]
    """What comes by a connection. Safe for threads, where one of them reads."""

    sock: socket.socket

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._begun_at = time.monotonic()
        self._is_waiting = False

    def begin(self) -> None:
        """From now on a thread reads a request."""
        self._begun_at = time.monotonic()

    def chunk(self, size_hint: int | None = None) -> Any:
        self._is_waiting = True
        try:
            return super().chunk(size_hint)
        finally:
            self._is_waiting = False

    def give_up(self, *, longest_s: float) -> None:
        """Let the thread go on as if nothing more came, if it has read for longer than this and waits for more."""
        if self._is_waiting and time.monotonic() - self._begun_at > longest_s:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RD)


def arrival_of(cfg: Any, conn: Any) -> Arrival:
    """What comes by a connection of gunicorn's."""
    if conn.parser is None:
        conn.parser = http.get_parser(cfg, conn.sock, conn.client)
        conn.parser.unreader = Arrival(conn.sock)
    arrival = conn.parser.unreader
    assert isinstance(arrival, Arrival)
    return arrival
