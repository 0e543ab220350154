"""Logging in by keyboard, on a phone, in both languages; and a key that a browser makes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rolebook.core.access import Role
from rolebook.wiring import Rolebook
from tests.conftest import LiveServer, NewPage
from tests.web.accounts import PASSWORD
from tests.web.checks import assert_accessible


@pytest.fixture
def door(live_server: LiveServer, rolebook: Rolebook) -> LiveServer:
    """A server with an administrator."""
    rolebook.accounts.create_user("Chen", Role.ADMINISTRATOR, PASSWORD)
    return live_server


def assert_fits(page: Any) -> None:
    """Nothing is wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize(
    ("language", "theme", "width"), [("en", "light", 1280), ("zh", "dark", 390)]
)
def test_one_logs_in_and_out_by_keyboard(
    door: LiveServer, new_page: NewPage, failures: Any, language: str, theme: str, width: int
) -> None:
    page = new_page(language=language, theme=theme, width=width)
    page.goto(f"{door.url}/sessions?q=sky")
    page.wait_for_url(re.compile(r"/login\?next="))
    assert_accessible(page)
    assert_fits(page)
    page.keyboard.type("chen")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong horse")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    failures.expect("401")
    assert_accessible(page)
    assert "password" == page.evaluate("document.activeElement.id")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/sessions\?q=sky$"))
    page.get_by_role("link", name="Chen").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/account")
    assert_accessible(page)
    assert_fits(page)
    page.goto(f"{door.url}/users")
    page.locator("details summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#role-1").is_visible()
    assert_accessible(page)
    assert_fits(page)
    page.goto(f"{door.url}/account")
    page.locator("form[action='/logout'] button").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/login")
    page.go_back()
    page.reload()
    page.wait_for_url(re.compile(r"/login\?next="))


def test_new_key_is_shown_and_can_be_copied(door: LiveServer, page: Any) -> None:
    # What a page that is looked at may do anyway has to be allowed where nobody can look.
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{door.url}/login?next=/account")
    page.get_by_label("User name").fill("Chen")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("What is it for?").fill("phone")
    page.get_by_label("Tokens a day").fill("100000")
    page.get_by_role("button", name="Make the key").click()
    token = page.locator("#token").inner_text()
    assert token.startswith("rb-")
    assert_accessible(page)
    page.get_by_role("button", name="Copy the key").click()
    page.get_by_text("Copied").first.wait_for()
    page.goto(f"{door.url}/account")
    assert token not in page.content()
