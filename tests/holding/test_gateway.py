"""Programs at the gateway of a whole server: they leave, and the server ends under them."""

from __future__ import annotations

import http.client
import json
import resource
import signal
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import Server, running, wait_until

FLOWING = "ok?tokens=2000&delay_ms=20"


def ask(server: Server, model: str, *, is_streamed: bool) -> http.client.HTTPConnection:
    """A connection on which a program has asked."""
    connection = server.connect()
    body = {"model": f"plain/{model}", "stream": is_streamed}
    connection.request(
        "POST",
        "/v1/chat/completions",
        json.dumps({**body, "messages": [{"role": "user", "content": "Hello"}]}),
        {"Content-Type": "application/json"},
    )
    return connection


@pytest.mark.parametrize(
    ("model", "is_streamed"),
    [(FLOWING, True), ("hang-mid", True), ("hang", True), ("hang", False)],
)
def test_program_that_leaves_reaches_the_upstream_and_the_log(
    shared_server: Server, shared_upstream: FakeUpstream, model: str, is_streamed: bool
) -> None:
    before, asked = set(shared_server.turns()), len(shared_upstream.requests)
    connection = ask(shared_server, model, is_streamed=is_streamed)
    wait_until(lambda: len(shared_upstream.requests) > asked)
    if model != "hang":
        assert connection.getresponse().readline().startswith(b"data: {")
    connection.close()
    assert shared_upstream.requests[-1].client_gone.wait(5)
    (turn_id,) = set(shared_server.turns()) - before
    turn = shared_server.wait_for_turn(turn_id, "cancelled")
    assert ("gateway", model != "hang") == (turn["via"], bool(turn["text"]))


def test_stream_ends_with_an_error_when_the_server_is_stopped(start: StartServer) -> None:
    server = start()
    with closing(ask(server, FLOWING, is_streamed=True)) as connection:
        response = connection.getresponse()
        assert response.readline().startswith(b"data: {")
        server.process.send_signal(signal.SIGTERM)
        *_, last, blank = response.read().decode().split("\n\n")
    assert "" == blank
    error = json.loads(last.strip().removeprefix("data: "))["error"]
    assert "Rolebook was stopped" in error["message"]
    assert 0 == server.process.wait(10)
    assert ["interrupted"] == [row["status"] for row in server.turns().values()]


def test_call_that_has_no_word_yet_is_told_to_come_again_when_the_server_is_stopped(
    start: StartServer, upstream: FakeUpstream
) -> None:
    server = start()
    with ExitStack() as stack:
        calls = [
            stack.enter_context(closing(ask(server, "hang", is_streamed=is_streamed)))
            for is_streamed in (True, False)
        ]
        wait_until(lambda: 2 == len(upstream.requests))
        server.process.send_signal(signal.SIGTERM)
        answers = [connection.getresponse() for connection in calls]
        errors = [json.loads(answer.read())["error"] for answer in answers]
    assert [(503, "5")] * 2 == [(got.status, got.headers["Retry-After"]) for got in answers]
    assert ["stopped"] * 2 == [error["code"] for error in errors]
    assert 0 == server.process.wait(10)


def test_streams_that_wait_for_more_take_no_thread(start: StartServer) -> None:
    server = start(arguments=["--threads", "4"])
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(ask(server, "hang-mid", is_streamed=True)))
            for _ in range(12)
        ]
        said = [stream.getresponse().readline() for stream in streams]
        # With all threads taken there would be no page, nor a further answer.
        assert 200 == server.get("/healthz").status
        with closing(ask(server, "ok?tokens=3&delay_ms=50", is_streamed=True)) as another:
            assert another.getresponse().read().endswith(b"data: [DONE]\n\n")
    assert [b"data: {"] * 12 == [line[:7] for line in said]
    wait_until(lambda: 12 == statuses(server).count("cancelled"))
    assert 1 == statuses(server).count("complete")


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("model", ["hang-headers", "hang-error"])
def test_calls_that_wait_for_an_upstream_take_no_place_among_the_threads_that_work(
    start: StartServer, model: str, is_streamed: bool
) -> None:
    server = start(arguments=["--threads", "4"])
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(closing(ask(server, model, is_streamed=is_streamed)))
        wait_until(lambda: 12 == statuses(server).count("pending"))
        assert 200 == server.get("/healthz").status
        with closing(ask(server, "ok?latency_ms=200", is_streamed=is_streamed)) as another:
            # To its end: who leaves before is one more that is cancelled.
            answer = another.getresponse()
            assert 200 == answer.status
            assert answer.read()
    wait_until(lambda: 12 == statuses(server).count("cancelled"))
    assert 1 == statuses(server).count("complete")


