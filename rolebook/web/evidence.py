"""What a comparison has shown, as a piece of its page or on a page of its own."""

from __future__ import annotations

from collections.abc import Hashable

from flask import Blueprint, render_template, request

from rolebook.core.comparison import Comparison, Tally
from rolebook.core.measure import summarise, summarise_by_tag
from rolebook.report.evidence import Findings, findings
from rolebook.report.presentation import hue_of
from rolebook.web.current import current_translator, language, rolebook
from rolebook.web.kept import Kept

blueprint = Blueprint("evidence", __name__)

#: So many answers are summed up in less than a tenth of a second; for more of them no page waits.
_AT_ONCE = 1000
_kept: Kept[Findings] = Kept(8)


@blueprint.get("/comparisons/<comparison_id>/evidence")
def show(comparison_id: str) -> str:
    """The findings: a piece of HTML for a script that asks for them, else a page."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    progress = rolebook().compare.progress_of(comparison)
    found = _find(comparison) if progress.is_running else _find_once(comparison, progress.tally)
    is_piece = request.headers.get("Sec-Fetch-Dest") == "empty"
    return render_template(
        "evidence_piece.html" if is_piece else "evidence_page.html",
        comparison=comparison,
        findings=found,
        # Beside answers that are on their way it needs no saying that there are none yet.
        is_early=progress.is_running and found.is_empty,
    )


def findings_at_once(comparison: Comparison, tally: Tally) -> Findings | None:
    """The findings of a comparison that does not run; ``None`` of many answers that are not summed up yet."""
    if comparison.size > _AT_ONCE:
        return _kept.known(_id(comparison), _stamp(comparison, tally))
    return _find_once(comparison, tally)


def _find_once(comparison: Comparison, tally: Tally) -> Findings:
    """Kept while nothing changes; as long as a run goes on, results of checks still follow the answers they are of."""
    return _kept.get(_id(comparison), _stamp(comparison, tally), lambda: _find(comparison))


def _id(comparison: Comparison) -> str:
    return f"{comparison.id} {language()}"


def _stamp(comparison: Comparison, tally: Tally) -> Hashable:
    """What findings rest on: a run that goes on may find out more of the same answers, such as what a judge says."""
    book = rolebook()
    votes = tuple((vote.id, vote.outcome) for vote in book.comparisons.ballots(comparison.id))
    return book.compare.run_of(comparison.id), tally, votes


def _find(comparison: Comparison) -> Findings:
    log = rolebook().comparisons
    cells = log.cells(comparison)
    return findings(
        comparison,
        summarise(comparison, cells),
        log.ballots(comparison.id),
        translator=current_translator(),
        hues=[hue_of(variant) for variant in comparison.variants],
        by_tag=summarise_by_tag(comparison, cells),
    )
