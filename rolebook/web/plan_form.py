"""The form of a plan: its fields, and what its buttons do to them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from typing import Any

from rolebook.core.errors import InputError, RolebookError
from rolebook.core.frozen import frozen
from rolebook.core.persona import ResolvedPersona
from rolebook.web.current import gettext, rolebook
from rolebook.web.submission import SAMPLING, VARIABLE, fields_under

#: The persona of a variant whose role is described in the form itself.
DESCRIBED = "-"
MOST_VARIANTS = 8
#: The kinds of checks in the order in which they are offered.
CHECK_KINDS = (
    "contains",
    "contains_any",
    "not_contains",
    "max_words",
    "min_words",
    "max_characters",
    "min_characters",
    "max_questions",
    "min_questions",
    "language",
    "regex",
    "not_regex",
    "equals",
    "is_json",
    "similarity",
    "max_seconds",
    "max_cost",
    "finish_reason",
    "rubric",
)
LIST_CHECKS = frozenset({"contains", "contains_any", "not_contains"})
_NUMBERED = re.compile(r"(variant|check|session)-([0-9]{1,4})(?:-(.+))?")
#: The fields of the judge and of the context policy that the form has, each behind its name and a hyphen.
JUDGE = ("persona", "model", "upstream")
CONTEXT = ("turns", "tokens")
#: What makes a variant more than its persona; these fields are behind "What is different here".
DIFFERENCES = ("revision", "model", "upstream", "template", "system", "more", "changes")
#: Under this key an input from a file has its place there.
PLACE = "place"

Fields = Mapping[str, str]


class FieldError(InputError):
    """What stands in one field of the form cannot be used."""

    def __init__(self, message: str, *, field: str, **parameters: Any) -> None:
        super().__init__(message, **parameters)
        self.field = field


class FaultyFormError(InputError):
    """The form makes no plan; ``errors`` says why, by the names of its fields."""

    def __init__(self, errors: Mapping[str, RolebookError]) -> None:
        first = next(iter(errors.values()))
        super().__init__(first.message, **first.parameters)
        self.errors = dict(errors)


@frozen
class PlanForm:
    """A plan as it stands in its form: texts as typed, by the names of their fields.

    ``variants`` and ``checks`` have the fields of each without the prefix ``variant-0-``. ``sessions`` are ids.
    """

    fields: Fields = field(default_factory=dict)
    variants: tuple[Fields, ...] = ()
    checks: tuple[Fields, ...] = ()
    sessions: tuple[str, ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """What stands in a field."""
        return self.fields.get(name, default)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The inputs that were read from a file. Raises FieldError if they were tampered with."""
        try:
            rows = json.loads(self.get("rows") or "[]")
        except (ValueError, RecursionError):
            rows = None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise FieldError("What was read from the file is damaged. Read it again.", field="rows")
        return rows


def read_form(fields: Fields) -> PlanForm:
    """The plan in the fields of a page."""
    plain: dict[str, str] = {}
    numbered: dict[str, dict[int, dict[str, str]]] = {"variant": {}, "check": {}, "session": {}}
    for name, value in fields.items():
        if match := _NUMBERED.fullmatch(name):
            kind, number, part = match.groups()
            numbered[kind].setdefault(int(number), {})[part or ""] = value
        else:
            plain[name] = value
    variants, checks, sessions = (
        tuple(entries[number] for number in sorted(entries)) for entries in numbered.values()
    )
    return PlanForm(
        plain,
        variants=tuple(map(_settled, variants)),
        checks=checks,
        sessions=tuple(dict.fromkeys(entry.get("", "") for entry in sessions)),
    )


def says_something(form: PlanForm) -> bool:
    """Whether there is anything yet that is said to the variants."""
    names = ("lines", "scripts", "rows", "last-of")
    return bool(form.sessions) or any(form.get(name).strip() for name in names)


def _settled(given: Fields) -> Fields:
    """A variant without what belonged to the persona that was chosen before; what was typed stays.

    ``shown`` says for which persona, at which revision, the fields were made.
    """
    shown, chosen = given.get("shown", ""), identity(given)
    if shown == chosen:
        return given
    fields = {**given, "shown": chosen}
    if own_text(shown) == _unified(given.get("system", "")):
        fields["system"] = ""
    if given.get("name") == name_in_edit(shown):
        fields["name"] = ""
    if shown.partition("@")[0] != given.get("persona", ""):
        fields["revision"] = ""
        resolved = resolved_of(fields)
        known = resolved.persona.variables if resolved else {}
        for name in fields_under(VARIABLE, given):
            if name not in known:
                del fields[VARIABLE + name]
    return {**fields, "shown": identity(fields)}


