"""What a comparison has shown, in plain sentences and charts: what is clear first, what cannot be told folded away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rolebook.core.comparison import Ballot, Comparison
from rolebook.core.errors import Phrase
from rolebook.core.frozen import frozen
from rolebook.core.interval import Interval
from rolebook.core.measure import CHECKS, CheckShare, Evidence, Measured
from rolebook.core.preference import (
    Outcome,
    Preference,
    preference,
    preference_by,
)
from rolebook.core.voting import input_label, votes_of
from rolebook.language.translator import Translator
from rolebook.report.chart.axis import NUMBER, PERCENT, SHARES, UNKNOWN, Mark, Unit
from rolebook.report.chart.distribution import DistributionChart, Sample, distribution_chart
from rolebook.report.chart.interval import IntervalChart, interval_chart
from rolebook.report.chart.matrix import Duel, MatrixChart, matrix_chart
from rolebook.report.chart.scatter import ScatterChart, scatter_chart
from rolebook.report.figures import UNITS, figures, signed
from rolebook.report.sentence import Sentence
from rolebook.report.sentences import TITLES, Narrator, Who
from rolebook.report.visible import visible

_MOST_INPUTS = 50
#: So many findings are read at once; the rest is unfolded.
_MOST_LEADING = 5
#: The finish reason of an answer that came to its end, and what stands for none.
_ENDED, _UNKNOWN_REASON = "stop", "unknown"
_COUNTED: Mapping[str, Phrase] = {
    "words": Phrase("{} words"),
    "questions": Phrase("{} questions"),
    "tokens": Phrase("{} tokens"),
}


@frozen
class Against:
    """By how much a variant differs from the first one; all as text, with the unit in ``value``."""

    who: Who
    value: str
    interval: str
    basis: str
    is_clear: bool


@frozen
class Panel:
    """One measure: its chart, and a line for each variant but the first. ``id`` is unique on the page."""

    id: str
    title: str
    chart: IntervalChart
    against: tuple[Against, ...]

    @property
    def basis(self) -> str:
        """What all lines rest on, if that is the same for all."""
        found = {line.basis for line in self.against if line.basis != UNKNOWN}
        return found.pop() if len(found) == 1 else ""

    @property
    def is_clear(self) -> bool:
        """Whether a variant differs from the first one."""
        return any(line.is_clear for line in self.against)


@frozen
class Scatter:
    """Two measures against each other."""

    id: str
    title: str
    x_title: str
    y_title: str
    chart: ScatterChart


@frozen
class CheckLine:
    """How often each variant passed a check: its share, its interval and what it rests on, as texts."""

    label: str
    shares: tuple[tuple[str, str, str], ...]
    untold: int


@frozen
class ReasonLine:
    """How many answers of each variant ended for one reason: share, interval and what it rests on, as texts."""

    label: str
    shares: tuple[tuple[str, str, str], ...]


@frozen
class InputLine:
    """The votes on one input: the wins of each variant, and those that nobody won."""

    label: str
    wins: tuple[int, ...]
    ties: int
    both_bad: int


@frozen
class TagFindings:
    """What the inputs of one tag show on their own."""

    tag: str
    inputs: int
    sentences: tuple[Sentence, ...]


@frozen
class Findings:
    """All that a comparison shows, for ``evidence.html``; texts are in the reader's language.

    ``clear`` holds the measures in which a variant differs from the first beyond chance, in the order of the sentences;
    ``unclear`` the others. ``first`` is what a text calls the first variant. ``more_inputs`` were voted on and are not
    listed.
    """

    variants: tuple[Who, ...]
    first: str
    sentences: tuple[Sentence, ...]
    clear: tuple[Panel, ...]
    unclear: tuple[Panel, ...]
    strengths: IntervalChart | None
    wins: MatrixChart | None
    scatters: tuple[Scatter, ...]
    lengths: DistributionChart | None
    checks: tuple[CheckLine, ...]
    reasons: tuple[ReasonLine, ...]
    tags: tuple[TagFindings, ...]
    inputs: tuple[InputLine, ...]
    more_inputs: int
    votes: int

    @property
    def leading(self) -> tuple[Sentence, ...]:
        """What is read at once: the first findings, and all that they rest on."""
        further = self.further
        return tuple(sentence for sentence in self.sentences if sentence not in further)

    @property
    def further(self) -> tuple[Sentence, ...]:
        """The findings after these."""
        return tuple(s for s in self.sentences if s.is_finding)[_MOST_LEADING:]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been answered yet."""
        return not (self.clear or self.unclear)


