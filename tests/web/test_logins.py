"""Logging in and out, one's own account, and the page of users."""

from __future__ import annotations

import re
import time
from http.cookies import Morsel, SimpleCookie

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rolebook.core.access import Role
from rolebook.storage.user import fold_name
from rolebook.web.app import create_app
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.web.accounts import PASSWORD, People, program_with
from tests.web.checks import assert_error


@pytest.fixture
def people(app: Flask, rolebook: Rolebook) -> People:
    found = People(app, rolebook)
    found.add("Chen", "administrator")
    found.add("Ada")
    return found


def log_in(client: FlaskClient, password: str = PASSWORD, **fields: str) -> TestResponse:
    return client.post("/login", data={"name": "Ada", "password": password, **fields})


def cookie_of(response: TestResponse) -> Morsel[str]:
    return SimpleCookie(response.headers["Set-Cookie"])["rolebook-login"]


def test_login_leads_back_to_where_one_wanted_to_go(people: People, client: FlaskClient) -> None:
    sent = client.get("/sessions?q=sky&trash=1")
    assert "/login?next=/sessions?q%3Dsky%26trash%3D1" == sent.headers["Location"]
    page = client.get(sent.headers["Location"])
    assert 'name="next" value="/sessions?q=sky&amp;trash=1"' in page.text
    response = log_in(client, next="/sessions?q=sky&trash=1")
    assert (303, "/sessions?q=sky&trash=1") == (response.status_code, response.headers["Location"])
    assert client.get("/sessions").status_code == 200
    assert client.get("/login?next=/sessions").status_code == 303


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil", "\t//evil", "https:evil", "javascript:alert(1)", "https://evil/"],
)
def test_login_leads_nowhere_else(people: People, client: FlaskClient, target: str) -> None:
    assert 'value="/"' in client.get("/login", query_string={"next": target}).text
    assert "/" == log_in(client, next=target).headers["Location"]
    assert "/" == client.get("/login", query_string={"next": target}).headers["Location"]


def test_cookie_is_new_at_each_login_and_kept_from_scripts_and_other_sites(
    people: People, client: FlaskClient
) -> None:
    client.set_cookie("rolebook-login", "planted")
    first, second = cookie_of(log_in(client)), cookie_of(log_in(client))
    assert len({"planted", first.value, second.value}) == 3
    for cookie in (first, second):
        assert (True, "Lax", "/") == (cookie["httponly"], cookie["samesite"], cookie["path"])
        assert not cookie["secure"]
        assert not cookie["domain"]
    accounts = people.rolebook.accounts
    assert accounts.find_login("planted") is None
    assert accounts.find_login(first.value) is None
    assert accounts.find_login(second.value) is not None


def test_cookie_is_for_https_where_it_is_spoken(people: People) -> None:
    response = people.app.test_client().post(
        "/login", data={"name": "Ada", "password": PASSWORD}, base_url="https://localhost"
    )
    assert cookie_of(response)["secure"]


