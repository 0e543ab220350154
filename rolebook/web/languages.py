"""The choice of language."""

from __future__ import annotations

from collections.abc import Collection

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response

from rolebook.config import LANGUAGES
from rolebook.web.errors import RequestError
from rolebook.web.security import local_path

blueprint = Blueprint("languages", __name__)


@blueprint.post("/language")
def choose() -> Response:
    """Keep the language for a year and go back to the page."""
    return keep_choice("language", LANGUAGES)


def keep_choice(name: str, known: Collection[str]) -> Response:
    """Keep what the reader has chosen in a cookie, for a year, and go back to the page."""
    value = request.form.get(name, "")
    if value not in known:
        raise RequestError("Choose one of %(known)s.", status=400, known=", ".join(known))
    response = redirect(local_path(request.form.get("next", "/")), 303)
    response.set_cookie(
        name, value, max_age=365 * 86_400, httponly=True, samesite="Lax", secure=request.is_secure
    )
    return response
