"""Charts as geometry: where scales, ticks, dots and labels lie. ``charts.html`` draws them.

Across, places are shares of the width in per cent; down, they are pixels. So a chart is as wide as there is room, and
its letters never shrink. What has to fit is measured for the narrowest place and, where that differs, for a wide one.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

from rolebook.core.frozen import frozen
from rolebook.report.visible import visible

UNKNOWN = "–"
#: The width of a chart on a phone of 360 px, and from where on it shows the longer names, as `chart.css` has it too.
NARROW_PX = 320
WIDE_PX = 480
#: Half an em of the letters of a chart, which are 13 px high, and a little more; a Chinese character takes two.
CELL_PX = 7.2
#: The same for the texts of an axis, which are 12 px high.
TICK_CELL_PX = 6.6

ROW_PX = 50
STRIP_PX = 32
AXIS_PX = 28
BARS_ROW_PX = 76
BARS_TOP_PX = 24
BARS_PX = 34
MATRIX_CELL_PX = 44
MATRIX_HEAD_PX = 24
MATRIX_NAMES = 34.0
SCATTER_PX = 264
SCATTER_MARGIN_PX = 56
LINE_PX = 17
DOT_PX = 7
_GAP_PX = 8
_MAX_BINS = 20
_MAX_POINT_NAME = 20
#: As long as "one answer" in any language.
_NOTE = " " * 12
_BROAD = frozenset("MWmw@%…—")

Anchor = Literal["start", "middle", "end"]
_SHIFTS: dict[Anchor, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}


@frozen
class Mark:
    """A number of one variant, with its 95 % interval where there is one.

    ``hue_class`` is the CSS class of its persona's hue. ``value`` is None where it is unknown, ``low`` and ``high``
    where one answer tells nothing of others. ``n`` answers (or votes) stand behind it; ``is_small`` where they are too
    few to say much.
    """

    label: str
    hue_class: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    is_small: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its ends, where it has any."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return self.low, self.high


@frozen
class Sample:
    """All numbers of one variant, such as the lengths of its answers."""

    label: str
    hue_class: str
    values: Sequence[float]


@frozen
class Duel:
    """How one variant did against another: its share of the wins, 0 to 1, in ``n`` votes; None before the first."""

    share: float | None
    n: int


@frozen
class Unit:
    """How numbers of a kind are written: in ``pattern``, in the place of ``{}``, the value times ``factor``.

    ``between`` says from where to where; where a number may be below zero, in words, as a dash seems to be a minus.
    """

    pattern: str = "{}"
    factor: float = 1.0
    between: str = "{}–{}"

    def text(self, value: float | None, step: float) -> str:
        """A value with as many digits as it takes to tell it from one that is a ``step`` away."""
        return UNKNOWN if value is None else self.pattern.format(self._digits(value, step))

    def text_between(self, low: float, high: float, step: float) -> str:
        """An interval, without the unit: it stands beside a value that has it."""
        return self.between.format(self._digits(low, step), self._digits(high, step))

    def _digits(self, value: float, step: float) -> str:
        decimals = max(0, -_exponent(step * self.factor))
        text = f"{value * self.factor:,.{decimals}f}"
        # What is rounded to nothing has no sign.
        is_negative = text.startswith("-") and any(digit in text for digit in "123456789")
        return ("−" if is_negative else "") + text.removeprefix("-")


NUMBER = Unit()
SECONDS = Unit("{} s", 0.001)
"""Of milliseconds, as the log has them."""
DOLLARS = Unit("${}")
PERCENT = Unit("{} %", 100)
"""Of shares between 0 and 1."""
SHARES = (0.0, 1.0)


@frozen
class Tick:
    """A mark of an axis: its value, its place in per cent of the width, its text and which end of that stands there."""

    value: float
    at: float
    text: str
    anchor: Anchor


@frozen
class Axis:
    """A scale from its first tick (0 %) to its last (100 %); ``step`` lies between two of them."""

    ticks: tuple[Tick, ...]
    step: float
    unit: Unit

    @property
    def low(self) -> float:
        return self.ticks[0].value

    @property
    def high(self) -> float:
        return self.ticks[-1].value

    def at(self, value: float) -> float:
        """Where a value lies, in per cent."""
        return 100 * (value - self.low) / (self.high - self.low)

    def text(self, value: float | None) -> str:
        """A value as rows and tables say it: a digit finer than the ticks, and so that little is not nothing."""
        return self.unit.text(value, self._fineness(value))

    def text_between(self, low: float, high: float, *, of: float) -> str:
        """The interval of a value, as fine as the value."""
        return self.unit.text_between(low, high, self._fineness(of))

    def _fineness(self, value: float | None) -> float:
        step = self.step / 10
        return min(step, 10.0 ** (_exponent(value) - 1)) if value else step


def make_axis(
    values: Iterable[float],
    unit: Unit = NUMBER,
    *,
    bounds: tuple[float, float] | None = None,
    width_px: float = NARROW_PX,
) -> Axis:
    """An axis over all the values, in steps of 1, 2 or 5 times a power of ten, whose texts do not touch at a width.

    It begins at zero unless the values lie close together and far from it. ``bounds`` are what it covers at least.
    """
    low, high = _span(values, bounds)
    axes = [_divided(low, high, unit, parts) for parts in (6, 5, 4, 3, 2, 1)]
    return next((axis for axis in axes if _is_legible(axis, width_px)), axes[-1])


def _span(values: Iterable[float], bounds: tuple[float, float] | None) -> tuple[float, float]:
    known = [*values, *(bounds or ())]
    if not any(known):
        return 0.0, 1.0
    low, high = min(known), max(known)
    span, size = high - low, max(abs(low), abs(high))
    # What differs by next to nothing is all the same: no axis could tell it apart.
    is_close = size * 1e-6 < span < size / 2
    return (low, high) if is_close else (min(low, 0.0), max(high, 0.0))


def _divided(low: float, high: float, unit: Unit, parts: int) -> Axis:
    step = _nice((high - low) / parts)
    # Whole multiples of the step, so that sums of it gather no error; a hair keeps ends that are ticks already.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    numbers = range(first, max(last, first + 1) + 1)
    ticks = tuple(_tick(number, numbers, step=step, unit=unit) for number in numbers)
    return Axis(ticks, step, unit)


def _tick(number: int, numbers: range, *, step: float, unit: Unit) -> Tick:
    anchor: Anchor = "middle"
    if number in {numbers[0], numbers[-1]}:
        anchor = "start" if number == numbers[0] else "end"
    at = 100 * (number - numbers[0]) / (len(numbers) - 1)
    return Tick(number * step, at, unit.text(number * step, step), anchor)


def _is_legible(axis: Axis, width_px: float) -> bool:
    boxes = [_ends(tick, width_px) for tick in axis.ticks]
    return all(left[1] + _GAP_PX <= right[0] for left, right in pairwise(boxes))


def _ends(tick: Tick, width_px: float) -> tuple[float, float]:
    length = cells(tick.text) * TICK_CELL_PX
    left = tick.at / 100 * width_px - _SHIFTS[tick.anchor] * length
    return left, left + length


def _nice(step: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** _exponent(step)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _exponent(value: float) -> int:
    """The power of ten of the first digit."""
    return math.floor(math.log10(abs(value)) + 1e-9)


def cells(text: str) -> float:
    """How wide a text is, in halves of a Chinese character: rather too much than too little, whatever the face."""
    return sum(_width(character) for character in text)


def _width(character: str) -> float:
    if unicodedata.combining(character):
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    if character in _BROAD:
        return 1.8
    return 1.3 if character.isupper() else 1


def shortened(text: str, limit: int) -> str:
    """A text that is at most so many cells wide; where something is cut off, it ends in an ellipsis."""
    if cells(text) <= limit:
        return text
    # The ellipsis is a whole character in Chinese faces.
    kept, width = [], 2.0
    for character in text:
        width += _width(character)
        if width > limit:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


@frozen
class Name:
    """A variant's name: whole for tables, cut for a wide and for a narrow chart."""

    whole: str
    wide: str
    narrow: str


