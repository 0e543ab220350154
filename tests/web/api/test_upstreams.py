"""Upstreams and the state of it all over the API."""

from __future__ import annotations

import pytest

from rolebook.web.app import create_app
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.api.calls import call, error_of


@pytest.fixture
def environment(upstream: FakeUpstream) -> dict[str, str]:
    """An upstream that has two keys, of which it refuses the first."""
    upstream.key_rule("sk-refused-refused-1111", "401")
    return {
        "OPENAI_BASE_URL": upstream.base_url,
        "OPENAI_API_KEY": "sk-refused-refused-1111,sk-good-good-good-good-2222",
        "ROLEBOOK_MODEL": "ok",
    }


def test_keys_are_told_by_their_state_and_never_whole(
    make_rolebook: MakeRolebook, environment: dict[str, str]
) -> None:
    client = create_app(make_rolebook(environment)).test_client()
    upstreams = call(client, "GET", "/upstreams")["upstreams"]
    assert [True, False] == [upstream["is_default"] for upstream in upstreams]
    assert ("rehearsal", True) == (upstreams[1]["name"], upstreams[1]["is_rehearsal"])
    name = upstreams[0]["name"]
    session_id = call(client, "POST", "/sessions", 201, persona="plain")["id"]
    for _ in range(2):
        call(client, "POST", f"/sessions/{session_id}/turns", input="Hello")
    status = call(client, "GET", "/status")
    keys = status["upstreams"][0]["keys"]
    assert ["refused", "ready"] == [key["state"] for key in keys]
    assert "sk-" not in str(status)
    retried = call(client, "POST", f"/upstreams/{name}/keys/retry", position=1)["keys"]
    assert ["ready", "ready"] == [key["state"] for key in retried]
    error_of(client, "POST", f"/upstreams/{name}/keys/retry", 404, position=3)
    assert (3, 0) == (status["personas"], status["live_turns"])
    assert 2 == status["database"]["turns"]


def test_models_are_asked_for(make_rolebook: MakeRolebook, environment: dict[str, str]) -> None:
    client = create_app(make_rolebook(environment)).test_client()
    name = call(client, "GET", "/upstreams")["upstreams"][0]["name"]
    models = call(client, "GET", f"/upstreams/{name}/models")["models"]
    assert models
    model = call(client, "GET", f"/upstreams/{name}/model?id={models[0]['id']}")
    assert models[0]["id"] == model["id"] == model["details"]["id"]
    assert 404 == client.get("/api/v1/upstreams/nowhere/models").status_code
