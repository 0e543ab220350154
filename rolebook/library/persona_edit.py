"""A persona file with some of its keys changed: the rest of the file stays as somebody wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rolebook.core.persona import Sampling
from rolebook.library.persona_file import TYPED_KEYS
from rolebook.library.yaml_edit import edit_yaml
from rolebook.library.yaml_text import Mark, Path, parse_yaml

#: The order in which people read a persona: what it is, what it needs, what it is told, how it is asked.
KEY_ORDER = (
    "name",
    "description",
    "extends",
    "tags",
    "language",
    "avatar",
    "model",
    "upstream",
    "endpoint",
    "template",
    "variables",
    "system",
    "examples",
    "greeting",
    "starters",
    "checks",
    "sampling",
    "request",
    "context",
    "x",
)
_PART_ORDERS: Mapping[tuple[str, ...], Sequence[str]] = {
    (): KEY_ORDER,
    ("variables", "*"): ("type", "choices", "min", "max", "default", "required", "description"),
    ("sampling",): tuple(Sampling.model_fields),
    ("examples", "*"): ("user", "assistant"),
    ("context",): ("turns", "tokens"),
}


def key_order(path: Path) -> Sequence[str]:
    """The usual order of keys in the mapping at a path of a persona file; empty where keys are names."""
    way = tuple(str(part) for part in path)
    return next(
        (
            order
            for pattern, order in _PART_ORDERS.items()
            if len(pattern) == len(way)
            and all(part in {"*", key} for part, key in zip(pattern, way, strict=True))
        ),
        (),
    )


def edit_persona(text: str, changes: Mapping[str, Any]) -> str:
    """The text of a persona file with some keys of it changed; a key that is None is removed.

    A key that comes to say the same as before stays as it stands, and so do the values inside of a key.

    Raises:
        YamlError: if the text cannot be read, or would become too large.
        ValueError: for a value that no YAML file can hold.
    """
    data = parse_yaml(text, file="", typed=TYPED_KEYS).data
    changed = {**data, **changes}
    kept = {key: value for key, value in changed.items() if key not in changes or value is not None}
    return edit_yaml(text, kept, order=key_order, typed=TYPED_KEYS)


def declare_variable(text: str, name: str) -> tuple[str, Mark | None]:
    """The text of a persona file with one more variable, a text that is empty by default, and where that stands.

    It stays as it is where it declares the variable already, or its variables are none. Raises YamlError if it cannot
    be read.
    """
    variables = parse_yaml(text, file="", typed=TYPED_KEYS).data.get("variables")
    if isinstance(variables, Mapping | None) and name not in (variables or {}):
        text = edit_persona(text, {"variables": {**(variables or {}), name: ""}})
    return text, parse_yaml(text, file="", typed=TYPED_KEYS).marks.get(("variables", name))
