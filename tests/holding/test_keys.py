"""Keys go through a whole server, with every logger at its most talkative, and are found nowhere."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import quote, quote_plus

from tests.fake_upstream import FAULTS, FakeUpstream
from tests.holding.server import ROOT, Server, make_folder, running

CANARIES = ("sk-canary+7/Qx9=Zt40Wb", "sk-parrot-0aK3/mPq+88Ld", "Xk7.finch_Wm2Rt95yhB")


def forms_of(key: str) -> list[str]:
    """What may be shown is the last four characters; everything longer is a leak."""
    return [
        key,
        key[:14],
        key[:8],
        key[5:],
        quote(key, safe=""),
        quote_plus(key),
        base64.b64encode(key.encode()).decode().rstrip("="),
        base64.b64encode(key.encode()).decode()[4:-8],
        base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
        base64.b64encode(f"Bearer {key}".encode()).decode(),
    ]


LOUD = (
    "import logging, sys; logging.basicConfig(level=logging.DEBUG);"
    " from rolebook.__main__ import main; main(sys.argv[1:])"
)
LIMITS = [
    *("--first-byte-timeout", "0.3", "--idle-timeout", "0.3", "--total-timeout", "0.6"),
    *("--connect-timeout", "1"),
]


def pages_of(server: Server, model: str) -> list[str]:
    """All that is shown of a session with a model."""
    session = server.start_session(model)
    stream = server.stream(session, CANARIES[0][-4:])
    shown = [repr(event) for event in stream] or [stream.rest()]
    shown.append(server.get(session, Accept="text/html").text)
    if stream.turn_id:
        shown.append(server.get(f"/turns/{stream.turn_id}/reply").text)
    return shown


def test_keys_are_nowhere_in_output_log_pages_and_exports(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "rolebook")
    names = [name for name, fault in FAULTS.items() if fault.kind not in {"flood", "whole"}]
    shown: list[str] = []
    with FakeUpstream(require_key=CANARIES, max_wait_s=2) as upstream:
        environment = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": ",".join(CANARIES),
            "OPENAI_LOG": "debug",
            "ROLEBOOK_MODEL": "ok",
        }
        with running(folder, environment, command=("-c", LOUD), arguments=LIMITS) as server:
            # Most of them wait for one of the limits, so they wait together.
            with ThreadPoolExecutor(8) as pool:
                for pages in pool.map(partial(pages_of, server), names):
                    shown += pages
            server.post("/status/models", {"upstream": ""})
            shown.append(server.get("/status", Accept="text/html").text)
            again = {"upstream": upstream.base_url.split("/")[2], "position": "1"}
            shown.append(server.post("/status/keys", again).text)
            for path in (
                "/",
                "/status",
                "/sessions",
                "/healthz",
                "/metrics",
                "/nothing",
                "/personas/plain",
            ):
                shown.append(server.get(path, Accept="text/html").text)
            for format in ("json", "jsonl", "md", "csv"):
                shown.append(server.get(f"/sessions/export?all&format={format}").text)
            assert len(server.turns()) == len(names)
            assert server.stop() == 0
        assert {request.api_key for request in upstream.requests} == set(CANARIES)
        said = [server.stdout, server.stderr]
    everything = "\n".join([*shown, *said, server.database.read_bytes().decode("utf-8", "replace")])
    assert "DEBUG" in server.stderr
    assert "[key removed]" in everything
    for key in CANARIES:
        assert f"…{key[-4:]}" in everything
        assert [form for form in forms_of(key) if form in everything] == []
    assert ">refused</strong>" in everything
    assert str(ROOT) not in "\n".join(shown)
