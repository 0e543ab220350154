"""Who gets in, and who sees what: every route, each role, and the ways round that others have found."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rolebook.core.access import LOCAL, Right, Role, caller
from rolebook.core.source import Author, FileKey
from rolebook.web.app import create_app
from rolebook.web.rights import RIGHTS
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.judging import GENTLE, JUDGE_MODEL, add_checks, add_judge, verdict
from tests.web.accounts import PASSWORD, People, program_with
from tests.web.checks import assert_error
from tests.web.test_security import path_of

JSON = {"Accept": "application/json"}
CHINESE = {"Accept-Language": "zh"}


@pytest.fixture
def people(app: Flask, rolebook: Rolebook) -> People:
    """Chen administers, Ada and Bo read and write."""
    found = People(app, rolebook)
    found.add("Chen", "administrator")
    found.add("Ada", "reader")
    found.add("Bo", "author")
    return found


def begin(client: FlaskClient, text: str = "Why is the sky blue?", persona: str = "teacher") -> str:
    """The id of a session with one answered turn."""
    response = client.post("/sessions", json={"persona": persona}, headers=JSON)
    assert response.status_code == 201, response.text
    session_id = response.get_json()["url"].rpartition("/")[2]
    asked = client.post(f"/sessions/{session_id}/turns", json={"input": text}, headers=JSON)
    assert asked.status_code == 303, asked.text
    return str(session_id)


def routes(app: Flask) -> Iterator[tuple[str, str, str]]:
    """Method, path and endpoint of every route."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            yield method, path_of(rule), rule.endpoint


def test_every_route_says_what_it_asks_for(app: Flask) -> None:
    known = {rule.endpoint for rule in app.url_map.iter_rules()}
    undeclared = sorted(known - RIGHTS.keys())
    assert [] == undeclared, "say in rolebook/web/rights.py who may use these routes"
    assert [] == sorted(RIGHTS.keys() - known)


def test_nothing_but_the_door_is_open_to_who_has_not_logged_in(
    people: People, client: FlaskClient, upstream: FakeUpstream
) -> None:
    before = people.rolebook.log.database_status()
    asked = len(upstream.requests)
    for method, path, endpoint in routes(people.app):
        page = client.open(path, method=method, headers={"Accept": "text/html"})
        program = client.open(path, method=method, headers=JSON)
        if endpoint == "logins.log_in":
            assert "do not belong together" in page.text
        elif RIGHTS[endpoint] is Right.OPEN:
            assert page.status_code not in {401, 403}, (method, path)
        elif page.mimetype == "application/json":
            assert_error(page, 401, "invalid_api_key")
        elif method == "GET":
            assert (303, f"/login?next={path}") == (
                page.status_code,
                page.headers["Location"].replace("%2F", "/"),
            ) or path == "/", (method, path)
            assert_error(program, 401, "invalid_api_key")
        else:
            assert 401 == page.status_code, (method, path)
            assert "/login" in page.text
            assert_error(program, 401, "invalid_api_key")
            assert "Bearer" == program.headers["WWW-Authenticate"]
    assert before == people.rolebook.log.database_status()
    assert asked == len(upstream.requests)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("Ada", {Right.LOOK, Right.TALK, Right.ACCOUNT}),
        ("Bo", set(Right) - {Right.ADMINISTER, Right.OPERATE, Right.WATCH}),
        ("Chen", set(Right)),
    ],
)
def test_each_role_gets_as_far_as_its_rights(
    people: People, name: str, allowed: set[Right]
) -> None:
    browser = people.known[name].browser
    for method, path, endpoint in routes(people.app):
        if RIGHTS[endpoint] is Right.OPEN or endpoint == "logins.log_out":
            continue
        response = browser.open(path, method=method, headers=JSON)
        is_refused = response.status_code == 403
        assert is_refused is (RIGHTS[endpoint] not in allowed), (method, path, response.text)


def test_a_key_of_an_administrator_looks_after_upstreams(people: People) -> None:
    program = people.program("Chen")
    for method, path, endpoint in routes(people.app):
        if RIGHTS[endpoint] is Right.OPERATE:
            response = program.open(path, method=method, headers=JSON)
            assert 403 != response.status_code, (method, path, response.text)
    for path in ("/metrics", "/api/v1/upstreams/one/models"):
        refused = people.known["Bo"].browser.get(path, headers=JSON)
        assert "This is for administrators." in refused.text, path


def test_without_users_nothing_is_asked_of_anybody(client: FlaskClient) -> None:
    odd = {"Authorization": "Bearer sk-whatever", "Cookie": "rolebook-login=x"}
    for path in ("/", "/sessions", "/status", "/account", "/users"):
        response = client.get(path, headers=odd)
        assert response.status_code == 200, path
    assert client.get("/login?next=/status").headers["Location"] == "/status"
    assert "rolebook users add" in client.get("/account").text
    refused = client.post(
        "/users", data={"name": "Eve", "role": "administrator", "password": PASSWORD}
    )
    assert refused.status_code == 404


def test_login_is_needed_as_soon_as_there_is_a_user(
    rolebook: Rolebook, client: FlaskClient, app: Flask
) -> None:
    assert client.get("/").status_code == 200
    People(app, rolebook).add("Chen", "administrator")
    assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    ("login", "is_exposed", "has_user", "status"),
    [
        ("auto", False, False, 200),
        ("auto", False, True, 303),
        ("auto", True, False, 303),
        ("always", False, False, 303),
        ("never", False, True, 200),
    ],
)
def test_setting_says_whether_people_log_in(
    make_rolebook: MakeRolebook, login: str, is_exposed: bool, has_user: bool, status: int
) -> None:
    book = make_rolebook(login=login)
    app = create_app(book, is_exposed=is_exposed)
    if has_user:
        People(app, book).add("Chen", "administrator")
    assert status == app.test_client().get("/").status_code


