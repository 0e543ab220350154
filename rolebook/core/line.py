"""The line before an upstream: which cells are called next, from so many places as there may be calls at once.

It also knows when there is no sense in calling any: a server that is down would make a failed cell of each, one by one,
as each has the patience of a call that nobody sits before. Where others stand in for it, they have to be down as well:
one that only takes no more calls for now will answer soon.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rolebook.core.comparison import Break, CellKey
from rolebook.core.session import Turn, TurnError, TurnStatus

#: So many cells are being filled for each place: one is called, the next gets ready.
_CELLS_PER_PLACE = 2
#: So many calls in a row, for so long since the first of them failed: then nobody is answered any more. Calls that were
#: under way together, and so fail together, say no more of a server than that it was away for once, or loads a model.
_UNANSWERED_CALLS, _UNANSWERED_S = 5, 5.0
#: A refused key, or one with nothing left to spend, is not accepted a moment later either.
_LASTING = {"upstream_key", "upstream_quota"}
#: What a call that was not made says is only that others got no answer, and not why.
_SPARED = "upstream_silent"
_UNASKED = {"upstream_connection", _SPARED, *_LASTING}
#: A limit of time passed: before the answer's first piece that is silence, after it the server is there.
_LATE = "upstream_timeout"
#: What shows that a server is there: an answer, if only the beginning of one, and errors that it has told itself.
_ANSWERED = {TurnStatus.COMPLETE, TurnStatus.INTERRUPTED}
_REFUSED = "upstream_refused"
_ANSWERS = {_REFUSED, "upstream_rate", "upstream_server", "upstream_reply"}
#: With these a server in front says that the one behind it is not there; those from 520 on are Cloudflare's.
_NOBODY_BEHIND = {502, 503, 504, 521, 522, 523, 524}


class Place:
    """A place at an upstream, or in the line for one. To be used by one thread.

    Arguments:
        upstream: whose place it is.
        give_back: called once, when the cell needs it no longer.
    """

    def __init__(self, upstream: str, give_back: Callable[[Place], None]) -> None:
        self.upstream = upstream
        self._give_back = give_back
        self.is_needed = True
        """Whether it has not been given back."""
        self.is_free = False
        """Whether calls may be made from it."""
        # An event has a lock of its own, at which whoever is woken meets whoever wakes.
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self) -> None:
        """Wait until calls may be made from it."""
        with self._gate:
            pass

    def open(self) -> None:
        """Let calls be made from it."""
        self.is_free = True
        self._gate.release()

    def give_back(self) -> None:
        """Let the next cell have it. Calling it again does nothing."""
        if self.is_needed:
            self.is_needed = False
            self._give_back(self)


class Line:
    """The cells that one upstream is to answer, in the order in which they are called. Safe for threads.

    Arguments:
        keys: the cells; none where it only judges.
        places: so many calls are made at once.
        clock: seconds that only ever go forward.
    """

    def __init__(
        self,
        upstream: str,
        keys: Sequence[CellKey],
        places: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.upstream = upstream
        self.is_closed = False
        """Whether nothing more is called."""
        self._clock = clock
        self._unanswered: list[TurnError] = []
        self._unanswered_since = 0.0
        self._lock = threading.Lock()
        self._keys = deque(keys)
        self._free = places
        self._waiting: deque[Place] = deque()
        self.fillers = min(len(keys), places * _CELLS_PER_PLACE)
        """So many cells are being filled at a time."""

    def begin(self) -> tuple[CellKey, Place] | None:
        """The next cell, and what will be its place; ``None`` if all have begun, or none may any more."""
        with self._lock:
            if self.is_closed or not self._keys:
                return None
            return self._keys.popleft(), self._add()

    def join(self) -> Place:
        """What will be a place for somebody whose cell has another one: a judge's, behind all who wait by now."""
        with self._lock:
            # Nobody waits in a line that is closed.
            self._free += self.is_closed
            return self._add()

    def _add(self) -> Place:
        place = Place(self.upstream, self._give_back)
        self._waiting.append(place)
        self._give_out()
        return place

    def note_end(self, turn: Turn) -> Break | None:
        """A call has ended. Returns why there is no sense in another one, as soon as that is so."""
        error = turn.error
        with self._lock:
            if self.is_closed:
                return None
            if turn.status is TurnStatus.FAILED and error and _is_unanswered(error):
                return self._note_unanswered(error)
            if turn.status in _ANSWERED or (error and any(map(_is_answer, _asked(error)))):
                self._unanswered.clear()
            return None

    def _note_unanswered(self, error: TurnError) -> Break | None:
        now = self._clock()
        self._unanswered_since = self._unanswered_since if self._unanswered else now
        self._unanswered.append(error)
        errors, for_s = self._unanswered, now - self._unanswered_since
        is_lasting = all(map(_is_lasting, errors))
        if len(errors) < _UNANSWERED_CALLS or not (is_lasting or for_s >= _UNANSWERED_S):
            return None
        told = [error for error in errors if error.code != _SPARED] or errors
        return Break(told[-1], self.upstream, calls=len(errors))

    @property
    def left_out(self) -> Sequence[CellKey]:
        """The cells that will never begin."""
        return tuple(self._keys) if self.is_closed else ()

    def close(self) -> None:
        """Begin no other cell, and let nobody wait any longer, because nothing will be called."""
        with self._lock:
            self.is_closed = True
            self._free += len(self._waiting)
            self._give_out()

    def _give_back(self, place: Place) -> None:
        with self._lock:
            if place.is_free:
                self._free += 1
                self._give_out()
            else:
                self._waiting.remove(place)

    def _give_out(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().open()


def _asked(error: TurnError) -> Sequence[Mapping[str, Any]]:
    """What came of asking the upstream, and then of asking each that was to stand in for it."""
    return [{**error.parameters, "code": error.code}, *(error.parameters.get("others") or ())]


def _is_unanswered(error: TurnError) -> bool:
    """Whether the call has failed because nobody could be asked, or has said anything.

    One that was to stand in and refuses the request is no more help than one that is not there.
    """
    first, *others = _asked(error)
    return _is_away(first) and all(_is_away(o) or o["code"] == _REFUSED for o in others)


def _is_lasting(error: TurnError) -> bool:
    """The same, for reasons that no waiting mends."""
    first, *others = _asked(error)
    return first["code"] in _LASTING and all(o["code"] in {*_LASTING, _REFUSED} for o in others)


def _is_away(outcome: Mapping[str, Any]) -> bool:
    if outcome["code"] == _LATE:
        return not outcome.get("has_begun")
    return outcome["code"] in _UNASKED or outcome.get("status") in _NOBODY_BEHIND


def _is_answer(outcome: Mapping[str, Any]) -> bool:
    """Whether one has said something."""
    if outcome.get("status") in _NOBODY_BEHIND:
        return False
    return outcome["code"] in _ANSWERS or (
        outcome["code"] == _LATE and bool(outcome.get("has_begun"))
    )
