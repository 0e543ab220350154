"""``rolebook sessions``: the log, listed, shown, exported and tidied."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.command import group
from rolebook.cli.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from rolebook.storage.query import SessionSummary

#: As storage.export.EXPORT_FORMATS has them; named here so that help needs no database.
_FORMATS = ("json", "jsonl", "md", "csv")


@group(
    help="""List the sessions, the last used first.

    TEXT of --search is words that must all occur, "a phrase", or the begin* of a word; Chinese is found from one
    character on. Of teacher@production those are listed that were begun by this very name, or that have a turn at the
    revision that it means now. DATE is a day of UTC such as 2026-11-20, or a time, which is of UTC unless it names a
    zone.""",
    examples="""
    rolebook sessions
    rolebook sessions --search "square root" --persona teacher
    rolebook sessions --since 2026-11-01 --status failed --json
    rolebook sessions show 01kajq3m5w8r2c9x0v
    rolebook sessions export 01kajq3m5w8r2c9x0v --format md > lesson.md
    """,
)
@click.option("--search", metavar="TEXT", default="", help="Only with these words in them.")
@click.option(
    "--persona",
    "persona_id",
    metavar="ID",
    default="",
    help="Only of this persona, also from before it was renamed; also as ID@LABEL or ID@REVISION.",
)
@click.option("--model", metavar="MODEL", default="", help="Only where this model was asked for.")
@click.option("--tag", metavar="TAG", default="", help="Only with this tag.")
@click.option(
    "--status",
    type=click.Choice(["pending", "complete", "failed", "cancelled", "interrupted"]),
    default=None,
    help="Only with a turn of this status.",
)
@click.option("--since", metavar="DATE", default="", help="Only last used then or later.")
@click.option("--until", metavar="DATE", default="", help="Only last used before, or on that day.")
@click.option("--starred", "is_starred", is_flag=True, help="Only with a star.")
@click.option("--deleted", "is_deleted", is_flag=True, help="The deleted ones instead.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@pass_invocation
@click.pass_context
def sessions(
    context: click.Context, invocation: Invocation, /, limit: int, as_json: bool, **wanted: Any
) -> None:
    if context.invoked_subcommand:
        return
    from rolebook.storage.query import SessionFilter, summary_data

    if wanted["persona_id"]:
        # A file that has just got another name has the sessions that it had under the old one.
        invocation.rolebook.recorder.record()
    chosen = {name: value for name, value in wanted.items() if value is not None}
    page = invocation.rolebook.log.list_sessions(SessionFilter(**chosen), limit=limit)
    terminal = invocation.terminal
    if as_json:
        terminal.write_json([summary_data(summary) for summary in page.summaries])
    else:
        headings = ("ID", "Last used", "Persona", "Turns", "Title")
        terminal.write_table(headings, map(_row, page.summaries))
    if page.cursor:
        terminal.tell("There are more: see them with --limit.")
    elif not page.summaries:
        terminal.tell("No session is like that.")


def _row(summary: SessionSummary) -> Sequence[str]:
    session = summary.session
    star = "★ " if session.is_starred else ""
    tags = "".join(f" #{tag}" for tag in session.tags)
    last_used = datetime.fromisoformat(summary.last_used_at).astimezone()
    return (
        session.id,
        last_used.strftime("%Y-%m-%d %H:%M"),
        session.persona_id or summary.persona_name,
        str(summary.turns),
        f"{star}{session.title or summary.snippet}{tags}",
    )


@sessions.command(
    help="""Show one session with all its turns, as Markdown.

    --json has all that the log knows: the exact messages sent, the exact reply, parameters requested and sent.""",
    examples="""
    rolebook sessions show 01kajq3m5w8r2c9x0v
    rolebook sessions show 01kajq3m5w8r2c9x0v --json | jq '.sessions[0].turns[0].messages'
    """,
)
@click.argument("session_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the session as JSON.")
@pass_invocation
def show(invocation: Invocation, session_id: str, as_json: bool) -> None:
    log = invocation.rolebook.log
    for piece in log.export_sessions([session_id], "json" if as_json else "md"):
        invocation.terminal.write(piece)


@sessions.command(
    help="Write sessions to standard output, to keep them or to work on them elsewhere.",
    examples="""
    rolebook sessions export 01kajq3m5w8r2c9x0v > lesson.json
    rolebook sessions export --all --format jsonl > everything.jsonl
    rolebook sessions export --all --format csv > turns.csv
    """,
)
@click.argument("session_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every session but the deleted ones.")
@click.option("--format", type=click.Choice(_FORMATS), default="json", show_default=True)
@pass_invocation
def export(invocation: Invocation, session_ids: tuple[str, ...], is_all: bool, format: str) -> None:
    if is_all == bool(session_ids):
        raise click.UsageError("Give the ids of sessions, or --all.")
    log = invocation.rolebook.log
    for piece in log.export_sessions(None if is_all else session_ids, format):
        invocation.terminal.write(piece)


_ids = click.argument("session_ids", metavar="ID...", nargs=-1, required=True)


@sessions.command(
    help="Give sessions a star, or take it away.",
    examples="""
    rolebook sessions star 01kajq3m5w8r2c9x0v
    rolebook sessions star --off 01kajq3m5w8r2c9x0v
    """,
)
@_ids
@click.option("--off", is_flag=True, help="Take the star away.")
@pass_invocation
def star(invocation: Invocation, session_ids: tuple[str, ...], off: bool) -> None:
    for session_id in session_ids:
        invocation.rolebook.log.star(session_id, not off)


@sessions.command(
    help="Set the tags of a session; without any, it has none.",
    examples="rolebook sessions tag 01kajq3m5w8r2c9x0v maths keep",
)
@click.argument("session_id", metavar="ID")
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@pass_invocation
def tag(invocation: Invocation, session_id: str, tags: tuple[str, ...]) -> None:
    invocation.rolebook.log.tag(session_id, tags)


@sessions.command(
    help="Give a session a title.",
    examples='rolebook sessions rename 01kajq3m5w8r2c9x0v "Fractions, second try"',
)
@click.argument("session_id", metavar="ID")
@click.argument("title", metavar="TITLE")
@pass_invocation
def rename(invocation: Invocation, session_id: str, title: str) -> None:
    invocation.rolebook.log.rename(session_id, title)


@sessions.command(
    help="""Delete sessions. `sessions restore` brings them back, until `empty-trash` removes them for good.

    DATE is a day of UTC such as 2026-11-20, or a time, which is of UTC unless it names a zone. Sessions with a star
    stay unless they are named.""",
    examples="""
    rolebook sessions delete 01kajq3m5w8r2c9x0v
    rolebook sessions delete --before 2026-01-01
    """,
)
@click.argument("session_ids", metavar="[ID]...", nargs=-1)
@click.option("--before", metavar="DATE", default="", help="All that were last used before.")
@pass_invocation
def delete(invocation: Invocation, session_ids: tuple[str, ...], before: str) -> None:
    if bool(before) == bool(session_ids):
        raise click.UsageError("Give the ids of sessions, or --before.")
    _require(invocation, session_ids)
    log = invocation.rolebook.log
    count = log.delete_unused(before) if before else log.delete(session_ids)
    invocation.terminal.tell(
        "Deleted: %(count)d. `rolebook sessions restore` brings them back.", count=count
    )


@sessions.command(
    help="Bring deleted sessions back.",
    examples="""
    rolebook sessions --deleted
    rolebook sessions restore 01kajq3m5w8r2c9x0v
    """,
)
@_ids
@pass_invocation
def restore(invocation: Invocation, session_ids: tuple[str, ...]) -> None:
    _require(invocation, session_ids)
    count = invocation.rolebook.log.restore(session_ids)
    invocation.terminal.tell("Restored: %(count)d.", count=count)


def _require(invocation: Invocation, session_ids: Sequence[str]) -> None:
    """Raises NotFoundError for the first that is not there, before any is touched."""
    for session_id in session_ids:
        invocation.rolebook.log.get_session(session_id)
