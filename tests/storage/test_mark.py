from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from rolebook.core.check import CheckResult
from rolebook.core.errors import InputError, NotFoundError, Phrase
from rolebook.core.session import Turn, TurnMark
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.storage.log import SqliteLog
from rolebook.storage.query import SessionFilter
from tests.storage.examples import log_session, log_turn


@pytest.fixture
def turn(log: SqliteLog) -> Turn:
    return log_turn(log, log_session(log))


def noted(mark: TurnMark) -> tuple[bool, int, str]:
    return mark.is_starred, mark.thumb, mark.note


def test_what_is_not_given_stays_as_it_is(log: SqliteLog, turn: Turn) -> None:
    log.mark_turn(turn.id, is_starred=True)
    log.mark_turn(turn.id, thumb=-1)
    returned = log.mark_turn(turn.id, note="太长了 \ud83d")
    mark = log.marks_of([turn.id, "unknown"])[turn.id]
    assert mark == returned
    assert noted(mark) == (True, -1, "太长了 \ud83d")


@pytest.mark.parametrize(
    ("set_to", "taken_back"),
    [
        ({"is_starred": True}, {"is_starred": False}),
        ({"thumb": 1}, {"thumb": 0}),
        ({"note": "good"}, {"note": ""}),
    ],
)
def test_mark_that_is_empty_again_leaves_no_row(
    log: SqliteLog, turn: Turn, set_to: Any, taken_back: Any
) -> None:
    log.mark_turn(turn.id, **set_to)
    assert log.marks_of([turn.id])
    assert log.mark_turn(turn.id, **taken_back).is_empty
    assert log.marks_of([turn.id]) == {}
    assert log.read(lambda db: db["turn_marks"].count) == 0


def test_unknown_turn_cannot_be_marked(log: SqliteLog) -> None:
    with pytest.raises(NotFoundError):
        log.mark_turn("unknown", is_starred=True)


def test_mark_goes_with_its_turn_when_the_trash_is_emptied(log: SqliteLog, turn: Turn) -> None:
    log.mark_turn(turn.id, note="gone soon")
    log.delete([turn.session_id])
    assert log.marks_of([turn.id])
    log.purge_deleted("9999-01-01")
    assert log.marks_of([turn.id]) == {}


def test_marks_and_findings_are_exported_with_their_turn(log: SqliteLog, turn: Turn) -> None:
    plain = log_turn(log, log.get_session(turn.session_id))
    log.mark_turn(turn.id, is_starred=True, thumb=1, note="=SUM(A1)")
    said = Phrase("The number of words is %(count)d.", {"count": 4})
    results = [CheckResult("max_words: 3", False, said, 4.0)]
    SqliteComparisonLog(log).record_results(turn.id, results)

    def exported(format: str) -> str:
        return "".join(log.export_sessions([turn.session_id], format))

    first, second = json.loads(exported("json"))["sessions"][0]["turns"]
    assert (second["id"], second["mark"], second["checks"]) == (plain.id, None, [])
    assert first["mark"] == {
        "is_starred": True,
        "thumb": 1,
        "note": "=SUM(A1)",
        "updated_at": log.marks_of([turn.id])[turn.id].updated_at,
    }
    (check,) = first["checks"]
    assert (check["label"], check["has_passed"], check["value"]) == ("max_words: 3", False, 4.0)
    assert check["said"]["message"] == "The number of words is 4."
    assert json.loads(exported("jsonl").splitlines()[0])["turn"] == first
    page = exported("md")
    assert "- Mark: ★ 👍 =SUM(A1)\n" in page
    assert "- Checks: max_words: 3: failed (The number of words is 4.)\n" in page
    rows = list(csv.DictReader(io.StringIO(exported("csv").removeprefix("\ufeff"))))
    assert [rows[0][name] for name in ("is_starred", "thumb", "note")] == ["1", "1", "'=SUM(A1)"]
    assert [rows[1][name] for name in ("is_starred", "thumb", "note")] == ["0", "0", ""]


@pytest.mark.parametrize(
    ("mark", "found"), [("star", [0]), ("up", [0]), ("down", [1]), ("note", [1]), ("", [2, 1, 0])]
)
def test_sessions_are_found_by_the_marks_of_their_turns(
    log: SqliteLog, mark: str, found: list[int]
) -> None:
    turns = [log_turn(log, log_session(log)) for _ in range(3)]
    log.mark_turn(turns[0].id, is_starred=True, thumb=1)
    log.mark_turn(turns[1].id, thumb=-1, note="no")
    listed = [s.session.id for s in log.list_sessions(SessionFilter(mark=mark)).summaries]
    assert listed == [turns[number].session_id for number in found]


def test_sessions_are_not_found_by_a_mark_that_there_is_not(log: SqliteLog) -> None:
    with pytest.raises(InputError, match="one of star, up, down, note, got 'x'"):
        log.list_sessions(SessionFilter(mark="x"))
