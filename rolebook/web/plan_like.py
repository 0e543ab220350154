"""The form of a plan, filled in with a comparison that there was: to be changed and carried out once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from rolebook.core.comparison import Comparison, ComparisonInput, Variant
from rolebook.core.comparison_spec import VariantSpec, parse_spec
from rolebook.core.errors import RolebookError
from rolebook.core.fault import FaultyDataError
from rolebook.core.persona import Persona, Sampling, unescape_jinja
from rolebook.core.planning import names_of
from rolebook.web.current import rolebook
from rolebook.web.plan_filled import form_of_spec
from rolebook.web.plan_form import PlanForm, filled


def form_like(comparison: Comparison) -> PlanForm:
    """The form that plans the like of a comparison: personas at their revisions, inputs from the log by their session.

    What was only the default, such as a model or a name, is left to what is the default now. Raises InputError for a
    comparison that no plan of today could say.
    """
    answering = [variant for variant in comparison.variants if not variant.is_recorded]
    judge = comparison.judge
    try:
        spec = parse_spec(
            {
                "question": comparison.question,
                "variants": list(_variants(answering, comparison.upstream)),
                "inputs": list(_inputs(comparison)),
                "repeats": comparison.repeats,
                "concurrency": comparison.concurrency,
                "checks": [check.as_data() for check in comparison.checks],
                "judge": filled(
                    {
                        "persona": judge.persona_id,
                        "model": _own_model(
                            judge.model, judge.revision, judge.upstream, comparison.upstream
                        ),
                        "upstream": judge.upstream,
                    }
                )
                if judge
                else {},
                "stream": comparison.is_streamed,
                "recorded": len(answering) < len(comparison.variants),
            }
        )
    except FaultyDataError as error:
        raise error.as_input_error() from None
    return form_of_spec(spec)


def _variants(variants: list[Variant], default: str) -> Iterator[dict[str, Any]]:
    data = [_variant(variant, default) for variant in variants]
    specs = [VariantSpec.model_validate(each) for each in data]
    usual = names_of(specs, [_persona_at(variant.revision) for variant in variants])
    for given, variant, name in zip(data, variants, usual, strict=True):
        yield given if variant.name == name else {**given, "name": variant.name}


def _variant(variant: Variant, default: str) -> dict[str, Any]:
    persona_id, parameters = variant.persona_id, variant.parameters
    return filled(
        {
            "persona": persona_id,
            "system": "" if persona_id else unescape_jinja(_persona_at(variant.revision).system),
            "revision": variant.revision
            if persona_id and variant.revision != _present_revision(persona_id)
            else "",
            "model": _own_model(variant.model, variant.revision, variant.upstream, default),
            "upstream": variant.upstream,
            "variables": dict(variant.variables),
            "sampling": {k: v for k, v in parameters.items() if k in Sampling.model_fields},
            "request": {k: v for k, v in parameters.items() if k not in Sampling.model_fields},
        }
    )


def _persona_at(revision: str) -> Persona:
    return rolebook().cells.persona_of(revision).persona


def _present_revision(persona_id: str) -> str:
    with suppress(RolebookError):
        return rolebook().find_persona(persona_id).revision.id
    return ""


def _own_model(model: str, revision: str, upstream: str, default: str) -> str:
    """A model that was chosen; empty for the one that the upstream asks without a choice.

    Arguments:
        default: the upstream that answered then where neither the plan nor the persona names one.
    """
    persona = _persona_at(revision)
    asked = upstream or persona.upstream or default
    usual = persona.model or rolebook().upstreams.known_model(asked)
    return "" if model == usual else model


def _inputs(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """The inputs as somebody would write them; a session of the log once, with all that was said in it."""
    sessions: set[str] = set()
    for entry in comparison.inputs:
        if not entry.source:
            yield _input(entry)
        elif entry.source not in sessions:
            sessions.add(entry.source)
            is_free = len(entry.turns) > 1 and not entry.follows
            yield {"session": entry.source, "history": "free" if is_free else "fixed"}


def _input(entry: ComparisonInput) -> dict[str, Any]:
    said = {"input": entry.text} if len(entry.turns) == 1 else {"turns": list(entry.turns)}
    return said | filled(
        {
            "name": entry.name,
            "variables": dict(entry.variables),
            "reference": entry.reference,
            "tags": list(entry.tags),
            "earlier": [{"user": asked, "assistant": said} for asked, said in entry.earlier],
        }
    )
