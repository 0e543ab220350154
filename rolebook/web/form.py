"""The form of a persona: which inputs it shows, with what in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rolebook.core.errors import InputError, RolebookError, VariableError
from rolebook.core.frozen import frozen
from rolebook.core.persona import Persona, Sampling, Variable
from rolebook.web.submission import SAMPLING, VARIABLE, lines_of

#: A choice among up to this many short values is shown whole, as radio buttons.
_FEW, _SHORT = 5, 60
_CHAT = (
    "temperature",
    "top_p",
    "max_tokens",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "seed",
    "n",
)
_REASONING = ("reasoning_effort",)
_BASE = ("echo", "best_of", "suffix")
_SCHEMA: Mapping[str, Any] = Sampling.model_json_schema()["properties"]


@frozen
class VariableField:
    """The input of one variable. ``control`` names its kind: radio, select, checkbox, textarea, or an input's type."""

    name: str
    variable: Variable
    value: str

    @property
    def id(self) -> str:
        """The field's name in the form."""
        return VARIABLE + self.name

    @property
    def label(self) -> str:
        """The variable's name as words; its description instead, if that is in another script than the name."""
        if self._is_described_otherwise:
            return self.variable.description
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]

    @property
    def hint(self) -> str:
        """The description, where it is not the label already."""
        return "" if self._is_described_otherwise else self.variable.description

    @property
    def _is_described_otherwise(self) -> bool:
        description = self.variable.description
        return self.name.isascii() and not "".join(filter(str.isalpha, description)).isascii()

    @property
    def control(self) -> str:
        match self.variable.type:
            case "choice":
                choices = self.variable.choices
                is_short = len(choices) <= _FEW and len("".join(choices)) <= _SHORT
                return "radio" if is_short else "select"
            case "boolean":
                return "checkbox"
            case "long_text":
                return "textarea"
            case "number" | "integer":
                return "number"
            case "date":
                return "date"
        return "text"

    @property
    def is_required(self) -> bool:
        """Whether the browser may insist on it."""
        return self.variable.required


@frozen
class SamplingField:
    """The input of one sampling parameter. ``own`` is what the persona's file says; the form says only what differs."""

    name: str
    description: str
    kind: str
    minimum: float | None
    maximum: float | None
    own: str
    value: str

    @property
    def id(self) -> str:
        """The field's name in the form."""
        return SAMPLING + self.name


def variable_fields(persona: Persona, fields: Mapping[str, str]) -> Sequence[VariableField]:
    """The inputs of a persona's variables, with what was submitted or else their defaults."""
    return [
        VariableField(name, variable, fields.get(VARIABLE + name, _text(variable.fallback)))
        for name, variable in persona.variables.items()
    ]


def sampling_fields(persona: Persona, fields: Mapping[str, str]) -> Sequence[SamplingField]:
    """The inputs of the sampling parameters, with what was submitted."""
    names = (*_CHAT, *(_BASE if persona.endpoint == "completions" else _REASONING))
    return [_sampling_field(name, persona, fields) for name in names]


def _sampling_field(name: str, persona: Persona, fields: Mapping[str, str]) -> SamplingField:
    schema = _SCHEMA[name]
    kind = _widest(schema["anyOf"])
    own = getattr(persona.sampling, name)
    return SamplingField(
        name=name,
        description=schema["description"],
        kind=kind["type"],
        minimum=kind.get("minimum"),
        maximum=kind.get("maximum"),
        own="" if own is None else lines_of(own) if isinstance(own, tuple) else _text(own),
        value=fields.get(SAMPLING + name, ""),
    )


def _widest(kinds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of the shapes that a parameter may have, the one to ask for: a list of texts rather than one text."""
    usable = [kind for kind in kinds if kind["type"] != "null"]
    return next((kind for kind in usable if kind["type"] == "array"), usable[0])


def _text(value: object) -> str:
    """A value as the form has it: as a person types it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def faulty_field(error: RolebookError, persona: Persona) -> str:
    """The name of the field that an error is about; empty if it is about none."""
    if isinstance(error, VariableError):
        return VARIABLE + error.name if error.name in persona.variables else ""
    if type(error) is not InputError:
        return ""
    name = str(error.parameters.get("key", ""))
    return SAMPLING + name if name in _SCHEMA else "more"
