"""Well-formed replies: what an OpenAI-compatible server answers when nothing is wrong."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.fake_upstream.wire import Item, Pause

_TOKEN = re.compile(r"\s*(?:[A-Za-z0-9_]+|\S)|\s+")


def tokens_of(text: str) -> list[str]:
    """`text` cut into words and single characters, which joined give it back.

    Chinese is cut at every character and an emoji of several code points is cut inside.
    """
    return _TOKEN.findall(text)


def token_count(text: str) -> int:
    """The count that `usage` reports for `text`."""
    return len(tokens_of(text))


class Reply(Protocol):
    """What a behaviour sends, or spoils."""

    @property
    def duration_s(self) -> float:
        """How long the reply takes after the latency."""

    def whole(self) -> dict[str, Any]:
        """The body of the reply that is not streamed."""

    def script(self) -> list[Item]:
        """The entries of the stream in order, pauses included."""


@dataclass(frozen=True)
class Listing:
    """A reply that is just an object: the models."""

    payload: dict[str, Any]
    duration_s: float = 0.0

    def whole(self) -> dict[str, Any]:
        return dict(self.payload)

    def script(self) -> list[Item]:
        return []


@dataclass(frozen=True)
class Choice:
    """One of the `n` answers."""

    index: int
    pieces: Sequence[str]
    finish_reason: str


@dataclass(frozen=True, kw_only=True)
class Completion:
    """An answer of `/chat/completions`, or of `/completions` where `chat` is false."""

    number: int
    model: str
    chat: bool
    choices: Sequence[Choice]
    usage: dict[str, Any]
    include_usage: bool
    ttft_s: float
    delay_s: float
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def duration_s(self) -> float:
        return self.ttft_s + self.delay_s * max(0, self._rounds - 1)

    @property
    def _rounds(self) -> int:
        return max(len(choice.pieces) for choice in self.choices)

    def whole(self) -> dict[str, Any]:
        choices = []
        for choice in self.choices:
            text = "".join(choice.pieces)
            said = {"message": _message(text)} if self.chat else {"text": text}
            choices.append(_choice(choice.index, said, choice.finish_reason))
        return {**self._frame("chat.completion", choices), "usage": dict(self.usage)}

    def script(self) -> list[Item]:
        items: list[Item] = []
        if self.chat:
            opening = {"role": "assistant", "content": "", "refusal": None}
            items += [self._chunk(choice.index, opening) for choice in self.choices]
        for turn in range(self._rounds):
            if wait_s := self.delay_s if turn else self.ttft_s:
                items.append(Pause(wait_s))
            for choice in self.choices:
                if turn < len(choice.pieces):
                    items.append(self._chunk(choice.index, {"content": choice.pieces[turn]}))
        items += [self._chunk(choice.index, {}, choice.finish_reason) for choice in self.choices]
        if self.include_usage:
            items.append({**self._frame("chat.completion.chunk", []), "usage": dict(self.usage)})
        return [*items, "[DONE]"]

    def _chunk(
        self, index: int, delta: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        said = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        payload = self._frame("chat.completion.chunk", [_choice(index, said, finish_reason)])
        return {**payload, "usage": None} if self.include_usage else payload

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-fake{self.number:06}",
            "object": kind if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_fake",
            "choices": choices,
        }


def compose_completion(
    body: Mapping[str, Any], *, number: int, chat: bool, options: Mapping[str, Any]
) -> Completion:
    """The well-formed answer to a validated request body."""
    prompt = _last_input(body["messages"]) if chat else _prompt(body["prompt"])
    choices, spent = [], 0
    for index in range(body.get("n") or 1):
        text = options["text"] or f"Echo{f' {index + 1}' if index else ''}: {prompt}"
        pieces, finish_reason = _generate(text, body, wanted=options["tokens"])
        spent += len(pieces)
        echoed = tokens_of(prompt) if body.get("echo") and not chat else []
        choices.append(Choice(index, [*echoed, *pieces], finish_reason))
    given = "".join(map(_text, body["messages"])) if chat else prompt
    streams = body.get("stream_options") or {}
    return Completion(
        number=number,
        model=body["model"],
        chat=chat,
        choices=choices,
        usage=_usage(token_count(given), spent),
        include_usage=bool(streams.get("include_usage")),
        ttft_s=options["ttft_ms"] / 1000,
        delay_s=options["delay_ms"] / 1000,
    )


def _generate(text: str, body: Mapping[str, Any], wanted: int) -> tuple[list[str], str]:
    """The tokens of `text`, made `wanted` many if that is not 0, within the caller's limits."""
    pieces = tokens_of(text)
    if wanted:
        pieces = [*pieces[:wanted], *(f" word{i}" for i in range(len(pieces), wanted))]
    stops = body.get("stop") or []
    text = "".join(pieces)
    found = [
        at
        for stop in ([stops] if isinstance(stops, str) else stops)
        if (at := text.find(stop)) >= 0
    ]
    if found:
        pieces = tokens_of(text[: min(found)])
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None and limit < len(pieces):
        return pieces[:limit], "length"
    return pieces, "stop"


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "refusal": None, "annotations": []}


def _choice(index: int, said: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, **said, "logprobs": None, "finish_reason": finish_reason}


def _last_input(messages: Sequence[Mapping[str, Any]]) -> str:
    asked = [message for message in messages if message["role"] == "user"]
    return _text((asked or messages)[-1])


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or f"[{part.get('type')}]" for part in content)


def _prompt(prompt: str | Sequence[str]) -> str:
    return prompt if isinstance(prompt, str) else "".join(map(str, prompt))


def model_card(model: str) -> dict[str, Any]:
    """One entry of the model list."""
    owner = "openai" if model.startswith(("gpt", "o3")) else "fake-upstream"
    return {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": owner}
