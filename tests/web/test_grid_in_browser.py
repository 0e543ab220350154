"""A comparison as people see it: answers come in and columns move, in a real browser, against a real upstream."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from rolebook.core.comparison import Comparison
from tests.conftest import Failures, LiveServer, NewPage
from tests.fake_upstream import FakeUpstream
from tests.test_compare import cells_of
from tests.web.checks import assert_accessible, assert_accessible_and_fitting
from tests.web.test_grid import fill, plan

LONG = "ok?text=" + "A line of an answer that goes on for a while, and then for longer. " * 40
SLOW = "ok?tokens=4000&delay_ms=20"


def look(page: Any, server: LiveServer, comparison: Comparison, query: str = "") -> None:
    page.goto(f"{server.url}/comparisons/{comparison.id}{query}")


def box(page: Any, name: str) -> Any:
    """The answer of ``variant-input-repeat``."""
    return page.locator(f"#answer-{name}-1")


def wait_for_the_end(page: Any) -> None:
    expect(page.locator("#state")).to_have_attribute("data-running", "")


def test_answers_appear_as_they_come(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=One **two** three four five six seven eight")
    upstream.hold("ok", after=6)
    comparison = plan(live_server.rolebook, inputs=["Why?"])
    evidence: list[str] = []
    page.on("request", lambda r: evidence.append(r.url) if r.url.endswith("/evidence") else None)
    look(page, live_server, comparison)
    expect(page.locator("#progress")).to_contain_text("0 of 2")
    expect(page.locator("#verdict")).to_contain_text("Nothing has been answered yet.")
    page.get_by_role("button", name="Start").click()
    for variant in (1, 2):
        expect(box(page, f"{variant}-1-1").locator(".stream")).to_contain_text("One **two**")
    expect(page.locator("#verdict")).not_to_contain_text("Nothing has been answered yet.")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    assert "eight" not in box(page, "1-1-1").inner_text()
    upstream.let_go("ok")
    for variant in (1, 2):
        expect(box(page, f"{variant}-1-1").locator("strong")).to_have_text("two")
    wait_for_the_end(page)
    expect(page.locator("#progress")).to_contain_text("2 of 2")
    expect(page.locator("#announcer")).to_have_text("The run has ended.")
    assert len(evidence) == 2
    expect(page.get_by_role("button", name="Start")).to_have_count(0)


def test_what_was_found_before_a_run_is_not_told_once_it_runs(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.hold("ok")
    comparison = plan(live_server.rolebook, inputs=["Why?"])
    found: list[Any] = []
    page.route("**/evidence", lambda route: found.append((route, route.fetch())))
    look(page, live_server, comparison)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    verdict = page.locator("#verdict")
    expect(verdict).not_to_contain_text("Nothing has been answered yet.")
    ((route, response),) = found
    assert "Nothing has been answered yet." in response.text()
    with page.expect_event("requestfinished", lambda r: r.url.endswith("/evidence")):
        route.fulfill(response=response)
    page.wait_for_timeout(100)
    expect(verdict).not_to_contain_text("Nothing has been answered yet.")


def test_a_reload_in_the_middle_loses_nothing(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=One two three four five six&tokens=400&delay_ms=100")
    comparison = plan(live_server.rolebook, variants=["plain"], inputs=["Why?"])
    live_server.rolebook.compare.start(comparison)
    look(page, live_server, comparison)
    expect(box(page, "1-1-1").locator(".stream")).to_contain_text("two")
    page.reload()
    expect(box(page, "1-1-1").locator(".stream")).to_have_text(
        re.compile("^One two three four five")
    )
    page.get_by_role("button", name="Stop").click()
    expect(box(page, "1-1-1")).to_contain_text("Stopped")
    cell = cells_of(live_server.rolebook, comparison)["1-1-1"]
    expect(box(page, "1-1-1").locator(".prose")).to_have_text(cell.turns[0].text)


def test_stop_and_resume(page: Any, live_server: LiveServer, upstream: FakeUpstream) -> None:
    upstream.model_rule("ok", SLOW)
    comparison = plan(live_server.rolebook, concurrency=1)
    live_server.rolebook.compare.start(comparison)
    look(page, live_server, comparison)
    expect(box(page, "1-1-1").locator(".stream")).not_to_be_empty()
    page.get_by_role("button", name="Stop").click()
    expect(box(page, "1-1-1")).to_contain_text("Stopped")
    expect(box(page, "2-2-1")).to_contain_text("Waiting")
    upstream.model_rule("ok", "ok?text=Done now")
    page.get_by_role("button", name="Resume").click()
    for name in ("1-1-1", "2-2-1"):
        expect(box(page, name).locator(".prose")).to_have_text("Done now")
    wait_for_the_end(page)


def test_a_page_at_rest_joins_what_another_one_goes_on_with(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", f"400,400,{SLOW}")
    comparison = fill(live_server.rolebook, variants=["plain"], inputs=["One", "Two"])
    look(page, live_server, comparison)
    expect(page.get_by_role("button", name="Try the failed ones again")).to_be_visible()
    live_server.rolebook.compare.start(comparison, with_failed=True)
    expect(box(page, "1-2-1").locator(".stream")).to_contain_text("Echo", timeout=15_000)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    live_server.rolebook.compare.stop(comparison.id)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    live_server.rolebook.comparisons.delete_comparisons([comparison.id])
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("button", name="Restore it")).to_be_visible()


def test_a_line_that_breaks_is_told_until_it_is_taken_up_again(
    page: Any, live_server: LiveServer, upstream: FakeUpstream, failures: Failures
) -> None:
    upstream.model_rule("ok", "ok?text=One two three four")
    upstream.hold("ok", after=4)
    comparison = plan(live_server.rolebook, variants=["plain"], inputs=["Why?"])
    live_server.rolebook.compare.start(comparison)
    page.route("**/events?*", lambda route: route.abort())
    look(page, live_server, comparison)
    told = page.locator("#state .problem")
    expect(told).to_contain_text("The connection to Rolebook broke.")
    assert_accessible(page)
    page.unroute("**/events?*")
    expect(box(page, "1-1-1").locator(".stream")).to_contain_text("One")
    expect(told).to_have_count(0)
    upstream.let_go("ok")
    wait_for_the_end(page)
    expect(box(page, "1-1-1").locator(".prose")).to_have_text("One two three four")
    failures.expect("ERR_FAILED")


def test_one_cell_is_tried_again_from_where_it_failed(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "401,401,ok?text=Here I am")
    comparison = fill(live_server.rolebook, inputs=["Why?"])
    look(page, live_server, comparison)
    expect(box(page, "2-1-1").locator(".problem")).to_contain_text("key")
    page.get_by_role("button", name="Try again: Plain assistant, input 1").click()
    expect(box(page, "2-1-1").locator(".prose")).to_have_text("Here I am")
    expect(box(page, "1-1-1").locator(".problem")).to_be_visible()
    wait_for_the_end(page)
    page.get_by_role("button", name="Try the failed ones again").click()
    expect(box(page, "1-1-1").locator(".prose")).to_have_text("Here I am")


def test_faults_stay_in_their_cells(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    models = ["ok", "hang", "rst-mid?text=One two three four", "ok", "xss", "ok"]
    variants = [{"persona": "plain", "model": model} for model in models]
    comparison = plan(live_server.rolebook, variants=variants, inputs=["<b>Why?"], concurrency=6)
    live_server.rolebook.compare.start(comparison)
    look(page, live_server, comparison)
    for variant in (1, 4, 5, 6):
        expect(box(page, f"{variant}-1-1")).to_have_class("box complete")
    expect(box(page, "3-1-1").locator(".problem")).to_contain_text("broke before")
    expect(box(page, "2-1-1")).to_have_class("box running")
    for _ in range(2):
        assert page.evaluate("window.__pwned") is None
        assert page.locator("main img, main script, main iframe, main b").count() == 0
        page.reload()
    page.get_by_role("button", name="Stop").click()
    expect(box(page, "2-1-1")).to_contain_text("Stopped before anything came.")


def test_a_column_moves_and_widens_and_the_address_keeps_it(
    page: Any, live_server: LiveServer
) -> None:
    comparison = fill(live_server.rolebook, variants=["teacher", "plain", "friend"])
    look(page, live_server, comparison)
    head = page.locator(".lattice thead .who > :first-child")
    narrow = page.locator("#column-1").bounding_box()["width"]
    page.get_by_role("link", name="Move Teacher right").focus()
    page.keyboard.press("Enter")
    expect(head).to_have_text(["Plain assistant", "Teacher", "知心朋友"])
    expect(page.get_by_role("link", name="Move Teacher right")).to_be_focused()
    page.keyboard.press("Enter")
    expect(head).to_have_text(["Plain assistant", "知心朋友", "Teacher"])
    page.get_by_role("link", name="Widen Teacher").click()
    expect(page.get_by_role("link", name="Make Teacher as wide")).to_be_focused()
    assert page.locator("#column-1").bounding_box()["width"] > 1.5 * narrow
    page.reload()
    expect(head).to_have_text(["Plain assistant", "知心朋友", "Teacher"])
    assert page.locator("#column-1").bounding_box()["width"] > 1.5 * narrow


def test_a_long_answer_is_folded_and_shown_whole_on_request(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", LONG)
    comparison = fill(live_server.rolebook, variants=["plain"], inputs=["Why?"])
    look(page, live_server, comparison)
    fold = page.locator(".fold")
    height = fold.bounding_box()["height"]
    page.get_by_role("button", name="Show all").click()
    assert fold.bounding_box()["height"] > 1.5 * height
    page.get_by_role("button", name="Show less").click()
    assert fold.bounding_box()["height"] == height


def test_long_answers_scroll_in_step(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("short", LONG[:1700])
    upstream.model_rule("long", LONG)
    variants = [{"persona": "plain", "model": model} for model in ("short", "long")]
    comparison = fill(live_server.rolebook, variants=variants, inputs=["Why?", "What?"])
    look(page, live_server, comparison)
    page.get_by_label("Long answers scroll in step").check()
    for _ in range(2):
        folds = page.locator(".fold")
        folds.nth(0).focus()
        page.keyboard.press("End")
        ends = "f => Math.abs(f.scrollTop + f.clientHeight - f.scrollHeight) < 3"
        for place in (0, 1):
            expect(folds.nth(place)).to_have_js_property("tabIndex", 0)
            page.wait_for_function(
                f"place => ({ends})(document.querySelectorAll('.fold')[place])", arg=place
            )
        assert folds.nth(3).evaluate("f => f.scrollTop") == 0
        page.reload()
        expect(page.get_by_label("Long answers scroll in step")).to_be_checked()


def test_the_header_and_the_inputs_stay_in_sight(page: Any, live_server: LiveServer) -> None:
    variants = [{"persona": "plain", "name": f"Variant {n}"} for n in range(8)]
    comparison = fill(
        live_server.rolebook, variants=variants, inputs=[f"Why {n}?" for n in range(12)]
    )
    look(page, live_server, comparison)
    page.locator("#grid").scroll_into_view_if_needed()
    page.locator("#grid").evaluate("grid => grid.scrollTo(grid.scrollWidth, grid.scrollHeight)")
    for place in ("#column-8", "#input-12 th"):
        expect(page.locator(place)).to_be_in_viewport(ratio=0.9)
    assert page.locator("#column-8").bounding_box()["width"] >= 300
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_the_edge_of_the_next_column_is_seen(
    new_page: NewPage, live_server: LiveServer, width: int
) -> None:
    page = new_page(width=width, height=800)
    look(page, live_server, fill(live_server.rolebook, variants=["plain", "teacher", "friend"]))
    grid, following = (page.locator(place).bounding_box() for place in ("#grid", "#column-2"))
    assert 20 <= grid["x"] + grid["width"] - following["x"] <= 60


def test_the_matrix_fills_and_leads_to_its_cells(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("bad", "401")
    variants = ["plain", {"persona": "plain", "model": "bad", "name": "Bad"}]
    comparison = plan(live_server.rolebook, variants=variants, repeats=2)
    look(page, live_server, comparison, "?view=matrix")
    squares = page.locator(".strip .marks i")
    expect(squares).to_have_class(["w"] * 8)
    page.get_by_role("button", name="Start").click()
    expect(squares).to_have_class(["p"] * 4 + ["f"] * 4)
    expect(page.locator("[data-count='f']")).to_have_text("4")
    wait_for_the_end(page)
    expect(page.get_by_role("link", name="Bad, input 2, repeat 1")).to_be_visible()
    squares.nth(6).hover()
    expect(squares.nth(6)).to_have_attribute("title", "Bad, input 2, repeat 1")
    squares.nth(6).click()
    page.wait_for_url("**/cells/2-2-1?view=matrix")


def test_squares_are_reached_and_told_apart_by_keyboard(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("bad", "401")
    variants = ["plain", {"persona": "plain", "model": "bad", "name": "Bad"}]
    inputs = [f"Question {n}" for n in range(50)]
    comparison = plan(live_server.rolebook, variants=variants, inputs=inputs)
    page.set_viewport_size({"width": 390, "height": 800})
    look(page, live_server, comparison, "?view=matrix")
    stop = page.locator(".strip .marks i[tabindex]")
    expect(stop).to_have_count(1)
    page.locator("#as-matrix").focus()
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("aria-label", "Plain assistant, input 1: waiting")
    page.keyboard.press("Enter")
    # In lines of its own width, over the end of a strip, and to the same input of the next.
    tops = page.eval_on_selector_all(
        ".strip:first-of-type .marks i", "squares => squares.map((each) => each.offsetTop)"
    )
    columns = tops.count(tops[0])
    ways = [
        (["ArrowRight"], "Plain assistant", 2),
        (["ArrowDown"], "Plain assistant", 2 + columns),
        (["End", "ArrowRight"], "Plain assistant", 50),
        (["ArrowDown"], "Bad", 1 + 49 % columns),
        (["ArrowUp"], "Plain assistant", 50),
        (["Home", "ArrowRight", "ArrowRight", "PageDown"], "Bad", 3),
    ]
    for keys, variant, number in ways:
        for key in keys:
            page.keyboard.press(key)
        expect(focused).to_have_attribute("aria-label", f"{variant}, input {number}: waiting")
        expect(stop).to_have_count(1)
    live_server.rolebook.compare.start(comparison)
    # Another page has begun it; this one joins, and the focus stays where it is.
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(focused).to_have_attribute("aria-label", "Bad, input 3: failed", timeout=15_000)
    page.keyboard.press("Enter")
    page.wait_for_url("**/cells/2-3-1?view=matrix")


def test_the_way_back_from_a_cell_leads_to_its_square(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    comparison = fill(live_server.rolebook, repeats=2)
    look(page, live_server, comparison, "?view=matrix&order=2-1")
    focused = page.locator(":focus")
    page.locator(".strip .marks i[tabindex]").focus()
    page.keyboard.press("ArrowRight")
    expect(focused).to_have_attribute("aria-label", "Plain assistant, input 1, repeat 2: answered")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cells/2-1-2?*")
    page.go_back()
    expect(focused).to_have_attribute("aria-label", "Plain assistant, input 1, repeat 2: answered")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cells/2-1-2?*")
    # Also from another one than where one came in, and after another answer was held against it.
    page.keyboard.press("ArrowDown")
    page.wait_for_url("**/cells/2-2-2?*")
    page.get_by_label("Compare with").select_option(label="Teacher · repeat 1")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/cells/2-2-2?*with=1*")
    page.get_by_role("link", name="Back to").click()
    expect(focused).to_have_attribute("aria-label", "Plain assistant, input 2, repeat 2: answered")
    expect(page.locator(".strip h3").first).to_have_text("Plain assistant")
    page.get_by_role("link", name="To read").click()
    expect(page.get_by_role("link", name="To read")).to_be_focused()
    page.wait_for_url(re.compile(r"\?repeat=2&order=2-1$"))


class Effort:
    """The processor's time that a page takes, whatever else the computer does meanwhile."""

    def __init__(self, page: Any) -> None:
        self._devtools = page.context.new_cdp_session(page)
        self._devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._last = self._total()

    def taken(self) -> float:
        """How much it took since this was asked last."""
        total = self._total()
        self._last, taken = total, total - self._last
        return taken

    def _total(self) -> float:
        metrics = self._devtools.send("Performance.getMetrics")["metrics"]
        return float({each["name"]: each["value"] for each in metrics}["TaskDuration"])


