"""The application that `servers.py` measures, and how each WSGI server is started around it.

Run as a child process, `python servers_app.py NAME HOST PORT THREADS`; the driver polls it.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from flask import Flask, Response, jsonify, request

GRACE = 4
"""Seconds that a stopping server gives to live streams; short, so that a whole run is."""

RECEIVE_TIMEOUT = 5
"""Seconds without a byte from the client after which the bounded gunicorn gives its thread back."""

SEND_TIMEOUT = 5
"""Seconds without room in the client's window after which the bounded gunicorn gives up."""

stopping = multiprocessing.Event()
"""Set when the server was asked to stop; shared, because a master process may be asked."""

closed_at: dict[str, float] = {}
"""When the body of a stream was closed, by its client's id, on the clock of all processes."""

produced: dict[str, int] = {}
"""How many bytes of a stream were produced, by the same id."""


class RecordedBody:
    """A response body that remembers when its server closed it."""

    def __init__(self, key: str, chunks: Iterator[bytes]) -> None:
        self._key = key
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        produced[self._key] = produced.get(self._key, 0) + len(chunk)
        return chunk

    def close(self) -> None:
        closed_at.setdefault(self._key, time.monotonic())


def build() -> Flask:
    """The measured application; built in the process that serves."""
    app = Flask(__name__)

    @app.get("/hello")
    def hello() -> str:
        return "hello\n"

    @app.post("/body")
    def body() -> str:
        return f"{len(request.get_data())}\n"

    @app.get("/tokens")
    def tokens() -> Response:
        return _stream(
            _tokens(request.args.get("count", 50, int), float(request.args.get("delay", 0.02)))
        )

    @app.get("/pings")
    def pings() -> Response:
        time.sleep(float(request.args.get("before", 0)))
        return _stream(_pings(float(request.args.get("first", 0)), ends="ends" in request.args))

    @app.get("/flood")
    def flood() -> Response:
        return _stream(b"x" * 65536 for _ in range(400))

    @app.get("/broken")
    def broken() -> Response:
        return _stream(_broken())

    @app.get("/record/<key>")
    def record(key: str) -> Response:
        return jsonify(closed_at=closed_at.get(key), produced=produced.get(key, 0))

    return app


def _stream(chunks: Iterator[bytes]) -> Response:
    body: Iterable[bytes] = RecordedBody(request.args.get("id", ""), chunks)
    return Response(body, mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})


def _tokens(count: int, delay: float) -> Iterator[bytes]:
    for number in range(count):
        time.sleep(delay)
        yield b"data: token %d\n\n" % number
    yield b"data: [DONE]\n\n"


def _pings(first: float, *, ends: bool) -> Iterator[bytes]:
    time.sleep(first)
    for _ in range(30):
        yield b": ping\n\n"
        if ends and stopping.wait(0.5):
            yield b"event: error\ndata: server is stopping\n\n"
            return
        if not ends:
            time.sleep(0.5)


def _broken() -> Iterator[bytes]:
    yield b"data: one\n\n"
    raise RuntimeError("the upstream broke")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The Flask application, and one route that no framework guards: a header with CR and LF."""
    if environ["PATH_INFO"] == "/raw-header":
        start_response("200 OK", [("X-Raw", "a\r\nX-Forged: yes"), ("Content-Length", "3")])
        return [b"ok\n"]
    body: Iterable[bytes] = _app(environ, start_response)
    return body


_app: Any = None


def load() -> Callable[..., Iterable[bytes]]:
    """The WSGI callable, with the Flask application made in this process."""
    globals()["_app"] = build()
    return application


def bound_socket(host: str, port: int, *, bounded: bool) -> socket.socket:
    """A listening socket; `bounded` gives every accepted connection the timeouts of this module."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bounded:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", RECEIVE_TIMEOUT, 0)
        )
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT, 0)
        )
    listener.bind((host, port))
    listener.listen(1024)
    return listener


