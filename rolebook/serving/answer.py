"""Answers that wait for something and meanwhile take no thread: the loop of a worker looks after all of them.

An application tells what it waits for by an extension of WSGI that was proposed as ``x-wsgiorg.fdevent``: it calls
``environ["x-wsgiorg.fdevent.readable"](fd, seconds)``, then yields an empty string. An empty string alone says, as PEP
3333 has it, that the application has nothing to send yet; here, that it may take a moment, which is a thread's to wait.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

from gunicorn.http import wsgi  # type: ignore[import-untyped]

from rolebook.core.blocking import blocking

READABLE = "x-wsgiorg.fdevent.readable"

#: What comes within this time is waited for by the thread that is there: to change to the loop takes longer.
LINGER_S = 0.002
#: Who took longer than this to say something will hardly say more in no time.
_QUICK_S = 10 * LINGER_S
#: With these answers the rest of a request is not waited for.
_UNFINISHED = ("408 ", "413 ")
#: So many pieces of one answer go out in the loop before others have their turn, in a thread if there are more.
_AT_ONCE = 8


class Response(wsgi.Response):  # type: ignore[misc]
    """Gunicorn's response, whose headers leave together with what comes first: whoever waits for it is woken once."""

    headers_sent: bool
    _head = b""

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if status.startswith(_UNFINISHED):
            self.force_close()
        return super().start_response(status, headers, exc_info)

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{k}: {v}\r\n" for k, v in self.headers), "\r\n"]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        self._send(framed(data) if self.chunked else data)

    def sendfile(self, respiter: Any) -> bool:
        self.send_headers()
        self._send(b"")
        with blocking():
            return bool(super().sendfile(respiter))

    def close(self) -> None:
        self.send_headers()
        self._send(framed(b"") if self.chunked else b"")

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head or data:
            send(self.sock, head + data)


def send(sock: socket.socket, data: bytes) -> None:
    """Send all of it, and wait where there is no room for it. Raises OSError where the client has gone."""
    try:
        sent = sock.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        with blocking():
            sock.sendall(data[sent:])


def framed(data: bytes) -> bytes:
    """A chunk as RFC 9112 has it (7.1); the empty one is the last."""
    return b"%X\r\n%b\r\n" % (len(data), data)


def can_be_read(file: socket.socket | int, seconds: float = 0.0) -> bool:
    """Whether something comes within this time, the end included."""
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


class Answer:
    """What an application answers to one request, and how far that is sent.

    The application runs in a context of its own (:mod:`contextvars`), whichever thread it is that runs it.

    Arguments:
        conn: gunicorn's connection by which the request came.
        response: frames what is sent.
    """

    def __init__(self, conn: Any, response: Response, environ: dict[str, Any]) -> None:
        self.conn = conn
        self.response = response
        self.fd: int | None = None
        """What it waits for, while it does."""
        self.until = 0.0
        """When it is to go on in any case, by the monotonic clock."""
        self._context = copy_context()
        self._environ = environ
        environ[READABLE] = self._wait_for
        self._items: Any = ()
        self._iterator: Iterator[bytes] = iter(())
        self._unsent = b""
        self._asked_at = 0.0
        self._is_over = False
        self._problem: Exception | None = None

    def begin(self, wsgi: Callable[..., Any]) -> bool:
        """Let the application begin to answer, in a thread that may wait; returns as ``go_on``."""
        self._items = self._context.run(wsgi, self._environ, self.response.start_response)
        if isinstance(self._items, self._environ["wsgi.file_wrapper"]):
            try:
                self.response.write_file(self._items)
                self.response.close()
            finally:
                self._close()
            return True
        self._iterator = iter(self._items)
        return self.go_on()

    def go_on(self) -> bool:
        """Send what the application says, in a thread that may wait; whether that is all, or it waits for ``fd``.

        Raises what the application raises, and OSError where the client has gone.
        """
        try:
            if self._unsent:
                unsent, self._unsent = self._unsent, b""
                send(self.conn.sock, unsent)
            while (item := self._next()) is not None:
                if item:
                    self.response.write(item)
                elif self.fd is not None and not self._can_go_on():
                    return False
            self.response.close()
        except BaseException:
            self._close()
            raise
        self._close()
        return True

    def advance(self) -> bool:
        """Send what the application says, in the loop, without waiting for anyone; whether it waits for the same again.

        Otherwise it has to go on in a thread. Nothing is raised here: what is to be raised, ``go_on`` raises.
        """
        awaited = self.fd
        try:
            for _ in range(_AT_ONCE):
                item = self._next()
                if not item:
                    return self.fd == awaited
                if not self._send_at_once(item):
                    return False
        except Exception as problem:
            self._problem = problem
        return False

    def fail(self, problem: Exception) -> None:
        """Let ``go_on`` raise this."""
        self._problem = problem

    def _wait_for(self, fd: int, seconds: float) -> None:
        """What the application calls before it yields an empty string."""
        self.fd = fd
        self.until = time.monotonic() + seconds

    def _next(self) -> bytes | None:
        """What the application says next; None at the end."""
        if self._problem is not None:
            raise self._problem
        self.fd = None
        self._asked_at = time.monotonic()
        item = None if self._is_over else self._context.run(next, self._iterator, None)
        self._is_over = item is None
        return item

    def _can_go_on(self) -> bool:
        """Whether something has come, which is waited for a moment; for as long as it takes, where the loop could not
        send it.
        """
        assert self.fd is not None
        can_be_carried = self.response.response_length is None
        moment = time.monotonic()
        rest_s = max(0.0, self.until - moment)
        if can_be_carried:
            linger_s = LINGER_S if moment - self._asked_at < _QUICK_S else 0.0
            return can_be_read(self.fd, min(linger_s, rest_s))
        with blocking():
            can_be_read(self.fd, rest_s)
        return True

    def _send_at_once(self, item: bytes) -> bool:
        """Send as much as there is room for; whether that was all."""
        data = framed(item) if self.response.chunked else item
        try:
            sent = self.conn.sock.send(data, socket.MSG_DONTWAIT)
        except OSError:
            # If it is not for want of room, it comes again where the rest is sent.
            sent = 0
        self.response.sent += len(item)
        self._unsent = data[sent:]
        return not self._unsent

    def _close(self) -> None:
        if hasattr(self._items, "close"):
            self._context.run(self._items.close)
