"""Asking an upstream, and what came of it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rolebook.core.completion import (
    Choice,
    Completion,
    CompletionRequest,
    Sent,
    StreamEvent,
    Waiting,
)
from rolebook.core.errors import UpstreamError
from rolebook.core.message import Message
from rolebook.core.upstream import Upstream

QUESTION = "How are you?"
OK_TEXT = f"Echo: {QUESTION}"


def ask_for(model: str = "ok", text: str = QUESTION, **request: Any) -> CompletionRequest:
    role = "prompt" if request.get("endpoint") == "completions" else "user"
    messages: Sequence[Message] = [Message(role, text)]  # type: ignore[arg-type]
    return CompletionRequest(**{"messages": messages, "model": model, **request})


@dataclass(frozen=True)
class Outcome:
    """All that one call yielded or raised, and how long it took."""

    events: tuple[StreamEvent, ...]
    error: BaseException | None
    duration_s: float
    arrived: tuple[Choice, ...]

    @property
    def text(self) -> str:
        return "".join(choice.text for choice in self.arrived[:1])

    @property
    def completion(self) -> Completion:
        completion = self.events[-1]
        assert isinstance(completion, Completion), self.error
        return completion

    @property
    def is_complete(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Completion)

    @property
    def sent(self) -> Sent:
        return next(event for event in self.events if isinstance(event, Sent))

    @property
    def kinds(self) -> list[type]:
        """The kinds of its events, repetitions and waiting left out."""
        kinds = [type(event) for event in self.events if not isinstance(event, Waiting)]
        return [
            kind for at, kind in enumerate(kinds) if kinds[max(0, at - 1)] is not kind or at == 0
        ]

    @property
    def upstream_error(self) -> UpstreamError:
        assert isinstance(self.error, UpstreamError), self.error
        return self.error


def ask(upstream: Upstream, request: CompletionRequest) -> Outcome:
    """Make one call to its end, catching whatever it raises."""
    began, events, error = time.monotonic(), [], None
    try:
        for event in upstream.stream(request):
            events.append(event)
    except Exception as raised:
        error = raised
    arrived = request.delivery.arrived()
    return Outcome(tuple(events), error, time.monotonic() - began, arrived)


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "rolebook-upstream"]


def wait_until_idle(timeout_s: float = 1.5) -> list[str]:
    """The threads that still read after a moment; none, if all is well."""
    deadline = time.monotonic() + timeout_s
    while (left := reading_threads()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left
