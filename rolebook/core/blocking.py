"""Waits for somebody outside, during which a thread does not count among those that work.

A server lets so many threads work at once. One that waits for an upstream, for a place there or for a slow client does
nothing meanwhile, and for however many of them nobody else should have to wait. So whoever is about to wait says so,
and the pool that the thread belongs to lets another one work. This is what ``ForkJoinPool.ManagedBlocker`` is in
java.util.concurrent; a thread that belongs to no pool just waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Pool(Protocol):
    """Threads of which only so many work at once."""

    def begin_wait(self) -> None:
        """The current thread, which is one of them and counted, is about to wait."""

    def end_wait(self) -> None:
        """It works again, and counts, even if meanwhile enough others do."""


class _Here(threading.local):
    pool: Pool | None = None


_here = _Here()


def join(pool: Pool) -> None:
    """Let the current thread belong to a pool from now on."""
    _here.pool = pool


@contextmanager
def blocking() -> Iterator[None]:
    """What is done within only waits. In a thread that says so already, it says nothing more.

    Raises KeyboardInterrupt for a Ctrl-C, whenever it comes.
    """
    pool = _here.pool
    if pool is None:
        try:
            yield
        except RuntimeError as error:
            # It came as the wait was over and took its lock again, which then cannot be given back.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise
        return
    _here.pool = None
    try:
        pool.begin_wait()
        yield
    finally:
        pool.end_wait()
        _here.pool = pool


class Lock(Protocol):
    """What :class:`threading.Lock` and :class:`threading.RLock` are."""

    def acquire(self, blocking: bool = ...) -> bool: ...

    def release(self) -> None: ...


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """A lock whose holder may wait for somebody outside: who has to wait for it, only waits."""
    if not lock.acquire(blocking=False):
        with blocking():
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
