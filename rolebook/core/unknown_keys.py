"""Keys of a file that mean nothing, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from rolebook.core.fault import Fault, describe_path
from rolebook.core.fields import in_line, nearest
from rolebook.core.persona import ContextPolicy, Example, Persona, Sampling, Variable

_PARTS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Persona,
    ("sampling",): Sampling,
    ("context",): ContextPolicy,
    ("variables", "*"): Variable,
    ("examples", "*"): Example,
}


def find_unknown_keys(
    data: Mapping[str, Any], parts: Mapping[tuple[str, ...], type[BaseModel]] | None = None
) -> Iterator[Fault]:
    """A warning for every key that means nothing here, with the nearest one that does.

    Arguments:
        parts: the model of each mapping by the way to it from the root; ``*`` stands for any key or index. By default
            those of a persona.
    """
    parts = _PARTS if parts is None else parts
    has_place_for_foreign_data = "x" in parts[()].model_fields
    for pattern, model in parts.items():
        known = [name for name in model.model_fields if name != "id"]
        for path, part in _parts_at(data, pattern):
            for key in part:
                if key not in known:
                    fault = _unknown_key((*path, str(key)), part[key], known)
                    if fault.message == _FOREIGN and not has_place_for_foreign_data:
                        fault = replace(fault, message="'%(key)s' is no known key and is left out.")
                    yield fault


def _parts_at(
    data: object, pattern: tuple[str, ...], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    if not pattern:
        if isinstance(data, Mapping):
            yield path, data
        return
    head, rest = pattern[0], pattern[1:]
    if isinstance(data, Mapping):
        for key, value in data.items():
            if head in {"*", key}:
                yield from _parts_at(value, rest, (*path, key))
    elif isinstance(data, list) and head == "*":
        for index, value in enumerate(data):
            yield from _parts_at(value, rest, (*path, index))


_FOREIGN = "'%(key)s' is no known key and is left out. Foreign data belongs under 'x'."
#: What keys of ours are called elsewhere.
OTHER_NAMES: Mapping[str, str] = {
    "prompt": "system",
    "system_prompt": "system",
    "instructions": "system",
    "title": "name",
    "messages": "examples",
    "few_shot": "examples",
    "parameters": "sampling",
    "params": "sampling",
    "inputs": "variables",
    "vars": "variables",
    "first_message": "greeting",
}


def _unknown_key(path: tuple[str | int, ...], value: object, known: Sequence[str]) -> Fault:
    name = str(path[-1])
    is_root = len(path) == 1 and "system" in known
    near = nearest(name, [*known, *Sampling.model_fields] if is_root else known)
    if is_root:
        near = OTHER_NAMES.get(name, near)
    parameters = {"key": describe_path(path), "near": near}
    if value is None and not near and (" " in name or not is_root):
        # {user: One, two} is a map of 'user' and 'two'.
        message = "A comma cut the text before '%(name)s'. Put the whole text in quotes."
        parameters["name"] = in_line(name)
    elif near == name:
        message = "'%(key)s' belongs under 'sampling'; here it is left out."
    elif near and near not in known:
        message = (
            "'%(key)s' is no known key and is left out. Did you mean '%(near)s', under 'sampling'?"
        )
    elif near:
        message = "'%(key)s' is no known key and is left out. Did you mean '%(near)s'?"
    else:
        message = _FOREIGN
    return Fault(path, message, parameters, severity="warning")
