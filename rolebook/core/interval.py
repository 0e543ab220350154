"""How sure a number is: 95 % intervals of means, shares and differences, and how values spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from rolebook.core.frozen import frozen

Over = Literal["inputs", "repeats", "answers", "votes"]
"""What was counted: inputs can stand for other inputs, the repeats of a single input only for that input."""

CONFIDENCE = 0.95


def normal_quantile(among: int = 1) -> float:
    """How many standard errors reach to either end of 95 % intervals of which ``among`` are to hold together."""
    return statistics.NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / among / 2)


NORMAL_QUANTILE = normal_quantile()
FEWEST_ALIKE = 8
"""So many observations must all point the same way before ``lasting`` rules out one half: ½⁸ is below 5 % of 1/9."""

_FEW = 10
_ROUNDING = 1e-9
"""Numbers that differ by less than so much of what they were made from are the same: a third of three answers and what
two thirds are short of all differ in the last digit, and nothing else tells them apart."""


@frozen
class Interval:
    """A number with the interval that holds the true one 95 times in 100.

    ``n`` is how many of what ``over`` names it rests on. ``low`` and ``high`` are None where nothing tells how far
    off it may be: of a single observation, and of several that are all alike, since the next one may be any other.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    over: Over = "inputs"

    @property
    def is_small(self) -> bool:
        """Whether it rests on so little that this must be said wherever it is shown."""
        return self.n < _FEW

    def excludes(self, point: float) -> bool:
        """Whether ``point`` lies outside; never where there is no interval."""
        return self.low is not None and self.high is not None and not self.low <= point <= self.high


@frozen
class Difference(Interval):
    """By how much the second of two variants lies above the first.

    ``among`` is how many such differences are told together. Their intervals are so much wider that 95 times in 100
    all of them hold, not each by itself: of many, some would seem clear by chance. ``is_share`` says that it is one of
    shares: each answer is so or not, or passes so many of a few checks.
    """

    among: int = 1
    is_share: bool = False

    @property
    def is_clear(self) -> bool:
        """Whether there is a difference at all.

        Where all observations are the same there is no interval; then it takes as many as a sign test asks for, six for
        a single difference. So it does for shares: few of them are nothing that Student's t knows, and of variants that
        are alike it called one in five clearly better where three inputs decided by themselves which of them passes.
        """
        is_enough = 2 * 0.5**self.n < (1 - CONFIDENCE) / self.among
        if self.low is None:
            return self.value != 0 and is_enough
        return self.excludes(0.0) and (is_enough or not self.is_share)


def mean_interval(groups: Sequence[Sequence[float]]) -> Interval | None:
    """The mean over inputs of the mean over the repeats of each, with Student's t interval over the inputs.

    The repeats of one input are not independent, so they count as one observation together (clustered standard errors:
    Miller 2024, "Adding error bars to evals"). With a single input the interval is over its repeats, and says so.

    Arguments:
        groups: the values of one input's repeats each; an empty one is left out.

    Returns None if there is no value at all.
    """
    filled = [group for group in groups if group]
    if not filled:
        return None
    if len(filled) == 1 and len(filled[0]) > 1:
        return _t_interval(filled[0], over="repeats")
    return _t_interval(list(map(mean_of, filled)), over="inputs")


def share_interval(passed: float, total: int, *, over: Over = "answers") -> Interval | None:
    """``passed`` of ``total`` with Wilson's score interval (1927), which holds for few and for extreme shares too.

    Where inputs were repeated, pass the sum of the inputs' shares and the number of inputs: repeats are not
    independent, and this errs on the safe side.

    Returns None if ``total`` is 0.
    """
    if total == 0:
        return None
    low, high = wilson(passed / total, total)
    return Interval(passed / total, low, high, total, over)


def difference_interval(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], *, among: int = 1
) -> Difference | None:
    """The mean over inputs of what the second variant has more than the first, with Student's t interval.

    Paired by input, so that what makes one input harder than another does not count. With a single input the interval
    is Welch's, over its repeats, and says so.

    Arguments:
        pairs: for each input the repeats of the first variant and those of the second; a pair with an empty side is
            left out.
        among: how many differences are told together; see Difference. The correction is Bonferroni's.

    Returns None if no pair is left.
    """
    filled = [pair for pair in pairs if all(pair)]
    if not filled:
        return None
    is_share = all(value in (0, 1) for pair in filled for side in pair for value in side)
    if len(filled) == 1 and min(map(len, filled[0])) > 1:
        return replace(_welch_interval(*filled[0], among), is_share=is_share)
    means = [(mean_of(first), mean_of(second)) for first, second in filled]
    mean = _t_interval(
        [second - first for first, second in means],
        over="inputs",
        among=among,
        made_from=[mean for pair in means for mean in pair],
    )
    return Difference(mean.value, mean.low, mean.high, mean.n, mean.over, among, is_share)


def mean_of(values: Sequence[float]) -> float:
    """Their mean. Most inputs are asked once, and one value needs no summing up."""
    return values[0] if len(values) == 1 else statistics.fmean(values)


