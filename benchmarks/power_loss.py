"""What a power cut would leave of the log: `python -m benchmarks.power_loss [--cuts N]` (needs a C compiler).

A shim writes down every write and sync of a whole `rolebook serve` while 20 clients talk to it, half of them people on
pages and half of them programs that ask the gateway. A power cut is a place
in that list: what was synced before it is on the disk, of what was written since the last sync of its file any part
may be, in any order, a write even in halves. From that the files are made, Rolebook opens them, and every turn whose
end a client had seen must be there, complete, word for word.

As a control the same cuts are made as if the write-ahead log had never been synced; the model is worth something only
if turns are lost then. What it leaves out: directories (a file exists from its first write), and disks that lie.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rolebook.core.errors import RolebookError
from rolebook.storage.log import SqliteLog
from tests.fake_upstream import FakeUpstream
from tests.holding.server import Server, connected, is_sound, make_folder, running, turns_in

_SHIM = Path(__file__).with_suffix(".c")
_HEAD = struct.Struct("<cIQQ")
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Operation:
    """One record of the journal, as the shim describes it; `A` is a turn whose end was seen, with its text."""

    what: str
    path: str
    offset: int = 0
    data: bytes = b""


def acknowledge(journal: Path, turn_id: str, text: str) -> None:
    """Note that a client has seen the end of a turn."""
    path, data = turn_id.encode(), text.encode()
    record = _HEAD.pack(b"A", len(path), 0, len(data)) + path + data
    with journal.open("ab", buffering=0) as file:
        file.write(record)


def read_journal(journal: Path) -> Iterator[Operation]:
    """The operations in their order."""
    content = memoryview(journal.read_bytes())
    place = 0
    while place < len(content):
        what, path_length, offset, length = _HEAD.unpack_from(content, place)
        place += _HEAD.size
        path = bytes(content[place : place + path_length]).decode()
        place += path_length
        size = length if what in b"WA" else 0
        yield Operation(what.decode(), path, offset, bytes(content[place : place + size]))
        place += size


def record(folder: Path, journal: Path, shim: Path, *, seconds: float) -> None:
    """Let clients talk to a server under the shim, then kill it."""
    with FakeUpstream(keep=0) as upstream:
        environment = {
            **connected(upstream),
            "LD_PRELOAD": str(shim),
            "POWER_LOSS_FOLDER": str(folder / "data"),
            "POWER_LOSS_JOURNAL": str(journal),
        }
        with running(folder, environment) as server:
            clients = [
                threading.Thread(
                    target=_ask if number % 2 else _talk, args=(server, journal, number)
                )
                for number in range(20)
            ]
            for client in clients:
                client.start()
            time.sleep(seconds)
            server.kill()
            for client in clients:
                client.join(10)


def _talk(server: Server, journal: Path, number: int) -> None:
    with suppress(OSError, EOFError, ValueError, AssertionError):
        session = server.start_session(f"ok?tokens={5 + number}&delay_ms=2")
        while True:
            stream = server.stream(session, f"question of client {number}")
            text = ""
            for event in stream:
                text += event.data["text"] if event.name == "delta" else ""
                if event.name == "end":
                    acknowledge(journal, stream.turn_id, text)


def _ask(server: Server, journal: Path, number: int) -> None:
    with suppress(OSError, ValueError, AssertionError, KeyError):
        model = f"plain/ok?tokens={5 + number}"
        while True:
            messages = [{"role": "user", "content": f"question of program {number}"}]
            body = json.dumps({"model": model, "messages": messages})
            headers = {"Content-Type": "application/json"}
            reply = server.ask("POST", "/v1/chat/completions", body, headers)
            text = reply.json["choices"][0]["message"]["content"]
            acknowledge(journal, reply.headers["x-request-id"], text)


@dataclass
class Disk:
    """Files as they are after a power cut: what was synced, and what may or may not have reached the disk since."""

    chance: random.Random
    never_synced: str = ""
    synced: dict[str, bytearray] = field(default_factory=dict)
    floating: dict[str, list[Operation]] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)

    def apply(self, operation: Operation) -> None:
        """Go on by one operation."""
        path = operation.path
        if operation.what == "A":
            self.acknowledged[path] = operation.data.decode()
        elif operation.what == "U":
            self.synced.pop(path, None)
            self.floating.pop(path, None)
        elif operation.what == "S":
            if not (self.never_synced and path.endswith(self.never_synced)):
                self.synced[path] = self._merged(path, self.floating.pop(path, []))
        else:
            self.floating.setdefault(path, []).append(operation)

    def files(self) -> dict[str, bytearray]:
        """One of the many states in which the cut may have left them."""
        return {
            path: self._merged(path, self._survivors(path))
            for path in {*self.synced, *self.floating}
        }

    def _survivors(self, path: str) -> list[Operation]:
        floating = self.floating.get(path, [])
        fate = self.chance.choice(["none", "first", "any"])
        if fate == "first":
            return floating[: self.chance.randint(0, len(floating))]
        if fate == "any":
            return [self._torn(one) for one in floating if self.chance.random() < 0.5]
        return []

    def _torn(self, operation: Operation) -> Operation:
        sectors = len(operation.data) // _SECTOR
        if operation.what != "W" or not sectors or self.chance.random() < 0.7:
            return operation
        kept = self.chance.randint(0, sectors) * _SECTOR
        return Operation("W", operation.path, operation.offset, operation.data[:kept])

    def _merged(self, path: str, operations: Sequence[Operation]) -> bytearray:
        content = bytearray(self.synced.get(path, b""))
        for operation in operations:
            end = operation.offset + len(operation.data)
            if operation.what == "T":
                del content[operation.offset :]
            if len(content) < end:
                content.extend(bytes(end - len(content)))
            if operation.what == "W":
                content[operation.offset : end] = operation.data
        return content


def lost_after(disk: Disk, folder: Path) -> list[str]:
    """Open what a power cut has left, as Rolebook does, and tell which acknowledged turns are not there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in disk.files().items():
        (folder / Path(path).name).write_bytes(content)
    database = folder / "rolebook.db"
    try:
        log = SqliteLog(database)
        log.open(check=True)
        log.close()
    except RolebookError as error:
        return [f"the file cannot be opened: {error}", *disk.acknowledged]
    turns = turns_in(database)
    lost = [] if is_sound(database) else ["the file is damaged"]
    for turn_id, text in disk.acknowledged.items():
        turn = turns.get(turn_id)
        if turn is None or (turn["status"], turn["text"]) != ("complete", text):
            lost.append(turn_id)
    return lost


