"""Numbers and their intervals are written as a person would write them."""

from __future__ import annotations

import pytest

from rolebook.core.interval import Difference, Interval
from rolebook.report.chart.axis import DOLLARS, NUMBER, PERCENT, Unit
from rolebook.report.figures import figures, signed


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "written"),
    [
        (0.5, 0.001, 1.0, PERCENT, ("50 %", "0.1–100")),
        (0.004, 0.001, 1.0, PERCENT, ("0.4 %", "0.1–100")),
        (0.042, 0.0, 0.3, PERCENT, ("4 %", "0–30")),
        (12.0, 0.3, 24.0, NUMBER, ("12", "0.3–24")),
        (12.0, 0.96, 24.0, NUMBER, ("12", "1–24")),
        (1500.0, 0.2, 9000.0, NUMBER, ("1,500", "0–9,000")),
        (-12.0, -24.0, -0.3, NUMBER, ("−12", "−24–−0.3")),
        (0.0213, 0.0201, 0.0225, DOLLARS, ("$0.0213", "0.0201–0.0225")),
        (3.0, 3.0, 3.0, NUMBER, ("3.0", "3.0–3.0")),
    ],
)
def test_each_number_has_the_digits_that_its_interval_leaves_a_meaning(
    value: float, low: float, high: float, unit: Unit, written: tuple[str, str]
) -> None:
    assert written == figures(Interval(value, low, high, 20), unit)


def test_a_difference_that_is_none_has_no_sign() -> None:
    assert "+12" == signed(Difference(12.0, 0.3, 24.0, 20), NUMBER)
    assert "−0.3" == signed(Difference(-0.3, -24.0, -0.2, 20), NUMBER)
    assert "0" == signed(Difference(-0.3, -24.0, 24.0, 20), NUMBER)


def test_nothing_has_no_more_digits_than_it_takes() -> None:
    nothing = Interval(0.0, 0.0, 0.0, 4)
    points = Unit("{} points", 100)
    assert ["$0", "0", "0 points"] == [signed(nothing, unit) for unit in (DOLLARS, NUMBER, points)]
    assert ("$0", "0–0") == figures(nothing, DOLLARS)
