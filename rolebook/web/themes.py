"""The choice between light and dark."""

from __future__ import annotations

from flask import Blueprint
from werkzeug.wrappers import Response

from rolebook.web.current import THEMES
from rolebook.web.languages import keep_choice

blueprint = Blueprint("themes", __name__)


@blueprint.post("/theme")
def choose() -> Response:
    """Keep the theme for a year and go back to the page."""
    return keep_choice("theme", THEMES)
