"""The upstream for when there is none: it needs no key and no network, and is no language model.

It goes through the same openai client as a real one, over a transport that answers inside this process. What it
answers is useful all the same: it shows what a model would have been given.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rolebook.core.message import Message
from rolebook.core.upstream import UpstreamSettings
from rolebook.upstream.call import current_call
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.upstream.tokens import count_messages, count_tokens

if TYPE_CHECKING:
    import httpx2

REHEARSAL_MODEL = "rehearsal"

_BASE_URL = "http://rehearsal.invalid/v1"
_MODEL = {"id": REHEARSAL_MODEL, "object": "model", "owned_by": "rolebook-rehearsal"}
_LONGEST_S = 2.5
"""How long a rehearsal streams at most, however much it shows."""
_MOST_CHOICES = 128
_SHOWN_CHARACTERS = 280
_SHOWN_LINES = 8
_FRAME = ("model", "messages", "prompt", "stream", "stream_options")
_PIECE = re.compile(r"\s*(?:[⺀-鿿＀-￯]{1,3}|[^\s⺀-鿿＀-￯]+)|\s+")
_CHINESE = re.compile(r"[㐀-鿿]")
_LATIN_WORD = re.compile(r"[A-Za-z]+")


def rehearsal_upstream(*, delay_s: float = 0.012) -> OpenAIUpstream:
    """The rehearsal as an upstream.

    Arguments:
        delay_s: between two pieces of a stream.
    """
    settings = UpstreamSettings(name="rehearsal", base_url=_BASE_URL, model=REHEARSAL_MODEL)
    return OpenAIUpstream(settings, transport=partial(_transport, delay_s))


def _transport(delay_s: float) -> httpx2.BaseTransport:
    import httpx2

    return httpx2.MockTransport(partial(_answer, delay_s))


def _answer(delay_s: float, request: httpx2.Request) -> httpx2.Response:
    import httpx2

    path = request.url.path.removeprefix("/v1")
    current_call().is_sent = True
    if path == "/models":
        return httpx2.Response(200, json={"object": "list", "data": [_MODEL]})
    if path == f"/models/{REHEARSAL_MODEL}":
        return httpx2.Response(200, json=_MODEL)
    if path not in ("/chat/completions", "/completions"):
        return httpx2.Response(
            404, json={"error": {"message": "The rehearsal has no such model or address."}}
        )
    answer = _Answer(json.loads(request.content), is_chat=path == "/chat/completions")
    if not answer.body.get("stream"):
        return httpx2.Response(200, json=answer.whole())
    events = _events(answer, delay_s)
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=events)


def _events(answer: _Answer, delay_s: float) -> Iterator[bytes]:
    pause_s = min(delay_s, _LONGEST_S / answer.piece_count)
    for payload in answer.pieces():
        yield f"data: {json.dumps(payload)}\n\n".encode()
        if pause_s:
            current_call().pause(pause_s)
    yield b"data: [DONE]\n\n"


class _Answer:
    """What the rehearsal says to one request."""

    def __init__(self, body: Mapping[str, Any], *, is_chat: bool) -> None:
        self.body = body
        self._is_chat = is_chat
        self._messages = _messages(body)
        n = body.get("n")
        count = n if isinstance(n, int) and 0 < n <= _MOST_CHOICES else 1
        self._texts = [self._text(index, count) for index in range(count)]
        self._pieces = [_PIECE.findall(text) for text in self._texts]

    @property
    def piece_count(self) -> int:
        """How many pieces the stream has, about."""
        return sum(map(len, self._pieces))

    def whole(self) -> dict[str, Any]:
        """The answer as one reply."""
        choices = []
        for index, text in enumerate(self._texts):
            said = (
                {"message": {"role": "assistant", "content": text}}
                if self._is_chat
                else {"text": text}
            )
            choices.append({"index": index, **said, "finish_reason": "stop"})
        return {**self._frame(), "choices": choices, "usage": self._usage()}

    def pieces(self) -> Iterator[dict[str, Any]]:
        """The answer as the events of a stream, the choices side by side."""
        for index in range(len(self._pieces) if self._is_chat else 0):
            yield self._event(index, "", None, role="assistant")
        for position in range(max(map(len, self._pieces))):
            for index, pieces in enumerate(self._pieces):
                if position < len(pieces):
                    yield self._event(index, pieces[position], None)
        for index in range(len(self._pieces)):
            yield self._event(index, "", "stop")
        if (self.body.get("stream_options") or {}).get("include_usage"):
            yield {**self._frame(), "choices": [], "usage": self._usage()}

    def _event(
        self, index: int, text: str, finish_reason: str | None, **named: str
    ) -> dict[str, Any]:
        said: dict[str, Any] = (
            {"delta": {**named, "content": text}} if self._is_chat else {"text": text}
        )
        kind = {"object": "chat.completion.chunk"} if self._is_chat else {}
        return {
            **self._frame(),
            **kind,
            "choices": [{"index": index, **said, "finish_reason": finish_reason}],
        }

    def _frame(self) -> dict[str, Any]:
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {
            "id": "rehearsal",
            "object": kind,
            "created": int(time.time()),
            "model": REHEARSAL_MODEL,
        }

    def _usage(self) -> dict[str, int]:
        prompt = count_messages(self._messages)
        completion = sum(count_tokens(text) for text in self._texts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def _text(self, index: int, count: int) -> str:
        words = _ZH if _is_chinese(_newest_input(self._messages)) else _EN
        parameters = {name: value for name, value in self.body.items() if name not in _FRAME}
        shown = [
            f"`{name}` = `{json.dumps(value, ensure_ascii=False)[:80]}`"
            for name, value in parameters.items()
        ]
        parts = [
            words["opening"]
            + (words["which"].format(index=index + 1, count=count) if count > 1 else ""),
            words["given"].format(count=len(self._messages)),
            *(_shown(message, words) for message in self._messages),
            words["parameters"].format(shown=words["comma"].join(shown))
            if shown
            else words["no_parameters"],
            words["closing"],
        ]
        return "\n\n".join(parts)


_EN = {
    "opening": "**This is a rehearsal: no language model has answered.**",
    "which": " (answer {index} of {count})",
    "given": "What a model would have been given (messages: {count}):",
    "more": "… ({count} characters in all)",
    "parameters": "Parameters: {shown}",
    "no_parameters": "No parameters.",
    "comma": ", ",
    "empty": "(empty)",
    "closing": "To talk to a real model, set `OPENAI_API_KEY`; `rolebook models` lists what runs on this computer.",
}
_ZH = {
    "opening": "**这是排练：没有任何语言模型作答。**",
    "which": "（第 {index} 个回答，共 {count} 个）",
    "given": "模型本来会收到以下 {count} 条消息：",
    "more": "……（共 {count} 个字符）",
    "parameters": "参数：{shown}",
    "no_parameters": "没有参数。",
    "comma": "，",
    "empty": "（空）",
    "closing": "要与真正的模型对话，请设置 `OPENAI_API_KEY`，或运行 `rolebook models` 查看本机上的模型服务。",
}


def _messages(body: Mapping[str, Any]) -> list[Message]:
    if "messages" in body:
        return [
            Message(entry["role"], _text_of(entry.get("content"))) for entry in body["messages"]
        ]
    return [Message("prompt", str(body.get("prompt", "")))]


def _text_of(content: Any) -> str:
    """The text of a content; of parts that are no text, what kind they are."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in content)
    return content or ""


def _newest_input(messages: Sequence[Message]) -> str:
    inputs = [message.content for message in messages if message.role in ("user", "prompt")]
    return inputs[-1] if inputs else ""


def _is_chinese(text: str) -> bool:
    return len(_CHINESE.findall(text)) > len(_LATIN_WORD.findall(text))


def _shown(message: Message, words: Mapping[str, str]) -> str:
    text = message.content[:_SHOWN_CHARACTERS]
    lines = text.splitlines()[:_SHOWN_LINES] or [words["empty"]]
    if "\n".join(lines) != message.content.rstrip("\n") and message.content:
        lines.append(words["more"].format(count=len(message.content)))
    return "\n".join((f"**{message.role}**", "", *(f"> {line}" for line in lines)))
