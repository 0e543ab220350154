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
from rolebook.report.preview import against_first, changed_prompts, failing_of
from rolebook.report.sameness import tell_same_inputs, tell_same_variants
from rolebook.report.unasked import tell_failing, tell_left_out

if TYPE_CHECKING:
    from rolebook.core.comparison import Comparison
    from rolebook.core.estimate import Estimate
    from rolebook.core.planning import Plan
    from rolebook.report.differing import Asked, Differing
    from rolebook.wiring import Rolebook


def show_plan(
    terminal: Terminal, rolebook: Rolebook, comparison: Comparison, estimate: Estimate
) -> None:
    """The variants, and what is different about each from the first."""
    example = example_of(comparison, failing_of(estimate))
    asked = asked_by_plan(rolebook, comparison, example)
    rows = list(_rows(terminal, rolebook, asked))
    terminal.write_table(("Variant", "Persona", "Revision", "Model", "Upstream"), rows)
    is_example = False
    for other, found in against_first(asked, terminal.translator):
        if found.settings or found.prompts:
            names = [variant_name(terminal, each.variant) for each in (asked[0], other)]
            terminal.write_line()
            terminal.write_styled(f"--- {names[0]}\n+++ {names[1]}\n", bold=True)
            _show_differences(terminal, found)
            is_example = is_example or (found.is_example and bool(found.prompts))
    if is_example and len(comparison.inputs) > 1:
        terminal.tell("System prompts as they are sent with one of the inputs.")


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
    terminal: Terminal, rolebook: Rolebook, asked: Sequence[Asked]
) -> Iterator[Sequence[str]]:
    """What was recorded, by how it was asked for then."""
    for each in asked:
        variant = each.variant
        ids = [variant.persona_id, *(other.persona.id for other in each.personas[1:])]
        yield (
            variant_name(terminal, variant),
            ", ".join(dict.fromkeys(ids)),
            ", ".join(id[:SHORT_REVISION] for id in variant.revisions),
            ", ".join(each.models) or terminal.gettext("the upstream's default"),
            ", ".join(each.upstreams) or rolebook.settings.upstream,
        )


def _show_differences(terminal: Terminal, found: Differing) -> None:
    """The settings of two variants that differ, then the lines of their prompts that do."""
    colon = terminal.translator.punctuation.colon
    for setting in found.settings:
        _show_change(
            terminal,
            *("" if value is None else f"{setting.name}{colon}{value}" for value in setting.values),
        )
    for prompt, lines in changed_prompts(found):
        what = "Prompt template" if prompt.is_template else "System prompt"
        terminal.write_styled(f"@@ {terminal.gettext(what)} @@\n", fg="cyan")
        for line in lines:
            _show_change(terminal, line.old, line.new)


def _show_change(terminal: Terminal, old: str, new: str) -> None:
    for sign, text, colour in (("-", old, "red"), ("+", new, "green")):
        for part in text.splitlines():
            terminal.write_styled(f"{sign} {part}\n", fg=colour)
