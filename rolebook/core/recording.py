"""Keeps the history of every file: notices what changed, whoever changed it, and has it recorded."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol

from rolebook.core.errors import RolebookError
from rolebook.core.history import Head, History, NewChange
from rolebook.core.session import Revision
from rolebook.core.source import DISK, Entry, FileKey, etag_of

#: Whoever changes a file may not be done with the first write.
_PATIENCE_S = 0.15
#: How long to leave it after a failure that nobody has foreseen.
_RECOVERY_S = 1.0

_logger = logging.getLogger(__name__)


class Library(Protocol):
    """The library whose files have a history."""

    @property
    def generation(self) -> int:
        """Grows whenever something in the folders has changed."""

    @property
    def is_readable(self) -> bool:
        """Whether its folders could be looked into."""

    def entries(self) -> Sequence[Entry]:
        """Every persona file, by id."""

    def templates(self) -> Mapping[str, str]:
        """The prompt templates by name."""

    def follow(self, wake: threading.Event) -> Generator[None]:
        """Come back at once, and then whenever ``wake`` was set or something may have changed, until it is closed."""


class Recorder:
    """Brings the history up to date with the library. Safe for threads.

    It is asked to whenever somebody wants to see a history or has saved something; :meth:`start` lets a thread follow
    the library. While nothing changes that costs no more than the library's own precautions.
    """

    def __init__(self, library: Library, history: History) -> None:
        self._library = library
        self._history = history
        self._lock = threading.RLock()
        self._recorded = -1
        self._is_stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def record(self, *made: NewChange) -> None:
        """Record what is new in the library, as far as the log can be written; what it cannot now, comes next time.

        Arguments:
            made: changes of which more is known than that they can be seen.
        """
        try:
            with self._lock:
                generation = self._library.generation
                if generation == self._recorded and not made:
                    return
                known = {change.key for change in made}
                changes = [*made, *(c for c in self._news() if c.key not in known)]
                if changes:
                    self._history.record(changes)
                self._recorded = generation
        except RolebookError as error:
            _logger.warning("changes of the library are not recorded yet: %s", error)

    def _news(self) -> Iterator[NewChange]:
        """How the library differs from what was recorded last; templates and bases before those that use them."""
        heads = self._history.heads()
        entries, templates = self._library.entries(), self._library.templates()
        present = {FileKey("template", name): text for name, text in templates.items()}
        present |= {FileKey("persona", entry.id): entry.source for entry in entries}
        # Folders that are not there are a mistake in the settings, not the end of every persona.
        is_known = bool(present) and self._library.is_readable
        gone = [
            key for key, head in heads.items() if is_known and head.source and key not in present
        ]
        former = _former(heads, present, gone)
        for name, text in templates.items():
            key = FileKey("template", name)
            if heads.get(key) != Head(etag_of(text), ""):
                yield _seen(key, text, former.get(key))
        for entry in sorted(entries, key=lambda entry: len(entry.bases)):
            key = FileKey("persona", entry.id)
            revision = entry.resolved.revision if entry.resolved and not entry.is_stale else None
            now = Head(etag_of(entry.source), revision.id if revision else "")
            head = heads.get(key)
            if head and head != now and head.source == now.source:
                yield NewChange(key, "followed", DISK, entry.source, revision)
            elif head != now:
                yield _seen(key, entry.source, former.get(key), revision)
        became = {old: key for key, old in former.items()}
        for key in gone:
            causes = (became[key],) if key in became else ()
            yield NewChange(key, "deleted", DISK, None, causes=causes)

    def start(self) -> None:
        """Record changes soon, also while nobody looks, until :meth:`stop`."""
        with self._lock:
            if self._thread is None:
                self._is_stopping.clear()
                self._thread = threading.Thread(
                    target=self._run, name="rolebook-history", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Leave it to those who look. Returns at once, so that it may be called whatever is going on."""
        self._is_stopping.set()
        self._wake.set()

    def close(self) -> None:
        """The same, and wait until nothing is being recorded."""
        self.stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                with closing(self._library.follow(self._wake)) as looks:
                    for _ in looks:
                        if self._is_stopping.wait(_PATIENCE_S):
                            break
                        self.record()
            except Exception:
                _logger.exception("changes of the library could not be recorded")
                self._is_stopping.wait(_RECOVERY_S)


def _former(
    heads: Mapping[FileKey, Head], present: Mapping[FileKey, str], gone: Sequence[FileKey]
) -> dict[FileKey, FileKey]:
    """What new files were before: the one that is gone with the same text, where only one new file has that."""
    left: dict[tuple[str, str], list[FileKey]] = defaultdict(list)
    for key in gone:
        left[key.kind, heads[key].source].append(key)
    came: dict[tuple[str, str], list[FileKey]] = defaultdict(list)
    for key, text in present.items() if left else ():
        if key not in heads or not heads[key].source:
            came[key.kind, etag_of(text)].append(key)
    return {
        keys[0]: left[text][0]
        for text, keys in came.items()
        if len(keys) == 1 and len(left.get(text, ())) == 1
    }


def _seen(
    key: FileKey, text: str, former: FileKey | None, revision: Revision | None = None
) -> NewChange:
    """A text that somebody else wrote, or a file that they gave another name."""
    if former is None:
        return NewChange(key, "seen", DISK, text, revision)
    return NewChange(key, "renamed", DISK, text, revision, former=former.id)
