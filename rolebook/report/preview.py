"""What would be sent, as JSON has it: the prompt of one input, and a comparison that is planned but not begun."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from rolebook.core.chat import PreparedTurn
from rolebook.core.comparison import CellKey, Comparison
from rolebook.core.comparison_data import comparison_data
from rolebook.core.difference import LineDifference, line_differences
from rolebook.core.estimate import Estimate
from rolebook.core.planning import Plan
from rolebook.language.translator import Translator, translator
from rolebook.report.asking import asked_by_plan, example_of
from rolebook.report.book import Book
from rolebook.report.differing import Asked, Differing, PromptDifference
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


def plan_data(book: Book, plan: Plan, estimate: Estimate, cell: str = "") -> dict[str, Any]:
    """A planned comparison, with the exact messages of one cell, or of each variant's first. Raises NotFoundError.

    What differs is told by the input of that cell, else by the first that all can be asked. All words are English.
    """
    comparison = plan.comparison
    if cell:
        keys = [comparison.key_of(cell)]
        example = keys[0].input
    else:
        keys = [_first_key(comparison, n, estimate) for n in asked_variants(comparison)]
        example = example_of(comparison, failing_of(estimate))
    prepared = {key: book.cells.prepare(comparison, key) for key in keys}
    asked = asked_by_plan(book, comparison, example, prepared)
    return {
        "comparison": comparison_data(comparison),
        "estimate": {name: getattr(estimate, name) for name in _ESTIMATED},
        "same_inputs": same_inputs_data(comparison),
        "failing": failing_data(estimate),
        "left_out": left_out_data(plan),
        "same_variants": same_variants_data(comparison),
        "differences": [
            _difference(asked[0], each, found, example)
            for each, found in against_first(asked, translator("en"))
        ],
        "cells": [_cell(comparison, key, found) for key, found in prepared.items()],
    }


def asked_variants(comparison: Comparison) -> Sequence[int]:
    """The variants that make calls, by their index."""
    return [n for n, variant in enumerate(comparison.variants) if not variant.is_recorded]


def failing_of(estimate: Estimate) -> Collection[CellKey]:
    """The cells that cannot be asked, as far as they were looked at."""
    return {fault.key for fault in estimate.faults}


def _first_key(comparison: Comparison, index: int, estimate: Estimate) -> CellKey:
    """The first cell of a variant that can be asked."""
    failing = failing_of(estimate)
    return next(
        key for key in comparison.cell_keys() if key.variant == index and key not in failing
    )


def _cell(comparison: Comparison, key: CellKey, prepared: PreparedTurn) -> dict[str, Any]:
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


def against_first(asked: Sequence[Asked], speaker: Translator) -> Iterator[tuple[Asked, Differing]]:
    """Each variant but the first one, and what differs between the two."""
    first, *others = asked
    for each in others:
        yield each, Differing([first, each], speaker)


def changed_prompts(
    found: Differing,
) -> Iterator[tuple[PromptDifference, Sequence[LineDifference]]]:
    """The prompts of the second of two variants that are other ones than the first one's, with the lines that changed.

    They are all of it where next to nothing is the same.
    """
    for prompt in found.prompts:
        if prompt.text != prompt.against:
            lines = prompt.lines or line_differences(prompt.against, prompt.text)
            yield prompt, [line for line in lines if line.kind != "same"]


def _difference(first: Asked, other: Asked, found: Differing, example: int) -> dict[str, Any]:
    return {
        "variant": other.variant.name,
        "against": first.variant.name,
        "input": example + 1,
        "settings": [
            {
                "name": each.name,
                "is_field": each.is_code,
                "old": each.values[0],
                "new": each.values[1],
            }
            for each in found.settings
        ],
        "prompts": [
            {"is_template": prompt.is_template, "lines": [line.as_data() for line in lines]}
            for prompt, lines in changed_prompts(found)
        ],
    }
