"""What happens to the log's file while people talk: full disks, locks, damage, a second server."""

from __future__ import annotations

import os
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import Server, is_sound, launch, make_folder, running, wait_until


def answer(server: Server, session: str, text: str = "Hello") -> tuple[str, str]:
    """Say something; the id of the turn and the answer as the reader saw it."""
    stream = server.stream(session, text)
    events = stream.read_to_end()
    assert events[-1].name == "end"
    assert events[-1].data["turn"]["status"] == "complete"
    said = "".join(event.data["text"] for event in events if event.name == "delta")
    return stream.turn_id, said


def limit_files(server: Server, size_bytes: int) -> None:
    """From now on no file of the server grows beyond a size, as on a full disk."""
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the file to write."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_full_disk_is_told_on_pages_and_recovered_from_without_a_restart(
    start: StartServer,
) -> None:
    server = start()
    session = server.start_session()
    answers = [answer(server, session)]
    used = max(file.stat().st_size for file in server.database.parent.iterdir())
    limit_files(server, used + 4096)
    answers += [answer(server, session, f"While it is full {number}") for number in range(5)]
    health = server.get("/healthz").json
    assert health["status"] == "behind"
    assert health["unwritten_turns"] > 0
    for path in ("/", "/status", session):
        page = server.get(path, Accept="text/html")
        assert page.status == 200
        assert "not in the log yet" in page.text
    assert answers[-1][1] in server.get(session, Accept="text/html").text
    limit_files(server, resource.RLIM_INFINITY)
    wait_until(lambda: server.get("/healthz").json["status"] == "ok", 10)
    assert "not in the log yet" not in server.get("/", Accept="text/html").text
    rows = server.turns()
    assert [(rows[t]["status"], rows[t]["text"]) for t, _ in answers] == [
        ("complete", said) for _, said in answers
    ]
    assert is_sound(server.database)


def test_pages_and_streams_go_on_while_another_program_locks_the_log(start: StartServer) -> None:
    server = start()
    session = server.start_session()
    answers = [answer(server, session)]
    with locked(server.database):
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 3:
            number += 1
            answers.append(answer(server, session, f"While it is locked {number}"))
            for path in ("/", "/sessions", session, "/status"):
                assert server.get(path, Accept="text/html").status == 200
        assert server.get("/healthz").json["unwritten_turns"] > 0
        renamed = server.post(f"{session}/title", {"title": "Now"})
        assert renamed.status == 503
        assert "locked by another program" in renamed.text
    wait_until(lambda: server.get("/healthz").json["status"] == "ok", 10)
    rows = server.turns()
    assert [(rows[t]["status"], rows[t]["text"]) for t, _ in answers] == [
        ("complete", said) for _, said in answers
    ]
    assert [rows[t]["position"] for t, _ in answers] == list(range(1, len(answers) + 1))


def test_what_waits_in_memory_is_written_when_the_server_is_stopped(start: StartServer) -> None:
    server = start()
    session = server.start_session()
    with locked(server.database):
        turn_id, said = answer(server, session)
        assert turn_id not in server.turns()
    assert server.stop() == 0
    assert server.turns()[turn_id]["text"] == said


def notes(path: Path) -> None:
    path.write_text("These are my notes, and I want to keep them. " * 50)


def log_of_a_newer_version(path: Path) -> None:
    log_with_a_turn(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('rolebook', '9999_future', '')"
        )


def damaged_log(path: Path) -> None:
    log_with_a_turn(path)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : -4096] = os.urandom(len(content) - 4096 * 4)
    path.write_bytes(content)


def log_with_a_turn(path: Path) -> None:
    with FakeUpstream() as upstream, tempfile.TemporaryDirectory() as name:
        folder = make_folder(Path(name) / "rolebook")
        environment = {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_DATABASE": str(path)}
        with running(folder, environment) as server:
            answer(server, server.start_session("ok"))
            assert server.stop() == 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (notes, "is no SQLite database"),
        (log_of_a_newer_version, "was written by a newer Rolebook"),
        (damaged_log, "is damaged"),
    ],
)
def test_start_on_a_file_that_cannot_be_the_log_is_refused_in_one_line(
    folder: Path, make: Callable[[Path], None], reason: str
) -> None:
    database = folder / "data/rolebook.db"
    database.parent.mkdir()
    make(database)
    before = database.read_bytes()
    with launch(folder, {}) as server:
        assert server.process.wait(20) == 1
    assert server.stdout == ""
    (message,) = server.stderr.splitlines()
    assert "data/rolebook.db" in message
    assert reason in message
    assert database.read_bytes() == before


def test_start_where_nothing_can_be_written_is_refused_in_one_line(folder: Path) -> None:
    with launch(folder, {"ROLEBOOK_DATABASE": "/proc/rolebook.db"}) as server:
        assert server.process.wait(20) == 1
    (message,) = server.stderr.splitlines()
    assert "/proc/rolebook.db" in message
    assert "ROLEBOOK_DATABASE" in message


def test_log_that_is_damaged_while_it_runs_is_told_and_pages_stand(start: StartServer) -> None:
    server = start()
    session = server.start_session()
    answer(server, session)
    for file in server.database.parent.iterdir():
        if not file.name.endswith(("-shm", "-wal")):
            file.write_bytes(os.urandom(file.stat().st_size))
    assert server.get("/", Accept="text/html").status == 200
    for path in ("/sessions", session, "/status", "/sessions/export?all"):
        reply = server.get(path, Accept="text/html")
        assert reply.status in {200, 404, 503}, (path, reply.status)
        assert "Traceback" not in reply.text


def test_two_servers_share_one_log(start: StartServer, folder: Path) -> None:
    first, second = start(), start()
    session = first.start_session()
    ids = [answer(server, session)[0] for server in (first, second) * 4]
    pages = [server.get(session, Accept="text/html").text for server in (first, second)]
    for page in pages:
        assert all(f'id="turn-{position}"' in page for position in range(1, len(ids) + 1))
    pending = first.stream(first.start_session("hang-mid"))
    pending.wait_for("delta")
    second.kill()
    third = start()
    assert third.turns()[pending.turn_id]["status"] == "pending"
    assert first.post(f"/turns/{pending.turn_id}/stop").json == {"stopped": True}
    first.wait_for_turn(pending.turn_id, "cancelled")
    assert [first.turns()[turn_id]["position"] for turn_id in ids] == list(range(1, 9))
    assert is_sound(first.database)
