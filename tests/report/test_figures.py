from rolebook.core.interval import Interval
from rolebook.report.chart import DOLLARS, NUMBER, Unit
from rolebook.report.figures import figures, signed


def test_nothing_has_no_more_digits_than_it_takes() -> None:
    nothing = Interval(0.0, 0.0, 0.0, 4)
    points = Unit("{} points", 100)
    assert ["$0", "0", "0 points"] == [signed(nothing, unit) for unit in (DOLLARS, NUMBER, points)]
    assert ("$0", "0–0") == figures(nothing, DOLLARS)
