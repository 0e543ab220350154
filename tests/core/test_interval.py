"""How sure a number is, held against scipy's implementation of the same intervals."""

from __future__ import annotations

import random
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize, stats  # type: ignore[import-untyped]

from rolebook.core.interval import (
    FEWEST_ALIKE,
    Difference,
    Distribution,
    Interval,
    difference_interval,
    distribution,
    lasting,
    lasting_quantile,
    mean_interval,
    share_interval,
    student_t,
)

VALUES = st.floats(-1e6, 1e6, allow_nan=False)
MEASURES = VALUES.map(lambda value: round(value, 6))


T = TypeVar("T")


def known(value: T | None) -> T:
    assert value is not None
    return value


def ends(interval: Interval | None) -> tuple[float, float]:
    low, high = known(interval).low, known(interval).high
    return known(low), known(high)


@given(st.one_of(st.integers(1, 100_000), st.floats(1, 10_000)))
@example(1)
@example(10_000_000)
def test_students_t_is_scipys(df):
    assert student_t(df) == pytest.approx(stats.t.ppf(0.975, df), abs=1e-6)


@pytest.mark.parametrize(("truth", "lowest"), [(0.5, 0.02), (0.7, 0.02), (0.95, 0.005)])
def test_looking_after_every_observation_misses_the_truth_in_less_than_5_of_100_cases(
    truth, lowest
):
    """Not simulated: the chance of every number of successes that the truth has survived until then."""
    missed, chances = 0.0, {0: 1.0}
    for n in range(1, 121):
        following: dict[int, float] = {}
        for won, chance in chances.items():
            for more, part in ((1, truth), (0, 1 - truth)):
                following[won + more] = following.get(won + more, 0.0) + chance * part
        chances = {}
        for won, chance in following.items():
            low, high = lasting(won / n, n)
            if low <= truth <= high:
                chances[won] = chance
            else:
                missed += chance
    assert lowest < missed < 0.05


@pytest.mark.parametrize("among", [1, 6])
@pytest.mark.parametrize("n", [40, 100, 300])
def test_a_share_that_is_just_clear_is_a_lasting_quantile_from_one_half(n, among):
    furthest = optimize.brentq(lambda share: lasting(share, n, among)[0] - 0.5, 0.5, 1 - 1e-9)
    assert lasting_quantile(n, among) == pytest.approx((furthest - 0.5) * 2 * n**0.5, rel=0.05)


def test_votes_that_all_say_the_same_are_clear_from_eight_on():
    assert FEWEST_ALIKE == 8
    assert lasting(1.0, FEWEST_ALIKE)[0] > 0.5 > lasting(1.0, FEWEST_ALIKE - 1)[0]


@given(st.lists(VALUES, min_size=2, max_size=40, unique=True))
def test_the_interval_of_a_mean_is_scipys(values):
    interval = known(mean_interval([[value] for value in values]))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert ends(interval) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert interval.value == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert (interval.n, interval.over) == (len(values), "inputs")


def test_repeats_of_an_input_count_as_one_observation():
    groups = [[1, 1, 1, 1], [2, 4], [6]]
    assert mean_interval(groups) == mean_interval([[1], [3], [6]])


def test_inputs_weigh_the_same_however_often_they_were_repeated():
    assert known(mean_interval([[0] * 9, [1]])).value == 0.5


def test_more_repeats_do_not_make_an_interval_narrower():
    few = mean_interval([[1, 2], [5, 6]])
    many = mean_interval([[1, 2] * 50, [5, 6] * 50])
    assert few == many


def test_repeats_of_a_single_input_say_that_they_are():
    interval = known(mean_interval([[1, 2, 6]]))
    expected = stats.ttest_1samp([1, 2, 6], 0).confidence_interval(0.95)
    assert ends(interval) == pytest.approx((expected.low, expected.high))
    assert (interval.n, interval.over) == (3, "repeats")


def test_a_single_value_has_no_interval():
    assert mean_interval([[7]]) == Interval(7, None, None, 1, "inputs")
    assert not known(mean_interval([[7]])).excludes(1000)


