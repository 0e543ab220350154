"""Whether an upstream is worth asking: one that gives no answer is left alone, but for a call now and then.

Without this, every caller of a server that hangs waits out his whole patience and holds a thread as long, also where
another upstream could stand in at once.

Several calls in a row without an answer open the breaker; an answer of any kind, a refusal too, closes it. It is kept
for each model, as many servers are only the door to others: a model that hangs, or is still being loaded, must not take
the upstream from all the others.

While it is open, one call after each pause asks the upstream all the same. A pause begins with such a call and is over
when that one has ended, however it did. So whoever asks one call after the other never meets an open breaker. It is
over earlier where the call hangs, so that a server that has come back is noticed meanwhile.

Calls that nobody waits for come some time after the pause is over, and so after everybody who comes back when told to.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rolebook.core.errors import (
    UpstreamCancelled,
    UpstreamConnectionError,
    UpstreamError,
    UpstreamServerError,
    UpstreamSilentError,
    UpstreamTimeoutError,
)
from rolebook.core.frozen import frozen

UNANSWERED_CALLS = 3
"""How many calls in a row go unanswered before the upstream is left alone."""
FIRST_PAUSE_S = 1.0
"""After which the next call is made though the last one hangs; twice as long each time."""
LONGEST_PAUSE_S = 30.0
BACKGROUND_DELAY_S = 2.0
"""How long after a pause a call is made that nobody waits for: ``Retry-After`` is in whole seconds, and the way takes
time."""

_GATEWAY_TIMEOUTS = (504, 522, 524)
"""A server in front says that the one behind it does not answer; 522 and 524 are Cloudflare's."""
_MOST_MODELS = 256

_NO_ANSWER = (
    "%(upstream)s has answered no call for %(model)s since %(since)s (%(count)d in a row), so it is left alone for a "
    "moment and asked again in %(seconds)d s. Check that it runs; the status page lets it be asked at once."
)
_NO_LIST = (
    "%(upstream)s has not said which models it offers since %(since)s (asked %(count)d times in a row), so it is left "
    "alone for a moment and asked again in %(seconds)d s. Check that it runs; the status page lets it be asked at once."
)


@frozen
class Silence:
    """A model that gets no answer, as it may be shown; an empty one is the list of models.

    ``since`` is when the first of the ``calls`` in a row began, in ISO 8601; ``seconds`` are those until the next is
    made. ``spared`` were not made, and ``error`` is what ended the last one.
    """

    model: str
    since: str
    calls: int
    spared: int
    seconds: float
    error: UpstreamError


@dataclass(slots=True)
class _Row:
    """Calls in a row that got no answer. ``asked_at`` is when the last one was let through in spite of them."""

    began: float
    error: UpstreamError
    calls: int = 0
    took_s: float = 0.0
    asked_at: float = -math.inf
    trials: int = 0
    next_at: float = 0.0
    spared: int = 0

    @property
    def is_open(self) -> bool:
        return self.calls >= UNANSWERED_CALLS

    @property
    def pause_s(self) -> float:
        grown_s = FIRST_PAUSE_S * 2.0 ** min(self.trials, 16)
        return min(grown_s, max(self.took_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)


class Breaker:
    """Knows which models of one upstream give no answer. Safe for threads; nothing of it is kept anywhere.

    Arguments:
        clock: seconds that only ever go forward.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}

    def admit(self, model: str, *, delay_s: float = 0.0) -> float:
        """0 if a call may be made now; else the seconds until one may.

        Arguments:
            delay_s: how long after a pause it comes.
        """
        if model not in self._rows:
            return 0.0
        with self._lock:
            row, now = self._rows.get(model), self._clock()
            if row is None or not row.is_open:
                return 0.0
            if row.next_at + delay_s > now:
                return row.next_at + delay_s - now
            row.asked_at, row.next_at = now, now + row.pause_s
            row.trials += 1
            return 0.0

    def refusal(self, model: str, *, delay_s: float = 0.0) -> UpstreamError | None:
        """Why a call that was not admitted is not made; None if it may be by now."""
        with self._lock:
            row, now = self._rows.get(model), self._clock()
            if row is None or (pause_s := row.next_at + delay_s - now) <= 0:
                return None
            row.spared += 1
            return _refusal(row, model, since=self._date(row.began), pause_s=pause_s)

    def note_answer(self, model: str) -> None:
        """The upstream has answered, whatever it said."""
        if model in self._rows:
            with self._lock:
                self._rows.pop(model, None)

    def note_silence(self, model: str, error: UpstreamError, *, began: float) -> None:
        """A call that began then has ended without an answer."""
        with self._lock:
            # Not the error itself: it was raised, and would keep alive whatever was at work then.
            error = type(error)(error.message, **error.parameters)
            row = self._rows.setdefault(model, _Row(began, error))
            row.began = min(row.began, began)
            row.calls += 1
            if began < row.asked_at:
                # It began before the last one that was let through, which has the say now.
                return
            row.next_at = self._clock()
            row.took_s, row.error = row.next_at - began, error
            if len(self._rows) > _MOST_MODELS:
                del self._rows[min(self._rows, key=lambda name: self._rows[name].began)]

    def note_end(self, model: str, *, began: float) -> None:
        """A call that began then is over, whether it has ended by itself or was given up: the next one may be made."""
        if model in self._rows:
            with self._lock:
                row = self._rows.get(model)
                if row is not None and began >= row.asked_at:
                    row.next_at = min(row.next_at, self._clock())

    def try_again(self, model: str) -> bool:
        """Let the next call be made at once. False if the model is not known to be silent."""
        with self._lock:
            row = self._rows.get(model)
            if row is None or not row.is_open:
                return False
            row.next_at = self._clock()
            return True

    def silences(self) -> Sequence[Silence]:
        """The models that get no answer, as plain values."""
        with self._lock:
            now = self._clock()
            return [
                Silence(
                    model=model,
                    since=self._date(row.began).isoformat(timespec="seconds"),
                    calls=row.calls,
                    spared=row.spared,
                    seconds=max(0.0, row.next_at - now),
                    error=row.error,
                )
                for model, row in sorted(self._rows.items())
                if row.is_open
            ]

    def _date(self, moment: float) -> datetime:
        """A moment of the clock as the date that it was."""
        return datetime.fromtimestamp(time.time() - (self._clock() - moment), UTC)


def is_answer(error: UpstreamError) -> bool:
    """Whether a call that failed with it has been answered, if only by a refusal."""
    if isinstance(error, UpstreamServerError):
        return error.status not in _GATEWAY_TIMEOUTS
    return not isinstance(error, UpstreamTimeoutError | UpstreamConnectionError | UpstreamCancelled)


def _refusal(row: _Row, model: str, *, since: datetime, pause_s: float) -> UpstreamError:
    return UpstreamSilentError(
        _NO_ANSWER if model else _NO_LIST,
        detail=row.error.detail,
        cause=row.error.parameters.get("cause", ""),
        retry_after_s=pause_s,
        model=model[:200],
        since=f"{since.astimezone():%Y-%m-%d %H:%M %Z}",
        count=row.calls,
        seconds=math.ceil(pause_s),
    )
