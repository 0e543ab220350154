"""The form of a plan: its fields, what its buttons do to them, and the comparison that they describe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from datetime import datetime
from itertools import takewhile
from typing import Any

from rolebook.core.comparison_spec import ComparisonSpec, InputSpec, VariantSpec, parse_spec
from rolebook.core.errors import InputError, Phrase, PromptError, RolebookError, VariableError
from rolebook.core.frozen import frozen
from rolebook.core.persona import (
    Fault,
    FaultyDataError,
    ResolvedPersona,
    Sampling,
    parse_parameters,
)
from rolebook.core.planning import Plan, PlanFault, UnplannableError
from rolebook.library.persona_file import TYPED_KEYS
from rolebook.library.yaml_text import dump_yaml, parse_yaml
from rolebook.web.current import gettext, rolebook
from rolebook.web.submission import SAMPLING, VARIABLE, fields_under, lines_of, start_of, texts_of

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
_TURN = re.compile(r"^[ \t]*-{3,}[ \t]*$", re.MULTILINE)
_SCRIPT = re.compile(r"^[ \t]*={3,}[ \t]*$", re.MULTILINE)
#: What makes a variant more than its persona; these fields are behind "What is different here".
_DIFFERENCES = ("revision", "model", "upstream", "template", "system", "more", "changes")
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
    names = [name for name in _DIFFERENCES if name != "system"]
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


@frozen
class Draft:
    """What a form says, as data of a comparison, with the fields that each part of it comes from.

    ``variants`` and ``checks`` are the numbers of those that take part, ``inputs`` the name of a field for each input,
    ``places`` where it stands in a file, if it came from one.
    """

    data: dict[str, Any]
    variants: tuple[int, ...]
    checks: tuple[int, ...]
    inputs: tuple[str, ...]
    places: tuple[str, ...]

    def field_of(self, path: Sequence[str | int]) -> str:
        """The field that a fault of the data is about; empty if it is none in particular."""
        match list(path):
            case ["variants", int(index), *rest]:
                return f"variant-{self.variants[index]}-{_variant_field(rest)}"
            case ["variants"]:
                return "variant-0-persona"
            case ["inputs", int(index), *_]:
                return self.inputs[index]
            case ["inputs"]:
                return "lines"
            case ["checks", int(index), *_]:
                return f"check-{self.checks[index]}-value"
            case ["judge", "upstream"]:
                # It is hidden in the form, and belongs to whoever judges.
                return "judge-persona"
            case ["judge" | "context" as part, *rest]:
                return "-".join([part, *map(str, rest[:1])])
            case [str(name), *_]:
                return name
        return ""


def _variant_field(path: Sequence[str | int]) -> str:
    match path:
        case ["sampling", str(name), *_]:
            return SAMPLING + name
        case ["variables", str(name), *_]:
            return VARIABLE + name
        case ["request", *_]:
            return "more"
        case ["changes", "system" | "template" as name, *_]:
            return name
        case [str(name), *_]:
            return name
    return "persona"


def draft_of(form: PlanForm, *, stand_in: str = "") -> Draft:
    """What the form says. Variants without a persona are left out.

    Arguments:
        stand_in: somebody is still at it: this is said where the form says nothing yet, and checks and described roles
            that have no text yet are left out too.

    Raises FaultyFormError with everything that is missing or cannot be read.
    """
    variants, checks = list(enumerate(form.variants)), list(enumerate(form.checks))
    chosen = [number for number, given in variants if given.get("persona")]
    wanted = [number for number, _check in checks]
    if stand_in:
        chosen = [number for number in chosen if not _lacks_text(form.variants[number])]
        wanted = [number for number in wanted if not _is_blank(form.checks[number])]
    errors: dict[str, RolebookError] = {}
    with _marking(errors):
        _require_variants(chosen)
    variant_data = list(_each(_variant_data, form.variants, chosen, errors))
    inputs: list[tuple[str, dict[str, Any]]] = []
    with _marking(errors):
        inputs = list(_inputs(form)) or [("lines", {"input": stand_in})][: bool(stand_in)]
        _require_inputs(inputs)
    check_data = list(_each(_check_data, form.checks, wanted, errors))
    if errors:
        raise FaultyFormError(errors)
    data = {
        "question": form.get("question"),
        "variants": variant_data,
        "inputs": [_without_place(entry) for _, entry in inputs],
        "repeats": form.get("repeats").strip(),
        "concurrency": form.get("concurrency").strip(),
        "checks": check_data,
        "judge": _filled({name: form.get(f"judge-{name}").strip() for name in _JUDGE}),
        "context": _filled({name: form.get(f"context-{name}").strip() for name in _CONTEXT}),
        "stream": "false" if form.get("unstreamed") else "",
        "recorded": "true" if form.get("recorded") and _is_from_log(inputs) else "",
    }
    return Draft(
        {"variants": [], "inputs": [], **_filled(data)},
        variants=tuple(chosen),
        checks=tuple(wanted),
        inputs=tuple(name for name, _ in inputs),
        places=tuple(str(entry.get(PLACE, "")) for _, entry in inputs),
    )


def _is_from_log(inputs: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    return any("session" in entry or "persona" in entry for _, entry in inputs)


def _without_place(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != PLACE}


@contextmanager
def _marking(errors: dict[str, RolebookError]) -> Iterator[None]:
    """Note what is wrong with a field, and go on: somebody who mends a form wants to see all of it at once."""
    try:
        yield
    except FieldError as error:
        errors.setdefault(error.field, error)


def _each(
    read: Callable[[int, Fields], dict[str, Any]],
    entries: Sequence[Fields],
    numbers: Iterable[int],
    errors: dict[str, RolebookError],
) -> Iterator[dict[str, Any]]:
    """What these entries of a form say, without those that cannot be read."""
    for number in numbers:
        with _marking(errors):
            yield read(number, entries[number])


def _require_variants(numbers: Sequence[int]) -> None:
    if not numbers:
        raise FieldError("Choose who takes part.", field="variant-0-persona")
    if len(numbers) > MOST_VARIANTS:
        raise FieldError(
            "Up to %(most)d can be compared at once. Remove some.",
            field=f"variant-{numbers[MOST_VARIANTS]}-persona",
            most=MOST_VARIANTS,
        )


def _require_inputs(inputs: Sequence[object]) -> None:
    if not inputs:
        raise FieldError("Write what is said to them, or take it from a file.", field="lines")


def _lacks_text(given: Fields) -> bool:
    return given["persona"] == DESCRIBED and not given.get("system", "").strip()


def _is_blank(check: Fields) -> bool:
    return not check.get("value", "").strip() and check.get("kind") != "is_json"


_JUDGE = ("persona", "model", "upstream")
_CONTEXT = ("turns", "tokens")


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value not in ("", None, [], {})}


def _variant_data(number: int, given: Fields) -> dict[str, Any]:
    prefix = f"variant-{number}-"
    is_described = given["persona"] == DESCRIBED
    if _lacks_text(given):
        raise FieldError("Please say what the role should be.", field=prefix + "system")
    try:
        chosen = start_of({**given, "system": ""}).session
    except InputError as error:
        name = str(error.parameters.get("key", ""))
        part = SAMPLING + name if SAMPLING + name in given else "more"
        raise FieldError(error.message, field=prefix + part, **error.parameters) from None
    wording = "" if is_described else new_wording(given)
    changes = {
        **_changes(given.get("changes", ""), field=prefix + "changes"),
        **_filled({"template": given.get("template", ""), "system": wording}),
    }
    parameters = chosen.parameters
    return _filled(
        {
            "persona": "" if is_described else given["persona"],
            "system": given["system"] if is_described else "",
            "name": given.get("name", "").strip(),
            "revision": given.get("revision", ""),
            "model": chosen.model,
            "upstream": chosen.upstream,
            "variables": _filled(chosen.variables),
            "sampling": {k: v for k, v in parameters.items() if k in Sampling.model_fields},
            "request": {k: v for k, v in parameters.items() if k not in Sampling.model_fields},
            "changes": changes,
        }
    )


def _changes(text: str, *, field: str) -> dict[str, Any]:
    """Keys of a persona's file, as they stand there."""
    if not text.strip():
        return {}
    try:
        document = parse_yaml(text, file="", typed=TYPED_KEYS)
    except InputError as error:
        raise FieldError(error.message, field=field, **error.parameters) from None
    return dict(document.data)


