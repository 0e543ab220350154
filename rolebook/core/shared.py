"""What several processes of one server count together: how often a key calls, and how many calls run at once.

Made before the processes are forked from one, which is how they come to share it. What a process holds is given back by
the system when it ends, however it ends.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_PLACES = 16_384
#: A number is found in one of so many places. When others that still count have all of them, it takes that of the one
#: that will be forgotten first.
_WAYS = 16
_GROUPS = _PLACES // _WAYS


class Told(NamedTuple):
    """What a process tells of itself.

    ``taken`` are the connections of clients that it got so far, ``ended`` those that it is done with.
    """

    taken: int = 0
    ended: int = 0
    live_turns: int = 0
    unwritten_turns: int = 0


class SharedNumbers:
    """What each of some processes last told of itself; nobody has to be asked for it, nor to answer."""

    def __init__(self, count: int) -> None:
        self._width = len(Told._fields)
        self._numbers = memoryview(mmap.mmap(-1, 8 * self._width * count)).cast("q")

    def __getitem__(self, number: int) -> Told:
        begin = number * self._width
        return Told(*self._numbers[begin : begin + self._width])

    def __setitem__(self, number: int, told: Told) -> None:
        for at, value in enumerate(told, number * self._width):
            self._numbers[at] = value


class _Locks:
    """Locks that one process can hold at a time, by number. They are of the process, not of a thread."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("rolebook-locks")

    def acquire(self, number: int, *, waits: bool) -> bool:
        """Whether the lock is ours now."""
        import fcntl

        operation = fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            fcntl.lockf(self._descriptor, operation, 1, number)
        except OSError:
            return False
        return True

    def release(self, number: int) -> None:
        """It is nobody's."""
        import fcntl

        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)


class SharedRates:
    """At most so many events in so many seconds for each of many numbers, as :class:`rolebook.core.budget.RateLimit`.

    Of each number it is kept when its bucket will be full again; what is over by then need not be remembered.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, 16 * _PLACES))
        self._numbers = memory[: 8 * _PLACES].cast("q")
        self._full_at = memory[8 * _PLACES :].cast("d")
        self._lock = threading.Lock()
        self._locks = _Locks()

    def take(self, number: int, count: int, seconds: float, moment: float) -> float:
        """Let an event pass, or say in how many seconds one could; 0: it has passed.

        Arguments:
            number: whose event it is; not 0.
            moment: seconds of a clock that only goes forward and is the same in all processes.
        """
        with self._lock, self._held():
            place = self._place(number, moment)
            begin = moment if self._numbers[place] != number else max(self._full_at[place], moment)
            full_at = begin + seconds / count
            wait_s = full_at - moment - seconds
            # A bucket that has just been filled is full, whatever is lost in rounding.
            if wait_s > 1e-9:
                return wait_s
            self._numbers[place], self._full_at[place] = number, full_at
            return 0.0

    @contextmanager
    def _held(self) -> Iterator[None]:
        self._locks.acquire(0, waits=True)
        try:
            yield
        finally:
            self._locks.release(0)

    def _place(self, number: int, moment: float) -> int:
        begin = number % _GROUPS * _WAYS
        places = range(begin, begin + _WAYS)
        for place in places:
            if self._numbers[place] == number:
                return place
        return min(places, key=lambda place: self._full_at[place])


class SharedPlaces:
    """So many places for each of many names, each taken by one call at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks = _Locks()
        self._taken: set[int] = set()

    def take(self, name: str, most: int) -> int | None:
        """A place of a name, of which there are ``most``; None if all are taken."""
        begin = int.from_bytes(hashlib.sha256(name.encode()).digest()[:5]) << 20
        with self._lock:
            for place in range(begin, begin + most):
                if place not in self._taken and self._locks.acquire(place, waits=False):
                    self._taken.add(place)
                    return place
        return None

    def give_back(self, place: int) -> None:
        """Another call may take it."""
        with self._lock:
            self._taken.discard(place)
            self._locks.release(place)
