"""Other upstreams that stand in where one does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from typing import Any

from rolebook.core.completion import CompletionRequest, Model, Sent, StreamEvent, Waiting
from rolebook.core.errors import (
    Phrase,
    UpstreamCancelled,
    UpstreamConnectionError,
    UpstreamError,
    UpstreamKeyError,
    UpstreamModelError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamRefusedHereError,
    UpstreamSilentError,
    UpstreamTimeoutError,
)
from rolebook.core.upstream import Fallback
from rolebook.upstream.openai_upstream import OpenAIUpstream

_HEADERS = ("organization", "project")
"""Parameters that name an account with the upstream that was asked, and concern no other."""


class StandingIn:
    """An upstream, and those that are asked in turn where it does not answer, all within its time.

    Nobody stands in once a first piece has been passed on, nor where the request itself was refused: whoever wrote it
    has to hear of that.

    Arguments:
        get: an upstream by its name. Raises UpstreamError where it lacks a key.
    """

    def __init__(self, first: OpenAIUpstream, get: Callable[[str], OpenAIUpstream]) -> None:
        self._first = first
        self._get = get

    @property
    def name(self) -> str:
        """The name of the first."""
        return self._first.name

    @property
    def default_model(self) -> str:
        """That of the first."""
        return self._first.default_model

    def models(self) -> Sequence[Model]:
        """Those of the first."""
        return self._first.models()

    def model(self, model_id: str) -> Model:
        """One of the first's. Raises UpstreamRefusedError for an unknown one."""
        return self._first.model(model_id)

    def stream(self, request: CompletionRequest) -> Iterator[StreamEvent]:
        """Make one call; see the Protocol. Sent names whoever stands in."""
        deadline = time.monotonic() + self._first.settings.timeouts.total_s
        fallbacks = self._first.settings.fallbacks
        refusal = yield from self._ask(self._first, request, deadline)
        if refusal is None:
            return
        others: list[dict[str, Any]] = []
        for fallback in fallbacks:
            if time.monotonic() >= deadline:
                break
            try:
                upstream = self._get(fallback.upstream)
            except UpstreamError as error:
                others.append({**error.outcome, "upstream": fallback.upstream})
                continue
            is_last = fallback is fallbacks[-1]
            found = yield from self._stand_in(
                upstream, fallback, request, deadline, refusal, is_last=is_last
            )
            if found is None:
                return
            others.append({**found.outcome, "upstream": fallback.upstream})
        if others:
            # Whoever remembers the refusal of the first remembers no others with it.
            refusal = copy(refusal)
            refusal.parameters = {**refusal.parameters, "others": others}
        raise refusal

    def _stand_in(
        self,
        upstream: OpenAIUpstream,
        fallback: Fallback,
        request: CompletionRequest,
        deadline: float,
        refusal: UpstreamError,
        *,
        is_last: bool,
    ) -> Generator[StreamEvent, None, UpstreamError | None]:
        """The answer of one that stands in, or the error with which it gave none.

        Where the settings name no model for it, it is asked for the same one, and for its default if it has none of
        that name.
        """
        parameters = _without_account(request.parameters)
        asked = replace(request, model=fallback.model_for(request.model), parameters=parameters)
        error = yield from self._ask(upstream, asked, deadline, refusal, is_last=is_last)
        is_by_name = asked.model and asked.model == request.model
        if isinstance(error, UpstreamModelError) and is_by_name:
            asked = replace(asked, model="")
            error = yield from self._ask(upstream, asked, deadline, refusal, is_last=is_last)
        return error

    def _ask(
        self,
        upstream: OpenAIUpstream,
        request: CompletionRequest,
        deadline: float,
        refusal: UpstreamError | None = None,
        *,
        is_last: bool = False,
    ) -> Generator[StreamEvent, None, UpstreamError | None]:
        """One upstream's answer, or the error with which it gave none. Raises one that another could not mend.

        Arguments:
            refusal: why it stands in for the first.
            is_last: whether nobody is asked after it.
        """
        has_passed_on = False
        arrived = request.delivery.arrived
        try:
            model = request.model or upstream.default_model
        except UpstreamError as error:
            return error
        try:
            events = upstream.stream(
                replace(request, model=model), deadline=deadline, has_stand_in=not is_last
            )
            with closing(events):  # type: ignore[type-var]
                for event in events:
                    if refusal is not None and isinstance(event, Sent):
                        reason = _why(refusal, self.name, upstream.name, model)
                        told = (reason, *event.adaptations)
                        event = replace(event, upstream=upstream.name, adaptations=told)
                    has_passed_on = has_passed_on or not isinstance(event, Waiting)
                    yield event
        except UpstreamError as error:
            is_refused = isinstance(error, UpstreamRefusedError) and not isinstance(
                error, UpstreamRefusedHereError
            )
            is_final = isinstance(error, UpstreamCancelled) or (refusal is None and is_refused)
            if has_passed_on or is_final:
                raise
            if refusal is not None:
                # What is told is why the first gave no answer, and nothing else is to stand beside that.
                request.delivery.arrived = arrived
            return error
        return None


def _without_account(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in parameters.items() if name not in _HEADERS}


def _why(error: UpstreamError, asked: str, stand_in: str, model: str) -> Phrase:
    """Why another upstream has answered."""
    names = {"asked": asked, "stand_in": stand_in, "model": model}
    match error:
        case UpstreamQuotaError():
            return Phrase(
                "%(stand_in)s answered with %(model)s, because the quota at %(asked)s is used up.",
                names,
            )
        case UpstreamRateError():
            return Phrase(
                "%(stand_in)s answered with %(model)s, because %(asked)s took no more calls.", names
            )
        case UpstreamRefusedError():
            return Phrase(
                "%(stand_in)s answered with %(model)s, because %(asked)s refused the request.",
                names,
            )
        case UpstreamKeyError():
            return Phrase(
                "%(stand_in)s answered with %(model)s, because %(asked)s refused its keys.", names
            )
        case UpstreamTimeoutError():
            return Phrase(
                "%(stand_in)s answered with %(model)s, because %(asked)s did not answer in time.",
                names,
            )
        case UpstreamSilentError():
            return Phrase(
                "%(stand_in)s answered with %(model)s, because %(asked)s has not been answering for a while.",
                names,
            )
        case UpstreamConnectionError():
            return Phrase(
                "%(stand_in)s answered with %(model)s, because %(asked)s could not be reached.",
                names,
            )
    return Phrase("%(stand_in)s answered with %(model)s, because %(asked)s failed.", names)
