"""The line before an upstream: who may call next."""

from __future__ import annotations

import pytest

from rolebook.core.comparison import Break, CellKey
from rolebook.core.line import Line, Place
from rolebook.core.session import Turn, TurnError, TurnStatus, new_id

KEYS = [CellKey(0, number, 0) for number in range(6)]
REASONS = {
    "upstream_connection": "No connection to %(upstream)s.",
    "upstream_silent": "%(upstream)s is left alone.",
    "upstream_key": "The key is refused.",
}


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(clock: Clock) -> Line:
    """The cells of an upstream that has to prove that it is there."""
    return Line("mine", KEYS, 4, clock=clock)


def ended(how: TurnStatus, code: str = "", **parameters: object) -> Turn:
    error = TurnError(code, REASONS.get(code, "Bad."), {"upstream": "mine", **parameters})
    return Turn(
        id=new_id(),
        session_id=new_id(),
        revision="",
        input="Hi",
        upstream="mine",
        status=how,
        error=error if code else None,
    )


def failed(code: str = "upstream_connection", **parameters: object) -> Turn:
    return ended(TurnStatus.FAILED, code, **parameters)


def begin(line: Line, count: int) -> list[Place]:
    """The places of the next cells."""
    return [place for _ in range(count) if (begun := line.begin()) for place in begun[1:]]


def is_free(*places: Place) -> list[bool]:
    return [place.is_free for place in places]


def test_so_many_have_a_place_and_as_many_more_get_ready() -> None:
    line = Line("mine", KEYS, 2)
    assert 4 == line.fillers
    assert [True, True, False, False] == is_free(*begin(line, 4))
    assert 3 == Line("mine", KEYS[:3], 2).fillers


def test_cells_begin_in_their_order_until_none_is_left() -> None:
    line = Line("mine", KEYS, 2)
    begun = [line.begin() for _ in range(7)]
    assert [*KEYS, None] == [cell and cell[0] for cell in begun]


def test_place_that_is_given_back_goes_to_whoever_waits_longest() -> None:
    line = Line("mine", KEYS, 1)
    first, second, third = begin(line, 3)
    first.give_back()
    assert [True, False] == is_free(second, third)
    first.give_back()
    assert [False] == is_free(third)
    second.give_back()
    assert [True] == is_free(third)


def test_place_that_nobody_waits_for_is_there_for_the_next() -> None:
    line = Line("mine", KEYS, 1)
    begin(line, 1)[0].give_back()
    assert [True, False] == is_free(*begin(line, 2))


def test_whoever_needs_no_place_any_more_leaves_the_line() -> None:
    line = Line("mine", KEYS, 1)
    first, second, third = begin(line, 3)
    second.give_back()
    first.give_back()
    assert [False, True] == is_free(second, third)


def test_whoever_is_no_cell_of_the_line_waits_behind_all_who_do() -> None:
    line = Line("mine", KEYS, 1)
    first, second = begin(line, 2)
    judge = line.join()
    (third,) = begin(line, 1)
    first.give_back()
    assert [True, False, False] == is_free(second, judge, third)
    second.give_back()
    assert [True, False] == is_free(judge, third)
    judge.give_back()
    assert [True] == is_free(third)
    line.close()
    assert [True] == is_free(line.join())


def test_nobody_waits_in_a_line_that_is_closed_and_nobody_joins_it() -> None:
    line = Line("mine", KEYS, 1)
    waiting = begin(line, 3)
    line.close()
    assert [True] * 3 == is_free(*waiting)
    for place in waiting:
        place.give_back()
    assert line.begin() is None


def test_calls_that_cannot_be_made_for_a_while_are_the_last(line: Line, clock: Clock) -> None:
    assert [None] * 4 == [line.note_end(failed()) for _ in range(4)]
    clock.now_s += 4.9
    assert line.note_end(failed("upstream_silent")) is None
    clock.now_s += 0.1
    found = line.note_end(failed("upstream_silent"))
    assert found is not None
    assert ("mine", 6, "upstream_connection") == (found.upstream, found.calls, found.error.code)
    told = "mine gives no answers: 6 calls in a row failed. No connection to mine. What was answered is kept"
    assert str(found.said).startswith(told)
    line.close()
    assert line.note_end(failed()) is None


