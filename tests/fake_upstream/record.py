"""What the fake upstream remembers of a request."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Moment(threading.Event):
    """An event that remembers when it was first set."""

    at: float | None = None
    """`time.monotonic()` of the first `set`, None before it."""

    def set(self) -> None:
        if self.at is None:
            self.at = time.monotonic()
        super().set()


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """One request as it arrived; only its two moments change afterwards."""

    number: int
    method: str
    path: str
    """The request target as sent, query included."""
    headers: Mapping[str, str]
    """Names in lower case; a repeated header is joined with a comma."""
    body: Any
    """The parsed JSON, or the raw bytes where they are not JSON."""
    behaviour: str
    """The behaviour that was chosen, with the options it was given: `rst-mid?after=3`."""
    to_other_origin: bool
    """Whether it came to the second origin, where the fault `redirect` points."""
    arrived_at: float = field(default_factory=time.monotonic)
    """`time.monotonic()` when the last byte of the request had been read."""
    client_gone: Moment = field(default_factory=Moment)
    """Set when the peer left before the reply was whole; shutting its sending side counts as that."""
    finished: Moment = field(default_factory=Moment)
    """Set when the fake is done with the request, whatever the outcome."""

    @property
    def api_key(self) -> str | None:
        """The bearer token, None without one."""
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" and key else None

    @property
    def model(self) -> str | None:
        """The model named in the body, None without one."""
        model = self.body.get("model") if isinstance(self.body, dict) else None
        return model if isinstance(model, str) else None
