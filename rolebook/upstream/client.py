"""The openai client, and the calls that are made with it. Importing this module imports the client: 0.3 s."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from functools import lru_cache
from typing import Any

import httpx2
import openai

from rolebook.core.completion import CompletionRequest
from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.adaptation import Plan
from rolebook.upstream.address import proxy_for
from rolebook.upstream.exchange import Response
from rolebook.upstream.wire import WireTransport

NO_KEY = "no-key-needed"
"""What is sent where no key is set: the client insists on one, servers without keys ignore it."""

_HEADERS: Mapping[str, str | openai.Omit] = {
    # What the client is told by, through all its layers, to hand out the response before its body is read.
    "X-Stainless-Raw-Response": "stream",
    # There is one try and one limit, both ours.
    "X-Stainless-Async": openai.Omit(),
    "X-Stainless-Retry-Count": openai.Omit(),
    "X-Stainless-Read-Timeout": openai.Omit(),
}

Call = AbstractContextManager[Response]


#: Taking a URL apart is a tenth of the client's work, and an upstream has few.
_url = lru_cache(maxsize=256)(httpx2.URL)


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
            method, _url(url), content=parts.get("content"), headers=parts.get("headers")
        )

    def send(self, request: httpx2.Request, *, stream: bool = False, **_: Any) -> httpx2.Response:
        """Send it; with ``stream``, its body is read later."""
        response = self._wire.handle_request(request)
        response.request = request
        if not stream:
            response.read()
        return response


class _Client(openai.OpenAI):
    """The client, which tells no server what this computer and its Python are. Each header that is left out is also one
    that five layers need not look at.
    """

    def platform_headers(self) -> dict[str, str]:
        return {}

    def _prepare_url(self, url: str) -> httpx2.URL:
        # All that is called here is a whole URL, or is called once.
        known = _url(url)
        return super()._prepare_url(url) if known.is_relative_url else known


def open_client(
    settings: UpstreamSettings, transport: Callable[[], httpx2.BaseTransport] | None
) -> openai.OpenAI:
    """A client that calls this upstream, with the key that each call brings and nothing from the environment.

    Arguments:
        transport: makes what carries the requests; None: the network.
    """
    http_client = _HttpClient(transport() if transport else open_wire(settings))
    client = _Client(
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


def send(client: openai.OpenAI, request: CompletionRequest, plan: Plan, *, key: Key | None) -> Call:
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
    return _post(client, path, body, {**_with_key(key, plan.headers), **_HEADERS})


def _post(
    client: openai.OpenAI, path: str, body: dict[str, Any], headers: Mapping[str, Any]
) -> Call:
    """Post past the client's methods for each address: these hold every argument against all types that it could have,
    which is more work than sending it.
    """
    response = client.post(
        # A whole URL need not be joined, which would take it apart twice more.
        f"{client.base_url}{path}",
        body=body,
        cast_to=httpx2.Response,
        options={"headers": headers},
    )
    return closing(response)


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
