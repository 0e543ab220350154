"""The trash: deleting can be undone, until it is emptied."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlite_utils import Database

from rolebook.core.session import TurnStatus, now
from rolebook.storage import edit, index
from rolebook.storage.connection import execute
from rolebook.storage.reach import within_reach
from rolebook.storage.write import keep_messages

_LISTED = "number IN (SELECT value FROM json_each(?))"


def delete(db: Database, session_ids: Iterable[str]) -> int:
    """Move sessions to the trash. Returns how many; unknown ones and those that are there already do not count."""
    return _set_deleted(db, session_ids, now(), "deleted_at IS NULL")


def restore(db: Database, session_ids: Iterable[str]) -> int:
    """Take sessions out of the trash again. Returns how many."""
    return _set_deleted(db, session_ids, None, "deleted_at IS NOT NULL AND NOT is_purged")


def purge(db: Database, before: str) -> int:
    """Remove for good what was put into the trash before a time (ISO 8601), with all texts that nothing else uses.

    Turns that a remaining fork inherits stay, without a title, tags or a session that anybody can open, until that
    fork is purged too. Revisions stay. Returns how many sessions were removed.
    """
    doomed = execute(
        db, "SELECT number, id, is_purged FROM sessions WHERE deleted_at < ?", (before,)
    ).fetchall()
    numbers = json.dumps([row["number"] for row in doomed])
    turns = json.dumps(_turns_without_heirs(db, numbers))
    messages = _messages_of(db, turns)
    for row in doomed:
        if not row["is_purged"]:
            edit.rename(db, row["id"], "")
    _remove_turns(db, turns)
    _remove_messages(db, messages)
    _remove_sessions(db, numbers)
    return sum(not row["is_purged"] for row in doomed)


def _set_deleted(db: Database, session_ids: Iterable[str], time: str | None, condition: str) -> int:
    sql = f"UPDATE sessions SET deleted_at = ? WHERE id = ? AND {condition} AND {within_reach('sessions')}"
    return sum(execute(db, sql, (time, session_id)).rowcount for session_id in session_ids)


def _turns_without_heirs(db: Database, sessions: str) -> list[int]:
    rows = execute(
        db,
        "SELECT number FROM turns WHERE session IN (SELECT value FROM json_each(?1)) AND number NOT IN ("
        "SELECT value FROM sessions AS heirs, json_each(heirs.inherited) "
        "WHERE heirs.number NOT IN (SELECT value FROM json_each(?1)))",
        (sessions,),
    )
    return [row["number"] for row in rows]


def _messages_of(db: Database, turns: str) -> str:
    """The numbers of the messages that were sent in these turns, as JSON."""
    row = execute(
        db,
        "SELECT json_group_array(DISTINCT listed.value) FROM turns, json_each(turns.messages) AS listed "
        f"WHERE turns.{_LISTED}",
        (turns,),
    ).fetchone()
    return str(row[0])


def _remove_turns(db: Database, turns: str) -> None:
    for row in execute(
        db, f"SELECT number, status FROM turns WHERE {_LISTED}", (turns,)
    ).fetchall():
        if row["status"] != TurnStatus.PENDING:
            index.remove_turn(db, row["number"])
        keep_messages(db, row["number"])
    execute(db, f"DELETE FROM turns WHERE {_LISTED}", (turns,))


def _remove_messages(db: Database, candidates: str) -> None:
    """Remove those messages that no turn lists any more. Looks through the lists of all turns."""
    execute(
        db,
        f"DELETE FROM messages WHERE {_LISTED} AND number NOT IN "
        "(SELECT listed.value FROM turns, json_each(turns.messages) AS listed)",
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
