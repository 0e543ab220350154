"""``rolebook comparisons``: the comparisons in the log, listed, shown, carried on and taken away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from rolebook.cli.choices import FORMATS, Ending, resuming_options
from rolebook.cli.command import group
from rolebook.cli.comparing import export, run, tell_what_is_left
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.core.errors import InputError

if TYPE_CHECKING:
    from rolebook.cli.terminal import Terminal
    from rolebook.core.comparison import Comparison
    from rolebook.storage.comparison import ComparisonSummary


@group(
    help="List the comparisons, the newest first.",
    examples="""
    rolebook comparisons
    rolebook comparisons show 01kajq3m5w8r2c9x0v
    rolebook comparisons export 01kajq3m5w8r2c9x0v --format html > result.html
    """,
)
@click.option("--deleted", "is_deleted", is_flag=True, help="The deleted ones instead.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@pass_invocation
@click.pass_context
def comparisons(
    context: click.Context, invocation: Invocation, is_deleted: bool, limit: int, as_json: bool
) -> None:
    if context.invoked_subcommand:
        return
    summaries, cursor = invocation.rolebook.comparisons.list_comparisons(
        limit=limit, is_deleted=is_deleted
    )
    terminal = invocation.terminal
    if as_json:
        from rolebook.storage.comparison import summary_data

        terminal.write_json([summary_data(summary) for summary in summaries])
    else:
        headings = ("ID", "Made", "Cells", "Failed", "Votes", "Question")
        terminal.write_table(headings, [_row(terminal, summary) for summary in summaries])
    for summary in summaries:
        if summary.flaw:
            terminal.tell_line(terminal.translator.error(summary.flaw))
    if cursor:
        terminal.tell("There are more: see them with --limit.")
    elif not summaries:
        terminal.tell("There is no comparison.")


def _row(terminal: Terminal, summary: ComparisonSummary) -> Sequence[str]:
    comparison, tally = summary.comparison, summary.tally
    return (
        comparison.id,
        _minute(comparison.created_at),
        "–" if summary.flaw else f"{tally.complete}/{tally.total}",
        "–" if summary.flaw else str(tally.failed),
        str(summary.votes),
        comparison.question or _variants_text(terminal, comparison),
    )


def _minute(time: str) -> str:
    """A time by the clock of this computer; unknown is a dash."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M") if time else "–"


def _variants_text(terminal: Terminal, comparison: Comparison) -> str:
    from rolebook.cli.findings import variant_name

    return " – ".join(variant_name(terminal, variant) for variant in comparison.variants)


