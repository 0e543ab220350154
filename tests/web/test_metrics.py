"""Figures for whoever watches over the service."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from rolebook.core.chat import TurnRequest, TurnStarted
from rolebook.core.completion import Waiting
from rolebook.core.session import Session, new_id
from rolebook.web.app import create_app
from rolebook.wiring import Rolebook
from tests.conftest import ROOT, MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.test_compare import fill, plan, talk

Labels = frozenset[tuple[str, str]]


def figures(client: FlaskClient) -> dict[tuple[str, Labels], float]:
    """What a Prometheus would read."""
    response = client.get("/metrics")
    assert 200 == response.status_code
    assert response.content_type.startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def labels(**given: str) -> Labels:
    return frozenset(given.items())


def test_turns_are_counted_whoever_asks(client: FlaskClient, rolebook: Rolebook) -> None:
    talk(rolebook, "plain", "Why?")
    talk(rolebook, "plain", "Why?", model="401")
    fill(rolebook, plan(rolebook, variants=["plain"], inputs=["One", "Two"]))
    found = figures(client)
    name = rolebook.settings.upstream
    assert 3 == found["rolebook_turns_total", labels(upstream=name, status="complete")]
    assert 1 == found["rolebook_turns_total", labels(upstream=name, status="failed")]
    assert 4 == found["rolebook_turn_duration_seconds_count", labels(upstream=name)]
    assert 3 == found["rolebook_time_to_first_token_seconds_count", labels(upstream=name)]
    assert 0 < found["rolebook_tokens_total", labels(upstream=name, kind="completion")]
    assert 0 == found["rolebook_live_turns", labels()]
    assert 0 == found["rolebook_unwritten_turns", labels()]


def test_line_of_a_turn_has_the_words_of_the_system_that_people_are_spared(
    make_rolebook: MakeRolebook, caplog: pytest.LogCaptureFixture
) -> None:
    book = make_rolebook({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    create_app(book)
    with caplog.at_level(logging.INFO, "rolebook.turn"):
        (turn,) = talk(book, "plain", "Why?")
    (line,) = [record.fields for record in caplog.records if record.name == "rolebook.turn"]  # type: ignore[attr-defined]
    assert ("upstream_connection", "[Errno 111] Connection refused") == (
        line["error"],
        line["cause"],
    )
    assert turn.error is not None
    assert "Errno" not in turn.error.text


def test_what_callers_make_up_gets_no_figure_of_its_own(client: FlaskClient) -> None:
    for number in range(20):
        client.get(f"/nowhere/{number}")
        client.open("/personas", method=f"MADE{number}")
    responses = {key[1] for key in figures(client) if key[0] == "rolebook_http_responses_total"}
    assert 2 == len(responses)
    assert labels(method="GET", endpoint="", status="404") in responses


def test_the_state_of_keys_is_told_without_them(
    make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    from rolebook.web.app import create_app

    book = make_rolebook(
        {
            "OPENAI_API_KEY": "sk-canary-401-refused,sk-canary-good",
            "OPENAI_BASE_URL": upstream.base_url,
            "ROLEBOOK_MODEL": "ok",
        }
    )
    client = create_app(book).test_client()
    found = figures(client)
    name = book.settings.upstream
    assert 2 == found["rolebook_upstream_keys", labels(upstream=name, state="ready")]
    assert "canary" not in client.get("/metrics").text


def test_calls_that_wait_for_room_at_an_upstream_are_counted(
    make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    Path("rolebook.yaml").write_text(
        f"upstreams:\n  narrow: {{base_url: {upstream.base_url}, concurrency: 1}}\n", "utf-8"
    )
    book = make_rolebook()
    client = create_app(book).test_client()
    waiting = "rolebook_upstream_waiting_calls", labels(upstream="narrow")
    calls = []
    for count in range(3):
        session = book.chat.start_session(Session(new_id(), "plain", "", model="hang"))
        events = book.chat.stream_turn(TurnRequest(session.id, "Why?"))
        # The first one has the only place by the time that the others are told to wait.
        assert [TurnStarted, Waiting] == [type(next(events)), type(next(events))]
        calls.append(events)
        found = figures(client)
        assert (count, count + 1) == (found[waiting], found["rolebook_live_turns", labels()])
    for events in calls:
        events.close()  # type: ignore[attr-defined]
    assert 0 == figures(client)[waiting]


def test_readiness_says_what_is_missing(client: FlaskClient, rolebook: Rolebook) -> None:
    response = client.get("/readyz")
    assert (200, "ready", []) == (
        response.status_code,
        response.json["status"],
        response.json["missing"],
    )
    for path in rolebook.settings.personas.iterdir():
        path.unlink()
    response = client.get("/readyz")
    assert (503, ["personas"]) == (response.status_code, response.json["missing"])


def test_log_that_is_moved_away_or_written_over_is_told_to_whoever_probes(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    talk(rolebook, "plain", "Why?")
    path = rolebook.log.path
    away = path.rename(path.with_name("away.db"))
    ready, health = client.get("/readyz"), client.get("/healthz")
    assert (503, ["log"]) == (ready.status_code, ready.json["missing"])
    # Restarted now, it could write nothing more to the file that may come back.
    assert (200, "behind") == (health.status_code, health.json["status"])
    assert "moved or removed while Rolebook had it open" in client.get("/status").text
    away.rename(path)
    assert (200, 200) == (client.get("/readyz").status_code, client.get("/healthz").status_code)
    with path.open("r+b") as file:
        file.write(b"\0" * 16_000)
    os.truncate(f"{path}-wal", 0)
    ready, health = client.get("/readyz"), client.get("/healthz")
    assert (503, ["log"]) == (ready.status_code, ready.json["missing"])
    assert (503, "failing") == (health.status_code, health.json["status"])


def test_every_figure_is_documented(client: FlaskClient, rolebook: Rolebook) -> None:
    talk(rolebook, "plain", "Why?")
    client.get("/metrics")
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    families = text_string_to_metric_families(client.get("/metrics").text)
    own = {family.name for family in families if family.name.startswith("rolebook_")}
    assert {"rolebook_turns", "rolebook_info"} <= own
    assert [] == sorted(name for name in own if f"`{name}" not in page)
