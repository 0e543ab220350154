"""Personas by the API: found, shown, and what they would send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

from pydantic import Field

from rolebook.core.access import opened_forms, opens
from rolebook.core.chat import PreparedTurn
from rolebook.core.comparison import said_before
from rolebook.core.errors import FileError, NotFoundError
from rolebook.core.persona import ResolvedPersona
from rolebook.core.persona_schema import persona_schema
from rolebook.core.session import Session, Turn
from rolebook.library.file_library import PersonaEntry
from rolebook.library.summary import persona_data, persona_summary
from rolebook.report.preview import prompt_data
from rolebook.storage.query import PersonaStatistics
from rolebook.web.api import shapes
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.sessions import Choices
from rolebook.web.api.shapes import Shape
from rolebook.web.current import gettext, rolebook
from rolebook.web.gallery import Query
from rolebook.web.personas import find_entry
from rolebook.web.preview import show_prepared

section = Section("Personas", "Named roles, and what they would send.")


class PersonaQuery(Body):
    """Which personas. What is left out does not matter."""

    search: str = ""
    """Words that all occur in the id, the name, the description or the tags."""
    tag: str = ""
    language: str = ""
    limit: int = Field(100, ge=1, le=1000)
    """So many at most."""
    cursor: str = ""
    """The `next` of the page before."""


class Persona(Shape, total=False):
    """A persona as a line of a list. Only id, file and problems are known of one that was never good."""

    id: str
    name: str
    description: str
    tags: list[str]
    language: str
    avatar: str
    model: str
    upstream: str
    endpoint: Literal["chat", "completions"]
    template: str
    revision: str
    file: str
    is_stale: bool
    """Whether the file is broken now, and its last good version in use."""
    problems: list[str]


class PersonaList(Shape):
    """Some personas by id. `next` asks for more, and is empty on the last page."""

    personas: list[Persona]
    next: str


@section.get("/personas")
def list_personas(query: PersonaQuery) -> PersonaList:
    """List and search personas."""
    wanted = Query(query.search, query.tag, query.language)
    found = [entry for entry in _opened() if wanted == Query() or wanted.admits(entry, gettext)]
    rest = sorted((entry for entry in found if entry.id > query.cursor), key=lambda entry: entry.id)
    page, more = rest[: query.limit], rest[query.limit :]
    return {
        "personas": [cast(Persona, persona_summary(entry)) for entry in page],
        "next": page[-1].id if more else "",
    }


def _opened() -> Iterator[PersonaEntry]:
    yield from (entry for entry in rolebook().library.entries() if opens(entry.id))
    for name in opened_forms():
        # A label of its scope that nobody has set yet is no persona yet.
        with suppress(NotFoundError):
            yield find_entry(name)


class WholePersona(Persona, total=False):
    """A persona with all that its file says."""

    persona: dict[str, Any]
    """What a persona file would say, with its bases merged in."""
    statistics: PersonaStatistics


@section.get("/personas/<reference>", refusals=(404,))
def show_persona(reference: str) -> WholePersona:
    """Show a persona as it is used, with its bases merged in.

    Also as it was: `teacher@production` (a label) or `teacher@3f9c` (a revision).
    """
    entry, resolved = _find_usable(reference)
    shown = {
        **persona_summary(entry),
        "persona": persona_data(resolved.persona),
        "statistics": rolebook().log.statistics_of_persona(resolved.persona.id),
    }
    return cast(WholePersona, shown)


def _find_usable(reference: str) -> tuple[PersonaEntry, ResolvedPersona]:
    """A persona as it is or was. Raises NotFoundError, InputError, and FileError for one that was never good."""
    entry = find_entry(reference)
    if entry.resolved is None:
        raise FileError(entry.errors)
    return entry, entry.resolved


class Said(Body):
    """An earlier turn."""

    user: str = ""
    assistant: str = ""


class Circumstances(Choices):
    """What an input is said after, and with what."""

    input: str = ""
    """What is said."""
    session: str = ""
    """The id of a session whose turns are the history."""
    earlier: list[Said] = Field(default_factory=list, max_length=100)
    """Turns said before; they come after those of the session."""

    def history(self) -> Sequence[Turn]:
        """The earlier turns, oldest first. Raises NotFoundError."""
        turns = list(rolebook().log.history(self.session)) if self.session else []
        return [*turns, *(said_before(said.user, said.assistant) for said in self.earlier)]


class PromptMessage(Shape):
    """A message, and where each piece of it comes from."""

    role: Literal["system", "developer", "user", "assistant", "tool", "prompt"]
    content: str
    spans: list[shapes.Span]


class Prompt(Shape):
    """What would be sent."""

    messages: list[PromptMessage]
    parameters: dict[str, Any]
    persona: str
    revision: str
    dropped_turns: int
    """How many of the oldest turns the context policy leaves out."""
    upstream: str
    model: str
    """Empty where only the upstream knows it."""
    tokens: int
    is_exact: bool
    """Whether the tokens are counted as the model does, or estimated."""
    greeting: str


@section.post("/personas/<reference>/render", refusals=(404,))
def render_persona(reference: str, body: Circumstances) -> Prompt:
    """Show what a persona would send for an input. Nothing is sent, and nothing is kept."""
    _, resolved = _find_usable(reference)
    session, prepared = prepare(resolved, body)
    return prompt_shape(prepared, session)


def prepare(resolved: ResolvedPersona, given: Circumstances) -> tuple[Session, PreparedTurn]:
    """What an input would send, and the session that it would be said in. Raises InputError, NotFoundError."""
    session = given.session_with(resolved.persona.id)
    prepared = rolebook().chat.prepare(session, resolved, given.input, given.history())
    return session, prepared


def prompt_shape(prepared: PreparedTurn, session: Session) -> Prompt:
    """A turn that is ready to be sent, as the API gives it."""
    greeting = rolebook().chat.greeting_of(session, prepared.resolved)
    preview = show_prepared(prepared, greeting=greeting)
    shown = {
        **prompt_data(prepared),
        "messages": [
            {
                **message.as_dict(),
                "spans": [
                    {"text": span.text, "origin": span.origin.value, "name": span.name}
                    for span in message.spans
                ],
            }
            for message in prepared.messages
        ],
        "upstream": preview.upstream,
        "model": preview.model,
        "tokens": preview.tokens,
        "is_exact": preview.is_exact,
        "greeting": preview.greeting,
    }
    return cast(Prompt, shown)


@section.get("/persona-schema")
def show_persona_schema() -> dict[str, Any]:
    """Show the JSON Schema of persona files, for editors."""
    return dict(persona_schema())
