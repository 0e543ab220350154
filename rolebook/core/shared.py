"""What several processes of one server count together: how often a key calls, and how many calls run at once.

Made before the processes are forked from one, which is how they come to share it. What a process holds is given back by
the system when it ends, however it ends.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rolebook.core.budget import Spending

_PLACES = 16_384
#: A number is found in one of so many places. When others that still count have all of them, it takes that of the one
#: that will be forgotten first.
_WAYS = 16
_GROUPS = _PLACES // _WAYS
#: For so many names, each in so many processes, somebody may wait at once.
_CLAIMS = 256
#: Of so many API keys a process tells what they have used; more turns than that are not kept in memory.
_ROWS = 2048


class Told(NamedTuple):
    """What a process tells of itself.

    ``taken`` are the connections of clients that it got so far, ``ended`` those that it is done with; ``told_at_ms`` is
    when it told this, by a clock that is the same in all processes.
    """

    taken: int = 0
    ended: int = 0
    live_turns: int = 0
    unwritten_turns: int = 0
    told_at_ms: int = 0


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

    def acquire_first(self, numbers: Iterable[int]) -> int | None:
        """The first of these locks that is nobody's, which is ours now; None if there is none."""
        return next((number for number in numbers if self.acquire(number, waits=False)), None)

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


class SharedCounts:
    """A number of each of some processes, of which any can tell the sum; that of one that has ended counts no more."""

    def __init__(self) -> None:
        self._locks = _Locks()
        self._numbers = memoryview(mmap.mmap(-1, 8 * _CLAIMS)).cast("q")
        self._own: int | None = None

    def set(self, number: int) -> None:
        """What is the number of this process from now on. By one thread at a time."""
        if self._own is None and number:
            self._own = self._locks.acquire_first(range(_CLAIMS))
        if self._own is not None:
            self._numbers[self._own] = number

    def sum_of_others(self) -> int:
        """The numbers of all other processes that run."""
        return sum(
            number
            for place, number in enumerate(self._numbers)
            if number and place != self._own and not self._is_left(place)
        )

    def _is_left(self, place: int) -> bool:
        if not self._locks.acquire(place, waits=False):
            return False
        self._numbers[place] = 0
        self._locks.release(place)
        return True


class SharedSpending:
    """What API keys have used in each of some processes that the log does not tell, of which any can tell the sum; that
    of a process that has ended counts no more.
    """

    def __init__(self) -> None:
        self._locks = _Locks()
        self._own: int | None = None
        self._rows: dict[int, int] = {}
        self._in_use = memoryview(mmap.mmap(-1, 8 * _CLAIMS)).cast("q")
        self._keys = memoryview(mmap.mmap(-1, 8 * _CLAIMS * _ROWS)).cast("q")
        self._width = len(Spending().amounts)
        self._amounts = memoryview(mmap.mmap(-1, 8 * _CLAIMS * _ROWS * self._width)).cast("d")

    def set(self, key: int, spent: Spending) -> None:
        """What the key with this number has used in this process beside what the log tells. By one thread at a time."""
        if spent == Spending():
            if key in self._rows:
                self._keys[self._rows.pop(key)] = 0
            return
        row = self._rows.get(key)
        if row is None:
            row = self._free_row()
        # There are more rows than turns that are kept in memory.
        if row is not None:
            begin = row * self._width
            self._amounts[begin : begin + self._width] = array("d", spent.amounts)
            self._keys[row], self._rows[key] = key, row

    def _free_row(self) -> int | None:
        if self._own is None:
            self._own = self._locks.acquire_first(range(_CLAIMS))
            if self._own is None:
                return None
            self._in_use[self._own] = 0
        taken, begin = set(self._rows.values()), self._own * _ROWS
        row = next((row for row in range(begin, begin + _ROWS) if row not in taken), None)
        if row is not None:
            self._in_use[self._own] = max(self._in_use[self._own], row - begin + 1)
        return row

    def sum_of_others(self, key: int) -> Spending:
        """What a key has used in all other processes that run."""
        spent = Spending()
        for place, count in enumerate(self._in_use):
            if count and place != self._own and not self._is_left(place):
                begin = place * _ROWS
                for row, number in enumerate(self._keys[begin : begin + count], begin):
                    if number == key:
                        amounts = self._amounts[row * self._width : (row + 1) * self._width]
                        spent += Spending.of_amounts(amounts)
        return spent

    def _is_left(self, place: int) -> bool:
        if not self._locks.acquire(place, waits=False):
            return False
        self._in_use[place] = 0
        self._locks.release(place)
        return True


