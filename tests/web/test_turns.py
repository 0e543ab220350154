"""Turns over HTTP: at one go, as a stream, again, stopped, chosen, forked, and exactly as sent."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rolebook.core.session import Turn
from rolebook.web.app import create_app
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_error
from tests.web.test_sessions import HTML, JSON, say, shown, start, turns_of

STREAM = {"Accept": "text/event-stream"}


def ask(client: FlaskClient, session_id: str, text: str = "Why?", **fields: str) -> TestResponse:
    """Ask for a stream."""
    url = f"/sessions/{session_id}/turns"
    return client.post(url, data={"input": text, **fields}, headers=STREAM)


def events(pieces: Iterator[bytes] | list[bytes]) -> list[tuple[str, Any]]:
    """The events of a stream, comments left out."""
    found = []
    for block in b"".join(pieces).decode().split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def last_turn(rolebook: Rolebook, session_id: str) -> Turn:
    return rolebook.log.get_turn(turns_of(rolebook, session_id)[-1].id)


def test_a_form_runs_the_turn_and_comes_back_to_it(client: FlaskClient) -> None:
    session_id = start(client)
    response = say(client, session_id, "Why?")
    assert response.status_code == 303
    assert response.location == f"/sessions/{session_id}#turn-1"
    assert 'id="turn-1"' in shown(client, session_id)


def test_a_stream_tells_the_turn_its_deltas_and_its_end(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = start(client)
    response = ask(client, session_id)
    assert response.mimetype == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    told = events([response.data])
    turn = last_turn(rolebook, session_id)
    assert [name for name, _ in told[:1] + told[-1:]] == ["turn", "end"]
    assert told[0][1]["id"] == turn.id
    assert told[0][1]["position"] == 1
    assert "".join(data["text"] for name, data in told if name == "delta") == turn.text
    assert told[-1][1]["turn"]["status"] == turn.status == "complete"
    assert turn.text in told[-1][1]["html"]


@pytest.mark.parametrize("text", ["", "  \n "])
def test_nothing_to_send_is_refused_before_anything_happens(
    client: FlaskClient, upstream: FakeUpstream, text: str
) -> None:
    session_id = start(client)
    assert_error(ask(client, session_id, text), 400, "invalid_input")
    page = say(client, session_id, text)
    assert page.status_code == 400
    assert "Write something first." in page.text
    assert upstream.requests == []


def test_what_was_typed_is_kept_when_it_cannot_be_sent(client: FlaskClient) -> None:
    session_id = start(client)
    page = say(client, session_id, "Keep these words", **{"s-temperature": "warm"})
    assert page.status_code == 400
    assert "Keep these words</textarea>" in page.text
    assert client.get(f"/sessions/{session_id}/turns").location == f"/sessions/{session_id}"


@pytest.mark.parametrize("position", ["x", "-1", "1.5", "９", "1" * 30])
def test_a_position_is_a_whole_number(client: FlaskClient, position: str) -> None:
    assert_error(ask(client, start(client), position=position), 400, "invalid_request")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("401", 503, "upstream_key"),
        ("429?retry_after=60", 429, "upstream_rate"),
        ("400-context", 400, "upstream_refused"),
        ("404", 400, "upstream_refused"),
        ("html-200", 502, "upstream_reply"),
        ("empty-choices", 502, "upstream_reply"),
    ],
)
def test_a_refusal_is_a_real_status_and_a_turn_in_the_log(
    client: FlaskClient,
    rolebook: Rolebook,
    upstream: FakeUpstream,
    model: str,
    status: int,
    code: str,
) -> None:
    upstream.model_rule("bad", model)
    session_id = start(client, model="bad")
    response = ask(client, session_id)
    message = assert_error(response, status, code)
    turn = last_turn(rolebook, session_id)
    assert response.headers["X-Rolebook-Turn"] == turn.id
    assert turn.status == "failed"
    piece = client.get(f"/turns/{turn.id}", headers=JSON).get_json()
    assert piece["turn"]["status"] == "failed"
    assert message.split(". ")[0].replace("'", "&#39;") in piece["html"]


@pytest.mark.parametrize("model", ["rst-mid", "close-mid", "malformed-sse", "bad-utf8", "cut"])
def test_a_failure_in_the_middle_is_an_error_event_and_the_partial_text_is_kept(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream, model: str
) -> None:
    upstream.model_rule("bad", f"{model}?text=One two three four five six")
    session_id = start(client, model="bad")
    told = events([ask(client, session_id).data])
    assert [name for name, _ in told].count("error") == 1
    assert told[-1][0] == "error"
    assert set(told[-1][1]) == {"error"}
    turn = last_turn(rolebook, session_id)
    assert turn.status == "interrupted"
    assert turn.text
    page = shown(client, session_id)
    assert turn.text in page
    assert "broken off" in page


def test_a_silent_upstream_is_heard_waiting(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("slow", "ok?ttft_ms=3100")
    response = ask(client, start(client, model="slow"))
    assert b": ping\n\n" in response.data
    assert events([response.data])[-1][0] == "end"


def test_a_reader_who_leaves_cancels_the_turn_and_closes_the_upstream(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("long", "ok?tokens=400&delay_ms=10")
    session_id = start(client, model="long")
    response = client.post(
        f"/sessions/{session_id}/turns", data={"input": "Go"}, headers=STREAM, buffered=False
    )
    with closing(response):
        told = b""
        for piece in response.response:
            told += piece if isinstance(piece, bytes) else piece.encode()
            if told.count(b"event: delta") >= 3:
                break
    assert upstream.requests[-1].client_gone.wait(2)
    turn = last_turn(rolebook, session_id)
    assert turn.status == "cancelled"
    assert turn.text


def test_a_reader_who_never_reads_cancels_the_turn_too(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("long", "ok?tokens=400&delay_ms=10")
    session_id = start(client, model="long")
    client.post(
        f"/sessions/{session_id}/turns", data={"input": "Go"}, headers=STREAM, buffered=False
    ).close()
    assert upstream.requests[-1].client_gone.wait(2)
    assert last_turn(rolebook, session_id).status == "cancelled"


def test_stop_ends_a_running_turn_at_once(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("silent", "hang-mid")
    session_id = start(client, model="silent")
    told: list[bytes] = []
    runner = threading.Thread(target=lambda: told.append(ask(client, session_id).data))
    runner.start()
    upstream.wait_for(lambda: [turn for turn in turns_of(rolebook, session_id) if turn.id])
    turn_id = turns_of(rolebook, session_id)[0].id
    other = client.application.test_client()
    assert "Being answered…" in shown(other, session_id)
    upstream.wait_for(lambda: rolebook.chat.cancel(turn_id))
    runner.join(5)
    assert events(told)[-1][0] == "end"
    assert rolebook.log.get_turn(turn_id).status == "cancelled"
    stopped = other.post(f"/turns/{turn_id}/stop", headers=JSON).get_json()
    assert stopped == {"stopped": False}
    back = other.post(f"/turns/{turn_id}/stop", headers=HTML)
    assert back.location == f"/sessions/{session_id}#turn-1"


def test_try_again_keeps_both_answers_and_one_counts(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=First words,ok?text=Second words,ok?text=Third words")
    session_id = start(client, input="Why?")
    say(client, session_id, "Why?", position="1")
    page = shown(client, session_id)
    assert "First words" in page
    assert "Second words" in page
    assert page.count("Why?</p>") == 1
    first = turns_of(rolebook, session_id)[0]
    chosen = client.post(f"/turns/{first.id}/choose", data={"index": "0"}, headers=HTML)
    assert chosen.location == f"/sessions/{session_id}#turn-1"
    say(client, session_id, "Go on")
    sent = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert "First words" in sent
    assert "Second words" not in sent


def test_an_edited_input_stands_beside_the_first(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, input="Why is it blue?")
    say(client, session_id, "Why is it red?", position="1", **{"s-temperature": "0.1"})
    page = shown(client, session_id)
    assert "Why is it blue?</p>" in page
    assert "Why is it red?</p>" in page
    assert last_turn(rolebook, session_id).parameters_sent["temperature"] == 0.1


def test_only_the_last_turn_can_be_tried_again(client: FlaskClient) -> None:
    session_id = start(client, input="One")
    say(client, session_id, "Two")
    assert_error(ask(client, session_id, "One", position="1"), 409, "conflict")


def test_alternatives_stand_side_by_side_and_one_is_chosen(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("two", "n2")
    session_id = start(client, input="Why?", model="two", **{"s-n": "2"})
    turn = last_turn(rolebook, session_id)
    assert len(turn.choices) == 2
    page = shown(client, session_id)
    assert "Answer 2" in page
    assert page.count("Go on from this one") == 1
    piece = client.post(f"/turns/{turn.id}/choose", data={"index": "1"}, headers=JSON).get_json()
    assert "Answer 1" in piece["html"]
    assert last_turn(rolebook, session_id).chosen == 1
    wrong = client.post(f"/turns/{turn.id}/choose", data={"index": "7"}, headers=JSON)
    assert_error(wrong, 400, "invalid_input")
    wrong = client.post(f"/turns/{turn.id}/choose", data={"index": "x"}, headers=JSON)
    assert_error(wrong, 400, "invalid_request")


def test_a_fork_goes_on_from_its_turn_and_leaves_the_first_session_alone(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    session_id = start(client, input="One", **{"v-subject": "light"})
    say(client, session_id, "Two")
    first = turns_of(rolebook, session_id)[0]
    response = client.post(f"/turns/{first.id}/fork", headers=HTML)
    fork_id = response.location.rpartition("/")[2].removesuffix("#composer")
    page = shown(client, fork_id)
    assert "One</p>" in page
    assert "Two</p>" not in page
    say(client, fork_id, "Three")
    sent = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert sent[-3:] == ["One", first.text, "Three"]
    assert "light" in sent[0]
    assert len(turns_of(rolebook, session_id)) == 2


def test_a_fork_of_a_role_without_a_file_keeps_its_words(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    session_id = start(client, system="You are {{ not }} a template.", input="One")
    page = shown(client, session_id)
    turn_id = page.partition('data-turn="')[2].partition('"')[0]
    fork_id = client.post(f"/turns/{turn_id}/fork").location.rpartition("/")[2].partition("#")[0]
    say(client, fork_id, "Two")
    system = upstream.requests[-1].body["messages"][0]["content"]
    assert system == "You are {{ not }} a template."


@pytest.mark.parametrize("model", ["ok", "gpt-5-mini"])
def test_the_request_is_shown_as_it_was_sent(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream, model: str
) -> None:
    session_id = start(client, input='Why "blue" <b>\u202e?', model=model)
    turn = last_turn(rolebook, session_id)
    raw = client.get(f"/turns/{turn.id}/request?format=json", headers=HTML)
    assert raw.mimetype == "application/json"
    assert raw.headers["Content-Disposition"].startswith("attachment")
    assert raw.get_json() == client.get(f"/turns/{turn.id}/request", headers=JSON).get_json()
    sent = dict(upstream.requests[-1].body)
    shown_body = raw.get_json()
    if model == "ok":
        assert shown_body == sent
    page = client.get(f"/turns/{turn.id}/request", headers=HTML).text
    assert 'aria-current="true">Sessions<' in page
    assert "\u202e" not in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_what_was_sent_otherwise_than_requested_is_said(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = start(client, input="Why?", model="gpt-5-mini")
    turn = last_turn(rolebook, session_id)
    assert turn.adaptations
    assert "temperature: asked 0.7, sent –" in shown(client, session_id)
    page = client.get(f"/turns/{turn.id}/request", headers=HTML).text
    assert "Not everything went as asked for" in page
    assert "temperature was left out, because the model refuses it." in page


def test_answers_that_did_not_come_are_said(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, input="Why?", model="n-ignored", **{"s-n": "2"})
    said = "Asked for 2 answers, the server gave 1."
    assert said in shown(client, session_id)
    page = client.get(f"/turns/{last_turn(rolebook, session_id).id}/request", headers=HTML).text
    assert said in page


def test_the_reply_is_shown_as_it_came(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, input="Why?")
    turn = last_turn(rolebook, session_id)
    raw = client.get(f"/turns/{turn.id}/reply", headers=JSON).get_json()
    assert raw == turn.reply
    assert raw["choices"][0]["message"]["content"] == turn.text


def test_a_turn_that_failed_shows_what_is_known(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("bad", "401")
    turn = last_turn(rolebook, start(client, input="Why?", model="bad"))
    page = client.get(f"/turns/{turn.id}/reply", headers=HTML).text
    assert "No whole reply came" in page
    page = client.get(f"/turns/{turn.id}/request", headers=HTML).text
    assert "this is what was to be sent" in page
    assert "Why?" in page


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("length", "the longest answer allowed is reached"),
        ("content-filter", "content filter"),
        ("tool-calls", "get_weather"),
        ("refusal", "The model refuses:"),
        ("reasoning", "Its reasoning"),
        ("empty-text", "The model answered with nothing."),
        ("no-finish", "ended the answer without saying why"),
        ("no-usage", "tokens –"),
        ("bidi", "⟨U+202E⟩"),
        ("ansi", "␛[2J"),
        ("nul", "before␀after␀"),
    ],
)
def test_odd_answers_are_shown_as_what_they_are(
    client: FlaskClient, upstream: FakeUpstream, model: str, words: str
) -> None:
    upstream.model_rule("odd", model)
    assert words in shown(client, start(client, input="Why?", model="odd"))


def test_dropped_turns_are_said(client: FlaskClient, rolebook: Rolebook) -> None:
    path = rolebook.library.personas_dir / "plain.yaml"
    path.write_text(path.read_text("utf-8") + "context: {turns: 1}\n", "utf-8")
    session_id = start(client, persona="plain", input="One")
    say(client, session_id, "Two")
    say(client, session_id, "Three")
    assert "the oldest turn was not sent" in shown(client, session_id)


def test_an_answer_that_cannot_be_logged_is_shown_all_the_same_and_counted(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    session_id = start(client, input="One")
    with closing(sqlite3.connect(rolebook.log.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        end = events([ask(client, session_id, "Two").data])[-1]
        assert end[0] == "end"
        assert "Echo: Two" in end[1]["html"]
        assert "1 turn is not logged yet" in end[1]["sums"]
        assert "1 turn is not in the log yet" in shown(client, session_id)
    upstream.wait_for(lambda: not rolebook.log.unwritten, timeout_s=5)
    assert "not logged yet" not in shown(client, session_id)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/turns/nope"),
        ("GET", "/turns/nope/request"),
        ("GET", "/turns/nope/reply"),
        ("POST", "/turns/nope/choose"),
        ("POST", "/turns/nope/fork"),
    ],
)
def test_an_unknown_turn_is_not_found(client: FlaskClient, method: str, path: str) -> None:
    assert_error(client.open(path, method=method, headers=JSON), 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/sessions", "/sessions/x/turns", "/turns/x/stop", "/turns/x/fork", "/sessions/delete"]
)
def test_another_site_can_change_nothing(
    client: FlaskClient, upstream: FakeUpstream, path: str
) -> None:
    response = client.post(path, data={"input": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 403
    assert upstream.requests == []


def test_a_server_that_asks_to_wait_is_passed_on_as_retry_after(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    upstream.model_rule("busy", "429?retry_after=7")
    response = ask(client, start(client, model="busy"))
    assert_error(response, 429, "upstream_rate")
    assert response.headers["Retry-After"] == "7"


def test_the_turn_that_a_fork_goes_on_from_can_be_tried_again_there(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = start(client, input="One")
    say(client, session_id, "Two")
    first = turns_of(rolebook, session_id)[0]
    fork_id = client.post(f"/turns/{first.id}/fork").location.rpartition("/")[2].partition("#")[0]
    page = shown(client, fork_id)
    assert f'href="/sessions/{session_id}"' in page
    assert "Try again" in page
    say(client, fork_id, "One, edited", position="1")
    (again,) = [turn for turn in turns_of(rolebook, fork_id) if turn.session_id == fork_id]
    assert (again.position, again.status, again.input) == (1, "complete", "One, edited")
    assert [turn.id for turn in rolebook.log.history(fork_id)] == [again.id]


def test_an_upstream_that_stands_in_is_named_under_its_answer_and_in_the_log(
    make_rolebook: MakeRolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    with FakeUpstream() as second:
        (library_dir / "rolebook.yaml").write_text(
            f"upstreams:\n  work: {{base_url: {upstream.base_url}, model: large, attempts: 1,"
            " fallbacks: [{upstream: spare, model: ok}]}\n"
            f"  spare: {{base_url: {second.base_url}}}\n"
            "prices:\n  ok: {input: 1000000, output: 0}\n"
        )
        upstream.model_rule("large", "503?retry_after_ms=1")
        rolebook = make_rolebook()
        client = create_app(rolebook).test_client()
        session_id = start(client)
        page = say(client, session_id, "Hi") and shown(client, session_id)

        turn = last_turn(rolebook, session_id)
        assert (turn.status, turn.upstream, turn.upstream_requested) == (
            "complete",
            "spare",
            "work",
        )
        assert (turn.model_requested, turn.model) == ("large", "ok")
        assert turn.cost == turn.usage.prompt_tokens
        assert "spare answered with ok, because work failed." in page
        request = client.get(f"/turns/{turn.id}/request", headers=HTML).text
        assert "spare, for work" in request
        assert ">spare<" in client.get("/status").text


def test_an_upstream_stands_in_for_one_whose_models_nobody_knows(
    make_rolebook: MakeRolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    """Neither persona nor settings name a model, and the server that would know its own is away."""
    (library_dir / "rolebook.yaml").write_text(
        "upstreams:\n  work: {base_url: 'http://127.0.0.1:9/v1', attempts: 1, fallbacks: spare}\n"
        f"  spare: {{base_url: {upstream.base_url}}}\n"
    )
    rolebook = make_rolebook()
    client = create_app(rolebook).test_client()
    session_id = start(client)
    page = say(client, session_id, "Hi") and shown(client, session_id)

    turn = last_turn(rolebook, session_id)
    assert ("complete", "spare", "work") == (turn.status, turn.upstream, turn.upstream_requested)
    assert ("", "ok") == (turn.model_requested, turn.model)
    assert "spare answered with ok, because work could not be reached." in page


def test_a_failed_turn_names_the_model_that_was_asked(
    make_rolebook: MakeRolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    """Also where only the server knows its default, once it has said so."""
    (library_dir / "rolebook.yaml").write_text(
        f"upstreams:\n  work: {{base_url: {upstream.base_url}, attempts: 1}}\n"
    )
    rolebook = make_rolebook()
    client = create_app(rolebook).test_client()
    session_id = start(client)
    say(client, session_id, "One")
    upstream.model_rule("ok", "503?retry_after_ms=1")
    say(client, session_id, "Two")

    turns = turns_of(rolebook, session_id)
    assert [("complete", "ok"), ("failed", "ok")] == [
        (turn.status, turn.model_requested) for turn in turns
    ]
