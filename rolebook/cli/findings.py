"""What a comparison has shown, as a terminal says it: a row for each variant, the checks, and a few answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rolebook.cli.terminal import Terminal

if TYPE_CHECKING:
    from rolebook.core.comparison import Ballot, Break, Cell, Comparison, Variant
    from rolebook.core.interval import Interval
    from rolebook.core.measure import Evidence, Unit
    from rolebook.core.session import Turn
    from rolebook.report.snapshot import Snapshot

#: What the table has of each variant.
_MEASURES = ("words", "time to first token", "tokens", "cost", "checks passed")
#: So many answers are read at once; more belong into an export or the pages.
_MOST_INPUTS, _MOST_VARIANTS = 3, 4
_SHOWN_ERRORS = 5


def show_findings(terminal: Terminal, snapshot: Snapshot) -> None:
    """The table of variants, that of checks, and the answers where they are few; findings, and why
    its last run broke off, on standard error."""
    comparison, evidence = snapshot.comparison, snapshot.evidence
    cells = list(snapshot.cells.values())
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
    rows = list(_rows(terminal, comparison, cells, evidence))
    if terminal.would_fold(headings, rows):
        terminal.write_table(("Measure", "Variant", "Value"), _one_by_one(terminal, headings, rows))
    else:
        terminal.write_table(headings, rows)
    if evidence.checks:
        terminal.write_line()
        checks = _share_rows(terminal, comparison, ((c.label, c.shares) for c in evidence.checks))
        terminal.write_table(("Check", "Variant", "Passed"), checks)
    if [each.reason for each in evidence.reasons] not in ([], ["stop"]):
        terminal.write_line()
        reasons = _share_rows(
            terminal, comparison, ((r.reason, r.shares) for r in evidence.reasons)
        )
        terminal.write_table(("Finish reason", "Variant", "Answers"), reasons)
    if _is_readable(comparison):
        _show_answers(terminal, comparison, cells)
    _tell_findings(terminal, comparison, evidence, snapshot.votes)
    _tell_errors(terminal, cells, snapshot.breaks)
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
            *(_figure(entry.intervals[number], entry.unit) for entry in measured),
        )


def _one_by_one(
    terminal: Terminal, headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> Iterator[Sequence[str]]:
    """The same for a narrow terminal: a row for each measure of each variant, those to compare together."""
    for number, heading in enumerate(headings):
        if number and {row[number] for row in rows} - {"0", "–"}:
            yield from ((terminal.gettext(heading), row[0], row[number]) for row in rows)


def _share_rows(
    terminal: Terminal,
    comparison: Comparison,
    told: Iterable[tuple[str, Sequence[Interval | None]]],
) -> Iterator[Sequence[str]]:
    """A row for what each label says of each variant, by the share of its answers."""
    for label, shares in told:
        for variant, share in zip(comparison.variants, shares, strict=True):
            yield label, variant_name(terminal, variant), _figure(share, "share")


def _figure(interval: Interval | None, unit: Unit) -> str:
    """A number with its 95 % interval behind it, as far as there is one, as pages have it: ``82 % [70–95]``."""
    from rolebook.report.chart.axis import NUMBER
    from rolebook.report.figures import UNITS, figures

    if interval is None:
        return "–"
    text, between = figures(interval, UNITS.get(unit, NUMBER))
    return text if interval.low is None else f"{text} [{between}]"


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
                    _show_said(terminal, turn)
                    if turn.error:
                        terminal.write_styled(
                            f"{terminal.translator.turn_error(turn.error)}\n", fg="red"
                        )


def _show_said(terminal: Terminal, turn: Turn) -> None:
    """An answer, and what it is if it is no text."""
    from rolebook.report.presentation import call_text

    if turn.text:
        terminal.write_line(turn.text)
    for call in turn.choice.tool_calls:
        said = "It asks for a tool, and Rolebook has none:"
        terminal.write_line(f"{terminal.gettext(said)}\n{call_text(call)}")
    if turn.choice.refusal:
        terminal.write_line(
            terminal.gettext("The model refuses: %(refusal)s", refusal=turn.choice.refusal)
        )
    if turn.status == "complete" and not (
        turn.text or turn.choice.tool_calls or turn.choice.refusal
    ):
        terminal.write_line(terminal.gettext("It answered nothing."))


def _tell_findings(
    terminal: Terminal, comparison: Comparison, evidence: Evidence, ballots: Sequence[Ballot]
) -> None:
    """The sentences that the page of the comparison has above its grid."""
    from rolebook.core.preference import preference
    from rolebook.core.voting import votes_of
    from rolebook.report.presentation import hue_of
    from rolebook.report.sentences import Narrator

    votes = votes_of(comparison, ballots)
    narrator = Narrator(comparison, terminal.translator, list(map(hue_of, comparison.variants)))
    for sentence in narrator.tell(evidence, preference(votes), votes):
        terminal.tell_line(sentence.text)


def _tell_errors(terminal: Terminal, cells: Sequence[Cell], breaks: Sequence[Break]) -> None:
    """Why cells have failed, and why the last run broke off; each reason once."""
    translator = terminal.translator
    errors = Counter(
        translator.turn_error(turn.error)
        for cell in cells
        if cell.status == "failed" and not cell.is_reused
        for turn in cell.turns[-1:]
        if turn.error
    )
    for found in breaks:
        errors.pop(translator.turn_error(found.error), None)
    for text, count in errors.most_common(_SHOWN_ERRORS):
        terminal.fail_line(f"{text} (×{count})" if count > 1 else text)
    for found in breaks:
        terminal.fail_line(translator.say(found.said.message, found.said.parameters))


def _tell_untold(terminal: Terminal, cells: Sequence[Cell]) -> None:
    """Why checks could not be judged, each reason once."""
    from rolebook.cli.answer import tell_checks

    untold = [result for cell in cells for result in cell.checks if result.has_passed is None]
    reasons = {str(result.said): result for result in untold}
    tell_checks(terminal, list(reasons.values())[:_SHOWN_ERRORS])
