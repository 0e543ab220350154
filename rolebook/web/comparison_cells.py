"""A comparison as its grid shows it: a row for each input, a column for each variant, and how far each answer is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import ceil
from typing import Any

from flask import render_template, url_for
from markupsafe import Markup

from rolebook.core.comparison import (
    Cell,
    CellKey,
    CellStatus,
    Comparison,
    ComparisonInput,
    Variant,
    cell_status,
)
from rolebook.core.errors import NotFoundError
from rolebook.core.fault import FaultyDataError
from rolebook.core.frozen import frozen
from rolebook.core.run import LiveText, Run
from rolebook.core.session import Turn, TurnStatus
from rolebook.core.text import language_of, similarity
from rolebook.web.current import gettext as _
from rolebook.web.current import rolebook

#: A page of the grid has rows for about so many answers: setting a hundred takes a tenth of a second.
_ANSWERS_SHOWN = 100
_FEWEST_ROWS, _MOST_ROWS = 5, 50
#: A longer answer is shown folded. Lines are counted as a narrow column breaks them.
_LINES_SHOWN = 12
_COLUMN = 44
_WIDE = re.compile("[\u2e80-\U0010ffff]")
_TROUBLE_SHOWN = 100

#: The letters of squares in the matrix, beside ``x``, an answer that a check has failed on, and ``n``, a place where
#: nothing is asked.
_LETTERS = {
    CellStatus.WAITING: "w",
    CellStatus.RUNNING: "r",
    CellStatus.COMPLETE: "p",
    CellStatus.FAILED: "f",
    CellStatus.STOPPED: "s",
}


@frozen
class Layout:
    """How the reader has laid out the grid, as its address says. Here everything counts from 0, there from 1.

    ``order`` are the variants from left to right, ``wide`` the one that has more room.
    """

    order: tuple[int, ...]
    wide: int | None = None
    repeat: int = 0
    page: int = 0
    is_matrix: bool = False

    @property
    def query(self) -> dict[str, str]:
        """The part of the address that says so; what is as usual is left out."""
        said = {
            "view": "matrix" if self.is_matrix else "",
            "page": str(self.page + 1) if self.page else "",
            "repeat": str(self.repeat + 1) if self.repeat else "",
            "wide": "" if self.wide is None else str(self.wide + 1),
            "order": "-".join(str(variant + 1) for variant in self.order),
        }
        if self.order == tuple(range(len(self.order))):
            del said["order"]
        return {name: value for name, value in said.items() if value}

    @property
    def kept(self) -> dict[str, str]:
        """The part of the address that is the same for all cells: they say themselves where they are."""
        return self.with_repeat(0).with_page(0).query

    def with_moved(self, variant: int, by: int) -> Layout | None:
        """With a column one further left (-1) or right (1); ``None`` if it is at that end."""
        order = list(self.order)
        place = order.index(variant)
        if not 0 <= place + by < len(order):
            return None
        order.insert(place + by, order.pop(place))
        return replace(self, order=tuple(order))

    def with_wide(self, variant: int) -> Layout:
        """With a column widened, or as the others if it was."""
        return replace(self, wide=None if self.wide == variant else variant)

    def with_repeat(self, repeat: int) -> Layout:
        """With another repeat of every cell."""
        return replace(self, repeat=repeat)

    def with_page(self, page: int) -> Layout:
        """At another page."""
        return replace(self, page=page)

    def with_view(self, *, is_matrix: bool) -> Layout:
        """As a matrix, or as a table to read."""
        return replace(self, is_matrix=is_matrix)


def layout_of(comparison: Comparison, given: Mapping[str, str]) -> Layout:
    """The layout that an address asks for; what it does not say or cannot mean is as usual."""
    count = len(comparison.variants)
    order = tuple(_number(part, count) for part in given.get("order", "").split("-"))
    return Layout(
        order=tuple(part for part in order if part is not None)
        if set(order) == set(range(count)) and len(order) == count
        else tuple(range(count)),
        wide=_number(given.get("wide", ""), count),
        repeat=_number(given.get("repeat", ""), comparison.repeats) or 0,
        page=_number(given.get("page", ""), page_count(comparison)) or 0,
        is_matrix=given.get("view") == "matrix",
    )


def _number(text: str, limit: int) -> int | None:
    """A number that counts from 1, as one that counts from 0; ``None`` if it is none below the limit."""
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    return int(text) - 1 if is_number and 0 < int(text) <= limit else None


def rows_per_page(comparison: Comparison) -> int:
    """How many inputs a page of the grid has."""
    longest = max(len(entry.turns) for entry in comparison.inputs)
    rows = _ANSWERS_SHOWN // (len(comparison.variants) * longest)
    return max(_FEWEST_ROWS, min(_MOST_ROWS, rows))


def page_count(comparison: Comparison) -> int:
    """How many pages the grid has."""
    return ceil(len(comparison.inputs) / rows_per_page(comparison))


def turns_before(entry: ComparisonInput) -> Sequence[Turn] | None:
    """What was said before an input; ``None`` if that is gone from the log."""
    try:
        return rolebook().cells.history_of(entry)
    except NotFoundError:
        return None


@frozen
class Part:
    """What one variant said to one of the texts of an input: a box of the grid.

    ``live`` is what has arrived of it so far, while it is on its way; once all of its cell is answered, that may
    be with its judge (``is_judged``). ``drift`` is how far it is from what was
    recorded there, from 0 (the same) to 1; ``None`` where nothing was.
    """

    key: CellKey
    variant: Variant
    cell: Cell
    index: int
    live: str | None = None
    drift: float | None = None
    is_judged: bool = False

    @property
    def id(self) -> str:
        """Of its element on the page."""
        return f"answer-{self.key}-{self.index + 1}"

    @property
    def turn(self) -> Turn | None:
        """Its turn in the log, if it has begun and is not just being tried again."""
        if self.live is not None or self.index >= len(self.cell.turns):
            return None
        return self.cell.turns[self.index]

    @property
    def status(self) -> str:
        """Of this text: waiting, running, complete, failed or stopped; ``unreached`` if one before it has none."""
        turn = self.turn
        if self.live is not None:
            return CellStatus.RUNNING.value
        if turn is None:
            is_over = self.cell.status in {CellStatus.FAILED, CellStatus.STOPPED}
            return "unreached" if is_over else CellStatus.WAITING.value
        if turn.status is TurnStatus.COMPLETE:
            return CellStatus.COMPLETE.value
        error = turn.error.code if turn.error else ""
        return cell_status(0, 1, turn.status, error).value

    @property
    def language(self) -> str:
        """The language that it is in, else that which its persona speaks, where one of them is known."""
        if self.turn and (told := language_of(self.turn.text)):
            return told
        try:
            return rolebook().cells.persona_of(self.variant.revision).persona.language
        except FaultyDataError:
            return ""

    @property
    def is_long(self) -> bool:
        """Whether it is shown folded."""
        text = self.turn.text if self.turn else ""
        lines = text.splitlines()
        # Most are so short that nothing has to be counted.
        if len(lines) + 2 * len(text) // _COLUMN <= _LINES_SHOWN:
            return False
        return sum(1 + _width(line) // _COLUMN for line in lines) > _LINES_SHOWN


def _width(line: str) -> int:
    """Chinese characters are as wide as two others."""
    return len(line) if line.isascii() else len(line) + len(_WIDE.findall(line))


@frozen
class Row:
    """One input with what the variants said to it. ``cells`` are in the order of the columns."""

    index: int
    entry: ComparisonInput
    cells: tuple[tuple[Part, ...] | None, ...]
    """The parts of each cell; ``None`` where nothing is asked: a recorded answer was said once."""


@frozen
class Grid:
    """One page of a comparison's grid: ``inputs`` are those on it, of so many ``pages``."""

    comparison: Comparison
    layout: Layout
    inputs: range
    pages: int
    rows: tuple[Row, ...] = ()

    @property
    def variants(self) -> Sequence[tuple[int, Variant]]:
        """Index and variant, from left to right."""
        return [(index, self.comparison.variants[index]) for index in self.layout.order]

    def address(self, layout: Layout, anchor: str = "grid") -> str:
        """Where the comparison stands in another layout."""
        values: dict[str, Any] = {"comparison_id": self.comparison.id, **layout.query}
        return url_for("grid.show", _anchor=anchor, **values)


