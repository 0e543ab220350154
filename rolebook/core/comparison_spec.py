"""What somebody writes to have a comparison made: a file, a form or a command line, before anything is looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rolebook.core.check import Checks
from rolebook.core.errors import Phrase
from rolebook.core.fault import Fault, FaultyDataError, fault_of
from rolebook.core.fields import Boolean, Lines, Part, Text, flaw, integer, misfit, nearest
from rolebook.core.persona import ContextPolicy, Example, JsonData, Persona, RequestField, Sampling
from rolebook.core.unknown_keys import OTHER_NAMES, find_unknown_keys

#: More calls than anybody means to pay for; a slip of the keyboard stops here.
MAX_CELLS = 100_000
#: Nobody looks at more of them, and what sets each apart from the first is told of all.
MAX_VARIANTS = 200
MAX_REPEATS = 100
MAX_CONCURRENCY = 64
TOO_MANY_CELLS = (
    "That makes %(count)d cells, and %(limit)d are the most. Take fewer inputs or repeats."
)

T = TypeVar("T")


def _variant(value: object) -> object:
    """Expand the short form, ``teacher`` or ``teacher@3f9c2a``."""
    if not isinstance(value, str):
        return value
    persona_id, _, revision = value.partition("@")
    return {"persona": persona_id, "revision": revision}


def _require_effect(changes: dict[str, Any]) -> dict[str, Any]:
    """Refuse keys that would change nothing: left out, they would have a persona compared with itself."""
    found = {fault.path: _idle_key(fault) for fault in find_unknown_keys(changes)}
    if "extends" in changes:
        found["extends",] = flaw(
            "%(key)s: bases are merged before anything is changed here. Write what the base would say, or compare a "
            "persona that extends it."
        )
    if found:
        raise ValidationError.from_exception_data(
            "changes",
            [{"type": error, "loc": path, "input": None} for path, error in found.items()],
        )
    return changes


def _idle_key(fault: Fault) -> PydanticCustomError:
    near = str(fault.parameters["near"] or "")
    if "name" in fault.parameters:
        return flaw(fault.message, **fault.parameters)
    if near in Sampling.model_fields and len(fault.path) == 1:
        near = f"sampling.{near}"
    if near:
        return flaw("'%(key)s' is no key of a persona file. Did you mean '%(near)s'?", near=near)
    return flaw("'%(key)s' is no key of a persona file and would change nothing: take it out.")


def _one_line(text: str) -> str:
    """Names stand over columns; one of nothing but blanks is none."""
    return " ".join(text.split())


class VariantSpec(Part):
    """A persona as it takes part, and what is different about it here."""

    persona: Text = ""
    """The id of a persona."""
    system: Text = ""
    """The system text of a role without a file, in place of `persona`. It is taken literally."""
    name: Annotated[Text, AfterValidator(_one_line)] = ""
    """What it is called here; left out, its persona's name and what is different."""
    revision: Text = ""
    """An earlier revision of the persona, by its id or the beginning of it."""
    model: Text = ""
    """The model that answers."""
    upstream: Text = ""
    """The upstream that is called."""
    variables: dict[str, JsonData] = Field(default_factory=dict)
    """Values of the persona's variables."""
    sampling: Sampling = Sampling()
    """Sampling parameters over the persona's own."""
    request: dict[RequestField, JsonData] = Field(default_factory=dict)
    """Other fields of the request."""
    changes: Annotated[dict[str, JsonData], AfterValidator(_require_effect)] = Field(
        default_factory=dict
    )
    """Any keys of the persona's file with other values: what it would be if its file said so."""

    @model_validator(mode="after")
    def _check(self) -> VariantSpec:
        if self.persona and self.system:
            raise flaw(
                "%(key)s has a persona and a system text of its own. What the persona shall say instead belongs under "
                "'changes', as 'system' there."
            )
        if not self.persona and not self.system:
            raise flaw("%(key)s needs either 'persona' or 'system'.")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """What is chosen over the persona's parameters."""
        return {**self.sampling.as_parameters(), **self.request}


def some(entries: tuple[T, ...]) -> tuple[T, ...]:
    """The entries of a list that must have one. Raises the flaw that it is empty."""
    if not entries:
        raise misfit(Phrase("a list that is not empty"), list(entries))
    return entries


def some_variants(entries: tuple[T, ...]) -> tuple[T, ...]:
    """The same for variants, of which there may only be so many."""
    if len(entries) > MAX_VARIANTS:
        raise flaw(
            "These are %(count)d variants, and %(limit)d are the most.",
            count=len(entries),
            limit=MAX_VARIANTS,
        )
    return some(entries)


def _input(value: object) -> object:
    """Expand the short form, a plain text."""
    return {"input": value} if isinstance(value, str) else value


