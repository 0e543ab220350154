"""What it costs to follow a folder of files, and how soon a change counts: `python -m benchmarks.watching`.

Measured are whole `rolebook serve` with a large library, once as the system tells of changes (docs/decisions/0018), and
once as it does not, because one file is a link:

- idle: the processor time of the process while nobody asks for anything, as a share of one core;
- delay: a persona file is rewritten at a moment of chance, and its page asked for until it shows the new text.

And the opposite of idle, a process that follows a library as a server does and asks it for one persona 200 times a
second: what this adds to the same loop that asks nobody. A figure beyond its limit (1 % of a core, 1 s) fails the run.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.pages import build
from rolebook.library.file_library import FileLibrary

COST_LIMIT = 0.01
DELAY_LIMIT_S = 1.0
_ASKED_EVERY_S = 0.005
#: What a server does after its first line: it reads the library, records it, gets ready to render.
_START_S = 5.0


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """The process id and the port of a `rolebook serve` that has done what it does at its start."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rolebook", "serve", "--port", "0"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        time.sleep(_START_S)
        yield process.pid, int(line.rpartition(":")[2].strip(" /\n"))
    finally:
        process.terminate()
        process.wait(15)


def processor_time_s(process_id: int) -> float:
    """The processor time that a process has used so far, in steps of 10 ms."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_cost_of(process_id: int, *, seconds: float) -> float:
    """The share of a core that a process uses while nobody asks."""
    began, used = time.monotonic(), processor_time_s(process_id)
    time.sleep(seconds)
    return (processor_time_s(process_id) - used) / (time.monotonic() - began)


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
    # Whoever asks meanwhile has just looked.
    chance = time.monotonic() + random.random() * DELAY_LIMIT_S
    while time.monotonic() < chance:
        read()
    path.write_text(f"name: {mark}\n{rest}", "utf-8")
    began = time.monotonic()
    while mark not in read():
        if time.monotonic() - began > 10:
            raise SystemExit("the change is not seen")
        time.sleep(0.002)
    return time.monotonic() - began


def report(what: str, figure: str, *, holds: bool, limit: str) -> bool:
    """Print one line. Returns whether the limit holds."""
    print(f"{what:<34} {figure:<40} {'ok' if holds else f'above {limit}'}")
    return holds


def report_delays(what: str, delays: list[float]) -> bool:
    delays.sort()
    middle, last = delays[len(delays) // 2] * 1000, delays[-1] * 1000
    figure = f"p50 {middle:4.0f} ms   max {last:4.0f} ms   of {len(delays)}"
    return report(what, figure, holds=delays[-1] <= DELAY_LIMIT_S, limit=f"{DELAY_LIMIT_S:g} s")


def measure_asked(folder: Path, *, seconds: float) -> bool:
    """What being asked all the time costs beyond the loop that asks."""
    library = FileLibrary(folder / "personas", folder / "templates")
    library.entries()
    wake = threading.Event()
    with closing(library.follow(wake)) as looks:
        next(looks)
        whole = cost_of(lambda: library.get_entry("persona-0000"), seconds=seconds)
    alone = cost_of(lambda: None, seconds=seconds)
    added = whole - alone
    figure = f"{added:.2%} of a core ({whole:.2%} - {alone:.2%})"
    return report("asked all the time, told", figure, holds=added < COST_LIMIT, limit="1 %")


def measure_server(
    folder: Path, environment: dict[str, str], *, means: str, seconds: float, rounds: int
) -> list[bool]:
    """What an idle server costs, and how soon a change is on its page."""
    path = folder / "personas/persona-0007.yaml"
    with serving(environment) as (process_id, port):
        cost = idle_cost_of(process_id, seconds=seconds)
        figure = f"{cost:.2%} of a core   {cost / COST_LIMIT:.2f} of the limit"
        results = [report(f"idle, {means}", figure, holds=cost < COST_LIMIT, limit="1 %")]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

        def from_page() -> str:
            connection.request("GET", "/personas/persona-0007")
            return connection.getresponse().read().decode()

        from_page()
        delays = [delay_of(path, from_page, number=number) for number in range(rounds)]
        connection.close()
    return [*results, report_delays(f"a change is on its page, {means}", delays)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--personas", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = build(folder, personas=options.personas)
        seconds, rounds = options.seconds, options.rounds
        results = [measure_asked(folder, seconds=seconds / 2)]
        results += measure_server(folder, environment, means="told", seconds=seconds, rounds=rounds)
        (folder / "personas/linked.yaml").symlink_to("persona-0001.yaml")
        results += measure_server(
            folder, environment, means="looked at", seconds=seconds, rounds=rounds
        )
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
