"""The openai client, and the calls that are made with it. Importing this module imports the client: 0.3 s."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import httpx2
import openai
from openai._models import FinalRequestOptions

from rolebook.core.completion import CompletionRequest
from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.adaptation import Plan
from rolebook.upstream.address import proxy_for
from rolebook.upstream.exchange import Response
from rolebook.upstream.wire import WireTransport

NO_KEY = "no-key-needed"
"""What is sent where no key is set: the client insists on one, servers without keys ignore it."""

_UNTOLD: Mapping[str, openai.Omit] = {
    name: openai.Omit()
    # There is one try and one limit, both ours.
    for name in ("X-Stainless-Async", "X-Stainless-Retry-Count", "X-Stainless-Read-Timeout")
}

Call = AbstractContextManager[Response]

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class _HttpClient(httpx2.Client):
    """Sends each request as it is, once: no redirect is followed, no cookie kept, nothing of the environment added, and
    so none of the steps for these is taken.

    Arguments:
        wire: what carries the requests.
    """

    def __init__(self, wire: httpx2.BaseTransport) -> None:
        super().__init__(transport=wire, trust_env=False)
        self._wire = wire

    def build_request(self, method: str, url: httpx2.URL | str, **parts: Any) -> httpx2.Request:
        """A request of what the openai client gives, and nothing besides."""
        return httpx2.Request(
            method, url, content=parts.get("content"), headers=parts.get("headers")
        )

    def send(self, request: httpx2.Request, *, stream: bool = False, **_: Any) -> httpx2.Response:
        """Send it; with ``stream``, its body is read later."""
        response = self._wire.handle_request(request)
        response.request = request
        if not stream:
            response.read()
        return response

    def close_idle(self) -> None:
        """Drop the connections that no request has wanted for long, if there are any."""
        close_idle = getattr(self._wire, "close_idle", None)
        if close_idle is not None:
            close_idle()


class OpenAI(openai.OpenAI):
    """The client, which tells no server what this computer and its Python are; but its name is what they are told."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._patterns: dict[str, httpx2.Request] = {}

    def platform_headers(self) -> dict[str, str]:
        return {}

    def post_json(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> httpx2.Response:
        """The response to a value, its body unread. Raises APIStatusError, and what the wire raises.

        The client's own way holds every argument against all that it could be, which is more work than sending it. So
        it makes one request for each path, and what is sent is that one with other headers and another body.
        """
        pattern = self._patterns.get(path) or self._pattern_of(path)
        content = _encoder.encode(body).encode()
        sent = httpx2.Headers(pattern.headers, encoding="ascii")
        for name, value in headers.items():
            sent[name] = value
        sent["Content-Length"] = str(len(content))
        request = httpx2.Request(
            pattern.method, pattern.url, headers=sent, stream=httpx2.ByteStream(content)
        )
        response = self._client.send(request, stream=True)
        if not response.is_success:
            response.read()
            raise self._make_status_error_from_response(response)
        return response

    def close_idle(self) -> None:
        """Drop the connections that no request has wanted for long."""
        if isinstance(self._client, _HttpClient):
            self._client.close_idle()

    def _pattern_of(self, path: str) -> httpx2.Request:
        options = FinalRequestOptions.construct(
            method="post", url=path, headers=_UNTOLD, json_data={}
        )
        pattern = self._patterns[path] = self._build_request(options)
        return pattern


def open_client(
    settings: UpstreamSettings, transport: Callable[[], httpx2.BaseTransport] | None
) -> OpenAI:
    """A client that calls this upstream, with the key that each call brings and nothing from the environment.

    Arguments:
        transport: makes what carries the requests; None: the network.
    """
    http_client = _HttpClient(transport() if transport else open_wire(settings))
    client = OpenAI(
        api_key=NO_KEY,
        admin_api_key="",
        webhook_secret="",
        base_url=settings.base_url,
        max_retries=0,
        timeout=httpx2.Timeout(settings.timeouts.total_s, connect=settings.timeouts.connect_s),
        default_headers={
            # Named here, the header cannot be replaced by one from OPENAI_CUSTOM_HEADERS.
            "Authorization": f"Bearer {NO_KEY}",
            # Our transport unpacks what comes compressed all the same; asking for it would only delay streams.
            "Accept-Encoding": "identity",
        },
        http_client=http_client,
    )
    # Left out above, they would be taken from the environment, whatever upstream this is.
    client.organization = settings.organization or None
    client.project = settings.project or None
    return client


def open_wire(settings: UpstreamSettings) -> WireTransport:
    """The network, as this upstream is reached over it."""
    return WireTransport(settings.base_url, proxy=proxy_for(settings))


def _with_key(key: Key | None, headers: Mapping[str, str] | None = None) -> dict[str, str]:
    own = {"Authorization": f"Bearer {key.value}"} if key else {}
    return {**(headers or {}), **own}


def send(client: OpenAI, request: CompletionRequest, plan: Plan, *, key: Key | None) -> Call:
    """Ask for a completion. The raw response is read by us: with limits, and without a model object for every delta."""
    body: dict[str, Any] = {"model": request.model, **plan.fields}
    if plan.is_streamed:
        body["stream"] = True
    if request.endpoint == "completions":
        path = "completions"
        body["prompt"] = "".join(message.content for message in request.messages)
    else:
        path = "chat/completions"
        roles = {"system": plan.system_role}
        body["messages"] = [
            said.as_dict() | {"role": roles.get(said.role, said.role)} for said in request.messages
        ]
    return closing(client.post_json(path, body, _with_key(key, plan.headers)))


@contextmanager
def list_models(client: openai.OpenAI, *, key: Key | None) -> Iterator[Response]:
    """Ask for the models."""
    with client.models.with_streaming_response.list(extra_headers=_with_key(key)) as response:
        yield response.http_response


@contextmanager
def show_model(client: openai.OpenAI, model_id: str, *, key: Key | None) -> Iterator[Response]:
    """Ask for one model."""
    asking = client.models.with_streaming_response.retrieve(model_id, extra_headers=_with_key(key))
    with asking as response:
        yield response.http_response
