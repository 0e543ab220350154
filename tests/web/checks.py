"""What tests of the pages assert again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from axe_playwright_python.base import (  # type: ignore[import-untyped]
    AXE_SCRIPT,
    AxeResults,
)
from werkzeug.test import TestResponse

KINDS = {"invalid_request_error", "rate_limit_error", "server_error"}


def assert_error(
    response: TestResponse, status: int, code: str, *, param: str | None = None
) -> str:
    """A response is an error of the one JSON shape, which is OpenAI's. Returns its message."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    body = response.get_json()
    assert list(body) == ["error"]
    error = body["error"]
    assert set(error) - {"problems", "conflict", "users"} == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["param"] == param
    assert error["type"] in KINDS
    assert isinstance(error["message"], str)
    assert error["message"].strip()
    assert "Traceback" not in error["message"]
    return error["message"]


def look_at(page: Any, *, theme: str, width: int, height: int = 800) -> None:
    """The page as it stands, in another scheme and on a screen of another size."""
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": height})


def assert_accessible_and_fitting(
    page: Any, looks: Iterable[tuple[str, int]], *, height: int = 800
) -> None:
    """axe finds nothing, and there is no scrolling sideways, in several schemes and widths.

    axe, which takes a second for a full page, looks at the narrowest and the widest of each scheme: what lies between
    has the same colours, names and order.
    """
    widths: dict[str, list[int]] = {}
    for theme, width in looks:
        widths.setdefault(theme, []).append(width)
    for theme, of_theme in widths.items():
        for width in of_theme:
            look_at(page, theme=theme, width=width, height=height)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (page.url, width)
            if width in {min(of_theme), max(of_theme)}:
                assert_accessible(page)


def assert_accessible(page: Any) -> None:
    """axe finds nothing on the page as it stands."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    # All rules are tried; what they let pass need not be described, nor be handed over.
    violations = page.evaluate(
        "axe.run({resultTypes: ['violations']}).then(({violations}) => violations)"
    )
    assert violations == [], AxeResults({"violations": violations}).generate_report()


def eventually(read: Callable[[], str], part: str, *, within_s: float = 5.0) -> str:
    """What is read again and again until `part` is in it: a busy machine looks for changed files less often."""
    deadline = time.monotonic() + within_s
    while part not in (text := read()):
        assert time.monotonic() < deadline, f"{part!r} did not come: {text}"
        time.sleep(0.05)
    return text
