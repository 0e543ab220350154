"""Sessions as plain pages: every form works without a script."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rolebook.core.chat import TurnEnded, TurnRequest
from rolebook.core.completion import Choice
from rolebook.core.session import Turn
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_error

HTML = {"Accept": "text/html"}
JSON = {"Accept": "application/json"}


def start(client: FlaskClient, **fields: str) -> str:
    """The id of a new session with the teacher, or with what the fields say."""
    given = fields if "system" in fields else {"persona": "teacher", **fields}
    response = client.post("/sessions", data=given, headers=HTML)
    assert response.status_code == 303, response.text
    return response.location.rpartition("/")[2]


def say(client: FlaskClient, session_id: str, text: str, **fields: str) -> TestResponse:
    return client.post(
        f"/sessions/{session_id}/turns", data={"input": text, **fields}, headers=HTML
    )


def turns_of(rolebook: Rolebook, session_id: str) -> list[Turn]:
    return list(rolebook.log.session_turns(session_id))


def shown(client: FlaskClient, session_id: str) -> str:
    response = client.get(f"/sessions/{session_id}")
    assert response.status_code == 200
    return response.text


def test_start_answers_what_was_said_first(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, input="Why?", **{"v-subject": "light", "s-temperature": "0.2"})
    page = shown(client, session_id)
    assert "Why?" in page
    assert "Hello! What about light shall we look at?" in page
    turn = turns_of(rolebook, session_id)[0]
    assert turn.status == "complete"
    assert turn.parameters_sent["temperature"] == 0.2
    assert turn.text in page


def test_text_that_is_no_unicode_keeps_no_page_from_being_shown(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = start(client, input="Why?")
    turn = turns_of(rolebook, session_id)[0]
    rolebook.log.finish_turn(replace(turn, choices=(Choice("half \ud83d", "st\ud800p"),)))
    events = rolebook.chat.stream_turn(TurnRequest(session_id, "from a command line \udcff"))
    assert isinstance(list(events)[-1], TurnEnded)
    page = shown(client, session_id)
    assert "from a command line \ufffd" in page
    assert "st\ufffdp" in page


def test_start_without_words_calls_nobody_and_offers_starters(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    session_id = start(client)
    assert "Explain prime numbers" in shown(client, session_id)
    assert upstream.requests == []


def test_a_script_gets_the_address_and_runs_the_turn_itself(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    response = client.post("/sessions", json={"persona": "teacher", "input": "Why?"}, headers=JSON)
    assert response.status_code == 201
    assert re.fullmatch(r"/sessions/[0-9a-z]{18}", response.get_json()["url"])
    assert upstream.requests == []


def test_a_wrong_variable_shows_the_form_again_with_what_was_typed(client: FlaskClient) -> None:
    fields = {"persona": "teacher", "v-level": "genius", "input": "Keep these words"}
    response = client.post("/sessions", data=fields, headers=HTML)
    assert response.status_code == 400
    assert "Keep these words" in response.text
    assert_error(
        client.post("/sessions", data=fields, headers=JSON), 400, "invalid_variable", param="level"
    )


def test_a_role_of_ones_own_is_saved_as_a_persona(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, system="You are a gruff captain. {{ literally }}", input="Ahoy")
    url = f"/sessions/{session_id}/persona"
    response = client.post(url, data={"id": "captain", "name": "The captain"}, headers=HTML)
    assert response.location == "/personas/captain"
    saved = rolebook.library.get_persona("captain")
    assert saved.persona.name == "The captain"
    again = start(client, persona="captain", input="Ahoy")
    said = [rolebook.log.get_turn(turns_of(rolebook, id)[0].id) for id in (session_id, again)]
    assert said[0].messages[0].content == "You are a gruff captain. {{ literally }}"
    assert said[0].messages == said[1].messages


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"id": "teacher", "name": "X"}, 409),
        ({"id": "../x", "name": "X"}, 400),
        ({"id": "fine", "name": " "}, 400),
    ],
)
def test_a_persona_that_cannot_be_saved_says_why_and_keeps_the_form(
    client: FlaskClient, fields: dict[str, str], status: int
) -> None:
    session_id = start(client, system="You are a gruff captain.")
    response = client.post(f"/sessions/{session_id}/persona", data=fields, headers=HTML)
    assert response.status_code == status
    assert f'value="{fields["id"]}"' in response.text
    assert client.get(f"/sessions/{session_id}/persona").location == f"/sessions/{session_id}"


def test_title_star_and_tags_are_kept_and_shown(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, input="Why?")
    client.post(f"/sessions/{session_id}/title", data={"title": " Of  light <b> "})
    client.post(f"/sessions/{session_id}/star", data={"starred": "1"})
    client.post(f"/sessions/{session_id}/tags", data={"tags": "physics，sky, physics, "})
    session = rolebook.log.get_session(session_id)
    assert (session.title, session.is_starred) == ("Of light <b>", True)
    assert set(session.tags) == {"physics", "sky"}
    page = shown(client, session_id)
    assert "Of light &lt;b&gt;" in page
    assert "#physics" in page
    client.post(f"/sessions/{session_id}/star", data={"starred": ""})
    assert not rolebook.log.get_session(session_id).is_starred


def test_deleted_sessions_can_be_taken_back_at_once_and_later(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    ids = [start(client, input=f"Question {i}") for i in range(2)]
    response = client.post(
        "/sessions/delete", data={"id": ids, "next": "/sessions?tag=x&deleted=y"}
    )
    assert response.location == f"/sessions?tag=x&deleted={'%2C'.join(ids)}"
    page = client.get(f"/sessions?deleted={','.join(ids)}").text
    assert "2 sessions are in the trash now." in page
    assert "Question 0" not in page
    assert "Restore it" in shown(client, ids[0])
    assert "Question 0" in client.get("/sessions?trash=1").text
    client.post("/sessions/restore", data={"id": ids})
    assert rolebook.log.get_session(ids[0]).deleted_at == ""
    assert "Question 0" in client.get("/sessions").text


def test_delete_goes_on_nowhere_else(client: FlaskClient) -> None:
    response = client.post("/sessions/delete", data={"id": "x", "next": "//evil.example"})
    assert response.location == "/"


def test_the_page_says_that_the_persona_has_changed_since(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = start(client, input="Why?")
    notice = "Teacher has changed since"
    assert notice not in shown(client, session_id)
    path = rolebook.library.personas_dir / "teacher.yaml"
    path.write_text(path.read_text("utf-8").replace("patient", "strict"), "utf-8")
    assert notice in shown(client, session_id)
    say(client, session_id, "And now?")
    page = shown(client, session_id)
    assert notice not in page
    assert "From here on with a newer version of Teacher." in page


def test_a_session_outlives_its_persona(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, input="Why?")
    (rolebook.library.personas_dir / "teacher.yaml").unlink()
    assert "Why?" in shown(client, session_id)
    say(client, session_id, "Still there?")
    assert [turn.status for turn in turns_of(rolebook, session_id)] == ["complete"] * 2


def test_a_session_follows_its_persona_to_its_new_name(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = start(client, input="Why?")
    client.post("/library/personas/teacher/rename", data={"id": "tutor"})
    path = rolebook.library.personas_dir / "tutor.yaml"
    path.write_text(path.read_text("utf-8").replace("patient", "strict"), "utf-8")
    page = shown(client, session_id)
    assert "has changed since" in page
    links = set(re.findall(r'href="([^"]*(?:/personas/|variant=)[^"]*)"', page))
    assert "/personas/tutor" in links
    assert not [link for link in links if "teacher" in link]
    assert [200] * len(links) == [client.get(unescape(link)).status_code for link in links]
    say(client, session_id, "And now?")
    (first, second) = turns_of(rolebook, session_id)
    assert ("patient", "strict") == tuple(
        rolebook.log.get_turn(turn.id).messages[0].content.split()[3] for turn in (first, second)
    )
    fork = client.post(f"/turns/{first.id}/fork").location
    forked = rolebook.log.get_session(re.findall("[0-9a-z]{18}", fork)[0])
    assert "tutor" == forked.persona_id


def test_a_reader_of_chinese_sees_the_persona_in_its_own_language(client: FlaskClient) -> None:
    session_id = start(client, persona="friend")
    page = client.get(f"/sessions/{session_id}", headers={"Accept-Language": "zh"}).text
    assert '<html lang="zh-Hans"' in page
    assert "来啦。今天想聊点什么？" in page


def test_an_empty_log_says_what_the_place_is_for(client: FlaskClient) -> None:
    assert "Choose who to talk to" in client.get("/sessions").text
    assert "The trash is empty." in client.get("/sessions?trash=1").text


def test_the_list_shows_what_each_session_took(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = start(client, input="Why is the sky blue?")
    say(client, session_id, "And red?")
    page = client.get("/sessions").text
    row = page[page.index("<tbody>") : page.index("</tbody>")]
    total = sum(turn.usage.total_tokens or 0 for turn in turns_of(rolebook, session_id))
    assert "Why is the sky blue?" in row
    assert ">Teacher</a>" in row
    assert f">{total}</td>" in row
    assert ">2</td>" in row
    assert ">–<" in row


def test_search_marks_what_it_finds_and_shows_the_lines_around(client: FlaskClient) -> None:
    start(client, input="one\ntwo\nthree\nneedle <b>\nfive\nsix\nseven")
    start(client, input="nothing here")
    page = client.get("/sessions?q=needle").text
    assert "<mark>needle</mark> &lt;b&gt;" in page
    assert "two\nthree\n<mark>" in page
    assert "five\nsix</p>" in page
    assert "nothing here" not in page
    assert "No session matches." in client.get("/sessions?q=absent").text


def test_search_finds_two_chinese_characters(client: FlaskClient) -> None:
    start(client, persona="friend", input="我最近总是失眠")
    assert "<mark>失眠</mark>" in client.get("/sessions?q=失眠").text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("persona=friend", {"聊天"}),
        ("model=other", {"Other model"}),
        ("tag=kept", {"Plain one"}),
        ("status=failed", {"Failing"}),
        ("starred=1", {"Plain one"}),
        ("since=2999-01-01", set()),
        ("until=2000-01-01", set()),
        ("since=2000-01-01&persona=teacher&model=ok", {"Plain one"}),
        ("q=%22%28%29&persona=%00", set()),
    ],
)
def test_filters_let_through_what_they_say(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream, query: str, found: set[str]
) -> None:
    upstream.model_rule("other", "ok")
    upstream.model_rule("broken", "401")
    plain = start(client, input="Plain one")
    rolebook.log.tag(plain, ["kept"])
    rolebook.log.star(plain)
    start(client, persona="friend", input="聊天")
    start(client, input="Other model", model="other")
    start(client, input="Failing", model="broken")
    page = client.get(f"/sessions?{query}").text
    titles = {"Plain one", "聊天", "Other model", "Failing"}
    assert {title for title in titles if f">{title}</a>" in page} == found


def test_the_list_goes_on_page_by_page(client: FlaskClient) -> None:
    for number in range(43):
        start(client, **{"v-subject": f"subject {number}"})
    first = client.get("/sessions?persona=teacher").text
    assert first.count('name="id"') == 40
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = client.get(older[1].replace("&amp;", "&")).text
    assert second.count('name="id"') == 3
    assert 'rel="next"' not in second


@pytest.mark.parametrize(
    "text", ["<script>window.__pwned=1</script>", '"><img src=x onerror=alert(1)>']
)
def test_what_people_write_is_inert_everywhere(
    client: FlaskClient, rolebook: Rolebook, text: str
) -> None:
    session_id = start(client, input=text, model=text)
    rolebook.log.rename(session_id, text)
    rolebook.log.tag(session_id, [text])
    pages = [f"/sessions/{session_id}", "/sessions", f"/sessions?q={quote(text)}&tag={quote(text)}"]
    turn = turns_of(rolebook, session_id)[0]
    for path in [*pages, f"/turns/{turn.id}/request"]:
        page = client.get(path).text
        assert "<script>window" not in page
        assert "<img" not in page


@pytest.mark.parametrize("path", ["nope", "..%2f..%2fetc", "a%00b", "x" * 300, "%3Cb%3E"])
def test_an_unknown_session_is_not_found(client: FlaskClient, path: str) -> None:
    response = client.get(f"/sessions/{path}", headers=HTML)
    assert response.status_code == 404
    assert "<b>" not in response.text


@pytest.mark.parametrize("change", ["title", "star", "tags", "persona", "turns"])
def test_what_changes_a_session_needs_one(client: FlaskClient, change: str) -> None:
    fields = {"input": "x", "id": "fine", "name": "x"}
    response = client.post(f"/sessions/nope/{change}", data=fields, headers=JSON)
    assert_error(response, 404, "not_found")


def test_rehearsal_costs_nothing_and_says_nothing_of_cost(make_rolebook: MakeRolebook) -> None:
    from rolebook.web.app import create_app

    client = create_app(make_rolebook()).test_client()
    page = shown(client, start(client, input="Hello"))
    assert "rehearsal" in page
    assert "cost –" not in page


def test_what_was_filled_in_is_told_by_the_words_of_the_form(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    path = rolebook.library.personas_dir / "cook.yaml"
    path.write_text(
        "name: Cook\nsystem: s\nvariables:\n  how_many: {default: four}\n  diet: {default: ''}\n"
    )
    page = shown(client, start(client, persona="cook"))
    assert '<span class="meta">How many</span> four' in page
    assert '<span class="meta">Diet</span>' not in page


def test_a_value_that_no_longer_fits_is_told_on_the_page(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    path = rolebook.library.personas_dir / "cook.yaml"
    text = "name: Cook\nsystem: s\ngreeting: Hello\nvariables: {diet: {type: choice, choices: [a, b]}}\n"
    path.write_text(text)
    session_id = start(client, persona="cook", **{"v-diet": "b"})
    path.write_text(text.replace("[a, b]", "[a, c]"))
    assert "The persona has changed since this session began" in shown(client, session_id)


def test_earlier_answers_keep_the_name_that_the_persona_had(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = start(client, persona="plain", input="One")
    path = rolebook.library.personas_dir / "plain.yaml"
    path.write_text(path.read_text("utf-8").replace("Plain assistant", "Renamed"), "utf-8")
    say(client, session_id, "Two")
    speakers = re.findall(r'class="speaker" aria-hidden="true">([^<]+)<', shown(client, session_id))
    assert [name for name in speakers if name != "You"] == ["Plain assistant", "Renamed"]


def test_an_id_is_suggested_for_a_role_of_ones_own(client: FlaskClient) -> None:
    page = shown(
        client, start(client, system="You are a grumpy lighthouse keeper who says little.")
    )
    assert 'value="grumpy-lighthouse-keeper"' in page