def _name(label: str, *, wide: int, narrow: int) -> Name:
    whole = visible(label)
    return Name(whole, shortened(whole, wide), shortened(whole, narrow))


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
    axis = make_axis([*_numbers(marks), *line], unit, bounds=bounds)
    rows = tuple(_interval_row(mark, axis, top=n * ROW_PX) for n, mark in enumerate(marks))
    return IntervalChart(rows, axis, None if reference is None else axis.at(reference))


def _numbers(marks: Iterable[Mark]) -> Iterator[float]:
    for mark in marks:
        if mark.value is not None:
            yield mark.value
            yield from mark.interval or ()


def _interval_row(mark: Mark, axis: Axis, *, top: float) -> IntervalRow:
    low, high = mark.interval or (None, None)
    text, between = _texts(mark, axis)
    # A narrow chart keeps the interval to its line and its table, but says where there is none.
    name = _name(
        mark.label,
        wide=_room(WIDE_PX, text, between or _NOTE),
        narrow=_room(NARROW_PX, text, "" if between else _NOTE),
    )
    return IntervalRow(
        mark,
        name,
        top,
        _at(axis, mark.value),
        _at(axis, low),
        _at(axis, high),
        text,
        between,
    )


def _texts(mark: Mark, axis: Axis) -> tuple[str, str]:
    if mark.value is None or mark.interval is None:
        return axis.text(mark.value), ""
    low, high = mark.interval
    return axis.text(mark.value), axis.text_between(low, high, of=mark.value)


