"""Any two answers of the log can be laid beside each other."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
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
    settings = page[page.index("What differs between them") :]
    for said in ("Plain assistant", "Teacher", "temperature", "0.2", "subject", "mathematics"):
        assert said in settings
    # With next to nothing in common, both system prompts stand there whole.
    assert "System prompt of this answer" in settings
    assert "You are a patient teacher of mathematics for a beginner." in settings


def test_system_prompts_differ_as_they_were_sent(client: FlaskClient, rolebook: Rolebook) -> None:
    own, other = (
        talk(client, rolebook, "Hi", persona="teacher", **{"v-subject": subject})[0]
        for subject in ("music", "painting")
    )
    page = show(client, own, **{"with": other.id})
    prompt = page[page.index("System prompt of the other answer, against this answer") :]
    assert "patient teacher of <del>music</del><ins>painting</ins> for a beginner" in prompt
    again = talk(client, rolebook, "Hi", persona="teacher", **{"v-subject": "music"})[0]
    assert "System prompt of" not in show(client, own, **{"with": again.id})


def test_an_edited_persona_differs_by_its_revision_and_its_words(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path
) -> None:
    (own,) = talk(client, rolebook, "Hi", persona="teacher")
    path = library_dir / "personas" / "teacher.yaml"
    path.write_text(path.read_text("utf-8").replace("patient", "brisk"), "utf-8")
    (other,) = talk(client, rolebook, "Hi", persona="teacher")
    page = show(client, own, **{"with": other.id})
    for said in (own.revision[:8], other.revision[:8], "<del>patient</del><ins>brisk</ins>"):
        assert said in page


def test_a_variable_hides_no_setting_of_its_name(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path
) -> None:
    (library_dir / "personas" / "odd.yaml").write_text(
        "name: Odd\nsystem: Say {{ Model }} at {{ temperature }}.\n"
        "variables: {Model: a, temperature: b}\n",
        "utf-8",
    )
    own, other = (
        talk(client, rolebook, "Hi", persona="odd", model=model, **fields)[0]
        for model, fields in (
            ("ok?text=One", {"v-Model": "x", "v-temperature": "cold", "s-temperature": "0.1"}),
            ("ok?text=Two", {"v-Model": "y", "v-temperature": "warm", "s-temperature": "0.9"}),
        )
    )
    page = show(client, own, **{"with": other.id})
    rows = {
        unescape(name): values
        for name, *values in re.findall(
            r'<tr><th scope="row">(.*?)</th><td class="setting"><div>(.*?)</div></td>'
            r'<td class="setting"><div>(.*?)</div></td></tr>',
            page,
        )
    }
    assert ["ok?text=One", "ok?text=Two"] == rows["Model"]
    assert ["x", "y"] == rows["Model (variable)"]
    assert ["0.1", "0.9"] == rows["<code>temperature</code>"]
    assert ["cold", "warm"] == rows["temperature (variable)"]


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
