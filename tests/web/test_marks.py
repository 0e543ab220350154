"""What people and checks note on an answer, over HTTP and without script."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from rolebook.core.session import Turn
from rolebook.wiring import Rolebook
from tests.fake_upstream import FakeUpstream
from tests.judging import (
    GENTLE,
    JUDGE_MODEL,
    ONE_QUESTION,
    SHORT,
    add_checks,
    add_judge,
    verdict,
)
from tests.web.checks import assert_error
from tests.web.test_sessions import HTML, JSON, say, shown, start, turns_of


@pytest.fixture
def turn(client: FlaskClient, rolebook: Rolebook) -> Turn:
    """An answer of a persona without checks."""
    session_id = start(client, persona="plain", input="Why?")
    return turns_of(rolebook, session_id)[0]


def test_a_form_marks_an_answer_and_comes_back_to_it(
    client: FlaskClient, rolebook: Rolebook, turn: Turn
) -> None:
    url = f"/turns/{turn.id}/mark"
    for fields in ({"star": "1"}, {"thumb": "-1"}, {"note": "  Too long,\r\nbut kind. "}):
        response = client.post(url, data=fields, headers=HTML)
        assert response.location == f"/sessions/{turn.session_id}#turn-1"
    mark = rolebook.log.marks_of([turn.id])[turn.id]
    assert (mark.is_starred, mark.thumb, mark.note) == (True, -1, "Too long,\nbut kind.")
    page = shown(client, turn.session_id)
    assert 'name="star" value="" aria-pressed="true"' in page
    assert 'name="thumb" value="1" aria-pressed="false"' in page
    assert 'name="thumb" value="0" aria-pressed="true"' in page
    assert "but kind." in page
    client.post(url, data={"star": "", "thumb": "0", "note": " "}, headers=HTML)
    assert rolebook.log.marks_of([turn.id]) == {}


def test_a_script_gets_the_piece_of_the_page(client: FlaskClient, turn: Turn) -> None:
    response = client.post(f"/turns/{turn.id}/mark", json={"star": "1"}, headers=JSON)
    assert f'id="marks-{turn.id}"' in response.get_json()["html"]
    assert 'aria-pressed="true"' in response.get_json()["html"]


def test_a_form_leads_where_it_says_but_never_elsewhere(client: FlaskClient, turn: Turn) -> None:
    url = f"/turns/{turn.id}/mark"
    response = client.post(url, data={"star": "1", "next": "/comparisons"}, headers=HTML)
    assert response.location == "/comparisons"
    response = client.post(url, data={"star": "1", "next": "//evil.example"}, headers=HTML)
    assert response.location == "/"


def test_what_is_no_mark_is_refused(client: FlaskClient, turn: Turn) -> None:
    response = client.post(f"/turns/{turn.id}/mark", data={"thumb": "2"}, headers=JSON)
    assert_error(response, 400, "invalid_request")
    response = client.post("/turns/unknown/mark", data={"star": "1"}, headers=JSON)
    assert_error(response, 404, "not_found")


def test_a_note_is_shown_as_text(client: FlaskClient, turn: Turn) -> None:
    client.post(f"/turns/{turn.id}/mark", data={"note": "<b>x</b>\u202e"}, headers=HTML)
    page = shown(client, turn.session_id)
    assert "&lt;b&gt;x&lt;/b&gt;⟨U+202E⟩" in page


def test_checks_are_told_under_the_answer(client: FlaskClient, library_dir: Path) -> None:
    add_checks(library_dir, ONE_QUESTION, SHORT)
    session_id = start(client, persona="plain", input="Why?")
    assert "2 of 2 checks<" in shown(client, session_id)
    say(client, session_id, "One two three?")
    page = shown(client, session_id)
    assert "1 of 2 checks passed" in page
    assert "The number of words is 4; at most 3 is allowed." in page


def test_rubrics_are_told_with_the_judge_that_decided(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    add_checks(library_dir, GENTLE)
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, verdict("false", "It scolds.") + "&delay_ms=30")
    session_id = start(client, persona="plain", input="Why?")
    page = shown(client, session_id)
    assert "data-judging" in page
    assert "being judged…" in page
    (turn,) = turns_of(rolebook, session_id)
    rolebook.live_checks.wait(turn.id, 5)
    page = shown(client, session_id)
    assert "data-judging" not in page
    assert "It scolds." in page
    judging_id = rolebook.comparisons.judging_turns([turn.id])[turn.id]["gentle"]
    assert f'href="/turns/{judging_id}"' in page
    response = client.get(f"/turns/{judging_id}", headers=HTML)
    judged = client.get(response.location.partition("#")[0]).text
    assert "Here a judge looked at an answer." in judged
    assert f'href="/turns/{turn.id}"' in judged
    assert 'id="composer"' not in judged


def test_rubric_that_nobody_judged_is_told_as_such(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    add_checks(library_dir, GENTLE, SHORT)
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, "hang")
    session_id = start(client, persona="plain", input="Why?")
    rolebook.live_checks.stop()
    page = shown(client, session_id)
    assert "1 of 2 checks passed" in page
    assert "not judged yet" in page
    assert "data-judging" not in page


def test_checks_run_again_when_they_are_asked_for(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path, turn: Turn
) -> None:
    assert "Check this answer" not in shown(client, turn.session_id)
    add_checks(library_dir, SHORT)
    assert "Check this answer" in shown(client, turn.session_id)
    response = client.post(f"/turns/{turn.id}/check", headers=HTML)
    assert response.location == f"/sessions/{turn.session_id}#turn-1"
    page = shown(client, turn.session_id)
    assert "1 of 1 check<" in page
    assert "Check again" in page


def test_answers_that_cannot_be_checked_are_told(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    add_checks(library_dir, SHORT)
    upstream.model_rule("ok", "401")
    session_id = start(client, persona="plain", input="Why?")
    assert "Check this answer" not in shown(client, session_id)
    (turn,) = turns_of(rolebook, session_id)
    assert_error(client.post(f"/turns/{turn.id}/check", headers=JSON), 409, "conflict")


def test_checks_run_again_on_the_alternative_that_is_chosen(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    add_checks(library_dir, "  - {name: first, contains: '[1]'}\n")
    session_id = start(client, persona="plain")
    upstream.model_rule("ok", "n2")
    say(client, session_id, "Why?")
    (turn,) = turns_of(rolebook, session_id)
    texts = [choice.text for choice in turn.choices]
    assert len(texts) == 2
    add_checks(library_dir, f"  - {{name: first, equals: '{texts[0]}'}}\n")
    client.post(f"/turns/{turn.id}/check", headers=HTML)

    def verdict_now() -> bool | None:
        return rolebook.log.results_of_turns([turn.id])[turn.id][0].has_passed

    assert verdict_now() is (turn.text == texts[0])
    client.post(f"/turns/{turn.id}/choose", data={"index": "1"}, headers=HTML)
    assert verdict_now() is (texts[1] == texts[0])


def test_sessions_are_listed_by_the_marks_of_their_answers(client: FlaskClient, turn: Turn) -> None:
    other = start(client, persona="plain", input="Something else")
    client.post(f"/turns/{turn.id}/mark", data={"note": "Kind"}, headers=HTML)
    page = client.get("/sessions?mark=note").text
    assert turn.session_id in page
    assert other not in page
    assert '<option value="note" selected>' in page
