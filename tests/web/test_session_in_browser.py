"""A session as people have it: live, in a real browser, against a real upstream on a real socket."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from rolebook.core.session import Session, Turn, new_id
from rolebook.wiring import Rolebook
from tests.conftest import Failures, LiveServer, NewPage
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_accessible

SLOW = "ok?tokens=3000&delay_ms=15"


def open_session(page: Any, server: LiveServer, persona: str = "teacher") -> str:
    """Begin a session and open its page; returns its id."""
    session = Session(id=new_id(), persona_id=persona, revision="")
    begun = server.rolebook.chat.start_session(session)
    page.goto(f"{server.url}/sessions/{begun.id}")
    return begun.id


def say(page: Any, text: str) -> None:
    page.get_by_role("textbox", name="What you say to").fill(text)
    page.keyboard.press("Enter")


def wait_for_the_end(page: Any) -> None:
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def turns(rolebook: Rolebook, session_id: str) -> list[Turn]:
    return list(rolebook.log.session_turns(session_id))


def test_an_answer_appears_as_it_comes_and_is_set_at_the_end(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=One **two** three four five six seven eight")
    upstream.hold("ok", after=6)
    open_session(page, live_server)
    say(page, "Why?")
    stream = page.locator(".stream.voice")
    expect(stream).to_contain_text("One **two**")
    assert "eight" not in stream.inner_text()
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#send")).to_be_hidden()
    upstream.let_go("ok")
    wait_for_the_end(page)
    expect(page.locator(".prose strong")).to_have_text("two")
    expect(page.locator(".facts")).to_contain_text("tokens")
    expect(page.locator("#input")).to_be_focused()
    expect(page.locator("#announcer")).to_have_text("One two three four five six seven eight")
    expect(page.get_by_role("heading", level=1)).to_have_text("Why?")
    expect(page).to_have_title("Why? · Teacher · Rolebook")
    expect(page.locator("#sums")).to_contain_text("1 turn")


def test_what_was_typed_on_the_persona_page_is_said_at_once(
    page: Any, live_server: LiveServer
) -> None:
    page.goto(f"{live_server.url}/personas/teacher")
    page.get_by_label("What you say first").fill("Why is it blue?")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#turn-1 .words")).to_have_text("Why is it blue?")
    wait_for_the_end(page)
    page.reload()
    expect(page.locator(".turn .words")).to_have_count(1)


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_reaches_the_upstream_and_keeps_what_came(
    page: Any, live_server: LiveServer, upstream: FakeUpstream, rolebook: Rolebook, how: str
) -> None:
    upstream.model_rule("ok", f"{SLOW},ok?text=All is well")
    session_id = open_session(page, live_server)
    say(page, "Go")
    expect(page.locator(".stream.voice")).to_contain_text(re.compile(r"\w+ \w+"))
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    assert upstream.requests[0].client_gone.wait(2)
    expect(page.locator(".facts")).to_contain_text("stopped")
    turn = turns(rolebook, session_id)[0]
    assert turn.status == "cancelled"
    assert turn.text
    say(page, "And now?")
    expect(page.locator("#turn-2 .prose")).to_have_text("All is well")


def test_stop_before_the_first_word_works_too(
    page: Any, live_server: LiveServer, upstream: FakeUpstream, rolebook: Rolebook
) -> None:
    upstream.model_rule("ok", "hang")
    session_id = open_session(page, live_server)
    say(page, "Go")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".nothing")).to_have_text("Stopped before anything came.")
    assert turns(rolebook, session_id)[0].status == "cancelled"


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_a_turn_that_is_followed_can_be_stopped(
    new_page: NewPage, live_server: LiveServer, upstream: FakeUpstream, how: str
) -> None:
    upstream.model_rule("ok", "hang")
    first, second = new_page(), new_page()
    open_session(first, live_server)
    say(first, "Go")
    upstream.wait_for(lambda: upstream.requests)
    second.goto(first.url)
    expect(second.locator("#send")).to_be_hidden()
    if how == "button":
        second.locator("#stop").click()
    else:
        second.keyboard.press("Escape")
    for page in (first, second):
        expect(page.locator(".nothing")).to_have_text("Stopped before anything came.")
        wait_for_the_end(page)


def test_a_closed_tab_cancels_the_turn(
    page: Any, live_server: LiveServer, upstream: FakeUpstream, rolebook: Rolebook
) -> None:
    upstream.model_rule("ok", SLOW)
    session_id = open_session(page, live_server)
    say(page, "Go")
    expect(page.locator(".stream.voice")).to_contain_text(re.compile(r"\w+ \w+"))
    page.close()
    assert upstream.requests[0].client_gone.wait(2)
    upstream.wait_for(lambda: turns(rolebook, session_id)[0].status == "cancelled")
    assert turns(rolebook, session_id)[0].text


def test_a_turn_of_another_tab_is_followed(
    new_page: NewPage, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=From afar")
    upstream.hold("ok")
    first, second = new_page(), new_page()
    open_session(first, live_server)
    say(first, "Go")
    upstream.wait_for(lambda: upstream.requests)
    second.goto(first.url)
    expect(second.locator(".nothing")).to_have_text("Being answered…")
    upstream.let_go("ok")
    expect(second.locator(".prose").last).to_have_text("From afar")


def test_try_again_keeps_both_and_either_can_count(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=First answer,ok?text=Second answer")
    open_session(page, live_server)
    say(page, "Why?")
    wait_for_the_end(page)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#turn-1 h3")).to_have_text(["Answer 1", "Answer 2"])
    expect(page.locator("#turn-1 .answer .prose")).to_have_text(["First answer", "Second answer"])
    wait_for_the_end(page)
    expect(page.locator("#turn-1 .answer").nth(1)).to_contain_text("goes on from this one")
    page.get_by_role("button", name="Go on from this one").click()
    expect(page.locator("#turn-1 .answer").nth(0)).to_contain_text("goes on from this one")
    boxes = [box.bounding_box() for box in page.locator("#turn-1 .answer").all()]
    assert boxes[0]["y"] == boxes[1]["y"]
    page.reload()
    expect(page.locator("#turn-1 .answer .prose")).to_have_text(["First answer", "Second answer"])


def test_the_last_input_can_be_edited_and_both_stay(page: Any, live_server: LiveServer) -> None:
    open_session(page, live_server)
    say(page, "Why is it blue?")
    wait_for_the_end(page)
    page.get_by_text("Edit", exact=True).click()
    page.get_by_label("What you say instead").fill("Why is it red?")
    page.keyboard.press("Enter")
    expect(page.locator("#turn-1 .words")).to_contain_text(["Why is it blue?", "Why is it red?"])
    wait_for_the_end(page)


def test_only_the_last_turn_offers_another_try(
    page: Any, failures: Failures, live_server: LiveServer
) -> None:
    open_session(page, live_server)
    for text in ("One", "Two"):
        say(page, text)
        wait_for_the_end(page)
    shown = page.locator(".only-last:visible")
    for _ in range(2):
        expect(shown).to_have_count(2)
        expect(page.locator("#turn-2").locator(shown)).to_have_count(2)
        page.reload()
    page.route("**/turns", lambda route: route.abort())
    say(page, "Three")
    expect(page.locator(".problem")).to_be_visible()
    expect(shown).to_have_count(2)
    failures.expect("Failed to load resource")


def test_escape_closes_what_is_open_and_goes_back_to_what_opened_it(
    page: Any, live_server: LiveServer
) -> None:
    open_session(page, live_server)
    say(page, "Why?")
    wait_for_the_end(page)
    edit = page.locator("summary", has_text="Edit")
    # On the page, which may scroll so that the field can be seen.
    place = "edit => { const { x, y } = edit.getBoundingClientRect(); return [x, y + scrollY]; }"
    before = edit.evaluate(place)
    for summary in (page.get_by_text("Export"), edit):
        summary.click()
        expect(page.locator("main details[open]")).to_have_count(1)
        page.keyboard.press("Tab")
        page.keyboard.press("Escape")
        expect(page.locator("main details[open]")).to_have_count(0)
        expect(summary).to_be_focused()
    edit.click()
    expect(page.get_by_label("What you say instead")).to_be_focused()
    assert edit.evaluate(place) == before
    page.keyboard.type(" Really?")
    expect(page.get_by_label("What you say instead")).to_have_value("Why? Really?")


def test_the_composer_grows_with_its_text(page: Any, live_server: LiveServer) -> None:
    open_session(page, live_server)
    field = page.locator("#input")
    line = field.bounding_box()["height"]
    for _ in range(5):
        page.keyboard.press("Shift+Enter")
    assert field.bounding_box()["height"] > 2 * line
    for _ in range(40):
        page.keyboard.press("Shift+Enter")
    assert field.bounding_box()["height"] <= 0.4 * 800


def test_what_has_the_focus_is_not_under_the_composer(
    new_page: NewPage, live_server: LiveServer
) -> None:
    page = new_page(height=600)
    open_session(page, live_server)
    for text in ("One", "Two", "Three"):
        say(page, text)
        wait_for_the_end(page)
    page.reload()
    page.evaluate("scrollTo(0, 0)")
    page.locator("#heading").click()
    seen = 0
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.get_attribute("id") == "input":
            break
        below = focused.bounding_box()["y"] + focused.bounding_box()["height"]
        assert below <= page.locator("#composer").bounding_box()["y"] + 1
        seen += 1
    assert seen > 10
    page.evaluate("scrollTo(0, 100)")
    page.keyboard.type("And now?")
    assert page.evaluate("scrollY") == 100


def test_an_edit_opens_above_the_composer(new_page: NewPage, live_server: LiveServer) -> None:
    page = new_page(height=800)
    open_session(page, live_server)
    for text in ("One", "Two"):
        say(page, text)
        wait_for_the_end(page)
    page.locator(".turn .edit summary").last.press("Enter")
    expect(page.locator(".edit[open] textarea")).to_be_focused()
    form = page.locator(".edit[open] form").bounding_box()
    assert form["y"] + form["height"] <= page.locator("#composer").bounding_box()["y"] + 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_menu_stays_on_a_phone(
    new_page: NewPage, live_server: LiveServer, language: str
) -> None:
    page = new_page(language=language, width=390, height=844)
    own = Session(id=new_id(), persona_id="", revision="")
    begun = live_server.rolebook.chat.start_session(own, system="You are a patient captain.")
    page.goto(f"{live_server.url}/sessions/{begun.id}")
    menus = page.locator("details.menu > summary").all()
    assert len(menus) == 3
    for menu in menus:
        menu.click()
        expect(page.locator("details.menu[open] .sheet")).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [768, 1280])
def test_answers_that_come_at_once_stand_side_by_side_from_the_first_word(
    new_page: NewPage, live_server: LiveServer, upstream: FakeUpstream, width: int
) -> None:
    upstream.model_rule("ok", SLOW)
    page = new_page(width=width)
    session = Session(id=new_id(), persona_id="teacher", revision="", parameters={"n": 2})
    begun = live_server.rolebook.chat.start_session(session)
    page.goto(f"{live_server.url}/sessions/{begun.id}")
    say(page, "Go")
    for place in (".choice-live", "#turn-1 .answer"):
        expect(page.locator(place)).to_have_count(2)
        # At one moment: what comes moves both of them.
        tops = page.locator(place).evaluate_all("all => all.map(e => e.getBoundingClientRect().y)")
        assert tops[0] == tops[1]
        page.keyboard.press("Escape")


def test_axe_finds_nothing_while_an_answer_is_awaited(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "hang")
    open_session(page, live_server)
    say(page, "Go")
    expect(page.locator(".waiting")).to_be_visible()
    assert_accessible(page)


def test_a_fork_goes_its_own_way(page: Any, live_server: LiveServer) -> None:
    session_id = open_session(page, live_server)
    for text in ("One", "Two"):
        say(page, text)
        wait_for_the_end(page)
    page.get_by_role("button", name="Fork here").first.click()
    page.wait_for_url(re.compile(rf"/sessions/(?!{session_id})"))
    say(page, "Three")
    wait_for_the_end(page)
    expect(page.locator("section .words")).to_have_text(["One", "Three"])


def test_a_session_is_continued_later(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    session_id = open_session(page, live_server)
    say(page, "My name is Ada.")
    wait_for_the_end(page)
    page.goto(f"{live_server.url}/sessions")
    page.get_by_role("link", name="My name is Ada.").click()
    say(page, "Who am I?")
    wait_for_the_end(page)
    assert page.url.endswith(session_id)
    assert "My name is Ada." in str(upstream.requests[-1].body["messages"])


def test_copy_takes_the_words_as_they_were_written(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=Some **bold** words")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_session(page, live_server)
    say(page, "Why?")
    wait_for_the_end(page)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "Some **bold** words"


def test_enter_while_an_input_method_composes_only_composes(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    open_session(page, live_server, "friend")
    page.locator("#input").focus()
    cdp = page.context.new_cdp_session(page)
    cdp.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    for event in ({"isComposing": True}, {"keyCode": 229}):
        page.evaluate(
            "init => input.dispatchEvent(new KeyboardEvent('keydown',"
            " {key: 'Enter', bubbles: true, cancelable: true, ...init}))",
            event,
        )
    assert upstream.requests == []
    cdp.send("Input.insertText", {"text": "你好"})
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("再见")
    page.keyboard.press("Enter")
    wait_for_the_end(page)
    expect(page.locator("section .words")).to_have_text("你好\n再见")
    assert upstream.requests[-1].body["messages"][-1]["content"] == "你好\n再见"


@pytest.mark.parametrize("text", ["xss", "bidi", "ansi"])
def test_hostile_output_is_inert_live_and_after_a_reload(
    page: Any, live_server: LiveServer, upstream: FakeUpstream, text: str
) -> None:
    upstream.model_rule("ok", text)
    session_id = open_session(page, live_server)
    say(page, "<img src=x onerror='window.__pwned=1'>")
    wait_for_the_end(page)
    for path in (f"/sessions/{session_id}", "/sessions", "/sessions?q=img"):
        assert page.evaluate("window.__pwned") is None
        assert (
            page.locator("main img, main script, main iframe, main form[action^=http]").count() == 0
        )
        assert "\u202e" not in page.locator("main").inner_text()
        page.goto(live_server.url + path)


@pytest.mark.parametrize(
    ("model", "words", "partial"),
    [
        ("401", "key", ""),
        ("429?retry_after=60", "too many requests", ""),
        ("rst-mid?text=One two three four", "broke before the answer was finished", "One two"),
    ],
)
def test_an_error_is_told_where_the_answer_would_be(
    page: Any,
    failures: Failures,
    live_server: LiveServer,
    upstream: FakeUpstream,
    model: str,
    words: str,
    partial: str,
) -> None:
    upstream.model_rule("ok", f"{model},{model},{model},ok?text=Here I am")
    open_session(page, live_server)
    say(page, "Are you there?")
    wait_for_the_end(page)
    for is_reloaded in (False, True):
        if is_reloaded:
            page.reload()
        expect(page.locator("#turn-1 .problem")).to_contain_text(words)
        expect(page.locator("#turn-1 .said")).to_contain_text(partial)
        expect(page.locator("#turn-1 .words")).to_have_text("Are you there?")
    if not partial:
        failures.expect("Failed to load resource")


def test_words_that_could_not_be_sent_come_back(
    page: Any, failures: Failures, live_server: LiveServer, rolebook: Rolebook
) -> None:
    open_session(page, live_server)
    path = rolebook.library.personas_dir / "teacher.yaml"
    path.write_text(path.read_text("utf-8").replace("{{ level }}", "{{ nothing }}"), "utf-8")
    say(page, "Keep these words")
    expect(page.locator(".problem")).to_contain_text("nothing")
    expect(page.locator("#input")).to_have_value("Keep these words")
    failures.expect("Failed to load resource")


def test_a_stream_without_an_end_is_told_honestly(page: Any, live_server: LiveServer) -> None:
    open_session(page, live_server)
    body = 'event: turn\ndata: {"id": "x"}\n\nevent: delta\ndata: {"index": 0, "kind": "text", "text": "Half a"}\n\n'
    page.route("**/turns", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    say(page, "Why?")
    expect(page.locator(".problem")).to_contain_text("broke before the end of the answer")
    expect(page.locator(".stream.voice")).to_have_text("Half a")


def test_a_server_that_is_gone_is_told_and_the_words_are_kept(
    page: Any, failures: Failures, live_server: LiveServer
) -> None:
    open_session(page, live_server)
    page.route("**/turns", lambda route: route.abort())
    say(page, "Why?")
    expect(page.locator(".problem")).to_contain_text("cannot be reached")
    expect(page.locator("#input")).to_have_value("Why?")
    failures.expect("Failed to load resource")


def test_the_keyboard_alone_is_enough(page: Any, live_server: LiveServer) -> None:
    open_session(page, live_server)
    expect(page.locator("#input")).to_be_focused()
    page.keyboard.type("Why?")
    page.keyboard.press("Enter")
    wait_for_the_end(page)
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent") == "Try again":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#turn-1 .answer")).to_have_count(2)
    wait_for_the_end(page)
    expect(page.locator("#input")).to_be_focused()


def test_every_step_works_without_a_script(new_page: NewPage, live_server: LiveServer) -> None:
    page = new_page(script=False)
    page.goto(f"{live_server.url}/personas/teacher")
    page.get_by_label("What you say first").fill("Why?")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#turn-1 .prose")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#turn-1 .answer")).to_have_count(2)
    page.get_by_role("button", name="Go on from this one").click()
    page.locator("#input").fill("And then?")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#turn-2 .prose")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_be_hidden()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("1 session is in the trash now.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("link", name="Why?")).to_be_visible()


def test_ticked_sessions_are_counted_exported_and_deleted(
    page: Any, live_server: LiveServer
) -> None:
    for text in ("First", "Second", "Third"):
        open_session(page, live_server)
        say(page, text)
        wait_for_the_end(page)
    page.goto(f"{live_server.url}/sessions")
    expect(page.get_by_role("button", name="Delete the ticked")).to_be_disabled()
    page.get_by_label("Tick: Second").check()
    page.get_by_label("Tick: Third").check()
    expect(page.locator("#ticked")).to_have_text("2 ticked")
    page.locator("#format").select_option("md")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export the ticked").click()
    assert re.fullmatch(r"rolebook-sessions-\d{4}-\d\d-\d\d\.md", download.value.suggested_filename)
    page.get_by_role("button", name="Delete the ticked").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("tbody tr")).to_have_count(3)


def test_the_trash_restores_what_is_ticked(page: Any, live_server: LiveServer) -> None:
    session_id = open_session(page, live_server)
    live_server.rolebook.log.delete([session_id])
    page.goto(f"{live_server.url}/sessions?trash=1")
    expect(page.locator("#ticked")).to_have_text("Tick the sessions to restore.")
    expect(page.get_by_role("button", name="Restore the ticked")).to_be_disabled()
    page.locator("tbody input").check()
    page.get_by_role("button", name="Restore the ticked").click()
    expect(page.get_by_text("The trash is empty.")).to_be_visible()


@pytest.mark.parametrize(
    ("language", "theme", "width"),
    [("en", "light", 1280), ("zh", "dark", 390)],
)
def test_axe_finds_nothing_and_nothing_is_too_wide(
    new_page: NewPage,
    live_server: LiveServer,
    upstream: FakeUpstream,
    language: str,
    theme: str,
    width: int,
) -> None:
    table = f"{'|Right' * 20}|\n{'|-' * 20}|\n{'|1' * 20}|"
    text = f"# Head\n\n**注意：**请 `code`\n\n```python\ndef f(x): return 1 # no\n```\n\n{table}"
    upstream.model_rule(
        "ok", f"ok?text={text.replace('#', '%23')},rst-mid?text={'long' * 40} two three"
    )
    page = new_page(language=language, theme=theme, width=width, height=844)
    session_id = open_session(page, live_server, "friend")
    page.locator("#input").fill("Why?")
    page.keyboard.press("Enter")
    expect(page.locator("#turn-1 .facts")).to_be_visible()
    page.locator("#turn-1 .actions form[data-ask] button").first.click()
    expect(page.locator("#turn-1 .answer")).to_have_count(2)
    expect(page.locator("#send")).to_be_visible()
    turn, other = turns(live_server.rolebook, session_id)[:2]
    paths = [f"/sessions/{session_id}", f"/turns/{turn.id}/request", f"/turns/{turn.id}/reply"]
    paths.append(f"/turns/{turn.id}/difference?with={other.id}")
    for path in [*paths, "/sessions", "/sessions?q=code&status=complete", "/sessions?trash=1"]:
        page.goto(live_server.url + path)
        for details in page.locator("main details:not(.menu) > summary").all():
            details.click()
        assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
