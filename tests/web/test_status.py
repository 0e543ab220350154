"""The status page, what it asks upstreams, and the health check."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from flask.testing import FlaskClient

from rolebook.web.app import create_app
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_error, eventually

KEY = "sk-canary-1234567890-wxyz"


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_keys_show_their_last_four_characters_only(
    make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    book = make_rolebook({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": upstream.base_url})
    client = create_app(book).test_client()
    for response in (
        client.get("/status"),
        client.post("/status/models", data={"upstream": book.settings.upstream}),
    ):
        assert KEY not in response.text
        assert KEY[:10] not in response.text
        assert "…wxyz" in response.text
        assert upstream.base_url in response.text


def test_a_missing_key_says_what_to_do(make_rolebook: MakeRolebook) -> None:
    book = make_rolebook(
        {
            "ROLEBOOK_UPSTREAM": "openai",
            "OPENAI_API_KEY_FILE": "",
            "OPENAI_BASE_URL": "https://api.openai.com/v1",
        }
    )
    client = create_app(book).test_client()
    page = client.get("/status").text
    assert "OPENAI_API_KEY holds no key" in page
    response = client.post(
        "/status/models", data={"upstream": "openai"}, headers={"Accept": "application/json"}
    )
    assert "OPENAI_API_KEY" in assert_error(response, 503, "upstream_key")


def test_an_upstream_is_asked_for_its_models_on_request_only(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    client.get("/status")
    assert upstream.requests == []
    page = client.post("/status/models", data={"upstream": ""}).text
    assert "It offers" in page
    assert "<code>ok</code>" in page
    assert len(upstream.requests) == 1


def test_scripts_get_the_models_as_json(client: FlaskClient) -> None:
    response = client.post("/status/models", data={}, headers={"Accept": "application/json"})
    assert "ok" in [model["id"] for model in response.get_json()["models"]]


def test_one_models_details_are_shown(client: FlaskClient) -> None:
    page = client.post("/status/models", data={"model": "ok"}).text
    assert '"object": "model"' in unescape(page)


def test_an_unknown_upstream_and_a_model_that_is_not_there_are_told(client: FlaskClient) -> None:
    response = client.post("/status/models", data={"upstream": "elsewhere"})
    assert response.status_code == 404
    assert "There is no upstream 'elsewhere'" in unescape(response.text)
    refused = client.post("/status/models", data={"model": "no-such"})
    assert refused.status_code == 400
    assert 'role="alert"' in refused.text


def test_local_servers_are_looked_for_on_request(client: FlaskClient) -> None:
    page = client.post("/status/servers").text
    assert 'id="servers"' in page
    assert 'id="servers"' not in client.get("/status").text


def test_library_problems_are_listed_with_their_place(
    library_dir: Path, client: FlaskClient
) -> None:
    assert "No problems were found" in client.get("/status").text
    (library_dir / "personas/new.yaml").write_text("name: New\nsytem: x\nsystem: '{{ nobody }}'\n")
    page = words(eventually(lambda: client.get("/status").text, "personas/new.yaml:2:1"))
    assert "Did you mean 'system'?" in page
    assert "nobody" in page


def test_the_database_and_the_settings_are_shown(client: FlaskClient) -> None:
    page = words(client.get("/status").text)
    assert "rolebook.db" in page
    assert re.search(r"Sessions 0 Turns 0 Not written yet 0", page)
    assert "ROLEBOOK_PERSONAS Folder of the persona files. personas" in page


def test_log_that_others_can_read_is_told(rolebook: Rolebook, client: FlaskClient) -> None:
    assert "Other accounts" not in client.get("/status").text
    assert 0o600 == rolebook.log.path.stat().st_mode & 0o777
    rolebook.log.path.chmod(0o640)
    assert f"chmod 600 {rolebook.log.path}*" in words(client.get("/status").text)


def test_a_broken_database_is_told_and_the_page_stands(
    library_dir: Path, make_rolebook: MakeRolebook
) -> None:
    book = make_rolebook(database="broken.db")
    client = create_app(book).test_client()
    # A process that could never look whether there are users lets nobody in.
    assert client.get("/status").status_code == 200
    book.log.close()
    (library_dir / "broken.db").write_bytes(
        b"not a database, but long enough to be looked at" * 100
    )
    page = client.get("/status")
    assert page.status_code == 200
    assert "broken.db" in page.text
    assert client.get("/healthz").status_code == 503
    assert client.get("/personas/teacher").status_code == 200


def test_notices_are_shown(make_rolebook: MakeRolebook) -> None:
    client = create_app(make_rolebook({"OPENAI_API_KEY": ""})).test_client()
    assert "OPENAI_API_KEY is set but empty" in client.get("/status").text


def test_health_is_json(client: FlaskClient) -> None:
    response = client.get("/healthz", headers={"Accept": "text/html"})
    assert response.get_json() == {
        "status": "ok",
        "unwritten_turns": 0,
        "version": response.get_json()["version"],
    }


def test_each_key_says_how_it_is_and_a_resting_one_can_be_tried_again(
    make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    keys = [f"sk-{name}-1234567890-{name}" for name in ("lim", "quo", "ref", "fine")]
    for key, trouble in zip(keys, ("429?retry_after=40", "429-quota", "echo-key"), strict=False):
        upstream.key_rule(key, trouble)
    book = make_rolebook(
        {
            "OPENAI_API_KEY": ",".join([*keys, "sk-cut in two"]),
            "OPENAI_BASE_URL": upstream.base_url,
            "ROLEBOOK_MODEL": "ok",
        }
    )
    client = create_app(book).test_client()
    assert "Key 4 …fine from OPENAI_API_KEY · ready" in words(client.get("/status").text)
    session = client.post("/sessions", data={"persona": "plain"}).location
    assert "…" in client.post(f"{session}/turns", data={"input": "Hi"}, follow_redirects=True).text

    page = client.get("/status")

    shown = words(page.text)
    assert re.search(
        r"Key 1 …-lim from OPENAI_API_KEY · 1 call limited \(ok\): it is used again in 40 s", shown
    )
    assert re.search(r"Key 2 …-quo .{,30} quota used up \(ok\): it is tried again in 10 min", shown)
    assert re.search(r"Key 3 …-ref .{,30} refused \(ok\): it is tried again in 60 min", shown)
    assert "Incorrect API key provided: [key removed]" in shown
    assert "Key 5 … from OPENAI_API_KEY unusable" in shown
    assert "sk-" not in page.text.replace("OPENAI_API_KEY=sk-…", "")

    again = {"upstream": book.settings.upstream, "position": "3"}
    assert client.post("/status/keys", data=again).status_code == 303
    assert "Key 3 …-ref from OPENAI_API_KEY · 1 call · ready" in words(client.get("/status").text)
    for wrong in (
        {"upstream": "elsewhere"},
        {**again, "position": "9"},
        {**again, "position": "²"},
    ):
        assert client.post("/status/keys", data=wrong).status_code == 404
