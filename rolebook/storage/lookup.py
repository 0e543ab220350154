"""Sessions, turns and revisions found by their ids or numbers, on a connection inside a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

from sqlite_utils import Database

from rolebook.core.errors import NotFoundError, StorageError
from rolebook.core.message import Message, MessageRole
from rolebook.core.session import Revision, Session, TranscriptEnd, Turn
from rolebook.storage.connection import execute
from rolebook.storage.encoding import decode_json, decode_text
from rolebook.storage.reach import is_visible
from rolebook.storage.readable import UNREADABLE_TURNS
from rolebook.storage.record import revision_of, session_of, turn_of

#: What a row of ``sessions`` needs beside its own columns to become a session.
SESSION_COLUMNS = (
    "sessions.*, revisions.id AS revision_id, revisions.persona_name, "
    "(SELECT id FROM comparisons WHERE number = sessions.comparison) AS comparison_id, "
    "(SELECT id FROM turns WHERE number = sessions.judges) AS judged_id"
)

#: Many sessions may have begun with the same words; whoever goes on means the newest.
_MOST_ENDS = 8

_TURNS = (
    "SELECT turns.*, sessions.id AS session_id, sessions.user, sessions.api_key AS session_api_key, "
    "revisions.id AS revision_id FROM turns "
    "JOIN sessions ON sessions.number = turns.session JOIN revisions ON revisions.number = turns.revision"
)


def session_row(db: Database, session_id: str) -> sqlite3.Row:
    """A row of ``sessions`` with SESSION_COLUMNS. Raises NotFoundError."""
    row: sqlite3.Row | None = execute(
        db,
        f"SELECT {SESSION_COLUMNS} FROM sessions "
        "JOIN revisions ON revisions.number = sessions.revision WHERE sessions.id = ? AND NOT is_purged",
        (session_id,),
    ).fetchone()
    if row is None or not is_visible(row["user"], row["api_key"]):
        raise NotFoundError("There is no session %(id)s in the log.", id=session_id[:80])
    return row


def get_session(db: Database, session_id: str) -> Session:
    """Raises NotFoundError."""
    row = session_row(db, session_id)
    return session_of(row, tags_of(db, [row["number"]])[row["number"]])


def get_revision(db: Database, revision_id: str) -> Revision:
    """Raises NotFoundError."""
    row = execute(db, "SELECT * FROM revisions WHERE id = ?", (revision_id,)).fetchone()
    if row is None:
        raise NotFoundError("There is no revision %(id)s in the log.", id=revision_id[:80])
    return revision_of(row)


def turn_row(db: Database, turn_id: str) -> sqlite3.Row:
    """A row of ``turns`` with ``session_id`` and ``revision_id``. Raises NotFoundError."""
    row: sqlite3.Row | None = execute(db, f"{_TURNS} WHERE turns.id = ?", (turn_id,)).fetchone()
    if row is None or not is_visible(row["user"], row["session_api_key"]):
        raise NotFoundError("There is no turn %(id)s in the log.", id=turn_id[:80])
    return row


def transcript_ends(db: Database, digest: str) -> list[TranscriptEnd]:
    """The newest turns outside the trash that ended as a transcript does."""
    rows = execute(
        db,
        "SELECT sessions.id AS session_id, turns.id AS turn_id, turns.position, turns.is_current, turns.chosen, "
        "transcripts.choice, last.position AS last_position, last.input AS last_input "
        "FROM transcripts JOIN turns ON turns.number = transcripts.turn "
        "JOIN sessions ON sessions.number = turns.session "
        "JOIN turns AS last ON last.number = (SELECT number FROM turns WHERE session = sessions.number "
        "ORDER BY position DESC, attempt DESC LIMIT 1) "
        "WHERE digest = ? AND sessions.deleted_at IS NULL AND NOT is_purged ORDER BY turns.number DESC LIMIT ?",
        (bytes.fromhex(digest), _MOST_ENDS),
    )
    return [
        TranscriptEnd(
            session_id=row["session_id"],
            turn_id=row["turn_id"],
            position=row["position"],
            is_current=bool(row["is_current"]),
            choice=row["choice"],
            chosen=row["chosen"],
            last_position=row["last_position"],
            last_input=decode_text(row["last_input"]),
        )
        for row in rows
    ]


def get_turn(db: Database, turn_id: str) -> Turn:
    """A whole turn, with messages and reply. Raises NotFoundError."""
    row = turn_row(db, turn_id)
    return turn_of(row, partial(_messages, db))


def turns_by_number(db: Database, numbers: Iterable[int]) -> dict[int, Turn]:
    """Turns without messages and reply. Raises StorageError if one of them cannot be read."""
    return {row["number"]: turn_of(row) for row in _rows_by_number(db, numbers)}


def _rows_by_number(db: Database, numbers: Iterable[int]) -> Iterable[sqlite3.Row]:
    return execute(
        db,
        f"{_TURNS} WHERE turns.number IN (SELECT value FROM json_each(?))",
        (json.dumps(list(numbers)),),
    )


def readable_turns(db: Database, numbers: Iterable[int]) -> dict[int, Turn]:
    """The same without those that cannot be read: no index sees all that keeps one from it."""
    found: dict[int, Turn] = {}
    for row in _rows_by_number(db, numbers):
        with suppress(StorageError):
            found[row["number"]] = turn_of(row)
    return found


def session_turns(db: Database, session_id: str, *, is_whole: bool = False) -> list[Turn]:
    """All attempts by position, and the inherited turns of a fork; with messages and reply if they are to be whole.

    Raises NotFoundError.
    """
    session = session_row(db, session_id)
    rows = execute(
        db,
        f"{_TURNS} WHERE turns.session = ? OR turns.number IN (SELECT value FROM json_each(?)) "
        "ORDER BY position, turns.session <> ?, attempt",
        (session["number"], session["inherited"] or "[]", session["number"]),
    ).fetchall()
    if not is_whole:
        return [turn_of(row) for row in rows]
    return [turn_of(row, partial(_messages, db)) for row in rows]


def require_readable(db: Database, session_ids: Sequence[str] | None) -> None:
    """Raises StorageError if one of some sessions has a turn that cannot be read; None is all outside the trash."""
    chosen = "sessions.deleted_at IS NULL"
    if session_ids is not None:
        chosen = "sessions.id IN (SELECT value FROM json_each(?))"
    parameters = () if session_ids is None else (json.dumps(session_ids),)
    for row in execute(
        db, f"{_TURNS} WHERE turns.number IN {UNREADABLE_TURNS} AND {chosen}", parameters
    ):
        turn_of(row)


def session_ids(db: Database, *, after: int, limit: int) -> list[tuple[int, str]]:
    """Numbers and ids of sessions outside the trash, in the order they were made, ``after`` a number."""
    rows = execute(
        db,
        "SELECT number, id FROM sessions WHERE number > ? AND deleted_at IS NULL AND activity > 0 "
        "ORDER BY number LIMIT ?",
        (after, limit),
    )
    return [(row["number"], row["id"]) for row in rows]


def tags_of(db: Database, numbers: Iterable[int]) -> Mapping[int, list[str]]:
    """The tags of sessions, in order, by the sessions' numbers."""
    rows = execute(
        db,
        "SELECT session, tag FROM session_tags WHERE session IN (SELECT value FROM json_each(?))",
        (json.dumps(list(numbers)),),
    )
    tags: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        tags[row["session"]].append(decode_text(row["tag"]))
    return tags


def _messages(db: Database, stored: str) -> list[Message]:
    """The messages of a turn from the list of their numbers. Raises ValueError, LookupError or TypeError."""
    numbers = json.loads(stored)
    rows = execute(
        db,
        "SELECT messages.number, role, fields, "
        "coalesce(content, CASE role WHEN 'assistant' THEN text ELSE input END) AS content "
        "FROM messages LEFT JOIN turns ON turns.number = messages.turn "
        "WHERE messages.number IN (SELECT value FROM json_each(?))",
        (stored,),
    )
    messages = {
        row["number"]: Message(
            cast(MessageRole, row["role"]),
            decode_text(row["content"]),
            fields=decode_json(row["fields"], {}),
        )
        for row in rows
    }
    return [messages[number] for number in numbers]
