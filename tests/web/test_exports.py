"""Sessions as files to take away."""

from __future__ import annotations

import csv
import io
import json

import pytest
from flask.testing import FlaskClient

from rolebook.wiring import Rolebook
from tests.web.checks import assert_error
from tests.web.test_sessions import HTML, JSON, start

TYPES = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "md": "text/markdown",
    "csv": "text/csv",
}


@pytest.mark.parametrize("format", TYPES)
def test_a_session_can_be_taken_away_in_every_format(client: FlaskClient, format: str) -> None:
    session_id = start(client, input="Why is the sky blue?")
    response = client.get(f"/sessions/export?id={session_id}&format={format}")
    assert response.mimetype == TYPES[format]
    name = f"rolebook-{session_id}.{format}"
    assert response.headers["Content-Disposition"] == f"attachment; filename={name}"
    assert "Why is the sky blue?" in response.text


def test_several_come_in_one_file(client: FlaskClient) -> None:
    ids = [start(client, input=f"Question {i}") for i in range(3)]
    response = client.get(f"/sessions/export?id={ids[0]}&id={ids[2]}&format=jsonl")
    said = [json.loads(line)["turn"]["input"] for line in response.text.splitlines()]
    assert said == ["Question 0", "Question 2"]


def test_all_that_match_are_taken_and_no_other(client: FlaskClient, rolebook: Rolebook) -> None:
    wanted = start(client, input="Of needles")
    rolebook.log.tag(wanted, ["kept"])
    start(client, input="Of needles, elsewhere")
    found = client.get("/sessions/export?all=1&q=needles&tag=kept&format=csv").text
    rows = list(csv.DictReader(io.StringIO(found.removeprefix("\ufeff"))))
    assert [row["session_id"] for row in rows] == [wanted]
    everything = client.get("/sessions/export?all=1&format=json").get_json()
    assert len(everything["sessions"]) == 2


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Of light", "Of-light"),
        ("../../etc/passwd", "etc-passwd"),
        ('a"; filename="evil.exe\r\nX: y', "a-filename-evil-exe-X-y"),
        ("天空为什么是蓝色的？", "%E5%A4%A9%E7%A9%BA"),
        ("🎓", "rolebook"),
        ("x" * 200, "x" * 60),
    ],
)
def test_the_file_is_named_after_the_title_safely(
    client: FlaskClient, rolebook: Rolebook, title: str, name: str
) -> None:
    session_id = start(client, input="Why?")
    rolebook.log.rename(session_id, title)
    header = client.get(f"/sessions/export?id={session_id}").headers["Content-Disposition"]
    assert header.startswith("attachment; filename")
    assert name in header
    assert ".." not in header
    assert "/" not in header
    assert header.endswith(f"-{session_id}.json")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid_input"),
        ("id=nope", 404, "not_found"),
        ("all=1&format=exe", 400, "invalid_input"),
        ("all=1&tag=nothing", 400, "invalid_input"),
    ],
)
def test_what_cannot_be_taken_away_says_why(
    client: FlaskClient, query: str, status: int, code: str
) -> None:
    assert_error(client.get(f"/sessions/export?{query}", headers=JSON), status, code)
    assert client.get(f"/sessions/export?{query}", headers=HTML).status_code == status


def test_what_is_in_the_trash_stays_out_of_all(client: FlaskClient) -> None:
    kept, gone = (start(client, input=text) for text in ("Kept", "Gone"))
    client.post("/sessions/delete", data={"id": gone})
    found = client.get("/sessions/export?all=1").get_json()["sessions"]
    assert [entry["session"]["id"] for entry in found] == [kept]
