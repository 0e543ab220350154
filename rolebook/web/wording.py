"""The words of pages: texts that stand in a page itself, in the reader's language.

They are looked up hundreds of times for one page, so each is made ready once. They may have tags; what is filled in is
escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from rolebook.language.punctuation import close_up
from rolebook.language.translator import translator
from rolebook.web.current import current_translator, language

#: All texts of all pages in two languages are fewer.
_MOST_TEXTS = 8192


def speak(environment: Environment) -> None:
    """Let pages say ``_()`` and ``ngettext()``."""
    environment.globals.update({"_": gettext, "gettext": gettext, "ngettext": ngettext})


def gettext(message: str, /, **parameters: Any) -> Markup:
    """A text with its ``%(name)s`` filled in; without any, a ``%`` is still written ``%%``."""
    if not parameters:
        return _whole(message, language())
    return _filled(_pattern(message, language()), parameters)


def ngettext(singular: str, plural: str, number: float, /, **parameters: Any) -> Markup:
    """The form that fits a number, which is ``%(num)s`` there."""
    text = current_translator().ngettext(singular, plural, number)  # type: ignore[arg-type]
    return _filled(Markup(text), {"num": number, **parameters})


def _filled(pattern: Markup, parameters: Mapping[str, Any]) -> Markup:
    return (Markup(close_up(pattern, parameters)) if language() == "zh" else pattern) % parameters


@lru_cache(maxsize=_MOST_TEXTS)
def _pattern(message: str, language: str) -> Markup:
    return Markup(translator(language).gettext(message))


@lru_cache(maxsize=_MOST_TEXTS)
def _whole(message: str, language: str) -> Markup:
    return _pattern(message, language) % {}
