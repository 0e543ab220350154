"""A persona: a named role, as its file describes it. The format's reference is made from these models."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rolebook.core.check import Checks
from rolebook.core.errors import InputError, Phrase, VariableError
from rolebook.core.fault import FaultyDataError, fault_of
from rolebook.core.fields import (
    RECORDED,
    Boolean,
    Line,
    Lines,
    Number,
    Part,
    Text,
    Texts,
    flaw,
    integer,
    misfit,
    misfit_choice,
    number,
    parse_boolean,
    parse_integer,
    parse_number,
    quote,
)
from rolebook.core.fixed import plain, require_counts
from rolebook.core.frozen import frozen
from rolebook.core.naming import require_fields
from rolebook.core.session import Revision

_RAW, _END_RAW = "{% raw %}", "{% endraw %}"
_VARIABLE_NAME = re.compile(r"[^\W\d_]\w{0,63}")
#: What a prompt template already knows under these names, and what Jinja itself defines.
RESERVED_NAMES = frozenset(
    [
        "system",
        "examples",
        "history",
        "input",
        "persona",
        "greeting",
        "messages",
        "message",
        "role",
        "loop",
        "self",
        "config",
        "caller",
        "varargs",
        "kwargs",
        "namespace",
        "range",
        "dict",
        "cycler",
        "joiner",
        "true",
        "false",
        "none",
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
    ]
)
#: Request fields that Rolebook fills itself or that would carry a secret or another address.
RESERVED_FIELDS = frozenset(
    [
        "messages",
        "model",
        "prompt",
        "stream",
        "stream_options",
        "api_base",
        "api_key",
        "authorization",
        "base_url",
        "headers",
        "extra_headers",
        "extra_body",
        "extra_query",
        "timeout",
    ]
)

#: Request fields that say on whose account upstreams answer: for those who write personas, and for no request.
BILLING_FIELDS = frozenset({"organization", "project"})
_PLAIN_RESERVED = frozenset(map(plain, RESERVED_FIELDS))


def is_reserved(name: str) -> bool:
    """Whether a request field is one that Rolebook sets itself, or would carry a secret or another address; however it
    is spelled.
    """
    return plain(name) in _PLAIN_RESERVED


VariableType = Literal["text", "long_text", "number", "integer", "boolean", "choice", "date"]
VariableValue = str | float | int | bool


class Variable(Part):
    """A blank in the system text that is filled in when a session starts."""

    type: VariableType = "text"
    """What kind of value it takes; it decides which input a form shows."""
    default: Any = None
    """The value where none is given."""
    required: Boolean = False
    """Whether a session cannot start without it."""
    description: Text = ""
    """What to fill in, for people."""
    choices: Lines = ()
    """The values of a `choice`."""
    min: Number | None = None
    """The least value of a `number` or `integer`."""
    max: Number | None = None
    """The greatest value of a `number` or `integer`."""

    @model_validator(mode="after")
    def _check(self) -> Variable:
        if (self.type == "choice") != bool(self.choices):
            raise flaw("%(key)s: choices belong to type 'choice', and it needs them.")
        is_limited = self.min is not None or self.max is not None
        if is_limited and self.type not in {"number", "integer"}:
            raise flaw("%(key)s: min and max belong to type 'number' or 'integer'.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise flaw("%(key)s: min is greater than max.")
        if self.default is not None:
            object.__setattr__(self, "default", self._parse_default())
        return self

    def _parse_default(self) -> VariableValue:
        try:
            return self.parse(self.default)
        except PydanticCustomError as error:
            context: Any = error.context
            raise flaw(
                context["message"], **{**context["parameters"], "of_field": "default"}
            ) from None

    def parse(self, value: object) -> VariableValue:
        """The value in its type, from text or a JSON value. Raises PydanticCustomError."""
        match self.type:
            case "number":
                return self._within_limits(parse_number(value))
            case "integer":
                return self._within_limits(parse_integer(value))
            case "boolean":
                return parse_boolean(value)
            case "date":
                return _parse_date(value)
            case "choice":
                if value not in self.choices:
                    raise misfit_choice(value, self.choices)
        if not isinstance(value, str):
            raise misfit(Phrase("text"), value)
        return value

    def _within_limits(self, number: float) -> float:
        if self.min is not None and number < self.min:
            raise misfit(Phrase("at least %(limit)g", {"limit": self.min}), number)
        if self.max is not None and number > self.max:
            raise misfit(Phrase("at most %(limit)g", {"limit": self.max}), number)
        return number

    @property
    def fallback(self) -> VariableValue:
        """The value where none is given: the default, else the first choice, false, or no text."""
        if self.default is not None:
            return self.default  # type: ignore[no-any-return]
        if self.type == "choice":
            return self.choices[0]
        return False if self.type == "boolean" else ""


def _parse_date(value: object) -> str:
    try:
        return date.fromisoformat(str(value).strip()).isoformat()
    except ValueError:
        raise misfit(Phrase("a date such as 2026-11-20"), value) from None


class Example(Part):
    """A primed turn, sent before the history as if it had happened."""

    user: Text
    """What the person says."""
    assistant: Text
    """What the persona answers."""


class ContextPolicy(Part):
    """How much of the history is sent. The oldest whole turns go first."""

    turns: integer(0, 100_000) | None = None  # type: ignore[valid-type]
    """At most this many earlier turns."""
    tokens: integer(1, 100_000_000) | None = None  # type: ignore[valid-type]
    """At most this many tokens in the whole message list, as far as dropping turns can achieve it."""


def _logprobs(value: object) -> bool | int:
    text = str(value).strip()
    return int(text) if re.fullmatch("[0-9]{1,2}", text) else parse_boolean(value)


def _stop_texts(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) > 4 or "" in texts:
        raise flaw("'stop' takes at most four texts, none of them empty.")
    return texts


class Sampling(Part):
    """Sampling parameters, by the names of the OpenAI API. Left out means the upstream's own default."""

    temperature: number(0, 2) | None = None  # type: ignore[valid-type]
    """How freely it chooses its words: 0 repeats itself, above 1 it wanders."""
    top_p: number(0, 1) | None = None  # type: ignore[valid-type]
    """Choose only from the likeliest words that together have this probability."""
    max_tokens: integer(1, 10_000_000) | None = None  # type: ignore[valid-type]
    """The longest answer, in tokens."""
    presence_penalty: number(-2, 2) | None = None  # type: ignore[valid-type]
    """Above 0: prefer what has not been mentioned yet."""
    frequency_penalty: number(-2, 2) | None = None  # type: ignore[valid-type]
    """Above 0: avoid repeating the same words."""
    stop: Annotated[Texts, AfterValidator(_stop_texts)] | None = None
    """Up to four texts at which the answer ends."""
    seed: integer(-(2**53), 2**53) | None = None  # type: ignore[valid-type]
    """Ask for the same answer to the same request, as far as the upstream can."""
    n: integer(1, 16) | None = None  # type: ignore[valid-type]
    """How many alternative answers to ask for."""
    logprobs: Annotated[bool | int, BeforeValidator(_logprobs)] | None = None
    """Ask for the probabilities of the tokens (true, or a number for base models)."""
    top_logprobs: integer(0, 20) | None = None  # type: ignore[valid-type]
    """How many likely tokens to report at each place."""
    logit_bias: dict[str, number(-100, 100)] | None = None  # type: ignore[valid-type]
    """Make single tokens likelier or less likely, by token id."""
    echo: Boolean | None = None
    """Base models only: repeat the prompt before the answer."""
    best_of: integer(1, 20) | None = None  # type: ignore[valid-type]
    """Base models only: answer this often, keep the likeliest."""
    suffix: Text | None = None
    """Base models only: the text that comes after the answer."""
    reasoning_effort: Line | None = None
    """How long a reasoning model may think: minimal, low, medium or high."""

    def as_parameters(self) -> dict[str, Any]:
        """Only what is set, as request fields."""
        return self.model_dump(mode="json", exclude_none=True)


