"""One call of an upstream, from its turn in the log to the turn as it has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal, Protocol

from rolebook.core.completion import (
    Cancellation,
    Completion,
    CompletionRequest,
    Delivery,
    Delta,
    Received,
    Sent,
    Suspend,
    Usage,
    Waiting,
)
from rolebook.core.errors import CutOffError, Phrase, UpstreamCancelled, UpstreamError
from rolebook.core.frozen import frozen
from rolebook.core.session import Turn, TurnError, TurnStatus
from rolebook.core.upstream import Upstream

#: How long a call may wait for an upstream that takes no more for now, where nobody sits before it: in comparisons,
#: and where judges are asked.
BACKGROUND_PATIENCE_S = 60.0
#: When it is worth another try after Rolebook was stopped: by then it may have been started again.
_RESTART_S = 5.0


@frozen
class Program:
    """Gets an answer as it came: Received instead of deltas.

    ``suspend`` is asked before more of it is waited for. Then there is a Waiting before the end is recorded, too, which
    may take a moment.
    """

    suspend: Suspend | None = None


#: Who gets an answer: ``nobody`` waits for its end in any case, and does not look before.
Reader = Literal["person", "nobody"] | Program


class Prices(Protocol):
    """Knows what calls cost."""

    def cost(
        self,
        usage: Usage,
        *,
        upstream: str,
        requested: str,
        answered: str,
        reported: float | None,
    ) -> float | None:
        """US dollars; ``None`` where the price or the usage is unknown. ``reported`` is the upstream's own figure."""


