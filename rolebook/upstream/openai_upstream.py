"""An OpenAI-compatible server, called through the openai client."""

from __future__ import annotations

import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rolebook.core.completion import (
    CompletionRequest,
    Delivery,
    Model,
    Sent,
    StreamEvent,
    Suspend,
    Waiting,
)
from rolebook.core.errors import (
    UpstreamCancelled,
    UpstreamError,
    UpstreamKeyError,
    UpstreamProxyError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamReplyError,
    UpstreamServerError,
)
from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.adaptation import Adapter, Plan
from rolebook.upstream.address import check_settings, is_loopback
from rolebook.upstream.attempts import Attempts
from rolebook.upstream.body import Whole
from rolebook.upstream.breaker import Breaker
from rolebook.upstream.call import Call
from rolebook.upstream.error_mapping import NO_FILE_LEFT, ErrorMapper
from rolebook.upstream.exchange import DirectExchange, Exchange
from rolebook.upstream.key_pool import KeyPool
from rolebook.upstream.redaction import protect_logs, redactor_of
from rolebook.upstream.reply import FailedReply, ReplyFold, mended

if TYPE_CHECKING:
    import httpx2

    from rolebook.upstream.client import Call as Sending
    from rolebook.upstream.client import OpenAI

Got = TypeVar("Got")

#: The upstream, or a proxy before it, has said that it does nothing with the request.
_REFUSALS = (
    UpstreamKeyError,
    UpstreamProxyError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamServerError,
)


