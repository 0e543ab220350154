"""A comparison as plain data, for the log and for files, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from rolebook.core.check import Check
from rolebook.core.comparison import Comparison, ComparisonInput, Judge, Variant

_CHECKS: TypeAdapter[tuple[Check, ...]] = TypeAdapter(tuple[Check, ...])


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
        "repeats_of": comparison.repeats_of,
        "created_at": comparison.created_at,
    }
    return _filled(data) | {"stream": comparison.is_streamed}


def comparison_of(data: Mapping[str, Any], *, deleted_at: str = "") -> Comparison:
    """The comparison that ``comparison_data`` has described.

    Raises ValueError, TypeError or KeyError for anything else.
    """
    judge = data.get("judge")
    return Comparison(
        id=data["id"],
        question=data.get("question", ""),
        variants=tuple(Variant(**{"persona_id": "", **variant}) for variant in data["variants"]),
        inputs=tuple(_input_of(entry) for entry in data["inputs"]),
        repeats=data.get("repeats", 1),
        checks=_CHECKS.validate_python(data.get("checks", ())),
        judge=Judge(**judge) if judge else None,
        concurrency=data.get("concurrency", 4),
        is_streamed=data.get("stream", True),
        repeats_of=data.get("repeats_of", ""),
        created_at=data["created_at"],
        deleted_at=deleted_at,
    )


def _input_of(data: Mapping[str, Any]) -> ComparisonInput:
    lists = {name: tuple(data[name]) for name in ("turns", "tags", "recorded") if name in data}
    earlier = tuple((asked, answered) for asked, answered in data.get("earlier", ()))
    return ComparisonInput(**{**data, **lists, "earlier": earlier})


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in data.items() if value not in ("", None, (), [], {}, False)
    }
