"""How the cells of a comparison stand, and what checks found in them: read, never written."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from pydantic import TypeAdapter, ValidationError
from sqlite_utils import Database

from rolebook.core.check import Check, CheckResult
from rolebook.core.comparison import (
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
    looks_at_reference,
)
from rolebook.core.fields import RECORDED
from rolebook.core.session import TurnStatus
from rolebook.storage import lookup
from rolebook.storage.connection import execute
from rolebook.storage.encoding import (
    decode_text,
    encode_bytes,
)
from rolebook.storage.record import (
    decode_phrase,
    turn_of,
)
from rolebook.storage.write import (
    comparison_number,
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
#: The answers of a cell: its own, or those that were in the log before.
_OWN_TURNS = "JOIN turns ON turns.session = cells.session AND turns.is_current"
_REUSED_TURNS = "JOIN json_each(cells.reused) AS listed JOIN turns ON turns.number = listed.value"
_CELLS = (
    "SELECT cells.variant, cells.input AS input_index, cells.repeat, cells.reused, {columns} FROM cells "
    f"{_OWN_TURNS} "
    "JOIN sessions ON sessions.number = turns.session "
    "WHERE cells.comparison = :comparison AND cells.reused IS NULL AND {condition} "
    "UNION ALL "
    "SELECT cells.variant, cells.input AS input_index, cells.repeat, cells.reused, {columns} FROM cells "
    f"{_REUSED_TURNS} "
    "JOIN sessions ON sessions.number = turns.session "
    "WHERE cells.comparison = :comparison AND cells.reused IS NOT NULL AND {condition} "
    "ORDER BY 2, 3, 1, position"
)


#: How far each cell is that has begun. The last of its turns that has no answer tells it, if there is one: among
#: recorded ones others may follow.
_STATES = (
    "SELECT cells.variant, cells.input, cells.repeat, sum(turns.status = 'complete') AS complete, "
    "max((turns.status <> 'complete') * turns.position), turns.status AS last_status, "
    "CASE WHEN turns.status = 'interrupted' THEN turns.error ->> 'code' END AS last_error{{counts}} "
    "FROM cells {turns} WHERE cells.comparison = :comparison AND cells.reused IS {reused} "
    "GROUP BY cells.input, cells.repeat, cells.variant"
)
_CELL_STATES = (
    f"{_STATES.format(turns=_OWN_TURNS, reused='NULL')} UNION ALL "
    f"{_STATES.format(turns=_REUSED_TURNS, reused='NOT NULL')}"
)
#: What wanted checks could tell of answers: a row for each answer and check.
_TOLD = (
    "SELECT cells.variant, cells.input, cells.repeat, has_passed FROM cells "
    f"{_OWN_TURNS} "
    "JOIN check_results ON check_results.turn = turns.number "
    "WHERE cells.comparison = :comparison AND cells.reused IS NULL AND {condition} AND {is_wanted} "
    "UNION ALL "
    "SELECT cells.variant, cells.input, cells.repeat, has_passed FROM cells "
    "JOIN json_each(cells.reused) AS listed JOIN check_results ON check_results.turn = listed.value "
    "WHERE cells.comparison = :comparison AND cells.reused IS NOT NULL AND {condition} AND {is_wanted}"
)
#: Which results of wanted checks may be counted.
_TOLD_SOMETHING = "has_passed IS NOT NULL"
_TOLD_NOTHING = "has_passed IS NULL"
_UNJUDGED = "has_passed IS NULL AND judged_by IS NOT NULL"
_ANY = "1"
_SETTLED = "(has_passed IS NOT NULL OR judged_by IS NULL)"


def tally(db: Database, comparison: Comparison) -> Tally:
    """How many cells are how far, what is left to check, and what they have cost."""
    number = comparison_number(db, comparison.id)
    wanted = _Wanted(db, comparison)
    counted: Counter[CellStatus] = Counter()
    recorded: Counter[CellStatus] = Counter()
    checked = untold = 0
    for status, group in _counted_cells(db, comparison, number, wanted, [_TOLD_SOMETHING]):
        counted[status] += group["told"]
        if _is_recorded(comparison, group):
            recorded[status] += group["told"]
        checked += group["found_0"]
        if _counts(comparison, status, group):
            untold += wanted.expected(group, group["told"]) - group["found_0"]
    # Most often every check could tell; where one could not, it is asked why.
    unchecked = unjudged = 0
    if untold:
        told_nothing, unjudged = _left_untold(db, comparison, number, wanted)
        unchecked = untold - told_nothing
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
        recorded_failed=recorded[CellStatus.FAILED],
        recorded_stopped=recorded[CellStatus.STOPPED],
        cost=spent["cost"],
        without_cost=spent["without_cost"],
        checked=checked,
        unchecked=unchecked,
        unjudged=unjudged,
    )


def _left_untold(
    db: Database, comparison: Comparison, number: int | None, wanted: _Wanted
) -> tuple[int, int]:
    """How many results of complete cells tell nothing, and how many of these the judge of a rubric could not tell."""
    told_nothing = unjudged = 0
    found = [_TOLD_NOTHING, _UNJUDGED]
    for status, group in _counted_cells(db, comparison, number, wanted, found):
        if _counts(comparison, status, group):
            told_nothing += group["found_0"]
            unjudged += group["found_1"]
    return told_nothing, unjudged


def _counts(comparison: Comparison, status: CellStatus, group: sqlite3.Row) -> bool:
    """Whether cells are to be checked. Recorded answers are what others are measured by; their sessions may be gone."""
    return status is CellStatus.COMPLETE and not _is_recorded(comparison, group)


def _is_recorded(comparison: Comparison, group: sqlite3.Row) -> bool:
    variant: Variant = comparison.variants[group["variant"]]
    return variant.is_recorded


def _counted_cells(
    db: Database,
    comparison: Comparison,
    number: int | None,
    wanted: _Wanted,
    found: Sequence[str],
    *,
    told: str = "count(*)",
    is_apart: bool = False,
) -> Iterator[tuple[CellStatus, sqlite3.Row]]:
    """The cells that have begun in groups of equally far ones of one variant, each with how many and what was found.

    There are few groups of ten thousand cells.

    Arguments:
        found: which results of wanted checks on their answers are counted, as ``found_0``, ``found_1`` …
        told: what is to be told of each group instead of how many.
        is_apart: whether cells are told apart by what was found, too.
    """
    counts = wanted.counted(found)
    groups = execute(
        db,
        f"SELECT {told} AS told, variant, {_entry(comparison)} AS input, complete, last_status, last_error"
        f"{_summed(counts)} FROM ({_CELL_STATES.format(counts=_listed(counts))}) "
        f"GROUP BY 2, 3, 4, 5, 6{_names(counts) if is_apart else ''}",
        {"comparison": number, **wanted.listed},
    )
    yield from ((_status(comparison, group), group) for group in groups)


def _listed(counts: Sequence[str]) -> str:
    return "".join(f", {count} AS count_{number}" for number, count in enumerate(counts))


def _summed(counts: Sequence[str]) -> str:
    return "".join(f", sum(count_{number}) AS found_{number}" for number in range(len(counts)))


def _names(counts: Sequence[str]) -> str:
    return "".join(f", count_{number}" for number in range(len(counts)))


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
    rows = execute(db, _CELL_STATES.format(counts=""), {"comparison": number})
    states = {_key_of(row): _status(comparison, row) for row in rows}
    wanted = _Wanted(db, comparison)
    told = execute(
        db,
        "SELECT variant, input, repeat, sum(has_passed) AS passed, sum(NOT has_passed) AS failed "
        f"FROM ({wanted.told()}) GROUP BY 1, 2, 3",
        {"comparison": number, **wanted.listed},
    )
    checked = {_key_of(row): (row["passed"], row["failed"]) for row in told}
    return [CellOutline(key, status, *checked.get(key, (0, 0))) for key, status in states.items()]


def standings(db: Database, comparison: Comparison) -> list[Standing]:
    """How far the cells of each variant are."""
    number = comparison_number(db, comparison.id)
    wanted = _Wanted(db, comparison)
    parameters = {"comparison": number, **wanted.listed}
    places: list[dict[CellStatus, list[int]]] = [defaultdict(list) for _ in comparison.variants]
    failing: list[list[int]] = [[] for _ in comparison.variants]
    listed = _listed_places(comparison)
    for status, group in _counted_cells(db, comparison, number, wanted, (), told=listed):
        places[group["variant"]][status] += json.loads(group["told"])
    found = f"SELECT DISTINCT variant, input, repeat FROM ({wanted.told('NOT has_passed')})"
    for row in execute(
        db, f"SELECT variant, {listed} AS told FROM ({found}) GROUP BY 1", parameters
    ):
        failing[row["variant"]] += json.loads(row["told"])
    return [Standing(*found) for found in zip(places, failing, strict=True)]


def unsettled(db: Database, comparison: Comparison, *, is_retry: bool) -> list[CellKey]:
    """The cells that have ended with something left to do, in the order in which they run.

    Arguments:
        is_retry: whether that is also to ask failed ones again, and judges about what they could not tell.
    """
    wanted = _Wanted(db, comparison)
    number = comparison_number(db, comparison.id)
    groups = _counted_cells(
        db,
        comparison,
        number,
        wanted,
        [_SETTLED if is_retry else _ANY],
        told=_listed_places(comparison),
        is_apart=True,
    )
    keys = []
    for status, group in groups:
        places = json.loads(group["told"])
        is_unchecked = group["found_0"] < wanted.expected(group, len(places))
        is_failed = status is CellStatus.FAILED and not _is_recorded(comparison, group)
        if (is_failed and is_retry) or (status is CellStatus.COMPLETE and is_unchecked):
            variant = group["variant"]
            keys += [CellKey(variant, *divmod(place, comparison.repeats)) for place in places]
    return sorted(keys, key=lambda key: (key.repeat, key.input, key.variant))


def _listed_places(comparison: Comparison) -> str:
    return f"json_group_array(input * {comparison.repeats} + repeat)"


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
        self._has_references = any(entry.reference for entry in comparison.inputs)
        self._known: dict[tuple[int, str], set[_CheckIdentity]] = {}

    def of(self, key: CellKey) -> set[_CheckIdentity]:
        """Those that the answers of a cell are held against."""
        about = (key.variant, self._comparison.inputs[key.input].reference)
        if about not in self._known:
            variant, reference = about
            self._known[about] = set(self._identities(self._checks[variant], reference))
        return self._known[about]

    def _identities(self, checks: Iterable[Check], reference: str = "") -> Iterator[_CheckIdentity]:
        judge = self._comparison.judge
        return ((check.label, digest_of(check, judge, reference)) for check in checks)

    def expected(self, group: sqlite3.Row, cells: int) -> int:
        """How many results there are if every answer of so many cells of a group has been checked."""
        turns = len(self._comparison.inputs[group["input"]].turns)
        return cells * turns * len(self._checks[group["variant"]])

    @cached_property
    def listed(self) -> Mapping[str, str]:
        """All of them for a statement, as JSON: those of each variant, and those of each input.

        There are thousands of inputs, so what all variants have in common is listed once for each.
        """
        shown = self._by_input[:1] if self._is_common else self._by_input
        inputs = self._comparison.inputs if any(shown) else ()
        listed = [
            (variant, _spelled(label), digest)
            for variant, checks in enumerate(self._checks)
            for label, digest in self._identities(c for c in checks if not self._is_by_input(c))
        ]
        listed_by_input = [
            (number, variant, label, digest_of(check, self._comparison.judge, entry.reference))
            for variant, checks in enumerate(shown)
            for check in checks
            for label in [_spelled(check.label)]
            for number, entry in enumerate(inputs)
        ]
        return {"wanted": json.dumps(listed), "wanted_by_input": json.dumps(listed_by_input)}

    @cached_property
    def _by_input(self) -> Sequence[Sequence[Check]]:
        """Those of each variant that are other ones for each input, as they look at what it refers to."""
        return [list(filter(self._is_by_input, checks)) for checks in self._checks]

    def _is_by_input(self, check: Check) -> bool:
        return self._has_references and looks_at_reference(check)

    @cached_property
    def _is_common(self) -> bool:
        """Whether those are the same for every variant."""
        first, *others = ({*self._identities(checks)} for checks in self._by_input)
        return all(other == first for other in others)

    @property
    def _is_wanted(self) -> str:
        own = (
            "(cells.variant, hex(label), digest) IN "
            "(SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:wanted))"
        )
        if not any(self._by_input):
            return own
        variant = "0" if self._is_common else "cells.variant"
        return (
            f"({own} OR (cells.input, {variant}, hex(label), digest) IN "
            "(SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(:wanted_by_input)))"
        )

    def counted(self, found: Iterable[str]) -> Sequence[str]:
        """How many results of each kind all answers of a cell have, as expressions."""
        return [f"sum({self._counted(each)})" for each in found]

    def _counted(self, condition: str) -> str:
        if not any(self._checks):
            return "0"
        # Whether it is wanted takes longest to find out, so that comes last.
        return (
            "(SELECT count(*) FROM check_results WHERE check_results.turn = turns.number "
            f"AND {condition} AND {self._is_wanted})"
        )

    def told(self, condition: str = _TOLD_SOMETHING) -> str:
        """What they could tell, as a statement; only what meets a condition on it."""
        return _TOLD.format(condition=condition, is_wanted=self._is_wanted)


def _spelled(label: str) -> str:
    """In hexadecimal digits, as a label that is no valid Unicode is kept as its bytes."""
    return encode_bytes(label).hex().upper()


def _checks_of(db: Database, comparison: Comparison, variant: Variant) -> Sequence[Check]:
    return comparison.checks_with(*(_own_checks(db, revision) for revision in variant.revisions))


def _own_checks(db: Database, revision: str) -> Sequence[Check]:
    resolved = lookup.get_revision(db, revision).resolved
    try:
        return _CHECKS.validate_python(resolved.get("checks", ()), context=RECORDED)
    except ValidationError:
        return ()


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