@pytest.mark.parametrize("setting", [{"proxies": "1"}, {"host_names": "roles.example"}])
def test_pages_that_others_reach_are_open_to_nobody_before_there_is_a_user(
    make_rolebook: MakeRolebook, setting: dict[str, str]
) -> None:
    client = create_app(make_rolebook(**setting)).test_client()
    assert 303 == client.get("/sessions").status_code
    said = {"model": "teacher", "messages": [{"role": "user", "content": "Why?"}]}
    assert_error(client.post("/v1/chat/completions", json=said), 401, "invalid_api_key")


def test_last_user_cannot_remove_themselves_and_so_open_the_door(
    people: People, client: FlaskClient
) -> None:
    chen = people.known["Chen"].browser
    for name in ("Ada", "Bo"):
        assert 303 == chen.post("/users/remove", data={"name": name}).status_code
    assert "only user" in chen.post("/users/remove", data={"name": "Chen"}).text
    assert 303 == client.get("/sessions").status_code


def test_door_without_anybody_who_could_come_in_says_what_to_do(
    make_rolebook: MakeRolebook,
) -> None:
    client = create_app(make_rolebook(), is_exposed=True).test_client()
    assert "rolebook users add NAME --role administrator" in client.get("/login").text


def test_each_sees_their_own_sessions_and_an_administrator_all(people: People) -> None:
    sessions = {name: begin(people.known[name].browser, f"Ask {name}") for name in people.known}
    for name, somebody in people.known.items():
        seen = set(sessions) if name == "Chen" else {name}
        listed = somebody.browser.get("/sessions").text
        found = somebody.browser.get("/sessions?q=Ask").text
        exported = somebody.browser.get("/sessions/export?all=1&format=jsonl").text
        assert seen == {other for other, id in sessions.items() if id in listed}
        assert seen == {other for other, id in sessions.items() if id in found}
        assert seen == {other for other, id in sessions.items() if id in exported}


def test_id_of_somebody_else_is_answered_like_one_that_does_not_exist(people: People) -> None:
    session_id = begin(people.known["Ada"].browser)
    turn_id = people.rolebook.log.last_turn(session_id).id
    nothing = "0" * 18
    browser = people.known["Bo"].browser
    for rule in people.app.url_map.iter_rules():
        if not {"session_id", "turn_id"} & rule.arguments:
            continue
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            answers = []
            for ids in ({"session_id": session_id, "turn_id": turn_id}, {}):
                values = {name: ids.get(name, nothing) for name in rule.arguments}
                path = rule.build(values, append_unknown=False)[1]  # type: ignore[index]
                response = browser.open(
                    path, method=method, headers=JSON, json=_body_for(rule.endpoint, method)
                )
                text = re.sub(f"{session_id}|{turn_id}|{nothing}", "ID", response.text)
                location = response.headers.get("Location", "")
                answers.append(
                    (response.status_code, text, re.sub(f"{session_id}|{nothing}", "ID", location))
                )
            assert answers[0] == answers[1], (method, rule.rule)
            assert answers[0][0] in {303, 404}, (method, rule.rule, answers[0])
    assert 1 == len(people.rolebook.log.session_turns(session_id))


#: Something for every route that takes a form.
BODY = {
    "input": "x",
    "title": "x",
    "starred": "1",
    "tags": "x",
    "star": "1",
    "name": "X",
    "id": "x",
}
#: What the operations of the API need beyond nothing.
NEEDED: dict[str, dict[str, str]] = {
    "api.create_turn": {"input": "x"},
    "api.save_session_persona": {"id": "x", "name": "X"},
    "api.change_comparison": {"question": "Mine"},
    "api.cast_vote": {"vote": "tie"},
}


def _body_for(endpoint: str, method: str) -> dict[str, str] | None:
    if method in {"GET", "DELETE"}:
        return None
    return NEEDED.get(endpoint, {}) if endpoint.startswith("api.") else BODY


def test_ids_in_a_form_or_an_address_are_looked_up_within_reach(people: People) -> None:
    ada, bo = people.known["Ada"].browser, people.known["Bo"].browser
    session_id = begin(ada)
    own = begin(bo)
    bo.post("/sessions/delete", data={"id": session_id})
    assert session_id in ada.get("/sessions").text
    assert bo.get(f"/sessions/export?id={session_id}").status_code == 404
    turn_id = people.rolebook.log.last_turn(own).id
    forked = bo.post(f"/turns/{turn_id}/fork", data={"session": session_id})
    assert forked.status_code == 404
    assert bo.get(f"/comparisons/new?session={session_id}").status_code == 404


def test_comparison_of_somebody_else_does_not_exist(people: People) -> None:
    bo, chen = people.known["Bo"].browser, people.known["Chen"].browser
    people.add("Di", "author")
    di = people.known["Di"].browser
    plan = {
        "question": "Which one?",
        "variant-0-persona": "teacher",
        "variant-1-persona": "plain",
        "lines": "Why?",
        "repeats": "1",
        "concurrency": "1",
    }
    created = bo.post("/comparisons", data=plan)
    assert created.status_code == 303, created.text
    path = created.headers["Location"]
    comparison_id = path.rpartition("/")[2]
    book = people.rolebook
    book.compare.wait_all(20)
    assert [200, 200, 404] == [b.get(path).status_code for b in (bo, chen, di)]
    assert [True, True, False] == [
        comparison_id in b.get("/comparisons").text for b in (bo, chen, di)
    ]
    for rule in people.app.url_map.iter_rules():
        if "comparison_id" in rule.arguments:
            values = {name: "x" for name in rule.arguments} | {"comparison_id": comparison_id}
            target = rule.build(values, append_unknown=False)[1]  # type: ignore[index]
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
                is_api = rule.endpoint.startswith("api.")
                sent: dict[str, Any] = (
                    {"json": _body_for(rule.endpoint, method)}
                    if is_api
                    else {"data": {"question": "Mine"}}
                )
                refused = di.open(target, method=method, **sent)
                assert refused.status_code in {303, 404}, (method, target, refused.status_code)
    di.post("/comparisons/delete", data={"id": comparison_id})
    kept = book.comparisons.get_comparison(comparison_id)
    assert ("Which one?", "") == (kept.question, kept.deleted_at)
    turns = [cell.turns[0].id for cell in book.comparisons.cells(kept)]
    assert 2 == len(turns)
    assert [200, 404] == [b.get(f"/turns/{turns[0]}/request").status_code for b in (bo, di)]