def gunicorn_application(listener: socket.socket, threads: int, *, bounded: bool) -> Any:
    """A gunicorn application on a bound socket; `bounded` keeps waits out of its loop."""
    base = importlib.import_module("gunicorn.app.base")
    gthread = importlib.import_module("gunicorn.workers.gthread")
    close_graceful = importlib.import_module("gunicorn.util").close_graceful

    class StoppableWorker(gthread.ThreadWorker):  # type: ignore[misc, name-defined]
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # A second signal may interrupt this handler, and Event.set() takes a lock that it
            # would then wait for for ever: so the worker's own loop sets the event.
            self.method_queue.defer(stopping.set)
            super().handle_exit(sig, frame)

        def handle_quit(self, sig: int, frame: FrameType | None) -> None:
            self.handle_exit(sig, frame)

    class BoundedWorker(StoppableWorker):
        def handle(self, conn: Any) -> Any:
            # A silent connection waits in the poller instead of five seconds in a thread.
            if not (conn.initialized or conn.data_ready or conn.wait_for_data(0)):
                return gthread._DEFER
            kept = super().handle(conn)
            if kept is False:
                # Gunicorn lingers up to two seconds for the client's own close, in the loop that
                # accepts everyone; here it costs one thread, and the loop finds no more to wait for.
                with contextlib.suppress(OSError):
                    close_graceful(conn.sock.dup())
                    conn.sock.shutdown(socket.SHUT_RD)
            return kept

    class Application(base.BaseApplication):  # type: ignore[misc, name-defined]
        def load_config(self) -> None:
            for name, value in {
                "bind": f"fd://{listener.detach()}",
                "workers": 1,
                "worker_class": BoundedWorker if bounded else StoppableWorker,
                "threads": threads,
                "worker_connections": 2000,
                "keepalive": 15,
                "graceful_timeout": GRACE,
                "control_socket_disable": True,
                "loglevel": "warning",
                "accesslog": None,
            }.items():
                self.cfg.set(name, value)

        def load(self) -> Callable[..., Iterable[bytes]]:
            return load()

    return Application()


def start_gunicorn(host: str, port: int, threads: int) -> None:
    """Gunicorn as documented: an arbiter and one gthread worker."""
    gunicorn_application(bound_socket(host, port, bounded=False), threads, bounded=False).run()


def start_bounded(host: str, port: int, threads: int) -> None:
    """The same, on a socket whose connections have timeouts."""
    gunicorn_application(bound_socket(host, port, bounded=True), threads, bounded=True).run()


def start_single(host: str, port: int, threads: int) -> None:
    """The same worker on the same bounded socket, in this process, without an arbiter."""
    application = gunicorn_application(
        bound_socket(host, port, bounded=True), threads, bounded=True
    )
    cfg = application.cfg
    log = cfg.logger_class(cfg)
    sockets = importlib.import_module("gunicorn.sock").create_sockets(cfg, log)
    worker = cfg.worker_class(1, os.getppid(), sockets, application, cfg.timeout, cfg, log)
    worker.init_process()
    sys.stderr.flush()
    os._exit(0)


def start_granian(host: str, port: int, threads: int) -> None:
    """Granian with one WSGI worker, which is a second process."""
    granian = importlib.import_module("granian")
    constants = importlib.import_module("granian.constants")
    settings = importlib.import_module("granian.http").HTTP1Settings

    class Server(granian.Granian):  # type: ignore[misc, name-defined]
        def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
            stopping.set()
            super().signal_handler_interrupt(*args, **kwargs)

    Server(
        "servers_app",
        address=host,
        port=port,
        interface=constants.Interfaces.WSGI,
        blocking_threads=threads,
        backlog=2048,
        http=constants.HTTPModes.http1,
        http1_settings=settings(header_read_timeout=RECEIVE_TIMEOUT * 1000),
        workers_kill_timeout=GRACE,
        log_level=importlib.import_module("granian.log").LogLevels.warning,
    ).serve(target_loader=load, wrap_loader=False)


def start_waitress(host: str, port: int, threads: int) -> None:
    """Waitress, for Windows; SIGTERM is turned into the orderly end that it lacks."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    listener = bound_socket(host, port, bounded=False)
    importlib.import_module("waitress").serve(
        load(),
        sockets=[listener],
        threads=threads,
        channel_request_lookahead=1,
        connection_limit=2000,
        backlog=1024,
        asyncore_use_poll=True,
        outbuf_high_watermark=1 << 20,
        channel_timeout=RECEIVE_TIMEOUT,
        cleanup_interval=1,
    )


STARTERS: dict[str, tuple[str, Callable[[str, int, int], None]]] = {
    "gunicorn": ("gunicorn", start_gunicorn),
    "bounded": ("gunicorn", start_bounded),
    "single": ("gunicorn", start_single),
    "granian": ("granian", start_granian),
    "waitress": ("waitress", start_waitress),
}
"""The servers by name: the distribution that must be installed, and what starts it."""

if __name__ == "__main__":
    threading.current_thread().name = "main"
    STARTERS[sys.argv[1]][1](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
