"""A key goes through a whole server, with every logger at its most talkative, and is found nowhere."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote, quote_plus

from tests.fake_upstream import FAULTS, FakeUpstream
from tests.holding.server import ROOT, make_folder, running

CANARY = "sk-canary+7/Qx9=Zt40Wb"
#: What may be shown is the last four characters; everything longer is a leak.
FORMS = [
    CANARY,
    CANARY[:14],
    CANARY[5:],
    quote(CANARY, safe=""),
    quote_plus(CANARY),
    base64.b64encode(CANARY.encode()).decode().rstrip("="),
    base64.b64encode(CANARY.encode()).decode()[4:-8],
    base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
    base64.b64encode(f"Bearer {CANARY}".encode()).decode(),
]
LOUD = (
    "import logging, sys; logging.basicConfig(level=logging.DEBUG);"
    " from rolebook.__main__ import main; main(sys.argv[1:])"
)
LIMITS = [
    *("--first-byte-timeout", "0.3", "--idle-timeout", "0.3", "--total-timeout", "0.6"),
    *("--connect-timeout", "1"),
]


def test_key_is_nowhere_in_output_log_pages_and_exports(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "rolebook")
    names = [name for name, fault in FAULTS.items() if fault.kind not in {"flood", "whole"}]
    shown: list[str] = []
    with FakeUpstream(require_key=CANARY, max_wait_s=2) as upstream:
        environment = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": CANARY,
            "OPENAI_LOG": "debug",
            "ROLEBOOK_MODEL": "ok",
        }
        with running(folder, environment, command=("-c", LOUD), arguments=LIMITS) as server:
            for name in names:
                session = server.start_session(name)
                stream = server.stream(session, CANARY[-4:])
                shown += [repr(event) for event in stream] or [stream.rest()]
                shown.append(server.get(session, Accept="text/html").text)
                if stream.turn_id:
                    shown.append(server.get(f"/turns/{stream.turn_id}/reply").text)
            server.post("/status/models", {"upstream": ""})
            for path in ("/", "/status", "/sessions", "/healthz", "/nothing", "/personas/plain"):
                shown.append(server.get(path, Accept="text/html").text)
            for format in ("json", "jsonl", "md", "csv"):
                shown.append(server.get(f"/sessions/export?all&format={format}").text)
            assert len(server.turns()) == len(names)
            assert server.stop() == 0
        assert upstream.requests[0].api_key == CANARY
        said = [server.stdout, server.stderr]
    everything = "\n".join([*shown, *said, server.database.read_bytes().decode("utf-8", "replace")])
    assert "DEBUG" in server.stderr
    assert "[key removed]" in everything
    assert CANARY[-4:] in everything
    assert [form for form in FORMS if form in everything] == []
    assert str(ROOT) not in "\n".join(shown)
