"""The line before an upstream: who may call next."""

from __future__ import annotations

from rolebook.core.comparison import CellKey
from rolebook.core.line import Line, Place

KEYS = [CellKey(0, number, 0) for number in range(6)]


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
