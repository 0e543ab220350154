"""The versions that a file had: its history, what changed between two of them, and labels that point at some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from rolebook.core.access import caller
from rolebook.core.difference import LineDifference, line_differences
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.frozen import frozen
from rolebook.core.history import Change, Commit, History, Label, Timeline, require_label
from rolebook.core.recording import Recorder
from rolebook.core.session import Revision, now
from rolebook.core.source import Author, Entry, FileKey, Source, etag_of


class Library(Protocol):
    """The library as it is now."""

    def entries(self) -> Sequence[Entry]:
        """Every persona file, by id."""

    def templates(self) -> Mapping[str, str]:
        """The prompt templates by name."""


class Sources(Protocol):
    """The texts of the files as they are now."""

    def read(self, key: FileKey) -> Source:
        """Raises NotFoundError, FileError."""

    def commits(self, key: FileKey) -> Sequence[Commit]:
        """The commits that changed a file, the newest first; none where that cannot be told."""

    def text_at(self, key: FileKey, commit: Commit) -> str:
        """The text of a file as of a commit. Raises NotFoundError, FileError."""


class Describe(Protocol):
    """Writes a revision as text, so that two can be laid side by side."""

    def __call__(self, revision: Revision) -> str:
        """All that decides what it answers."""


@frozen
class Difference:
    """What changed between two versions of a file, by lines.

    ``source`` is about its text, None where one of them is not known; ``resolved`` about the personas that they make,
    None for a prompt template.
    """

    source: tuple[LineDifference, ...] | None
    resolved: tuple[LineDifference, ...] | None


@frozen
class _Version:
    """A file as it was once: its text, if that is known, and a description of the persona that it made."""

    source: str | None
    resolved: str


class Versions:
    """Looks at the past of files, as far as the log has it. Every method may raise StorageError."""

    def __init__(
        self,
        *,
        library: Library,
        sources: Sources,
        history: History,
        recorder: Recorder,
        describe: Describe,
    ) -> None:
        self._present_library = library
        self._sources = sources
        self._history = history
        self._recorder = recorder
        self._describe = describe

    def history(self, key: FileKey, *, limit: int = 50, before: str = "") -> Timeline:
        """What became of a file, the newest change first, also of one that is gone. Raises StorageError.

        Arguments:
            before: the ``next`` of the page before.
        """
        self._recorder.record()
        timeline = self._history.timeline(key, limit=limit, before=before)
        now_source, now_revision = self._present(key)
        changes: list[Change] = []
        is_found = bool(before)
        for change in timeline.changes:
            is_current = (
                not is_found
                and change.action not in ("tried", "labelled")
                and (change.source, change.revision) == (now_source, now_revision)
                and bool(change.source)
            )
            is_found = is_found or is_current
            changes.append(replace(change, is_current=is_current))
        return replace(timeline, changes=tuple(changes))

    def _present(self, key: FileKey) -> tuple[str, str]:
        """The etag and the revision of a file as it is now; empty where it has none."""
        if key.kind == "template":
            text = self._present_library.templates().get(key.id)
            return ("", "") if text is None else (etag_of(text), "")
        for entry in self._present_library.entries():
            if entry.id == key.id:
                is_good = entry.resolved is not None and not entry.is_stale
                revision = entry.resolved.revision.id if entry.resolved and is_good else ""
                return etag_of(entry.source), revision
        return "", ""

    def get_change(self, key: FileKey, change_id: str) -> Change:
        """One entry of a file's history. Raises NotFoundError, StorageError."""
        return self._history.get_change(key, change_id)

    def find_change(self, key: FileKey, at: str) -> Change:
        """The change by which a persona's file last became what a label or the beginning of a revision means.

        Raises NotFoundError, also where the log has no text of it; InputError, StorageError.
        """
        self._recorder.record()
        revision = self._history.find_revision(key.id, at)
        aside = None
        for change in self._changes_with(key, revision.id):
            if change.action not in ("tried", "used", "labelled"):
                return change
            aside = aside or change
        if aside is None:
            raise _without_text(key)
        return aside

    def source_at(self, key: FileKey, change_id: str) -> str:
        """The text that a file had at a change. Raises NotFoundError, StorageError."""
        change = self._history.get_change(key, change_id)
        if not change.source:
            raise _without_text(key)
        return self._history.get_source(change.source)

    def difference(self, key: FileKey, old: str, new: str = "") -> Difference:
        """What changed between two versions of a file.

        Arguments:
            old, new: the id of a change, a label, the beginning of a revision; empty: the file as it is now.

        Raises NotFoundError, InputError, FileError, StorageError.
        """
        self._recorder.record()
        before, after = self._version(key, old), self._version(key, new)
        is_known = before.source is not None and after.source is not None
        return Difference(
            source=line_differences(before.source or "", after.source or "") if is_known else None,
            resolved=line_differences(before.resolved, after.resolved)
            if key.kind == "persona"
            else None,
        )

    def _version(self, key: FileKey, at: str) -> _Version:
        if not at:
            return self._present_version(key)
        try:
            change = self._history.get_change(key, at)
        except NotFoundError:
            if key.kind == "template":
                raise
            revision = self._history.find_revision(key.id, at)
            return _Version(self._source_of(key, revision.id), self._describe(revision))
        source = self._history.get_source(change.source) if change.source else None
        resolved = ""
        if change.revision:
            resolved = self._describe(self._history.get_revision(change.revision))
        return _Version(source, resolved)

    def _present_version(self, key: FileKey) -> _Version:
        source = self._sources.read(key).text
        resolved = ""
        for entry in self._present_library.entries() if key.kind == "persona" else ():
            if entry.id == key.id and entry.resolved and not entry.is_stale:
                resolved = self._describe(entry.resolved.revision)
        return _Version(source, resolved)

    def _source_of(self, key: FileKey, revision_id: str) -> str | None:
        """The text that made a revision, if the log has it."""
        change = next(self._changes_with(key, revision_id), None)
        return self._history.get_source(change.source) if change else None

    def _changes_with(self, key: FileKey, revision_id: str) -> Iterator[Change]:
        """The changes with a text that made a revision, the newest first."""
        before = ""
        while True:
            timeline = self._history.timeline(key, limit=200, before=before)
            for change in timeline.changes:
                if change.revision == revision_id and change.source:
                    yield change
            before = timeline.next
            if not before:
                return

    def commits(self, key: FileKey) -> Sequence[Commit]:
        """The commits of a git repository that changed a file, the newest first; none where there is no git.

        It may take some seconds, so no page should wait for it that is about something else.
        """
        return self._sources.commits(key)

    def source_at_commit(self, key: FileKey, commit_id: str) -> str:
        """The text of a file as of one of its commits. Raises NotFoundError, FileError."""
        for commit in self._sources.commits(key):
            if commit.id == commit_id:
                return self._sources.text_at(key, commit)
        raise NotFoundError(
            "No commit %(commit)s changed '%(file)s'.", commit=commit_id[:12], file=key.id
        )

    def labels(self, persona_id: str) -> Sequence[Label]:
        """The labels of a persona, by name. Raises StorageError."""
        return self._history.labels(persona_id)

    def set_label(self, persona_id: str, name: str, at: str = "", *, author: Author) -> Label:
        """Let a label point at a revision, wherever it pointed before.

        Arguments:
            at: another label, or the beginning of a revision; empty: as the file is now.

        Raises InputError for what makes no label, NotFoundError, FileError, StorageError.
        """
        require_label(name)
        self._recorder.record()
        if at:
            revision = self._history.find_revision(persona_id, at).id
        else:
            _, revision = self._present(FileKey("persona", persona_id))
            if not revision:
                raise InputError(
                    "'%(id)s' cannot be used as its file is now, so no label can point at that."
                    " Name a revision.",
                    id=persona_id[:80],
                )
        label = Label(persona_id, name, revision, signed(author), now())
        self._history.set_label(label)
        return label

    def remove_label(self, persona_id: str, name: str, *, author: Author) -> None:
        """Raises NotFoundError, StorageError."""
        self._history.remove_label(persona_id, name, signed(author))


def _without_text(key: FileKey) -> NotFoundError:
    return NotFoundError(
        "The log has no text of '%(file)s' from that time, only what it was made into.",
        file=key.id,
    )


def signed(author: Author) -> Author:
    """With the name of whoever is logged in, unless there is another one."""
    user = caller().user
    return replace(author, name=user.name) if user and not author.name else author
