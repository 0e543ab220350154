"""A comparison as plain data, for the log and for files, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rolebook.core.check import Check, Checks
from rolebook.core.comparison import Comparison, ComparisonInput, Judge, LeftOut, Variant
from rolebook.core.comparison_spec import (
    MAX_CELLS,
    MAX_CONCURRENCY,
    MAX_REPEATS,
    TOO_MANY_CELLS,
    some,
    some_variants,
)
from rolebook.core.errors import Phrase, phrase_data, phrase_of
from rolebook.core.fault import FaultyDataError, fault_of
from rolebook.core.fields import RECORDED, Boolean, Lines, Text, flaw, integer, misfit, quote
from rolebook.core.persona import JsonData, RequestField, Sampling


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Everything of a comparison, as JSON can hold it; what is empty is left out."""
    data = {
        "id": comparison.id,
        "question": comparison.question,
        "variants": [_filled(asdict(variant)) for variant in comparison.variants],
        "inputs": [_filled(asdict(entry)) for entry in comparison.inputs],
        "repeats": comparison.repeats,
        "checks": [check.as_data() for check in comparison.checks],
        "judge": asdict(comparison.judge) if comparison.judge else None,
        "concurrency": comparison.concurrency,
        "upstream": comparison.upstream,
        "repeats_of": comparison.repeats_of,
        "left_out": [
            {"count": each.count, "reason": str(each.reason), "said": phrase_data(each.reason)}
            for each in comparison.left_out
        ],
        "created_at": comparison.created_at,
    }
    return _filled(data) | {"stream": comparison.is_streamed}


def comparison_of(data: object) -> Comparison:
    """The comparison that ``comparison_data`` has described, as the log has it.

    Raises FaultyDataError for what cannot be shown. What is only sensible to demand of a new one, this leaves alone:
    it was carried out as it is.
    """
    return _read(_Recorded, data, RECORDED)


def parse_comparison(data: object) -> Comparison:
    """The same from a file, in which anybody may have changed anything: all is demanded of it that a comparison file is
    held to. Raises FaultyDataError with all that is wrong.
    """
    return _read(_Given, data)


def _text(value: str) -> str:
    if not value:
        raise misfit(Phrase("text that is not empty"), value)
    return value


_Filled = Annotated[Text, AfterValidator(_text)]


def readable_time(value: str) -> str:
    """A time as it is, or nothing where nobody could read it: that is no reason not to show what it stands at."""
    try:
        has_zone = datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return ""
    return value if has_zone else ""


class _Part(BaseModel):
    """A mapping of which every key is known: one that is misspelt would silently be what it is where left out."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class _Variant(_Part):
    name: _Filled
    persona_id: Text = ""
    revision: _Filled
    model: Text = ""
    upstream: Text = ""
    variables: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    is_recorded: Boolean = False
    others: tuple[str, ...] = ()


class _Input(_Part):
    turns: Annotated[tuple[str, ...], AfterValidator(some)]
    name: str = ""
    variables: dict[str, Any] = Field(default_factory=dict)
    reference: str = ""
    tags: tuple[str, ...] = ()
    follows: str = ""
    earlier: tuple[tuple[str, str], ...] = ()
    sent: tuple[tuple[Literal["system", "developer", "user", "assistant"], str], ...] = ()
    request: dict[str, Any] = Field(default_factory=dict)
    source: str = ""
    recorded: tuple[str, ...] = ()


class _Judge(_Part):
    persona_id: Text
    revision: _Filled
    model: Text = ""
    upstream: Text = ""


class _Said(_Part):
    message: str
    parameters: dict[str, Any]

    @model_validator(mode="after")
    def _require_sense(self) -> _Said:
        try:
            str(self.phrase)
        except (ValueError, TypeError, LookupError):
            raise misfit(Phrase("a reason in words"), self.message) from None
        return self

    @property
    def phrase(self) -> Phrase:
        return phrase_of(self.__dict__)


class _LeftOut(_Part):
    count: integer(1, MAX_CELLS)  # type: ignore[valid-type]
    reason: str = ""
    """For whoever reads it; ``said`` can be told in any language."""
    said: _Said


class _Recorded(_Part):
    id: _Filled
    question: Text = ""
    variants: Annotated[tuple[_Variant, ...], AfterValidator(some)]
    inputs: Annotated[tuple[_Input, ...], AfterValidator(some)]
    repeats: integer(1, MAX_REPEATS) = 1  # type: ignore[valid-type]
    checks: tuple[Check, ...] = ()
    judge: _Judge | None = None
    concurrency: integer(1, MAX_CONCURRENCY) = 4  # type: ignore[valid-type]
    stream: Boolean = True
    upstream: Text = ""
    repeats_of: Text = ""
    left_out: tuple[_LeftOut, ...] = ()
    created_at: Annotated[Text, AfterValidator(readable_time)] = ""

    @model_validator(mode="after")
    def _require_names(self) -> _Recorded:
        """Votes, charts and tables tell variants apart by nothing else."""
        names = [variant.name for variant in self.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise flaw(
                "Two variants are called '%(name)s'. Give each a name of its own.", name=twice
            )
        return self


class _Parameters(Sampling):
    """What is chosen over a persona's parameters. One that is null is left out, even if the persona sets it."""

    model_config = ConfigDict(extra="allow", defer_build=True)
    __pydantic_extra__: dict[RequestField, JsonData]


