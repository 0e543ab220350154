"""Personas and files over the API: what they would send, and saving that loses nothing."""

from __future__ import annotations

from pathlib import Path

from flask.testing import FlaskClient

from rolebook.wiring import Rolebook
from tests.fake_upstream import FakeUpstream
from tests.web.api.calls import PREFIX, call, error_of

COOK = "name: Cook\nsystem: You are a cook of {{ kitchen }}.\nvariables: {kitchen: Peru}\n"


def test_personas_are_listed_found_and_shown(client: FlaskClient) -> None:
    listed = call(client, "GET", "/personas")["personas"]
    assert ["friend", "plain", "teacher"] == [persona["id"] for persona in listed]
    first = call(client, "GET", "/personas?limit=2")
    rest = call(client, "GET", f"/personas?cursor={first['next']}")
    assert listed == [*first["personas"], *rest["personas"]]
    (found,) = call(client, "GET", "/personas?search=idea&tag=education")["personas"]
    shown = call(client, "GET", "/personas/teacher")
    assert found.items() <= shown.items()
    assert ("Teacher", 600) == (shown["name"], shown["persona"]["sampling"]["max_tokens"])
    assert 0 == shown["statistics"]["turns"]


def test_prompt_says_where_each_piece_comes_from(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    prompt = call(
        client,
        "POST",
        "/personas/teacher/render",
        input="Why?",
        variables={"subject": "{{ 7*7 }}"},
        earlier=[{"user": "Hello", "assistant": "Hi."}],
    )
    system = prompt["messages"][0]
    assert system["content"] == "".join(span["text"] for span in system["spans"])
    assert {"text": "{{ 7*7 }}", "origin": "variable", "name": "subject"} in system["spans"]
    assert ["Hello", "Hi.", "Why?"] == [message["content"] for message in prompt["messages"][-3:]]
    assert (0, "ok") == (prompt["dropped_turns"], prompt["model"])
    assert prompt["tokens"] > 20
    assert [] == upstream.requests


def test_file_is_made_checked_saved_and_renamed(client: FlaskClient, library_dir: Path) -> None:
    made = call(client, "POST", "/files/personas", 201, id="cook", text=COOK, message="Begin")
    assert (made["etag"], COOK) == (
        call(client, "GET", "/files/personas/cook")["etag"],
        (library_dir / "personas/cook.yaml").read_text("utf-8"),
    )
    better = COOK.replace("a cook", "a careful cook")
    checkup = call(client, "POST", "/files/personas/cook/check", text=better)
    assert (True, []) == (checkup["is_good"], checkup["problems"])
    prompt = call(client, "POST", "/files/personas/cook/render", text=better, input="Rice?")
    assert "You are a careful cook of Peru." == prompt["messages"][0]["content"]
    saved = call(client, "PUT", "/files/personas/cook", text=better, etag=made["etag"])
    assert (True, checkup["revision"]) == (saved["is_changed"], saved["revision"])
    renamed = call(client, "POST", "/files/personas/cook/rename", id="chef")
    assert "chef" == renamed["id"]
    assert 404 == client.get(f"{PREFIX}/files/personas/cook").status_code
    copied = call(client, "POST", "/files/personas/chef/duplicate", 201, id="cook")
    assert saved["etag"] == copied["etag"]


def test_conflict_brings_both_texts_and_the_way_out(client: FlaskClient, library_dir: Path) -> None:
    opened = call(client, "GET", "/files/personas/plain")
    path = library_dir / "personas/plain.yaml"
    theirs = opened["text"].replace("Answer briefly.", "Answer in verse.")
    path.write_text(theirs, "utf-8")
    mine = opened["text"].replace("tags: [work, life]", "tags: [work]")
    error = error_of(client, "PUT", "/files/personas/plain", 409, text=mine, etag=opened["etag"])
    assert "changed_meanwhile" == error["code"]
    conflict = error["conflict"]
    assert (mine, theirs, opened["text"]) == (
        conflict["mine"],
        conflict["theirs"],
        conflict["base"],
    )
    assert theirs == path.read_text("utf-8")
    merged = conflict["merged"]
    assert "Answer in verse." in merged
    assert "tags: [work]" in merged
    call(client, "PUT", "/files/personas/plain", text=merged, etag=conflict["etag"])
    assert merged == path.read_text("utf-8")


def test_text_with_mistakes_is_kept_from_the_file_unless_somebody_insists(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    etag = call(client, "GET", "/files/personas/plain")["etag"]
    broken = "name: Plain\nsystem: x\nsampling: {temperature: warm}\n"
    headers = {"Accept-Language": "zh"}
    response = client.put(
        f"{PREFIX}/files/personas/plain", json={"text": broken, "etag": etag}, headers=headers
    )
    assert 422 == response.status_code
    (problem,) = response.get_json()["error"]["problems"]
    assert ("personas/plain.yaml", 3, "error") == (
        problem["file"],
        problem["line"],
        problem["severity"],
    )
    assert "temperature" in problem["message"]
    assert "数" in problem["message"]
    call(client, "PUT", "/files/personas/plain", text=broken, etag=etag, insist=True)
    state = next(f for f in call(client, "GET", "/files")["files"] if f["id"] == "plain")
    assert "stale" == state["status"]
    assert "Answer briefly." == rolebook.library.get_persona("plain").persona.system


def test_file_goes_to_the_trash_and_comes_back(client: FlaskClient) -> None:
    error = error_of(client, "DELETE", "/files/templates/chat", 409)
    assert "in_use" == error["code"]
    assert {"kind": "persona", "id": "plain"} in error["users"]
    trashed = call(client, "DELETE", "/files/personas/plain")
    assert [trashed] == call(client, "GET", "/trash")["files"]
    call(client, "POST", "/files/personas", 201, id="plain", name="Another")
    path = f"/trash/{trashed['trash_id']}/restore"
    assert "conflict" == error_of(client, "POST", path, 409)["code"]
    assert "plain-2" == call(client, "POST", path, id="plain-2")["id"]


def test_history_labels_and_differences(client: FlaskClient, rolebook: Rolebook) -> None:
    made = call(client, "POST", "/files/personas", 201, id="cook", text=COOK)
    label = call(client, "PUT", "/personas/cook/labels/production")
    assert made["revision"] == label["revision"]
    better = COOK.replace("a cook", "a careful cook")
    call(client, "PUT", "/files/personas/cook", text=better, etag=made["etag"], message="Care")
    history = call(client, "GET", "/files/personas/cook/history")["changes"]
    assert [
        ("saved", "Care", "api"),
        ("labelled", "production", "api"),
        ("created", "", "api"),
    ] == [(change["action"], change["message"], change["via"]) for change in history]
    former = call(client, "GET", f"/files/personas/cook/history/{history[2]['id']}")
    assert COOK == former["text"]
    difference = call(client, "GET", "/files/personas/cook/difference?old=production")
    changed = [line for line in difference["source"] if line["kind"] != "same"]
    assert ["changed"] == [line["kind"] for line in changed]
    assert "a careful cook" in changed[0]["new"]
    pinned = call(client, "POST", "/personas/cook@production/render", input="?")
    assert "You are a cook of Peru." == pinned["messages"][0]["content"]
    restored = call(client, "POST", f"/files/personas/cook/history/{history[2]['id']}/restore")
    assert made["etag"] == restored["etag"]
    assert ["production"] == [
        found["name"] for found in call(client, "GET", "/personas/cook/labels")["labels"]
    ]
    call(client, "DELETE", "/personas/cook/labels/production", 204)
    assert [] == rolebook.edits.labels("cook")


def test_draft_is_tried_before_it_is_saved(client: FlaskClient, rolebook: Rolebook) -> None:
    text = COOK.replace("a cook", "a baker")
    turn = call(client, "POST", "/files/personas/baker/try", text=text, input="Bread?")
    assert ("complete", "Echo: Bread?") == (turn["status"], turn["text"])
    assert "You are a baker of Peru." == turn["messages"][0]["content"]
    assert "baker" not in [entry.id for entry in rolebook.library.entries()]
    error = error_of(client, "POST", "/files/personas/baker/try", 422, text="name: [", input="?")
    assert 1 == error["problems"][0]["line"]


def test_file_is_named_by_what_it_was(client: FlaskClient, library_dir: Path) -> None:
    call(client, "PUT", "/personas/plain/labels/production")
    path = library_dir / "personas/plain.yaml"
    former = path.read_text("utf-8")
    path.write_text(former.replace("Answer briefly.", "Answer in verse."), "utf-8")
    whole = call(client, "GET", "/files/personas/plain/history")
    assert whole == call(client, "GET", "/files/personas/plain@production/history")
    lines = call(client, "GET", "/files/personas/plain@production/difference")["source"]
    assert any("Answer in verse." in line["new"] for line in lines if line["kind"] == "changed")
    call(client, "POST", "/files/personas/plain@production/duplicate", 201, id="short")
    assert former == path.with_name("short.yaml").read_text("utf-8")
    for method, path_ in (("GET", "history"), ("POST", "duplicate")):
        address, body = (
            f"/files/personas/plain@gone/{path_}",
            {"id": "x"} if method == "POST" else {},
        )
        error = error_of(client, method, address, 404, **body)
        assert "no label or revision 'gone'" in error["message"]


def test_id_that_makes_none_is_told_for_a_copy_too(client: FlaskClient) -> None:
    for path in ("/files/personas/plain/duplicate", "/files/templates/chat/duplicate"):
        error = error_of(client, "POST", path, 422, id="")
        assert "makes no id" in error["message"]
