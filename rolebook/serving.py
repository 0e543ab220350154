"""Start the production server: gunicorn's threads, in this process (see docs/decisions/0002)."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from flask import Flask

from rolebook.core.patience import set_patience

GRACE = 6
"""Seconds that live streams have to end once the server was asked to stop."""

PATIENCE = 10
"""Seconds without a byte from a client, or without room for one, before its thread is taken back."""


def serve(
    app: Flask,
    *,
    host: str,
    port: int,
    threads: int = 256,
    on_ready: Callable[[str, int], None],
    on_stop: Callable[[], None],
    on_end: Callable[[], None],
) -> None:
    """Serve `app` until SIGTERM, ctrl-C or the end of its terminal, then end this process with status 0.

    `on_ready` gets the address that was bound (port 0 takes a free one). `on_stop` is called once
    when the server is asked to stop and must not block: it tells live streams to end. Whatever
    lives `GRACE` seconds later is cut. `on_end` is called after that, to write and close what is
    open; a second signal goes without it. Raises OSError when the address cannot be bound.
    """
    listener = _listen(host, port)
    bound_host, bound_port = listener.getsockname()[:2]
    _run(app, listener, threads, lambda: on_ready(bound_host, bound_port), on_stop)
    on_end()
    sys.stdout.flush()
    sys.stderr.flush()
    # Pool threads that outlived the grace would be joined at a normal exit, without a deadline.
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit the two timeouts.
    set_patience(listener, socket.SO_RCVTIMEO, PATIENCE)
    set_patience(listener, socket.SO_SNDTIMEO, PATIENCE)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def _worker_class(on_stop: Callable[[], None]) -> Any:
    from gunicorn.util import close_graceful  # type: ignore[import-untyped]
    from gunicorn.workers import gthread  # type: ignore[import-untyped]

    class Worker(gthread.ThreadWorker):  # type: ignore[misc]
        def handle(self, conn: Any) -> Any:
            # A silent connection waits in the poller instead of five seconds in a thread.
            if not (conn.initialized or conn.data_ready or conn.wait_for_data(0)):
                return gthread._DEFER
            kept = super().handle(conn)
            if kept is False:
                # Gunicorn lingers up to two seconds for the client's own close, in the loop that
                # accepts everyone; here it costs one thread, and the loop finds no more to do.
                with contextlib.suppress(OSError):
                    close_graceful(conn.sock.dup())
                    conn.sock.shutdown(socket.SHUT_RD)
            return kept

        def init_signals(self) -> None:
            hangup = signal.getsignal(signal.SIGHUP)
            super().init_signals()
            # Gunicorn takes it back that nohup has the end of the terminal ignored.
            is_ignored = hangup is signal.SIG_IGN
            signal.signal(signal.SIGHUP, hangup if is_ignored else self.handle_exit)

        def is_parent_alive(self) -> bool:
            # Our parent is no arbiter but whoever started us, and may end as it likes.
            return True

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # A second signal may interrupt this one, so the loop calls on_stop, not the handler:
            # the lock inside an Event.set() would be waited for for ever.
            if self.alive:
                self.method_queue.defer(on_stop)
            super().handle_exit(sig, frame)

        def handle_quit(self, sig: int, frame: FrameType | None) -> None:
            if not self.alive:
                os._exit(0)
            self.handle_exit(sig, frame)

    return Worker


def _is_news(record: logging.LogRecord) -> bool:
    """False for the traceback of a client that used up our patience."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


def _run(
    app: Flask,
    listener: socket.socket,
    threads: int,
    ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> None:
    from gunicorn import sock  # type: ignore[import-untyped]
    from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            settings = {
                "bind": f"fd://{listener.detach()}",
                "worker_class": _worker_class(on_stop),
                "threads": threads,
                "worker_connections": threads + 2000,
                "keepalive": 15,
                "graceful_timeout": GRACE,
                "loglevel": "warning",
                # Gunicorn believes these of whoever is on this computer; who is believed is a setting of ours.
                "secure_scheme_headers": {},
                "forwarder_headers": "",
                "forwarded_allow_ips": "",
                "post_worker_init": lambda worker: ready(),
            }
            for name, value in settings.items():
                self.cfg.set(name, value)

        def load(self) -> Flask:
            return app

    application = Application()
    cfg = application.cfg
    log = cfg.logger_class(cfg)
    log.error_log.addFilter(_is_news)
    sockets = sock.create_sockets(cfg, log)
    worker = cfg.worker_class(1, os.getppid(), sockets, application, cfg.timeout, cfg, log)
    worker.init_process()
