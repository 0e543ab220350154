"""What of the log a caller sees. One place decides, and no query has to remember it.

Who may see only their own reads through connections on which ``sessions``, ``turns`` and ``comparisons`` are views of
what is theirs: SQLite finds a temporary view before the table of the same name. What is written is looked up by id
first, and an id out of reach is as one that does not exist (:func:`is_visible`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlite_utils import Database

from rolebook.core.access import Reach, caller, is_within, reach_of
from rolebook.storage.connection import connect

_OWN = "{0}.user = reach_user() AND (reach_api_key() IS NULL OR {0}.api_key = reach_api_key())"
_VIEWS = (
    f"CREATE TEMP VIEW sessions AS SELECT * FROM main.sessions WHERE {_OWN.format('sessions')}",
    "CREATE TEMP VIEW comparisons AS SELECT * FROM main.comparisons "
    "WHERE comparisons.user = reach_user() AND reach_api_key() IS NULL",
    "CREATE TEMP VIEW turns AS SELECT * FROM main.turns AS turns WHERE EXISTS ("
    f"SELECT 1 FROM main.sessions AS own WHERE own.number = turns.session AND {_OWN.format('own')})",
)


class RestrictedReader(Database):
    """A connection to read with that shows what is within ``reach``."""

    reach: Reach


def connect_restricted(path: Path) -> RestrictedReader:
    """Raises sqlite3.Error."""
    db = connect(path, mode="rw", kind=RestrictedReader)
    assert isinstance(db, RestrictedReader)
    try:
        # Within one statement the reach is the same throughout, so that SQLite may ask for it once.
        for name, number in (
            ("reach_user", lambda: db.reach.user),
            ("reach_api_key", lambda: db.reach.api_key),
        ):
            db.conn.create_function(name, 0, number, deterministic=True)
        for view in _VIEWS:
            db.conn.execute(view)
        db.conn.execute("PRAGMA query_only = ON")
    except sqlite3.Error:
        db.close()
        raise
    return db


def present_reach() -> Reach | None:
    """What whoever calls at the moment sees; ``None`` is all of it."""
    return reach_of(caller())


def is_visible(user: int | None, api_key: int | None) -> bool:
    """Whether whoever calls at the moment sees what a user has begun, perhaps with a key."""
    return is_within(present_reach(), user, api_key)


def within_reach(table: str) -> str:
    """A condition on rows of ``sessions`` or ``comparisons`` for a connection that sees all of them."""
    reach = present_reach()
    if reach is None:
        return "1"
    if reach.api_key is None:
        return f"{table}.user = {reach.user:d}"
    return f"{table}.user = {reach.user:d} AND {table}.api_key = {reach.api_key:d}"
