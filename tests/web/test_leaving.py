"""Clients that leave are noticed, and nobody else is."""

from __future__ import annotations

import socket
import sys
import threading
import time

import pytest

from rolebook.web.leaving import Watch, client_socket


def test_client_that_closes_its_connection_is_noticed_once() -> None:
    watch, left = Watch(), threading.Semaphore(0)
    ours, theirs = socket.socketpair()
    with ours:
        watch.watch(ours, left.release)
        theirs.close()
        assert left.acquire(timeout=5)
        assert not left.acquire(timeout=0.4)


def test_client_that_waits_or_asks_for_more_has_not_left() -> None:
    watch, left = Watch(), threading.Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watch.watch(ours, left.set)
        theirs.sendall(b"POST /v1")
        assert not left.wait(0.6)
        assert b"POST /v1" == ours.recv(100)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
def test_client_that_asks_for_more_and_then_leaves_has_left() -> None:
    watch, left = Watch(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        watch.watch(ours, left.set)
        theirs.sendall(b"POST /v1")
        assert not left.wait(0.6)
        theirs.close()
        assert left.wait(5)


def test_client_that_is_not_watched_any_more_may_leave() -> None:
    watch, left = Watch(), threading.Event()
    ours, theirs = socket.socketpair()
    with ours:
        end = watch.watch(ours, left.set)
        end()
        end()
        theirs.close()
        assert not left.wait(0.6)


def test_connection_that_is_closed_on_this_side_ends_the_watch() -> None:
    watch, left = Watch(), threading.Event()
    ours, theirs = socket.socketpair()
    watch.watch(ours, left.set)
    ours.close()
    with theirs:
        assert left.wait(5)


def test_watch_goes_on_after_a_pause() -> None:
    watch = Watch()
    for _ in range(2):
        left = threading.Event()
        ours, theirs = socket.socketpair()
        with ours:
            watch.watch(ours, left.set)
            theirs.close()
            assert left.wait(5)
        time.sleep(0.3)


def test_request_without_a_connection_is_not_watched() -> None:
    assert client_socket({}) is None
    Watch().watch(None, lambda: None)()
