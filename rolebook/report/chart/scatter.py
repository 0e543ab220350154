"""One quantity against another: a point for each variant, with labels that touch nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rolebook.core.frozen import frozen
from rolebook.report.chart.axis import (
    ANCHOR_SHIFTS,
    AXIS_PX,
    CELL_PX,
    NARROW_PX,
    NUMBER,
    PERCENT,
    SHARES,
    WIDE_PX,
    Anchor,
    Axis,
    Mark,
    Name,
    Unit,
    cells,
    cut_name,
    known_values,
    make_axis,
    value_texts,
)

SCATTER_PX = 264
SCATTER_MARGIN_PX = 56
LINE_PX = 17
DOT_PX = 7
_MAX_POINT_NAME = 20


@frozen
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        """Whether they have a point in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


@frozen
class Place:
    """Where a label stands: the end ``anchor`` of its base line ``dx`` and ``dy`` pixels off its point.

    ``is_far``: so far that a line has to lead there.
    """

    dx: float
    dy: float
    anchor: Anchor
    is_far: bool

    def box(self, x_px: float, y: float, width_px: float) -> Box:
        """What a label of a width covers there."""
        left = x_px + self.dx - ANCHOR_SHIFTS[self.anchor] * width_px
        bottom = y + self.dy + 4
        return Box(left, bottom - LINE_PX, left + width_px, bottom)


@frozen
class Spot:
    """A point that wants a label: in per cent across and pixels down."""

    x: float
    y: float
    name: Name


def placed(spots: Sequence[Spot]) -> tuple[Place, ...]:
    """A place for each label, where it touches no other label and no other point, in narrow charts and in wide ones.

    The nearest that is free, one label after the other: above or below, right or left, then ever further off.
    """
    layouts = [
        _Layout(NARROW_PX - SCATTER_MARGIN_PX, [spot.name.narrow for spot in spots], spots),
        _Layout(WIDE_PX - SCATTER_MARGIN_PX, [spot.name.wide for spot in spots], spots),
    ]
    places = []
    for index in range(len(spots)):
        free = (
            place for place in _PLACES if all(layout.is_free(index, place) for layout in layouts)
        )
        place = next(free, _PLACES[0])
        places.append(place)
        for layout in layouts:
            layout.take(index, place)
    return tuple(places)


