"""The text of a file as somebody is writing it: what is wrong with it, and what it would send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from rolebook.core.checking import Checked
from rolebook.core.completion import Choice
from rolebook.core.errors import FileError, NotFoundError, Problem, PromptError, RolebookError
from rolebook.core.frozen import frozen
from rolebook.core.history import Change
from rolebook.core.message import Message, Origin, Span
from rolebook.core.persona import ResolvedPersona
from rolebook.core.session import Session, Turn
from rolebook.core.source import FileKey
from rolebook.core.written import Written, find_written
from rolebook.library.folder import shown
from rolebook.storage.query import SessionFilter, SessionSummary
from rolebook.web.current import rolebook
from rolebook.web.form import VariableField, variable_fields
from rolebook.web.preview import Preview, ShownMessage, show_message, show_prepared
from rolebook.web.submission import SAMPLING, VARIABLE, start_of

#: Fields of what was said before: ``said-0-user``, ``said-0-assistant``, ``said-1-user`` …
SAID = "said-"
_MOST_SAID = 20
#: Stands for the file as it is saved, among what a draft is tried beside.
SAVED = "saved"
_DRAFTS_OFFERED = 8
_SESSIONS_OFFERED = 12
#: In this order the parts of a prompt are summed up.
_PARTS: Mapping[Origin, Origin] = {
    **dict.fromkeys(Origin, Origin.SYSTEM),
    Origin.EXAMPLE: Origin.EXAMPLE,
    Origin.GREETING: Origin.GREETING,
    Origin.HISTORY: Origin.HISTORY,
    Origin.INPUT: Origin.INPUT,
}


@frozen
class Said:
    """One earlier turn as it is typed beside the text."""

    user: str = ""
    assistant: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.user.strip() or self.assistant.strip())


@frozen
class Piece:
    """A span of a prompt with the line that it was written on, and whether it stands out from the rest."""

    span: Span
    written: Written | None
    is_marked: bool


@frozen
class Part:
    """One message of the preview."""

    shown: ShownMessage
    tokens: int
    pieces: tuple[Piece, ...]

    @property
    def message(self) -> Message:
        return self.shown.message

    @property
    def written(self) -> Written | None:
        """Where its first words were written."""
        return next((piece.written for piece in self.pieces if piece.written), None)


@frozen
class DraftPreview:
    """What a draft would send.

    ``sums`` are its tokens by what they are of; ``dropped`` the earlier turns that the context policy leaves out.
    """

    preview: Preview
    parts: tuple[Part, ...]
    sums: Mapping[Origin, int]
    dropped: tuple[Turn, ...]


@dataclass(frozen=True)
class Draft:
    """What somebody has written, and under which circumstances it shall be looked at.

    ``fields`` are those of the page: ``text``, ``etag`` of the file that it began from (empty: a new file), ``input``,
    ``v-…`` and ``s-…`` as where a session starts, ``session``, ``other-session`` and ``said-…`` for what was said
    before, ``persona`` to look at a prompt template with.
    """

    key: FileKey
    text: str
    fields: Mapping[str, str]

    @property
    def etag(self) -> str:
        return self.fields.get("etag", "")

    @cached_property
    def file(self) -> str:
        """Its path as messages name it."""
        library = rolebook().library
        if self.key.kind == "template":
            return shown(library.templates_dir / f"{self.key.id}.jinja")
        with suppress(NotFoundError):
            return library.get_entry(self.key.id).file
        return shown(library.personas_dir / f"{self.key.id}.yaml")

    @cached_property
    def is_broken_on_disk(self) -> bool:
        """Whether the file, as it is saved, cannot be used."""
        if self.key.kind == "template":
            return False
        with suppress(NotFoundError):
            return bool(rolebook().library.get_entry(self.key.id).errors)
        return False

    @cached_property
    def checked(self) -> Checked:
        """What is wrong with it, and who it concerns."""
        return rolebook().edits.check(self.key, self.text)

    @cached_property
    def resolved(self) -> ResolvedPersona | None:
        """The persona that it makes; of a prompt template the one that is looked at, with it."""
        if self.key.kind == "persona":
            return self.checked.resolved
        edits = rolebook().edits
        try:
            return edits.resolve(self.key, self.text, persona_id=self.persona_id)
        except FileError:
            return None
        except NotFoundError:
            # One that does not use this template: it is shown as if it did.
            plain = edits.resolve(self.key, self.text)
        with suppress(NotFoundError, FileError):
            chosen = rolebook().library.get_persona(self.persona_id)
            persona = chosen.persona.model_copy(update={"template": self.key.id})
            return replace(plain, persona=persona, places=chosen.places, source="")
        return plain

    @cached_property
    def persona_id(self) -> str:
        """The persona that a prompt template is looked at with: the chosen one, else one that uses it, else any."""
        if self.key.kind == "persona":
            return self.key.id
        chosen = self.fields.get("persona", "")
        usable = [persona.persona.id for persona in rolebook().library.personas()]
        users = [user.id for user in self.checked.users if user.id in usable]
        return chosen if chosen in usable else next(iter([*users, *usable]), "")

    @property
    def variables(self) -> Sequence[VariableField]:
        """The inputs for the persona's variables, as they are filled in."""
        return variable_fields(self.resolved.persona, self.fields) if self.resolved else ()

    @cached_property
    def said(self) -> tuple[Said, ...]:
        """What is typed of earlier turns, oldest first, without those that are empty."""
        pairs = (
            Said(
                self.fields.get(f"{SAID}{number}-user", ""),
                self.fields.get(f"{SAID}{number}-assistant", ""),
            )
            for number in range(_MOST_SAID)
        )
        return tuple(pair for pair in pairs if not pair.is_empty)

    @property
    def said_to_fill(self) -> Sequence[Said]:
        """What is typed of earlier turns, with one more to type into."""
        return [*self.said, Said()]

    @property
    def session_id(self) -> str:
        """The session whose turns were said before: one that is named by its id or its address, else the chosen."""
        named = self.fields.get("other-session", "").strip()
        return named.rstrip("/").rpartition("/")[2] or self.fields.get("session", "").strip()

    def history(self) -> Sequence[Turn]:
        """The earlier turns: those of the chosen session, then those that are typed. Raises NotFoundError."""
        turns = list(rolebook().log.history(self.session_id)) if self.session_id else []
        return [*turns, *(_turn_of(pair) for pair in self.said)]

    def session(self, resolved: ResolvedPersona) -> tuple[Session, str]:
        """A session of a persona with what is chosen, as far as it has it, and the input to it. Raises InputError."""
        known = resolved.persona.variables
        kept = {
            name: value
            for name, value in self.fields.items()
            if name in {"input", "model", "upstream", "more"}
            or name.startswith(SAMPLING)
            or (name.startswith(VARIABLE) and name.removeprefix(VARIABLE) in known)
        }
        start = start_of({**kept, "persona": resolved.persona.id})
        return start.session, start.input