class OpenAIUpstream:
    """An upstream as :class:`rolebook.core.upstream.Upstream` wants it.

    Creating one makes no connection and imports no client. It may be used by many threads.

    Arguments:
        transport: makes what carries the requests instead of the network, or of what the settings say of recordings.

    Raises SettingError for a base URL or a proxy that cannot be one.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        transport: Callable[[], httpx2.BaseTransport] | None = None,
    ) -> None:
        check_settings(settings)
        self.settings = settings
        self._transport = transport or _recording_of(settings)
        self.keys = KeyPool(settings)
        self.breaker = Breaker()
        redactor = redactor_of(settings)
        protect_logs(redactor)
        self._errors = ErrorMapper(settings, redactor)
        self._adapter = Adapter()
        self._opening = threading.Lock()
        self._opened: OpenAI | None = None
        self._default_model = settings.model

    @property
    def name(self) -> str:
        """The name it has in the settings."""
        return self.settings.name

    @property
    def is_local(self) -> bool:
        """Whether it runs on this computer, where a call costs nothing that a price list knows."""
        return is_loopback(self.settings.base_url)

    @property
    def default_model(self) -> str:
        """The model for personas that name none: the one in the settings, else the first in the server's own list."""
        if not self._default_model:
            models = self._listed()
            if not models:
                raise self._errors.explain(
                    UpstreamRefusedError(
                        "%(upstream)s offers no model. Load one there, or name one in the settings of the upstream."
                    )
                )
            self._default_model = models[0].id
        return self._default_model

    @property
    def known_model(self) -> str:
        """The default model, as far as it is known without asking; empty where only the server knows it."""
        return self._default_model

    def stream(
        self,
        request: CompletionRequest,
        *,
        deadline: float = math.inf,
        has_stand_in: bool = False,
    ) -> Iterator[StreamEvent]:
        """Make one call; see the Protocol. A Waiting may come at any time before the Completion, even before Sent.

        Arguments:
            deadline: ``time.monotonic()`` by which it ends, if its own limits let it run as long.
            has_stand_in: whether another upstream is asked where this one does not answer.
        """
        if not request.model:
            request = replace(request, model=self.default_model)
        deadline = min(deadline, time.monotonic() + self.settings.timeouts.total_s)
        attempts = Attempts(
            self.settings,
            self.keys,
            self.breaker,
            self._errors,
            request=request,
            deadline=deadline,
        )
        yield from attempts.begin(has_stand_in=has_stand_in)
        try:
            yield from self._made(attempts, request, deadline)
        finally:
            attempts.end()

    def _made(
        self, attempts: Attempts, request: CompletionRequest, deadline: float
    ) -> Iterator[StreamEvent]:
        """The call, made as often as it takes."""
        while True:
            plan = self._adapter.plan(request)
            lease = yield from attempts.take_key()
            has_passed_on = False
            was_delivered = request.delivery.is_made
            try:
                with lease:
                    for event in self._attempt(request, plan, lease.key, deadline):
                        if not has_passed_on and not isinstance(event, Waiting):
                            has_passed_on = True
                            attempts.note_answer()
                        yield event
                self.keys.note_success(lease)
                return
            except Exception as reason:
                error = self._errors.explain(reason, key=lease.key)
            if has_passed_on:
                self.keys.note_failure(lease, error)
                raise error
            if isinstance(error, _REFUSALS):
                # That costs nothing, also where nobody waits for the next attempt.
                request.delivery.is_made = was_delivered
            if not self._adapter.learn(request, plan, error):
                yield from attempts.after_failure(error, lease)

    def models(self) -> Sequence[Model]:
        """The models it offers, by id."""
        return tuple(sorted(self._listed(), key=lambda model: model.id))

    def _listed(self) -> Sequence[Model]:
        """The models in the order of the server, whose owner puts first what comes first."""
        _import_client()
        from rolebook.upstream.client import list_models

        payload = self._ask(list_models)
        listed = payload.get("data", payload) if isinstance(payload, dict) else payload
        if not isinstance(listed, list | None):
            raise self._errors.explain(_no_list())
        found = {
            model.id: model for entry in listed or () if (model := read_model(entry)) is not None
        }
        return tuple(found.values())

    def model(self, model_id: str) -> Model:
        """One model's details. Raises UpstreamRefusedError for an unknown one."""
        _import_client()
        from rolebook.upstream.client import show_model

        try:
            model = (
                read_model(self._ask(partial(show_model, model_id=model_id))) if model_id else None
            )
        except UpstreamRefusedError as error:
            if error.status not in (404, 405):
                raise
            model = None
        if model is not None:
            return model
        # Not every server knows the address of a single model, so the list has the last word.
        for listed in self.models():
            if listed.id == model_id:
                return listed
        raise self._errors.explain(
            UpstreamRefusedError(
                "%(upstream)s has no model %(model)s. `rolebook models` lists what it offers.",
                status=404,
                model=model_id[:200],
            )
        )

    def close(self) -> None:
        """Drop the pooled connections; the next call opens new ones."""
        with self._opening:
            client, self._opened = self._opened, None
        if client is not None:
            client.close()

    def close_idle(self) -> None:
        """Drop the connections that no call has wanted for long. It waits for nothing."""
        client = self._opened
        if client is not None:
            client.close_idle()

    def _attempt(
        self, request: CompletionRequest, plan: Plan, key: Key | None, deadline: float
    ) -> Iterator[StreamEvent]:
        client = self._client()
        from rolebook.upstream.client import send

        exchange = self._begin(
            partial(send, client, request, plan, key=key),
            key,
            deadline,
            is_watched=request.is_watched,
            suspend=request.suspend,
            delivery=request.delivery,
            is_whole=not request.is_streamed,
        )
        request.cancellation.on_cancel(exchange.cut)
        fold = ReplyFold(request.endpoint, choices=_wanted(plan.fields))
        earlier = request.delivery.arrived
        # An attempt that brings nothing takes nothing of what came before.
        request.delivery.arrived = lambda: fold.arrived() or earlier()
        sent: Sent | None = Sent(request.model, plan.sent, plan.adaptations)
        try:
            with closing(exchange):
                for item in _until_broken(exchange, fold):
                    if isinstance(item, Waiting):
                        yield item
                        continue
                    for event in fold.relay(item) if request.is_relayed else fold.add(item):
                        if sent is not None:
                            yield sent
                            sent = None
                        yield event
            completion = fold.finish()
        except Exception:
            request.delivery.add(*fold.told)
            raise
        if sent is not None:
            yield sent
        yield completion

    def _begin(
        self,
        send: Callable[[], Sending],
        key: Key | None,
        deadline: float,
        *,
        is_watched: bool = True,
        suspend: Suspend | None = None,
        delivery: Delivery | None = None,
        is_whole: bool = False,
    ) -> Exchange | DirectExchange:
        call = Call(
            self.settings.timeouts,
            deadline=deadline,
            suspend=suspend,
            delivery=delivery,
            is_whole=is_whole,
        )
        kind = Exchange if is_watched else DirectExchange
        return kind(
            call,
            send,
            explain=lambda reason: self._errors.explain(reason, key=key, is_sent=call.is_sent),
        )

    def _client(self) -> OpenAI:
        _import_client()
        from rolebook.upstream.client import open_client

        with self._opening:
            if self._opened is None:
                try:
                    self._opened = open_client(self.settings, self._transport)
                except OSError as error:
                    raise _without_certificates(error) or error from None
            return self._opened

    def _ask(self, ask: Callable[..., Sending]) -> Any:
        """The JSON that a question without a stream is answered with."""
        deadline = time.monotonic() + self.settings.timeouts.total_s
        listing = CompletionRequest((), "")
        attempts = Attempts(
            self.settings, self.keys, self.breaker, self._errors, request=listing, deadline=deadline
        )
        _returned(attempts.begin())
        try:
            while True:
                lease = _returned(attempts.take_key())
                try:
                    asking = partial(ask, self._client(), key=lease.key)
                    with lease, closing(self._begin(asking, lease.key, deadline)) as exchange:
                        listed = _listing(exchange)
                    self.keys.note_success(lease)
                    attempts.note_answer()
                    return listed
                except Exception as reason:
                    error = self._errors.explain(reason, key=lease.key)
                _returned(attempts.after_failure(error, lease))
        finally:
            attempts.end()


