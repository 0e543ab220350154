"""Gunicorn's threaded worker, run without its arbiter: what it does otherwise here (see docs/decisions/0002)."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, Protocol

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.http import wsgi  # type: ignore[import-untyped]
from gunicorn.http.message import Request  # type: ignore[import-untyped]
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]
from gunicorn.util import close_graceful  # type: ignore[import-untyped]
from gunicorn.workers import gthread  # type: ignore[import-untyped]

from rolebook.core.blocking import blocking
from rolebook.serving import refusal
from rolebook.serving.answer import LINGER_S, Answer, Response, can_be_read
from rolebook.serving.threads import Threads

GRACE = 6
"""Seconds that live streams have to end once the server was asked to stop."""


#: More open files than this are of no use, where the system would allow any number.
_MOST_FILES = 65_536
#: What a server has open that is neither a connection nor a turn's.
_OWN_FILES = 64
#: A connection may be a stream, which has one to its upstream besides.
_FILES_OF_A_CONNECTION = 2
#: No file can be opened, or no memory be had, at the moment.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.05
#: How late an answer that waits may learn that it has waited long enough.
_LOOK_S = 0.25
#: How often it is looked what nobody needs any more.
_LOOK_AROUND_S = 1.0
#: So much of what nobody wants any more is taken, so that a client reads the answer that it got too soon.
_MOST_UNWANTED_BYTES = 1 << 28
#: So much a request may say before its body.
_MOST_HEAD_BYTES = 1 << 16
#: The client has gone, which is no news.
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


class Service(Protocol):
    """What is behind an application, and lives as long as it is served."""

    def tidy(self) -> None:
        """Let go of what nobody needs any more. Called about once a second; must not block."""

    def stop(self) -> None:
        """Tell what runs to end. Called once when the server is asked to stop; must not block."""

    def close(self) -> None:
        """Write and close what is open. Called after that."""


class Worker(gthread.ThreadWorker):  # type: ignore[misc]
    """Serves an application to whoever connects to its sockets, until it is asked to stop.

    ``on_stop`` is called once when it is, and ``on_look`` about once a second all the time. Neither may block.
    """

    on_stop: Callable[[], None]
    on_look: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Answers that wait for something, in the loop.
        self._waiting: set[Answer] = set()
        self._look_at = 0.0
        self._next_look_at = 0.0

    def get_thread_pool(self) -> Threads:
        return Threads(self.cfg.threads)

    def run(self) -> None:
        try:
            self.tpool.start()
            super().run()
        finally:
            # Whatever has ended the loop, nobody gives the threads anything to do any more.
            self.tpool.shutdown()

    def enqueue_req(self, conn: Any) -> None:
        self.tpool.do(partial(self._serve, conn))

    def _serve(self, conn: Any) -> None:
        """In a thread: answer what has come by a connection, and leave the rest to the loop."""
        kept: Any = False
        try:
            kept = self.handle(conn)
        finally:
            self.method_queue.defer(self.finish, conn, kept)

    def finish(self, conn: Any, kept: Any) -> None:
        """In the loop: wait for what an answer waits for, or for the next request of a connection, or close it."""
        if isinstance(kept, Answer):
            self._wait(kept)
        elif kept is False:
            self.nr_conns -= 1
            conn.sock.close()
        elif kept is gthread._DEFER and not self.alive:
            # Gunicorn would close it, though who came just before the end may be about to say what they want.
            self._begin(conn)
            self.finish_request(conn, _Done(True))
        else:
            self.finish_request(conn, _Done(kept))

    def accept(self, listener: socket.socket) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            # Whoever waits can go on waiting until somebody has gone; gunicorn would end.
            time.sleep(_PAUSE_S)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not (enabled or self.alive):
            # The system would take connections for us until the end, to whom nobody answers. Who came before is heard,
            # but not waited for where there is no room for them: it is here that room would be made.
            until = time.monotonic() + _LOOK_S
            for listener in self.sockets:
                while self.nr_conns < self.worker_connections and can_be_read(listener):
                    self.accept(listener)
                    if time.monotonic() > until:
                        break
                listener.close()

    def handle(self, conn: Any) -> Any:
        # A silent connection waits in the poller instead of five seconds in a thread.
        if not (conn.initialized or conn.data_ready):
            conn.data_ready = can_be_read(conn.sock)
            if not conn.data_ready:
                return gthread._DEFER
        if not conn.initialized:
            self._begin(conn)
        kept = super().handle(conn)
        # A program that asks one thing after the other is answered by one thread, without the loop in between.
        while kept is True and self.alive and not self.tpool.is_behind:
            if not (can_be_read(conn.sock, LINGER_S) and self.is_for_us(conn)):
                break
            kept = super().handle(conn)
        return self._part_from(conn, kept)

    def _begin(self, conn: Any) -> None:
        conn.init()
        # Gunicorn has made it, and what was read in another process may be in it.
        conn.parser.unreader.__class__ = _Unreader
        conn.parser.mesg_class = _Request

    def is_for_us(self, conn: Any) -> bool:
        """Whether the next request of a connection, of which something has come, is to be answered here."""
        return True

    def _part_from(self, conn: Any, kept: Any) -> Any:
        if kept is False:
            # Gunicorn lingers up to two seconds for the client's own close, in the loop that accepts everyone; and of
            # what the client is still sending it takes so little that most of them never read why it is refused.
            with contextlib.suppress(OSError), blocking():
                close_graceful(conn.sock, max_drain=_MOST_UNWANTED_BYTES)
        return kept

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        # Gunicorn logs and answers what it was sent, and from which address.
        found = refusal.refusal_of(exc)
        if found is refusal.FAULT:
            self.log.error("A request failed inside the server", exc_info=exc)
        else:
            self.log.warning("A malformed request was refused: %s", found.kind)
        refusal.answer(client, found)

    def handle_request(self, req: Any, conn: Any) -> Any:
        response, environ = wsgi.create(
            req, conn.sock, conn.client, conn.server, self.cfg, response_class=Response
        )
        environ["wsgi.multithread"] = True
        if "HTTP_TRANSFER_ENCODING" not in environ:
            # Then whoever reads the body counts its bytes, and finds when a client has gone in the middle of it.
            environ.pop("wsgi.input_terminated")
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            response.force_close()
        answer = Answer(conn, response, environ)
        return self._carry(answer, partial(answer.begin, self.wsgi))

    def _carry(self, answer: Answer, send: Callable[[], bool]) -> Any:
        """Send something of an answer: the answer itself, if it waits; else whether its connection can be kept."""
        try:
            is_over = send()
        except OSError:
            raise
        except Exception:
            if not answer.response.headers_sent:
                raise
            self.log.exception("Error handling request")
            return False
        return not answer.response.should_close() if is_over else answer

    def _keepalive_after(self, conn: Any, keepalive: Any) -> Any:
        return (
            keepalive
            if isinstance(keepalive, Answer)
            else super()._keepalive_after(conn, keepalive)
        )

    def _wait(self, answer: Answer) -> None:
        # Here and not in the thread that found nothing more to say: what it waits for may just have served another
        # answer, of which the loop has not taken leave yet.
        try:
            self.poller.register(answer.fd, selectors.EVENT_READ, partial(self._advance, answer))
        except OSError as error:
            # The system watches no more files than it allows.
            answer.fail(error)
            self.tpool.do(partial(self._go_on, answer))
            return
        self._waiting.add(answer)

    def _advance(self, answer: Answer, fd: int) -> None:
        """Let an answer go on that waited for `fd`: here if it only passes on what has come, else in a thread."""
        if answer.advance():
            return
        self._waiting.remove(answer)
        self.poller.unregister(fd)
        self.tpool.do(partial(self._go_on, answer))

    def _go_on(self, answer: Answer) -> None:
        kept: Any = False
        try:
            kept = self._keepalive_after(answer.conn, self._carry(answer, answer.go_on))
        except OSError as error:
            if error.errno not in _GONE:
                self.log.exception("Socket error processing request.")
        finally:
            self.method_queue.defer(self.finish, answer.conn, self._part_from(answer.conn, kept))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, _LOOK_S) if self._waiting else timeout)
        moment = time.monotonic()
        if moment >= self._look_at:
            self._look_at = moment + _LOOK_S
            for answer in [answer for answer in self._waiting if answer.until <= moment]:
                assert answer.fd is not None
                self._advance(answer, answer.fd)

    def init_signals(self) -> None:
        hangup = signal.getsignal(signal.SIGHUP)
        super().init_signals()
        # Gunicorn takes it back that nohup has the end of the terminal ignored.
        is_ignored = hangup is signal.SIG_IGN
        signal.signal(signal.SIGHUP, hangup if is_ignored else self.handle_exit)

    def notify(self) -> None:
        # No arbiter looks at the file by which a worker would tell it, several times for each request, that it lives.
        moment = time.monotonic()
        if moment >= self._next_look_at:
            self._next_look_at = moment + _LOOK_AROUND_S
            try:
                self.on_look()
            except Exception:
                self.log.exception("What nobody needs any more could not be let go")

    def is_parent_alive(self) -> bool:
        # Our parent is no arbiter but whoever started us, and may end as it likes.
        return True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A second signal may interrupt this one, so the loop calls on_stop, not the handler:
        # the lock inside an Event.set() would be waited for for ever.
        if self.alive:
            self.method_queue.defer(self.on_stop)
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        if not self.alive:
            os._exit(0)
        self.handle_exit(sig, frame)


class _Unreader(SocketUnreader):  # type: ignore[misc]
    """Reads a request, and waits for the rest of it where it comes in pieces."""

    def chunk(self, size_hint: int | None = None) -> bytes:
        if can_be_read(self.sock):
            return bytes(super().chunk(size_hint))
        with blocking():
            return bytes(super().chunk(size_hint))


class _Request(Request):  # type: ignore[misc]
    """A request whose head is short.

    Gunicorn looks through all of it again with each piece that comes, so that of one as long as it takes, 800 KB, every
    further byte would cost more than most requests do.
    """

    def parse(self, unreader: Any) -> Any:
        self.max_buffer_headers = _MOST_HEAD_BYTES
        return super().parse(unreader)


class _Done:
    """What gunicorn takes for a task that a thread has done."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    def cancelled(self) -> bool:
        return False

    def result(self) -> Any:
        return self._kept


