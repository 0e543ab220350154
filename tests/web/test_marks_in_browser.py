"""Marks and checks under an answer, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from rolebook.core.session import TurnMark
from rolebook.wiring import Rolebook
from tests.conftest import Failures, LiveServer, NewPage
from tests.fake_upstream import FakeUpstream
from tests.judging import GENTLE, JUDGE_MODEL, ONE_QUESTION, SHORT, add_checks, add_judge, verdict
from tests.web.checks import assert_accessible
from tests.web.test_session_in_browser import open_session, say, turns, wait_for_the_end


def mark_of(rolebook: Rolebook, session_id: str) -> TurnMark | None:
    (turn,) = turns(rolebook, session_id)
    return rolebook.log.marks_of([turn.id]).get(turn.id)


def test_an_answer_is_marked_by_keyboard_without_leaving_it(
    page: Any, live_server: LiveServer, rolebook: Rolebook
) -> None:
    session_id = open_session(page, live_server, "plain")
    say(page, "Why?")
    wait_for_the_end(page)
    star = page.get_by_role("button", name="Star this answer")
    star.focus()
    page.keyboard.press("Enter")
    expect(star).to_have_attribute("aria-pressed", "true")
    expect(star).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    good = page.get_by_role("button", name="Good answer")
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(good).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    expect(good).to_have_attribute("aria-pressed", "false")
    mark = mark_of(rolebook, session_id)
    assert mark is not None
    assert (mark.is_starred, mark.thumb) == (True, -1)
    assert_accessible(page)


def test_a_note_is_written_in_place(page: Any, live_server: LiveServer, rolebook: Rolebook) -> None:
    session_id = open_session(page, live_server, "plain")
    say(page, "Why?")
    wait_for_the_end(page)
    summary = page.locator("summary", has_text="Note")
    summary.focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("What you think of this answer")
    expect(field).to_be_focused()
    assert_accessible(page)
    page.keyboard.type("Too long")
    page.get_by_role("button", name="Star this answer").click()
    expect(field).to_have_value("Too long")
    field.press("Enter")
    expect(page.locator(".note")).to_contain_text("Too long")
    expect(field).to_be_hidden()
    expect(summary).to_be_focused()
    mark = mark_of(rolebook, session_id)
    assert mark is not None
    assert (mark.is_starred, mark.note) == (True, "Too long")
    page.keyboard.press("Enter")
    expect(field).to_have_value("Too long")
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()


def test_a_mark_on_its_way_does_not_call_back_who_writes(
    page: Any, live_server: LiveServer, rolebook: Rolebook
) -> None:
    session_id = open_session(page, live_server, "plain")
    say(page, "Why?")
    wait_for_the_end(page)
    held: list[Any] = []
    page.route("**/mark", lambda route: held.append(route), times=1)
    star = page.get_by_role("button", name="Star this answer")
    with page.expect_request("**/mark"):
        star.click()
    page.locator("summary", has_text="Note").click()
    field = page.get_by_label("What you think of this answer")
    expect(field).to_be_focused()
    held[0].continue_()
    expect(star).to_have_attribute("aria-pressed", "true")
    expect(field).to_be_focused()
    page.keyboard.type("Too long")
    page.keyboard.press("Enter")
    expect(page.locator(".note")).to_contain_text("Too long")
    mark = mark_of(rolebook, session_id)
    assert mark is not None
    assert (mark.is_starred, mark.note) == (True, "Too long")


def test_marks_work_without_script(
    new_page: NewPage, live_server: LiveServer, rolebook: Rolebook
) -> None:
    page = new_page(script=False)
    session_id = open_session(page, live_server, "plain")
    page.get_by_role("textbox", name="What you say to").fill("Why?")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    page.locator("summary", has_text="Note").click()
    page.get_by_label("What you think of this answer").fill("Kind")
    page.keyboard.press("Enter")
    expect(page.locator(".note")).to_contain_text("Kind")
    mark = mark_of(rolebook, session_id)
    assert mark is not None
    assert (mark.thumb, mark.note) == (1, "Kind")


def test_a_judgement_arrives_by_itself(
    page: Any, live_server: LiveServer, library_dir: Path, upstream: FakeUpstream
) -> None:
    add_checks(library_dir, GENTLE, ONE_QUESTION)
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, verdict("false", "It scolds."))
    upstream.hold(JUDGE_MODEL)
    open_session(page, live_server, "plain")
    say(page, "Why?")
    wait_for_the_end(page)
    noted = page.locator(".noted")
    expect(noted).to_contain_text("1 of 2 checks passed")
    expect(noted).to_contain_text("being judged…")
    assert_accessible(page)
    upstream.let_go(JUDGE_MODEL)
    expect(noted).to_contain_text("It scolds.", timeout=10_000)
    expect(page.locator("#announcer")).to_have_text("1 of 2 checks passed")
    assert_accessible(page)
    page.get_by_role("link", name="How it was judged").click()
    expect(page.get_by_text("Here a judge looked at an answer.")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("link", name="See the answer that was judged").click()
    expect(noted).to_contain_text("It scolds.")


def test_checks_are_run_again_by_keyboard(
    page: Any, live_server: LiveServer, library_dir: Path
) -> None:
    add_checks(library_dir, SHORT)
    open_session(page, live_server, "plain")
    say(page, "One two three?")
    wait_for_the_end(page)
    expect(page.locator(".findings .failed")).to_contain_text("at most 3 is allowed")
    add_checks(library_dir, "  - {name: short, max_words: 9}\n")
    again = page.get_by_role("button", name="Check again")
    again.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".checks summary")).to_contain_text("1 of 1 check")
    expect(again).to_be_focused()
    page.locator(".checks summary").click()
    expect(page.locator(".findings .passed")).to_contain_text("at most 9 is allowed")
    assert_accessible(page)


def test_a_mark_that_cannot_be_kept_says_so(
    page: Any, live_server: LiveServer, failures: Failures
) -> None:
    open_session(page, live_server, "plain")
    say(page, "Why?")
    wait_for_the_end(page)
    page.route("**/mark", lambda route: route.abort())
    page.get_by_role("button", name="Star this answer").click()
    expect(page.locator(".marks .problem")).to_be_visible()
    failures.expect("Failed to load resource")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_checks_fit_a_phone(
    new_page: NewPage, live_server: LiveServer, library_dir: Path, language: str, theme: str
) -> None:
    add_checks(library_dir, ONE_QUESTION, SHORT)
    page = new_page(language=language, theme=theme, width=390, height=800)
    open_session(page, live_server, "plain")
    page.locator("#input").fill("One two three?")
    page.keyboard.press("Enter")
    expect(page.locator(".findings .failed")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert_accessible(page)
