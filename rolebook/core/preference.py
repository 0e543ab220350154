"""What blind votes say: how often one variant is preferred to another, and how sure that is.

Strengths follow Bradley and Terry (1952): a variant of strength p beats one of strength q with chance p / (p + q).
A tie, and two answers that are both bad, are half a win for each.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from typing import Literal

from rolebook.core.frozen import frozen
from rolebook.core.interval import (
    FEWEST_ALIKE,
    NORMAL_QUANTILE,
    Interval,
    lasting,
    lasting_quantile,
    student_t,
)

_RESAMPLES = 2000
_SEED = 0
"""Fixed, so that the same votes give the same figures."""
_MOST_VOTES = 1000
"""Variants that more votes than these would be needed to tell apart look alike."""
_FEWEST_EACH = 10
"""With fewer votes on each variant their share says next to nothing about how many more it takes."""
_TOLERANCE = 1e-9
_COARSE_TOLERANCE = 5e-4
"""Of a share, in a resample: far less than what resamples differ by."""
_LEAST_WEIGHT = 0.02
"""Of a prior's win, in votes: with weights near zero a fit takes thousands of rounds, for the last digit of a share."""
_MOST_ROUNDS = 1000


class Outcome(StrEnum):
    """What a vote says of the two answers it was shown."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


_MIRRORED = {Outcome.LEFT: Outcome.RIGHT, Outcome.RIGHT: Outcome.LEFT}
_SCORES = {Outcome.LEFT: 1.0, Outcome.RIGHT: 0.0, Outcome.TIE: 0.5, Outcome.BOTH_BAD: 0.5}
_Cell = tuple[str, str, Outcome]
_Sample = list[tuple[float, int]]
"""For each group of votes the sum of a variant's scores and the number of votes."""
_Matrix = list[list[float]]


@frozen
class Vote:
    """One vote. ``left`` and ``right`` name the variants as they were shown; ``input`` what both had answered.

    Raises ValueError for a variant beside itself.
    """

    left: str
    right: str
    outcome: Outcome
    input: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.left == self.right:
            raise ValueError(f"a vote between {self.left!r} and itself says nothing")


@frozen
class PairRecord:
    """How one variant did against another. ``share`` counts ties as halves; None: they never met."""

    wins: int
    losses: int
    ties: int
    both_bad: int
    share: Interval | None

    @property
    def votes(self) -> int:
        """How often the two met."""
        return self.wins + self.losses + self.ties + self.both_bad


@frozen
class Verdict:
    """Whether ``better`` is preferred to ``worse``.

    ``share`` is how often. Of two variants it is what the votes say. Of more it is what Bradley-Terry expects between
    these two after all votes, so that the verdict agrees with the ranking, and its ``n`` counts all of them; the
    intervals of all pairs hold together then, because which one is best has been picked from them.
    ``is_clear`` if one half is outside, which stays as rare where nothing differs if somebody looks after every vote.
    ``inputs`` is on how many inputs these votes are; one that names none has its own. Nothing is clear before there are
    eight, however many votes are on them: what all of fewer say may be otherwise for any further one.
    ``votes_needed`` says about how many more votes would make it clear if the share stayed as it is: 0 if it is clear,
    None if that would take over a thousand, or if there are fewer than ten votes on each variant to tell it by.
    """

    better: str
    worse: str
    share: Interval
    inputs: int
    is_clear: bool
    votes_needed: int | None

    @property
    def inputs_needed(self) -> int:
        """On how many further inputs there have to be votes before they tell of any but these."""
        return max(0, FEWEST_ALIKE - self.inputs)

    @property
    def is_narrow(self) -> bool:
        """Whether these are missing, and not votes on the inputs that there are."""
        return self.inputs_needed > 0 and self.share.n >= FEWEST_ALIKE


@frozen
class Preference:
    """What a set of votes says of its variants.

    Variants that no chain of votes connects cannot be ranked against each other. Each of ``components`` holds connected
    ones, the preferred first; ``variants`` is all of them in that order. ``strength`` is the share of votes that a
    variant can expect against the average of its component's others, its ``n`` counts the votes on the variant.
    ``verdicts`` hold the first of each component against each other of it. ``inputs`` counts the different inputs that
    the votes name.
    """

    variants: tuple[str, ...]
    votes: int
    both_bad: int
    inputs: int
    strength: Mapping[str, Interval]
    win_matrix: Mapping[str, Mapping[str, PairRecord]]
    components: tuple[tuple[str, ...], ...]
    verdicts: tuple[Verdict, ...]

    @property
    def is_small(self) -> bool:
        """Whether there are too few inputs for the votes to tell of any others, whatever their number."""
        return any(verdict.inputs_needed > 0 for verdict in self.verdicts)

    @property
    def is_connected(self) -> bool:
        """Whether all variants can be ranked together."""
        return len(self.components) <= 1

    @property
    def best(self) -> str | None:
        """The preferred variant, however unsure; None if there are no votes or they do not connect the variants."""
        return self.variants[0] if len(self.components) == 1 else None


