"""Planning a comparison as people meet it: from the gallery, a persona, a session; by keyboard, without script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.conftest import Failures, LiveServer, NewPage
from tests.web.checks import assert_accessible
from tests.web.test_comparisons import reword

PLAN = "/comparisons/new?variant=teacher&variant=plain&input=Why+is+the+sky+blue%3F"


def expect_comparison(page: Any, live_server: LiveServer) -> Any:
    """The page is that of a comparison, and its run comes to an end; the comparison."""
    page.wait_for_url(re.compile("/comparisons/[0-9a-z]{18}$"))
    comparison_id = page.url.rpartition("/")[2]
    run = live_server.rolebook.compare.run_of(comparison_id)
    assert run
    assert run.wait(10)
    return live_server.rolebook.comparisons.get_comparison(comparison_id)


def begin_session(live_server: LiveServer, text: str) -> str:
    """A session with the teacher in which this was said; its id."""
    client = live_server.app.test_client()
    begun = client.post("/sessions", data={"persona": "teacher", "input": text})
    return str(begun.location.rpartition("/")[2])


@pytest.mark.parametrize("has_script", [True, False])
def test_from_two_ticks_in_the_gallery_to_the_comparison(
    new_page: NewPage, live_server: LiveServer, has_script: bool
) -> None:
    page = new_page(script=has_script)
    page.goto(live_server.url)
    page.get_by_label("Choose several to compare").check()
    page.get_by_label("Compare: Teacher").check()
    page.get_by_label("Compare: Plain assistant").check()
    if has_script:
        expect(page.locator("#chosen")).to_have_text("2 chosen: Teacher, Plain assistant")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile(r"/comparisons/new\?variant=plain&variant=teacher$"))
    page.get_by_label("Typed").fill("Why is the sky blue?")
    if not has_script:
        page.get_by_role("button", name="Preview", exact=True).last.click()
    expect(page.locator("#preview .message").last).to_contain_text("Why is the sky blue?")
    expect(page.locator("#preview .message").first).to_contain_text("Answer briefly.")
    page.get_by_label("to whom").select_option("Teacher")
    if not has_script:
        page.get_by_role("button", name="Preview", exact=True).last.click()
    expect(page.locator("#preview .message").first).to_contain_text("You are a patient teacher")
    expect(page.locator("#sum")).to_contain_text("2 calls")
    page.get_by_role("button", name="Start").click()
    comparison = expect_comparison(page, live_server)
    assert [variant.name for variant in comparison.variants] == ["Plain assistant", "Teacher"]


def test_a_choice_in_the_gallery_outlives_searches_and_filters(
    page: Any, live_server: LiveServer
) -> None:
    page.goto(live_server.url)
    page.get_by_label("Choose several to compare").focus()
    page.keyboard.press("Space")
    page.get_by_label("Compare: Teacher").focus()
    page.keyboard.press("Space")
    page.locator("#results .filters a", has_text="work").click()
    expect(page.locator(".persona")).to_have_count(1)
    page.fill("#q", "plain")
    page.press("#q", "Enter")
    expect(page.get_by_label("Compare: Plain assistant")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_have_text("2 chosen: Teacher, Plain assistant")
    page.get_by_role("button", name="Compare", exact=True).press("Enter")
    page.wait_for_url(re.compile("/comparisons/new"))
    shown = page.locator(".variants select[data-redraw][id$=persona]")
    assert {shown.nth(i).input_value() for i in range(2)} == {"teacher", "plain"}


def test_variants_come_and_go_without_leaving_the_page(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url + PLAN)
    page.evaluate("document.body.dataset.same = 'yes'")
    page.get_by_role("button", name="Add another").press("Enter")
    third = page.get_by_label("Persona 3")
    expect(third).to_be_focused()
    third.select_option("知心朋友")
    expect(page.locator("#variant-2-card")).to_have_class(re.compile("hue-"))
    expect(third).to_be_focused()
    expect(page.locator("#sum")).to_contain_text("3 calls")
    page.locator("#variant-0-card").get_by_role("button", name="Remove").press("Enter")
    expect(page.locator(".variant-card")).to_have_count(2)
    expect(page.get_by_label("Persona 1")).to_be_focused()
    assert page.get_by_label("Typed").input_value() == "Why is the sky blue?"
    assert page.evaluate("document.body.dataset.same") == "yes"


def test_variants_come_and_go_without_script(new_page: NewPage, live_server: LiveServer) -> None:
    page = new_page(script=False)
    page.goto(live_server.url + PLAN)
    page.get_by_label("What the comparison shall answer").fill("Kept?")
    page.locator("#variant-1-card").get_by_role("button", name="Duplicate").click()
    expect(page.get_by_label("Persona 3")).to_have_value("plain")
    page.locator("#variant-0-card").get_by_role("button", name="Remove").click()
    expect(page.locator(".variant-card")).to_have_count(2)
    expect(page.get_by_label("Persona 1")).to_have_value("plain")
    page.get_by_label("Kind of check").select_option("max_words")
    page.get_by_role("button", name="Add a check").click()
    page.get_by_label("words, at most").fill("80")
    expect(page.get_by_label("What the comparison shall answer")).to_have_value("Kept?")
    page.get_by_role("button", name="Start").click()
    assert expect_comparison(page, live_server).checks[0].max_words == 80


@pytest.mark.parametrize("has_script", [True, False])
def test_an_error_is_told_at_its_field_and_everything_typed_is_there(
    new_page: NewPage, failures: Failures, live_server: LiveServer, has_script: bool
) -> None:
    page = new_page(script=has_script)
    page.goto(live_server.url + PLAN)
    page.locator("#variant-1-different > summary").click()
    page.locator("#variant-1-name").fill("Mine")
    page.locator("#variant-1-s-temperature").fill("9")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#variant-1-s-temperature-error")).to_contain_text("from 0 to 2")
    expect(page.locator("#variant-1-s-temperature")).to_be_focused()
    expect(page.locator("#plan-error")).to_be_visible()
    assert page.locator("#variant-1-name").input_value() == "Mine"
    assert page.locator("#variant-1-s-temperature").input_value() == "9"
    if has_script:
        assert_accessible(page)
    failures.expect("400")


def test_enter_in_a_field_starts_nothing(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url + PLAN)
    page.get_by_label("What the comparison shall answer").press("Enter")
    expect(page.locator("#consequence")).to_be_visible()
    page.wait_for_timeout(200)
    assert live_server.rolebook.comparisons.list_comparisons()[0] == []


@pytest.mark.parametrize("has_script", [True, False])
def test_what_is_filled_in_outlives_another_language_and_theme(
    new_page: NewPage, live_server: LiveServer, has_script: bool
) -> None:
    page = new_page(script=has_script)
    page.goto(live_server.url + PLAN)
    page.locator("#question").fill("Who asks?")
    page.locator("#lines").fill("One\nTwo")
    page.locator("#question").press("Enter")
    expect(page.locator("#sum")).to_contain_text("4 calls")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    page.locator("button.theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    expect(page.locator("#question")).to_have_value("Who asks?")
    expect(page.locator("#lines")).to_have_value("One\nTwo")
    expect(page.locator("#sum")).to_contain_text("4")


def test_a_file_of_inputs_is_read_at_once(
    page: Any, live_server: LiveServer, tmp_path: Path
) -> None:
    path = tmp_path / "inputs.csv"
    path.write_text("input,subject\nWhat is light?,physics\n")
    page.goto(live_server.url + "/comparisons/new?variant=teacher&variant=plain")
    page.locator("#from-a-file > summary").click()
    page.set_input_files("#inputs-file", path)
    expect(page.locator("#rows-read")).to_contain_text("1 input from a file")
    page.get_by_label("to whom").select_option("Teacher")
    expect(page.locator("#preview .message").first).to_contain_text("teacher of physics")


def test_a_session_is_replayed(page: Any, live_server: LiveServer) -> None:
    session_id = begin_session(live_server, "Why is the sky blue?")
    page.goto(f"{live_server.url}/sessions/{session_id}")
    page.get_by_role("link", name="Replay with…").click()
    page.get_by_label("Persona 2").select_option("Plain assistant")
    page.get_by_label("Free run").check()
    expect(page.locator("#sum")).to_contain_text("2 calls")
    page.get_by_role("button", name="Start").click()
    comparison = expect_comparison(page, live_server)
    assert [variant.is_recorded for variant in comparison.variants] == [True, False, False]


def test_what_an_edit_changed_is_one_link_and_start(page: Any, live_server: LiveServer) -> None:
    begin_session(live_server, "Why is the sky blue?")
    reword(live_server.rolebook)
    page.goto(live_server.url + "/personas/teacher")
    page.get_by_role("link", name="What did my edit change?").click()
    expect(page.locator(".changed del")).to_have_text("patient")
    expect(page.locator(".changed ins")).to_have_text("strict")
    page.get_by_role("button", name="Start").click()
    assert len(expect_comparison(page, live_server).variants) == 2


def test_compare_with_takes_along_what_was_typed(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url + "/personas/teacher")
    page.get_by_label("What you say first").fill("Why?")
    page.get_by_label("Subject").fill("physics")
    page.get_by_role("button", name="Compare with…").click()
    expect(page.get_by_label("Typed")).to_have_value("Why?")
    expect(page.locator("#variant-0-v-subject")).to_have_value("physics")


@pytest.mark.parametrize(
    ("language", "theme", "width"), [("en", "light", 1280), ("zh", "dark", 390)]
)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(
    new_page: NewPage, live_server: LiveServer, language: str, theme: str, width: int
) -> None:
    session_id = begin_session(live_server, "Why is the sky blue?")
    page = new_page(language=language, theme=theme, width=width, height=844)
    checks = "/comparisons/new?variant=-"
    for path in ("/comparisons", PLAN, f"/comparisons/new?session={session_id}", checks):
        page.goto(live_server.url + path)
        page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        if path == PLAN:
            page.locator("#new-check").select_option("rubric")
            page.locator("button[value='add-check']").click()
            expect(page.locator("#check-0-value")).to_be_focused()
        assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.goto(live_server.url + PLAN)
    page.locator("#go").click()
    page.wait_for_url(re.compile("/comparisons/[0-9a-z]{18}$"))
    page.goto(live_server.url + "/comparisons")
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(live_server.url)
    page.locator("#choosing").check()
    page.locator(".pick input").first.check()
    assert_accessible(page)


def test_every_stop_of_the_tab_key_is_visible(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url + PLAN)
    seen = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
              const element = document.activeElement;
              if (element === document.body) return null;
              element.dataset.stop ??= String(Math.random());
              return [element.dataset.stop, getComputedStyle(element).outlineStyle !== "none"];
            }"""
        )
        if stop is None:
            break
        assert stop[1], page.evaluate("document.activeElement.outerHTML")
        seen.add(stop[0])
    else:
        pytest.fail("the focus never came to an end")
    assert len(seen) > 15
