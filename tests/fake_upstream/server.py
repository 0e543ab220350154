"""The fake upstream itself: a thread for each connection, rules, and a record of every request."""

import itertools
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.fake_upstream.behaviour import FAULTS, Behaviour
from tests.fake_upstream.endpoints import COMPLETIONS, composer_for
from tests.fake_upstream.exchange import Exchange, Fault, common_headers, refuse
from tests.fake_upstream.peer import Incoming, NotHTTPError, Peer, PeerGoneError
from tests.fake_upstream.record import Request
from tests.fake_upstream.refusal import Refusal, check_key
from tests.fake_upstream.rules import Rules
from tests.fake_upstream.wire import JSON, Pause, Steps, dump, encode, message

T = TypeVar("T")


@dataclass(frozen=True)
class _Held:
    after: int
    may_go_on: threading.Event = field(default_factory=threading.Event)


class FakeUpstream:
    """An OpenAI-compatible server on loopback, running from construction to `close()`.

    Arguments: `port` (0: any free one); `require_key`, the key or keys let in (None: everyone, with
    or without); `max_wait_s`, after which an endless behaviour gives up; `keep`, how many requests
    to remember (None: all); `pace`, the options `latency_ms`, `ttft_ms`, `delay_ms`, `tokens` of
    every model that does not give its own.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        require_key: str | Collection[str] | None = None,
        max_wait_s: float = 60.0,
        keep: int | None = None,
        **pace: float,
    ) -> None:
        self._keys = [require_key] if isinstance(require_key, str) else list(require_key or ())
        self._max_wait_s = max_wait_s
        self._pace = pace
        self._requests: deque[Request] = deque(maxlen=keep)
        self._numbers = itertools.count(1)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._rules = Rules()
        self._held: dict[str, _Held] = {}
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._failures: list[Exception] = []
        self._closing = False
        self._listener, self._other_listener = _listen(port), _listen(0)
        self._wake, self._woken = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="fake-upstream", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        if error is None:
            self._report()

    def close(self) -> None:
        """End every reply and wait, and every thread. Raises what went wrong inside the fake."""
        self._stop()
        self._report()

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL; ends in /v1."""
        return f"{_origin(self._listener)}/v1"

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Every bad behaviour by its name."""
        return FAULTS

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order in which they arrived; a copy."""
        return list(self._requests)

    @property
    def open_connections(self) -> int:
        """How many connections clients hold, busy or idle."""
        return len(self._connections)

    @property
    def stats(self) -> dict[str, int]:
        """Counts since the start or `reset`; `GET /stats` gives the same to other processes."""
        counts = {name: self._counts[name] for name in ("requests", "clients_gone", "connections")}
        peak = self._counts["peak_connections"]
        return {**counts, "open_connections": self.open_connections, "peak_connections": peak}

    def wait_for(self, predicate: Callable[[], T], timeout_s: float = 10.0) -> T:
        """The first truthy result of `predicate`. Raises TimeoutError if there is none in time."""
        deadline = time.monotonic() + timeout_s
        while not (result := predicate()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_s} s; the upstream has {self.stats}")
            time.sleep(0.002)
        return result

    def key_rule(self, key: str, behaviour: str | None) -> None:
        """What every request with this key gets, whatever its model; None takes the rule away.

        `pass` stands for what would happen without the rule: `429?retry_after=1,pass`. `limited`
        does so as long as it has room: `limited?requests=5&per_s=1`. Raises ValueError.
        """
        self._rules.set("key", key, behaviour)

    def model_rule(self, model: str, behaviour: str | None) -> None:
        """What requests for this model get, if no rule for their key or path says otherwise."""
        self._rules.set("model", model, behaviour)

    def path_rule(self, path: str, behaviour: str | None) -> None:
        """What requests to this path get: `path_rule("/v1/models", "hang")`."""
        self._rules.set("path", path, behaviour)

    def hold(self, model: str, *, after: int = 0) -> None:
        """From now on a stream of this model stops after so many pieces of its text, until `let_go`; what comes whole
        does not begin before.

        What is to be seen while an answer comes is there as long as it takes to look, on a busy machine too.
        """
        self._held[model] = _Held(after)

    def let_go(self, model: str) -> None:
        """What is held of this model goes on, and nothing is held any more."""
        self._held.pop(model).may_go_on.set()

    def reset(self) -> None:
        """Forget all requests and rules, and begin every sequence anew."""
        self._rules.reset()
        for model in list(self._held):
            self.let_go(model)
        with self._lock:
            self._requests.clear()
            self._counts.clear()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for ready in (self._listener, self._other_listener, self._woken):
                selector.register(ready, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        return
                    # A client may be gone again before it is accepted.
                    with suppress(BlockingIOError, ConnectionAbortedError):
                        sock, _ = key.fileobj.accept()  # type: ignore[union-attr]
                        self._welcome(sock, key.fileobj is self._other_listener)

    def _welcome(self, sock: socket.socket, to_other: bool) -> None:
        thread = threading.Thread(
            target=self._serve, args=(sock, to_other), name="fake-upstream-peer", daemon=True
        )
        with self._lock:
            self._connections[sock] = thread
            self._counts["connections"] += 1
            peak = max(self._counts["peak_connections"], len(self._connections))
            self._counts["peak_connections"] = peak
        thread.start()

    def _serve(self, sock: socket.socket, to_other: bool) -> None:
        peer = Peer(sock, self._max_wait_s)
        try:
            while (incoming := peer.read_request()) and self._answer(peer, incoming, to_other):
                pass
        except NotHTTPError as error:
            with suppress(PeerGoneError, OSError):
                peer.perform(refuse(0, Refusal(status=400, message=f"Bad request: {error}.")))
        except OSError:
            pass  # The client is gone, idle or stalled for too long: nothing is owed to it.
        except Exception as error:
            self._failures.append(error)
        finally:
            sock.close()
            with self._lock:
                del self._connections[sock]

    def _answer(self, peer: Peer, incoming: Incoming, to_other: bool) -> bool:
        """Record and answer one request; tells whether the connection can be used again."""
        if incoming.target == "/stats":
            return peer.perform(iter([_json_message(0, self.stats)])) and incoming.keeps_alive
        request, steps = self._take(incoming, to_other)
        try:
            return peer.perform(steps) and incoming.keeps_alive
        except PeerGoneError:
            if not self._closing:
                self._count("clients_gone")
                request.client_gone.set()
            return False
        finally:
            request.finished.set()

    def _take(self, incoming: Incoming, to_other: bool) -> tuple[Request, Steps]:
        """Record the request and choose what it gets."""
        request = Request(
            number=next(self._numbers),
            method=incoming.method,
            path=incoming.target,
            headers=incoming.headers,
            body=incoming.content,
            behaviour="",
            to_other_origin=to_other,
        )
        steps: Steps
        try:
            check_key(request.api_key, self._keys)
            chosen = self._rules.choose(request)
            request = replace(request, behaviour=chosen.text)
            steps = self._steps(request, chosen)
            if held := self._held.get(request.model or ""):
                # The head comes before the first piece, and an event that names the role.
                place = 2 + held.after if _is_stream(request) else 0
                steps = _until_let_go(steps, place, held.may_go_on)
        except Refusal as refused:
            steps = refuse(request.number, refused)
        self._requests.append(request)
        self._count("requests")
        return request, steps

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _steps(self, request: Request, chosen: Behaviour) -> Steps:
        options = {**chosen.fault.options, **self._pace, **chosen.given}
        body = request.body if isinstance(request.body, dict) else {}
        x = Exchange(
            number=request.number,
            target=request.path,
            api_key=request.api_key,
            model=request.model or "",
            streams=_is_stream(request),
            body=body,
            options=options,
            compose=composer_for(request, models=self._rules.models),
            max_wait_s=self._max_wait_s,
            other_origin=_origin(self._other_listener),
        )
        return itertools.chain([Pause(options["latency_ms"] / 1000)], chosen.fault.behave(x))

    def _stop(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._wake.send(b"\0")
        self._acceptor.join()
        with self._lock:
            connections = dict(self._connections)
        for sock in connections:
            # It may have been closed in the meantime.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join()
        for sock in (self._listener, self._other_listener, self._wake, self._woken):
            sock.close()

    def _report(self) -> None:
        if self._failures:
            raise ExceptionGroup("the fake upstream failed", self._failures)


def _until_let_go(steps: Steps, place: int, may_go_on: threading.Event) -> Steps:
    """The steps of a reply, with a pause before one that sends something; it ends when the reply is let go."""
    sent = 0
    for step in steps:
        while sent == place and not may_go_on.is_set():
            yield Pause(0.01)
        yield step
        sent += isinstance(step, bytes)


def _is_stream(request: Request) -> bool:
    body = request.body if isinstance(request.body, dict) else {}
    return request.path in COMPLETIONS and bool(body.get("stream"))


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    listener.setblocking(False)
    return listener


def _origin(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _json_message(number: int, payload: Mapping[str, Any]) -> bytes:
    return message(200, common_headers(number, JSON), encode(dump(payload)))
