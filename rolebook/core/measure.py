"""What can be counted in the answers of a comparison, for each variant, and how sure each number is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from statistics import fmean
from typing import Literal, NamedTuple

from rolebook.core.comparison import Cell, CellStatus, Comparison
from rolebook.core.frozen import frozen
from rolebook.core.interval import (
    Difference,
    Distribution,
    Interval,
    difference_interval,
    distribution,
    mean_interval,
    mean_of,
    otherwise,
    share_interval,
    wilson,
)
from rolebook.core.session import Turn, TurnStatus
from rolebook.core.text import (
    compared_words,
    count_characters,
    count_questions,
    count_words,
    words_similarity,
)

Unit = Literal["words", "characters", "questions", "s", "tokens", "$", "share"]

#: Of an input that was repeated more often, so many answers are held against each other.
_MOST_COMPARED = 8


@frozen
class Measure:
    """A number that every answer has. ``value`` gives ``None`` where it is not known."""

    name: str
    unit: Unit
    value: Callable[[Turn], float | None]


@lru_cache(maxsize=20_000)
def _counts(text: str) -> tuple[int, int, int]:
    """Words, characters and questions: the same answers are measured each time that somebody looks."""
    return count_words(text), count_characters(text), count_questions(text)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


MEASURES: tuple[Measure, ...] = (
    Measure("words", "words", lambda turn: _counts(turn.text)[0]),
    Measure("characters", "characters", lambda turn: _counts(turn.text)[1]),
    Measure("questions", "questions", lambda turn: _counts(turn.text)[2]),
    Measure("time to first token", "s", lambda turn: _seconds(turn.time_to_first_token_ms)),
    Measure("duration", "s", lambda turn: _seconds(turn.duration_ms)),
    Measure("tokens", "tokens", lambda turn: turn.usage.completion_tokens),
    Measure("cost", "$", lambda turn: turn.cost),
)
#: Measures that are no numbers of single answers.
SIMILARITY, CHECKS = "similarity between repeats", "checks passed"


@frozen
class Measured:
    """One measure of all variants, by the variant's index; ``None`` where nothing is known.

    ``differences`` are to the first variant, input by input; the first one's own is ``None``. The intervals of all
    of them hold together.
    """

    name: str
    unit: Unit
    intervals: tuple[Interval | None, ...]
    differences: tuple[Difference | None, ...]

    @property
    def is_known(self) -> bool:
        """Whether any variant has a number."""
        return any(interval is not None for interval in self.intervals)


@frozen
class CheckShare:
    """How often a check was passed, by the variant's index. ``untold`` answers could not be judged by it.

    Where several have one label, they demand different things, each of other variants.
    """

    label: str
    shares: tuple[Interval | None, ...]
    untold: tuple[int, ...]


@frozen
class ReasonShare:
    """The share of answers that ended for one finish reason, by the variant's index; ``unknown``: none was told."""

    reason: str
    shares: tuple[Interval | None, ...]


@frozen
class StandIn:
    """An upstream that has answered for another, with its model, as far as that is told."""

    upstream: str
    model: str
    for_upstream: str
    for_model: str


@frozen
class Evidence:
    """What the answers of a comparison show.

    Tuples are by the variant's index. ``answers`` counts the turns that got one, ``inputs`` the different inputs that
    any variant has answered; ``lengths`` are words. ``finish_reasons`` are counted, ``reasons`` their shares, the most
    frequent first. ``stand_ins`` counts the answers that came from another upstream
    than was asked, ``models`` all of them by the upstream and the model that gave them. ``other_verdicts``
    are on rubrics, and of another upstream than the judge's.
    """

    measured: tuple[Measured, ...]
    checks: tuple[CheckShare, ...]
    answers: tuple[int, ...]
    failed: tuple[int, ...]
    inputs: int
    finish_reasons: tuple[Mapping[str, int], ...]
    reasons: tuple[ReasonShare, ...]
    stand_ins: tuple[Mapping[StandIn, int], ...]
    models: tuple[Mapping[tuple[str, str], int], ...]
    other_verdicts: int
    lengths: tuple[Distribution | None, ...]
    words: tuple[Sequence[float], ...] = field(repr=False)

    @property
    def ambiguous_checks(self) -> Sequence[str]:
        """The labels that do not demand the same of all variants."""
        counted = Counter(check.label for check in self.checks)
        return [label for label, count in counted.items() if count > 1]

    def get(self, name: str) -> Measured:
        """A measure by its name. Raises KeyError."""
        return {measured.name: measured for measured in self.measured}[name]


