"""Sessions by the API: begun, found, shown, noted on, taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import islice
from typing import Any, Literal, cast

from flask import Response
from pydantic import Field

from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.persona import parse_parameters
from rolebook.core.session import Session, Turn, TurnMark, new_id
from rolebook.core.source import FileKey
from rolebook.storage.export import turn_data
from rolebook.storage.query import Facets, SessionFilter, SessionSummary, snippet_of, summary_data
from rolebook.storage.search import Excerpt, parse_query
from rolebook.web import exports
from rolebook.web.api import shapes
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.shapes import Shape
from rolebook.web.current import rolebook
from rolebook.web.dialogue import open_dialogue
from rolebook.web.errors import describe
from rolebook.web.saving import author
from rolebook.web.sessions import places_in, tags_of, title_of

section = Section("Sessions", "Ordered turns with one persona.")

_PLACES_SHOWN = 3


class Choices(Body):
    """What is chosen over what the persona says."""

    variables: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Values of the persona's variables by name. What is left out has its default."""
    model: str = ""
    """The model that answers."""
    upstream: str = ""
    """The upstream that is called."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Sampling parameters and other request fields. Null leaves one out that the persona sets."""

    def session_with(self, persona_id: str) -> Session:
        """A new session, not recorded yet. Raises InputError."""
        return Session(
            id=new_id(),
            persona_id=persona_id,
            revision="",
            variables=self.variables,
            upstream=self.upstream,
            model=self.model,
            parameters=parse_parameters(self.parameters),
        )


class NewSession(Choices):
    """With whom to talk. One of `persona` and `system` is needed."""

    persona: str = ""
    """The id of a persona; also `teacher@production` (a label) or `teacher@3f9c` (a revision)."""
    system: str = ""
    """The system text of a role without a file."""
    title: str = ""
    """What to call the session."""


@section.post("/sessions", status=201, refusals=(404,))
def start_session(body: NewSession) -> Session:
    """Begin a session.

    Nothing is sent yet. Its first turn is posted to `/sessions/{session_id}/turns`.
    """
    begun = body.session_with(body.persona)
    if body.persona and body.system:
        raise InputError("Give a persona or the text of a role, not both.", key="system")
    session = replace(begun, title=title_of(body.title))
    return rolebook().chat.start_session(session, system=body.system)


class SessionQuery(Body):
    """Which sessions. What is left out does not matter."""

    search: str = ""
    """Words that must all occur; `"several words"` follow each other, `begin*` is the start of a word."""
    persona_id: str = ""
    """Also from before it was renamed. Of `teacher@production`: begun by this very name, or with a turn at the revision
    that it means now."""
    revision: str = ""
    model: str = ""
    tag: str = ""
    status: Literal["", "pending", "complete", "failed", "cancelled", "interrupted"] = ""
    """The status of any of its turns."""
    mark: Literal["", "star", "up", "down", "note"] = ""
    """What is noted on any of its turns."""
    via: Literal["", "gateway", "people"] = ""
    since: str = ""
    """Last used at or after this date or time (ISO 8601), of UTC unless the time names a zone."""
    until: str = ""
    """Last used before this time; a plain date counts whole."""
    is_starred: bool = False
    is_deleted: bool = False
    """Those in the trash instead."""

    @property
    def filter(self) -> SessionFilter:
        """The same, as the log takes it."""
        names = [part.name for part in fields(SessionFilter)]
        return SessionFilter(**{name: getattr(self, name) for name in names})


class SessionPageQuery(SessionQuery):
    """Which sessions, and which page of them."""

    limit: int = Field(40, ge=1, le=200)
    """So many at most."""
    cursor: str = ""
    """The `next` of the page before."""


class Found(Shape):
    """A place that matches, with lines around. `marks` are ranges of `text`, the end excluded."""

    field: str
    text: str
    marks: list[tuple[int, int]]
    line: int
    is_cut: bool