def test_stream_is_of_whom_it_is_for(people: People) -> None:
    begin(people.known["Ada"].browser, "Of Ada")
    with people.known["Bo"].browser.get("/sessions/export?all=1&format=jsonl") as response:
        assert "Of Ada" not in response.text
    assert caller() is LOCAL


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer rb-wrong",
        "Bearer ' OR '1'='1' --",
        "Bearer rb-" + "x" * 1_000_000,
        "Bearer rb-密钥",
        "Basic QWRhOmNvcnJlY3QgaG9yc2U=",
        "rb-wrong",
    ],
    ids=lambda header: header[:20].encode("unicode_escape").decode() or "empty",
)
def test_token_that_is_no_keys_is_refused_in_the_shape_of_openai(
    people: People, client: FlaskClient, header: str
) -> None:
    client.environ_base["HTTP_AUTHORIZATION"] = header.encode().decode("latin-1")
    assert_error(client.get("/sessions", headers=JSON), 401, "invalid_api_key")
    # A cookie beside it makes it no better.
    browser = people.known["Ada"].browser
    response = browser.get(
        "/sessions", headers={"Authorization": header.encode().decode("latin-1")}
    )
    assert response.status_code in {303, 401}


def test_wrong_tokens_take_the_same_time(people: People) -> None:
    """Time of this thread's own: that of the clock is also the other programs'."""
    key, token = people.rolebook.accounts.create_key(people.known["Ada"].user, "x")
    people.rolebook.accounts.revoke_key(key)
    near = token[:-1] + ("a" if token[-1] != "a" else "b")
    times: dict[str, list[float]] = {token: [], near: [], "rb-x": [], "' OR 1=1": []}
    clients = {wrong: program_with(people.app, wrong) for wrong in times}
    for _ in range(15):
        for wrong, client in clients.items():
            began = time.thread_time()
            assert client.get("/sessions").status_code == 401
            times[wrong].append(time.thread_time() - began)
    least = [min(taken) for taken in times.values()]
    assert max(least) / min(least) < 2


def test_key_is_told_whether_it_is_the_key_or_its_user_that_may_not(people: People) -> None:
    plan = {"variants": [{"persona": "teacher"}], "inputs": [{"input": "x"}]}
    for program, reason in (
        (people.program("Ada"), "This is for authors."),
        (people.program("Ada", "teacher"), "This API key is not for that"),
        (people.program("Bo", "teacher"), "This API key is not for that"),
    ):
        response = program.post("/api/v1/plan", json=plan)
        assert_error(response, 403, "forbidden")
        assert reason in response.text
    refused = people.program("Ada").get("/api/v1/upstreams/one/models")
    assert "This is for administrators." in refused.text
    refused = people.program("Chen").get("/users")
    assert "This API key is not for that" in refused.text


def test_key_goes_in_one_header_only(people: People, client: FlaskClient) -> None:
    _, token = people.rolebook.accounts.create_key(people.known["Ada"].user, "x")
    for headers in (
        {"X-Api-Key": token},
        {"Api-Key": token},
        {"Cookie": f"rolebook-login={token}"},
    ):
        assert client.get("/sessions", headers=headers | JSON).status_code == 401
    assert client.get(f"/sessions?api_key={token}", headers=JSON).status_code == 401


def test_program_acts_for_its_user(people: People) -> None:
    program, ada = people.program("Ada"), people.known["Ada"].browser
    session_id = begin(program)
    assert session_id in ada.get("/sessions").text
    assert session_id in program.get("/sessions", headers={"Accept": "text/html"}).text
    assert [403, 403, 403] == [
        program.get(path).status_code for path in ("/account", "/users", "/comparisons/new")
    ]
    administrator = people.program("Chen")
    assert [403, 403] == [administrator.get(path).status_code for path in ("/users", "/status")]
    assert administrator.get(f"/sessions/{session_id}").status_code == 404
    assert [403, 200] == [p.get("/metrics").status_code for p in (program, administrator)]


def test_key_with_a_scope_opens_these_personas_and_no_way_round(people: People) -> None:
    program = people.program("Bo", "teacher")
    other = begin(people.known["Bo"].browser, persona="plain")
    assert begin(program)
    unknown = program.post("/sessions", json={"persona": "nobody"})
    for persona in ("plain", "friend"):
        refused = program.post("/sessions", json={"persona": persona})
        assert refused.status_code == unknown.status_code == 404
        assert refused.text.replace(persona, "nobody") == unknown.text
    described = program.post("/sessions", json={"system": "You are the plain assistant."})
    assert described.status_code == 404
    # What its user has said with another persona is not there for it, and neither are pages that show personas.
    assert program.get(f"/sessions/{other}").status_code == 404
    turn = {"input": "Go on"}
    assert program.post(f"/sessions/{other}/turns", json=turn).status_code == 404
    for path in (
        "/",
        "/personas/plain",
        "/personas/teacher",
        "/comparisons",
        "/library/personas/plain",
    ):
        assert program.get(path).status_code == 403


