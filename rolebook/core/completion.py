"""What is asked of an upstream and what comes back, piece by piece and as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, field
from typing import Any, Literal, Protocol, TypeVar

from rolebook.core.errors import Phrase, UpstreamCancelled
from rolebook.core.frozen import frozen
from rolebook.core.message import Message

Endpoint = Literal["chat", "completions"]
N = TypeVar("N", int, float)


class Suspend(Protocol):
    """What an upstream asks before it waits for more of an answer, for whoever would rather not have a thread wait."""

    def __call__(self, fd: int, seconds: float) -> bool:
        """Whether it is to yield a Waiting instead, and not to be asked for more before something can be read.

        Arguments:
            fd: the file descriptor that can be read as soon as something comes.
            seconds: how long that may take; it is to be asked after that time in any case.
        """


class Cancellation:
    """A request to stop, made from any thread, that reaches a blocked reader at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.is_cancelled = False

    def cancel(self) -> None:
        """Stop. Calling it again does nothing."""
        with self._lock:
            if self.is_cancelled:
                return
            self.is_cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, from the cancelling thread; at once if it is too late already."""
        with self._lock:
            if not self.is_cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def raise_if_cancelled(self) -> None:
        """Raises UpstreamCancelled after ``cancel``."""
        if self.is_cancelled:
            raise UpstreamCancelled("Stopped.")


class Delivery:
    """What has become of a call that does not come to its end: what it has cost, and what the last attempt at it that
    has brought anything has brought.

    ``is_made`` says whether an upstream has been told what is asked, so that it may cost something even where nothing
    comes back. ``usage`` and ``cost`` are what upstreams say of answers that came and could not be used.
    ``arrived`` gives what has come of each answer so far, in order, without reasons why they end.
    """

    def __init__(self) -> None:
        self.is_made = False
        self.usage = Usage()
        self.cost: float | None = None
        self.arrived: Callable[[], tuple[Choice, ...]] = tuple

    def add(self, usage: Usage, cost: float | None) -> None:
        """Note what another answer has used that could not be used itself, as far as it is told."""
        self.usage += usage
        self.cost = _sum(self.cost, cost)


@frozen
class CompletionRequest:
    """One call. ``parameters`` are all request fields besides model, messages and stream, as requested.

    An empty ``model`` is the default of the upstream.

    They may hold ``organization`` and ``project``, which travel as headers. A call that no reader watches, who might
    leave, is not ``is_watched``: then there is no Waiting. One whose stream is relayed to another program
    ``is_relayed``: then Received stands where there would be deltas. ``patience_s`` is how long it may wait, instead of
    failing, while the upstream takes no call because of too many. ``suspend`` is asked before it waits for more; so
    far as an upstream can tell what it waits for. ``delivery`` says, when the call is over, whether an attempt at it
    has reached an upstream that did not refuse it.
    """

    messages: Sequence[Message]
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    endpoint: Endpoint = "chat"
    is_streamed: bool = True
    is_watched: bool = True
    is_relayed: bool = False
    patience_s: float = 0.0
    suspend: Suspend | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    delivery: Delivery = field(default_factory=Delivery)


@frozen
class Usage:
    """Token counts as the upstream reported them; ``None`` is unknown, which is not zero."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        """Of two answers together, as far as it is known."""
        return Usage(*map(_sum, astuple(self), astuple(other)))


def _sum(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


@frozen
class Sent:
    """The upstream has accepted the call: what really went out.

    ``parameters`` are the request fields sent besides model, messages and stream; ``adaptations`` say, a sentence each,
    what was renamed or left out, and why. ``upstream`` is the name of one that stands in for the one that was asked.
    """

    model: str
    parameters: Mapping[str, Any]
    adaptations: tuple[Phrase, ...] = ()
    upstream: str = ""


@frozen
class Delta:
    """One streamed piece of one choice."""

    text: str
    index: int = 0
    kind: Literal["text", "reasoning", "refusal"] = "text"


@frozen
class Received:
    """JSON values of a stream as the upstream sent them, which arrived together, and the deltas that they make."""

    payloads: tuple[Mapping[str, Any], ...]
    deltas: tuple[Delta, ...]


@frozen
class Waiting:
    """Nothing new for a moment: whoever reads can look whether its own reader has left, or do something else."""


@frozen
class Choice:
    """One answer. ``finish_reason`` is the upstream's word (stop, length, tool_calls, content_filter …)."""

    text: str = ""
    finish_reason: str | None = None
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@frozen
class Completion:
    """The whole answer: always the last thing that an upstream yields.

    ``model`` is the model that says it answered; ``reply`` the exact reply as one JSON object of the non-streamed
    shape (the pieces of a stream folded into one; unknown fields kept). ``cost`` is what the upstream itself says that
    it cost, in US dollars; ``None`` where it says nothing.
    """

    choices: tuple[Choice, ...]
    model: str
    usage: Usage = field(default_factory=Usage)
    reply: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = None


StreamEvent = Sent | Delta | Received | Waiting | Completion


@frozen
class Model:
    """A model that an upstream offers. ``details`` is what the upstream says of it, as it says it."""

    id: str
    owned_by: str = ""
    created_at: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
