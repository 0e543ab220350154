"""Servers for the tests of whole processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.server import HASTY, Server, connected, make_folder, running

#: Starts a server whose upstream is the fake one. Keywords as for `launch`, and `environment`.
StartServer = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to run in, with one persona."""
    return make_folder(tmp_path / "rolebook")


@pytest.fixture
def start(folder: Path, upstream: FakeUpstream) -> Iterator[StartServer]:
    """Starts servers in `folder`; they end with the test."""
    with ExitStack() as stack:

        def start_server(*, environment: dict[str, str] | None = None, **options: Any) -> Server:
            given = {**connected(upstream), **(environment or {})}
            return stack.enter_context(running(folder, given, **options))

        yield start_server


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[FakeUpstream]:
    """The upstream of `shared_server`."""
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture(scope="session")
def shared_server(
    tmp_path_factory: pytest.TempPathFactory, shared_upstream: FakeUpstream
) -> Iterator[Server]:
    """One server for all tests that leave it alive; each begins sessions of its own."""
    folder = make_folder(tmp_path_factory.mktemp("shared") / "rolebook")
    with running(folder, connected(shared_upstream)) as server:
        yield server


@pytest.fixture(scope="session")
def hasty_server(
    tmp_path_factory: pytest.TempPathFactory, shared_upstream: FakeUpstream
) -> Iterator[Server]:
    """Another one, for those that see what comes after a wait."""
    folder = make_folder(tmp_path_factory.mktemp("hasty") / "rolebook")
    with running(folder, connected(shared_upstream), command=HASTY) as server:
        yield server
