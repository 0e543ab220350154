"""Sessions and turns over the API, from the first word to the file that is taken away."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from rolebook.wiring import Rolebook
from tests.conftest import LiveServer
from tests.fake_upstream import FakeUpstream
from tests.web.api.calls import PREFIX, call, error_of


@pytest.fixture
def session_id(client: FlaskClient) -> str:
    """A session with the teacher."""
    begun = call(client, "POST", "/sessions", 201, persona="teacher", variables={"level": "expert"})
    return str(begun["id"])


def ask(client: FlaskClient, session_id: str, text: str = "Why is the sky blue?") -> str:
    """The id of a turn in which this was said."""
    return str(call(client, "POST", f"/sessions/{session_id}/turns", input=text)["id"])


def test_turn_comes_whole_with_what_was_sent_and_what_came(
    client: FlaskClient, session_id: str, upstream: FakeUpstream
) -> None:
    turn = call(
        client,
        "POST",
        f"/sessions/{session_id}/turns",
        input="Why is the sky blue?",
        parameters={"temperature": 0.25, "max_tokens": None},
    )
    assert ("complete", "Echo: Why is the sky blue?") == (turn["status"], turn["text"])
    assert "for a expert" in turn["messages"][0]["content"]
    assert (0.25, False) == (
        turn["parameters_sent"]["temperature"],
        "max_tokens" in turn["parameters_sent"],
    )
    assert turn == call(client, "GET", f"/turns/{turn['id']}")
    sent = call(client, "GET", f"/turns/{turn['id']}/request")
    body = upstream.requests[-1].body
    assert isinstance(body, dict)
    assert body["messages"] == sent["messages"]


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "given",
    [
        {"model": LONG},
        {"upstream": LONG},
        {"persona": LONG},
        {"persona": f"teacher@{LONG}"},
        {"variables": {LONG: "x"}},
        {"parameters": {LONG: "x"}},
        {"parameters": {f"field_{number}": number for number in range(101)}},
    ],
    ids=lambda value: str(value)[:40],
)
def test_session_is_begun_with_no_name_of_any_length(
    client: FlaskClient, given: dict[str, Any]
) -> None:
    response = client.post(f"{PREFIX}/sessions", json={"persona": "teacher", **given})
    assert response.status_code in (404, 422)
    assert len(response.data) < 2000


def test_turn_is_asked_of_no_model_with_a_name_of_any_length(
    client: FlaskClient, session_id: str
) -> None:
    path = f"/sessions/{session_id}/turns"
    error = error_of(client, "POST", path, 422, input="x", model="m" * 257)
    assert "model has 257 characters, and 256 are the most." == error["message"]


def test_turn_streams_and_ends_with_itself(client: FlaskClient, session_id: str) -> None:
    response = client.post(
        f"{PREFIX}/sessions/{session_id}/turns", json={"input": "Hello", "stream": True}
    )
    assert "text/event-stream" == response.mimetype
    events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", response.text)
    said = "".join(json.loads(data)["text"] for name, data in events if name == "delta")
    assert ("turn", "end") == (events[0][0], events[-1][0])
    begun, ended = json.loads(events[0][1]), json.loads(events[-1][1])
    assert ("pending", session_id, ended["id"]) == (
        begun["status"],
        begun["session_id"],
        begun["id"],
    )
    assert "Echo: Hello" == said == ended["text"]
    assert ended == call(client, "GET", f"/turns/{ended['id']}")


@pytest.mark.parametrize("stream", [False, True])
def test_refusal_of_the_upstream_has_its_status_and_is_in_the_log(
    client: FlaskClient, session_id: str, stream: bool
) -> None:
    response = client.post(
        f"{PREFIX}/sessions/{session_id}/turns",
        json={"input": "Hello", "model": "400", "stream": stream},
    )
    error = response.get_json()["error"]
    assert (422, "upstream_refused") == (response.status_code, error["code"])
    turn = call(client, "GET", f"/turns/{response.headers['X-Rolebook-Turn']}")
    assert "failed" == turn["status"]


def test_session_is_shown_noted_on_found_and_taken_away(
    client: FlaskClient, session_id: str
) -> None:
    turn_id = ask(client, session_id)
    change = {"title": " About  the sky ", "tags": ["physics", "physics"], "is_starred": True}
    changed = call(client, "PATCH", f"/sessions/{session_id}", **change)
    assert ("About the sky", ["physics"], True) == (
        changed["title"],
        changed["tags"],
        changed["is_starred"],
    )
    call(client, "PATCH", f"/turns/{turn_id}/mark", thumb=1, note="Good.")
    marked = call(client, "PATCH", f"/turns/{turn_id}/mark", is_starred=True)["mark"]
    assert (True, 1, "Good.") == (marked["is_starred"], marked["thumb"], marked["note"])
    shown = call(client, "GET", f"/sessions/{session_id}")
    assert "Hello! What about mathematics shall we look at?" == shown["greeting"]
    assert [(turn_id, 1)] == [(turn["id"], turn["mark"]["thumb"]) for turn in shown["turns"]]
    (line,) = call(client, "GET", "/sessions?search=sky&mark=up&tag=physics")["sessions"]
    assert (session_id, 1, "complete") == (line["id"], line["turns"], *line["statuses"])
    assert ["input", "text"] == [excerpt["field"] for excerpt in line["excerpts"]]
    (hit,) = call(client, "GET", "/search?search=blue")["hits"]
    assert (turn_id, session_id, 1) == (hit["turn_id"], hit["session_id"], hit["position"])
    assert "Why is the sky blue?" == hit["snippet"]
    assert ["input", "text"] == [excerpt["field"] for excerpt in hit["excerpts"]]
    assert [] == call(client, "GET", "/sessions?model=other")["sessions"]
    assert ["teacher"] == [facet["value"] for facet in call(client, "GET", "/facets")["personas"]]
    exported = client.get(f"{PREFIX}/exports/sessions?id={session_id}&format=jsonl")
    assert turn_id == json.loads(exported.text)["turn"]["id"]


def test_search_tells_where_long_turns_match_and_not_all_of_them(
    client: FlaskClient, session_id: str
) -> None:
    said = ("\n" * 8).join(["sky " * 20_000, "a walrus", *["sky"] * 1000])
    turn_id = ask(client, session_id, said)
    found = call(client, "GET", "/search?search=sky+walrus")
    (hit,) = found["hits"]
    assert (turn_id, "complete", 3) == (hit["turn_id"], hit["status"], len(hit["excerpts"]))
    assert hit["snippet"].startswith("sky sky")
    assert len(json.dumps(found)) < 20_000
    assert said == call(client, "GET", f"/turns/{hit['turn_id']}")["input"]


def test_attempts_forks_and_choices(client: FlaskClient, session_id: str) -> None:
    first = ask(client, session_id)
    again = call(
        client,
        "POST",
        f"/sessions/{session_id}/turns",
        input="And red?",
        position=1,
        parameters={"n": 2},
    )
    assert (1, 2, 2) == (again["position"], again["attempt"], len(again["choices"]))
    assert call(client, "POST", f"/turns/{first}/choose")["is_current"]
    assert 1 == call(client, "POST", f"/turns/{again['id']}/choose", index=1)["chosen"]
    forked = call(client, "POST", f"/turns/{again['id']}/fork", 201)
    assert again["id"] == forked["forked_from"]
    assert not call(client, "POST", f"/turns/{first}/stop")["stopped"]


def test_sessions_come_in_pages(client: FlaskClient) -> None:
    ids = [call(client, "POST", "/sessions", 201, persona="plain")["id"] for _ in range(3)]
    for session_id in ids:
        ask(client, session_id)
    first = call(client, "GET", "/sessions?limit=2")
    rest = call(client, "GET", f"/sessions?limit=2&cursor={first['next']}")
    assert "" == rest["next"]
    assert ids[::-1] == [line["id"] for line in [*first["sessions"], *rest["sessions"]]]


def test_session_in_the_trash_is_gone_until_it_is_restored(
    client: FlaskClient, session_id: str
) -> None:
    ask(client, session_id)
    assert call(client, "DELETE", f"/sessions/{session_id}")["deleted_at"]
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/turns")):
        body = {"input": "x"} if method == "POST" else {}
        error = error_of(client, method, f"/sessions/{session_id}{path}", 404, **body)
        assert "in the trash" in error["message"]
    assert [] == call(client, "GET", "/sessions")["sessions"]
    deleted = call(client, "GET", "/sessions?is_deleted=true")["sessions"]
    assert [session_id] == [line["id"] for line in deleted]
    call(client, "POST", f"/sessions/{session_id}/restore")
    assert 1 == len(call(client, "GET", f"/sessions/{session_id}")["turns"])


def test_persona_that_was_renamed_is_counted_and_found_by_its_new_name(
    client: FlaskClient, session_id: str
) -> None:
    ask(client, session_id)
    call(client, "POST", "/files/personas/teacher/rename", id="tutor")
    (line,) = call(client, "GET", "/sessions?persona_id=tutor")["sessions"]
    assert (session_id, "teacher") == (line["id"], line["persona_id"])
    (hit,) = call(client, "GET", "/search?search=blue&persona_id=tutor")["hits"]
    assert session_id == hit["session_id"]
    assert ["tutor"] == [facet["value"] for facet in call(client, "GET", "/facets")["personas"]]
    statistics = call(client, "GET", "/personas/tutor")["statistics"]
    assert (1, 1) == (statistics["sessions"], statistics["turns"])
    assert "1 session" in client.get("/personas/tutor").text
    assert session_id in client.get("/sessions?persona=tutor").text


def test_described_role_becomes_a_persona(client: FlaskClient, rolebook: Rolebook) -> None:
    begun = call(client, "POST", "/sessions", 201, system="You answer in one word.")
    path = f"/sessions/{begun['id']}/persona"
    assert {"kind": "persona", "id": "terse"} == call(
        client, "POST", path, 201, id="terse", name="Terse"
    )
    assert "Terse" == rolebook.library.get_persona("terse").persona.name
    assert "conflict" == error_of(client, "POST", path, 409, id="terse", name="Terse")["code"]


def test_one_of_persona_and_system_is_needed(client: FlaskClient) -> None:
    assert error_of(client, "POST", "/sessions", 422)["message"]
    both = error_of(client, "POST", "/sessions", 422, persona="plain", system="x")
    assert "system" == both["param"]
    unfit = error_of(client, "POST", "/sessions", 422, persona="teacher", variables={"level": "x"})
    assert ("invalid_variable", "level") == (unfit["code"], unfit["param"])
    assert 404 == client.post(f"{PREFIX}/sessions", json={"persona": "nobody"}).status_code


def test_whole_turn_is_stopped_when_nobody_waits_for_it(
    live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("long", "ok?tokens=2000&delay_ms=10")
    client = live_server.app.test_client()
    session_id = call(client, "POST", "/sessions", 201, persona="plain", model="long")["id"]
    body = b'{"input": "Tell me everything."}'
    head = (
        f"POST {PREFIX}/sessions/{session_id}/turns HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", urlsplit(live_server.url).port or 0)) as leaving:
        leaving.sendall(head.encode() + body)
        turn_id = str(
            eventually(lambda: call(client, "GET", f"/sessions/{session_id}")["turns"])[0]["id"]
        )
    turn = eventually(
        lambda: (
            [found]
            if (found := call(client, "GET", f"/turns/{turn_id}"))["status"] != "pending"
            else []
        )
    )[0]
    assert "cancelled" == turn["status"]


def eventually(read: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What is read again and again until there is something."""
    deadline = time.monotonic() + 10
    while not (found := read()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
