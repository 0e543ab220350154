"""Values as pages show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from rolebook.report.presentation import HUES, hue
from rolebook.web import presentation


@pytest.mark.parametrize(
    ("show", "value", "english"),
    [
        (presentation.count, 1234567, "1,234,567"),
        (presentation.count, None, "–"),
        (presentation.size, 512, "512 B"),
        (presentation.size, 103_400, "103.4 kB"),
        (presentation.size, 54_000_000, "54 MB"),
        (presentation.size, None, "–"),
        (presentation.seconds, 912.4, "0.9 s"),
        (presentation.seconds, 61_300.0, "61 s"),
        (presentation.seconds, 20.0, "<0.1 s"),
        (presentation.seconds, 0.0, "0 s"),
        (presentation.seconds, None, "–"),
        (presentation.money, None, "–"),
        (presentation.money, 0.0, "$0"),
        (presentation.money, 0.00123, "$0.0012"),
        (presentation.money, 0.0000042, "$0.0000042"),
        (presentation.money, 12.345, "$12.35"),
        (presentation.ago, "", "–"),
    ],
)
def test_values_have_units_and_the_unknown_is_a_dash(app: Flask, show, value, english) -> None:
    with app.test_request_context(headers={"Host": "localhost"}):
        assert show(value) == english


@pytest.mark.parametrize(("language", "words"), [("en", "2 hours ago"), ("zh", "2 小时前")])
def test_times_are_relative_with_the_exact_one_on_hover(
    app: Flask, language: str, words: str
) -> None:
    then = datetime.now(UTC) - timedelta(hours=2)
    with app.test_request_context(headers={"Accept-Language": language}):
        shown = presentation.ago(then.isoformat())
    assert f">{words}</time>" in shown
    assert f'title="{then.astimezone():%Y-%m-%d %H:%M:%S}"' in shown


def test_a_hue_stays_with_its_persona() -> None:
    assert hue("teacher") == hue("teacher")
    hues = {hue(f"persona-{number}") for number in range(300)}
    assert len(hues) == HUES
