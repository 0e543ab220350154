"""The history of a file: what it was, who made it so and when, what changed, labels, and the way back."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from rolebook.core.edit import EditConflict
from rolebook.core.errors import NotFoundError, RolebookError
from rolebook.core.source import FileKey
from rolebook.web.current import rolebook
from rolebook.web.draft import Draft
from rolebook.web.errors import status_of, wants_json
from rolebook.web.library import address_of, file_page, key_of, named
from rolebook.web.saving import author
from rolebook.web.submission import submitted

blueprint = Blueprint("timeline", __name__, url_prefix="/library")

_PAGE = 30
_MOST_COMMITS = 100


@blueprint.get("/<kind>/<name>/history")
def show(kind: str, name: str) -> ResponseReturnValue:
    """What became of a file, the newest first; of one that is gone too. A label or revision leads there as well."""
    key, at = named(kind, name)
    if at:
        return redirect(address_of(key, "timeline.show"), 303)
    return _history_page(key)


def _history_page(key: FileKey, error: RolebookError | None = None, restoring: str = "") -> str:
    """The history; with why something could not be done, and the change that should have been restored."""
    edits = rolebook().edits
    timeline = edits.history(key, limit=_PAGE, before=request.args.get("before", ""))
    states = edits.files()
    state = next((state for state in states if state.key == key), None)
    if state is None and not timeline.changes:
        raise NotFoundError("There is no such file in the library.")
    return render_template(
        "library_history.html",
        key=key,
        files=states,
        state=state,
        timeline=timeline,
        labels=edits.labels(key.id) if key.kind == "persona" else (),
        error=error,
        restoring=restoring,
    )


@blueprint.get("/<kind>/<name>/history/commits")
def commits(kind: str, name: str) -> str:
    """What git knows of a file. Asking it may take a while, so this is a page of its own."""
    key = key_of(kind, name)
    edits = rolebook().edits
    states = edits.files()
    return render_template(
        "library_commits.html",
        key=key,
        files=states,
        state=next((state for state in states if state.key == key), None),
        commits=edits.commits(key)[:_MOST_COMMITS],
    )


@blueprint.get("/<kind>/<name>/history/difference", endpoint="compare")
def show_difference(kind: str, name: str) -> str:
    """What changed from ``old`` to ``new``: changes, labels or revisions; empty is the file as it is now."""
    key = key_of(kind, name)
    edits = rolebook().edits
    old, new = request.args.get("old", ""), request.args.get("new", "")
    states = edits.files()
    return render_template(
        "library_difference.html",
        key=key,
        files=states,
        state=next((state for state in states if state.key == key), None),
        difference=edits.difference(key, old, new),
        old=_change_at(key, old),
        new=_change_at(key, new),
        names=(old, new),
    )


def _change_at(key: FileKey, at: str) -> object:
    """The change that is compared, where it is one; else it is named by a label or revision."""
    try:
        return rolebook().edits.get_change(key, at) if at else None
    except NotFoundError:
        return None


@blueprint.post("/<kind>/<name>/history/<change_id>/restore")
def restore(kind: str, name: str, change_id: str) -> ResponseReturnValue:
    """Save the text that a file had then once more; ``etag`` is that of the file that it replaces.

    ``insist`` saves it although it has errors today.
    """
    key, fields = key_of(kind, name), submitted()
    edits = rolebook().edits
    try:
        edits.restore(
            key,
            change_id,
            author=author(),
            etag=fields.get("etag"),
            insist=bool(fields.get("insist")),
        )
    except EditConflict as conflict:
        if wants_json():
            raise
        draft = Draft(key, conflict.merged.text, {"etag": conflict.theirs.etag})
        return file_page(draft, conflict=conflict), status_of(conflict)
    except RolebookError as error:
        if wants_json():
            raise
        return _history_page(key, error, change_id), status_of(error)
    return redirect(address_of(key), 303)


@blueprint.post("/<kind>/<name>/labels")
def label(kind: str, name: str) -> ResponseReturnValue:
    """Let a label, ``label``, point at a revision, ``at``; with ``remove``, take it away."""
    key, fields = key_of(kind, name), submitted()
    edits = rolebook().edits
    given = fields.get("label", "").strip()
    try:
        if fields.get("remove"):
            edits.remove_label(key.id, given, author=author())
        else:
            edits.set_label(key.id, given, fields.get("at", ""), author=author())
    except RolebookError as error:
        if wants_json():
            raise
        return _history_page(key, error), status_of(error)
    return redirect(address_of(key, "timeline.show"), 303)


@blueprint.get("/<kind>/<name>/labels")
def return_to_history(kind: str, name: str) -> Response:
    """Where a reload or a change of language after labelling ends up."""
    return redirect(address_of(key_of(kind, name), "timeline.show"), 303)


@blueprint.get("/<kind>/<name>/history/<change_id>/restore")
def return_from_restoring(kind: str, name: str, change_id: str) -> Response:
    """Where a reload or a change of language after restoring ends up."""
    return redirect(address_of(key_of(kind, name)), 303)
