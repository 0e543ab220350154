"""Ballots of blind votes: each function is the content of one transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from sqlite_utils import Database

from rolebook.core.comparison import Ballot, CellKey
from rolebook.core.errors import ConflictError, NotFoundError
from rolebook.core.preference import Outcome
from rolebook.core.session import now
from rolebook.core.voting import is_open
from rolebook.storage.connection import execute, insert
from rolebook.storage.write import comparison_number


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
        "round": ballot.round,
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
    """Record what somebody said of it, or that they skip it. Raises NotFoundError, ConflictError.

    A vote that is there already is not overwritten by another one; the same one again changes nothing. Nor does one
    count on two answers that were voted on or skipped meanwhile, as in another tab: whoever did so may know the names.
    """
    ballot = get_ballot(db, ballot_id)
    if ballot.is_used:
        if (ballot.outcome, ballot.is_skipped) != (outcome, is_skipped):
            raise ConflictError("You have voted on these two already.")
        return ballot
    if not is_open(ballot, ballots(db, ballot.comparison_id)):
        raise ConflictError(
            "These two were voted on or skipped meanwhile, in another tab for example."
        )
    return _mark(db, replace(ballot, outcome=outcome, is_skipped=is_skipped, voted_at=now()))


def withdraw_vote(db: Database, ballot_id: str) -> Ballot:
    """Take back what somebody said of it; without a vote nothing changes. Raises NotFoundError.

    Whoever has voted knows the names, so nobody could vote blind on the same two: they count as skipped.
    """
    ballot = get_ballot(db, ballot_id)
    if ballot.outcome is None:
        return ballot
    return _mark(db, replace(ballot, outcome=None, is_skipped=True, voted_at=now()))


def _mark(db: Database, ballot: Ballot) -> Ballot:
    execute(
        db,
        "UPDATE ballots SET outcome = ?, is_skipped = ?, voted_at = ? WHERE id = ?",
        (ballot.outcome, ballot.is_skipped, ballot.voted_at, ballot.id),
    )
    return ballot


def ballots(db: Database, comparison_id: str) -> list[Ballot]:
    """All ballots of a comparison, the oldest first."""
    number = comparison_number(db, comparison_id)
    rows = execute(
        db, f"{_BALLOTS} WHERE ballots.comparison = ? ORDER BY ballots.number", (number,)
    )
    return [_ballot_of(row) for row in rows]


ON_CELL = "((left_variant, left_repeat) = (?, ?) OR (right_variant, right_repeat) = (?, ?))"
"""A condition on ballots on one input: whether one of the two cells is that of a variant and a repeat, given twice."""


def remove_ballots(db: Database, comparison: int, key: CellKey) -> int:
    """Remove what was said of a cell whose answers are gone: others may come in its place. Returns how many votes."""
    place = (comparison, key.input, *(key.variant, key.repeat) * 2)
    condition = f"comparison = ? AND input = ? AND {ON_CELL}"
    cast = execute(
        db, f"SELECT count(*) FROM ballots WHERE outcome IS NOT NULL AND {condition}", place
    )
    votes = int(cast.fetchone()[0])
    execute(db, f"DELETE FROM ballots WHERE {condition}", place)
    return votes


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
        round=row["round"],
        created_at=row["created_at"],
        voted_at=row["voted_at"] or "",
    )
