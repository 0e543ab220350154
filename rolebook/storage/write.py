"""What the chat records: each function is the content of one transaction on a writing connection.

They may run a second time for the same session or turn, because a write whose end was not seen is tried again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlite_utils import Database

from rolebook.core.access import LOCAL, Caller
from rolebook.core.check import CheckResult
from rolebook.core.errors import NotFoundError
from rolebook.core.message import MESSAGE_ROLES, Message
from rolebook.core.session import (
    Revision,
    Session,
    Turn,
    TurnError,
    TurnStatus,
    being_answered,
    gone_on,
    now,
)
from rolebook.storage import index, lookup
from rolebook.storage.connection import execute, insert
from rolebook.storage.encoding import decode_text, encode_json, encode_some
from rolebook.storage.record import (
    answered_columns,
    asked_columns,
    encode_error,
    encode_phrase,
    message_hash,
    session_columns,
)
from rolebook.storage.revision import insert_revision

#: A condition on turns. The index over the few that are not complete is found by saying that they are not.
PENDING = "status <> 'complete' AND status = 'pending'"
#: Shorter contents are kept in place; a pointer to the turn that has the same text would not be shorter.
_SHORTEST_POINTER = 16

#: Activity is a clock that only goes forward, whatever the computer's clock does.
_NEXT_SESSION = (
    "SELECT (SELECT coalesce(max(activity), 0) + 1 FROM sessions) AS next_activity, "
    "(SELECT number FROM revisions WHERE id = ?) AS revision"
)

_ENDED = TurnError("interrupted", "Rolebook ended while this answer was under way.")


def insert_session(
    db: Database, session: Session, revision: Revision, *, by: Caller = LOCAL, used_at: str = ""
) -> None:
    """Record a session, with its tags and the turns that it inherits as a fork.

    Arguments:
        by: who begins it; one of a comparison or a judge belongs to whoever that comparison or turn belongs to.
        used_at: when its first turn begins, if that is recorded with it.
    """
    known = execute(db, _NEXT_SESSION, (revision.id,)).fetchone()
    row = session_columns(session) | {
        "used_at": used_at or session.created_at,
        # What nobody talks in stays out of the order of sessions, however many cells there are.
        "activity": known["next_activity"] if session.is_talk else 0,
        "comparison": comparison_number(db, session.comparison_id),
        "judges": _judged_turn(db, session.judges),
        "revision": known["revision"]
        or insert_revision(db, revision, by.user.name if by.user else ""),
        "inherited": inherited_turns(db, session.forked_from),
        **_begun_by(db, session, by),
    }
    cursor = insert(db, "OR IGNORE INTO sessions", row)
    if cursor.rowcount and session.tags:
        replace_tags(db, int(cursor.lastrowid or 0), session.tags)


def _begun_by(db: Database, session: Session, by: Caller) -> Mapping[str, int | None]:
    """The columns that say whose a session is."""
    if session.comparison_id:
        sql = "SELECT user, NULL AS api_key FROM comparisons WHERE id = ? AND user IS NOT NULL"
        row = execute(db, sql, (session.comparison_id,)).fetchone()
    elif session.judges:
        sql = (
            "SELECT sessions.user, sessions.api_key FROM turns JOIN sessions ON sessions.number = turns.session "
            "WHERE turns.id = ? AND sessions.user IS NOT NULL"
        )
        row = execute(db, sql, (session.judges,)).fetchone()
    else:
        return {} if by.user is None else {"user": by.user.number, "api_key": by.key_number}
    return {} if row is None else dict(row)


def replace_tags(db: Database, session_number: int, tags: Iterable[str]) -> None:
    """Give a session these tags and no others."""
    execute(db, "DELETE FROM session_tags WHERE session = ?", (session_number,))
    for tag in tags:
        insert(db, "OR IGNORE INTO session_tags", {"session": session_number, "tag": tag})


def insert_turn(
    db: Database,
    turn: Turn,
    revision: Revision,
    *,
    owner: str,
    api_key: int | None = None,
    begins_session: bool = False,
) -> Turn:
    """Record a turn as pending at its place, which it becomes the current attempt of.

    Arguments:
        owner: names the process that will finish it; empty: unknown.
        api_key: the number of the key that pays, if one does.
        begins_session: whether its session was recorded with it, a moment ago.

    Returns the turn as recorded. Raises NotFoundError for an unknown session.
    """
    session = _surroundings(db, turn, revision)
    if session["is_recorded"]:
        return lookup.get_turn(db, turn.id)
    turn = _placed(db, turn, session)
    if turn.attempt > 1:
        execute(
            db,
            "UPDATE turns SET is_current = 0 WHERE session = ? AND position = ?",
            (session["number"], turn.position),
        )
    add_turn(
        db,
        turn,
        number=session["next_number"],
        session=session["number"],
        revision=session["known_revision"] or insert_revision(db, revision),
        owner=owner,
        api_key=api_key,
    )
    if session["activity"] and not begins_session:
        execute(
            db,
            "UPDATE sessions SET activity = ?, used_at = ? WHERE number = ?",
            (session["next_activity"], turn.created_at, session["number"]),
        )
    return turn


def require_unchanged(
    db: Database, turn: Turn, *, seen: int, is_alive: Callable[[str], bool]
) -> None:
    """Raises ConflictError if another turn of a turn's session is pending, or if more was said in it than was seen.

    Arguments:
        seen: the position up to which the turn builds on what was said.
        is_alive: whether the owner of this name still runs; what others have left pending is marked.
    """
    of_session = "FROM turns WHERE session = (SELECT number FROM sessions WHERE id = ?)"
    pending = execute(
        db,
        f"SELECT DISTINCT owner {of_session} AND {PENDING} AND id <> ?",
        (turn.session_id, turn.id),
    ).fetchall()
    for row in pending:
        # Of one without a name nobody knows.
        if row["owner"] is None or is_alive(row["owner"]):
            raise being_answered()
        interrupt_turns(db, row["owner"])
    sql = f"SELECT 1 {of_session} AND position > ? AND is_current AND coalesce(text, '') <> ''"
    if execute(db, sql, (turn.session_id, seen)).fetchone():
        raise gone_on()


def add_turn(
    db: Database,
    turn: Turn,
    *,
    number: int,
    session: int,
    revision: int,
    owner: str,
    api_key: int | None = None,
) -> None:
    """Record a turn that has its place as pending.

    Arguments:
        number, session, revision: the numbers that it and what it belongs to have in the log.
        owner, api_key: as for ``insert_turn``.
    """
    row = asked_columns(turn) | {
        "number": number,
        "session": session,
        "position": turn.position,
        "attempt": turn.attempt,
        "is_current": True,
        "owner": owner or None,
        "revision": revision,
        "messages": _insert_messages(db, turn, session, number),
    }
    if api_key is not None:
        row["api_key"] = api_key
    insert(db, "INTO turns", row)


def complete_turn(db: Database, turn: Turn, results: Iterable[CheckResult] = ()) -> int:
    """Record how a turn ended, and what checks found, and let search find it.

    Arguments:
        results: on the turn itself; of a judge's turn, on the one that is judged there.

    Returns its number. Raises NotFoundError.
    """
    before = execute(
        db,
        "SELECT turns.number, status, activity, comparison, judges FROM turns "
        "JOIN sessions ON sessions.number = turns.session WHERE turns.id = ?",
        (turn.id,),
    ).fetchone()
    if before is None:
        raise NotFoundError("There is no turn %(id)s in the log.", id=turn.id)
    number = int(before["number"])
    if before["status"] != TurnStatus.PENDING:
        index.remove_turn(db, number)
        keep_messages(db, number)
    update_turn(db, number, answered_columns(turn) | {"owner": None})
    if turn.reserve is not None and turn.reserve.is_given_back:
        update_turn(db, number, {"reserved_tokens": 0, "reserved_cost": 0.0})
    if turn.status is not TurnStatus.PENDING and before["activity"]:
        index.add_turn(db, number)
    for result in results:
        if before["judges"] is None:
            _insert_result(db, result, number, before["comparison"])
        else:
            _insert_verdict(db, result, before["judges"], before["comparison"], number)
    return number


def _insert_verdict(
    db: Database, result: CheckResult, judged: int, comparison: int | None, judged_by: int
) -> None:
    turn = execute(db, "SELECT number, session FROM turns WHERE number = ?", (judged,)).fetchone()
    asking = _asking_comparison(db, turn, comparison, result)
    _insert_result(db, result, judged, asking, judged_by)


def insert_transcripts(db: Database, number: int, digests: Iterable[str]) -> None:
    """Record what the transcripts are recognised by that a turn ends, one for each of its answers."""
    for choice, digest in enumerate(digests):
        row = {"digest": bytes.fromhex(digest), "turn": number, "choice": choice}
        insert(db, "OR IGNORE INTO transcripts", row)


def interrupt_turns(db: Database, owner: str) -> None:
    """Mark what a process that is gone has left pending."""
    rows = execute(
        db,
        f"SELECT number FROM turns WHERE {PENDING} AND owner IS ?",
        (owner or None,),
    ).fetchall()
    for row in rows:
        columns = {
            "status": TurnStatus.INTERRUPTED.value,
            "owner": None,
            "error": encode_error(_ENDED),
        }
        update_turn(db, row["number"], columns)
        index.add_turn(db, row["number"])


def record_results(
    db: Database, turn_id: str, results: Iterable[CheckResult], *, comparison_id: str = ""
) -> None:
    """Record what checks found; an older result of the same check is replaced.

    Arguments:
        comparison_id: the comparison that asked; by default the one that the turn itself belongs to. What the turn's
            own talk was checked for stays its own.

    Raises NotFoundError.
    """
    turn = lookup.turn_row(db, turn_id)
    comparison = comparison_number(db, comparison_id)
    for result in results:
        asking = _asking_comparison(db, turn, comparison, result)
        _insert_result(db, result, turn["number"], asking)


def _insert_result(
    db: Database,
    result: CheckResult,
    turn: int,
    comparison: int | None,
    judged_by: int | None = None,
) -> None:
    row = {
        "turn": turn,
        "label": result.label,
        "digest": result.digest,
        "comparison": comparison,
        "has_passed": result.has_passed,
        "value": result.value,
        "said": encode_phrase(result.said),
        "judged_by": judged_by,
        "created_at": now(),
    }
    insert(db, "OR REPLACE INTO check_results", row)


def _asking_comparison(
    db: Database, turn: sqlite3.Row, comparison: int | None, result: CheckResult
) -> int | None:
    """The comparison that a result belongs to, if one has asked for it.

    Arguments:
        comparison: the one that asks now; by default the one that the turn itself belongs to.
    """
    if comparison is None:
        sql = "SELECT comparison FROM sessions WHERE number = ?"
        return execute(db, sql, (turn["session"],)).fetchone()["comparison"]  # type: ignore[no-any-return]
    sql = "SELECT comparison FROM check_results WHERE turn = ? AND label = ? AND digest = ?"
    known = execute(db, sql, (turn["number"], result.label, result.digest)).fetchone()
    if known is not None and known["comparison"] is None:
        return None
    return comparison


def update_turn(db: Database, number: int, columns: Mapping[str, Any]) -> None:
    """Change columns of one turn."""
    assignments = " = ?, ".join(columns)
    execute(db, f"UPDATE turns SET {assignments} = ? WHERE number = ?", [*columns.values(), number])


def keep_messages(db: Database, number: int) -> None:
    """Give the messages that point to a turn their own copy of its text, because the turn is about to change."""
    row = execute(db, "SELECT input, text FROM turns WHERE number = ?", (number,)).fetchone()
    for role in MESSAGE_ROLES:
        text = decode_text((row["text"] or "") if role == "assistant" else row["input"])
        execute(
            db,
            "UPDATE messages SET turn = NULL, content = ? WHERE hash = ? AND turn = ?",
            (text, message_hash(role, text), number),
        )


def comparison_number(db: Database, comparison_id: str) -> int | None:
    """The number of a comparison; ``None`` for an empty id. Raises NotFoundError."""
    if not comparison_id:
        return None
    row = execute(db, "SELECT number FROM comparisons WHERE id = ?", (comparison_id,)).fetchone()
    if row is None:
        raise unknown_comparison(comparison_id)
    return int(row["number"])


def unknown_comparison(comparison_id: str) -> NotFoundError:
    """The error for a comparison that is not there."""
    return NotFoundError("There is no comparison %(id)s in the log.", id=comparison_id[:80])


def _judged_turn(db: Database, turn_id: str) -> int | None:
    return int(lookup.turn_row(db, turn_id)["number"]) if turn_id else None


def inherited_turns(db: Database, turn_id: str) -> str | None:
    """The numbers of the turns up to this one, as they count now: later changes there do not reach the fork."""
    if not turn_id:
        return None
    fork_point = lookup.turn_row(db, turn_id)
    source = execute(
        db, "SELECT number, inherited FROM sessions WHERE number = ?", (fork_point["session"],)
    ).fetchone()
    rows = execute(
        db,
        "SELECT position, number FROM turns WHERE position < :end "
        "AND number IN (SELECT value FROM json_each(:inherited)) "
        "UNION ALL SELECT position, number FROM turns WHERE position < :end AND session = :session AND is_current",
        {
            "end": fork_point["position"],
            "inherited": source["inherited"] or "[]",
            "session": source["number"],
        },
    ).fetchall()
    # A turn of the source's own replaces an inherited one at the same position, as it comes later.
    counting = {row["position"]: row["number"] for row in rows} | {
        fork_point["position"]: fork_point["number"]
    }
    return encode_json([counting[position] for position in sorted(counting)])


def _surroundings(db: Database, turn: Turn, revision: Revision) -> sqlite3.Row:
    """All that a new turn must know, in one look: its session and what comes next in it and in the log."""
    row: sqlite3.Row | None = execute(
        db,
        "SELECT number, activity, inherited, "
        "(SELECT coalesce(max(number), 0) + 1 FROM turns) AS next_number, "
        "(SELECT coalesce(max(activity), 0) + 1 FROM sessions) AS next_activity, "
        "(SELECT max(position) FROM turns WHERE session = sessions.number) AS last_position, "
        "(SELECT max(attempt) FROM turns WHERE session = sessions.number AND position = ?) AS last_attempt, "
        "(SELECT number FROM revisions WHERE id = ?) AS known_revision, "
        "EXISTS (SELECT 1 FROM turns WHERE id = ?) AS is_recorded "
        "FROM sessions WHERE id = ? AND NOT is_purged",
        (turn.position, revision.id, turn.id, turn.session_id),
    ).fetchone()
    if row is None:
        raise NotFoundError("There is no session %(id)s in the log.", id=turn.session_id)
    return row


def _placed(db: Database, turn: Turn, session: sqlite3.Row) -> Turn:
    last = max(session["last_position"] or 0, last_position(db, session["inherited"]))
    return replace(
        turn,
        position=turn.position or last + 1,
        attempt=(session["last_attempt"] or 0) + 1,
        is_current=True,
        status=TurnStatus.PENDING,
    )


def last_position(db: Database, inherited: str | None) -> int:
    """The position of the last turn that a session inherits; 0 where it inherits none."""
    if not inherited:
        return 0
    return int(
        execute(
            db, "SELECT position FROM turns WHERE number = ?", (json.loads(inherited)[-1],)
        ).fetchone()[0]
    )


def _insert_messages(db: Database, turn: Turn, session: int, number: int) -> str:
    """The numbers of the messages of turn ``number``, in order; those that are new are recorded."""
    fields = [encode_some(message.fields) for message in turn.messages]
    hashes = [
        message_hash(message.role, message.content, further)
        for message, further in zip(turn.messages, fields, strict=True)
    ]
    numbers = _known_messages(db, hashes)
    for message, digest, further in zip(turn.messages, hashes, fields, strict=True):
        if digest not in numbers:
            # One with further fields keeps its own text, because no change of a turn could find it by that.
            source = _source(db, message, turn, session, number) if further is None else None
            row = {
                "hash": digest,
                "role": message.role,
                "turn": source,
                "content": message.content if source is None else None,
                "fields": further,
            }
            numbers[digest] = int(insert(db, "INTO messages", row).lastrowid)
    return f"[{','.join(str(numbers[digest]) for digest in hashes)}]"


def _known_messages(db: Database, hashes: Sequence[bytes]) -> dict[bytes, int]:
    marks = ", ".join("?" * len(hashes))
    rows = execute(
        db, f"SELECT hash, number FROM messages WHERE hash IN ({marks})", hashes
    ).fetchall()
    return {row["hash"]: row["number"] for row in rows}


def _source(db: Database, message: Message, turn: Turn, session: int, number: int) -> int | None:
    """The turn whose input or answer is this very text, so that it need not be kept twice."""
    if len(message.content) < _SHORTEST_POINTER:
        return None
    if message.role == "assistant":
        row = execute(
            db,
            "SELECT number FROM turns WHERE session = ? AND text = ? ORDER BY position DESC LIMIT 1",
            (session, message.content),
        ).fetchone()
        return int(row["number"]) if row else None
    return number if message.content == turn.input else None