def inputs_on(comparison: Comparison, page: int) -> range:
    """The inputs on a page of the grid."""
    rows = rows_per_page(comparison)
    return range(page * rows, min((page + 1) * rows, len(comparison.inputs)))


def blank_grid(comparison: Comparison, layout: Layout) -> Grid:
    """The grid without its answers."""
    inputs = inputs_on(comparison, layout.page)
    return Grid(comparison, layout, inputs, pages=page_count(comparison))


def open_grid(comparison: Comparison, layout: Layout) -> Grid:
    """The grid as it stands, with what has arrived in the cells that are being filled."""
    blank = blank_grid(comparison, layout)
    cells, live = cells_now(comparison, blank.inputs, repeats=shown_repeats(layout.repeat))
    rows = []
    for index in blank.inputs:
        entry = comparison.inputs[index]
        recorded = recorded_texts(comparison, index, cells)
        keys = [CellKey(variant, index, layout.repeat) for variant in layout.order]
        parts = [
            tuple(parts_of(comparison, cells.get(key), key, recorded, live.get(key)))
            if comparison.has(key)
            else None
            for key in keys
        ]
        rows.append(Row(index, entry, tuple(parts)))
    return replace(blank, rows=tuple(rows))


def shown_repeats(repeat: int) -> Sequence[int]:
    """The repeats of which something is to be seen beside answers of one: what was recorded is the first."""
    return sorted({0, repeat})


