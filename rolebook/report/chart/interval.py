"""A dot and an interval for each variant, on one axis."""

from __future__ import annotations

from collections.abc import Sequence

from rolebook.core.frozen import frozen
from rolebook.report.chart.axis import (
    AXIS_PX,
    NARROW_PX,
    NUMBER,
    WIDE_PX,
    Axis,
    Mark,
    Name,
    Unit,
    cut_name,
    known_values,
    make_axis,
    name_room,
    place_of,
    value_texts,
)

ROW_PX = 50
STRIP_PX = 32
#: As long as "one answer" in any language.
_NOTE = " " * 12


@frozen
class IntervalRow:
    """A variant in a chart of intervals.

    ``top`` and ``y`` (of the dot) are pixels, ``x``, ``low_x`` and ``high_x`` per cent. ``text`` says its value,
    ``interval_text`` its interval (empty where it has none).
    """

    mark: Mark
    name: Name
    top: float
    x: float | None
    low_x: float | None
    high_x: float | None
    text: str
    interval_text: str

    @property
    def y(self) -> float:
        return self.top + STRIP_PX


@frozen
class IntervalChart:
    """One row per variant on one axis, and the place of a line to hold them against where there is one."""

    rows: tuple[IntervalRow, ...]
    axis: Axis
    reference_x: float | None

    @property
    def height(self) -> float:
        return len(self.rows) * ROW_PX + AXIS_PX

    @property
    def has_small(self) -> bool:
        return any(row.mark.is_small and row.x is not None for row in self.rows)

    @property
    def is_even(self) -> bool:
        """Whether several are known, and all the same."""
        values = [row.mark.value for row in self.rows]
        return len(values) > 1 and None not in values and len(set(values)) == 1

    @property
    def lowest(self) -> IntervalRow | None:
        """The row with the smallest value, unless they are all the same or only one is known."""
        return self._extremes()[0]

    @property
    def highest(self) -> IntervalRow | None:
        """The row with the largest value, likewise."""
        return self._extremes()[1]

    @property
    def are_apart(self) -> bool | None:
        """Whether the intervals of the lowest and the highest leave room between them; None where one is missing."""
        low, high = self._extremes()
        if not (low and high and (below := low.mark.interval) and (above := high.mark.interval)):
            return None
        return below[1] < above[0]

    def _extremes(self) -> tuple[IntervalRow | None, IntervalRow | None]:
        ordered = sorted(
            (row for row in self.rows if row.mark.value is not None),
            key=lambda row: row.mark.value or 0.0,
        )
        if not ordered or ordered[0].mark.value == ordered[-1].mark.value:
            return None, None
        return ordered[0], ordered[-1]


def interval_chart(
    marks: Sequence[Mark],
    *,
    unit: Unit = NUMBER,
    bounds: tuple[float, float] | None = None,
    reference: float | None = None,
) -> IntervalChart:
    """A dot and an interval for each variant.

    Arguments:
        bounds: what the axis covers at least; `SHARES` for shares.
        reference: the value of a line to hold them against, such as 0.5 for strengths.
    """
    line = () if reference is None else (reference,)
    axis = make_axis([*known_values(marks), *line], unit, bounds=bounds)
    rows = tuple(_interval_row(mark, axis, top=n * ROW_PX) for n, mark in enumerate(marks))
    return IntervalChart(rows, axis, None if reference is None else axis.at(reference))


def _interval_row(mark: Mark, axis: Axis, *, top: float) -> IntervalRow:
    low, high = mark.interval or (None, None)
    text, between = value_texts(mark, axis)
    # A narrow chart keeps the interval to its line and its table, but says where there is none.
    name = cut_name(
        mark.label,
        wide=name_room(WIDE_PX, text, between or _NOTE),
        narrow=name_room(NARROW_PX, text, "" if between else _NOTE),
    )
    return IntervalRow(
        mark,
        name,
        top,
        place_of(axis, mark.value),
        place_of(axis, low),
        place_of(axis, high),
        text,
        between,
    )
