"""What a plan will take, what differs between its variants, and the exact messages of any of its cells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rolebook.config import REHEARSAL
from rolebook.core.compare import Estimate
from rolebook.core.comparison import CellKey, Comparison, ComparisonInput, Variant
from rolebook.core.difference import Piece, differences
from rolebook.core.frozen import frozen
from rolebook.core.message import Message
from rolebook.core.planning import Plan
from rolebook.report.sameness import tell_same_inputs
from rolebook.report.unasked import tell_failing, tell_left_out
from rolebook.web.current import current_translator, rolebook
from rolebook.web.current import gettext as _
from rolebook.web.presentation import count
from rolebook.web.preview import Preview, show_prepared

#: So many inputs can be chosen to be looked at; nobody looks through a longer list.
_INPUTS_OFFERED = 200
#: Of more prompts it would take too long, while somebody types, to find which the log has; then all count as asked.
_MOST_LOOKED_UP = 500
#: A new wording of which this share is the old one is shown at once, a wholly other text on request.
_ALIKE = 0.5


@frozen
class Setting:
    """Something that is not the same for all variants, with its value for each."""

    name: str
    values: tuple[str, ...]


@frozen
class PromptDifference:
    """How the system prompt of a variant differs from that of the first."""

    variant: Variant
    pieces: tuple[Piece, ...]

    @property
    def is_alike(self) -> bool:
        """Whether it is the same text with changes, rather than another one."""
        same = sum(len(piece.text) for piece in self.pieces if piece.kind == "same")
        return same > _ALIKE * sum(len(piece.text) for piece in self.pieces)


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
    settings: tuple[Setting, ...]
    prompts: tuple[PromptDifference, ...]
    has_same_prompts: bool

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
        personas = [rolebook().compare.persona_of(variant.revision) for _, variant in self.variants]
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
    comparison, compare = plan.comparison, rolebook().compare
    answering = [(i, v) for i, v in enumerate(comparison.variants) if not v.is_recorded]
    index = answering[variant][0] if 0 <= variant < len(answering) else answering[0][0]
    entry = entry if 0 <= entry < min(_INPUTS_OFFERED, len(comparison.inputs)) else 0
    numbers = [number for number, _variant in answering]
    is_reusing = is_reusing and len(numbers) * len(comparison.inputs) <= _MOST_LOOKED_UP
    estimate = compare.estimate(comparison, is_reusing=is_reusing)
    failing = {fault.key.input for fault in estimate.faults}
    if entry in failing:
        # One that is asked of all shows more than an error, which is told beside it.
        entry = next((n for n in range(len(comparison.inputs)) if n not in failing), entry)
    prepared = {
        number: compare.prepare(comparison, CellKey(number, entry, 0)) for number in numbers
    }
    systems = [_system_of(turn.messages) for turn in prepared.values()]
    return PlanPreview(
        plan=plan,
        estimate=None if is_sketch else estimate,
        variants=tuple(answering),
        shown=CellKey(index, entry, 0),
        cell=show_prepared(prepared[index]),
        settings=tuple(_settings(plan, answering, entry)),
        prompts=tuple(
            PromptDifference(variant, differences(systems[0], text))
            for (_, variant), text in zip(answering[1:], systems[1:], strict=True)
            if text != systems[0]
        ),
        has_same_prompts=len(set(systems)) == 1,
    )


def _system_of(messages: Sequence[Message]) -> str:
    return "\n\n".join(m.content for m in messages if m.role in {"system", "developer"})


def _settings(
    plan: Plan, answering: Sequence[tuple[int, Variant]], entry: int
) -> Iterator[Setting]:
    """What is set otherwise for one variant than for another, in the order of a persona's file."""
    described = [_described(plan, number, entry) for number, _variant in answering]
    if len({settings[_("persona")] for settings in described}) == len(described):
        # That other personas are other revisions goes without saying.
        for settings in described:
            del settings[_("revision")]
    for name in dict.fromkeys(name for settings in described for name in settings):
        values = tuple(settings.get(name, "–") for settings in described)
        if len(set(values)) > 1:
            yield Setting(name, values)


def _described(plan: Plan, number: int, entry: int) -> dict[str, str]:
    comparison, compare = plan.comparison, rolebook().compare
    variant = comparison.variants[number]
    persona = plan.personas[variant.revision].persona
    session = compare.session_of(comparison, CellKey(number, entry, 0))
    parameters = {**persona.parameters, **variant.parameters}
    policy = persona.context.model_dump(exclude_none=True)
    described = {
        _("persona"): persona.name,
        _("revision"): variant.revision[:8],
        "model": variant.model or persona.model or _("default model"),
        "upstream": variant.upstream or persona.upstream or rolebook().settings.upstream,
        _("prompt template"): persona.template_name,
        **{name: _text(value) for name, value in session.variables.items()},
        **{name: _text(value) for name, value in parameters.items() if value is not None},
        _("examples"): str(len(persona.examples)),
        _("history sent"): _policy(policy),
    }
    return described


def _policy(policy: Mapping[str, int]) -> str:
    words = {"turns": _("at most %(count)s turns"), "tokens": _("at most %(count)s tokens")}
    said = (words[name] % {"count": count(limit)} for name, limit in policy.items())
    return current_translator().punctuation.comma.join(said) or _("all")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
