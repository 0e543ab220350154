"""What would be sent, as JSON has it: the prompt of one input, and a comparison that is planned but not begun."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rolebook.core.chat import PreparedTurn
from rolebook.core.compare import CompareService, Estimate
from rolebook.core.comparison import CellKey, Comparison, Variant
from rolebook.core.comparison_data import comparison_data
from rolebook.core.difference import LineDifference, line_differences
from rolebook.core.persona import ResolvedPersona
from rolebook.core.planning import Plan
from rolebook.library.yaml_text import dump_yaml
from rolebook.report.sameness import same_inputs_data, same_variants_data
from rolebook.report.unasked import failing_data, left_out_data

_ESTIMATED = (
    "cells",
    "calls",
    "judgements",
    "prompt_tokens",
    "completion_tokens",
    "cost",
    "looked_at",
    "reused",
)


def prompt_data(prepared: PreparedTurn) -> dict[str, Any]:
    """The message list and the parameters of a turn that is ready to be sent."""
    return {
        "messages": [message.as_dict() for message in prepared.messages],
        "parameters": dict(prepared.parameters),
        "persona": prepared.resolved.persona.id,
        "revision": prepared.resolved.revision.id,
        "dropped_turns": prepared.prompt.dropped_turns,
    }


def plan_data(
    compare: CompareService, plan: Plan, estimate: Estimate, cell: str = ""
) -> dict[str, Any]:
    """A planned comparison, with the exact messages of one cell, or of each variant's first. Raises NotFoundError."""
    comparison = plan.comparison
    asked = asked_variants(comparison)
    first = comparison.variants[asked[0]]
    return {
        "comparison": comparison_data(comparison),
        "estimate": {name: getattr(estimate, name) for name in _ESTIMATED},
        "same_inputs": same_inputs_data(comparison),
        "failing": failing_data(estimate),
        "left_out": left_out_data(plan),
        "same_variants": same_variants_data(comparison),
        "differences": [
            {
                "variant": comparison.variants[index].name,
                "lines": [
                    line.as_data()
                    for line in variant_differences(compare, first, comparison.variants[index])
                ],
            }
            for index in asked[1:]
        ],
        "cells": [
            _cell(compare, comparison, key)
            for key in (
                [comparison.key_of(cell)]
                if cell
                else [_first_key(comparison, index, estimate) for index in asked]
            )
        ],
    }


def asked_variants(comparison: Comparison) -> Sequence[int]:
    """The variants that make calls, by their index."""
    return [n for n, variant in enumerate(comparison.variants) if not variant.is_recorded]


def _first_key(comparison: Comparison, index: int, estimate: Estimate) -> CellKey:
    """The first cell of a variant that can be asked."""
    failing = {fault.key for fault in estimate.faults}
    return next(
        key for key in comparison.cell_keys() if key.variant == index and key not in failing
    )


def _cell(compare: CompareService, comparison: Comparison, key: CellKey) -> dict[str, Any]:
    prepared = compare.prepare(comparison, key)
    return {
        "cell": str(key),
        "variant": comparison.variants[key.variant].name,
        "input": comparison.inputs[key.input].text,
        "messages": [message.as_dict() for message in prepared.messages],
        "parameters": dict(prepared.parameters),
        "model": prepared.model,
        "upstream": prepared.upstream,
        "dropped_turns": prepared.prompt.dropped_turns,
    }


def variant_differences(
    compare: CompareService, first: Variant, other: Variant
) -> Iterator[LineDifference]:
    """The lines in which what two variants are made of is not the same."""
    old, new = (
        _description(variant, compare.persona_of(variant.revision)) for variant in (first, other)
    )
    yield from (line for line in line_differences(old, new) if line.kind != "same")


def _description(variant: Variant, resolved: ResolvedPersona) -> str:
    """Everything that decides what a variant answers, as a persona file would say it."""
    chosen = {
        name: value
        for name in ("model", "upstream", "variables", "parameters")
        if (value := getattr(variant, name))
    }
    parts = {**resolved.persona.as_data(), "chosen": chosen, "templates": dict(resolved.templates)}
    return dump_yaml({name: value for name, value in parts.items() if value})
