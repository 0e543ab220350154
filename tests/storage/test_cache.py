from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

from rolebook.core.errors import StorageError
from rolebook.storage.cache import SlowValue


def test_quick_value_is_always_new() -> None:
    numbers = count()
    value = SlowValue(lambda: next(numbers))
    assert [value.get(), value.get()] == [0, 1]


def test_slow_value_is_shown_again_and_renewed_behind() -> None:
    numbers = count()

    def compute() -> int:
        time.sleep(0.01)
        return next(numbers)

    value = SlowValue(compute, slow_s=0.005)
    assert [value.get(), value.get()] == [0, 0]
    value.forget()
    assert value.get() == 1
    time.sleep(0.4)
    assert value.get() == 1
    time.sleep(0.2)
    assert value.get() == 2


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
    time.sleep(0.4)
    assert value.get() == 1
    time.sleep(0.2)
    assert value.get() == 3