class SharedPlaces:
    """So many places for each of many names, each taken by one call at a time; who has waited longer goes first.

    No process tells another that a place is free, so that whoever waits has to look now and then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks = _Locks()
        self._taken: set[int] = set()
        # A claim is a process's that waits: for which name, and since when. Its lock says that the process is alive.
        memory = memoryview(mmap.mmap(-1, 16 * _CLAIMS))
        self._waiting_for = memory[: 8 * _CLAIMS].cast("q")
        self._waiting_since = memory[8 * _CLAIMS :].cast("d")
        self._claims: dict[int, int] = {}

    def take(self, names: Sequence[str], most: int, since: float) -> tuple[int, int] | None:
        """A place of one of the names, the first that has one, as the number of the name and that of the place. None if
        there is none left, but for those of other processes who have waited longer.

        Arguments:
            most: how many places each name has.
            since: when the caller began to wait, in seconds of a clock that is the same in all processes.
        """
        with self._lock:
            is_line = any(self._waiting_for)
            for position, name in enumerate(names):
                number = _number_of(name)
                ahead = self._count_ahead(number, since) if is_line else 0
                found: list[int] = []
                for place in range(number << 20, (number << 20) + most):
                    if place not in self._taken and self._locks.acquire(place, waits=False):
                        self._taken.add(place)
                        found.append(place)
                        if len(found) > ahead:
                            break
                is_enough = len(found) > ahead
                for place in found[is_enough:]:
                    self._give_back(place)
                if is_enough:
                    return position, found[0]
        return None

    def give_back(self, place: int) -> None:
        """Another call may take it."""
        with self._lock:
            self._give_back(place)

    def _give_back(self, place: int) -> None:
        self._taken.discard(place)
        self._locks.release(place)

    def wait(self, names: Collection[str], since: float) -> None:
        """Let others know for which places the first in line of this process waits, and since when: for these alone."""
        numbers = {_number_of(name) for name in names}
        with self._lock:
            for number in self._claims.keys() - numbers:
                self._wipe(self._claims.pop(number))
            for number in numbers:
                if number not in self._claims:
                    own = self._claims.values()
                    free = (claim for claim in range(_CLAIMS) if claim not in own)
                    if (claim := self._locks.acquire_first(free)) is not None:
                        self._claims[number] = claim
                # If none is free, so many wait that this one is served when it looks at the right moment.
                if (claim := self._claims.get(number)) is not None:
                    self._waiting_since[claim] = since
                    self._waiting_for[claim] = number

    def _count_ahead(self, number: int, since: float) -> int:
        count = 0
        for claim, waiting_for in enumerate(self._waiting_for):
            is_ours = self._claims.get(number) == claim
            if waiting_for != number or is_ours or self._waiting_since[claim] >= since:
                continue
            if self._locks.acquire(claim, waits=False):
                # Whoever waited has ended without a word.
                self._wipe(claim)
            else:
                count += 1
        return count

    def _wipe(self, claim: int) -> None:
        self._waiting_for[claim] = 0
        self._locks.release(claim)


def _number_of(name: str) -> int:
    """What stands for a name among processes; not 0, so that no place is a claim."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:5]) | 1
