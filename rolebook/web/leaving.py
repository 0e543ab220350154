"""Clients that leave before they have their answer. A server notices that only when it writes to them, so it looks."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

#: How soon it is noticed that somebody has left.
_LOOK_S = 0.25
#: That the other side has ended, though it may have sent something before that nobody has read. Linux alone tells it.
_ENDED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def client_socket(environ: Mapping[str, Any]) -> socket.socket | None:
    """The connection that a request came by, where the server tells it and it can be looked at."""
    found = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return (
        found if isinstance(found, socket.socket) and not isinstance(found, ssl.SSLSocket) else None
    )


class Watch:
    """Looks after the clients of running calls, in one thread for all. Safe for threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[object, tuple[socket.socket, Callable[[], object]]] = {}
        self._is_running = False

    def watch(
        self, client: socket.socket | None, on_leave: Callable[[], object]
    ) -> Callable[[], None]:
        """Call ``on_leave`` once if the client leaves. Returns what ends the watch; it may be called again."""
        if client is None:
            return _nothing
        key = object()
        with self._changed:
            self._watched[key] = client, on_leave
            if not self._is_running:
                # Where the system has no room for it now, the next watch starts it.
                with suppress(RuntimeError):
                    looking = threading.Thread(
                        target=self._look, name="rolebook-leaving", daemon=True
                    )
                    looking.start()
                    self._is_running = True
            elif len(self._watched) == 1:
                self._changed.notify()
        return lambda: self._forget(key)

    def _forget(self, key: object) -> None:
        with self._changed:
            self._watched.pop(key, None)

    def _look(self) -> None:
        never = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched)
            never.wait(_LOOK_S)
            with self._changed:
                watched = list(self._watched.items())
            news = _news_of([client for _, (client, _) in watched])
            for key, (client, on_leave) in watched:
                if client in news and _has_left(client, news[client]):
                    self._forget(key)
                    on_leave()


def _news_of(clients: Sequence[socket.socket]) -> Mapping[socket.socket, int]:
    """What the system tells of those of whom something has come, were it the end; with one call for all."""
    looking = select.poll()
    open_ones = {fd: client for client in clients if (fd := client.fileno()) >= 0}
    for fd in open_ones:
        looking.register(fd, select.POLLIN | _ENDED)
    # One that is closed on our side has gone as well.
    closed = {client: _ENDED for client in clients if client.fileno() < 0}
    return closed | {open_ones[fd]: events for fd, events in looking.poll(0)}


def _has_left(client: socket.socket, events: int) -> bool:
    if events & _ENDED:
        return True
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _nothing() -> None:
    pass
