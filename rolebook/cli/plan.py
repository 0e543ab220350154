"""What a comparison would do, before it does it: who takes part, how they differ, how many calls, at what price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rolebook.cli.findings import variant_name
from rolebook.cli.terminal import Terminal
from rolebook.report.money import money
from rolebook.report.preview import asked_variants, variant_differences
from rolebook.report.sameness import tell_same_inputs, tell_same_variants
from rolebook.report.unasked import tell_failing, tell_left_out

if TYPE_CHECKING:
    from rolebook.core.compare import Estimate
    from rolebook.core.comparison import Comparison, Variant
    from rolebook.core.difference import LineDifference
    from rolebook.core.planning import Plan
    from rolebook.wiring import Rolebook

_SHORT_REVISION = 8


def show_plan(terminal: Terminal, rolebook: Rolebook, comparison: Comparison) -> None:
    """The variants, and what is different about each from the first."""
    rows = [_row(terminal, rolebook, variant) for variant in comparison.variants]
    terminal.write_table(("Variant", "Persona", "Revision", "Model", "Upstream"), rows)
    asked = asked_variants(comparison)
    for index in asked[1:]:
        first, other = (comparison.variants[number] for number in (asked[0], index))
        terminal.write_line()
        terminal.write_styled(f"--- {first.name}\n+++ {other.name}\n", bold=True)
        for line in variant_differences(rolebook.compare, first, other):
            _show_difference(terminal, line)


def tell_estimate(terminal: Terminal, plan: Plan, estimate: Estimate) -> None:
    """What filling it takes, on standard error."""
    comparison = plan.comparison
    terminal.tell(
        "Variants: %(variants)d, inputs: %(inputs)d, repeats: %(repeats)d, calls: %(calls)d.",
        variants=len(comparison.variants),
        inputs=len(comparison.inputs),
        repeats=comparison.repeats,
        calls=estimate.calls,
    )
    if estimate.reused:
        terminal.tell("Answers that the log has already: %(count)d.", count=estimate.reused)
    if said := tell_left_out(comparison, terminal.translator):
        terminal.tell_line(said)
    if said := tell_same_inputs(comparison, terminal.translator):
        terminal.tell_line(said)
    if said := tell_failing(comparison, estimate, terminal.translator):
        terminal.tell_line(f"{terminal.gettext('warning')}: {said}")
    for said in tell_same_variants(comparison, terminal.translator):
        terminal.tell_line(said)
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


def _row(terminal: Terminal, rolebook: Rolebook, variant: Variant) -> Sequence[str]:
    personas = [rolebook.compare.persona_of(id).persona for id in variant.revisions]
    persona = personas[0]
    return (
        variant_name(terminal, variant),
        ", ".join(dict.fromkeys([variant.persona_id, *(other.id for other in personas[1:])])),
        ", ".join(id[:_SHORT_REVISION] for id in variant.revisions),
        variant.model
        or persona.model
        or rolebook.upstreams.known_model(variant.upstream or persona.upstream)
        or terminal.gettext("the upstream's default"),
        variant.upstream or persona.upstream or rolebook.settings.upstream,
    )


def _show_difference(terminal: Terminal, line: LineDifference) -> None:
    for sign, text, colour in (("-", line.old, "red"), ("+", line.new, "green")):
        for part in text.splitlines():
            terminal.write_styled(f"{sign} {part}\n", fg=colour)
