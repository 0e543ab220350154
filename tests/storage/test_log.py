from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database

from rolebook.core.completion import Choice
from rolebook.core.errors import NotFoundError
from rolebook.core.message import Message
from rolebook.core.session import Revision, SessionLog, TurnStatus
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_session, new_turn


def test_it_is_the_log_that_the_chat_needs(log: SqliteLog) -> None:
    needed: SessionLog = log
    with pytest.raises(NotFoundError, match="no session nothing"):
        needed.get_session("nothing")


def test_nothing_is_touched_before_the_first_use(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "data" / "rolebook.db")
    assert list(tmp_path.iterdir()) == []


def test_session_comes_back_as_it_was(log: SqliteLog) -> None:
    session = new_session(
        title="第一课",
        variables={"subject": "maths", "level": 3},
        upstream="openai",
        model="gpt-4o-mini",
        parameters={"temperature": 0.1},
        is_starred=True,
        tags=("a", "课堂"),
    )
    log.create_session(session, REVISION)
    assert log.get_session(session.id) == session
    assert log.get_revision(REVISION.id) == REVISION


def test_turn_comes_back_as_it_was(log: SqliteLog) -> None:
    turn = log_turn(log, log_session(log))
    assert log.get_turn(turn.id) == turn


def test_upstream_that_stood_in_is_kept_beside_the_one_that_was_asked(log: SqliteLog) -> None:
    pending = log.start_turn(new_turn(log_session(log), upstream="openai"), REVISION)
    turn = answered(pending, upstream="ollama", upstream_requested="openai")
    log.finish_turn(turn)
    assert log.get_turn(turn.id) == turn


def test_turn_is_pending_until_it_is_finished(log: SqliteLog) -> None:
    session = log_session(log)
    turn = log.start_turn(new_turn(session), REVISION)
    assert (turn.position, turn.attempt, turn.status) == (1, 1, TurnStatus.PENDING)
    assert log.get_turn(turn.id) == turn
    assert log.history(session.id) == []
    log.finish_turn(answered(turn))
    assert [logged.text for logged in log.history(session.id)] == [
        "Because air scatters blue light."
    ]


