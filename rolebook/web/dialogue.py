"""A session as its page shows it: positions, the answers side by side at each, and what is to be said about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count, groupby
from typing import Any

from flask import render_template

from rolebook.core.comparison import CellKey
from rolebook.core.completion import Choice
from rolebook.core.errors import (
    ConflictError,
    FileError,
    InputError,
    NotFoundError,
    RolebookError,
    StorageError,
    UpstreamError,
)
from rolebook.core.fault import FaultyDataError
from rolebook.core.frozen import frozen
from rolebook.core.naming import is_persona_id
from rolebook.core.persona import Persona, ResolvedPersona, parse_persona, persona_of_revision
from rolebook.core.session import Session, Turn, TurnError, TurnMark, TurnStatus
from rolebook.web.current import gettext as _
from rolebook.web.current import rolebook
from rolebook.web.errors import status_of
from rolebook.web.findings import Findings, findings_of
from rolebook.web.form import VariableField

_LONGEST_TITLE = 70
#: Words of a description that say nothing of the role.
_FILLERS = {"you", "are", "a", "an", "the", "who", "i", "am", "is", "as", "my", "of", "and", "to"}


@frozen
class Answer:
    """One of the answers at a position: choice ``index`` of a turn. ``number`` counts them from 1."""

    turn: Turn
    index: int
    number: int
    is_counting: bool
    is_inherited: bool

    @property
    def choice(self) -> Choice:
        """What was said; empty if nothing came."""
        return self.turn.choices[self.index] if self.turn.choices else Choice()

    @property
    def leads(self) -> bool:
        """Whether it is the first of its turn, and so tells what is true of the whole turn."""
        return self.index == 0


@frozen
class Position:
    """All answers to what was said at one place of a session.

    ``is_last``: it can be tried again. ``since`` says who answers from here on, if that is not who did before.
    """

    number: int
    turns: tuple[Turn, ...]
    answers: tuple[Answer, ...]
    is_last: bool
    since: str
    speaker: str
    """What the persona was called then."""

    @property
    def counting(self) -> Turn:
        """The turn that counts as history."""
        return next((answer.turn for answer in self.answers if answer.is_counting), self.turns[-1])

    @property
    def has_one_input(self) -> bool:
        """Whether every attempt answers the same words."""
        return len({turn.input for turn in self.turns}) == 1


@frozen
class Totals:
    """What a session took in all; ``None`` is unknown."""

    tokens: int | None
    cost: float | None
    is_cost_partial: bool


@frozen
class Place:
    """Where in a grid a session is to be seen; ``key`` is ``None`` where another stands in its place now.

    ``source_id`` is the session that its inputs are from; empty if they are from none that is still there.
    """

    comparison_id: str
    key: CellKey | None
    source_id: str


@frozen
class Dialogue:
    """A session with all that was said in it.

    ``marks`` and ``findings`` are what people and checks have noted on its turns, by the turns' ids. ``problem`` says
    why the persona's file cannot be used now; then the persona is the one that the session began with. ``place`` is
    that of the cell that was filled here, if one was.
    """

    session: Session
    resolved: ResolvedPersona
    positions: tuple[Position, ...]
    greeting: str
    problem: RolebookError | None
    marks: Mapping[str, TurnMark]
    findings: Mapping[str, Findings]
    place: Place | None

    def mark_of(self, turn: Turn) -> TurnMark:
        """What is noted on a turn; an empty mark if nothing is."""
        return self.marks.get(turn.id) or TurnMark(turn.id)

    def findings_of(self, turn: Turn) -> Findings:
        """What checks have found on a turn."""
        return self.findings.get(turn.id) or Findings()

    @property
    def persona(self) -> Persona:
        return self.resolved.persona

    @property
    def speaker(self) -> str:
        """What the persona is called in the dialogue; a role without a file has no name of its own."""
        return self.persona.name if self.session.persona_id else _("Your role")

    @property
    def variables(self) -> Sequence[tuple[str, str]]:
        """What was filled in, each with the words of its form; what was left empty is left out."""
        known = self.persona.variables
        return [
            (VariableField(name, known[name], "").label if name in known else name, str(value))
            for name, value in self.session.variables.items()
            if value not in ("", None)
        ]

    @property
    def source_id(self) -> str:
        """The session that this one was forked from; empty if it is none, or that one is gone."""
        turns = [turn for position in self.positions for turn in position.turns]
        others = (t.session_id for t in reversed(turns) if t.session_id != self.session.id)
        source = next(others, "")
        return source if source and _is_there(source) else ""

    @property
    def suggested_id(self) -> str:
        """A free id for a role that is to be saved, made of the words of its name."""
        words = [
            word for word in re.findall("[a-z]+", self.persona.name.lower()) if word not in _FILLERS
        ]
        stem = "-".join(words[:3])[:40] or "my-role"
        taken = {entry.id for entry in rolebook().library.entries()}
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        return next(name for name in names if name not in taken and is_persona_id(name))

    @property
    def title(self) -> str:
        """Its title, or else how it began; empty while it has not."""
        first = self.positions[0].counting.input if self.positions else ""
        return self.session.title or shorten(first)

    @property
    def has_changed(self) -> bool:
        """Whether the persona is another one now than when the last turn, or the session, began."""
        last = self.positions[-1].counting.revision if self.positions else self.session.revision
        return self.problem is None and self.resolved.revision.id != last

    @property
    def totals(self) -> Totals:
        """The sums over this session's own turns, all attempts included."""
        own = [turn for position in self.positions for turn in position.turns]
        own = [turn for turn in own if turn.session_id == self.session.id]
        tokens = [turn.usage.total_tokens for turn in own if turn.usage.total_tokens is not None]
        costs = [turn.cost for turn in own if turn.cost is not None]
        return Totals(
            tokens=sum(tokens) if tokens else None,
            cost=sum(costs) if costs else None,
            is_cost_partial=0 < len(costs) < len(own),
        )

    def at(self, number: int) -> Position:
        """The position with a number, which must exist."""
        return next(position for position in self.positions if position.number == number)


