"""The gateway processes, which answer ``/v1``, as the main process sees them."""

from __future__ import annotations

import http
import http.client
import logging
import os
import select
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rolebook.core.blocking import blocking
from rolebook.core.shared import SharedNumbers, Told
from rolebook.serving import crossing
from rolebook.serving.nursery import Nursery
from rolebook.serving.routing import RoutingWorker
from rolebook.serving.worker import GRACE

_logger = logging.getLogger(__name__)

#: One that ends is replaced after a moment, in which it may turn out that all are to end, and not more often than this.
_PAUSE_S = 1.0
_SHORTEST_LIFE_S = 5.0
#: Each tells of itself every second: one that has not for so long hangs.
_SILENCE_S = 5.0
#: How long it may take, beyond the grace, to write and close what is open.
_CLOSING_S = 5.0
#: Within this time all answer what they are asked, or are done without.
_PATIENCE_S = 2.0


@dataclass(slots=True, eq=False)
class _Gateway:
    """One process.

    ``given`` counts the connections that were sent to it. Those that it has not taken yet are kept in ``sent``, with
    what was read of them: if it ends before, another one goes on with them.
    """

    number: int
    way: socket.socket
    process_id: int = 0
    is_ready: bool = False
    is_ending: bool = False
    hangs: bool = False
    given: int = 0
    sent: deque[tuple[socket.socket, bytes]] = field(default_factory=deque)

    def forget(self, taken: int) -> None:
        """Let go of what it has taken."""
        while self.given - len(self.sent) < taken and self.sent:
            self.sent.popleft()[0].close()


class Gateways:
    """Starts the processes, gives them connections and replaces those that have ended, as long as the nursery lives.

    All but what is said to be for any thread belongs to that of the server's loop.

    Arguments:
        nursery: makes them.
        told: what each of them tells of itself.
        on_lost: called in a thread of its own when one has ended unasked, or several; as soon as there is room for it.
    """

    def __init__(
        self, nursery: Nursery, count: int, told: SharedNumbers, *, on_lost: Callable[[], None]
    ) -> None:
        self._nursery = nursery
        self._told = told
        self._on_lost = on_lost
        #: The numbers of all that there are to be.
        self.numbers: Collection[int] = range(count)
        self._due = dict.fromkeys(self.numbers, 0.0)
        self._gateways: list[_Gateway] = []
        self._has_lost = False
        self._is_stopping = False
        self._is_nursery_watched = False
        self._can_start = True

    def tend(
        self, poller: selectors.BaseSelector, take: Callable[[crossing.Message], None]
    ) -> None:
        """Start those that are not there and may be. ``take`` gets the connections that they hand back."""
        if not self._is_nursery_watched:
            self._is_nursery_watched = True
            ended = partial(self._do_without_nursery, poller)
            poller.register(self._nursery.way, selectors.EVENT_READ, ended)
        if self._has_lost:
            # What fills the system so that one has ended, may leave no room for a thread for now.
            with suppress(RuntimeError):
                threading.Thread(target=self._on_lost, daemon=True).start()
                self._has_lost = False
        moment = time.monotonic()
        for gateway in self._gateways:
            told = self._told[gateway.number]
            gateway.forget(told.taken)
            if gateway.is_ready:
                _note_whether_it_hangs(gateway, moment - told.told_at_ms / 1000)
        due = [] if self._is_stopping else [n for n, at in self._due.items() if at <= moment]
        for number in due:
            if self._due.pop(number):
                _logger.error("a gateway process has ended, so another one is started")
            self._start(number, poller, take)

    def _do_without_nursery(self, poller: selectors.BaseSelector, way: socket.socket) -> None:
        """It has ended. Another one cannot be had: this process has threads by now."""
        poller.unregister(way)
        self._can_start = False
        self._due.clear()
        if not self._is_stopping:
            _logger.error(
                "the process that starts the gateway processes has ended, so no further ones can be started until"
                " Rolebook is restarted; where none is left, the pages' process answers /v1"
            )

    def _start(
        self, number: int, poller: selectors.BaseSelector, take: Callable[[crossing.Message], None]
    ) -> None:
        way, other = crossing.pair()
        gateway = _Gateway(number, way)
        self._told[number] = Told()
        with other:
            self._nursery.make(other, number)
        self._gateways.append(gateway)
        again_at = time.monotonic() + _SHORTEST_LIFE_S
        heard = partial(self._hear, gateway, poller, take, again_at)
        poller.register(way, selectors.EVENT_READ, heard)

    def _hear(
        self,
        gateway: _Gateway,
        poller: selectors.BaseSelector,
        take: Callable[[crossing.Message], None],
        again_at: float,
        way: socket.socket,
    ) -> None:
        with suppress(BlockingIOError):
            while (message := crossing.receive(way)) is not None:
                match message.kind:
                    case crossing.READY:
                        gateway.process_id = int(message.rest)
                        gateway.is_ready = True
                    case crossing.ENDING:
                        gateway.is_ready, gateway.is_ending = False, True
                    case crossing.CONNECTION if message.client is not None:
                        take(message)
            poller.unregister(way)
            way.close()
            self._gateways.remove(gateway)
            gateway.forget(self._told[gateway.number].taken)
            for client, rest in gateway.sent:
                take(crossing.Message(crossing.CONNECTION, rest, client))
            if not self._is_stopping:
                if self._can_start:
                    self._due[gateway.number] = max(again_at, time.monotonic() + _PAUSE_S)
                self._has_lost = True

    def give(self, client: socket.socket, rest: bytes) -> bool:
        """Hand a connection to the least busy of those that do not hang; False if none can take it."""
        ready = [gateway for gateway in self._gateways if gateway.is_ready and not gateway.hangs]
        try:
            kept = client.dup()
        except OSError:
            return False
        for gateway in sorted(ready, key=lambda one: one.given - self._told[one.number].ended):
            if crossing.send(gateway.way, crossing.CONNECTION, client=kept.fileno(), rest=rest):
                gateway.given += 1
                gateway.sent.append((kept, rest))
                return True
        kept.close()
        return False

    def ask(
        self,
        method: str,
        path: str,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        but: Collection[int] = (),
    ) -> Mapping[int, bytes | None]:
        """What each of them answers, by its number; None of one that does not, or not in time. For any thread.

        All are asked before the first answer is waited for, so that it takes no longer however many hang; those that
        are known to hang are not asked. They see by the connection, a pair of sockets that nobody else could have, who
        asks.
        """
        ready = [gateway for gateway in self._gateways if gateway.is_ready]
        deadline = time.monotonic() + _PATIENCE_S
        with ExitStack() as stack, blocking():
            asked = {
                gateway.number: None
                if gateway.hangs
                else _ask(gateway.way, stack, method, path, body, headers or {})
                for gateway in ready
                if gateway.number not in but
            }
            return {number: _answer(connection, deadline) for number, connection in asked.items()}

    def told(self) -> Sequence[Told]:
        """What each of them has last told of itself. For any thread."""
        return [self._told[gateway.number] for gateway in list(self._gateways)]

    def stop(self) -> None:
        """Let them end their streams. Returns at once."""
        self._is_stopping = True
        for gateway in self._gateways:
            gateway.is_ready = False
            crossing.send(gateway.way, crossing.STOP)

    def wait(self) -> None:
        """Wait until they have ended, but no longer than they may take: then they are ended, those that have not even
        heard of it as soon as all streams would have.
        """
        left = {gateway.way.fileno(): gateway for gateway in self._gateways}
        _wait_for(left, GRACE)
        for gateway in left.values():
            if not gateway.is_ending:
                _end(gateway)
        _wait_for(left, _CLOSING_S)
        for gateway in left.values():
            _end(gateway)