def _inputs(form: PlanForm) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each input with the name of the field that it stands in."""
    for line in form.get("lines").split("\n"):
        if line.strip():
            yield "lines", {"input": line}
    for script in _SCRIPT.split(form.get("scripts")):
        turns = [turn.strip("\n") for turn in _TURN.split(script) if turn.strip()]
        if turns:
            yield "scripts", {"turns": turns}
    for row in form.rows:
        yield "rows", row
    history = form.get("history") or "fixed"
    for number, session in enumerate(form.sessions):
        yield f"session-{number}", {"session": session, "history": history}
    if persona_id := form.get("last-of"):
        yield "last", {"persona": persona_id, "last": form.get("last").strip() or "10"}


def _check_data(number: int, check: Fields) -> dict[str, Any]:
    kind, value, place = check.get("kind", ""), check.get("value", ""), f"check-{number}-value"
    extra = _json_object(check.get("extra", ""), field=place)
    if _is_blank(check):
        raise FieldError("Fill in what is to be checked, or remove the check.", field=place)
    if kind in LIST_CHECKS:
        return {kind: texts_of(value), **extra}
    if kind == "is_json":
        return {kind: _json_object(value, field=place) if value.strip() else True, **extra}
    if kind == "similarity":
        return {kind: _filled({"at_least": value.strip(), "to": extra.pop("to", "")}), **extra}
    return {kind: value if kind in {"equals", "regex", "not_regex"} else value.strip(), **extra}


def _json_object(text: str, *, field: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FieldError("Write a JSON Schema, or leave it empty: any JSON will do.", field=field)
    return value


#: An input that says no more than this has a field in the form.
_PLAIN = {"input", "session", "history", "persona", "last"}


def form_of_spec(spec: ComparisonSpec) -> PlanForm:
    """A form filled in with a comparison, as a file describes it."""
    lines, rows, sessions, last = _placed(spec.inputs)
    judge, context = spec.judge, spec.context
    return PlanForm(
        _filled(
            {
                "question": spec.question,
                "lines": "\n".join(entry.input for entry in lines),
                "rows": json.dumps([_data_of(row) for row in rows], ensure_ascii=False)
                if rows
                else "",
                "history": sessions[0].history if sessions else "",
                "last-of": last.persona if last else "",
                "last": str(last.last) if last else "",
                "repeats": str(spec.repeats),
                "concurrency": str(spec.concurrency),
                "recorded": "1" if spec.recorded else "",
                "unstreamed": "" if spec.stream else "1",
                **{f"judge-{name}": getattr(judge, name) for name in _JUDGE},
                **{
                    f"context-{name}": _text(getattr(context, name)) for name in _CONTEXT if context
                },
            }
        ),
        variants=tuple(map(fields_of_variant, spec.variants)),
        checks=tuple(_check_fields(check.as_data()) for check in spec.checks),
        sessions=tuple(entry.session for entry in sessions),
    )


def _placed(
    inputs: Sequence[InputSpec],
) -> tuple[list[InputSpec], list[InputSpec], list[InputSpec], InputSpec | None]:
    """Inputs by their place in the form: lines, rows, sessions, the last ones of a persona.

    The order is kept, so that the grid is the file. What stands before others that come first in the form travels with
    the inputs of files, as does what has no field of its own.
    """
    rows = list(inputs)
    lines = list(takewhile(_is_typed, rows))
    del rows[: len(lines)]
    last = rows.pop() if rows and rows[-1].persona and _is_plain(rows[-1]) else None
    sessions: list[InputSpec] = []
    while rows and rows[-1].session and _is_plain(rows[-1]):
        if sessions and rows[-1].history != sessions[-1].history:
            break
        sessions.append(rows.pop())
    return lines, rows, sessions[::-1], last


def _is_plain(entry: InputSpec) -> bool:
    return _data_of(entry).keys() <= _PLAIN


def _is_typed(entry: InputSpec) -> bool:
    return _is_plain(entry) and bool(entry.input.strip()) and is_line(entry.input)


def is_line(text: str) -> bool:
    """Whether a line of the form can hold a text."""
    return not {"\n", "\r"} & set(text)


def _data_of(entry: InputSpec) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_defaults=True)


def _text(value: object) -> str:
    """A value as it is typed."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_more(value: object) -> str:
    """The value of a request field as it is typed: a text in quotes where it would be read as something else."""
    if isinstance(value, str) and not (
        is_line(value) and value == value.strip() and parse_parameters({"x": value}) == {"x": value}
    ):
        return json.dumps(value, ensure_ascii=False)
    return _text(value)


