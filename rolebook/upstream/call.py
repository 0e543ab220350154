"""One call as its reader and its waiter see it: how long it may still take, and how it is cut off.

A call is read by a thread of its own. Whatever happens below the openai client, in the transport, finds its call
with :func:`current_call`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, Self

from rolebook.core.blocking import blocking
from rolebook.core.completion import Delivery, Suspend
from rolebook.core.errors import UpstreamTimeoutError
from rolebook.core.upstream import Timeouts

#: A context, not a thread: one thread may carry many streams by turns.
_current: ContextVar[Call | None] = ContextVar("call", default=None)


class CallCut(Exception):
    """The call was cut off on purpose."""


class Wire(Protocol):
    """What a call holds while it reads: a connection that can be shut from another thread."""

    def shut(self, call: Call) -> None:
        """End every read and write of ``call`` at once; nothing if another call uses the connection by now."""


class Call:
    """The clock of one HTTP call, and the handle to cut it off.

    Three limits hold at once, by the clock and not by the read, so that drip-fed bytes evade none of them:
    the first piece of an answer (comments, blank lines and events without content that only keep the connection alive
    are none) within ``first_byte_s``; after it a sign of life, a comment included, every ``idle_s``; the end before
    ``deadline``.

    Arguments:
        deadline: ``time.monotonic()`` after which the whole attempt is too late.
        suspend: asked before it waits for more.
        delivery: learns that the request goes out.
        is_whole: whether an answer is asked for that comes in one piece, when all of it is there.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        deadline: float,
        suspend: Suspend | None = None,
        delivery: Delivery | None = None,
        is_whole: bool = False,
    ) -> None:
        self.timeouts = timeouts
        self.has_begun = False
        self.is_sent = False
        """Whether the request has reached the transport: what fails before is our own fault."""
        self.before_waiting: Callable[[], None] = _nothing
        """Called by the reading thread whenever it is about to wait for more."""
        self.suspend = suspend
        self._deadline = deadline
        self._due = time.monotonic() + timeouts.first_byte_s
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._delivery = delivery or Delivery()
        self._is_whole = is_whole
        self._cut = threading.Event()

    def __enter__(self) -> Self:
        _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.set(None)

    def touch(self) -> None:
        """Something of the answer has arrived: the idle limit counts from now."""
        self.has_begun = True
        self._due = time.monotonic() + self.timeouts.idle_s

    def hurry(self, seconds: float) -> None:
        """What is still to come is of no use but for keeping the connection; give it little time."""
        self._due = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Seconds until a limit passes; below zero once one has."""
        return min(self._due, self._deadline) - time.monotonic()

    def until_deadline_s(self) -> float:
        """Seconds until the whole call is too late."""
        return self._deadline - time.monotonic()

    def patience_s(self) -> float:
        """Seconds that one read or write may block. Raises CallCut or UpstreamTimeoutError when there are none."""
        if self._cut.is_set():
            raise CallCut
        remaining_s = self.remaining_s()
        if remaining_s <= 0:
            raise self.timeout_error()
        return remaining_s

    def timeout_error(self) -> UpstreamTimeoutError:
        """The error that says which limit has passed."""
        if self._deadline <= self._due:
            return UpstreamTimeoutError(
                "%(upstream)s did not finish within %(seconds)g s. "
                "Ask for a shorter answer, or allow it more time in the settings of the upstream.",
                seconds=self.timeouts.total_s,
                has_begun=self.has_begun,
            )
        if self.has_begun:
            return UpstreamTimeoutError(
                "%(upstream)s stopped in the middle of its answer: nothing came for %(seconds)g s. Try again.",
                seconds=self.timeouts.idle_s,
                has_begun=True,
            )
        if self._is_whole:
            return UpstreamTimeoutError(
                "%(upstream)s has not answered within %(seconds)g s. An answer that is not streamed comes only when"
                " all of it is there: ask for a stream or a shorter one, or allow it more time (first_byte) in its"
                " settings.",
                seconds=self.timeouts.first_byte_s,
            )
        return UpstreamTimeoutError(
            "%(upstream)s did not begin to answer within %(seconds)g s. "
            "It may be busy or still loading the model: try again, or allow it more time in its settings.",
            seconds=self.timeouts.first_byte_s,
        )

    def use(self, wire: Wire) -> None:
        """From now on the call reads and writes on ``wire``. Raises CallCut if it is too late for that."""
        with self._lock:
            if self._cut.is_set():
                raise CallCut
            self._wire = wire
            self._delivery.is_made = True

    def pause(self, seconds: float) -> None:
        """Sleep, for transports without a wire. Raises CallCut as soon as the call is cut off."""
        self.before_waiting()
        with blocking():
            is_cut = self._cut.wait(seconds)
        if is_cut:
            raise CallCut

    @property
    def is_cut(self) -> bool:
        """Whether ``cut`` was called."""
        return self._cut.is_set()

    def cut(self) -> None:
        """End the call at once, from any thread."""
        with self._lock:
            self._cut.set()
            wire = self._wire
        if wire is not None:
            wire.shut(self)


def _nothing() -> None:
    pass


def current_call() -> Call:
    """The call that is being read here."""
    call = _current.get()
    assert call is not None
    return call
