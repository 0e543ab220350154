"""The parent's side of the render workers: a small pool, a deadline, and a kill for whatever passes it."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rolebook.core.blocking import blocking
from rolebook.core.errors import PromptLimitError
from rolebook.core.patience import set_patience

DEADLINE_S = 1.5
MEMORY_BYTES = 320 * 2**20
#: A frame beyond this is no prompt: the worker's own output limit lies far below.
_MAX_FRAME = 64 * 2**20
_BUSY_S = 5.0
#: A revision that renders within this time counts as quick until one of its renders takes half of the deadline.
_QUICK_S = 0.25
_MOST_QUICK = 10_000
#: The places that only such revisions get.
_KEPT_PLACES = 2
_encoder = json.JSONEncoder(separators=(",", ":"))
_START = (
    "import sys; sys.path[:] = {path!r}; from rolebook.core.render_worker import main; "
    "main({memory}, {deadline})"
)


class _WorkerGoneError(Exception):
    """The worker ended or ran out of time."""


class _Worker:
    """One worker process. Used by one thread at a time."""

    def __init__(self, memory_bytes: int, deadline_s: float) -> None:
        code = _START.format(path=sys.path, memory=memory_bytes, deadline=deadline_s)
        self._socket, theirs = socket.socketpair()
        with theirs:
            # -S and an empty environment: quick to start, and no key of ours is in its reach.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                env={name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},
            )
        self._is_fresh = True

    def ask(self, request: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """Raises _WorkerGoneError; then the worker must be closed."""
        data = _encoder.encode(request).encode()
        # A new process first has to start; that time is not the template's.
        end = time.monotonic() + deadline_s + (10 if self._is_fresh else 0)
        try:
            self._send(data, end)
            reply: dict[str, Any] = json.loads(self._receive(end))
        except OSError:
            raise _WorkerGoneError from None
        self._is_fresh = False
        return reply

    def _send(self, data: bytes, end: float) -> None:
        view = memoryview(struct.pack(">I", len(data)) + data)
        while view:
            set_patience(self._socket, socket.SO_SNDTIMEO, end - time.monotonic())
            view = view[self._socket.send(view) :]

    def _receive(self, end: float) -> bytes:
        """The content of one frame; nothing follows it, as the worker speaks only when asked."""
        data = bytearray()
        size = 4
        while len(data) < size:
            set_patience(self._socket, socket.SO_RCVTIMEO, end - time.monotonic())
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise _WorkerGoneError
            data += piece
            if size == 4 and len(data) >= 4:
                size += int.from_bytes(data[:4], "big")
                if size > _MAX_FRAME:
                    raise _WorkerGoneError
        return bytes(data[4:])

    def kill(self) -> None:
        self._process.kill()
        self._socket.close()

    def close(self) -> None:
        self.kill()
        self._process.wait()


def _acquire(places: threading.BoundedSemaphore) -> None:
    """Raises PromptLimitError."""
    if places.acquire(blocking=False):
        return
    with blocking():
        has_place = places.acquire(timeout=_BUSY_S)
    if not has_place:
        raise PromptLimitError("Too many prompts are being rendered. Please try again.")


class Sandbox:
    """A pool of render workers, safe for threads. Workers start when they are needed.

    Arguments:
        workers: how many may run at once.
        deadline_s: seconds that one render may take.
        memory_bytes: address space of one worker.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        deadline_s: float = DEADLINE_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        places = workers or max(4, os.cpu_count() or 1)
        self._places = threading.BoundedSemaphore(places)
        # However many costly renders are asked for, those that are known to be quick find a place.
        self._unproven_places = threading.BoundedSemaphore(max(1, places - _KEPT_PLACES))
        self._quick: dict[str, None] = {}
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._dismissed: list[_Worker] = []
        self._closings = 0

    def warm(self) -> None:
        """Start one worker now, without waiting for it."""
        with self._lock:
            if not self._idle:
                self._idle.append(_Worker(self._memory_bytes, self._deadline_s))

    def dismiss(self) -> None:
        """End the workers like ``close``, without waiting for those that end now."""
        with self._lock:
            self._closings += 1
            workers, self._idle = self._idle, []
            self._dismissed += workers
        for worker in workers:
            worker.kill()

    def close(self) -> None:
        """End the workers: the idle ones now, the others when they are done. Using the sandbox starts new ones."""
        self.dismiss()
        with self._lock:
            workers, self._dismissed = self._dismissed, []
        for worker in workers:
            worker.close()

    def has_rendered(self, revision: str) -> bool:
        """Whether some worker has rendered this revision before, in little time."""
        return revision in self._quick

    def ask(self, request: Mapping[str, Any], supply: Callable[[str], Any]) -> dict[str, Any]:
        """One render. ``supply`` gives the parts of the request that the worker asks for.

        Raises PromptLimitError when the render passes a limit or all workers stay busy.
        """
        revision = request["revision"]
        is_quick = revision in self._quick
        # What has not been quick before waits for one of the places that are left to such.
        if not is_quick:
            _acquire(self._unproven_places)
        began = time.monotonic()
        try:
            return self._ask_worker(request, supply)
        finally:
            self._note(revision, time.monotonic() - began, is_quick=is_quick)
            if not is_quick:
                self._unproven_places.release()

    def _note(self, revision: str, took_s: float, *, is_quick: bool) -> None:
        """Note whether a revision is quick, after a render of it."""
        if took_s >= self._deadline_s / 2:
            self._quick.pop(revision, None)
        elif not is_quick and took_s < _QUICK_S:
            with self._lock:
                if len(self._quick) >= _MOST_QUICK:
                    del self._quick[next(iter(self._quick))]
                self._quick[revision] = None

    def _ask_worker(
        self, request: Mapping[str, Any], supply: Callable[[str], Any]
    ) -> dict[str, Any]:
        _acquire(self._places)
        try:
            with self._lock:
                closings = self._closings
                worker = self._idle.pop() if self._idle else None
            worker = worker or _Worker(self._memory_bytes, self._deadline_s)
            try:
                reply = self._answered(worker, request, supply)
            except _WorkerGoneError:
                worker.close()
                raise PromptLimitError(
                    "The template took longer than %(seconds)s s, or more memory than it may have.",
                    seconds=f"{self._deadline_s:g}",
                ) from None
            except BaseException:
                worker.close()
                raise
            with self._lock:
                is_kept = closings == self._closings
                if is_kept:
                    self._idle.append(worker)
            if not is_kept:
                worker.close()
            return reply
        finally:
            self._places.release()

    def _answered(
        self, worker: _Worker, request: Mapping[str, Any], supply: Callable[[str], Any]
    ) -> dict[str, Any]:
        filled = request
        while True:
            reply = worker.ask(filled, self._deadline_s)
            need = reply.get("need")
            if need is None or need in filled:
                return reply
            filled = {**filled, need: supply(need)}