def test_failed_cells_are_left_out():
    assert mean_interval([[], [1], [], [2]]) == mean_interval([[1], [2]])
    assert known(mean_interval([[], [1, 2]])).over == "repeats"


@pytest.mark.parametrize("groups", [[], [[]], [[], []]])
def test_nothing_has_no_mean(groups):
    assert mean_interval(groups) is None


@pytest.mark.parametrize(("n", "is_small"), [(1, True), (9, True), (10, False), (100, False)])
def test_less_than_ten_is_small(n, is_small):
    assert Interval(0, -1, 1, n).is_small is is_small


@pytest.mark.parametrize(
    ("point", "is_excluded"), [(-0.1, True), (0, False), (1, False), (2, False), (2.1, True)]
)
def test_an_interval_excludes_what_lies_outside(point, is_excluded):
    assert Interval(1, 0, 2, 5).excludes(point) is is_excluded


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_is_scipys(counts):
    passed, total = counts
    interval = known(share_interval(passed, total))
    expected = stats.binomtest(passed, total).proportion_ci(0.95, method="wilson")
    assert ends(interval) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert interval.value == passed / total
    assert (interval.n, interval.over) == (total, "answers")


@pytest.mark.parametrize("total", range(1, 30))
def test_none_and_all_lie_within_their_own_interval(total):
    assert ends(share_interval(0, total))[0] == 0
    assert ends(share_interval(total, total))[1] == 1


def test_a_share_of_nothing_is_unknown():
    assert share_interval(0, 0) is None


def test_a_share_may_count_parts_and_say_of_what():
    interval = known(share_interval(2.5, 4, over="inputs"))
    assert interval.value == 0.625
    assert interval.over == "inputs"
    lows = [ends(part)[0] for part in (share_interval(2, 4), interval, share_interval(3, 4))]
    assert lows == sorted(lows)
    assert len(set(lows)) == 3


@given(
    st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=30, unique_by=lambda p: p[1] - p[0])
)
def test_a_difference_is_scipys_paired_one(pairs):
    difference = known(difference_interval([([first], [second]) for first, second in pairs]))
    expected = stats.ttest_1samp([b - a for a, b in pairs], 0).confidence_interval(0.95)
    exact = pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)
    assert ends(difference) == exact
    assert (difference.n, difference.over) == (len(pairs), "inputs")


def test_a_difference_is_the_seconds_less_the_firsts():
    difference = known(difference_interval([([1, 3], [5]), ([10], [14, 16]), ([0], [4])]))
    assert difference.value == pytest.approx((3 + 5 + 4) / 3)
    assert difference.is_clear


@pytest.mark.parametrize("count", [3, 5, 6, 8])
def test_shares_differ_on_no_fewer_inputs_than_a_sign_test_asks_for(count: int):
    """However they do: all in the same way, which has no interval, and nearly so, which has one."""
    always, nearly = ([0, 0, 0], [1, 1, 1]), ([0, 0, 0], [1, 1, 0])
    for pairs in ([always] * count, [nearly] + [always] * (count - 1)):
        assert known(difference_interval(pairs)).is_clear == (count >= 6)
    # Numbers of words may be told apart by fewer.
    words = [([50.0, 60], [410.0, 400 + n]) for n in range(count)]
    assert known(difference_interval(words)).is_clear


def test_pairing_sees_through_inputs_that_differ():
    pairs = [([level], [level + 1 + level % 2 / 10]) for level in (10, 55, 300, 1201, 9000)]
    assert known(difference_interval(pairs)).is_clear
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    assert ends(mean_interval(second))[0] < known(mean_interval(first)).value


def test_a_difference_on_one_input_is_scipys_welch():
    first, second = [1.0, 2, 4, 4], [3.0, 9, 11]
    difference = known(difference_interval([(first, second)]))
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert ends(difference) == pytest.approx((expected.low, expected.high))
    assert (difference.n, difference.over) == (3, "repeats")


def test_one_answer_on_each_side_has_a_difference_and_no_interval():
    assert difference_interval([([1], [3, 5])]) == Difference(3, None, None, 1, "inputs")
    assert not known(difference_interval([([1], [3])])).is_clear


