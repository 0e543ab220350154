"""What a comparison has shown, in plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from rolebook.core.comparison import Comparison
from rolebook.core.errors import Phrase
from rolebook.core.frozen import frozen
from rolebook.core.interval import Interval
from rolebook.core.measure import CHECKS, SIMILARITY, Evidence, Measured
from rolebook.core.preference import Preference, Vote, side_bias
from rolebook.language.translator import Translator
from rolebook.report.along import tell_along
from rolebook.report.chart.axis import NUMBER, PERCENT, UNKNOWN, Unit
from rolebook.report.figures import UNITS, figures, upright
from rolebook.report.presentation import listed, told_apart, variant_name
from rolebook.report.sameness import tell_same_inputs
from rolebook.report.sentence import Called, Sentence
from rolebook.report.unasked import tell_left_out
from rolebook.report.verdicts import Verdicts
from rolebook.report.visible import visible

_FEW_INPUTS = 10
#: Of two measures that say the same in another way, only the other one is told where both are clear.
_SAME: Mapping[str, str] = {"tokens": "words", "time to first token": "duration"}
#: In the order in which people ask for them: what the answers are like, then what they take.
TITLES: Mapping[str, Phrase] = {
    CHECKS: Phrase("Checks passed"),
    "questions": Phrase("Questions per answer"),
    "words": Phrase("Words per answer"),
    "tokens": Phrase("Tokens per answer"),
    SIMILARITY: Phrase("Similarity between repeats"),
    "duration": Phrase("Time per answer"),
    "time to first token": Phrase("Time to first token"),
    "cost": Phrase("Cost per answer"),
}
#: What a variant does more or less of than the first one, without the end of the sentence.
_MORE: Mapping[str, tuple[str, str]] = {
    CHECKS: (
        "%(name)s passes more of its checks than %(first)s, by %(value)s percentage points",
        "%(name)s passes fewer of its checks than %(first)s, by %(value)s percentage points",
    ),
    "questions": (
        "%(name)s asks %(value)s more questions an answer than %(first)s",
        "%(name)s asks %(value)s fewer questions an answer than %(first)s",
    ),
    "words": (
        "%(name)s writes %(value)s more words an answer than %(first)s",
        "%(name)s writes %(value)s fewer words an answer than %(first)s",
    ),
    "tokens": (
        "%(name)s uses %(value)s more tokens an answer than %(first)s",
        "%(name)s uses %(value)s fewer tokens an answer than %(first)s",
    ),
    SIMILARITY: (
        "%(name)s repeats itself more than %(first)s, by %(value)s percentage points",
        "%(name)s repeats itself less than %(first)s, by %(value)s percentage points",
    ),
    "duration": (
        "%(name)s takes %(value)s longer for an answer than %(first)s",
        "%(name)s takes %(value)s less for an answer than %(first)s",
    ),
    "time to first token": (
        "%(name)s begins to answer %(value)s later than %(first)s",
        "%(name)s begins to answer %(value)s sooner than %(first)s",
    ),
    "cost": (
        "%(name)s costs %(value)s more an answer than %(first)s",
        "%(name)s costs %(value)s less an answer than %(first)s",
    ),
}
_TIMES = "%(name)s costs %(value)s times as much an answer as %(first)s"
#: The same of several variants, by whether there are some above and some below the first one.
_SEVERAL: Mapping[tuple[bool, bool], str] = {
    (True, True): (
        "%(what)s: clearly higher for %(higher)s, clearly lower for %(lower)s than for %(first)s"
        " (over %(basis)s)."
    ),
    (True, False): "%(what)s: clearly higher for %(higher)s than for %(first)s (over %(basis)s).",
    (False, True): "%(what)s: clearly lower for %(lower)s than for %(first)s (over %(basis)s).",
}
_CUT_OFF: Mapping[str, str] = {
    "length": "Answers were cut off, as the longest allowed was reached (max_tokens): %(answers)s.",
    "content_filter": "Answers were cut off by the upstream's content filter: %(answers)s.",
    "tool_calls": "Answers ask for a tool instead of saying something, and Rolebook has none: %(answers)s.",
}


@frozen
class Who:
    """A variant as it is named, with the CSS class of its hue."""

    name: str
    hue_class: str


class Narrator:
    """Says in one language what a comparison shows.

    Arguments:
        hues: the CSS class of the hue of each variant's persona.
    """

    def __init__(self, comparison: Comparison, translator: Translator, hues: Sequence[str]) -> None:
        self._comparison = comparison
        self._speaker = translator
        self.who = tuple(
            Who(visible(variant_name(variant, translator)), hue)
            for variant, hue in zip(comparison.variants, told_apart(hues), strict=True)
        )
        self.called = tuple(
            self._recorded() if variant.is_recorded else Called(who.name, who.name)
            for variant, who in zip(comparison.variants, self.who, strict=True)
        )
        self._names = {
            variant.name: called
            for variant, called in zip(comparison.variants, self.called, strict=True)
        }

    def _recorded(self) -> Called:
        """Its name is a heading; a sentence needs a noun."""
        say = self._speaker.say
        return Called(say("What was recorded", {}), say("what was recorded", {}))

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
        yield from Verdicts(found, self._names, self._speaker).tell()
        missing = [
            called.within for name, called in self._names.items() if name not in found.variants
        ]
        if found.votes and missing:
            names = listed(missing, self._speaker.language)
            yield Sentence(
                self._speaker.say("No votes yet on: %(names)s.", {"names": names}), "open"
            )
        if not found.is_connected:
            yield Sentence(
                self._speaker.say(
                    "The votes do not connect all variants yet, so these cannot be ranked together.",
                    {},
                ),
                "open",
            )

    def differing(self, evidence: Evidence) -> Iterator[Sentence]:
        """What is clear of the measures: a sentence for each."""
        measures = {measured.name: measured for measured in evidence.measured}
        told: dict[str, set[int]] = {}
        for name in _MORE:
            differences = measures[name].differences
            clear = {
                n for n, difference in enumerate(differences) if difference and difference.is_clear
            }
            clear -= told.get(_SAME.get(name, ""), set())
            told[name] = clear
            if clear:
                yield Sentence(self._told(measures[name], sorted(clear)), "clear")

    def _told(self, measured: Measured, numbers: Sequence[int]) -> str:
        if len(numbers) > 1:
            return self._several(measured, numbers)
        times = self._times(measured, *numbers) if measured.name == "cost" else None
        return times or self._difference(measured, *numbers)

    def _several(self, measured: Measured, numbers: Sequence[int]) -> str:
        found = [(n, d) for n in numbers if (d := measured.differences[n])]
        higher = [self._value(measured, n) for n, difference in found if difference.value > 0]
        lower = [self._value(measured, n) for n, difference in found if difference.value < 0]
        language = self._speaker.language
        return self._speaker.say(
            _SEVERAL[bool(higher), bool(lower)],
            {
                "what": self._speaker.say(TITLES[measured.name].message, {}),
                "higher": listed(higher, language),
                "lower": listed(lower, language),
                "first": self._value(measured, 0),
                "basis": listed(list(dict.fromkeys(self.rests_on(d) for _, d in found)), language),
            },
        )

    def _value(self, measured: Measured, number: int) -> str:
        """A variant with its own number."""
        words = {"name": self.called[number].within, "value": _text(measured, number)}
        return self._speaker.say("%(name)s at %(value)s", words)

    def _difference(self, measured: Measured, number: int) -> str:
        difference = measured.differences[number]
        assert difference is not None
        more, fewer = _MORE[measured.name]
        # Percentage points stand in the words.
        unit = Unit(factor=100) if measured.unit == "share" else UNITS.get(measured.unit, NUMBER)
        value, interval = figures(upright(difference), unit)
        words = {
            "what": self._speaker.say(
                more if difference.value > 0 else fewer, self._two(number, value)
            ),
            "interval": interval,
            "basis": self.rests_on(difference),
        }
        if difference.low is None:
            return self._speaker.say("%(what)s: each time, over %(basis)s.", words)
        return self._speaker.say("%(what)s [%(interval)s], over %(basis)s.", words)

    def _times(self, measured: Measured, number: int) -> str | None:
        """A cost as people compare it, as a share of the other; None where that is nothing, or says another thing."""
        difference = measured.differences[number]
        own, first = measured.intervals[number], measured.intervals[0]
        if not (difference and own and first and first.value):
            return None
        ratio = own.value / first.value
        if (ratio > 1) is not (difference.value > 0):
            return None
        more, less = _MORE[measured.name]
        message = _TIMES if ratio >= 2 else more if ratio > 1 else less
        value = f"{ratio:.{0 if ratio >= 10 else 1}f}" if ratio >= 2 else _percent(abs(ratio - 1))
        return self._speaker.say(
            "%(what)s: %(own)s instead of %(other)s, over %(basis)s.",
            {
                "what": self._speaker.say(message, self._two(number, value)),
                "own": _text(measured, number),
                "other": _text(measured, 0),
                "basis": self.rests_on(difference),
            },
        )

    def _two(self, number: int, value: str) -> Mapping[str, str]:
        """What a sentence on a variant and the first one names."""
        return {
            "name": self.called[number].first,
            "first": self.called[0].within,
            "value": value,
        }

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
        for tell in (tell_left_out, tell_along, tell_same_inputs):
            if said := tell(self._comparison, self._speaker):
                yield Sentence(visible(said), "note")
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
        yield from self._stand_ins(evidence)
        yield from self._mixtures(evidence)
        for reason, message in _CUT_OFF.items():
            counts = [reasons.get(reason, 0) for reasons in evidence.finish_reasons]
            if any(counts):
                answers = self._listed(counts, evidence.answers)
                yield Sentence(self._speaker.say(message, {"answers": answers}), "warning")
        if labels := evidence.ambiguous_checks:
            names = listed([f"“{visible(label)}”" for label in labels], self._speaker.language)
            said = self._speaker.say(
                "What is called the same is not the same check for all variants: %(names)s. Each has a row of its own, "
                "and counts for nothing that is said between variants.",
                {"names": names},
            )
            yield Sentence(said, "note")
        if evidence.other_verdicts:
            said = self._speaker.say(
                "Verdicts on rubrics that are not the judge's own, as another upstream stood in: %(count)d. "
                "Each of them says so.",
                {"count": evidence.other_verdicts},
            )
            yield Sentence(said, "warning")
        untold = sum(sum(check.untold) for check in evidence.checks)
        if untold:
            said = self._speaker.say(
                "Checks that could not be judged: %(count)d. They count as neither passed nor failed.",
                {"count": untold},
            )
            yield Sentence(said, "note")

    def _stand_ins(self, evidence: Evidence) -> Iterator[Sentence]:
        """Who has answered for whom: what is compared is not what was to be."""
        for each in dict.fromkeys(chain.from_iterable(evidence.stand_ins)):
            counts = [found.get(each, 0) for found in evidence.stand_ins]
            words = {
                "used": self._of(each.model, each.upstream),
                "asked": self._of(each.for_model, each.for_upstream),
                "answers": self._listed(counts, evidence.answers),
            }
            said = self._speaker.say(
                "%(used)s stood in for %(asked)s: %(answers)s. These answers tell nothing of %(asked)s.",
                words,
            )
            others = [
                called.within
                for called, count, models in zip(self.called, counts, evidence.models, strict=True)
                if not count and (each.upstream, each.model) in models
            ]
            if others:
                same = self._speaker.say(
                    "The same model has answered for %(names)s: held against these, it is compared with itself.",
                    {"names": listed(others, self._speaker.language)},
                )
                said = f"{said}{self._speaker.punctuation.gap}{same}"
            yield Sentence(said, "warning")

    def _mixtures(self, evidence: Evidence) -> Iterator[Sentence]:
        """Variants that several models have answered for, other than by standing in: what they show is of none of them.

        So it is where another default is asked after a run was stopped, and where a server chooses itself.
        """
        for number, (called, variant) in enumerate(
            zip(self.called, self._comparison.variants, strict=True)
        ):
            models = Counter(evidence.models[number])
            for each, count in evidence.stand_ins[number].items():
                models[each.upstream, each.model] -= count
            known = {key: count for key, count in (+models).items() if key[1]}
            if len(known) > 1 and not variant.is_recorded:
                listing = self._speaker.punctuation.listing
                counted = (f"{self._of(*key[::-1])} {count}" for key, count in known.items())
                said = self._speaker.say(
                    "The answers of %(name)s come from several models: %(models)s.",
                    {"name": called.within, "models": listing.join(counted)},
                )
                yield Sentence(said, "warning")

    def _of(self, model: str, upstream: str) -> str:
        """A model with its upstream, as far as it is known."""
        if not model:
            return visible(upstream)
        words = {"model": visible(model), "upstream": visible(upstream)}
        return self._speaker.say("%(model)s of %(upstream)s", words)

    def _listed(self, counts: Sequence[int], totals: Sequence[int]) -> str:
        """The variants with a count above zero: ``Teacher 2/60, Poet 1/60``."""
        return self._speaker.punctuation.listing.join(
            f"{who.name} {count}/{total}"
            for who, count, total in zip(self.who, counts, totals, strict=True)
            if count
        )


def _text(measured: Measured, number: int) -> str:
    """A variant's own number with its unit."""
    interval = measured.intervals[number]
    if interval is None:
        return UNKNOWN
    return figures(interval, UNITS.get(measured.unit, NUMBER))[0]


def _percent(share: float) -> str:
    return PERCENT.text(share, 0.01) if share >= 0.005 else "<1 %"