@frozen
class SideBias:
    """Whether votes go to a side rather than to an answer.

    ``interval`` is the left's share of the decided votes, None if there is none. ``is_suspicious`` says that chance
    does not explain how far it is from one half.
    """

    left_wins: int
    right_wins: int
    interval: Interval | None
    is_suspicious: bool


def preference(votes: Iterable[Vote], *, among: int = 1) -> Preference:
    """Count ``votes`` and weigh them; neither their order nor the sides they were shown on change the result.

    All intervals are 95 % ones that hold however often somebody looks while votes come in. Shares of a pair have that
    of Robbins, on the effective number of votes: votes on the same input are not independent, and the more they agree,
    the less each of them adds. Strengths have the percentile interval of 2,000 resamples, widened for both reasons.

    Arguments:
        among: the verdicts of so many sets of votes are to hold together.
    """
    tally = _Tally(votes)
    model = _BradleyTerry(tally)
    strength = {name: _lasting(model.share(name, tally.opponents(name))) for name in tally.variants}
    components = tuple(
        tuple(sorted(component, key=lambda name: (-strength[name].value, name)))
        for component in tally.components
    )
    return Preference(
        variants=tuple(name for component in components for name in component),
        votes=tally.cells.total(),
        both_bad=sum(n for cell, n in tally.cells.items() if cell[2] is Outcome.BOTH_BAD),
        inputs=tally.inputs,
        strength=strength,
        win_matrix={
            a: {b: tally.record(a, b) for b in tally.variants if b != a} for a in tally.variants
        },
        components=components,
        verdicts=tuple(_verdicts(tally, model, components, among)),
    )


def preference_by(votes: Iterable[Vote], key: Literal["input", "tag"]) -> dict[str, Preference]:
    """The preference for each input or each tag that votes name, sorted; a vote with two tags counts for both.

    The verdicts of all of them hold together.
    """
    strata: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        for name in vote.tags if key == "tag" else (vote.input,):
            if name:
                strata[name].append(vote)
    return {name: preference(strata[name], among=len(strata)) for name in sorted(strata)}


def side_bias(votes: Iterable[Vote]) -> SideBias:
    """How the decided votes fell on the two sides; sides are random, so a fair eye finds about half on the left."""
    outcomes = Counter(vote.outcome for vote in votes)
    left, right = outcomes[Outcome.LEFT], outcomes[Outcome.RIGHT]
    decided = left + right
    interval = _interval(left / decided, decided, decided) if decided else None
    return SideBias(left, right, interval, interval is not None and interval.excludes(0.5))


class _Tally:
    """Votes counted by pair and outcome, and how much they tell."""

    def __init__(self, votes: Iterable[Vote]) -> None:
        self._groups, self.inputs = _groups(votes)
        groups = self._groups
        self.cells = Counter(cell for group in groups for cell in group)
        self.pairs = sorted({(a, b) for a, b, _ in self.cells})
        self.variants = sorted({name for pair in self.pairs for name in pair})
        self.components = _components(self.pairs)
        self._effective = {
            names: _effective_size(sample) for names, sample in _samples(groups).items()
        }

    def votes_on(self, *names: str) -> int:
        """How many votes were between any of ``names`` and another variant."""
        return sum(n for (a, b, _), n in self.cells.items() if a in names or b in names)

    def inputs_of(self, names: Collection[str]) -> int:
        """On how many inputs votes between any of ``names`` are, each without one on its own."""
        return sum(any(a in names for a, _, _ in group) for group in self._groups)

    def opponents(self, name: str) -> list[str]:
        """Whom votes connect ``name`` with."""
        component = next(names for names in self.components if name in names)
        return sorted(component - {name})

    def effective_votes(self, *names: str) -> float:
        """How many independent votes tell as much as those on a variant, or on a pair."""
        return self._effective[names]

    def record(self, a: str, b: str) -> PairRecord:
        """How ``a`` did against ``b``."""
        wins, losses, ties, both_bad = (self.cells[_cell(a, b, outcome)] for outcome in Outcome)
        votes = wins + losses + ties + both_bad
        if not votes:
            return PairRecord(0, 0, 0, 0, None)
        share = (wins + (ties + both_bad) / 2) / votes
        interval = _interval(share, votes, self.effective_votes(a, b))
        return PairRecord(wins, losses, ties, both_bad, interval)


def _cell(a: str, b: str, outcome: Outcome) -> _Cell:
    """The same for a pair whichever way round it is named."""
    return (a, b, outcome) if a < b else (b, a, _MIRRORED.get(outcome, outcome))


