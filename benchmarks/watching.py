"""What it costs to follow a folder of files, and how soon a change counts: `python -m benchmarks.watching`.

Rolebook has no watcher: it looks at its folders when somebody asks for something. So an unchanged folder costs nothing
while nobody asks. Measured is the opposite, a program that asks all the time:

- cost: a process asks the library for one persona 200 times a second; its processor time is compared with that of the
  same loop that asks nobody. The difference, as a share of one core, is what following costs at the most.
- delay: a persona file is rewritten at a moment of chance, and the library is asked every 2 ms until it gives the new
  text; the same through a real server, over HTTP.

A figure beyond its limit (1 % of a core, 1 s) fails the run.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.pages import build, served
from rolebook.library.file_library import FileLibrary

COST_LIMIT = 0.01
DELAY_LIMIT_S = 1.0
_ASKED_EVERY_S = 0.005


def cost_of(ask: Callable[[], object], *, seconds: float) -> float:
    """The share of a core that goes into asking all the time."""
    began, used = time.monotonic(), time.process_time()
    while (now := time.monotonic()) - began < seconds:
        ask()
        time.sleep(max(0.0, now + _ASKED_EVERY_S - time.monotonic()))
    return (time.process_time() - used) / (time.monotonic() - began)


def delay_of(path: Path, read: Callable[[], str], *, number: int) -> float:
    """The seconds until a new text of a file is seen."""
    mark = f"Marked {number}"
    _, _, rest = path.read_text("utf-8").partition("\n")
    time.sleep(random.random() * DELAY_LIMIT_S)
    path.write_text(f"name: {mark}\n{rest}", "utf-8")
    began = time.monotonic()
    while mark not in read():
        if time.monotonic() - began > 10:
            raise SystemExit("the change is not seen")
        time.sleep(0.002)
    return time.monotonic() - began


def report(what: str, figure: str, *, holds: bool, limit: str) -> bool:
    """Print one line. Returns whether the limit holds."""
    print(f"{what:<34} {figure:<34} {'ok' if holds else f'above {limit}'}")
    return holds


def report_delays(what: str, delays: list[float]) -> bool:
    delays.sort()
    middle, last = delays[len(delays) // 2] * 1000, delays[-1] * 1000
    figure = f"p50 {middle:4.0f} ms   max {last:4.0f} ms   of {len(delays)}"
    return report(what, figure, holds=delays[-1] <= DELAY_LIMIT_S, limit=f"{DELAY_LIMIT_S:g} s")


def library_of(folder: Path) -> FileLibrary:
    """A library over a folder that `build` has made, all of it read."""
    library = FileLibrary(folder / "personas", folder / "templates")
    library.entries()
    time.sleep(0.1)
    return library


def measure_cost(folder: Path, *, seconds: float, personas: int) -> bool:
    """What following the folder costs beyond the loop that asks."""
    library = library_of(folder)
    whole = cost_of(lambda: library.get_entry("persona-0000"), seconds=seconds)
    alone = cost_of(lambda: None, seconds=seconds)
    added = whole - alone
    figure = f"{added:.2%} of a core ({whole:.2%} - {alone:.2%})"
    return report(
        f"asked all the time, {personas} files", figure, holds=added < COST_LIMIT, limit="1 %"
    )


def measure_delay(folder: Path, environment: dict[str, str], *, rounds: int) -> list[bool]:
    """How soon a change is seen, by the library and by a page."""
    path = folder / "personas/persona-0007.yaml"
    library = library_of(folder)

    def from_library() -> str:
        resolved = library.get_entry("persona-0007").resolved
        return resolved.persona.name if resolved else ""

    delays = [delay_of(path, from_library, number=number) for number in range(rounds)]
    results = [report_delays("a change is seen, library", delays)]
    with served(environment) as connection:

        def from_page() -> str:
            connection.request("GET", "/personas/persona-0007")
            return connection.getresponse().read().decode()

        from_page()
        delays = [delay_of(path, from_page, number=rounds + number) for number in range(rounds)]
    return [*results, report_delays("a change is seen, page", delays)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--personas", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = build(folder, personas=options.personas)
        results = [
            measure_cost(folder, seconds=options.seconds, personas=options.personas),
            *measure_delay(folder, environment, rounds=options.rounds),
        ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
