"""The JSON Schema of a persona file, by which editors complete and check."""

from __future__ import annotations

from typing import Any

from rolebook.core.persona import Persona

_SCALARS = ["string", "number", "boolean"]
#: Under these, keys are names and no keywords.
_NAMED = {"properties", "$defs"}


def persona_schema() -> dict[str, Any]:
    """The JSON Schema of a persona file.

    It follows the format where the models are stricter than a file has to be: a plain number stands for text where text
    is wanted, a variable may be given in short, and a base may supply name and system text.
    """
    generated = _simplified(Persona.model_json_schema())
    del generated["properties"]["id"], generated["required"]
    generated["properties"]["variables"]["additionalProperties"] = {
        "anyOf": [{"$ref": "#/$defs/Variable"}, {"type": _SCALARS}]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **generated,
        "title": "Rolebook persona",
        "anyOf": [{"required": ["name", "system"]}, {"required": ["extends"]}],
    }


def _simplified(value: Any) -> Any:
    """Without what pydantic adds for machines only, with what YAML lets people write."""
    if isinstance(value, list):
        return [_simplified(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: _simplified_parts(item) if key in _NAMED else _simplified(item)
        for key, item in value.items()
        if key != "title" and not (key == "default" and (item is None or isinstance(item, dict)))
    }
    if kept.get("type") == "string" and "enum" not in kept:
        kept["type"] = _SCALARS
    if kept.get("type") == "object" and "properties" in kept:
        kept["additionalProperties"] = False
    if "description" in kept and isinstance(kept["description"], str):
        kept["description"] = kept["description"].replace("``", "`")
    return kept


def _simplified_parts(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: _simplified(part) for name, part in parts.items()}
