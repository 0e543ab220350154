"""The choice between light and dark."""

from __future__ import annotations

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response

from rolebook.web.current import THEMES
from rolebook.web.errors import RequestError
from rolebook.web.languages import remember
from rolebook.web.security import local_path

blueprint = Blueprint("themes", __name__)


@blueprint.post("/theme")
def choose() -> Response:
    """Keep the theme for a year and go back to the page."""
    theme = request.form.get("theme", "")
    if theme not in THEMES:
        raise RequestError("Choose one of %(known)s.", status=400, known=", ".join(THEMES))
    response = redirect(local_path(request.form.get("next", "/")), 303)
    remember(response, "theme", theme)
    return response
