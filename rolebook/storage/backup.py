"""A copy of the log that is whole, taken while others write."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from rolebook.core.errors import ConflictError, InputError, StorageError
from rolebook.core.frozen import frozen
from rolebook.storage.connection import storage_error

#: A piece of a file, or its end, could not be written.
_WRITE_ERRORS = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_CLOSE,
}


@frozen
class Backup:
    """A finished copy: where it is, how large, and how many turns it holds."""

    path: Path
    size_bytes: int
    turns: int


def back_up(source: Path, target: Path) -> Backup:
    """Copy the log's file to one that is not there yet, and look through the copy for damage.

    Others may write meanwhile: what they had committed before is in the copy. The copy appears under its name when it
    is whole and on the disk. Raises StorageError, and ConflictError if there is such a file already.
    """
    if target.exists():
        raise ConflictError(
            "%(path)s is there already, and a backup overwrites nothing. Choose another name.",
            path=str(target),
        )
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    try:
        _copy(source, unfinished, target.name)
        turns = _checked(unfinished)
        _keep(unfinished, target)
        return Backup(target, target.stat().st_size, turns)
    except OSError as error:
        raise InputError(
            "%(path)s cannot be written: %(reason)s.", path=str(target), reason=error.strerror
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)


def _copy(source: Path, target: Path, name: str) -> None:
    """Copy to a file that will get this name."""
    if not source.exists():
        raise StorageError(
            "There is no log %(path)s yet, so there is nothing to back up.", path=str(source)
        )
    # Made first, so that nobody else can read what is copied into it.
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(_opened(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_FULL or code in _WRITE_ERRORS:
            # The source is only read, so it is the copy that has no room.
            raise StorageError(
                "The backup %(path)s cannot be written: its disk is full, or takes no file so large. Make room there, "
                "or choose another folder.",
                path=str(target.with_name(name)),
            ) from error
        raise storage_error(error, source) from error


def _checked(path: Path) -> int:
    """How many turns a copy holds. Raises StorageError if it is damaged."""
    try:
        with closing(_opened(path)) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            return int(connection.execute("SELECT count(*) FROM turns").fetchone()[0])
    except sqlite3.Error as error:
        raise StorageError(
            "The copy is damaged (%(reason)s), and so is probably the log %(path)s. Save what can be read with: "
            "sqlite3 FILE .recover",
            path=str(path),
            reason=str(error),
        ) from error


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5.0)


def _keep(unfinished: Path, target: Path) -> None:
    """Give a file its name, once it is on the disk. Raises OSError, FileExistsError if the name is taken by now."""
    _sync(unfinished)
    os.link(unfinished, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """A file, or the names in a folder, survive a power cut from now on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
