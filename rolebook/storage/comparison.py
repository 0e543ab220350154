"""Comparisons, cells, check results and ballots: each function is the content of one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlite_utils import Database

from rolebook.core.access import caller
from rolebook.core.check import Check, CheckResult
from rolebook.core.comparison import (
    Ballot,
    Break,
    Cell,
    CellKey,
    CellOutline,
    CellStatus,
    Comparison,
    Standing,
    Tally,
    Variant,
    cell_status,
    digest_of,
)
from rolebook.core.comparison_data import comparison_data, comparison_of
from rolebook.core.errors import ConflictError, NotFoundError
from rolebook.core.frozen import frozen
from rolebook.core.preference import Outcome
from rolebook.core.session import Revision, Session, Turn, TurnError, TurnStatus, now
from rolebook.storage import lookup
from rolebook.storage.connection import execute, insert
from rolebook.storage.encoding import (
    decode_json,
    decode_text,
    encode_bytes,
    encode_json,
    encode_some,
)
from rolebook.storage.reach import is_visible, within_reach
from rolebook.storage.record import (
    decode_phrase,
    message_hash,
    revision_of,
    session_columns,
    turn_of,
)
from rolebook.storage.revision import insert_revision
from rolebook.storage.write import (
    add_turn,
    comparison_number,
    inherited_turns,
    last_position,
    unknown_comparison,
)

_CHECKS: TypeAdapter[tuple[Check, ...]] = TypeAdapter(tuple[Check, ...])
#: Of a turn in a grid: all but the exact messages and the reply, which are long.
_CELL_TURN = (
    "turns.number, turns.id, turns.position, turns.attempt, turns.is_current, turns.status, turns.created_at, "
    "turns.upstream, turns.upstream_requested, turns.model_requested, turns.model, turns.endpoint, "
    "turns.is_streamed, turns.dropped_turns, turns.chosen, turns.finish_reason, turns.prompt_tokens, "
    "turns.completion_tokens, turns.total_tokens, "
    "turns.cached_tokens, turns.reasoning_tokens, turns.cost, turns.time_to_first_token_ms, turns.duration_ms, "
    "turns.input, turns.text, turns.parameters_requested, turns.parameters_sent, turns.adaptations, turns.error, "
    "turns.choices, turns.via, sessions.id AS session_id, "
    "(SELECT id FROM revisions WHERE number = turns.revision) AS revision_id"
)
_CELLS = (
    "SELECT cells.variant, cells.input AS input_index, cells.repeat, cells.reused, {columns} FROM cells "
    "JOIN turns ON turns.session = cells.session AND turns.is_current "
    "JOIN sessions ON sessions.number = turns.session "
    "WHERE cells.comparison = :comparison AND cells.reused IS NULL AND {condition} "
    "UNION ALL "
    "SELECT cells.variant, cells.input AS input_index, cells.repeat, cells.reused, {columns} FROM cells "
    "JOIN json_each(cells.reused) AS listed JOIN turns ON turns.number = listed.value "
    "JOIN sessions ON sessions.number = turns.session "
    "WHERE cells.comparison = :comparison AND cells.reused IS NOT NULL AND {condition} "
    "ORDER BY 2, 3, 1, position"
)


#: A longer plan is not kept once it is read, in characters.
_LONGEST_KEPT = 1_000_000


@frozen
class ComparisonSummary:
    """A comparison as a line of a list: how far it is, how often it was voted on, and why its last run broke off."""

    comparison: Comparison
    tally: Tally
    votes: int
    breaks: tuple[Break, ...] = ()


def summary_data(summary: ComparisonSummary) -> dict[str, Any]:
    """A line of the list as JSON has it: the whole plan, how far it is, and its votes."""
    data = comparison_data(summary.comparison)
    return {
        **data,
        "tally": tally_data(summary.tally),
        "votes": summary.votes,
        "breaks": list(map(break_data, summary.breaks)),
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
    """Record a comparison, and link the cells whose answers are in the log already. Raises NotFoundError."""
    for revision in revisions:
        insert_revision(db, revision)
    row: dict[str, Any] = {
        "id": comparison.id,
        "question": comparison.question,
        "created_at": comparison.created_at,
        "repeats_of": comparison.repeats_of,
        "plan": encode_json(comparison_data(comparison)),
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
    """Raises NotFoundError."""
    row = execute(db, "SELECT * FROM comparisons WHERE id = ?", (comparison_id,)).fetchone()
    if row is None or not is_visible(row["user"], None):
        raise unknown_comparison(comparison_id)
    return _comparison_of(row)


def _comparison_of(row: sqlite3.Row) -> Comparison:
    read = _plan_kept if len(row["plan"]) <= _LONGEST_KEPT else _read_plan
    question = decode_text(row["question"])
    return replace(read(row["plan"]), question=question, deleted_at=row["deleted_at"] or "")


def _read_plan(plan: str) -> Comparison:
    return comparison_of(decode_json(plan, {}))


#: Reading the plan of a large comparison takes milliseconds, and each of its pages needs it. A plan never changes; what
#: can change of a comparison stands beside it.
_plan_kept = lru_cache(maxsize=8)(_read_plan)


def list_comparisons(
    db: Database, *, limit: int, before: str, is_deleted: bool
) -> tuple[list[ComparisonSummary], str]:
    """One page of comparisons, the newest first, and the cursor of the next page, empty on the last one."""
    rows = execute(
        db,
        "SELECT * FROM comparisons WHERE (deleted_at IS NOT NULL) = ? AND number < ? "
        "ORDER BY number DESC LIMIT ?",
        (is_deleted, int(before) if before.isdecimal() else 2**62, limit + 1),
    ).fetchall()
    shown = rows[:limit]
    summaries = [
        ComparisonSummary(
            comparison := _comparison_of(row),
            tally(db, comparison),
            _count_votes(db, row["number"]),
            _breaks_of(row),
        )
        for row in shown
    ]
    return summaries, str(shown[-1]["number"]) if len(rows) > limit else ""


def _count_votes(db: Database, number: int) -> int:
    sql = "SELECT count(*) FROM ballots WHERE comparison = ? AND outcome IS NOT NULL"
    return int(execute(db, sql, (number,)).fetchone()[0])


def rename_comparison(db: Database, comparison_id: str, question: str) -> None:
    """Put its question in other words. Raises NotFoundError."""
    number = comparison_number(db, get_comparison(db, comparison_id).id)
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


_CELL_STATES = (
    "SELECT cells.variant, cells.input, cells.repeat, sum(turns.status = 'complete') AS complete, "
    "max(turns.position), turns.status AS last_status, "
    "CASE WHEN turns.status = 'interrupted' THEN turns.error ->> 'code' END AS last_error, {found} AS found "
    "FROM cells JOIN turns ON turns.session = cells.session AND turns.is_current "
    "WHERE cells.comparison = :comparison AND cells.reused IS NULL "
    "GROUP BY cells.input, cells.repeat, cells.variant"
)
_REUSED = "SELECT variant, input, repeat FROM cells WHERE comparison = ? AND reused IS NOT NULL"
_REUSED_STATES = (
    "SELECT variant, input, {found} AS found FROM cells "
    "WHERE comparison = :comparison AND reused IS NOT NULL"
)
#: What wanted checks could tell of answers: a row for each answer and check.
_TOLD = (
    "SELECT cells.variant, cells.input, cells.repeat, has_passed FROM cells "
    "JOIN turns ON turns.session = cells.session AND turns.is_current "
    "JOIN check_results ON check_results.turn = turns.number "
    "WHERE cells.comparison = :comparison AND cells.reused IS NULL AND {condition} AND {is_wanted} "
    "UNION ALL "
    "SELECT cells.variant, cells.input, cells.repeat, has_passed FROM cells "
    "JOIN json_each(cells.reused) AS listed JOIN check_results ON check_results.turn = listed.value "
    "WHERE cells.comparison = :comparison AND cells.reused IS NOT NULL AND {condition} AND {is_wanted}"
)
#: What may be counted of the results of wanted checks.
_COUNT_TOLD = "count(has_passed)"
_COUNT_ALL = "count(*)"
_COUNT_UNJUDGED = "count(*) FILTER (WHERE has_passed IS NULL AND judged_by IS NOT NULL)"


def tally(db: Database, comparison: Comparison) -> Tally:
    """How many cells are how far, what is left to check, and what they have cost."""
    number = comparison_number(db, comparison.id)
    wanted = _Wanted(db, comparison)
    counted = dict.fromkeys(CellStatus, 0)
    checked = untold = 0
    for status, group in _counted_cells(db, comparison, number, wanted, _COUNT_TOLD):
        counted[status] += group["told"]
        checked += group["found"]
        if status is CellStatus.COMPLETE:
            untold += wanted.expected(group) - group["found"]
    # Most often every check could tell; where one could not, it is asked why.
    unchecked, unjudged = _left_to_check(db, comparison, number, wanted) if untold else (0, 0)
    # All that was called for: judges, and attempts that do not count, have cost something too.
    spent = execute(
        db,
        "SELECT coalesce(sum(turns.cost), 0.0) AS cost, coalesce(sum(turns.cost IS NULL), 0) AS without_cost "
        "FROM sessions JOIN turns ON turns.session = sessions.number WHERE sessions.comparison = ?",
        (number,),
    ).fetchone()
    return Tally(
        total=comparison.size,
        complete=counted[CellStatus.COMPLETE],
        failed=counted[CellStatus.FAILED],
        stopped=counted[CellStatus.STOPPED],
        running=counted[CellStatus.RUNNING],
        cost=spent["cost"],
        without_cost=spent["without_cost"],
        checked=checked,
        unchecked=unchecked,
        unjudged=unjudged,
    )


def _left_to_check(
    db: Database, comparison: Comparison, number: int | None, wanted: _Wanted
) -> tuple[int, int]:
    """How many checks of complete cells have no result, and how many rubrics the judge could not tell."""

    def complete(found: str) -> Iterator[sqlite3.Row]:
        groups = _counted_cells(db, comparison, number, wanted, found)
        return (group for status, group in groups if status is CellStatus.COMPLETE)

    unchecked = sum(wanted.expected(group) - group["found"] for group in complete(_COUNT_ALL))
    return unchecked, sum(group["found"] for group in complete(_COUNT_UNJUDGED))


def _counted_cells(
    db: Database, comparison: Comparison, number: int | None, wanted: _Wanted, found: str
) -> Iterator[tuple[CellStatus, sqlite3.Row]]:
    """The cells that have begun in groups of equally far ones of one variant, each with how many and what was found.

    Arguments:
        found: what is counted of the results that wanted checks have on their answers.
    """
    parameters = {"comparison": number, "wanted": wanted.listed}
    own = f"sum({wanted.counted(found, 'check_results', 'turns.number')})"
    for group in _alike_cells(db, comparison, parameters, told="count(*)", by="variant", found=own):
        yield _status(comparison, group), group
    listed = "json_each(cells.reused) AS listed JOIN check_results"
    reused = _REUSED_STATES.format(found=wanted.counted(found, listed, "listed.value"))
    rows = execute(
        db,
        f"SELECT count(*) AS told, variant AS by, {_entry(comparison)} AS input, sum(found) AS found "
        f"FROM ({reused}) GROUP BY 2, 3",
        parameters,
    )
    yield from ((CellStatus.COMPLETE, group) for group in rows)


def _alike_cells(
    db: Database,
    comparison: Comparison,
    parameters: Mapping[str, Any],
    *,
    told: str,
    by: str,
    found: str = "0",
) -> sqlite3.Cursor:
    """The cells that have begun with answers of their own, equally far ones together: few groups of ten thousand cells.

    Arguments:
        told: what is to be told of each group.
        by: a column by which they are told apart, too.
        found: what is summed up of the answers of a cell, and of all cells of a group.
    """
    return execute(
        db,
        f"SELECT {told} AS told, {by} AS by, {_entry(comparison)} AS input, complete, last_status, last_error, "
        f"sum(found) AS found FROM ({_CELL_STATES.format(found=found)}) GROUP BY 2, 3, 4, 5, 6",
        parameters,
    )


def _entry(comparison: Comparison) -> str:
    """By what inputs are told apart: how far a cell is depends on how much there is to answer."""
    is_even = len({len(entry.turns) for entry in comparison.inputs}) == 1
    return "0" if is_even else "input"


def _status(comparison: Comparison, row: sqlite3.Row) -> CellStatus:
    length = len(comparison.inputs[row["input"]].turns)
    return cell_status(
        row["complete"], length, TurnStatus(row["last_status"]), row["last_error"] or ""
    )


def outlines(db: Database, comparison: Comparison) -> list[CellOutline]:
    """The cells that have begun, without what was said."""
    number = comparison_number(db, comparison.id)
    rows = execute(db, _CELL_STATES.format(found="0"), {"comparison": number})
    states = {_key_of(row): _status(comparison, row) for row in rows}
    for row in execute(db, _REUSED, (number,)):
        states[_key_of(row)] = CellStatus.COMPLETE
    wanted = _Wanted(db, comparison)
    told = execute(
        db,
        "SELECT variant, input, repeat, sum(has_passed) AS passed, sum(NOT has_passed) AS failed "
        f"FROM ({wanted.told()}) GROUP BY 1, 2, 3",
        {"comparison": number, "wanted": wanted.listed},
    )
    checked = {_key_of(row): (row["passed"], row["failed"]) for row in told}
    return [CellOutline(key, status, *checked.get(key, (0, 0))) for key, status in states.items()]


def standings(db: Database, comparison: Comparison) -> list[Standing]:
    """How far the cells of each variant are."""
    number = comparison_number(db, comparison.id)
    wanted = _Wanted(db, comparison)
    parameters = {"comparison": number, "wanted": wanted.listed}
    places: list[dict[CellStatus, list[int]]] = [defaultdict(list) for _ in comparison.variants]
    failing: list[list[int]] = [[] for _ in comparison.variants]
    listed = f"json_group_array(input * {comparison.repeats} + repeat)"
    for group in _alike_cells(db, comparison, parameters, told=listed, by="variant"):
        places[group["by"]][_status(comparison, group)] += json.loads(group["told"])
    for row in execute(db, _REUSED, (number,)):
        places[row["variant"]][CellStatus.COMPLETE].append(_place(comparison, _key_of(row)))
    found = f"SELECT DISTINCT variant, input, repeat FROM ({wanted.told('NOT has_passed')})"
    for row in execute(
        db, f"SELECT variant AS by, {listed} AS told FROM ({found}) GROUP BY 1", parameters
    ):
        failing[row["by"]] += json.loads(row["told"])
    return [Standing(*found) for found in zip(places, failing, strict=True)]


def _place(comparison: Comparison, key: CellKey) -> int:
    return key.input * comparison.repeats + key.repeat


def _key_of(row: sqlite3.Row) -> CellKey:
    return CellKey(row["variant"], row["input"], row["repeat"])


def cells(
    db: Database,
    comparison: Comparison,
    *,
    inputs: Sequence[int] | None = None,
    repeats: Sequence[int] | None = None,
) -> list[Cell]:
    """The cells that have begun, with turns and results, by input, repeat and variant."""
    only = {"input": inputs, "repeat": repeats}
    conditions = [
        f"cells.{column} IN (SELECT value FROM json_each(:{column}))"
        for column, wanted in only.items()
        if wanted is not None
    ]
    sql = _CELLS.format(columns=_CELL_TURN, condition=" AND ".join(conditions) or "1")
    listed = {column: json.dumps(list(wanted or ())) for column, wanted in only.items()}
    number = comparison_number(db, comparison.id)
    grouped: dict[CellKey, list[sqlite3.Row]] = defaultdict(list)
    for row in execute(db, sql, {"comparison": number, **listed}):
        grouped[CellKey(row["variant"], row["input_index"], row["repeat"])].append(row)
    results = _results(db, [row["number"] for rows in grouped.values() for row in rows])
    wanted = _Wanted(db, comparison)
    return [_cell(comparison, key, rows, results, wanted.of(key)) for key, rows in grouped.items()]


#: What tells a result from all others on its turn: the check's label and the result's digest.
_CheckIdentity = tuple[str, str]


class _Wanted:
    """The checks that a comparison holds its answers against: turns may have results of others as well."""

    def __init__(self, db: Database, comparison: Comparison) -> None:
        self._comparison = comparison
        self._checks = [_checks_of(db, comparison, variant) for variant in comparison.variants]

    def of(self, key: CellKey) -> set[_CheckIdentity]:
        """Those that the answers of a cell are held against."""
        return self._identities(key.variant, self._comparison.inputs[key.input].reference)

    def _identities(self, variant: int, reference: str) -> set[_CheckIdentity]:
        judge = self._comparison.judge
        return {
            (check.label, digest_of(check, judge, reference)) for check in self._checks[variant]
        }

    def expected(self, group: sqlite3.Row) -> int:
        """How many results there are if every answer of so many cells has been checked."""
        turns = len(self._comparison.inputs[group["input"]].turns)
        return int(group["told"]) * turns * len(self._checks[group["by"]])

    @cached_property
    def listed(self) -> str:
        """All of them for a statement, as JSON."""
        inputs = self._comparison.inputs
        references = (entry.reference for entry in inputs) if self._goes_by_input else ("",)
        # Bytes in hexadecimal digits: a label that is no valid Unicode is kept as its bytes.
        return json.dumps(
            [
                (variant, number, encode_bytes(label).hex().upper(), digest)
                for number, reference in enumerate(references)
                for variant in range(len(self._checks))
                for label, digest in self._identities(variant, reference)
            ]
        )

    @cached_property
    def _goes_by_input(self) -> bool:
        """Whether a check of one input is not that of another, as it looks at what the input refers to."""
        reference = next((each.reference for each in self._comparison.inputs if each.reference), "")
        return any(
            self._identities(variant, reference) != self._identities(variant, "")
            for variant in range(len(self._checks))
        )

    @property
    def _is_wanted(self) -> str:
        entry = "cells.input" if self._goes_by_input else "0"
        return (
            f"(cells.variant, {entry}, hex(label), digest) IN "
            "(SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(:wanted))"
        )

    def counted(self, found: str, source: str, turn: str) -> str:
        """What is counted of an answer's results, as an expression."""
        if not any(self._checks):
            return "0"
        return f"(SELECT {found} FROM {source} WHERE check_results.turn = {turn} AND {self._is_wanted})"

    def told(self, condition: str = "has_passed IS NOT NULL") -> str:
        """What they could tell, as a statement; only what meets a condition on it."""
        return _TOLD.format(condition=condition, is_wanted=self._is_wanted)


