"""The trash: deleting can be undone, until it is emptied."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from sqlite_utils import Database

from rolebook.core.comparison import CellKey
from rolebook.core.session import TurnStatus, now
from rolebook.storage import edit, index
from rolebook.storage.api_key import keep_spending
from rolebook.storage.ballot import remove_ballots
from rolebook.storage.connection import execute
from rolebook.storage.query import comparable_time
from rolebook.storage.reach import within_reach
from rolebook.storage.write import keep_messages

_LISTED = "number IN (SELECT value FROM json_each(?))"
# A turn that is damaged names none, and must not keep others in the trash.
_MESSAGES = "json_each(CASE WHEN json_valid(turns.messages) THEN turns.messages END)"


def delete(db: Database, session_ids: Iterable[str]) -> int:
    """Move sessions to the trash. Returns how many; unknown ones and those that are there already do not count."""
    return _set_deleted(db, session_ids, now(), "deleted_at IS NULL")


def delete_unused(db: Database, before: str) -> int:
    """Move the talks that were last used before a date or time to the trash, but for those with a star.

    Returns how many. Raises InputError for what is no date.
    """
    sql = (
        "UPDATE sessions SET deleted_at = ? WHERE used_at < ? AND deleted_at IS NULL AND activity > 0 "
        f"AND NOT is_starred AND NOT is_purged AND {within_reach('sessions')}"
    )
    return execute(db, sql, (now(), comparable_time("before", before))).rowcount


def restore(db: Database, session_ids: Iterable[str]) -> int:
    """Take sessions out of the trash again. Returns how many."""
    return _set_deleted(db, session_ids, None, "deleted_at IS NOT NULL AND NOT is_purged")


class Purged(NamedTuple):
    """What was removed for good.

    ``sessions`` and ``comparisons`` were in the trash themselves; ``along`` went the sessions in which their answers
    were given, or judged. ``cells`` are those of remaining comparisons whose answers were among it, ``votes`` those
    that were cast on them.
    """

    sessions: int
    comparisons: int
    along: int = 0
    cells: int = 0
    votes: int = 0


def purge(db: Database, before: str) -> Purged:
    """Remove for good what was put into the trash before a date or time, with all texts that nothing else uses.

    With a comparison go the sessions of its cells, its votes and what its checks found; with a turn, the sessions in
    which it was judged, and the votes on it, as what is asked in its place is another answer. Turns that a remaining
    fork inherits, or a remaining comparison shows, stay, without a title, tags or a session that anybody can open,
    until that is purged too. Revisions stay, and so does what API keys have used this month, as sums.
    """
    before = comparable_time("before", before)
    # What is removed is overwritten in the file, not only forgotten.
    execute(db, "PRAGMA secure_delete = ON")
    comparisons = _numbers(
        db, "SELECT number FROM comparisons WHERE deleted_at < :before", before=before
    )
    doomed = _numbers(
        db,
        "SELECT number FROM sessions WHERE deleted_at < :before"
        " OR comparison IN (SELECT value FROM json_each(:comparisons))",
        before=before,
        comparisons=comparisons,
    )
    doomed = _with_judges(db, doomed, comparisons)
    named, along = _count_named(db, doomed, before)
    turns = _turns_of_nobody_else(db, doomed, comparisons)
    messages = _messages_of(db, turns)
    for row in execute(db, f"SELECT id FROM sessions WHERE {_LISTED} AND NOT is_purged", (doomed,)):
        edit.rename(db, row["id"], "")
    _remove_comparisons(db, comparisons)
    cells, votes = _take_votes_from(db, turns)
    _remove_turns(db, turns)
    _remove_messages(db, messages)
    _remove_sessions(db, doomed)
    if json.loads(turns):
        index.forget_removed(db)
    execute(db, "PRAGMA secure_delete = OFF")
    return Purged(named, len(json.loads(comparisons)), along, cells, votes)


def _numbers(db: Database, sql: str, **parameters: str) -> str:
    """The first column of a query, as a JSON list of numbers."""
    return json.dumps([row[0] for row in execute(db, sql, parameters)])


def _count_named(db: Database, sessions: str, before: str) -> tuple[int, int]:
    """How many of these were put into the trash themselves, and how many were not."""
    row = execute(
        db,
        "SELECT coalesce(sum(deleted_at < ?), 0) AS named, count(*) AS listed FROM sessions "
        f"WHERE {_LISTED} AND NOT is_purged",
        (before, sessions),
    ).fetchone()
    return row["named"], row["listed"] - row["named"]


def _set_deleted(db: Database, session_ids: Iterable[str], time: str | None, condition: str) -> int:
    sql = f"UPDATE sessions SET deleted_at = ? WHERE id = ? AND {condition} AND {within_reach('sessions')}"
    return sum(execute(db, sql, (time, session_id)).rowcount for session_id in session_ids)


def _with_judges(db: Database, sessions: str, comparisons: str) -> str:
    """Also the sessions that judge turns which will be gone, because what they judge is quoted in them."""
    turns = _turns_of_nobody_else(db, sessions, comparisons)
    return _numbers(
        db,
        "SELECT value FROM json_each(:sessions) UNION "
        "SELECT number FROM sessions WHERE judges IN (SELECT value FROM json_each(:turns))",
        sessions=sessions,
        turns=turns,
    )


def _turns_of_nobody_else(db: Database, sessions: str, comparisons: str) -> str:
    """The turns of sessions that no other fork inherits and no other comparison shows."""
    return _numbers(
        db,
        "SELECT number FROM turns WHERE session IN (SELECT value FROM json_each(:sessions)) AND number NOT IN ("
        "SELECT value FROM sessions AS heirs, json_each(heirs.inherited) "
        "WHERE heirs.number NOT IN (SELECT value FROM json_each(:sessions))) AND number NOT IN ("
        # One that is damaged shows none, and must not keep others in the trash.
        "SELECT value FROM cells, json_each(CASE WHEN json_valid(cells.reused) THEN cells.reused END) "
        "WHERE cells.comparison NOT IN (SELECT value FROM json_each(:comparisons)))",
        sessions=sessions,
        comparisons=comparisons,
    )


def _messages_of(db: Database, turns: str) -> str:
    """The numbers of the messages that were sent in these turns, as JSON."""
    row = execute(
        db,
        f"SELECT json_group_array(DISTINCT listed.value) FROM turns, {_MESSAGES} AS listed "
        f"WHERE turns.{_LISTED}",
        (turns,),
    ).fetchone()
    return str(row[0])


def _remove_comparisons(db: Database, comparisons: str) -> None:
    """With their cells and votes, which go along."""
    listed = "comparison IN (SELECT value FROM json_each(?))"
    execute(db, f"DELETE FROM check_results WHERE {listed}", (comparisons,))
    execute(db, f"UPDATE sessions SET comparison = NULL WHERE {listed}", (comparisons,))
    execute(db, f"DELETE FROM comparisons WHERE {_LISTED}", (comparisons,))


def _take_votes_from(db: Database, turns: str) -> tuple[int, int]:
    """Remove the ballots on cells that lose answers. Returns how many cells that are, and how many votes it takes."""
    cells = execute(
        db,
        "SELECT DISTINCT comparison, input, variant, repeat FROM cells WHERE reused IS NULL AND session IN "
        f"(SELECT session FROM turns WHERE {_LISTED})",
        (turns,),
    ).fetchall()
    votes = sum(
        remove_ballots(
            db, cell["comparison"], CellKey(cell["variant"], cell["input"], cell["repeat"])
        )
        for cell in cells
    )
    return len(cells), votes


def _remove_turns(db: Database, turns: str) -> None:
    for row in execute(
        db, f"SELECT number, status FROM turns WHERE {_LISTED}", (turns,)
    ).fetchall():
        if row["status"] != TurnStatus.PENDING:
            index.remove_turn(db, row["number"])
        keep_messages(db, row["number"])
    execute(db, "DELETE FROM transcripts WHERE turn IN (SELECT value FROM json_each(?))", (turns,))
    # The number may become another turn's; that somebody has judged stays true.
    execute(
        db,
        "UPDATE check_results SET judged_by = 0 WHERE judged_by IN (SELECT value FROM json_each(?))",
        (turns,),
    )
    keep_spending(db, turns)
    execute(db, f"DELETE FROM turns WHERE {_LISTED}", (turns,))


def _remove_messages(db: Database, candidates: str) -> None:
    """Remove those messages that no turn lists any more. Looks through the lists of all turns."""
    execute(
        db,
        f"DELETE FROM messages WHERE {_LISTED} AND number NOT IN "
        f"(SELECT listed.value FROM turns, {_MESSAGES} AS listed)",
        (candidates,),
    )


def _remove_sessions(db: Database, sessions: str) -> None:
    with_turns = "EXISTS (SELECT 1 FROM turns WHERE turns.session = sessions.number)"
    execute(db, f"DELETE FROM sessions WHERE {_LISTED} AND NOT {with_turns}", (sessions,))
    execute(
        db,
        f"UPDATE sessions SET is_purged = 1, variables = NULL, parameters = NULL WHERE {_LISTED}",
        (sessions,),
    )
    execute(
        db,
        "DELETE FROM session_tags WHERE session IN (SELECT value FROM json_each(?))",
        (sessions,),
    )
