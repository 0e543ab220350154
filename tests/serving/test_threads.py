"""The threads of a worker."""

import logging
import threading
from collections.abc import Iterator

import pytest

from rolebook.core.blocking import blocking, held
from rolebook.serving.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(3)
    threads.start()
    yield threads
    threads.shutdown()


class Held:
    """A task that goes on until it is let go."""

    def __init__(self) -> None:
        self.thread = 0
        self.has_begun = threading.Event()
        self._may_end = threading.Event()

    def __call__(self) -> None:
        self.thread = threading.get_ident()
        self.has_begun.set()
        assert self._may_end.wait(10)

    def let_go(self) -> None:
        assert self.has_begun.wait(10)
        self._may_end.set()


def wait_for_free(threads: Threads, count: int) -> None:
    for _ in range(1000):
        if len(threads._free) == count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{len(threads._free)} threads are free, not {count}")


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rolebook-serving"]


def thread_of(threads: Threads) -> int:
    task = Held()
    threads.do(task)
    task.let_go()
    return task.thread


def test_the_thread_that_was_free_last_works_next(threads: Threads) -> None:
    tasks = [Held(), Held(), Held()]
    for task in tasks:
        threads.do(task)
    for count, task in enumerate(tasks, 1):
        task.let_go()
        wait_for_free(threads, count)

    assert 3 == len({task.thread for task in tasks})
    for _ in range(5):
        assert tasks[-1].thread == thread_of(threads)
        wait_for_free(threads, 3)


def test_more_tasks_than_threads_wait_in_their_order(threads: Threads) -> None:
    held, done, is_done = [Held(), Held(), Held()], [], threading.Event()
    for task in held:
        threads.do(task)
    for number in range(5):
        threads.do(lambda number=number: done.append(number))  # type: ignore[misc]
    threads.do(is_done.set)

    assert threads.is_behind
    assert not done
    held[0].let_go()
    assert is_done.wait(10)
    assert list(range(5)) == done
    assert not threads.is_behind
    for task in held[1:]:
        task.let_go()


def test_thread_that_cannot_be_had_is_done_without(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system limits how many there may be (RLIMIT_NPROC)."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    held, is_done = Held(), threading.Event()
    threads.do(held)
    monkeypatch.setattr(threading.Thread, "start", start)
    threads.do(is_done.set)
    held.let_go()
    assert is_done.wait(10)

    with pytest.raises(RuntimeError, match="new thread"):
        Threads(3).start()


def test_task_that_fails_costs_no_thread(
    threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("no luck")

    thread = thread_of(threads)
    wait_for_free(threads, 1)
    with caplog.at_level(logging.ERROR):
        threads.do(fail)
        wait_for_free(threads, 1)

    assert "no luck" in caplog.text
    assert thread == thread_of(threads)


def test_free_threads_end_at_once_and_others_when_they_have_done_what_was_asked() -> None:
    before = set(threading.enumerate())
    threads, held, last = Threads(2), Held(), threading.Event()
    threads.start()
    thread_of(threads)
    wait_for_free(threads, 1)
    threads.do(held)
    thread_of(threads)
    wait_for_free(threads, 1)
    [*ours] = set(threading.enumerate()) - before
    assert 2 == len(ours)

    threads.shutdown()
    busy = [thread for thread in ours if thread.ident == held.thread]
    for thread in ours:
        if thread not in busy:
            thread.join(10)
            assert not thread.is_alive()
    assert all(thread.is_alive() for thread in busy)
    threads.do(last.set)
    held.let_go()
    assert last.wait(10)
    for thread in busy:
        thread.join(10)
        assert not thread.is_alive()


class Waits(Held):
    """A task that waits for somebody outside until it is let go, and then has something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.works_again = Held()

    def __call__(self) -> None:
        with blocking(), blocking():
            super().__call__()
        self.works_again()


def test_threads_that_wait_do_not_count(threads: Threads) -> None:
    waiting = [Waits() for _ in range(5)]
    for task in waiting:
        threads.do(task)
    held = [Held() for _ in range(4)]
    for task in held:
        threads.do(task)
    assert held[2].has_begun.wait(10)
    assert threads.is_behind

    for task in waiting:
        task.let_go()
    assert all(task.works_again.has_begun.wait(10) for task in waiting)
    held[0].let_go()
    held[1].let_go()
    # Five that have waited and one that has not are more than three that may work.
    assert not held[3].has_begun.wait(0.05)
    for task in [*held[2:3], *(task.works_again for task in waiting)]:
        task.let_go()
    held[3].let_go()
    wait_for_free(threads, 3)


def test_who_waits_for_a_lock_whose_holder_waits_does_not_count(threads: Threads) -> None:
    lock, may_end = threading.RLock(), threading.Event()
    entered: list[int] = []

    def change() -> None:
        with held(lock):
            entered.append(threading.get_ident())
            with blocking():
                assert may_end.wait(10)

    for _ in range(6):
        threads.do(change)
    late = Held()
    threads.do(late)
    late.let_go()
    assert 1 == len(entered)
    may_end.set()
    wait_for_free(threads, 3)
    assert 6 == len(entered)


def test_task_begins_as_soon_as_a_thread_waits(threads: Threads) -> None:
    working, waiting = [Held(), Held()], Waits()
    may_wait = threading.Event()

    def work_and_wait() -> None:
        assert may_wait.wait(10)
        waiting()

    for task in (*working, work_and_wait):
        threads.do(task)
    late = Held()
    threads.do(late)
    assert threads.is_behind
    may_wait.set()
    late.let_go()
    for task in (*working, waiting, waiting.works_again):
        task.let_go()
    wait_for_free(threads, 3)


def test_more_threads_than_may_work_end_when_they_have_waited(threads: Threads) -> None:
    waiting = [Waits() for _ in range(8)]
    for task in waiting:
        threads.do(task)
    assert all(task.has_begun.wait(10) for task in waiting)
    assert 8 == len(ours())
    for task in waiting:
        task.let_go()
        task.works_again.let_go()
    wait_for_free(threads, 3)
    for _ in range(1000):
        if len(ours()) == 3:
            return
        threading.Event().wait(0.01)
    raise AssertionError(ours())
