"""What the file could not take yet: kept in order, shown to readers meanwhile, written as soon as it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from sqlite_utils import Database

from rolebook.core.access import Caller
from rolebook.core.budget import Reserve, Spending
from rolebook.core.check import CheckResult
from rolebook.core.frozen import frozen
from rolebook.core.session import Revision, Session, TranscriptEnd, Turn, TurnStatus
from rolebook.storage.reach import is_visible
from rolebook.storage.write import (
    complete_turn,
    insert_session,
    insert_transcripts,
    insert_turn,
    interrupt_turns,
    require_unchanged,
)


class Write(Protocol):
    """One transaction, as a value that can be kept and tried again."""

    def apply(self, db: Database) -> object:
        """Do it, inside a transaction. Raises sqlite3.Error and RolebookError."""


@frozen
class NewSession:
    session: Session
    revision: Revision
    by: Caller

    def apply(self, db: Database) -> None:
        insert_session(db, self.session, self.revision, by=self.by)

    @property
    def is_visible(self) -> bool:
        """Whether whoever calls at the moment sees it."""
        return is_visible(self.by.user.number if self.by.user else None, self.by.key_number)


@frozen
class StartedTurn:
    """A turn as it is shown while it waits. One that goes to the end of its session ``is_appended``: by the time it
    is written, another process may have taken the place that it was to have.
    """

    turn: Turn
    revision: Revision
    owner: str
    api_key: int | None
    is_appended: bool
    session: NewSession | None = None
    """Its session, where that is recorded with it."""
    seen: int | None = None
    """As for ``SqliteLog.start_turn``."""
    is_alive: Callable[[str], bool] = bool
    allow: Callable[[Database], object] | None = None
    """Asked in the same transaction whether it may begin, so that no other comes between; raises BudgetError."""

    @property
    def is_typed(self) -> bool:
        """Whether somebody would have to type it again, if it were lost."""
        is_cell = self.session is not None and bool(self.session.session.comparison_id)
        return not (self.turn.via or is_cell)

    def apply(self, db: Database) -> Turn:
        if self.allow:
            self.allow(db)
        new = self.session
        if new:
            insert_session(db, new.session, new.revision, by=new.by, used_at=self.turn.created_at)
        elif self.seen is not None:
            require_unchanged(db, self.turn, seen=self.seen, is_alive=self.is_alive)
        is_placed = self.is_appended and self.turn.position
        turn = replace(self.turn, position=0) if is_placed else self.turn
        return insert_turn(
            db,
            turn,
            self.revision,
            owner=self.owner,
            api_key=self.api_key,
            begins_session=new is not None,
        )


@frozen
class FinishedTurn:
    turn: Turn
    results: tuple[CheckResult, ...] = ()
    digests: tuple[str, ...] = ()

    def apply(self, db: Database) -> None:
        number = complete_turn(db, self.turn, self.results)
        if self.digests:
            insert_transcripts(db, number, self.digests)


@frozen
class EndedProcess:
    """The turns that a process which is gone has left pending are to be marked."""

    owner: str

    def apply(self, db: Database) -> None:
        interrupt_turns(db, self.owner)


@frozen
class Unwritten:
    """Writes in the order they were made. A value: who reads while others write has a picture of one moment."""

    writes: tuple[Write, ...] = ()

    @property
    def turns(self) -> int:
        """How many turns are not, or not fully, in the file."""
        return len(
            {
                write.turn.id
                for write in self.writes
                if isinstance(write, StartedTurn | FinishedTurn)
            }
        )

    def spending(self, key: int) -> Spending:
        """What the turns of the key with this number have used beside what the file tells."""
        spent = Spending()
        for write in self.writes:
            if isinstance(write, StartedTurn | FinishedTurn):
                reserve = write.turn.reserve
                if reserve is not None and reserve.key == key:
                    spent += _spent(write.turn, reserve)
                    if isinstance(write, FinishedTurn):
                        # Until then it counted as what it was begun with.
                        spent += -_reserved(reserve)
        return spent

    def and_then(self, write: Write) -> Unwritten:
        """These and one more."""
        return Unwritten((*self.writes, write))

    def without_first(self) -> Unwritten:
        """These without the oldest."""
        return Unwritten(self.writes[1:])

    def find_session(self, session_id: str) -> Session | None:
        """A session that is not in the file yet, and that whoever calls sees."""
        sessions = (
            write.session
            for write in self.writes
            if isinstance(write, NewSession) and write.is_visible
        )
        return next((session for session in sessions if session.id == session_id), None)

    def find_turn(self, turn_id: str) -> Turn | None:
        """A turn as it will be in the file."""
        turns = (
            write.turn for write in self.writes if isinstance(write, StartedTurn | FinishedTurn)
        )
        return next((turn for turn in reversed(list(turns)) if turn.id == turn_id), None)

    def transcript_ends(self, digest: str) -> list[TranscriptEnd]:
        """The turns that ended as a transcript does, the newest first, as if nothing had come after them."""
        return [
            TranscriptEnd(
                session_id=write.turn.session_id,
                turn_id=write.turn.id,
                position=write.turn.position,
                is_current=True,
                choice=write.digests.index(digest),
                chosen=write.turn.chosen,
                last_position=write.turn.position,
                last_input=write.turn.input,
            )
            for write in reversed(self.writes)
            if isinstance(write, FinishedTurn) and digest in write.digests
        ]

    def added_to(self, turns: Iterable[Turn], session_id: str) -> list[Turn]:
        """The turns of a session as they are in the file, with what is not in it yet."""
        merged = {turn.id: turn for turn in turns}
        for write in self.writes:
            if isinstance(write, StartedTurn) and write.turn.session_id == session_id:
                _start(merged, write.turn)
            elif isinstance(write, FinishedTurn) and write.turn.id in merged:
                merged[write.turn.id] = replace(
                    write.turn, is_current=merged[write.turn.id].is_current
                )
        return sorted(
            merged.values(),
            key=lambda turn: (turn.position, turn.session_id != session_id, turn.attempt),
        )


def _reserved(reserve: Reserve) -> Spending:
    return Spending(
        1,
        unknown=1,
        reserved_tokens=reserve.tokens,
        reserved_cost=reserve.cost,
        running_tokens=reserve.tokens,
        running_cost=reserve.cost,
    )


def _spent(turn: Turn, reserve: Reserve) -> Spending:
    """What a turn counts as: where it did not tell what it used, as what was reserved for it and not given back."""
    if reserve.is_given_back:
        return Spending()
    if turn.status is TurnStatus.PENDING:
        return _reserved(reserve)
    tokens, cost = turn.usage.total_tokens, turn.cost
    return Spending(
        turns=1,
        tokens=tokens or 0,
        cost=cost or 0.0,
        unknown=int(tokens is None),
        reserved_tokens=reserve.tokens if tokens is None else 0,
        reserved_cost=reserve.cost if cost is None else 0.0,
        without_cost=int(cost is None),
    )


def _start(turns: dict[str, Turn], started: Turn) -> None:
    """Add a turn, which becomes the current one at its position."""
    for turn in turns.values():
        if (turn.session_id, turn.position) == (started.session_id, started.position):
            turns[turn.id] = replace(turn, is_current=False)
    turns[started.id] = started
