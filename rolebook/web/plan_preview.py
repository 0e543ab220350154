"""What a plan will take, what differs between its variants, and the exact messages of any of its cells."""

from __future__ import annotations

from collections.abc import Sequence

from rolebook.config import REHEARSAL
from rolebook.core.comparison import CellKey, Comparison, ComparisonInput, Variant
from rolebook.core.estimate import Estimate
from rolebook.core.frozen import frozen
from rolebook.core.planning import Plan
from rolebook.report.along import tell_along
from rolebook.report.asking import example_of
from rolebook.report.differing import Differing
from rolebook.report.preview import failing_of
from rolebook.report.sameness import tell_same_inputs
from rolebook.report.unasked import tell_failing, tell_left_out
from rolebook.web.current import current_translator, rolebook
from rolebook.web.preview import Preview, show_prepared
from rolebook.web.variant_settings import differing_in_plan

#: So many inputs can be chosen to be looked at; nobody looks through a longer list.
_INPUTS_OFFERED = 200
#: Of more prompts it would take too long, while somebody types, to find which the log has; then all count as asked.
_MOST_LOOKED_UP = 500


@frozen
class PlanPreview:
    """A plan ready to be shown. ``variants`` are those that answer, each with its index in the comparison.

    ``estimate`` is ``None`` while nothing is said yet. ``shown`` is the cell whose messages are in ``cell``.
    """

    plan: Plan
    estimate: Estimate | None
    variants: tuple[tuple[int, Variant], ...]
    shown: CellKey
    cell: Preview
    differing: Differing

    @property
    def comparison(self) -> Comparison:
        """What is planned."""
        return self.plan.comparison

    @property
    def failing(self) -> str:
        """That some cells cannot be asked, in words; empty if all that were looked at can."""
        if self.estimate is None:
            return ""
        return tell_failing(self.comparison, self.estimate, current_translator())

    @property
    def left_out(self) -> str:
        """That some inputs from the log are not taken, in words; empty if all are."""
        return tell_left_out(self.comparison, current_translator())

    @property
    def along(self) -> str:
        """A sentence on what goes along with inputs that is not said in words; empty if there is none."""
        return tell_along(self.comparison, current_translator())

    @property
    def inputs(self) -> Sequence[ComparisonInput]:
        """The inputs that can be chosen to be looked at."""
        return self.comparison.inputs[:_INPUTS_OFFERED]

    @property
    def same_inputs(self) -> str:
        """That some inputs say the same as others, in words; empty if none does."""
        return tell_same_inputs(self.comparison, current_translator())

    @property
    def is_rehearsed(self) -> bool:
        """Whether no model is called at all."""
        personas = [rolebook().cells.persona_of(variant.revision) for _, variant in self.variants]
        return all(
            (variant.upstream or resolved.persona.upstream or rolebook().settings.upstream)
            == REHEARSAL
            for (_, variant), resolved in zip(self.variants, personas, strict=True)
        )


def preview_of(
    plan: Plan, *, variant: int, entry: int, is_sketch: bool, is_reusing: bool = False
) -> PlanPreview:
    """What a plan comes to.

    Arguments:
        variant, entry: the cell to show: the position among the variants that answer, the index of the input. Where
            there is none such, the first.
        is_sketch: its only input stands in for one that is still to be written.
        is_reusing: whether answers that the log has already are taken.

    Raises InputError, ConflictError.
    """
    comparison = plan.comparison
    answering = [(i, v) for i, v in enumerate(comparison.variants) if not v.is_recorded]
    index = answering[variant][0] if 0 <= variant < len(answering) else answering[0][0]
    entry = entry if 0 <= entry < min(_INPUTS_OFFERED, len(comparison.inputs)) else 0
    numbers = [number for number, _variant in answering]
    is_reusing = is_reusing and len(numbers) * len(comparison.inputs) <= _MOST_LOOKED_UP
    estimate = rolebook().estimator.estimate(comparison, is_reusing=is_reusing)
    failing = failing_of(estimate)
    if any(key.input == entry for key in failing):
        # One that is asked of all shows more than an error, which is told beside it.
        entry = example_of(comparison, failing)
    shown = CellKey(index, entry, 0)
    prepared = rolebook().cells.prepare(comparison, shown)
    return PlanPreview(
        plan=plan,
        estimate=None if is_sketch else estimate,
        variants=tuple(answering),
        shown=shown,
        cell=show_prepared(prepared),
        differing=differing_in_plan(comparison, entry, {shown: prepared}),
    )
