"""Comparisons and what fills their cells: each function is the content of one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from sqlite_utils import Database

from rolebook.core.access import caller
from rolebook.core.comparison import (
    Break,
    CellKey,
    Comparison,
    Tally,
)
from rolebook.core.comparison_data import comparison_data, comparison_of, readable_time
from rolebook.core.errors import ConflictError, Phrase, StorageError
from rolebook.core.fault import Fault, FaultyDataError, describe_path
from rolebook.core.frozen import frozen
from rolebook.core.preference import Outcome
from rolebook.core.session import Revision, Session, Turn, TurnError, TurnStatus, now
from rolebook.storage import cell, lookup
from rolebook.storage.ballot import ON_CELL, remove_ballots
from rolebook.storage.connection import execute, insert
from rolebook.storage.encoding import (
    decode_json,
    decode_text,
    encode_json,
    encode_some,
)
from rolebook.storage.reach import is_visible, within_reach
from rolebook.storage.readable import (
    UNREADABLE_TURNS,
    is_json,
    is_unreadable_result,
    is_unreadable_turn,
)
from rolebook.storage.record import (
    message_hash,
    revision_of,
    session_columns,
)
from rolebook.storage.revision import insert_revision, sessions_of
from rolebook.storage.write import (
    add_turn,
    comparison_number,
    inherited_turns,
    last_position,
    unknown_comparison,
)

#: A longer plan is not kept once it is read, in characters.
_LONGEST_KEPT = 1_000_000


@frozen
class ComparisonSummary:
    """A comparison as a line of a list: how far it is, how often it was voted on, and why its last run broke off.

    ``runner`` runs it, or did when it was killed. ``flaw`` is what of it cannot be read: it has no variants, inputs
    and cells then, and can only be deleted.
    """

    comparison: Comparison
    tally: Tally
    votes: int
    breaks: tuple[Break, ...] = ()
    runner: str = ""
    flaw: StorageError | None = None


def summary_data(summary: ComparisonSummary) -> dict[str, Any]:
    """A line of the list as JSON has it: the whole plan, how far it is, and its votes."""
    data = comparison_data(summary.comparison)
    return {
        **data,
        "tally": tally_data(summary.tally),
        "votes": summary.votes,
        "breaks": list(map(break_data, summary.breaks)),
        "flaw": str(summary.flaw or ""),
    }


def tally_data(tally: Tally) -> dict[str, Any]:
    """How far a comparison is as JSON has it."""
    return {**asdict(tally), "waiting": tally.waiting}


def break_data(found: Break) -> dict[str, Any]:
    """Why a run broke off as JSON has it, in English."""
    return {
        "upstream": found.upstream,
        "calls": found.calls,
        "code": found.error.code,
        "message": str(found.said),
        "at": found.at,
    }


def create_comparison(db: Database, comparison: Comparison, revisions: Iterable[Revision]) -> None:
    """Record a comparison, and link the cells whose answers are in the log already.

    Raises NotFoundError, ConflictError if there is one of that id, and FaultyDataError for one that could not be read
    back.
    """
    if execute(db, "SELECT 1 FROM comparisons WHERE id = ?", (comparison.id,)).fetchone():
        raise ConflictError("This comparison is in the log already.")
    plan = encode_json(comparison_data(comparison))
    _plan_in(plan)
    for revision in revisions:
        insert_revision(db, revision)
    row: dict[str, Any] = {
        "id": comparison.id,
        "question": comparison.question,
        "created_at": comparison.created_at,
        "repeats_of": comparison.repeats_of,
        "plan": plan,
    }
    if (user := caller().user) is not None:
        row["user"] = user.number
    number = int(insert(db, "INTO comparisons", row).lastrowid)
    for variant, entry in _recorded(comparison):
        turns = [lookup.turn_row(db, turn_id) for turn_id in comparison.inputs[entry].recorded]
        key = CellKey(variant, entry, 0)
        _link(db, number, key, turns[0]["session"], [turn["number"] for turn in turns])


def _recorded(comparison: Comparison) -> Iterator[tuple[int, int]]:
    for number, variant in enumerate(comparison.variants):
        if variant.is_recorded:
            for index, entry in enumerate(comparison.inputs):
                if entry.recorded:
                    yield number, index


def _link(db: Database, comparison: int, key: CellKey, session: int, reused: Sequence[int]) -> None:
    row = {
        "comparison": comparison,
        "input": key.input,
        "repeat": key.repeat,
        "variant": key.variant,
        "session": session,
        "reused": encode_some(reused),
    }
    insert(db, "OR REPLACE INTO cells", row)


def get_comparison(db: Database, comparison_id: str) -> Comparison:
    """Raises NotFoundError, StorageError where it is damaged."""
    return _comparison_of(db, _row_of(db, comparison_id))


def require_comparison(db: Database, comparison_id: str) -> None:
    """Raises NotFoundError if there is none; one that cannot be read is there."""
    _row_of(db, comparison_id)


def cell_of_session(db: Database, session_id: str) -> CellKey | None:
    """The place in its grid of the cell that was filled in a session; ``None`` where none shows it now."""
    row = execute(
        db,
        "SELECT variant, input, repeat FROM cells JOIN sessions ON sessions.number = cells.session "
        "WHERE sessions.id = ? AND reused IS NULL",
        (session_id,),
    ).fetchone()
    return CellKey(*row) if row else None


def get_summary(db: Database, comparison_id: str) -> ComparisonSummary:
    """One comparison as its line of the list, also where it is damaged. Raises NotFoundError."""
    return _summary_of(db, _row_of(db, comparison_id))


def _row_of(db: Database, comparison_id: str) -> sqlite3.Row:
    row = execute(db, "SELECT * FROM comparisons WHERE id = ?", (comparison_id,)).fetchone()
    if row is None or not is_visible(row["user"], None):
        raise unknown_comparison(comparison_id)
    found: sqlite3.Row = row
    return found


def _comparison_of(db: Database, row: sqlite3.Row) -> Comparison:
    try:
        planned = _plan_in(row["plan"])
        _require_revisions(db, planned)
        _require_places(db, row["number"], planned)
        _require_rows(db, row["number"])
    except FaultyDataError as error:
        fault = error.faults[0]
        raise StorageError(
            "The comparison %(id)s in the log is damaged, so it cannot be shown: %(reason)s Delete it in "
            "the list of comparisons, or with: rolebook comparisons delete %(id)s",
            id=row["id"],
            reason=Phrase(
                fault.message, {**fault.parameters, "key": describe_path(("plan", *fault.path))}
            ),
        ) from None
    question = decode_text(row["question"])
    return replace(planned, question=question, deleted_at=row["deleted_at"] or "")


def _require_revisions(db: Database, planned: Comparison) -> None:
    """Raises FaultyDataError unless all revisions that a plan names can be read: nobody knows who took part, else."""
    named: list[tuple[tuple[str | int, ...], str]] = [
        (("variants", number, "revision"), revision)
        for number, variant in enumerate(planned.variants)
        for revision in variant.revisions
    ]
    if planned.judge:
        named.append((("judge", "revision"), planned.judge.revision))
    lacking = {
        row["value"]
        for row in execute(
            db,
            "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM revisions "
            "WHERE id = value AND json_valid(resolved) AND json_valid(coalesce(templates, '{}')))",
            (json.dumps([revision for _, revision in named]),),
        )
    }
    for path, revision in named:
        if revision in lacking:
            fault = Fault(
                path,
                "%(key)s: the revision %(revision)s is not in the log, or damaged there.",
                {"key": describe_path(path), "revision": revision[:40]},
            )
            raise FaultyDataError([fault])


def _require_places(db: Database, number: int, planned: Comparison) -> None:
    """Raises FaultyDataError if there are answers or votes that a plan has no place for."""
    row = execute(
        db,
        "SELECT 1 FROM cells WHERE comparison = :number "
        "AND (variant >= :variants OR input >= :inputs OR repeat >= :repeats) UNION ALL "
        "SELECT 1 FROM ballots WHERE comparison = :number AND (input >= :inputs "
        "OR max(left_variant, right_variant) >= :variants OR max(left_repeat, right_repeat) >= :repeats) LIMIT 1",
        {
            "number": number,
            "variants": len(planned.variants),
            "inputs": len(planned.inputs),
            "repeats": planned.repeats,
        },
    ).fetchone()
    if row is not None:
        fault = Fault(
            (), "It has fewer variants, inputs or repeats than there are answers or votes."
        )
        raise FaultyDataError([fault])


def _require_rows(db: Database, number: int) -> None:
    """Raises FaultyDataError if any answer, result of a check or vote cannot be read: what all say together is unknown.

    Here and nowhere else, so that the list, each page and each export say the same of it.
    """
    parameters = {"number": number, "outcomes": json.dumps(list(Outcome))}
    for message, statement in UNREADABLE.items():
        row = execute(db, f"{statement} LIMIT 1", parameters).fetchone()
        if row is not None:
            raise FaultyDataError([Fault((), message, {"id": row[0]})])


#: Which turns are a comparison's: all that it has called for, as each has cost something, and those that it reuses. The
#: few that cannot be read are found first, in tables that are whole for everybody: whoever is here may see them.
_IS_OWN = "(SELECT comparison FROM main.sessions WHERE number = turns.session) = :number"
_IS_REUSED = (
    "turns.number IN (SELECT listed.value FROM cells JOIN json_each(cells.reused) AS listed "
    "WHERE cells.comparison = :number AND cells.reused IS NOT NULL)"
)
_IS_IN_IT = f"({_IS_OWN} OR {_IS_REUSED})"
#: What of a comparison cannot be read, by what is said of it; one that has passed the first lists what it reuses.
UNREADABLE = {
    "It has a cell that does not tell which answers it shows.": (
        "SELECT '' FROM cells WHERE comparison = :number AND reused IS NOT NULL "
        f"AND NOT ({is_json('reused', 'array')})"
    ),
    "The vote %(id)s cannot be read.": (
        "SELECT id FROM ballots WHERE comparison = :number AND (left_variant = right_variant "
        "OR outcome NOT IN (SELECT value FROM json_each(:outcomes)))"
    ),
    "The turn %(id)s cannot be read.": (
        f"SELECT turns.id FROM main.turns AS turns WHERE {is_unreadable_turn('turns.')} AND {_IS_IN_IT}"
    ),
    "What a check found on the turn %(id)s cannot be read.": (
        "SELECT turns.id FROM check_results CROSS JOIN main.turns AS turns ON turns.number = check_results.turn "
        f"WHERE {is_unreadable_result('check_results.')} AND {_IS_IN_IT}"
    ),
}


def _plan_in(plan: str) -> Comparison:
    return (_plan_kept if len(plan) <= _LONGEST_KEPT else _read_plan)(plan)


def _read_plan(plan: str) -> Comparison:
    try:
        data = decode_json(plan, {})
    except (ValueError, RecursionError):
        raise FaultyDataError([Fault((), "It is no JSON.")]) from None
    return comparison_of(data)


#: Reading the plan of a large comparison takes milliseconds, and each of its pages needs it. A plan never changes; what
#: can change of a comparison stands beside it.
_plan_kept = lru_cache(maxsize=8)(_read_plan)


def list_comparisons(
    db: Database, *, limit: int, before: str, is_deleted: bool
) -> tuple[list[ComparisonSummary], str]:
    """One page of comparisons, the newest first, and the cursor of the next page, empty on the last one.

    One that is damaged stands there like the others.
    """
    rows = execute(
        db,
        "SELECT * FROM comparisons WHERE (deleted_at IS NOT NULL) = ? AND number < ? "
        "ORDER BY number DESC LIMIT ?",
        (is_deleted, int(before) if before.isdecimal() else 2**62, limit + 1),
    ).fetchall()
    shown = rows[:limit]
    summaries = [_summary_of(db, row) for row in shown]
    return summaries, str(shown[-1]["number"]) if len(rows) > limit else ""


def _summary_of(db: Database, row: sqlite3.Row) -> ComparisonSummary:
    votes, breaks = _count_votes(db, row["number"]), _breaks_of(row)
    try:
        comparison = _comparison_of(db, row)
    except StorageError as error:
        bare = Comparison(
            id=row["id"],
            question=decode_text(row["question"]),
            variants=(),
            inputs=(),
            created_at=readable_time(row["created_at"]),
            deleted_at=row["deleted_at"] or "",
        )
        return ComparisonSummary(bare, Tally(0), votes, breaks, flaw=error)
    runner = row["runner"] or ""
    return ComparisonSummary(comparison, cell.tally(db, comparison), votes, breaks, runner)


def _count_votes(db: Database, number: int) -> int:
    sql = "SELECT count(*) FROM ballots WHERE comparison = ? AND outcome IS NOT NULL"
    return int(execute(db, sql, (number,)).fetchone()[0])


def rename_comparison(db: Database, comparison_id: str, question: str) -> None:
    """Put its question in other words. Raises NotFoundError."""
    number = _row_of(db, comparison_id)["number"]
    execute(db, "UPDATE comparisons SET question = ? WHERE number = ?", (question, number))


def delete_comparisons(db: Database, ids: Iterable[str]) -> int:
    """Move comparisons to the trash. Returns how many."""
    sql = f"UPDATE comparisons SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL AND {_own()}"
    return sum(execute(db, sql, (now(), comparison_id)).rowcount for comparison_id in ids)


def restore_comparisons(db: Database, ids: Iterable[str]) -> int:
    """Take comparisons out of the trash. Returns how many."""
    sql = f"UPDATE comparisons SET deleted_at = NULL WHERE id = ? AND deleted_at IS NOT NULL AND {_own()}"
    return sum(execute(db, sql, (comparison_id,)).rowcount for comparison_id in ids)


def _own() -> str:
    return within_reach("comparisons")


def start_cell(
    db: Database,
    key: CellKey,
    session: Session,
    turn: Turn,
    revision: Revision,
    *,
    owner: str,
    api_key: int | None,
) -> Turn:
    """Record a cell's session, its place in the grid and its first turn as pending. Returns the turn as recorded.

    Arguments:
        owner, api_key: as for ``insert_turn``.
    """
    # All that a new cell must know, in one look.
    known = execute(
        db,
        "SELECT number, user, deleted_at, (SELECT number FROM revisions WHERE id = ?) AS revision, "
        "(SELECT coalesce(max(number), 0) + 1 FROM turns) AS next_turn, "
        "EXISTS (SELECT 1 FROM ballots WHERE comparison = comparisons.number AND input = ? "
        f"AND {ON_CELL}) AS is_voted_on "
        "FROM comparisons WHERE id = ?",
        (revision.id, key.input, *(key.variant, key.repeat) * 2, session.comparison_id),
    ).fetchone()
    if known is None:
        raise unknown_comparison(session.comparison_id)
    if known["deleted_at"] is not None:
        raise ConflictError("This comparison is in the trash. Restore it to go on with it.")
    if known["is_voted_on"]:
        remove_ballots(db, known["number"], key)
    inherited = inherited_turns(db, session.forked_from)
    row = session_columns(session) | {
        "used_at": session.created_at,
        "activity": 0,
        "comparison": known["number"],
        "revision": known["revision"] or insert_revision(db, revision),
        "inherited": inherited,
        "user": known["user"],
    }
    number = int(insert(db, "INTO sessions", row).lastrowid)
    placed = replace(
        turn,
        position=last_position(db, inherited) + 1,
        attempt=1,
        is_current=True,
        status=TurnStatus.PENDING,
    )
    add_turn(
        db,
        placed,
        number=known["next_turn"],
        session=number,
        revision=row["revision"],
        owner=owner,
        api_key=api_key,
    )
    _link(db, known["number"], key, number, ())
    return placed


def reuse_answers(
    db: Database, comparison_id: str, wanted: Mapping[CellKey, Turn]
) -> list[CellKey]:
    """Fill cells with complete turns that were asked in exactly the same way. Returns the keys that were filled."""
    number = comparison_number(db, comparison_id)
    assert number is not None
    found = _same_turns(db, number, wanted)
    for key, turn in found.items():
        remove_ballots(db, number, key)
        _link(db, number, key, turn["session"], [turn["number"]])
    return list(found)


def reusable_turns(db: Database, wanted: Mapping[CellKey, Turn]) -> dict[CellKey, str]:
    """The ids of those that cells of a comparison that is not recorded yet would be filled with."""
    return {key: turn["id"] for key, turn in _same_turns(db, None, wanted).items()}


def _same_turns(
    db: Database, number: int | None, wanted: Mapping[CellKey, Turn]
) -> dict[CellKey, sqlite3.Row]:
    """A complete turn for each cell that was asked in exactly the same way, for no two the same one."""
    turns = {id(turn): turn for turn in wanted.values()}
    lists = {identity: _message_list(db, turn) for identity, turn in turns.items()}
    asked = {key: listed for key, turn in wanted.items() if (listed := lists[id(turn)])}
    # Turns are not indexed by their messages: one look through all of them is quicker than an index for every write.
    rows = execute(
        db,
        "SELECT turns.number, turns.id, session, messages, turns.upstream, model_requested, endpoint, "
        "parameters_requested "
        "FROM turns JOIN sessions ON sessions.number = turns.session AND sessions.deleted_at IS NULL "
        "WHERE status = 'complete' AND messages IN (SELECT value FROM json_each(:messages)) "
        # Of an answer in place of another model's, the log has the name of the one that was asked for.
        "AND upstream_requested IS NULL "
        # What others were told stays theirs, although it was asked in the same words.
        f"AND {within_reach('sessions')} "
        # An answer that is in this comparison already must not count twice in it.
        "AND session NOT IN (SELECT session FROM cells WHERE comparison = :comparison AND reused IS NULL) "
        "AND turns.number NOT IN (SELECT listed.value FROM cells JOIN json_each(cells.reused) AS listed "
        "WHERE cells.comparison = :comparison) ORDER BY turns.number",
        {"comparison": number, "messages": json.dumps(sorted(set(asked.values())))},
    ).fetchall()
    known: dict[tuple[str, ...], list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        parameters = json.dumps(decode_json(row["parameters_requested"], {}), sort_keys=True)
        identity = (row["messages"], row["upstream"], row["model_requested"], row["endpoint"])
        known[*identity, parameters].append(row)
    found = {}
    for key, listed in asked.items():
        turn = wanted[key]
        parameters = json.dumps(dict(turn.parameters_requested), sort_keys=True)
        answers = known[listed, turn.upstream, turn.model_requested, turn.endpoint, parameters]
        if answers:
            found[key] = answers.pop(0)
    return found


def _message_list(db: Database, turn: Turn) -> str:
    """The turn's messages as the log would list them; empty if one of them was never sent."""
    numbers = []
    for message in turn.messages:
        row = execute(
            db,
            "SELECT number FROM messages WHERE hash = ?",
            (message_hash(message.role, message.content, encode_some(message.fields)),),
        ).fetchone()
        if row is None:
            return ""
        numbers.append(str(row["number"]))
    return f"[{','.join(numbers)}]"