class SessionLine(Shape):
    """A session as a line of a list, with sums over all its attempts. Null is unknown.

    Long variables and parameters are cut, with … at their end.
    """

    id: str
    persona_id: str
    persona_name: str
    revision: str
    title: str
    variables: dict[str, Any]
    upstream: str
    model: str
    parameters: dict[str, Any]
    forked_from: str
    comparison_id: str
    judges: str
    pin: str
    is_trial: bool
    is_starred: bool
    tags: list[str]
    created_at: str
    deleted_at: str
    turns: int
    models: list[str]
    total_tokens: int | None
    cost: float | None
    turns_without_cost: int
    statuses: dict[str, int]
    last_used_at: str
    snippet: str
    excerpts: list[Found]
    """Where it matches what was searched for."""


class SessionList(Shape):
    """Some sessions, the last used first. `next` asks for more, and is empty on the last page."""

    sessions: list[SessionLine]
    next: str


@section.get("/sessions")
def list_sessions(query: SessionPageQuery) -> SessionList:
    """List and search sessions."""
    page = rolebook().log.list_sessions(query.filter, limit=query.limit, before=query.cursor)
    lines = [_line(summary, query.search) for summary in page.summaries]
    return {"sessions": lines, "next": page.cursor}


def _line(summary: SessionSummary, search: str) -> SessionLine:
    terms = parse_query(search)
    found = islice(places_in(summary.session.id, terms), _PLACES_SHOWN) if terms else ()
    excerpts = [_found(excerpt) for excerpt in found]
    return cast(SessionLine, {**summary_data(summary), "excerpts": excerpts})


def _found(excerpt: Excerpt) -> Found:
    return {
        "field": excerpt.field,
        "text": excerpt.text,
        "marks": list(excerpt.marks),
        "line": excerpt.line,
        "is_cut": excerpt.is_cut,
    }


@section.get("/facets")
def show_session_facets() -> Facets:
    """Show what sessions can be filtered by, and how many there are of each."""
    return rolebook().log.facets()


class SearchQuery(Body):
    """What to look for."""

    search: str
    """Words that must all occur, in the input, the answer or the title."""
    persona_id: str = ""
    """Also from before it was renamed. Of `teacher@production`: in sessions begun by this very name, or asked at the
    revision that it means now."""
    limit: int = Field(20, ge=1, le=100)
    """So many at most."""
    cursor: str = ""
    """The `next` of the page before."""


class Hit(Shape):
    """A turn that matches, and where it does. `/turns/{turn_id}` has it whole."""

    turn_id: str
    session_id: str
    session_title: str
    persona_id: str
    persona_name: str
    position: int
    status: Literal["pending", "complete", "failed", "cancelled", "interrupted"]
    created_at: str
    snippet: str
    """How the input begins."""
    excerpts: list[Found]
    """The first places. None where these come after 200,000 characters."""


class HitList(Shape):
    """Some hits, the newest first. `next` asks for more, and is empty on the last page."""

    hits: list[Hit]
    next: str


@section.get("/search")
def search_turns(query: SearchQuery) -> HitList:
    """Search what was said, turn by turn.

    A hit has the lines around what was searched for, and not the whole turn.
    """
    page = rolebook().log.search(
        query.search, persona_id=query.persona_id, limit=query.limit, before=query.cursor
    )
    hits: list[Hit] = [
        {
            "turn_id": hit.turn.id,
            "session_id": hit.session_id,
            "session_title": hit.session_title,
            "persona_id": hit.persona_id,
            "persona_name": hit.persona_name,
            "position": hit.turn.position,
            "status": hit.turn.status.value,
            "created_at": hit.turn.created_at,
            "snippet": snippet_of(hit.turn.input),
            "excerpts": [_found(excerpt) for excerpt in hit.excerpts[:_PLACES_SHOWN]],
        }
        for hit in page.hits
    ]
    return {"hits": hits, "next": page.cursor}


class Talk(Shape):
    """A session with all that was said in it."""

    session: Session
    persona_name: str
    greeting: str
    """What the persona says before the first turn."""
    has_changed: bool
    """Whether the persona is another one now than when the last turn began."""
    problem: str
    """Why the persona's file cannot be used now; empty if it can."""
    turns: list[shapes.Turn]
    """All attempts by position, and first those that a fork inherits; without messages and replies."""


