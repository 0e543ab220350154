from __future__ import annotations

import sqlite3

import pytest

from rolebook.core.check import CheckResult
from rolebook.core.errors import InputError, NotFoundError, Phrase
from rolebook.core.message import Message
from rolebook.core.session import now
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.storage.log import SqliteLog
from rolebook.storage.query import SessionFilter
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_turn

LATER = "3000-01-01"


def texts_in_file(log: SqliteLog) -> str:
    with sqlite3.connect(log.path) as connection:
        rows = [
            row
            for table in ("turns", "messages", "sessions", "session_tags")
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()
        ]
    connection.close()
    return repr(rows)


def test_deleting_can_be_undone(log: SqliteLog) -> None:
    session = log_session(log)
    log_turn(log, session, "Remember me")
    assert log.delete([session.id, session.id, "unknown"]) == 1
    assert log.list_sessions().summaries == ()
    assert log.search("remember").hits == ()
    assert log.get_session(session.id).deleted_at
    assert log.restore([session.id, "unknown"]) == 1
    assert log.get_session(session.id) == session
    assert len(log.search("remember").hits) == 1


@pytest.mark.parametrize(
    ("before", "deleted"),
    [
        ("2026-11-10", []),
        ("20260101", []),
        ("2026-W01-1", []),
        ("2026-11-10T16:00:00+08:00", []),
        ("2026-11-10T00:00:01-08:00", ["old"]),
        ("20261111", ["old"]),
    ],
)
def test_only_what_was_not_used_since_is_deleted_however_the_time_is_written(
    log: SqliteLog, before: str, deleted: list[str]
) -> None:
    for title, used_at in (("old", "2026-11-10T08:00:00.000Z"), ("new", now())):
        log_turn(log, log_session(log, title=title), "Hello?", created_at=used_at)
    assert len(deleted) == log.delete_unused(before)
    found = log.list_sessions(SessionFilter(is_deleted=True)).summaries
    assert deleted == [summary.session.title for summary in found]
    assert len(deleted) == log.purge_deleted("29991231").sessions


@pytest.mark.parametrize("before", ["2026123112", "1796041565", "20261311", "2026-1-1", "today"])
def test_what_is_no_date_deletes_nothing(log: SqliteLog, before: str) -> None:
    log_turn(log, log_session(log), "Hello?")
    with pytest.raises(InputError, match="must be a date"):
        log.delete_unused(before)
    assert 1 == len(log.list_sessions().summaries)


def test_purging_removes_every_text_that_nobody_else_uses(log: SqliteLog) -> None:
    shared = (
        Message("system", "A system text that both sessions share."),
        Message("user", "Secret question of one."),
    )
    gone = log_session(
        log, title="Secret title", tags=("secret",), variables={"v": "Secret variable"}
    )
    log_turn(log, gone, "Secret question of one.", "Secret answer", messages=shared)
    kept = log_session(log)
    turn = log_turn(log, kept, "Open question", messages=shared)
    log.delete([gone.id])
    assert log.purge_deleted("2000-01-01").sessions == 0
    assert log.purge_deleted(LATER).sessions == 1
    assert log.search("secret").hits == ()
    assert texts_in_file(log).lower().count("secret") == 1
    assert log.get_turn(turn.id).messages == shared
    with pytest.raises(NotFoundError):
        log.get_session(gone.id)
    assert log.list_sessions(SessionFilter(is_deleted=True)).summaries == ()
    assert log.database_status(check=True).problems == ()


def test_fork_keeps_the_turns_it_inherits_when_its_source_is_purged(log: SqliteLog) -> None:
    source = log_session(log, title="Source title")
    inherited = log_turn(log, source, "Inherited question", "Inherited answer")
    log_turn(log, source, "Question that goes", "Answer that goes")
    fork = log_session(log, forked_from=inherited.id)
    own = log_turn(log, fork, "Own question")
    log.delete([source.id])
    assert log.purge_deleted(LATER).sessions == 1
    assert [turn.input for turn in log.history(fork.id)] == ["Inherited question", "Own question"]
    assert log.get_turn(inherited.id) == inherited
    assert "that goes" not in texts_in_file(log)
    assert "Source title" not in texts_in_file(log)
    assert log.restore([source.id]) == 0
    assert log.purge_deleted(LATER).sessions == 0
    log.delete([fork.id])
    assert log.purge_deleted(LATER).sessions == 1
    assert "question" not in texts_in_file(log)
    with pytest.raises(NotFoundError):
        log.get_turn(own.id)
    assert log.database_status(check=True).turns == 0


def test_turn_that_gets_the_number_of_a_removed_judge_has_judged_nothing(log: SqliteLog) -> None:
    turn = log_turn(log, log_session(log))
    judging = log.start_turn(
        new_turn(log_session(log, judges=turn.id), "Is it any good?"), REVISION
    )
    comparisons = SqliteComparisonLog(log)
    results = [CheckResult("told", True, Phrase("Yes.")), CheckResult("untold", None, Phrase("?"))]
    log.finish_turn(answered(judging), results)
    assert {turn.id: {"told": judging.id, "untold": judging.id}} == comparisons.judging_turns(
        [turn.id]
    )
    log.delete([judging.session_id])
    log.purge_deleted(LATER)
    log_turn(log, log_session(log), "Dear diary")
    assert not comparisons.judging_turns([turn.id])


def test_new_turns_after_a_purge_are_found(log: SqliteLog) -> None:
    session = log_session(log)
    log_turn(log, session, "first words")
    log.delete([session.id])
    log.purge_deleted(LATER)
    log_turn(log, log_session(log), "second words")
    assert [hit.turn.input for hit in log.search("words").hits] == ["second words"]