def runner_of(db: Database, comparison_id: str) -> str:
    """Who runs a comparison now, or did when it was killed; empty: nobody."""
    number = comparison_number(db, comparison_id)
    row = execute(db, "SELECT runner FROM comparisons WHERE number = ?", (number,)).fetchone()
    return row["runner"] or ""


def set_runner(
    db: Database,
    comparison_id: str,
    runner: str,
    breaks: Sequence[Break] | None,
    *,
    instead_of: str,
) -> None:
    """Note who runs a comparison, and why that run broke off; ``None`` leaves what is known of the last one.

    Raises ConflictError if somebody else runs it by now.
    """
    kept = None if breaks is None else encode_some(list(map(_break_row, breaks)))
    cursor = execute(
        db,
        "UPDATE comparisons SET runner = ?, breaks = CASE WHEN ? THEN breaks ELSE ? END "
        "WHERE id = ? AND coalesce(runner, '') = ?",
        (runner or None, breaks is None, kept, comparison_id, instead_of),
    )
    if not cursor.rowcount:
        raise ConflictError("Another Rolebook runs this comparison at the moment.")


def breaks_of(db: Database, comparison_id: str) -> tuple[Break, ...]:
    """Why the last run of a comparison broke off. Raises NotFoundError."""
    number = comparison_number(db, comparison_id)
    row = execute(db, "SELECT breaks FROM comparisons WHERE number = ?", (number,)).fetchone()
    return _breaks_of(row)