def test_a_matrix_of_ten_thousand_squares_stays_smooth(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=Yes&latency_ms=150")
    comparison = plan(
        live_server.rolebook,
        variants=["plain"] * 4,
        inputs=[f"Question {n}" for n in range(2500)],
    )
    compare, effort = live_server.rolebook.compare, Effort(page)
    look(page, live_server, comparison, "?view=matrix")
    opened = effort.taken()
    page.get_by_role("button", name="Start").click()
    taken = []
    for count in (10, 50):
        # To look on the page for how far it is would be part of what is measured.
        while compare.progress_of(comparison).tally.complete < count:
            page.wait_for_timeout(50)
        expect(page.locator(".strip .marks i.p").nth(count - 1)).to_be_visible()
        taken.append(effort.taken())
    compare.stop(comparison.id)
    swapped, filled = taken
    # The page that takes the place of the other one is the greatest task; it and forty squares are of the same order
    # as opening the page. Laid out anew for each square, or looked through for it, they take five times that and more.
    assert swapped < 4 * opened
    assert filled < 4 * opened


def test_a_cells_page_is_left_by_arrow_keys(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    comparison = fill(live_server.rolebook)
    look(page, live_server, comparison)
    page.get_by_role("link", name="Closer look: Teacher, input 1").click()
    page.wait_for_url("**/cells/1-1-1")
    for key, cell in [
        ("ArrowRight", "2-1-1"),
        ("ArrowRight", "2-1-1"),
        ("ArrowDown", "2-2-1"),
        ("ArrowLeft", "1-2-1"),
        ("ArrowUp", "1-1-1"),
    ]:
        page.keyboard.press(key)
        page.wait_for_url(f"**/cells/{cell}")
    page.get_by_label("Compare with").select_option(label="Plain assistant")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("main")).to_contain_text("Word for word the same.")
    page.get_by_label("Compare with").focus()
    page.keyboard.press("ArrowDown")
    assert "/cells/1-1-1" in page.url
    page.get_by_role("link", name="Back to").click()
    page.wait_for_url(f"**/comparisons/{comparison.id}#answer-1-1-1-1")
    page.keyboard.press("Tab")
    inside = "document.activeElement.closest('.box')?.id"
    assert page.evaluate(inside) == "answer-1-1-1-1"


@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "zh")])
def test_axe_finds_nothing_and_the_page_does_not_scroll_sideways(
    new_page: NewPage, live_server: LiveServer, upstream: FakeUpstream, theme: str, language: str
) -> None:
    upstream.model_rule("bad", "rst-mid?text=One two three four")
    upstream.model_rule("long", LONG)
    variants = [
        "teacher",
        {"persona": "friend", "model": "bad"},
        {"persona": "teacher", "model": "long", "changes": {"system": "Be brief."}},
    ]
    comparison = fill(
        live_server.rolebook,
        variants=variants,
        inputs=["Why?", {"turns": ["One?", "Two?"], "name": "Steps", "tags": ["x"]}],
        repeats=2,
        checks=[{"max_words": 10}],
    )
    page = new_page(theme=theme, language=language)
    for path in ("", "?view=matrix", "?repeat=2&wide=1", "/cells/3-1-1?with=1-1-1&input=2"):
        look(page, live_server, comparison, path)
        for details in page.locator("details.differences > summary").all():
            details.click()
        assert_accessible_and_fitting(page, [(theme, width) for width in (390, 768, 1280)])


