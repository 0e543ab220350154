"""A run by itself, with cells that are filled at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from rolebook.core.comparison import Cell, CellKey, Tally
from rolebook.core.run import CellEnded, Run, RunEvent, Workload
from rolebook.core.session import Turn
from tests.core.grids import grid

CONCURRENCY, ANSWER_MS = 4, 40.0
#: Four fifths of what would spread four cells evenly over the time of an answer.
APART_S = 0.008


def test_cells_begin_apart_as_soon_as_it_is_known_how_long_an_answer_takes() -> None:
    begun: list[float] = []
    ended: list[float] = []
    all_begun = threading.Barrier(CONCURRENCY)

    def fill(run: Run, key: CellKey) -> Iterator[RunEvent]:
        begun.append(time.monotonic())
        if key.input < CONCURRENCY:
            all_begun.wait(5)
        ended.append(time.monotonic())
        run.note_spent(Turn("t", "s", "r", "Hello", duration_ms=ANSWER_MS))
        yield CellEnded(Cell(key, 1))

    comparison = grid(1, 2 * CONCURRENCY)
    keys = list(comparison.cell_keys())
    work = Workload([], Tally(total=len(keys)), {"ok": keys}, CONCURRENCY)
    run = Run(comparison, work, fill=fill, cancel=lambda _: False, on_end=lambda: None)
    run.start()
    assert run.wait(10)

    later = sorted(begun)[CONCURRENCY:]
    # Each has a moment of its own, which is never early.
    assert [True] * 4 == [
        began - min(ended) >= number * APART_S for number, began in enumerate(later)
    ]