def cut_power(
    operations: Sequence[Operation], folder: Path, *, cuts: int, chance: random.Random, blind: bool
) -> int:
    """Make cuts at random places; print what was lost and return how many turns that were."""
    places = sorted(chance.sample(range(1, len(operations)), cuts))
    disk = Disk(chance, never_synced="-wal" if blind else "")
    lost, cuts_with_loss, at = 0, 0, 0
    for place in places:
        for operation in operations[at:place]:
            disk.apply(operation)
        at = place
        missing = lost_after(disk, folder)
        lost += len(missing)
        cuts_with_loss += bool(missing)
    what = "as if the write-ahead log were never synced" if blind else "as it is"
    seen = len(disk.acknowledged)
    print(
        f"{what}: {cuts} cuts over {seen} ended turns; {cuts_with_loss} lost something, {lost} turns"
    )
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shim, journal = root / "shim.so", root / "journal"
        compiler = os.environ.get("CC", "cc")
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(_SHIM), "-ldl"], check=True
        )
        record(make_folder(root / "rolebook"), journal, shim, seconds=options.seconds)
        operations = list(read_journal(journal))
        counts = {what: sum(one.what == what for one in operations) for what in "WSTUA"}
        print(", ".join(f"{count} {what}" for what, count in counts.items()))
        lost, control = (
            cut_power(
                operations,
                root / "after",
                cuts=options.cuts,
                chance=random.Random(options.seed),
                blind=blind,
            )
            for blind in (False, True)
        )
    return 0 if lost == 0 and control > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
