"""Comparisons to take away."""

from __future__ import annotations

from flask import Blueprint, Response, request

from rolebook.core.comparison import Comparison
from rolebook.report.export import export_comparison
from rolebook.web.current import current_translator, rolebook
from rolebook.web.exports import disposition, name_from

blueprint = Blueprint("comparison_exports", __name__)

_TYPES = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "csv": "text/csv",
    "md": "text/markdown",
    "html": "text/html",
}


@blueprint.get("/comparisons/<comparison_id>/export")
def export(comparison_id: str) -> Response:
    """A comparison as a file, in the ``format`` that is asked for."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    return file_of(comparison, request.args.get("format", "json"))


def file_of(comparison: Comparison, format: str) -> Response:
    """A comparison as a file. Raises InputError for another format."""
    pieces = export_comparison(rolebook(), comparison, format, translator=current_translator())
    response = Response(pieces, mimetype=_TYPES[format])
    name = name_from(comparison.question) or "rolebook-comparison"
    response.headers["Content-Disposition"] = disposition(f"{name}-{comparison.id}.{format}")
    return response
