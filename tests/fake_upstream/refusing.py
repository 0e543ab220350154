"""Behaviours that refuse: error statuses, redirects, models that do not take every parameter."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.fake_upstream import refusal
from tests.fake_upstream.exchange import Behave, Exchange, answer, register
from tests.fake_upstream.refusal import Refusal
from tests.fake_upstream.wire import JSON, Steps, dump, encode, message


def _refusing(name: str) -> Behave:
    def behave(x: Exchange) -> Steps:
        refused = refusal.TABLE[name][1]
        if name == "401":
            refused = refusal.wrong_key(refusal.masked(x.api_key or ""))
        elif name == "404":
            refused = refusal.unknown_model(x.model)
        return x.refuse(replace(refused, headers=_retry_headers(x.options)))

    return behave


_RETRY_HEADERS = (
    "retry_after",
    "retry_after_ms",
    "x_ratelimit_remaining_requests",
    "x_ratelimit_reset_requests",
    "x_ratelimit_reset_tokens",
)


def _retry_headers(options: Mapping[str, Any]) -> dict[str, str]:
    return {name.replace("_", "-"): options[name] for name in _RETRY_HEADERS if options[name]}


for _name, (_description, _) in refusal.TABLE.items():
    _options = dict.fromkeys(_RETRY_HEADERS, "")
    register(_name, "refused", _description, **_options)(_refusing(_name))


@register("limited", "refused", "429 beyond `requests` in `per_s` seconds", requests=0, per_s=1.0)
def limited(x: Exchange) -> Steps:
    seconds = str(math.ceil(x.options["per_s"]))
    return x.refuse(replace(refusal.TABLE["429"][1], headers={"retry-after": seconds}))


@register(
    "status",
    "refused",
    "the status `code` with an error object",
    code=418,
    retry_after="",
    message="Refused.",
)
def status(x: Exchange) -> Steps:
    retry = {"retry-after": x.options["retry_after"]} if x.options["retry_after"] else {}
    return x.refuse(Refusal(status=x.options["code"], message=x.options["message"], headers=retry))


@register("echo-key", "refused", "an error that repeats the key, in text and header", code=401)
def echo_key(x: Exchange) -> Steps:
    refused = refusal.wrong_key(x.api_key or "")
    echo = {"x-received-authorization": f"Bearer {x.api_key}"}
    return x.refuse(replace(refused, status=x.options["code"], headers=echo))


@register("redirect", "refused", "a redirect to another origin", code=302)
def redirect(x: Exchange) -> Steps:
    headers = {"location": x.other_origin + x.target}
    yield message(x.options["code"], headers, b"")


def _error_body(body: bytes, content_type: str = JSON) -> Behave:
    def behave(x: Exchange) -> Steps:
        yield message(x.options["code"], x.headers(content_type), body)

    return behave


register("error-html", "refused", "the error page of a gateway", code=502)(
    _error_body(
        b"<html><head><title>502 Bad Gateway</title><script>window.__pwned=1</script></head>"
        b"<body><center><h1>502 Bad Gateway</h1></center><hr>nginx</body></html>",
        "text/html",
    )
)
register("error-empty", "refused", "an error without a body", code=500)(_error_body(b""))
register("error-string", "refused", "`error` is a string, as Ollama sends it", code=500)(
    _error_body(encode(dump({"error": "model runner has unexpectedly stopped"})))
)
register("error-detail", "refused", "`detail` in place of `error`, as FastAPI sends it", code=422)(
    _error_body(
        encode(dump({"detail": [{"loc": ["body", "stop"], "msg": "Input should be a list"}]}))
    )
)
register("error-long", "refused", "an error message of a megabyte", code=400)(
    _error_body(encode(dump({"error": {"message": "long " * 200_000, "type": "x"}})))
)


@register("reasoning-model", "whole", "takes neither `max_tokens` nor another temperature or top_p")
def reasoning_model(x: Exchange) -> Steps:
    refused = _refused_by_reasoning(x.body)
    return x.refuse(refused) if refused else answer(x)


def _refused_by_reasoning(body: Mapping[str, Any]) -> Refusal | None:
    """The first parameter that an OpenAI reasoning model would refuse, one at a time as it does."""
    if body.get("max_tokens") is not None:
        return refusal.unsupported_parameter("max_tokens", "max_completion_tokens")
    temperature = body.get("temperature")
    if temperature is not None and temperature != 1:
        only = " Only the default (1) value is supported."
        return refusal.unsupported_value("temperature", json.dumps(temperature), only)
    for name in ("top_p", "presence_penalty", "frequency_penalty", "logprobs", "logit_bias"):
        if body.get(name) is not None:
            return refusal.unsupported_parameter(name)
    return None


@register("no-system", "whole", "takes no message of the role system")
def no_system(x: Exchange) -> Steps:
    for at, said in enumerate(x.body.get("messages", [])):
        if said["role"] == "system":
            return x.refuse(refusal.unsupported_value(f"messages[{at}].role", "'system'"))
    return answer(x)


@register(
    "strict-roles",
    "whole",
    "a chat template without a system role: refused with the status `code`, or, with 200, in the stream",
    code=500,
    message="System role not supported",
)
def strict_roles(x: Exchange) -> Steps:
    if all(said["role"] != "system" for said in x.body.get("messages", [])):
        return answer(x)
    refused = Refusal(status=x.options["code"], message=x.options["message"])
    if refused.status == 200:
        return answer(x, whole=refused.payload, items=[refused.payload])
    return x.refuse(refused)


@register("no-stream-options", "whole", "an old server that does not know `stream_options`")
def no_stream_options(x: Exchange) -> Steps:
    if "stream_options" not in x.body:
        return answer(x)
    unknown = "Unrecognized request argument supplied: stream_options"
    return x.refuse(Refusal(status=400, message=unknown))
