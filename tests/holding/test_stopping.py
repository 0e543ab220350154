"""How a server begins and ends: signals, streams that are open then, and what is not there or taken."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import (
    START_S,
    Server,
    environment_of,
    launch,
    running,
    turns_in,
    wait_until,
)

FLOWING = "ok?tokens=2000&delay_ms=20"


def hear_of_the_terminal() -> None:
    """Its end is ignored where the tests run with nohup, and so it would be by what they start."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_streams_end_with_an_event_and_the_log_is_closed(
    start: StartServer, upstream: FakeUpstream, number: signal.Signals
) -> None:
    server = start(preexec=hear_of_the_terminal)
    server.stream(server.start_session()).wait_for("end")
    streams = [server.stream(server.start_session(FLOWING)) for _ in range(4)]
    streams += [server.stream(server.start_session("hang-mid"))]
    for stream in streams:
        stream.wait_for("delta")
    server.process.send_signal(number)
    ends = [stream.read_to_end()[-1] for stream in streams]
    assert [end.name for end in ends] == ["error"] * 5
    assert "Rolebook was stopped" in ends[0].data["error"]["message"]
    assert server.process.wait(10) == 0
    assert [file.name for file in server.database.parent.iterdir()] == ["rolebook.db"]
    assert Counter(row["status"] for row in server.turns().values()) == {
        "interrupted": 5,
        "complete": 1,
    }
    assert all(row["text"] for row in server.turns().values())
    assert all(request.finished.wait(2) for request in upstream.requests)
    with pytest.raises(ConnectionRefusedError):
        server.open_socket()


def test_reader_who_does_not_read_cannot_hold_up_the_end(
    start: StartServer, folder: Path, upstream: FakeUpstream
) -> None:
    server = start()
    stalled = server.stream(server.start_session("endless?delay_ms=0"))
    stalled.wait_for("delta")
    time.sleep(0.5)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10
    again = start()
    assert again.turns()[stalled.turn_id]["status"] == "interrupted"


def test_who_came_just_before_it_ends_may_still_say_what_they_want(start: StartServer) -> None:
    server = start()
    server.process.send_signal(signal.SIGSTOP)
    with server.open_socket() as early:
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: _is_refused(server), 2)
        time.sleep(0.3)
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in early.recv(100)
    assert server.process.wait(10) == 0


def test_who_comes_where_no_file_can_be_opened_does_not_keep_it_from_ending(
    start: StartServer,
) -> None:
    server = start()
    # Whatever it has to read for its work, it has read.
    server.stream(server.start_session()).wait_for("end")
    server.process.send_signal(signal.SIGSTOP)
    with server.open_socket():
        files = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, files[1]))
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: _is_refused(server), 2)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, files)
    assert server.process.wait(10) == 0


def test_who_comes_while_it_ends_is_refused_and_need_not_wait(start: StartServer) -> None:
    server = start()
    with server.open_socket() as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _is_refused(server), 2)
        assert server.process.poll() is None
        slow.sendall(b".0.0.1\r\n\r\n")
        assert b"200 OK" in slow.recv(100)
    assert server.process.wait(10) == 0


def _is_refused(server: Server) -> bool:
    try:
        server.open_socket().close()
    except ConnectionRefusedError:
        return True
    return False


def test_second_signal_ends_it_at_once(start: StartServer) -> None:
    server = start()
    server.stream(server.start_session("endless?delay_ms=0")).wait_for("delta")
    time.sleep(0.5)
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert server.process.poll() is None
    assert server.stop(signal.SIGINT, timeout_s=2) == 0


def test_signals_in_a_row_are_no_trouble(start: StartServer) -> None:
    server = start()
    streams = [server.stream(server.start_session(FLOWING)) for _ in range(3)]
    for number in [signal.SIGTERM] * 20:
        server.process.send_signal(number)
    assert {stream.read_to_end()[-1].name for stream in streams} == {"error"}
    assert server.process.wait(10) == 0


def test_it_goes_on_when_whoever_started_it_is_gone(folder: Path) -> None:
    output = folder / "stdout"
    output.touch()
    command = f"{sys.executable} -m rolebook serve --port 0 > stdout 2> stderr & echo $!; read line"
    shell = subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=environment_of({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shell.stdin
    assert shell.stdout
    process_id = int(shell.stdout.readline())
    try:
        address = wait_until(lambda: output.read_text().rpartition("\n")[0], START_S)
        shell.communicate("\n")
        time.sleep(2.5)
        port = int(address.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200 OK" in sock.recv(100)
    finally:
        os.kill(process_id, signal.SIGTERM)
        wait_until(lambda: not _is_running(process_id), 10)


def _is_running(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return status != "Z"


def test_nohup_keeps_it_when_the_terminal_is_closed(start: StartServer) -> None:
    server = start(preexec=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert server.get("/healthz").status == 200
    assert server.stop() == 0


def test_pending_turns_of_a_killed_server_are_interrupted_at_the_next_start(
    start: StartServer, folder: Path
) -> None:
    server = start()
    stream = server.stream(server.start_session("hang-mid"))
    stream.wait_for("delta")
    server.kill()
    assert turns_in(server.database)[stream.turn_id]["status"] == "pending"
    again = start()
    turn = again.turns()[stream.turn_id]
    assert (turn["status"], turn["error_code"]) == ("interrupted", "interrupted")
    page = again.get(f"/sessions/{turn['session_id']}", Accept="text/html")
    assert page.status == 200


def ended(server: Server) -> tuple[int, str, list[str]]:
    """Status, output and messages of a server that does not even start."""
    with server:
        return server.process.wait(20), server.stdout, server.stderr.splitlines()


def test_address_that_is_not_ours_is_said(folder: Path) -> None:
    arguments = ["--host", "192.0.2.1", "--allow-network"]
    status, output, messages = ended(launch(folder, {}, arguments=arguments))
    assert (status, output) == (1, "")
    assert "192.0.2.1" in messages[-1]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_network_is_not_served_unasked(folder: Path, host: str) -> None:
    status, output, messages = ended(launch(folder, {}, arguments=["--host", host]))
    assert (status, output) == (2, "")
    assert "--allow-network" in messages[-1]


def test_start_is_ready_soon_and_says_where(folder: Path) -> None:
    began = time.monotonic()
    with running(folder, {}) as server:
        took_s = time.monotonic() - began
        assert server.get("/healthz").json["status"] == "ok"
    assert took_s < 8
    assert server.stdout == f"Rolebook: http://127.0.0.1:{server.port}/\n"
