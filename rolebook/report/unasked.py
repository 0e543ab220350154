"""What of a plan will not be asked, in words and as data: inputs of the log that are not taken, cells that fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolebook.core.comparison import Comparison
    from rolebook.core.estimate import CellFault, Estimate
    from rolebook.core.planning import Plan
    from rolebook.language.translator import Translator

_MOST_REASONS = 3
_MOST_CELLS = 100


def tell_left_out(comparison: Comparison, speaker: Translator) -> str:
    """A sentence on how many there are, and why; empty if there is none."""
    count = sum(each.count for each in comparison.left_out)
    if not count:
        return ""
    said = speaker.ngettext(
        "%(num)s input from the log is left out: %(reasons)s",
        "%(num)s inputs from the log are left out: %(reasons)s",
        count,
    )
    reasons = _first(
        speaker.say(each.reason.message, each.reason.parameters) for each in comparison.left_out
    )
    return said % {"num": count, "reasons": reasons}


def _first(found: Iterable[str]) -> str:
    """The first few of several reasons, each once."""
    reasons = list(dict.fromkeys(found))
    more = ["…"] if len(reasons) > _MOST_REASONS else []
    return " ".join([*reasons[:_MOST_REASONS], *more])


def left_out_data(plan: Plan) -> Sequence[dict[str, Any]]:
    """Each of them with the place of what it came from, counted from 1, and why it is not taken."""
    return [
        {"input": int(fault.path[1]) + 1, "reason": str(fault.error)} for fault in plan.left_out
    ]


def tell_failing(comparison: Comparison, estimate: Estimate, speaker: Translator) -> str:
    """A sentence on the cells that cannot be asked, as far as they were looked at; empty if there is none."""
    if not estimate.faults:
        return ""
    said = speaker.ngettext(
        "%(num)s of %(count)s cells that were looked at cannot be asked and will fail: %(reasons)s",
        "%(num)s of %(count)s cells that were looked at cannot be asked and will fail: %(reasons)s",
        len(estimate.faults),
    )
    reasons = _first(
        speaker.say("%(variant)s, input %(number)s: %(reason)s", _words_on(comparison, fault))
        for fault in estimate.faults
    )
    return said % {
        "num": len(estimate.faults),
        "count": estimate.looked_at,
        "reasons": reasons,
    }


def _words_on(comparison: Comparison, fault: CellFault) -> dict[str, Any]:
    return {
        "variant": comparison.variants[fault.key.variant].name,
        "number": fault.key.input + 1,
        "reason": fault.error.said,
    }


def failing_data(estimate: Estimate) -> Sequence[dict[str, str]]:
    """The first of these cells, each with why it cannot be asked."""
    return [
        {"cell": str(fault.key), "reason": str(fault.error)}
        for fault in estimate.faults[:_MOST_CELLS]
    ]