def sessions_to_choose(
    persona_id: str,
) -> tuple[Sequence[SessionSummary], Sequence[SessionSummary]]:
    """The newest sessions with a persona, and the newest with others, to look at a draft with what was said there."""
    log = rolebook().log
    own = log.list_sessions(SessionFilter(persona_id=persona_id), limit=_SESSIONS_OFFERED)
    newest = log.list_sessions(limit=2 * _SESSIONS_OFFERED)
    offered = {said.session.id for said in own.summaries}
    others = [
        said
        for said in newest.summaries
        if said.session.persona_id != persona_id and said.session.id not in offered
    ]
    return (
        [summary for summary in own.summaries if summary.turns],
        [summary for summary in others if summary.turns][:_SESSIONS_OFFERED],
    )


def drafts_to_choose(key: FileKey) -> Sequence[Change]:
    """The newest drafts of a persona that were tried, each revision once."""
    if key.kind == "template":
        return ()
    changes = rolebook().edits.history(key).changes
    tried = {change.revision: change for change in reversed(changes) if change.action == "tried"}
    return sorted(tried.values(), key=lambda change: change.created_at, reverse=True)[
        :_DRAFTS_OFFERED
    ]


@frozen
class Look:
    """A draft, looked at. ``preview`` is missing where nothing can be made of it; ``error`` says why."""

    draft: Draft
    problems: tuple[Problem, ...]
    preview: DraftPreview | None = None
    error: RolebookError | None = None

    @property
    def errors(self) -> Sequence[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]


def look(draft: Draft) -> Look:
    """Read a draft and make of it what it would send. Calls nobody and writes nothing."""
    problems = draft.checked.problems
    if draft.resolved is None:
        return Look(draft, problems)
    try:
        return Look(draft, problems, _preview(draft, draft.resolved))
    except PromptError as error:
        return Look(draft, _with_error(problems, error), error=error)
    except RolebookError as error:
        return Look(draft, problems, error=error)


def _with_error(problems: tuple[Problem, ...], error: PromptError) -> tuple[Problem, ...]:
    found = Problem(error.file, error.line, error.column, error.message, error.parameters)
    return problems if found in problems or not error.file else (*problems, found)


def _preview(draft: Draft, resolved: ResolvedPersona) -> DraftPreview:
    session, words = draft.session(resolved)
    history = draft.history()
    chat = rolebook().chat
    prepared = chat.prepare(session, resolved, words, history)
    preview = show_prepared(prepared, greeting=chat.greeting_of(session, resolved))
    parts = tuple(_parts(prepared.messages, resolved, preview.model))
    sums: dict[Origin, int] = {}
    for part in parts:
        origin = _PARTS[part.shown.ground or Origin.SYSTEM]
        sums[origin] = sums.get(origin, 0) + part.tokens
    return DraftPreview(preview, parts, sums, tuple(history[: prepared.prompt.dropped_turns]))


def _parts(messages: Sequence[Message], resolved: ResolvedPersona, model: str) -> Iterator[Part]:
    count = rolebook().count_tokens
    for message, places in zip(messages, find_written(messages, resolved), strict=True):
        shown = show_message(message)
        pieces = tuple(
            Piece(span, written, shown.is_marked(span))
            for span, written in zip(message.spans, places, strict=True)
        )
        # What a message adds to a list, without what the list itself costs.
        tokens = count((message, message), model) - count((message,), model)
        yield Part(shown, tokens, pieces)


def _turn_of(said: Said) -> Turn:
    return Turn(
        id="", session_id="", revision="", input=said.user, choices=(Choice(text=said.assistant),)
    )
