"""What differs between the variants of a comparison and between answers, in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from rolebook.core.chat import PreparedTurn
from rolebook.core.comparison import Cell, CellKey, Comparison
from rolebook.core.difference import Piece, differences
from rolebook.core.session import Turn
from rolebook.report.asking import answered_at, asked_by_plan, asked_in, asked_in_turn
from rolebook.report.differing import Differing
from rolebook.web.current import current_translator, rolebook

_answer_difference = lru_cache(maxsize=256)(differences)


def differing_variants(comparison: Comparison, order: Sequence[int]) -> Differing:
    """What differs between the variants of a comparison, in this order."""
    asked = asked_in(rolebook(), comparison)
    return Differing([asked[variant] for variant in order], current_translator())


def differing_in_plan(
    comparison: Comparison, entry: int, prepared: Mapping[CellKey, PreparedTurn]
) -> Differing:
    """The same for one that is not recorded yet, by the example of one of its inputs.

    Arguments:
        prepared: what cells would send, as far as it is known already.
    """
    return Differing(asked_by_plan(rolebook(), comparison, entry, prepared), current_translator())


def differing_answers(comparison: Comparison, cells: Sequence[Cell]) -> Differing:
    """What differs between how some answers were asked for."""
    asked = [answered_at(rolebook(), comparison, cell) for cell in cells]
    return Differing(asked, current_translator())


def differing_turns(turns: Sequence[Turn]) -> Differing:
    """The same of turns of the log, whatever they belong to; they go by their places among these."""
    asked = [asked_in_turn(rolebook(), turn, index) for index, turn in enumerate(turns)]
    return Differing(asked, current_translator())


def answer_difference(old: str, new: str) -> Sequence[Piece]:
    """What is different between two answers, by words."""
    return _answer_difference(old, new)