def otherwise(n: int) -> float:
    """The largest share of observations that may be otherwise where ``n`` of them were all alike, at 95 %."""
    return 1 - math.pow(1 - CONFIDENCE, 1 / n)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Low and high end of Wilson's score interval for a share seen in ``n`` > 0 observations, of any effective size."""
    z2 = NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # None and all are inside exactly, which rounding would not leave to them.
    return centre - reach if share > 0 else 0.0, centre + reach if share < 1 else 1.0


def lasting(share: float, n: float, among: int = 1) -> tuple[float, float]:
    """Low and high end of an interval for a share that holds however often somebody looks while observations come in.

    A share is ruled out if what was seen is twenty times less likely under it than on average over all shares (Robbins
    1970). Whatever the true one is, that ever happens to it in at most 5 of 100 cases (Ville 1939). Wilson's interval
    holds for a single look: whoever goes on long enough finds the truth outside of that at some time.

    Arguments:
        n: how many observations, of any effective size.
        among: how many such intervals are to hold together.
    """
    won, lost = share * n, (1 - share) * n
    average = math.lgamma(won + 1) + math.lgamma(lost + 1) - math.lgamma(n + 2)
    least = average + math.log((1 - CONFIDENCE) / among)

    def end(outside: float) -> float:
        inside = share
        while abs(inside - outside) > 1e-9:
            middle = (inside + outside) / 2
            if won * math.log(middle) + lost * math.log(1 - middle) < least:
                outside = middle
            else:
                inside = middle
        return inside

    # None and all are inside exactly.
    return end(0.0) if share > 0 else 0.0, end(1.0) if share < 1 else 1.0


def lasting_quantile(n: float, among: int = 1) -> float:
    """How many standard errors a share of ``n`` observations is from one half when ``lasting`` just rules that out."""
    spread = 1 + n / 3
    chance = (1 - CONFIDENCE) / among
    return math.sqrt((1 + 3 / n) * (math.log(spread) - 2 * math.log(chance)))


def _t_interval(
    values: Sequence[float], *, over: Over, among: int = 1, made_from: Sequence[float] = ()
) -> Interval:
    noise = _noise(made_from or values)
    if max(values) - min(values) <= noise:
        return Interval(_without(noise, values[0]), None, None, len(values), over)
    mean, n = statistics.fmean(values), len(values)
    reach = student_t(n - 1, among) * math.sqrt(_squared_error(values))
    return Interval(mean, mean - reach, mean + reach, n, over)


def _welch_interval(first: Sequence[float], second: Sequence[float], among: int) -> Difference:
    value, n = statistics.fmean(second) - statistics.fmean(first), min(len(first), len(second))
    errors = _squared_error(first), _squared_error(second)
    total = sum(errors)
    noise = _noise([*first, *second])
    if math.sqrt(total) <= noise:
        return Difference(_without(noise, value), None, None, n, "repeats", among)
    # The degrees of freedom after Welch and Satterthwaite.
    df = 1 / sum(
        (error / total) ** 2 / (len(sample) - 1)
        for error, sample in zip(errors, (first, second), strict=True)
    )
    reach = student_t(df, among) * math.sqrt(total)
    return Difference(value, value - reach, value + reach, n, "repeats", among)


def _noise(values: Sequence[float]) -> float:
    """By how much what is made from ``values`` may differ by rounding alone."""
    return _ROUNDING * max(map(abs, values))


def _without(noise: float, value: float) -> float:
    """The value, or zero where nothing but noise keeps it from that."""
    return value if abs(value) > noise else 0.0


def _squared_error(values: Sequence[float]) -> float:
    """The squared standard error of the mean of ``values``."""
    mean, n = statistics.fmean(values), len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n


@lru_cache(maxsize=1024)
def student_t(df: float, among: int = 1) -> float:
    """How many standard errors reach to either end of a 95 % interval with ``df`` >= 1 degrees of freedom.

    This is the 0.975 quantile of Student's t, correct to 1e-6; of several intervals that are to hold together, by
    Bonferroni, a quantile as much further out.
    """
    chance = (1 - CONFIDENCE) / among
    # Student's t has no heavier tails than with one degree of freedom, where this is its quantile.
    low, high = 1.9, 1.01 / math.tan(math.pi * chance / 2)
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        if _chance_beyond(middle, df) > chance:
            low = middle
        else:
            high = middle
    return low


def _chance_beyond(t: float, df: float) -> float:
    """How often Student's t lies beyond ``t`` or ``-t``: the regularised incomplete beta I(x; df/2, 1/2)."""
    x, a, b = df / (df + t * t), df / 2, 0.5
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta)
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1 - front * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    result, m, change = d, 0, 0.0
    while abs(change - 1) > 1e-14:
        m += 1
        change = 1.0
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + numerator / c, 1 / (1 + numerator * d)
            change *= c * d
        result *= change
    return result


@frozen
class Distribution:
    """How values spread. A quarter of them lies below ``lower_quartile``, a quarter above ``upper_quartile``."""

    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float
    count: int


def distribution(values: Sequence[float]) -> Distribution | None:
    """The quartiles of ``values``, between two neighbours by their distance; None if there is no value."""
    if not values:
        return None
    # Before Python 3.13 quartiles need two values at least; one value twice has the same ones.
    quartiles = statistics.quantiles(
        list(values) * 2 if len(values) == 1 else values, method="inclusive"
    )
    lower, median, upper = quartiles
    return Distribution(min(values), lower, median, upper, max(values), len(values))
