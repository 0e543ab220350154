"""JSON Schemas of the types that the API takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

Mode = Literal["validation", "serialization"]

REFERENCE = "#/components/schemas/"


@cache
def schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """The schema of what a request carries, whole."""
    schema: Mapping[str, Any] = closed(model.model_json_schema())
    return schema


def schemas_of(
    types: Iterable[tuple[str, Mode, Any]],
) -> tuple[Mapping[tuple[str, Mode], Any], dict[str, Any]]:
    """The schemas of several types, and the definitions that they refer to.

    Arguments:
        types: each with a name that it is found again by, and whether it is taken (validation) or given.
    """
    adapters = [(name, mode, TypeAdapter(kind)) for name, mode, kind in types]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=REFERENCE + "{model}")
    taken = {_name_in(schema) for (_, mode), schema in found.items() if mode == "validation"}
    known: dict[str, Any] = definitions.get("$defs", {})
    for name in _reached(taken, known):
        known[name] = closed(known[name])
    return found, {name: _untitled(schema) for name, schema in known.items()}


def _name_in(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).removeprefix(REFERENCE)


def _reached(names: set[str], known: Mapping[str, Any]) -> set[str]:
    """The definitions of these names, and all that they refer to."""
    reached: set[str] = set()
    pending = [name for name in names if name in known]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += [other for other in _references(known[name]) if other in known]
    return reached


def _references(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield _name_in(schema)
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def closed(schema: Any) -> Any:
    """The schema without room for fields that nobody knows: a mistyped one would be left out without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    if "properties" in parts and parts.get("type") == "object":
        parts.setdefault("additionalProperties", False)
    return parts


def _untitled(schema: Any) -> Any:
    """Without the titles that repeat the names of fields in other letters."""
    if isinstance(schema, list):
        return [_untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _untitled(part)
        for name, part in schema.items()
        if not (name == "title" and isinstance(part, str))
    }
