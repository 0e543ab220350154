"""What a comparison has shown, in plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rolebook.core.comparison import Comparison
from rolebook.core.interval import Interval
from rolebook.core.measure import CHECKS, SIMILARITY, Evidence, Measured
from rolebook.core.preference import Preference, Verdict, Vote, side_bias
from rolebook.core.voting import look_alike
from rolebook.language.translator import Translator
from rolebook.report.chart import PERCENT, Unit
from rolebook.report.figures import certainty, figures, upright
from rolebook.report.markdown import visible
from rolebook.report.presentation import variant_name

#: ``clear`` is no chance, ``open`` is not told yet; ``note`` says what it rests on, ``warning`` what spoils it.
Kind = Literal["clear", "open", "note", "warning"]

_FEW_INPUTS = 10
#: So many differences are told in a sentence; the tables have all.
_MOST_SENTENCES = 6
#: Of two measures that say the same in another way, only the first is told in a sentence.
_SAME = (("words", "tokens"), ("duration", "time to first token"))
_PREFERRED = "%(better)s is preferred to %(worse)s: %(share)s [%(interval)s] %(basis)s."
_ALIKE = "%(better)s and %(worse)s look alike: %(share)s [%(interval)s] %(basis)s for %(better)s."
_TOO_FEW_VOTES = (
    "Not enough yet to tell %(better)s from %(worse)s:"
    " %(share)s [%(interval)s] %(basis)s for %(better)s."
)
_MORE_VOTES = (
    "Not enough yet to tell %(better)s from %(worse)s:"
    " %(share)s [%(interval)s] %(basis)s for %(better)s (about %(more)s more)."
)
#: What a variant does more or less of than the first one, without the end of the sentence.
_MORE: Mapping[str, tuple[str, str]] = {
    "words": (
        "%(name)s writes %(value)s more words an answer than %(first)s",
        "%(name)s writes %(value)s fewer words an answer than %(first)s",
    ),
    "questions": (
        "%(name)s asks %(value)s more questions an answer than %(first)s",
        "%(name)s asks %(value)s fewer questions an answer than %(first)s",
    ),
    "time to first token": (
        "%(name)s begins to answer %(value)s later than %(first)s",
        "%(name)s begins to answer %(value)s sooner than %(first)s",
    ),
    "duration": (
        "%(name)s takes %(value)s longer for an answer than %(first)s",
        "%(name)s takes %(value)s less for an answer than %(first)s",
    ),
    "tokens": (
        "%(name)s uses %(value)s more tokens an answer than %(first)s",
        "%(name)s uses %(value)s fewer tokens an answer than %(first)s",
    ),
    "cost": (
        "%(name)s costs %(value)s more an answer than %(first)s",
        "%(name)s costs %(value)s less an answer than %(first)s",
    ),
    SIMILARITY: (
        "%(name)s repeats itself more than %(first)s, by %(value)s percentage points",
        "%(name)s repeats itself less than %(first)s, by %(value)s percentage points",
    ),
    CHECKS: (
        "%(name)s passes more of its checks than %(first)s, by %(value)s percentage points",
        "%(name)s passes fewer of its checks than %(first)s, by %(value)s percentage points",
    ),
}
_CUT_OFF: Mapping[str, str] = {
    "length": "Answers were cut off, as the longest allowed was reached (max_tokens): %(answers)s.",
    "content_filter": "Answers were cut off by the upstream's content filter: %(answers)s.",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing that can be said of the whole."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Who:
    """A variant as it is named, with the CSS class of its hue."""

    name: str
    hue_class: str


class Narrator:
    """Says in one language what a comparison shows.

    Arguments:
        hues: the CSS class of each variant's hue.
    """

    def __init__(self, comparison: Comparison, translator: Translator, hues: Sequence[str]) -> None:
        self._comparison = comparison
        self._speaker = translator
        self.who = tuple(
            Who(visible(variant_name(variant, translator)), hue)
            for variant, hue in zip(comparison.variants, hues, strict=True)
        )
        self._names = {
            variant.name: who.name
            for variant, who in zip(comparison.variants, self.who, strict=True)
        }

    def tell(
        self, evidence: Evidence, found: Preference, votes: Sequence[Vote]
    ) -> Iterator[Sentence]:
        """The whole: who is preferred, what differs, what that rests on and what spoils it."""
        if not sum(evidence.answers):
            yield Sentence(self._speaker.say("Nothing has been answered yet.", {}), "note")
        yield from self.preferred(found)
        clear = list(self.differing(evidence))
        yield from clear
        if not clear and sum(count > 0 for count in evidence.answers) > 1:
            said = self._speaker.say(
                "In what can be counted, no difference between them is clear yet.", {}
            )
            yield Sentence(said, "open")
        yield from self._basis(evidence)
        yield from self._bias(votes)
        yield from self._troubles(evidence)

    def preferred(self, found: Preference) -> Iterator[Sentence]:
        """Who is preferred to whom, as far as the votes tell."""
        for verdict in found.verdicts:
            yield self._verdict(verdict, is_alone=len(found.variants) == 2)
        missing = [shown for name, shown in self._names.items() if name not in found.variants]
        if found.votes and missing:
            said = self._speaker.say("No votes yet on: %(names)s.", {"names": ", ".join(missing)})
            yield Sentence(said, "open")
        if not found.is_connected:
            yield Sentence(
                self._speaker.say(
                    "The votes do not connect all variants yet, so these cannot be ranked together.",
                    {},
                ),
                "open",
            )

    def _verdict(self, verdict: Verdict, *, is_alone: bool) -> Sentence:
        share, interval = figures(verdict.share, PERCENT)
        words = {
            "better": self._names[verdict.better],
            "worse": self._names[verdict.worse],
            "share": share,
            "interval": interval,
            "basis": self._votes(verdict.share.n, is_alone=is_alone),
            "more": verdict.votes_needed,
        }
        if verdict.is_clear:
            return Sentence(self._speaker.say(_PREFERRED, words), "clear")
        message = _TOO_FEW_VOTES if verdict.votes_needed is None else _MORE_VOTES
        if look_alike(verdict):
            message = _ALIKE
        return Sentence(self._speaker.say(message, words), "open")

    def _votes(self, number: int, *, is_alone: bool) -> str:
        """The votes on a pair, or those on all variants that a share between two of them was worked out from."""
        said = (
            self._speaker.ngettext("of %(num)s blind vote", "of %(num)s blind votes", number)
            if is_alone
            else self._speaker.ngettext(
                "after %(num)s blind vote", "after %(num)s blind votes", number
            )
        )
        return said % {"num": number}

    def differing(self, evidence: Evidence) -> Iterator[Sentence]:
        """What is clear of the measures, the surest first."""
        found = [
            (certainty(difference), measured, number)
            for measured in evidence.measured
            if measured.name in _MORE
            for number, difference in enumerate(measured.differences)
            if difference and difference.is_clear
        ]
        found.sort(key=lambda entry: -entry[0])
        told = {(measured.name, number) for _, measured, number in found}
        for _, measured, number in found[:_MOST_SENTENCES]:
            if not any(
                measured.name == other and (first, number) in told for first, other in _SAME
            ):
                yield Sentence(self._difference(measured, number), "clear")

    def _difference(self, measured: Measured, number: int) -> str:
        difference = measured.differences[number]
        assert difference is not None
        more, fewer = _MORE[measured.name]
        unit = {"s": Unit("{} s"), "$": Unit("${}"), "share": Unit(factor=100)}.get(measured.unit)
        value, interval = figures(upright(difference), unit or Unit())
        names = {"name": self.who[number].name, "first": self.who[0].name, "value": value}
        return self._speaker.say(
            "%(what)s [%(interval)s], over %(basis)s.",
            {
                "what": self._speaker.say(more if difference.value > 0 else fewer, names),
                "interval": interval,
                "basis": self.rests_on(difference),
            },
        )

    def rests_on(self, interval: Interval) -> str:
        """How much of what an interval rests on."""
        if interval.over == "repeats":
            said = self._speaker.ngettext(
                "%(num)s repeat of one input", "%(num)s repeats of one input", interval.n
            )
        elif interval.over == "answers":
            said = self._speaker.ngettext("%(num)s answer", "%(num)s answers", interval.n)
        else:
            said = self._speaker.ngettext("%(num)s input", "%(num)s inputs", interval.n)
        return said % {"num": interval.n}

    def _basis(self, evidence: Evidence) -> Iterator[Sentence]:
        if 0 < evidence.inputs < _FEW_INPUTS:
            said = self._speaker.ngettext(
                "Only %(num)s input: treat this as a first impression.",
                "Only %(num)s inputs: treat these as a first impression.",
                evidence.inputs,
            )
            yield Sentence(said % {"num": evidence.inputs}, "note")

    def _bias(self, votes: Sequence[Vote]) -> Iterator[Sentence]:
        bias = side_bias(votes)
        if bias.is_suspicious and bias.interval:
            share, interval = figures(bias.interval, PERCENT)
            said = self._speaker.say(
                "%(share)s [%(interval)s] of %(count)s decided votes went to A, the left side."
                " Sides are drawn at random, so this is a habit of the eye: read both answers before you vote.",
                {"share": share, "interval": interval, "count": bias.interval.n},
            )
            yield Sentence(said, "warning")

    def _troubles(self, evidence: Evidence) -> Iterator[Sentence]:
        if any(evidence.failed):
            planned = Counter(key.variant for key in self._comparison.cell_keys())
            totals = [planned[number] for number in range(len(self.who))]
            words = {
                "num": sum(evidence.failed),
                "total": sum(totals),
                "names": self._listed(evidence.failed, totals),
            }
            said = self._speaker.say("%(num)s of %(total)s cells failed (%(names)s).", words)
            yield Sentence(said, "warning")
        for reason, message in _CUT_OFF.items():
            counts = [reasons.get(reason, 0) for reasons in evidence.finish_reasons]
            if any(counts):
                answers = self._listed(counts, evidence.answers)
                yield Sentence(self._speaker.say(message, {"answers": answers}), "warning")
        untold = sum(sum(check.untold) for check in evidence.checks)
        if untold:
            said = self._speaker.say(
                "Checks that could not be judged: %(count)d. They count as neither passed nor failed.",
                {"count": untold},
            )
            yield Sentence(said, "note")

    def _listed(self, counts: Sequence[int], totals: Sequence[int]) -> str:
        """The variants with a count above zero: ``Teacher 2/60, Poet 1/60``."""
        return ", ".join(
            f"{who.name} {count}/{total}"
            for who, count, total in zip(self.who, counts, totals, strict=True)
            if count
        )