@comparisons.command(
    help="""Show one comparison as far as it is: a row for each variant, and the answers where they are few.

    --json has all of it: every answer, what the checks found, the personas and the parameters sent.""",
    examples="""
    rolebook comparisons show 01kajq3m5w8r2c9x0v
    rolebook comparisons show 01kajq3m5w8r2c9x0v --json | jq '.cells[].turns[].text'
    """,
)
@click.argument("comparison_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@pass_invocation
def show(invocation: Invocation, comparison_id: str, as_json: bool) -> None:
    rolebook, terminal = invocation.rolebook, invocation.terminal
    comparison = rolebook.comparisons.get_comparison(comparison_id)
    from rolebook.cli.findings import show_findings
    from rolebook.report.snapshot import take_snapshot

    snapshot = take_snapshot(rolebook, comparison)
    if as_json:
        for piece in export(terminal, snapshot, "json"):
            terminal.write(piece)
    else:
        if comparison.question:
            terminal.tell_line(comparison.question)
        show_findings(terminal, snapshot)
    if comparison.deleted_at or rolebook.comparisons.is_run_elsewhere(comparison.id):
        return
    tell_what_is_left(terminal, comparison, snapshot.tally)


@comparisons.command(
    "export",
    help="""Write a comparison to standard output.

    html is one page that opens anywhere and asks nobody for anything. `compare --repeat` does the comparison of an
    export once more.""",
    examples="""
    rolebook comparisons export 01kajq3m5w8r2c9x0v --format html > result.html
    rolebook comparisons export 01kajq3m5w8r2c9x0v --format csv > answers.csv
    """,
)
@click.argument("comparison_id", metavar="ID")
@click.option("--format", type=click.Choice(FORMATS), default="json", show_default=True)
@pass_invocation
def export_comparison(invocation: Invocation, comparison_id: str, format: str) -> None:
    from rolebook.report.snapshot import take_snapshot

    rolebook, terminal = invocation.rolebook, invocation.terminal
    snapshot = take_snapshot(rolebook, rolebook.comparisons.get_comparison(comparison_id))
    for piece in export(terminal, snapshot, format):
        terminal.write(piece)


@comparisons.command(
    help="""Go on with a comparison that was stopped. Nothing that is answered is asked again.

    Cells that have failed stay as they are; `comparisons retry` is for them.""",
    examples="rolebook comparisons resume 01kajq3m5w8r2c9x0v -o result.html",
)
@click.argument("comparison_id", metavar="ID")
@resuming_options
@pass_invocation
def resume(
    invocation: Invocation, comparison_id: str, ending: Ending, concurrency: int | None
) -> None:
    comparison = invocation.rolebook.comparisons.get_comparison(comparison_id)
    run(invocation, comparison, ending, concurrency=concurrency)


@comparisons.command(
    help="Ask the failed cells of a comparison again, and what is missing otherwise.",
    examples="rolebook comparisons retry 01kajq3m5w8r2c9x0v",
)
@click.argument("comparison_id", metavar="ID")
@resuming_options
@pass_invocation
def retry(
    invocation: Invocation, comparison_id: str, ending: Ending, concurrency: int | None
) -> None:
    comparison = invocation.rolebook.comparisons.get_comparison(comparison_id)
    run(invocation, comparison, ending, with_failed=True, concurrency=concurrency)


@comparisons.command(
    help="Put the question of a comparison in other words.",
    examples='rolebook comparisons rename 01kajq3m5w8r2c9x0v "Which teacher asks better questions?"',
)
@click.argument("comparison_id", metavar="ID")
@click.argument("question", metavar="QUESTION")
@pass_invocation
def rename(invocation: Invocation, comparison_id: str, question: str) -> None:
    invocation.rolebook.comparisons.rename_comparison(comparison_id, " ".join(question.split()))


_ids = click.argument("comparison_ids", metavar="ID...", nargs=-1, required=True)


@comparisons.command(
    help="Delete comparisons. `comparisons restore` brings them back.",
    examples="rolebook comparisons delete 01kajq3m5w8r2c9x0v",
)
@_ids
@pass_invocation
def delete(invocation: Invocation, comparison_ids: tuple[str, ...]) -> None:
    _require(invocation, comparison_ids)
    count = invocation.rolebook.comparisons.delete_comparisons(comparison_ids)
    invocation.terminal.tell(
        "Deleted: %(count)d. `rolebook comparisons restore` brings them back.", count=count
    )


@comparisons.command(
    help="Bring deleted comparisons back.",
    examples="""
    rolebook comparisons --deleted
    rolebook comparisons restore 01kajq3m5w8r2c9x0v
    """,
)
@_ids
@pass_invocation
def restore(invocation: Invocation, comparison_ids: tuple[str, ...]) -> None:
    _require(invocation, comparison_ids)
    count = invocation.rolebook.comparisons.restore_comparisons(comparison_ids)
    invocation.terminal.tell("Restored: %(count)d.", count=count)


def _require(invocation: Invocation, comparison_ids: Sequence[str]) -> None:
    """Raises NotFoundError for the first that is not there, before any is touched."""
    for comparison_id in comparison_ids:
        invocation.rolebook.comparisons.require_comparison(comparison_id)


@comparisons.command(
    help="""List the votes on a comparison, the oldest first: which two answers were laid side by side, and which won.

    The outcome is left, right, tie or both_bad; ballots that were passed over are left out.""",
    examples="""
    rolebook comparisons votes 01kajq3m5w8r2c9x0v
    rolebook comparisons votes 01kajq3m5w8r2c9x0v --csv > votes.csv
    """,
)
@click.argument("comparison_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the votes as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the votes as CSV.")
@pass_invocation
def votes(invocation: Invocation, comparison_id: str, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise InputError("Give either --json or --csv.")
    from rolebook.core.voting import vote_rows

    log, terminal = invocation.rolebook.comparisons, invocation.terminal
    rows = vote_rows(log.get_comparison(comparison_id), log.ballots(comparison_id))
    if as_json:
        terminal.write_json(rows)
    elif as_csv:
        from rolebook.storage.csv_text import CSV_BEGIN, csv_line

        columns = [tuple(row) for row in rows[:1]]
        lines = [csv_line(cells) for cells in (*columns, *(row.values() for row in rows))]
        terminal.write(CSV_BEGIN + "".join(lines))
    else:
        headings = ("Input", "Left", "Right", "Outcome", "Voted")
        names = ("text", "left", "right", "outcome", "voted_at")
        terminal.write_table(headings, [[row[name] for name in names] for row in rows])
    if not rows:
        terminal.tell("Nobody has voted on it yet.")