def _checks_of(db: Database, comparison: Comparison, variant: Variant) -> Sequence[Check]:
    resolved = lookup.get_revision(db, variant.revision).resolved
    try:
        own = _CHECKS.validate_python(resolved.get("checks", ()))
    except ValidationError:
        own = ()
    return comparison.checks_with(own)


def _cell(
    comparison: Comparison,
    key: CellKey,
    rows: Sequence[sqlite3.Row],
    results: Mapping[int, tuple[CheckResult, ...]],
    wanted: set[_CheckIdentity],
) -> Cell:
    length = len(comparison.inputs[key.input].turns)
    own = rows[:length]
    told = {
        row["id"]: tuple(r for r in results[row["number"]] if (r.label, r.digest) in wanted)
        for row in own
        if row["number"] in results
    }
    return Cell(
        key,
        length,
        session_id=rows[0]["session_id"],
        turns=tuple(turn_of(row) for row in own),
        results={turn_id: found for turn_id, found in told.items() if found},
        is_reused=rows[0]["reused"] is not None,
    )


def _results(
    db: Database, turns: Sequence[int], condition: str = "1"
) -> dict[int, tuple[CheckResult, ...]]:
    rows = execute(
        db,
        "SELECT check_results.* FROM check_results JOIN turns ON turns.number = check_results.turn "
        "JOIN sessions ON sessions.number = turns.session "
        f"WHERE turn IN (SELECT value FROM json_each(?)) AND {condition} "
        "ORDER BY turn, label, check_results.created_at",
        (json.dumps(list(turns)),),
    )
    found: dict[int, list[CheckResult]] = defaultdict(list)
    for row in rows:
        found[row["turn"]].append(_result_of(row))
    return {turn: tuple(results) for turn, results in found.items()}


