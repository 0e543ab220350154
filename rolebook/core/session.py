"""A session is ordered turns with one persona; a turn is one input and the completion it got."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

from rolebook.core.budget import Reserve
from rolebook.core.check import CheckResult
from rolebook.core.completion import Choice, Endpoint, Usage
from rolebook.core.errors import (
    ConflictError,
    Phrase,
    RolebookError,
    detail_of,
    phrase_with_detail,
    with_detail,
)
from rolebook.core.frozen import frozen
from rolebook.core.message import Message

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
#: Every two characters of an id, by the ten bits that they stand for.
_ID_PAIRS = [first + second for first in _ID_ALPHABET for second in _ID_ALPHABET]


def new_id() -> str:
    """A fresh id of 18 characters that sorts by the time it was made (Crockford's base 32).

    48 bits of milliseconds since 1970, as in a ULID, and 40 random bits. It names, and opens nothing: to ask the system
    for bits that nobody can foresee would let another thread go first each time.
    """
    value = (time.time_ns() // 1_000_000) << 40 | random.getrandbits(40)
    return "".join([_ID_PAIRS[value >> shift & 1023] for shift in range(80, -1, -10)])


def id_for(begun: str, content: str) -> str:
    """An id as :func:`new_id` makes one, but always the same for one content.

    Arguments:
        begun: the id that was made when somebody began to write that content; whatever else comes of it has another id.
    """
    digest = hashlib.sha256(f"{begun}\0{content}".encode("utf-8", "surrogatepass")).digest()
    value = int.from_bytes(digest[:5])
    tail = "".join([_ID_PAIRS[value >> shift & 1023] for shift in range(30, -1, -10)])
    return begun[: -len(tail)] + tail


def id_of(content: str) -> str:
    """An id of the same form that is always the same for one content, whenever that is; so it tells no time."""
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
    value = int.from_bytes(digest[:12])
    return "".join([_ID_PAIRS[value >> shift & 1023] for shift in range(80, -1, -10)])


def time_of_id(id: str) -> str:
    """When an id was made, as :func:`now` gives it."""
    value = 0
    for character in id:
        value = value << 5 | _ID_ALPHABET.index(character)
    return written_time(datetime.fromtimestamp((value >> 40) / 1000, UTC))


def now() -> str:
    """The time in UTC as ISO 8601 with milliseconds, ``2026-11-20T21:09:03.120Z``."""
    return written_time(datetime.now(UTC))


def written_time(time: datetime) -> str:
    """A time in UTC as ``now`` gives it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TurnStatus(StrEnum):
    PENDING = "pending"
    """Sent, or about to be; no end is known yet."""
    COMPLETE = "complete"
    FAILED = "failed"
    """No answer came."""
    CANCELLED = "cancelled"
    """Somebody stopped it or left; what had arrived is kept."""
    INTERRUPTED = "interrupted"
    """It broke after something had arrived, or Rolebook itself ended meanwhile."""


@frozen
class Revision:
    """The resolved persona that a turn used. ``id`` is its content hash.

    ``resolved`` is the persona's data with its bases merged in; ``templates`` the prompt templates it renders with,
    by name. ``source`` is the text of the file that made it, as far as there is one; ``is_draft`` says that this text
    was tried out before it was saved.
    """

    id: str
    persona_id: str
    resolved: Mapping[str, Any]
    templates: Mapping[str, str]
    source: str = field(default="", compare=False)
    is_draft: bool = field(default=False, compare=False)


@frozen
class Session:
    """What was chosen when a session began, and what people have noted on it since.

    ``persona_id`` is empty for a role that was described and has no file; then ``revision`` is its only home.
    ``parameters`` are the sampling parameters and request fields chosen over the persona's own. ``forked_from`` is the
    turn after which this session goes its own way: the turns up to it are its history too. ``comparison_id`` names the
    comparison that this session belongs to, ``judges`` the turn that is judged in it. ``pin`` is the label or revision
    by which it was begun: then it stays with its revision; empty, it goes along with the persona's file. ``is_trial``
    says that it was begun to try out a draft, or what stood beside one.
    """

    id: str
    persona_id: str
    revision: str
    title: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    upstream: str = ""
    model: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    forked_from: str = ""
    comparison_id: str = ""
    judges: str = ""
    pin: str = ""
    is_trial: bool = False
    is_starred: bool = False
    tags: tuple[str, ...] = ()
    created_at: str = field(default_factory=now)
    deleted_at: str = ""

    @property
    def is_talk(self) -> bool:
        """Whether somebody talks here: a session of a comparison or of a judge stays as it is."""
        return not (self.comparison_id or self.judges)


@frozen
class TurnError:
    """Why a turn did not complete: an error of :mod:`rolebook.core.errors`, kept so that it can be translated later."""

    code: str
    message: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: RolebookError) -> TurnError:
        """An error as it is kept."""
        return cls(error.code, error.message, error.parameters)

    @property
    def text(self) -> str:
        """The message in English, with the upstream's own words behind it."""
        return with_detail(self.message % self.parameters, detail_of(self.parameters))

    @property
    def said(self) -> Phrase:
        """The same to be translated, wherever it stands."""
        return phrase_with_detail(Phrase(self.message, self.parameters), detail_of(self.parameters))


