"""The line before an upstream: which cells are called next, from so many places as there may be calls at once.

It also knows when there is no sense in calling any: a server that is down would make a failed cell of each, one by one,
as each has the patience of a call that nobody sits before.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from rolebook.core.comparison import Cell, CellKey
from rolebook.core.errors import Phrase, UpstreamSilentError
from rolebook.core.session import Turn, TurnStatus

#: So many cells are being filled for each place: one is called, the next gets ready.
_CELLS_PER_PLACE = 2
#: So many cells in a row, for so long since the first of their calls: then nobody is answered any more.
_UNANSWERED_CELLS, _UNANSWERED_S = 5, 5.0
#: A refused key, or one with nothing left to spend, is not accepted a moment later either.
_LASTING = {"upstream_key", "upstream_quota"}
#: What shows that a server is there: an answer, if only the beginning of one, and errors that it has told itself.
_ANSWERED = {TurnStatus.COMPLETE, TurnStatus.INTERRUPTED}
_ANSWERS = {"upstream_refused", "upstream_rate", "upstream_server", "upstream_reply"}


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
        clock: seconds that only ever go forward.
    """

    def __init__(
        self, keys: Sequence[CellKey], places: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._unanswered: list[Turn] = []
        self._unanswered_since = 0.0
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

    def note_end(self, cell: Cell) -> None:
        """A cell has ended. Raises UpstreamSilentError if there is no sense in calling any other."""
        if not cell.turns:
            return
        last = cell.turns[-1]
        with self._lock:
            if cell.is_unasked:
                self._note_unanswered(last)
            elif last.status in _ANSWERED or (last.error and last.error.code in _ANSWERS):
                self._unanswered.clear()

    def _note_unanswered(self, turn: Turn) -> None:
        began = self._clock() - (turn.duration_ms or 0.0) / 1000
        self._unanswered_since = min(began, self._unanswered_since) if self._unanswered else began
        self._unanswered.append(turn)
        for_s = self._clock() - self._unanswered_since
        errors = [turn.error for turn in self._unanswered if turn.error]
        is_lasting = all(error.code in _LASTING for error in errors)
        if len(errors) >= _UNANSWERED_CELLS and (is_lasting or for_s >= _UNANSWERED_S):
            # What a call that was not made says is only that others got no answer, and not why.
            told = [error for error in errors if error.code != UpstreamSilentError.code] or errors
            raise UpstreamSilentError(
                "%(upstream)s gives no answers: %(count)d cells in a row failed. %(reason)s What was answered is kept; "
                "the rest can be asked later.",
                upstream=turn.upstream,
                count=len(errors),
                reason=Phrase(told[-1].message, told[-1].parameters),
            )

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
