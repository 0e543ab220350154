"""The session log as the rest of Rolebook sees it: :class:`SqliteLog`."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar

from sqlite_utils import Database

from rolebook.core.access import LOCAL, ApiKey, Caller, Reach, acting_for, caller, payer
from rolebook.core.budget import Spending
from rolebook.core.check import CheckResult
from rolebook.core.errors import NotFoundError, RolebookError, StorageError
from rolebook.core.session import (
    Revision,
    Session,
    TranscriptEnd,
    Turn,
    TurnMark,
    TurnStatus,
    being_answered,
    gone_on,
)
from rolebook.core.shared import SharedCounts, SharedSpending
from rolebook.storage import (
    cell,
    edit,
    export,
    lookup,
    mark,
    query,
    search,
    status,
    trash,
)
from rolebook.storage.backup import Backup, back_up
from rolebook.storage.cache import SlowValue
from rolebook.storage.connection import (
    OutageError,
    Readers,
    connect_reader,
    execute,
)
from rolebook.storage.ledger import Ledger
from rolebook.storage.owner import Owner, is_alive, remove_left
from rolebook.storage.query import Facets, PersonaStatistics, SessionFilter, SessionPage
from rolebook.storage.reach import connect_restricted, present_reach
from rolebook.storage.schema import require_sound
from rolebook.storage.search import SearchPage
from rolebook.storage.status import DatabaseStatus
from rolebook.storage.trash import Purged
from rolebook.storage.unwritten import (
    EndedProcess,
    FinishedTurn,
    NewSession,
    StartedTurn,
    Unwritten,
    Write,
)
from rolebook.storage.write import PENDING
from rolebook.storage.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

#: While writes wait for the file, one more attempt must not hold up an answer.
_SHORT_PATIENCE_S = 0.05
#: For so many users it is remembered what they can filter their sessions by.
_MOST_FACETS = 200

_logger = logging.getLogger(__name__)


class SqliteLog:
    """A log in one SQLite file, safe for many threads, and for several processes on one file.

    Nothing is touched before the first use, which opens the file in the process that uses it; so it must not be used
    before a fork. Every method may raise StorageError. ``create_session``, ``start_turn`` and ``finish_turn`` do
    not fail because the file is locked, full or not writable at the moment: what they record is kept in memory,
    seen by ``get_session``, ``get_turn``, ``history`` and ``session_turns``, counted by ``unwritten`` and written
    later.

    Arguments:
        path: the file; folders on the way to it are made.
        patience_s: how long a lock of another process is waited for.
        retry_s: how often a file that could not be written is tried again.
        unwritten_limit: how many turns are kept in memory at most; then no new turn is started.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        patience_s: float = 2.0,
        retry_s: float = 1.0,
        unwritten_limit: int = 1000,
    ) -> None:
        self.path = Path(path)
        self._patience_s = patience_s
        self._retry_s = retry_s
        self._unwritten_limit = unwritten_limit
        self._writer = Writer(
            self.path,
            patience_s=lambda: self._patience_now_s,
            prepare_changes=self._require_flushed,
        )
        self._lock = self._writer.lock
        self._readers = Readers(self.path, connect_reader)
        self._restricted_readers = Readers(self.path, connect_restricted)
        self._owner: Owner | None = None
        self._is_open = False
        self._unwritten = Unwritten()
        self._counts: SharedCounts | None = None
        self._shared_spending: SharedSpending | None = None
        self._ledger = Ledger()
        self._outage: OutageError | None = None
        self._retry_at = 0.0
        self._retry_thread: threading.Thread | None = None
        self._is_closing = threading.Event()
        self._probed = ""
        self._facets: OrderedDict[Reach | None, SlowValue[Facets]] = OrderedDict()
        self._facets_lock = threading.Lock()

    @property
    def unwritten(self) -> int:
        """How many turns are in memory only, because the file cannot be written at the moment."""
        return self._unwritten.turns

    def share(self, counts: SharedCounts, spending: SharedSpending) -> None:
        """Tell other processes how many turns are in memory only, and what keys have used in them; learn it of them."""
        self._counts, self._shared_spending = counts, spending

    def open(self, *, check: bool = False) -> None:
        """Open the file now, make or migrate it, and mark the turns that a dead process left pending.

        A missing or read-only folder, a file that is no log, a damaged one and one of a newer Rolebook raise
        StorageError, and are not touched.

        Arguments:
            check: look through the whole file for damage first; takes seconds for gigabytes.
        """
        if check:
            require_sound(self.path)
        if self._is_open:
            return
        with self._lock:
            if not self._is_open:
                self._writer.open()
                self._is_closing.clear()
                self._is_open = True
                # Whoever comes first opens it for everybody.
                with acting_for(LOCAL):
                    self.interrupt_orphans()

    def probe(self) -> None:
        """Look whether the file is there and can be read, which what is in memory of it does not tell.

        Raises StorageError; GoneError, if it was moved or removed while it was open. What changes is logged.
        """
        try:
            self.open()
            self._writer.require_same_file()
            status.read_anew(self.path)
        except StorageError as error:
            self._note_probed(error)
            raise
        self._note_probed(None)

    def _note_probed(self, error: StorageError | None) -> None:
        before, self._probed = self._probed, str(error) if error else ""
        if error and self._probed != before:
            _logger.error("the log cannot be used: %s", error)
        elif before and not error:
            _logger.warning("the log %s can be used again", self.path)

    def close(self) -> None:
        """Write what is still unwritten, if that is possible now, and close the file. Using the log opens it again."""
        self._is_closing.set()
        with self._lock:
            self._retry_at = 0.0
            if not self._flush():
                _logger.error(
                    "%d turns could not be written to the log %s", self.unwritten, self.path
                )
            if self._owner:
                self._owner.leave()
                self._owner = None
            self._writer.close()
            self._readers.close()
            self._restricted_readers.close()
            self._is_open = False

    def create_session(self, session: Session, revision: Revision) -> None:
        """Record a new session together with the revision it starts with."""
        self._write_or_keep(NewSession(session, revision, caller()))

    def get_session(self, session_id: str) -> Session:
        """Also finds one in the trash. Raises NotFoundError."""
        unwritten = self._unwritten.find_session(session_id)
        if unwritten is not None:
            return unwritten
        try:
            return self.read(lookup.get_session, session_id)
        except NotFoundError:
            self._require_known(session_id)
            raise

    def get_turn(self, turn_id: str) -> Turn:
        """A whole turn. Raises NotFoundError."""
        turn = self._unwritten.find_turn(turn_id)
        if turn is None:
            try:
                return self.read(lookup.get_turn, turn_id)
            except NotFoundError:
                self._require_known(turn_id)
                raise
        if present_reach() is not None:
            self.get_session(turn.session_id)
        return turn

    def _require_known(self, id: str) -> None:
        """Raises StorageError if what is not in the file may be in the memory of another process."""
        if self._counts is not None and self._counts.sum_of_others():
            raise StorageError(
                "%(id)s is not in the log, perhaps only not yet: the file %(path)s cannot be written at the moment, so "
                "that another process keeps turns in its memory. Try again a little later.",
                id=id[:80],
                path=str(self.path),
            )

    def get_revision(self, revision_id: str) -> Revision:
        """A persona as it was. Raises NotFoundError."""
        kept = (
            write.revision
            for write in self._unwritten.writes
            if isinstance(write, NewSession | StartedTurn)
        )
        unwritten = next((revision for revision in kept if revision.id == revision_id), None)
        return unwritten or self.read(lookup.get_revision, revision_id)

    def session_turns(self, session_id: str, *, is_whole: bool = False) -> Sequence[Turn]:
        """All attempts by position, and the turns that a fork inherits, which belong to other sessions.

        Messages and replies only if they are to be whole. Raises NotFoundError.
        """
        # The unwritten come first: what is written in between is then seen twice, but never not at all.
        unwritten = self._unwritten
        session = unwritten.find_session(session_id)
        if session:
            turns = self.turns_up_to(session.forked_from) if session.forked_from else []
        else:
            turns = self.read(lookup.session_turns, session_id, is_whole=is_whole)
        return unwritten.added_to(turns, session_id)

    def history(self, session_id: str, *, before: int | None = None) -> Sequence[Turn]:
        """The turns of a session that count, in order, without messages and replies.

        At each position that is the current attempt; where that got no text, the last one that did. A fork's inherited
        turns come first, and its own replace them at the same position. Only those at positions lower than ``before``,
        if it is given. Raises NotFoundError.
        """
        return [
            turn
            for turn in self.latest_turns(session_id)
            if turn.text and (before is None or turn.position < before)
        ]

    def latest_turns(self, session_id: str) -> Sequence[Turn]:
        """The turn at each position of a session, in order: of its history, or else the last attempt there.

        Without messages and replies. Raises NotFoundError.
        """

        def precedence(turn: Turn) -> tuple[bool, bool, bool, int]:
            return bool(turn.text), turn.session_id == session_id, turn.is_current, turn.attempt

        latest: dict[int, Turn] = {}
        for turn in self.session_turns(session_id):
            rival = latest.get(turn.position)
            if rival is None or precedence(turn) > precedence(rival):
                latest[turn.position] = turn
        return [latest[position] for position in sorted(latest)]

    def start_turn(
        self,
        turn: Turn,
        revision: Revision,
        session: Session | None = None,
        *,
        seen: int | None = None,
    ) -> Turn:
        """Record a turn as pending, before the call; together with its session, if that is given as a new one.

        A turn at position 0 goes to the end of its session; one at a position that is taken becomes the next
        attempt there and the current one. Returns the turn as recorded.

        Arguments:
            seen: the position up to which it builds on what was said. If another turn of the session is pending, or
                something was said behind that position, nothing is recorded. None: that does not matter.

        Raises NotFoundError, ConflictError.
        """
        self.open()
        new = NewSession(session, revision, caller()) if session else None
        paying = payer()
        key = paying.key
        write = StartedTurn(
            turn,
            revision,
            self.owner_id(),
            api_key=paying.key_number,
            is_appended=not turn.position,
            session=new,
            seen=seen,
            is_alive=partial(is_alive, self.path),
            allow=partial(self._require_budget, key=key) if key and turn.reserve else None,
        )
        try:
            # What a program asks, it can ask again: the disk is waited for once, when the turn has ended.
            return self._writer.apply(write.apply, is_awaited=write.is_typed)
        except OutageError as outage:
            with self._lock:
                self._require_room(outage)
                if seen is not None and not new:
                    self._require_unchanged(turn.session_id, seen)
                if key and turn.reserve:
                    self.require_budget(key)
                if new:
                    self._keep(new, outage)
                placed = self._placed(turn)
                # What comes to it later, from whichever process, does not undo it.
                kept = replace(write, turn=placed, session=None, seen=None, allow=None)
                self._keep(kept, outage)
                return placed

    def finish_turn(
        self, turn: Turn, results: Sequence[CheckResult] = (), digests: Sequence[str] = ()
    ) -> None:
        """Record how it ended, before the end is announced, together with what checks found on it.

        Of a judge's turn, ``results`` are what it says of the turn that is judged in its session. ``digests``
        are those of the transcript that each of its answers ends. Raises NotFoundError.
        """
        self._write_or_keep(FinishedTurn(turn, tuple(results), tuple(digests)))

    def spending(self, key: ApiKey) -> tuple[Spending, Spending]:
        """What a key has used today and this month, in UTC, whoever asks."""
        # The unwritten come first: what is written in between then counts twice, but never not at all.
        unwritten = self._unwritten.spending(key.number) + self._spending_of_others(key)
        with acting_for(LOCAL):
            day, month = self.read(self._ledger.spending, key)
        return day + unwritten, month + unwritten

    def require_budget(self, key: ApiKey) -> Spending:
        """Raises BudgetError if a key may begin no turn now, else returns what it has used this month."""
        unwritten = self._unwritten.spending(key.number) + self._spending_of_others(key)
        with acting_for(LOCAL):
            return self.read(self._ledger.require_budget, key, unwritten)[1]

    def _require_budget(self, db: Database, key: ApiKey) -> None:
        """The same where a turn is written, so that nothing is unwritten in this process."""
        self._ledger.require_budget(db, key, self._spending_of_others(key))

    def _spending_of_others(self, key: ApiKey) -> Spending:
        """What a key has used in the turns that are in the memory of other processes only."""
        shared = self._shared_spending
        return shared.sum_of_others(key.number) if shared is not None else Spending()

    def transcript_ends(self, digest: str) -> Sequence[TranscriptEnd]:
        """The turns that ended as a transcript does, outside the trash, the newest first; of those in the file a few
        at most.
        """
        # The unwritten come first: what is written in between is then found twice, but never not at all.
        unwritten = self._unwritten
        kept, written = (
            unwritten.transcript_ends(digest),
            self.read(lookup.transcript_ends, digest),
        )
        return (
            [self._with_unwritten(end) for end in (*kept, *written)]
            if unwritten.writes
            else written
        )

    def _with_unwritten(self, end: TranscriptEnd) -> TranscriptEnd:
        """How the session of a turn goes on behind it, with what is not in the file yet."""
        turns = [
            turn for turn in self.session_turns(end.session_id) if turn.session_id == end.session_id
        ]
        last = max(turns, key=lambda turn: (turn.position, turn.attempt))
        own = next(turn for turn in turns if turn.id == end.turn_id)
        return replace(
            end,
            position=own.position,
            is_current=own.is_current,
            last_position=last.position,
            last_input=last.input,
        )

    def last_turn(self, session_id: str) -> Turn:
        """The turn that "try again" means: the current one at the last position, whatever became of it.

        Raises NotFoundError, also for a session without turns.
        """
        current = [turn for turn in self.session_turns(session_id) if turn.is_current]
        if not current:
            raise NotFoundError(
                "The session %(id)s has no turn that could be tried again.", id=session_id
            )
        return max(current, key=lambda turn: (turn.position, turn.session_id == session_id))

    def list_sessions(
        self, filter: SessionFilter | None = None, *, limit: int = 50, before: str = ""
    ) -> SessionPage:
        """One page of sessions, the last used first.

        Arguments:
            filter: which ones; None: all outside the trash.
            before: the cursor of the page before; anything else begins at the start.
        """

        def page(db: Database) -> SessionPage:
            wanted = filter or SessionFilter()
            found = search.found_sessions(db, wanted.search) if wanted.search.strip() else None
            return query.list_sessions(db, wanted, found=found, limit=limit, before=before)

        return self.read(page)

    def search(
        self, text: str, *, persona_id: str = "", limit: int = 20, before: str = ""
    ) -> SearchPage:
        """Turns that match what a person typed, the newest first, with the places where they do.

        Arguments:
            text: words, "phrases" and begin*; nothing of it raises, and an empty one finds nothing.
            persona_id: only turns of sessions with this persona; of a reference, as in :class:`SessionFilter`.
            before: the cursor of the page before; anything else begins at the start.
        """
        return self.read(search.search, text, persona_id=persona_id, limit=limit, before=before)

    def facets(self) -> Facets:
        """What sessions can be filtered by. Where counting takes long, the counts may be some seconds old."""
        reach = present_reach()
        with self._facets_lock:
            facets = self._facets.get(reach)
            if facets is None:
                facets = self._facets[reach] = SlowValue(partial(self._count_facets, caller()))
            self._facets.move_to_end(reach)
            while len(self._facets) > _MOST_FACETS:
                self._facets.popitem(last=False)
        return facets.get()

    def _count_facets(self, by: Caller) -> Facets:
        # They may be counted anew behind a page, in a thread where nobody calls.
        with acting_for(by):
            return self.read(query.facets)

    def statistics_of_persona(self, persona_id: str) -> PersonaStatistics:
        """How much a persona was used."""
        return self.read(query.statistics_of_persona, persona_id)

    def database_status(self, *, check: bool = False) -> DatabaseStatus:
        """The state of the file; with ``check`` it is looked through for damage, which takes seconds for gigabytes."""
        return self.read(status.database_status, self.path, unwritten=self.unwritten, check=check)

    def export_sessions(self, ids: Iterable[str] | None, format: str) -> Iterator[str]:
        """Sessions as text, piece by piece.

        Arguments:
            ids: which ones, in this order; None: all outside the trash, in the order they were made.
            format: one of :data:`rolebook.storage.export.EXPORT_FORMATS`.

        Raises InputError for an unknown format, NotFoundError for an unknown session, and StorageError where a turn
        cannot be read, before the first piece.
        """
        if ids is not None:
            ids = [self.get_session(session_id).id for session_id in ids]
        self.read(lookup.require_readable, ids)
        return export.export_sessions(self, self._all_ids() if ids is None else ids, format)

    def rename(self, session_id: str, title: str) -> None:
        """Give a session a title. Raises NotFoundError."""
        self.change(edit.rename, session_id, title)

    def star(self, session_id: str, is_starred: bool = True) -> None:
        """Mark a session, or take the mark away. Raises NotFoundError."""
        self.change(edit.star, session_id, is_starred)

    def tag(self, session_id: str, tags: Iterable[str]) -> None:
        """Replace all tags of a session. Raises NotFoundError."""
        self.change(edit.tag, session_id, tags)

    def delete(self, ids: Iterable[str]) -> int:
        """Move sessions to the trash. Returns how many; unknown ones are passed over."""
        return self.change(trash.delete, ids)

    def delete_unused(self, before: str) -> int:
        """Move the sessions without a star that were last used before a date or time to the trash. Returns how many.

        Raises InputError for what is no date, and StorageError if there is no log.
        """
        self._require_file()
        return self.change(trash.delete_unused, before)

    def restore(self, ids: Iterable[str]) -> int:
        """Take sessions out of the trash. Returns how many."""
        return self.change(trash.restore, ids)

    def back_up(self, target: Path) -> Backup:
        """Copy the file, while others write to it, to one that is not there yet.

        Raises ConflictError if it is, and StorageError if there is no log.
        """
        self._require_file()
        self.open()
        return back_up(self.path, target)

    def purge_deleted(self, before: str) -> Purged:
        """Remove for good the sessions and comparisons that were put into the trash before a time (ISO 8601).

        Raises StorageError if there is no log.
        """
        self._require_file()
        return self.change(trash.purge, before)

    def _require_file(self) -> None:
        """Who looks after a log must not be told that an empty one, made just now, is in order."""
        if not self.path.exists():
            raise StorageError(
                "There is no log at %(path)s, so nothing was done. Check the folder and ROLEBOOK_DATABASE.",
                path=str(self.path),
            )

    def choose_attempt(self, turn_id: str) -> Turn:
        """Make a turn the one at its position that counts as history. Raises NotFoundError."""
        return self.change(edit.choose_attempt, turn_id)

    def choose_alternative(self, turn_id: str, index: int) -> Turn:
        """Make ``choices[index]`` the answer that counts. Raises NotFoundError, and InputError if there is none."""
        return self.change(edit.choose_alternative, turn_id, index)

    def mark_turn(
        self,
        turn_id: str,
        *,
        is_starred: bool | None = None,
        thumb: Literal[-1, 0, 1] | None = None,
        note: str | None = None,
    ) -> TurnMark:
        """Note something on a turn: what is None stays as it is. Raises NotFoundError."""
        given = {"is_starred": is_starred, "thumb": thumb, "note": note}
        changes = {name: value for name, value in given.items() if value is not None}
        return self.change(mark.mark_turn, turn_id, changes)

    def marks_of(self, turn_ids: Iterable[str]) -> Mapping[str, TurnMark]:
        """What is noted on turns, by the turns' ids; those with nothing on them are left out."""
        return self.read(mark.marks_of, turn_ids)

    def results_of_turns(self, turn_ids: Iterable[str]) -> Mapping[str, tuple[CheckResult, ...]]:
        """What checks found on turns, by the turns' ids; those without results are left out."""
        return self.read(cell.results_of_turns, turn_ids)

    def read(
        self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What a function finds in one consistent view of the file; its first argument is the connection.

        It finds no more than whoever calls may see (see :mod:`rolebook.storage.reach`).
        """
        self.open()
        reach = present_reach()
        if reach is None:
            with self._readers.reading() as db:
                return function(db, *args, **kwargs)
        with self._restricted_readers.reading() as restricted:
            restricted.reach = reach
            return function(restricted, *args, **kwargs)

    def change(
        self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Make a change, whole or not at all, or say at once that it cannot be made now."""
        self.open()
        with self._facets_lock:
            for facets in self._facets.values():
                facets.forget()
        return self._writer.apply(lambda db: function(db, *args, **kwargs))

    def begin(
        self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As ``change``, where something begins that a power cut would end, too: the disk is waited for at its end.

        It is no session that anybody sees in a list.
        """
        self.open()
        return self._writer.apply(lambda db: function(db, *args, **kwargs), is_awaited=False)

    def _write_or_keep(self, write: Write) -> None:
        self.open()
        try:
            self._writer.apply(write.apply)
        except OutageError as outage:
            with self._lock:
                self._keep(write, outage)

    @property
    def _patience_now_s(self) -> float:
        return _SHORT_PATIENCE_S if self._unwritten.writes else self._patience_s

    def _keep(self, write: Write, outage: OutageError) -> None:
        """Keep for later what cannot be written now."""
        self._outage = outage
        if not self._unwritten.writes:
            _logger.warning("turns are kept in memory: %s", outage)
        self._note_unwritten(self._unwritten.and_then(write), write)
        if self._retry_thread is None:
            self._retry_at = time.monotonic() + self._retry_s / 2
            thread = threading.Thread(target=self._retry, name="rolebook-log-retry", daemon=True)
            # Where the system has no room for it now, the next write tries again.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._retry_thread = thread

    def _note_unwritten(self, unwritten: Unwritten, changed: Write) -> None:
        """These are unwritten from now on, one write more or less than before."""
        self._unwritten = unwritten
        if self._counts is not None:
            self._counts.set(len(unwritten.writes))
        if self._shared_spending is not None and isinstance(changed, StartedTurn | FinishedTurn):
            reserve = changed.turn.reserve
            if reserve is not None:
                self._shared_spending.set(reserve.key, unwritten.spending(reserve.key))

    def _retry(self) -> None:
        is_done = False
        while not is_done:
            is_closing = self._is_closing.wait(self._retry_s)
            with self._lock:
                is_done = is_closing or self._flush()
                if is_done:
                    self._retry_thread = None

    def _require_flushed(self) -> None:
        if not self._flush() and self._outage:
            raise OutageError(self._outage.message, **self._outage.parameters)

    def _flush(self) -> bool:
        """Write what waits, in order. Returns whether nothing is left."""
        if self._unwritten.writes and time.monotonic() < self._retry_at:
            return False
        while self._unwritten.writes:
            try:
                # It may be another's: whoever comes by here only carries it to the file.
                with acting_for(LOCAL):
                    self._writer.apply_at_once(self._unwritten.writes[0].apply)
            except OutageError as outage:
                self._outage = outage
                self._retry_at = time.monotonic() + self._retry_s / 2
                return False
            except RolebookError:
                _logger.exception(
                    "a change could not be written to the log %s and is given up", self.path
                )
            self._note_unwritten(self._unwritten.without_first(), self._unwritten.writes[0])
            if not self._unwritten.writes:
                _logger.warning(
                    "the log %s can be written again; nothing is left in memory", self.path
                )
        return True

    def _require_room(self, outage: OutageError) -> None:
        if self.unwritten >= self._unwritten_limit:
            raise StorageError(
                "%(count)d turns wait to be written to the log %(path)s, and no more are kept in memory. %(reason)s",
                count=self.unwritten,
                path=str(self.path),
                reason=str(outage),
            ) from outage

    def _require_unchanged(self, session_id: str, seen: int) -> None:
        """As where a turn is recorded in the file, while that cannot be written. Raises ConflictError."""
        own = [turn for turn in self.session_turns(session_id) if turn.session_id == session_id]
        if any(turn.status is TurnStatus.PENDING for turn in own):
            raise being_answered()
        if any(turn.position > seen and turn.is_current and turn.text for turn in own):
            raise gone_on()

    def _placed(self, turn: Turn) -> Turn:
        """The turn at the place that it will have in the file."""
        turns = self.session_turns(turn.session_id)
        position = turn.position or 1 + max((other.position for other in turns), default=0)
        attempts = [
            other.attempt
            for other in turns
            if (other.session_id, other.position) == (turn.session_id, position)
        ]
        return replace(
            turn,
            position=position,
            attempt=1 + max(attempts, default=0),
            is_current=True,
            status=TurnStatus.PENDING,
        )

    def turns_up_to(self, turn_id: str) -> list[Turn]:
        """The turns that are history after this one, which is the last of them. Raises NotFoundError."""
        last = self.get_turn(turn_id)
        return [*self.history(last.session_id, before=last.position), last]

    def owner_id(self) -> str:
        """The name under which this log begins things, and by which others see whether it is alive; empty: unknown."""
        owner = self._owner or self._new_owner()
        return owner.id if owner else ""

    def _new_owner(self) -> Owner | None:
        with self._lock:
            if self._owner is None:
                try:
                    self._owner = Owner(self.path)
                except OSError as error:
                    _logger.warning("turns begun now cannot be told from abandoned ones: %s", error)
            return self._owner

    def interrupt_orphans(self) -> None:
        """Mark the turns as interrupted that were left pending by processes which are gone."""

        def owners_of_pending(db: Database) -> list[str]:
            sql = f"SELECT DISTINCT owner FROM turns WHERE {PENDING}"
            return [row["owner"] or "" for row in execute(db, sql)]

        for owner_id in self.read(owners_of_pending):
            if not is_alive(self.path, owner_id):
                self._write_or_keep(EndedProcess(owner_id))
        # Most that were killed had nothing pending.
        remove_left(self.path)

    def _all_ids(self) -> Iterator[str]:
        last = 0
        while batch := self.read(lookup.session_ids, after=last, limit=500):
            yield from (session_id for _, session_id in batch)
            last = batch[-1][0]