def findings(
    comparison: Comparison,
    evidence: Evidence,
    ballots: Sequence[Ballot],
    *,
    translator: Translator,
    hues: Sequence[str],
    by_tag: Mapping[str, Evidence] | None = None,
) -> Findings:
    """Put what a comparison has shown into words and charts.

    Arguments:
        hues: the CSS class of the hue of each variant's persona; those too near to each other are told apart.
        by_tag: the evidence of the inputs of each tag.
    """
    return _Reader(comparison, evidence, ballots, translator, hues).read(by_tag or {})


class _Reader:
    """Reads evidence in one language."""

    def __init__(
        self,
        comparison: Comparison,
        evidence: Evidence,
        ballots: Sequence[Ballot],
        translator: Translator,
        hues: Sequence[str],
    ) -> None:
        self._comparison = comparison
        self._evidence = evidence
        self._ballots = ballots
        self._speaker = translator
        self._narrator = Narrator(comparison, translator, hues)
        self._who = self._narrator.who
        self._index = {variant.name: n for n, variant in enumerate(comparison.variants)}
        self._votes = votes_of(comparison, ballots)
        self._preference = preference(self._votes)

    def read(self, by_tag: Mapping[str, Evidence]) -> Findings:
        measures = {measured.name: measured for measured in self._evidence.measured}
        shown = [self._panel(measures[name]) for name in TITLES if measures[name].is_known]
        lines = list(self._input_lines())
        return Findings(
            variants=self._who,
            first=self._narrator.called[0].within,
            sentences=tuple(self._narrator.tell(self._evidence, self._preference, self._votes)),
            clear=tuple(panel for panel in shown if panel.is_clear),
            unclear=tuple(panel for panel in shown if not panel.is_clear),
            strengths=self._strengths(),
            wins=self._wins(),
            scatters=tuple(self._scatters()),
            lengths=self._lengths(),
            checks=tuple(map(self._check_line, self._evidence.checks)),
            reasons=tuple(self._reason_lines()),
            tags=tuple(self._tags(by_tag)),
            inputs=tuple(lines[:_MOST_INPUTS]),
            more_inputs=max(0, len(lines) - _MOST_INPUTS),
            votes=self._preference.votes,
        )

    def _panel(self, measured: Measured) -> Panel:
        return Panel(
            id="evidence-" + measured.name.replace(" ", "-"),
            title=self._title(measured.name),
            chart=interval_chart(
                self._marks(measured),
                unit=UNITS.get(measured.unit, NUMBER),
                bounds=SHARES if measured.unit == "share" else None,
            ),
            against=tuple(self._against(measured)),
        )

    def _marks(self, measured: Measured) -> list[Mark]:
        return [
            self._mark(number, interval, self._answers(number, interval))
            for number, interval in enumerate(measured.intervals)
        ]

    def _answers(self, number: int, interval: Interval | None) -> int:
        """How many answers an interval rests on: each input may have been answered several times."""
        if interval is not None and interval.over == "answers":
            return interval.n
        return self._evidence.answers[number]

    def _mark(self, number: int, interval: Interval | None, n: int) -> Mark:
        who = self._who[number]
        if interval is None:
            return Mark(who.name, who.hue_class, None)
        return Mark(
            who.name,
            who.hue_class,
            interval.value,
            interval.low,
            interval.high,
            n,
            interval.is_small,
        )

    def _against(self, measured: Measured) -> Iterator[Against]:
        for number, difference in list(enumerate(measured.differences))[1:]:
            if difference is None:
                yield Against(self._who[number], UNKNOWN, UNKNOWN, UNKNOWN, is_clear=False)
                continue
            unit = self._unit_of_difference(measured)
            _, interval = figures(difference, unit)
            yield Against(
                self._who[number],
                signed(difference, unit),
                interval,
                self._narrator.rests_on(difference),
                difference.is_clear,
            )

    def _unit_of_difference(self, measured: Measured) -> Unit:
        """As a chart has it, but with what is counted, which a chart has in its title."""
        between = self._speaker.say("{} to {}", {})
        if measured.unit == "share":
            return Unit(self._speaker.say("{} points", {}), 100, between)
        if measured.unit in UNITS:
            return replace(UNITS[measured.unit], between=between)
        return Unit(self._speaker.say(_COUNTED[measured.unit].message, {}), between=between)

    def _title(self, name: str) -> str:
        return self._speaker.say(TITLES[name].message, {})

    def _strengths(self) -> IntervalChart | None:
        marks = [
            self._preferred(self._index[name], self._preference.strength[name])
            for name in self._preference.variants
        ]
        return interval_chart(marks, unit=PERCENT, bounds=SHARES, reference=0.5) if marks else None

    def _preferred(self, number: int, strength: Interval | None) -> Mark:
        mark = self._mark(number, strength, strength.n if strength else 0)
        return replace(mark, is_small=mark.is_small or self._preference.is_small)

    def _wins(self) -> MatrixChart | None:
        names, matrix = self._preference.variants, self._preference.win_matrix
        if not names:
            return None
        duels = [
            [
                None
                if a == b
                else Duel(
                    share.value if (share := matrix[a][b].share) else None, matrix[a][b].votes
                )
                for b in names
            ]
            for a in names
        ]
        who = [self._who[self._index[name]] for name in names]
        return matrix_chart([(entry.name, entry.hue_class) for entry in who], duels)

    def _scatters(self) -> Iterator[Scatter]:
        quality, y_title = self._quality()
        titles = {
            "duration": self._speaker.say("Time against quality", {}),
            "cost": self._speaker.say("Cost against quality", {}),
        }
        for name, title in titles.items():
            measured = self._evidence.get(name)
            known = [
                x is not None and y.value is not None
                for x, y in zip(measured.intervals, quality, strict=True)
            ]
            if sum(known) > 1:
                chart = scatter_chart(
                    self._marks(measured), quality, x_unit=UNITS[measured.unit], y_unit=PERCENT
                )
                x_title = self._title(name)
                yield Scatter(f"evidence-{name}-quality", title, x_title, y_title, chart)

    def _quality(self) -> tuple[list[Mark], str]:
        """How often each is preferred where there are votes, else the share of its checks that it passes."""
        if self._preference.votes and self._preference.is_connected:
            strengths = [self._preference.strength.get(name) for name in self._index]
            marks = [self._preferred(n, strength) for n, strength in enumerate(strengths)]
            return marks, self._speaker.say("How often it is preferred", {})
        return self._marks(self._evidence.get(CHECKS)), self._title(CHECKS)

    def _lengths(self) -> DistributionChart | None:
        if not any(self._evidence.words):
            return None
        return distribution_chart(
            [
                Sample(who.name, who.hue_class, words)
                for who, words in zip(self._who, self._evidence.words, strict=True)
            ]
        )

    def _check_line(self, check: CheckShare) -> CheckLine:
        shares = tuple(map(self._share, check.shares))
        return CheckLine(visible(check.label), shares, sum(check.untold))

    def _reason_lines(self) -> Iterator[ReasonLine]:
        """None where every answer came to its end: that goes without saying."""
        reasons = self._evidence.reasons
        for each in reasons if [each.reason for each in reasons] != [_ENDED] else ():
            is_known = each.reason != _UNKNOWN_REASON
            label = visible(each.reason) if is_known else self._speaker.say("not told", {})
            yield ReasonLine(label, tuple(map(self._share, each.shares)))

    def _share(self, share: Interval | None) -> tuple[str, str, str]:
        if share is None:
            return UNKNOWN, "", ""
        return (*figures(share, PERCENT), self._narrator.rests_on(share))

    def _tags(self, by_tag: Mapping[str, Evidence]) -> Iterator[TagFindings]:
        preferences = preference_by(self._votes, "tag")
        for tag, evidence in by_tag.items():
            said = [*self._preferred_of(preferences.get(tag)), *self._narrator.differing(evidence)]
            if not said:
                text = self._speaker.say("Nothing can be told apart here yet.", {})
                said = [Sentence(text, "open")]
            yield TagFindings(visible(tag), evidence.inputs, tuple(said))

    def _preferred_of(self, found: Preference | None) -> Iterable[Sentence]:
        return self._narrator.preferred(found) if found else ()

    def _input_lines(self) -> Iterator[InputLine]:
        same_inputs = self._comparison.same_inputs()
        by_input: dict[int, list[Ballot]] = {}
        for ballot in self._ballots:
            if ballot.outcome is not None:
                by_input.setdefault(same_inputs[ballot.left.input], []).append(ballot)
        for index in sorted(by_input):
            outcomes = Counter(ballot.outcome for ballot in by_input[index])
            wins = Counter(_winner(ballot) for ballot in by_input[index])
            yield InputLine(
                visible(input_label(self._comparison, index)),
                tuple(wins[number] for number in range(len(self._who))),
                outcomes[Outcome.TIE],
                outcomes[Outcome.BOTH_BAD],
            )


def _winner(ballot: Ballot) -> int | None:
    winners = {
        Outcome.LEFT: ballot.left.variant,
        Outcome.RIGHT: ballot.right.variant,
    }
    return winners.get(ballot.outcome) if ballot.outcome else None