def _break_row(found: Break) -> dict[str, Any]:
    error = {
        "code": found.error.code,
        "message": found.error.message,
        "parameters": found.error.parameters,
    }
    return {"error": error, "upstream": found.upstream, "calls": found.calls, "at": found.at}


def _breaks_of(row: sqlite3.Row) -> tuple[Break, ...]:
    try:
        return tuple(map(_break_of, decode_json(row["breaks"], [])))
    except (ValueError, TypeError, KeyError, RecursionError):
        damaged = Phrase(
            "Why its last run broke off is damaged in the log. What was answered is kept, and the rest can be asked."
        )
        return (Break(TurnError(StorageError.code, damaged.message), at=""),)


def _break_of(kept: dict[str, Any]) -> Break:
    error = TurnError(**kept["error"])
    found = Break(error, str(kept["upstream"]), int(kept["calls"]), readable_time(kept["at"]))
    # A sentence that lacks what it is about fails here, and not on a page.
    str(found.said)
    return found


#: What is no word, nor part of one: an input of nothing else has said nothing.
_BLANK = " \t\n\r\v\f\u00a0\u2028\u2029\u3000"


def recent_turns(db: Database, persona_id: str, limit: int) -> list[Turn]:
    """The newest turns in which people said something to a persona, however they ended; the oldest first. No trials."""
    with_it, parameters = sessions_of(db, persona_id, is_own=True)
    rows = execute(
        db,
        "SELECT turns.number FROM turns JOIN sessions ON sessions.number = turns.session "
        f"WHERE {with_it} AND sessions.activity > 0 AND NOT sessions.is_trial "
        "AND sessions.deleted_at IS NULL AND turns.is_current AND turns.status <> 'pending' "
        f"AND trim(turns.input, ?) <> '' AND turns.number NOT IN {UNREADABLE_TURNS} ORDER BY turns.number DESC LIMIT ?",
        (*parameters, _BLANK, limit),
    )
    turns = lookup.readable_turns(db, [row["number"] for row in rows])
    return [turns[number] for number in sorted(turns)]


