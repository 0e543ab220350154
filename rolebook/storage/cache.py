"""A value that may take long to compute, for pages that must not wait for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from rolebook.core.errors import RolebookError

T = TypeVar("T")

_logger = logging.getLogger(__name__)

#: A slow value is used for so many times as long as it took, so that computing it never takes more than 5 % of the
#: time.
_REUSE_FACTOR = 20


class SlowValue(Generic[T]):
    """Computes a value each time while that is quick; once it is slow, shows the last one and computes behind it.

    Arguments:
        compute: may be called by any thread.
        slow_s: what counts as slow.
    """

    def __init__(self, compute: Callable[[], T], *, slow_s: float = 0.05) -> None:
        self._compute = compute
        self._slow_s = slow_s
        self._lock = threading.Lock()
        self._last: tuple[T, float] | None = None
        self._is_computing = False

    def get(self) -> T:
        """The value, which may be older than the last change if it is slow. Raises what computing it raises."""
        with self._lock:
            last = self._last
            is_due = last is not None and time.monotonic() > last[1] and not self._is_computing
            self._is_computing = self._is_computing or is_due
        if last is None:
            return self._renew()
        if is_due:
            try:
                threading.Thread(target=self._renew_behind, daemon=True).start()
            except RuntimeError:
                # The system has no room for it now; whoever asks next tries again.
                with self._lock:
                    self._is_computing = False
        return last[0]

    def forget(self) -> None:
        """The next value is to be a new one, however long it takes."""
        with self._lock:
            self._last = None

    def _renew(self) -> T:
        begun = time.monotonic()
        value = self._compute()
        took_s = time.monotonic() - begun
        if took_s > self._slow_s:
            with self._lock:
                self._last = (value, time.monotonic() + took_s * _REUSE_FACTOR)
        return value

    def _renew_behind(self) -> None:
        try:
            self._renew()
        except RolebookError as error:
            # Who asks next is told, or the trouble has passed by then.
            _logger.warning("a value could not be computed anew: %s", error)
            self.forget()
        finally:
            self._is_computing = False
