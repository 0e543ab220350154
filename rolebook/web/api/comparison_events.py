"""A comparison while it runs, for programs: progress and ended cells as server-sent events.

An event that has an id says how far its reader is: which run, and how many cells had ended there. Whoever comes back
with it is told of those that ended since. Where that is not known any more (another run, or Rolebook has been started
anew) he is told of all, as whoever comes for the first time is: a cell may come twice, and none is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from rolebook.core.comparison import Cell, CellKey, CellOutline, CellStatus, Comparison
from rolebook.core.run import CellEnded, Run, RunEnded
from rolebook.storage.encoding import encode_json
from rolebook.web.api.operation import plain
from rolebook.web.comparison_stream import looks_elsewhere
from rolebook.web.current import rolebook

EVENTS = ("cell", "progress", "end")

_PROGRESS_EVERY_S = 0.5
#: A comment keeps the line open, and finds out that nobody reads it any more.
_HEARTBEAT_EVERY_S = 5.0
#: So many are read from the log at a time.
_CELLS_AT_ONCE = 50
_ENDED = frozenset({CellStatus.COMPLETE, CellStatus.FAILED, CellStatus.STOPPED})


class CellFeed:
    """What one program is told of a comparison. ``frames`` is to be read once, by one thread.

    Arguments:
        after: the id of the last event that it was told of before; empty: none.
        show_cells, show_progress: the data of the events.
    """

    def __init__(
        self,
        comparison: Comparison,
        after: str,
        *,
        show_cells: Callable[[Comparison, Sequence[Cell]], Sequence[Any]],
        show_progress: Callable[[Comparison], Any],
    ) -> None:
        self._comparison = comparison
        self._after = after
        self._show_cells = show_cells
        self._show_progress = show_progress
        self._told: dict[CellKey, CellOutline] = {}
        self._last = self._last_progress = time.monotonic()

    def frames(self) -> Iterator[str]:
        """The events up to the end of the run; if nothing runs, those of what has ended, and the end."""
        run, place = rolebook().compare.run_of(self._comparison.id), ""
        if run is not None and (not run.has_ended or self._after.startswith(f"{run.id}.")):
            place = yield from self._follow(run)
        else:
            yield from self._look_again()
        yield self._event("end", self._show_progress(self._comparison), place)

    def _follow(self, run: Run) -> Generator[str, None, str]:
        """What happens in this process. Returns the id of the end."""
        with run.watching() as subscription:
            count, known = len(subscription.ended), self._known(run, subscription.ended)
            if known is None:
                yield from self._changed()
            else:
                yield from self._cells(dict.fromkeys(subscription.ended[known:]))
            yield self._progress(f"{run.id}.{count}")
            is_news = False
            while True:
                event = subscription.get(_PROGRESS_EVERY_S)
                if isinstance(event, RunEnded):
                    return f"{run.id}.{count}"
                if isinstance(event, CellEnded):
                    count, is_news = count + 1, True
                    # One that has ended just now may have been told of with those that had before.
                    if self._told.get(event.cell.key) != outline_of(event.cell):
                        yield self._cell(event.cell, f"{run.id}.{count}")
                if is_news and time.monotonic() - self._last_progress >= _PROGRESS_EVERY_S:
                    is_news = False
                    yield self._progress()
                yield from self._sign_of_life()

    def _known(self, run: Run, ended: Sequence[CellKey]) -> int | None:
        """How many of the ended cells whoever comes back knows; None if nobody can tell."""
        run_id, _, count = self._after.partition(".")
        if run_id != run.id or not (count.isascii() and count.isdigit() and len(count) < 10):
            return None
        return min(int(count), len(ended))

    def _look_again(self) -> Iterator[str]:
        """What another process does, as the log tells it; or nobody."""
        for _ in looks_elsewhere(self._comparison):
            yield from self._changed()
            yield self._progress()
            yield from self._sign_of_life()
        yield from self._changed()

    def _changed(self) -> Iterator[str]:
        """The ended cells that are not as they were told of."""
        outlines = rolebook().comparisons.outlines(self._comparison)
        yield from self._cells(
            outline.key
            for outline in sorted(outlines, key=_place)
            if outline.status in _ENDED and self._told.get(outline.key) != outline
        )

    def _cells(self, keys: Iterable[CellKey]) -> Iterator[str]:
        """Cells as they stand in the log; without an id, as whoever has some of them may lack others."""
        wanted = list(keys)
        for first in range(0, len(wanted), _CELLS_AT_ONCE):
            some = wanted[first : first + _CELLS_AT_ONCE]
            inputs = sorted({key.input for key in some})
            found = rolebook().comparisons.cells(self._comparison, inputs=inputs)
            cells = {cell.key: cell for cell in found}
            for key in some:
                if key in cells:
                    yield self._cell(cells[key])

    def _cell(self, cell: Cell, id: str = "") -> str:
        self._told[cell.key] = outline_of(cell)
        # As the log gives cells: one that has just ended still has all that was sent and came back.
        turns = tuple(replace(turn, messages=(), reply={}) for turn in cell.turns)
        (data,) = self._show_cells(self._comparison, [replace(cell, turns=turns)])
        return self._event("cell", data, id)

    def _progress(self, id: str = "") -> str:
        self._last_progress = time.monotonic()
        return self._event("progress", self._show_progress(self._comparison), id)

    def _sign_of_life(self) -> Iterator[str]:
        if time.monotonic() - self._last >= _HEARTBEAT_EVERY_S:
            self._last = time.monotonic()
            yield ": still here\n\n"

    def _event(self, name: str, data: Any, id: str = "") -> str:
        self._last = time.monotonic()
        place = f"id: {id}\n" if id else ""
        return f"{place}event: {name}\ndata: {encode_json(plain(data))}\n\n"


def outline_of(cell: Cell) -> CellOutline:
    """What of a cell tells one state from another."""
    told = [result.has_passed for result in cell.checks]
    return CellOutline(cell.key, cell.status, told.count(True), told.count(False))


def _place(outline: CellOutline) -> tuple[int, int, int]:
    """In the order in which cells are listed: input by input."""
    return outline.key.input, outline.key.repeat, outline.key.variant