def summarise(comparison: Comparison, cells: Iterable[Cell]) -> Evidence:
    """Measure the answers of a comparison.

    Repeats of an input are not independent of each other, so intervals are over inputs wherever there are several.
    Where the same is said twice, the answers are repeats of one input.
    """
    return _summarise(comparison, cells, comparison.same_inputs())


def _summarise(
    comparison: Comparison, cells: Iterable[Cell], same_inputs: Sequence[int], tags: int = 1
) -> Evidence:
    """With differences whose intervals hold for so many ``tags`` together."""
    grouped = _Grouped(len(comparison.variants), cells, same_inputs, tags)
    demands = grouped.demands()
    words = tuple([float(_counts(turn.text)[0]) for turn in turns] for turns in grouped.turns)
    reasons = tuple(Counter(map(_reason, turns)) for turns in grouped.turns)
    return Evidence(
        measured=(
            *(
                _measured(measure.name, measure.unit, grouped.values(measure.value), tags)
                for measure in MEASURES
            ),
            _measured(SIMILARITY, "share", grouped.similarities(), tags),
            _shares(grouped, demands),
        ),
        checks=tuple(_check_share(grouped, demand) for demand in demands),
        answers=tuple(len(turns) for turns in grouped.turns),
        failed=tuple(grouped.failed),
        inputs=len({index for by_input in grouped.by_input for index in by_input}),
        finish_reasons=reasons,
        reasons=tuple(
            _reason_share(grouped, reason) for reason, _ in sum(reasons, Counter()).most_common()
        ),
        stand_ins=tuple(
            Counter(_stand_in(turn) for turn in turns if turn.upstream_requested)
            for turns in grouped.turns
        ),
        models=tuple(
            Counter((turn.upstream, turn.model) for turn in turns) for turns in grouped.turns
        ),
        other_verdicts=sum(
            "stand_in" in result.said.parameters
            for by_input in grouped.by_input
            for cells in by_input.values()
            for answered in cells
            for result in answered.cell.checks
        ),
        lengths=tuple(distribution(values) for values in words),
        words=words,
    )


def _reason(turn: Turn) -> str:
    return turn.choice.finish_reason or "unknown"


def _reason_share(grouped: _Grouped, reason: str) -> ReasonShare:
    values = grouped.values(lambda turn: float(_reason(turn) == reason))
    return ReasonShare(reason, tuple(map(_share, values)))


def _stand_in(turn: Turn) -> StandIn:
    return StandIn(turn.upstream, turn.model, turn.upstream_requested, turn.model_requested)


def summarise_by_tag(comparison: Comparison, cells: Iterable[Cell]) -> Mapping[str, Evidence]:
    """The same for the inputs of each tag alone, by the tag, sorted. An input with two tags counts for both.

    The intervals of the differences hold for all tags together: among ten of them something always stands out.
    """
    by_tag: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        for tag in comparison.inputs[cell.key.input].tags:
            by_tag[tag].append(cell)
    same_inputs = comparison.same_inputs()
    return {
        tag: _summarise(comparison, by_tag[tag], same_inputs, len(by_tag)) for tag in sorted(by_tag)
    }


#: For each variant the values of its cells by input: one for each repeat.
_Values = Sequence[Mapping[int, Sequence[float]]]


class _Answered(NamedTuple):
    """A cell with those of its turns that got an answer."""

    cell: Cell
    turns: Sequence[Turn]


