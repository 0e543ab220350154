"""Let Rolebook work for half an hour among faults and leaving clients, and see that nothing piles up: `make soak`.

A whole `rolebook serve` and twenty clients: of a hundred turns ten meet a fault of the upstream, and twenty are left
in the middle; between turns the clients read pages and ask the gateway. Every five seconds the process is looked at.
Afterwards:

- memory, open files and threads are what they were after the first third of the time, in which pools and caches fill
  (memory + 10 % at most);
- every turn whose end a client has seen is in the log, none is pending, and the file is sound;
- the upstream holds no connection that nobody uses any more: none is being answered;
- nothing was answered with 500, and there is no traceback in what the server has printed.

    python -m benchmarks.soak [--minutes 30] [--clients 20] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.fake_upstream import FAULTS, FakeUpstream
from tests.holding.server import Server, Stream, is_sound, make_folder, running, turns_in

#: Faults that end by themselves within the patience set below; floods have a test of their own.
MET = sorted(
    name for name, fault in FAULTS.items() if fault.kind in {"refused", "broken", "silent", "told"}
)
LOOK_S = 5.0
LEFT, FAULTY = 0.2, 0.1
MEMORY_GROWTH = 0.1
#: A pool keeps some connections and threads more or fewer from one moment to the next.
SLACK = 16
PATIENCE = {
    "ROLEBOOK_CONNECT_TIMEOUT": "2",
    "ROLEBOOK_FIRST_BYTE_TIMEOUT": "2",
    "ROLEBOOK_IDLE_TIMEOUT": "2",
    "ROLEBOOK_TOTAL_TIMEOUT": "5",
}
PAGES = ("/", "/sessions", "/personas/plain", "/status", "/comparisons", "/healthz", "/metrics")


class Look(NamedTuple):
    """The process at one moment."""

    memory_mb: float
    files: int
    threads: int


@dataclass
class Seen:
    """What the clients have seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    ended: dict[str, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


def look_at(server: Server) -> Look:
    """Raises FileNotFoundError if the process is gone."""
    process = Path(f"/proc/{server.process.pid}")
    return Look(server.rss_mb, _count(process / "fd"), _count(process / "task"))


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


class Client(threading.Thread):
    """Somebody who talks, leaves, reads pages and asks the gateway, until told to stop."""

    def __init__(self, server: Server, seen: Seen, stop: threading.Event, seed: int) -> None:
        super().__init__(daemon=True)
        self._server, self._seen, self._told_to_stop = server, seen, stop
        self._chance = random.Random(seed)

    def run(self) -> None:
        while not self._told_to_stop.is_set():
            for act in (self._talk, self._read, self._ask_gateway):
                try:
                    act()
                except (OSError, EOFError, ValueError, AssertionError) as error:
                    self._seen.odd.append(f"{act.__name__}: {error!r}")

    def _model(self) -> str:
        if self._chance.random() < FAULTY:
            return self._chance.choice(MET)
        return f"ok?tokens={self._chance.randint(5, 40)}&delay_ms={self._chance.randint(5, 40)}"

    def _talk(self) -> None:
        session = self._server.start_session(self._model())
        for _ in range(self._chance.randint(1, 4)):
            stream = self._server.stream(session)
            try:
                self._follow(stream)
            finally:
                stream.leave()
                self._server.streams.remove(stream)

    def _follow(self, stream: Stream) -> None:
        if stream.status != 200:
            self._note(f"talk {stream.status}")
            return
        leaves_after = self._chance.randint(1, 12) if self._chance.random() < LEFT else 0
        text = ""
        for number, event in enumerate(stream):
            if event.name == "delta" and event.data["index"] == 0 and event.data["kind"] == "text":
                text += event.data["text"]
            if event.name == "end":
                self._seen.ended[event.data["turn"]["id"]] = text
            if leaves_after and number >= leaves_after:
                self._note("left")
                return
        self._note("talk 200")

    def _read(self) -> None:
        reply = self._server.get(self._chance.choice(PAGES))
        self._note(f"page {reply.status}")

    def _ask_gateway(self) -> None:
        body = {"model": "plain", "messages": [{"role": "user", "content": "Hello"}]}
        with closing(self._server.connect()) as connection:
            connection.request(
                "POST",
                "/v1/chat/completions",
                json.dumps(body),
                {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            response.read()
        self._note(f"gateway {response.status}")

    def _note(self, what: str) -> None:
        self._seen.statuses[what] += 1


def soak(server: Server, *, minutes: float, clients: int, seed: int) -> tuple[Seen, list[Look]]:
    """Let the clients loose for a time; what they have seen, and the process every five seconds."""
    seen, stop, looks = Seen(), threading.Event(), []
    crowd = [Client(server, seen, stop, seed + number) for number in range(clients)]
    for client in crowd:
        client.start()
    end = time.monotonic() + minutes * 60
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(LOOK_S, left))
        looks.append(look_at(server))
        if len(looks) % 12 == 0:
            print(
                f"{len(looks) * LOOK_S / 60:5.0f} min  {looks[-1]}  {sum(seen.statuses.values())} requests",
                flush=True,
            )
    stop.set()
    for client in crowd:
        client.join(30)
    return seen, looks


def judge(
    server: Server, upstream: FakeUpstream, seen: Seen, looks: list[Look], database: Path
) -> list[str]:
    """What does not hold."""
    early = looks[len(looks) // 3 : len(looks) // 2] or looks[:1]
    late = looks[-max(1, len(looks) // 10) :]
    faults = []
    for name, allowed in (("memory_mb", None), ("files", SLACK), ("threads", SLACK)):
        before = statistics.median(getattr(look, name) for look in early)
        after = statistics.median(getattr(look, name) for look in late)
        limit = before * (1 + MEMORY_GROWTH) if allowed is None else before + allowed
        holds = after <= limit
        print(f"{name}: {before:.0f} at first, {after:.0f} in the end{'' if holds else '  MISSED'}")
        if not holds:
            faults.append(f"{name} grew from {before:.0f} to {after:.0f}")
    turns = turns_in(database)
    wrong = [
        turn_id
        for turn_id, text in seen.ended.items()
        if turn_id not in turns or (turns[turn_id]["text"] or "") != text
    ]
    pending = [row["turn_id"] for row in turns.values() if row["status"] == "pending"]
    print(
        f"turns in the log: {dict(Counter(row['status'] for row in turns.values()))};"
        f" ended before somebody's eyes: {len(seen.ended)}, not as seen: {len(wrong)}"
    )
    held = upstream.open_connections
    print(
        f"connections that the upstream holds: {held}, the most at once {upstream.stats['peak_connections']}"
    )
    checks = (
        (not wrong, f"{len(wrong)} ended turns are not in the log as they were seen"),
        (not pending, f"{len(pending)} turns are pending"),
        (is_sound(database), "the log is damaged"),
        (
            not any(what.endswith(" 500") for what in seen.statuses),
            "something was answered with 500",
        ),
        ("Traceback" not in server.stderr, "there is a traceback in the server's output"),
        (len(seen.odd) <= sum(seen.statuses.values()) / 1000, f"odd: {seen.odd[:5]}"),
    )
    return faults + [message for holds, message in checks if not holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}, faults: {', '.join(MET)}")
    with tempfile.TemporaryDirectory() as name, FakeUpstream(keep=0) as upstream:
        folder = make_folder(Path(name) / "place")
        environment = {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok", **PATIENCE}
        with running(folder, environment) as server:
            seen, looks = soak(
                server, minutes=options.minutes, clients=options.clients, seed=options.seed
            )
            # The last patience, and the time that an idle connection is kept.
            time.sleep(8)
            print(dict(sorted(seen.statuses.items())))
            faults = judge(server, upstream, seen, looks, server.database)
    for fault in faults:
        print(f"MISSED: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
