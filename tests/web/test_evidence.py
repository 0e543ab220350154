"""What a comparison has shown, over HTTP: as a page, as a piece of one, and kept until something changes."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

from rolebook.core.comparison import Comparison
from rolebook.core.comparison_spec import parse_spec
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.answering import answer_all

PIECE = {"Sec-Fetch-Dest": "empty"}


def compare(rolebook: Rolebook, *inputs: str, **more: Any) -> Comparison:
    spec = parse_spec({"variants": ["teacher", "plain"], "inputs": list(inputs), **more})
    return rolebook.compare.create(rolebook.compare.plan(spec))


def evidence(client: FlaskClient, comparison: Comparison) -> str:
    return client.get(f"/comparisons/{comparison.id}/evidence", headers=PIECE).text


def test_a_script_gets_a_piece_and_a_person_a_page(client: FlaskClient, rolebook: Rolebook) -> None:
    comparison = compare(rolebook, "Why?")
    piece = evidence(client, comparison)
    page = client.get(f"/comparisons/{comparison.id}/evidence").text
    assert "<html" not in piece
    assert 'id="evidence-heading"' in piece
    assert page.startswith("<!doctype html>")
    assert "chart.css" in page
    assert "Nothing has been answered yet." in piece
    assert "Nothing has been answered yet." in page


def test_what_is_kept_is_left_when_there_is_more(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok,400,ok")
    comparison = compare(rolebook, "Why?")
    assert "Nothing has been answered yet." in evidence(client, comparison)
    assert rolebook.compare.start(comparison).wait(20)
    first = evidence(client, comparison)
    assert "1 of 2 cells failed" in first
    assert first == evidence(client, comparison)
    assert rolebook.compare.start(comparison, with_failed=True).wait(20)
    assert "cells failed" not in evidence(client, comparison)


def test_what_another_process_has_checked_is_told_at_once(
    client: FlaskClient, rolebook: Rolebook, make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, "Why?", checks=[{"max_words": 9}])
    answer_all(rolebook, comparison)
    state = f"/comparisons/{comparison.id}/state"
    first, stood = evidence(client, comparison), client.get(state).text
    assert "max_words: 9" not in first
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    assert other.compare.start(comparison).wait(20)
    assert "max_words: 9" in evidence(client, comparison)
    assert stood != client.get(state).text


def test_it_can_be_read_while_the_run_goes_on(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=One two three.,hang")
    comparison = compare(rolebook, "Why?", "How?")
    run = rolebook.compare.start(comparison, concurrency=1)
    upstream.wait_for(lambda: rolebook.comparisons.tally(comparison).complete == 1)
    assert "Words per answer" in evidence(client, comparison)
    page = client.get(f"/comparisons/{comparison.id}").text
    assert 'class="verdicts' not in page
    run.stop()
    assert run.wait(10)


def test_nothing_is_said_of_a_run_before_its_first_answer(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "hang")
    comparison = compare(rolebook, "Why?")
    run = rolebook.compare.start(comparison)
    assert "Nothing has been answered yet." not in evidence(client, comparison)
    run.stop()
    assert run.wait(10)
    assert "Nothing has been answered yet." in evidence(client, comparison)


def test_it_speaks_chinese_and_finds_no_unknown_comparison(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    comparison = compare(rolebook, "Why?")
    client.set_cookie("language", "zh")
    assert 'lang="zh-Hans"' in client.get(f"/comparisons/{comparison.id}/evidence").text
    assert 404 == client.get("/comparisons/none/evidence").status_code
