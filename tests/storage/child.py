"""What tests run in processes of their own: ``python -m tests.storage.child TASK PATH …``."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from rolebook.core.errors import StorageError
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, log_session, log_turn, new_turn


def write_until_killed(path: Path) -> None:
    """Say the id of each turn after its end is logged, and leave one pending each time."""
    log = SqliteLog(path)
    while True:
        session = log_session(log)
        print("complete", log_turn(log, session).id, flush=True)
        print("pending", log.start_turn(new_turn(session), REVISION).id, flush=True)
        # SQLite hands out its lock in no order: who never pauses can starve everybody else.
        time.sleep(0.01)


def write_turns(path: Path, session_id: str, count: str) -> None:
    """Add turns to a session that others write to as well."""
    log = SqliteLog(path)
    session = log.get_session(session_id)
    for number in range(int(count)):
        log_turn(log, session, f"question {number} of {os.getpid()}")
    assert log.unwritten == 0
    log.close()


def hold_nothing(path: Path) -> None:
    """Log a turn, and then wait for a line."""
    log = SqliteLog(path)
    print(log_turn(log, log_session(log)).id, flush=True)
    sys.stdin.readline()
    log.close()


def hold_pending(path: Path, session_id: str) -> None:
    """Start a turn, wait for a line, finish nothing."""
    log = SqliteLog(path)
    print(log.start_turn(new_turn(log.get_session(session_id)), REVISION).id, flush=True)
    sys.stdin.readline()
    log.close()


def fill_disk(path: Path) -> None:
    """Log turns while no file can grow, then while they can again."""
    log = SqliteLog(path, retry_s=0.1)
    session = log_session(log)
    first = log_turn(log, session, "before")
    grown = max(file.stat().st_size for file in path.parent.iterdir())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (grown + 4096, hard))
    others = [log_turn(log, session, f"while full {number}") for number in range(5)]
    assert log.unwritten > 0
    assert [turn.id for turn in log.history(session.id)] == [turn.id for turn in (first, *others)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    deadline = time.monotonic() + 5
    while log.unwritten and time.monotonic() < deadline:
        time.sleep(0.02)
    assert log.unwritten == 0
    log.close()
    again = SqliteLog(path)
    assert [turn.id for turn in again.history(session.id)] == [turn.id for turn in (first, *others)]
    assert again.database_status(check=True).problems == ()
    print("recovered")


def open_as_nobody(path: Path) -> None:
    """Open a log as somebody whom permissions hold off, which they do not root."""
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        SqliteLog(path).open()
    except StorageError as error:
        print(error)


if __name__ == "__main__":
    _, task, path, *arguments = sys.argv
    globals()[task](Path(path), *arguments)
