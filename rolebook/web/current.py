"""What belongs to the request at hand: the Rolebook it works with, its reader's language and theme."""

from __future__ import annotations

from typing import Any, cast

from flask import Request, current_app, g, request

from rolebook.config import LANGUAGES
from rolebook.language.translator import Translator, translator
from rolebook.wiring import Rolebook

THEMES = ("auto", "light", "dark")


def rolebook() -> Rolebook:
    """The Rolebook behind this application."""
    return cast(Rolebook, current_app.extensions["rolebook"])


def this_request() -> Request:
    """The request at hand, for whoever asks it several things: what Flask calls so looks for it each time."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found


def language() -> str:
    """``en`` or ``zh``: as chosen on a page, else as set, else as the browser asks."""
    known: str | None = g.get("language")
    if known is None:
        known = g.language = _chosen_language()
    return known


def _chosen_language() -> str:
    chosen = request.cookies.get("language", "")
    if chosen in LANGUAGES:
        return chosen
    return rolebook().settings.language or _accepted_language()


def _accepted_language() -> str:
    """The first language that the browser asks for and we speak, whatever its region."""
    asked = (code.lower().partition("-")[0] for code in request.accept_languages.values())
    return next((code for code in asked if code in LANGUAGES), "en")


def theme() -> str:
    """``light``, ``dark``, or ``auto``: as the system has it."""
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else "auto"


def current_translator() -> Translator:
    """Speaks the reader's language."""
    return translator(language())


def gettext(message: str, **parameters: Any) -> str:
    """A text in the reader's language, its ``%(name)s`` filled in if parameters are given."""
    speaker = current_translator()
    text = speaker.gettext(message)
    return speaker.fill(text, parameters) if parameters else text
