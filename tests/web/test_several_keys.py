"""Keys that rest, as readers of pages and programs behind the gateway meet them."""

from __future__ import annotations

import time

import pytest
from flask.testing import FlaskClient

from rolebook.web.app import create_app
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_error
from tests.web.test_sessions import JSON, start

KEYS = ("sk-first-0123456789", "sk-second-0123456789")
SAID = {"model": "plain", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def client(make_rolebook: MakeRolebook, upstream: FakeUpstream) -> FlaskClient:
    book = make_rolebook(
        {
            "OPENAI_API_KEY": ",".join(KEYS),
            "OPENAI_BASE_URL": upstream.base_url,
            "ROLEBOOK_MODEL": "ok",
        }
    )
    return create_app(book).test_client()


@pytest.mark.parametrize(
    ("trouble", "status", "code", "seconds"),
    [
        ("429?retry_after=119", 429, "upstream_rate", range(60, 120)),
        ("429-quota", 429, "upstream_quota", range(500, 601)),
        ("401", 503, "upstream_key", range(3500, 3601)),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
def test_program_is_told_at_once_when_it_may_come_back(
    client: FlaskClient,
    upstream: FakeUpstream,
    trouble: str,
    status: int,
    code: str,
    seconds: range,
    is_streamed: bool,
) -> None:
    for key in KEYS:
        upstream.key_rule(key, trouble)
    assert client.post("/v1/chat/completions", json=SAID).status_code == status
    asked, began = len(upstream.requests), time.monotonic()
    response = client.post("/v1/chat/completions", json={**SAID, "stream": is_streamed})
    took_s = time.monotonic() - began

    assert_error(response, status, code)
    assert int(response.headers["Retry-After"]) in seconds
    assert len(upstream.requests) == asked == 2
    # Whoever waited for a key would wait a minute and more.
    assert took_s < seconds[0] / 10


def test_nobody_notices_a_key_that_is_refused(client: FlaskClient, upstream: FakeUpstream) -> None:
    upstream.key_rule(KEYS[0], "401")

    for _ in range(3):
        answered = client.post("/v1/chat/completions", json=SAID)
        assert answered.json["choices"][0]["message"]["content"] == "Echo: Hi"  # type: ignore[index]

    assert [request.api_key for request in upstream.requests] == [KEYS[0], *[KEYS[1]] * 3]
    page = client.post(f"/sessions/{start(client)}/turns", data={"input": "Hi"}, headers=JSON)
    assert page.status_code < 400