def test_disk_is_waited_for_at_the_end_of_what_begins(log: SqliteLog) -> None:
    def synchronous(db: Database) -> int:
        return int(db.conn.execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2
    assert (normal, full) == (log.begin(synchronous), log.change(synchronous))


def test_alternatives_reasoning_and_tool_calls_come_back(log: SqliteLog) -> None:
    session = log_session(log)
    choices = (
        Choice("first", "stop", reasoning="because"),
        Choice("second", "length", refusal="no"),
        Choice("", "tool_calls", tool_calls=({"id": "call_1", "function": {"name": "f"}},)),
    )
    turn = answered(log.start_turn(new_turn(session), REVISION), choices=choices, chosen=1)
    log.finish_turn(turn)
    assert log.get_turn(turn.id) == turn
    assert log.get_turn(turn.id).text == "second"


def test_turns_are_placed_at_the_end_of_their_session(log: SqliteLog) -> None:
    session = log_session(log)
    assert [log_turn(log, session).position for _ in range(3)] == [1, 2, 3]


def test_trying_again_makes_another_attempt_the_current_one(log: SqliteLog) -> None:
    session = log_session(log)
    first, last = log_turn(log, session), log_turn(log, session)
    retry = log_turn(log, session, answer="Another answer", position=1)
    assert (retry.position, retry.attempt) == (1, 2)
    assert [turn.id for turn in log.history(session.id)] == [retry.id, last.id]
    assert [(turn.id, turn.is_current) for turn in log.session_turns(session.id)] == [
        (first.id, False),
        (retry.id, True),
        (last.id, True),
    ]


def test_history_ends_before_a_position(log: SqliteLog) -> None:
    session = log_session(log)
    turns = [log_turn(log, session) for _ in range(3)]
    assert [turn.id for turn in log.history(session.id, before=3)] == [
        turn.id for turn in turns[:2]
    ]


def test_history_leaves_out_turns_without_text(log: SqliteLog) -> None:
    session = log_session(log)
    failed = log.start_turn(new_turn(session), REVISION)
    log.finish_turn(replace(failed, status=TurnStatus.FAILED))
    cut = log.start_turn(new_turn(session), REVISION)
    log.finish_turn(replace(cut, status=TurnStatus.CANCELLED, choices=(Choice("half a"),)))
    assert [turn.id for turn in log.history(session.id)] == [cut.id]


def test_fork_inherits_the_turns_up_to_its_point(log: SqliteLog) -> None:
    source = log_session(log)
    one, two, _ = (log_turn(log, source) for _ in range(3))
    fork = log_session(log, forked_from=two.id)
    own = log_turn(log, fork)
    assert own.position == 3
    assert [turn.id for turn in log.history(fork.id)] == [one.id, two.id, own.id]
    assert [turn.session_id == fork.id for turn in log.session_turns(fork.id)] == [
        False,
        False,
        True,
    ]


def test_fork_keeps_its_history_when_the_source_changes(log: SqliteLog) -> None:
    source = log_session(log)
    one, two = log_turn(log, source), log_turn(log, source)
    fork = log_session(log, forked_from=two.id)
    log_turn(log, source, position=1)
    assert [turn.id for turn in log.history(fork.id)] == [one.id, two.id]


def test_fork_of_a_fork_inherits_both_pasts(log: SqliteLog) -> None:
    source = log_session(log)
    one = log_turn(log, source)
    fork = log_session(log, forked_from=one.id)
    two = log_turn(log, fork)
    second_fork = log_session(log, forked_from=two.id)
    three = log_turn(log, second_fork)
    assert [turn.id for turn in log.history(second_fork.id)] == [one.id, two.id, three.id]


def test_fork_replaces_an_inherited_turn_by_its_own_attempt(log: SqliteLog) -> None:
    source = log_session(log)
    one, two = log_turn(log, source), log_turn(log, source)
    fork = log_session(log, forked_from=two.id)
    own = log_turn(log, fork, position=2)
    assert [turn.id for turn in log.history(fork.id)] == [one.id, own.id]
    assert log.last_turn(fork.id).id == own.id


def test_last_turn_is_the_current_one_at_the_end_whatever_became_of_it(log: SqliteLog) -> None:
    session = log_session(log)
    with pytest.raises(NotFoundError):
        log.last_turn(session.id)
    log_turn(log, session)
    failed = log.start_turn(new_turn(session, "again?"), REVISION)
    log.finish_turn(replace(failed, status=TurnStatus.FAILED))
    assert log.last_turn(session.id).input == "again?"


def test_messages_are_kept_once_and_come_back_exactly(log: SqliteLog) -> None:
    session = log_session(log)
    sent: list[Message] = [Message("system", "You are a patient teacher of many things.")]
    turns = []
    for number in range(4):
        question = f"A rather long question, and its number is {number}."
        sent.append(Message("user", question))
        turn = log.start_turn(new_turn(session, question, messages=tuple(sent)), REVISION)
        turns.append(answered(turn, f"A rather long answer, and its number is {number}."))
        log.finish_turn(turns[-1])
        sent.append(Message("assistant", turns[-1].text))
    assert [log.get_turn(turn.id).messages for turn in turns] == [turn.messages for turn in turns]


def test_order_is_that_of_writing_when_the_clock_goes_back(log: SqliteLog) -> None:
    first = log_session(log, created_at="2026-11-20T10:00:00.000Z")
    log_turn(log, first, "moon one", created_at="2026-11-20T10:00:00.000Z")
    second = log_session(log, created_at="2026-11-20T09:00:00.000Z", id="0" * 18)
    later = log_turn(log, second, "moon two", created_at="2026-11-20T09:00:01.000Z", id="0" * 18)
    assert [summary.session.id for summary in log.list_sessions().summaries] == [
        second.id,
        first.id,
    ]
    assert log.search("moon").hits[0].turn.id == later.id


def test_unknown_session_or_turn_is_not_found(log: SqliteLog) -> None:
    with pytest.raises(NotFoundError):
        log.start_turn(new_turn(new_session()), REVISION)
    with pytest.raises(NotFoundError):
        log.finish_turn(new_turn(new_session()))
    with pytest.raises(NotFoundError):
        log.get_turn("\ud800\0")
    with pytest.raises(NotFoundError):
        log.get_revision("none")


def test_revision_is_recorded_with_each_turn(log: SqliteLog) -> None:
    session = log_session(log)
    changed = Revision("revision-2", "teacher", {"name": "Teacher", "system": "Be short."}, {})
    turn = log.start_turn(replace(new_turn(session), revision=changed.id), changed)
    assert log.get_turn(turn.id).revision == "revision-2"
    assert log.get_session(session.id).revision == "revision-1"
    assert log.get_revision("revision-2") == changed


def test_many_threads_write_and_read_at_once(log: SqliteLog) -> None:
    sessions = [log_session(log) for _ in range(8)]

    def talk(number: int) -> None:
        for turn in range(10):
            log_turn(log, sessions[number], f"{number} {turn}")
            assert len(log.history(sessions[number].id)) == turn + 1

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(log.history(session.id)) for session in sessions] == [10] * 8


def test_log_can_be_used_again_after_closing(log: SqliteLog) -> None:
    session = log_session(log)
    log.close()
    assert log.get_session(session.id) == session
    assert log_turn(log, session).position == 1


def test_same_turn_written_twice_is_one(log: SqliteLog) -> None:
    session = log_session(log)
    log.create_session(session, REVISION)
    turn = new_turn(session)
    assert log.start_turn(turn, REVISION) == log.start_turn(turn, REVISION)
    assert len(log.session_turns(session.id)) == 1