def test_inputs_that_one_side_did_not_answer_are_left_out():
    answered = difference_interval([([1], [2]), ([], [9]), ([9], []), ([1], [4])])
    assert known(answered).value == 2
    assert difference_interval([([], [9])]) is None
    assert difference_interval([]) is None


@pytest.mark.parametrize(("count", "is_clear"), [(2, False), (5, False), (6, True)])
def test_differences_without_spread_need_six_inputs(count, is_clear):
    assert known(difference_interval([([1], [2])] * count)).is_clear is is_clear
    assert known(difference_interval([([1] * count, [2] * count)])).is_clear is is_clear


@pytest.mark.parametrize(("count", "is_clear"), [(6, False), (8, False), (9, True)])
def test_the_more_differences_are_told_together_the_more_each_takes(count, is_clear):
    pairs = [([1], [2])] * count
    assert known(difference_interval(pairs, among=7)).is_clear is is_clear
    spread = [([1.0], [2.0 + n / 10]) for n in range(count)]
    alone, together = difference_interval(spread), difference_interval(spread, among=7)
    reach = [known(found.high) - found.value for found in (known(alone), known(together))]
    expected = [stats.t.ppf(1 - 0.025 / among, count - 1) for among in (1, 7)]
    assert reach[1] / reach[0] == pytest.approx(expected[1] / expected[0])


def test_observations_that_are_all_alike_do_not_tell_how_far_off_they_are():
    assert mean_interval([[3], [3], [3]]) == Interval(3, None, None, 3)
    assert difference_interval([([3], [3])] * 9) == Difference(0, None, None, 9)


def test_no_difference_at_all_is_none_however_often_seen():
    assert not known(difference_interval([([1], [1])] * 50)).is_clear


THIRDS = ([0, 0, 1], [0, 1, 1], [1, 1, 1])


@pytest.mark.parametrize(("count", "is_clear"), [(2, False), (4, False), (6, True)])
def test_what_differs_in_the_last_digit_alone_is_alike(count, is_clear):
    """A third more on each input is one and the same difference, though 2/3 - 1/3 is not 1 - 2/3 to a computer."""
    pairs = [THIRDS[:2], THIRDS[1:]] * (count // 2)
    assert 2 / 3 - 1 / 3 != 1 - 2 / 3
    difference = known(difference_interval(pairs))
    assert (difference.low, difference.high, difference.is_clear) == (None, None, is_clear)
    assert difference.value == pytest.approx(1 / 3)
    assert known(mean_interval([[0.1, 0.2, 0.3], [0.2] * 3])).low is None


def test_what_rounding_leaves_is_no_difference():
    assert sum([0.1, 0.2, 0.3]) / 3 != 0.2
    rounded = [([0.1, 0.2, 0.3], [0.2] * 3)]
    assert difference_interval(rounded * 9) == Difference(0, None, None, 9)
    alike = known(difference_interval([([0.002] * 3, [0.003] * 3)]))
    assert (alike.low, alike.over, alike.is_clear) == (None, "repeats", False)


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_what_differs_by_a_millionth_differs(scale):
    values = [[scale], [scale * (1 + 1e-6)]]
    low, high = ends(mean_interval(values))
    expected = stats.t.interval(0.95, 1, scale * (1 + 5e-7), scale * 5e-7)
    assert (low, high) == pytest.approx(expected)


def test_about_95_of_100_intervals_hold_the_truth():
    source = random.Random(7)

    def holds() -> bool:
        groups = []
        for _ in range(8):
            level = source.gauss(0, 1)
            groups.append([level + source.gauss(0, 1) for _ in range(5)])
        return not known(mean_interval(groups)).excludes(0)

    assert 0.93 <= sum(holds() for _ in range(2000)) / 2000 <= 0.97


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4], Distribution(4, 4, 4, 4, 4, 1)),
        ([8, 1], Distribution(1, 2.75, 4.5, 6.25, 8, 2)),
        ([5, 1, 4, 2, 3], Distribution(1, 2, 3, 4, 5, 5)),
        ([1, 2, 3, 100], Distribution(1, 1.75, 2.5, 27.25, 100, 4)),
    ],
)
def test_a_distribution_names_its_quartiles(values, expected):
    assert distribution(values) == expected


def test_nothing_has_no_distribution():
    assert distribution([]) is None
