"""Large libraries, logs and grids: what a page asks of the log grows no faster than they do.

No time is taken: SQLite says how many steps of its virtual machine a page takes, the same on every computer. How long
that is with 1,000 personas, 100,000 turns and 10,000 cells is measured by `benchmarks/pages.py` and its siblings.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks import comparison_pages, log_read, pages, session_pages
from rolebook.web.app import create_app
from rolebook.wiring import open_rolebook

_EVERY = 10
#: As much larger is the second log. What looks at each row once takes as many times the steps, what looks at each row
#: for each other one sixteen times.
_GROWTH = 4
_MOST = 1.3 * _GROWTH
#: No page reads more of a turn, or of a cell, than its figures.
_OF_A_TURN, _OF_A_CELL = 150, 500


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The steps that all connections have taken since it was called last."""
    counted, connect = [0], sqlite3.connect

    def count() -> int:
        counted[0] += _EVERY
        return 0

    def connect_counted(*args: Any, **given: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **given)
        connection.set_progress_handler(count, _EVERY)
        return connection

    def taken() -> int:
        found, counted[0] = counted[0], 0
        return found

    monkeypatch.setattr(sqlite3, "connect", connect_counted)
    return taken


def _asked(
    environment: Mapping[str, str], paths: Sequence[str], steps: Callable[[], int]
) -> list[int]:
    """The steps of each page, asked for a second time, as somebody does who works with it."""
    with closing(open_rolebook(environment=environment)) as book:
        client = create_app(book).test_client()
        found = []
        for path in paths:
            assert client.get(path).status_code == 200
            steps()
            assert client.get(path).status_code == 200
            found.append(steps())
        return found


def _require_growth(small: Sequence[int], large: Sequence[int]) -> None:
    """What is next to nothing may grow: a page has some queries that take a row or two more."""
    assert [] == [
        (number, few, more)
        for number, (few, more) in enumerate(zip(small, large, strict=True))
        if more > _MOST * max(few, 1000)
    ]


def test_lists_searches_and_filters_grow_no_faster_than_the_log(
    tmp_path: Path, steps: Callable[[], int]
) -> None:
    found, size = [], 800
    for turns in (size, _GROWTH * size):
        folder = tmp_path / str(turns)
        folder.mkdir()
        environment = pages.build(folder, personas=20)
        ids = log_read.build(Path(environment["ROLEBOOK_DATABASE"]), turns)
        paths = ["/", "/?q=number", *(page.path for page in session_pages.pages_of(ids[-1]))]
        found.append(_asked(environment, paths, steps))
    _require_growth(*found)
    assert max(found[1]) < _OF_A_TURN * _GROWTH * size


def test_pages_of_a_comparison_grow_no_faster_than_its_grid(
    tmp_path: Path, steps: Callable[[], int]
) -> None:
    found, size = [], 30
    for inputs in (size, _GROWTH * size):
        folder = tmp_path / str(inputs)
        folder.mkdir()
        environment = pages.build(folder, personas=6)
        with closing(open_rolebook(environment=environment)) as book:
            path = f"/comparisons/{comparison_pages.build(book, inputs).id}"
        paths = [path, f"{path}/state", f"{path}/cells/1-3-1", f"{path}/vote", "/comparisons"]
        found.append(_asked(environment, paths, steps))
    _require_growth(*found)
    assert max(found[1]) < _OF_A_CELL * comparison_pages.VARIANTS * _GROWTH * size
