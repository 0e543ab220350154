"""Commands as people run them, on a folder and an upstream of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rolebook.__main__ import COMMANDS
from rolebook.cli.invocation import Invocation
from rolebook.cli.program import Program
from rolebook.core.sandbox import Sandbox
from rolebook.storage.log import SqliteLog
from tests.fake_upstream import FakeUpstream
from tests.spawned import PYTHONPATH


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended. Standard output is bytes: what exactly arrives matters."""

    status: int
    output: bytes
    notices: str

    @property
    def text(self) -> str:
        return self.output.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.output)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs Rolebook's commands in ``folder``, where its database is too; in this process they render in ``sandbox``."""

    folder: Path
    environment: dict[str, str]
    sandbox: Sandbox | None = None

    def run(
        self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> Finished:
        """Run a command to its end, in this process; ``environment`` goes over the shell's own."""
        invocation = Invocation({**self.environment, **(environment or {})}, self.sandbox)
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(
                Program(COMMANDS), arguments, input=stdin, obj=invocation, prog_name="rolebook"
            )
        return Finished(result.exit_code, result.stdout_bytes, result.stderr)

    def spawn(self, *arguments: str, stdin: bytes | None = None) -> Finished:
        """Run a command to its end, in a process of its own. Without ``stdin`` there is nothing to read."""
        finished = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=30,
            check=False,
        )
        return Finished(finished.returncode, finished.stdout, finished.stderr.decode())

    def start(self, *arguments: str) -> Any:
        """Start a command whose input and output the test holds."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "rolebook", *arguments]

    def open_log(self) -> SqliteLog:
        return SqliteLog(self.folder / "data" / "rolebook.db")


@pytest.fixture
def rehearsing(library_dir: Path, sandbox: Sandbox) -> Shell:
    """A shell with no upstream set."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    return Shell(library_dir, {**kept, "PYTHONPATH": PYTHONPATH, "LANG": "C.UTF-8"}, sandbox)


@pytest.fixture
def shell(rehearsing: Shell, upstream: FakeUpstream) -> Shell:
    """A shell whose upstream is `upstream`, with a key and the model `ok`."""
    own = {
        "OPENAI_BASE_URL": upstream.base_url,
        "OPENAI_API_KEY": "sk-secret-of-the-test",
        "ROLEBOOK_MODEL": "ok",
    }
    return replace(rehearsing, environment=rehearsing.environment | own)


@pytest.fixture
def log(shell: Shell) -> Iterator[SqliteLog]:
    """What the shell's commands have logged."""
    found = shell.open_log()
    yield found
    found.close()
