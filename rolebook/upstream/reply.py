"""What a reply says: JSON values to deltas and one completion, with every field checked before it is believed.

The shape is that of OpenAI's chat completions and completions, https://platform.openai.com/docs/api-reference/chat,
with what compatible servers add to it (``reasoning_content`` and ``reasoning``, content as a list of parts).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from rolebook.core.completion import Choice, Completion, Delta, Endpoint, Received, Usage
from rolebook.core.errors import UpstreamReplyError
from rolebook.upstream.body import OTHER_ANSWERS, REASONING_FIELDS, Pieces, Whole, broken_off

Kind = Literal["text", "reasoning", "refusal"]

_MAX_TOKENS = 10**12
#: So xAI counts: ticks to a dollar.
_TICKS = 1e10
_MAX_COST = 10**6
_CHOICE_FIELDS = ("delta", "message", "text", "index", "finish_reason")
_PLAIN_CHOICE = frozenset({"delta", "index", "finish_reason"})
_ONLY_CONTENT = frozenset({"content"})
_encoder = json.JSONEncoder(ensure_ascii=False)


class ReplyFold:
    """Folds what arrives into deltas, and in the end into one completion.

    Arguments:
        choices: how many answers were asked for.
    """

    def __init__(self, endpoint: Endpoint, *, choices: int = 1) -> None:
        self._endpoint = endpoint
        self._wanted = choices
        self._choices: dict[int, _ChoiceFold] = {}
        self._frame: dict[str, Any] = {}
        self._whole: Mapping[str, Any] | None = None
        self._is_ended = False
        self._is_in_one_piece = False

    @property
    def is_answered(self) -> bool:
        """Whether all answers have come and said why they ended; what then breaks does not matter any more."""
        return len(self._choices) >= self._wanted and self._is_finished

    @property
    def _is_finished(self) -> bool:
        """Whether there is an answer, and each that there is has said why it ended."""
        reasons = [choice.finish_reason for choice in self._choices.values()]
        return bool(reasons) and all(reasons)

    @property
    def told(self) -> tuple[Usage, float | None]:
        """The usage and the cost that an answer tells which has come to its end; of any other they are unknown."""
        if not (self._is_in_one_piece or self._is_ended or self._is_finished):
            return Usage(), None
        usage = self._frame.get("usage")
        return read_usage(usage), read_cost(usage)

    def arrived(self) -> tuple[Choice, ...]:
        """What has come so far of each answer that says anything, without the reason why it ends."""
        folds = [choice for _, choice in sorted(self._choices.items())]
        return tuple(replace(fold.choice, finish_reason=None) for fold in folds if fold.has_said)

    def add(self, item: Whole | Pieces) -> Iterator[Delta]:
        """What ``item`` brings that is new. What came before something that cannot be used is not lost with it.

        Raises UpstreamReplyError, or FailedReply for a report of failure.
        """
        deltas: list[Delta] = []
        problem = self._take(item, [], deltas)
        yield from deltas
        if problem is not None:
            raise problem

    def relay(self, item: Whole | Pieces) -> Iterator[Received]:
        """What ``item`` brings, as it came. Raises as ``add``."""
        taken: list[Any] = []
        deltas: list[Delta] = []
        problem = self._take(item, taken, deltas)
        if taken:
            yield Received(tuple(taken), tuple(deltas))
        if problem is not None:
            raise problem

    def _take(
        self, item: Whole | Pieces, taken: list[Any], deltas: list[Delta]
    ) -> UpstreamReplyError | FailedReply | None:
        """Fold ``item``; what is taken of it, and what is new in that, is added to the lists.

        Lists, because a stream consists of thousands of pieces, and a generator for each step would cost more than
        the steps. Returns what ended it, if something did.
        """
        try:
            if isinstance(item, Pieces):
                for payload in item.payloads:
                    self._add(payload, deltas)
                    taken.append(payload)
                self._is_ended = item.is_last
            elif item.is_cut:
                self._add_begun(item.payload)
            else:
                self._add_whole(item.payload, deltas)
                if not self._choices:
                    raise no_choices()
                taken.append(item.payload)
                self._whole, self._is_ended = item.payload, True
        except (UpstreamReplyError, FailedReply) as problem:
            return problem
        return None

    def finish(self) -> Completion:
        """The completion, once nothing more will come.

        Servers that ignore ``n`` give fewer answers than they were asked for, and gateways give a finish reason to the
        first answer only; neither makes what came less complete.

        Raises UpstreamConnectionError for an answer that stopped before its end, UpstreamReplyError for one that
        ended without saying why or says nothing.
        """
        if not self._is_ended and not self._is_finished:
            raise broken_off()
        if not self._choices:
            raise no_choices()
        choices = [choice for _, choice in sorted(self._choices.items())]
        if not any(choice.finish_reason for choice in choices):
            raise UpstreamReplyError(
                "%(upstream)s ended the answer without saying why, so it may be incomplete. Try again."
            )
        if all(choice.is_empty for choice in choices):
            raise UpstreamReplyError(
                "The model answered with nothing. Try again, or word the question differently."
            )
        model = self._frame.get("model")
        usage, cost = self.told
        return Completion(
            choices=tuple(choice.choice for choice in choices),
            model=_sound(model) if isinstance(model, str) else "",
            usage=usage,
            reply=self._reply(choices) if self._whole is None else mended(self._whole),
            cost=cost,
        )

    def _add_whole(self, payload: Any, deltas: list[Delta]) -> None:
        self._is_in_one_piece = True
        try:
            self._add(payload, deltas)
        except FailedReply as reported:
            # With answers beside it, it is no refusal.
            if payload.get("choices"):
                raise no_answer(reported.error) from None
            reported.is_whole = True
            raise

    def _add_begun(self, payload: Any) -> None:
        """The answers in a reply that broke off, as far as they came; all else in it may be half of what it was.

        None of it is a delta: nobody has seen it yet, so the call may be made again.
        """
        with suppress(UpstreamReplyError, FailedReply):
            choices = payload.get("choices") if isinstance(payload, dict) else None
            for position, choice in enumerate(choices if isinstance(choices, list) else ()):
                if isinstance(choice, dict):
                    self._add_choice({**choice, "finish_reason": None}, position, [])

    def _add(self, payload: Any, deltas: list[Delta]) -> None:
        if not isinstance(payload, dict):
            raise wrong("reply", payload)
        if payload.get("error"):
            raise FailedReply(payload["error"])
        choices = payload.get("choices")
        if not isinstance(choices, list | None):
            raise wrong("choices", choices)
        for key, value in payload.items():
            if key != "choices" and (value is not None or key not in self._frame):
                self._frame[key] = value
        for position, choice in enumerate(choices or ()):
            self._add_choice(choice, position, deltas)

    def _add_choice(self, choice: Any, position: int, deltas: list[Delta]) -> None:
        if not isinstance(choice, dict):
            raise wrong("choices", choice)
        if choice.get("error"):
            raise FailedReply(choice["error"])
        index = choice.get("index", position)
        if type(index) is not int or index < 0:
            raise wrong("index", index)
        fold = self._choices.get(index)
        if fold is None:
            fold = self._choices[index] = _ChoiceFold(index)
        fold.add(choice, deltas)

    def _reply(self, choices: list[_ChoiceFold]) -> dict[str, Any]:
        kind = "chat.completion" if self._endpoint == "chat" else "text_completion"
        folded = [choice.folded(self._endpoint) for choice in choices]
        reply: dict[str, Any] = _plain({**self._frame, "object": kind, "choices": folded})
        return reply


class FailedReply(Exception):
    """The server reports a failure inside a reply that began well; ``error`` is what it says, and ``is_whole`` whether
    that is all of the reply.
    """

    def __init__(self, error: Any) -> None:
        super().__init__("a failure inside a reply")
        self.error = error
        self.is_whole = False


class _ChoiceFold:
    """One answer as it grows."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self._said: dict[Kind, list[str]] = {"text": [], "reasoning": [], "refusal": []}
        self._half: dict[Kind, str] = {}
        self._calls: list[dict[str, Any]] = []
        self._role = "assistant"
        self._reasoning_field = REASONING_FIELDS[0]
        self._message: dict[str, Any] = {}
        self._rest: dict[str, Any] = {}

    @property
    def has_said(self) -> bool:
        """Whether it has said anything in any way."""
        is_worded = any(self._said.values()) or bool(self._calls)
        return is_worded or any(self._message.get(field) for field in OTHER_ANSWERS)

    @property
    def is_empty(self) -> bool:
        """Whether it was not cut off and yet said nothing."""
        return self.finish_reason in ("stop", None) and not self.has_said

    @property
    def choice(self) -> Choice:
        """The answer, as far as it has come."""
        return Choice(
            text="".join(self._said["text"]),
            finish_reason=self.finish_reason,
            reasoning="".join(self._said["reasoning"]),
            refusal="".join(self._said["refusal"]),
            tool_calls=self._made_calls,
        )

    @property
    def _made_calls(self) -> tuple[dict[str, Any], ...]:
        calls: list[dict[str, Any]] = _plain(self._calls)
        return tuple(
            {key: value for key, value in call.items() if key != "index"} for call in calls
        )

    def folded(self, endpoint: Endpoint) -> dict[str, Any]:
        """The answer as a choice of a whole reply."""
        choice = self.choice
        said: dict[str, Any] = {"text": choice.text}
        if endpoint == "chat":
            message = {
                "role": self._role,
                "content": choice.text if self._said["text"] else None,
                **self._message,
            }
            if choice.reasoning:
                message[self._reasoning_field] = choice.reasoning
            if choice.refusal:
                message["refusal"] = choice.refusal
            if choice.tool_calls:
                message["tool_calls"] = list(choice.tool_calls)
            said = {"message": message}
        return {"index": self.index, **said, "finish_reason": self.finish_reason, **self._rest}

    def add(self, choice: Mapping[str, Any], deltas: list[Delta]) -> None:
        """What one event, or the whole reply, says of this answer; what is new goes to ``deltas``."""
        said = choice.get("delta") or choice.get("message") or {}
        if not isinstance(said, dict):
            raise wrong("message", said)
        if (
            said.keys() == _ONLY_CONTENT
            and choice.keys() <= _PLAIN_CHOICE
            and isinstance(said["content"], str)
        ):
            # Nearly every event of a stream is this and no more.
            self._say("text", said["content"], deltas)
        else:
            self._add_fields(choice, said, deltas)
        reason = choice.get("finish_reason")
        if not isinstance(reason, str | None):
            raise wrong("finish_reason", reason)
        if reason and not self.finish_reason:
            self.finish_reason = _sound(reason)
        if self.finish_reason and self._half:
            self._give_up_halves(deltas)

    def _add_fields(
        self, choice: Mapping[str, Any], said: Mapping[str, Any], deltas: list[Delta]
    ) -> None:
        """All of them, whatever the server has put there."""
        self._say("text", choice.get("text"), deltas)
        _merge(
            self._rest, {key: value for key, value in choice.items() if key not in _CHOICE_FIELDS}
        )
        rest = dict(said)
        role = rest.pop("role", None)
        self._role = role if isinstance(role, str) and role else self._role
        named = {
            name: rest.pop(name) for name in REASONING_FIELDS if isinstance(rest.get(name), str)
        }
        for name, thought in named.items():
            if thought:
                self._reasoning_field = name
                self._say("reasoning", thought, deltas)
                break  # Some servers send the same thought under both names.
        thoughts, text = _parts(rest.pop("content", None))
        self._say("reasoning", thoughts, deltas)
        self._say("text", text, deltas)
        self._say("refusal", rest.pop("refusal", None), deltas)
        self._add_calls(rest.pop("tool_calls", None))
        _merge(self._message, rest)

    def _say(self, kind: Kind, text: Any, deltas: list[Delta]) -> None:
        if text is None:
            return
        if not isinstance(text, str):
            raise wrong("content", text)
        if not text:
            return
        text = self._half.pop(kind, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            # Some servers cut an emoji in the middle: its second half is in the next piece.
            self._half[kind], text = text[-1], text[:-1]
        if text:
            text = _sound(text)
            self._said[kind].append(text)
            deltas.append(Delta(text, index=self.index, kind=kind))

    def _give_up_halves(self, deltas: list[Delta]) -> None:
        for kind in tuple(self._half):
            del self._half[kind]
            self._said[kind].append("\ufffd")
            deltas.append(Delta("\ufffd", index=self.index, kind=kind))

    def _add_calls(self, calls: Any) -> None:
        if not isinstance(calls, list | None):
            raise wrong("tool_calls", calls)
        for piece in calls or ():
            if not isinstance(piece, dict):
                raise wrong("tool_calls", piece)
            piece = dict(piece)
            _merge(self._call(piece.pop("index", None), piece.get("id")), piece)

    def _call(self, index: Any, call_id: Any) -> dict[str, Any]:
        """The call that a piece belongs to: by its index, else by its id, else the newest."""
        for call in self._calls:
            if index is not None and call["index"] == index:
                return call
            if index is None and call_id and call_id in (call.get("id") or ()):
                return call
        if index is None and not call_id and self._calls:
            return self._calls[-1]
        self._calls.append({"index": index})
        return self._calls[-1]


class _Strings(list[str]):
    """A string that arrives in pieces."""


def _merge(known: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Add the fields of one event to those of the events before it: texts and lists grow, the rest is replaced."""
    for key, value in new.items():
        old = known.get(key)
        if value is None:
            known.setdefault(key, None)
        elif isinstance(value, str):
            known[key] = old if isinstance(old, _Strings) else _Strings()
            known[key].append(value)
        elif isinstance(value, list) and isinstance(old, list):
            old.extend(value)
        elif isinstance(value, dict):
            known[key] = old if isinstance(old, dict) else {}
            _merge(known[key], value)
        else:
            known[key] = list(value) if isinstance(value, list) else value


def _plain(value: Any, key: str = "") -> Any:
    """``value`` as JSON would have it had it come whole."""
    if isinstance(value, _Strings):
        # Pieces that are all the same are a value which every event repeats, unless they are a call's arguments.
        is_repeated = len(set(value)) == 1 and key != "arguments"
        return _sound(value[0] if is_repeated else "".join(value))
    if isinstance(value, str):
        return _sound(value)
    if isinstance(value, dict):
        return {_sound(name): _plain(child, name) for name, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    return value


def mended(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON object that came whole, as it came; only where a text in it is no Unicode is each of them looked at."""
    try:
        _encoder.encode(whole).encode()
    except UnicodeEncodeError:
        plain: Mapping[str, Any] = _plain(whole)
        return plain
    return whole


def _sound(text: str) -> str:
    """``text`` in which halves of characters that belong together are joined and lone ones are U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _parts(content: Any) -> tuple[str | None, Any]:
    """The reasoning and the text of a content that may be a list of parts."""
    if not isinstance(content, list):
        return None, content
    thoughts, texts = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "thinking":
            thoughts.append(str(_parts(part.get("thinking"))[1] or ""))
        elif kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise wrong("content", part)
    return "".join(thoughts), "".join(texts)


def read_usage(usage: Any) -> Usage:
    """Token counts as far as they can be believed: whole numbers from 0; anything else is unknown.

    A total that is not told is that of the others.
    """
    if not isinstance(usage, dict):
        return Usage()
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    total = _count(usage.get("total_tokens"))
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        cached_tokens=_count(_detail(usage, "prompt_tokens_details", "cached_tokens")),
        reasoning_tokens=_count(_detail(usage, "completion_tokens_details", "reasoning_tokens")),
    )


def read_cost(usage: Any) -> float | None:
    """US dollars that the server itself reports with its usage, as LiteLLM, OpenRouter and xAI do.

    Nothing is no figure: it stands there for models whose price the server does not know either, and for calls that
    are billed elsewhere. Where those are made with a key of one's own that lies at OpenRouter, the cost is but a fee,
    and what the model costs stands beside it.
    """
    if not isinstance(usage, dict):
        return None
    cost = _dollars(usage.get("cost"))
    if cost is None:
        cost = _dollars(usage.get("cost_in_usd_ticks"), unit=_TICKS)
    if usage.get("is_byok") is True:
        inference = _dollars(_detail(usage, "cost_details", "upstream_inference_cost"))
        return None if inference is None else inference + (cost or 0.0)
    return cost


def _dollars(value: Any, *, unit: float = 1.0) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / unit if 0 < value <= _MAX_COST * unit else None


def _detail(usage: Mapping[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return details.get(name) if isinstance(details, dict) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else None


def no_answer(error: Any) -> UpstreamReplyError:
    """The error for a whole reply that reports one."""
    return UpstreamReplyError(
        "%(upstream)s reported an error instead of an answer. Try again.", detail=reason_of(error)
    )


def no_choices() -> UpstreamReplyError:
    """The error for a reply without a single answer in it."""
    return UpstreamReplyError(
        "%(upstream)s sent a reply without an answer in it (no choices). Try again."
    )


def wrong(field: str, value: Any) -> UpstreamReplyError:
    """The error for a field of a reply that is not of the type it must be."""
    return UpstreamReplyError(
        "%(upstream)s did not send an OpenAI-compatible reply: %(field)s cannot be %(type)s.",
        field=field,
        type="null" if value is None else type(value).__name__,
    )


def reason_of(body: Any) -> str:
    """What a server says went wrong, out of the many shapes in which servers say it."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(reason_of, body[:5])))
    if not isinstance(body, dict):
        return ""
    for name in ("message", "error", "detail", "msg", "error_description"):
        if body.get(name):
            where = ".".join(map(str, body["loc"])) if isinstance(body.get("loc"), list) else ""
            return f"{where}: {reason_of(body[name])}" if where else reason_of(body[name])
    return ""
