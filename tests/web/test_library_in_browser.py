"""Writing a persona in a browser: marks and preview follow the text, nothing is lost, with and without the editor."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from rolebook.core.source import Author, FileKey
from tests.conftest import ROOT, TEACHER, Failures, LiveServer, NewPage
from tests.web.checks import assert_accessible

PAGE = "/library/personas/teacher"
BUNDLE = ROOT / "rolebook/web/static/vendor/codemirror.js"
EDITOR = ".cm-content"


@pytest.fixture
def personas(library_dir: Path) -> Path:
    return library_dir / "personas"


@pytest.fixture
def bundle() -> None:
    """The editor with colours, for tests of what only it can do."""
    if not BUNDLE.exists():
        pytest.skip("the editor was not built: npm is not here")


def open_file(page: Any, server: LiveServer, path: str = PAGE) -> None:
    """Open a file, and wait until it has been looked at for the first time."""
    with page.expect_response(re.compile("/look$")):
        page.goto(server.url + path)


def write_at_end(page: Any, text: str) -> None:
    """Type at the end of the text, in whichever editor there is."""
    page.locator(f"{EDITOR}, #text:visible").first.click()
    page.keyboard.press("Control+End")
    page.keyboard.type(text)


def wait_for_completion(page: Any, word: str = "") -> None:
    """Something is offered; a person asks again where the names of the text were not known in time."""
    offered = page.locator(".cm-tooltip-autocomplete li[aria-selected]")
    for _ in range(20):
        with suppress(AssertionError):
            expect(offered).to_contain_text(word, timeout=1000)
            return
        page.keyboard.press("Control+Space")


def text_of(page: Any) -> str:
    return str(page.evaluate("document.getElementById('text').value"))


@pytest.mark.parametrize(
    ("language", "theme", "width"), [("en", "light", 1280), ("zh", "dark", 390)]
)
def test_axe_finds_nothing(
    new_page: NewPage,
    live_server: LiveServer,
    personas: Path,
    language: str,
    theme: str,
    width: int,
) -> None:
    (personas / "broken.yaml").write_text("name: [\n")
    page = new_page(language=language, theme=theme, width=width, height=844)
    for path, tab in (
        ("/library", ""),
        (PAGE, "beside-preview"),
        ("/library/personas/broken", "beside-problems"),
        ("/library/templates/chat", "beside-preview"),
        (f"{PAGE}/history", ""),
    ):
        page.goto(live_server.url + path)
        if tab:
            expect(page.get_by_role("tablist")).to_be_visible()
            page.locator(f"#tabs a[href='#{tab}']").click()
        page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
        assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


@pytest.mark.parametrize(
    ("language", "theme", "width"), [("en", "light", 1280), ("zh", "dark", 390)]
)
def test_axe_finds_nothing_in_what_two_have_written(
    new_page: NewPage,
    live_server: LiveServer,
    personas: Path,
    failures: Failures,
    language: str,
    theme: str,
    width: int,
) -> None:
    edits, key = live_server.rolebook.edits, FileKey("persona", "teacher")
    edits.save(key, TEACHER + "# one\n", etag=edits.open(key).etag, author=Author("browser"))
    for command in (["init"], ["add", "."], ["commit", "--message", "Write a teacher"]):
        name = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        subprocess.run(["git", *name, *command], cwd=personas, check=True, capture_output=True)
    page = new_page(language=language, theme=theme, width=width, height=844)
    changes = edits.history(key).changes
    difference = f"{PAGE}/history/difference?old={changes[-1].id}"
    for path in (f"{PAGE}/history/commits", difference):
        page.goto(live_server.url + path)
        assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    expect(page.locator("main")).to_contain_text("# one")
    open_file(page, live_server)
    write_at_end(page, "# mine\n")
    (personas / "teacher.yaml").write_text(TEACHER + "# two\n# theirs\n", "utf-8")
    page.keyboard.press("Control+s")
    expect(page.locator("main")).to_contain_text("# theirs")
    failures.expect("409")
    page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.usefixtures("bundle")
def test_mistakes_are_marked_on_their_line_as_one_types(page: Any, live_server: LiveServer) -> None:
    open_file(page, live_server)
    expect(page.locator(".cm-lintRange")).to_have_count(0)
    write_at_end(page, "modl: x")
    expect(page.locator(".cm-lintRange-warning")).to_have_text("modl")
    expect(page.locator("#problem-count")).to_have_text("1")
    page.keyboard.press("F8")
    expect(page.locator(".cm-tooltip .cm-diagnostic")).to_contain_text("Did you mean 'model'?")


def test_the_preview_follows_and_keeps_the_last_good_one(
    page: Any, live_server: LiveServer
) -> None:
    open_file(page, live_server)
    page.locator("#input").fill("Why is it blue?")
    expect(page.locator("#preview")).to_contain_text("Why is it blue?")
    page.get_by_label("Subject").fill("optics")
    expect(page.locator("#preview")).to_contain_text("teacher of optics")
    write_at_end(page, "name: twice\n")
    expect(page.locator("#trouble")).to_contain_text("name")
    expect(page.locator("#preview")).to_have_class(re.compile("stale"))
    expect(page.locator("#preview")).to_contain_text("teacher of optics")


@pytest.mark.usefixtures("bundle")
def test_a_click_on_a_piece_leads_to_its_line(page: Any, live_server: LiveServer) -> None:
    open_file(page, live_server)
    page.locator("#preview a.from-variable", has_text="mathematics").first.click()
    expect(page.locator(".cm-activeLine").first).to_contain_text("You are a patient teacher")
    page.locator("#preview .from-example, #preview li", has_text="A piece of a whole").last.click(
        position={"x": 20, "y": 40}
    )
    expect(page.locator(".cm-activeLine").first).to_contain_text("A piece of a whole")


COMPLETIONS = {
    # First of all, as a text that declares no variables may be looked at after any of the others.
    "x: {{ sub": ("subject", "x: {{ subject"),
    "contex": ("context", "context:\n  "),
    "descr": ("description", "description: "),
    "template: fe": ("few-shot", "template: few-shot"),
    "extends: pla": ("plain", "extends: plain"),
    "endpoint: com": ("completions", "endpoint: completions"),
    "context: {tok": ("tokens", "context: {tokens: "),
}


@pytest.mark.usefixtures("bundle")
def test_a_line_below_a_key_is_indented_and_one_of_a_text_goes_on(
    page: Any, live_server: LiveServer
) -> None:
    open_file(page, live_server)
    page.locator(EDITOR).click()
    page.keyboard.press("Control+a")
    for line in ("variables:", "a:", "max: 1"):
        page.keyboard.type(line)
        page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Backspace")
    for line in ("system: |", "Note:", "x"):
        page.keyboard.type(line)
        page.keyboard.press("Enter")
    expected = "variables:\n  a:\n    max: 1\nsystem: |\n  Note:\n  x\n  "
    assert expected == text_of(page)


@pytest.mark.usefixtures("bundle")
def test_keys_values_and_names_are_completed(page: Any, live_server: LiveServer) -> None:
    open_file(page, live_server)
    offered = page.locator(".cm-tooltip-autocomplete li[aria-selected]")

    def complete(typed: str, word: str) -> str:
        page.locator(EDITOR).click()
        page.keyboard.press("Control+a")
        page.keyboard.type(typed)
        wait_for_completion(page, word)
        page.wait_for_timeout(100)
        page.keyboard.press("Enter")
        expect(offered).to_have_count(0)
        return text_of(page)

    for typed, (word, result) in COMPLETIONS.items():
        # A key that comes within 75 ms of the list's last change is meant for the text; on a busy machine one may.
        assert result in (complete(typed, word) for _ in range(6))
    page.locator(EDITOR).click()
    page.keyboard.press("Control+a")
    page.keyboard.type("name: x")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Space")
    expect(offered).to_have_count(1)
    expect(page.locator(".cm-tooltip-autocomplete li").filter(has_text="name")).to_have_count(0)


@pytest.mark.usefixtures("bundle")
def test_a_conflict_is_opened_at_the_first_lines_that_both_have_changed(
    page: Any, live_server: LiveServer, personas: Path, failures: Failures
) -> None:
    long = TEACHER + "".join(f"# line {number}\n" for number in range(100))
    (personas / "teacher.yaml").write_text(long)
    open_file(page, live_server)
    write_at_end(page, "# mine\n")
    (personas / "teacher.yaml").write_text(long + "# theirs\n")
    page.keyboard.press("Control+s")
    expect(page.locator("#conflict")).to_be_visible()
    failures.expect("409")
    expect(page.locator(".cm-activeLine")).to_have_text("<<<<<<< your text")
    expect(page.locator(".cm-activeLine")).to_be_in_viewport()


@pytest.mark.usefixtures("bundle")
def test_a_file_that_is_gone_is_said_once_and_instead_of_a_conflict(
    page: Any, live_server: LiveServer, personas: Path, failures: Failures
) -> None:
    open_file(page, live_server)
    write_at_end(page, "# mine\n")
    (personas / "teacher.yaml").write_text(TEACHER + "# theirs\n")
    page.keyboard.press("Control+s")
    banners = page.locator("#notices > .banner:visible")
    expect(banners).to_contain_text("changed by somebody else")
    expect(page.locator(".cm-activeLine")).to_have_text("<<<<<<< your text")
    (personas / "teacher.yaml").unlink()
    write_at_end(page, "# more\n")
    expect(banners).to_contain_text("deleted since you opened it")
    page.keyboard.press("Control+s")
    expect(banners).to_contain_text("deleted meanwhile")
    failures.expect("409")
    failures.expect("404")
    banners.get_by_role("button", name="Save as a new file").click()
    expect(banners).to_contain_text("mark of a merge")
    failures.expect("422")
    banners.get_by_role("button", name="Save all the same").click()
    expect(page.locator(".banner.bad:visible")).to_have_count(0)
    assert (personas / "teacher.yaml").read_text("utf-8").endswith("# more\n")


def test_the_text_can_be_left_by_tab_and_saved_by_a_key(
    page: Any, live_server: LiveServer, personas: Path
) -> None:
    open_file(page, live_server)
    write_at_end(page, "# by hand\n")
    page.keyboard.press("Control+s")
    expect(page.locator("#saved")).to_have_text("Saved.")
    assert TEACHER + "# by hand\n" == (personas / "teacher.yaml").read_text()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "save"
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("nothing was written")


@pytest.mark.usefixtures("bundle")
def test_an_input_method_composes_undisturbed(page: Any, live_server: LiveServer) -> None:
    open_file(page, live_server)
    write_at_end(page, "# ")
    session = page.context.new_cdp_session(page)
    for composed in ("n", "ni", "ni h", "ni hao"):
        session.send(
            "Input.imeSetComposition",
            {"text": composed, "selectionStart": len(composed), "selectionEnd": len(composed)},
        )
    with page.expect_response(re.compile("/look$")):
        session.send("Input.insertText", {"text": "你好"})
    assert TEACHER + "# 你好" == text_of(page)


@pytest.mark.parametrize("has_bundle", [True, False])
def test_text_that_was_not_saved_outlives_a_reload(
    page: Any, failures: Failures, live_server: LiveServer, personas: Path, has_bundle: bool
) -> None:
    if not has_bundle:
        page.route("**/vendor/**", lambda route: route.abort())
    open_file(page, live_server)
    write_at_end(page, "# not saved\n")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    (personas / "teacher.yaml").write_text(TEACHER.replace("name: Teacher", "name: Tutor"))
    page.goto(live_server.url + "/library")
    assert ["beforeunload"] == asked
    expect(page.locator(".files .unsaved:visible")).to_have_text(
        "unsaved text; changed on disk since"
    )
    open_file(page, live_server)
    page.get_by_role("button", name="Go on with it").click()
    assert text_of(page).endswith("# not saved\n")
    page.keyboard.press("Control+s")
    expect(page.locator("#conflict")).to_contain_text("Nothing is lost")
    expect(page.get_by_role("tablist")).to_be_visible()
    failures.expect("409")
    assert text_of(page).endswith("# not saved\n")
    assert "name: Tutor" in text_of(page)
    page.keyboard.press("Control+s")
    expect(page.locator("#saved")).to_have_text("Saved.")
    assert text_of(page) == (personas / "teacher.yaml").read_text()
    page.goto(live_server.url + "/library")
    expect(page.locator(".files .unsaved:visible")).to_have_count(0)
    if BUNDLE.exists() and not has_bundle:
        failures.expect("ERR_FAILED")


def test_without_the_bundle_the_plain_field_is_complete(
    page: Any, failures: Failures, live_server: LiveServer, personas: Path
) -> None:
    page.route("**/vendor/**", lambda route: route.abort())
    open_file(page, live_server)
    write_at_end(page, "modl: x\n")
    page.locator("#tabs a", has_text="Problems").click()
    page.locator("#problems a").click()
    assert TEACHER.count("\n") == page.evaluate(
        "() => { const t = document.getElementById('text');"
        " return t.value.slice(0, t.selectionStart).split('\\n').length - 1; }"
    )
    page.keyboard.press("Control+s")
    expect(page.locator("#saved")).to_have_text("Saved.")
    assert TEACHER + "modl: x\n" == (personas / "teacher.yaml").read_text()
    if BUNDLE.exists():
        failures.expect("ERR_FAILED")


@pytest.mark.parametrize("is_rich", [True, False])
def test_a_missing_variable_is_declared_and_that_undone(
    page: Any, failures: Failures, live_server: LiveServer, is_rich: bool
) -> None:
    if not is_rich:
        page.route("**/vendor/**", lambda route: route.abort())
    elif not BUNDLE.exists():
        pytest.skip("the editor was not built: npm is not here")
    open_file(page, live_server)
    page.locator(f"{EDITOR}, #text:visible").first.click()
    page.keyboard.press("Control+a")
    missing = TEACHER.replace("{{ subject }} for", "{{ mood }} for")
    page.keyboard.insert_text(missing)
    page.locator("#trouble").get_by_role("button", name="Declare 'mood'").click()
    expect(page.locator("#trouble")).to_be_empty()
    expect(page.get_by_label("Mood")).to_be_visible()
    assert '  mood: ""\n' in text_of(page)
    page.keyboard.type("calm")
    assert '  mood: "calm"\n' in text_of(page)
    for _ in range(5):
        page.keyboard.press("Control+z")
        if text_of(page) == missing:
            break
    assert missing == text_of(page)
    expect(page.locator("#trouble")).to_contain_text("There is no 'mood' here")
    if is_rich:
        page.keyboard.press("F8")
        page.locator(".cm-tooltip").get_by_role("button", name="Declare it").click()
    else:
        page.locator("#tabs a", has_text="Problems").click()
        page.locator("#problems").get_by_role("button", name="Declare 'mood'").click()
    expect(page.locator("#trouble")).to_be_empty()
    assert '  mood: ""\n' in text_of(page)
    if not is_rich and BUNDLE.exists():
        failures.expect("ERR_FAILED")


def test_a_variable_that_is_declared_by_the_address_is_ready_to_be_filled_in(
    page: Any, live_server: LiveServer, personas: Path
) -> None:
    open_file(page, live_server, f"{PAGE}?declare=mood")
    expect(page.locator("#saved")).to_have_text("Not saved yet")
    page.keyboard.type("calm")
    assert '  mood: "calm"\n' in text_of(page)
    assert TEACHER == (personas / "teacher.yaml").read_text()


def test_a_text_of_before_counts_as_not_saved(page: Any, live_server: LiveServer) -> None:
    edits, key = live_server.rolebook.edits, FileKey("persona", "teacher")
    edits.save(key, TEACHER + "# now\n", etag=edits.open(key).etag, author=Author("browser"))
    former = edits.history(key).changes[-1].id
    open_file(page, live_server, f"{PAGE}?at={former}")
    assert TEACHER == text_of(page)
    expect(page.locator("#saved")).to_have_text("Not saved yet")


def test_without_script_everything_is_there(
    new_page: NewPage, live_server: LiveServer, personas: Path
) -> None:
    page = new_page(script=False)
    page.goto(live_server.url + PAGE)
    page.locator("#text").fill(TEACHER + "modl: x\n")
    page.locator("#input").fill("Why?")
    page.get_by_role("button", name="Check and preview").click()
    expect(page.locator("#problems")).to_contain_text("Did you mean 'model'?")
    expect(page.locator("#preview")).to_contain_text("Why?")
    page.locator("#text").fill(TEACHER + "# fine\n")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".banner.good")).to_have_text("Saved.")
    assert TEACHER + "# fine\n" == (personas / "teacher.yaml").read_text()


def test_what_is_written_beside_an_offered_text_does_not_replace_it(
    page: Any, live_server: LiveServer, personas: Path
) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    open_file(page, live_server)
    write_at_end(page, "# left")
    open_file(page, live_server)
    expect(page.locator("#unsaved")).to_be_visible()
    write_at_end(page, "# newer")

    # The newer is offered first, then the one of before; what is written then is offered in its turn.
    open_file(page, live_server)
    page.get_by_role("button", name="Go on with it").click()
    assert text_of(page).endswith("# newer")
    page.get_by_role("button", name="Go on with it").click()
    assert text_of(page).endswith("# left")
    page.get_by_role("button", name="Go on with it").click()
    assert text_of(page).endswith("# newer")
    page.get_by_role("button", name="Drop it").click()
    expect(page.locator("#unsaved")).to_be_hidden()
    page.keyboard.press("Control+s")
    expect(page.locator("#saved")).to_have_text("Saved.")
    open_file(page, live_server)
    expect(page.locator("#unsaved")).to_be_hidden()
    assert (personas / "teacher.yaml").read_text().endswith("# newer")


def test_each_tab_keeps_its_own_text_and_what_a_closed_one_left_is_offered(
    page: Any, live_server: LiveServer
) -> None:
    open_file(page, live_server)
    with page.context.expect_page() as opened:
        # Such a tab begins as a copy of this one, with all that is known of the session.
        page.evaluate("void open('about:blank')")
    other = opened.value
    open_file(other, live_server)
    for tab, text in ((page, "# first"), (other, "# second")):
        tab.on("dialog", lambda dialog: dialog.accept())
        write_at_end(tab, text)
    for tab, text in ((page, "# first"), (other, "# second")):
        open_file(tab, live_server)
        tab.get_by_role("button", name="Go on with it").click()
        expect(tab.locator("#unsaved")).to_be_hidden()
        assert text_of(tab).endswith(text)

    other.close()
    wait_for_tabs(page, 1)
    open_file(page, live_server)
    for text in ("# second", "# first"):
        page.get_by_role("button", name="Go on with it").click()
        assert text_of(page).endswith(text)


def wait_for_tabs(page: Any, number: int) -> None:
    """So many pages hold the lock of their tab."""
    deadline = time.monotonic() + 20
    while page.evaluate("navigator.locks.query().then(({ held }) => held.length)") != number:
        assert time.monotonic() < deadline


def test_a_text_taken_up_twice_is_still_held_against_what_it_began_from(
    page: Any, failures: Failures, live_server: LiveServer, personas: Path
) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    path = personas / "teacher.yaml"
    open_file(page, live_server)
    write_at_end(page, "# mine\n")
    path.write_text(TEACHER.replace("name: Teacher", "name: Tutor"))
    for _ in range(2):
        open_file(page, live_server)
        page.get_by_role("button", name="Go on with it").click()
    page.keyboard.press("Control+s")
    expect(page.locator("#conflict")).to_be_visible()
    failures.expect("409")
    assert "name: Tutor" in path.read_text()


def test_text_for_a_new_file_is_found_again_in_the_list(page: Any, live_server: LiveServer) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    open_file(page, live_server, "/library/personas/cook?new=")
    write_at_end(page, "# a thought")
    page.goto(live_server.url + "/library")
    entry = page.locator(".files li", has_text="not saved yet")
    with page.expect_response(re.compile("/look$")):
        entry.get_by_role("link", name="cook").click()
    page.get_by_role("button", name="Go on with it").click()
    assert text_of(page).endswith("# a thought")


@pytest.mark.parametrize("script", [True, False])
def test_what_is_written_goes_along_when_the_language_changes(
    new_page: NewPage, live_server: LiveServer, script: bool
) -> None:
    page = new_page(script=script)
    page.on("dialog", lambda dialog: dialog.dismiss())
    if script:
        open_file(page, live_server)
        write_at_end(page, "# mine")
    else:
        page.goto(live_server.url + PAGE)
        page.locator("#text").fill(TEACHER + "# mine")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", re.compile("^zh"))
    expect(page.locator("#text")).to_have_value(TEACHER + "# mine")
    if script:
        expect(page.locator("#saved")).to_have_text("尚未保存")


def test_on_a_phone_the_list_of_files_leaves_the_page_to_a_history(
    new_page: NewPage, live_server: LiveServer
) -> None:
    page = new_page(width=390)
    page.goto(f"{live_server.url}{PAGE}/history")
    expect(page.locator("#files")).not_to_have_attribute("open", "")
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport()
    page.goto(live_server.url + "/library")
    expect(page.locator("#files")).to_have_attribute("open", "")


def test_two_drafts_are_tried_side_by_side(page: Any, live_server: LiveServer) -> None:
    open_file(page, live_server)
    page.locator("#input").fill("Why?")
    page.locator("#tabs a", has_text="Try").click()
    page.get_by_role("button", name="Try it").click()
    expect(page.locator(".trial-said")).to_have_count(1)
    write_at_end(page, "context: {turns: 3}\n")
    page.locator("#beside").select_option(index=2)
    page.get_by_role("button", name="Try it").click()
    expect(page.locator(".trial").first.locator(".trial-said")).to_have_count(2)
    revisions = {
        said.get_attribute("data-revision")
        for said in page.locator(".trial").first.locator(".trial-said").all()
    }
    assert 2 == len(revisions)
    expect(page.get_by_role("link", name="Compare the two on many inputs")).to_be_visible()
    page.get_by_role("button", name="Go on from here").first.click()
    expect(page.locator("#said-0-user")).to_have_value("Why?")
    expect(page.locator("#input")).to_be_focused()
    assert_accessible(page)


def begin_as_form(page: Any, live_server: LiveServer) -> None:
    """Begin a persona by its form, and go on with it as text."""
    page.goto(live_server.url + "/library")
    page.get_by_label("Name", exact=True).fill("Cook")
    expect(page.get_by_label("Id, which")).to_have_value("cook")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("tablist")).to_be_visible(timeout=20_000)
    page.get_by_label("How it speaks").fill("You cook with what there is.")
    expect(page.locator("#preview")).to_contain_text("You cook with what there is.")
    page.get_by_role("button", name="Go on as text").click()
    expect(page.locator("#text")).to_be_attached()
    expect(page.get_by_role("tablist")).to_be_visible(timeout=20_000)
    assert "You cook with what there is." in text_of(page)


def test_from_a_new_persona_to_restoring_it(
    page: Any, failures: Failures, live_server: LiveServer, personas: Path
) -> None:
    path = personas / "cook.yaml"
    begin_as_form(page, live_server)

    # Written on, with a mistake, which is marked and mended.
    write_at_end(page, "variabels: {dish: soup}\n")
    expect(page.locator("#problem-count")).to_have_text("1")
    for _ in "variabels: {dish: soup}\n":
        page.keyboard.press("Backspace")
    page.keyboard.type("greeting: Hungry?\n")
    expect(page.locator("#problem-count")).to_be_empty()

    # Looked at and tried; nothing is saved yet.
    page.locator("#input").fill("An onion")
    expect(page.locator("#preview")).to_contain_text("An onion")
    expect(page.locator("#preview")).to_contain_text("Hungry?")
    page.locator("#tabs a", has_text="Try").click()
    page.get_by_role("button", name="Try it").click()
    expect(page.locator(".trial-said .prose")).to_have_count(1)
    assert not path.exists()

    # Saved, and changed by somebody else while it is written on.
    with page.expect_navigation():
        page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("tablist")).to_be_visible()
    saved = path.read_text()
    assert saved.endswith("greeting: Hungry?\n")
    path.write_text(saved.replace("name: Cook", "name: Chef"))
    write_at_end(page, "language: en\n")
    page.locator("#message").fill("It speaks English")
    page.keyboard.press("Control+s")
    expect(page.locator("#conflict")).to_contain_text("your changes and theirs were in different")
    expect(page.get_by_role("tablist")).to_be_visible()
    failures.expect("409")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#saved")).to_have_text("Saved.")
    merged = saved.replace("name: Cook", "name: Chef") + "language: en\n"
    assert merged == path.read_text()
    expect(page.get_by_role("heading", level=1)).to_have_text("Chef")

    # And back to what it was at first.
    page.locator("#tabs a", has_text="History").click()
    changes = page.locator(".timeline > li")
    expect(changes.first).to_contain_text("It speaks English")
    first = changes.filter(has_text="created")
    first.get_by_role("link", name="Differences to now").click()
    expect(page.locator(".lines ins").first).to_be_visible()
    page.go_back()
    page.locator("#tabs a", has_text="History").click()
    with page.expect_navigation():
        changes.filter(has_text="created").get_by_role("button", name="Restore").click()
    expect(page.get_by_role("tablist")).to_be_visible()
    assert saved == path.read_text() == text_of(page)