def test_gateway_knows_who_calls(
    people: People, client: FlaskClient, upstream: FakeUpstream
) -> None:
    """A program with a key gets the personas that it opens, and pays for what it asks."""
    said = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    for path in ("/v1/models", "/v1/models/teacher"):
        assert_error(client.get(path), 401, "invalid_api_key")
    refused = client.post("/v1/chat/completions", json={"model": "teacher", **said})
    assert_error(refused, 401, "invalid_api_key")
    assert [] == upstream.requests
    program = people.program("Ada", "teacher", tokens_per_day=1)
    assert ["teacher"] == [model["id"] for model in program.get("/v1/models").get_json()["data"]]
    elsewhere = {"model": "teacher", "rolebook": {"upstream": "mars"}, **said}
    refusal = assert_error(program.post("/v1/chat/completions", json=elsewhere), 404, "not_found")
    assert "There is no upstream 'mars' here." == refusal
    for model in ("plain", "plain/ok", "nobody"):
        unknown = program.post("/v1/chat/completions", json={"model": model, **said})
        assert_error(unknown, 404, "model_not_found", param="model")
    with program.post("/v1/chat/completions", json={"model": "teacher", **said}) as answer:
        assert 200 == answer.status_code, answer.text
    used_up = program.post("/v1/chat/completions", json={"model": "teacher", **said})
    assert_error(used_up, 429, "insufficient_quota")
    assert 1 == len(upstream.requests)
    key = people.rolebook.accounts.list_keys()[0]
    assert 1 == people.rolebook.accounts.spending(key)[0].turns
    theirs = people.known["Ada"].browser.get("/sessions").text
    assert "sky blue" in theirs
    assert "sky blue" not in people.known["Bo"].browser.get("/sessions").text


def test_key_for_a_label_opens_that_form_of_a_persona_and_no_other(
    people: People, upstream: FakeUpstream
) -> None:
    program = people.program("Ada", "teacher@production", "teacher@staging")

    def names() -> list[str]:
        models = [model["id"] for model in program.get("/v1/models").get_json()["data"]]
        for path in ("/api/v1/personas", "/api/v1/personas?search=teacher&limit=1"):
            listed = program.get(path).get_json()["personas"]
            assert models == [persona["id"] for persona in listed]
        return models

    def ask(model: str) -> Any:
        said = [{"role": "user", "content": "Why is the sky blue?"}]
        return program.post("/v1/chat/completions", json={"model": model, "messages": said})

    assert [] == names()
    people.rolebook.edits.set_label("teacher", "secret", "", author=Author("browser"))
    begun = program.post("/api/v1/sessions", json={"persona": "teacher@production"})
    for refused, code, field in (
        (ask("teacher@production"), "model_not_found", {"param": "model"}),
        (program.get("/api/v1/personas/teacher@production"), "not_found", {}),
        (begun, "not_found", {}),
    ):
        expected = "'teacher' has no label or revision 'production' now. GET /v1/models lists what this key opens."
        assert expected == assert_error(refused, 404, code, **field)
    everything = people.program("Ada").get("/api/v1/personas/teacher@production")
    assert "Its labels: secret." in assert_error(everything, 404, "not_found")
    people.rolebook.edits.set_label("teacher", "production", "", author=Author("browser"))
    assert ["teacher@production"] == names()
    assert "teacher@production" == program.get("/v1/models/teacher@production").get_json()["id"]
    with ask("teacher@production") as answer:
        assert 200 == answer.status_code, answer.text
    revision = people.rolebook.library.get_persona("teacher").revision.id
    for model in (
        "teacher",
        "teacher@secret",
        f"teacher@{revision[:8]}",
        f"teacher@{revision}",
        "plain@production",
    ):
        assert_error(ask(model), 404, "model_not_found", param="model")
    assert 1 == len(upstream.requests)


def test_key_for_a_label_goes_on_with_what_it_points_at_now(
    people: People, upstream: FakeUpstream, library_dir: Path
) -> None:
    """A bad revision can be withdrawn, from sessions that began with it too, however they are gone on with."""
    edits, question = people.rolebook.edits, {"role": "user", "content": "Why?"}

    def write(system: str) -> None:
        file = library_dir / "personas" / "plain.yaml"
        file.write_text(f"name: Plain\nsystem: {system}\n", encoding="utf-8")
        edits.set_label("plain", "production", "", author=Author("browser"))

    def ask(program: FlaskClient, *earlier: object, **own: object) -> tuple[TestResponse, str]:
        """The answer, and what the persona was told."""
        messages = [*earlier, question]
        sent = {"model": "plain@production", "messages": messages, "rolebook": own}
        answer = program.post("/v1/chat/completions", json=sent)
        return answer, upstream.requests[-1].body["messages"][0]["content"]

    def say(program: FlaskClient, session_id: str) -> tuple[TestResponse, str]:
        answer = program.post(f"/api/v1/sessions/{session_id}/turns", json={"input": "Why?"})
        return answer, upstream.requests[-1].body["messages"][0]["content"]

    write("Be wrong.")
    confined, free = people.program("Ada", "plain@production"), people.program("Ada")
    begun = {}
    for program in (confined, free):
        answer, told = ask(program)
        assert "Be wrong." == told
        text = answer.get_json()["choices"][0]["message"]["content"]
        earlier = [question, {"role": "assistant", "content": text}]
        begun[program] = (answer.headers["X-Rolebook-Session"], earlier)
    write("Be right.")

    for program, expected in ((confined, "Be right."), (free, "Be wrong.")):
        session_id, earlier = begun[program]
        answer, told = ask(program, *earlier)
        assert (200, expected, session_id) == (
            answer.status_code,
            told,
            answer.headers["X-Rolebook-Session"],
        )
        for answer, told in (ask(program, session=session_id), say(program, session_id)):
            assert (200, expected) == (answer.status_code, told)
            revision = people.rolebook.log.last_turn(session_id).revision
            assert expected == people.rolebook.log.get_revision(revision).resolved["system"]

    edits.remove_label("plain", "production", author=Author("browser"))
    asked = len(upstream.requests)
    session_id, earlier = begun[confined]
    assert_error(ask(confined, *earlier)[0], 404, "model_not_found", param="model")
    refusal = assert_error(say(confined, session_id)[0], 404, "not_found")
    assert "'plain' has no label or revision 'production'" in refusal
    assert asked == len(upstream.requests)
    shown = confined.get(f"/api/v1/sessions/{session_id}").get_json()
    assert (refusal, 4) == (shown["problem"], len(shown["turns"]))
    assert "Be wrong." == say(free, begun[free][0])[1]


