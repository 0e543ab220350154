"""One turn, from an input to a logged answer. Everything that talks to a model goes through here."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import field, replace
from functools import partial
from itertools import chain
from typing import Any, Literal, Protocol

from rolebook.core.access import require_persona
from rolebook.core.blocking import blocking
from rolebook.core.budget import Reserve
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
from rolebook.core.errors import (
    ConflictError,
    CutOffError,
    InputError,
    NotFoundError,
    Phrase,
    StorageError,
    UpstreamCancelled,
    UpstreamError,
    VariableError,
)
from rolebook.core.frozen import frozen
from rolebook.core.message import Message
from rolebook.core.persona import (
    Persona,
    ResolvedPersona,
    VariableValue,
    describe_persona,
    parse_persona,
    persona_of_revision,
)
from rolebook.core.prompt import Prompt, PromptRenderer, history_messages
from rolebook.core.reference import split_reference
from rolebook.core.session import (
    Revision,
    Session,
    SessionLog,
    Turn,
    TurnError,
    TurnStatus,
    being_answered,
    new_id,
)
from rolebook.core.transcript import INSTRUCTING
from rolebook.core.upstream import Upstream

_logger = logging.getLogger(__name__)

#: How long a call may wait for an upstream that takes no more for now, where nobody sits before it: in comparisons,
#: and where judges are asked.
BACKGROUND_PATIENCE_S = 60.0

#: How long a turn waits for the one before it, which was just stopped or left.
_END_S = 2.0
#: When it is worth another try after Rolebook was stopped: by then it may have been started again.
_RESTART_S = 5.0
#: How often the log is asked whether a turn of another process has ended.
_LOOK_S = 0.05


class Library(Protocol):
    """Where personas come from."""

    def get_persona(self, reference: str) -> ResolvedPersona:
        """By an id: as it stands on disk now, or its last good version. By ``ID@LABEL`` or ``ID@REVISION``: as it was.

        Raises NotFoundError, FileError, InputError, StorageError.
        """

    def get_described(self, system: str) -> ResolvedPersona:
        """A persona without a file, from nothing but its system text."""

    def get_changed(self, resolved: ResolvedPersona, changes: Mapping[str, Any]) -> ResolvedPersona:
        """The persona with some keys of its file changed: maps merge key by key, all else is replaced.

        Raises InputError.
        """


class Upstreams(Protocol):
    """The configured upstreams."""

    def get(self, name: str) -> Upstream:
        """By name; an empty name is the default. Raises NotFoundError."""

    def known_model(self, name: str) -> str:
        """The default model of an upstream, as far as it is known without asking; empty: only the server knows."""


class TokenCounter(Protocol):
    """Counts tokens without asking anybody."""

    def __call__(self, messages: Sequence[Message], model: str) -> int:
        """The tokens of a whole message list, as an estimate."""


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


class Billing(Prices, Protocol):
    """Also knows who has money left."""

    def require_budget(self) -> None:
        """Raises BudgetError if the key that pays has used up its budget."""

    def reserve(self, turn: Turn) -> Reserve | None:
        """What a turn that is about to begin counts as until its use is known; ``None`` where no budget is looked at.

        Raises BudgetError where there is nothing left of it, RightError where nobody could tell what the turn costs,
        and UpstreamError where its model has to be asked for.
        """


@frozen
class PreparedTurn:
    """All that is known of a turn before anything is sent or written."""

    resolved: ResolvedPersona
    prompt: Prompt
    upstream: str
    model: str
    """Empty where neither session nor persona names one: then the upstream's default answers."""
    parameters: Mapping[str, Any]

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.prompt.messages


@frozen
class TurnRequest:
    """One input to a session.

    ``position`` 0 adds a turn; the position of the last turn tries again there, with the same or an edited input.
    ``parameters`` win over those of the session, which win over those of the persona.
    """

    session_id: str
    input: str
    position: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    is_streamed: bool = True


@frozen
class TurnStarted:
    """The turn stands in the log as pending."""

    turn: Turn


@frozen
class TurnEnded:
    """The turn stands in the log with its end, whatever that is."""

    turn: Turn


TurnEvent = TurnStarted | Delta | Received | Waiting | TurnEnded


