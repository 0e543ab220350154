"""The text of a file of the library as people edit it: which file, what stands in it, who changes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rolebook.core.errors import ConflictError, FileError, Problem
from rolebook.core.frozen import frozen
from rolebook.core.persona import Fragment, ResolvedPersona
from rolebook.core.session import time_of_id

_CHANGED = "%(file)s was changed meanwhile. Nothing was overwritten."

FileKind = Literal["persona", "template"]


@dataclass(frozen=True, slots=True, order=True)
class FileKey:
    """Which file: a persona by its id, or a prompt template by its name."""

    kind: FileKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


@frozen
class Author:
    """Who or what made a change: through which door it came, and the name of who did it, where that is known."""

    via: Literal["browser", "api", "command", "disk", "import", "turn"]
    name: str = ""


#: Somebody with an editor of their own, git, or a script.
DISK = Author("disk")


@frozen
class Source:
    """The text of a file, with ``\\n`` at the ends of its lines and no byte order mark, whatever the file has.

    ``file`` is its path as messages name it; ``etag`` says whether it is still the same text.
    """

    key: FileKey
    file: str
    text: str

    @property
    def etag(self) -> str:
        """As of :func:`etag_of`."""
        return etag_of(self.text)


def etag_of(text: str) -> str:
    """What tells a text from others: its SHA-256, 32 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def plain_text(text: str) -> str:
    """A text as sources have it, from one that came out of a form or a file."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


@frozen
class Trashed:
    """A file in the trash. ``id`` names it there."""

    id: str
    key: FileKey

    @property
    def deleted_at(self) -> str:
        """The time in UTC as ISO 8601."""
        return time_of_id(self.id)


class Entry(Protocol):
    """A persona file as the library sees it."""

    @property
    def id(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def source(self) -> str:
        """The text of the file, as :class:`Source` has it."""

    @property
    def bases(self) -> tuple[str, ...]:
        """The ids that it extends, the nearest first."""

    @property
    def resolved(self) -> ResolvedPersona | None: ...
    @property
    def to_try(self) -> ResolvedPersona | Fragment | None:
        """What trial renderings can tell more of than its problems do."""

    @property
    def problems(self) -> tuple[Problem, ...]: ...
    @property
    def is_stale(self) -> bool: ...
    @property
    def errors(self) -> tuple[Problem, ...]: ...


class InUseError(ConflictError):
    """Others depend on a file that shall go away; ``users`` are those."""

    code = "in_use"

    def __init__(self, message: str, *, key: FileKey, users: Sequence[FileKey]) -> None:
        names = ", ".join(user.id for user in users[:8]) + (" …" if len(users) > 8 else "")
        super().__init__(message, id=key.id, users=names)
        self.key = key
        self.users = tuple(users)


class DraftError(FileError):
    """A draft that shall be saved has errors."""

    code = "faulty_draft"


class SourceChangedError(ConflictError):
    """A file has another text than whoever writes it knew; ``current`` is what stands there."""

    code = "changed_meanwhile"

    def __init__(self, current: Source) -> None:
        super().__init__(_CHANGED, file=current.file)
        self.current = current