class _GivenVariant(_Variant):
    variables: dict[str, JsonData] = Field(default_factory=dict)
    parameters: _Parameters = Field(default_factory=_Parameters)  # type: ignore[assignment]


class _GivenInput(_Input):
    variables: dict[str, JsonData] = Field(default_factory=dict)
    request: dict[RequestField, JsonData] = Field(default_factory=dict)
    tags: Lines = ()

    @model_validator(mode="after")
    def _require_words(self) -> _GivenInput:
        # What the log has is said as it was, also where that is blank.
        blank = [turn for turn in self.turns if not turn.strip()]
        if blank and not self.recorded:
            expected = Phrase("text that is not empty")
            raise flaw(
                "%(key)s must be %(expected)s, got %(got)s.",
                expected=expected,
                got=quote(blank[0]),
                of_field="turns",
            )
        return self


class _Given(_Recorded):
    variants: Annotated[tuple[_GivenVariant, ...], AfterValidator(some_variants)]
    inputs: Annotated[tuple[_GivenInput, ...], AfterValidator(some)]
    checks: Checks = ()
    #: What was not taken of another log is nothing that a file could ask for.
    left_out: Annotated[tuple[_LeftOut, ...], BeforeValidator(lambda _: ())] = ()

    @model_validator(mode="after")
    def _require_sensible_size(self) -> _Given:
        count = len(self.variants) * len(self.inputs) * self.repeats
        if count > MAX_CELLS:
            raise flaw(TOO_MANY_CELLS, count=count, limit=MAX_CELLS)
        return self


def _read(
    form: type[_Recorded], data: object, context: Mapping[str, Any] | None = None
) -> Comparison:
    try:
        found = form.model_validate(data, context=context)
    except ValidationError as error:
        raise FaultyDataError([fault_of(detail) for detail in error.errors()]) from None
    return Comparison(
        id=found.id,
        question=found.question,
        variants=tuple(map(_variant_of, found.variants)),
        inputs=tuple(ComparisonInput(**entry.__dict__) for entry in found.inputs),
        repeats=found.repeats,
        checks=found.checks,
        judge=Judge(**dict(found.judge)) if found.judge else None,
        concurrency=found.concurrency,
        is_streamed=found.stream,
        upstream=found.upstream,
        repeats_of=found.repeats_of,
        left_out=tuple(LeftOut(each.count, each.said.phrase) for each in found.left_out),
        created_at=found.created_at,
    )


def _variant_of(found: _Variant) -> Variant:
    parameters = found.parameters
    if isinstance(parameters, _Parameters):
        parameters = parameters.model_dump(mode="json", exclude_unset=True)
    return Variant(**{**dict(found), "parameters": parameters})


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in data.items() if value not in ("", None, (), [], {}, False)
    }
