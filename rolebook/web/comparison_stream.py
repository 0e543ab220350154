"""A comparison while it runs, as server-sent events: whoever watches may leave, and the run goes on."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import render_template

from rolebook.core.blocking import blocking
from rolebook.core.comparison import Cell, CellKey, CellStatus, Comparison
from rolebook.core.frozen import frozen
from rolebook.core.run import (
    CellDelta,
    CellEnded,
    CellJudged,
    CellReady,
    CellStarted,
    LiveText,
    Run,
    RunEnded,
    RunEvent,
)
from rolebook.report.visible import visible
from rolebook.web.comparison_cells import (
    before_it_was_ready,
    cell_letter,
    cells_now,
    marks_of,
    parts_of,
    recorded_texts,
    render_parts,
    shown_repeats,
)
from rolebook.web.current import rolebook

#: Words are sent no more often than this, so that a page with many cells is not painted anew for each of them.
_WORDS_EVERY_S = 0.1
_PROGRESS_EVERY_S = 0.25
#: A comment keeps the line open, and finds out that nobody reads it any more.
_HEARTBEAT_EVERY_S = 5.0
_LOOK_AGAIN_EVERY_S = 1.0


@frozen
class Watched:
    """What a page shows: the cells of some inputs at one repeat whole, or a mark for every cell."""

    inputs: range
    repeat: int
    has_marks: bool = False

    def __contains__(self, key: CellKey) -> bool:
        return key.input in self.inputs and key.repeat == self.repeat


class Feed:
    """What one page is told of a run. ``frames`` is to be read once, by one thread."""

    def __init__(self, comparison: Comparison, watched: Watched) -> None:
        self._comparison = comparison
        self._watched = watched
        self._words: dict[tuple[CellKey, int], list[str]] = defaultdict(list)
        self._recorded: dict[int, Sequence[str]] = {}
        self._strips: Sequence[str] = ()
        self._seen: dict[CellKey, Cell] = {}
        self._is_news = False
        self._last = time.monotonic()
        self._last_words = self._last_progress = self._last

    def frames(self) -> Iterator[str]:
        """The events up to the end of the run; it comes at once if nothing runs."""
        run = rolebook().compare.run_of(self._comparison.id)
        if run is not None and not run.has_ended:
            yield from self._follow(run)
        else:
            yield from self._look_again()
        yield self._progress()
        yield _event("end", {})

    def _follow(self, run: Run) -> Iterator[str]:
        """What happens in this process, from what the page has now on."""
        with run.watching() as subscription:
            yield from self._shown(subscription.live)
            while True:
                event = subscription.get(_WORDS_EVERY_S)
                if isinstance(event, RunEnded):
                    return
                if event is not None:
                    yield from self._told(event)
                yield from self._due()

    def _look_again(self) -> Iterator[str]:
        """What another process does, as the log tells it."""
        for _ in looks_elsewhere(self._comparison):
            yield from self._shown({})
            yield self._progress()
        yield from self._shown({})

    def _shown(self, live: Mapping[CellKey, LiveText]) -> Iterator[str]:
        """All that the page shows and was not told of yet, as it is now; it passes over what it has already."""
        if self._watched.has_marks:
            strips = marks_of(self._comparison)
            if strips != self._strips:
                yield _event("marks", {"strips": strips})
            self._strips = strips
        inputs = self._watched.inputs
        repeats = shown_repeats(self._watched.repeat)
        cells, live = cells_now(self._comparison, inputs, live, repeats=repeats)
        for index in inputs:
            self._recorded[index] = recorded_texts(self._comparison, index, cells)
        for key in sorted(key for key in {*cells, *live} if key in self._watched):
            cell = cells.get(key)
            if key in live or cell != self._seen.get(key):
                yield self._cell(key, cell, live.get(key))
        self._seen = dict(cells)

    def _told(self, event: RunEvent) -> Iterator[str]:
        match event:
            case CellReady(key):
                self._is_news = True
                cell = self._begun(key) if key in self._watched else None
                # Where the log is further by now, that is told next.
                if cell is None or cell.status is CellStatus.RUNNING:
                    shown = before_it_was_ready(cell) if cell else None
                    yield self._cell(key, shown, None, mark="w")
            case CellStarted(key, turn):
                self._is_news = True
                cell = self._begun(key) if turn and key in self._watched else None
                yield self._cell(key, cell, LiveText(turn, ""))
            case CellDelta(key, turn, text) if key in self._watched:
                self._words[key, turn].append(text)
            case CellJudged(key):
                cell = self._begun(key) if key in self._watched else None
                yield self._cell(key, cell, LiveText(0, "", is_judged=True))
            case CellEnded(cell):
                self._is_news = True
                for place in [place for place in self._words if place[0] == cell.key]:
                    del self._words[place]
                yield self._cell(cell.key, cell, None)

    def _begun(self, key: CellKey) -> Cell:
        return rolebook().comparisons.get_cell(self._comparison, key)

    def _due(self) -> Iterator[str]:
        """What it is time for: words that have gathered, progress, or a sign of life."""
        now = time.monotonic()
        if self._words and now - self._last_words >= _WORDS_EVERY_S:
            self._last = self._last_words = now
            for (key, turn), texts in self._words.items():
                text = visible("".join(texts))
                yield _event("delta", {"id": f"answer-{key}-{turn + 1}", "text": text})
            self._words.clear()
        if self._is_news and now - self._last_progress >= _PROGRESS_EVERY_S:
            self._is_news = False
            self._last = self._last_progress = now
            yield self._progress()
        if now - self._last >= _HEARTBEAT_EVERY_S:
            self._last = now
            yield ": still here\n\n"

    def _cell(
        self, key: CellKey, cell: Cell | None, live: LiveText | None, *, mark: str = ""
    ) -> str:
        """How far a cell is, with its boxes if the page shows them."""
        data: dict[str, Any] = {"cell": str(key)}
        data["mark"] = mark or ("r" if live is not None else cell_letter(cell) if cell else "w")
        if key in self._watched:
            recorded = self._recorded.get(key.input, ())
            parts = list(parts_of(self._comparison, cell, key, recorded, live))
            data["parts"] = render_parts(self._comparison, parts)
        return _event("cell", data)

    def _progress(self) -> str:
        progress = rolebook().compare.progress_of(self._comparison)
        html = render_template(
            "comparison_progress.html", comparison=self._comparison, progress=progress
        )
        return _event("progress", {"html": html})


def looks_elsewhere(comparison: Comparison) -> Iterator[None]:
    """Come back now and then to look at the log, while another process runs a comparison."""
    while rolebook().comparisons.is_run_elsewhere(comparison.id):
        yield
        with blocking():
            time.sleep(_LOOK_AGAIN_EVERY_S)


def _event(name: str, data: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