def fields_of_variant(given: VariantSpec) -> Fields:
    """A variant in the fields of the form."""
    sampling = given.sampling.as_parameters()
    changes = dict(given.changes)
    system, template = changes.pop("system", ""), changes.pop("template", "")
    fields = {
        "persona": given.persona or DESCRIBED,
        "system": given.system or str(system),
        "template": str(template),
        "changes": dump_yaml(changes) if changes else "",
        **{name: getattr(given, name) for name in ("name", "revision", "model", "upstream")},
        **{VARIABLE + name: _text(value) for name, value in given.variables.items()},
        **{
            SAMPLING + name: lines_of(value) if name == "stop" else _text(value)
            for name, value in sampling.items()
        },
        "more": "\n".join(f"{name}={_as_more(value)}" for name, value in given.request.items()),
    }
    return {**_filled(fields), "shown": identity(fields)}


def _check_fields(data: Mapping[str, Any]) -> Fields:
    kind = next(kind for kind in CHECK_KINDS if kind in data)
    extra = {name: value for name, value in data.items() if name != kind}
    value = data[kind]
    if kind == "similarity":
        extra |= _filled({"to": value.get("to", "")})
        value = value["at_least"]
    if value is True:
        value = ""
    text = (
        lines_of([value] if isinstance(value, str) else value)
        if kind in LIST_CHECKS
        else _text(value)
    )
    return {"kind": kind, "value": text, "extra": json.dumps(extra) if extra else ""}


