"""Voting blind as people do: by keys, by touch, without scripts, in the dark and in Chinese."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from rolebook.core.comparison import Comparison
from rolebook.core.comparison_spec import parse_spec
from rolebook.report.presentation import hue
from rolebook.wiring import Rolebook
from tests.conftest import LiveServer, NewPage
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_accessible_and_fitting, look_at

INPUTS = [f"Question {number}?" for number in range(1, 9)]
NAMES = ("Teacher", "Plain assistant")


def compare(
    rolebook: Rolebook, upstream: FakeUpstream, text: str = "Air **scatters** blue.", **spec: Any
) -> Comparison:
    """Two personas over eight inputs, run to the end."""
    upstream.model_rule("plain", f"ok?text={text}")
    variants = ["teacher", {"persona": "plain", "model": "plain", "name": NAMES[1]}]
    plan = rolebook.compare.plan(parse_spec({"variants": variants, "inputs": INPUTS} | spec))
    comparison = rolebook.compare.create(plan)
    assert rolebook.compare.start(comparison).wait(20)
    return comparison


@pytest.fixture
def comparison(rolebook: Rolebook, upstream: FakeUpstream) -> Comparison:
    return compare(rolebook, upstream)


def open_start(page: Any, server: LiveServer, comparison: Comparison) -> None:
    page.goto(f"{server.url}/comparisons/{comparison.id}/vote")
    expect(page.locator(".beginning button")).to_be_focused()


def begin(page: Any, server: LiveServer, comparison: Comparison) -> None:
    page.goto(f"{server.url}/comparisons/{comparison.id}/vote")
    page.locator(".beginning button").click()
    expect(page.locator("#ballot")).to_be_visible()
    page.wait_for_load_state("load")


def strike(page: Any, key: str) -> None:
    """Strike a key that leads to another page, and wait until that is there."""
    before = page.url
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url != before)
    page.wait_for_load_state("load")


def outcomes(server: LiveServer, comparison: Comparison) -> list[str | None]:
    ballots = server.rolebook.comparisons.ballots(comparison.id)
    return [str(b.outcome) if b.outcome else "skip" if b.is_skipped else None for b in ballots]


def test_six_ballots_by_keys_alone_with_names_only_afterwards(
    page: Any, live_server: LiveServer, comparison: Comparison
) -> None:
    open_start(page, live_server, comparison)
    strike(page, "Enter")
    html = page.content()
    for variant in comparison.variants:
        for tell_tale in (variant.name, variant.persona_id, hue(variant.persona_id), "hue-"):
            assert tell_tale not in html
    votes = ["ArrowLeft", "ArrowRight", "ArrowDown", "ArrowUp", "Space", "ArrowLeft"]
    for number, key in enumerate(votes, start=1):
        strike(page, key)
        last = page.locator("#last")
        if key == "Space":
            expect(last).to_contain_text("Skipped.")
            assert not any(name in page.content() for name in NAMES)
        else:
            for name in NAMES:
                expect(last).to_contain_text(name)
                assert 1 == page.content().count(name)
            expect(page.locator("#count")).to_contain_text(f"{number - (number > 5)} vote")
    kinds = ["left", "right", "tie", "both_bad", "skip", "left", None]
    assert kinds == outcomes(live_server, comparison)


def test_u_withdraws_the_last_vote_and_goes_on_with_the_two_that_are_there(
    page: Any, live_server: LiveServer, comparison: Comparison
) -> None:
    begin(page, live_server, comparison)
    strike(page, "ArrowLeft")
    answers = page.locator(".exchange").inner_text()
    strike(page, "u")
    assert answers == page.locator(".exchange").inner_text()
    expect(page.locator("#count")).to_have_text("No votes yet")
    expect(page.locator("#last")).to_contain_text("Your vote is withdrawn.")
    strike(page, "ArrowRight")
    expect(page.locator("#last")).to_contain_text("You chose B.")
    assert ["skip", "right"] == outcomes(live_server, comparison)[:2]


def test_the_buttons_stay_where_they_are_however_long_the_answers(
    page: Any, live_server: LiveServer, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    places = []
    for text in ("Short.", "Long.%20" * 500):
        begin(page, live_server, compare(rolebook, upstream, text))
        places.append(page.locator("#ballot .better").first.bounding_box())
    assert places[0] == places[1]


def test_reloading_burns_no_pair_and_a_key_held_down_votes_once(
    page: Any, live_server: LiveServer, comparison: Comparison
) -> None:
    begin(page, live_server, comparison)
    answers = page.locator(".sides").inner_text()
    page.reload()
    assert answers == page.locator(".sides").inner_text()
    before = page.url
    page.keyboard.down("ArrowLeft")
    page.wait_for_url(lambda url: url != before)
    for _ in range(3):
        page.keyboard.down("ArrowLeft")
    page.keyboard.up("ArrowLeft")
    assert ["left", None] == outcomes(live_server, comparison)


def test_two_quick_keys_are_one_vote(
    page: Any, live_server: LiveServer, comparison: Comparison
) -> None:
    begin(page, live_server, comparison)
    before = page.url
    page.evaluate(
        """() => {
          for (const key of ["ArrowLeft", "ArrowRight", "ArrowLeft"])
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        }"""
    )
    page.wait_for_url(lambda url: url != before)
    assert ["left", None] == outcomes(live_server, comparison)


def test_long_answers_are_read_by_keys_that_do_not_vote(
    page: Any, live_server: LiveServer, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    long = "%0A%0A".join(["Once more of the same."] * 60)
    comparison = compare(rolebook, upstream, long)
    begin(page, live_server, comparison)

    keys = {"Shift+ArrowDown": ">", "PageDown": ">", "End": ">", "Shift+ArrowUp": "<", "Home": "<"}
    for key, further in keys.items():
        top = page.evaluate("scrollY")
        page.keyboard.press(key)
        page.wait_for_function(f"top => scrollY {further} top", arg=top)
    assert 0 == page.evaluate("scrollY")
    bar = page.locator("#ballot").bounding_box()
    assert bar["y"] + bar["height"] <= 800
    assert [None] == outcomes(live_server, comparison)


def test_code_that_scrolls_keeps_its_arrows_and_a_link_its_space(
    page: Any, live_server: LiveServer, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, upstream, "%20%20%20%20" + "x" * 300)
    begin(page, live_server, comparison)
    page.locator(".side pre").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.get_by_role("link", name="Back to").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Control+ArrowLeft")
    page.wait_for_timeout(300)
    assert [None] == outcomes(live_server, comparison)
    strike(page, "ArrowRight")
    assert ["right", None] == outcomes(live_server, comparison)


def test_it_works_without_scripts(
    new_page: NewPage, live_server: LiveServer, comparison: Comparison
) -> None:
    page = new_page(script=False)
    begin(page, live_server, comparison)
    page.get_by_role("button", name="B is better").click()
    expect(page.locator("#last")).to_contain_text("You chose B.")
    page.get_by_role("button", name="Withdraw the vote").click()
    expect(page.locator("#last")).to_contain_text("Your vote is withdrawn.")
    page.get_by_role("button", name="Tie").click()
    expect(page.locator("#last")).to_contain_text("You called it a tie.")
    assert ["skip", "tie"] == outcomes(live_server, comparison)[:2]


def test_at_the_end_it_leads_to_the_results(
    page: Any, live_server: LiveServer, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, upstream, inputs=INPUTS[:1])
    begin(page, live_server, comparison)
    strike(page, "ArrowDown")
    expect(page.locator("main")).to_contain_text("every pair of answers has been before you")
    link = page.get_by_role("link", name="See the results")
    assert f"/comparisons/{comparison.id}" == link.get_attribute("href")
    page.get_by_role("link", name="Vote on all of them once more").click()
    page.locator(".beginning button").click()
    expect(page.locator("#ballot")).to_be_visible()


@pytest.mark.parametrize(
    ("language", "looks"),
    [("en", [("light", 1280)]), ("zh", [("dark", 360), ("dark", 768), ("dark", 1280)])],
)
def test_every_step_is_accessible_and_fits(
    new_page: NewPage,
    live_server: LiveServer,
    comparison: Comparison,
    language: str,
    looks: list[tuple[str, int]],
) -> None:
    page = new_page(language=language)
    open_start(page, live_server, comparison)
    assert_accessible_and_fitting(page, looks, height=700)
    for key in ("Enter", "ArrowLeft", "Space"):
        strike(page, key)
        assert_accessible_and_fitting(page, looks, height=700)
    for theme, width in looks:
        look_at(page, theme=theme, width=width, height=700)
        bar = page.locator("#ballot").bounding_box()
        assert bar["y"] + bar["height"] <= 700
        for button in page.locator("#ballot button").all():
            assert button.bounding_box()["height"] >= 44
    page.goto(f"{live_server.url}/comparisons/{comparison.id}/evidence")
    for summary in page.locator("summary").all():
        if summary.is_visible():
            summary.click()
    assert_accessible_and_fitting(page, looks)


def test_boxes_are_equal(page: Any, live_server: LiveServer, comparison: Comparison) -> None:
    begin(page, live_server, comparison)
    left, right = (box.bounding_box() for box in page.locator(".side").all())
    assert (left["width"], left["height"], left["y"]) == (
        right["width"],
        right["height"],
        right["y"],
    )
    styles = page.evaluate(
        """() => [...document.querySelectorAll(".side")].map((side) => {
          const { color, backgroundColor, borderColor, fontFamily, fontSize } = getComputedStyle(side);
          return [color, backgroundColor, borderColor, fontFamily, fontSize, side.className].join();
        })"""
    )
    assert styles[0] == styles[1]
