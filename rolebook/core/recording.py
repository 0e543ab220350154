"""Keeps the history of every file: notices what changed, whoever changed it, and has it recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol

from rolebook.core.errors import RolebookError
from rolebook.core.history import Action, Head, History, NewChange
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
        present: set[FileKey] = set()
        for name, text in templates.items():
            key = FileKey("template", name)
            present.add(key)
            if heads.get(key) != Head(etag_of(text), ""):
                yield NewChange(key, "seen", DISK, text)
        for entry in sorted(entries, key=lambda entry: len(entry.bases)):
            key = FileKey("persona", entry.id)
            present.add(key)
            revision = entry.resolved.revision if entry.resolved and not entry.is_stale else None
            now = Head(etag_of(entry.source), revision.id if revision else "")
            head = heads.get(key)
            if head != now:
                action: Action = "followed" if head and head.source == now.source else "seen"
                yield NewChange(key, action, DISK, entry.source, revision)
        # Folders that are not there are a mistake in the settings, not the end of every persona.
        if present and self._library.is_readable:
            for key, head in heads.items():
                if key not in present and head.source:
                    yield NewChange(key, "deleted", DISK, None)

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
