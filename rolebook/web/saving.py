"""Saving a file of the library, and making, copying, renaming and deleting one. Nothing that was written is lost."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Literal

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from rolebook.core.edit import EditConflict, Saved
from rolebook.core.errors import RolebookError
from rolebook.core.naming import is_persona_id, require_persona_id
from rolebook.core.source import Author, DraftError, FileKey
from rolebook.web.access import visitor
from rolebook.web.current import rolebook
from rolebook.web.draft import Draft
from rolebook.web.errors import status_of, wants_json
from rolebook.web.library import address_of, draft_of, file_page, key_of, list_page
from rolebook.web.merge_marks import read_marks
from rolebook.web.submission import submitted

blueprint = Blueprint("saving", __name__, url_prefix="/library")

_LONGEST_MESSAGE = 200


def author(via: Literal["browser", "api"] = "browser") -> Author:
    """Who makes a change here."""
    user = visitor()
    return Author(via, user.name if user else "")


@blueprint.post("/<kind>/<name>/save")
def save(kind: str, name: str) -> ResponseReturnValue:
    """Save ``text``, which began from the file as it was with ``etag``; empty for a new file.

    ``insist`` saves it although it has errors, ``anew`` as a new file, where it was deleted meanwhile. ``take`` with
    ``mine`` saves what is in the field ``mine`` instead, which a conflict has set aside.
    """
    draft = draft_of(kind, name)
    if draft.fields.get("take") == "mine":
        draft = Draft(draft.key, read_marks(draft.fields.get("mine", "")), draft.fields)
    try:
        saved = save_draft(draft)
    except RolebookError as error:
        if wants_json():
            raise
        return not_saved(draft, error), status_of(error)
    if wants_json():
        return _facts(saved)
    kept = {**draft.fields, "etag": saved.source.etag, "message": ""}
    return file_page(Draft(draft.key, saved.source.text, kept), saved=saved)


def save_draft(draft: Draft) -> Saved:
    """Save what was written, as its fields say. Raises RolebookError."""
    return rolebook().edits.save(
        draft.key,
        draft.text,
        etag="" if draft.fields.get("anew") else draft.etag,
        author=author(),
        message=" ".join(draft.fields.get("message", "").split())[:_LONGEST_MESSAGE],
        insist=bool(draft.fields.get("insist")),
    )


def _facts(saved: Saved) -> dict[str, object]:
    """What a script has to know of a file that was saved."""
    persona = saved.checked.resolved.persona if saved.checked.resolved else None
    return {
        "etag": saved.source.etag,
        "isChanged": saved.is_changed,
        "name": persona.name if persona else saved.key.id,
        "url": address_of(saved.key),
    }


def not_saved(draft: Draft, error: RolebookError) -> str:
    """The page again with what was written. After a conflict it holds both versions, put together."""
    if isinstance(error, DraftError) and draft.fields.get("anew"):
        # What was to be a new file stays one when it is saved with its errors.
        return file_page(Draft(draft.key, draft.text, {**draft.fields, "etag": ""}), error=error)
    if not isinstance(error, EditConflict):
        return file_page(draft, error=error)
    fields = {**draft.fields, "etag": error.theirs.etag}
    return file_page(Draft(draft.key, error.merged.text, fields), conflict=error)


@blueprint.get("/<kind>/<name>/save")
@blueprint.get("/<kind>/<name>/duplicate")
@blueprint.get("/<kind>/<name>/rename")
@blueprint.get("/<kind>/<name>/delete")
def return_to_file(kind: str, name: str) -> Response:
    """Where a reload or a change of language after one of these ends up."""
    return redirect(address_of(key_of(kind, name)), 303)


@blueprint.get("/trash/<trash_id>/restore")
def return_to_files(trash_id: str) -> Response:
    """Where a reload or a change of language after taking a file out of the trash ends up."""
    return redirect(url_for("library.list"), 303)


@blueprint.get("/new")
def begin() -> ResponseReturnValue:
    """Begin a file: ``kind`` (personas, or templates), ``title``, ``id``. Nothing is written yet.

    A persona begins as a form. A blank id is made from the title. Where nothing is given, all is asked for.
    """
    fields = request.args
    if not fields:
        return redirect(url_for("library.list", _anchor="new"), 303)
    title = fields.get("title", "").strip()
    name = fields.get("id", "").strip() or _free_id(title)
    try:
        require_persona_id(name)
        key = key_of(fields.get("kind", "personas"), name)
    except RolebookError as error:
        return list_page(error, fields), status_of(error)
    if key.kind == "persona":
        return redirect(url_for("persona_form.show", name=name, new="", title=title), 303)
    return redirect(address_of(key, new="", title=title), 303)


def _free_id(title: str) -> str:
    """An id that nobody has, like a title; of one in another script nothing can be taken."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    stem = re.sub("[^a-z0-9]+", "-", plain).strip("-")[:56].strip("-")
    stem = stem if is_persona_id(stem) else "persona"
    taken = {state.key.id for state in rolebook().edits.files()}
    return next(name for name in _candidates(stem) if name not in taken)


def _candidates(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}-{number}" for number in count(2))


@blueprint.post("/<kind>/<name>/duplicate")
def duplicate(kind: str, name: str) -> ResponseReturnValue:
    """Copy a file under another ``id``."""
    key, fields = key_of(kind, name), submitted()
    try:
        saved = rolebook().edits.duplicate(key, fields.get("id", "").strip(), author=author())
    except RolebookError as error:
        return _failed(key, error, "duplicate", fields)
    return redirect(address_of(saved.key), 303)


@blueprint.post("/<kind>/<name>/rename")
def rename(kind: str, name: str) -> ResponseReturnValue:
    """Give a file another ``id``; with ``carry``, in the files that name it too."""
    key, fields = key_of(kind, name), submitted()
    try:
        saved = rolebook().edits.rename(
            key, fields.get("id", "").strip(), author=author(), carry=bool(fields.get("carry"))
        )
    except RolebookError as error:
        return _failed(key, error, "rename", fields)
    return redirect(address_of(saved.key), 303)


@blueprint.post("/<kind>/<name>/delete")
def delete(kind: str, name: str) -> ResponseReturnValue:
    """Move a file to the trash; with ``insist`` although others need it."""
    key, fields = key_of(kind, name), submitted()
    try:
        trashed = rolebook().edits.delete(key, author=author(), insist=bool(fields.get("insist")))
    except RolebookError as error:
        return _failed(key, error, "delete", fields)
    return redirect(url_for("library.list", trashed=trashed.id), 303)


def _failed(
    key: FileKey, error: RolebookError, task: str, fields: Mapping[str, str]
) -> ResponseReturnValue:
    """Why something could not be done with a file: on its page, where it can be tried otherwise."""
    if wants_json():
        raise error
    source = rolebook().edits.open(key)
    page = file_page(
        Draft(key, source.text, {"etag": source.etag}), task=task, task_error=error, given=fields
    )
    return page, status_of(error)


@blueprint.post("/trash/<trash_id>/restore")
def undelete(trash_id: str) -> ResponseReturnValue:
    """Take a file out of the trash, where its id is taken under another one, ``id``."""
    fields = submitted()
    try:
        saved = rolebook().edits.undelete(
            trash_id, author=author(), as_id=fields.get("id", "").strip()
        )
    except RolebookError as error:
        if wants_json():
            raise
        return list_page(error, {"trash": trash_id, **fields}), status_of(error)
    return redirect(address_of(saved.key), 303)
