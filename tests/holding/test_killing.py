"""Whatever kills the process, nothing that was shown is lost and nothing half is listed.

`python -m benchmarks.kill_rounds --rounds 50` plays more of the same.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.rounds import (
    kill_during_saves,
    kill_with_open_streams,
    require_truth,
    require_whole_personas,
)
from tests.holding.server import connected


def test_killed_server_has_logged_every_end_that_was_shown(
    folder: Path, start: StartServer, upstream: FakeUpstream
) -> None:
    chance = random.Random(32)
    rounds = [
        kill_with_open_streams(folder, connected(upstream), streams=20, chance=chance)
        for _ in range(3)
    ]
    server = start()
    for seen in rounds:
        require_truth(server.database, seen)
        assert len(seen.begun) >= 20
    assert sum(len(seen.ended) for seen in rounds) > 0
    # How many are in the middle when it comes is up to the machine.
    assert sum(len(seen.begun - seen.ended.keys()) for seen in rounds) > 0
    statuses = {row["status"] for row in server.turns().values()}
    assert statuses == {"complete", "interrupted"}
    assert server.get("/sessions").status == 200


def test_killed_program_leaves_no_half_persona_and_nothing_for_ever(
    folder: Path, start: StartServer
) -> None:
    chance = random.Random(35)
    created = [name for _ in range(8) for name in kill_during_saves(folder, chance=chance)]
    require_whole_personas(folder, ["plain", *created])
    personas = folder / "personas"
    (personas / ".rolebook-half").write_text("name: Half a na")
    unfinished = [file for file in personas.iterdir() if file.suffix != ".yaml"]
    two_hours_ago = time.time() - 7200
    for file in unfinished:
        os.utime(file, (two_hours_ago, two_hours_ago))
    server = start()
    assert server.get(f"/personas/{created[-1]}").status == 200
    assert "Half a na" not in server.get("/").text
    assert [file.name for file in personas.iterdir() if file.suffix != ".yaml"] == []
