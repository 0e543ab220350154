"""All operations of the API under one address, and the document that describes them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from rolebook.core.errors import RolebookError
from rolebook.web.api import (
    comparisons,
    files,
    personas,
    sessions,
    turns,
    upstreams,
    versions,
    votes,
)
from rolebook.web.api.errors import respond_to_error

PREFIX = "/api/v1"

#: In the order in which they are read.
SECTIONS = (
    personas.section,
    sessions.section,
    turns.section,
    files.section,
    versions.section,
    comparisons.section,
    votes.section,
    upstreams.section,
)

blueprint = Blueprint("api", __name__, url_prefix=PREFIX)
blueprint.register_error_handler(RolebookError, respond_to_error)
for section in SECTIONS:
    section.serve_on(blueprint)


@blueprint.get("/openapi.json")
def show_document() -> Any:
    """The OpenAPI document."""
    from rolebook.web.api.document import document

    return document()