def _groups(votes: Iterable[Vote]) -> tuple[list[list[_Cell]], int]:
    """Votes in groups that are independent of each other, and how many inputs they name.

    Those on one input are a group; one without an input is a group of its own.
    """
    by_input: dict[str, list[_Cell]] = defaultdict(list)
    alone: list[list[_Cell]] = []
    for vote in votes:
        cell = _cell(vote.left, vote.right, vote.outcome)
        if vote.input:
            by_input[vote.input].append(cell)
        else:
            alone.append([cell])
    return [*by_input.values(), *alone], len(by_input)


def _samples(groups: Iterable[Sequence[_Cell]]) -> dict[tuple[str, ...], _Sample]:
    """What each variant scored, ``(a,)`` against all and ``(a, b)`` against one, group by group."""
    samples: dict[tuple[str, ...], _Sample] = defaultdict(list)
    for group in groups:
        scores: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for a, b, outcome in group:
            for name, other, score in ((a, b, _SCORES[outcome]), (b, a, 1 - _SCORES[outcome])):
                scores[name,].append(score)
                scores[name, other].append(score)
        for names, values in scores.items():
            samples[names].append((sum(values), len(values)))
    return samples


def _effective_size(sample: _Sample) -> float:
    """How many independent observations tell as much as a sample in groups does (Korn and Graubard 1998).

    Never more than there are, and never fewer than there are groups.
    """
    count, size = len(sample), sum(n for _, n in sample)
    share = sum(score for score, _ in sample) / size
    if count in (1, size):
        # A single group cannot say how much groups differ, so that its observations have to stand for themselves.
        return size
    if share in (0.0, 1.0):
        # Nothing differs, neither between groups nor within them: the safe side is that a group speaks with one voice.
        return count
    deviations = math.fsum((score - n * share) ** 2 for score, n in sample)
    variance = deviations / size**2 * count / (count - 1)
    # Student's t makes up for how little a few groups know of their own variance.
    unit = share * (1 - share) * (NORMAL_QUANTILE / student_t(count - 1)) ** 2
    return size if unit >= variance * size else max(count, unit / variance)


def _components(pairs: Iterable[tuple[str, str]]) -> list[set[str]]:
    """The sets of names that ``pairs`` connect, the largest first."""
    components: list[set[str]] = []
    for pair in pairs:
        joined = set(pair).union(*(known for known in components if known & set(pair)))
        components = [known for known in components if not known & joined] + [joined]
    return sorted(components, key=lambda names: (-len(names), min(names)))


class _BradleyTerry:
    """The strengths behind a tally, and others that the votes might as well have given.

    A prior keeps a variant that has never lost from being infinitely strong: every variant brings one tie, spread over
    those that it met (of what two of them bring each other, the larger part counts). For two it is Jeffreys' prior.

    The others come from a Bayesian bootstrap (Rubin 1981), which gives votes random weights, Gamma(n) for n that say
    the same, instead of drawing them: that costs the same for many votes as for few, and the prior takes part in it, so
    that an undefeated variant has an interval too.
    """

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._index = {name: index for index, name in enumerate(tally.variants)}
        degrees = Counter(name for pair in tally.pairs for name in pair)
        self._prior = [
            (self._index[a], self._index[b], 0.5 / min(degrees[a], degrees[b]))
            for a, b in tally.pairs
        ]
        self._votes = [
            (self._index[a], self._index[b], _SCORES[outcome], n)
            for (a, b, outcome), n in sorted(tally.cells.items())
        ]
        self._strengths = _fit(self._wins(float, float), [1.0] * len(self._index), _TOLERANCE)

    def share(self, name: str, others: Sequence[str]) -> Interval:
        """The share of votes that ``name`` can expect against the average of ``others``, its interval for one look."""
        own, opponents = self._index[name], [self._index[other] for other in others]
        value, *sample = (
            sum(strengths[own] / (strengths[own] + strengths[other]) for other in opponents)
            / len(opponents)
            for strengths in (self._strengths, *self._resampled)
        )
        low, *_, high = statistics.quantiles(sample, n=40, method="inclusive")
        return Interval(value, low, high, self._tally.votes_on(name), "votes")

    @cached_property
    def _resampled(self) -> list[list[float]]:
        """Where votes are worth less than independent ones, their weights are spread wider by as much."""
        names = self._tally.variants
        worth = sum(self._tally.effective_votes(name) for name in names)
        spread = sum(self._tally.votes_on(name) for name in names) / worth
        draw = random.Random(_SEED).gammavariate
        return [
            _fit(
                self._wins(
                    lambda n: max(draw(n, 1.0), _LEAST_WEIGHT), lambda n: draw(n / spread, spread)
                ),
                self._strengths,
                _COARSE_TOLERANCE,
            )
            for _ in range(_RESAMPLES)
        ]

    def _wins(
        self, prior_weight: Callable[[float], float], weight: Callable[[float], float]
    ) -> _Matrix:
        wins = [[0.0] * len(self._index) for _ in self._index]
        for a, b, half in self._prior:
            wins[a][b] += prior_weight(half)
            wins[b][a] += prior_weight(half)
        for a, b, score, n in self._votes:
            total = weight(n)
            wins[a][b] += total * score
            wins[b][a] += total * (1 - score)
        return wins


