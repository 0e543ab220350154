"""The openai client, and the calls that are made with it. Importing this module imports the client: 0.3 s."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

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

Call = AbstractContextManager[Response]


def open_client(
    settings: UpstreamSettings,
    key: Key | None,
    transport: Callable[[], httpx2.BaseTransport] | None,
) -> openai.OpenAI:
    """A client that calls this upstream with this key and nothing that it finds in the environment.

    Arguments:
        transport: makes what carries the requests; None: the network.
    """
    secret = key.value if key else NO_KEY
    http_client = httpx2.Client(
        transport=transport() if transport else _open_wire(settings),
        # Our transport unpacks what comes compressed all the same; asking for it would only delay streams.
        headers={"Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )
    client = openai.OpenAI(
        api_key=secret,
        admin_api_key="",
        webhook_secret="",
        base_url=settings.base_url,
        max_retries=0,
        timeout=httpx2.Timeout(settings.timeouts.total_s, connect=settings.timeouts.connect_s),
        # Named here, the header cannot be replaced by one from OPENAI_CUSTOM_HEADERS.
        default_headers={"Authorization": f"Bearer {secret}"},
        http_client=http_client,
    )
    # Left out above, they would be taken from the environment, whatever upstream this is.
    client.organization = settings.organization or None
    client.project = settings.project or None
    return client


def _open_wire(settings: UpstreamSettings) -> WireTransport:
    return WireTransport(
        is_encrypted=settings.base_url.startswith("https:"), proxy=proxy_for(settings)
    )


def send(client: openai.OpenAI, request: CompletionRequest, plan: Plan) -> Call:
    """Ask for a completion. The raw response is read by us: with limits, and without a model object for every delta."""
    body: dict[str, Any] = {**({"stream": True} if plan.is_streamed else {}), **plan.fields}
    headers = dict(plan.headers)
    if request.endpoint == "completions":
        prompt = "".join(message.content for message in request.messages)
        return client.completions.with_streaming_response.create(
            model=request.model, prompt=prompt, extra_body=body, extra_headers=headers
        )
    roles = {"system": plan.system_role}
    # As an argument they would be held against every type that a message can have: more work than sending them. The
    # client insists on the argument, but not on its being given.
    body["messages"] = [
        {"role": roles.get(said.role, said.role), "content": said.content}
        for said in request.messages
    ]
    return client.chat.completions.with_streaming_response.create(
        model=request.model,
        messages=cast(Any, openai.NOT_GIVEN),
        extra_body=body,
        extra_headers=headers,
    )


def list_models(client: openai.OpenAI) -> Call:
    """Ask for the models."""
    return client.models.with_streaming_response.list()


def show_model(client: openai.OpenAI, model_id: str) -> Call:
    """Ask for one model."""
    return client.models.with_streaming_response.retrieve(model_id)
