"""Turns that programs ask for: from a transcript to a logged answer, through the same chat as every other turn."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from rolebook.core.access import Caller, caller
from rolebook.core.call import Program
from rolebook.core.chat import (
    ChatService,
    EndListener,
    PreparedTurn,
    TurnEvent,
    last_position,
    parameters_over,
    prepared_turn,
    require_affordable,
    tell,
)
from rolebook.core.completion import Suspend
from rolebook.core.errors import ConflictError, InputError, StorageError
from rolebook.core.fixed import filled_up
from rolebook.core.frozen import frozen
from rolebook.core.message import Message
from rolebook.core.naming import require_spelling
from rolebook.core.persona import Persona, ResolvedPersona, Sampling
from rolebook.core.prompt import history_messages
from rolebook.core.session import (
    Revision,
    Session,
    SessionLog,
    TranscriptEnd,
    Turn,
    TurnStatus,
)
from rolebook.core.transcript import INSTRUCTING, Transcript, place_of_input


@frozen
class TranscriptRequest:
    """A turn that a program asks for, with all that was said before.

    Arguments:
        session: a session as it would begin, with a new id.
        resolved: the persona that answers, in a session that begins.
        session_id: the session to go on with, whose persona answers; empty: the one whose transcript it is, else a new
            one.
        parameters: request fields for what neither the session nor the persona says.
    """

    session: Session
    resolved: ResolvedPersona
    transcript: Transcript
    session_id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_streamed: bool = True
    caller: Caller = field(default_factory=caller)

    @property
    def scope(self) -> str:
        """What must be the same for a transcript to belong to a session, among it who asks."""
        session, user = self.session, self.caller.user
        asking = [user.number if user else None, self.caller.key_number]
        persona = [session.persona_id, session.pin]
        chosen = [persona, session.variables, session.model, session.upstream]
        return json.dumps([asking, chosen], sort_keys=True)


@frozen
class _Place:
    """Where in the log a turn goes.

    ``seen`` is the position up to which it builds on its session, if it must be so; ``fork`` the session in which it
    begins instead where that one has gone on meanwhile.
    """

    session: Session
    position: int = 0
    is_new: bool = False
    seen: int | None = None
    fork: Session | None = None


class GatewayService:
    """Answers transcripts. Safe for threads.

    Arguments:
        on_end: told of every turn that has ended, as by the chat.
    """

    def __init__(self, *, chat: ChatService, log: SessionLog, on_end: EndListener) -> None:
        self._chat = chat
        self._log = log
        self._on_end = on_end

    def stream(
        self, request: TranscriptRequest, *, suspend: Suspend | None = None
    ) -> Iterator[TurnEvent]:
        """Run the turn that a transcript asks for; yields Received instead of deltas.

        Arguments:
            suspend: as for a ``Program``; without it there is no Waiting.

        It goes to the session that the transcript is of, or to a new one. Closing the iterator, and ``cancel``, stop
        the call like that of every other turn. Raises as those before anything is written or sent, and InputError.
        """
        if request.session_id:
            request, place, history = self._named_place_of(request)
        else:
            (request, place), history = self._place_of(request), ()
        transcript = request.transcript
        prepared = self.prepare(
            place.session, request.resolved, transcript, history, request.parameters
        )
        return self._chat.stream_prepared(
            place.session,
            prepared,
            transcript.said,
            position=place.position,
            is_streamed=request.is_streamed,
            reader=Program(suspend),
            recorder=_TranscriptRecorder(request, place, self._log, self._on_end),
        )

    def _named_place_of(
        self, request: TranscriptRequest
    ) -> tuple[TranscriptRequest, _Place, Sequence[Turn]]:
        """What is asked of the session that is named, where in it the turn goes, and what of it is no part of the
        transcript.
        """
        session = self._chat.session_to_go_on_with(request.session_id)
        resolved = self._require_same(session, request)
        history = self._log.history(session.id)
        chosen = replace(session, model=request.session.model or session.model)
        place = _Place(chosen, seen=last_position(history))
        before = history if request.transcript.is_first else ()
        return replace(request, resolved=resolved), place, before

    def _require_same(self, session: Session, request: TranscriptRequest) -> ResolvedPersona:
        """The persona of a session. What that began with stays: whoever goes on with it may name it again, but nothing
        else.
        """
        wanted = request.session
        resolved = self._chat.persona_of(session)
        if wanted.persona_id not in (session.persona_id, resolved.persona.id):
            raise InputError(
                "The session %(id)s is one with another persona. Ask that one, or leave the session out.",
                key="session",
                id=session.id,
            )
        is_same = wanted.pin == session.pin or request.resolved.revision.id == resolved.revision.id
        if wanted.pin and not is_same:
            raise InputError(
                "The session %(id)s is one with another revision of the persona."
                " Leave out @ and what stands behind it, or leave the session out.",
                key="model",
                id=session.id,
            )
        if wanted.upstream:
            asked = self._chat.upstream_name(wanted.upstream)
            if asked != self._chat.upstream_name(session.upstream or resolved.persona.upstream):
                raise InputError(
                    "The session %(id)s is one with another upstream. Leave that out, or leave the session out.",
                    key="upstream",
                    id=session.id,
                )
        given = {name: str(value) for name, value in wanted.variables.items()}
        known = {name: str(value) for name, value in session.variables.items()}
        if not given.items() <= known.items():
            raise InputError(
                "The session %(id)s has begun with other variables. Leave them out, or leave the session out.",
                key="variables",
                id=session.id,
            )
        return resolved

    def _place_of(self, request: TranscriptRequest) -> tuple[TranscriptRequest, _Place]:
        """Where the turn goes when no session is named: after the newest one that ended so, in its session, or in a
        fork where that has gone another way.
        """
        transcript = request.transcript
        digest = transcript.digest(request.scope)
        ends = self._log.transcript_ends(digest) if digest else ()
        end = next((end for end in ends if end.is_last or self._is_before(end, transcript)), None)
        before = end or next(iter(ends), None)
        if before and request.session.pin:
            # The label may have moved since then.
            begun_with = self._chat.persona_of(self._log.get_session(before.session_id))
            request = replace(request, resolved=begun_with)
        resolved = request.resolved
        values = resolved.persona.parse_variables(request.session.variables)
        begun = replace(request.session, revision=resolved.revision.id, variables=values)
        fork = replace(begun, forked_from=before.turn_id) if before else begun
        if end is None:
            return request, _Place(fork, is_new=True)
        session = replace(begun, id=end.session_id)
        if end.choice != end.chosen:
            self._choose(end, session, resolved)
        if not end.is_last:
            return request, _Place(session, end.position + 1)
        return request, _Place(session, end.position + 1, seen=end.position, fork=fork)

    def _is_before(self, end: TranscriptEnd, transcript: Transcript) -> bool:
        """Whether nothing but what this transcript ends with was said after it, with the same images."""
        if not end.is_before(transcript.said):
            return False
        asked = self._log.get_turn(self._log.last_turn(end.session_id).id).messages
        newest = next((message for message in reversed(asked) if message.role == "user"), None)
        return newest is None or newest.other_parts == transcript.input.other_parts

    def _choose(self, end: TranscriptEnd, session: Session, resolved: ResolvedPersona) -> None:
        """Of several answers the program goes on with another one than the log does."""
        with contextlib.suppress(StorageError):
            turn = self._log.choose_alternative(end.turn_id, end.choice)
            tell(self._on_end, turn, session, resolved)

    def prepare(
        self,
        session: Session,
        resolved: ResolvedPersona,
        transcript: Transcript,
        history: Sequence[Turn] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> PreparedTurn:
        """What would be sent for a transcript. Calls nobody and writes nothing.

        Arguments:
            history: turns before the transcript.
            parameters: request fields for what neither the session nor the persona says.

        Raises VariableError, PromptError, InputError.
        """
        require_affordable(parameters or {})
        fixed = parameters_over(resolved.persona, session.parameters)
        require_spelling(
            parameters or {}, (*Sampling.model_fields, "max_completion_tokens", *fixed)
        )
        earlier = [history_messages([(turn.input, turn.text)]) for turn in history]
        earlier += self._without_greeting(session, resolved, transcript.earlier)
        prompt = self._chat.render_within_context(
            session, resolved, transcript.input.content, earlier
        )
        messages = _with_fields_of_input(prompt.messages, transcript, resolved.persona)
        prompt = replace(prompt, messages=(*messages, *transcript.later))
        return prepared_turn(session, resolved, prompt, filled_up(fixed, parameters or {}))

    def _without_greeting(
        self,
        session: Session,
        resolved: ResolvedPersona,
        earlier: Sequence[tuple[Message, ...]],
    ) -> Sequence[tuple[Message, ...]]:
        """A program that shows the greeting sends it back; the prompt template has said it already."""
        first = next(
            (said for turn in earlier for said in turn if said.role not in INSTRUCTING), None
        )
        if first is None or first.role != "assistant" or not resolved.persona.greeting:
            return earlier
        if first.content.strip() != self._chat.greeting_of(session, resolved).strip():
            return earlier
        return [tuple(said for said in earlier[0] if said is not first), *earlier[1:]]


def _with_fields_of_input(
    messages: Sequence[Message], transcript: Transcript, persona: Persona
) -> Sequence[Message]:
    """The messages with what the input is beside its text: its images go where the template has put the text."""
    fields = dict(transcript.input.fields)
    if persona.endpoint == "completions" and (fields or transcript.later):
        raise InputError(
            "%(persona)s answers plain prompts, so that only texts can be sent to it.",
            key="messages",
            persona=persona.name,
        )
    if not fields:
        return messages
    at = place_of_input(messages)
    if at is None:
        raise InputError(
            "The prompt template of %(persona)s puts the input into no message of a user,"
            " so that only a text can be sent to it.",
            key="messages",
            persona=persona.name,
        )
    message = messages[at]
    if "content" in fields:
        texts = [part for part in fields["content"] if part.get("type") == "text"]
        # What the last of them says beside its text, such as cache_control, holds for all of it.
        said = {**(texts[-1] if texts else {"type": "text"}), "text": message.content}
        text = [said] if message.content else []
        fields["content"] = [*text, *transcript.input.other_parts]
    return [*messages[:at], replace(message, fields=fields), *messages[at + 1 :]]


@frozen
class _TranscriptRecorder:
    """Records a turn with its session, if that is new, and by what its transcript will be recognised."""

    request: TranscriptRequest
    place: _Place
    log: SessionLog
    on_end: EndListener

    def start_turn(self, turn: Turn, revision: Revision) -> Turn:
        place = self.place
        new = place.session if place.is_new else None
        try:
            return self.log.start_turn(turn, revision, new, seen=place.seen)
        except ConflictError:
            # Of two transcripts that go on differently at the same moment, each gets a session of its own.
            if place.fork is None:
                raise
        turn = replace(turn, session_id=place.fork.id, position=0)
        return self.log.start_turn(turn, revision, place.fork)

    def finish_turn(self, turn: Turn) -> None:
        digests: Sequence[str] = ()
        # One that was named by its id is named again.
        if turn.status is TurnStatus.COMPLETE and not self.request.session_id:
            digests = self.request.transcript.digests_with(self.request.scope, turn.choices)
        self.log.finish_turn(turn, (), digests)
        fork = self.place.fork
        is_forked = fork is not None and turn.session_id == fork.id
        session = fork if is_forked and fork else self.place.session
        tell(self.on_end, turn, session, self.request.resolved)
