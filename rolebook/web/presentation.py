"""How values are shown on pages: times, counts, sizes and money in the reader's language; unknown is a dash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from babel.dates import format_datetime, format_timedelta
from babel.numbers import format_decimal
from flask import Flask, request
from markupsafe import Markup

from rolebook.core.comparison import Comparison, Variant
from rolebook.core.errors import Phrase, Problem, RolebookError
from rolebook.language.punctuation import set_apart
from rolebook.report import presentation as values
from rolebook.report.money import UNKNOWN, money
from rolebook.report.presentation import hue, lang
from rolebook.web import siblings
from rolebook.web.current import current_translator, language, rolebook, theme
from rolebook.web.errors import describe
from rolebook.web.merge_marks import show_marks


def ago(time: str) -> str:
    """How long ago an ISO 8601 time was, with the exact time on hover."""
    if not time:
        return UNKNOWN
    then = datetime.fromisoformat(time)
    text = duration(then - datetime.now(UTC), add_direction=True)
    exact = format_datetime(then.astimezone(), "yyyy-MM-dd HH:mm:ss", locale=language())
    return Markup('<time datetime="{}" title="{}">{}</time>').format(time, exact, text)


def duration(time: timedelta, **how: Any) -> str:
    """How long a time is, in words; ``how`` as for babel's ``format_timedelta``."""
    return set_apart(format_timedelta(time, locale=language(), **how))


def moment(time: str) -> str:
    """When an ISO 8601 time was, by the clock of this computer, as plain text."""
    if not time:
        return UNKNOWN
    return format_datetime(datetime.fromisoformat(time).astimezone(), "short", locale=language())


def count(number: float | None) -> str:
    """A number with the separators of the reader's language."""
    return values.count(number, language())


def size(number: int | None) -> str:
    """A number of bytes."""
    if number is None:
        return UNKNOWN
    for unit, step in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)):
        if number >= step:
            return f"{format_decimal(round(number / step, 1), locale=language())} {unit}"
    return f"{number} B"


def seconds(milliseconds: float | None) -> str:
    """A duration, given in milliseconds, in seconds."""
    return values.seconds(milliseconds, language())


def hue_in(variant: Variant, comparison: Comparison) -> str:
    """The CSS class of a variant's hue, by which it can be told from all others of its comparison."""
    return values.hues_of(comparison.variants)[comparison.variants.index(variant)]


def problem(value: Problem) -> str:
    """What is wrong in a file, in the reader's language."""
    return current_translator().problem(value)


def phrase(value: Phrase) -> str:
    """A sentence that the log keeps with its parameters, in the reader's language."""
    return current_translator().say(value.message, value.parameters)


def translated(text: str) -> str:
    """A text that is not written in the page itself, in the reader's language.

    ``_()`` is for texts of the page only: it takes them for safe HTML.
    """
    return current_translator().gettext(text)


def language_name(code: str) -> str:
    """The name of a language in that language."""
    return {"en": "English", "zh": "中文"}.get(code, code)


def _error(value: RolebookError) -> str:
    return describe(value)


def add_filters(app: Flask) -> None:
    """Make these known to the pages."""
    filters: dict[str, Callable[..., str]] = {
        "ago": ago,
        "call_text": values.call_text,
        "count": count,
        "describe": _error,
        "hue": hue,
        "hue_in": hue_in,
        "lang": lang,
        "language_name": language_name,
        "moment": moment,
        "money": money,
        "phrase": phrase,
        "problem": problem,
        "seconds": seconds,
        "show_marks": show_marks,
        "size": size,
        "translated": translated,
    }
    app.jinja_env.filters.update(filters)
    app.context_processor(_page_context)


def _page_context() -> dict[str, Any]:
    """What every page may use besides what its view gives it."""
    book = rolebook()
    return {
        "language": language(),
        "punctuation": current_translator().punctuation,
        "say": current_translator().say,
        "theme": theme(),
        "settings": book.settings,
        "unwritten": siblings.unwritten_turns(),
        "here": request.full_path.rstrip("?") if request.method == "GET" else request.path,
    }