def _result_of(row: sqlite3.Row) -> CheckResult:
    has_passed = row["has_passed"]
    value = row["value"]
    return CheckResult(
        label=decode_text(row["label"]),
        has_passed=None if has_passed is None else bool(has_passed),
        said=decode_phrase(row["said"]),
        value=decode_text(value) if isinstance(value, bytes) else value,
        digest=row["digest"],
    )


def results_of_turns(db: Database, turn_ids: Iterable[str]) -> dict[str, tuple[CheckResult, ...]]:
    """What checks found on turns, by the turns' ids; those without results are left out.

    What a comparison found on an answer of somebody's talk is left to the comparison. Of several checks that went by
    one label, as the persona's file said one thing and then another, the last counts.
    """
    rows = execute(
        db,
        "SELECT number, id FROM turns WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(turn_ids)),),
    ).fetchall()
    own = "(check_results.comparison IS NULL OR sessions.comparison IS NOT NULL)"
    results = _results(db, [row["number"] for row in rows], own)
    return {
        row["id"]: tuple({result.label: result for result in results[row["number"]]}.values())
        for row in rows
        if row["number"] in results
    }


def judging_turns(db: Database, turn_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The turns in which rubrics were judged, by the judged turn's id and the check's label."""
    rows = execute(
        db,
        "SELECT turns.id, check_results.label, judging.id AS judging_id FROM turns "
        "JOIN check_results ON check_results.turn = turns.number "
        "JOIN turns AS judging ON judging.number = check_results.judged_by "
        "WHERE turns.id IN (SELECT value FROM json_each(?)) ORDER BY check_results.created_at",
        (json.dumps(list(turn_ids)),),
    )
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        found[row["id"]][decode_text(row["label"])] = row["judging_id"]
    return dict(found)


def start_cell(
    db: Database,
    key: CellKey,
    session: Session,
    turn: Turn,
    revision: Revision,
    *,
    owner: str,
) -> Turn:
    """Record a cell's session, its place in the grid and its first turn as pending. Returns the turn as recorded."""
    # All that a new cell must know, in one look.
    known = execute(
        db,
        "SELECT number, user, deleted_at, (SELECT number FROM revisions WHERE id = ?) AS revision, "
        "(SELECT coalesce(max(number), 0) + 1 FROM turns) AS next_turn FROM comparisons WHERE id = ?",
        (revision.id, session.comparison_id),
    ).fetchone()
    if known is None:
        raise unknown_comparison(session.comparison_id)
    if known["deleted_at"] is not None:
        raise ConflictError("This comparison is in the trash. Restore it to go on with it.")
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
    )
    _link(db, known["number"], key, number, ())
    return placed