def find_session(session_id: str) -> Session:
    """A session outside the trash. Raises NotFoundError."""
    session = rolebook().log.get_session(session_id)
    if session.deleted_at:
        raise NotFoundError("This session is in the trash. Restore it to go on with it.")
    return session


@section.get("/sessions/<session_id>", refusals=(404,))
def show_session(session_id: str) -> Talk:
    """Show a session with its turns."""
    dialogue = open_dialogue(find_session(session_id).id)
    turns = [turn for position in dialogue.positions for turn in position.turns]
    results = rolebook().log.results_of_turns(turn.id for turn in turns) if turns else {}
    return {
        "session": dialogue.session,
        "persona_name": dialogue.persona.name,
        "greeting": dialogue.greeting,
        "has_changed": dialogue.has_changed,
        "problem": describe(dialogue.problem) if dialogue.problem else "",
        "turns": [
            turn_shape(turn, mark=dialogue.marks.get(turn.id), results=results.get(turn.id, ()))
            for turn in turns
        ],
    }


def turn_shape(turn: Turn, *, mark: TurnMark | None = None, results: Any = ()) -> shapes.Turn:
    """A turn as the API gives it."""
    return cast(shapes.Turn, turn_data(turn, mark, results))


class SessionChange(Body):
    """What is to be otherwise. What is left out stays as it is."""

    title: str | None = None
    """Its title; an empty one takes it away."""
    tags: list[str] | None = None
    """All its tags."""
    is_starred: bool | None = None


@section.patch("/sessions/<session_id>", refusals=(404,))
def change_session(session_id: str, body: SessionChange) -> Session:
    """Rename a session, tag it, or give it a star."""
    log = rolebook().log
    find_session(session_id)
    if body.title is not None:
        log.rename(session_id, title_of(body.title))
    if body.tags is not None:
        log.tag(session_id, tags_of(body.tags))
    if body.is_starred is not None:
        log.star(session_id, body.is_starred)
    return log.get_session(session_id)


@section.delete("/sessions/<session_id>", refusals=(404,))
def delete_session(session_id: str) -> Session:
    """Move a session to the trash.

    Until it is restored it is listed with `is_deleted`, and found nowhere else.
    """
    log = rolebook().log
    log.delete([find_session(session_id).id])
    return log.get_session(session_id)


@section.post("/sessions/<session_id>/restore", refusals=(404,))
def restore_session(session_id: str) -> Session:
    """Take a session out of the trash."""
    log = rolebook().log
    log.restore([log.get_session(session_id).id])
    return log.get_session(session_id)


class Naming(Body):
    """What to call a role that becomes a persona."""

    id: str
    """Lower-case letters, digits, `-` and `_`, 64 at most."""
    name: str = Field(min_length=1)
    """What people call it."""


@section.post("/sessions/<session_id>/persona", status=201, refusals=(404, 409))
def save_session_persona(session_id: str, body: Naming) -> shapes.FileName:
    """Keep the role of a session as a persona file."""
    name = " ".join(body.name.split())
    if not name:
        raise InputError("Give the persona a name.", key="name")
    data: Mapping[str, Any] = open_dialogue(find_session(session_id).id).persona.as_data()
    key = FileKey("persona", body.id)
    saved = rolebook().edits.create(key, {**data, "name": name}, author=author("api"))
    return {"kind": saved.key.kind, "id": saved.key.id}


class SessionExportQuery(SessionQuery):
    """Which sessions to take away: those with these ids, or all that match."""

    id: list[str] = Field(default_factory=list)
    """The ids of sessions. Without any, all that match."""
    format: Literal["json", "jsonl", "md", "csv"] = "json"


@section.get(
    "/exports/sessions",
    kinds=("application/jsonl", "text/markdown", "text/csv"),
    refusals=(404,),
)
def export_sessions(query: SessionExportQuery) -> Response:
    """Take sessions away as a file."""
    ids = query.id or exports.matching(query.filter)
    return exports.file_of(ids, query.format)
