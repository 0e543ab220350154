"""Calls that are suspended while nothing comes, by whoever would rather not have a thread wait for it."""

import select
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from rolebook.core.completion import Completion, Received, StreamEvent, Waiting
from rolebook.core.errors import UpstreamTimeoutError
from rolebook.core.upstream import Timeouts, Upstream
from tests.upstream.asking import ask_for
from tests.upstream.conftest import OpenUpstream
from tests.upstream.scripted_server import ScriptedServer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORDS = ("One ", "by ", "one.")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: str, reason: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{delta},"finish_reason":{reason}}}'
    return chunk(f'data: {{"choices":[{choice}]}}\n\n'.encode())


PIECES = (
    *(event(f'{{"content":"{word}"}}') for word in WORDS),
    event("{}", '"stop"') + chunk(b"data: [DONE]\n\n"),
    chunk(b""),
)


class Waiter:
    """Waits itself for what a call waits for, and notes that it did."""

    def __init__(self) -> None:
        self.waits = 0
        self.longest_s = 0.0
        self.may_come = threading.Semaphore(0)
        self.script: Sequence[bytes] = (HEAD + PIECES[0], *PIECES[1:])

    def __call__(self, fd: int, seconds: float) -> bool:
        self.waits += 1
        self.longest_s = max(self.longest_s, seconds)
        self.may_come.release()
        return bool(select.select([fd], [], [], 5)[0])

    def pieces(self) -> Iterator[bytes]:
        """A reply of which each piece comes only when it is waited for."""
        first, *others = self.script
        yield first
        for piece in others:
            assert self.may_come.acquire(timeout=5)
            yield piece


def events_of(upstream: Upstream, waiter: Any, model: str = "ok") -> list[StreamEvent]:
    request = ask_for(model, is_watched=False, is_relayed=True, suspend=waiter)
    return list(upstream.stream(request))


def text_of(events: list[StreamEvent]) -> str:
    received = [event for event in events if isinstance(event, Received)]
    return "".join(delta.text for event in received for delta in event.deltas)


def test_call_is_suspended_whenever_nothing_has_come(open_upstream: OpenUpstream) -> None:
    waiter = Waiter()
    with ScriptedServer(waiter.pieces()) as server:  # type: ignore[arg-type]
        upstream = open_upstream(base_url=f"http://127.0.0.1:{server.port}/v1")
        events = events_of(upstream, waiter)
        upstream.close()

    assert "".join(WORDS) == text_of(events)
    assert isinstance(events[-1], Completion)
    assert len(PIECES) - 1 == waiter.waits == len([e for e in events if isinstance(e, Waiting)])
    assert 1 < waiter.longest_s <= 2


def test_encrypted_call_is_suspended_as_well(
    open_upstream: OpenUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, waiter = trustme.CA(), Waiter()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    encryption = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(encryption)
    with ScriptedServer(waiter.pieces(), encryption=encryption) as server:  # type: ignore[arg-type]
        upstream = open_upstream(base_url=f"https://localhost:{server.port}/v1")
        events = events_of(upstream, waiter)
        upstream.close()

    assert "".join(WORDS) == text_of(events)
    assert isinstance(events[-1], Completion)
    # The first wait may be for tickets of the encryption, which say nothing of the answer.
    assert waiter.waits >= len(PIECES) - 1


def test_compressed_and_recorded_calls_are_suspended_as_well(
    open_upstream: OpenUpstream, tmp_path: Path
) -> None:
    waiter, record = Waiter(), tmp_path / "answers.jsonl"
    model = "gzip?tokens=4&delay_ms=50"
    recorded = events_of(open_upstream(record=str(record)), waiter, model)
    played = events_of(open_upstream(playback=str(record)), waiter, model)

    assert waiter.waits
    assert text_of(recorded)
    assert text_of(recorded) == text_of(played)


def test_call_that_nothing_comes_to_is_given_up_when_it_is_asked_again(
    open_upstream: OpenUpstream,
) -> None:
    def wait_for_nothing(fd: int, seconds: float) -> bool:
        select.select([fd], [], [], seconds)
        return True

    upstream = open_upstream(timeouts=Timeouts(2, 2, 0.2, 5))
    with pytest.raises(UpstreamTimeoutError, match="in the middle of its answer"):
        events_of(upstream, wait_for_nothing, "hang-mid")


def test_call_that_may_not_be_suspended_waits_itself(open_upstream: OpenUpstream) -> None:
    asked = []

    def refuse(fd: int, seconds: float) -> bool:
        asked.append(fd)
        return False

    events = events_of(open_upstream(), refuse, "ok?tokens=4&delay_ms=20")

    assert asked
    assert isinstance(events[-1], Completion)
    assert not [event for event in events if isinstance(event, Waiting)]


def test_what_says_nothing_of_the_answer_lets_others_go_first(open_upstream: OpenUpstream) -> None:
    waiter = Waiter()
    nothing = [chunk(b": still here\n\n")] * 3
    waiter.script = (HEAD + PIECES[0], *nothing, PIECES[-2] + PIECES[-1])
    with ScriptedServer(waiter.pieces()) as server:  # type: ignore[arg-type]
        upstream = open_upstream(base_url=f"http://127.0.0.1:{server.port}/v1")
        events = events_of(upstream, waiter)
        upstream.close()

    waits = [event for event in events if isinstance(event, Waiting)]
    assert len(waits) >= waiter.waits + len(nothing)


def test_time_that_whoever_reads_takes_is_no_silence_of_the_upstream(
    open_upstream: OpenUpstream,
) -> None:
    upstream = open_upstream(timeouts=Timeouts(2, 2, 0.5, 10))
    request = ask_for("ok?tokens=6&delay_ms=60", is_watched=False, is_relayed=True)
    events = []
    for event in upstream.stream(request):
        if len(events) == 3:
            time.sleep(0.8)
        events.append(event)

    assert isinstance(events[-1], Completion)
