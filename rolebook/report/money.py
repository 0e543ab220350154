"""How money is written, on pages, in files and by commands; it needs nothing, so that a command can say it at once."""

from __future__ import annotations

import math

UNKNOWN = "–"


def money(dollars: float | None) -> str:
    """US dollars, with as many digits as it takes to see that they are not nothing."""
    if dollars is None:
        return UNKNOWN
    if dollars == 0:
        return "$0"
    if dollars < 0:
        # No call costs that, but other programs may write it to the log.
        return f"-{money(-dollars)}"
    digits = 2 if dollars >= 1 else 1 - math.floor(math.log10(dollars))
    return f"${dollars:.{digits}f}"
