"""Looking after the log on the command line."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing

import pytest

from rolebook.storage.log import SqliteLog
from tests.cli.conftest import Shell


@pytest.fixture
def session_id(shell: Shell) -> str:
    session_id: str = shell.run("ask", "plain", "Why?", "--json").json["session_id"]
    return session_id


def test_a_backup_is_a_log_of_its_own(shell: Shell, session_id: str) -> None:
    (shell.folder / "kept").mkdir()
    done = shell.run("backup", "kept")
    assert 0 == done.status
    assert "Turns: 1" in done.notices
    copy = shell.folder / done.text.strip()
    assert [copy] == list((shell.folder / "kept").iterdir())
    assert 0o600 == copy.stat().st_mode & 0o777
    log = SqliteLog(copy)
    assert ["Why?"] == [turn.input for turn in log.history(session_id)]
    log.close()


def test_a_backup_overwrites_nothing(shell: Shell, session_id: str) -> None:
    (shell.folder / "old.db").write_text("Precious")
    done = shell.run("backup", "old.db")
    assert (1, "") == (done.status, done.text)
    assert "is there already" in done.notices
    assert "Precious" == (shell.folder / "old.db").read_text()


def test_a_backup_that_cannot_be_written_leaves_nothing(shell: Shell, session_id: str) -> None:
    done = shell.run("backup", "nowhere/log.db")
    assert 2 == done.status
    assert "nowhere/log.db cannot be written: No such file or directory." in done.notices
    assert [] == list(shell.folder.glob("**/*unfinished*"))


def test_a_backup_into_a_folder_that_is_missing_becomes_no_file(
    shell: Shell, session_id: str
) -> None:
    done = shell.run("backup", "nowhere/")
    assert 2 == done.status
    assert "There is no folder nowhere/. Make it first." in done.notices
    assert not (shell.folder / "nowhere").exists()


@pytest.mark.parametrize(
    "command",
    [("backup",), ("empty-trash", "--yes"), ("sessions", "delete", "--before", "2026-01-01")],
)
def test_no_log_is_made_to_be_looked_after(shell: Shell, command: tuple[str, ...]) -> None:
    done = shell.run("--database", "nowhere/log.db", *command)
    assert (1, "") == (done.status, done.text)
    assert "There is no log at" in done.notices
    assert [] == list(shell.folder.glob("**/*.db"))


def test_a_backup_onto_a_full_disk_names_the_backup(shell: Shell, session_id: str) -> None:
    log = shell.open_log()
    log.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        done = shell.run("backup", "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.close()
    assert 1 == done.status
    assert "The backup copy.db cannot be written: its disk is full" in done.notices
    assert [] == list(shell.folder.glob("**/*copy.db*"))


def test_a_backup_of_a_damaged_log_says_so(shell: Shell, session_id: str) -> None:
    path = shell.open_log().path
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'turns'"
        ).fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(content)
    done = shell.run("backup", "copy.db")
    assert 1 == done.status
    assert "damaged" in done.notices
    assert not (shell.folder / "copy.db").exists()


def test_sessions_out_of_use_are_deleted_but_for_those_with_a_star(
    shell: Shell, session_id: str
) -> None:
    starred = shell.run("ask", "plain", "Keep me", "--json").json["session_id"]
    shell.run("sessions", "star", starred)
    assert "Deleted: 0." in shell.run("sessions", "delete", "--before", "2020-01-01").notices
    assert "Deleted: 1." in shell.run("sessions", "delete", "--before", "3000-01-01").notices
    listed = shell.run("sessions", "--json").json
    assert [starred] == [session["id"] for session in listed]
    assert 2 == shell.run("sessions", "delete", "--before", "soon").status
    assert 2 == shell.run("sessions", "delete").status
    assert 2 == shell.run("sessions", "delete", starred, "--before", "3000-01-01").status


def test_the_trash_is_emptied_only_when_that_is_meant(shell: Shell, session_id: str) -> None:
    shell.run("sessions", "delete", session_id)
    done = shell.run("empty-trash")
    assert 2 == done.status
    assert "--yes" in done.notices
    assert "sessions: 0" in shell.run("empty-trash", "--yes").notices
    done = shell.run("empty-trash", "--days", "0", "--yes")
    assert (0, "") == (done.status, done.text)
    assert "sessions: 1, comparisons: 0" in done.notices
    assert [] == shell.run("sessions", "--deleted", "--json").json


def test_emptying_the_trash_tells_what_comparisons_lose(shell: Shell) -> None:
    shell.run("compare", "plain", "teacher", "--input", "Hello")
    (comparison,) = shell.run("comparisons", "--json").json
    cells = shell.run("comparisons", "show", comparison["id"], "--json").json["cells"]
    assert 0 == shell.run("sessions", "delete", cells[0]["session_id"]).status
    told = shell.run("empty-trash", "--days", "0", "--yes").notices
    assert "sessions: 1, comparisons: 0" in told
    assert "With them went" not in told
    assert "lost answers with it: cells: 1, votes on them: 0" in told
    assert 0 == shell.run("comparisons", "delete", comparison["id"]).status
    told = shell.run("empty-trash", "--days", "0", "--yes").notices
    assert "sessions: 0, comparisons: 1" in told
    assert "With them went the sessions of cells and judges: 1." in told
