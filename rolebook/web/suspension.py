"""Answers that take no thread while nothing comes, where the server can look after them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, stream_with_context
from werkzeug.wsgi import ClosingIterator

from rolebook.core.completion import Suspend

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: An extension of WSGI that was proposed under this name: the server is told what an answer waits for, which then
#: yields an empty string.
_READABLE = "x-wsgiorg.fdevent.readable"

Answering = Generator[bytes, None, Response]
"""Makes a response; an empty string wherever it waits meanwhile."""


def suspend_by(environ: Mapping[str, Any]) -> Suspend | None:
    """Lets the server wait in place of what answers a request; None where it knows nothing of that."""
    readable = environ.get(_READABLE)
    if readable is None:
        return None

    def suspend(fd: int, seconds: float) -> bool:
        readable(fd, seconds)
        return True

    return suspend


def respond(answering: Answering) -> Response:
    """The response at once, after waiting for it."""
    try:
        while True:
            next(answering)
    except StopIteration as end:
        response: Response = end.value
        return response


class LateResponse(Response):
    """A response that is made only when the server asks for it.

    PEP 3333 lets an application say its status as late as what it says first, and until then yield empty strings.
    So whoever waits for the first word can wait in the server, and the status still tells whether it came.
    """

    def __init__(self, answering: Answering) -> None:
        super().__init__()
        self._answering = answering

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        said = stream_with_context(self._said(environ, start_response))
        return ClosingIterator(said, self.close)

    def _said(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        try:
            response = yield from self._answering
        except Exception as error:
            response = current_app.make_response(current_app.handle_user_exception(error))
        response = current_app.process_response(response)
        items = response(environ, start_response)
        assert isinstance(items, ClosingIterator)
        with closing(items):
            yield from items
