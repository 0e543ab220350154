"""The full-text index: one entry a turn, with its input, all its answers and, for a session's first turn, the title.

Turns of sessions without activity, which belong to comparisons and judges, have none: search is about talks.

The index keeps no texts of its own, so an entry is taken out by the very texts that were put in. Therefore
:func:`segment` must never change without a migration that builds the index anew.
"""

from __future__ import annotations

import re
import sqlite3
from functools import cache

from sqlite_utils import Database

from rolebook.storage.connection import execute
from rolebook.storage.encoding import decode_text, show_text
from rolebook.storage.record import FAULTS, choices_of

#: Characters of scripts that put no space between words: Han, kana, bopomofo and Hangul.
CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U000323af"
)


@cache
def _cjk_character() -> re.Pattern[str]:
    """Compiled at first use: so large a set takes milliseconds, which no command should pay for nothing."""
    return re.compile(f"[{CJK}]")


def segment(text: str) -> str:
    """The text with a space around each such character: each is a word, and a Chinese word is a phrase of them."""
    return text if text.isascii() else _cjk_character().sub(r" \g<0> ", show_text(text))


def add_turn(db: Database, number: int) -> None:
    """Let search find a turn, as it is recorded now."""
    entry = _entry(db, number)
    if entry:
        db.conn.execute(
            "INSERT INTO turn_search (rowid, input, text, title) VALUES (?, ?, ?, ?)",
            (number, *entry),
        )


def remove_turn(db: Database, number: int) -> None:
    """Take a turn out, before anything of it changes."""
    entry = _entry(db, number)
    if entry:
        db.execute(
            "INSERT INTO turn_search (turn_search, rowid, input, text, title) VALUES ('delete', ?, ?, ?, ?)",
            (number, *entry),
        )


def forget_removed(db: Database) -> None:
    """Write the index anew without the words of what was taken out, which until then are only marked as gone."""
    db.conn.execute("INSERT INTO turn_search (turn_search) VALUES ('optimize')")


def first_turn(db: Database, session_number: int) -> sqlite3.Row | None:
    """Number and status of the turn that the session's title is found by."""
    row: sqlite3.Row | None = execute(
        db,
        "SELECT number, status FROM turns WHERE session = ? ORDER BY number LIMIT 1",
        (session_number,),
    ).fetchone()
    return row


def _entry(db: Database, number: int) -> tuple[str, str, str] | None:
    row = execute(
        db,
        "SELECT input, text, finish_reason, chosen, choices, CASE WHEN EXISTS ("
        "SELECT 1 FROM turns AS earlier WHERE earlier.session = turns.session AND earlier.number < turns.number"
        ") THEN '' ELSE title END AS title "
        "FROM turns JOIN sessions ON sessions.number = turns.session WHERE turns.number = ? AND sessions.activity > 0",
        (number,),
    ).fetchone()
    if row is None:
        return None
    try:
        answers = "\n\n".join(choice.text for choice in choices_of(row))
    except FAULTS:
        # A turn that cannot be read can still be removed.
        answers = decode_text(row["text"])
    return segment(decode_text(row["input"])), segment(answers), segment(decode_text(row["title"]))
