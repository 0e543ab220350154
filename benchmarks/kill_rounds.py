"""Kill a server among open streams, and a program among saves, again and again: `python -m benchmarks.kill_rounds`.

Each round kills a whole `rolebook serve` with 20 streams open; the next round opens the same log. Afterwards every
turn whose end some client had seen must be complete in the log, word for word, every other one interrupted, and the
file sound. Then a program that creates personas is killed as often: no file may be damaged or half.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fake_upstream import FakeUpstream
from tests.holding.rounds import (
    kill_during_saves,
    kill_with_open_streams,
    require_truth,
    require_whole_personas,
)
from tests.holding.server import connected, make_folder, running


def kill_servers(folder: Path, *, rounds: int, streams: int, chance: random.Random) -> None:
    """Play the rounds with a server, and print what was seen."""
    seen = []
    with FakeUpstream(keep=0) as upstream:
        environment = connected(upstream)
        for number in range(rounds):
            seen.append(kill_with_open_streams(folder, environment, streams=streams, chance=chance))
            begun, ended = len(seen[-1].begun), len(seen[-1].ended)
            print(
                f"round {number + 1}: {begun} turns begun, {ended} ended, then killed", flush=True
            )
        with running(folder, environment) as server:
            for one in seen:
                require_truth(server.database, one)
    begun, ended = sum(len(one.begun) for one in seen), sum(len(one.ended) for one in seen)
    print(f"{rounds} kills: {ended} of {begun} turns had ended, all in the log; the file is sound")


def kill_programs(folder: Path, *, rounds: int, chance: random.Random) -> None:
    """Play the rounds with a program that saves personas, and print what was seen."""
    created = [name for _ in range(rounds) for name in kill_during_saves(folder, chance=chance)]
    left = sum(file.suffix != ".yaml" for file in (folder / "personas").iterdir())
    require_whole_personas(folder, created)
    print(f"{rounds} kills: {len(created)} personas, none damaged; {left} unfinished, none listed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = make_folder(Path(name) / "rolebook")
        kill_servers(folder, rounds=options.rounds, streams=options.streams, chance=chance)
        kill_programs(folder, rounds=options.rounds, chance=chance)
    return 0


if __name__ == "__main__":
    sys.exit(main())
