"""What would be sent, as JSON has it: the prompt of one input, and a comparison that is planned but not begun."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

from rolebook.core.chat import PreparedTurn
from rolebook.core.comparison import CellKey, Comparison, Variant
from rolebook.core.comparison_data import comparison_data
from rolebook.core.difference import LineDifference, line_differences
from rolebook.core.estimate import Estimate
from rolebook.core.persona import Sampling
from rolebook.core.planning import Plan
from rolebook.library.yaml_text import dump_yaml
from rolebook.report import asking
from rolebook.report.asking import asked_by_plan, example_of
from rolebook.report.differing import Asked
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


class Cells(asking.Cells, Protocol):
    """What would ask the cells."""

    def prepare(self, comparison: Comparison, key: CellKey) -> PreparedTurn: ...


class Book(asking.Book, Protocol):
    """Where it is planned; a Rolebook is one."""

    @property
    def cells(self) -> Cells: ...


def prompt_data(prepared: PreparedTurn) -> dict[str, Any]:
    """The message list and the parameters of a turn that is ready to be sent."""
    return {
        "messages": [message.as_dict() for message in prepared.messages],
        "parameters": dict(prepared.parameters),
        "persona": prepared.resolved.persona.id,
        "revision": prepared.resolved.revision.id,
        "dropped_turns": prepared.prompt.dropped_turns,
    }


def plan_data(book: Book, plan: Plan, estimate: Estimate, cell: str = "") -> dict[str, Any]:
    """A planned comparison, with the exact messages of one cell, or of each variant's first. Raises NotFoundError."""
    comparison = plan.comparison
    asked = asked_variants(comparison)
    return {
        "comparison": comparison_data(comparison),
        "estimate": {name: getattr(estimate, name) for name in _ESTIMATED},
        "same_inputs": same_inputs_data(comparison),
        "failing": failing_data(estimate),
        "left_out": left_out_data(plan),
        "same_variants": same_variants_data(comparison),
        "differences": [
            {
                "variant": variant.name,
                "against": first.name,
                "lines": [line.as_data() for line in lines],
            }
            for first, variant, lines in variant_differences(book, comparison)
        ],
        "cells": [
            _cell(book.cells, comparison, key)
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


def _cell(cells: Cells, comparison: Comparison, key: CellKey) -> dict[str, Any]:
    prepared = cells.prepare(comparison, key)
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
    book: Book, comparison: Comparison
) -> Iterator[tuple[Variant, Variant, Sequence[LineDifference]]]:
    """For each variant the first one, itself, and the lines in which it is made of something else than that.

    What was recorded is made of what was sent then.
    """
    asked = asked_by_plan(book, comparison, example_of(comparison))
    chosen = {name for each in asked for name in each.variant.variables}
    first, *others = [(each.variant, _description(each, chosen)) for each in asked]
    for variant, description in others:
        lines = line_differences(first[1], description)
        yield first[0], variant, [line for line in lines if line.kind != "same"]


def _description(asked: Asked, chosen: Collection[str]) -> str:
    """Everything that decides what a variant answers, as a persona file would say it.

    Arguments:
        chosen: the variables that any variant fills in itself.
    """
    resolved = asked.personas[0] if asked.personas else None
    request: dict[str, Any] = {}
    for parameters in asked.parameters(is_sent=False):
        request = {**parameters, **request}
    variables = {name: value for name, value in asked.variables.items() if name in chosen}
    parts = {
        **(resolved.persona.as_data() if resolved else {}),
        "model": ", ".join(asked.models),
        "upstream": ", ".join(asked.upstreams),
        "sampling": {n: v for n, v in sorted(request.items()) if n in Sampling.model_fields},
        "request": {n: v for n, v in sorted(request.items()) if n not in Sampling.model_fields},
        "chosen": {"variables": variables} if variables else {},
        "templates": dict(resolved.templates) if resolved else {},
    }
    return dump_yaml({name: value for name, value in parts.items() if value})
