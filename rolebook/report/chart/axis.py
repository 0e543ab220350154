"""What all charts share: numbers with their intervals, scales with their ticks, and names that fit beside them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

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
#: How much of its height a chart leaves to the texts of the axis below it.
AXIS_PX = 28
_GAP_PX = 8
_BROAD = frozenset("MWmw@%…—")

Anchor = Literal["start", "middle", "end"]
#: How much of a text is left of the point that it is anchored to.
ANCHOR_SHIFTS: dict[Anchor, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}


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
        return UNKNOWN if value is None else self.pattern.format(self.digits(value, step))

    def text_between(self, low: float, high: float, step: float) -> str:
        """An interval, without the unit: it stands beside a value that has it."""
        return self.between.format(self.digits(low, step), self.digits(high, step))

    def digits(self, value: float, step: float) -> str:
        """A value as ``text`` writes it, without the unit."""
        decimals = max(0, -exponent(step * self.factor))
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
        return min(step, 10.0 ** (exponent(value) - 1)) if value else step


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
    left = tick.at / 100 * width_px - ANCHOR_SHIFTS[tick.anchor] * length
    return left, left + length


def _nice(step: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** exponent(step)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def exponent(value: float) -> int:
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


def cut_name(label: str, *, wide: int, narrow: int) -> Name:
    """A label as a name that takes at most so many cells in a wide and in a narrow chart."""
    whole = visible(label)
    return Name(whole, shortened(whole, wide), shortened(whole, narrow))


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


def known_values(marks: Iterable[Mark]) -> Iterator[float]:
    """All that an axis has to cover: values and the ends of their intervals."""
    for mark in marks:
        if mark.value is not None:
            yield mark.value
            yield from mark.interval or ()


def value_texts(mark: Mark, axis: Axis) -> tuple[str, str]:
    """What says a value, and its interval (empty where it has none)."""
    if mark.value is None or mark.interval is None:
        return axis.text(mark.value), ""
    low, high = mark.interval
    return axis.text(mark.value), axis.text_between(low, high, of=mark.value)


def place_of(axis: Axis, value: float | None) -> float | None:
    """Where a value lies, in per cent; None where it is unknown."""
    return None if value is None else axis.at(value)


def name_room(width_px: float, *beside: str) -> int:
    """How many cells of a name fit on a line of a width with other texts."""
    return max(8, int(width_px / CELL_PX - sum(cells(text) + 2 for text in beside)))
