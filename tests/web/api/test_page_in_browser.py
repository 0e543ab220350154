"""The page of the API in a real browser: nothing that its policy forbids, and every operation."""

from __future__ import annotations

import pytest

from rolebook.web.api.routes import SECTIONS
from tests.conftest import LiveServer, NewPage
from tests.web.checks import assert_accessible


@pytest.mark.parametrize(
    ("language", "theme", "width", "script"),
    [("en", "light", 1280, True), ("zh", "dark", 390, False)],
)
def test_page_lists_every_operation_and_is_accessible(
    live_server: LiveServer, new_page: NewPage, language: str, theme: str, width: int, script: bool
) -> None:
    page = new_page(language=language, theme=theme, width=width, script=script)
    page.goto(f"{live_server.url}/api")
    assert {"en": "The API", "zh": "API"}[language] == page.locator("h1").inner_text()
    operations = page.locator("details.operation")
    assert sum(len(section.operations) for section in SECTIONS) == operations.count()
    page.locator("#create_turn > summary").focus()
    page.keyboard.press("Enter")
    takes = page.locator("#create_turn a", has_text="NewTurn")
    takes.click()
    assert page.url.endswith("#NewTurn")
    assert page.locator("#NewTurn table").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if script:
        assert_accessible(page)
