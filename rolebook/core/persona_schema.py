"""The JSON Schema of a persona file, by which editors complete and check."""

from __future__ import annotations

from typing import Any

from rolebook.core.persona import Persona

_SCALARS = ["string", "number", "boolean"]
#: Under these, keys are names and no keywords.
_NAMED = {"properties", "$defs"}
#: Of every value that may be chosen, what choosing it means; by the definition and the key.
_MEANINGS = {
    ("", "endpoint"): {
        "chat": "The template renders messages, as nearly every model wants them.",
        "completions": "For base models: the template renders one plain prompt.",
    },
    ("Variable", "type"): {
        "text": "One line of text.",
        "long_text": "Text of several lines.",
        "number": "A number, with min and max if there are limits.",
        "integer": "A whole number, with min and max if there are limits.",
        "boolean": "Yes or no.",
        "choice": "One of the texts under 'choices'.",
        "date": "A date such as 2026-11-20.",
    },
}
#: What values look like, where a description alone does not show it.
_EXAMPLES: dict[tuple[str, str], list[Any]] = {
    ("", "language"): ["en", "zh"],
    ("", "avatar"): ["🎓"],
    ("", "model"): ["gpt-4o-mini"],
    ("", "template"): ["chat", "interview", "few-shot", "story", "no-system", "base"],
    ("Sampling", "temperature"): [0.7],
    ("Sampling", "top_p"): [0.9],
    ("Sampling", "max_tokens"): [600],
    ("Sampling", "reasoning_effort"): ["minimal", "low", "medium", "high"],
    ("ContextPolicy", "turns"): [12],
    ("ContextPolicy", "tokens"): [6000],
    ("Check", "finish_reason"): ["stop"],
}
#: What an editor offers to put in whole, by the definition and the key; ``""`` is the file itself.
_SNIPPETS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("", ""): [
        {
            "label": "persona",
            "description": "A new persona with everything that it needs.",
            "body": {
                "name": "${1:Name}",
                "description": "${2:What it is for.}",
                "system": "${3:You are …}",
            },
        }
    ],
    ("", "variables"): [
        {
            "label": "a text",
            "description": "A text with a default.",
            "body": {"${1:subject}": "${2:mathematics}"},
        },
        {
            "label": "a choice",
            "description": "One of several texts.",
            "body": {
                "${1:level}": {
                    "type": "choice",
                    "choices": ["${2:beginner}", "${3:expert}"],
                    "default": "${2:beginner}",
                    "description": "${4:What they know}",
                }
            },
        },
        {
            "label": "a whole number",
            "description": "A number within limits.",
            "body": {
                "${1:rounds}": {
                    "type": "integer",
                    "default": "^${2:5}",
                    "min": "^${3:1}",
                    "max": "^${4:20}",
                }
            },
        },
    ],
    ("Check", ""): [
        {
            "label": "length",
            "description": "At most so many words.",
            "body": {"max_words": "^${1:120}"},
        },
        {
            "label": "forbidden words",
            "description": "Texts that never stand in an answer.",
            "body": {"not_contains": ["${1:as an AI}"], "ignore_case": "^true"},
        },
        {
            "label": "judged by a model",
            "description": "What the answer must do, in words.",
            "body": {"rubric": "${1:Lets the learner find the answer.}"},
        },
    ],
}


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
    _add_hints(generated)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **generated,
        "title": "Rolebook persona",
        "anyOf": [{"required": ["name", "system"]}, {"required": ["extends"]}],
    }


def _add_hints(schema: dict[str, Any]) -> None:
    """What helps who writes: meanings of choices, examples, snippets."""
    parts = {"": schema, **schema["$defs"]}
    for (name, key), meanings in _MEANINGS.items():
        field = parts[name]["properties"][key]
        field["enumDescriptions"] = [meanings[choice] for choice in field["enum"]]
    for (name, key), examples in _EXAMPLES.items():
        parts[name]["properties"][key]["examples"] = examples
    for (name, key), snippets in _SNIPPETS.items():
        field = parts[name]["properties"][key] if key else parts[name]
        field["defaultSnippets"] = snippets


def _simplified(value: Any) -> Any:
    """Without what pydantic adds for machines only, with what YAML lets people write."""
    if isinstance(value, list):
        return [_simplified(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: _simplified_parts(item) if key in _NAMED else _simplified(item)
        for key, item in value.items()
        if key != "title" and not (key == "default" and not _is_telling(item))
    }
    if kept.get("type") == "string" and "enum" not in kept:
        kept["type"] = _SCALARS
    if kept.get("type") == "object" and "properties" in kept:
        kept["additionalProperties"] = False
    if "description" in kept and isinstance(kept["description"], str):
        kept["description"] = kept["description"].replace("``", "`")
    return _without_null(kept)


def _is_telling(default: Any) -> bool:
    """Whether a default says more than that the key is left out."""
    return isinstance(default, bool) or (bool(default) and not isinstance(default, dict))


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """A key without a value is left out, so an editor need not offer ``null``."""
    alternatives = [choice for choice in part.get("anyOf", ()) if choice != {"type": "null"}]
    if len(alternatives) == len(part.get("anyOf", ())):
        return part
    rest = {key: item for key, item in part.items() if key != "anyOf"}
    return (
        {**alternatives[0], **rest} if len(alternatives) == 1 else {"anyOf": alternatives, **rest}
    )


def _simplified_parts(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: _simplified(part) for name, part in parts.items()}
