"""What processes count together, counted by real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from rolebook.core.budget import RateLimit, Spending
from rolebook.core.shared import (
    SharedCounts,
    SharedNumbers,
    SharedPlaces,
    SharedRates,
    SharedSpending,
    Told,
)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"),
    # The children do nothing that a lock of another thread could hold up.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def in_child(work: Callable[[], int]) -> int:
    """What another process finds: a number below 256, as its status."""
    process_id = os.fork()
    if process_id == 0:
        status = 255
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def test_rate_is_that_of_one_process_alone() -> None:
    alone, shared = RateLimit(3, 60.0), SharedRates()
    for moment in (100.0, 100.0, 100.5, 101.0, 110.0, 120.4, 121.0, 300.0, 300.0, 300.0, 300.0):
        assert pytest.approx(alone.take("", moment)) == shared.take(7, 3, 60.0, moment)


def test_requests_of_all_processes_count() -> None:
    rates = SharedRates()

    def taken() -> int:
        return sum(rates.take(7, 30, 60.0, 100.0) == 0 for _ in range(8))

    assert [8, 8, 8, 6, 0] == [in_child(taken), taken(), in_child(taken), in_child(taken), taken()]
    assert 0 == rates.take(8, 30, 60.0, 100.0)


def test_many_numbers_cost_no_memory_and_those_that_count_are_remembered() -> None:
    rates = SharedRates()
    assert 0 == rates.take(5, 1, 60.0, 100.0)
    for number in range(10_000, 60_000):
        assert 0 == rates.take(number, 1, 0.001, 100.0)
    assert 60 == rates.take(5, 1, 60.0, 100.0)


def test_places_are_those_of_all_processes_and_come_back_when_one_is_killed() -> None:
    places = SharedPlaces()
    own = places.take(["a"], 3, 100.0)
    assert own is not None

    def take_all() -> int:
        taken = [places.take(["a"], 3, 100.0) for _ in range(4)]
        os.write(ready[1], bytes([taken.count(None)]))
        signal.pause()
        return 0

    ready = os.pipe()
    child = os.fork()
    if child == 0:
        take_all()
    assert b"\x02" == os.read(ready[0], 1)
    assert places.take(["a"], 3, 100.0) is None
    other = places.take(["a", "b"], 3, 100.0)
    assert other is not None
    assert 1 == other[0]
    places.give_back(own[1])
    assert own == places.take(["a"], 3, 100.0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert [True, True, False] == [places.take(["a"], 3, 100.0) is not None for _ in range(3)]
    for end in ready:
        os.close(end)


def test_free_place_is_left_to_the_process_that_has_waited_longer_unless_it_is_gone() -> None:
    places = SharedPlaces()

    def wait() -> int:
        places.wait(["a"], 100.0)
        os.write(ready[1], b"x")
        signal.pause()
        return 0

    ready = os.pipe()
    child = os.fork()
    if child == 0:
        wait()
    os.read(ready[0], 1)
    assert places.take(["a"], 1, 101.0) is None
    assert places.take(["b"], 1, 101.0) is not None
    # Of two places one is for the other.
    assert places.take(["a"], 2, 101.0) is not None
    assert places.take(["a"], 2, 101.0) is None
    earlier = places.take(["a"], 2, 99.0)
    assert earlier is not None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    places.give_back(earlier[1])
    assert earlier == places.take(["a"], 2, 101.0)
    for end in ready:
        os.close(end)


def test_numbers_of_other_processes_count_while_they_run() -> None:
    counts = SharedCounts()
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        counts.set(3)
        os.write(ready[1], b"x")
        signal.pause()
    os.read(ready[0], 1)
    counts.set(7)
    told = counts.sum_of_others()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (3, 0) == (told, counts.sum_of_others())
    for end in ready:
        os.close(end)


def test_what_keys_have_used_in_other_processes_counts_while_they_run() -> None:
    shared, ready = SharedSpending(), os.pipe()
    child = os.fork()
    if child == 0:
        shared.set(3, Spending(turns=9))
        shared.set(7, Spending(turns=2, tokens=40, cost=0.5, unknown=1, running_tokens=1000))
        shared.set(3, Spending())
        shared.set(8, Spending(turns=1))
        os.write(ready[1], b"x")
        signal.pause()
    os.read(ready[0], 1)
    shared.set(7, Spending(turns=5, tokens=500))
    told = {key: shared.sum_of_others(key) for key in (3, 7, 8)}
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    expected = Spending(turns=2, tokens=40, cost=0.5, unknown=1, running_tokens=1000)
    assert {3: Spending(), 7: expected, 8: Spending(turns=1)} == told
    assert isinstance(told[7].tokens, int)
    assert Spending() == shared.sum_of_others(7)
    for end in ready:
        os.close(end)


def test_what_a_process_tells_of_itself_is_read_by_others() -> None:
    numbers = SharedNumbers(2)

    def tell() -> int:
        numbers[1] = Told(5, 4, 3, 2, 1)
        return 0

    assert 0 == in_child(tell)
    assert (Told(), Told(taken=5, ended=4, live_turns=3, unwritten_turns=2, told_at_ms=1)) == (
        numbers[0],
        numbers[1],
    )
