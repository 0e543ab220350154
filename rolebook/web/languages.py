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
    """Keep what the reader has chosen in a cookie, for a year, and go back to the page.

    A form that was being filled in is sent on as it is, to the page ``again`` that shows it.
    """
    value = request.form.get(name, "")
    if value not in known:
        raise RequestError("Choose one of %(known)s.", status=400, known=", ".join(known))
    again = request.args.get("again")
    target = request.form.get("next", "/") if again is None else again
    response = redirect(local_path(target), 303 if again is None else 307)
    response.set_cookie(
        name, value, max_age=365 * 86_400, httponly=True, samesite="Lax", secure=request.is_secure
    )
    return response
