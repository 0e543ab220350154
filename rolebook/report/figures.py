"""Numbers and their intervals as texts, with as many digits as the interval leaves a meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rolebook.core.interval import Difference, Interval
from rolebook.report.chart.axis import PERCENT, UNKNOWN, Unit

#: Of measures by the unit that they name; what is not here is a number without one.
UNITS: Mapping[str, Unit] = {"s": Unit("{} s"), "$": Unit("${}"), "share": PERCENT}


def upright(difference: Difference) -> Interval:
    """The size of a difference that is clear, whichever way it goes."""
    if difference.value >= 0:
        return difference
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    return Interval(-difference.value, low, high, difference.n, difference.over)


def figures(interval: Interval, unit: Unit) -> tuple[str, str]:
    """A number with its unit, and its interval without; as many digits as the interval leaves a meaning."""
    text = unit.text(interval.value, _step(interval.value, interval))
    if interval.low is None or interval.high is None:
        return text, UNKNOWN
    ends = [unit.digits(end, _step(end, interval)) for end in (interval.low, interval.high)]
    return text, unit.between.format(*ends)


def signed(interval: Interval, unit: Unit) -> str:
    """A difference with its sign and unit; what is rounded to nothing has no sign."""
    text = unit.text(abs(interval.value), _step(interval.value, interval))
    if not any(digit in text for digit in "123456789"):
        return text
    return f"{'−' if interval.value < 0 else '+'}{text}"


def _step(number: float, interval: Interval) -> float:
    """How finely a number of an interval is written; what lies beside zero for certain must not seem to be that."""
    low, high = interval.low, interval.high
    if low is None or high is None or low == high:
        return _power((abs(interval.value) or 10.0) / 10)
    # Ends that differ by no more than rounding does leave a meaning to every digit there is; four will do.
    step = _power(max((high - low) / 4, max(abs(low), abs(high)) / 1000))
    is_hidden = interval.excludes(0.0) and 0.0 < abs(number) < step / 2
    # One digit is enough to show it: 0.1–100, where the other end has no decimals.
    return max(_power(float(f"{abs(number):.1g}")), step / 100) if is_hidden else step


def _power(value: float) -> float:
    """The power of ten at or below a value."""
    return 10.0 ** math.floor(math.log10(value))
