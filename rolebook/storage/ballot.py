"""Ballots of blind votes: each function is the content of one transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from sqlite_utils import Database

from rolebook.core.comparison import (
    Ballot,
    CellKey,
)
from rolebook.core.errors import ConflictError, NotFoundError
from rolebook.core.preference import Outcome
from rolebook.core.session import now
from rolebook.storage.connection import execute, insert
from rolebook.storage.write import (
    comparison_number,
)


def create_ballot(db: Database, ballot: Ballot) -> None:
    """Record that two cells are laid before somebody."""
    row = {
        "id": ballot.id,
        "comparison": comparison_number(db, ballot.comparison_id),
        "input": ballot.left.input,
        "left_variant": ballot.left.variant,
        "left_repeat": ballot.left.repeat,
        "right_variant": ballot.right.variant,
        "right_repeat": ballot.right.repeat,
        "created_at": ballot.created_at,
    }
    insert(db, "INTO ballots", row)


def get_ballot(db: Database, ballot_id: str) -> Ballot:
    """Raises NotFoundError."""
    row = execute(db, f"{_BALLOTS} WHERE ballots.id = ?", (ballot_id,)).fetchone()
    if row is None:
        raise NotFoundError("There is no such ballot.")
    return _ballot_of(row)


def cast_ballot(
    db: Database, ballot_id: str, outcome: Outcome | None, *, is_skipped: bool = False
) -> Ballot:
    """Record what somebody said of it, or with neither take that back. Raises NotFoundError, ConflictError.

    A vote that is there already is not overwritten by another one; the same one again changes nothing.
    """
    ballot = get_ballot(db, ballot_id)
    is_cast = ballot.outcome is not None or ballot.is_skipped
    is_new = outcome is not None or is_skipped
    if is_cast and is_new:
        if (ballot.outcome, ballot.is_skipped) != (outcome, is_skipped):
            raise ConflictError("You have voted on these two already.")
        return ballot
    voted_at = now() if is_new else ""
    execute(
        db,
        "UPDATE ballots SET outcome = ?, is_skipped = ?, voted_at = ? WHERE id = ?",
        (outcome, is_skipped, voted_at or None, ballot_id),
    )
    return replace(ballot, outcome=outcome, is_skipped=is_skipped, voted_at=voted_at)


def ballots(db: Database, comparison_id: str) -> list[Ballot]:
    """All ballots of a comparison, the oldest first."""
    number = comparison_number(db, comparison_id)
    rows = execute(
        db, f"{_BALLOTS} WHERE ballots.comparison = ? ORDER BY ballots.number", (number,)
    )
    return [_ballot_of(row) for row in rows]


_BALLOTS = (
    "SELECT ballots.*, comparisons.id AS comparison_id FROM ballots "
    "JOIN comparisons ON comparisons.number = ballots.comparison"
)


def _ballot_of(row: sqlite3.Row) -> Ballot:
    return Ballot(
        id=row["id"],
        comparison_id=row["comparison_id"],
        left=CellKey(row["left_variant"], row["input"], row["left_repeat"]),
        right=CellKey(row["right_variant"], row["input"], row["right_repeat"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        is_skipped=bool(row["is_skipped"]),
        created_at=row["created_at"],
        voted_at=row["voted_at"] or "",
    )