class TurnRecorder(Protocol):
    """Where a turn is recorded, for whoever has more to record with it."""

    def start_turn(self, turn: Turn, revision: Revision) -> Turn:
        """As SessionLog.start_turn."""

    def finish_turn(self, turn: Turn) -> None:
        """As SessionLog.finish_turn."""


@frozen
class Program:
    """Gets an answer as it came: Received instead of deltas.

    ``suspend`` is asked before more of it is waited for. Then there is a Waiting before the end is recorded, too, which
    may take a moment.
    """

    suspend: Suspend | None = None


#: Who gets an answer: ``nobody`` waits for its end in any case, and does not look before.
Reader = Literal["person", "nobody"] | Program
#: Told of every turn of a talk that has ended, before its reader is; should not raise.
EndListener = Callable[[Turn, Session, ResolvedPersona], None]


class ChatService:
    """Sessions and turns over a library, a log and upstreams. Safe for threads."""

    def __init__(
        self,
        *,
        library: Library,
        log: SessionLog,
        renderer: PromptRenderer,
        upstreams: Upstreams,
        count_tokens: TokenCounter,
        prices: Billing,
        on_end: EndListener,
    ) -> None:
        self._library = library
        self._log = log
        self._renderer = renderer
        self._upstreams = upstreams
        self._count_tokens = count_tokens
        self._prices = prices
        self._on_end = on_end
        self._lock = threading.Lock()
        self._live: dict[str, _Call] = {}
        self._listeners: list[Callable[[Turn], None]] = []
        self.has_company = False
        """Whether other processes add turns to the same sessions: then only the log knows of all that run."""

    def listen(self, listener: Callable[[Turn], None]) -> None:
        """Tell it of every turn that ends from now on, those of comparisons and judges too; it should not raise."""
        self._listeners.append(listener)

    @property
    def live_turns(self) -> int:
        """How many turns are being answered at the moment."""
        return len(self._live)

    def start_session(
        self,
        session: Session,
        *,
        system: str = "",
        resolved: ResolvedPersona | None = None,
        is_trial: bool = False,
    ) -> Session:
        """Begin a session: check what was chosen and record it.

        Arguments:
            session: with a new id, the persona's id and whatever was chosen; its revision is filled in here. Behind the
                id may stand a label or revision, ``teacher@production``: the session stays with what that means now.
            system: the system text of a role without a file; then the persona's id is empty.
            resolved: the persona, where the library has another one, such as while it is being edited. The session
                stays with it.
            is_trial: whether a draft is tried out here, or something beside it.

        Raises NotFoundError, FileError, VariableError.
        """
        persona_id, pin = split_reference(session.persona_id)
        require_persona(persona_id, pin)
        if resolved is not None:
            pin = resolved.revision.id
        elif session.persona_id:
            resolved = self._library.get_persona(session.persona_id)
        elif system.strip():
            resolved = self._library.get_described(system)
        else:
            raise InputError("Please say what the role should be.")
        values = resolved.persona.parse_variables(session.variables)
        self._upstreams.get(session.upstream or resolved.persona.upstream)
        revision = resolved.revision
        begun = replace(
            session,
            persona_id=persona_id,
            pin=pin,
            is_trial=is_trial,
            revision=revision.id,
            variables=values,
        )
        self._log.create_session(begun, revision)
        return begun

    def persona_of(self, session: Session) -> ResolvedPersona:
        """The session's persona as it is now; as it was, where it has no file (any more) or is to stay as it was."""
        if session.persona_id and not session.pin:
            with contextlib.suppress(NotFoundError):
                return self._library.get_persona(session.persona_id)
        revision = self._log.get_revision(session.revision)
        return persona_of_revision(revision, session.persona_id)

    def greeting_of(self, session: Session, resolved: ResolvedPersona) -> str:
        """What the persona says first in this session; empty if it waits. Raises PromptError, VariableError."""
        return self._renderer.greet(resolved, _values_of(session, resolved.persona))

    def prepare(
        self,
        session: Session,
        resolved: ResolvedPersona,
        input_text: str,
        history: Sequence[Turn] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> PreparedTurn:
        """What would be sent for an input. Calls nobody and writes nothing.

        Raises VariableError, PromptError.
        """
        merged = {**resolved.persona.parameters, **session.parameters, **(parameters or {})}
        earlier = [history_messages([(turn.input, turn.text)]) for turn in history]
        prompt = self.render_within_context(session, resolved, input_text, earlier)
        return prepared_turn(session, resolved, prompt, merged)

    def render_within_context(
        self,
        session: Session,
        resolved: ResolvedPersona,
        input_text: str,
        history: Sequence[tuple[Message, ...]],
    ) -> Prompt:
        """Render with as many of the newest turns as the persona's context policy lets through.

        Arguments:
            history: the messages of each earlier turn, the oldest first.

        Raises VariableError, PromptError.
        """
        policy = resolved.persona.context
        values = _values_of(session, resolved.persona)
        model = session.model or resolved.persona.model
        kept = len(history) if policy.turns is None else min(policy.turns, len(history))
        while True:
            dropped = len(history) - kept
            # What instructs belongs to no turn, and goes with none.
            lasting = [m for turn in history[:dropped] for m in turn if m.role in INSTRUCTING]
            messages = [*lasting, *chain.from_iterable(history[dropped:])]
            prompt = self._renderer.render(resolved, values, messages, input_text)
            excess = 0
            # Counting loads a vocabulary, so it is left out where there is nothing to drop.
            if policy.tokens is not None and kept:
                excess = self._count_tokens(prompt.messages, model) - policy.tokens
            if excess <= 0 or not kept:
                return replace(prompt, dropped_turns=dropped)
            kept -= self._turns_worth(excess, history[dropped:], model)

    def _turns_worth(self, excess: int, turns: Sequence[tuple[Message, ...]], model: str) -> int:
        """How many of the oldest turns make up ``excess`` tokens; at least one."""
        dropped = 0
        while excess > 0 and dropped < len(turns):
            excess -= self._count_tokens(turns[dropped], model)
            dropped += 1
        return dropped

    def stream_turn(self, request: TurnRequest) -> Iterator[TurnEvent]:
        """Run one turn: yields TurnStarted, deltas as they come, and TurnEnded.

        What the upstream does wrong is in the ended turn's status and error. Closing the iterator stops the call and
        records the turn as cancelled with what had arrived. Raises, before anything is written or sent,
        NotFoundError, FileError, VariableError, PromptError, ConflictError, StorageError.
        """
        session = self.session_to_go_on_with(request.session_id)
        if request.model:
            session = replace(session, model=request.model)
        self._check_position(request)
        history = self._log.history(session.id, before=request.position or None)
        seen = request.position or last_position(history)
        resolved = self.persona_of(session)
        prepared = self.prepare(session, resolved, request.input, history, request.parameters)
        return self.stream_prepared(
            session,
            prepared,
            request.input,
            position=request.position,
            is_streamed=request.is_streamed,
            recorder=_TalkRecorder(self._log, seen, partial(self._finish, session, resolved)),
        )

    def session_to_go_on_with(self, session_id: str) -> Session:
        """A session that another turn may be added to; waits a moment for one that is just ending.

        Raises NotFoundError, ConflictError.
        """
        session = self._log.get_session(session_id)
        if session.deleted_at:
            raise ConflictError("This session is in the trash. Restore it to go on with it.")
        if not session.is_talk:
            raise ConflictError(
                "This session belongs to a comparison and stays as it is. Fork it to go on with it."
            )
        self._wait_for_end(session.id)
        return session

    def stream_prepared(
        self,
        session: Session,
        prepared: PreparedTurn,
        input_text: str,
        *,
        position: int = 0,
        is_streamed: bool = True,
        reader: Reader = "person",
        recorder: TurnRecorder | None = None,
    ) -> Iterator[TurnEvent]:
        """Run one turn that is prepared; yields and raises as ``stream_turn``.

        Arguments:
            reader: who gets the answer. A person may leave in the middle, so there is Waiting.
            recorder: records the turn; by default the log, and then whoever waits for ended turns is told.

        It also raises NotFoundError where the key that calls does not open the persona, BudgetError where the one that
        pays has used up its budget, and RightError where that is in dollars and the model has no price.
        """
        require_persona(session.persona_id, session.pin)
        upstream = self._upstreams.get(prepared.upstream)
        pending = self.pending_turn(
            session,
            prepared,
            input_text,
            position=position,
            is_streamed=is_streamed,
            via="gateway" if isinstance(reader, Program) else "",
        )
        begin = recorder.start_turn if recorder else self._log.start_turn
        reserve = self._prices.reserve(pending)
        if reserve is not None:
            pending = replace(pending, reserve=reserve)
        turn = begin(pending, prepared.resolved.revision)
        end = (
            recorder.finish_turn if recorder else partial(self._finish, session, prepared.resolved)
        )
        call = _Call(turn, self._prices, reader)
        return self._run(call, upstream, end)

    def require_budget(self) -> None:
        """For what begins a turn in another thread. Raises BudgetError if whoever calls may begin none now."""
        self._prices.require_budget()

    def upstream_name(self, name: str) -> str:
        """An upstream by its own name; an empty one is the default. Raises NotFoundError, UpstreamKeyError."""
        return self._upstreams.get(name).name

    def known_model(self, upstream: str) -> str:
        """The model that an upstream answers with unless told otherwise; empty where only the server knows."""
        return self._upstreams.known_model(upstream)

    def default_model(self, upstream: str) -> str:
        """The model that an upstream answers with unless told otherwise; it may be asked.

        Raises NotFoundError, UpstreamError.
        """
        return self._upstreams.get(upstream).default_model

    def model_of(self, prepared: PreparedTurn) -> str:
        """The model that will be asked; may ask the upstream for its default. Raises NotFoundError, UpstreamError."""
        return prepared.model or self.default_model(prepared.upstream)

    def pending_turn(
        self,
        session: Session,
        prepared: PreparedTurn,
        input_text: str,
        *,
        position: int = 0,
        is_streamed: bool = True,
        via: str = "",
    ) -> Turn:
        """A turn as it is recorded before its call. Raises NotFoundError for an unknown upstream."""
        return Turn(
            id=new_id(),
            session_id=session.id,
            revision=prepared.resolved.revision.id,
            input=input_text,
            position=position,
            upstream=self._upstreams.get(prepared.upstream).name,
            endpoint=prepared.resolved.persona.endpoint,
            is_streamed=is_streamed,
            model_requested=prepared.model or self.known_model(prepared.upstream),
            messages=prepared.messages,
            parameters_requested=prepared.parameters,
            dropped_turns=prepared.prompt.dropped_turns,
            via=via,
        )

    def _wait_for_end(self, session_id: str) -> None:
        """One turn at a time: the next one builds on how this one ends. A stopped one takes a moment to do so."""
        with self._lock:
            running = [call for call in self._live.values() if call.session_id == session_id]
        deadline = time.monotonic() + _END_S
        for call in running:
            with blocking():
                has_ended = call.has_ended.wait(max(0.0, deadline - time.monotonic()))
            if not has_ended:
                raise being_answered()
        # Those of this process have ended, so what is pending is answered by another one.
        while self.has_company and self._has_pending(session_id):
            if time.monotonic() > deadline:
                raise being_answered()
            with blocking():
                time.sleep(_LOOK_S)

    def _has_pending(self, session_id: str) -> bool:
        try:
            last = self._log.last_turn(session_id)
        except NotFoundError:
            return False
        return last.status is TurnStatus.PENDING and last.session_id == session_id

    def _check_position(self, request: TurnRequest) -> None:
        """Trying again has to happen at the end: what came later answered what would be replaced."""
        if (
            request.position
            and request.position != self._log.last_turn(request.session_id).position
        ):
            raise ConflictError(
                "Only the last turn can be tried again. To go back further, fork the session there."
            )

    def _finish(self, session: Session, resolved: ResolvedPersona, turn: Turn) -> None:
        self._log.finish_turn(turn)
        tell(self._on_end, turn, session, resolved)

    def _run(
        self,
        call: _Call,
        upstream: Upstream,
        finish: Callable[[Turn], None],
    ) -> Iterator[TurnEvent]:
        """Call, pass on, and record the end, whichever way it comes."""
        turn = call.turn
        with self._lock:
            self._live[turn.id] = call
        try:
            yield TurnStarted(turn)
            yield from call.stream(upstream)
            if call.suspend is not None:
                yield Waiting()
        finally:
            # Also reached when the reader has left: the log learns of it, nobody else can.
            try:
                self._record_end(call, finish)
            finally:
                with self._lock:
                    del self._live[turn.id]
                call.has_ended.set()
                for listener in self._listeners:
                    tell(listener, call.end)
        yield TurnEnded(call.end)

    def _record_end(self, call: _Call, finish: Callable[[Turn], None]) -> None:
        """Record the end of a turn. What fails here over its answer leaves no turn that is pending for ever."""
        try:
            finish(call.ended())
        except (StorageError, NotFoundError):
            # The log itself cannot be written, or the turn is no longer in it.
            raise
        except Exception:
            self._record_fault(call)
            raise

    def _record_fault(self, call: _Call) -> None:
        """Record that a turn was ended by a fault of ours, with as much of its answer as can be."""
        with contextlib.suppress(StorageError, NotFoundError):
            if self._log.get_turn(call.turn.id).status is not TurnStatus.PENDING:
                return
            try:
                self._log.finish_turn(call.ended_by_fault())
            except Exception:
                call.forget_reply()
                self._log.finish_turn(call.ended_by_fault())

    def cancel(self, turn_id: str) -> bool:
        """Stop a turn that runs in this process, from any thread. False if it does not run (any more)."""
        with self._lock:
            call = self._live.get(turn_id)
        if call is None:
            return False
        call.cancellation.cancel()
        return True

    def cancel_all(self) -> None:
        """Stop every running turn, because the process ends; they are recorded as interrupted."""
        with self._lock:
            running = list(self._live.values())
        for call in running:
            if not call.cancellation.is_cancelled:
                call.is_cut_off = True
                call.cancellation.cancel()


@frozen
class _TalkRecorder:
    """Records a turn that builds on what was seen of its session."""

    log: SessionLog
    seen: int
    finish: Callable[[Turn], None]

    def start_turn(self, turn: Turn, revision: Revision) -> Turn:
        return self.log.start_turn(turn, revision, seen=self.seen)

    def finish_turn(self, turn: Turn) -> None:
        self.finish(turn)


def tell(listener: Callable[..., None], *ended: Any) -> None:
    """Tell a listener of what is logged already: that it fails is no reason to call the answer failed."""
    try:
        listener(*ended)
    except Exception:
        _logger.exception("a turn ended well, but not all that is told of it could be told")


def last_position(history: Sequence[Turn]) -> int:
    """Up to where somebody has seen a session whose history this is."""
    return history[-1].position if history else 0


def prepared_turn(
    session: Session, resolved: ResolvedPersona, prompt: Prompt, parameters: Mapping[str, Any]
) -> PreparedTurn:
    """A turn of a session with its prompt. Parameters that are ``None`` are left out."""
    return PreparedTurn(
        resolved=resolved,
        prompt=prompt,
        upstream=session.upstream or resolved.persona.upstream,
        model=session.model or resolved.persona.model,
        parameters={name: value for name, value in parameters.items() if value is not None},
    )


def _values_of(session: Session, persona: Persona) -> Mapping[str, VariableValue]:
    """The variables of a session. Once it has begun, what its persona no longer has is left out."""
    if not session.revision:
        return persona.parse_variables(session.variables)
    given = {name: value for name, value in session.variables.items() if name in persona.variables}
    try:
        return persona.parse_variables(given)
    except VariableError as error:
        raise ConflictError(
            "The persona has changed since this session began: %(reason)s"
            " Start a new session with it, or change its file.",
            reason=Phrase(error.message, error.parameters),
        ) from None


class _Call:
    """The state of one call while it runs."""

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

    def stream(self, upstream: Upstream) -> Iterator[Delta | Received | Waiting]:
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
            **self._used(status, has_asked=self._delivery.is_made or bool(arrived)),
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


def described(system: str, templates: Mapping[str, str]) -> ResolvedPersona:
    """The persona of a role without a file. Its words are taken literally."""
    return ResolvedPersona(parse_persona("", describe_persona(system)), templates)
