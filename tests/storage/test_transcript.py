"""What programs leave in the log: messages with more than a text, new sessions, and what they are recognised by."""

from __future__ import annotations

from rolebook.core.message import Message
from rolebook.core.session import Turn
from rolebook.storage.log import SqliteLog
from rolebook.storage.query import SessionFilter
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_session, new_turn
from tests.storage.test_unwritten import locked, wait_for

DIGEST = "00112233445566778899aabbccddeeff"
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def log_answer(log: SqliteLog, turn: Turn, *digests: str) -> Turn:
    session = new_session(id=turn.session_id)
    ended = answered(log.start_turn(turn, REVISION, session))
    log.finish_turn(ended, (), digests)
    return ended


def test_messages_keep_what_programs_put_into_them(log: SqliteLog) -> None:
    text = "A long text, so that a pointer would do."
    messages = (
        Message("user", text),
        Message("user", text, fields={"name": "anna"}),
        Message("assistant", "", fields={"content": None, "tool_calls": [CALL]}),
        Message("tool", text, fields={"tool_call_id": "c1"}),
    )
    turn = log_turn(log, log_session(log), text, messages=messages)
    again = log_turn(log, log_session(log), text, messages=messages)
    for logged in (turn, again):
        assert messages == log.get_turn(logged.id).messages
    rows = log.read(
        lambda db: list(
            db.query("SELECT fields FROM readable_messages WHERE turn_id = ?", [turn.id])
        )
    )
    assert [True, False, False, False] == [row["fields"] is None for row in rows]


def test_turn_begins_with_its_session_in_one_piece(log: SqliteLog) -> None:
    session = new_session()
    turn = log.start_turn(new_turn(session, via="gateway"), REVISION, session)
    assert (1, "gateway") == (turn.position, log.get_turn(turn.id).via)
    assert session.id == log.get_session(session.id).id
    assert [session.id] == [
        found.session.id for found in log.list_sessions(SessionFilter(via="gateway")).summaries
    ]


def test_transcript_is_found_by_its_digest(log: SqliteLog) -> None:
    other = "ff" * 16
    first = log_answer(log, new_turn(new_session()), other, DIGEST)
    second = log_answer(log, new_turn(new_session()), DIGEST)
    newest, oldest = log.transcript_ends(DIGEST)
    assert [(second.id, 0), (first.id, 1)] == [
        (end.turn_id, end.choice) for end in (newest, oldest)
    ]
    assert (1, 1, True) == (newest.position, newest.last_position, newest.is_current)
    assert first.input == oldest.last_input
    assert () == tuple(log.transcript_ends("00" * 16))


def test_transcript_is_found_while_the_log_cannot_be_written(log: SqliteLog) -> None:
    begun = log_answer(log, new_turn(new_session()), DIGEST)
    with locked(log.path):
        session = new_session(id=begun.session_id)
        log.finish_turn(answered(log.start_turn(new_turn(session, "And then?"), REVISION, seen=1)))
        other = log_answer(log, new_turn(new_session()), "ff" * 16, DIGEST)
        newest, oldest = log.transcript_ends(DIGEST)
        assert (other.id, 1, True) == (newest.turn_id, newest.choice, newest.is_last)
        assert (begun.id, 2, False) == (oldest.turn_id, oldest.last_position, oldest.is_last)
        assert oldest.is_before("And then?")
    wait_for(lambda: log.unwritten == 0)
    assert [newest, oldest] == log.transcript_ends(DIGEST)


def test_transcript_in_the_trash_is_not_found_and_goes_with_it(log: SqliteLog) -> None:
    turn = log_answer(log, new_turn(new_session()), DIGEST)
    log.delete([turn.session_id])
    assert [] == log.transcript_ends(DIGEST)
    log.purge_deleted("9999-01-01")
    rows = log.read(lambda db: db.execute("SELECT count(*) FROM transcripts").fetchone()[0])
    assert 0 == rows


def test_session_that_begins_while_the_file_is_locked_is_kept(log: SqliteLog) -> None:
    log_session(log)
    with locked(log.path):
        turn = log_answer(log, new_turn(new_session()), DIGEST)
        assert turn == log.get_turn(turn.id)
        assert turn.session_id == log.get_session(turn.session_id).id
    wait_for(lambda: log.unwritten == 0)
    assert [turn.id] == [end.turn_id for end in log.transcript_ends(DIGEST)]