def test_wrong_password_and_unknown_name_are_told_in_the_same_words(
    people: People, client: FlaskClient
) -> None:
    wrong = log_in(client, "wrong horse")
    unknown = log_in(client, name="Eve")
    assert (401, 401) == (wrong.status_code, unknown.status_code)
    assert wrong.text.replace("Ada", "Eve") == unknown.text
    assert "Set-Cookie" not in wrong.headers
    assert "wrong horse" not in wrong.text
    as_json = client.post(
        "/login", json={"name": "Ada", "password": "x"}, headers={"Accept": "application/json"}
    )
    assert_error(as_json, 401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/login", "/language", "/theme"])
def test_stranger_sends_little(people: People, client: FlaskClient, path: str) -> None:
    much, headers = {"name": "x" * 20_000}, {"Accept": "application/json"}
    response = client.post(path, data=much, headers=headers)
    assert "has not logged in" in assert_error(response, 413, "invalid_request")
    again = people.known["Ada"].browser.post(path, data=much, headers=headers)
    assert again.status_code in {400, 401}


def test_what_is_too_long_for_a_name_costs_no_time(people: People, client: FlaskClient) -> None:
    """A letter that folds to eighteen, as often as there is room for it."""
    fold_name("ﷺ")
    began = time.thread_time()
    assert "ﷺ" not in fold_name("ﷺ" * 1_000_000)
    assert time.thread_time() - began < 0.05


def test_too_many_failures_are_told_when_to_come_again(people: People, client: FlaskClient) -> None:
    accounts = people.rolebook.accounts
    for _ in range(10):
        accounts._of_name.take("ada", time.monotonic())
    response = log_in(client)
    assert 429 == response.status_code
    assert 1 <= int(response.headers["Retry-After"]) <= 30
    assert 'role="alert"' in response.text


def test_logging_out_ends_the_login_and_not_only_the_cookie(people: People) -> None:
    browser = people.known["Ada"].browser
    token = browser.get_cookie("rolebook-login")
    assert token is not None
    response = browser.post("/logout")
    assert (303, "/login") == (response.status_code, response.headers["Location"])
    assert browser.get_cookie("rolebook-login") is None
    assert people.rolebook.accounts.find_login(token.value) is None


def test_changing_the_password_keeps_this_browser_and_ends_the_others(people: People) -> None:
    browser, other = people.known["Ada"].browser, people.app.test_client()
    assert log_in(other).status_code == 303
    wrong = browser.post("/account/password", data={"old": "wrong horse", "new": "another horse"})
    assert "not your present password" in wrong.text
    short = browser.post("/account/password", data={"old": PASSWORD, "new": "short"})
    assert (400, 400) == (wrong.status_code, short.status_code)
    assert "8 to 200 characters" in short.text
    changed = browser.post("/account/password", data={"old": PASSWORD, "new": "another horse"})
    assert "all other browsers" in browser.get(changed.headers["Location"]).text
    assert [200, 303] == [client.get("/account").status_code for client in (browser, other)]
    assert log_in(other, "another horse").status_code == 303


def test_present_password_cannot_be_guessed_without_limit(people: People) -> None:
    chen = people.known["Chen"]
    # The bucket of the name is emptied without hashing anything ten times.
    for _ in range(10):
        people.rolebook.accounts._of_name.take("chen", time.monotonic())
    refused = chen.browser.post("/account/password", data={"old": PASSWORD, "new": "another horse"})
    assert 429 == refused.status_code
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert "Too many requests at once" in refused.text
    # What was guessed there counts where one logs in, and the other way round.
    assert 429 == log_in(people.app.test_client(), name="Chen").status_code


def test_key_is_shown_once_and_works(people: People) -> None:
    browser = people.known["Ada"].browser
    made = browser.post(
        "/account/keys",
        data={"name": "phone", "scope": "teacher，friend", "requests_per_minute": "60"},
    )
    token = re.search(r"rb-[\w-]{43}", made.text)
    assert token is not None
    assert token[0] not in browser.get("/account").text
    page = browser.get("/account").text
    for part in ("phone", token[0][:8], "<code>teacher</code>", "60 requests a minute"):
        assert part in page
    program = program_with(people.app, token[0])
    assert program.get("/sessions").status_code == 200
    key = people.rolebook.accounts.list_keys()[0]
    assert "No persona goes by" not in made.text
    misspelt = browser.post("/account/keys", data={"name": "x", "scope": "tecaher"})
    assert "No persona goes by tecaher yet." in misspelt.text
    revoked = browser.post("/account/keys/revoke", data={"id": key.id})
    assert revoked.status_code == 303
    assert program.get("/sessions").status_code == 401
    assert "Revoked" in browser.get("/account").text


def test_what_cannot_be_a_key_is_said_at_its_field_and_nothing_typed_is_lost(
    people: People,
) -> None:
    browser = people.known["Ada"].browser
    for name, text in (("scope", "Teacher!"), ("tokens_per_day", "many"), ("cost_per_day", "-1")):
        refused = browser.post("/account/keys", data={"name": "phone", name: text})
        assert refused.status_code == 400
        assert f'id="{name}-said"><p class="error">' in refused.text
        assert f'value="{text}"' in refused.text
        assert 'value="phone"' in refused.text
    assert [] == list(people.rolebook.accounts.list_keys())


def test_key_of_somebody_else_is_not_there(people: People) -> None:
    key, _ = people.rolebook.accounts.create_key(people.known["Chen"].user, "secret")
    ada, chen = people.known["Ada"].browser, people.known["Chen"].browser
    assert "secret" not in ada.get("/account").text
    assert ada.post("/account/keys/revoke", data={"id": key.id}).status_code == 404
    assert not people.rolebook.accounts.get_key(key.id).revoked_at
    assert "secret" in chen.get("/users").text


def test_administrator_manages_users(people: People, client: FlaskClient) -> None:
    chen, accounts = people.known["Chen"].browser, people.rolebook.accounts
    added = chen.post("/users", data={"name": "Bo", "role": "author", "password": "bo's own horse"})
    assert added.status_code == 303
    assert "Bo" in chen.get("/users").text
    assert Role.AUTHOR is accounts.get_user("Bo").role
    chen.post("/users/role", data={"name": "Bo", "role": "reader"})
    assert Role.READER is accounts.get_user("Bo").role
    chen.post("/users/password", data={"name": "Ada", "password": "a new horse"})
    assert people.known["Ada"].browser.get("/sessions").status_code == 303
    chen.post("/users/remove", data={"name": "Bo"})
    assert ["Ada", "Chen"] == [user.name for user in accounts.list_users()]


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/users", {"name": "ada", "role": "reader", "password": PASSWORD}, "already"),
        ("/users", {"name": "Bo", "role": "king", "password": PASSWORD}, "role is one of"),
        ("/users", {"name": "Bo", "role": "reader", "password": "short"}, "8 to 200"),
        ("/users", {"name": "<b>", "role": "reader", "password": PASSWORD}, "60 letters"),
        ("/users/role", {"name": "Chen", "role": "reader"}, "only administrator"),
        ("/users/remove", {"name": "Chen"}, "only administrator"),
        ("/users/password", {"name": "Ada", "password": ""}, "8 to 200"),
    ],
)
def test_what_cannot_be_done_to_users_is_said_there(
    people: People, path: str, fields: dict[str, str], said: str
) -> None:
    response = people.known["Chen"].browser.post(path, data=fields)
    assert response.status_code in {400, 409}
    assert said in response.text
    assert 'role="alert"' in response.text
    assert "<b>" not in response.text
    assert {"Ada": "reader", "Chen": "administrator"} == {
        user.name: user.role.value for user in people.rolebook.accounts.list_users()
    }


