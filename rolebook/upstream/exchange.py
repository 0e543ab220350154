"""One HTTP call: a thread reads it, whoever asked takes what has arrived.

The thread is there so that whoever waits can be told every half second that nothing has come, and can leave at any
moment; a blocking read allows neither. Who waits for the end in any case can do without it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from rolebook.core.blocking import blocking
from rolebook.core.completion import Waiting
from rolebook.core.errors import UpstreamCancelled, UpstreamError
from rolebook.upstream.body import Pieces, Whole, read_body
from rolebook.upstream.call import Call, CallCut

HEARTBEAT_S = 0.5
"""How long nothing may come before whoever waits is told so."""

_GRACE_S = 0.4
"""What the reader gets to notice a limit by itself. It is late when it hangs in name resolution, say."""

_BUFFERED = 32
_DRAIN_S = 1.0
_DRAIN_BYTES = 64 * 1024


class Response(Protocol):
    """What is needed of the response that the openai client hands out."""

    @property
    def headers(self) -> Headers: ...

    @property
    def stream(self) -> object:
        """The body, as the transport unpacked it: httpx2 has nothing to add to that."""


class Headers(Protocol):
    def get(self, name: str, default: str, /) -> str: ...


class Exchange:
    """Makes a call and iterates over what arrives; a Waiting for every half second in which nothing does.

    Arguments:
        send: makes the call and returns its response once the headers have arrived.
        explain: turns whatever can go wrong into an UpstreamError.
    """

    def __init__(
        self,
        call: Call,
        send: Callable[[], AbstractContextManager[Response]],
        *,
        explain: Callable[[BaseException], UpstreamError],
    ) -> None:
        self._call = call
        self._send = send
        self._explain = explain
        self._changed = threading.Condition()
        self._collected: list[Whole | Pieces | Waiting] = []
        self._arrived: deque[Whole | Pieces | Waiting] = deque()
        self._is_over = False
        self._error: UpstreamError | None = None
        call.before_waiting = self._hand_over
        threading.Thread(target=self._read, name="rolebook-upstream", daemon=True).start()

    def __iter__(self) -> Iterator[Whole | Pieces | Waiting]:
        while True:
            with self._changed:
                if not self._has_news():
                    with blocking():
                        self._changed.wait_for(self._has_news, HEARTBEAT_S)
                if self._call.is_cut:
                    raise UpstreamCancelled("Stopped.")
                item = self._arrived.popleft() if self._arrived else None
                self._changed.notify_all()
                if item is None and self._is_over:
                    break
            if item is None and self._call.remaining_s() < -_GRACE_S:
                raise self._explain(self._call.timeout_error())
            yield item or Waiting()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End it, if it is not over."""
        self.cut()

    def cut(self) -> None:
        """End it at once, from any thread, unless it is over."""
        with self._changed:
            if self._is_over:
                return
        self._call.cut()
        with self._changed:
            self._changed.notify_all()

    def _has_news(self) -> bool:
        return bool(self._arrived) or self._is_over or self._call.is_cut

    def _read(self) -> None:
        with self._call:
            error: UpstreamError | None = None
            try:
                with self._send() as response:
                    self._receive(response)
            except CallCut:
                pass
            except BaseException as reason:
                error = self._explain(reason)
            self._end(error)

    def _receive(self, response: Response) -> None:
        chunks = body_of(response)
        content_type = response.headers.get("content-type", "")
        for item in read_body(chunks, content_type, touch=self._call.touch):
            self._collected.append(item)
            if len(self._collected) >= _BUFFERED:
                self._hand_over()
        self._end(None)
        for _ in drain(self._call, chunks):
            pass

    def _hand_over(self) -> None:
        """Pass on what came since the last wait: waking another thread costs more than all the rest of a piece."""
        if not self._collected:
            return
        with self._changed:
            self._changed.wait_for(self._has_room, max(0.0, self._call.until_deadline_s()))
            self._arrived += self._collected
            self._collected.clear()
            self._changed.notify_all()
        if self._call.has_begun:
            # Waiting for a slow reader is no silence of the upstream.
            self._call.touch()

    def _has_room(self) -> bool:
        return len(self._arrived) < _BUFFERED or self._call.is_cut

    def _end(self, error: UpstreamError | None) -> None:
        with self._changed:
            if not self._is_over:
                self._arrived += self._collected
                self._collected.clear()
                self._is_over = True
                self._error = error
            self._changed.notify_all()


class DirectExchange:
    """The same call read by the thread that asks: no Waiting unless it is suspended, but half a millisecond less work.

    It can be cut off from another thread as well, except while a name is being resolved. Arguments as for Exchange.
    """

    def __init__(
        self,
        call: Call,
        send: Callable[[], AbstractContextManager[Response]],
        *,
        explain: Callable[[BaseException], UpstreamError],
    ) -> None:
        self._call = call
        self._send = send
        self._explain = explain
        self._is_over = False

    def __iter__(self) -> Iterator[Whole | Pieces | Waiting]:
        try:
            with self._call, self._send() as response:
                chunks = body_of(response)
                content_type = response.headers.get("content-type", "")
                gives_way = self._call.suspend is not None
                for item in read_body(
                    chunks, content_type, touch=self._call.touch, gives_way=gives_way
                ):
                    yield item
                    if self._call.has_begun and not isinstance(item, Waiting):
                        # Time that whoever reads has taken is no silence of the upstream.
                        self._call.touch()
                self._is_over = True
                yield from drain(self._call, chunks)
        except CallCut:
            raise UpstreamCancelled("Stopped.") from None
        except Exception as reason:
            # What breaks after the last piece, breaks nothing.
            if not self._is_over:
                raise self._explain(reason) from reason

    def close(self) -> None:
        """End it, if it is not over."""
        self.cut()

    def cut(self) -> None:
        """End it at once, from any thread, unless it is over."""
        if not self._is_over:
            self._call.cut()


def body_of(response: Response) -> Iterator[bytes]:
    """The bytes of a response as they arrive."""
    assert isinstance(response.stream, Iterable)
    return iter(response.stream)


def drain(call: Call, chunks: Iterator[bytes]) -> Iterator[Waiting]:
    """Read on to the end of the HTTP body, which is near after [DONE], so that the connection can serve again."""
    call.hurry(_DRAIN_S)
    read = 0
    for chunk in chunks:
        if not chunk:
            yield Waiting()
        read += len(chunk)
        if read > _DRAIN_BYTES:
            return
