"""Tells a process that is still at work from one that is gone, whatever ended it.

Each log that starts turns keeps a small file beside the database locked; the system lets go of the lock when the
process ends, even by a power cut. Process numbers would not do: they come again, and mean something else in
another container.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from rolebook.core.session import new_id

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


#: So often a file is made anew that somebody took for one that was left, before it was locked.
_TRIES = 3


class Owner:
    """The name under which this log starts turns; others can see whether it is alive. Raises OSError."""

    def __init__(self, database: Path) -> None:
        for tries_left in reversed(range(_TRIES)):
            self.id = new_id()
            self._path = _path(database, self.id)
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                _lock(self._descriptor)
                self._path.stat()
                return
            except OSError:
                os.close(self._descriptor)
                if not tries_left:
                    raise

    def leave(self) -> None:
        """Let go: what is still pending in this name was left behind."""
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)


def is_alive(database: Path, owner_id: str) -> bool:
    """Whether the process that uses this name still runs. The file of one that is gone is removed."""
    path = _path(database, owner_id)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return path.exists()
    try:
        _lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
    return False


def remove_left(database: Path) -> None:
    """Remove the files of all processes that are gone, as far as that can be done."""
    beginning = _path(database, "")
    with contextlib.suppress(OSError):
        for file in beginning.parent.iterdir():
            if file.name.startswith(beginning.name):
                with contextlib.suppress(OSError):
                    is_alive(database, file.name.removeprefix(beginning.name))


def _path(database: Path, owner_id: str) -> Path:
    # Others may open the same file over a symbolic link; SQLite keeps what it needs beside the file itself, too.
    real = database.resolve()
    return real.with_name(f"{real.name}-owner-{owner_id}")
