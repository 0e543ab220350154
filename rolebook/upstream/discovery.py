"""Model servers on this computer: found by asking the ports on which they usually are, and only when asked to."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from rolebook.core.blocking import blocking
from rolebook.core.errors import UpstreamError
from rolebook.core.frozen import frozen
from rolebook.core.upstream import Timeouts, UpstreamSettings
from rolebook.upstream.openai_upstream import OpenAIUpstream

OWN_MARK = "rolebook"
"""The ``owned_by`` of a persona that a Rolebook offers as a model: such a server is one of us."""

USUAL_PORTS = (
    (11434, "Ollama"),
    (1234, "LM Studio"),
    (8080, "llama.cpp"),
    (8000, "vLLM or transformers"),
)

_PATIENCE_S = 0.3


@frozen
class LocalServer:
    """A model server that answers on this computer."""

    kind: str
    base_url: str
    models: tuple[str, ...]

    @property
    def usage(self) -> str:
        """The settings that make it the upstream, as one would write them before a command or into ``.env``."""
        model = f" ROLEBOOK_MODEL={self.models[0]}" if self.models else ""
        return f"OPENAI_BASE_URL={self.base_url}{model}"


def find_local_servers(
    *, own_ports: Collection[int] = (), ports: Collection[tuple[int, str]] = USUAL_PORTS
) -> tuple[LocalServer, ...]:
    """The servers that list their models within 300 ms, asked all at once and without any key.

    Arguments:
        own_ports: ports on which we serve ourselves; another Rolebook is known by what it lists.
        ports: where to look, and what is usually there.
    """
    asked = [(port, kind) for port, kind in ports if port not in own_ports]
    with (
        blocking(),
        ThreadPoolExecutor(
            max_workers=max(1, len(asked)), thread_name_prefix="rolebook-discovery"
        ) as pool,
    ):
        found = pool.map(lambda place: _probe(*place), asked)
    return tuple(server for server in found if server is not None)


def _probe(port: int, kind: str) -> LocalServer | None:
    base_url = f"http://127.0.0.1:{port}/v1"
    limits = Timeouts(_PATIENCE_S, _PATIENCE_S, _PATIENCE_S, _PATIENCE_S)
    upstream = OpenAIUpstream(
        UpstreamSettings(name=kind, base_url=base_url, timeouts=limits, attempts=1)
    )
    try:
        models = upstream.models()
    except UpstreamError:
        return None
    finally:
        upstream.close()
    if any(model.owned_by == OWN_MARK for model in models):
        return None
    return LocalServer(kind, base_url, tuple(model.id for model in models))
