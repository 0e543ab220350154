"""A run of a comparison, however often its process is killed, asks nothing twice and loses nothing."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from rolebook.core.comparison import CellStatus, Comparison
from rolebook.core.comparison_spec import parse_spec
from rolebook.core.errors import NotFoundError
from rolebook.wiring import Rolebook, open_rolebook
from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import Server, connected, is_sound, wait_until

CONCURRENCY = 5


def planned(folder: Path, upstream: FakeUpstream, **spec: object) -> tuple[Rolebook, Comparison]:
    """A comparison in the log of a folder, and a Rolebook that looks at it from beside the server."""
    beside = open_rolebook(
        environment=connected(upstream),
        flags={
            "database": str(folder / "data/rolebook.db"),
            "personas": str(folder / "personas"),
            "templates": str(folder / "templates"),
            "config": "",
        },
    )
    return beside, beside.compare.create(beside.compare.plan(parse_spec(spec)))


def test_killed_again_and_again_a_run_finishes_each_cell_once(
    folder: Path, start: StartServer, upstream: FakeUpstream
) -> None:
    chance = random.Random(32)
    beside, comparison = planned(
        folder,
        upstream,
        variants=[
            {"persona": "plain", "model": "ok?latency_ms=40"},
            {"persona": "plain", "model": "ok?tokens=8&delay_ms=8"},
        ],
        inputs=[*(f"Number {n}" for n in range(25)), {"turns": ["one", "two", "three"]}],
        checks=[{"contains": "Echo"}],
        concurrency=CONCURRENCY,
    )
    kills = 0
    while beside.comparisons.tally(comparison).complete < comparison.size:
        before = finished(beside, comparison)
        with start() as server:
            assert server.post(f"/comparisons/{comparison.id}/resume").status < 400
            # The first five are killed in the middle; then one may come to its end.
            if kills < 5:
                time.sleep(chance.uniform(0.05, 0.35))
            else:
                wait_for_end(server, beside, comparison)
            server.kill()
        kills += 1
        assert is_sound(server.database)
        after = finished(beside, comparison)
        assert before.items() <= after.items()
    assert 5 < kills < 10
    assert all_are_checked(beside, comparison)
    assert {1} == complete_answers_by_place(server.database)
    # Besides one request for each of the answers, only what was under way when it was killed.
    answers = 2 * (25 + 3)
    assert answers <= len(upstream.requests) <= answers + kills * CONCURRENCY
    beside.close()


def finished(beside: Rolebook, comparison: Comparison) -> dict[str, str]:
    """The answers that are complete, by the id of their turn."""
    return {
        turn.id: turn.text
        for cell in beside.comparisons.cells(comparison)
        for turn in cell.turns
        if turn.status == "complete"
    }


def wait_for_end(server: Server, beside: Rolebook, comparison: Comparison) -> None:
    wait_until(lambda: beside.comparisons.tally(comparison).complete == comparison.size, 20)


def all_are_checked(beside: Rolebook, comparison: Comparison) -> bool:
    cells = beside.comparisons.cells(comparison)
    assert {CellStatus.COMPLETE} == {cell.status for cell in cells}
    return all(len(cell.checks) == cell.length for cell in cells)


def complete_answers_by_place(database: Path) -> set[int]:
    """How many complete attempts there are at each place of each cell."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM turns WHERE status = 'complete' GROUP BY session, position"
        )
        return {row[0] for row in rows}


def test_run_whose_log_cannot_be_written_stops_and_says_why(
    folder: Path, start: StartServer, upstream: FakeUpstream
) -> None:
    beside, comparison = planned(
        folder,
        upstream,
        variants=[{"persona": "plain", "model": "ok?latency_ms=50"}],
        inputs=[f"Number {n}" for n in range(40)],
        concurrency=1,
    )
    server = start()
    server.post(f"/comparisons/{comparison.id}/resume")
    wait_until(lambda: len(upstream.requests) > 2)
    with closing(sqlite3.connect(server.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        page = wait_until(lambda: told(server, comparison), 15)
        asked = len(upstream.requests)
        other.execute("ROLLBACK")
    assert "locked" in page
    assert asked < 20
    wait_until(lambda: server.post(f"/comparisons/{comparison.id}/resume").status < 400, 10)
    wait_for_end(server, beside, comparison)
    assert 40 == len(finished(beside, comparison))
    beside.close()


def told(server: Server, comparison: Comparison) -> str:
    page = server.get(f"/comparisons/{comparison.id}")
    return page.text if "locked" in page.text else ""


def test_unknown_comparison_is_a_page_that_says_so(start: StartServer) -> None:
    server = start()
    for address in ("/comparisons/nope", "/comparisons/nope/vote", "/comparisons/nope/evidence"):
        assert 404 == server.get(address).status
    assert 404 == server.post("/comparisons/nope/resume").status
    assert NotFoundError.code in server.get("/comparisons/nope", Accept="application/json").text
