"""What carries requests where answers are recorded or played back: below the openai client, like the network itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from rolebook.core.upstream import UpstreamSettings
from rolebook.upstream.call import current_call
from rolebook.upstream.client import open_wire
from rolebook.upstream.recording import LASTING, Answer, Asked, Recorder, Recording
from rolebook.upstream.redaction import redactor_of

_LAST_EVENT = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_LAST_EVENT_BYTES = 16


def _asked(request: httpx2.Request, base_url: str) -> Asked:
    path = request.url.path.removeprefix(urlsplit(base_url).path.rstrip("/"))
    return Asked.of(request.method, path, request.read())


class RecordingTransport(httpx2.BaseTransport):
    """The network of an upstream, whose whole answers are recorded."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._base_url = settings.base_url
        self._wire = open_wire(settings)
        self._recorder = Recorder(Path(settings.record), redactor_of(settings))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request of the current call."""
        self._recorder.require_writable()
        asked = _asked(request, self._base_url)
        response = self._wire.handle_request(request)
        if response.status_code not in LASTING:
            return response
        return httpx2.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=_Recorded(response, asked, self._recorder),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Drop the pooled connections."""
        self._wire.close()

    def close_idle(self) -> None:
        """Drop those that no request has wanted for long."""
        self._wire.close_idle()


class _Recorded(httpx2.SyncByteStream):
    """The body of an answer, which is recorded when it has come to its end, and before its reader learns of that."""

    def __init__(self, response: httpx2.Response, asked: Asked, recorder: Recorder) -> None:
        self._response = response
        self._asked = asked
        self._recorder = recorder

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._response.stream, httpx2.SyncByteStream)
        pieces: list[bytes] = []
        pauses_ms: list[float] = []
        is_recorded, end, before = False, b"", time.monotonic()
        for piece in self._response.stream:
            if not piece:
                yield piece
                continue
            now = time.monotonic()
            pieces.append(piece)
            pauses_ms.append((now - before) * 1000)
            before, end = now, end[-_LAST_EVENT_BYTES:] + piece
            # A server may go on, or keep the connection open, after its last word.
            if not is_recorded and _LAST_EVENT.search(end):
                self._record(pieces, pauses_ms)
                is_recorded = True
            yield piece
        if not is_recorded:
            self._record(pieces, pauses_ms)

    def _record(self, pieces: Sequence[bytes], pauses_ms: Sequence[float]) -> None:
        content_type = self._response.headers.get("content-type", "")
        answer = Answer(self._response.status_code, content_type, pieces, pauses_ms)
        self._recorder.add(self._asked, answer)

    def close(self) -> None:
        self._response.close()


def playback_transport(settings: UpstreamSettings) -> httpx2.BaseTransport:
    """Answers from the recording, without any network. Raises UpstreamError for a file that is none."""
    recording = Recording(Path(settings.playback))

    def answer(request: httpx2.Request) -> httpx2.Response:
        current_call().is_sent = True
        asked = _asked(request, settings.base_url)
        if asked.path == "/models" and not recording.has(asked):
            listed = [{"id": model, "object": "model"} for model in recording.models]
            return httpx2.Response(200, json={"object": "list", "data": listed})
        recorded = recording.answer(asked)
        return httpx2.Response(
            recorded.status,
            headers={"content-type": recorded.content_type},
            content=_played(recorded, is_timed=settings.is_playback_timed),
        )

    return httpx2.MockTransport(answer)


def _played(answer: Answer, *, is_timed: bool) -> Iterator[bytes]:
    for piece, pause_ms in zip(answer.pieces, answer.pauses_ms, strict=True):
        if is_timed:
            current_call().pause(pause_ms / 1000)
        yield piece