class Call:
    """The state of one call while it runs. Other threads may cancel it and wait until it has ended."""

    def __init__(self, turn: Turn, prices: Prices, reader: Reader) -> None:
        self.turn = turn
        self.end = turn
        """The turn as it has ended; pending until then."""
        self.suspend = reader.suspend if isinstance(reader, Program) else None
        self._reader = reader
        self._prices = prices
        self._completion: Completion | None = None
        self._error: UpstreamError | None = None
        self._began = time.monotonic()
        self._first: float | None = None
        self._model_requested = turn.model_requested
        self._sent = Sent("", {}, ())
        self.session_id = turn.session_id
        self.cancellation = Cancellation()
        self._delivery = Delivery()
        self.has_ended = threading.Event()
        self.is_cut_off = False
        """Whether Rolebook itself ends, so that the cancel is nobody's wish."""

    @property
    def has_asked(self) -> bool:
        """Whether an upstream has been told what is asked."""
        return self._delivery.is_made

    def stream(self, upstream: Upstream) -> Iterator[Delta | Received | Waiting]:
        """Ask, and pass on what comes. What the upstream does wrong is told by ``ended``; faults of ours are raised."""
        try:
            with closing(upstream.stream(self._request())) as events:  # type: ignore[type-var]
                for event in events:
                    match event:
                        case Sent():
                            self._note_sent(event)
                        case Completion():
                            self._completion = event
                        case Delta():
                            self._note_delta()
                            yield event
                        case Received():
                            if event.deltas:
                                self._note_delta()
                            yield event
                        case Waiting():
                            yield event
        except UpstreamError as error:
            self._error = error
        except Exception:
            self._error = _own_fault()
            raise

    def _request(self) -> CompletionRequest:
        turn = self.turn
        return CompletionRequest(
            messages=turn.messages,
            model=turn.model_requested,
            parameters=turn.parameters_requested,
            endpoint=turn.endpoint,
            is_streamed=turn.is_streamed,
            is_watched=self._reader == "person",
            is_relayed=isinstance(self._reader, Program) and turn.is_streamed,
            patience_s=BACKGROUND_PATIENCE_S if self._reader == "nobody" else 0.0,
            suspend=self.suspend,
            cancellation=self.cancellation,
            delivery=self._delivery,
        )

    def _note_sent(self, sent: Sent) -> None:
        self._sent = sent
        if not self._model_requested and not sent.upstream:
            self._model_requested = sent.model

    def _note_delta(self) -> None:
        if self._first is None:
            self._first = time.monotonic()

    def ended(self) -> Turn:
        """The turn with its end: whole, refused, broken, or left by whoever read it."""
        if self.is_cut_off and (self._error is None or isinstance(self._error, UpstreamCancelled)):
            self._error = CutOffError(
                "Rolebook was stopped before the answer was finished. Try again.",
                retry_after_s=_RESTART_S,
            )
        sent = self._sent
        self.end = replace(
            self.turn,
            upstream=sent.upstream or self.turn.upstream,
            upstream_requested=self.turn.upstream if sent.upstream else "",
            model_requested=self._model_requested,
            parameters_sent=sent.parameters,
            duration_ms=round((time.monotonic() - self._began) * 1000, 1),
            time_to_first_token_ms=(
                None if self._first is None else round((self._first - self._began) * 1000, 1)
            ),
            **(self._broken() if self._completion is None else self._completed(self._completion)),
        )
        return self.end

    def ended_by_fault(self) -> Turn:
        """The turn where something of ours has failed over its end: it has what arrived, but is not complete."""
        self._error = _own_fault()
        ended = self.ended()
        if ended.status is TurnStatus.COMPLETE:
            self.end = replace(ended, status=TurnStatus.INTERRUPTED, error=self._turn_error())
        return self.end

    def forget_reply(self) -> None:
        """Be left with what arrived, because of what the whole tells something cannot be recorded."""
        self._completion = None
        self._delivery.usage, self._delivery.cost = Usage(), None

    def _completed(self, completion: Completion) -> Mapping[str, Any]:
        """What a turn has of a whole answer."""
        sent = self._sent
        return {
            "status": TurnStatus.COMPLETE,
            "model": completion.model,
            "choices": completion.choices,
            "usage": completion.usage,
            "cost": self._cost(completion.usage, completion.cost, answered=completion.model),
            "reply": completion.reply,
            "adaptations": (*sent.adaptations, *_shortfall(sent, completion)),
        }

    def _cost(self, usage: Usage, reported: float | None, *, answered: str = "") -> float | None:
        sent = self._sent
        return self._prices.cost(
            usage,
            upstream=sent.upstream or self.turn.upstream,
            requested=sent.model or self._model_requested,
            answered=answered,
            reported=reported,
        )

    def _broken(self) -> Mapping[str, Any]:
        """What a turn has of an answer that did not come to its end."""
        arrived = self._delivery.arrived()
        status = self._broken_status(has_arrived=bool(arrived))
        return {
            "status": status,
            "choices": arrived,
            "error": self._turn_error(),
            "adaptations": self._sent.adaptations,
            **self._used(status, has_asked=self.has_asked or bool(arrived)),
        }

    def _used(self, status: TurnStatus, *, has_asked: bool) -> Mapping[str, Any]:
        """What a turn has of the use of an answer that did not come to its end.

        Arguments:
            has_asked: whether any upstream may have worked on it, as one that refuses it has not.
        """
        if has_asked:
            usage, reported = self._delivery.usage, self._delivery.cost
            is_told = usage != Usage() or reported is not None
            return {"usage": usage, "cost": self._cost(usage, reported)} if is_told else {}
        if status is TurnStatus.CANCELLED:
            return _NOTHING_USED
        reserve = self.turn.reserve
        return {"reserve": reserve and replace(reserve, is_given_back=True)}

    def _broken_status(self, *, has_arrived: bool) -> TurnStatus:
        if self._error is None or isinstance(self._error, UpstreamCancelled):
            return TurnStatus.CANCELLED
        return TurnStatus.INTERRUPTED if has_arrived else TurnStatus.FAILED

    def _turn_error(self) -> TurnError | None:
        if self._error is None or isinstance(self._error, UpstreamCancelled):
            return None
        parameters = {
            name: value for name, value in self._error.parameters.items() if value is not None
        }
        return TurnError(self._error.code, self._error.message, parameters)


def _own_fault() -> UpstreamError:
    return UpstreamError("Rolebook itself failed here. What it printed in its terminal says more.")


#: What a turn has taken that was stopped or left before any upstream was asked.
_NOTHING_USED: Mapping[str, Any] = {"usage": Usage(0, 0, 0), "cost": 0.0}


def _shortfall(sent: Sent, completion: Completion) -> Iterator[Phrase]:
    """That fewer answers came than were asked for: servers exist that ignore ``n`` without a word."""
    wanted, given = sent.parameters.get("n"), len(completion.choices)
    if isinstance(wanted, int) and given < wanted:
        yield Phrase(
            "Asked for %(wanted)d answers, the server gave %(given)d.",
            {"wanted": wanted, "given": given},
        )
