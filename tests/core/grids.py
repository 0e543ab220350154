"""Comparisons with answers in them, made without a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rolebook.core.check import CheckResult
from rolebook.core.comparison import (
    Ballot,
    Cell,
    CellKey,
    Comparison,
    ComparisonInput,
    Variant,
)
from rolebook.core.completion import Choice, Usage
from rolebook.core.errors import Phrase
from rolebook.core.preference import Outcome
from rolebook.core.session import Turn, TurnStatus, new_id


def grid(variants: int = 2, inputs: int = 3, repeats: int = 1) -> Comparison:
    """A comparison of variants A, B, C … over inputs that are numbered."""
    return Comparison(
        new_id(),
        "Which?",
        tuple(Variant(name, name.lower(), "r") for name in "ABCDEFGH"[:variants]),
        tuple(ComparisonInput((f"Question {n + 1}",)) for n in range(inputs)),
        repeats,
    )


def saying(comparison: Comparison, *texts: str) -> Comparison:
    """The same grid over inputs that say these texts."""
    assert len(texts) == len(comparison.inputs)
    return replace(comparison, inputs=tuple(ComparisonInput((text,)) for text in texts))


def turn(text: str, **values: Any) -> Turn:
    """A complete turn that answers with a text."""
    reason = values.pop("finish_reason", "stop")
    default: dict[str, Any] = {
        "id": new_id(),
        "session_id": "s",
        "revision": "r",
        "input": "Question",
        "status": TurnStatus.COMPLETE,
        "choices": (Choice(text, reason),) if text else (),
        "usage": Usage(),
    }
    return Turn(**(default | values))


def cell(
    key: str,
    *texts: str,
    checks: Mapping[str, bool | None] | None = None,
    demanded: str = "",
    **values: Any,
) -> Cell:
    """A cell by its name, such as ``2-1-1``, with its answers; every one of them has the results of ``checks``.

    ``demanded`` tells these from results of other checks that are called the same.
    """
    variant, entry, repeat = (int(part) - 1 for part in key.split("-"))
    turns = tuple(turn(text, **values) for text in texts)
    results = tuple(
        CheckResult(label, has_passed, Phrase("Said."), digest=demanded)
        for label, has_passed in (checks or {}).items()
    )
    found = {t.id: results for t in turns} if results else {}
    return Cell(CellKey(variant, entry, repeat), len(texts), "s", turns, found)


def filled(comparison: Comparison) -> list[Cell]:
    """All its cells, each with an answer of its own."""
    return [cell(str(key), f"Answer {key}.") for key in comparison.cell_keys()]


def ballot(comparison: Comparison, left: str, right: str, outcome: str = "") -> Ballot:
    """A ballot on two cells by their names; an outcome, ``skip``, or still open."""
    keys = [CellKey(*(int(part) - 1 for part in key.split("-"))) for key in (left, right)]
    is_skipped = outcome == "skip"
    said = Outcome(outcome) if outcome and not is_skipped else None
    return Ballot(new_id(), comparison.id, keys[0], keys[1], said, is_skipped)