class _Application(BaseApplication):  # type: ignore[misc]
    def __init__(self, app: Flask, settings: dict[str, Any]) -> None:
        self._app = app
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app


def _is_news(record: logging.LogRecord) -> bool:
    """False for the traceback of a client that used up our patience."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


def _allow_files() -> int:
    """Let this process open as many files as the system lets it, which by default is far fewer; each connection is one.
    Return how many that are.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):
        # Some systems allow less than they say.
        return soft
    return wanted


def _most_connections(threads: int) -> int:
    """So many connections that turns still find files to open; further clients wait until one of them has gone."""
    files = _allow_files()
    # A thread may have the log open.
    left = (files - _OWN_FILES - threads) // _FILES_OF_A_CONNECTION
    return max(min(threads + 2000, left), files // 4)


def make_worker(
    kind: type[Worker],
    app: Flask,
    sockets: Sequence[socket.socket],
    *,
    threads: int,
    on_ready: Callable[[], None],
    on_look: Callable[[], None],
    on_stop: Callable[[], None],
) -> Any:
    """A worker that serves `app` to whoever comes by the sockets, once its ``init_process`` is called."""
    settings = {
        "threads": threads,
        "worker_connections": _most_connections(threads),
        "keepalive": 15,
        "graceful_timeout": GRACE,
        "loglevel": "warning",
        # Gunicorn believes these of whoever is on this computer; who is believed is a setting of ours.
        "secure_scheme_headers": {},
        "forwarder_headers": "",
        "forwarded_allow_ips": "",
        "post_worker_init": lambda worker: on_ready(),
    }
    application = _Application(app, settings)
    cfg = application.cfg
    # For each request it looks up some thirty of them, which takes as long as reading the request line.
    cfg.__dict__.update({name: setting.get() for name, setting in cfg.settings.items()})
    log = cfg.logger_class(cfg)
    log.error_log.addFilter(_is_news)
    worker = kind(1, os.getppid(), list(sockets), application, cfg.timeout, cfg, log)
    worker.on_look = on_look
    worker.on_stop = on_stop
    return worker