def cells_now(
    comparison: Comparison,
    inputs: Sequence[int],
    live: Mapping[CellKey, LiveText] | None = None,
    *,
    repeats: Sequence[int] | None = None,
) -> tuple[Mapping[CellKey, Cell], Mapping[CellKey, LiveText]]:
    """The cells of some inputs that have begun, and what has arrived of the answers that are on their way.

    In the log a cell has begun as soon as it is ready to be called. Whether it is called only its run knows: where that
    is in this process, those that wait for their place are as they were before.

    Arguments:
        live: what had arrived at an earlier moment; by default what has by now.
        repeats: only cells of these repeats.
    """
    run = _run_here(comparison)
    if live is None:
        live = run.live_texts() if run else {}
    logged = rolebook().comparisons.cells(comparison, inputs=inputs, repeats=repeats)
    if run is None:
        return {cell.key: cell for cell in logged}, {}
    cells = {cell.key: cell if cell.key in live else before_it_was_ready(cell) for cell in logged}
    # What has just been recorded counts as under way for a moment longer.
    return cells, {
        key: text
        for key, text in live.items()
        if key not in cells or text.is_judged or not _has_ended(cells[key], text.turn)
    }


def _run_here(comparison: Comparison) -> Run | None:
    """What runs the comparison in this process, if something does."""
    run = rolebook().compare.run_of(comparison.id)
    return None if run is None or run.has_ended else run


def before_it_was_ready(cell: Cell) -> Cell:
    """A cell that waits for its place without the turn that stands in the log for that."""
    return replace(cell, turns=cell.turns[:-1]) if cell.status is CellStatus.RUNNING else cell


def _has_ended(cell: Cell, index: int) -> bool:
    return index < len(cell.turns) and cell.turns[index].status is not TurnStatus.PENDING


