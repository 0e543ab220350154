"""What differs between the variants of a comparison and between answers, in the reader's language."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rolebook.core.comparison import Comparison
from rolebook.core.difference import Piece, differences
from rolebook.core.persona import FaultyDataError, Persona
from rolebook.report.differing import Differing, PromptDifference, Setting
from rolebook.web.current import current_translator, rolebook

_answer_difference = lru_cache(maxsize=256)(differences)


def differing_settings(comparison: Comparison, variants: Sequence[int]) -> Sequence[Setting]:
    """The settings that are not the same for all of these variants."""
    return _differing(comparison).settings(variants)


def prompt_differences(
    comparison: Comparison, variants: Sequence[int]
) -> Sequence[PromptDifference]:
    """How the system prompts of these variants differ from the first of them; those that are the same are left out."""
    return _differing(comparison).prompts(variants)


def answer_difference(old: str, new: str) -> Sequence[Piece]:
    """What is different between two answers, by words."""
    return _answer_difference(old, new)


def _differing(comparison: Comparison) -> Differing:
    def persona_of(variant: int) -> Persona | None:
        try:
            return rolebook().compare.persona_of(comparison.variants[variant].revision).persona
        except FaultyDataError:
            return None

    return Differing(comparison, persona_of, current_translator())