def _without_certificates(error: OSError) -> UpstreamError | None:
    """That the certificates to trust cannot be read, if that is why there is no client."""
    path = os.environ.get("SSL_CERT_FILE", "")
    if not path or error.errno in NO_FILE_LEFT:
        return None
    return UpstreamError(
        "The certificates to trust cannot be read from %(path)s, which SSL_CERT_FILE names, so %(upstream)s is not "
        "called. Correct SSL_CERT_FILE and start again.",
        path=path,
        cause=str(error),
    )


def _returned(waiting: Generator[Waiting, None, Got]) -> Got:
    """What a generator returns in the end, waited for."""
    try:
        while True:
            next(waiting)
    except StopIteration as end:
        got: Got = end.value
        return got


def _recording_of(settings: UpstreamSettings) -> Callable[[], httpx2.BaseTransport] | None:
    """What carries the requests of an upstream that is recorded or played back."""

    def open_recorded() -> httpx2.BaseTransport:
        from rolebook.upstream.recorded_wire import RecordingTransport, playback_transport

        return playback_transport(settings) if settings.playback else RecordingTransport(settings)

    return open_recorded if settings.record or settings.playback else None


def _until_broken(exchange: Exchange | DirectExchange, fold: ReplyFold) -> Iterator[Any]:
    """What arrives; once every answer has said why it ended, a connection that breaks is as good as the end."""
    try:
        yield from exchange
    except UpstreamCancelled:
        raise
    except UpstreamError:
        if not fold.is_answered:
            raise


def _wanted(fields: Mapping[str, Any]) -> int:
    n = fields.get("n")
    return n if isinstance(n, int) else 1


def _listing(exchange: Exchange | DirectExchange) -> Any:
    for item in list(exchange):
        if isinstance(item, Whole):
            payload = item.payload
            if isinstance(payload, dict) and payload.get("error"):
                raise FailedReply(payload["error"])
            return payload
    raise _no_list()


def _no_list() -> UpstreamReplyError:
    return UpstreamReplyError(
        "%(upstream)s did not send the list of its models. Check the base URL."
    )


def read_model(entry: Any) -> Model | None:
    """A model as a server describes it; None for what describes none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    entry = mended(entry)
    owner, created = entry.get("owned_by"), entry.get("created")
    return Model(
        id=entry["id"],
        owned_by=owner if isinstance(owner, str) else "",
        created_at=_time(created),
        details=entry,
    )


def _time(seconds: Any) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


def warm_up() -> None:
    """Begin to import the openai client in a thread, so that it is there when the first call needs it."""
    threading.Thread(target=_import_client, name="rolebook-warm-up", daemon=True).start()


def _import_client() -> None:
    """Import the openai client, which is left until it is needed: see docs/decisions/0006.

    It makes thousands of classes; looking for garbage among them meanwhile takes an eighth of the time.
    """
    if "rolebook.upstream.client" in sys.modules:
        return
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        import rolebook.upstream.client  # noqa: F401
    finally:
        if is_collecting:
            gc.enable()
