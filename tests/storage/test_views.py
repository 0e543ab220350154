"""The log as other programs see it: what its documentation says can be done with SQL."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolebook.core.check import CheckResult
from rolebook.core.completion import Choice
from rolebook.core.errors import Phrase
from rolebook.core.message import Message
from rolebook.core.session import TurnStatus
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_turn

PAGE = (Path(__file__).parents[2] / "docs" / "the-log.md").read_text("utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def database(log: SqliteLog) -> Iterator[sqlite3.Connection]:
    """A log of three sessions, one of them in the trash, read by plain sqlite3."""
    session = log_session(log, title="Sky", tags=("a", "b"))
    first = log_turn(log, session, "Why is the sky blue?", "Because air scatters blue light.")
    sent = (*first.messages, Message("assistant", first.text), Message("user", "再说一遍：天空？"))
    second = answered(
        log.start_turn(new_turn(session, "再说一遍：天空？", messages=sent), REVISION)
    )
    log.finish_turn(
        answered(second, status=TurnStatus.FAILED, choices=(Choice("half"),), cost=None)
    )
    found = CheckResult("one question", True, Phrase("Yes."))
    SqliteComparisonLog(log).record_results(first.id, [found])
    log_session(log, title="Empty")
    gone = log_session(log)
    log_turn(log, gone)
    log.delete([gone.id])
    connection = sqlite3.connect(log.path)
    connection.row_factory = sqlite3.Row
    yield connection
    connection.close()


@pytest.mark.parametrize("query", QUERIES)
def test_documented_query_answers(database: sqlite3.Connection, query: str) -> None:
    assert database.execute(query).fetchall() != []


def test_there_are_six_documented_queries() -> None:
    assert len(QUERIES) == 6


def test_readable_turns_have_one_row_a_turn(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT * FROM readable_turns ORDER BY number").fetchall()
    assert [(row["session_title"], row["status"], row["text"], row["cost"]) for row in rows] == [
        ("Sky", "complete", "Because air scatters blue light.", 0.25),
        ("Sky", "failed", "half", None),
    ]


def test_readable_sessions_add_up_their_turns(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT * FROM readable_sessions ORDER BY number").fetchall()
    assert [
        (row["title"], row["tags"], row["turns"], row["cost"], row["turns_without_cost"])
        for row in rows
    ] == [
        ("Sky", "a, b", 2, 0.25, 1),
        ("Empty", None, 0, None, 0),
    ]


def test_readable_personas_count_by_revision_and_model(database: sqlite3.Connection) -> None:
    (row,) = database.execute("SELECT * FROM readable_personas").fetchall()
    assert (row["persona_name"], row["sessions"], row["turns"], row["complete"]) == (
        "Teacher 老师",
        1,
        2,
        1,
    )


def test_readable_messages_are_what_was_sent(database: sqlite3.Connection) -> None:
    sql = "SELECT role, content FROM readable_messages WHERE turn_id = (SELECT id FROM turns WHERE number = 2)"
    assert [tuple(row) for row in database.execute(sql)] == [
        ("system", "You are a patient teacher."),
        ("user", "Why is the sky blue?"),
        ("assistant", "Because air scatters blue light."),
        ("user", "再说一遍：天空？"),
    ]
