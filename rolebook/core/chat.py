"""One turn, from an input to a logged answer. Everything that talks to a model goes through here."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from itertools import chain
from typing import Any, Protocol

from rolebook.core.access import caller, only_talks, opens, opens_only, require_persona
from rolebook.core.blocking import blocking
from rolebook.core.budget import Reserve
from rolebook.core.call import Call, Prices, Program, Reader
from rolebook.core.completion import (
    Delta,
    Received,
    Waiting,
)
from rolebook.core.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    Phrase,
    StorageError,
    VariableError,
)
from rolebook.core.fixed import filled_up, require_no_framing, require_usual_price
from rolebook.core.frozen import frozen
from rolebook.core.message import Message
from rolebook.core.naming import require_short
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
    TurnStatus,
    being_answered,
    new_id,
)
from rolebook.core.transcript import INSTRUCTING, place_of_input, with_instructions
from rolebook.core.upstream import Upstream

_logger = logging.getLogger(__name__)

#: Stands for what was said before, where it is only asked for its place.
_MARK = Message("user", "\0")
#: How long a turn waits for the one before it, which was just stopped or left.
_END_S = 2.0
#: How often the log is asked whether a turn of another process has ended.
_LOOK_S = 0.05


class Library(Protocol):
    """Where personas come from."""

    def get_persona(self, reference: str) -> ResolvedPersona:
        """By an id: as it stands on disk now, or its last good version. By ``ID@LABEL`` or ``ID@REVISION``: as it was.

        Raises NotFoundError, FileError, InputError, StorageError.
        """

    def present_id(self, session: Session) -> str:
        """The id of a session's persona by now: it may have been renamed since. Raises StorageError."""

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
        self._live: dict[str, Call] = {}
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

    @property
    def asked_turns(self) -> int:
        """How many of them have reached an upstream."""
        with self._lock:
            return sum(call.has_asked for call in self._live.values())

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

        Raises NotFoundError, FileError, VariableError, InputError.
        """
        require_short("model", session.model)
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
        """The session's persona as it is now, under whatever name; as it was, where it has no file (any more) or is to
        stay as it was.

        For a key that opens no more of it than a label it is what that points at now, so that a revision can be
        withdrawn: then it raises NotFoundError where the label is gone.
        """
        if session.pin and opens_only(session.persona_id, session.pin):
            return self._library.get_persona(f"{session.persona_id}@{session.pin}")
        if session.persona_id and not session.pin:
            for persona_id in dict.fromkeys((self.present_id(session), session.persona_id)):
                with contextlib.suppress(NotFoundError):
                    return self._library.get_persona(persona_id)
        revision = self._log.get_revision(session.revision)
        return persona_of_revision(revision, session.persona_id)

    def present_id(self, session: Session) -> str:
        """The id of a session's persona by now: it may have been renamed since. Raises StorageError.

        Whose key opens it under its old name only, for them it keeps that.
        """
        present = self._library.present_id(session)
        return present if opens(present) else session.persona_id

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

        Raises VariableError, PromptError, InputError.
        """
        merged = parameters_over(resolved.persona, {**session.parameters, **(parameters or {})})
        # One that is in no log has its messages from a program, if it has any.
        earlier = [
            turn.messages
            if turn.messages and not turn.id
            else history_messages([(turn.input, turn.text)])
            for turn in history
        ]
        prompt = self.render_within_context(session, resolved, input_text, earlier)
        return prepared_turn(session, resolved, prompt, merged)

    def sent_before(self, session: Session, turn: Turn) -> Sequence[Message] | None:
        """What was sent before the input of a turn besides what its persona said itself.

        ``None`` where that cannot be told apart: the input was more than its text, or something was sent behind it.

        Arguments:
            turn: one of the session, with its messages.

        Raises what ``prepare`` raises, and FaultyDataError.
        """
        resolved = persona_of_revision(self._log.get_revision(turn.revision), session.persona_id)
        values = _values_of(session, resolved.persona)
        own = self._renderer.render(resolved, values, [_MARK], turn.input).messages
        at = own.index(_MARK) if _MARK in own else place_of_input(own)
        at = len(own) if at is None else at
        before, behind = own[:at], own[at + (_MARK in own) :]
        end = len(turn.messages) - len(behind)
        if end < at or turn.messages[:at] != before or turn.messages[end:] != behind:
            return None
        return turn.messages[at:end]

    def is_sent_after(self, session: Session, turn: Turn, history: Sequence[Turn]) -> bool:
        """Whether a turn was sent after these turns, and with nothing else besides what its persona said itself.

        Arguments:
            turn: one of the session, with its messages.

        Raises what ``prepare`` raises, and FaultyDataError.
        """
        resolved = persona_of_revision(self._log.get_revision(turn.revision), session.persona_id)
        return self.prepare(session, resolved, turn.input, history).messages == turn.messages

    def render_within_context(
        self,
        session: Session,
        resolved: ResolvedPersona,
        input_text: str,
        history: Sequence[tuple[Message, ...]],
    ) -> Prompt:
        """Render with as many of the newest turns as the persona's context policy lets through.

        What a program tells the persona in them is never left out, nor by a template that has no history.

        Arguments:
            history: the messages of each earlier turn, the oldest first.

        Raises VariableError, PromptError, InputError.
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
                break
            kept -= self._turns_worth(excess, history[dropped:], model)
        if not prompt.has_history:
            told = with_instructions(prompt.messages, history, resolved.persona)
            prompt = replace(prompt, messages=tuple(told))
        return replace(prompt, dropped_turns=dropped)

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
        call = Call(turn, self._prices, reader)
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
        call: Call,
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

    def _record_end(self, call: Call, finish: Callable[[Turn], None]) -> None:
        """Record the end of a turn. What fails here over its answer leaves no turn that is pending for ever."""
        try:
            finish(call.ended())
        except (StorageError, NotFoundError):
            # The log itself cannot be written, or the turn is no longer in it.
            raise
        except Exception:
            self._record_fault(call)
            raise

    def _record_fault(self, call: Call) -> None:
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


def parameters_over(persona: Persona, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a persona says of parameters, and over it what was chosen for a session or a turn.

    A program whose key is for talking only chooses nothing that the persona has fixed, by whichever way it asks. Raises
    InputError, and what ``require_affordable`` raises.
    """
    if not only_talks():
        return {**persona.parameters, **chosen}
    require_no_framing(chosen)
    require_affordable(chosen)
    return filled_up(persona.parameters, chosen)


def require_affordable(chosen: Mapping[str, Any]) -> None:
    """Raises RightError where a program with a budget in dollars chooses what changes the price."""
    key = caller().key
    if key is not None and key.limits.has_cost:
        require_usual_price(chosen)


def prepared_turn(
    session: Session, resolved: ResolvedPersona, prompt: Prompt, parameters: Mapping[str, Any]
) -> PreparedTurn:
    """A turn of a session with its prompt. Parameters that are ``None`` are left out.

    Raises InputError for a model with too long a name.
    """
    model = session.model or resolved.persona.model
    require_short("model", model)
    return PreparedTurn(
        resolved=resolved,
        prompt=prompt,
        upstream=session.upstream or resolved.persona.upstream,
        model=model,
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


def described(system: str, templates: Mapping[str, str]) -> ResolvedPersona:
    """The persona of a role without a file. Its words are taken literally."""
    return ResolvedPersona(parse_persona("", describe_persona(system)), templates)
