"""Personas as JSON has them: in a listing, and whole."""

from __future__ import annotations

from typing import Any

from rolebook.core.persona import Persona
from rolebook.library.file_library import PersonaEntry

_FIELDS = {
    "name",
    "description",
    "tags",
    "language",
    "avatar",
    "model",
    "upstream",
    "endpoint",
}


def persona_summary(entry: PersonaEntry) -> dict[str, Any]:
    """A persona as a listing shows it; only id, file and problems are known of one that was never good."""
    known: dict[str, Any] = {}
    if entry.resolved is not None:
        persona = entry.resolved.persona
        known = persona.model_dump(mode="json", include=_FIELDS)
        known |= {"template": persona.template_name, "revision": entry.resolved.revision.id}
    problems = [str(problem) for problem in entry.problems]
    place = {"file": entry.file, "is_stale": entry.is_stale, "problems": problems}
    return {"id": entry.id, **known, **place}


def persona_data(persona: Persona) -> dict[str, Any]:
    """What a persona file would say, with its bases merged in."""
    return {key: value for key, value in persona.as_data().items() if key != "extends"}