def test_few_calls_are_no_row_however_long_they_take(line: Line, clock: Clock) -> None:
    for _ in range(4):
        clock.now_s += 60
        assert line.note_end(failed("upstream_silent")) is None


def test_server_that_hangs_is_not_waited_for_by_every_cell(line: Line, clock: Clock) -> None:
    found = ends(line, clock, *[failed("upstream_timeout")] * 5)
    assert [None] * 4 == found[:4]
    assert found[4] is not None
    assert ("upstream_timeout", 5) == (found[4].error.code, found[4].calls)


def test_calls_that_wait_together_for_a_model_that_is_being_loaded_are_no_row(
    line: Line, clock: Clock
) -> None:
    clock.now_s += 60
    assert {None} == {line.note_end(failed("upstream_timeout")) for _ in range(20)}
    clock.now_s += 10
    assert line.note_end(ended(TurnStatus.COMPLETE)) is None
    assert {None} == set(ends(line, clock, *[failed("upstream_timeout")] * 4))


def ends(line: Line, clock: Clock, *turns: Turn) -> list[Break | None]:
    """What is found when these end, ten seconds apart."""
    found = []
    for turn in turns:
        clock.now_s += 10
        found.append(line.note_end(turn))
    return found


@pytest.mark.parametrize(
    "other",
    [
        ended(TurnStatus.COMPLETE),
        ended(TurnStatus.INTERRUPTED, "upstream_connection"),
        failed("upstream_server", status=500),
        failed("upstream_rate", status=429),
        failed("upstream_timeout", has_begun=True),
    ],
)
def test_server_that_says_anything_is_there(line: Line, clock: Clock, other: Turn) -> None:
    assert {None} == set(ends(line, clock, *[failed()] * 4, other, *[failed()] * 4))


@pytest.mark.parametrize("http", [502, 503, 504, 521])
def test_server_in_front_of_one_that_is_down_gives_no_answer(
    line: Line, clock: Clock, http: int
) -> None:
    found = ends(line, clock, *[failed("upstream_server", status=http)] * 5)[-1]
    assert found is not None
    assert http == found.error.parameters["status"]


@pytest.mark.parametrize(
    "other",
    [failed("invalid_prompt"), ended(TurnStatus.CANCELLED)],
)
def test_call_that_says_nothing_of_the_server_changes_nothing(
    line: Line, clock: Clock, other: Turn
) -> None:
    found = ends(line, clock, *[failed()] * 4, other, failed())[-1]
    assert found is not None
    assert 5 == found.calls


KEYLESS = {"upstream": "spare", "code": "upstream_key"}
LIMITED = {"upstream": "spare", "code": "upstream_rate", "status": 429}
DOWN = {"upstream": "spare", "code": "upstream_connection"}
BEHIND = {"upstream": "spare", "code": "upstream_server", "status": 503}
UNFIT = {"upstream": "spare", "code": "upstream_refused", "status": 404}


@pytest.mark.parametrize("other", [KEYLESS, DOWN, BEHIND, UNFIT], ids=lambda o: o["code"])
def test_those_that_stand_in_have_to_be_away_as_well(
    line: Line, clock: Clock, other: dict[str, object]
) -> None:
    found = ends(line, clock, *[failed(others=[other])] * 5)
    assert [None] * 4 == found[:4]
    assert found[4] is not None


@pytest.mark.parametrize("code", ["upstream_key", "upstream_connection"])
def test_one_that_stands_in_and_may_be_free_soon_is_waited_for(
    line: Line, clock: Clock, code: str
) -> None:
    limited = failed(code, others=[DOWN, LIMITED])
    assert {None} == set(ends(line, clock, *[limited] * 20))
    rest = ends(line, clock, *[failed(code)] * 4, limited, *[failed(code)] * 4)
    assert {None} == set(rest)


def test_refused_key_is_no_lasting_reason_where_another_is_only_away(line: Line) -> None:
    """As it may come back."""
    ends = [line.note_end(failed("upstream_key", others=[DOWN])) for _ in range(9)]
    assert {None} == set(ends)


def test_key_that_is_refused_is_not_tried_for_long(line: Line) -> None:
    found = [line.note_end(failed("upstream_key")) for _ in range(5)]
    assert [None] * 4 == found[:4]
    assert found[4] is not None
    assert "The key is refused" in str(found[4].said)
