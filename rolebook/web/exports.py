"""Sessions to take away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from flask import Blueprint, Response, request

from rolebook.core.errors import InputError
from rolebook.core.session import now
from rolebook.storage.query import SessionFilter
from rolebook.web.current import rolebook
from rolebook.web.sessions import filter_of

blueprint = Blueprint("exports", __name__)

_TYPES = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "md": "text/markdown",
    "csv": "text/csv",
}
_BATCH = 500
_LONGEST_NAME = 60


@blueprint.get("/sessions/export")
def export() -> Response:
    """Sessions as a file: those with the ``id`` s, or with ``all`` those that the filters of the list let through."""
    format = request.args.get("format", "json")
    ids = matching(filter_of(request.args)) if "all" in request.args else request.args.getlist("id")
    return file_of(ids, format)


def file_of(ids: Sequence[str] | None, format: str) -> Response:
    """Sessions as a file; None is all of them. Raises InputError, NotFoundError."""
    log = rolebook().log
    if ids == []:
        raise InputError(
            "There is no session to take away. Tick some, or choose others by the filters."
        )
    pieces = log.export_sessions(ids, format)
    name = _name_of(ids[0]) if ids and len(ids) == 1 else f"rolebook-sessions-{now()[:10]}"
    response = Response(pieces, mimetype=_TYPES[format])
    response.headers["Content-Disposition"] = disposition(f"{name}.{format}")
    return response


def matching(wanted: SessionFilter) -> list[str] | None:
    """The ids of all sessions that match; None where that is the whole log."""
    return None if wanted == SessionFilter() else list(_pages(wanted))


def _pages(wanted: SessionFilter) -> Iterator[str]:
    cursor = ""
    while True:
        page = rolebook().log.list_sessions(wanted, limit=_BATCH, before=cursor)
        yield from (summary.session.id for summary in page.summaries)
        if not page.cursor:
            return
        cursor = page.cursor


def disposition(name: str) -> str:
    """A header takes no other letters than ASCII, so others go in by RFC 8187, beside a name without them."""
    plain = name.encode("ascii", "ignore").decode().lstrip("-")
    if plain == name:
        return f"attachment; filename={name}"
    return f"attachment; filename={plain}; filename*=UTF-8''{quote(name)}"


def name_from(title: str) -> str:
    """The beginning of a file's name: letters, digits and hyphens, so that it is one everywhere; it may be empty."""
    return re.sub(r"[\W_]+", "-", title)[:_LONGEST_NAME].strip("-")


def _name_of(session_id: str) -> str:
    words = name_from(rolebook().log.get_session(session_id).title)
    return f"{words}-{session_id}" if words else f"rolebook-{session_id}"
