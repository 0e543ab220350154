"""The process in which templates are compiled and rendered, so that none can cost more than it may.

A frame is four bytes of length (big-endian) and JSON. The parent sends a request; the worker answers
with exactly one of ``messages``, ``need`` (send the request again with that part filled in) or ``error``. Beside
messages it says whether they are the same for every input (``is_fixed``), but for the spans of the input itself.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
from collections import OrderedDict
from types import FrameType
from typing import Any, BinaryIO

from rolebook.core.render import HistoryNeeded, Renderer, RenderError, TimeIsUp

#: Personas that stay compiled; every draft of one that is being edited is one more.
_MAX_RENDERERS = 64
#: After this part of the parent's patience a render is ended here; the rest is for telling so.
_SHARE_OF_DEADLINE = 0.85


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
        #: By persona and revision: two files with the same content are one revision.
        self._renderers: OrderedDict[tuple[str, str], Renderer] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            renderer = self._renderer(request)
            if renderer is None:
                return {"need": "role"}
            messages = renderer.render(request)
            return {
                "messages": messages,
                "is_fixed": renderer.is_fixed and "history" not in request,
                "has_history": "history" in request or None in messages,
            }
        except HistoryNeeded:
            return {"need": "history"}
        except TimeIsUp as time_is_up:
            return _as_reply(time_is_up.as_error("", 0))
        except RenderError as error:
            return _as_reply(error)

    def _renderer(self, request: dict[str, Any]) -> Renderer | None:
        key = request["persona"], request["revision"]
        if key not in self._renderers:
            if "role" not in request:
                return None
            self._renderers[key] = Renderer(request["role"])
            if len(self._renderers) > _MAX_RENDERERS:
                self._renderers.popitem(last=False)
        self._renderers.move_to_end(key)
        return self._renderers[key]


def _as_reply(error: RenderError) -> dict[str, Any]:
    return {
        "error": error.message,
        "parameters": error.parameters,
        "file": error.file,
        "line": error.line,
        "column": error.column,
        "is_limit": error.is_limit,
    }


def _limit_process(memory_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main(memory_bytes: int, deadline_s: float) -> None:
    """Answer requests from standard input until it ends.

    A render that takes too long is ended here, just before the parent would do so, because only here the line is known
    that it was at. What does not listen, as it never comes back from one call, is ended by the parent, or by its own
    use of the processor, should the parent be gone.

    Arguments:
        memory_bytes: the address space that the process may use.
        deadline_s: seconds that the parent gives one render.
    """
    _limit_process(memory_bytes)

    def end_render(_number: int, _frame: FrameType | None) -> None:
        raise TimeIsUp(deadline_s)

    signal.signal(signal.SIGALRM, end_render)
    worker = _Worker()
    reader, writer = sys.stdin.buffer, sys.stdout.buffer
    while (request := read_frame(reader)) is not None:
        signal.setitimer(signal.ITIMER_PROF, deadline_s + 2)
        signal.setitimer(signal.ITIMER_REAL, deadline_s * _SHARE_OF_DEADLINE)
        reply = worker.answer(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        write_frame(writer, reply)
