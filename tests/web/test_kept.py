"""What took a while to work out is kept until something changes, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from rolebook.web.kept import Kept


def counter() -> Callable[[], int]:
    """Work that has another result each time."""
    return count(1).__next__


def test_the_same_stamp_gives_what_was_made_before() -> None:
    kept, make = Kept[int](2), counter()
    assert [1, 1, 2, 2] == [kept.get("a", stamp, make) for stamp in ("x", "x", "y", "y")]


def test_the_least_recently_used_goes_first() -> None:
    kept, make = Kept[int](2), counter()
    assert [1, 2, 1, 3] == [kept.get(id, "x", make) for id in "abac"]
    assert [1, 4] == [kept.get(id, "x", make) for id in "ab"]


def test_what_is_not_known_is_not_made() -> None:
    kept = Kept[int](2)
    assert kept.known("a", "x") is None
    kept.get("a", "x", counter())
    assert [1, None] == [kept.known("a", stamp) for stamp in ("x", "y")]


def test_work_that_fails_leaves_nothing() -> None:
    kept = Kept[float](2)
    failures = iter([0.0, 2.0])
    with pytest.raises(ZeroDivisionError):
        kept.get("a", "x", lambda: 1 / next(failures))
    assert 0.5 == kept.get("a", "x", lambda: 1 / next(failures))
