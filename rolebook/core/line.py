"""The line before an upstream: which cells are called next, from so many places as there may be calls at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from rolebook.core.comparison import CellKey

#: So many cells are being filled for each place: one is called, the next gets ready.
_CELLS_PER_PLACE = 2


class Place:
    """A cell's place at its upstream, or in the line for one. To be used by one thread.

    Arguments:
        give_back: called once, when the cell needs it no longer.
    """

    def __init__(self, give_back: Callable[[Place], None]) -> None:
        self._give_back = give_back
        self._is_needed = True
        self.is_free = threading.Event()
        """Set as soon as calls may be made from it."""

    def give_back(self) -> None:
        """Let the next cell have it. Calling it again does nothing."""
        if self._is_needed:
            self._is_needed = False
            self._give_back(self)


class Line:
    """The cells that one upstream is to answer, in the order in which they are called. Safe for threads.

    Arguments:
        places: so many calls are made at once.
    """

    def __init__(self, keys: Sequence[CellKey], places: int) -> None:
        self._lock = threading.Lock()
        self._keys = deque(keys)
        self._free = places
        self._waiting: deque[Place] = deque()
        self.fillers = min(len(keys), places * _CELLS_PER_PLACE)
        """So many cells are being filled at a time."""

    def begin(self) -> tuple[CellKey, Place] | None:
        """The next cell, and what will be its place; ``None`` if all have begun."""
        with self._lock:
            if not self._keys:
                return None
            place = Place(self._give_back)
            self._waiting.append(place)
            self._give_out()
            return self._keys.popleft(), place

    def open(self) -> None:
        """Let nobody wait any longer, because nothing will be called."""
        with self._lock:
            self._free += len(self._waiting) + self.fillers
            self._give_out()

    def _give_back(self, place: Place) -> None:
        with self._lock:
            if place.is_free.is_set():
                self._free += 1
                self._give_out()
            else:
                self._waiting.remove(place)

    def _give_out(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().is_free.set()