def _fit(wins: _Matrix, start: Sequence[float], tolerance: float) -> list[float]:
    """The strengths that make ``wins[a][b]`` wins of a over b likeliest; only their ratios mean anything.

    It climbs like the MM algorithm of Hunter (2004), by the update of Newman (2023), "Efficient computation of rankings
    from pairwise comparisons", which comes to the same strengths in a tenth of the rounds.
    """
    strengths = list(start)
    votes = [
        sum(row) + sum(column) for row, column in zip(wins, zip(*wins, strict=True), strict=True)
    ]
    for _ in range(_MOST_ROUNDS):
        error = 0.0
        for a, mine in enumerate(strengths):
            won = lost = 0.0
            for b, other in enumerate(strengths):
                won += wins[a][b] * other / (mine + other)
                lost += wins[b][a] / (mine + other)
            strengths[a] = won / lost
            # What was won is more than expected by this, as a share of the votes.
            error = max(error, abs(won - lost * mine) / votes[a])
        if error < tolerance:
            break
    return strengths


def _interval(share: float, votes: int, effective: float, among: int = 1) -> Interval:
    return Interval(share, *lasting(share, effective, among), votes, "votes")


def _verdicts(
    tally: _Tally, model: _BradleyTerry, components: Iterable[tuple[str, ...]], among: int
) -> Iterator[Verdict]:
    for component in components:
        better, *others = component
        # Every vote is on two variants.
        effective = sum(tally.effective_votes(name) for name in component) / 2
        for worse in others:
            share = _outlook(tally, model, component, worse, among)
            found = Verdict(
                *(better, worse, share(1.0), tally.inputs_of(component)),
                is_clear=False,
                votes_needed=None,
            )
            yield _decided(
                found, share, effective, is_told=found.share.n * 2 >= len(component) * _FEWEST_EACH
            )


_Outlook = Callable[[float], Interval]
"""A share with the interval that it will have, if it stays as it is, once there are so many times the votes."""


def _outlook(
    tally: _Tally, model: _BradleyTerry, component: Sequence[str], worse: str, among: int
) -> _Outlook:
    better, *others = component
    if len(others) > 1:
        among *= len(component) * len(others) // 2
        seen = replace(model.share(better, [worse]), n=tally.votes_on(*component))
        return lambda growth: _lasting(seen, among=among, growth=growth)
    record, effective = tally.record(better, worse), tally.effective_votes(better, worse)
    assert record.share is not None
    share = record.share.value
    return lambda growth: _interval(share, record.votes, effective * growth, among)


def _decided(found: Verdict, share: _Outlook, effective: float, *, is_told: bool) -> Verdict:
    """The same verdict with whether it is clear, or else how many more votes it takes, if that is to be told."""

    def is_enough(more: int) -> bool:
        growth = 1 + more / found.share.n
        return (share(growth).low or 0.0) > 0.5 and effective * growth >= FEWEST_ALIKE

    needed = bisect_left(range(_MOST_VOTES + 1), True, key=is_enough)
    if not needed and not found.inputs_needed:
        return replace(found, is_clear=True, votes_needed=0)
    if needed > _MOST_VOTES or not is_told:
        return found
    return replace(found, votes_needed=max(needed, found.inputs_needed))


def _lasting(share: Interval, *, among: int = 1, growth: float = 1.0) -> Interval:
    """A share whose interval holds for one look, with one that holds for any number of them, on the scale of log odds.

    Arguments:
        among: how many such intervals are to hold together, by Bonferroni.
        growth: how many times the votes there are by then.
    """
    assert share.low is not None
    assert share.high is not None
    middle, *ends = map(_log_odds, (share.value, share.low, share.high))

    def moved(end: float) -> float:
        error = (end - middle) / NORMAL_QUANTILE / math.sqrt(growth)
        # So many votes at this share leave the same error. Counted as if at one half they would be the fewer, and the
        # interval the wider, the more votes agree.
        n = error and 1 / (error**2 * share.value * (1 - share.value))
        reach = error and error * lasting_quantile(n, among)
        return 1 / (1 + math.exp(-middle - reach))

    return replace(share, low=moved(ends[0]), high=moved(ends[1]))


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))
