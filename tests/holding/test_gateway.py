"""Programs at the gateway of a whole server: they leave, and the server ends under them."""

from __future__ import annotations

import http.client
import json
import signal
from contextlib import closing

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import Server, wait_until

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
