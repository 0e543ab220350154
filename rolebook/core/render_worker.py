"""The process in which templates are compiled and rendered, so that none can cost more than it may.

A frame is four bytes of length (big-endian) and JSON. The parent sends a request; the worker answers
with exactly one of ``messages``, ``need`` (send the request again with that part filled in) or ``error``.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
from collections import OrderedDict
from typing import Any, BinaryIO

from rolebook.core.render import HistoryNeeded, Renderer, RenderError

#: Personas that stay compiled; every draft of one that is being edited is one more.
_MAX_RENDERERS = 64


def write_frame(stream: BinaryIO, value: object) -> None:
    """Send one frame."""
    data = json.dumps(value, separators=(",", ":")).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """Receive one frame; ``None`` at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    return json.loads(stream.read(length))


class _Worker:
    def __init__(self) -> None:
        self._renderers: OrderedDict[str, Renderer] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            renderer = self._renderer(request)
            if renderer is None:
                return {"need": "role"}
            return {"messages": renderer.render(request)}
        except HistoryNeeded:
            return {"need": "history"}
        except RenderError as error:
            return {
                "error": error.message,
                "parameters": error.parameters,
                "file": error.file,
                "line": error.line,
                "column": error.column,
                "is_limit": error.is_limit,
            }

    def _renderer(self, request: dict[str, Any]) -> Renderer | None:
        key = request["revision"]
        if key not in self._renderers:
            if "role" not in request:
                return None
            self._renderers[key] = Renderer(request["role"])
            if len(self._renderers) > _MAX_RENDERERS:
                self._renderers.popitem(last=False)
        self._renderers.move_to_end(key)
        return self._renderers[key]


def _limit_process(memory_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main(memory_bytes: int, deadline_s: int) -> None:
    """Answer requests from standard input until it ends.

    Arguments:
        memory_bytes: the address space that the process may use.
        deadline_s: seconds after which it ends itself in the middle of a render, should the parent be gone.
    """
    _limit_process(memory_bytes)
    worker = _Worker()
    reader, writer = sys.stdin.buffer, sys.stdout.buffer
    while (request := read_frame(reader)) is not None:
        signal.alarm(deadline_s)
        reply = worker.answer(request)
        signal.alarm(0)
        write_frame(writer, reply)