def open_dialogue(session_id: str) -> Dialogue:
    """The session as it stands in the log. Raises NotFoundError, StorageError."""
    book = rolebook()
    session = book.log.get_session(session_id)
    resolved, problem = _persona_of(session)
    try:
        greeting = book.chat.greeting_of(session, resolved)
    except (InputError, ConflictError) as error:
        greeting, problem = "", problem or error
    turns = book.log.session_turns(session_id)
    personas = _personas(session, turns)
    names = _names(session, resolved, turns, personas)
    return Dialogue(
        session=session,
        resolved=resolved,
        positions=tuple(_positions(session, turns, personas, names)),
        greeting=greeting,
        problem=problem,
        marks=book.log.marks_of(turn.id for turn in turns) if turns else {},
        findings=findings_of(session, resolved, turns) if turns else {},
        place=_place_of(session),
    )


def render_session(
    session_id: str,
    *,
    error: RolebookError | None = None,
    fields: Mapping[str, str] | None = None,
) -> tuple[str, int]:
    """The page of a session, with its status.

    Arguments:
        error: why what was submitted could not be used.
        fields: what was submitted, so that nothing has to be typed twice.
    """
    dialogue = open_dialogue(session_id)
    html = render_template("session.html", dialogue=dialogue, error=error, fields=fields or {})
    return html, status_of(error) if error else 200


def render_pieces(session_id: str, number: int) -> Mapping[str, str]:
    """The pieces of a session's page that a turn changes: ``html`` shows its position, ``sums`` the whole."""
    dialogue = open_dialogue(session_id)
    position = dialogue.at(number)
    return {
        "html": render_template("session_position.html", dialogue=dialogue, position=position),
        "sums": render_template("session_sums.html", dialogue=dialogue),
    }


def shorten(text: str) -> str:
    """The start of a text on one line, cut between two words where there are any."""
    line = " ".join(text[:1000].split())
    if len(line) <= _LONGEST_TITLE:
        return line
    cut = line[:_LONGEST_TITLE]
    return (cut.rpartition(" ")[0] or cut) + "…"


def _place_of(session: Session) -> Place | None:
    if not session.comparison_id or session.judges:
        return None
    book = rolebook()
    try:
        comparison = book.comparisons.get_comparison(session.comparison_id)
    except (NotFoundError, StorageError):
        return None
    key = book.comparisons.cell_of_session(session.id)
    source_id = comparison.inputs[key.input].source if key else ""
    return Place(comparison.id, key, source_id if source_id and _is_there(source_id) else "")


def _is_there(session_id: str) -> bool:
    try:
        rolebook().log.get_session(session_id)
    except NotFoundError:
        return False
    return True


def _persona_of(session: Session) -> tuple[ResolvedPersona, RolebookError | None]:
    book = rolebook()
    try:
        return book.chat.persona_of(session), None
    except (FileError, NotFoundError) as error:
        return _persona_as_it_was(session), error
    except FaultyDataError:
        return _persona_as_it_was(session), InputError(
            "The file of this persona is gone, and how it was is recorded in a form that this version"
            " of Rolebook cannot use. The session can be read, but not go on."
        )


def _persona_as_it_was(session: Session) -> ResolvedPersona:
    """The persona of the session's revision; where even that cannot be read, no more of it than its name."""
    revision = rolebook().log.get_revision(session.revision)
    try:
        return persona_of_revision(revision)
    except FaultyDataError:
        name = str(revision.resolved.get("name") or session.persona_id or "–")
        return ResolvedPersona(parse_persona(session.persona_id, {"name": name, "system": ""}), {})


