"""The one border to SQLite: how a connection is set up, used and shared, and what its errors mean."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from sqlite_utils import Database

from rolebook.core.errors import StorageError

D = TypeVar("D", bound=Database)

#: The write-ahead log shrinks to this size after a checkpoint, however far a burst has grown it.
WAL_SIZE_BYTES = 4 * 1024 * 1024

_IDLE_READERS = 8

DAMAGED = (
    "The log %(path)s is damaged (%(reason)s). Move it away together with its -wal and -shm files and restore a "
    "backup, or save what can be read with: sqlite3 FILE .recover"
)
_LOCKED = "The log %(path)s is locked by another program. Close it there, or wait and try again."
_FULL = "The disk that holds the log %(path)s is full. Free some space; it goes on by itself."
_READ_ONLY = (
    "The log %(path)s is read-only. Allow writing to the file and its folder, or name another file in "
    "ROLEBOOK_DATABASE."
)
_CLOSED = (
    "The log %(path)s cannot be opened. See that its folder exists and allows writing, or name another file in "
    "ROLEBOOK_DATABASE."
)
_FOREIGN = (
    "%(path)s is no SQLite database, so it cannot be the log. It was not touched. Name another file in "
    "ROLEBOOK_DATABASE, or move this one away."
)

_GONE = (
    "The log %(path)s is not there any more: it was moved or removed while Rolebook had it open. Put it back, with its "
    "-wal and -shm files beside it, or restart Rolebook, which begins a new one if there is none."
)
_ANOTHER = (
    "%(path)s is not the log any more that Rolebook has opened, but another file. Put that one back, or restart "
    "Rolebook to go on with this one."
)

_ADVICE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_NOTADB: _FOREIGN,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
}
_OUTAGES = {
    *_ADVICE,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
}
_OTHER = "The log %(path)s cannot be read or written: %(reason)s."


class OutageError(StorageError):
    """The file cannot be used for a reason that lies outside the statement: it may pass by itself."""


class GoneError(OutageError):
    """Where the file was that is open, there is none, or another one."""


def identity_of(path: Path) -> tuple[int, int] | None:
    """What tells a file from any other that may come in its place; None where there is none, or nobody can look."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def require_same(path: Path, identity: tuple[int, int] | None) -> None:
    """Raises GoneError if a file is no more the one that was opened, which could be written to without a trace."""
    now = identity_of(path)
    if now != identity:
        raise GoneError(_GONE if now is None else _ANOTHER, path=str(path))


def storage_error(error: sqlite3.Error, path: Path) -> StorageError:
    """What an error of SQLite means to a person; an OutageError unless the statement is at fault."""
    primary_code = _primary_code(error)
    kind = OutageError if primary_code in _OUTAGES else StorageError
    return kind(_ADVICE.get(primary_code, _OTHER), path=str(path), reason=str(error))


def _primary_code(error: sqlite3.Error) -> int:
    """The kind of an error, without what SQLite tells beyond it; 0 where it came from Python."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def connect(
    path: Path, *, patience_s: float = 5.0, mode: str = "rwc", kind: type[Database] = Database
) -> Database:
    """Open a connection in autocommit mode. It may be used by any thread, by one at a time.

    Arguments:
        path: the database file.
        patience_s: how long a lock of somebody else is waited for.
        mode: as in SQLite's file URIs: ro, rw or rwc.
        kind: what the connection is to be.

    Raises sqlite3.Error.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=patience_s,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    try:
        # Plugins of sqlite-utils are for its command line; looking for them costs more than opening the file.
        return kind(connection, execute_plugins=False)
    except sqlite3.Error:
        connection.close()
        raise


def connect_reader(path: Path) -> Database:
    """A connection that changes nothing."""
    db = connect(path, mode="rw")
    db.execute("PRAGMA query_only = ON")
    return db


def connect_writer(path: Path, *, patience_s: float) -> Database:
    """A connection whose commits survive a power cut: WAL, and synchronous FULL. Creates the file.

    It waits for a lock of somebody else while it is being made; from then on it says at once that there is one.
    """
    db = connect(path, patience_s=patience_s)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        set_awaited(db, True)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA journal_size_limit = {WAL_SIZE_BYTES}")
        db.execute("PRAGMA busy_timeout = 0")
    except sqlite3.Error:
        db.close()
        raise
    return db


def set_awaited(db: Database, is_awaited: bool) -> None:
    """Whether a commit returns only when it is on the disk, from now on. Between transactions only.

    Without that, the write-ahead log is brought to the disk with the next commit that is awaited; never out of order
    (https://sqlite.org/pragma.html#pragma_synchronous).
    """
    db.conn.execute("PRAGMA synchronous = " + ("FULL" if is_awaited else "NORMAL"))


def execute(
    db: Database, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> sqlite3.Cursor:
    """Run one statement with values that SQLite cannot hold as they are made to fit (see :func:`_fitted`)."""
    # Past sqlite-utils, which looks at each statement for whether it has to commit it: transactions here are explicit.
    try:
        return db.conn.execute(sql, parameters)
    except (UnicodeEncodeError, OverflowError):
        if isinstance(parameters, Mapping):
            fitted = {name: _fitted(value) for name, value in parameters.items()}
            return db.conn.execute(sql, fitted)
        return db.conn.execute(sql, [_fitted(value) for value in parameters])


def insert(db: Database, into: str, row: Mapping[str, Any]) -> Any:
    """Insert one row; ``into`` begins with INTO, or with what stands before it."""
    marks = ", ".join("?" * len(row))
    return execute(db, f"INSERT {into} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def _fitted(value: Any) -> Any:
    """Text that is no valid Unicode becomes a BLOB of its bytes, a number beyond 64 bits a floating point number."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        with suppress(OverflowError):
            return float(value)
        return math.inf if value > 0 else -math.inf
    return value


@contextmanager
def transaction(db: Database, begin: str = "BEGIN IMMEDIATE") -> Iterator[Database]:
    """Commit at the end, roll back on any error.

    ``BEGIN IMMEDIATE`` finds other writers at the start; a deferred transaction would fail where it turns to writing.
    """
    db.conn.execute(begin)
    try:
        yield db
        db.conn.execute("COMMIT")
    except BaseException:
        # Some errors, such as a full disk, have ended the transaction already; none may hide the first.
        with suppress(sqlite3.Error):
            db.rollback()
        raise


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds the file, so that the same may work in a moment."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


class Readers(Generic[D]):
    """Connections to read with: taken by one thread at a time, and kept for the next.

    Arguments:
        path: the database file.
        open_one: makes another connection.
    """

    def __init__(self, path: Path, open_one: Callable[[Path], D]) -> None:
        self._path = path
        self._open_one = open_one
        self._idle: list[D] = []
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[D]:
        """One consistent view of the file. Raises StorageError."""
        try:
            db = self._take()
            try:
                with transaction(db, "BEGIN"):
                    yield db
            except sqlite3.Error:
                db.close()
                raise
            except BaseException:
                self._put_back(db)
                raise
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error
        self._put_back(db)

    def _take(self) -> D:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._open_one(self._path)

    def _put_back(self, db: D) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_READERS:
                self._idle.append(db)
                return
        db.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