@frozen
class Turn:
    """One input and what became of it, with everything needed to say how.

    Turns of a session are counted by ``position`` from 1; trying again or editing an input makes another
    ``attempt`` at the same position, and the one that ``is_current`` counts as history. Times are in
    milliseconds, ``cost`` is in US dollars, ``None`` is unknown. Parameters are the request fields
    besides model, messages and stream; ``adaptations`` say, a sentence each, what did not go as asked for.
    ``upstream_requested`` is the upstream that was asked for where another, ``upstream``, has answered for it.
    ``via`` is ``gateway`` where a program asked by the API, and empty where somebody did on a page or the command line.
    """

    id: str
    session_id: str
    revision: str
    input: str
    position: int = 0
    attempt: int = 1
    is_current: bool = True
    status: TurnStatus = TurnStatus.PENDING
    upstream: str = ""
    upstream_requested: str = ""
    endpoint: Endpoint = "chat"
    is_streamed: bool = True
    model_requested: str = ""
    model: str = ""
    messages: tuple[Message, ...] = ()
    parameters_requested: Mapping[str, Any] = field(default_factory=dict)
    parameters_sent: Mapping[str, Any] = field(default_factory=dict)
    adaptations: tuple[Phrase, ...] = ()
    dropped_turns: int = 0
    choices: tuple[Choice, ...] = ()
    chosen: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    time_to_first_token_ms: float | None = None
    duration_ms: float | None = None
    error: TurnError | None = None
    reply: Mapping[str, Any] = field(default_factory=dict)
    via: str = ""
    created_at: str = field(default_factory=now)
    #: Known while it runs; who reads it later needs it no more.
    reserve: Reserve | None = field(default=None, compare=False, repr=False)

    def failed_with(self, error: RolebookError) -> Turn:
        """The same turn where it could not even be sent."""
        return replace(self, status=TurnStatus.FAILED, error=TurnError.of(error))

    @property
    def choice(self) -> Choice:
        """The answer that counts; an empty one while there is none."""
        return self.choices[self.chosen] if self.choices else Choice()

    @property
    def text(self) -> str:
        """The text of the answer that counts."""
        return self.choice.text


@frozen
class TranscriptEnd:
    """A turn in the log that ended as a transcript does: with answer number ``choice`` of it.

    ``last_position`` is that of the last turn in its session, ``last_input`` what was said there.
    """

    session_id: str
    turn_id: str
    position: int
    is_current: bool
    choice: int
    chosen: int
    last_position: int
    last_input: str

    @property
    def is_last(self) -> bool:
        """Whether nothing was said after it."""
        return self.is_current and self.last_position == self.position

    def is_before(self, said: str) -> bool:
        """Whether nothing but this was said after it."""
        is_next = self.is_current and self.last_position == self.position + 1
        return is_next and self.last_input == said


@frozen
class TurnMark:
    """What somebody has noted on a turn: a star, a thumb (1 up, -1 down, 0 none) and some words."""

    turn_id: str
    is_starred: bool = False
    thumb: Literal[-1, 0, 1] = 0
    note: str = ""
    updated_at: str = field(default_factory=now)

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.is_starred or self.thumb or self.note)


def being_answered() -> ConflictError:
    """The error for a session in which a turn is pending: the next one builds on how that ends."""
    return ConflictError(
        "An answer is still on its way in this session. Wait for its end, or stop it first."
    )


def gone_on() -> ConflictError:
    """The error for a turn that would not know what was said in its session a moment ago."""
    return ConflictError(
        "Somebody else has gone on with this session at the same moment. Read what was said, then send this again."
    )


class SessionLog(Protocol):
    """What the chat needs of a log. Every method may raise StorageError."""

    def create_session(self, session: Session, revision: Revision) -> None:
        """Record a new session together with the revision it starts with."""

    def get_session(self, session_id: str) -> Session:
        """Raises NotFoundError."""

    def get_turn(self, turn_id: str) -> Turn:
        """Raises NotFoundError."""

    def get_revision(self, revision_id: str) -> Revision:
        """Raises NotFoundError."""

    def last_turn(self, session_id: str) -> Turn:
        """The current turn at the last position, whatever became of it. Raises NotFoundError if there is none."""

    def session_turns(self, session_id: str) -> Sequence[Turn]:
        """All attempts by position, and the turns that a fork inherits. Raises NotFoundError."""

    def history(self, session_id: str, *, before: int | None = None) -> Sequence[Turn]:
        """The turns of a session that count, in order, a fork's inherited ones first.

        At each position that is the current attempt; where that got no text, the last one that did. Only those at
        positions lower than ``before``, if it is given.
        """

    def latest_turns(self, session_id: str) -> Sequence[Turn]:
        """What stands at each position: the turn of its history, else the last attempt there. Raises NotFoundError."""

    def start_turn(
        self,
        turn: Turn,
        revision: Revision,
        session: Session | None = None,
        *,
        seen: int | None = None,
    ) -> Turn:
        """Record a turn as pending, before the call; together with its session, if that is given as a new one.

        A turn at position 0 goes to the end of its session; one at a position that is taken becomes the next
        attempt there and the current one. Returns the turn as recorded.

        Arguments:
            seen: the position up to which it builds on what was said. If another turn of the session is pending, or
                something was said behind that position, nothing is recorded. None: that does not matter.

        Raises ConflictError.
        """

    def finish_turn(
        self, turn: Turn, results: Sequence[CheckResult] = (), digests: Sequence[str] = ()
    ) -> None:
        """Record how it ended, before the end is announced, together with what checks found on it.

        Of a judge's turn, ``results`` are what it says of the turn that is judged in its session.
        ``digests`` are those of the transcript that each of its answers ends.
        """

    def transcript_ends(self, digest: str) -> Sequence[TranscriptEnd]:
        """The turns that ended as a transcript does, outside the trash, the newest first; a few at most."""

    def choose_alternative(self, turn_id: str, index: int) -> Turn:
        """Make ``choices[index]`` the answer that counts. Raises NotFoundError, InputError."""