def identity(given: Fields) -> str:
    """Whose fields a variant has: ``teacher`` or ``teacher@3f9c…``."""
    revision = given.get("revision", "")
    return given.get("persona", "") + (f"@{revision}" if revision else "")


def resolved_of(given: Fields) -> ResolvedPersona | None:
    """The persona that is chosen for a variant, at its revision; ``None`` if there is none such."""
    persona_id, revision = given.get("persona", ""), given.get("revision", "")
    if persona_id in {"", DESCRIBED}:
        return None
    book = rolebook()
    try:
        return book.find_persona(f"{persona_id}@{revision}" if revision else persona_id)
    except RolebookError:
        return None


def own_text(identity: str) -> str:
    """The system text that the persona of a variant has by itself."""
    persona_id, _, revision = identity.partition("@")
    resolved = resolved_of({"persona": persona_id, "revision": revision})
    return _unified(resolved.persona.system) if resolved else ""


def name_in_edit(identity: str) -> str:
    """What a variant is called where a persona as it was stands beside what it is now.

    The time is that of its first use, and not how long ago that is, because the name stays.
    """
    persona_id, _, revision = identity.partition("@")
    resolved = resolved_of({"persona": persona_id})
    if resolved is None:
        return ""
    name = resolved.persona.name
    if not revision:
        return gettext("%(persona)s, now", persona=name)
    time = rolebook().comparisons.revision_times(persona_id).get(revision, "")
    if not time:
        return gettext("%(persona)s, before", persona=name)
    return gettext("%(persona)s, before (%(when)s)", persona=name, when=moment(time))


def moment(time: str) -> str:
    """An ISO 8601 time to the minute, where it stands in plain text."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")


def _unified(text: str) -> str:
    """A text as a form gives it back: without a line break at its end."""
    return text.replace("\r\n", "\n").rstrip("\n")


def is_different(given: Fields) -> bool:
    """Whether something of a variant is other than its persona has it."""
    names = [name for name in DIFFERENCES if name != "system"]
    is_set = any(given.get(name, "").strip() for name in names)
    is_filled = any(
        value.strip() for name, value in given.items() if name.startswith((VARIABLE, SAMPLING))
    )
    return is_set or is_filled or bool(new_wording(given))


def new_wording(given: Fields) -> str:
    """The system text of a variant where it is another one than its persona's."""
    text = given.get("system", "")
    return "" if _unified(text) == own_text(identity(given)) else text


def edit(form: PlanForm, action: str) -> tuple[PlanForm, str]:
    """What one of the form's buttons makes of it.

    Arguments:
        action: ``add-variant``, ``copy-variant 1``, ``remove-check 0`` and so on.

    Returns the form and the name of the field to go on with.
    """
    verb, _, number = action.partition(" ")
    index = int(number) if number.isdecimal() and len(number) < 5 else 0
    match verb:
        case "add-variant" | "copy-variant" | "remove-variant" | "raise-variant" | "lower-variant":
            variants, index = _edited(form.variants, verb.removesuffix("-variant"), index)
            return replace(form, variants=variants), f"variant-{index}-persona"
        case "add-check":
            kind = form.get("new-check")
            checks = (*form.checks, {"kind": kind if kind in CHECK_KINDS else CHECK_KINDS[0]})
            return replace(form, checks=checks), f"check-{len(checks) - 1}-value"
        case "remove-check":
            checks, index = _edited(form.checks, "remove", index)
            focus = f"check-{index}-value" if checks else "new-check"
            return replace(form, checks=checks), focus
        case "remove-session":
            sessions = form.sessions[:index] + form.sessions[index + 1 :]
            return replace(form, sessions=sessions), "lines"
        case "remove-rows":
            return replace(form, fields={**form.fields, "rows": ""}), "inputs-file"
        case "remove-last":
            return replace(form, fields={**form.fields, "last-of": ""}), "lines"
    return form, ""


def _edited(entries: tuple[Fields, ...], verb: str, index: int) -> tuple[tuple[Fields, ...], int]:
    """A list after something was done to its entry, and the entry to go on with."""
    if verb == "add":
        return (*entries, {}), len(entries)
    if not 0 <= index < len(entries):
        return entries, 0
    before, entry, after = entries[:index], entries[index], entries[index + 1 :]
    match verb:
        case "copy":
            return (*before, entry, {**entry, "name": ""}, *after), index + 1
        case "raise" if before:
            return (*before[:-1], entry, before[-1], *after), index - 1
        case "lower" if after:
            return (*before, after[0], entry, *after[1:]), index + 1
        case "remove":
            return (*before, *after), max(0, index - 1)
    return entries, index


def is_line(text: str) -> bool:
    """Whether a line of the form can hold a text."""
    return not {"\n", "\r"} & set(text)


def filled(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that somebody has filled in."""
    return {name: value for name, value in data.items() if value not in ("", None, [], {})}
