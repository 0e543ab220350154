"""What is wrong in the data of a file or a request, each thing with its place in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from rolebook.core.errors import InputError, Phrase
from rolebook.core.fields import in_line, misfit_choice, quote
from rolebook.core.frozen import frozen


@frozen
class Fault:
    """Something wrong or doubtful in data; ``path`` leads to it from the root."""

    path: tuple[str | int, ...]
    message: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"


class FaultyDataError(ValueError):
    """The data of a file makes nothing that can be used; ``faults`` says why."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.message % fault.parameters for fault in faults))
        self.faults = tuple(faults)

    def as_input_error(self) -> InputError:
        """The first of the faults, for whoever has given the data otherwise than in a file."""
        first = self.faults[0]
        return InputError(first.message, **first.parameters)


_EXPECTED = {
    "model_type": Phrase("'key: value' pairs"),
    "model_attributes_type": Phrase("'key: value' pairs"),
    "dict_type": Phrase("'key: value' pairs"),
    "tuple_type": Phrase("a list, each item after a '- '"),
    "list_type": Phrase("a list, each item after a '- '"),
    "string_type": Phrase("text"),
}


def fault_of(detail: Any) -> Fault:
    """One error of pydantic in the words of :mod:`rolebook.core.fields`, with its place."""
    path = tuple(part for part in detail["loc"] if part not in {"float", "int", "[key]"})
    kind, context, got = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "literal_error":
        choices = re.findall("'([^']+)'", context["expected"])
        kind, context = "flaw", misfit_choice(got, choices).context or {}
    if kind == "flaw":
        parameters: dict[str, Any] = context["parameters"]
        if of_field := parameters.get("of_field"):
            path = (*path, of_field)
        return Fault(path, context["message"], {**parameters, "key": describe_path(path)})
    if kind == "missing":
        return Fault(path, "'%(key)s' is missing.", {"key": describe_path(path)})
    if kind == "extra_forbidden":
        message = "There is no key '%(key)s'. Remove it, or correct its name."
        return Fault(path, message, {"key": describe_path(path)})
    expected = _EXPECTED.get(kind, Phrase("something else"))
    parameters = {"key": describe_path(path), "expected": expected, "got": quote(got)}
    return Fault(path, "%(key)s must be %(expected)s, got %(got)s.", parameters)


def describe_path(path: Sequence[str | int]) -> str:
    """``examples[1].user`` for ``("examples", 1, "user")``; a very long key is cut."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{in_line(part)}" for part in path)
    return text.removeprefix(".")
