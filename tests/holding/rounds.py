"""Servers and programs that are killed while they work, and what must be true afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rolebook.library.file_library import FileLibrary
from tests.holding.server import Server, environment_of, is_sound, running, turns_in

_DEAD = (OSError, EOFError, ValueError, AssertionError)
"""What a client meets whose server is killed: no connection, half a line, half a reply."""


@dataclass
class Seen:
    """What the clients of a server were told until it was killed: turns by id, with their texts where they ended."""

    begun: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)


def kill_with_open_streams(
    folder: Path, environment: Mapping[str, str], *, streams: int, chance: random.Random
) -> Seen:
    """Start a server in a folder, let clients talk to it, and kill it in the middle of their streams."""
    seen = Seen()
    with running(folder, environment) as server:
        clients = [
            threading.Thread(target=_talk, args=(server, seen, number)) for number in range(streams)
        ]
        for client in clients:
            client.start()
        deadline = time.monotonic() + 10
        while (len(seen.begun) < streams or not seen.ended) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.05, 0.6))
        server.kill()
        for client in clients:
            client.join(10)
    return seen


def _talk(server: Server, seen: Seen, number: int) -> None:
    """Say something again and again, until the server is gone."""
    with suppress(*_DEAD):
        session = server.start_session(f"ok?tokens={10 + number}&delay_ms={5 + number}")
        while True:
            stream = server.stream(session, f"question of client {number}")
            seen.begun.add(stream.wait_for("turn").data["id"])
            text = ""
            for event in stream:
                if event.name == "delta":
                    text += event.data["text"]
                if event.name == "end":
                    seen.ended[stream.turn_id] = text


def require_truth(database: Path, seen: Seen) -> None:
    """Raises AssertionError unless the log of a killed server, opened again, tells what its clients saw."""
    assert is_sound(database)
    turns = turns_in(database)
    missing = seen.begun - turns.keys()
    assert not missing, f"not in the log: {missing}"
    for turn_id, text in seen.ended.items():
        assert (turns[turn_id]["status"], turns[turn_id]["text"]) == ("complete", text)
    for turn_id in seen.begun - seen.ended.keys():
        assert turns[turn_id]["status"] in {"interrupted", "complete"}, turns[turn_id]["status"]


def kill_during_saves(folder: Path, *, chance: random.Random) -> list[str]:
    """Let a program create personas in a folder, and kill it. Returns the ids whose creation it had reported."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.holding.create_personas", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment_of({}),
    )
    assert child.stdout
    first = child.stdout.readline()
    time.sleep(chance.uniform(0, 0.08))
    child.kill()
    lines = [first, *child.stdout]
    child.communicate()
    return [line.strip() for line in lines if line.endswith("\n")]


def require_whole_personas(folder: Path, created: list[str]) -> None:
    """Raises AssertionError unless every persona in a folder is whole and everything that was reported is there."""
    library = FileLibrary(folder / "personas", folder / "templates")
    assert list(library.problems()) == []
    entries = {entry.id: entry for entry in library.entries()}
    assert set(created) <= entries.keys()
    for entry in entries.values():
        assert entry.problems == ()
        assert entry.resolved is not None