@dataclass
class _Held:
    """What one variant was held against under one label: the digests of the results by the input's index.

    So many of them are ``untold``.
    """

    digests: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    untold: int = 0


class _Demand(NamedTuple):
    """A check as some variants have it; ``held`` is by the variant's index."""

    label: str
    held: dict[int, _Held]

    def is_the_same(self, other: _Held) -> bool:
        """Whether what another variant was held against demands the same, as far as can be told."""
        return all(
            index not in held.digests or held.digests[index] == digests
            for held in self.held.values()
            for index, digests in other.digests.items()
        )


def _held(by_input: Mapping[int, Sequence[_Answered]]) -> Mapping[str, _Held]:
    """What the answers of a variant were held against, by label."""
    found: dict[str, _Held] = defaultdict(_Held)
    for cells in by_input.values():
        for cell, _turns in cells:
            for result in cell.checks:
                held = found[result.label]
                held.digests[cell.key.input].add(result.digest)
                held.untold += result.has_passed is None
    return found


class _Grouped:
    """The complete turns of cells by variant and input; of inputs that say the same, by the first of them."""

    def __init__(
        self, variants: int, cells: Iterable[Cell], same_inputs: Sequence[int], tags: int
    ) -> None:
        self.tags = tags
        self.by_input: list[dict[int, list[_Answered]]] = [
            defaultdict(list) for _ in range(variants)
        ]
        self.turns: list[list[Turn]] = [[] for _ in range(variants)]
        self.failed = [0] * variants
        for cell in cells:
            variant = cell.key.variant
            self.failed[variant] += cell.status is CellStatus.FAILED
            turns = [turn for turn in cell.turns if turn.status is TurnStatus.COMPLETE]
            if turns:
                self.by_input[variant][same_inputs[cell.key.input]].append(_Answered(cell, turns))
                self.turns[variant] += turns

    def values(self, value: Callable[[Turn], float | None]) -> _Values:
        """The turns of one cell are no repeats of each other: their mean is one value."""
        return self._each(lambda answered: _known(value, answered.turns))

    def passed(self, labels: Container[str]) -> _Values:
        """For each cell the share of these checks that its answers passed; of those that could be told."""
        return self._each(lambda answered: _passed(answered.cell, labels))

    def demands(self) -> Sequence[_Demand]:
        """What the variants were held against. Where one label demands different things of them, each is one.

        A result's digest tells what was demanded; where a check looks at the input's reference, for that input only.
        """
        found: dict[str, list[_Demand]] = {}
        for variant, by_label in enumerate(map(_held, self.by_input)):
            for label, held in by_label.items():
                known = found.setdefault(label, [])
                demand = next((demand for demand in known if demand.is_the_same(held)), None)
                if demand is None:
                    known.append(demand := _Demand(label, {}))
                demand.held[variant] = held
        return [demand for demands in found.values() for demand in demands]

    def _each(self, values: Callable[[_Answered], Sequence[float]]) -> _Values:
        return [
            {
                index: [mean_of(found) for answered in cells if (found := values(answered))]
                for index, cells in by_input.items()
            }
            for by_input in self.by_input
        ]

    def similarities(self) -> _Values:
        """How alike the repeats of an input are, over all pairs of them."""
        return [
            {
                index: [fmean(pairs)]
                for index, cells in by_input.items()
                if (pairs := _pairwise(answered.cell for answered in cells))
            }
            for by_input in self.by_input
        ]


def _known(value: Callable[[Turn], float | None], turns: Iterable[Turn]) -> Sequence[float]:
    return [float(known) for turn in turns if (known := value(turn)) is not None]


def _pairwise(cells: Iterable[Cell]) -> Sequence[float]:
    complete = [cell for cell in cells if cell.status is CellStatus.COMPLETE][:_MOST_COMPARED]
    if len(complete) < 2:
        return ()
    # Taking a text's words costs far more than comparing them.
    texts = [[compared_words(turn.text) for turn in cell.turns] for cell in complete]
    return [
        fmean([words_similarity(a, b) for a, b in zip(one, other, strict=True)])
        for one, other in combinations(texts, 2)
    ]