def usual_answer(db: Database, persona_id: str) -> float | None:
    """The mean length of a persona's newest answers, in tokens; ``None`` where none is known."""
    with_it, parameters = sessions_of(db, persona_id, is_own=True)
    row = execute(
        db,
        "SELECT avg(completion_tokens) FROM (SELECT completion_tokens FROM turns "
        f"JOIN sessions ON sessions.number = turns.session WHERE {with_it} "
        "AND completion_tokens BETWEEN 0 AND 1e9 ORDER BY turns.number DESC LIMIT 50)",
        parameters,
    ).fetchone()
    return None if row[0] is None else float(row[0])


def former_revision(db: Database, persona_id: str, present: str) -> Revision | None:
    """What answered people last before a persona became what it is at ``present``; ``None`` if nothing else has.

    A revision that somebody asked for, by a label or its own name, was not replaced by an edit: such answers count only
    where there are no others. Trials never do, and neither does what comparisons tried out with changes.
    """
    with_it, parameters = sessions_of(db, persona_id, is_own=True)
    for pins in ("pin = ''", "pin <> ''"):
        row = execute(
            db,
            "SELECT revisions.* FROM turns JOIN sessions ON sessions.number = turns.session "
            "JOIN revisions ON revisions.number = turns.revision "
            f"WHERE {with_it} AND sessions.activity > 0 AND NOT sessions.is_trial "
            f"AND sessions.{pins} AND turns.status = 'complete' AND revisions.id <> ? "
            "ORDER BY turns.number DESC LIMIT 1",
            (*parameters, present),
        ).fetchone()
        if row is not None:
            return revision_of(row)
    return None


def unlike_turns(db: Database, turn_ids: Iterable[str]) -> list[Turn]:
    """One of these turns for each way in which they were asked, without messages and reply, in the log's order."""
    rows = execute(
        db,
        "SELECT min(number) AS number FROM turns WHERE id IN (SELECT value FROM json_each(?)) "
        "GROUP BY model_requested, upstream, upstream_requested, parameters_requested, parameters_sent",
        (json.dumps(list(turn_ids)),),
    )
    turns = lookup.turns_by_number(db, [row["number"] for row in rows])
    return [turns[number] for number in sorted(turns)]
