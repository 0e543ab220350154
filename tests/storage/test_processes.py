"""Several processes on one file, and processes that end without a word."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rolebook.core.errors import ConflictError
from rolebook.core.session import TurnStatus
from rolebook.storage import owner
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_turn


@pytest.fixture(autouse=True)
def copied_logs() -> None:
    """Here several processes begin with a log, and none may write over what another has made."""


def start(task: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.child", task, str(path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("pause_s", [0.01, 0.05, 0.13, 0.2])
def test_killed_process_loses_nothing_that_it_had_acknowledged(
    tmp_path: Path, pause_s: float
) -> None:
    path = tmp_path / "rolebook.db"
    child = start("write_until_killed", path)
    assert child.stdout
    begin = [child.stdout.readline()]
    while not begin[-1].startswith("complete"):
        begin.append(child.stdout.readline())
    time.sleep(pause_s)
    child.kill()
    said = [line.split() for line in [*begin, *child.stdout] if line.endswith("\n")]
    child.communicate()
    log = SqliteLog(path)
    statuses = {turn_id: log.get_turn(turn_id).status for _, turn_id in said}
    assert {
        status for word, turn_id in said if word == "complete" for status in [statuses[turn_id]]
    } == {"complete"}
    assert {statuses[turn_id] for word, turn_id in said if word == "pending"} <= {
        TurnStatus.INTERRUPTED
    }
    assert TurnStatus.PENDING not in {facet.value for facet in log.facets().statuses}
    assert log.database_status(check=True).problems == ()
    log.close()
    assert [file.name for file in tmp_path.iterdir()] == ["rolebook.db"]


def test_turn_of_a_living_process_stays_pending(log: SqliteLog) -> None:
    session = log_session(log)
    child = start("hold_pending", log.path, session.id)
    assert child.stdout
    turn_id = child.stdout.readline().strip()
    newcomer = SqliteLog(log.path)
    assert newcomer.get_turn(turn_id).status is TurnStatus.PENDING
    newcomer.close()
    child.kill()
    child.communicate()
    later = SqliteLog(log.path)
    turn = later.get_turn(turn_id)
    assert (turn.status, turn.error and turn.error.code) == (TurnStatus.INTERRUPTED, "interrupted")
    assert later.search("sky").hits[0].turn.id == turn_id
    later.close()


def test_killed_process_that_had_nothing_pending_leaves_no_file_either(tmp_path: Path) -> None:
    path = tmp_path / "rolebook.db"

    def owners() -> int:
        return sum("-owner-" in file.name for file in tmp_path.iterdir())

    killed, living = (start("hold_nothing", path) for _ in range(2))
    for child in (killed, living):
        assert child.stdout
        child.stdout.readline()
    killed.kill()
    killed.communicate()
    assert 2 == owners()
    log = SqliteLog(path)
    log.open()
    assert 1 == owners()
    log.close()
    assert ("", 0) == (living.communicate("\n")[0], living.returncode)
    assert ["rolebook.db"] == [file.name for file in tmp_path.iterdir()]


def test_file_of_a_process_that_is_being_looked_at_as_it_begins_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rolebook.db"
    lock, looked = owner._lock, iter([True, False])

    def lock_a_little_later(descriptor: int) -> None:
        if next(looked):
            with monkeypatch.context() as patch:
                patch.setattr(owner, "_lock", lock)
                owner.remove_left(path)
        lock(descriptor)

    monkeypatch.setattr(owner, "_lock", lock_a_little_later)
    begun = owner.Owner(path)
    monkeypatch.undo()
    owner.remove_left(path)
    assert owner.is_alive(path, begun.id)
    begun.leave()
    assert [] == list(tmp_path.iterdir())


def test_turn_stays_pending_however_the_way_to_the_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "data" / "rolebook.db"
    linked = tmp_path / "linked" / "log.db"
    through = tmp_path / "through" / path.name
    linked.parent.mkdir()
    linked.symlink_to(path)
    through.parent.symlink_to(path.parent)
    ways = [path, linked, through]
    logs = [SqliteLog(way) for way in ways]
    begun = [log.start_turn(new_turn(log_session(log)), REVISION).id for log in logs]
    for way in ways:
        newcomer = SqliteLog(way)
        assert [TurnStatus.PENDING] * 3 == [newcomer.get_turn(id).status for id in begun]
        newcomer.close()
    for log in logs:
        log.close()


def test_session_takes_the_next_turn_when_the_one_before_it_has_ended_or_its_process(
    log: SqliteLog,
) -> None:
    session = log_session(log)
    child = start("hold_pending", log.path, session.id)
    assert child.stdout
    turn_id = child.stdout.readline().strip()
    with pytest.raises(ConflictError, match="still on its way"):
        log.start_turn(new_turn(session), REVISION, seen=0)
    child.kill()
    child.communicate()
    turn = log.start_turn(new_turn(session), REVISION, seen=0)
    assert (TurnStatus.INTERRUPTED, 2) == (log.get_turn(turn_id).status, turn.position)
    with pytest.raises(ConflictError, match="still on its way"):
        log.start_turn(new_turn(session), REVISION, seen=2)
    log.finish_turn(answered(turn))
    with pytest.raises(ConflictError, match="Somebody else"):
        log.start_turn(new_turn(session), REVISION, seen=0)
    assert 3 == log.start_turn(new_turn(session), REVISION, seen=2).position


def test_second_log_in_one_process_leaves_the_turns_of_the_first_alone(log: SqliteLog) -> None:
    session = log_session(log)
    turn = log.start_turn(new_turn(session), REVISION)
    second = SqliteLog(log.path)
    assert second.get_turn(turn.id).status is TurnStatus.PENDING
    second.close()
    log.finish_turn(answered(turn))
    assert log.get_turn(turn.id) == answered(turn)


def test_closed_log_leaves_no_turn_pending_for_ever(log: SqliteLog) -> None:
    turn = log.start_turn(new_turn(log_session(log)), REVISION)
    log.close()
    assert log.get_turn(turn.id).status is TurnStatus.INTERRUPTED


def test_answer_that_comes_after_all_replaces_interrupted(log: SqliteLog) -> None:
    turn = log.start_turn(new_turn(log_session(log)), REVISION)
    log.close()
    assert log.get_turn(turn.id).status is TurnStatus.INTERRUPTED
    log.finish_turn(answered(turn))
    assert log.get_turn(turn.id) == answered(turn)
    assert len(log.search("blue").hits) == 1


def test_two_processes_write_to_one_session(log: SqliteLog) -> None:
    session = log_session(log)
    children = [start("write_turns", log.path, session.id, "60") for _ in range(2)]
    for _ in range(60):
        log_turn(log, session, "question of the parent")
    assert [(child.communicate()[0], child.returncode) for child in children] == [("", 0), ("", 0)]
    # Three that never pause may starve each other; what waits then is written when the others have ended.
    deadline = time.monotonic() + 10
    while log.unwritten and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.unwritten == 0
    turns = log.history(session.id)
    assert [turn.position for turn in turns] == list(range(1, 181))
    assert log.database_status(check=True).problems == ()


def test_backup_taken_while_others_write_is_sound_and_whole(log: SqliteLog, tmp_path: Path) -> None:
    session = log_session(log)
    acknowledged = [log_turn(log, session).id for _ in range(20)]
    child = start("write_turns", log.path, session.id, "100")
    made = log.back_up(tmp_path / "backup.db")
    assert 20 <= made.turns
    assert child.communicate()[0] == ""
    backup = SqliteLog(tmp_path / "backup.db")
    assert [turn.id for turn in backup.history(session.id)][:20] == acknowledged
    assert backup.database_status(check=True).problems == ()
    assert len(backup.search("sky", limit=500).hits) >= 20
    backup.close()


def test_two_processes_may_make_the_file_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "rolebook.db"
    children = [start("write_until_killed", path) for _ in range(2)]
    firsts = [child.stdout.readline().split() for child in children if child.stdout]
    for child in children:
        child.kill()
        child.communicate()
    log = SqliteLog(path)
    assert [log.get_turn(turn_id).status for _, turn_id in firsts] == [TurnStatus.COMPLETE] * 2
    log.close()
