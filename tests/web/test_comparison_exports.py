"""Comparisons as files to take away."""

from __future__ import annotations

import json

import pytest
from flask import Flask
from flask.testing import FlaskClient

from rolebook.core.comparison import Comparison
from rolebook.wiring import Rolebook
from tests.test_compare import fill, plan
from tests.web.checks import assert_error

TYPES = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "csv": "text/csv",
    "md": "text/markdown",
    "html": "text/html",
}
JSON = {"Accept": "application/json"}


@pytest.fixture
def comparison(rolebook: Rolebook) -> Comparison:
    comparison = plan(rolebook, question="Who is better?", variants=["plain"], inputs=["Hello"])
    fill(rolebook, comparison)
    return comparison


@pytest.mark.parametrize("format", TYPES)
def test_a_comparison_can_be_taken_away_in_every_format(
    client: FlaskClient, comparison: Comparison, format: str
) -> None:
    response = client.get(f"/comparisons/{comparison.id}/export?format={format}")
    assert (200, TYPES[format]) == (response.status_code, response.mimetype)
    name = f"Who-is-better-{comparison.id}.{format}"
    assert f"attachment; filename={name}" == response.headers["Content-Disposition"]
    assert "Echo: Hello" in response.text


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("", "rolebook-comparison-"),
        ("🎓", "rolebook-comparison-"),
        ('a"; filename="evil.exe', "a-filename-evil-exe-"),
        ("哪位老师更好？", "%E5%93%AA%E4%BD%8D"),
    ],
)
def test_its_name_is_that_of_the_question(
    client: FlaskClient, rolebook: Rolebook, question: str, name: str
) -> None:
    comparison = plan(rolebook, question=question, variants=["plain"], inputs=["Hello"])
    response = client.get(f"/comparisons/{comparison.id}/export?format=csv")
    assert name in response.headers["Content-Disposition"]


def test_json_is_what_is_taken_if_nothing_is_said(
    client: FlaskClient, comparison: Comparison
) -> None:
    response = client.get(f"/comparisons/{comparison.id}/export")
    assert comparison.id == json.loads(response.text)["comparison"]["id"]


def test_it_is_in_the_language_of_its_reader(client: FlaskClient, comparison: Comparison) -> None:
    response = client.get(
        f"/comparisons/{comparison.id}/export?format=html", headers={"Accept-Language": "zh-CN"}
    )
    assert '<html lang="zh-Hans">' in response.text


def test_unknown_format_and_unknown_comparison_are_refused(
    client: FlaskClient, comparison: Comparison
) -> None:
    refused = client.get(f"/comparisons/{comparison.id}/export?format=xml", headers=JSON)
    assert "no export format xml" in assert_error(refused, 400, "invalid_input")
    assert_error(client.get("/comparisons/none/export", headers=JSON), 404, "not_found")


def test_one_that_runs_can_be_taken_away(
    app: Flask, client: FlaskClient, rolebook: Rolebook
) -> None:
    comparison = plan(
        rolebook, variants=[{"persona": "plain", "model": "slow-headers"}], inputs=["One", "Two"]
    )
    run = rolebook.compare.start(comparison, concurrency=1)
    response = client.get(f"/comparisons/{comparison.id}/export")
    run.stop()
    assert run.wait(10)
    progress = json.loads(response.text)["progress"]
    assert 2 == progress["total"]
    assert 0 == progress["complete"]
