"""A whole Rolebook: the process that people start, in a folder of its own, and its clients."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from tests.fake_upstream import FakeUpstream
from tests.spawned import PYTHONPATH

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
START_S = 20
"""The longest that a start may take on a busy machine; a start without a load takes about one second."""
HASTY = ("-m", "tests.holding.hasty")
"""The command of a server with shorter waits than people get."""
PLAIN = "name: Plain\nsystem: Answer briefly.\n"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response."""

    status: int
    headers: Mapping[str, str]
    text: str
    took_s: float

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; comments are events named `ping`."""

    name: str
    data: Any


class Stream:
    """A turn as a browser reads it: a connection of its own, event by event."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self.socket = connection.sock
        self._response = connection.getresponse()
        self.status = self._response.status
        self.turn_id = ""

    def __iter__(self) -> Iterator[Event]:
        name = ""
        while line := self._response.readline():
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                name = text.removeprefix("event: ")
            elif text.startswith("data: "):
                yield self._noted(Event(name, json.loads(text.removeprefix("data: "))))
            elif text.startswith(":"):
                yield Event("ping", text)
        # A server that is stopped waits two seconds for what may still be asked on a connection.
        self._connection.close()

    def _noted(self, event: Event) -> Event:
        if event.name == "turn":
            self.turn_id = event.data["id"]
        return event

    def wait_for(self, name: str) -> Event:
        """The next event of this name. Raises EOFError if the stream ends before."""
        for event in self:
            if event.name == name:
                return event
        raise EOFError(f"the stream ended without {name!r}")

    def read_to_end(self) -> list[Event]:
        """All events that are still to come."""
        return list(self)

    def rest(self) -> str:
        """The body, where the answer is no stream but an error."""
        return self._response.read().decode()

    def leave(self) -> None:
        """Go away as a browser does when its tab is closed."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self._connection.close()


@dataclass
class Server:
    """A running `rolebook serve`. `folder` is where it runs; its output goes to files there."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int = 0
    streams: list[Stream] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.streams:
            stream.leave()
        self.kill()

    @property
    def database(self) -> Path:
        return self.folder / "data/rolebook.db"

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text("utf-8")

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text("utf-8")

    @property
    def rss_mb(self) -> float:
        """The memory of the process itself, without its workers."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def connect(self, timeout_s: float = 15.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def open_socket(self, timeout_s: float = 15.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def ask(
        self,
        method: str,
        path: str,
        body: str | bytes = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        began = time.perf_counter()
        with closing(self.connect()) as connection:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        took_s = time.perf_counter() - began
        return Reply(
            response.status, {k.lower(): v for k, v in response.getheaders()}, text, took_s
        )

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=_named(headers))

    def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> Reply:
        """Submit a form, as a program unless told otherwise."""
        given = {"Content-Type": FORM, "Accept": "application/json", **_named(headers)}
        return self.ask("POST", path, urlencode(fields or {}), given)

    def exchange(self, raw: bytes, *, timeout_s: float = 15.0) -> bytes:
        """Send bytes, and return all that comes until the server closes."""
        with closing(self.open_socket(timeout_s)) as sock:
            sock.sendall(raw)
            received = b""
            with suppress(ConnectionResetError):
                while piece := sock.recv(65536):
                    received += piece
        return received

    def start_session(self, model: str = "", persona: str = "plain") -> str:
        """Begin a session with a model; returns the path of its page."""
        reply = self.post("/sessions", {"persona": persona, "model": model})
        assert reply.status == 201, reply.text
        return str(reply.json["url"])

    def stream(self, session: str, text: str = "Hello", timeout_s: float = 15.0) -> Stream:
        """Say something in a session and read what comes."""
        connection = self.connect(timeout_s)
        headers = {"Content-Type": FORM, "Accept": "text/event-stream"}
        try:
            connection.request("POST", f"{session}/turns", urlencode({"input": text}), headers)
            stream = Stream(connection)
        except BaseException:
            connection.close()
            raise
        self.streams.append(stream)
        return stream

    def turns(self) -> dict[str, sqlite3.Row]:
        """The turns in the file by their ids, as anybody can read them."""
        return turns_in(self.database)

    def wait_for_turn(self, turn_id: str, status: str, timeout_s: float = 15.0) -> sqlite3.Row:
        """The turn once it has this status in the file."""

        def found() -> sqlite3.Row | None:
            row = self.turns().get(turn_id)
            return row if row and row["status"] == status else None

        turn = wait_until(found, timeout_s)
        assert turn
        return turn

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 15) -> int:
        """Ask it to stop, and wait for its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(10)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def turns_in(database: Path) -> dict[str, sqlite3.Row]:
    """The turns in a log by their ids, without opening it as Rolebook does."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return {row["turn_id"]: row for row in connection.execute("SELECT * FROM readable_turns")}


def is_sound(database: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    with closing(sqlite3.connect(database)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


def wait_until(predicate: Callable[[], T], timeout_s: float = 15.0) -> T:
    """The first truthy result. Raises TimeoutError if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(0.01)
    return result


def make_folder(folder: Path, personas: Mapping[str, str] | None = None) -> Path:
    """A folder to run in: some personas, the shipped prompt templates, no log yet."""
    (folder / "personas").mkdir(parents=True)
    for name, text in (personas or {"plain": PLAIN}).items():
        (folder / f"personas/{name}.yaml").write_text(text, "utf-8")
    shutil.copytree(ROOT / "templates", folder / "templates")
    return folder


def connected(upstream: FakeUpstream) -> dict[str, str]:
    """The settings that make an upstream the default, with the model `ok`."""
    return {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"}


def environment_of(given: Mapping[str, str]) -> dict[str, str]:
    """Nothing of whoever runs the tests but the path to Python."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, "LANG": "C.UTF-8", **given}


def launch(
    folder: Path,
    environment: Mapping[str, str],
    *,
    arguments: Sequence[str] = (),
    command: Sequence[str] = ("-m", "rolebook"),
    preexec: Callable[[], None] | None = None,
) -> Server:
    """Start `rolebook serve` on a free port, and return without waiting for it."""
    with (folder / "stdout").open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        stdout.truncate(0)
        process = subprocess.Popen(
            [sys.executable, *command, "serve", "--port", "0", *arguments],
            cwd=folder,
            env=environment_of(environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=preexec,
        )
    return Server(process, folder)


def wait_until_ready(server: Server) -> Server:
    """Read the port from what it prints. Raises AssertionError with its output if it ends instead."""

    def announced() -> str:
        assert server.process.poll() is None, server.stderr
        return server.stdout if server.stdout.endswith("/\n") else ""

    line = wait_until(announced, START_S)
    server.port = int(line.rstrip("/\n").rpartition(":")[2])
    return server


@contextmanager
def running(folder: Path, environment: Mapping[str, str], **options: Any) -> Iterator[Server]:
    """A server that is ready, and is ended with the block. Arguments as for `launch`."""
    with launch(folder, environment, **options) as server:
        yield wait_until_ready(server)
