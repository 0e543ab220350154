"""The server that the environment names, and a Rolebook that talks to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolebook.wiring import Rolebook, open_rolebook

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class RealServer:
    """Where it is and what it is asked with. ``key`` is empty for a server without keys."""

    url: str
    key: str
    model: str

    def environment(self, folder: Path, *, key: str | None = None) -> dict[str, str]:
        """The settings of a Rolebook that keeps its log in ``folder`` and talks to this server."""
        chosen = self.key if key is None else key
        return {
            "OPENAI_BASE_URL": self.url,
            **({"OPENAI_API_KEY": chosen} if chosen else {}),
            "ROLEBOOK_MODEL": self.model,
            "ROLEBOOK_PERSONAS": str(_ROOT / "personas"),
            "ROLEBOOK_TEMPLATES": str(_ROOT / "templates"),
            "ROLEBOOK_DATABASE": str(folder / "log.db"),
        }


@pytest.fixture(scope="session")
def server() -> RealServer:
    url = os.environ.get("ROLEBOOK_REAL_SERVER_URL", "")
    if not url:
        # Asked for by name and then silently passed over, these tests would prove nothing.
        pytest.fail(
            "ROLEBOOK_REAL_SERVER_URL is not set, so there is no server to talk to. Start one as "
            "docs/real-servers.md says, then set it to its address (http://127.0.0.1:8000/v1).",
            pytrace=False,
        )
    return RealServer(
        url=url,
        key=os.environ.get("ROLEBOOK_REAL_SERVER_KEY", ""),
        model=os.environ.get("ROLEBOOK_REAL_SERVER_MODEL", ""),
    )


@pytest.fixture
def rolebook(
    server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rolebook]:
    # Neither a rolebook.yaml nor a .env of whoever runs this may decide who is called.
    monkeypatch.chdir(tmp_path)
    opened = open_rolebook(environment=server.environment(tmp_path))
    yield opened
    opened.close()
