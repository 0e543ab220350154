"""Which WSGI server carries Rolebook: gunicorn's threads, granian or waitress, side by side.

    python benchmarks/servers.py [NAME ...] [--threads N] [--only MEASUREMENT ...]

Starts each installed server on a free loopback port, around the application in `servers_app.py`,
and prints one JSON object per measurement. All is bounded: one server takes about three minutes.
Load and server share the machine, so only the ratios between servers carry to another one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from servers_app import STARTERS

HERE = Path(__file__).parent
HEADERS_ONLY = "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
UNCLOSED = "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HALF_BODY = "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n0123456789"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """A running server: its process, its address, and how long it took to answer."""

    process: subprocess.Popen[bytes]
    host: str
    port: int
    ready_seconds: float

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """A fresh connection with a timeout of ten seconds."""
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        sock.settimeout(10)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect((self.host, self.port))
        return sock

    def get(self, path: str) -> socket.socket:
        """A connection on which GET `path` was sent."""
        sock = self.connect()
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return sock

    def record(self, key: str) -> Figures:
        """What the application remembers of the stream `key`."""
        with urlopen(f"http://127.0.0.1:{self.port}/record/{key}", timeout=10) as answer:
            return dict(json.load(answer))

    def memory(self) -> Figures:
        """Resident and proportional megabytes of the server's processes together."""
        return {
            "processes": len(self._pids()),
            "rss_mb": self._memory("Rss"),
            "pss_mb": self._memory("Pss"),
        }

    def _pids(self) -> list[int]:
        root = self.process.pid
        children = Path(f"/proc/{root}/task/{root}/children").read_text()
        return [root, *map(int, children.split())]

    def _memory(self, field: str) -> float:
        return round(sum(_rollup(pid, field) for pid in self._pids()) / 1024, 1)


def _rollup(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


@contextlib.contextmanager
def running(name: str, threads: int, host: str = "127.0.0.1") -> Iterator[Server]:
    """The server `name`, answering; it is killed at the end when it still lives."""
    port = _free_port(host)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(HERE / "servers_app.py"), name, host, str(port), str(threads)],
        cwd=HERE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        server = Server(process, host, port, 0)
        _await_answer(server)
        yield Server(process, host, port, time.monotonic() - began)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def _await_answer(server: Server) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            with server.get("/hello") as sock:
                if sock.recv(64).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            time.sleep(0.005)
    raise RuntimeError(f"{server.process.args!r} did not answer within 15 s")


def _read_all(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while piece := sock.recv(65536):
            data += piece
    return data


def _spread(seconds: Sequence[float | None]) -> Figures:
    seen = sorted(value for value in seconds if value is not None)
    figures: Figures = {"trials": len(seconds), "never": len(seconds) - len(seen)}
    if seen:
        figures |= {
            "min": round(seen[0], 2),
            "median": round(statistics.median(seen), 2),
            "max": round(seen[-1], 2),
        }
    return figures


def _percentile(values: Sequence[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000, 1)


def start(name: str, threads: int) -> Figures:
    """Seconds from the start of the process to its first answer, beside its imports alone."""
    ready, imports = [], []
    for _ in range(5):
        with running(name, threads) as server:
            ready.append(server.ready_seconds)
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import servers_app"], cwd=HERE, check=True)
        imports.append(time.monotonic() - began)
    return {"ready_s": _spread(ready), "imports_s": _spread(imports)}


def hello(name: str, threads: int) -> Figures:
    """Requests a second on 32 kept connections, and the idle memory before."""
    with running(name, threads) as server:
        idle = server.memory()
        rates = [asyncio.run(_hello_rate(server, seconds=2)) for _ in range(3)]
        return {
            "idle": idle,
            "per_second": [round(rate) for rate in rates],
            "after": server.memory(),
        }


class _Repeater(asyncio.Protocol):
    """Asks again as soon as it is answered."""

    request = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def __init__(self) -> None:
        self.answers = 0
        self.closed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"hello\n"):
            self.answers += 1
            self.transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed += 1


async def _hello_rate(server: Server, *, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(_Repeater, server.host, server.port))[1] for _ in range(32)
    ]
    await asyncio.sleep(seconds)
    if any(client.closed for client in clients):
        raise RuntimeError("a kept connection was closed")
    return sum(client.answers for client in clients) / seconds


def streams(name: str, threads: int) -> Figures:
    """50 streams of 50 tokens, 20 ms apart; then as many as there are threads, for the memory."""
    with running(name, threads) as server:
        runs = [asyncio.run(_streams(server, 50)) for _ in range(3)]
        memory = server.memory()
        full = asyncio.run(_streams(server, threads, delay=0.05))
        return {"50": runs, "memory": memory, str(threads): full, "memory_full": server.memory()}


async def _streams(server: Server, count: int, delay: float = 0.02) -> Figures:
    results = await asyncio.gather(*(_stream(server, delay) for _ in range(count)))
    firsts = [first for first, _total, _whole in results]
    return {
        "errors": sum(not whole for _first, _total, whole in results),
        "first_token_p50_ms": _percentile(firsts, 0.5),
        "first_token_p99_ms": _percentile(firsts, 0.99),
        "total_p50_ms": _percentile([total for _first, total, _whole in results], 0.5),
    }


