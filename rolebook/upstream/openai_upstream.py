"""An OpenAI-compatible server, called through the openai client."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rolebook.core.completion import (
    Cancellation,
    CompletionRequest,
    Model,
    Sent,
    StreamEvent,
    Waiting,
)
from rolebook.core.errors import (
    UpstreamCancelled,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamReplyError,
)
from rolebook.core.upstream import UpstreamSettings
from rolebook.upstream.adaptation import Adapter, Plan
from rolebook.upstream.address import check_settings, choose_key, is_loopback, password_of
from rolebook.upstream.body import Whole
from rolebook.upstream.call import Call
from rolebook.upstream.error_mapping import ErrorMapper
from rolebook.upstream.exchange import HEARTBEAT_S, DirectExchange, Exchange
from rolebook.upstream.redaction import Redactor, protect_logs
from rolebook.upstream.reply import FailedReply, ReplyFold

if TYPE_CHECKING:
    import httpx2
    import openai

    from rolebook.upstream.client import Call as Sending

LONGEST_RETRY_AFTER_S = 2.0
"""A server that asks to wait longer is an error at once: nobody should sit before a blank page, nor hold a thread."""

_FIRST_PAUSE_S = 0.25


class OpenAIUpstream:
    """An upstream as :class:`rolebook.core.upstream.Upstream` wants it.

    Creating one makes no connection and imports no client. It may be used by many threads.

    Arguments:
        transport: makes what carries the requests instead of the network.

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
        self._transport = transport
        redactor = Redactor([*(key.value for key in settings.keys), password_of(settings.proxy)])
        protect_logs(redactor)
        self._errors = ErrorMapper(settings, redactor)
        self._adapter = Adapter()
        self._opening = threading.Lock()
        self._opened: openai.OpenAI | None = None
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

    def stream(self, request: CompletionRequest) -> Iterator[StreamEvent]:
        """Make one call; see the Protocol. A Waiting may come at any time before the Completion, even before Sent."""
        deadline = time.monotonic() + self.settings.timeouts.total_s
        attempt = 1
        while True:
            plan = self._adapter.plan(request)
            has_passed_on = False
            try:
                request.cancellation.raise_if_cancelled()
                for event in self._attempt(request, plan, deadline):
                    has_passed_on = has_passed_on or not isinstance(event, Waiting)
                    yield event
                return
            except Exception as reason:
                error = self._errors.explain(reason)
            if has_passed_on:
                raise error
            if self._adapter.learn(request, plan, error):
                continue
            yield from self._pause_before_retry(error, attempt, deadline, request.cancellation)
            attempt += 1

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
                read_model(self._ask(lambda client: show_model(client, model_id)))
                if model_id
                else None
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

    def _attempt(
        self, request: CompletionRequest, plan: Plan, deadline: float
    ) -> Iterator[StreamEvent]:
        client = self._client()
        from rolebook.upstream.client import send

        exchange = self._begin(
            partial(send, client, request, plan), deadline, is_watched=request.is_watched
        )
        request.cancellation.on_cancel(exchange.cut)
        fold = ReplyFold(request.endpoint, choices=_wanted(plan.fields))
        sent: Sent | None = Sent(request.model, plan.sent, plan.adaptations)
        with closing(exchange):
            for item in _until_broken(exchange, fold):
                if isinstance(item, Waiting):
                    yield item
                    continue
                for delta in fold.add(item):
                    if sent is not None:
                        yield sent
                        sent = None
                    yield delta
        completion = fold.finish()
        if sent is not None:
            yield sent
        yield completion

    def _begin(
        self, send: Callable[[], Sending], deadline: float, *, is_watched: bool = True
    ) -> Exchange | DirectExchange:
        call = Call(self.settings.timeouts, deadline=deadline)
        kind = Exchange if is_watched else DirectExchange
        return kind(
            call, send, explain=lambda reason: self._errors.explain(reason, is_sent=call.is_sent)
        )

    def _client(self) -> openai.OpenAI:
        key = choose_key(self.settings)
        _import_client()
        from rolebook.upstream.client import open_client

        with self._opening:
            if self._opened is None:
                self._opened = open_client(self.settings, key, self._transport)
            return self._opened

    def _ask(self, ask: Callable[[openai.OpenAI], Sending]) -> Any:
        """The JSON that a question without a stream is answered with."""
        deadline = time.monotonic() + self.settings.timeouts.total_s
        attempt = 1
        while True:
            try:
                with closing(self._begin(partial(ask, self._client()), deadline)) as exchange:
                    return _listing(exchange)
            except Exception as reason:
                error = self._errors.explain(reason)
            for _ in self._pause_before_retry(error, attempt, deadline, Cancellation()):
                pass
            attempt += 1

    def _pause_before_retry(
        self, error: UpstreamError, attempt: int, deadline: float, cancellation: Cancellation
    ) -> Iterator[Waiting]:
        """Wait before another try, or raise ``error`` if there is to be none."""
        pause_s = _FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        if error.retry_after_s is not None:
            pause_s = max(error.retry_after_s, 0.05)
        until = time.monotonic() + pause_s
        is_hopeless = not error.is_transient or attempt >= self.settings.attempts
        if is_hopeless or pause_s > LONGEST_RETRY_AFTER_S or until >= deadline:
            raise error
        cancelled = threading.Event()
        cancellation.on_cancel(cancelled.set)
        while (remaining_s := until - time.monotonic()) > 0:
            if cancelled.wait(min(remaining_s, HEARTBEAT_S)):
                raise self._errors.explain(UpstreamCancelled("Stopped."))
            yield Waiting()


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
