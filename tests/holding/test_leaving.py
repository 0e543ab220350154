"""Readers who leave, stop, or hardly read: the upstream is let go, and the log tells the truth."""

from __future__ import annotations

import socket
import sqlite3
import time

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import FORM, HASTY, Server, wait_until

FLOWING = "ok?tokens=2000&delay_ms=20"


def test_closed_browser_reaches_a_flowing_upstream_and_the_log(
    shared_server: Server, shared_upstream: FakeUpstream
) -> None:
    stream = shared_server.stream(shared_server.start_session(FLOWING))
    said = stream.wait_for("delta").data["text"]
    stream.leave()
    assert shared_upstream.requests[-1].client_gone.wait(2)
    turn = shared_server.wait_for_turn(stream.turn_id, "cancelled")
    assert said
    assert turn["text"].startswith(said)


@pytest.mark.parametrize(("model", "has_text"), [("hang", False), ("hang-mid", True)])
def test_closed_browser_reaches_a_silent_upstream_too(
    shared_server: Server, shared_upstream: FakeUpstream, model: str, has_text: bool
) -> None:
    stream = shared_server.stream(shared_server.start_session(model))
    stream.wait_for("ping")
    stream.leave()
    assert shared_upstream.requests[-1].client_gone.wait(2)
    turn = shared_server.wait_for_turn(stream.turn_id, "cancelled")
    assert bool(turn["text"]) is has_text


@pytest.mark.parametrize("model", [FLOWING, "hang-mid"])
def test_stop_reaches_the_upstream_and_the_next_turn_works_at_once(
    shared_server: Server, shared_upstream: FakeUpstream, model: str
) -> None:
    shared_upstream.model_rule("stopped", f"{model},ok")
    session = shared_server.start_session("stopped")
    stream = shared_server.stream(session)
    stream.wait_for("delta")
    began = time.monotonic()
    assert shared_server.post(f"/turns/{stream.turn_id}/stop").json == {"stopped": True}
    assert shared_upstream.requests[-1].client_gone.wait(2)
    assert stream.read_to_end()[-1].data["turn"]["status"] == "cancelled"
    assert time.monotonic() - began < 2
    assert shared_server.turns()[stream.turn_id]["status"] == "cancelled"
    assert shared_server.turns()[stream.turn_id]["text"]
    again = shared_server.stream(session, "Once more")
    assert again.wait_for("end").data["turn"]["status"] == "complete"


def test_reader_who_makes_no_room_costs_no_memory_and_is_let_go(
    hasty_server: Server, shared_upstream: FakeUpstream
) -> None:
    session = hasty_server.start_session("huge-chunk?kb=3900")
    body = b"input=Hello"
    before_mb = hasty_server.rss_mb
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        reader.connect(("127.0.0.1", hasty_server.port))
        reader.sendall(
            b"POST %s/turns HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (session.encode(), FORM.encode(), len(body), body)
        )

        def found() -> list[sqlite3.Row]:
            assert hasty_server.get("/healthz").took_s < 1
            assert hasty_server.rss_mb - before_mb < 64
            time.sleep(0.1)
            turns = hasty_server.turns().values()
            return [
                t for t in turns if session.endswith(t["session_id"]) and t["status"] != "pending"
            ]

        # The system tells of a wait without room only after it has told twice of a part that had room.
        (turn,) = wait_until(found, 20)
    assert turn["status"] == "cancelled"
    assert "Traceback" not in hasty_server.stderr


def test_server_that_rests_keeps_no_connection_to_its_upstream(
    start: StartServer, upstream: FakeUpstream
) -> None:
    server = start(command=HASTY)
    server.stream(server.start_session("ok")).read_to_end()
    assert 1 == upstream.open_connections
    upstream.wait_for(lambda: upstream.open_connections == 0)