class InputSpec(Part):
    """What is said to every variant."""

    input: Text = ""
    """One text."""
    turns: Lines = ()
    """Several texts, said one after the other, each when the one before is answered."""
    session: Text = ""
    """The id of a session in the log whose inputs are taken."""
    persona: Text = ""
    """The id of a persona whose newest inputs in the log are taken."""
    last: integer(1, 10_000) = 20  # type: ignore[valid-type]
    """How many of the persona's newest inputs."""
    history: Literal["fixed", "free"] = "fixed"
    """For inputs from the log. `fixed`: each is answered after the recorded answers before it. `free`: each variant's
    own answers carry on."""
    earlier: tuple[Example, ...] = ()
    """Turns that were said before, each with `user` and `assistant`."""
    name: Text = ""
    """What it is called."""
    variables: dict[str, JsonData] = Field(default_factory=dict)
    """Values for those variants whose persona has these variables."""
    reference: Text = ""
    """A good answer, for checks and measures of similarity."""
    tags: Lines = ()
    """Words to group the results by."""

    @model_validator(mode="after")
    def _check(self) -> InputSpec:
        sources = [self.input.strip(), self.turns, self.session, self.persona]
        if sum(map(bool, sources)) != 1:
            raise flaw("%(key)s needs one of 'input', 'turns', 'session' and 'persona'.")
        if self.earlier and not self.texts:
            raise flaw("%(key)s: earlier turns belong to 'input' or 'turns'.")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """What is said; empty where it comes from the log."""
        return self.turns or ((self.input,) if self.input else ())


class JudgeSpec(Part):
    """Who judges rubrics."""

    persona: Text = ""
    """A persona with the variables `rubric`, `conversation` and `reference`; left out, the configured judge."""
    model: Text = ""
    """The model that judges."""
    upstream: Text = ""
    """The upstream that is called."""


class ComparisonSpec(Part):
    """A comparison: variants, inputs and repeats."""

    question: Text = ""
    """What it shall answer, in words."""
    variants: Annotated[
        tuple[Annotated[VariantSpec, BeforeValidator(_variant)], ...], AfterValidator(some_variants)
    ]
    """Who takes part: ids of personas, or more about each."""
    inputs: Annotated[
        tuple[Annotated[InputSpec, BeforeValidator(_input)], ...], AfterValidator(some)
    ]
    """What is said to each."""
    repeats: integer(1, MAX_REPEATS) = 1  # type: ignore[valid-type]
    """How often each variant answers each input."""
    concurrency: integer(1, MAX_CONCURRENCY) = 4  # type: ignore[valid-type]
    """How many calls an upstream gets at once."""
    stream: Boolean = True
    """Whether answers come piece by piece. Without, there is no time to first token, and less work for many cells."""
    checks: Checks = ()
    """What every answer must be, beside the checks of the personas."""
    judge: JudgeSpec = JudgeSpec()
    """Who judges rubrics."""
    context: ContextPolicy | None = None
    """One context policy for all variants, so that all see the same history."""
    recorded: Boolean = False
    """For inputs from the log: whether the recorded answers take part as a variant of their own."""


_PARTS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): ComparisonSpec,
    ("variants", "*"): VariantSpec,
    ("variants", "*", "sampling"): Sampling,
    ("inputs", "*"): InputSpec,
    ("inputs", "*", "earlier", "*"): Example,
    ("judge",): JudgeSpec,
    ("context",): ContextPolicy,
}


def parse_spec(data: Mapping[str, Any]) -> ComparisonSpec:
    """The comparison that ``data`` describes. Raises FaultyDataError with all that is wrong."""
    try:
        return ComparisonSpec.model_validate(data)
    except ValidationError as error:
        raise FaultyDataError([fault_of(detail) for detail in error.errors()]) from None


def find_unknown_spec_keys(data: Mapping[str, Any]) -> Iterator[Fault]:
    """A fault for every key that means nothing here.

    In a variant it is an error, as it would change nothing and have a persona compared with itself; elsewhere a
    warning.
    """
    for fault in find_unknown_keys(data, _PARTS):
        match fault.path:
            case ("variants", _, key):
                yield _misplaced(fault, str(key))
            case ("variants", _, "sampling", _):
                near = str(fault.parameters["near"] or "")
                yield _as_error(fault, _NEARLY_SAMPLING if near else _NO_SAMPLING)
            case _:
                yield fault


_NO_SAMPLING = (
    "'%(key)s' is no sampling parameter. Other fields of the request belong under 'request'."
)
_NEARLY_SAMPLING = (
    "'%(key)s' is no sampling parameter. Did you mean '%(near)s'? Other fields of the request belong "
    "under 'request'."
)


def _misplaced(fault: Fault, key: str) -> Fault:
    """An unknown key of a variant; many are keys of a persona's file, or sampling parameters."""
    places = {
        **{name: f"changes.{name}" for name in Persona.model_fields if name not in {"id", "x"}},
        **{name: f"sampling.{name}" for name in Sampling.model_fields},
        **{name: name for name in VariantSpec.model_fields if name != "system"},
    }
    if key in places:
        place = places[key].partition(".")[0]
        message = "'%(key)s' belongs under '%(place)s'; here it would change nothing."
        return _as_error(fault, message, place=place)
    near = places.get(OTHER_NAMES.get(key) or nearest(key, places), "")
    message = "'%(key)s' means nothing here and would change nothing: take it out."
    if near:
        message = "'%(key)s' means nothing here and would change nothing. Did you mean '%(near)s'?"
    return _as_error(fault, message, near=near)


def _as_error(fault: Fault, message: str, **more: str) -> Fault:
    if "name" in fault.parameters:
        # A text that a comma has cut.
        return replace(fault, severity="error")
    parameters = {**fault.parameters, **more}
    return replace(fault, message=message, parameters=parameters, severity="error")
