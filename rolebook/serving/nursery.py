"""A process that does nothing but fork others: the server itself has threads, whose locks a fork would leave closed."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from rolebook.serving import crossing

_logger = logging.getLogger(__name__)

#: What a new process does: with its way to the process that has asked for it, and a number.
Work = Callable[[socket.socket, int], None]


class Nursery:
    """Makes processes whenever they are needed. To be made itself before there are threads, files and connections.

    It and all that it has made share the memory of what was loaded until then. It ends with the process that has made
    it, however that ends.

    Arguments:
        prepare: called in it at once, to load what all of its processes will need.
        work: what each of these does.
    """

    def __init__(self, prepare: Callable[[], None], work: Work) -> None:
        # What is there will stay: not to be looked through, and so not copied either.
        gc.collect()
        gc.freeze()
        #: Closed at its other end when the nursery has ended; it never says anything by it.
        self.way, other = crossing.pair()
        if os.fork() == 0:
            self.way.close()
            _nurse(other, prepare, work)
        other.close()

    def make(self, way: socket.socket, number: int) -> None:
        """Have a process made that works with one end of a way. If it cannot be, the other end finds it closed."""
        crossing.send(self.way, crossing.CONNECTION, client=way.fileno(), rest=b"%d" % number)


def _nurse(way: socket.socket, prepare: Callable[[], None], work: Work) -> NoReturn:
    # It is not asked to end, but finds that nobody needs it any more.
    hangup = signal.getsignal(signal.SIGHUP)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    try:
        prepare()
        while (message := crossing.receive(way, flags=0)) is not None:
            if message.client is not None:
                if _fork() == 0:
                    way.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    # Whether the end of the terminal is ignored, the worker still has to see; it sets the others.
                    signal.signal(signal.SIGHUP, hangup)
                    _end_with(work, message.client, int(message.rest))
                message.client.close()
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def _fork() -> int:
    """As ``os.fork``; -1 where the system has no room for another process. Whoever has asked for it asks again."""
    try:
        return os.fork()
    except OSError as error:
        _logger.error("a gateway process cannot be started, and is tried again: %s", error.strerror)
        return -1


def _end_with(work: Work, way: socket.socket, number: int) -> NoReturn:
    status = 1
    try:
        work(way, number)
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
