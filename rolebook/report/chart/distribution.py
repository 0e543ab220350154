"""How the values of each variant are spread, as histograms over the same bins."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from rolebook.core.frozen import frozen
from rolebook.report.chart.axis import (
    AXIS_PX,
    NARROW_PX,
    NUMBER,
    WIDE_PX,
    Axis,
    Name,
    Unit,
    cut_name,
    make_axis,
    name_room,
)

BARS_ROW_PX = 76
BARS_TOP_PX = 24
BARS_PX = 34
_MAX_BINS = 20


@frozen
class Sample:
    """All numbers of one variant, such as the lengths of its answers."""

    label: str
    hue_class: str
    values: Sequence[float]


@frozen
class Bar:
    """How many values lie in a bin: ``x`` and ``width`` in per cent, ``y`` and ``height`` in pixels."""

    count: int
    x: float
    width: float
    y: float
    height: float


class Quartiles(NamedTuple):
    """What halves and quarters the values of a sample."""

    least: float
    lower: float
    median: float
    upper: float
    most: float


@frozen
class DistributionRow:
    """A variant's histogram. Its ``quartiles`` are None where there is no answer."""

    name: Name
    hue_class: str
    n: int
    top: float
    bars: tuple[Bar, ...]
    quartiles: Quartiles | None
    median_x: float | None
    middle_x: tuple[float, float] | None
    text: str
    middle_text: str
    quartile_texts: tuple[str, ...]

    @property
    def base(self) -> float:
        """Where its bars stand."""
        return self.bars_top + BARS_PX

    @property
    def bars_top(self) -> float:
        """How far up the highest of all reaches."""
        return self.top + BARS_TOP_PX


@frozen
class DistributionChart:
    """One histogram per variant, all over the same bins and to the same scale; ``bins`` says which."""

    rows: tuple[DistributionRow, ...]
    axis: Axis
    bins: tuple[str, ...]

    @property
    def height(self) -> float:
        return len(self.rows) * BARS_ROW_PX + AXIS_PX

    @property
    def shortest(self) -> DistributionRow | None:
        """The row with the lowest median, unless all have the same or only one is known."""
        return self._extremes()[0]

    @property
    def longest(self) -> DistributionRow | None:
        """The row with the highest median, likewise."""
        return self._extremes()[1]

    def _extremes(self) -> tuple[DistributionRow | None, DistributionRow | None]:
        medians = [(row.quartiles.median, row) for row in self.rows if row.quartiles]
        medians.sort(key=lambda pair: pair[0])
        if not medians or medians[0][0] == medians[-1][0]:
            return None, None
        return medians[0][1], medians[-1][1]


def distribution_chart(samples: Sequence[Sample], *, unit: Unit = NUMBER) -> DistributionChart:
    """How the values of each variant are spread."""
    values = [value for sample in samples for value in sample.values]
    axis = make_axis(values, unit)
    edges = _edges(axis, is_whole=all(float(value).is_integer() for value in values))
    counts = [_counts(sample.values, edges) for sample in samples]
    # Shares, not counts: variants may have unequally many answers.
    fullest = max((max(row) / (sum(row) or 1) for row in counts), default=0) or 1
    rows = tuple(
        _distribution_row(sample, axis, edges, row, top=index * BARS_ROW_PX, fullest=fullest)
        for index, (sample, row) in enumerate(zip(samples, counts, strict=True))
    )
    bins = tuple(
        axis.unit.text_between(low, high, edges[1] - edges[0]) for low, high in pairwise(edges)
    )
    return DistributionChart(rows, axis, bins)


def quartiles(values: Sequence[float]) -> Quartiles | None:
    """Least, quarters and most, linear between two values as spreadsheets have it; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return Quartiles(*(_quantile(ordered, quarter / 4) for quarter in range(5)))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _edges(axis: Axis, *, is_whole: bool) -> list[float]:
    """Bins that divide the steps of the axis evenly; those of whole numbers are whole, or some could only be empty."""
    steps = len(axis.ticks) - 1
    parts = next(
        (
            parts
            for parts in (5, 4, 2)
            if steps * parts <= _MAX_BINS
            and (not is_whole or math.isclose(axis.step / parts % 1, 0))
        ),
        1,
    )
    return [axis.low + index * axis.step / parts for index in range(steps * parts + 1)]


def _counts(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """How many values lie in each bin, its lower edge included; the last includes its upper edge too."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[min(max(bisect_right(edges, value) - 1, 0), len(counts) - 1)] += 1
    return counts


def _distribution_row(
    sample: Sample,
    axis: Axis,
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    top: float,
    fullest: float,
) -> DistributionRow:
    found = quartiles(sample.values)
    text = axis.text(found.median if found else None)
    middle = axis.text_between(found.lower, found.upper, of=found.median) if found else ""
    return DistributionRow(
        cut_name(
            sample.label, wide=name_room(WIDE_PX, text, middle), narrow=name_room(NARROW_PX, text)
        ),
        sample.hue_class,
        len(sample.values),
        top,
        tuple(_bars(axis, edges, counts, base=top + BARS_TOP_PX + BARS_PX, fullest=fullest)),
        found,
        axis.at(found.median) if found else None,
        (axis.at(found.lower), axis.at(found.upper)) if found else None,
        text,
        middle,
        tuple(axis.text(value) for value in found or (None,) * 5),
    )


def _bars(
    axis: Axis, edges: Sequence[float], counts: Sequence[int], *, base: float, fullest: float
) -> Iterator[Bar]:
    total = sum(counts) or 1
    for (low, high), count in zip(pairwise(edges), counts, strict=True):
        # What is there is to be seen, however little it is.
        height = max(2.0, BARS_PX * count / total / fullest) if count else 0.0
        yield Bar(count, axis.at(low), axis.at(high) - axis.at(low), base - height, height)
