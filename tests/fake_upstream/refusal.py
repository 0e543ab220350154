"""Refusals in the shape and words of OpenAI, and the checks that lead to them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

_RANGES: tuple[tuple[str, type, float, float], ...] = (
    ("n", int, 1, 128),
    ("max_tokens", int, 0, math.inf),
    ("max_completion_tokens", int, 0, math.inf),
    ("temperature", float, 0, 2),
    ("top_p", float, 0, 1),
    ("presence_penalty", float, -2, 2),
    ("frequency_penalty", float, -2, 2),
)


@dataclass(eq=False, kw_only=True)
class Refusal(Exception):
    """An error status with an error object (platform.openai.com/docs/guides/error-codes).

    Not frozen, as Python itself writes to an exception that is on its way.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def payload(self) -> dict[str, Any]:
        """The body: `{"error": {...}}`."""
        names = ("message", "type", "param", "code")
        return {"error": {name: getattr(self, name) for name in names}}


def masked(key: str) -> str:
    """A key as OpenAI repeats it in an error: its ends only."""
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 16 else "*" * len(key)


def wrong_key(key: str) -> Refusal:
    """The refusal of a key; give it masked unless the fault is that it is not."""
    return Refusal(
        status=401,
        message=f"Incorrect API key provided: {key}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        code="invalid_api_key",
    )


def unknown_model(model: str, why: str = "") -> Refusal:
    """The refusal of a model that is not there; `why` tells a test what it misspelt."""
    return Refusal(
        status=404,
        message=f"The model `{model}` does not exist or you do not have access to it.{why}",
        code="model_not_found",
    )


def check_key(key: str | None, allowed: Collection[str]) -> None:
    """Raise a 401 unless `key` is allowed; an empty `allowed` lets everyone in."""
    if not allowed or key in allowed:
        return
    if key is not None:
        raise wrong_key(masked(key))
    raise Refusal(
        status=401,
        message="You didn't provide an API key. You need to provide your API key in an "
        "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
    )


def check_body(body: Any, *, chat: bool) -> None:
    """Raise a 400 unless `body` is a request for a completion that can be answered."""
    if not isinstance(body, dict):
        raise Refusal(
            status=400,
            message="We could not parse the JSON body of your request. (HINT: This likely means "
            "you aren't using your HTTP library correctly.)",
        )
    if not isinstance(body.get("model"), str):
        raise Refusal(status=400, message="you must provide a model parameter")
    if chat:
        _check_messages(body.get("messages"))
    else:
        _check_prompt(body.get("prompt"))
    _check_stop(body.get("stop"))
    for name, kind, low, high in _RANGES:
        _check_range(body, name, kind, low, high)
    if body.get("stream_options") is None:
        return
    if not body.get("stream"):
        raise _invalid(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )
    if not isinstance(body["stream_options"], dict):
        raise _wrong_type("stream_options", "an object")


def _check_messages(messages: Any) -> None:
    if messages is None:
        raise _missing("messages")
    if not isinstance(messages, list) or not messages:
        raise _invalid(
            "messages",
            "Invalid 'messages': expected an array with minimum length 1.",
            "empty_array",
        )
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            supported = ", ".join(f"'{name}'" for name in ROLES)
            raise _invalid(
                f"messages[{at}].role",
                f"Invalid value: '{role}'. Supported values are: {supported}.",
                "invalid_value",
            )
        _check_content(message.get("content"), f"messages[{at}].content")


def _check_content(content: Any, name: str) -> None:
    is_parts = isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text", ""), str) for part in content
    )
    if not (content is None or isinstance(content, str) or is_parts):
        raise _wrong_type(name, "one of a string or array of objects")


def _check_prompt(prompt: Any) -> None:
    if prompt is None:
        raise _missing("prompt")
    if not isinstance(prompt, (str, list)):
        raise _wrong_type("prompt", "one of a string or array")


def _check_stop(stop: Any) -> None:
    is_list = isinstance(stop, list) and all(isinstance(one, str) for one in stop)
    if not (stop is None or isinstance(stop, str) or (is_list and len(stop) <= 4)):
        raise _wrong_type("stop", "one of a string or array of at most 4 strings")


