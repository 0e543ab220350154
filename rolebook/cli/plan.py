"""What a comparison would do, before it does it: who takes part, how they differ, how many calls, at what price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rolebook.cli.findings import variant_name
from rolebook.cli.terminal import Terminal
from rolebook.core.reference import SHORT_REVISION
from rolebook.report.along import tell_along
from rolebook.report.asking import asked_by_plan, example_of
from rolebook.report.money import money
from rolebook.report.preview import variant_differences
from rolebook.report.sameness import tell_same_inputs, tell_same_variants
from rolebook.report.unasked import tell_failing, tell_left_out

if TYPE_CHECKING:
    from rolebook.core.comparison import Comparison
    from rolebook.core.difference import LineDifference
    from rolebook.core.estimate import Estimate
    from rolebook.core.planning import Plan
    from rolebook.wiring import Rolebook


def show_plan(terminal: Terminal, rolebook: Rolebook, comparison: Comparison) -> None:
    """The variants, and what is different about each from the first."""
    rows = list(_rows(terminal, rolebook, comparison))
    terminal.write_table(("Variant", "Persona", "Revision", "Model", "Upstream"), rows)
    for first, variant, lines in variant_differences(rolebook, comparison):
        names = [variant_name(terminal, each) for each in (first, variant)]
        terminal.write_line()
        terminal.write_styled(f"--- {names[0]}\n+++ {names[1]}\n", bold=True)
        for line in lines:
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
    if said := tell_along(comparison, terminal.translator):
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


def _rows(
    terminal: Terminal, rolebook: Rolebook, comparison: Comparison
) -> Iterator[Sequence[str]]:
    """What was recorded, by how it was asked for then."""
    for asked in asked_by_plan(rolebook, comparison, example_of(comparison)):
        variant = asked.variant
        ids = [variant.persona_id, *(other.persona.id for other in asked.personas[1:])]
        yield (
            variant_name(terminal, variant),
            ", ".join(dict.fromkeys(ids)),
            ", ".join(id[:SHORT_REVISION] for id in variant.revisions),
            ", ".join(asked.models) or terminal.gettext("the upstream's default"),
            ", ".join(asked.upstreams) or rolebook.settings.upstream,
        )


def _show_difference(terminal: Terminal, line: LineDifference) -> None:
    for sign, text, colour in (("-", line.old, "red"), ("+", line.new, "green")):
        for part in text.splitlines():
            terminal.write_styled(f"{sign} {part}\n", fg=colour)
