"""What became of a file over time: each text that it had, the revision that this made, by whom and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from rolebook.core.errors import InputError
from rolebook.core.fields import quote
from rolebook.core.frozen import frozen
from rolebook.core.session import Revision
from rolebook.core.source import Author, FileKey

Action = Literal[
    "created",
    "saved",
    "seen",
    "followed",
    "renamed",
    "deleted",
    "restored",
    "tried",
    "used",
    "labelled",
]
"""What happened: ``seen`` is a text that somebody else wrote, ``followed`` the persona of an unchanged file when a base
or template of it changed, ``tried`` a draft that was talked to, ``used`` what the log knew before it kept histories."""

#: The shortest beginning of a revision that stands for it.
SHORTEST_PREFIX = 4
_LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,31}")
_LIKE_A_REVISION = re.compile(r"[0-9a-f]{4,32}")


@frozen
class Change:
    """One entry of a file's history.

    ``source`` is the etag of its text then and ``revision`` the id of what that made of a persona; either is empty
    where there was none. ``causes`` are the files whose change made this one. ``former`` is the id before it was
    renamed, or the one that it was copied from. ``message`` is what its author said; for ``labelled`` it is the label.
    """

    id: str
    key: FileKey
    action: Action
    author: Author
    created_at: str
    source: str = ""
    revision: str = ""
    causes: tuple[FileKey, ...] = ()
    former: str = ""
    message: str = ""
    labels: tuple[str, ...] = ()
    """What points at the revision now."""
    sessions: int = 0
    """How many have a turn that was answered at the revision, as far as the caller sees them."""
    is_current: bool = False
    """Whether the file is now as it was then."""

    def as_data(self) -> dict[str, Any]:
        """As JSON has it; of which file it is, whoever asks knows."""
        return {
            "id": self.id,
            "action": self.action,
            "created_at": self.created_at,
            "via": self.author.via,
            "author": self.author.name,
            "revision": self.revision,
            "source": self.source,
            "causes": [{"kind": cause.kind, "id": cause.id} for cause in self.causes],
            "former": self.former,
            "message": self.message,
            "labels": list(self.labels),
            "sessions": self.sessions,
            "is_current": self.is_current,
        }


@frozen
class NewChange:
    """A change as it is recorded. ``text`` is None where the file is gone."""

    key: FileKey
    action: Action
    author: Author
    text: str | None
    revision: Revision | None = None
    causes: tuple[FileKey, ...] = ()
    former: str = ""
    message: str = ""


@frozen
class Head:
    """Where the history of a file stands: the etag of its text and its revision; both empty if it is gone."""

    source: str
    revision: str


@frozen
class Timeline:
    """Some changes of a file, the newest first. ``next`` asks for those before them and is empty at the beginning."""

    changes: tuple[Change, ...]
    next: str


@frozen
class Label:
    """A name for a revision of a persona, such as ``production``."""

    persona_id: str
    name: str
    revision: str
    author: Author
    created_at: str


@frozen
class Commit:
    """A commit of a git repository that changed a file. ``name`` is the file's path there, from the root."""

    id: str
    author: str
    created_at: str
    subject: str
    name: str


class History(Protocol):
    """Where histories are kept. Every method may raise StorageError."""

    def heads(self) -> Mapping[FileKey, Head]:
        """Where the history of each file stands."""

    def record(self, changes: Sequence[NewChange]) -> None:
        """Record changes together. What the history of a file ends with already is not recorded again.

        A persona that was renamed gets the labels that it had.
        """

    def timeline(self, key: FileKey, *, limit: int, before: str) -> Timeline:
        """The changes of a file, and of the one that it was renamed from."""

    def get_change(self, key: FileKey, change_id: str) -> Change:
        """Raises NotFoundError."""

    def get_source(self, etag: str) -> str:
        """The text of a file as it once was. Raises NotFoundError."""

    def get_revision(self, revision_id: str) -> Revision:
        """Raises NotFoundError."""

    def find_revision(self, persona_id: str, at: str) -> Revision:
        """What a label points at, else the revision whose id begins so.

        Raises NotFoundError that names the known ones, InputError if several begin so.
        """

    def labels(self, persona_id: str) -> Sequence[Label]:
        """The labels of a persona, by name."""

    def set_label(self, label: Label) -> None:
        """Let a label point at a revision, wherever it pointed before. Raises NotFoundError."""

    def remove_label(self, persona_id: str, name: str, author: Author) -> None:
        """Raises NotFoundError."""


def require_label(name: str) -> None:
    """Raises InputError unless it can be told from a revision, an id and whatever else stands in a command line."""
    if not _LABEL.fullmatch(name) or _LIKE_A_REVISION.fullmatch(name):
        raise InputError(
            "%(name)s makes no label: use up to 32 lower-case letters, digits, - and _, a letter first, and"
            " nothing that could be a revision.",
            name=quote(name),
        )
