"""Personas by what people call them: ``teacher`` as it is now, ``teacher@production``, ``teacher@3f9c``."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from rolebook.core.errors import InputError, NotFoundError, StorageError
from rolebook.core.fault import FaultyDataError
from rolebook.core.persona import ResolvedPersona, persona_of_revision
from rolebook.core.session import Revision, Session

_MOST_KEPT = 64
#: So much of a revision's id tells it from others wherever people read it.
SHORT_REVISION = 8


class Library(Protocol):
    """Where personas come from as they are now."""

    def get_persona(self, persona_id: str) -> ResolvedPersona:
        """As on disk now, or its last good version. Raises NotFoundError, FileError."""

    def get_described(self, system: str) -> ResolvedPersona:
        """A persona without a file, from nothing but its system text."""

    def get_changed(self, resolved: ResolvedPersona, changes: Mapping[str, Any]) -> ResolvedPersona:
        """The persona with some keys of its file changed. Raises InputError."""


class Revisions(Protocol):
    """Where personas come from as they were. Every method may raise StorageError."""

    def find_revision(self, persona_id: str, at: str) -> Revision:
        """What a label points at, else the revision whose id begins so. Raises NotFoundError, InputError."""

    def present_id(self, persona_id: str, at: str = "") -> str:
        """What a persona is called by now that was called so at a time, or ever: it may have been renamed since."""

    def last_revision(self, persona_id: str) -> str:
        """The id of what a persona's file was made into last; empty where the log knows none."""


def split_reference(reference: str) -> tuple[str, str]:
    """The id of a persona, and the label or revision behind its ``@``; empty: as it is now."""
    persona_id, _, at = reference.partition("@")
    return persona_id, at


class PersonaFinder:
    """Finds personas by reference. Safe for threads.

    What a reference with a label or revision means comes wholly from the log, so it also holds when the file is gone.
    """

    def __init__(self, library: Library, revisions: Revisions) -> None:
        self._library = library
        self._revisions = revisions
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], ResolvedPersona] = OrderedDict()

    def get_persona(self, reference: str) -> ResolvedPersona:
        """Raises NotFoundError, FileError, InputError, and StorageError for what is in the log."""
        persona_id, at = split_reference(reference)
        if at:
            return self.at_revision(persona_id, self._revisions.find_revision(persona_id, at))
        try:
            return self._library.get_persona(persona_id)
        except NotFoundError as error:
            raise self._gone(persona_id) or error from None

    def present_id(self, session: Session) -> str:
        """The id of a session's persona by now: it may have been renamed since. Raises StorageError."""
        if not session.persona_id:
            return ""
        return self._revisions.present_id(session.persona_id, session.created_at)

    def is_own(self, session: Session, persona_id: str, at: str = "") -> bool:
        """Whether a session is one with this persona; as it was, it has the name of that time as well.

        Raises StorageError.
        """
        by_then = session.persona_id if at else ""
        return bool(persona_id) and persona_id in (by_then, self.present_id(session))

    def _gone(self, persona_id: str) -> NotFoundError | None:
        """What has become of a persona without a file, as far as the log knows, and how it can be asked."""
        try:
            present = self._revisions.present_id(persona_id)
            last = self._revisions.last_revision(persona_id)
        except StorageError:
            return None
        if present != persona_id:
            return NotFoundError(
                "There is no persona '%(id)s' any more: it was renamed, and is '%(present)s' now.",
                id=persona_id,
                present=present,
            )
        if last:
            return NotFoundError(
                "There is no persona '%(id)s' any more. What it was last is %(reference)s; if its file has another name"
                " now, give that.",
                id=persona_id,
                reference=f"{persona_id}@{last[:SHORT_REVISION]}",
            )
        return None

    def at_revision(self, persona_id: str, revision: Revision) -> ResolvedPersona:
        """A persona as it was. Raises InputError if today's format cannot read it."""
        key = persona_id, revision.id
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
        try:
            resolved = persona_of_revision(revision, persona_id)
        except FaultyDataError:
            raise InputError(
                "The revision %(revision)s of '%(persona)s' is recorded in a form that this version"
                " of Rolebook cannot use.",
                revision=revision.id[:SHORT_REVISION],
                persona=persona_id,
            ) from None
        with self._lock:
            self._kept[key] = resolved
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return resolved

    def get_described(self, system: str) -> ResolvedPersona:
        """A persona without a file, from nothing but its system text."""
        return self._library.get_described(system)

    def get_changed(self, resolved: ResolvedPersona, changes: Mapping[str, Any]) -> ResolvedPersona:
        """The persona with some keys of its file changed. Raises InputError."""
        return self._library.get_changed(resolved, changes)
