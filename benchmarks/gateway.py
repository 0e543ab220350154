"""What a call through the gateway costs, beside LiteLLM's proxy, a bare Flask passthrough, and no gateway at all.

All of them call the same upstream, which answers at once; Rolebook renders a persona with four messages and logs every
turn, LiteLLM (1.106.2, no database) neither. They take turns within a round. Driver, upstream and server share the
computer, so only the ratios carry to another one. Every answer is looked at: one that is not whole counts as an error.

    python -m benchmarks.gateway [--rounds 2] [--seconds 2] [--slow 1000] [--only NAME]... [--measure NAME]...

LiteLLM is installed once into a folder of its own under `~/.cache/rolebook-benchmarks`. `--slow N` adds N streams of 40
tokens, four a second, to direct, Flask and Rolebook (LiteLLM takes minutes for that: name it with --slow-litellm).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.comparison import CACHE, ROOT, install_rolebook, users_environment

LITELLM_VERSION = "1.106.2"
SYSTEM = "You are a patient teacher of {{ subject }} for a beginner. One idea at a time. " * 6
PERSONA = f"""\
name: Bench
system: "{SYSTEM}"
model: mock
variables: {{subject: mathematics}}
examples:
  - {{user: What is a fraction?, assistant: A piece of a whole.}}
"""
MESSAGES = [{"role": "user", "content": "Why is the sky blue, and not green or violet?"}]
#: Name of a measurement: is it streamed, and how many clients ask at once.
MEASUREMENTS: Mapping[str, tuple[bool, int]] = {
    "one": (False, 1),
    "32": (False, 32),
    "200": (False, 200),
    "streams 32": (True, 32),
}
_CONTENT = re.compile(rb'"content": ?"w')
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to ask: the model that it knows, and the process that it is, if it is ours to look at."""

    name: str
    url: str
    model: str
    slow_model: str
    pid: int = 0
    ready_s: float = 0.0


@dataclass(slots=True)
class Seen:
    """What the clients of one measurement have seen, in seconds."""

    durations: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    errors: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """What the server and all that it has started have used."""


