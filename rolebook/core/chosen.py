"""What was chosen for a session over what its persona says, so that it can be asked once more as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rolebook.core.fixed import answer_wanted, plain
from rolebook.core.frozen import frozen
from rolebook.core.persona import BILLING_FIELDS, Persona, Sampling, is_reserved
from rolebook.core.session import Session, Turn


@frozen
class Usual:
    """The upstream that a variant asks where it says no more, by its own name, and the model that answers there."""

    upstream: str
    model: str


def chosen_over(
    now: Persona, session: Session, last: Turn | None, then: Persona | None, usual: Usual
) -> dict[str, Any]:
    """What a variant says beside its persona, as comparison files have it, to ask as the session did.

    What the persona said itself at that time is not chosen: there, what it says by now counts. Where nobody said which
    model, the one that was asked then is kept if another one would be by now. What a program wanted of the answer goes
    with its inputs, whoever is asked.

    Arguments:
        now: the persona of the variant.
        last: the last turn that counts in the session; it may have been asked with other parameters than the session
            began with.
        then: the persona at the revision of that turn, if it is known.
    """
    model, parameters = session.model, dict(session.parameters)
    if last is not None and then is not None:
        model = _model_chosen(now, session, last, then, usual)
        parameters = _parameters_chosen(last.parameters_requested, then.parameters)
    own = then.parameters if then is not None else {}
    along = {name for name in answer_wanted(parameters) if name not in own}
    given = {
        n: v for n, v in parameters.items() if v is not None and n not in along and _may_be_set(n)
    }
    left_out = {
        name: None
        for name, value in parameters.items()
        if value is None and name in now.sampling.as_parameters()
    }
    found = {
        "model": model,
        "upstream": session.upstream,
        "sampling": {n: v for n, v in given.items() if n in Sampling.model_fields},
        "request": {n: v for n, v in given.items() if n not in Sampling.model_fields},
        "changes": {"sampling": left_out} if left_out else {},
    }
    return {name: value for name, value in found.items() if value}


def _model_chosen(now: Persona, session: Session, last: Turn, then: Persona, usual: Usual) -> str:
    asked, upstream = last.model_requested, last.upstream_requested or last.upstream
    if session.model or (then.model and asked != then.model):
        return asked
    is_unsaid = not then.model and not now.model and upstream == usual.upstream
    return asked if is_unsaid and asked != usual.model else ""


def _parameters_chosen(asked: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not the persona's own; ``None`` for one of its own that was left out."""
    chosen = {n: v for n, v in asked.items() if n not in own or own[n] != v}
    return chosen | {name: None for name in own if name not in asked}


def _may_be_set(name: str) -> bool:
    """Whether a variant may say so; a program may have sent more."""
    return not is_reserved(name) and plain(name) not in BILLING_FIELDS
