"""What each path and method answers when nothing is wrong."""

from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import unquote

from tests.fake_upstream.record import Request
from tests.fake_upstream.refusal import Refusal, check_body
from tests.fake_upstream.reply import Listing, Reply, compose_completion, model_card
from tests.fake_upstream.rules import plan_of_model

COMPLETIONS = {"/v1/chat/completions": True, "/v1/completions": False}
"""The paths that complete; true for the one that takes messages."""

Compose = Callable[[Mapping[str, Any], Mapping[str, Any]], Reply]
"""Makes the well-formed reply to a body under the options of a behaviour."""


def composer_for(request: Request, *, models: Collection[str]) -> Compose:
    """What makes the reply to `request`. Raises Refusal: no such path, method or model, bad body."""
    chat = COMPLETIONS.get(request.path)
    if chat is None:
        listing = Listing(_list_models(request, models))
        return lambda body, options: listing
    if request.method != "POST":
        raise Refusal(status=405, message=f"Not allowed to {request.method} on {request.path}.")
    check_body(request.body, chat=chat)
    return lambda body, options: compose_completion(
        body, number=request.number, chat=chat, options=options
    )


def _list_models(request: Request, models: Collection[str]) -> dict[str, Any]:
    if (request.method, request.path) == ("GET", "/v1/models"):
        return {"object": "list", "data": [model_card(name) for name in models]}
    prefix, _, quoted = request.path.partition("/v1/models/")
    if request.method != "GET" or prefix or not quoted:
        raise Refusal(status=404, message=f"Invalid URL ({request.method} {request.path})")
    name = unquote(quoted)
    if name not in models:
        plan_of_model(name)
    return model_card(name)
