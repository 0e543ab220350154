"""The line before an upstream: who may call next."""

from __future__ import annotations

import pytest

from rolebook.core.comparison import Cell, CellKey
from rolebook.core.errors import UpstreamSilentError
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
    return Line(KEYS, 4, clock=clock)


def ended(status: TurnStatus, code: str = "", took_s: float = 0.0) -> Cell:
    """A cell with one turn."""
    error = TurnError(code, REASONS.get(code, "Bad."), {"upstream": "mine"}) if code else None
    turn = Turn(
        id=new_id(),
        session_id=new_id(),
        revision="",
        input="Hi",
        upstream="mine",
        status=status,
        error=error,
        duration_ms=took_s * 1000,
    )
    return Cell(KEYS[0], 1, turns=(turn,))


def failed(code: str = "upstream_connection", took_s: float = 0.0) -> Cell:
    return ended(TurnStatus.FAILED, code, took_s)


def begin(line: Line, count: int) -> list[Place]:
    """The places of the next cells."""
    return [place for _ in range(count) if (begun := line.begin()) for place in begun[1:]]


def is_free(*places: Place) -> list[bool]:
    return [place.is_free.is_set() for place in places]


def test_so_many_have_a_place_and_as_many_more_get_ready() -> None:
    line = Line(KEYS, 2)
    assert 4 == line.fillers
    assert [True, True, False, False] == is_free(*begin(line, 4))
    assert 3 == Line(KEYS[:3], 2).fillers


def test_cells_begin_in_their_order_until_none_is_left() -> None:
    line = Line(KEYS, 2)
    begun = [line.begin() for _ in range(7)]
    assert [*KEYS, None] == [cell and cell[0] for cell in begun]


def test_place_that_is_given_back_goes_to_whoever_waits_longest() -> None:
    line = Line(KEYS, 1)
    first, second, third = begin(line, 3)
    first.give_back()
    assert [True, False] == is_free(second, third)
    first.give_back()
    assert [False] == is_free(third)
    second.give_back()
    assert [True] == is_free(third)


def test_place_that_nobody_waits_for_is_there_for_the_next() -> None:
    line = Line(KEYS, 1)
    begin(line, 1)[0].give_back()
    assert [True, False] == is_free(*begin(line, 2))


def test_whoever_needs_no_place_any_more_leaves_the_line() -> None:
    line = Line(KEYS, 1)
    first, second, third = begin(line, 3)
    second.give_back()
    first.give_back()
    assert [False, True] == is_free(second, third)


def test_nobody_waits_in_a_line_that_is_open() -> None:
    line = Line(KEYS, 1)
    waiting = begin(line, 3)
    line.open()
    assert [True] * 3 == is_free(*waiting)
    for place in waiting:
        place.give_back()
    assert [True] * 3 == is_free(*begin(line, 3))


def test_cells_that_cannot_be_asked_for_a_while_are_the_last(line: Line, clock: Clock) -> None:
    line.note_end(failed(took_s=1))
    for _ in range(3):
        line.note_end(failed())
    clock.now_s += 3.9
    line.note_end(failed("upstream_silent"))
    clock.now_s += 0.1
    with pytest.raises(UpstreamSilentError) as raised:
        line.note_end(failed("upstream_silent"))
    told = "mine gives no answers: 6 cells in a row failed. No connection to mine. What was answered is kept"
    assert str(raised.value).startswith(told)


def test_few_cells_are_no_row_however_long_they_take(line: Line, clock: Clock) -> None:
    for _ in range(4):
        clock.now_s += 60
        line.note_end(failed("upstream_silent", took_s=60))


@pytest.mark.parametrize(
    "other",
    [
        ended(TurnStatus.COMPLETE),
        ended(TurnStatus.INTERRUPTED, "upstream_connection"),
        failed("upstream_server"),
        failed("upstream_rate"),
    ],
)
def test_server_that_says_anything_is_there(line: Line, clock: Clock, other: Cell) -> None:
    for cell in (*[failed()] * 4, other, *[failed()] * 4):
        clock.now_s += 10
        line.note_end(cell)


@pytest.mark.parametrize(
    "other",
    [failed("invalid_prompt"), failed("upstream_timeout"), Cell(KEYS[0], 1)],
)
def test_cell_that_says_nothing_of_the_server_changes_nothing(
    line: Line, clock: Clock, other: Cell
) -> None:
    for cell in (*[failed()] * 4, other):
        clock.now_s += 10
        line.note_end(cell)
    with pytest.raises(UpstreamSilentError, match="5 cells in a row"):
        line.note_end(failed())


def test_key_that_is_refused_is_not_tried_for_long(line: Line) -> None:
    for _ in range(4):
        line.note_end(failed("upstream_key"))
    with pytest.raises(UpstreamSilentError, match="The key is refused"):
        line.note_end(failed("upstream_key"))
