"""The types of a persona file's fields.

A YAML file reaches the models as text: what a plain ``no`` or ``1.10`` means depends on the field it stands in, so the
field decides. Each type takes the text as typed as well as the value that JSON or a form gives, and refuses anything
else with what was expected and what was got.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from rolebook.core.errors import Phrase

#: The context in which pydantic reads what the log has, of which nothing is demanded that only new data can heed.
RECORDED: Mapping[str, Any] = {"is_recorded": True}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TRUE = {"true", "yes", "on"}
_FALSE = {"false", "no", "off"}
#: An integer of more digits is no parameter of anything, and Python refuses to read very long ones.
_MAX_DIGITS = 18
_MOST_CHOICES = 40


class Part(BaseModel):
    """A mapping in a file. Keys that it does not know are left out; its docstrings are the format's reference."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def explanations(cls) -> Mapping[str, str]:
        """What stands below each field in the source code.

        Pydantic can do this for every model when it is made, and would read the sources of all of them at each start
        of each command, for what only a schema and a form ever show.
        """
        found: dict[str, str] = {}
        for part in reversed(cls.__mro__):
            if issubclass(part, Part) and part is not Part:
                found |= explanations_of(part)
        return found

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for name, explanation in cls.explanations().items():
            key = cls.model_fields[name].alias or name
            if key in properties:
                properties[key]["description"] = explanation
        return made


def explanations_of(kind: type) -> Mapping[str, str]:
    """What stands in the source code below each field of a class, without those that it has from others."""
    return _explanations_in(kind.__module__).get(kind.__name__, {})


@cache
def _explanations_in(module: str) -> Mapping[str, Mapping[str, str]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        node.name: {
            field.target.id: inspect.cleandoc(text.value.value)
            for field, text in pairwise(node.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for node in classes
    }


def flaw(message: str, **parameters: Any) -> PydanticCustomError:
    """An error inside a model, with a message as in RolebookError; ``%(key)s`` in it is the field's path.

    Where a model as a whole notices what is wrong with one of its fields, ``of_field`` names that.
    """
    text = message % {"key": "it", **parameters}
    return PydanticCustomError(
        "flaw", "{text}", {"text": text, "message": message, "parameters": parameters}
    )


def misfit(expected: Phrase, got: object) -> PydanticCustomError:
    """A flaw that says what was expected (a noun phrase) and what was got."""
    return flaw("%(key)s must be %(expected)s, got %(got)s.", expected=expected, got=quote(got))


def nearest(word: object, known: Iterable[str]) -> str:
    """Which of the known words was meant, most likely; empty if none is near."""
    near = difflib.get_close_matches(str(word)[:100].lower(), list(known), n=1)
    return near[0] if near else ""


def misfit_choice(value: object, choices: Sequence[str]) -> PydanticCustomError:
    """A flaw that says what there is to choose from, and which of it was meant."""
    shown = [*choices[:_MOST_CHOICES], *(["…"] if len(choices) > _MOST_CHOICES else [])]
    expected = Phrase("one of %(choices)s", {"choices": ", ".join(shown)})
    if isinstance(value, str) and (near := nearest(value, choices)):
        return flaw(
            "%(key)s must be %(expected)s, got %(got)s. Did you mean '%(near)s'?",
            expected=expected,
            got=quote(value),
            near=near,
        )
    return misfit(expected, value)


def quote(value: object) -> Phrase | str:
    """A value as it is shown inside a message: short, and told apart from the message's own words."""
    if value is None:
        return Phrase("nothing")
    if isinstance(value, Mapping):
        return Phrase("a mapping")
    if isinstance(value, list | tuple):
        return Phrase("a list")
    return f"'{in_line(str(value), 40)}'"


def in_line(text: str, limit: int = 80) -> str:
    """A text as it is shown inside a message: in one line, and cut where it is long."""
    if not text.isprintable():
        text = " ".join(text[: 2 * limit].split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def parse_text(value: object) -> str:
    """Text, exactly as it stands."""
    if isinstance(value, str):
        return value
    if value is None:
        raise flaw("%(key)s must be text, got nothing: write the text there, or remove the key.")
    if isinstance(value, Mapping):
        raise flaw(
            "%(key)s must be text, got a mapping, as ': ' or '{' makes one: put the text in quotes,"
            " or write it below a '|'."
        )
    if isinstance(value, list | tuple):
        raise flaw(
            "%(key)s must be text, got a list, as '- ' or '[' makes one: put the text in quotes,"
            " or write it below a '|'."
        )
    raise misfit(Phrase("text"), value)


def parse_line(value: object) -> str:
    """Text that is not blank."""
    if not parse_text(value).strip():
        raise misfit(Phrase("text that is not empty"), value)
    return str(value)


def parse_boolean(value: object) -> bool:
    """``true``, ``yes``, ``on`` and their opposites, in any case, or a JSON boolean."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise misfit(Phrase("true or false"), value)


def parse_number(value: object) -> float:
    """A decimal number; no infinity, no NaN, no sexagesimals."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) and abs(float(value)) < 1e300:
        return float(value)
    raise misfit(Phrase("a number"), value)


def parse_integer(value: object) -> int:
    """A whole number, ``3`` or ``3.0``."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_MAX_DIGITS:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**_MAX_DIGITS:
        return int(value)
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and _INTEGER.fullmatch(value.strip()):
        return int(value)
    raise misfit(Phrase("a whole number"), value)


def between(
    parse: Callable[[object], float], low: float, high: float, expected: Phrase
) -> Callable[[object], float]:
    """``parse``, limited to ``low`` … ``high``, both included; ``expected`` describes that."""

    def parse_between(value: object) -> float:
        try:
            number = parse(value)
        except PydanticCustomError:
            raise misfit(expected, value) from None
        if not low <= number <= high:
            raise misfit(expected, value)
        return number

    return parse_between


def _texts(value: object) -> object:
    """One text stands for a list of one, as most people write a single tag."""
    return [value] if isinstance(value, str) else value


def number(low: float, high: float) -> Any:
    """The type of a decimal number from ``low`` to ``high``."""
    expected = Phrase("a number from %(low)g to %(high)g", {"low": low, "high": high})
    validator = BeforeValidator(between(parse_number, low, high, expected))
    # The limits come first for the sake of the JSON Schema; the validator has checked them by then.
    return Annotated[float, Field(ge=low, le=high), validator]


def integer(low: int, high: int) -> Any:
    """The type of a whole number from ``low`` to ``high``."""
    expected = Phrase("a whole number from %(low)d to %(high)d", {"low": low, "high": high})
    validator = BeforeValidator(between(parse_integer, low, high, expected))
    return Annotated[int, Field(ge=low, le=high), validator]


Number = Annotated[float, BeforeValidator(parse_number)]
Text = Annotated[str, BeforeValidator(parse_text)]
Line = Annotated[str, BeforeValidator(parse_line)]
Boolean = Annotated[bool, BeforeValidator(parse_boolean)]
_TEXTS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    mode="validation",
)
#: One text or several, none of them blank.
Lines = Annotated[tuple[Line, ...], BeforeValidator(_texts), _TEXTS_SCHEMA]
#: One text or several; white space counts.
Texts = Annotated[tuple[Text, ...], BeforeValidator(_texts), _TEXTS_SCHEMA]