async def _stream(server: Server, delay: float) -> tuple[float, float, bool]:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(
        f"GET /tokens?delay={delay} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    data = b""
    # Some servers send the headers ahead; the first token is the same moment for all.
    while b"data: token" not in data and (piece := await reader.read(65536)):
        data += piece
    first = time.monotonic() - began
    while piece := await reader.read(65536):
        data += piece
    writer.close()
    whole = data.count(b"data: token") == 50 and data.endswith(b"0\r\n\r\n")
    return first, time.monotonic() - began, whole


def leaving(name: str, threads: int) -> Figures:
    """Seconds from a client's leaving to the close of the stream's body, by how it leaves."""
    with running(name, threads) as server, ThreadPoolExecutor(20) as pool:
        return {
            way.__name__.strip("_"): _spread(
                list(pool.map(lambda n, way=way: way(server, n), range(5)))
            )
            for way in (
                _close,
                _reset,
                _half_close,
                _close_before_first_byte,
                _close_before_response,
            )
        }


def _leave(
    server: Server, key: str, path: str, leave: Callable[[socket.socket], object]
) -> float | None:
    sock = server.get(f"{path}&id={key}")
    leave(sock)
    left = time.monotonic()
    while time.monotonic() < left + 8:
        time.sleep(0.1)
        if (closed := server.record(key)["closed_at"]) is not None:
            return float(closed) - left
    return None


def _await_ping(sock: socket.socket, number: int) -> None:
    data = b""
    while b": ping" not in data:
        data += sock.recv(4096)
    # Five clients leave at five different moments between two pings.
    time.sleep(0.1 * number)


def _close(server: Server, number: int) -> float | None:
    def leave(sock: socket.socket) -> None:
        _await_ping(sock, number)
        sock.close()

    return _leave(server, f"close{number}", "/pings?", leave)


def _reset(server: Server, number: int) -> float | None:
    def leave(sock: socket.socket) -> None:
        _await_ping(sock, number)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    return _leave(server, f"reset{number}", "/pings?", leave)


def _half_close(server: Server, number: int) -> float | None:
    """A client that has said all, but still listens: `never` means that it is served on."""

    def leave(sock: socket.socket) -> None:
        _await_ping(sock, number)
        sock.shutdown(socket.SHUT_WR)

    return _leave(server, f"half{number}", "/pings?", leave)


def _close_before_first_byte(server: Server, number: int) -> float | None:
    def leave(sock: socket.socket) -> None:
        time.sleep(0.1 * number + 0.1)
        sock.close()

    return _leave(server, f"early{number}", "/pings?first=1", leave)


def _close_before_response(server: Server, number: int) -> float | None:
    """The view still works when the client leaves, and only then returns its body."""

    def leave(sock: socket.socket) -> None:
        time.sleep(0.1 * number + 0.1)
        sock.close()

    return _leave(server, f"view{number}", "/pings?before=1", leave)


def held(name: str, threads: int) -> Figures:
    """Milliseconds of a normal request while others hold connections and do nothing on them."""
    return {
        "100 half headers": _while_held(name, threads, 100, HEADERS_ONLY),
        "100 half bodies": _while_held(name, threads, 100, HALF_BODY),
        "500 idle": _while_held(name, threads, 500, ""),
        "20 answered but not closed": _while_held(name, threads, 20, UNCLOSED),
    }


def _while_held(name: str, threads: int, count: int, sent: str) -> Figures:
    with running(name, threads) as server, contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(server.connect())
            sock.sendall(sent.encode())
        until = time.monotonic() + 10
        times, failures = [], 0
        while time.monotonic() < until:
            took = _normal_request(server)
            failures += took is None
            times += [] if took is None else [took]
            time.sleep(0.2)
        figures: Figures = {"answered": len(times), "failed_after_3_s": failures}
        if times:
            figures |= {"p50_ms": _percentile(times, 0.5), "max_ms": _percentile(times, 1)}
        return figures


def _normal_request(server: Server) -> float | None:
    began = time.monotonic()
    try:
        with server.get("/hello") as sock:
            sock.settimeout(3)
            return time.monotonic() - began if sock.recv(64).startswith(b"HTTP/1.1 200") else None
    except OSError:
        return None


def slow_reader(name: str, threads: int) -> Figures:
    """One client reads a byte a second of 26 MB: what piles up, and when its thread is free."""
    with running(name, threads) as server:
        before = server.memory()["pss_mb"]
        sock = server.connect(receive_buffer=4096)
        sock.sendall(b"GET /flood?id=flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = time.monotonic()
        freed = None
        while time.monotonic() < began + 20 and freed is None:
            time.sleep(1)
            with contextlib.suppress(OSError):
                sock.recv(1)
            freed = server.record("flood")["closed_at"]
        sock.close()
        return {
            "produced_kb": server.record("flood")["produced"] // 1024,
            "grown_mb": round(server.memory()["pss_mb"] - before, 1),
            "freed_after_s": None if freed is None else round(freed - began, 1),
            "normal_request_ms": round((_normal_request(server) or 9) * 1000, 1),
        }


def stop(name: str, threads: int) -> Figures:
    """SIGTERM and SIGINT: seconds to the end, exit code, and the last that ten live streams saw."""
    return {
        "idle, SIGTERM": _stop(name, threads, signal.SIGTERM, None),
        "live, SIGTERM": _stop(name, threads, signal.SIGTERM, "/pings"),
        "live and ended by the application, SIGTERM": _stop(
            name, threads, signal.SIGTERM, "/pings?ends=1"
        ),
        "live and ended by the application, ctrl-C": _stop(
            name, threads, signal.SIGINT, "/pings?ends=1"
        ),
        "live, ctrl-C": _stop(name, threads, signal.SIGINT, "/pings"),
    }


def _stop(name: str, threads: int, sig: signal.Signals, path: str | None) -> Figures:
    with running(name, threads) as server, ThreadPoolExecutor(10) as pool:
        clients = [pool.submit(_read_all, server.get(path)) for _ in range(10) if path]
        time.sleep(1)
        began = time.monotonic()
        # A ctrl-C in a terminal reaches the whole process group.
        (os.killpg if sig is signal.SIGINT else os.kill)(server.process.pid, sig)
        try:
            code: int | None = server.process.wait(12)
        except subprocess.TimeoutExpired:
            code = None
        took = time.monotonic() - began
        seen = sorted({_ending(client.result()) for client in clients})
        return {"seconds": round(took, 2), "exit_code": code, "clients_saw": seen}


def _ending(data: bytes) -> str:
    error = "error event, " if b"event: error" in data else ""
    return error + ("whole body" if data.endswith(b"0\r\n\r\n") else "cut body")


def broken(name: str, threads: int) -> Figures:
    """How an exception in the body after its first byte looks to the client."""
    with running(name, threads) as server, server.get("/broken") as sock:
        data = _read_all(sock)
        return {"body": _ending(data), "first_event_arrived": b"data: one" in data}


MALFORMED: dict[str, bytes] = {
    "7 KB header": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 7000 + b"\r\n\r\n",
    "70 KB header": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "1 MB header": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: "
    + b"a" * 1_000_000
    + b"\r\n\r\n",
    "200 headers": b"GET /hello HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    "7 KB target": b"GET /hello?" + b"a" * 7000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CR in a value": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    "NUL in a value": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "LF line ends": b"GET /hello HTTP/1.1\nHost: localhost\n\n",
    "folded header": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "blank before colon": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n",
    "length and chunked": b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "no Host": b"GET /hello HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "CR LF in an answer's header": b"GET /raw-header HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def malformed(name: str, threads: int) -> Figures:
    """The status with which unusual requests are answered; an address in brackets works or not."""
    with running(name, threads) as server:
        answers = {label: _status(server, sent) for label, sent in MALFORMED.items()}
    with running(name, threads, host="::1") as server:
        answers["bound to ::1"] = _status(server, b"GET /hello HTTP/1.1\r\nHost: [::1]\r\n\r\n")
    return answers


def _status(server: Server, sent: bytes) -> str:
    with server.connect() as sock:
        sock.settimeout(2)
        try:
            sock.sendall(sent)
            data = sock.recv(65536)
        except OSError as error:
            return type(error).__name__
    forged = ", forged" if b"X-Forged" in data else ""
    return data.split(b"\r\n")[0].decode("latin-1").removeprefix("HTTP/1.1 ") + forged or "closed"


def same_port(name: str, threads: int) -> Figures:
    """Whether a second server on the same port is refused, as a person who starts two needs."""
    with running(name, threads) as server:
        command = [
            sys.executable,
            "servers_app.py",
            name,
            server.host,
            str(server.port),
            str(threads),
        ]
        second = subprocess.Popen(
            command,
            cwd=HERE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return {"second_exit_code": second.wait(3)}
        except subprocess.TimeoutExpired:
            return {"second_exit_code": None}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(second.pid, signal.SIGKILL)
            second.wait()


MEASUREMENTS: dict[str, Callable[[str, int], Figures]] = {
    measure.__name__: measure
    for measure in (
        start,
        hello,
        streams,
        leaving,
        held,
        slow_reader,
        stop,
        broken,
        malformed,
        same_port,
    )
}


def main() -> None:
    """Measure what was asked for, one measurement after the other, the servers side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    installed = [name for name, (needs, _) in STARTERS.items() if importlib.util.find_spec(needs)]
    parser.add_argument(
        "names", nargs="*", default=installed, metavar="NAME", help=", ".join(STARTERS)
    )
    parser.add_argument("--threads", type=int, default=256)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    options = parser.parse_args()
    for measurement in options.only:
        for name in options.names:
            figures = MEASUREMENTS[measurement](name, options.threads)
            line = {"server": name, "threads": options.threads, measurement: figures}
            print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
