"""``rolebook backup`` and ``rolebook empty-trash``: looking after the log."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.core.errors import InputError

_USUAL_DAYS = 30


@command(
    help="""Copy the log to FILE, whole and looked through for damage, also while Rolebook runs.

    Without FILE, or with a folder, the copy is named after the time. Nothing is ever overwritten. The personas and
    prompt templates are files of their own: keep them in git, or copy their folders as well.""",
    examples="""
    rolebook backup
    rolebook backup /mnt/backups/
    rolebook backup before-the-update.db
    """,
)
@click.argument("target", metavar="[FILE]", default=".")
@pass_invocation
def backup(invocation: Invocation, target: str) -> None:
    made = invocation.rolebook.log.back_up(_backup_path(target))
    invocation.terminal.tell(
        "Turns: %(turns)d, size: %(size).1f MB. To go back to it, stop Rolebook and put it in the place of the log.",
        turns=made.turns,
        size=made.size_bytes / 1_000_000,
    )
    invocation.terminal.write_line(str(made.path))


def _backup_path(named: str) -> Path:
    """The file to copy to, by how it was named: what ends like a folder has to be one."""
    path = Path(named)
    if path.is_dir():
        return path / f"rolebook-{datetime.now(UTC):%Y%m%d-%H%M%S}.db"
    if named.endswith(("/", os.sep)):
        raise InputError("There is no folder %(path)s. Make it first.", path=named)
    return path


@command(
    "empty-trash",
    help="""Remove for good the sessions and comparisons that were deleted some time ago. There is no way back.

    What they share with others stays: turns that a fork goes on from, answers that another comparison shows. With the
    session of a cell go the votes on it; the cell waits then to be asked again.""",
    examples="""
    rolebook empty-trash
    rolebook empty-trash --days 0 --yes
    """,
)
@click.option(
    "--days",
    type=click.IntRange(0),
    default=_USUAL_DAYS,
    show_default=True,
    help="Only what was deleted at least so many days ago.",
)
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
@pass_invocation
def empty_trash(invocation: Invocation, days: int, is_agreed: bool) -> None:
    terminal = invocation.terminal
    if not is_agreed:
        if not sys.stdin.isatty():
            raise InputError("What is removed cannot be brought back. Say so with --yes.")
        question = terminal.gettext("Remove it for good?")
        if not click.confirm(question, err=True):
            click.get_current_context().exit(1)
    before = datetime.now(UTC) - timedelta(days=days)
    log = invocation.rolebook.log
    removed = log.purge_deleted(before.isoformat())
    terminal.tell(
        "Removed for good: sessions: %(sessions)d, comparisons: %(comparisons)d.",
        sessions=removed.sessions,
        comparisons=removed.comparisons,
    )
    if removed.along:
        terminal.tell(
            "With them went the sessions of cells and judges: %(count)d.", count=removed.along
        )
    if removed.cells:
        terminal.tell(
            "Comparisons that are still there have lost answers with it: cells: %(cells)d, votes on them: %(votes)d. "
            "Going on with such a comparison asks those again.",
            cells=removed.cells,
            votes=removed.votes,
        )
