"""Histories of files in the session log: :class:`SqliteHistory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rolebook.core.history import Change, Head, Label, NewChange, Timeline
from rolebook.core.session import Revision
from rolebook.core.source import Author, FileKey
from rolebook.storage import revision as queries
from rolebook.storage.log import SqliteLog


class SqliteHistory:
    """The histories in a log's file. Safe for threads; every method may raise StorageError."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    def heads(self) -> Mapping[FileKey, Head]:
        """Where the history of each file stands."""
        return self._log.read(queries.heads)

    def record(self, changes: Sequence[NewChange]) -> None:
        """Record changes together. What the history of a file ends with already is not recorded again.

        A persona that was renamed gets the labels that it had.
        """
        self._log.change(queries.record, changes)

    def timeline(self, key: FileKey, *, limit: int = 50, before: str = "") -> Timeline:
        """The changes of a file, the newest first, and of the one that it was renamed from."""
        return self._log.read(queries.timeline, key, limit=limit, before=before)

    def get_change(self, key: FileKey, change_id: str) -> Change:
        """Raises NotFoundError."""
        return self._log.read(queries.get_change, key, change_id)

    def get_source(self, etag: str) -> str:
        """The text of a file as it once was. Raises NotFoundError."""
        return self._log.read(queries.get_source, etag)

    def get_revision(self, revision_id: str) -> Revision:
        """Raises NotFoundError."""
        return self._log.get_revision(revision_id)

    def find_revision(self, persona_id: str, at: str) -> Revision:
        """What a label points at, else the revision whose id begins so. Raises NotFoundError, InputError."""
        return self._log.read(queries.find_revision, persona_id, at)

    def present_id(self, persona_id: str, at: str = "") -> str:
        """What a persona is called by now that was called so at a time, or ever: it may have been renamed since."""
        return self._log.read(queries.present_id, persona_id, at)

    def last_revision(self, persona_id: str) -> str:
        """The id of what a persona's file was made into last; empty where the log knows none."""
        return self._log.read(queries.last_revision, persona_id)

    def labels(self, persona_id: str) -> Sequence[Label]:
        """The labels of a persona, by name."""
        return self._log.read(queries.labels, persona_id)

    def set_label(self, label: Label) -> None:
        """Let a label point at a revision, wherever it pointed before. Raises NotFoundError."""
        self._log.change(queries.set_label, label)

    def remove_label(self, persona_id: str, name: str, author: Author) -> None:
        """Raises NotFoundError."""
        self._log.change(queries.remove_label, persona_id, name, author)
