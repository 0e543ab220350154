"""The gallery, a persona and the status page as people meet them: with a keyboard, a phone, in the dark, in Chinese."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.conftest import Failures, LiveServer, MakeRolebook, NewPage, Serve
from tests.web.checks import assert_accessible

PAGES = [
    "/",
    "/?q=nobody+says+this",
    "/personas/teacher",
    "/personas/friend",
    "/personas/broken",
    "/status",
    "/none",
]


@pytest.fixture
def broken(library_dir: Path) -> None:
    """A persona file that cannot be read."""
    (library_dir / "personas/broken.yaml").write_text("name: Broken\nsystm: x\n")


def expect_url(page: Any, pattern: str) -> None:
    page.wait_for_url(re.compile(pattern))


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("language", "theme", "width"), [("en", "light", 1280), ("zh", "dark", 390)]
)
def test_axe_finds_nothing(
    new_page: NewPage,
    failures: Failures,
    live_server: LiveServer,
    language: str,
    theme: str,
    width: int,
) -> None:
    page = new_page(language=language, theme=theme, width=width, height=844)
    for path in PAGES:
        page.goto(live_server.url + path)
        for details in page.locator("details > summary").all():
            details.click()
        assert_accessible(page)
    failures.expect("404")


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_wider_than_a_small_phone(
    new_page: NewPage, failures: Failures, live_server: LiveServer, language: str
) -> None:
    page = new_page(language=language, width=360, height=740)
    for path in PAGES:
        page.goto(live_server.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    failures.expect("404")


def test_from_the_gallery_to_an_answer_by_keyboard_alone(
    page: Any, live_server: LiveServer
) -> None:
    page.goto(live_server.url)
    page.keyboard.press("/")
    page.keyboard.type("teach")
    expect(page.locator(".persona")).to_have_count(1)
    assert "Enter opens “Teacher”" in page.locator("#ask-hint").inner_text()
    page.keyboard.press("Enter")
    expect_url(page, "/personas/teacher$")
    for _ in range(30):
        if page.evaluate("document.activeElement.id") == "input":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("Why is the sky blue?")
    page.keyboard.press("Enter")
    expect_url(page, "/sessions/[a-z0-9]{18}$")
    log = live_server.rolebook.log
    (summary,) = log.list_sessions().summaries
    expect(page.locator("main")).to_contain_text("Why is the sky blue?")
    for _ in range(100):
        turns = log.session_turns(summary.session.id)
        if turns and turns[-1].status == "complete":
            break
        page.wait_for_timeout(50)
    assert [(turn.input, turn.status) for turn in turns] == [("Why is the sky blue?", "complete")]
    assert turns[0].is_streamed


def test_every_stop_of_the_tab_key_is_visible_and_none_is_a_trap(
    page: Any, live_server: LiveServer
) -> None:
    for path in ("/", "/personas/teacher", "/status"):
        page.goto(live_server.url + path)
        seen = set()
        for _ in range(80):
            page.keyboard.press("Tab")
            stop = page.evaluate(
                """() => {
                  const element = document.activeElement;
                  if (element === document.body) return null;
                  const after = getComputedStyle(element, "::after").outlineStyle;
                  const own = getComputedStyle(element).outlineStyle;
                  element.dataset.stop ??= String(Math.random());
                  return [element.dataset.stop, own !== "none" || after !== "none"];
                }"""
            )
            if stop is None:
                break
            assert stop[1], page.evaluate("document.activeElement.outerHTML")
            seen.add(stop[0])
        else:
            pytest.fail(f"{path} never let the focus go")
        assert len(seen) > 8


def test_a_role_of_ones_own_starts_from_the_search_field(
    page: Any, live_server: LiveServer
) -> None:
    page.goto(live_server.url)
    page.fill("#q", "You are a patient chess coach.")
    page.wait_for_selector("text=No persona says that. Enter begins")
    page.press("#q", "Enter")
    expect_url(page, "/sessions/")
    (summary,) = live_server.rolebook.log.list_sessions().summaries
    assert summary.session.persona_id == ""


def test_start_with_nothing_to_say_tells_what_is_missing(
    page: Any, failures: Failures, live_server: LiveServer
) -> None:
    page.goto(live_server.url)
    page.click("text=Start")
    page.wait_for_selector("#ask-hint.error:text('Please say what the role should be.')")
    assert page.get_attribute("#q", "aria-invalid") == "true"
    page.fill("#q", "teach")
    page.wait_for_selector("#ask-hint:not(.error):has-text('Enter opens')")
    assert page.get_attribute("#q", "aria-invalid") == "false"
    failures.expect("400")


def test_escape_empties_the_search(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url + "/?q=teach")
    page.focus("#q")
    page.keyboard.press("Escape")
    expect(page.locator(".persona")).to_have_count(3)
    assert page.input_value("#q") == ""


def test_the_preview_follows_the_form(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url + "/personas/teacher")
    page.fill("#v-subject", "astronomy")
    page.wait_for_selector(".from-variable:text-is('astronomy')")
    page.wait_for_selector("#greeting:has-text('What about astronomy')")
    page.check("input[value=expert]")
    page.wait_for_selector(".from-variable:text-is('expert')")
    page.click("text=Why is the sky blue?")
    assert page.input_value("#input") == "Why is the sky blue?"
    page.wait_for_selector("#preview .message:last-child:has-text('Why is the sky blue?')")
    page.click("summary")
    page.fill("#s-temperature", "1.2")
    page.wait_for_selector("#preview .parameters:has-text('1.2')")


def test_a_mistake_is_shown_at_its_field_and_focused(
    page: Any, failures: Failures, live_server: LiveServer
) -> None:
    page.goto(live_server.url + "/personas/teacher")
    page.click("summary")
    page.fill("#more", "user")
    page.fill("#input", "Hi")
    page.press("#input", "Enter")
    page.wait_for_selector("#start-error:has-text('name=value')")
    assert page.evaluate("document.activeElement.id") == "more"
    assert page.input_value("#input") == "Hi"
    failures.expect("400")


@pytest.mark.parametrize("how", ["isComposing: true", "keyCode: 229"])
@pytest.mark.parametrize(("path", "field"), [("/personas/friend", "input"), ("/", "q")])
def test_enter_that_composes_does_not_start(
    page: Any, live_server: LiveServer, path: str, field: str, how: str
) -> None:
    page.goto(live_server.url + path)
    page.fill(f"#{field}", "今天")
    page.evaluate(
        f"""document.getElementById("{field}").dispatchEvent(
             new KeyboardEvent("keydown", {{key: "Enter", {how}, bubbles: true, cancelable: true}}))"""
    )
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(100)
    assert page.url.partition("?")[0] == live_server.url + path
    assert live_server.rolebook.log.list_sessions().summaries == ()


def test_models_are_fetched_on_demand(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url + "/personas/teacher")
    page.click("summary")
    assert page.locator("#models option").count() == 0
    page.click("text=Ask for models")
    page.wait_for_selector("#models-said:has-text('models to choose from')")
    assert page.locator("#models option").count() > 1


def test_language_and_theme_are_changed_by_their_buttons(
    page: Any, live_server: LiveServer
) -> None:
    page.goto(live_server.url + "/status")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    for theme in ("light", "dark"):
        page.click(".theme")
        page.wait_for_selector(f"html[data-theme={theme}]")
    assert page.evaluate(paper) != light
    page.click("text=中文")
    page.wait_for_selector("html[lang=zh-Hans]")
    assert page.url.endswith("/status")


def test_the_status_page_asks_and_copies(page: Any, live_server: LiveServer) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(live_server.url + "/status")
    expect(page.get_by_role("heading", name="Status")).to_be_in_viewport()
    page.click("text=Ask for its models >> nth=0")
    page.wait_for_selector("text=It offers")
    page.click("[data-copy=for-openai]")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "OPENAI_API_KEY=sk-…"


def test_everything_works_without_script(new_page: NewPage, live_server: LiveServer) -> None:
    page = new_page(script=False)
    page.goto(live_server.url)
    page.fill("#q", "teacher")
    page.click("button:text-is('Search')")
    page.click(".persona a")
    page.fill("#v-subject", "astronomy")
    page.click("text=Explain prime numbers")
    assert page.input_value("#input") == "Explain prime numbers"
    assert page.input_value("#v-subject") == "astronomy"
    assert "astronomy" in page.inner_text("#preview")
    page.click("#go")
    expect_url(page, "/sessions/")
    assert "Explain prime numbers" in page.inner_text("main")
    page.click("text=中文")
    page.wait_for_selector("html[lang=zh-Hans]")


def test_rehearsal_answers_with_no_model_at_all(
    new_page: NewPage, serve: Serve, make_rolebook: MakeRolebook
) -> None:
    page = new_page(script=False)
    page.goto(serve(make_rolebook()).url)
    page.click("text=How to connect one")
    assert page.url.endswith("/status#connect")


def test_hostile_texts_do_not_run(page: Any, library_dir: Path, live_server: LiveServer) -> None:
    attack = '"><script>window.__pwned=1</script><img src=x onerror=window.__pwned=1>'
    (library_dir / "personas/hostile.yaml").write_text(
        f"name: '{attack}'\ndescription: '{attack}'\ntags: ['{attack}']\navatar: '{attack}'\n"
        f"system: '{attack}{{{{ v }}}}'\ngreeting: '{attack}'\nstarters: ['{attack}']\n"
        f"variables: {{v: {{default: '{attack}', description: '{attack}'}}}}\n"
    )
    for path in ("/", "/personas/hostile", "/status"):
        page.goto(live_server.url + path)
    page.goto(live_server.url + "/personas/hostile")
    page.fill("#input", attack)
    page.wait_for_selector("#preview .message:last-child:has-text('__pwned')")
    page.goto(live_server.url)
    page.fill("#q", "pwned")
    page.wait_for_selector("#ask-hint:has-text('__pwned')")
    assert page.evaluate("window.__pwned") is None


def test_a_role_may_be_described_in_several_lines(page: Any, live_server: LiveServer) -> None:
    page.goto(live_server.url)
    page.fill("#q", "Teacher")
    page.press("#q", "End")
    page.press("#q", "Shift+Enter")
    page.type("#q", "Answer in one line.")
    page.press("#q", "Enter")
    page.wait_for_url("**/sessions/*")
    session_id = page.url.rpartition("/")[2]
    book = live_server.rolebook
    resolved = book.chat.persona_of(book.log.get_session(session_id))
    assert resolved.persona.system == "Teacher\nAnswer in one line."


def test_a_fact_of_two_lines_keeps_its_first_letters(page: Any, live_server: LiveServer) -> None:
    page.goto(f"{live_server.url}/library/personas/teacher", wait_until="networkidle")
    lines = page.evaluate(
        """() => {
            const facts = document.createElement("p"), fact = document.createElement("span");
            const words = document.createRange();
            facts.className = "facts"; fact.className = "fact"; facts.style.width = "8rem";
            fact.textContent = "cut off: the longest answer allowed is reached";
            facts.append(fact); document.querySelector("main").append(facts);
            words.selectNodeContents(fact.firstChild);
            return [...words.getClientRects()].map((line) => Math.round(line.left));
        }"""
    )
    assert len(lines) > 1
    assert 1 == len(set(lines))


@pytest.mark.usefixtures("broken")
def test_the_way_back_stands_above_the_heading_alike(page: Any, live_server: LiveServer) -> None:
    looks = set()
    for path, target in {
        "/sessions?trash=1": "/sessions",
        "/comparisons?trash=1": "/comparisons",
        "/library/personas/teacher/history": "/library/personas/teacher",
        "/library/personas/teacher/history/commits": "/library/personas/teacher/history",
        "/personas/broken": "/",
        "/users": "/account",
    }.items():
        page.goto(live_server.url + path)
        way = page.get_by_role("link", name="Back to")
        assert way.get_attribute("href") == target
        looks.add(
            way.evaluate(
                """way => {
                  const { color, fontSize, textDecorationLine } = getComputedStyle(way);
                  const heading = document.querySelector("h1").getBoundingClientRect();
                  const { bottom, left } = way.getBoundingClientRect();
                  const gap = Math.round(heading.top - bottom);
                  return [color, fontSize, textDecorationLine, left === heading.left, gap].join(" ");
                }"""
            )
        )
    assert len(looks) == 1, looks


@pytest.mark.parametrize("language", ["en", "zh"])
def test_fields_in_a_row_are_as_high_as_the_buttons_beside_them(
    new_page: NewPage, live_server: LiveServer, language: str
) -> None:
    client = live_server.app.test_client()
    client.post("/sessions", data={"persona": "teacher", "input": "Why is the sky blue?"})
    page = new_page(language=language)
    for path, controls in {
        "/sessions": ".finding-line > :is(input, button), .doing :is(select, button)",
        "/comparisons/new": ".adding > :is(select, button)",
    }.items():
        page.goto(live_server.url + path)
        page.wait_for_selector(controls)
        heights = page.eval_on_selector_all(
            controls, "found => found.map((each) => each.getBoundingClientRect().height)"
        )
        assert len(heights) > 1
        assert set(heights) == {40}, heights
