"""Inputs from the log that a plan does not take, in words and as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolebook.core.planning import Plan
    from rolebook.language.translator import Translator

_MOST_REASONS = 3


def tell_left_out(plan: Plan, speaker: Translator) -> str:
    """A sentence on how many there are, and why; empty if there is none."""
    if not plan.left_out:
        return ""
    said = speaker.ngettext(
        "%(num)s input from the log does not fit and is left out: %(reasons)s",
        "%(num)s inputs from the log do not fit and are left out: %(reasons)s",
        len(plan.left_out),
    )
    found = list(dict.fromkeys(speaker.error(fault.error) for fault in plan.left_out))
    reasons = [*found[:_MOST_REASONS], *(["…"] if len(found) > _MOST_REASONS else [])]
    return said % {"num": len(plan.left_out), "reasons": " ".join(reasons)}


def left_out_data(plan: Plan) -> Sequence[dict[str, Any]]:
    """Each of them with the place of what it came from, counted from 1, and why it is not taken."""
    return [
        {"input": int(fault.path[1]) + 1, "reason": str(fault.error)} for fault in plan.left_out
    ]
