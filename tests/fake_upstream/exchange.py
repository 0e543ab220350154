"""The registry of behaviours, and what each of them is given to work with."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tests.fake_upstream.refusal import Refusal
from tests.fake_upstream.reply import Reply
from tests.fake_upstream.wire import (
    EVENT_STREAM,
    JSON,
    Item,
    Pause,
    Steps,
    chunked,
    dump,
    encode,
    frames,
    head,
    message,
    sse,
)

Kind = Literal["whole", "told", "refused", "broken", "silent", "flood"]
"""What a client should make of a behaviour.

whole: the same text as `ok`, however odd the way there.  told: an answer of another kind, to be
shown as what it is.  refused: an error before any answer.  broken: unusable, or over before its end.
silent: only a timeout ends it.  flood: more than anyone should take.
"""

COMMON_OPTIONS: Mapping[str, Any] = {
    "text": "",
    "tokens": 0,
    "latency_ms": 0.0,
    "ttft_ms": 0.0,
    "delay_ms": 0.0,
}
"""What every behaviour takes, with its defaults; an empty `text` says back the last input."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request on its way to its reply."""

    number: int
    target: str
    api_key: str | None
    model: str
    streams: bool
    body: Mapping[str, Any]
    options: Mapping[str, Any]
    compose: Callable[[Mapping[str, Any], Mapping[str, Any]], Reply]
    max_wait_s: float
    other_origin: str

    def reply(self, **options: Any) -> Reply:
        """The well-formed reply to this request, with `options` in place of its own."""
        return self.compose(self.body, {**self.options, **options})

    def reply_to(self, **parameters: Any) -> Reply:
        """The well-formed reply to this request, had it these `parameters`."""
        return self.compose({**self.body, **parameters}, self.options)

    def headers(self, content_type: str, **more: str) -> dict[str, str]:
        """The headers of every reply; underscores in the names of `more` become hyphens."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {**common_headers(self.number, content_type), **named}

    def stream_head(self, content_type: str = EVENT_STREAM, **more: str) -> bytes:
        """The head of a chunked reply, by default of an event stream."""
        more = {"transfer_encoding": "chunked", **more}
        return head(200, self.headers(content_type, cache_control="no-cache", **more))

    def refuse(self, refusal: Refusal) -> Steps:
        """The steps of an error reply."""
        return refuse(self.number, refusal)


def common_headers(number: int, content_type: str) -> dict[str, str]:
    """The headers of the reply to request `number`."""
    return {"content-type": content_type, "x-request-id": f"req_fake{number:06}"}


def refuse(number: int, refusal: Refusal) -> Steps:
    """The steps of the error reply to request `number`."""
    headers = {**common_headers(number, JSON), **refusal.headers}
    yield message(refusal.status, headers, encode(dump(refusal.payload)))


Behave = Callable[[Exchange], Steps]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A behaviour that can be asked for by its name."""

    name: str
    kind: Kind
    description: str
    options: Mapping[str, Any]
    """Its own options and the common ones, with their defaults; a default gives the type."""
    behave: Behave = field(repr=False)


REGISTRY: dict[str, Fault] = {}

B = TypeVar("B", bound=Behave)


def register(name: str, kind: Kind, description: str, **options: Any) -> Callable[[B], B]:
    """Enter a behaviour under `name`; it may be entered under several."""

    def enter(behave: B) -> B:
        known = {**COMMON_OPTIONS, **options}
        REGISTRY[name] = Fault(
            name=name, kind=kind, description=description, options=known, behave=behave
        )
        return behave

    return enter


def answer(
    x: Exchange,
    *,
    whole: dict[str, Any] | str | bytes | None = None,
    items: Iterable[Item] | None = None,
    event: Callable[[str], bytes] = sse,
) -> Steps:
    """The steps of a reply with status 200: `whole`, or `items` where a stream was asked for.

    Each is the well-formed one by default.
    """
    reply = x.reply()
    if x.streams:
        yield x.stream_head()
        yield from chunked(frames(reply.script() if items is None else items, event))
    else:
        yield Pause(reply.duration_s)
        yield message(200, x.headers(JSON), body_of(reply.whole() if whole is None else whole))


def body_of(whole: dict[str, Any] | str | bytes) -> bytes:
    """An object or JSON text as the bytes of a body."""
    if isinstance(whole, bytes):
        return whole
    return encode(whole if isinstance(whole, str) else dump(whole))


Payload = dict[str, Any]


def choices_of(payload: Payload) -> list[Payload]:
    """The choices of a whole reply or of one event."""
    choices: list[Payload] = payload.get("choices", [])
    return choices


def said_in(choice: Payload) -> Payload:
    """Where a choice holds what was said: its message, its delta, or itself."""
    for name in ("message", "delta"):
        if name in choice:
            said: Payload = choice[name]
            return said
    return choice


def set_text(choice: Payload, text: object) -> None:
    """Replace what a choice of either endpoint said."""
    said_in(choice)["text" if "text" in choice else "content"] = text


def has_text(item: Item) -> bool:
    """Whether this entry of a stream brings text of the answer."""
    return isinstance(item, dict) and any(
        choice.get("text") or choice.get("delta", {}).get("content") for choice in choices_of(item)
    )


def split(items: list[Item], after: int) -> tuple[list[Item], list[Item]]:
    """`items` in two: with `after` pieces of text in the first, and at least one in the second."""
    texts = [at for at, item in enumerate(items) if has_text(item)]
    at = texts[min(after, len(texts) - 1)] if texts else 0
    return items[:at], items[at:]