def reuse_answers(
    db: Database, comparison_id: str, wanted: Mapping[CellKey, Turn]
) -> list[CellKey]:
    """Fill cells with complete turns that were asked in exactly the same way. Returns the keys that were filled."""
    number = comparison_number(db, comparison_id)
    assert number is not None
    asked = {key: listed for key in wanted if (listed := _message_list(db, wanted[key]))}
    # Turns are not indexed by their messages: one look through all of them is quicker than an index for every write.
    rows = execute(
        db,
        "SELECT turns.number, session, messages, turns.upstream, model_requested, endpoint, parameters_requested "
        "FROM turns JOIN sessions ON sessions.number = turns.session AND sessions.deleted_at IS NULL "
        "WHERE status = 'complete' AND messages IN (SELECT value FROM json_each(?2)) "
        # What others were told stays theirs, although it was asked in the same words.
        f"AND {within_reach('sessions')} "
        # An answer that is in this comparison already must not count twice in it.
        "AND session NOT IN (SELECT session FROM cells WHERE comparison = ?1 AND reused IS NULL) "
        "AND turns.number NOT IN (SELECT listed.value FROM cells JOIN json_each(cells.reused) AS listed "
        "WHERE cells.comparison = ?1) ORDER BY turns.number",
        (number, json.dumps(sorted(set(asked.values())))),
    ).fetchall()
    known: dict[tuple[str, ...], list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        parameters = json.dumps(decode_json(row["parameters_requested"], {}), sort_keys=True)
        identity = (row["messages"], row["upstream"], row["model_requested"], row["endpoint"])
        known[*identity, parameters].append(row)
    filled = []
    for key, listed in asked.items():
        turn = wanted[key]
        parameters = json.dumps(dict(turn.parameters_requested), sort_keys=True)
        answers = known[listed, turn.upstream, turn.model_requested, turn.endpoint, parameters]
        if answers:
            found = answers.pop(0)
            _link(db, number, key, found["session"], [found["number"]])
            filled.append(key)
    return filled


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
    listed = decode_json(row["breaks"], [])
    return tuple(Break(**{**each, "error": TurnError(**each["error"])}) for each in listed)


def recent_turns(db: Database, persona_id: str, limit: int) -> list[Turn]:
    """The newest complete turns that people had with a persona, the oldest of them first."""
    rows = execute(
        db,
        "SELECT turns.number FROM turns JOIN sessions ON sessions.number = turns.session "
        "WHERE sessions.persona_id = ? AND sessions.activity > 0 AND sessions.deleted_at IS NULL "
        "AND turns.is_current AND turns.status = 'complete' ORDER BY turns.number DESC LIMIT ?",
        (persona_id, limit),
    )
    turns = lookup.turns_by_number(db, [row["number"] for row in rows])
    return [turns[number] for number in sorted(turns)]


def usual_answer(db: Database, persona_id: str) -> float | None:
    """The mean length of a persona's newest answers, in tokens; ``None`` where none is known."""
    row = execute(
        db,
        "SELECT avg(completion_tokens) FROM (SELECT completion_tokens FROM turns "
        "JOIN sessions ON sessions.number = turns.session WHERE sessions.persona_id = ? "
        "AND completion_tokens IS NOT NULL ORDER BY turns.number DESC LIMIT 50)",
        (persona_id,),
    ).fetchone()
    return None if row[0] is None else float(row[0])


def revisions_of(db: Database, persona_id: str, limit: int) -> list[Revision]:
    """The revisions of a persona that people have talked with, the last used first.

    What comparisons tried out with changes never stood in its file, so those do not count.
    """
    rows = execute(
        db,
        "SELECT revisions.* FROM revisions JOIN ("
        "SELECT turns.revision AS number, max(turns.number) AS last FROM turns "
        "JOIN sessions ON sessions.number = turns.session "
        "WHERE sessions.persona_id = ? AND sessions.activity > 0 GROUP BY turns.revision"
        ") AS used USING (number) ORDER BY used.last DESC LIMIT ?",
        (persona_id, limit),
    )
    return [revision_of(row) for row in rows]


def revision_times(db: Database, persona_id: str) -> dict[str, str]:
    """When the log first saw each revision of a persona, by the revision's id."""
    rows = execute(db, "SELECT id, created_at FROM revisions WHERE persona_id = ?", (persona_id,))
    return {row["id"]: row["created_at"] for row in rows}


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


def parameters_sent(db: Database, comparison_id: str) -> dict[int, list[dict[str, Any]]]:
    """What was really sent beside messages, by variant: each set of parameters once."""
    rows = execute(
        db,
        "SELECT DISTINCT cells.variant, turns.parameters_sent FROM cells "
        "JOIN turns ON turns.session = cells.session WHERE cells.comparison = ? AND cells.reused IS NULL",
        (comparison_number(db, comparison_id),),
    )
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["variant"]].append(decode_json(row["parameters_sent"], {}))
    return found
