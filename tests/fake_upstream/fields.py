"""Behaviours that spoil or vary the fields of the well-formed answer, and the order of its events."""

from collections.abc import Callable
from typing import TypeVar

from tests.fake_upstream.exchange import (
    Exchange,
    Kind,
    Payload,
    answer,
    choices_of,
    has_text,
    register,
    said_in,
    set_text,
    split,
)
from tests.fake_upstream.wire import Item, Steps, dump

USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
ERROR: Payload = {
    "error": {
        "message": "The server had an error while processing your request. Sorry about that!",
        "type": "server_error",
        "param": None,
        "code": None,
    }
}

EditPayload = TypeVar("EditPayload", bound=Callable[[Payload], None])
EditItems = TypeVar("EditItems", bound=Callable[[list[Item]], list[Item]])


def each_payload(name: str, kind: Kind, description: str) -> Callable[[EditPayload], EditPayload]:
    """Enter an edit of the whole reply, or of every event of the stream."""

    def enter(edit: EditPayload) -> EditPayload:
        register(name, kind, description)(lambda x: _edited(x, edit))
        return edit

    return enter


def each_choice(name: str, kind: Kind, description: str) -> Callable[[EditPayload], EditPayload]:
    """Enter an edit of every choice of the whole reply, or of every event of the stream."""

    def enter(edit: EditPayload) -> EditPayload:
        def edit_choices(payload: Payload) -> None:
            for choice in choices_of(payload):
                edit(choice)

        each_payload(name, kind, description)(edit_choices)
        return edit

    return enter


def stream_only(name: str, kind: Kind, description: str) -> Callable[[EditItems], EditItems]:
    """Enter a change of the stream's entries; the whole reply is that of `ok`."""

    def enter(change: EditItems) -> EditItems:
        def behave(x: Exchange) -> Steps:
            return answer(x, items=change(x.reply().script()) if x.streams else None)

        register(name, kind, description)(behave)
        return change

    return enter


def _edited(x: Exchange, edit: Callable[[Payload], None]) -> Steps:
    whole, items = x.reply().whole(), x.reply().script()
    for payload in [whole, *(item for item in items if isinstance(item, dict))]:
        edit(payload)
    return answer(x, whole=whole, items=items)


@each_payload("empty-choices", "broken", "`choices` is an empty list")
def empty_choices(payload: Payload) -> None:
    payload["choices"] = []


@each_payload("null-choices", "broken", "`choices` is null")
def null_choices(payload: Payload) -> None:
    payload["choices"] = None


@each_payload("no-choices", "broken", "there are no `choices`")
def no_choices(payload: Payload) -> None:
    payload.pop("choices", None)


@register("dup-keys", "broken", "`choices` twice in each object, the second one empty")
def dup_keys(x: Exchange) -> Steps:
    items = [_doubled(item) if isinstance(item, dict) else item for item in x.reply().script()]
    return answer(x, whole=_doubled(x.reply().whole()), items=items)


def _doubled(payload: Payload) -> str:
    return dump(payload)[:-1] + ',"choices":[]}'


@register(
    "error-200",
    "broken",
    "an error object with status 200, of another one if it has a `code`",
    code=0,
)
def error_200(x: Exchange) -> Steps:
    told: Payload = {"error": {**ERROR["error"], "code": x.options["code"]}}
    error = told if x.options["code"] else ERROR
    return answer(x, whole=error, items=[error, "[DONE]"])


@register("error-mid", "broken", "an error object after some text", after=2)
def error_mid(x: Exchange) -> Steps:
    before, _ = split(x.reply().script(), x.options["after"])
    return answer(x, whole={**x.reply().whole(), **ERROR}, items=[*before, ERROR])


@register(
    "wrong-type",
    "broken",
    "`field` is of another type: text, message, choice, choices, finish_reason or index",
    field="text",
)
def wrong_type(x: Exchange) -> Steps:
    return _edited(x, lambda payload: _mistype(payload, x.options["field"]))


def _mistype(payload: Payload, field: str) -> None:
    if field == "choices":
        payload["choices"] = {"0": payload.get("choices")}
    elif field == "choice":
        payload["choices"] = ["text"]
    for choice in choices_of(payload) if field not in ("choices", "choice") else ():
        if field == "text":
            set_text(choice, {"value": 42})
        elif field == "message":
            choice.update(dict.fromkeys({"message", "delta"} & choice.keys(), "text"))
        else:
            choice[field] = ["stop"]


