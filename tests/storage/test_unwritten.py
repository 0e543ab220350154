"""The file cannot be written for a while: answers go on, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rolebook.core.errors import ConflictError, StorageError
from rolebook.core.session import TurnStatus
from rolebook.storage.connection import GoneError
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_session, new_turn


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else is writing, and does not come to an end."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_answers_go_on_while_another_program_locks_the_file(log: SqliteLog) -> None:
    session = log_session(log)
    before = log_turn(log, session)
    with locked(log.path):
        during = log_turn(log, session)
        retry = log_turn(log, session, position=1)
        assert log.unwritten == 2
        assert log.get_turn(during.id) == during
        assert [turn.id for turn in log.history(session.id)] == [retry.id, during.id]
        assert [turn.is_current for turn in log.session_turns(session.id)] == [False, True, True]
    wait_for(lambda: log.unwritten == 0)
    turns = SqliteLog(log.path).session_turns(session.id)
    assert [(turn.id, turn.position, turn.attempt) for turn in turns] == [
        (before.id, 1, 1),
        (retry.id, 1, 2),
        (during.id, 2, 1),
    ]


def test_sessions_and_forks_begun_meanwhile_are_seen(log: SqliteLog) -> None:
    source = log_session(log)
    one = log_turn(log, source)
    with locked(log.path):
        fork = log_session(log, forked_from=one.id)
        own = log_turn(log, fork)
        assert log.get_session(fork.id) == fork
        assert log.get_revision(REVISION.id) == REVISION
        assert [turn.id for turn in log.history(fork.id)] == [one.id, own.id]
        assert own.position == 2
    wait_for(lambda: log.unwritten == 0)
    assert [turn.id for turn in log.history(fork.id)] == [one.id, own.id]


def test_session_takes_one_turn_after_the_other_while_the_file_is_locked(log: SqliteLog) -> None:
    session = log_session(log)
    with locked(log.path):
        first = log.start_turn(new_turn(session), REVISION, seen=0)
        with pytest.raises(ConflictError, match="still on its way"):
            log.start_turn(new_turn(session), REVISION, seen=0)
        log.finish_turn(answered(first))
        with pytest.raises(ConflictError, match="Somebody else"):
            log.start_turn(new_turn(session), REVISION, seen=0)
        second = log.start_turn(new_turn(session), REVISION, seen=1)
        log.finish_turn(answered(second))
    wait_for(lambda: log.unwritten == 0)
    assert [first.id, second.id] == [turn.id for turn in log.history(session.id)]


def test_turn_that_began_before_the_lock_can_end_within_it(log: SqliteLog) -> None:
    session = log_session(log)
    started = log.start_turn(new_turn(session), REVISION)
    with locked(log.path):
        log.finish_turn(answered(started))
        assert log.unwritten == 1
        assert log.history(session.id)[0].status is TurnStatus.COMPLETE
    wait_for(lambda: log.unwritten == 0)
    assert SqliteLog(log.path).get_turn(started.id) == answered(started)


def test_next_write_brings_what_waits_with_it(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "rolebook.db", patience_s=0.05, retry_s=0.02)
    session = log_session(log)
    with locked(log.path):
        log_turn(log, session)
        assert log.unwritten == 1
    time.sleep(0.02)
    log_turn(log, session)
    assert len(SqliteLog(log.path).history(session.id)) == 2
    log.close()


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "rolebook.db", patience_s=0.05, retry_s=60)
    session = log_session(log)
    with locked(log.path):
        log_turn(log, session)
    log.close()
    assert len(SqliteLog(log.path).history(session.id)) == 1


def test_waiting_for_a_lock_happens_once_and_not_for_every_turn(log: SqliteLog) -> None:
    session = log_session(log)
    with locked(log.path):
        begun = time.monotonic()
        for _ in range(20):
            log_turn(log, session)
        assert time.monotonic() - begun < 3
    wait_for(lambda: log.unwritten == 0)


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "rolebook.db", patience_s=0.05, retry_s=0.05, unwritten_limit=3)
    session = log_session(log)
    with locked(log.path):
        for _ in range(3):
            log_turn(log, session)
        with pytest.raises(StorageError, match=r"3 turns wait .* locked by another program"):
            log.start_turn(new_turn(session), REVISION)
    log.close()
    assert len(SqliteLog(log.path).history(session.id)) == 3


def test_who_changes_something_is_told_that_it_cannot_be_done_now(log: SqliteLog) -> None:
    session = log_session(log)
    with locked(log.path), pytest.raises(StorageError, match="locked by another program"):
        log.rename(session.id, "New")
    assert log.get_session(session.id).title == ""


def test_change_that_can_never_be_written_does_not_hold_up_the_rest(log: SqliteLog) -> None:
    session = log_session(log)
    with locked(log.path):
        log_turn(log, session)
        log.finish_turn(answered(new_turn(new_session())))
        log_turn(log, session)
    wait_for(lambda: log.unwritten == 0)
    assert len(SqliteLog(log.path).history(session.id)) == 2


def test_full_disk_is_survived_and_recovered_from(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.storage.child",
        "fill_disk",
        str(tmp_path / "rolebook.db"),
    ]
    child = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (child.stdout, child.returncode) == ("recovered\n", 0), child.stderr


def test_turn_that_waited_goes_to_the_end_if_another_process_took_its_place(
    tmp_path: Path,
) -> None:
    log = SqliteLog(tmp_path / "rolebook.db", patience_s=0.05, retry_s=60)
    session = log_session(log)
    first = log_turn(log, session)
    with locked(log.path):
        waited = log_turn(log, session)
    other = SqliteLog(log.path)
    taken = log_turn(other, session)
    other.close()
    log.close()
    assert [(turn.id, turn.position, turn.attempt) for turn in log.session_turns(session.id)] == [
        (first.id, 1, 1),
        (taken.id, 2, 1),
        (waited.id, 3, 1),
    ]
    log.close()


def test_turns_wait_while_the_file_is_moved_away_and_are_written_when_it_is_back(
    log: SqliteLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = log_session(log)
    before = log_turn(log, session)
    log.probe()
    folder, away = log.path.parent, tmp_path / "away"
    folder.rename(away)
    for _ in range(2):
        with pytest.raises(GoneError, match="moved or removed while Rolebook had it open"):
            log.probe()
    during = log_turn(log, session)
    assert 1 == log.unwritten
    folder.mkdir()
    log.path.touch()
    with pytest.raises(GoneError, match="another file"):
        log.probe()
    shutil.rmtree(folder)
    away.rename(folder)
    wait_for(lambda: log.unwritten == 0)
    log.probe()
    turns = SqliteLog(log.path).session_turns(session.id)
    assert [before.id, during.id] == [turn.id for turn in turns]
    # Each change is told once, however often somebody looks.
    said = [message for message in caplog.messages if "be used" in message]
    assert ["moved or removed", "another file", "again"] == [
        next(words for words in ("moved or removed", "another file", "again") if words in line)
        for line in said
    ]


def test_file_that_was_written_over_is_found_though_it_was_read_before(log: SqliteLog) -> None:
    log_turn(log, log_session(log))
    assert 1 == len(log.list_sessions().summaries)
    with log.path.open("r+b") as file:
        file.write(b"\0" * 16_000)
    os.truncate(f"{log.path}-wal", 0)
    with pytest.raises(StorageError):
        log.probe()


def test_file_that_another_program_keeps_locked_is_there_all_the_same(log: SqliteLog) -> None:
    log_turn(log, log_session(log))
    with locked(log.path):
        log.probe()
