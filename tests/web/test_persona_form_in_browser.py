"""Filling in a persona's form in a browser: by hand, by keyboard alone, and without scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.conftest import TEACHER, Failures, LiveServer, NewPage
from tests.web.checks import assert_accessible

PAGE = "/library/personas/teacher/form"


@pytest.fixture
def file(library_dir: Path) -> Path:
    return library_dir / "personas" / "teacher.yaml"


def open_form(page: Any, server: LiveServer) -> None:
    """Open the form."""
    page.goto(server.url + PAGE)
    expect(page.get_by_role("tablist")).to_be_visible()


def look_after(page: Any, act: Any) -> None:
    """Do something, and wait until what it makes has been shown."""
    with page.expect_response(re.compile("/form/look$")):
        act()


@pytest.mark.parametrize(
    ("language", "theme", "width"), [("en", "light", 1280), ("zh", "dark", 390)]
)
def test_axe_finds_nothing(
    new_page: NewPage, live_server: LiveServer, language: str, theme: str, width: int
) -> None:
    page = new_page(language=language, theme=theme, width=width, height=844)
    open_form(page, live_server)
    page.locator("#tabs a[href='#beside-yaml']").click()
    page.evaluate("for (const part of document.querySelectorAll('.part')) part.open = true")
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_preview_file_and_mistakes_follow_the_fields(
    page: Any, live_server: LiveServer, file: Path
) -> None:
    open_form(page, live_server)
    page.get_by_label("How it speaks").fill("You teach {{ subject }} kindly.")
    expect(page.locator("#preview")).to_contain_text("You teach mathematics kindly.")
    page.locator("#part-sampling summary").click()
    field = page.locator("#f-sampling-temperature")
    field.fill("warm")
    expect(page.locator("[data-error='sampling-temperature']")).to_contain_text("from 0 to 2")
    expect(page.locator("#preview")).to_have_class(re.compile("stale"))
    slider = page.get_by_role("slider", name="Freedom")
    slider.focus()
    slider.press("Home")
    expect(field).to_have_value("0")
    expect(page.locator("[data-error='sampling-temperature']")).to_be_hidden()
    page.get_by_role("button", name=re.compile("As the model has it.*Freedom")).click()
    page.locator("#tabs a[href='#beside-yaml']").click()
    expect(page.locator("#yaml")).to_contain_text("sampling: {max_tokens: 600}")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    expected = TEACHER.replace("{temperature: 0.7, max_tokens: 600}", "{max_tokens: 600}")
    expected = re.sub("  You are a patient.*", "  You teach {{ subject }} kindly.", expected)
    assert expected == file.read_text("utf-8")


def test_rows_by_keyboard_alone(page: Any, live_server: LiveServer, file: Path) -> None:
    open_form(page, live_server)
    button = page.get_by_role("button", name="Add a primed turn")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#f-examples-1-user")).to_be_focused()
    page.keyboard.type("Why?")
    page.keyboard.press("Tab")
    page.keyboard.type("Because.")
    page.keyboard.press("Tab")
    expect(page.locator("[value='up-examples-1']")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#f-examples-0-user")).to_have_value("Why?")
    page.keyboard.press("Control+s")
    expect(page.get_by_text("Saved.")).to_be_visible()
    rows = "  - user: Why?\n    assistant: Because.\n  - {user: What is a fraction?"
    assert rows in file.read_text("utf-8")


def test_unsaved_changes_go_to_the_text_and_back_and_outlive_a_reload(
    page: Any, live_server: LiveServer, file: Path
) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    open_form(page, live_server)
    look_after(page, lambda: page.get_by_label("What it is for").fill("Explains well."))
    expect(page.locator("#saved")).to_have_text("Not saved yet")
    page.reload()
    page.get_by_role("button", name="Go on with it").click()
    expect(page.get_by_label("What it is for")).to_have_value("Explains well.")
    page.get_by_role("button", name="Go on as text").click()
    expect(page.locator("#text")).to_have_value(re.compile("Explains well"))
    page.get_by_role("button", name="Go on as a form").click()
    expect(page.get_by_label("What it is for")).to_have_value("Explains well.")
    assert TEACHER == file.read_text("utf-8")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert "description: Explains well.\n" in file.read_text("utf-8")
    open_form(page, live_server)
    expect(page.locator("#unsaved")).to_be_hidden()


def test_what_could_not_be_saved_is_not_offered_beside_itself(
    page: Any, live_server: LiveServer, failures: Failures
) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    open_form(page, live_server)
    how = page.locator("#f-system")
    look_after(page, lambda: how.fill("You cook for {{ people }}."))
    for more in ("", "!"):
        how.press_sequentially(more)
        with page.expect_navigation():
            page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("It was not saved yet")).to_be_visible()
        expect(how).to_be_focused()
        expect(page.locator("#unsaved")).to_be_hidden()
    failures.expect("422")
    open_form(page, live_server)
    page.get_by_role("button", name="Go on with it").click()
    expect(how).to_have_value(re.compile("You cook for {{ people }}."))


def test_what_is_filled_in_beside_an_offered_text_does_not_replace_it(
    page: Any, live_server: LiveServer
) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    what_for = page.get_by_label("What it is for")
    open_form(page, live_server)
    look_after(page, lambda: what_for.fill("Left."))
    open_form(page, live_server)
    look_after(page, lambda: what_for.fill("Newer."))
    page.get_by_role("button", name="Go on with it").click()
    expect(what_for).to_have_value("Left.")
    page.get_by_role("button", name="Go on with it").click()
    expect(what_for).to_have_value("Newer.")


def test_a_new_persona_goes_along_when_the_language_changes(
    page: Any, live_server: LiveServer
) -> None:
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.goto(live_server.url + "/library/new?kind=personas&title=Cook")
    look_after(page, lambda: page.locator("#f-system").fill("You cook."))
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", re.compile("^zh"))
    expect(page.locator("#f-system")).to_have_value("You cook.")
    expect(page.locator("#saved")).to_have_text("尚未保存")


def test_all_of_it_works_without_scripts(
    new_page: NewPage, live_server: LiveServer, library_dir: Path
) -> None:
    page = new_page(script=False)
    page.goto(live_server.url + "/library")
    page.get_by_label("Name", exact=True).fill("Cook")
    page.get_by_role("button", name="Begin").click()
    page.get_by_label("How it speaks").fill("You cook.")
    page.locator("#part-variables summary").click()
    page.get_by_role("button", name="Add a variable").click()
    page.locator("#f-variables-0-name").fill("dish")
    page.locator("#f-variables-0-default").fill("soup")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    expected = "name: Cook\nvariables:\n  dish: soup\nsystem: |-\n  You cook.\n"
    assert (library_dir / "personas" / "cook.yaml").read_text("utf-8").endswith(expected)
