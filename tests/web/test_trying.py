"""Trying a draft: what the preview shows is sent, the answer is logged at the draft's revision, nothing is saved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from flask.testing import FlaskClient

from rolebook.wiring import Rolebook
from tests.conftest import TEACHER
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_error
from tests.web.test_library import PAGE, text_of

DRAFT = TEACHER.replace("a patient teacher", "a hurried teacher")
STREAM = {"Accept": "text/event-stream"}


def events_of(text: str) -> list[tuple[str, Any]]:
    """The events of a stream, without comments."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("event")]
    return [(name.removeprefix("event: "), json.loads(data[6:])) for name, data in blocks]


def try_out(
    client: FlaskClient, text: str, path: str = PAGE, **fields: str
) -> list[tuple[str, Any]]:
    response = client.post(f"{path}/try", data={"text": text, **fields}, headers=STREAM)
    assert response.status_code == 200, response.text
    return events_of(response.text)


def test_a_draft_is_streamed_and_logged_as_what_was_tried(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream, library_dir: Path
) -> None:
    events = try_out(client, DRAFT, input="Why?", **{"v-subject": "optics"})
    assert ["turn", "delta", "end"] == list(dict.fromkeys(name for name, _ in events))
    assert "a hurried teacher of optics" in upstream.requests[-1].body["messages"][0]["content"]
    turn = rolebook.log.get_turn(events[-1][1]["turn"]["id"])
    assert ("complete", "Why?") == (turn.status, turn.input)
    revision = rolebook.log.get_revision(turn.revision)
    assert "a hurried teacher" in revision.resolved["system"]
    assert TEACHER == (library_dir / "personas/teacher.yaml").read_text()
    assert "a patient teacher" in rolebook.library.get_persona("teacher").persona.system


def test_the_session_of_a_draft_stays_with_it(client: FlaskClient, upstream: FakeUpstream) -> None:
    turn = try_out(client, DRAFT, input="Why?")[-1][1]["turn"]
    client.post(f"/sessions/{turn['session']}/turns", data={"input": "And then?"})
    sent = upstream.requests[-1].body["messages"]
    assert "a hurried teacher" in sent[0]["content"]
    assert "And then?" == sent[-1]["content"]


def test_what_was_said_before_is_sent_along(client: FlaskClient, upstream: FakeUpstream) -> None:
    try_out(client, DRAFT, input="And?", **{"said-0-user": "One?", "said-0-assistant": "1."})
    contents = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert ["One?", "1.", "And?"] == contents[-3:]


def test_the_saved_version_and_former_drafts_can_be_tried_too(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    first = try_out(client, DRAFT, input="Why?")[-1][1]["turn"]["revision"]
    try_out(client, DRAFT, input="Why?", at="saved")
    assert "a patient teacher" in upstream.requests[-1].body["messages"][0]["content"]
    try_out(client, TEACHER, input="Why?", at=first)
    assert "a hurried teacher" in upstream.requests[-1].body["messages"][0]["content"]


def test_a_trial_is_no_answer_that_people_had_before_an_edit(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path
) -> None:
    former = rolebook.library.get_persona("teacher").revision.id
    client.post("/sessions", data={"persona": "teacher", "input": "Really?"})
    tried = try_out(client, DRAFT, input="A trial")[-1][1]["turn"]
    client.post(f"/sessions/{tried['session']}/turns", data={"input": "Still a trial"})
    client.post(f"/turns/{tried['id']}/fork")
    (fork, *_) = rolebook.log.list_sessions().summaries
    client.post(f"/sessions/{fork.session.id}/turns", data={"input": "A fork of one"})
    try_out(client, DRAFT, input="A trial", at="saved")
    try_out(client, DRAFT, input="A trial", at=tried["revision"])
    (library_dir / "personas/teacher.yaml").write_text(DRAFT.replace("hurried", "strict"))
    page = client.get("/personas/teacher").text
    (address,) = re.findall(r'href="([^"]+)">What did my edit change\?', page)
    assert f"teacher@{former}" in unquote(address)
    recent = rolebook.comparisons.recent_turns("teacher", 10)
    assert ["Really?"] == [turn.input for turn in recent]


def test_without_script_two_answers_stand_side_by_side(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    fields = {"text": DRAFT, "etag": "x", "input": "Why?", "beside": "saved"}
    page = text_of(client.post(f"{PAGE}/try", data=fields).text)
    assert page.index("The draft") < page.index("The saved version", page.index("The draft"))
    said = [request.body["messages"][0]["content"] for request in upstream.requests[-2:]]
    assert ["hurried" in said[0], "hurried" in said[1]] == [True, False]
    again = client.get(PAGE).text
    assert "a draft of before" in again


def test_a_template_is_tried_with_a_persona(client: FlaskClient, upstream: FakeUpstream) -> None:
    text = '{% message "system" %}{{ system }} Shout.{% endmessage %}{% message "user" %}{{ input }}{% endmessage %}'
    try_out(client, text, "/library/templates/chat", input="Hm", persona="plain")
    assert "Answer briefly. Shout." == upstream.requests[-1].body["messages"][0]["content"]


def test_a_draft_with_mistakes_is_not_sent(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    for text, fields in (("name: [\n", {"input": "x"}), (TEACHER, {"input": " "})):
        response = client.post(f"{PAGE}/try", data={"text": text, **fields}, headers=STREAM)
        assert_error(
            response,
            422 if "[" in text[:8] else 400,
            "invalid_file" if "[" in text[:8] else "invalid_input",
        )
    assert [] == list(upstream.requests)
    assert () == rolebook.log.list_sessions().summaries


def test_an_upstream_that_refuses_is_told(client: FlaskClient) -> None:
    response = client.post(
        f"{PAGE}/try", data={"text": TEACHER, "input": "x", "model": "401"}, headers=STREAM
    )
    assert_error(response, 503, "upstream_key")
