"""Inputs of a comparison that say the same as others, and variants that are: which they are, in words and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolebook.core.comparison import Comparison
    from rolebook.language.translator import Translator

_MOST_NUMBERS = 10


def tell_same_inputs(comparison: Comparison, speaker: Translator) -> str:
    """A sentence on what becomes of them; empty if all are different."""
    numbers = [str(same["input"]) for same in same_inputs_data(comparison)]
    if not numbers:
        return ""
    said = speaker.ngettext(
        "%(num)s input says the same as an earlier one and counts as a repeat of it: number %(numbers)s.",
        "%(num)s inputs say the same as earlier ones and count as repeats of these: numbers %(numbers)s.",
        len(numbers),
    )
    more = ["…"] if len(numbers) > _MOST_NUMBERS else []
    return said % {
        "num": len(numbers),
        "numbers": ("、" if speaker.language == "zh" else ", ").join(
            [*numbers[:_MOST_NUMBERS], *more]
        ),
    }


def same_inputs_data(comparison: Comparison) -> Sequence[dict[str, Any]]:
    """Each of them beside the first that says the same, counted from 1."""
    return [
        {"input": index + 1, "same_as": first + 1}
        for index, first in enumerate(comparison.same_inputs())
        if index != first
    ]


def tell_same_variants(comparison: Comparison, speaker: Translator) -> Iterator[str]:
    """A sentence on each of them."""
    for same in same_variants_data(comparison):
        other, first = (comparison.variants[same[name] - 1].name for name in ("variant", "same_as"))
        yield speaker.gettext(
            "Nothing is different between '%(first)s' and '%(other)s': their answers show how much answers vary by "
            "chance."
        ) % {"first": first, "other": other}


def same_variants_data(comparison: Comparison) -> Sequence[dict[str, int]]:
    """Each of them beside the first that is the same, counted from 1."""
    return [
        {"variant": index + 1, "same_as": first + 1}
        for index, first in enumerate(comparison.same_variants())
        if index != first
    ]