def _at(axis: Axis, value: float | None) -> float | None:
    return None if value is None else axis.at(value)


def _room(width_px: float, *beside: str) -> int:
    """How many cells of a name fit on a line with other texts."""
    return max(8, int(width_px / CELL_PX - sum(cells(text) + 2 for text in beside)))


@frozen
class MatrixCell:
    """How the variant of a row did against that of a column: ``x`` and ``width`` in per cent, ``heat`` from 0 to 10.

    ``heat`` is None where there is no vote, ``is_diagonal`` where a variant meets itself. ``short_text`` leaves out the
    unit, which every cell would repeat.
    """

    duel: Duel | None
    column: int
    x: float
    width: float
    heat: int | None
    text: str
    short_text: str
    is_diagonal: bool

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@frozen
class MatrixRow:
    """A variant's wins against each of the others; ``number`` stands for it over its column."""

    number: int
    name: Name
    hue_class: str
    y: float
    cells: tuple[MatrixCell, ...]


@frozen
class MatrixChart:
    """Variants by variants, in cells of ``cell_px`` pixels down."""

    rows: tuple[MatrixRow, ...]
    cell_px: ClassVar[float] = MATRIX_CELL_PX

    @property
    def height(self) -> float:
        return MATRIX_HEAD_PX + len(self.rows) * MATRIX_CELL_PX

    @property
    def clearest(self) -> tuple[MatrixRow, MatrixRow, MatrixCell] | None:
        """Winner, loser and cell of the pair that is least likely to be even, if any is not even."""
        duels = [
            (row, other, cell)
            for row in self.rows
            for other, cell in zip(self.rows, row.cells, strict=True)
            if not cell.is_diagonal and _lead(cell.duel) > 0
        ]
        return max(duels, key=lambda duel: _lead(duel[2].duel), default=None)


def _lead(duel: Duel | None) -> float:
    """How far a share is from even, in standard errors of an even one (but for a factor)."""
    if duel is None or duel.share is None:
        return 0.0
    return (duel.share - 0.5) * math.sqrt(duel.n)


def matrix_chart(
    variants: Sequence[tuple[str, str]], duels: Sequence[Sequence[Duel | None]]
) -> MatrixChart:
    """A heat map of wins.

    Arguments:
        variants: name and hue class of each.
        duels: for each variant a row, in it for each variant how the first did against it; None on the diagonal.
    """
    width = (100 - MATRIX_NAMES) / max(1, len(variants))
    return MatrixChart(
        tuple(
            MatrixRow(
                index + 1,
                _name(label, wide=_names_room(WIDE_PX), narrow=_names_room(NARROW_PX)),
                hue_class,
                MATRIX_HEAD_PX + index * MATRIX_CELL_PX,
                tuple(
                    _matrix_cell(duel, column, width=width, is_diagonal=column == index)
                    for column, duel in enumerate(duels[index])
                ),
            )
            for index, (label, hue_class) in enumerate(variants)
        )
    )


def _names_room(width_px: float) -> int:
    """For the names beside a matrix, after their number."""
    return int((width_px * MATRIX_NAMES / 100 - 28) / CELL_PX)


def _matrix_cell(duel: Duel | None, column: int, *, width: float, is_diagonal: bool) -> MatrixCell:
    share = None if is_diagonal or duel is None else duel.share
    return MatrixCell(
        duel,
        column,
        MATRIX_NAMES + column * width,
        width,
        None if share is None else round(share * 10),
        "" if is_diagonal else PERCENT.text(share, 0.01),
        "" if is_diagonal else Unit(factor=100).text(share, 0.01),
        is_diagonal,
    )


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
        left = x_px + self.dx - _SHIFTS[self.anchor] * width_px
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
        _numbers(x for x, _ in drawn), x_unit, width_px=NARROW_PX - SCATTER_MARGIN_PX
    )
    y_axis = make_axis(_numbers(y for _, y in drawn), y_unit, bounds=y_bounds)
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
    return _name(label, wide=_MAX_POINT_NAME, narrow=int(room / CELL_PX))


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
        _point_name(y.label), y.hue_class, is_drawn, *_texts(x, x_axis), *_texts(y, y_axis)
    )


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
        _name(sample.label, wide=_room(WIDE_PX, text, middle), narrow=_room(NARROW_PX, text)),
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
