"""What a comparison has shown, as a piece of its page or on a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, render_template, request

from rolebook.core.comparison import Comparison
from rolebook.core.measure import Evidence, summarise, summarise_by_tag
from rolebook.report.evidence import findings
from rolebook.report.presentation import hue_of
from rolebook.web.current import current_translator, rolebook
from rolebook.web.kept import Kept

blueprint = Blueprint("evidence", __name__)


@dataclass(frozen=True, slots=True)
class Summed:
    """The evidence of a whole comparison, and that of each tag alone."""

    whole: Evidence
    by_tag: Mapping[str, Evidence]


_summed: Kept[Summed] = Kept(8)


@blueprint.get("/comparisons/<comparison_id>/evidence")
def show(comparison_id: str) -> str:
    """The findings: a piece of HTML for a script that asks for them, else a page."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    summed = _evidence(comparison)
    found = findings(
        comparison,
        summed.whole,
        rolebook().comparisons.ballots(comparison.id),
        translator=current_translator(),
        hues=[hue_of(variant) for variant in comparison.variants],
        by_tag=summed.by_tag,
    )
    is_piece = request.headers.get("Sec-Fetch-Dest") == "empty"
    return render_template(
        "evidence_piece.html" if is_piece else "evidence_page.html",
        comparison=comparison,
        findings=found,
    )


def _evidence(comparison: Comparison) -> Summed:
    """Kept while nothing changes; as long as a run goes on, results of checks still follow the answers they are of."""
    book = rolebook()
    progress = book.compare.progress_of(comparison)
    if progress.is_running or book.comparisons.is_run_elsewhere(comparison.id):
        return _sum_up(comparison)
    return _summed.get(comparison.id, progress.tally, lambda: _sum_up(comparison))


def _sum_up(comparison: Comparison) -> Summed:
    cells = rolebook().comparisons.cells(comparison)
    return Summed(summarise(comparison, cells), summarise_by_tag(comparison, cells))
