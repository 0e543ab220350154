"""Marks on turns: a star, a thumb and a note. Each function is the content of one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlite_utils import Database

from rolebook.core.session import TurnMark, now
from rolebook.storage import lookup
from rolebook.storage.connection import execute, insert
from rolebook.storage.encoding import decode_text


def mark_turn(db: Database, turn_id: str, changes: Mapping[str, Any]) -> TurnMark:
    """Change what is noted on a turn; a mark that is empty then is removed. Raises NotFoundError.

    Arguments:
        changes: fields of TurnMark; the others stay as they are.
    """
    number = lookup.turn_row(db, turn_id)["number"]
    known = marks_of(db, [turn_id]).get(turn_id, TurnMark(turn_id))
    mark = replace(known, **changes, updated_at=now())
    if mark.is_empty:
        execute(db, "DELETE FROM turn_marks WHERE turn = ?", (number,))
        return mark
    row = {
        "turn": number,
        "is_starred": mark.is_starred,
        "thumb": mark.thumb,
        "note": mark.note,
        "updated_at": mark.updated_at,
    }
    insert(db, "OR REPLACE INTO turn_marks", row)
    return mark


def marks_of(db: Database, turn_ids: Iterable[str]) -> dict[str, TurnMark]:
    """The marks of turns, by the turns' ids; those without one are left out."""
    rows = execute(
        db,
        "SELECT turns.id, turn_marks.* FROM turn_marks JOIN turns ON turns.number = turn_marks.turn "
        "WHERE turns.id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(turn_ids)),),
    )
    return {
        row["id"]: TurnMark(
            row["id"],
            is_starred=bool(row["is_starred"]),
            thumb=row["thumb"],
            note=decode_text(row["note"]),
            updated_at=row["updated_at"],
        )
        for row in rows
    }