def _wait_for(left: dict[int, _Gateway], seconds: float) -> None:
    """Take those away that end within this time, and hang up on whoever is handed back."""
    deadline = time.monotonic() + seconds
    waiting = select.poll()
    for descriptor in left:
        waiting.register(descriptor, select.POLLIN)
    while left and (rest_s := deadline - time.monotonic()) > 0:
        for descriptor, _ in waiting.poll(rest_s * 1000):
            message = crossing.receive(left[descriptor].way)
            if message is None:
                waiting.unregister(descriptor)
                del left[descriptor]
            elif message.kind == crossing.ENDING:
                left[descriptor].is_ending = True
            elif message.client:
                message.client.close()


def _end(gateway: _Gateway) -> None:
    """End one that has not ended by itself. As long as its way is open it is there, so that no other has its id."""
    if gateway.process_id:
        with suppress(ProcessLookupError):
            os.kill(gateway.process_id, signal.SIGKILL)


def _note_whether_it_hangs(gateway: _Gateway, silence_s: float) -> None:
    """And say so, as nobody could tell else why some clients wait."""
    hangs = silence_s > _SILENCE_S
    if hangs and not gateway.hangs:
        _logger.error(
            "gateway-%d has not been heard for %d s, so it gets no connections until it goes on",
            gateway.number + 1,
            silence_s,
        )
    elif gateway.hangs and not hangs:
        _logger.warning("gateway-%d goes on", gateway.number + 1)
    gateway.hangs = hangs


def _ask(
    way: socket.socket,
    stack: ExitStack,
    method: str,
    path: str,
    body: str,
    headers: Mapping[str, str],
) -> http.client.HTTPConnection | None:
    """The connection on which one has been asked, closed with the stack; None if it could not be."""
    connection = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1")))
    with suppress(OSError, http.client.HTTPException):
        connection.sock, other = socket.socketpair()
        connection.sock.settimeout(_PATIENCE_S)
        with other:
            if crossing.send(way, crossing.QUESTION, client=other.fileno()):
                connection.request(method, path, body or None, dict(headers))
                return connection
    return None


def _answer(connection: http.client.HTTPConnection | None, deadline: float) -> bytes | None:
    if connection is not None:
        with suppress(OSError, http.client.HTTPException):
            # What has come by then is read, though others have used up the time.
            connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            response = connection.getresponse()
            if response.status == http.HTTPStatus.OK:
                return response.read()
    return None


class PagesWorker(RoutingWorker):
    """Answers all but ``/v1``, and that too while no gateway process can."""

    gateways: Gateways

    def notify(self) -> None:
        super().notify()
        self.gateways.tend(self.poller, self.take)

    def is_for_others(self, begin: bytes) -> bool:
        return crossing.is_for_gateway(begin)

    def hand_over(self, conn: Any) -> bool:
        is_given = self.gateways.give(conn.sock, crossing.rest_of(conn))
        if is_given:
            self.let_go(conn)
        return is_given
