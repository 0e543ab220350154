"""What a comparison would do, before it does it: who takes part, how they differ, how many calls, at what price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rolebook.cli.findings import variant_name
from rolebook.cli.terminal import Terminal
from rolebook.report.money import money

if TYPE_CHECKING:
    from rolebook.core.compare import Estimate
    from rolebook.core.comparison import CellKey, Comparison, Variant
    from rolebook.core.difference import LineDifference
    from rolebook.core.persona import ResolvedPersona
    from rolebook.wiring import Rolebook

_SHORT_REVISION = 8


def show_plan(terminal: Terminal, rolebook: Rolebook, comparison: Comparison) -> None:
    """The variants, and what is different about each from the first."""
    rows = [_row(terminal, rolebook, variant) for variant in comparison.variants]
    terminal.write_table(("Variant", "Persona", "Revision", "Model", "Upstream"), rows)
    asked = _asked(comparison)
    for index in asked[1:]:
        first, other = (comparison.variants[number] for number in (asked[0], index))
        terminal.write_line()
        terminal.write_styled(f"--- {first.name}\n+++ {other.name}\n", bold=True)
        for line in _differences(rolebook, first, other):
            _show_difference(terminal, line)


def tell_estimate(terminal: Terminal, comparison: Comparison, estimate: Estimate) -> None:
    """What filling it takes, on standard error."""
    terminal.tell(
        "Variants: %(variants)d, inputs: %(inputs)d, repeats: %(repeats)d, calls: %(calls)d.",
        variants=len(comparison.variants),
        inputs=len(comparison.inputs),
        repeats=comparison.repeats,
        calls=estimate.calls,
    )
    tokens = {"sent": estimate.prompt_tokens, "received": estimate.completion_tokens}
    if estimate.cost is None:
        terminal.tell(
            "Tokens, estimated: %(sent)d sent, %(received)d received. The cost cannot be told: a price is not known.",
            **tokens,
        )
    else:
        terminal.tell(
            "Tokens, estimated: %(sent)d sent, %(received)d received. Estimated cost: %(cost)s.",
            **tokens,
            cost=money(estimate.cost),
        )


def plan_data(
    rolebook: Rolebook, comparison: Comparison, estimate: Estimate, cell: str = ""
) -> dict[str, Any]:
    """All of it as data, with the exact messages of one cell, or of each variant's first. Raises NotFoundError."""
    from rolebook.core.comparison_data import comparison_data

    asked = _asked(comparison)
    return {
        "comparison": comparison_data(comparison),
        "estimate": asdict(estimate),
        "differences": [
            {
                "variant": comparison.variants[index].name,
                "lines": [
                    {"kind": line.kind, "old": line.old, "new": line.new}
                    for line in _differences(
                        rolebook, comparison.variants[asked[0]], comparison.variants[index]
                    )
                ],
            }
            for index in asked[1:]
        ],
        "cells": [
            _cell(rolebook, comparison, key)
            for key in (
                [comparison.key_of(cell)]
                if cell
                else [_first_key(comparison, index) for index in asked]
            )
        ],
    }


def _asked(comparison: Comparison) -> Sequence[int]:
    """The variants that make calls, by their index."""
    return [n for n, variant in enumerate(comparison.variants) if not variant.is_recorded]


def _row(terminal: Terminal, rolebook: Rolebook, variant: Variant) -> Sequence[str]:
    persona = rolebook.compare.persona_of(variant.revision).persona
    return (
        variant_name(terminal, variant),
        variant.persona_id,
        variant.revision[:_SHORT_REVISION],
        variant.model
        or persona.model
        or rolebook.upstreams.known_model(variant.upstream or persona.upstream)
        or terminal.gettext("the upstream's default"),
        variant.upstream or persona.upstream or rolebook.settings.upstream,
    )


def _first_key(comparison: Comparison, index: int) -> CellKey:
    return next(key for key in comparison.cell_keys() if key.variant == index)


def _cell(rolebook: Rolebook, comparison: Comparison, key: CellKey) -> dict[str, Any]:
    prepared = rolebook.compare.prepare(comparison, key)
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


def _differences(rolebook: Rolebook, first: Variant, other: Variant) -> Iterator[LineDifference]:
    """The lines in which what two variants are made of is not the same."""
    from rolebook.core.difference import line_differences

    old, new = (
        _description(variant, rolebook.compare.persona_of(variant.revision))
        for variant in (first, other)
    )
    yield from (line for line in line_differences(old, new) if line.kind != "same")


def _description(variant: Variant, resolved: ResolvedPersona) -> str:
    """Everything that decides what a variant answers, as a persona file would say it."""
    from rolebook.library.yaml_text import dump_yaml

    chosen = {
        name: value
        for name in ("model", "upstream", "variables", "parameters")
        if (value := getattr(variant, name))
    }
    parts = {**resolved.persona.as_data(), "chosen": chosen, "templates": dict(resolved.templates)}
    return dump_yaml({name: value for name, value in parts.items() if value})


def _show_difference(terminal: Terminal, line: LineDifference) -> None:
    for sign, text, colour in (("-", line.old, "red"), ("+", line.new, "green")):
        for part in text.splitlines():
            terminal.write_styled(f"{sign} {part}\n", fg=colour)
