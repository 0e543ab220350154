"""Any two answers of the log can be laid beside each other."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from rolebook.core.session import Turn
from rolebook.wiring import Rolebook
from tests.fake_upstream import FakeUpstream

HTML = {"Accept": "text/html"}


def talk(client: FlaskClient, rolebook: Rolebook, *inputs: str, **fields: Any) -> list[Turn]:
    """A session that somebody had."""
    first, *others = inputs
    started = client.post(
        "/sessions", data={"persona": "plain", "input": first, **fields}, headers=HTML
    )
    session_id = started.location.split("/")[2].split("#")[0]
    for text in others:
        client.post(f"/sessions/{session_id}/turns", data={"input": text}, headers=HTML)
    return list(rolebook.log.session_turns(session_id))


def show(client: FlaskClient, turn: Turn, status: int = 200, **query: str) -> str:
    response = client.get(f"/turns/{turn.id}/difference", query_string=query, headers=HTML)
    assert status == response.status_code, response.text
    return response.text


def test_two_answers_of_one_session_differ_by_words(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=天空是蓝色的。,ok?text=天空是黑色的。")
    first, second = talk(client, rolebook, "Why?", "Why?")
    request = client.get(f"/turns/{first.id}/request", headers=HTML).text
    assert f'href="/turns/{first.id}/difference"' in request
    page = show(client, first)
    assert f'<option value="{second.id}">Turn 2 · 天空是黑色的。' in page
    assert "The answers, by words" not in page
    page = show(client, first, **{"with": second.id})
    assert "<del>蓝</del><ins>黑</ins>" in page
    assert f'<option value="{second.id}" selected>' in page
    assert "Settings that differ" not in page


@pytest.mark.parametrize(
    "address",
    [
        "{id}",
        "http://127.0.0.1:8000/turns/{id}/request",
        "/turns/{id}",
        "http://127.0.0.1:8000/sessions/{session}?q=x#turn-1",
    ],
)
def test_another_session_s_answer_is_named_by_its_address(
    client: FlaskClient, rolebook: Rolebook, address: str
) -> None:
    (own,) = talk(client, rolebook, "What is light?")
    (other,) = talk(
        client, rolebook, "What is sound?", persona="teacher", **{"s-temperature": "0.2"}
    )
    page = show(client, own, at=address.format(id=other.id, session=other.session_id))
    assert "What is <del>light</del><ins>sound</ins>?" in page
    assert "Echo: What is <del>light</del><ins>sound</ins>?" in page
    settings = page[page.index("Settings that differ") :]
    for said in ("Plain assistant", "Teacher", own.revision[:8], "temperature", "0.2", "subject"):
        assert said in settings


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        ("https://example.org/", 400, "This is no address of an answer."),
        ("0" * 18, 404, "There is no turn"),
        ("/sessions/{session}#turn-9", 404, "This session has no turn 9."),
        ("{id}", 400, "This is the answer that is shown: choose another one."),
    ],
)
def test_what_names_no_other_answer_is_told_at_its_field(
    client: FlaskClient, rolebook: Rolebook, given: str, status: int, told: str
) -> None:
    (turn,) = talk(client, rolebook, "Hi")
    page = show(client, turn, status, at=given.format(id=turn.id, session=turn.session_id))
    assert told in page
    assert 'aria-invalid="true"' in page
    assert "The answers, by words" not in page
