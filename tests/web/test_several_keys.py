"""Keys that rest, as readers of pages and programs behind the gateway meet them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from rolebook.web.app import create_app
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.accounts import People
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


def test_only_who_looks_after_keys_is_told_which_one_is_refused(
    make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    environment = {"OPENAI_API_KEY": KEYS[0], "OPENAI_BASE_URL": upstream.base_url}
    book = make_rolebook(environment | {"ROLEBOOK_MODEL": "ok"})
    people = People(create_app(book), book)
    people.add("Chen", "administrator")
    people.add("Cid")
    upstream.key_rule(KEYS[0], "401")
    name = book.upstreams.names[0]
    chen, cid = people.program("Chen"), people.program("Cid")

    # The first of a pair has it from the server, the second from the key that rests.
    for pair in (((cid, False), (chen, True)), ((chen, True), (cid, False))):
        for program, is_told in pair:
            answer = program.post("/v1/chat/completions", json=SAID)
            assert "key" in answer.text
            assert [is_told] * 2 == [KEYS[0][-4:] in answer.text, "OPENAI_API_KEY" in answer.text]
        book.upstreams.try_key_again(name, 1)
    assert len(upstream.requests) == 2


def test_program_is_told_of_the_first_that_may_be_asked_again(
    make_rolebook: MakeRolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    """The quota of the one that was asked is used up; one that stands in is free again in a moment."""
    with FakeUpstream() as second:
        (library_dir / "rolebook.yaml").write_text(
            "upstreams:\n"
            f"  one: {{base_url: {upstream.base_url}, model: ok, attempts: 1, fallbacks: [two, three]}}\n"
            f"  two: {{base_url: {second.base_url}, attempts: 1, model: ok}}\n"
            f"  three: {{base_url: {second.base_url}, attempts: 1, model: '404'}}\n"
        )
        upstream.model_rule("ok", "429-quota")
        second.model_rule("ok", "429?retry_after=40")
        client = create_app(make_rolebook()).test_client()
        answers = [client.post("/v1/chat/completions", json=SAID) for _ in range(2)]

    for answer in answers:
        assert_error(answer, 429, "upstream_quota")
        assert int(answer.headers["Retry-After"]) in range(20, 41)
        assert "X-Should-Retry" not in answer.headers
        assert "; two: " in answer.json["error"]["message"]
        assert "; three: " in answer.json["error"]["message"]