def _json_data(value: object) -> object:
    """Data that JSON can carry; a YAML or JSON file may hold ``.inf`` and ``.nan``, a request may not."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise misfit(Phrase("data without infinite numbers"), value) from None
    return value


def _request_field(name: object) -> object:
    if is_reserved(str(name)):
        raise flaw("%(name)s cannot be set under 'request'.", name=quote(name))
    if str(name) in Sampling.model_fields:
        raise flaw("%(name)s belongs under 'sampling'.", name=quote(name))
    return name


RequestField = Annotated[str, BeforeValidator(_request_field)]
JsonData = Annotated[Any, BeforeValidator(_json_data)]


def _variable_name(name: object) -> object:
    if not _VARIABLE_NAME.fullmatch(str(name)):
        raise flaw(
            "%(name)s is no name for a variable: use letters, digits and _, a letter first.",
            name=quote(name),
        )
    if str(name).lower() in RESERVED_NAMES:
        raise flaw(
            "%(name)s already means something in a prompt template: choose another name.",
            name=quote(name),
        )
    return name


VariableName = Annotated[str, BeforeValidator(_variable_name)]


def _variables(value: object) -> object:
    """Expand the short form, ``subject: mathematics``."""
    if not isinstance(value, Mapping):
        return value
    return {name: expand_variable(given) for name, given in value.items()}


def expand_variable(given: object) -> object:
    """The long form of a variable given in short: a plain value is the default."""
    return given if isinstance(given, Mapping | Variable | list) else {"default": given}


class Persona(Part):
    """A named role. Only ``name`` and ``system`` are needed."""

    id: str = Field(default="", exclude=True, json_schema_extra={"readOnly": True})
    name: Line
    """What people call it."""
    system: Text
    """The system prompt, a Jinja text in which the variables stand as `{{ name }}`."""
    description: Text = ""
    """One sentence on what it is for."""
    tags: Lines = ()
    """Words to find it by."""
    language: Text = ""
    """The language it speaks, such as `en` or `zh`."""
    avatar: Text = ""
    """An emoji."""
    extends: Text = ""
    """The id of a persona to start from: maps are merged key by key, all else is replaced."""
    model: Text = ""
    """The model that answers; left out, the configured default."""
    upstream: Text = ""
    """The upstream that is called; left out, the configured default."""
    template: Text = ""
    """The prompt template, by its name in `templates/`; left out, `chat`, or `base` for base models."""
    endpoint: Literal["chat", "completions"] = "chat"
    """`completions` is for base models: the template renders one plain prompt."""
    variables: Annotated[dict[VariableName, Variable], BeforeValidator(_variables)] = Field(
        default_factory=dict
    )
    """Blanks in the system text."""
    sampling: Sampling = Sampling()
    """Sampling parameters."""
    request: dict[RequestField, JsonData] = Field(default_factory=dict)
    """Any other field of the request (`user`, `response_format`, …), `organization` and `project`."""
    examples: tuple[Example, ...] = ()
    """Primed turns."""
    greeting: Text = ""
    """What it says first, a Jinja text like `system`."""
    starters: Lines = ()
    """First inputs to choose from."""
    context: ContextPolicy = ContextPolicy()
    """How much history is sent."""
    checks: Checks = ()
    """What its answers must be: assertions that run on every answer, in talks and in comparisons."""
    x: JsonData = None
    """Data of other programs, kept as it is."""

    @property
    def template_name(self) -> str:
        """The prompt template that it uses."""
        return self.template or ("base" if self.endpoint == "completions" else "chat")

    @property
    def parameters(self) -> dict[str, Any]:
        """Its sampling parameters and other request fields, as request fields."""
        return {**self.sampling.as_parameters(), **self.request}

    def as_data(self) -> dict[str, Any]:
        """What its file would say, without what is at its default; text, numbers, lists and maps."""
        data = self.model_dump(mode="json", exclude_defaults=True, exclude={"id", "x"})
        return data if self.x is None else {**data, "x": self.x}

    def parse_variables(self, given: Mapping[str, object]) -> dict[str, VariableValue]:
        """Every variable with its value. Raises VariableError for the first that is unknown, missing or wrong."""
        for name in given:
            if name not in self.variables:
                known = ", ".join(self.variables) or "–"
                raise VariableError(
                    "%(persona)s has no variable '%(name)s'. It has: %(known)s.",
                    name=name[:80],
                    persona=self.name,
                    known=known,
                )
        return {
            name: _variable_value(name, variable, given.get(name))
            for name, variable in self.variables.items()
        }


def _variable_value(name: str, variable: Variable, given: object) -> VariableValue:
    is_text = variable.type in {"text", "long_text"}
    is_blank = given is None or (given == "" and not is_text)
    is_emptied = is_text and isinstance(given, str) and not given.strip()
    if variable.required and (is_emptied or (is_blank and variable.default is None)):
        raise VariableError("'%(name)s' is needed: please fill it in.", name=name)
    if is_blank:
        return variable.fallback
    try:
        return variable.parse(given)
    except PydanticCustomError as error:
        context: Any = error.context
        parameters = {**context["parameters"], "key": name}
        raise VariableError(context["message"], name=name, **parameters) from None


def parse_persona(
    persona_id: str, data: Mapping[str, Any], context: Mapping[str, Any] | None = None
) -> Persona:
    """The persona that ``data`` describes, bases merged in. Raises FaultyDataError with all its faults.

    Arguments:
        context: RECORDED for what the log has.
    """
    try:
        return Persona.model_validate({**data, "id": persona_id}, context=context)
    except ValidationError as error:
        raise FaultyDataError([fault_of(detail) for detail in error.errors()]) from None


def parse_parameters(given: Mapping[str, object]) -> dict[str, Any]:
    """Sampling parameters and request fields chosen for a session or a turn.

    Text that is JSON counts as that for names that are no sampling parameter, so that a command
    line can give any field, except those that say who is billed. An empty value means: leave it out, even if the
    persona sets it. Raises InputError.
    """
    require_fields(given)
    sampling = {
        name: _json_or_text(value) if str(value).startswith(("{", "[")) else value
        for name, value in given.items()
        if name in Sampling.model_fields
    }
    others = {name: _json_or_text(value) for name, value in given.items() if name not in sampling}
    set_values = {name: value for name, value in sampling.items() if value not in (None, "")}
    try:
        parsed = Sampling.model_validate(set_values).as_parameters()
        for name, value in others.items():
            if plain(name) in BILLING_FIELDS:
                raise InputError(
                    "%(name)s says who is billed. It can be set in a persona file only.",
                    key=name,
                    name=name,
                )
            _request_field(name)
            _json_data(value)
        require_counts(others)
    except ValidationError as error:
        fault = fault_of(error.errors()[0])
        raise InputError(fault.message, **fault.parameters) from None
    except PydanticCustomError as error:
        context: Any = error.context
        raise InputError(context["message"], **context["parameters"]) from None
    return dict.fromkeys(sampling) | parsed | others


def _json_or_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value == "":
        return None
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    return value


@frozen
class Place:
    """Where a text of a persona begins in a file, so that an error in it can be placed there.

    ``indent`` is how many characters stand before each line of it, ``offset`` how many before its first. Where the file
    has other lines than the text, because they are folded, ``lines`` are those of the file.
    """

    file: str
    line: int
    indent: int = 0
    offset: int = 0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedPersona:
    """A persona with everything that it renders with: frozen for the length of a turn.

    ``templates`` holds the prompt templates by name that it may reach, and ``templates_dir`` their folder as messages
    name it. ``places`` says where the texts that are rendered stand: ``system``, ``greeting``, ``examples[0].user``.
    ``source`` is the text of its own file; empty for one that was never in a file as it is here. ``is_draft``: that
    text is not saved.
    """

    persona: Persona
    templates: Mapping[str, str]
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    templates_dir: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    is_draft: bool = field(default=False, compare=False)

    @cached_property
    def revision(self) -> Revision:
        """What the log keeps: the resolved text under its content hash (SHA-256, 32 hex digits)."""
        resolved = self.persona.as_data()
        canonical = json.dumps([resolved, self.templates], sort_keys=True, ensure_ascii=True)
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:32]
        return Revision(
            digest, self.persona.id, resolved, self.templates, self.source, self.is_draft
        )


@dataclass(frozen=True)
class Fragment:
    """What could be read of a persona whose file has errors, so that the rest of it can be tried out all the same.

    ``resolved`` has stand-ins for what could not be read. ``parts`` names what of it can be tried, each alone:
    ``system``, ``greeting`` and the prompt template. ``knows_names``: whether all variables could be read, so that any
    other name is a mistake.
    """

    resolved: ResolvedPersona
    parts: tuple[str, ...]
    knows_names: bool


def persona_of_revision(revision: Revision, persona_id: str = "") -> ResolvedPersona:
    """The persona as it was at a revision.

    Arguments:
        persona_id: whose it is, where several have the same; by default who had it first.

    Raises FaultyDataError if today's format cannot read it.
    """
    persona = parse_persona(persona_id or revision.persona_id, revision.resolved, RECORDED)
    return ResolvedPersona(persona, revision.templates)


def describe_persona(system: str) -> dict[str, Any]:
    """The data of a persona from nothing but a description: its own words become the system text, literally."""
    line = " ".join(system.split())
    name = line if len(line) <= 40 else line[:40].rpartition(" ")[0] or line[:40]
    return {"name": name or "…", "system": escape_jinja(system)}


def escape_jinja(text: str) -> str:
    """Jinja source that renders to exactly ``text``."""
    if not re.search(r"\{[{%#]|\r", text):
        return text
    if "endraw" in text or "\r" in text:
        return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"
    return _RAW + text + _END_RAW


def unescape_jinja(source: str) -> str:
    """The text that ``escape_jinja`` has made this source of; any other source as it is."""
    text = source
    if source.startswith(_RAW) and source.endswith(_END_RAW):
        text = source[len(_RAW) : -len(_END_RAW)]
    elif source.startswith("{{ "):
        with contextlib.suppress(ValueError):
            text = str(json.loads(source[len("{{ ") : -len(" }}")]))
    return text if escape_jinja(text) == source else source
