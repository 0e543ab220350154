"""The comparison that the form of a plan describes, with everything that is wrong at the field where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rolebook.core.comparison_spec import parse_spec
from rolebook.core.errors import InputError, Phrase, PromptError, RolebookError, VariableError
from rolebook.core.fault import Fault, FaultyDataError
from rolebook.core.frozen import frozen
from rolebook.core.persona import Sampling
from rolebook.core.planning import Plan, PlanFault, UnplannableError
from rolebook.library.persona_file import TYPED_KEYS
from rolebook.library.yaml_text import parse_yaml
from rolebook.web.current import rolebook
from rolebook.web.plan_form import (
    CONTEXT,
    DESCRIBED,
    DIFFERENCES,
    JUDGE,
    LIST_CHECKS,
    MOST_VARIANTS,
    PLACE,
    FaultyFormError,
    FieldError,
    Fields,
    PlanForm,
    filled,
    new_wording,
)
from rolebook.web.submission import SAMPLING, VARIABLE, start_of, texts_of

_TURN = re.compile(r"^[ \t]*-{3,}[ \t]*$", re.MULTILINE)
_SCRIPT = re.compile(r"^[ \t]*={3,}[ \t]*$", re.MULTILINE)


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
        "judge": filled({name: form.get(f"judge-{name}").strip() for name in JUDGE}),
        "context": filled({name: form.get(f"context-{name}").strip() for name in CONTEXT}),
        "stream": "false" if form.get("unstreamed") else "",
        "recorded": "true" if form.get("recorded") and _is_from_log(inputs) else "",
    }
    return Draft(
        {"variants": [], "inputs": [], **filled(data)},
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
        **filled({"template": given.get("template", ""), "system": wording}),
    }
    parameters = chosen.parameters
    return filled(
        {
            "persona": "" if is_described else given["persona"],
            "system": given["system"] if is_described else "",
            "name": given.get("name", "").strip(),
            "revision": given.get("revision", ""),
            "model": chosen.model,
            "upstream": chosen.upstream,
            "variables": filled(chosen.variables),
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
        return {kind: filled({"at_least": value.strip(), "to": extra.pop("to", "")}), **extra}
    return {kind: value if kind in {"equals", "regex", "not_regex"} else value.strip(), **extra}


def _json_object(text: str, *, field: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FieldError("Write a JSON Schema, or leave it empty: any JSON will do.", field=field)
    return value


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
    return prefix + next((name for name in DIFFERENCES if given.get(name) in told), "persona")


def _try_out(plan: Plan, form: PlanForm, draft: Draft) -> None:
    """Try each variant out, so that a text that cannot be rendered is told before it is paid for."""
    answering = [i for i, v in enumerate(plan.comparison.variants) if not v.is_recorded]
    for number, index in zip(draft.variants, answering, strict=True):
        try:
            rolebook().estimator.try_out(plan.comparison, index)
        except InputError as error:
            place = _place_in_variant(error, form.variants[number], number)
            raise FaultyFormError({place: error}) from None
