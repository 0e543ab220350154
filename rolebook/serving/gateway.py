"""The gateway process: it answers ``/v1`` alone, and hands back each connection on which something else is asked."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Flask

from rolebook.serving import crossing
from rolebook.serving.routing import RoutingWorker
from rolebook.serving.worker import Service, make_worker

#: While the main process has no room for a connection: how soon it is tried again, and for how long altogether.
_AGAIN_S = 0.005
_LONGEST_WAIT_S = 60.0


def answer(
    app: Flask,
    way: socket.socket,
    *,
    threads: int,
    tell: Callable[[int, int], None],
    service: Service,
    on_ready: Callable[[], None],
) -> None:
    """Serve `app` to the connections that come by `way`, until the process at its other end says so or has ended.

    Arguments:
        tell: called again and again with how many connections it got so far, and how many it is done with; at least
            once a second, unless the process hangs.
        service: as for :func:`rolebook.serving.server.serve`; so is ``on_ready``.
    """

    def ready() -> None:
        on_ready()
        tell(0, 0)
        crossing.send(way, crossing.READY, rest=b"%d" % os.getpid())

    def stop() -> None:
        crossing.send(way, crossing.ENDING)
        service.stop()

    # That the way is closed says that the process has ended, so this end of it stays open until then.
    worker = make_worker(
        GatewayWorker,
        app,
        [way.dup()],
        threads=threads,
        on_ready=ready,
        on_look=service.tidy,
        on_stop=stop,
    )
    worker.tell = tell
    worker.init_process()
    service.close()


class GatewayWorker(RoutingWorker):
    """Gets its connections from the main process instead of a listening socket."""

    tell: Callable[[int, int], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._way: socket.socket = self.sockets[0]
        self._taken = 0
        self._is_alone = False
        #: What is to be handed back, oldest first, and until when that is tried.
        self._leaving: deque[tuple[Any, float]] = deque()

    def notify(self) -> None:
        super().notify()
        self._tell()

    def _tell(self) -> None:
        self.tell(self._taken, self._taken - self.nr_conns)

    def accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            while (message := crossing.receive(listener)) is not None:
                if message.kind == crossing.STOP:
                    self.handle_exit(signal.SIGTERM, None)
                    continue
                self._taken += message.kind == crossing.CONNECTION
                if message.client is not None:
                    # At once: from here on nobody else can go on with it.
                    self._tell()
                    self.take(message)
            self._end_alone(listener)

    def _end_alone(self, listener: socket.socket) -> None:
        """The main process has ended: without a word, or because it would not wait any longer."""
        if not self.alive:
            os._exit(0)
        self._is_alone = True
        self.poller.unregister(listener)
        self.handle_exit(signal.SIGTERM, None)

    def set_accept_enabled(self, enabled: bool) -> None:
        # What is on its way when it ends is answered too.
        if not self._is_alone:
            super().set_accept_enabled(enabled or not self.alive)

    def is_for_others(self, begin: bytes) -> bool:
        return not crossing.is_for_gateway(begin)

    def hand_over(self, conn: Any) -> bool:
        self._leaving.append((conn, time.monotonic() + _LONGEST_WAIT_S))
        self._hand_back()
        return True

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, _AGAIN_S) if self._leaving else timeout)
        self._hand_back()

    def _hand_back(self) -> None:
        """Hand over what is leaving, as far as the main process has room for it now."""
        while self._leaving:
            conn, until = self._leaving[0]
            rest = crossing.rest_of(conn)
            is_given = crossing.send(
                self._way, crossing.CONNECTION, client=conn.sock.fileno(), rest=rest
            )
            # If it cannot be taken at all, it ends here: what this process knows is not what was asked for.
            is_hopeless = self._is_alone or not crossing.can_cross(rest)
            if not (is_given or is_hopeless or time.monotonic() > until):
                break
            self._leaving.popleft()
            self.let_go(conn)
