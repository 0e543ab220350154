from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database

from rolebook.core.errors import StorageError
from rolebook.core.history import NewChange
from rolebook.core.session import new_id
from rolebook.core.source import Author, FileKey
from rolebook.storage import comparison, index, revision
from rolebook.storage.history_log import SqliteHistory
from rolebook.storage.log import SqliteLog
from rolebook.storage.readable import is_unreadable_turn
from rolebook.storage.schema import known_migrations, migrations, prepare
from tests.storage.examples import REVISION, log_session, log_turn, new_session


@pytest.fixture(autouse=True)
def copied_logs() -> None:
    """Here logs are made, not copied."""


def filled(path: Path, *, turns: int = 30) -> Path:
    log = SqliteLog(path)
    session = log_session(log)
    for number in range(turns):
        log_turn(log, session, f"question {number} " * 20)
    log.close()
    return path


def no_database(path: Path) -> None:
    path.write_text("These are my notes, and I want to keep them. " * 50)


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def newer_schema(path: Path) -> None:
    with sqlite3.connect(filled(path)) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('rolebook', '9999_future', '')"
        )
    connection.close()


def damaged(path: Path) -> None:
    content = bytearray(filled(path).read_bytes())
    content[4096 * 3 : -4096] = os.urandom(len(content) - 4096 * 4)
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(filled(path).read_bytes()[:-9000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_database, "is no SQLite database"),
        (other_database, "is a database of another program"),
        (newer_schema, r"was written by a newer Rolebook \(9999_future\)"),
        (damaged, "is damaged"),
        (cut_short, "is damaged"),
    ],
)
def test_file_that_cannot_be_the_log_is_refused_and_not_touched(
    tmp_path: Path, make, reason: str
) -> None:
    path = tmp_path / "rolebook.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=reason) as caught:
        SqliteLog(path).open(check=True)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_empty_file_becomes_a_log(tmp_path: Path) -> None:
    path = tmp_path / "rolebook.db"
    path.touch()
    SqliteLog(path).open(check=True)
    assert SqliteLog(path).database_status().schema_version == len(known_migrations())


def test_folder_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(
        StorageError, match=r"The folder of the log .*data/rolebook\.db cannot be used"
    ):
        SqliteLog(tmp_path / "data" / "rolebook.db").open()


def test_folder_where_nothing_can_be_made_is_told_in_one_line() -> None:
    with pytest.raises(StorageError, match=r"The log /proc/rolebook\.db cannot be "):
        SqliteLog("/proc/rolebook.db").open()