class _Untouched(BytesIO):
    """A body that nobody may read."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("something of it was read")

    readline = readinto = read


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/sessions", "/users", "/nowhere"])
def test_body_of_whoever_may_not_call_is_not_read(
    people: People, client: FlaskClient, path: str, kind: str
) -> None:
    """In chunks, it would be kept up to ten million bytes each, of as many as connect."""
    response = client.post(
        path,
        input_stream=_Untouched(),
        content_type=kind,
        headers={"Transfer-Encoding": "chunked", "Authorization": "Bearer rb-wrong", **JSON},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert response.status_code == (404 if path == "/nowhere" else 401)


def test_key_that_only_talks_chooses_nothing_that_the_persona_fixes(
    people: People, upstream: FakeUpstream, library_dir: Path
) -> None:
    """Whichever way it asks: what the gateway keeps to would else be got round by the API, with the same key."""
    file = library_dir / "personas" / "plain.yaml"
    file.write_text("name: Plain\nsystem: x\nsampling: {max_tokens: 5}\n", encoding="utf-8")
    chosen = {"max_tokens": 900, "options": {"num_predict": 900, "num_ctx": 8}, "top_p": 0.5}
    confined, free = people.program("Ada", "plain"), people.program("Ada")

    def begin_with(program: FlaskClient, parameters: dict[str, Any]) -> str:
        asked = {"persona": "plain", "parameters": parameters}
        return str(program.post("/api/v1/sessions", json=asked).get_json()["id"])

    def ask(program: FlaskClient, session_id: str, parameters: dict[str, Any]) -> TestResponse:
        asked = {"input": "Why?", "parameters": parameters}
        return program.post(f"/api/v1/sessions/{session_id}/turns", json=asked)

    def sent() -> dict[str, Any]:
        body = upstream.requests[-1].body
        return {name: body.get(name) for name in ("max_tokens", "options", "top_p")}

    held = {"max_tokens": 5, "options": {"num_ctx": 8}, "top_p": 0.5}
    begun = begin_with(confined, chosen)
    for session_id, parameters in ((begin_with(confined, {}), chosen), (begun, {})):
        assert 200 == ask(confined, session_id, parameters).status_code
        assert held == sent()
    named = {"model": "plain", "messages": [{"role": "user", "content": "Why?"}]}
    answer = confined.post("/v1/chat/completions", json=named | {"rolebook": {"session": begun}})
    assert (200, held) == (answer.status_code, sent())
    assert 200 == ask(free, begin_with(free, {}), chosen).status_code
    assert chosen == sent()

    asked = len(upstream.requests)
    for framing in ({"system_prompt": "y"}, {"chat_template_kwargs": {"chat_template": "y"}}):
        name = "chat_template" if "chat_template_kwargs" in framing else "system_prompt"
        refusal = assert_error(ask(confined, begun, framing), 422, "invalid_input", param=name)
        assert "cannot be set by a request" in refusal
    assert asked == len(upstream.requests)


def test_key_pays_for_the_judging_of_what_it_asked(
    people: People, upstream: FakeUpstream, library_dir: Path
) -> None:
    add_checks(library_dir, GENTLE)
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, verdict("true"))
    program = people.program("Ada", tokens_per_day=1_000_000)
    key = people.rolebook.accounts.list_keys()[0]
    said = {"model": "plain", "messages": [{"role": "user", "content": "Why?"}]}

    with program.post("/v1/chat/completions", json=said) as answer:
        assert 200 == answer.status_code, answer.text
    people.rolebook.live_checks.wait(answer.headers["X-Request-Id"], 5)

    day, _ = people.rolebook.accounts.spending(key)
    sql = "SELECT count(*), sum(total_tokens) FROM turns"
    turns, tokens = people.rolebook.log.read(lambda db: db.execute(sql).fetchone())
    assert (2, turns, tokens) == (turns, day.turns, day.tokens)


@pytest.mark.parametrize("path", ["/api/v1/turns/{0}/check", "/turns/{0}/check"])
def test_key_that_has_used_up_its_budget_has_nothing_judged(
    people: People, upstream: FakeUpstream, library_dir: Path, path: str
) -> None:
    book = people.rolebook
    program = people.program("Ada", tokens_per_day=1)
    turn = book.log.session_turns(begin(program, persona="plain"))[0]
    add_checks(library_dir, GENTLE)
    add_judge(library_dir)
    refused = program.post(path.format(turn.id), json={})
    assert "1 tokens a day" in assert_error(refused, 429, "insufficient_quota")
    book.live_checks.wait(turn.id, 5)
    assert 1 == len(upstream.requests)
    # It is the key that has no more, not its user, who pays for what they ask themselves.
    people.known["Ada"].browser.post(path.format(turn.id), json={})
    book.live_checks.wait(turn.id, 5)
    assert 2 == len(upstream.requests)
    assert 1 == book.accounts.spending(book.accounts.list_keys()[0])[0].turns


@pytest.mark.parametrize("way", ["gateway", "stream of the gateway", "page", "api"])
def test_answer_that_has_used_up_the_budget_is_not_judged(
    people: People, upstream: FakeUpstream, library_dir: Path, way: str
) -> None:
    book = people.rolebook
    add_checks(library_dir, GENTLE)
    add_judge(library_dir)
    program = people.program("Ada", tokens_per_day=1)
    if way == "page":
        begin(program, persona="plain")
    elif way == "api":
        session = program.post("/api/v1/sessions", json={"persona": "plain"}).get_json()
        program.post(f"/api/v1/sessions/{session['id']}/turns", json={"input": "Why?"})
    else:
        said = {"model": "plain", "messages": [{"role": "user", "content": "Why?"}]}
        with program.post("/v1/chat/completions", json=said | {"stream": "stream" in way}) as got:
            assert "Echo" in got.text
    (summary,) = book.log.list_sessions().summaries
    (turn,) = book.log.session_turns(summary.session.id)
    book.live_checks.wait(turn.id, 5)
    (result,) = book.log.results_of_turns([turn.id])[turn.id]
    assert "The budget of this key is used up" in str(result.said)
    assert 1 == len(upstream.requests)


def test_key_pays_for_the_comparisons_that_it_starts(people: People) -> None:
    book = people.rolebook
    program = people.program("Bo", requests_per_minute=100)
    plan = {
        "variants": [{"persona": "teacher"}, {"persona": "plain"}],
        "inputs": [{"input": "Why?"}],
    }
    created = program.post("/api/v1/comparisons", json=plan)
    assert 201 == created.status_code, created.text
    book.compare.wait_all(20)
    assert 2 == book.accounts.spending(book.accounts.list_keys()[0])[0].turns


def test_stream_of_the_gateway_ends_what_was_reserved_for_it(people: People) -> None:
    program = people.program("Ada", tokens_per_day=100_000)
    said = {"model": "teacher", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
    with program.post("/v1/chat/completions", json=said) as answer:
        assert "[DONE]" in answer.text
    spent = people.rolebook.accounts.spending(people.rolebook.accounts.list_keys()[0])[0]
    assert (1, 0, 0) == (spent.turns, spent.unknown, spent.reserved_tokens)


@pytest.mark.parametrize("many", [{"n": 3}, {"options": {"num_return_sequences": 3}}])
def test_each_answer_that_is_asked_for_counts_until_its_use_is_known(
    people: People, many: dict[str, Any]
) -> None:
    program = people.program("Ada", tokens_per_day=100_000)
    said = {"model": "teacher/rst-mid?after=0", "messages": [{"role": "user", "content": "Why?"}]}
    assert 400 <= program.post("/v1/chat/completions", json={**said, **many}).status_code
    spent = people.rolebook.accounts.spending(people.rolebook.accounts.list_keys()[0])[0]
    assert 3000 <= spent.reserved_tokens < 4000


def test_stream_that_is_left_counts_with_its_tools_and_images(people: People) -> None:
    """Else whoever leaves early could have a model read a book at the price of a line."""
    program = people.program("Ada", tokens_per_day=100_000)
    look = {"type": "function", "function": {"name": "look", "description": "word " * 8000}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    said = {"role": "user", "content": [image, image]}
    for more, least in (({"tools": [look]}, 10_000), ({"messages": [said]}, 3000)):
        asked(program, "teacher/ok?tokens=50", stream=True, **more).close()
        spent = people.rolebook.accounts.spending(people.rolebook.accounts.list_keys()[0])[0]
        assert least <= spent.reserved_tokens < 15_000, more
        program = people.program("Ada", tokens_per_day=100_000)


@pytest.fixture
def priced(make_rolebook: MakeRolebook, upstream: FakeUpstream) -> People:
    """People where two models of three have a price: a thousand tokens of an answer cost a cent, and ten."""
    Path("rolebook.yaml").write_text(
        "prices:\n  ok?tokens=50: {input: 0, output: 10}\n  no-usage: {input: 0, output: 100}\n",
        "utf-8",
    )
    book = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "no-usage"})
    found = People(create_app(book), book)
    found.add("Ada", "administrator")
    return found


def asked(program: FlaskClient, model: str, **fields: Any) -> TestResponse:
    said = {"model": model, "messages": [{"role": "user", "content": "Why?"}], **fields}
    return program.post("/v1/chat/completions", json=said)


def test_budget_in_dollars_holds_for_turns_of_which_no_use_is_told(priced: People) -> None:
    program = priced.program("Ada", cost_per_day=0.25)
    assert [200] * 3 + [429] * 2 == [asked(program, "teacher").status_code for _ in range(5)]


def test_budget_in_dollars_holds_for_streams_that_are_left(priced: People) -> None:
    program = priced.program("Ada", cost_per_day=0.025)
    statuses = []
    for _ in range(5):
        answer = asked(program, "teacher/ok?tokens=50", stream=True)
        statuses.append(answer.status_code)
        answer.close()
    assert [200] * 3 + [429] * 2 == statuses


@pytest.mark.parametrize("is_streamed", [True, False])
def test_turn_that_fails_counts_as_far_as_an_upstream_may_have_worked_on_it(
    make_rolebook: MakeRolebook, upstream: FakeUpstream, is_streamed: bool
) -> None:
    book = make_rolebook(
        {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_FIRST_BYTE_TIMEOUT": "0.2"}
    )
    people = People(create_app(book), book)
    people.add("Ada", "administrator")

    def counted(model: str) -> tuple[int, bool, bool]:
        """The turns, and whether tokens are known and reserved, after one turn of a new key with a budget."""
        program = people.program("Ada", tokens_per_day=9000)
        assert 400 <= asked(program, f"teacher/{model}", stream=is_streamed).status_code
        today = program.get("/api/v1/caller").get_json()["today"]
        assert 0 == today["running_tokens"]
        return today["turns"], today["tokens"] > 0, today["reserved_tokens"] >= 1000

    # The whole answer came, and its use with it.
    assert [(1, True, False)] * 2 == [counted("empty-text"), counted("empty-choices")]
    assert [(1, False, True)] * 2 == [counted("hang"), counted("rst-mid?after=0")]
    refused = [counted(model) for model in ("401", "404", "429?retry_after=9", "500?retry_after=9")]
    assert [(0, False, False)] * 4 == refused
    upstream.close()
    assert (0, False, False) == counted("ok")


def test_key_with_a_budget_in_dollars_asks_no_model_of_unknown_price(
    priced: People, upstream: FakeUpstream
) -> None:
    program = priced.program("Ada", cost_per_day=0.25)
    refused = asked(program, "teacher/ok")
    assert "What ok costs is not known" in assert_error(refused, 403, "forbidden")
    assert [] == upstream.requests
    assert 200 == asked(priced.program("Ada", tokens_per_day=9000), "teacher/ok").status_code


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"service_tier": "priority"}, "service_tier"),
        ({"serviceTier": "flex"}, "serviceTier"),
        ({"options": {"service_tier": "priority"}}, "service_tier"),
        ({"models": ["o1-pro"]}, "models"),
        ({"provider": {"only": ["dear"]}}, "provider"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [{"type": "openrouter:web_search"}]}, "tools"),
        ({"tools": [{"googleSearch": {}}]}, "tools"),
    ],
)
def test_key_with_a_budget_in_dollars_chooses_nothing_that_changes_the_price(
    priced: People, upstream: FakeUpstream, fields: dict[str, Any], name: str
) -> None:
    program = priced.program("Ada", cost_per_day=100.0)
    session_id = begin(program)
    refused = (
        asked(program, "teacher", **fields),
        program.post(
            f"/api/v1/sessions/{session_id}/turns", json={"input": "x", "parameters": fields}
        ),
    )
    for refusal in refused:
        assert "may change what an answer costs" in assert_error(
            refusal, 403, "forbidden", param=name
        )
    assert 1 == len(upstream.requests)
    assert 200 == asked(priced.program("Ada", tokens_per_day=9000), "teacher", **fields).status_code


def test_key_with_a_budget_in_dollars_may_say_what_is_usual(priced: People) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    fields = {"service_tier": "auto", "models": [], "modalities": ["text"], "tools": [tool]}
    program = priced.program("Ada", cost_per_day=100.0)
    assert 200 == asked(program, "teacher", **fields).status_code


def test_persona_may_fix_what_changes_the_price(priced: People, library_dir: Path) -> None:
    file = library_dir / "personas" / "plain.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(f"{text}request: {{service_tier: flex}}\n", encoding="utf-8")
    program = priced.program("Ada", cost_per_day=100.0)
    assert 200 == asked(program, "plain").status_code


def test_who_calls_does_not_choose_who_is_billed(people: People, upstream: FakeUpstream) -> None:
    program = people.program("Ada", "teacher")
    session_id = begin(program)
    for name in ("organization", "Project"):
        for path, sent in (
            (f"/api/v1/sessions/{session_id}/turns", {"input": "x", "parameters": {name: "evil"}}),
            ("/api/v1/sessions", {"persona": "teacher", "parameters": {name: "evil"}}),
            ("/sessions", {"persona": "teacher", "more": f"{name}=evil"}),
        ):
            refused = program.post(path, json=sent)
            assert refused.status_code in {400, 422}, path
            assert "who is billed" in refused.text, path
    assert 1 == len(upstream.requests)
    assert not {"openai-organization", "openai-project"} & upstream.requests[0].headers.keys()


@pytest.mark.parametrize("name", ["api_base", "apiKey", "base-url", "extraHeaders", "Api_Key"])
def test_who_calls_chooses_no_key_and_no_address(
    people: People, upstream: FakeUpstream, name: str
) -> None:
    """Of the API as of the gateway: a proxy behind Rolebook would send its key to wherever it is told to."""
    program = people.program("Ada", "teacher")
    session_id, sent = begin(program), {name: "https://evil.example/v1"}
    for path, said in (
        (f"/api/v1/sessions/{session_id}/turns", {"input": "x", "parameters": sent}),
        ("/api/v1/sessions", {"persona": "teacher", "parameters": sent}),
    ):
        refused = assert_error(program.post(path, json=said), 422, "invalid_input")
        assert "cannot be set" in refused
    refusal = asked(program, "teacher", **sent)
    assert "cannot be set" in assert_error(refusal, 400, "invalid_input", param=name)
    assert 1 == len(upstream.requests)


def test_scope_that_was_narrowed_holds_for_sessions_that_were_begun_before(people: People) -> None:
    program = people.program("Ada", "teacher")
    session_id = begin(program)
    with people.rolebook.log._writer.lock:
        people.rolebook.log.change(
            lambda db: db.execute("UPDATE api_keys SET scope = '[\"plain\"]'")
        )
    refused = program.post(f"/sessions/{session_id}/turns", json={"input": "Go on"})
    assert refused.status_code == 404


def test_key_for_an_old_name_does_not_open_what_the_persona_became(
    people: People, upstream: FakeUpstream
) -> None:
    program, opening = people.program("Ada", "teacher"), people.program("Ada", "teacher", "tutor")
    sessions = begin(program), begin(opening)
    key = FileKey("persona", "teacher")
    people.rolebook.edits.rename(key, "tutor", author=Author("command"))
    path = people.rolebook.library.personas_dir / "tutor.yaml"
    path.write_text(path.read_text("utf-8").replace("patient", "strict"), "utf-8")
    said = []
    for who, session_id in zip((program, opening), sessions, strict=True):
        asked = who.post(f"/sessions/{session_id}/turns", json={"input": "On"}, headers=JSON)
        assert asked.status_code == 303, asked.text
        said.append(upstream.requests[-1].body["messages"][0]["content"])
    assert ["patient" in said[0], "strict" in said[1]] == [True, True]
    log = people.rolebook.log
    for who, session_id, name in zip(
        (program, opening), sessions, ("teacher", "tutor"), strict=True
    ):
        (turn, *_) = log.session_turns(session_id)
        forked = who.post(f"/turns/{turn.id}/fork").location
        (fork_id,) = re.findall("[0-9a-z]{18}", forked)
        assert log.get_session(fork_id).persona_id == name


def test_requests_beyond_the_rate_are_told_when_to_come_again(people: People) -> None:
    program = people.program("Ada", requests_per_minute=2)
    assert [200, 200] == [program.get("/sessions").status_code for _ in range(2)]
    refused = program.get("/sessions")
    assert_error(refused, 429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert people.program("Ada").get("/sessions").status_code == 200


def test_budget_that_is_used_up_is_told_and_nothing_is_sent(
    people: People, upstream: FakeUpstream
) -> None:
    program = people.program("Ada", tokens_per_day=1000)
    session_id = begin(program)
    asked = len(upstream.requests)
    spent = people.rolebook.accounts.spending(people.rolebook.accounts.list_keys()[0])[0]
    assert (1, 0) == (spent.turns, spent.unknown)
    people.rolebook.log.change(lambda db: db.execute("UPDATE turns SET total_tokens = 1000"))
    refused = program.post(f"/sessions/{session_id}/turns", json={"input": "Go on"})
    assert "1000 tokens a day" in assert_error(refused, 429, "insufficient_quota")
    assert int(refused.headers["Retry-After"]) > 0
    assert asked == len(upstream.requests)
    assert 1 == len(people.rolebook.log.session_turns(session_id))
    # It is the key that has no more, not its user.
    begin(people.known["Ada"].browser)


def test_cost_that_nobody_knows_is_not_shown_as_nothing(
    priced: People,
) -> None:
    ada, program = priced.known["Ada"].browser, priced.program("Ada")
    assert 200 == asked(program, "teacher/ok").status_code
    page = ada.get("/account").text
    assert "cost unknown" in page
    assert "$0" not in page
    assert "费用未知" in ada.get("/account", headers=CHINESE).text
    assert "cost unknown" in ada.get("/users").text
    assert 1 == program.get("/api/v1/caller").get_json()["today"]["without_cost"]
    assert 200 == asked(program, "teacher/ok?tokens=50").status_code
    page = ada.get("/account").text
    assert "cost unknown" not in page
    assert "at least $0.0" in page


def test_what_is_reserved_is_shown_with_what_is_used(priced: People) -> None:
    book, ada = priced.rolebook, priced.known["Ada"].browser
    program = priced.program("Ada", tokens_per_day=3000, cost_per_month=5.0)
    assert 200 == asked(program, "teacher/ok?tokens=50").status_code
    assert "reserved" not in ada.get("/account").text
    book.log.change(
        lambda db: db.execute(
            "UPDATE turns SET status = 'cancelled', total_tokens = NULL, cost = NULL, "
            "reserved_tokens = 1234, reserved_cost = 0.5"
        )
    )
    page = ada.get("/account").text
    assert "reserved: 1,234 tokens · $0.50" in page
    assert "What is reserved counts in a budget, too" in page
    assert "另预留 1,234 个 token · $0.50" in ada.get("/account", headers=CHINESE).text
    assert "reserved: 1,234 tokens" in ada.get("/users").text
    told = program.get("/api/v1/caller").get_json()
    assert (3000, 5.0) == (told["limits"]["tokens_per_day"], told["limits"]["cost_per_month"])
    assert [(0, 1234, 0)] * 2 == [
        (spent["tokens"], spent["reserved_tokens"], spent["running_tokens"])
        for spent in (told["today"], told["this_month"])
    ]


def test_revoked_key_opens_nothing_from_the_next_request_on(people: People) -> None:
    program = people.program("Ada")
    assert program.get("/sessions").status_code == 200
    people.rolebook.accounts.revoke_key(people.rolebook.accounts.list_keys()[0])
    assert_error(program.get("/sessions"), 401, "invalid_api_key")


def test_user_who_is_removed_or_made_less_is_so_at_once(people: People) -> None:
    accounts, bo = people.rolebook.accounts, people.known["Bo"]
    assert bo.browser.get("/comparisons/new").status_code == 200
    accounts.set_role(bo.user, Role.READER)
    assert bo.browser.get("/comparisons/new").status_code == 403
    accounts.remove_user(bo.user)
    assert bo.browser.get("/sessions").status_code == 303


def test_who_is_believed_about_where_a_request_comes_from_is_a_setting(
    make_rolebook: MakeRolebook,
) -> None:
    forwarded = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "roles.example",
    }
    for proxies, status, is_secure in (("0", 400, False), ("1", 303, True)):
        book = make_rolebook(
            host_names="roles.example", proxies=proxies, database=f"data/{proxies}.db"
        )
        app = create_app(book)
        People(app, book).add("Ada", "administrator")
        client = app.test_client()
        login = {"name": "Ada", "password": PASSWORD}
        host = {"Host": "upstream.internal"}
        response = client.post("/login", data=login, headers=forwarded | host)
        assert status == response.status_code
        response = client.post("/login", data=login, headers=forwarded)
        assert is_secure is ("Secure" in response.headers["Set-Cookie"])
