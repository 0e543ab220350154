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

from rolebook.core import blocking

Task = Callable[[], object]

_logger = logging.getLogger("rolebook.serving")


class Threads:
    """Does tasks, each in a thread of its own as long as there are not too many. Safe for threads.

    Arguments:
        most: so many threads work at once, besides those that only wait (:mod:`rolebook.core.blocking`); further tasks
            wait for one of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        #: How many have a task and do not wait.
        self._working = 0
        self._free: list[_Thread] = []
        self._tasks: deque[Task] = deque()
        self._is_over = False

    def start(self) -> None:
        """Have a first one, which tasks can wait for where the system has no room for more. From now on Python does not
        end before ``shutdown``.

        Raises RuntimeError if the system has no room for a single one.
        """
        with self._lock:
            self._free.append(_Thread(self))

    @property
    def is_behind(self) -> bool:
        """Whether tasks wait for a thread."""
        return bool(self._tasks)

    def do(self, task: Task) -> None:
        """Have a task done, which must not raise. Returns at once."""
        with self._lock:
            thread = self._one_more()
            if thread is None:
                self._tasks.append(task)
                return
        thread.do(task)

    def begin_wait(self) -> None:
        """As :class:`rolebook.core.blocking.Pool` has it: a task that waits for a thread has one now."""
        with self._lock:
            self._working -= 1
            thread = self._one_more() if self._tasks else None
            if thread is None:
                return
            task = self._tasks.popleft()
        thread.do(task)

    def end_wait(self) -> None:
        """As :class:`rolebook.core.blocking.Pool` has it: until enough have done their tasks, none begins another."""
        with self._lock:
            self._working += 1

    def shutdown(self, wait: bool = False) -> None:
        """Let each thread end when it has done what it does."""
        with self._lock:
            self._is_over = True
            free, self._free = self._free, []
        for thread in free:
            thread.end()

    def _one_more(self) -> _Thread | None:
        """A thread that counts as working from now on, if another one may."""
        if self._working >= self._most:
            return None
        if not self._free:
            # If the system allows no more than there are, a task waits for one of them.
            with contextlib.suppress(RuntimeError, MemoryError):
                self._free.append(_Thread(self))
        if not self._free:
            return None
        self._working += 1
        return self._free.pop()

    def next_of(self, thread: _Thread) -> Task | None:
        """What a thread that has done its task does next; None: it is free, or ends where more than enough are."""
        with self._lock:
            if self._tasks and self._working <= self._most:
                return self._tasks.popleft()
            self._working -= 1
            if not self._is_over and len(self._free) < self._most:
                self._free.append(thread)
                return None
        thread.end()
        return None


class _Thread:
    """One of them, which waits for its next task by a lock of its own."""

    def __init__(self, pool: Threads) -> None:
        self._is_over = False
        self._pool = pool
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
        blocking.join(self._pool)
        while not self._is_over:
            self._wake.acquire()
            task, self._task = self._task, None
            while task is not None:
                try:
                    task()
                except BaseException:
                    _logger.exception("a thread of the server failed")
                task = self._pool.next_of(self)
