"""The one retry loop: with which key a call is made, and whether it is made again after it failed."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Generator

from rolebook.core.blocking import blocking
from rolebook.core.completion import CompletionRequest, Waiting
from rolebook.core.errors import (
    UpstreamBrokenError,
    UpstreamCancelled,
    UpstreamCreditError,
    UpstreamError,
    UpstreamTimeoutError,
)
from rolebook.core.upstream import UpstreamSettings
from rolebook.upstream.breaker import BACKGROUND_DELAY_S, Breaker, is_answer
from rolebook.upstream.error_mapping import ErrorMapper
from rolebook.upstream.exchange import HEARTBEAT_S
from rolebook.upstream.key_pool import KeyPool, Lease, Ticket

LONGEST_RETRY_AFTER_S = 2.0
"""A server that asks to wait longer is an error at once: nobody should sit before a blank page, nor hold a thread."""

_FIRST_PAUSE_S = 0.25
_LONGEST_REPEATED_S = 25.0
"""What has failed after longer is not repeated: the server was at work on it all that time, and somebody pays for that.
What lies between breaks silent connections off after 30, 60 or 100 seconds, and would do so again."""
_SHORT_PAUSE_S = 0.05
"""What a call that was not made yet may wait for a resting key: no longer than nobody notices."""


class Attempts:
    """The attempts of one call, all within one deadline.

    First of all comes ``begin``, and last of all ``end``, however the call went. Each attempt begins with ``take_key``;
    one that failed before anything was passed on goes through ``after_failure``, which raises the error if there is to
    be no other.

    Arguments:
        request: what is asked; without a model: the list of models. While a key rests, or the upstream is left alone,
            it waits for as long as its patience lasts.
        deadline: ``time.monotonic()`` after which everything is too late.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        pool: KeyPool,
        breaker: Breaker,
        errors: ErrorMapper,
        *,
        request: CompletionRequest,
        deadline: float,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._breaker = breaker
        self._errors = errors
        self._model = request.model
        self._deadline = deadline
        self._patience_s = request.patience_s
        self._cancellation = request.cancellation
        self._number = 1
        self._other_keys = len(pool) - 1
        self._tried: set[int] = set()
        self._began = self._attempt_began = time.monotonic()

    @property
    def _patience(self) -> float:
        """How long a call that has failed may wait before it is made again."""
        return max(self._patience_s, LONGEST_RETRY_AFTER_S)

    def begin(self, *, has_stand_in: bool = False) -> Generator[Waiting, None, None]:
        """Go on as soon as the upstream may be asked. Raises UpstreamError if it is left alone for too long.

        Arguments:
            has_stand_in: another upstream will be asked instead, so nobody has to wait for this one.
        """
        patience_s = 0.0 if has_stand_in else self._patience_s
        until = min(time.monotonic() + patience_s, self._deadline)
        delay_s = BACKGROUND_DELAY_S if self._patience_s > 0 else 0.0
        while (pause_s := self._breaker.admit(self._model, delay_s=delay_s)) > 0:
            if time.monotonic() + pause_s > until:
                refusal = self._breaker.refusal(self._model, delay_s=delay_s)
                if refusal is not None:
                    raise self._errors.explain(refusal)
            yield from self._wait(min(pause_s, HEARTBEAT_S))
        self._began = time.monotonic()

    def end(self) -> None:
        """The call is over, or nobody wants it any more."""
        self._breaker.note_end(self._model, began=self._began)

    def take_key(self) -> Generator[Waiting, None, Lease]:
        """The key to call with, as soon as there is one. Raises UpstreamError."""
        self._raise_if_cancelled()
        lease = self._pool.take(self._model, tried=self._tried) or (yield from self._wait_for_key())
        self._attempt_began = time.monotonic()
        return lease

    def _wait_for_key(self) -> Generator[Waiting, None, Lease]:
        ticket = Ticket()
        self._cancellation.on_cancel(ticket.set)
        is_first = self._number == 1
        for_rest = time.monotonic() + (
            max(self._patience_s, _SHORT_PAUSE_S) if is_first else self._patience
        )
        for_room = time.monotonic() + self._settings.timeouts.first_byte_s
        beat_at = time.monotonic() + HEARTBEAT_S
        try:
            while True:
                ticket.clear()
                rest_s = self._pool.rest_s(self._model)
                if rest_s > 0:
                    self._pool.leave_line(ticket)
                else:
                    self._pool.stand_in_line(ticket)
                if (lease := self._pool.take(self._model, ticket, self._tried)) is not None:
                    return lease
                latest = min(for_rest if rest_s > 0 else for_room, self._deadline)
                if time.monotonic() + rest_s > latest:
                    raise self._errors.explain(self._pool.refusal(self._model))
                self._raise_if_cancelled()
                until_beat_s = max(0.0, beat_at - time.monotonic())
                pause_s = min(rest_s or HEARTBEAT_S, until_beat_s, self._pool.look_s(ticket))
                with blocking():
                    is_told = ticket.wait(pause_s)
                if not is_told and time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + HEARTBEAT_S
                    yield Waiting()
                self._raise_if_cancelled()
        finally:
            self._pool.leave_line(ticket)

    def note_answer(self) -> None:
        """The upstream has begun to answer."""
        self._breaker.note_answer(self._model)

    def after_failure(self, error: UpstreamError, lease: Lease) -> Generator[Waiting, None, None]:
        """Wait as long as another attempt should. Raises UpstreamError if there is to be none."""
        if is_answer(error):
            self.note_answer()
        if self._pool.note_failure(lease, error):
            self._go_on_with_another_key(error)
        elif isinstance(error, UpstreamCreditError) and self._other_keys > 0:
            self._other_keys -= 1
            self._tried.add(lease.slot.position)
        else:
            yield from self._pause(error)

    def _go_on_with_another_key(self, error: UpstreamError) -> None:
        """The key rests now: go on at once with another, or with the first that has rested if that is soon."""
        rest_s = self._pool.rest_s(self._model)
        if rest_s == 0 and self._other_keys > 0:
            self._other_keys -= 1
            return
        is_late = time.monotonic() + rest_s >= self._deadline
        if self._number >= self._settings.attempts or rest_s > self._patience or is_late:
            raise self._last_word(error, rest_s)
        self._number += 1

    def _last_word(self, error: UpstreamError, rest_s: float) -> UpstreamError:
        """What to say when no key is left: the server's own answer where there is but one key."""
        if len(self._pool) > 1 and rest_s > 0:
            return self._errors.explain(self._pool.refusal(self._model))
        if error.retry_after_s is None and 0 < rest_s < math.inf:
            error.retry_after_s = error.parameters["retry_after_s"] = rest_s
        return error

    def _pause(self, error: UpstreamError) -> Generator[Waiting, None, None]:
        """Passing trouble of the server or on the way to it."""
        pause_s = _FIRST_PAUSE_S * 2 ** (self._number - 1) * random.uniform(0.75, 1.25)
        if error.retry_after_s is not None:
            pause_s = max(error.retry_after_s, _SHORT_PAUSE_S)
        took_s = time.monotonic() - self._attempt_began
        until = time.monotonic() + pause_s
        is_hopeless = not error.is_transient or self._number >= self._settings.attempts
        is_costly = took_s > _LONGEST_REPEATED_S
        if is_hopeless or is_costly or pause_s > self._patience or until >= self._deadline:
            self._note_silence(error)
            if is_costly:
                error.parameters["took_s"] = round(took_s)
            is_broken_off = is_costly and isinstance(error, UpstreamBrokenError)
            raise self._broken_off(took_s) if is_broken_off else error
        self._number += 1
        yield from self._wait(pause_s)

    def _broken_off(self, took_s: float) -> UpstreamError:
        """The time is used up as with any other limit, though nobody has said so."""
        return self._errors.explain(
            UpstreamTimeoutError(
                "The connection to %(upstream)s broke after %(seconds)d s, before the answer was finished. Something"
                " on the way may allow no longer wait: raise the limit there, or ask for a shorter answer, or for a"
                " stream if this was none.",
                seconds=round(took_s),
            )
        )

    def _note_silence(self, error: UpstreamError) -> None:
        """The call ends without an answer, which says something of the upstream if it had its time for one."""
        limits = self._settings.timeouts
        had_time = self._deadline - self._began > 0.9 * min(limits.first_byte_s, limits.total_s)
        is_silence = not is_answer(error) and not isinstance(error, UpstreamCancelled)
        if is_silence and (had_time or not isinstance(error, UpstreamTimeoutError)):
            self._breaker.note_silence(self._model, error, began=self._began)

    def _wait(self, seconds: float) -> Generator[Waiting, None, None]:
        until = time.monotonic() + seconds
        cancelled = threading.Event()
        self._cancellation.on_cancel(cancelled.set)
        while (remaining_s := until - time.monotonic()) > 0:
            with blocking():
                cancelled.wait(min(remaining_s, HEARTBEAT_S))
            if cancelled.is_set():
                self._raise_if_cancelled()
            yield Waiting()

    def _raise_if_cancelled(self) -> None:
        if self._cancellation.is_cancelled:
            raise self._errors.explain(UpstreamCancelled("Stopped."))