def _check_range(body: Mapping[str, Any], name: str, kind: type, low: float, high: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        wanted = "an integer" if kind is int else "a decimal"
        raise _wrong_type(name, wanted)
    if not low <= value <= high:
        raise _invalid(
            name, f"Invalid '{name}': expected a value from {low} to {high}, but got {value}."
        )


def _missing(param: str) -> Refusal:
    return _invalid(param, f"Missing required parameter: '{param}'.", "missing_required_parameter")


def _wrong_type(param: str, wanted: str) -> Refusal:
    return _invalid(param, f"Invalid type for '{param}': expected {wanted}.", "invalid_type")


def _invalid(param: str, message: str, code: str | None = None) -> Refusal:
    return Refusal(status=400, message=message, param=param, code=code)


def unsupported_parameter(param: str, instead: str = "") -> Refusal:
    """What a reasoning model answers to a parameter that it does not take."""
    hint = f" Use '{instead}' instead." if instead else ""
    return _invalid(
        param,
        f"Unsupported parameter: '{param}' is not supported with this model.{hint}",
        "unsupported_parameter",
    )


def unsupported_value(param: str, value: str, hint: str = "") -> Refusal:
    """What a model answers to a parameter that it takes, but not with this value."""
    return _invalid(
        param,
        f"Unsupported value: '{param}' does not support {value} with this model.{hint}",
        "unsupported_value",
    )


TABLE: dict[str, tuple[str, Refusal]] = {
    "400": (
        "a request that is not understood",
        _invalid("messages", "Invalid value for 'messages'.", "invalid_value"),
    ),
    "400-context": (
        "more tokens than the model can take",
        _invalid(
            "messages",
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 9001 tokens. Please reduce the length of the messages.",
            "context_length_exceeded",
        ),
    ),
    "401": ("a wrong key, repeated masked", wrong_key("")),
    "403": (
        "a key that may not",
        Refusal(
            status=403,
            message="Country, region, or territory not supported",
            type="request_forbidden",
            code="unsupported_country_region_territory",
        ),
    ),
    "404": ("a model that is not there", unknown_model("")),
    "413": (
        "a request too large",
        Refusal(status=413, message="Request too large.", code="request_too_large"),
    ),
    "429": (
        "rate limit reached; retry_after is sent as it is",
        Refusal(
            status=429,
            message="Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1.",
            type="requests",
            code="rate_limit_exceeded",
        ),
    ),
    "429-quota": (
        "the money is spent: a 429 that no waiting mends",
        Refusal(
            status=429,
            message="You exceeded your current quota, please check your plan and billing details. "
            "For more information on this error, read the docs: "
            "https://platform.openai.com/docs/guides/error-codes/api-errors.",
            type="insufficient_quota",
            code="insufficient_quota",
        ),
    ),
    "429-tokens": (
        "more tokens than a key may send in a minute: a 429 that no other key mends",
        Refusal(
            status=429,
            message="Request too large for gpt-4o in organization org-1 on tokens per min (TPM): "
            "Limit 30000, Requested 62435. The input or output tokens must be reduced in order to "
            "run successfully.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    "413-tokens": (
        "the same by another status, as Groq tells it",
        Refusal(
            status=413,
            message="Request too large for model `m` in organization `org_1` on tokens per minute (TPM): "
            "Limit 6000, Requested 12432, please reduce your message size and try again.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    "500": (
        "an internal error",
        Refusal(
            status=500,
            message="The server had an error while processing your request. Sorry about that!",
            type="server_error",
        ),
    ),
    "503": (
        "no capacity",
        Refusal(
            status=503,
            message="The engine is currently overloaded, please try again later",
            type="service_unavailable",
        ),
    ),
    "529": (
        "overloaded, a status outside the standard",
        Refusal(status=529, message="Overloaded", type="overloaded_error"),
    ),
}
"""What each refusing behaviour stands for, and what it answers."""
