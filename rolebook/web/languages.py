"""The choice of language."""

from __future__ import annotations

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response

from rolebook.config import LANGUAGES
from rolebook.web.errors import RequestError
from rolebook.web.security import local_path

blueprint = Blueprint("languages", __name__)


@blueprint.post("/language")
def choose() -> Response:
    """Keep the language for a year and go back to the page."""
    language = request.form.get("language", "")
    if language not in LANGUAGES:
        raise RequestError("Choose one of %(known)s.", status=400, known=", ".join(LANGUAGES))
    response = redirect(local_path(request.form.get("next", "/")), 303)
    remember(response, "language", language)
    return response


def remember(response: Response, name: str, value: str) -> None:
    """Keep a choice of the reader in a cookie, for a year."""
    response.set_cookie(
        name, value, max_age=365 * 86_400, httponly=True, samesite="Lax", secure=request.is_secure
    )
