"""The state of the log's file, for ``/healthz``, pages and commands."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from rolebook.core.frozen import frozen
from rolebook.storage.connection import connect, execute, is_busy, storage_error
from rolebook.storage.schema import migrations, quick_check

#: Whoever looks whether all is well looks again soon.
_PATIENCE_S = 0.5


@frozen
class DatabaseStatus:
    """The file and what is in it. ``schema_version`` counts migrations; ``problems`` are what a check has found."""

    path: str
    size_bytes: int
    wal_bytes: int
    schema_version: int
    sqlite_version: str
    sessions: int
    deleted_sessions: int
    turns: int
    unwritten: int
    problems: tuple[str, ...]

    @property
    def is_private(self) -> bool:
        """Whether no other account of this computer may read the file."""
        path = Path(self.path)
        return os.name != "posix" or not (path.exists() and path.stat().st_mode & 0o077)


def database_status(db: Database, path: Path, *, unwritten: int, check: bool) -> DatabaseStatus:
    """Look at the file; with ``check`` also run SQLite's quick check, which takes seconds for gigabytes."""
    sessions, deleted, turns = execute(
        db,
        "SELECT (SELECT count(*) FROM sessions WHERE deleted_at IS NULL), "
        "(SELECT count(*) FROM sessions WHERE deleted_at IS NOT NULL AND NOT is_purged), (SELECT count(*) FROM turns)",
    ).fetchone()
    return DatabaseStatus(
        path=str(path),
        size_bytes=_size(path),
        wal_bytes=_size(path.with_name(f"{path.name}-wal")),
        schema_version=len(migrations.applied(db)),
        sqlite_version=sqlite3.sqlite_version,
        sessions=sessions,
        deleted_sessions=deleted,
        turns=turns,
        unwritten=unwritten,
        problems=quick_check(db) if check else (),
    )


def read_anew(path: Path) -> None:
    """Read from the file over a connection of its own: the others have in memory what they have read before.

    That another program keeps it locked is no fault of the file. Raises StorageError.
    """
    try:
        with closing(connect(path, patience_s=_PATIENCE_S, mode="ro")) as db:
            execute(db, "SELECT id, session FROM turns ORDER BY number DESC LIMIT 1").fetchone()
    except sqlite3.Error as error:
        if not is_busy(error):
            raise storage_error(error, path) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
