"""The one connection that writes, shared by all threads: changes that meet are committed together.

A commit waits for the disk, so threads that each made their own would queue up behind it. Here whoever comes while
one is under way leaves its change, and the next in line makes all that were left in one transaction: as durable, with
one wait for all of them.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlite_utils import Database

from rolebook.core.access import acting_for, caller
from rolebook.core.blocking import held
from rolebook.core.errors import StorageError
from rolebook.storage.connection import (
    OutageError,
    identity_of,
    is_busy,
    require_same,
    set_awaited,
    storage_error,
    transaction,
)
from rolebook.storage.schema import prepare

T = TypeVar("T")

#: How soon it is seen that a lock of somebody else is free: a small change takes as long.
_LOOK_S = 0.0005


class _Change(Generic[T]):
    """A change on its way, and what came of it. Whichever thread makes it does so for whoever has asked."""

    def __init__(self, make: Callable[[Database], T], *, is_awaited: bool = True) -> None:
        self.is_awaited = is_awaited
        self._make = make
        self._caller = caller()
        self._result: T
        self.error: Exception | None = None
        self.is_done = False

    def make(self, db: Database) -> None:
        with acting_for(self._caller):
            self._result = self._make(db)

    def fail(self, reason: Exception) -> None:
        """It cannot be made; others perhaps neither, for the same reason, so each gets an error of its own."""
        self.error = reason
        if isinstance(reason, StorageError):
            self.error = type(reason)(reason.message, **reason.parameters)
            self.error.__cause__ = reason.__cause__

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self._result


class Writer:
    """Makes changes, one transaction at a time. Safe for threads.

    Arguments:
        path: the file.
        patience_s: how long a lock of another process is waited for at this moment.
        prepare_changes: called before changes are made, with the lock held; what it raises is the outcome of all of
            them.

    ``lock`` is held while something is written; whoever holds it keeps others from writing.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience_s: Callable[[], float],
        prepare_changes: Callable[[], None],
    ) -> None:
        self.lock = threading.RLock()
        self._path = path
        self._patience_s = patience_s
        self._prepare_changes = prepare_changes
        self._waiting: deque[_Change[Any]] = deque()
        self._db: Database | None = None
        self._identity: tuple[int, int] | None = None
        self._awaits = True

    @property
    def waiting(self) -> int:
        """How many changes are not made yet, those under way included."""
        return len(self._waiting)

    def open(self) -> None:
        """Open the file, make or migrate it. Raises StorageError."""
        with self.lock:
            self._open()

    def close(self) -> None:
        """Close the file; the next change opens whatever is there then."""
        with self.lock:
            self._drop()
            self._identity = None

    def require_same_file(self) -> None:
        """Raises GoneError if the file that is open was moved or removed, or another one has taken its place."""
        if self._identity is not None:
            require_same(self._path, self._identity)

    def apply(self, change: Callable[[Database], T], *, is_awaited: bool = True) -> T:
        """Make a change, alone or together with those of other threads, and return what it returned.

        It may be made by another thread, and more than once if the file is busy. Raises what it raises, and
        OutageError if the file cannot be written.

        Arguments:
            is_awaited: whether it is on the disk when this returns. If not, it survives the end of this process, and
                reaches the disk with the next change that is awaited.
        """
        mine = _Change(change, is_awaited=is_awaited)
        self._waiting.append(mine)
        try:
            with held(self.lock):
                if not mine.is_done:
                    self._make_all()
        finally:
            if not mine.is_done:
                with suppress(ValueError):
                    self._waiting.remove(mine)
        return mine.outcome()

    def apply_at_once(self, change: Callable[[Database], T]) -> T:
        """Make one change, alone and before all that wait. Raises as ``apply``."""
        mine = _Change(change)
        with self.lock:
            self._make([mine])
        return mine.outcome()

    def _make_all(self) -> None:
        """Make what waits now. What comes meanwhile is for the next thread, which has left it."""
        changes = list(self._waiting)
        try:
            self._prepare_changes()
        except StorageError as error:
            for change in changes:
                change.fail(error)
        else:
            self._make(changes)
        for change in changes:
            self._waiting.remove(change)
            change.is_done = True

    def _make(self, changes: Sequence[_Change[Any]]) -> None:
        """Make changes in one transaction; if the file cannot be written, that is the outcome of each.

        If one of them fails for a reason of its own, all are made once more, each in a transaction of its own.
        """
        try:
            self._commit(changes)
        except OutageError as outage:
            for change in changes:
                change.fail(outage)
        except Exception as reason:
            if len(changes) == 1:
                changes[0].fail(reason)
            else:
                for change in changes:
                    self._make([change])

    def _commit(self, changes: Sequence[_Change[Any]]) -> None:
        deadline = time.monotonic() + self._patience_s()
        while True:
            try:
                self.require_same_file()
                db = self._db or self._reopened()
                self._await(db, any(change.is_awaited for change in changes))
                with transaction(db):
                    for change in changes:
                        change.make(db)
                return
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    self._drop()
                    raise storage_error(error, self._path) from error
                # SQLite itself sleeps 1, 2, 5, 10 ms and more, and then finds a process there again that always writes.
                time.sleep(_LOOK_S)

    def _await(self, db: Database, is_awaited: bool) -> None:
        """Say whether the next commit is waited for; as this takes as long as a small change, only if it is news."""
        if is_awaited is not self._awaits:
            set_awaited(db, is_awaited)
            self._awaits = is_awaited

    def _drop(self) -> None:
        """Close the connection; the next change makes another one to the same file."""
        if self._db:
            self._db.close()
            self._db = None

    def _reopened(self) -> Database:
        """Whatever is in the way of a file that could be opened once, may pass."""
        try:
            return self._open()
        except StorageError as error:
            raise OutageError(error.message, **error.parameters) from error

    def _open(self) -> Database:
        self._db = prepare(self._path, patience_s=self._patience_s())
        self._identity = identity_of(self._path)
        self._awaits = True
        return self._db