@register("no-usage", "whole", "there is no `usage`, asked for or not")
def no_usage(x: Exchange) -> Steps:
    whole, items = x.reply().whole(), x.reply_to(stream_options=None).script()
    whole.pop("usage", None)
    return answer(x, whole=whole, items=items)


@each_payload("usage-null", "whole", "`usage` is null")
def usage_null(payload: Payload) -> None:
    payload["usage"] = None


@each_payload("usage-nulls", "whole", "`usage` holds nothing but nulls")
def usage_nulls(payload: Payload) -> None:
    if payload.get("usage"):
        payload["usage"] = dict.fromkeys(USAGE)


@each_payload("usage-wrong", "whole", "`usage` holds a negative number, a word and 1e300")
def usage_wrong(payload: Payload) -> None:
    if payload.get("usage"):
        payload["usage"] = dict(zip(USAGE, (-3, "many", 1e300), strict=True))


@register("usage-each", "whole", "every event carries the usage so far")
def usage_each(x: Exchange) -> Steps:
    items, spent = x.reply_to(stream_options=None).script(), 0
    for item in items:
        if isinstance(item, dict):
            spent += has_text(item)
            item["usage"] = dict(zip(USAGE, (7, spent, 7 + spent), strict=True))
    return answer(x, items=items)


@register("usage-in-finish", "whole", "the usage comes with the finish reason, not by itself")
def usage_in_finish(x: Exchange) -> Steps:
    items = x.reply_to(stream_options=None).script()
    for item in items:
        if isinstance(item, dict) and _finishes(item):
            item["usage"] = x.reply().whole()["usage"]
    return answer(x, items=items)


def _finishes(item: Item) -> bool:
    return isinstance(item, dict) and any(choice["finish_reason"] for choice in choices_of(item))


@each_choice("finish-odd", "told", "a finish reason that nobody documented")
def finish_odd(choice: Payload) -> None:
    choice["finish_reason"] = choice["finish_reason"] and "eos"


@each_choice("no-finish", "told", "no finish reason is ever given")
def no_finish(choice: Payload) -> None:
    choice["finish_reason"] = None


@each_choice("role-each", "whole", "every delta names the role")
def role_each(choice: Payload) -> None:
    if "delta" in choice:
        choice["delta"]["role"] = "assistant"


@each_choice("null-content", "whole", "`content` is null where there is no text")
def null_content(choice: Payload) -> None:
    if not choice.get("delta", {"content": "text"}).get("content"):
        choice["delta"]["content"] = None


@each_payload("extra-fields", "whole", "fields that nobody documented, at every level")
def extra_fields(payload: Payload) -> None:
    payload.update(provider="fake", x_groq={"id": "req_1"}, obfuscation="aB3", nested=[{"a": {}}])
    for choice in choices_of(payload):
        choice.update(native_finish_reason="STOP", content_filter_results={}, token_ids=[1, 2])
        said_in(choice).update(audio=None, reasoning_details=[], x_extra="extra")


@each_payload("minimal", "whole", "no field that a client could do without")
def minimal(payload: Payload) -> None:
    for name in ("id", "object", "created", "model", "system_fingerprint", "usage"):
        payload.pop(name, None)
    for choice in choices_of(payload):
        for name in ("index", "logprobs"):
            choice.pop(name, None)
        for name in ("role", "refusal", "annotations"):
            said_in(choice).pop(name, None)


@stream_only("finish-with-content", "whole", "the last text and the finish reason share an event")
def finish_with_content(items: list[Item]) -> list[Item]:
    last = next((item for item in reversed(items) if has_text(item)), None)
    if not isinstance(last, dict):
        return items
    choices_of(last)[0]["finish_reason"] = "stop"
    return [item for item in items if item is last or not _finishes(item)]


@stream_only("finish-twice", "whole", "the finish reason comes twice")
def finish_twice(items: list[Item]) -> list[Item]:
    return [again for item in items for again in ([item, item] if _finishes(item) else [item])]


@stream_only("done-junk", "whole", "text, JSON and noise after [DONE]")
def done_junk(items: list[Item]) -> list[Item]:
    texts = [item for item in items if has_text(item)]
    return [*items, *texts[:1], "not JSON", "[1]", b"no field\n\n", *items[-2:]]


@stream_only("no-done", "whole", "the stream ends in order but without [DONE]")
def no_done(items: list[Item]) -> list[Item]:
    return items[:-1]
