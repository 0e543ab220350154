"""What people change on sessions and turns afterwards. Each function is the content of one transaction."""

from __future__ import annotations

from collections.abc import Iterable

from sqlite_utils import Database

from rolebook.core.errors import InputError
from rolebook.core.session import Turn, TurnStatus
from rolebook.storage import index, lookup
from rolebook.storage.connection import execute
from rolebook.storage.record import choice_columns, turn_of
from rolebook.storage.write import keep_messages, replace_tags, update_turn


def rename(db: Database, session_id: str, title: str) -> None:
    """Give a session another title, and let search find it by that. Raises NotFoundError."""
    number = lookup.session_row(db, session_id)["number"]
    first = index.first_turn(db, number)
    is_indexed = first is not None and first["status"] != TurnStatus.PENDING
    if first is not None and is_indexed:
        index.remove_turn(db, first["number"])
    execute(db, "UPDATE sessions SET title = ? WHERE number = ?", (title, number))
    if first is not None and is_indexed:
        index.add_turn(db, first["number"])


def star(db: Database, session_id: str, is_starred: bool) -> None:
    """Raises NotFoundError."""
    number = lookup.session_row(db, session_id)["number"]
    execute(db, "UPDATE sessions SET is_starred = ? WHERE number = ?", (is_starred, number))


def tag(db: Database, session_id: str, tags: Iterable[str]) -> None:
    """Replace all tags of a session. Raises NotFoundError."""
    stripped = (tag.strip() for tag in tags)
    replace_tags(db, lookup.session_row(db, session_id)["number"], [tag for tag in stripped if tag])


def choose_attempt(db: Database, turn_id: str) -> Turn:
    """Make a turn the one at its position that counts as history. Raises NotFoundError."""
    row = lookup.turn_row(db, turn_id)
    execute(
        db,
        "UPDATE turns SET is_current = (number = ?) WHERE session = ? AND position = ?",
        (row["number"], row["session"], row["position"]),
    )
    return lookup.get_turn(db, turn_id)


def choose_alternative(db: Database, turn_id: str, choice_index: int) -> Turn:
    """Make one of several answers the one that counts.

    Raises NotFoundError, and InputError if there is no such answer.
    """
    row = lookup.turn_row(db, turn_id)
    choices = turn_of(row).choices
    if not 0 <= choice_index < len(choices):
        raise InputError(
            "Turn %(id)s has %(count)d answers, so there is no answer number %(number)d.",
            id=turn_id,
            count=len(choices),
            number=choice_index + 1,
        )
    keep_messages(db, row["number"])
    update_turn(db, row["number"], choice_columns(choices, choice_index))
    return lookup.get_turn(db, turn_id)