class Client(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, asks again until it is told to stop."""

    def __init__(self, request: bytes, seen: Seen, *, until: float, marks: Sequence[bytes]) -> None:
        self._request, self._seen, self._until, self._marks = request, seen, until, marks
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._data, self._first, self._began = bytearray(), 0.0, time.perf_counter()
        self._whole: int | None = None
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._first and _CONTENT.search(self._data):
            self._first = time.perf_counter() - self._began
        if self._whole is None:
            self._whole = self._length()
        if len(self._data) >= self._whole if self._whole else data.endswith(b"0\r\n\r\n"):
            self._note()

    def _length(self) -> int | None:
        """The bytes of the whole answer; none are told for one in chunks, and nothing before the headers have ended."""
        head, blank, _ = bytes(self._data[:2000]).partition(_END)
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        return (len(head) + 4 + int(length[1]) if length else 0) if blank else None

    def _note(self) -> None:
        now = time.perf_counter()
        is_good = self._data[:12].endswith(b" 200") and all(m in self._data for m in self._marks)
        if is_good:
            self._seen.durations.append(now - self._began)
            self._seen.firsts.append(self._first)
        else:
            self._seen.errors += 1
            print(bytes(self._data[:600]), file=sys.stderr)
        if now < self._until and self._seen.errors < 20:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _request(target: Target, *, is_streamed: bool, is_slow: bool = False) -> bytes:
    body = json.dumps(
        {
            "model": target.slow_model if is_slow else target.model,
            "messages": MESSAGES,
            **({"stream": True} if is_streamed else {}),
        }
    ).encode()
    parts = urlsplit(target.url)
    head = (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer sk-bench-0123456789\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def drive(target: Target, *, clients: int, is_streamed: bool, seconds: float) -> Seen:
    """Ask with so many clients for so long."""
    seen, loop = Seen(), asyncio.get_running_loop()
    parts = urlsplit(target.url)
    began = time.perf_counter()
    request = _request(target, is_streamed=is_streamed)
    marks = (b"[DONE]", b'"stop"') if is_streamed else (b"word word", b'"stop"')

    def connect() -> Client:
        return Client(request, seen, until=began + seconds, marks=marks)

    made = [
        await loop.create_connection(connect, parts.hostname, parts.port) for _ in range(clients)
    ]
    await asyncio.wait_for(asyncio.gather(*(client.done for _, client in made)), 60 + seconds)
    seen.wall_s = time.perf_counter() - began
    return seen


async def drive_slowly(target: Target, streams: int) -> Seen:
    """So many slow streams, begun within two seconds."""
    seen, loop = Seen(), asyncio.get_running_loop()
    parts = urlsplit(target.url)
    request = _request(target, is_streamed=True, is_slow=True)
    began = time.perf_counter()
    marks = (b"[DONE]", b'"stop"')
    made = []
    for number in range(streams):
        await asyncio.sleep(max(0.0, began + 2 * number / streams - time.perf_counter()))
        connected = loop.create_connection(
            lambda: Client(request, seen, until=0.0, marks=marks), parts.hostname, parts.port
        )
        made.append(await connected)
    await asyncio.wait_for(asyncio.gather(*(client.done for _, client in made)), 120)
    seen.wall_s = time.perf_counter() - began
    return seen


@contextmanager
def process(command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, ended at the end."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**users_environment(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _first_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def start_rolebook(
    stack: ExitStack, folder: Path, upstream: str, python: Path, processes: int
) -> Target:
    """Rolebook as `rolebook serve` runs it, on a log of its own."""
    (folder / "personas").mkdir()
    (folder / "personas" / "bench.yaml").write_text(PERSONA)
    command = [str(python), "-m", "rolebook", "serve", "--port", "0"]
    command += ["--gateway-processes", str(processes)]
    environment = {
        "OPENAI_BASE_URL": upstream,
        "OPENAI_API_KEY": "x",
        "ROLEBOOK_PERSONAS": str(folder / "personas"),
        "ROLEBOOK_DATABASE": str(folder / "log.db"),
    }
    began = time.perf_counter()
    child = stack.enter_context(process(command, **environment))
    address = _first_line(child).removeprefix("Rolebook: ")
    ready_s = time.perf_counter() - began
    return Target("Rolebook", f"{address}v1", "bench", "bench/slow", child.pid, ready_s)


def install_litellm() -> Path:
    """The folder of programs of LiteLLM, installed if this is the first time. Raises CalledProcessError."""
    folder = CACHE / f"litellm-{LITELLM_VERSION}"
    if not (folder / "bin" / "litellm").exists():
        print(f"Installing LiteLLM {LITELLM_VERSION} into {folder} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, f"litellm[proxy]=={LITELLM_VERSION}"], check=True, timeout=900)
    return folder / "bin"


def start_litellm(stack: ExitStack, folder: Path, upstream: str, workers: int) -> Target:
    """LiteLLM's proxy without a database, as quiet as it gets."""
    bin = install_litellm()
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{model}", "api_base": upstream, "api_key": "x"},
        }
        for name, model in (("bench", "mock"), ("bench-slow", "slow"))
    ]
    # JSON is YAML too.
    (folder / "litellm.yaml").write_text(json.dumps({"model_list": models}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(bin / "litellm"), "--config", str(folder / "litellm.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)]
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": "sk-bench-0123456789",
        "LITELLM_TELEMETRY": "False",
        "PATH": f"{bin}:{os.environ['PATH']}",
    }
    began = time.perf_counter()
    child = stack.enter_context(process(command, **environment))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(OSError):
            url = f"http://127.0.0.1:{port}/health/liveliness"
            urllib.request.urlopen(url, timeout=2).read()
            break
        time.sleep(0.1)
    ready_s = time.perf_counter() - began
    return Target(
        "LiteLLM", f"http://127.0.0.1:{port}/v1", "bench", "bench-slow", child.pid, ready_s
    )


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants; none for 0."""
    if pid:
        yield pid
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                yield from family(int(child))


def memory_mb(pid: int) -> float:
    """What a process and all its descendants hold, in MB; what several share counts for each by its part (Pss)."""
    found = [
        re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{member}/smaps_rollup").read_text(), re.MULTILINE)
        for member in family(pid)
    ]
    return sum(int(held[1]) / 1024 for held in found if held)


def cpu_s(pid: int) -> float:
    """What a process and all its descendants have used so far, in seconds."""
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """In milliseconds; not a number where there are none."""
    ordered = sorted(values)
    return (
        ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
        if ordered
        else float("nan")
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement of a target: the medians of its rounds."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    errors: int


def summarise(rounds: Sequence[Seen]) -> Row:
    """The medians over the rounds."""
    return Row(
        rate=statistics.median(len(seen.durations) / seen.wall_s for seen in rounds),
        p50_ms=statistics.median(percentile(seen.durations, 0.5) for seen in rounds),
        p99_ms=statistics.median(percentile(seen.durations, 0.99) for seen in rounds),
        cpu_ms=statistics.median(seen.cpu_s / max(1, len(seen.durations)) for seen in rounds)
        * 1000,
        errors=sum(seen.errors for seen in rounds),
    )


def measure(
    targets: Sequence[Target], names: Sequence[str], rounds: int, seconds: float
) -> Mapping[tuple[str, str], Row]:
    """Every target in every measurement, taking turns."""
    seen: dict[tuple[str, str], list[Seen]] = {}
    for target in targets:
        uvloop.run(drive(target, clients=8, is_streamed=False, seconds=1))
        uvloop.run(drive(target, clients=8, is_streamed=True, seconds=1))
    for _ in range(rounds):
        for name in names or MEASUREMENTS:
            is_streamed, clients = MEASUREMENTS[name]
            for target in targets:
                before_s = cpu_s(target.pid)
                result = uvloop.run(
                    drive(target, clients=clients, is_streamed=is_streamed, seconds=seconds)
                )
                result.cpu_s = cpu_s(target.pid) - before_s
                rate = len(result.durations) / result.wall_s
                print(f"{target.name}, {name}: {rate:,.0f}/s", file=sys.stderr)
                seen.setdefault((target.name, name), []).append(result)
    return {key: summarise(results) for key, results in seen.items()}


def show(rows: Mapping[tuple[str, str], Row], targets: Sequence[Target]) -> Iterator[str]:
    """A Markdown table, and the ratios that are the goals."""
    yield "| server | at once | answers/s | p50, ms | p99, ms | added p50 / p99, ms | its CPU a call, ms | errors |"
    yield "|---|---|---|---|---|---|---|---|"
    for (target, name), row in rows.items():
        direct = rows.get(("direct", name))
        added = (
            f"{row.p50_ms - direct.p50_ms:.2f} / {row.p99_ms - direct.p99_ms:.2f}"
            if direct
            else "–"
        )
        yield (
            f"| {target} | {name} | {row.rate:,.0f} | {row.p50_ms:.2f} | {row.p99_ms:.2f}"
            f" | {added} | {row.cpu_ms:.2f} | {row.errors} |"
        )
    for target in targets:
        if target.pid:
            yield (
                f"{target.name}: ready after {target.ready_s:.2f} s, holds {memory_mb(target.pid):.0f} MB now."
            )
    ours = {name: rows.get(("Rolebook", name)) for name in MEASUREMENTS}
    for peer in ("LiteLLM", "Flask"):
        for name, own in ours.items():
            theirs = rows.get((peer, name))
            if own and theirs:
                yield f"{name}: {own.rate / theirs.rate:.2f} x the answers of {peer}."
    own, theirs, direct = (rows.get((name, "one")) for name in ("Rolebook", "LiteLLM", "direct"))
    if own and theirs and direct:
        for what in ("p50_ms", "p99_ms"):
            added, peers = (getattr(row, what) - getattr(direct, what) for row in (own, theirs))
            yield f"Added at one client, {what}: {added / peers:.2f} of LiteLLM's."


def logged(folder: Path) -> Mapping[str, int]:
    """How many turns the log holds, by their status."""
    with closing(sqlite3.connect(folder / "log.db")) as db:
        return dict(db.execute("SELECT status, count(*) FROM turns GROUP BY status").fetchall())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--slow", type=int, default=0)
    parser.add_argument("--slow-litellm", action="store_true")
    parser.add_argument("--litellm-workers", type=int, default=1)
    parser.add_argument("--processes", type=int, default=0, help="Rolebook's for /v1")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--measure", action="append", default=[], choices=MEASUREMENTS)
    given: Any = parser.parse_args(arguments)
    # What it has started ends with it, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = install_rolebook()
        peers = ["-m", "benchmarks.gateway_peers"]
        upstream = _first_line(stack.enter_context(process([sys.executable, *peers, "upstream"])))
        targets = [Target("direct", upstream, "mock", "slow")]
        if not given.only or "Flask" in given.only:
            flask = stack.enter_context(process([str(python), *peers, "flask", upstream]))
            targets.append(Target("Flask", _first_line(flask), "mock", "slow", flask.pid))
        if not given.only or "Rolebook" in given.only:
            targets.append(start_rolebook(stack, folder, upstream, python, given.processes))
        if not given.only or "LiteLLM" in given.only:
            targets.append(start_litellm(stack, folder, upstream, given.litellm_workers))
        if given.rounds:
            print(
                *show(measure(targets, given.measure, given.rounds, given.seconds), targets),
                sep="\n",
            )
        for target in targets if given.slow else ():
            if target.name != "LiteLLM" or given.slow_litellm:
                seen = uvloop.run(drive_slowly(target, given.slow))
                print(
                    f"{target.name}: {given.slow} slow streams, {seen.errors} errors, {len(seen.durations)} whole,"
                    f" first token p50 {percentile(seen.firsts, 0.5):.1f} ms,"
                    f" p99 {percentile(seen.firsts, 0.99):.1f} ms,"
                    f" wall {seen.wall_s:.2f} s, {memory_mb(target.pid):.0f} MB."
                )
        if (folder / "log.db").exists():
            print("In the log:", logged(folder))


if __name__ == "__main__":
    main()