def test_axe_finds_nothing_while_it_runs_and_answers_scroll_in_step(
    page: Any, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("long", LONG)
    upstream.model_rule("slow", SLOW)
    variants = [{"persona": "plain", "model": model} for model in ("long", "hang", "slow")]
    comparison = plan(live_server.rolebook, variants=variants, concurrency=6)
    live_server.rolebook.compare.start(comparison)
    look(page, live_server, comparison)
    page.get_by_label("Long answers scroll in step").check()
    expect(box(page, "3-1-1").locator(".stream")).not_to_be_empty()
    expect(box(page, "1-2-1").locator(".prose")).to_be_visible()
    assert_accessible(page)


def test_everything_works_without_a_script(
    new_page: NewPage, live_server: LiveServer, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", f"401,{LONG}")
    comparison = plan(live_server.rolebook, variants=["plain"], concurrency=1)
    page = new_page(script=False)
    look(page, live_server, comparison)
    page.get_by_role("button", name="Start").click()
    run = live_server.rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    page.get_by_role("link", name="Reload", exact=True).click()
    expect(box(page, "1-1-1").locator(".problem")).to_be_visible()
    assert box(page, "1-2-1").locator(".fold").bounding_box()["height"] > 500
    page.get_by_role("button", name="Try again: Plain assistant, input 1").click()
    run = live_server.rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    page.get_by_role("link", name="Reload", exact=True).click()
    expect(box(page, "1-1-1")).to_have_class("box complete")
    page.get_by_role("link", name="All at a glance").click()
    expect(page.locator(".strip .marks i")).to_have_count(2)
