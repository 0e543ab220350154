"""The threads of a worker. The one that was free last works next.

What it needs is still in the processor's caches, and nobody else is woken. The executor of the standard library wakes
whoever has been free longest, and then a second one that finds nothing to do.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable

Task = Callable[[], object]

_logger = logging.getLogger("rolebook.serving")


class Threads:
    """Does tasks, each in a thread of its own as long as there are enough. Safe for threads.

    Arguments:
        most: so many threads; further tasks wait until one is free.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._count = 0
        self._free: list[_Thread] = []
        self._tasks: deque[Task] = deque()
        self._is_over = False

    def start(self) -> None:
        """Have a first one, which tasks can wait for where the system has no room for more. From now on Python does not
        end before ``shutdown``.

        Raises RuntimeError if the system has no room for a single one.
        """
        with self._lock:
            self._add_free()

    @property
    def is_behind(self) -> bool:
        """Whether tasks wait for a thread."""
        return bool(self._tasks)

    def do(self, task: Task) -> None:
        """Have a task done, which must not raise. Returns at once."""
        with self._lock:
            if not self._free and self._count < self._most:
                # If the system allows no more than there are, it waits for one of them.
                with contextlib.suppress(RuntimeError):
                    self._add_free()
            if not self._free:
                self._tasks.append(task)
                return
            thread = self._free.pop()
        thread.do(task)

    def shutdown(self, wait: bool = False) -> None:
        """Let each thread end when it has done what it does."""
        with self._lock:
            self._is_over = True
            free, self._free = self._free, []
        for thread in free:
            thread.end()

    def _add_free(self) -> None:
        """One more. Raises RuntimeError if the system has no room for it."""
        self._free.append(_Thread(self._next_of))
        self._count += 1

    def _next_of(self, thread: _Thread) -> Task | None:
        """What a thread that has done its task does next; None: it waits, or ends."""
        with self._lock:
            if self._tasks:
                return self._tasks.popleft()
            if not self._is_over:
                self._free.append(thread)
                return None
        thread.end()
        return None


class _Thread:
    """One of them, which waits for its next task by a lock of its own."""

    def __init__(self, next_of: Callable[[_Thread], Task | None]) -> None:
        self._is_over = False
        self._next_of = next_of
        self._task: Task | None = None
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._run, name="rolebook-serving").start()

    def do(self, task: Task) -> None:
        """Do this, being free."""
        self._task = task
        self._wake.release()

    def end(self) -> None:
        """Do nothing more, being free."""
        self._is_over = True
        self._wake.release()

    def _run(self) -> None:
        while not self._is_over:
            self._wake.acquire()
            task, self._task = self._task, None
            while task is not None:
                try:
                    task()
                except BaseException:
                    _logger.exception("a thread of the server failed")
                task = self._next_of(self)
