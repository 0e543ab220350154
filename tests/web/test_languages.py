"""Pages speak the language that was chosen, else the one that is set, else the one the browser asks for."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from rolebook.web.app import create_app
from tests.conftest import MakeRolebook
from tests.web.checks import assert_error


@pytest.mark.parametrize(
    ("accepted", "shown"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("zh-TW", "zh-Hans"),
        ("en-GB,zh;q=0.5", "en"),
        ("de", "en"),
        ("", "en"),
        ("*;;;", "en"),
    ],
)
def test_the_browser_chooses_the_language(client: FlaskClient, accepted: str, shown: str) -> None:
    page = client.get("/", headers={"Accept-Language": accepted}).text
    assert f'<html lang="{shown}"' in page


def test_a_choice_is_kept_and_can_be_changed(client: FlaskClient) -> None:
    response = client.post("/language", data={"language": "zh", "next": "/status"})
    assert response.status_code == 303
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert 'lang="zh-Hans"' in client.get("/status", headers={"Accept-Language": "en"}).text
    client.post("/language", data={"language": "en"})
    assert '<html lang="en"' in client.get("/status", headers={"Accept-Language": "zh"}).text


def test_the_setting_wins_over_the_browser(make_rolebook: MakeRolebook) -> None:
    client = create_app(make_rolebook(language="zh")).test_client()
    assert '<html lang="zh-Hans"' in client.get("/", headers={"Accept-Language": "en"}).text


def test_a_theme_is_kept(client: FlaskClient) -> None:
    assert 'data-theme="auto"' in client.get("/").text
    client.post("/theme", data={"theme": "dark"})
    assert 'data-theme="dark"' in client.get("/").text


@pytest.mark.parametrize("cookie", ["language=xx", "language=", "theme=<b>"])
def test_an_odd_cookie_counts_as_no_choice(client: FlaskClient, cookie: str) -> None:
    page = client.get("/", headers={"Cookie": cookie}).text
    assert '<html lang="en" data-theme="auto">' in page


@pytest.mark.parametrize(("path", "name"), [("/language", "language"), ("/theme", "theme")])
def test_only_what_is_offered_can_be_chosen(client: FlaskClient, path: str, name: str) -> None:
    response = client.post(path, data={name: "x"}, headers={"Accept": "application/json"})
    assert "Choose one of" in assert_error(response, 400, "invalid_request")


def test_pages_are_translated(client: FlaskClient) -> None:
    english = client.get("/", headers={"Accept-Language": "en"}).text
    chinese = client.get("/", headers={"Accept-Language": "zh"}).text
    assert "Who do you want to talk to?" in english
    assert "Who do you want to talk to?" not in chinese
