"""Whose answers are preferred in blind votes, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rolebook.core.preference import Preference, Verdict
from rolebook.core.voting import look_alike
from rolebook.language.translator import Translator
from rolebook.report.chart.axis import PERCENT
from rolebook.report.figures import figures
from rolebook.report.presentation import listed
from rolebook.report.sentence import Called, Sentence

#: Of more than these only the ends are told.
_MOST_LISTED = 3
_PREFERRED = "%(better)s is preferred to %(worse)s: %(share)s [%(interval)s] %(basis)s."
_AHEAD = "%(better)s is ahead of %(worse)s: %(share)s [%(interval)s] %(basis)s."
_ALIKE = "%(better)s and %(worse)s look alike: %(share)s [%(interval)s] %(basis)s for %(within)s."
_OPEN = (
    "%(better)s or %(worse)s? Not clear yet: %(within)s is at %(share)s [%(interval)s] %(basis)s."
)
_OPEN_WITH_MORE = (
    "%(better)s or %(worse)s? Not clear yet:"
    " %(within)s is at %(share)s [%(interval)s] %(basis)s. About %(more)s more should tell."
)
_PREFERRED_TO_SEVERAL = (
    "%(better)s is preferred to %(count)s others: %(shares)s, after %(total)s blind votes in all."
)
_OPEN_AGAINST_SEVERAL = (
    "Whether %(within)s is preferred to %(count)s others is not clear yet:"
    " %(shares)s, after %(total)s blind votes in all."
)
_ALL_WITH_MORE = "About %(more)s more should tell of all of them."
_NEAREST_WITH_MORE = "About %(more)s more should tell of %(worse)s."


class Verdicts:
    """Says who is preferred to whom; what is said of one variant is said together, what is clear first.

    Arguments:
        names: what each variant is called, by its name in the comparison.
    """

    def __init__(
        self, found: Preference, names: Mapping[str, Called], translator: Translator
    ) -> None:
        self._found = found
        self._names = names
        self._translator = translator

    def tell(self) -> Iterator[Sentence]:
        """A sentence for each variant that others are held against, or two where not all is clear."""
        found = self._found.verdicts
        for better in dict.fromkeys(verdict.better for verdict in found):
            clear = [v for v in found if v.better == better and v.is_clear]
            yield from self._together(clear, _PREFERRED_TO_SEVERAL)
        for better in dict.fromkeys(verdict.better for verdict in found):
            others = [v for v in found if v.better == better and not v.is_clear]
            yield from map(self._single, filter(look_alike, others))
            unsure = [verdict for verdict in others if not look_alike(verdict)]
            yield from self._together(unsure, _OPEN_AGAINST_SEVERAL, more=self._more(unsure))
            yield from self._narrow(others)

    def _together(
        self, verdicts: Sequence[Verdict], message: str, *, more: str = ""
    ) -> Iterator[Sentence]:
        if len(verdicts) == 1:
            yield self._single(verdicts[0])
        elif verdicts:
            first = verdicts[0]
            words = {
                "better": self._names[first.better].first,
                "within": self._names[first.better].within,
                "count": len(verdicts),
                "shares": self._shares(verdicts),
                "total": first.share.n,
            }
            said = self._translator.say(message, words)
            if more:
                said = self._translator.punctuation.gap.join([said, more])
            yield Sentence(said, "clear" if first.is_clear else "open")

    def _more(self, verdicts: Sequence[Verdict]) -> str:
        """About how many more votes should tell of all of these, or else of the nearest; empty if nobody knows."""
        told = {v.votes_needed: v for v in verdicts if v.votes_needed and not v.is_narrow}
        if not told:
            return ""
        if all(verdict.votes_needed for verdict in verdicts):
            return self._translator.say(_ALL_WITH_MORE, {"more": max(told)})
        nearest = min(told)
        words = {"more": nearest, "worse": self._names[told[nearest].worse].within}
        return self._translator.say(_NEAREST_WITH_MORE, words)

    def _narrow(self, verdicts: Sequence[Verdict]) -> Iterator[Sentence]:
        """That votes on so few inputs tell of no others."""
        first = next((verdict for verdict in verdicts if verdict.is_narrow), None)
        if first is not None:
            said = self._translator.ngettext(
                "All these votes are on %(num)s input. To tell of others, it takes votes on at least %(more)s more.",
                "All these votes are on %(num)s inputs. To tell of others, it takes votes on at least %(more)s more.",
                first.inputs,
            )
            yield Sentence(said % {"num": first.inputs, "more": first.inputs_needed}, "note")

    def _shares(self, verdicts: Sequence[Verdict]) -> str:
        ordered = sorted(verdicts, key=lambda verdict: verdict.share.value)
        texts = [self._share(verdict) for verdict in ordered]
        if len(texts) <= _MOST_LISTED:
            # What Chinese joins by a word are names, and no phrases.
            is_chinese = self._translator.language == "zh"
            comma = self._translator.punctuation.comma
            return comma.join(texts) if is_chinese else listed(texts, self._translator.language)
        return self._translator.say(
            "from %(low)s to %(high)s", {"low": texts[0], "high": texts[-1]}
        )

    def _share(self, verdict: Verdict) -> str:
        share, interval = figures(verdict.share, PERCENT)
        words = {"share": share, "interval": interval, "worse": self._names[verdict.worse].within}
        return self._translator.say("%(share)s [%(interval)s] against %(worse)s", words)

    def _single(self, verdict: Verdict) -> Sentence:
        share, interval = figures(verdict.share, PERCENT)
        words = {
            "better": self._names[verdict.better].first,
            "within": self._names[verdict.better].within,
            "worse": self._names[verdict.worse].within,
            "share": share,
            "interval": interval,
            "basis": self._votes(verdict),
            "more": verdict.votes_needed,
        }
        if verdict.is_clear:
            return Sentence(self._translator.say(_PREFERRED, words), "clear")
        if verdict.is_narrow and verdict.share.excludes(0.5):
            return Sentence(self._translator.say(_AHEAD, words), "open")
        is_told = verdict.votes_needed is not None and not verdict.is_narrow
        message = _OPEN_WITH_MORE if is_told else _OPEN
        if look_alike(verdict):
            message = _ALIKE
        return Sentence(self._translator.say(message, words), "open")

    def _votes(self, verdict: Verdict) -> str:
        """The votes on a pair; of more variants also all others, as the share was worked out from all of them."""
        if len(self._found.variants) == 2:
            number = verdict.share.n
            said = self._translator.ngettext(
                "of %(num)s blind vote", "of %(num)s blind votes", number
            )
            return said % {"num": number}
        between = self._found.win_matrix[verdict.better][verdict.worse].votes
        said = self._translator.ngettext(
            "after %(num)s blind vote between the two, %(total)s in all",
            "after %(num)s blind votes between the two, %(total)s in all",
            between,
        )
        return said % {"num": between, "total": verdict.share.n}