def _passed(cell: Cell, labels: Container[str]) -> Sequence[float]:
    told = [
        [
            result.has_passed
            for result in results
            if result.has_passed is not None and result.label in labels
        ]
        for results in cell.results.values()
    ]
    return [sum(results) / len(results) for results in told if results]


def _measured(name: str, unit: Unit, values: _Values, tags: int) -> Measured:
    first = values[0] if values else {}
    among = tags * (sum(not first.keys().isdisjoint(by_input) for by_input in values[1:]) or 1)
    return Measured(
        name,
        unit,
        tuple(_mean(list(by_input.values()), unit) for by_input in values),
        tuple(
            None if number == 0 else _difference(first, by_input, among, unit)
            for number, by_input in enumerate(values)
        ),
    )


def _mean(groups: Sequence[Sequence[float]], unit: Unit) -> Interval | None:
    """With an interval that holds nothing impossible: nothing counted is below zero, and no share above one."""
    found = mean_interval(groups)
    if found is None or found.low is None or found.high is None:
        return _alike(found, unit) if found and found.n > 1 else found
    most = 1.0 if unit == "share" else found.high
    return replace(found, low=max(found.low, 0.0), high=min(found.high, most))


def _alike(found: Interval, unit: Unit) -> Interval:
    """A mean of values that are all the same, with what can still be said of how far off it may be.

    A share cannot be further off than Wilson has it. Questions are few, and where there were none there may be one in
    some other answers: without that, three answers would prove that a persona never asks. The rest has no bounds.
    """
    if unit == "share":
        low, high = wilson(found.value, found.n)
        return replace(found, low=low, high=high)
    if unit == "questions":
        reach = otherwise(found.n)
        return replace(found, low=max(0.0, found.value - reach), high=found.value + reach)
    return found


def _difference(
    first: Mapping[int, Sequence[float]],
    other: Mapping[int, Sequence[float]],
    among: int,
    unit: Unit,
) -> Difference | None:
    """With an interval that holds nothing impossible: two shares are never further apart than none and all."""
    shared = sorted(first.keys() & other.keys())
    found = difference_interval([(first[index], other[index]) for index in shared], among=among)
    if found is None or found.low is None or found.high is None or unit != "share":
        return found
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def _shares(grouped: _Grouped, demands: Sequence[_Demand]) -> Measured:
    """Checks passed: a share, whose interval must not leave 0 to 1.

    It counts what all variants that are checked at all were held against: more demanded of one than of another says
    nothing of their answers.
    """
    checked = {variant for demand in demands for variant in demand.held}
    values = grouped.passed({demand.label for demand in demands if demand.held.keys() == checked})
    measured = _measured(CHECKS, "share", values, grouped.tags)
    # Where one check of two is always passed, an answer has one half or all, which is as much a share as none or all.
    differences = (each and replace(each, is_share=True) for each in measured.differences)
    return Measured(CHECKS, "share", tuple(map(_share, values)), tuple(differences))


def _share(by_input: Mapping[int, Sequence[float]]) -> Interval | None:
    """Of answers where there is one for each input, else of the inputs' mean shares."""
    told = [values for values in by_input.values() if values]
    if len(told) == 1 and len(told[0]) > 1:
        return share_interval(sum(told[0]), len(told[0]), over="repeats")
    over: Literal["answers", "inputs"] = "answers" if all(len(v) == 1 for v in told) else "inputs"
    return share_interval(sum(map(fmean, told)), len(told), over=over)


def _check_share(grouped: _Grouped, demand: _Demand) -> CheckShare:
    held = [demand.held.get(variant) for variant in range(len(grouped.by_input))]
    shares = zip(held, map(_share, grouped.passed({demand.label})), strict=True)
    return CheckShare(
        demand.label,
        tuple(share if each else None for each, share in shares),
        tuple(each.untold if each else 0 for each in held),
    )
