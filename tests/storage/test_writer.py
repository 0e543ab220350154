"""Changes of several threads that meet are committed together, and stand or fall alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from rolebook.core.access import LOCAL, Caller, Role, User, acting_for, caller
from rolebook.core.errors import ConflictError, StorageError
from rolebook.storage.connection import OutageError, connect
from rolebook.storage.writer import Writer

Make = Callable[[Database], Any]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "log.db", patience_s=lambda: 0.1, prepare_changes=lambda: None)
    writer.apply(lambda db: db.conn.execute("CREATE TABLE notes (text TEXT NOT NULL)"))
    yield writer
    writer.close()


def adding(text: str | None) -> Make:
    return lambda db: db.conn.execute("INSERT INTO notes VALUES (?)", (text,)).rowcount


def notes(writer: Writer) -> list[str]:
    return writer.apply(
        lambda db: [row["text"] for row in db.conn.execute("SELECT text FROM notes ORDER BY text")]
    )


class Meeting:
    """Changes of as many threads, all waiting for one that is under way."""

    def __init__(self, writer: Writer, *changes: Make, callers: Sequence[Caller] = ()) -> None:
        under_way, may_end = threading.Event(), threading.Event()
        self.statements: list[str] = []

        def hold(db: Database) -> None:
            db.conn.set_trace_callback(self.statements.append)
            under_way.set()
            assert may_end.wait(5)

        with ThreadPoolExecutor(len(changes) + 1) as threads:
            threads.submit(writer.apply, hold)
            assert under_way.wait(5)
            self.outcomes: list[Future[Any]] = [
                threads.submit(self._apply, writer, change, who)
                for change, who in zip_longest(changes, callers, fillvalue=LOCAL)
            ]
            deadline = time.monotonic() + 5
            while writer.waiting < len(changes) + 1:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            may_end.set()

    def _apply(self, writer: Writer, change: Make, who: Caller) -> Any:
        with acting_for(who):
            return writer.apply(change)

    @property
    def commits(self) -> int:
        """Those after the change that was waited for."""
        return self.statements.count("COMMIT") - 1


def test_changes_that_meet_are_committed_together(writer: Writer) -> None:
    meeting = Meeting(writer, *(adding(str(number)) for number in range(9)))
    assert [1] * 9 == [outcome.result() for outcome in meeting.outcomes]
    assert meeting.commits == 1
    assert list("012345678") == notes(writer)


def refused(db: Database) -> None:
    adding("half")(db)
    raise ConflictError("Not like this.")


def wrong(db: Database) -> None:
    adding("half")(db)
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("change", "kind"),
    [(refused, ConflictError), (wrong, ZeroDivisionError), (adding(None), StorageError)],
)
def test_a_change_that_fails_undoes_nothing_but_itself(
    writer: Writer, change: Make, kind: type[Exception]
) -> None:
    meeting = Meeting(writer, adding("a"), change, adding("b"))
    first, failed, last = meeting.outcomes
    assert (first.result(), last.result()) == (1, 1)
    assert type(failed.exception()) is kind
    assert ["a", "b"] == notes(writer)
    with pytest.raises(kind):
        writer.apply(change)
    assert ["a", "b"] == notes(writer)


def test_a_change_is_made_on_behalf_of_whoever_asked_for_it(writer: Writer) -> None:
    def name_of_caller(_: Database) -> str:
        user = caller().user
        return user.name if user else ""

    names = ["ann", "bob", "cy"]
    callers = [Caller(User(number, name, Role.READER)) for number, name in enumerate(names)]
    meeting = Meeting(writer, *[name_of_caller] * 3, callers=callers)
    assert names == [outcome.result() for outcome in meeting.outcomes]
    assert meeting.commits == 1


def test_a_file_that_cannot_be_written_is_the_outcome_of_each(
    writer: Writer, tmp_path: Path
) -> None:
    other = connect(tmp_path / "log.db")
    other.conn.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(3) as threads:
        outcomes = [threads.submit(writer.apply, adding(text)) for text in "abc"]
    other.conn.execute("ROLLBACK")
    other.close()
    errors = [outcome.exception() for outcome in outcomes]
    assert [OutageError] * 3 == [type(error) for error in errors]
    assert len(set(map(id, errors))) == 3
    assert [] == notes(writer)


def test_what_must_come_first_holds_for_all(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OutageError("Something still waits.")

    writer = Writer(tmp_path / "log.db", patience_s=lambda: 0.1, prepare_changes=refuse)
    with pytest.raises(OutageError, match="still waits"):
        writer.apply(adding("a"))
    tables = writer.apply_at_once(lambda db: db.table_names())
    assert "sessions" in tables
    writer.close()


def test_whoever_is_interrupted_takes_the_change_back(writer: Writer) -> None:
    def interrupted(db: Database) -> None:
        adding("half")(db)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.apply(interrupted)
    assert writer.waiting == 0
    assert [] == notes(writer)


def test_disk_is_waited_for_where_a_change_is_awaited(writer: Writer) -> None:
    def synchronous(db: Database) -> int:
        return int(db.conn.execute("PRAGMA synchronous").fetchone()[0])

    def levels() -> list[int]:
        return [
            writer.apply(synchronous, is_awaited=is_awaited)
            for is_awaited in (True, False, False, True, True, False)
        ]

    normal, full = 1, 2
    assert [full, normal, normal, full, full, normal] == levels()
    writer.close()
    assert [full, normal, normal, full, full, normal] == levels()
