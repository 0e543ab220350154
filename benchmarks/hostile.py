"""What others notice of hostile files and templates: `python -m benchmarks.hostile`.

A whole `rolebook serve`. Four attackers ask without a pause for what nobody should have written: previews of personas
whose templates loop, recurse and ask for gigabytes, and drafts of files that are the hardest to read. Meanwhile four
others open pages, look at previews and talk. Measured is how long each of these takes, without the attack and under
it; the 99th of 100 beyond 250 ms under attack fails the run. Attackers, others and the upstream share the machine with
the server.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.core.test_sandbox import CPU, MEMORY, RECURSION
from tests.fake_upstream import FakeUpstream
from tests.holding.server import PLAIN, Server, connected, make_folder, running
from tests.library.test_yaml_text import REFUSED

LIMIT_MS = 250.0
ATTACKERS = 4
OTHERS = 4
#: So many turns, then another session.
TURNS = 10

TEMPLATES = {**CPU, **MEMORY, **RECURSION}
Times = dict[str, list[float]]


def make_hostile(folder: Path) -> list[str]:
    """A persona for each hostile template; returns their ids."""
    ids = []
    for number, template in enumerate(TEMPLATES.values()):
        (folder / f"templates/hostile-{number}.jinja").write_text(template, "utf-8")
        text = f"name: Hostile {number}\nsystem: x\ntemplate: hostile-{number}\n"
        (folder / f"personas/hostile-{number}.yaml").write_text(text, "utf-8")
        ids.append(f"hostile-{number}")
    return ids


def attacks_on(server: Server, ids: list[str]) -> list[Callable[[], object]]:
    """Everything that attackers do, one after the other."""
    attacks: list[Callable[[], object]] = [
        lambda id=id: server.post(f"/personas/{id}/preview", {"input": "x"}) for id in ids
    ]
    attacks += [
        lambda text=text: server.post("/library/templates/chat/look", {"text": text})
        for text in TEMPLATES.values()
    ]
    for source, _ in REFUSED.values():
        raw = source.encode("utf-8", "replace") if isinstance(source, str) else source
        text = raw.decode("utf-8", "replace")
        attacks.append(
            lambda text=text: server.post("/library/personas/plain/look", {"text": text})
        )
    random.Random(1).shuffle(attacks)
    return attacks


def look_once(server: Server) -> None:
    """All problems of the library are found when they are first asked for, which takes a trial of each template."""
    connection = server.connect(timeout_s=120)
    connection.request("GET", "/status", headers={"Accept": "text/html"})
    connection.getresponse().read()
    connection.close()


def use(server: Server, is_over: threading.Event, times: Times) -> None:
    """Open pages, look at previews and talk, as people do, only faster."""
    began = time.perf_counter()

    def note(what: str) -> None:
        nonlocal began
        now = time.perf_counter()
        times[what].append((now - began) * 1000)
        began = now

    for number in itertools.count():
        if is_over.is_set():
            return
        if number % TURNS == 0:
            session = server.start_session("ok")
        for what, path in (
            ("gallery", "/"),
            ("persona", "/personas/plain?input=x"),
            ("session", session),
        ):
            began = time.perf_counter()
            server.get(path, Accept="text/html")
            note(what)
        server.post("/personas/plain/preview", {"input": "x"})
        note("preview")
        stream = server.stream(session, "Hello")
        stream.wait_for("delta")
        note("first word")
        stream.read_to_end()
        stream.leave()
        time.sleep(0.02)


def measure(
    server: Server, *, seconds: float, attacks: list[Callable[[], object]]
) -> tuple[Times, list[float]]:
    times: Times = defaultdict(list)
    longest: list[float] = []
    is_over = threading.Event()
    cycle = itertools.cycle(attacks)
    lock = threading.Lock()

    def following() -> Callable[[], object]:
        with lock:
            return next(cycle)

    def attacking() -> None:
        while not is_over.is_set():
            began = time.monotonic()
            with suppress(OSError):
                following()()
            longest.append(time.monotonic() - began)

    threads = [threading.Thread(target=use, args=(server, is_over, times)) for _ in range(OTHERS)]
    if attacks:
        threads += [threading.Thread(target=attacking) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    is_over.set()
    for thread in threads:
        thread.join()
    return times, longest


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, FakeUpstream() as upstream:
        folder = make_folder(Path(name) / "rolebook", {"plain": PLAIN})
        ids = make_hostile(folder)
        with running(folder, connected(upstream)) as server:
            look_once(server)
            quiet, _ = measure(server, seconds=options.seconds / 4, attacks=[])
            before_mb = server.rss_mb
            attacked, longest = measure(
                server, seconds=options.seconds, attacks=attacks_on(server, ids)
            )
            grown_mb = server.rss_mb - before_mb
    holds = True
    for what, times in attacked.items():
        p99 = quantile(times, 0.99)
        holds = holds and p99 <= LIMIT_MS
        before = quiet[what]
        print(
            f"{what:<12} alone p50 {quantile(before, 0.5):5.0f} p99 {quantile(before, 0.99):5.0f} ms   "
            f"attacked p50 {quantile(times, 0.5):5.0f} p99 {p99:5.0f} max {max(times):5.0f} ms of {len(times)}   "
            f"{p99 / LIMIT_MS:.2f} of the limit {'ok' if p99 <= LIMIT_MS else 'ABOVE'}"
        )
    print(f"attacks: {len(longest)}, the longest {max(longest):.1f} s; memory {grown_mb:+.0f} MB")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
