"""Checking drafts: what a text would be if it were saved, with everything else of the library as it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from rolebook.core.errors import FileError, NotFoundError, Problem
from rolebook.core.frozen import frozen
from rolebook.core.merge import find_marks
from rolebook.core.persona import Fragment, ResolvedPersona
from rolebook.core.source import Entry, FileKey, plain_text

#: A template of a thousand personas is tried out with so many of them, and no longer than this.
_MOST_TRIED = 20
_LONGEST_TRIALS_S = 2.0
_MARK_LEFT = "A mark of a merge is left here. Decide what shall stand, and remove the three marks."


class Library(Protocol):
    """The library that a draft belongs to."""

    def entries(self) -> Sequence[Entry]:
        """Every persona file, by id."""

    def entries_with(
        self,
        *,
        persona: tuple[str, str] | None = None,
        template: tuple[str, str] | None = None,
    ) -> Sequence[Entry]:
        """How entries would be if a file had another text: those that it is part of, its own first."""

    def resolve_plainly(self, template: str, text: str) -> ResolvedPersona:
        """A persona with nothing but a system text that renders with a template of this text."""


class Paths(Protocol):
    """Knows where files are."""

    def shown_path(self, key: FileKey) -> str:
        """The path of a file as messages name it; of one that is not there, as it would be."""


class Trials(Protocol):
    """Renders personas to see whether they can be."""

    def find_problems(self, tried: ResolvedPersona | Fragment) -> Sequence[Problem]:
        """What trial renderings find wrong."""


@frozen
class User:
    """A persona that extends the draft or renders with it, as it would be. ``is_changed``: it gets another revision."""

    id: str
    resolved: ResolvedPersona | None
    problems: tuple[Problem, ...]
    is_changed: bool

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


@frozen
class Checked:
    """What is known of a draft.

    ``resolved`` is the persona that it makes, None where it has errors or is a prompt template. ``in_use`` is the
    persona as it is in use now, which stays in use if a draft with errors is saved. Of many ``users`` only the first
    are tried out.
    """

    key: FileKey
    text: str
    problems: tuple[Problem, ...]
    resolved: ResolvedPersona | None
    in_use: ResolvedPersona | None
    users: tuple[User, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def is_good(self) -> bool:
        """Whether it may be saved without a second thought."""
        return not self.errors and not any(user.errors for user in self.users)


class DraftChecker:
    """Checks drafts. Writes nothing.

    Arguments:
        trials: tries out what a draft makes.
    """

    def __init__(self, library: Library, paths: Paths, trials: Trials) -> None:
        self._library = library
        self._paths = paths
        self._trials = trials

    def check(self, key: FileKey, text: str) -> Checked:
        """All that can be said of a text that is not saved. Never raises for what is wrong with it."""
        text = plain_text(text)
        file = self._paths.shown_path(key)
        marks = [Problem(file, line, 1, _MARK_LEFT) for line in find_marks(text)]
        now = {entry.id: entry for entry in self._library.entries()}
        if key.kind == "persona":
            own, *others = self._library.entries_with(persona=(key.id, text))
            known = now.get(key.id)
            problems = [*marks, *own.problems, *self._tried(own.to_try)]
            users = list(self._users(others, now))
            in_use = known.resolved if known else None
            resolved = None if any(p.severity == "error" for p in problems) else own.resolved
        else:
            users = list(self._users(self._library.entries_with(template=(key.id, text)), now))
            problems = [*marks, *(problem for user in users for problem in user.problems)]
            if not users:
                problems += self._tried(self._library.resolve_plainly(key.id, text))
            problems = [problem for problem in problems if problem.file == file]
            resolved = in_use = None
        return Checked(
            key=key,
            text=text,
            problems=tuple(_in_order(problems)),
            resolved=resolved,
            in_use=in_use,
            users=tuple(_without(user, file) for user in users),
        )

    def _users(self, entries: Sequence[Entry], now: Mapping[str, Entry]) -> Iterator[User]:
        deadline = time.monotonic() + _LONGEST_TRIALS_S
        for number, entry in enumerate(entries):
            known = now.get(entry.id)
            before = known.resolved.revision.id if known and known.resolved else ""
            after = entry.resolved.revision.id if entry.resolved else ""
            is_tried = number < _MOST_TRIED and time.monotonic() < deadline
            tried = self._tried(entry.to_try) if is_tried else ()
            problems = tuple(_in_order([*entry.problems, *tried]))
            yield User(entry.id, entry.resolved, problems, before != after)

    def _tried(self, tried: ResolvedPersona | Fragment | None) -> Sequence[Problem]:
        return self._trials.find_problems(tried) if tried else ()

    def resolve(self, key: FileKey, text: str, *, persona_id: str = "") -> ResolvedPersona:
        """The persona that a draft makes, with everything else from the library. Nothing is rendered yet.

        Arguments:
            persona_id: for a prompt template, the persona that shall render with it; by default a plain one.

        Raises FileError with all problems, NotFoundError for an unknown persona.
        """
        text = plain_text(text)
        if key.kind == "persona":
            entry = self._library.entries_with(persona=(key.id, text))[0]
        elif not persona_id:
            return self._library.resolve_plainly(key.id, text)
        else:
            entry = self._entry_with_template(key, text, persona_id)
        if entry.resolved is None:
            raise FileError(entry.errors)
        return entry.resolved

    def _entry_with_template(self, key: FileKey, text: str, persona_id: str) -> Entry:
        for entry in self._library.entries_with(template=(key.id, text)):
            if entry.id == persona_id:
                return entry
        raise NotFoundError(
            "There is no persona '%(id)s' that renders with '%(template)s'.",
            id=persona_id[:80],
            template=key.id,
        )


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Each once, by their places."""
    unique = {str(problem): problem for problem in problems}.values()
    return sorted(unique, key=lambda problem: (problem.file, problem.line, problem.column))


def _without(user: User, file: str) -> User:
    """A user with its own problems only: those of the draft stand there."""
    own = tuple(problem for problem in user.problems if problem.file != file)
    return replace(user, problems=own)
