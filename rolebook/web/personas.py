"""The gallery of personas, the page of one, and the preview of what it would send."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from rolebook.core.access import require_persona
from rolebook.core.errors import FileError, NotFoundError, RolebookError, StorageError
from rolebook.core.naming import is_persona_id
from rolebook.core.persona import Persona, ResolvedPersona
from rolebook.core.reference import split_reference
from rolebook.library.file_library import PersonaEntry
from rolebook.storage.query import PersonaStatistics
from rolebook.web import form, gallery
from rolebook.web.current import gettext, language, rolebook
from rolebook.web.errors import describe, status_of
from rolebook.web.preview import preview
from rolebook.web.submission import submitted

blueprint = Blueprint("personas", __name__)

#: How many of a persona's newest inputs show what an edit has changed.
_LAST_INPUTS = 10


@blueprint.get("/", endpoint="list")
def list_personas() -> str:
    """The gallery."""
    return _gallery_page(request.args)


def show_gallery(fields: Mapping[str, str], error: RolebookError) -> tuple[str, int]:
    """The gallery again, when a role of one's own could not be started from it."""
    return _gallery_page(fields, error), status_of(error)


def _gallery_page(fields: Mapping[str, str], error: RolebookError | None = None) -> str:
    found = gallery.find(
        rolebook().library, gallery.query_of(fields), language=language(), translate=gettext
    )
    return render_template("gallery.html", gallery=found, error=error)


@blueprint.get("/personas/<persona_id>")
def show(persona_id: str) -> str:
    """The page of a persona; its fields can be filled in by the address, ``?input=…&v-subject=…``."""
    return _persona_page(find_entry(persona_id), request.args)


@blueprint.post("/personas/<persona_id>/preview", endpoint="preview")
def show_preview(persona_id: str) -> str:
    """What would be sent: as a piece of a page for JSON, otherwise as the whole page of the persona."""
    entry = find_entry(persona_id)
    if not request.is_json:
        return _persona_page(entry, submitted(), is_checked=True)
    if entry.resolved is None:
        raise FileError(entry.errors)
    return render_template("fragment.html", preview=preview(entry.resolved, submitted()))


@blueprint.get("/personas/<persona_id>/preview")
def return_to_form(persona_id: str) -> Response:
    """Where a reload or a change of language after a preview ends up."""
    return redirect(url_for("personas.show", persona_id=find_entry(persona_id).id), 303)


def show_form(persona_id: str, fields: Mapping[str, str], error: RolebookError) -> tuple[str, int]:
    """The page of a persona again, when a session could not be started from it."""
    return _persona_page(find_entry(persona_id), fields, error=error), status_of(error)


def find_entry(reference: str) -> PersonaEntry:
    """A persona by its id as its file is now; by ``teacher@production`` as it was, without a file.

    Raises NotFoundError, also for one that the key at hand does not open, and InputError.
    """
    persona_id, at = split_reference(reference)
    if not is_persona_id(persona_id):
        raise NotFoundError("There is no such persona.")
    require_persona(persona_id, at)
    if at:
        return PersonaEntry(reference, "", rolebook().find_persona(reference), ())
    # What is shown with its revision can be found by it, however soon the file is written again.
    rolebook().recorder.record()
    return rolebook().library.get_entry(persona_id)


def _persona_page(
    entry: PersonaEntry,
    fields: Mapping[str, str],
    *,
    error: RolebookError | None = None,
    is_checked: bool = False,
) -> str:
    """The page of a persona.

    Arguments:
        error: why what was submitted could not be used, shown at its field.
        is_checked: whether an error of the preview is shown at its field too.
    """
    if entry.resolved is None:
        return render_template("broken.html", entry=entry)
    persona = entry.resolved.persona
    shown = preview(entry.resolved, fields)
    statistics = _statistics(persona.id)
    error = error or (shown.error if is_checked else None)
    return render_template(
        "persona.html",
        entry=entry,
        persona=persona,
        fields=fields,
        variables=form.variable_fields(persona, fields),
        sampling=form.sampling_fields(persona, fields),
        errors=_field_errors(error, entry.resolved),
        preview=shown,
        revision=entry.resolved.revision.id,
        statistics=statistics,
        api_url=request.host_url + "v1",
        curl=_curl(entry.id, persona),
        former=_former_revision(entry.resolved) if statistics and entry.id == persona.id else "",
        upstreams=rolebook().upstreams.names,
    )


def _curl(reference: str, persona: Persona) -> str:
    """A line for a shell that asks the persona, at its label or revision if it has one, through the gateway."""
    said = persona.starters[0] if persona.starters else "…"
    body: dict[str, Any] = {"model": reference, "messages": [{"role": "user", "content": said}]}
    if persona.variables:
        values = {name: variable.fallback for name, variable in persona.variables.items()}
        body["rolebook"] = {"variables": values}
    # The shell ends a text at this quote; JSON can say it otherwise.
    text = json.dumps(body, ensure_ascii=False).replace("'", "\\u0027")
    address = f"{request.host_url}v1/chat/completions"
    return f"curl {address} \\\n  -H 'Content-Type: application/json' \\\n  -d '{text}'"


def _field_errors(error: RolebookError | None, resolved: ResolvedPersona) -> dict[str, str]:
    if error is None:
        return {}
    return {form.faulty_field(error, resolved.persona): describe(error)}


def _statistics(persona_id: str) -> PersonaStatistics | None:
    """How often it was used; unknown where the log cannot be read, which is no reason to hide the form."""
    with contextlib.suppress(StorageError):
        return rolebook().log.statistics_of_persona(persona_id)
    return None


def _former_revision(resolved: ResolvedPersona) -> str:
    """What answered before the last edit, if some of the newest inputs were answered by it; else empty."""
    persona_id, present = resolved.persona.id, resolved.revision.id
    recent = rolebook().comparisons.recent_turns(persona_id, _LAST_INPUTS)
    answered = {turn.revision for turn in recent} - {present}
    former = rolebook().comparisons.former_revision(persona_id, present) if answered else None
    return former.id if former and former.id in answered else ""