def test_pages_offer_nobody_what_they_may_not_do(people: People) -> None:
    ada, chen = people.known["Ada"].browser, people.known["Chen"].browser
    assert [False, True] == ["/status" in browser.get("/").text for browser in (ada, chen)]
    refused = ada.get("/status")
    assert 403 == refused.status_code
    assert "for administrators" in refused.text
    assert "Ada" in refused.text
    assert "for authors" in ada.get("/comparisons/new").text


def test_pages_behind_a_login_are_kept_by_no_cache(people: People) -> None:
    browser = people.known["Ada"].browser
    for path in ("/", "/account", "/sessions", "/login"):
        assert "no-store" == browser.get(path).headers["Cache-Control"]


@pytest.mark.parametrize("has_users", [True, False])
def test_log_that_cannot_be_read_opens_no_door(
    make_rolebook: MakeRolebook, has_users: bool
) -> None:
    book = make_rolebook()
    app = create_app(book)
    if has_users:
        People(app, book).add("Chen", "administrator")
    assert has_users is (303 == app.test_client().get("/status").status_code)
    book.log.close()
    book.log.path.write_bytes(b"damaged" * 100)
    # Who has seen that nobody has to log in goes on so; a process that comes now has seen nothing.
    book.accounts._look_again_at = 0.0
    statuses = [
        application.test_client().get(path).status_code
        for application in (app, create_app(make_rolebook()))
        for path in ("/status", "/v1/models")
    ]
    assert ([303, 401] if has_users else [200, 200]) + [503, 503] == statuses