@pytest.mark.parametrize("has_log", [True, False])
def test_read_only_folder_is_told_in_one_line(has_log: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rolebook.db"
        if has_log:
            filled(path, turns=1)
        Path(folder).chmod(0o555)
        command = [sys.executable, "-m", "tests.storage.child", "open_as_nobody", str(path)]
        child = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        Path(folder).chmod(0o755)
    assert child.stdout == (
        f"The log {path} cannot be kept: {folder} is read-only. Allow writing there, or name another file in "
        "ROLEBOOK_DATABASE.\n"
    ), child.stderr


def test_commits_are_durable_and_migrations_recorded(log: SqliteLog) -> None:
    log_session(log)
    with sqlite3.connect(log.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        applied = connection.execute(
            "SELECT name FROM _sqlite_migrations WHERE migration_set = 'rolebook'"
        ).fetchall()
    connection.close()
    assert tuple(name for (name,) in applied) == known_migrations()


def test_all_tables_are_plural_and_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "the-log.md").read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteLog(Path(folder) / "rolebook.db")
        log.open()
        with sqlite3.connect(log.path) as connection:
            sql = "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
            names = [
                name
                for name, _ in connection.execute(sql)
                if not name.startswith(("turn_search_", "_"))
            ]
            columns = {
                name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
                for name in names
            }
        connection.close()
        log.close()
    assert [name for name in names if not name.endswith("s") and name != "turn_search"] == []
    missing = [
        f"{name}.{column}"
        for name in names
        for column in columns[name]
        if f"`{column}`" not in page
    ]
    assert [name for name in names if f"`{name}`" not in page] + missing == []


def written_before_comparisons(path: Path, log: SqliteLog) -> None:
    """A file as the first migration alone has made it, with the rows of a log in it."""
    with sqlite3.connect(path) as old:
        migrations.apply(Database(old), stop_before="0002_comparisons")
        old.commit()
        old.execute("ATTACH ? AS newer", (str(log.path),))
        for table in ("revisions", "sessions", "session_tags", "turns", "messages"):
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")
        old.commit()
        old.execute("DETACH newer")
        old.row_factory = sqlite3.Row
        for row in old.execute("SELECT number FROM turns").fetchall():
            index.add_turn(Database(old), row["number"])
    old.close()


def test_file_from_before_comparisons_is_brought_up_to_date_with_all_that_is_in_it(
    log: SqliteLog, tmp_path: Path
) -> None:
    session = log_session(log, title="Sky", tags=("a",), variables={"subject": "physics"})
    turns = [log_turn(log, session), log_turn(log, session, "为什么？", "因为\n空气。")]
    path = tmp_path / "old.db"
    written_before_comparisons(path, log)
    old = SqliteLog(path)
    assert old.get_session(session.id) == session
    assert [old.get_turn(turn.id) for turn in turns] == [log.get_turn(turn.id) for turn in turns]
    assert [summary.session.id for summary in old.list_sessions().summaries] == [session.id]
    assert [hit.turn.id for hit in old.search("空气").hits] == [turns[1].id]
    assert old.mark_turn(turns[0].id, note="old and well").note == "old and well"
    new = log_turn(old, session, "And after that?")
    assert old.history(session.id)[-1].id == new.id
    assert old.database_status().schema_version == len(known_migrations())
    old.close()


def test_file_from_before_trials_were_noted_knows_those_of_drafts(
    log: SqliteLog,
) -> None:
    draft = replace(REVISION, id="d" * 32, source="name: Teacher", is_draft=True)
    tried = new_session(pin=draft.id, revision=draft.id, created_at="2020-01-01T00:00:00.000Z")
    log.create_session(tried, draft)
    key = FileKey("persona", "teacher")
    saved = NewChange(key, "saved", Author("browser"), "name: Teacher", draft)
    SqliteHistory(log).record([saved])
    asked = replace(tried, id=new_id(), created_at="2100-01-01T00:00:00.000Z")
    log.create_session(asked, draft)
    real = log_session(log)
    log.close()
    with sqlite3.connect(log.path) as old:
        old.execute("ALTER TABLE sessions DROP COLUMN is_trial")
        old.execute("DELETE FROM _sqlite_migrations WHERE name LIKE '%_trials'")
    old.close()
    newer = SqliteLog(log.path)
    is_trial = [newer.get_session(session.id).is_trial for session in (tried, asked, real)]
    assert [True, False, False] == is_trial
    newer.close()


def test_present_name_of_a_persona_is_found_without_looking_through_all_changes(
    tmp_path: Path,
) -> None:
    db, asked = prepare(filled(tmp_path / "rolebook.db"), patience_s=1), list[str]()
    db.conn.set_trace_callback(asked.append)
    assert "teacher" == revision.present_id(db, "teacher", "2020-01-01T00:00:00.000Z")
    db.conn.set_trace_callback(None)
    plans = [str(row[3]) for sql in asked for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert ["SEARCH changes USING INDEX changes_renamed (kind=? AND former=? AND rowid>?)"] == plans
    db.close()


def test_what_cannot_be_read_is_found_without_looking_through_the_rest(tmp_path: Path) -> None:
    path, parameters = filled(tmp_path / "rolebook.db"), {"number": 1, "outcomes": "[]"}
    with sqlite3.connect(path) as db:
        plans = [
            " ".join(
                str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            )
            for statement in comparison.UNREADABLE.values()
        ]
        assert [True, True] == [
            f"SCAN {table} USING INDEX {table}_unreadable" in plan
            for table, plan in zip(("turns", "check_results"), plans[2:], strict=True)
        ]
        of_turns = "SELECT count(*) FROM turns INDEXED BY turns_unreadable WHERE "
        of_turns += is_unreadable_turn()
        assert (0,) == db.execute(of_turns).fetchone()
        db.execute("UPDATE turns SET error = '{}' WHERE number < 3")
        assert (2,) == db.execute(of_turns).fetchone()
    db.close()