_SIDES: tuple[tuple[float, Anchor], ...] = ((DOT_PX, "start"), (-DOT_PX, "end"), (0.0, "middle"))
_PLACES = tuple(
    # What stands right over or under a dot keeps a little more off it.
    Place(dx, dy + (0 if dx else math.copysign(4, dy)), anchor, is_far=lines > 0)
    for lines in range(SCATTER_PX // LINE_PX)
    for dy in (-8.0 - lines * LINE_PX, 17.0 + lines * LINE_PX)
    for dx, anchor in _SIDES
)


class _Layout:
    """What is taken in a chart of one width."""

    def __init__(self, width_px: float, texts: Sequence[str], spots: Sequence[Spot]) -> None:
        self._width_px = width_px
        self._lengths = [cells(text) * CELL_PX for text in texts]
        self._spots = [(spot.x / 100 * width_px, spot.y) for spot in spots]
        self._labels: list[Box] = []

    def is_free(self, index: int, place: Place) -> bool:
        """Whether the label of a point can stand in a place."""
        box = self._box(index, place)
        is_inside = box.left >= 0 and box.right <= self._width_px
        is_inside = is_inside and box.top >= 0 and box.bottom <= SCATTER_PX
        dots = (_dot(*spot) for number, spot in enumerate(self._spots) if number != index)
        return is_inside and not any(box.touches(other) for other in (*self._labels, *dots))

    def take(self, index: int, place: Place) -> None:
        """A label stands there now."""
        self._labels.append(self._box(index, place))

    def _box(self, index: int, place: Place) -> Box:
        return place.box(*self._spots[index], self._lengths[index])


def _dot(x_px: float, y: float) -> Box:
    return Box(x_px - DOT_PX, y - DOT_PX, x_px + DOT_PX, y + DOT_PX)


@frozen
class Point:
    """A variant with two numbers: ``x`` and its interval in per cent, ``y`` and its interval in pixels from the top."""

    name: Name
    hue_class: str
    is_small: bool
    x_value: float
    y_value: float
    x: float
    y: float
    x_interval: tuple[float, float] | None
    y_interval: tuple[float, float] | None
    place: Place


@frozen
class ScatterRow:
    """A line of the table; those that cannot be drawn have one too."""

    name: Name
    hue_class: str
    is_drawn: bool
    x_text: str
    x_interval_text: str
    y_text: str
    y_interval_text: str


@frozen
class ScatterChart:
    """One quantity against another."""

    points: tuple[Point, ...]
    rows: tuple[ScatterRow, ...]
    x_axis: Axis
    y_axis: Axis

    @property
    def height(self) -> float:
        return SCATTER_PX + AXIS_PX

    def y_at(self, value: float) -> float:
        """Where a value lies, in pixels from the top."""
        return _down(self.y_axis, value)

    @property
    def has_small(self) -> bool:
        return any(point.is_small for point in self.points)

    @property
    def missing(self) -> tuple[ScatterRow, ...]:
        """Those without one of the two numbers."""
        return tuple(row for row in self.rows if not row.is_drawn)

    @property
    def best(self) -> Point | None:
        """The one with the highest y, if there is one alone."""
        return _only(self.points, [point.y_value for point in self.points], max)

    @property
    def least(self) -> Point | None:
        """The one with the lowest x (the quickest, the cheapest), likewise."""
        return _only(self.points, [point.x_value for point in self.points], min)


def _only(
    points: Sequence[Point], values: list[float], extreme: Callable[[list[float]], float]
) -> Point | None:
    if len(points) < 2 or values.count(wanted := extreme(values)) > 1:
        return None
    return points[values.index(wanted)]


def scatter_chart(
    xs: Sequence[Mark],
    ys: Sequence[Mark],
    *,
    x_unit: Unit = NUMBER,
    y_unit: Unit = PERCENT,
    y_bounds: tuple[float, float] | None = SHARES,
) -> ScatterChart:
    """A point for each variant, with its two intervals as a cross.

    Arguments:
        xs, ys: its two numbers, in the same order of variants; one without either is in the table only.
    """
    pairs = list(zip(xs, ys, strict=True))
    drawn = [(x, y) for x, y in pairs if x.value is not None and y.value is not None]
    x_axis = make_axis(
        known_values(x for x, _ in drawn), x_unit, width_px=NARROW_PX - SCATTER_MARGIN_PX
    )
    y_axis = make_axis(known_values(y for _, y in drawn), y_unit, bounds=y_bounds)
    spots = [
        Spot(x_axis.at(x.value or 0.0), _down(y_axis, y.value or 0.0), _point_name(y.label))
        for x, y in drawn
    ]
    points = [
        _point(x, y, spot, place, x_axis=x_axis, y_axis=y_axis)
        for (x, y), spot, place in zip(drawn, spots, placed(spots), strict=True)
    ]
    rows = tuple(_scatter_row(x, y, x_axis, y_axis) for x, y in pairs)
    return ScatterChart(tuple(points), rows, x_axis, y_axis)


def _down(axis: Axis, value: float) -> float:
    return SCATTER_PX * (1 - axis.at(value) / 100)


def _point_name(label: str) -> Name:
    """A name for which there is room in half of the chart: so it fits on one side of any point."""
    room = (NARROW_PX - SCATTER_MARGIN_PX) / 2 - DOT_PX
    return cut_name(label, wide=_MAX_POINT_NAME, narrow=int(room / CELL_PX))


def _point(x: Mark, y: Mark, spot: Spot, place: Place, *, x_axis: Axis, y_axis: Axis) -> Point:
    across = x.interval and (x_axis.at(x.interval[0]), x_axis.at(x.interval[1]))
    down = y.interval and (_down(y_axis, y.interval[0]), _down(y_axis, y.interval[1]))
    return Point(
        spot.name,
        y.hue_class,
        x.is_small or y.is_small,
        x.value or 0.0,
        y.value or 0.0,
        spot.x,
        spot.y,
        across,
        down,
        place,
    )


def _scatter_row(x: Mark, y: Mark, x_axis: Axis, y_axis: Axis) -> ScatterRow:
    is_drawn = x.value is not None and y.value is not None
    return ScatterRow(
        _point_name(y.label),
        y.hue_class,
        is_drawn,
        *value_texts(x, x_axis),
        *value_texts(y, y_axis),
    )
