"""An upstream as the core sees it: what it is set up with and what can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rolebook.core.completion import CompletionRequest, Model, StreamEvent
from rolebook.core.frozen import frozen


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A secret that shows no more than its last four characters, whoever prints it.

    ``source`` says where it was read (``OPENAI_API_KEY``, a file's name), for messages.
    """

    value: str
    source: str = ""

    @property
    def hint(self) -> str:
        """What may be shown: the last four characters of a key that is long enough to keep a secret all the same."""
        return f"…{self.value[-4:]}" if len(self.value) >= 16 else "…"

    def __repr__(self) -> str:
        return f"Key({self.hint})"

    __str__ = __repr__


@frozen
class Timeouts:
    """Limits in seconds: to connect, to the first piece of the answer, between two pieces, and for the whole call."""

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 300.0


@frozen
class Fallback:
    """An upstream that stands in for another. ``models`` says which of its models for which of the other's.

    ``model`` stands in for all that are not listed; where it is empty, they go by the same name, and the default
    stands in for those that are not known there.
    """

    upstream: str
    model: str = ""
    models: Mapping[str, str] = field(default_factory=dict)

    def model_for(self, model: str) -> str:
        """The model to ask for instead of ``model``."""
        return self.models.get(model) or self.model or model


@frozen
class UpstreamSettings:
    """How to reach one upstream. Keys are bound to ``base_url`` and never go anywhere else.

    ``attempts`` is how often a call is made at most while nothing has arrived yet; going on with another key, because
    one is limited or refused, does not count. ``concurrency`` is how many calls may run at once with each key, or in
    all where there are no keys; 0: as many as come. ``fallbacks`` are asked in turn where this one does not answer.

    ``record`` names a file that its answers are recorded in, ``playback`` one that they come from instead of a server,
    at once or, if it ``is_playback_timed``, in the time that they took.
    """

    name: str
    base_url: str
    keys: tuple[Key, ...] = ()
    organization: str = ""
    project: str = ""
    proxy: str = ""
    model: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    attempts: int = 3
    concurrency: int = 0
    fallbacks: tuple[Fallback, ...] = ()
    record: str = ""
    playback: str = ""
    is_playback_timed: bool = False
    environment_proxies: Mapping[str, str] = field(default_factory=dict)
    """What ``HTTPS_PROXY`` and its like say, by scheme, ``all`` and ``no``; ``proxy`` wins over them."""


class Upstream(Protocol):
    """An OpenAI-compatible server. Every method may raise UpstreamError and nothing else."""

    @property
    def name(self) -> str:
        """The name it has in the settings."""

    @property
    def default_model(self) -> str:
        """The model for personas that name none. May ask the server, once."""

    def stream(self, request: CompletionRequest) -> Iterator[StreamEvent]:
        """Make one call: yields Sent, then deltas as they arrive, then one Completion. No model means its default.

        A whole reply yields its text as one delta a choice. What has arrived of an answer that breaks is in the
        request's ``delivery``, with more than deltas can tell, such as a part of a call of a tool. Closing the
        iterator, or cancelling the request, closes the connection at once.
        """

    def models(self) -> Sequence[Model]:
        """The models it offers, by id."""

    def model(self, model_id: str) -> Model:
        """One model's details. Raises UpstreamRefusedError for an unknown one."""
