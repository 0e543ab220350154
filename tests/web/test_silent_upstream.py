"""An upstream that gives no answer, as readers, programs and whoever looks after it meet that."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from rolebook.core.errors import UpstreamTimeoutError
from rolebook.upstream.breaker import UNANSWERED_CALLS, Breaker
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook, NewSdk, Serve
from tests.fake_upstream import FakeUpstream
from tests.web.api.calls import call, error_of
from tests.web.checks import assert_error
from tests.web.test_metrics import figures, labels
from tests.web.test_sessions import start
from tests.web.test_turns import ask

SAID: dict[str, Any] = {"model": "plain", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def rolebook(make_rolebook: MakeRolebook, library_dir: Path, upstream: FakeUpstream) -> Rolebook:
    """Its upstream did not answer for a minute, again and again, and would by now."""
    (library_dir / "rolebook.yaml").write_text(
        f"upstreams:\n  work: {{base_url: {upstream.base_url}, model: ok}}\n"
    )
    book = make_rolebook()
    breaker = breaker_of(book)
    error = UpstreamTimeoutError("%(upstream)s did not begin to answer.", upstream="work")
    for _ in range(UNANSWERED_CALLS):
        breaker.note_silence("ok", error, began=time.monotonic() - 60)
    return book


def breaker_of(book: Rolebook) -> Breaker:
    upstream = book.upstreams.get("work")
    assert isinstance(upstream, OpenAIUpstream)
    return upstream.breaker


@pytest.fixture
def client(app: Flask, rolebook: Rolebook) -> FlaskClient:
    """While one call hangs, and the next is not made for a while."""
    for _ in range(6):
        breaker_of(rolebook).try_again("ok")
        breaker_of(rolebook).admit("ok")
    return app.test_client()


def test_programs_and_readers_are_told_at_once_when_to_come_back(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    session_id = start(client)
    answers = [
        client.post("/v1/chat/completions", json=SAID),
        client.post("/v1/chat/completions", json={**SAID, "stream": True}),
        ask(client, session_id),
    ]

    for answer in answers:
        said = assert_error(answer, 503, "upstream_silent")
        assert "work has answered no call for ok since" in said
        assert int(answer.headers["Retry-After"]) in range(1, 31)
    chinese = client.post("/v1/chat/completions", json=SAID, headers={"Accept-Language": "zh"})
    assert "一直没有应答" in assert_error(chinese, 503, "upstream_silent")
    assert [] == upstream.requests


def test_status_page_says_so_and_lets_it_be_asked_at_once(
    client: FlaskClient,
) -> None:
    page = client.get("/status").text
    assert "no answer" in page
    assert "work did not begin to answer." in page
    assert "没有应答" in client.get("/status", headers={"Accept-Language": "zh"}).text

    again = client.post("/status/upstreams", data={"upstream": "work", "model": "ok"})

    assert (303, "/status#answers-work") == (again.status_code, again.location)
    assert 200 == client.post("/v1/chat/completions", json=SAID).status_code
    assert "no answer" not in client.get("/status").text
    late = client.post("/status/upstreams", data={"upstream": "work", "model": "ok"})
    assert 404 == late.status_code


def test_figures_and_the_api_say_so(client: FlaskClient) -> None:
    name = "rolebook_upstream_silent_models"
    assert 1 == figures(client)[name, labels(upstream="work")]
    assert 0 == figures(client)[name, labels(upstream="rehearsal")]
    (silent,) = call(client, "GET", "/status")["upstreams"][0]["silent_models"]
    assert ("ok", UNANSWERED_CALLS) == (silent["model"], silent["calls"])
    assert "work did not begin to answer." == silent["reason"]

    (asked_next,) = call(client, "POST", "/upstreams/work/retry", model="ok")["silent_models"]
    assert 0 == asked_next["seconds"]
    assert 200 == client.post("/v1/chat/completions", json=SAID).status_code
    error_of(client, "POST", "/upstreams/work/retry", 404, model="ok")
    assert 0 == figures(client)[name, labels(upstream="work")]


def test_official_client_comes_back_by_itself(
    rolebook: Rolebook, serve: Serve, new_sdk: NewSdk, upstream: FakeUpstream
) -> None:
    """It waits for as long as the answer asks it to."""
    assert 0 == breaker_of(rolebook).admit("ok")
    sdk = new_sdk(serve(rolebook)).with_options(max_retries=5)

    answer = sdk.chat.completions.create(**SAID)

    assert "Echo: Hi" == answer.choices[0].message.content
    assert 1 == len(upstream.requests)