def recorded_texts(
    comparison: Comparison, index: int, cells: Mapping[CellKey, Cell]
) -> Sequence[str]:
    """What was answered to an input when it was recorded, turn by turn, where that takes part; "" where not wholly."""
    for number, variant in enumerate(comparison.variants):
        cell = cells.get(CellKey(number, index, 0))
        if variant.is_recorded and cell:
            return [turn.text if turn.status is TurnStatus.COMPLETE else "" for turn in cell.turns]
    return ()


def parts_of(
    comparison: Comparison,
    cell: Cell | None,
    key: CellKey,
    recorded: Sequence[str],
    live: LiveText | None = None,
) -> Iterator[Part]:
    """The boxes of one cell.

    Arguments:
        cell: as it stands in the log, if it has begun.
        recorded: the recorded answers to its input.
        live: what has arrived of the answer that is on its way, or that the judge has the cell.
    """
    length = len(comparison.inputs[key.input].turns)
    cell = cell or Cell(key, length)
    variant = comparison.variants[key.variant]
    complete = sum(turn.status is TurnStatus.COMPLETE for turn in cell.turns)
    for index in range(length):
        drift = None
        is_held = index < len(recorded) and recorded[index] and not variant.is_recorded
        if index < complete and is_held:
            drift = 1 - similarity(recorded[index], cell.turns[index].text)
        is_judged = live is not None and live.is_judged
        arrived = live.text if live and live.turn == index and not is_judged else None
        yield Part(key, variant, cell, index, live=arrived, drift=drift, is_judged=is_judged)


def render_parts(comparison: Comparison, parts: Sequence[Part]) -> Sequence[str]:
    """Each box as the page has it."""
    return [render_template("comparison_cell.html", comparison=comparison, part=p) for p in parts]


def letter_of(status: CellStatus, failed: int) -> str:
    """The letter of a cell in a strip of marks."""
    return "x" if status is CellStatus.COMPLETE and failed else _LETTERS[status]


def cell_letter(cell: Cell) -> str:
    """The letter of a cell by how far it is and what its checks found."""
    return letter_of(cell.status, sum(result.has_passed is False for result in cell.checks))


def marks_of(comparison: Comparison) -> Sequence[str]:
    """For each variant a letter for each of its cells, input by input, the repeats of one input together."""
    run = _run_here(comparison)
    letters = {**_LETTERS, CellStatus.RUNNING: "w"} if run else _LETTERS
    strips = [
        ["n" if variant.is_recorded else "w"] * (len(comparison.inputs) * comparison.repeats)
        for variant in comparison.variants
    ]
    for strip, standing in zip(strips, rolebook().comparisons.standings(comparison), strict=True):
        for status, places in standing.places.items():
            for place in places:
                strip[place] = letters[status]
        for place in standing.failing:
            if strip[place] == _LETTERS[CellStatus.COMPLETE]:
                strip[place] = "x"
    for key in run.live_texts() if run else ():
        strips[key.variant][key.input * comparison.repeats + key.repeat] = "r"
    return ["".join(strip) for strip in strips]


def squares(strip: str) -> Markup:
    """The marks of a variant as the page has them."""
    return Markup("".join(f"<i class={letter}></i>" for letter in strip))


def trouble_in(comparison: Comparison, strips: Sequence[str]) -> Sequence[tuple[CellKey, str]]:
    """The first cells that failed, or that a check failed on, each with its letter."""
    found = (
        (CellKey(variant, *divmod(place, comparison.repeats)), letter)
        for letter in "fx"
        for variant, strip in enumerate(strips)
        for place, mark in enumerate(strip)
        if mark == letter
    )
    return list(islice(found, _TROUBLE_SHOWN))


def variant_name(variant: Variant) -> str:
    """What a variant is called, in the reader's language where the name is Rolebook's own."""
    return _(variant.name) if variant.is_recorded else variant.name