def plan_of(form: PlanForm, *, stand_in: str = "") -> Plan:
    """The plan that a form describes, of which every variant is known to render.

    Arguments:
        stand_in: what is said where the form says nothing yet; then the form is taken as one that is still being
            filled in.

    Raises FaultyFormError.
    """
    draft = draft_of(form, stand_in=stand_in)
    try:
        spec = parse_spec(draft.data)
    except FaultyDataError as error:
        raise FaultyFormError(_by_field(error.faults, draft)) from None
    try:
        plan = rolebook().compare.plan(spec)
    except UnplannableError as error:
        raise FaultyFormError(_by_place(error.faults, form, draft)) from None
    _try_out(plan, form, draft)
    return plan


def _by_field(faults: Sequence[Fault], draft: Draft) -> dict[str, RolebookError]:
    """What is wrong, by the field that it stands in; it is called there by its own name alone."""
    errors: dict[str, RolebookError] = {}
    for fault in faults:
        name = next((part for part in reversed(fault.path) if isinstance(part, str)), "")
        error = InputError(fault.message, **{**fault.parameters, "key": name})
        errors.setdefault(draft.field_of(fault.path), error)
    return errors


def _by_place(
    faults: Sequence[PlanFault], form: PlanForm, draft: Draft
) -> dict[str, RolebookError]:
    """Why the plan cannot be made, by the field that it is about."""
    errors: dict[str, RolebookError] = {}
    for fault in faults:
        match fault.path:
            case ("variants", int(index), *_):
                number = draft.variants[index]
                place = _place_in_variant(fault.error, form.variants[number], number)
                errors.setdefault(place, fault.error)
            case ("inputs", int(index), *_) if draft.places[index]:
                errors.setdefault(
                    draft.inputs[index], _with_place(fault.error, draft.places[index])
                )
            case _:
                errors.setdefault(draft.field_of(fault.path), fault.error)
    return errors


def _with_place(error: RolebookError, place: str) -> InputError:
    reason = Phrase(error.message, error.parameters)
    return InputError("%(place)s: %(reason)s", place=place, reason=reason)


def _place_in_variant(error: RolebookError, given: Fields, number: int) -> str:
    prefix = f"variant-{number}-"
    if isinstance(error, VariableError):
        return f"{prefix}{VARIABLE}{error.name}"
    if isinstance(error, PromptError):
        return f"{prefix}system"
    told = set(map(str, error.parameters.values()))
    return prefix + next((name for name in _DIFFERENCES if given.get(name) in told), "persona")


def _try_out(plan: Plan, form: PlanForm, draft: Draft) -> None:
    """Try each variant out, so that a text that cannot be rendered is told before it is paid for."""
    answering = [i for i, v in enumerate(plan.comparison.variants) if not v.is_recorded]
    for number, index in zip(draft.variants, answering, strict=True):
        try:
            rolebook().estimator.try_out(plan.comparison, index)
        except InputError as error:
            place = _place_in_variant(error, form.variants[number], number)
            raise FaultyFormError({place: error}) from None