def _personas(session: Session, turns: Sequence[Turn]) -> Mapping[str, str]:
    """The ids of the personas that turns were had with, by the sessions that the turns belong to."""
    personas = {session.id: session.persona_id}
    for turn in turns:
        if turn.session_id not in personas:
            try:
                personas[turn.session_id] = rolebook().log.get_session(turn.session_id).persona_id
            except NotFoundError:
                personas[turn.session_id] = rolebook().log.get_revision(turn.revision).persona_id
    return personas


def _names(
    session: Session,
    resolved: ResolvedPersona,
    turns: Sequence[Turn],
    personas: Mapping[str, str],
) -> Mapping[str, str]:
    """What the persona was called at each revision that has spoken.

    Arguments:
        personas: the ids of the personas that turns were had with, by the sessions that the turns belong to.
    """
    names = {resolved.revision.id: resolved.persona.name} if session.persona_id else {}
    for turn in turns:
        if turn.revision in names:
            continue
        if not personas[turn.session_id]:
            names[turn.revision] = _("Your role")
        else:
            revision = rolebook().log.get_revision(turn.revision)
            names[turn.revision] = str(revision.resolved.get("name") or resolved.persona.name)
    return names


def _positions(
    session: Session,
    turns: Sequence[Turn],
    personas: Mapping[str, str],
    names: Mapping[str, str],
) -> Iterator[Position]:
    ordered = sorted(turns, key=lambda turn: (turn.position, turn.created_at))
    last = ordered[-1].position if ordered else 0
    before: Turn | None = None
    for number, group in groupby(ordered, key=lambda turn: turn.position):
        attempts = tuple(group)
        answers = tuple(_answers(session, attempts))
        position = Position(
            number=number,
            turns=attempts,
            answers=answers,
            is_last=number == last,
            since=_since(session, before, attempts[0], personas, names) if before else "",
            speaker=names[attempts[0].revision],
        )
        before = position.counting
        yield position


def _since(
    session: Session,
    before: Turn,
    turn: Turn,
    personas: Mapping[str, str],
    names: Mapping[str, str],
) -> str:
    """Who answers from a turn on, if that is not who has answered before."""
    persona = names[turn.revision]
    if turn.revision == before.revision:
        return ""
    if personas[turn.session_id] != personas[before.session_id]:
        if not personas[turn.session_id]:
            return _("From here on with a role of your own.")
        return _("From here on with %(persona)s.", persona=persona)
    if not session.is_talk:
        # A comparison may ask an earlier one, too.
        return _("From here on with another version of %(persona)s.", persona=persona)
    return _("From here on with a newer version of %(persona)s.", persona=persona)


def _answers(session: Session, attempts: Sequence[Turn]) -> Iterator[Answer]:
    is_own = any(turn.session_id == session.id for turn in attempts)
    number = 0
    for turn in attempts:
        is_inherited = turn.session_id != session.id
        counts = not is_own if is_inherited else turn.is_current
        for index in range(max(1, len(turn.choices))):
            number += 1
            yield Answer(turn, index, number, counts and index == turn.chosen, is_inherited)


@frozen
class Difference:
    """A request field that was sent otherwise than requested; ``None`` is: not at all."""

    name: str
    requested: Any
    sent: Any


def differences(turn: Turn) -> Sequence[Difference]:
    """Where what was sent differs from what was requested; nothing where it is not known what was sent."""
    requested, sent = turn.parameters_requested, turn.parameters_sent
    if not sent:
        return ()
    names = dict.fromkeys([*requested, *sent])
    return [
        Difference(name, requested.get(name), sent.get(name))
        for name in names
        # That a stream should report its usage is our own question.
        if name != "stream_options" and requested.get(name) != sent.get(name)
    ]


def error_of(error: TurnError) -> UpstreamError:
    """The error that a turn ended with, as it was when it was raised."""
    kinds = {kind.code: kind for kind in _descendants(UpstreamError)}
    parameters: dict[str, Any] = dict(error.parameters)
    return kinds.get(error.code, UpstreamError)(error.message, **parameters)


def _descendants(kind: type[UpstreamError]) -> Iterator[type[UpstreamError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


def has_failed(turn: Turn) -> bool:
    """Whether its end is an error, rather than an answer or a wish to stop."""
    return turn.status in {TurnStatus.FAILED, TurnStatus.INTERRUPTED}


def request_body(turn: Turn) -> Mapping[str, Any]:
    """The request as JSON: what was sent, or, where nothing was accepted, what was to be sent."""
    fields = turn.parameters_sent or turn.parameters_requested
    body: dict[str, Any] = {"model": turn.model_requested}
    if turn.endpoint == "completions":
        body["prompt"] = "".join(message.content for message in turn.messages)
    else:
        body["messages"] = [message.as_dict() for message in turn.messages]
    if turn.is_streamed:
        body["stream"] = True
    headers = {"organization", "project"}
    return body | {name: value for name, value in fields.items() if name not in headers}
