from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from rolebook.core.errors import StorageError
from rolebook.storage.cache import SlowValue


def show_until(value: SlowValue[int], last: int, *, within_s: float = 20.0) -> set[int]:
    """Look at a value until it is `last`, as pages do; what was shown before."""
    deadline = time.monotonic() + within_s
    shown: set[int] = set()
    while (now := value.get()) != last:
        shown.add(now)
        assert time.monotonic() < deadline, f"{last} did not come: {shown}"
        time.sleep(0.005)
    return shown


def test_quick_value_is_always_new() -> None:
    numbers = count()
    value = SlowValue(lambda: next(numbers), slow_s=60)
    assert [value.get(), value.get()] == [0, 1]


def test_slow_value_is_renewed_once_the_system_has_room_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = count()

    def compute() -> int:
        time.sleep(0.01)
        return next(numbers)

    refused = threading.Event()

    def have_no_room(thread: threading.Thread) -> None:
        refused.set()
        raise RuntimeError("can't start new thread")

    value = SlowValue(compute, slow_s=0.001)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", have_no_room)
        while not refused.is_set():
            assert value.get() == 0
    show_until(value, 1)


def test_slow_value_is_shown_again_and_renewed_behind() -> None:
    numbers = count()
    begun: list[float] = []
    ended: list[float] = []
    may_end = threading.Event()
    may_end.set()

    def compute() -> int:
        begun.append(time.monotonic())
        time.sleep(0.01)
        assert may_end.wait(20)
        ended.append(time.monotonic())
        return next(numbers)

    value = SlowValue(compute, slow_s=0.005)
    assert value.get() == 0
    may_end.clear()
    # Whoever asks while it is renewed, which cannot end here, is not kept waiting.
    while len(begun) == 1:
        assert value.get() == 0
        time.sleep(0.005)
    assert [value.get(), value.get()] == [0, 0]
    assert len(begun) == 2
    may_end.set()
    assert show_until(value, 1) <= {0}
    # Computing it takes no more than 5 % of the time.
    assert begun[1] - ended[0] >= 20 * (ended[0] - begun[0])


def test_slow_value_that_is_forgotten_is_a_new_one_for_the_next_who_asks() -> None:
    numbers = count()

    def compute() -> int:
        time.sleep(0.01)
        return next(numbers)

    value = SlowValue(compute, slow_s=0.005)
    shown = value.get()
    value.forget()
    assert value.get() > shown


def test_value_that_fails_behind_is_computed_for_the_next_who_asks() -> None:
    results: Iterator[int | StorageError] = iter([1, StorageError("The disk is away."), 3])

    def compute() -> int:
        time.sleep(0.01)
        result = next(results)
        if isinstance(result, StorageError):
            raise result
        return result

    value = SlowValue(compute, slow_s=0.005)
    assert value.get() == 1
    assert show_until(value, 3) <= {1}
