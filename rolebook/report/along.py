"""What goes along with inputs from the log that is not said in words: what a program wanted of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolebook.core.comparison import Comparison
    from rolebook.language.translator import Translator


def tell_along(comparison: Comparison, speaker: Translator) -> str:
    """A sentence on it, by the names of the request fields; empty if there is none."""
    asking = [entry.request for entry in comparison.inputs if entry.request]
    if not asking:
        return ""
    said = speaker.ngettext(
        "%(num)s input goes with what was wanted of its answer: %(names)s. What a persona fixes itself wins.",
        "%(num)s inputs go with what was wanted of their answers: %(names)s. What a persona fixes itself wins.",
        len(asking),
    )
    names = dict.fromkeys(name for request in asking for name in request)
    return said % {"num": len(asking), "names": ", ".join(names)}