def test_calls_that_wait_for_a_place_let_those_end_that_have_one(
    start: StartServer, upstream: FakeUpstream, folder: Path
) -> None:
    (folder / "rolebook.yaml").write_text(
        f"upstreams:\n  one:\n    base_url: {upstream.base_url}\n    model: ok\n    concurrency: 6\n"
    )
    server = start(arguments=["--threads", "4"])
    with ExitStack() as stack:
        calls = [
            stack.enter_context(closing(ask(server, "ok?latency_ms=200", is_streamed=True)))
            for _ in range(24)
        ]
        answers = [call.getresponse() for call in calls]
        assert [200] * 24 == [answer.status for answer in answers if answer.read()]
    wait_until(lambda: ["complete"] * 24 == statuses(server))


def test_upstream_that_falls_silent_under_a_waiting_stream_is_given_up(start: StartServer) -> None:
    server = start(environment={"ROLEBOOK_IDLE_TIMEOUT": "1"})
    with closing(ask(server, "hang-mid", is_streamed=True)) as connection:
        *_, last, _ = connection.getresponse().read().decode().split("\n\n")
        error = json.loads(last.strip().removeprefix("data: "))["error"]
        assert "stopped in the middle of its answer" in error["message"]
        # The stream ended as streams do, so that the connection serves again.
        connection.request("GET", "/v1/models")
        assert 200 == connection.getresponse().status
    assert ["interrupted"] == statuses(server)


def test_reader_who_makes_no_room_holds_no_other_stream_up(start: StartServer) -> None:
    server = start()
    with (
        closing(server.connect()) as slow,
        closing(ask(server, "ok?tokens=30&delay_ms=30", is_streamed=True)) as quick,
    ):
        slow.sock = socket.socket()
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.sock.connect(("127.0.0.1", server.port))
        body = {"model": "plain/huge-chunk?kb=3900", "stream": True}
        body["messages"] = [{"role": "user", "content": "Hello"}]
        slow.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        assert quick.getresponse().read().endswith(b"data: [DONE]\n\n")
        assert ["complete", "pending"] == sorted(statuses(server))
        received = slow.getresponse().read()
    assert len(received) > 3_900_000
    assert received.endswith(b"data: [DONE]\n\n")
    wait_until(lambda: ["complete"] * 2 == statuses(server))


def test_streams_find_files_to_open_and_further_clients_wait(
    folder: Path, upstream: FakeUpstream
) -> None:
    def allow_few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    # One that finds none would be made again, and find one.
    only = f"upstreams: {{only: {{base_url: '{upstream.base_url}', model: ok, attempts: 1}}}}"
    (folder / "rolebook.yaml").write_text(only)
    options = {"arguments": ["--threads", "8"], "preexec": allow_few_files}
    with running(folder, {}, **options) as server, ExitStack() as stack:
        streams = [
            stack.enter_context(closing(ask(server, "hang-mid", is_streamed=True)))
            for _ in range(100)
        ]
        first = [stream.getresponse().readline() for stream in streams[:60]]
        for stream in streams[:60]:
            stream.close()
        rest = [stream.getresponse().readline() for stream in streams[60:]]
        assert [b"data: {"] * 100 == [line[:7] for line in (*first, *rest)]


def test_line_of_a_turn_has_the_id_of_its_answer(start: StartServer) -> None:
    server = start(arguments=["--log-format", "json"])
    with closing(ask(server, "ok", is_streamed=False)) as connection:
        answered = connection.getresponse().headers["X-Request-Id"]
    assert 0 == server.stop()
    lines = [json.loads(line) for line in server.stderr.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["logger"] == "rolebook.turn"]
    assert answered == line["request_id"] == line["turn_id"]


def statuses(server: Server) -> list[str]:
    return [turn["status"] for turn in server.turns().values()]
