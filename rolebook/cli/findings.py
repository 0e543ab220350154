"""What a comparison has shown, as a terminal says it: a row for each variant, the checks, and a few answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rolebook.cli.terminal import Terminal
from rolebook.core.errors import Phrase

if TYPE_CHECKING:
    from rolebook.core.comparison import Cell, Comparison, Variant
    from rolebook.core.interval import Interval
    from rolebook.core.measure import Evidence, Unit

#: What the table has of each variant, and how sentences name it.
_MEASURES = {
    "words": Phrase("words"),
    "time to first token": Phrase("time to first token"),
    "tokens": Phrase("tokens"),
    "cost": Phrase("cost"),
    "checks passed": Phrase("checks passed"),
}
#: So many answers are read at once; more belong into an export or the pages.
_MOST_INPUTS, _MOST_VARIANTS = 3, 4
_SHOWN_ERRORS = 5
_FEW_INPUTS = 10


def show_findings(terminal: Terminal, comparison: Comparison, cells: Sequence[Cell]) -> None:
    """The table of variants, that of checks, and the answers where they are few; notices on standard error."""
    from rolebook.core.measure import summarise

    evidence = summarise(comparison, cells)
    headings = (
        "Variant",
        "Complete",
        "Failed",
        "Words",
        "First token",
        "Tokens",
        "Cost",
        "Checks passed",
    )
    terminal.write_table(headings, _rows(terminal, comparison, cells, evidence))
    if evidence.checks:
        terminal.write_line()
        rows = _check_rows(terminal, comparison, evidence)
        terminal.write_table(("Check", "Variant", "Passed"), rows)
    if _is_readable(comparison):
        _show_answers(terminal, comparison, cells)
    _tell_differences(terminal, comparison, evidence)
    _tell_errors(terminal, cells)
    _tell_untold(terminal, cells)


def variant_name(terminal: Terminal, variant: Variant) -> str:
    """What a variant is called; the recorded answers in the reader's language."""
    return terminal.gettext("As recorded") if variant.is_recorded else variant.name


def _rows(
    terminal: Terminal, comparison: Comparison, cells: Sequence[Cell], evidence: Evidence
) -> Iterator[Sequence[str]]:
    asked = Counter(key.variant for key in comparison.cell_keys())
    complete = Counter(cell.key.variant for cell in cells if cell.status == "complete")
    failed = Counter(cell.key.variant for cell in cells if cell.status == "failed")
    measured = [evidence.get(name) for name in _MEASURES]
    for number, variant in enumerate(comparison.variants):
        yield (
            variant_name(terminal, variant),
            f"{complete[number]}/{asked[number]}",
            str(failed[number]),
            *(interval_text(entry.intervals[number], entry.unit) for entry in measured),
        )


def _check_rows(
    terminal: Terminal, comparison: Comparison, evidence: Evidence
) -> Iterator[Sequence[str]]:
    for check in evidence.checks:
        for variant, share in zip(comparison.variants, check.shares, strict=True):
            yield check.label, variant_name(terminal, variant), interval_text(share, "share")


def interval_text(interval: Interval | None, unit: Unit) -> str:
    """A number with its 95 % interval behind it, as far as there is one: ``82 (70…95)``."""
    if interval is None:
        return "–"
    scale = 100 if unit == "share" else 1
    digits = _digits(interval.value * scale, unit)
    text = _UNITS[unit].format(f"{interval.value * scale:.{digits}f}")
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ({interval.low * scale:.{digits}f}…{interval.high * scale:.{digits}f})"


def _digits(value: float, unit: Unit) -> int:
    """So many behind the point that three digits matter; of a price the first three that are not 0."""
    if unit == "share" or not value:
        return 0
    before = math.floor(math.log10(abs(value))) + 1
    return max(0, min(9 if unit == "$" else 3, 3 - before))


_UNITS: Mapping[str, str] = {
    "words": "{}",
    "characters": "{}",
    "questions": "{}",
    "tokens": "{}",
    "s": "{} s",
    "$": "${}",
    "share": "{} %",
}


def _is_readable(comparison: Comparison) -> bool:
    return (
        len(comparison.inputs) <= _MOST_INPUTS
        and len(comparison.variants) <= _MOST_VARIANTS
        and comparison.repeats == 1
    )


def _show_answers(terminal: Terminal, comparison: Comparison, cells: Sequence[Cell]) -> None:
    for index, entry in enumerate(comparison.inputs):
        own = [cell for cell in cells if cell.key.input == index]
        for number, text in enumerate(entry.turns):
            terminal.write_styled(f"\n› {text}\n", bold=True)
            for cell in own:
                if number < len(cell.turns):
                    variant = comparison.variants[cell.key.variant]
                    terminal.write_styled(f"── {variant_name(terminal, variant)}\n", fg="cyan")
                    turn = cell.turns[number]
                    terminal.write_line(turn.text)
                    if turn.error:
                        terminal.write_styled(
                            f"{terminal.translator.turn_error(turn.error)}\n", fg="red"
                        )


def _tell_differences(terminal: Terminal, comparison: Comparison, evidence: Evidence) -> None:
    """Which differences to the first variant are more than chance, and how little the rest rests on."""
    first, *others = [variant_name(terminal, variant) for variant in comparison.variants]
    clear = [
        (name, measured, difference)
        for number, name in enumerate(others, start=1)
        for measured in map(evidence.get, _MEASURES)
        if (difference := measured.differences[number]) and difference.is_clear
    ]
    for name, measured, difference in clear:
        terminal.tell(
            "%(name)s against %(first)s, %(measure)s: %(difference)s.",
            name=name,
            first=first,
            measure=_MEASURES[measured.name],
            difference=_signed(difference, measured.unit),
        )
    if others and not clear:
        terminal.tell("No difference between them is clear yet.")
    if evidence.inputs < _FEW_INPUTS:
        terminal.tell(
            "Inputs answered: %(count)d. So few can mislead; the intervals (95 %%) say how far.",
            count=evidence.inputs,
        )


def _signed(difference: Interval, unit: Unit) -> str:
    return ("+" if difference.value > 0 else "") + interval_text(difference, unit)


def _tell_errors(terminal: Terminal, cells: Sequence[Cell]) -> None:
    """Why cells have failed, each reason once."""
    errors = Counter(
        terminal.translator.turn_error(turn.error)
        for cell in cells
        if cell.status == "failed"
        for turn in cell.turns[-1:]
        if turn.error
    )
    for text, count in errors.most_common(_SHOWN_ERRORS):
        terminal.fail_line(f"{text} (×{count})" if count > 1 else text)


def _tell_untold(terminal: Terminal, cells: Sequence[Cell]) -> None:
    """How many checks nobody could judge, and why, each reason once."""
    untold = [result for cell in cells for result in cell.checks if result.has_passed is None]
    reasons = {str(result.said): result for result in untold}
    for result in list(reasons.values())[:_SHOWN_ERRORS]:
        terminal.tell("Not checked: %(label)s. %(said)s", label=result.label, said=result.said)
    if untold:
        terminal.tell(
            "Checks that could not be judged: %(count)d. They count as neither passed nor failed.",
            count=len(untold),
        )
