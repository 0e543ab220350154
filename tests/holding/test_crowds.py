"""Many at once: half-sent requests, idle connections, clients that linger, and streams."""

from __future__ import annotations

import resource
import select
import socket
import sqlite3
import threading
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import Server, wait_until

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HALVES = [
    GET,
    b"GET / HT",
    b"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntheme=",
    b"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nth",
]


def slowest(server: Server, *, requests: int = 10) -> float:
    """Seconds of the slowest of some normal requests."""
    return max(server.get(path).took_s for path in ["/healthz", "/"] * (requests // 2))


def soon(server: Server) -> float:
    """Seconds that a request may take among many: what it takes alone, on a machine that may be busy, and one more."""
    return 1 + 10 * slowest(server)


def test_a_hundred_half_requests_hold_nobody_up_and_are_dropped(hasty_server: Server) -> None:
    logged, soon_s = len(hasty_server.stderr), soon(hasty_server)
    with ExitStack() as stack:
        held = [stack.enter_context(hasty_server.open_socket(20)) for _ in range(100)]
        for number, sock in enumerate(held):
            sock.sendall(HALVES[number % len(HALVES)])
        is_any_dropped = select.poll()
        is_any_dropped.register(held[0], select.POLLIN)
        assert slowest(hasty_server) < soon_s
        while not is_any_dropped.poll(0):
            assert slowest(hasty_server) < soon_s
        for sock in held[:8]:
            while sock.recv(65536):
                pass
    assert "Traceback" not in hasty_server.stderr[logged:]


def test_half_requests_take_no_place_among_the_threads_that_work(start: StartServer) -> None:
    server = start(arguments=["--threads", "4"])
    with ExitStack() as stack:
        held = [stack.enter_context(server.open_socket(20)) for _ in range(12)]
        for number, sock in enumerate(held):
            sock.sendall(HALVES[number % len(HALVES)])
        assert 200 == server.get("/healthz").status
        is_any_dropped = select.poll()
        for sock in held:
            is_any_dropped.register(sock, select.POLLIN)
        assert not is_any_dropped.poll(0)
        held[2].sendall(b"dark&x=".ljust(94, b"x"))
        assert held[2].recv(13) == b"HTTP/1.1 303 "


def test_pages_that_wait_take_no_place_among_the_threads_that_work(start: StartServer) -> None:
    server = start(arguments=["--threads", "4"])
    streams = [server.stream(server.start_session("hang")) for _ in range(12)]
    assert [200] * 13 == [server.get("/").status, *(stream.status for stream in streams)]
    for stream in streams:
        stream.leave()


def test_who_waits_for_a_locked_log_takes_no_place_among_the_threads_that_work(
    start: StartServer,
) -> None:
    server = start(arguments=["--threads", "4"])
    sessions = [server.start_session().rpartition("/")[2] for _ in range(12)]
    deletions: list[int] = []

    def delete(session: str) -> None:
        deletions.append(server.post("/sessions/delete", {"session": session}).status)

    deleting = [threading.Thread(target=delete, args=(session,)) for session in sessions]
    with closing(sqlite3.connect(server.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for thread in deleting:
            thread.start()
        assert [200] * 4 == [server.get("/healthz").status for _ in range(4)]
        assert [] == deletions
        other.execute("ROLLBACK")
    for thread in deleting:
        thread.join(20)
    assert {303} == set(deletions)


def test_five_hundred_idle_connections_hold_nobody_up(shared_server: Server) -> None:
    soon_s = soon(shared_server)
    with ExitStack() as stack:
        for number in range(500):
            sock = stack.enter_context(shared_server.open_socket())
            if number % 5 == 0:
                sock.sendall(GET + b"\r\n")
        assert slowest(shared_server, requests=20) < soon_s


def test_server_that_can_open_no_more_files_lives_and_answers_when_it_can(
    start: StartServer,
) -> None:
    server = start()
    # One that is only just starting says what it lacks, and ends.
    assert server.get("/healthz").status == 200
    files = Path(f"/proc/{server.process.pid}/fd")
    limit = len(list(files.iterdir())) + 5
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(server.open_socket())
        wait_until(lambda: len(list(files.iterdir())) >= limit, timeout_s=30)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert server.get("/healthz").status == 200


def test_answered_clients_that_do_not_close_hold_nobody_up(shared_server: Server) -> None:
    soon_s = soon(shared_server)
    with ExitStack() as stack:
        for _ in range(40):
            sock = stack.enter_context(shared_server.open_socket())
            sock.sendall(GET + b"Connection: close\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        assert slowest(shared_server, requests=20) < soon_s


def test_client_that_only_ends_its_sending_side_is_answered(shared_server: Server) -> None:
    with shared_server.open_socket() as sock:
        sock.sendall(GET + b"\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_connection_takes_many_requests(shared_server: Server) -> None:
    connection = shared_server.connect()
    for _ in range(50):
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        assert (response.status, response.read()[:1]) == (200, b"{")
    connection.close()


def test_fifty_streams_at_once_are_whole_and_logged(
    shared_server: Server, shared_upstream: FakeUpstream
) -> None:
    ends: Counter[str] = Counter()
    texts: dict[str, str] = {}

    def talk(number: int) -> None:
        stream = shared_server.stream(
            shared_server.start_session("ok?tokens=50&delay_ms=20"), f"number {number}", 30
        )
        text = "".join(
            event.data["text"] if event.name == "delta" else ends.update([event.name]) or ""
            for event in stream
        )
        texts[stream.turn_id] = text

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (ends["end"], ends["error"], len(texts)) == (50, 0, 50)
    rows = shared_server.turns()
    for turn_id, text in texts.items():
        assert (rows[turn_id]["status"], rows[turn_id]["text"]) == ("complete", text)
    assert shared_server.get("/healthz").json["unwritten_turns"] == 0
