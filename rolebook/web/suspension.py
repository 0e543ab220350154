"""Streams that take no thread while nothing comes, where the server can look after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

#: An extension of WSGI that was proposed under this name: the server is told what an answer waits for, which then
#: yields an empty string.
_READABLE = "x-wsgiorg.fdevent.readable"


class Suspension:
    """Lets the server wait in place of a stream, once ``is_allowed``: as soon as the status is out.

    Arguments:
        readable: what the server is told by.
    """

    def __init__(self, readable: Callable[[int, float], None]) -> None:
        self._readable = readable
        self.is_allowed = False

    @classmethod
    def by(cls, environ: Mapping[str, Any]) -> Self | None:
        """For one request; None where the server knows nothing of it."""
        readable = environ.get(_READABLE)
        return cls(readable) if readable else None

    def __call__(self, fd: int, seconds: float) -> bool:
        if self.is_allowed:
            self._readable(fd, seconds)
        return self.is_allowed
