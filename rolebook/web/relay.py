"""Answers in the shape that programs expect of the OpenAI API, whatever the upstream that gave them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from rolebook.core.completion import Endpoint, Received
from rolebook.core.session import new_id

_OBJECTS = {"chat": "chat.completion", "completions": "text_completion"}
_PIECES = {"chat": "chat.completion.chunk", "completions": "text_completion"}
END = b"data: [DONE]\n\n"
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ascii_encoder = json.JSONEncoder(separators=(",", ":"))


class Relay:
    """One answer on its way to a program. The ``model`` in it is the one that was asked for: the persona.

    Arguments:
        endpoint: the one that was called.
        wants_usage: whether a stream shall tell its usage at the end.
    """

    def __init__(self, model: str, endpoint: Endpoint, *, wants_usage: bool) -> None:
        self._endpoint = endpoint
        self._frame: dict[str, Any] = {"model": model, "object": _PIECES[endpoint]}
        self._model = model
        self._wants_usage = wants_usage
        self.has_said = False
        """Whether anything of an answer has been passed on, beyond that there will be one."""
        self._begun: set[int] = set()
        self._held: list[bytes] = []
        self._usage: Mapping[str, Any] | None = None

    def whole(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """The answer in one piece, from the upstream's exact reply."""
        choices = [self._whole_choice(choice) for choice in reply["choices"]]
        frame = {"id": _new_id(self._endpoint), "created": int(time.time())}
        own = {"object": _OBJECTS[self._endpoint], "model": self._model, "choices": choices}
        return {**frame, **reply, **own}

    def pieces(self, received: Received) -> bytes:
        """The events for what has arrived. That an answer has ended is held back until it is logged."""
        return b"".join([self._event(payload) for payload in received.payloads])

    def ending(self) -> bytes:
        """The events that end a stream whose answer is logged."""
        events = self._held
        if self._wants_usage and self._usage:
            events.append(_event({**self._frame, "choices": [], "usage": self._usage}))
        return b"".join([*events, END])

    def _event(self, payload: Mapping[str, Any]) -> bytes:
        if "id" not in self._frame:
            self._frame["id"] = payload.get("id") or _new_id(self._endpoint)
            self._frame["created"] = payload.get("created") or int(time.time())
        self._usage = payload.get("usage") or self._usage
        going, ending = [], []
        for position, choice in enumerate(payload.get("choices") or ()):
            piece = self._piece(choice, choice.get("index", position))
            has_said = self._says(piece)
            self.has_said = self.has_said or has_said
            if not piece.get("finish_reason"):
                going.append(piece)
                continue
            if has_said:
                going.append({**piece, "finish_reason": None})
                piece = self._nothing_said(piece)
            ending.append(piece)
        frame = {**payload, **self._frame}
        frame.pop("usage", None)
        if self._wants_usage:
            frame["usage"] = None
        if ending:
            self._held.append(_event({**frame, "choices": ending}))
        return _event({**frame, "choices": going}) if going else b""

    def _piece(self, choice: Mapping[str, Any], index: int) -> dict[str, Any]:
        """A piece of one answer, in the shape of the endpoint that was called."""
        rest = {
            name: value
            for name, value in choice.items()
            if name not in ("delta", "message", "text", "index")
        }
        rest.setdefault("finish_reason", None)
        said = choice.get("delta") or _as_delta(choice.get("message") or {})
        if self._endpoint == "completions":
            text = choice.get("text") or said.get("content") or ""
            return {"index": index, "text": text, **_fitting(rest, is_fit="text" in choice)}
        is_chat = "text" not in choice
        delta = dict(said) if is_chat else {"content": choice["text"]}
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", **delta}
        return {"index": index, "delta": delta, **_fitting(rest, is_fit=is_chat)}

    def _says(self, piece: Mapping[str, Any]) -> bool:
        delta = piece.get("delta") or {}
        return bool(piece.get("text")) or any(delta[name] for name in delta if name != "role")

    def _nothing_said(self, piece: Mapping[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {"text": ""} if self._endpoint == "completions" else {"delta": {}}
        logprobs = {"logprobs": None} if "logprobs" in piece else {}
        return {**piece, **said, **logprobs}

    def _whole_choice(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        rest = {name: value for name, value in choice.items() if name not in ("message", "text")}
        if self._endpoint == "chat" and "message" not in choice:
            message = {"role": "assistant", "content": choice.get("text", "")}
            return {**_fitting(rest, is_fit=False), "message": message}
        if self._endpoint == "completions" and "text" not in choice:
            text = (choice.get("message") or {}).get("content") or ""
            return {**_fitting(rest, is_fit=False), "text": text}
        return choice


def _as_delta(message: Mapping[str, Any]) -> dict[str, Any]:
    """A whole message as the one delta of it."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return dict(message)
    return {**message, "tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]}


def _fitting(rest: dict[str, Any], *, is_fit: bool) -> dict[str, Any]:
    """Probabilities have another shape at the other endpoint, so that they are left out there."""
    if not is_fit and rest.get("logprobs"):
        rest["logprobs"] = None
    return rest


def _new_id(endpoint: Endpoint) -> str:
    return f"{'chatcmpl' if endpoint == 'chat' else 'cmpl'}-{new_id()}"


def _event(payload: Mapping[str, Any]) -> bytes:
    try:
        return b"data: " + _encoder.encode(payload).encode() + b"\n\n"
    except UnicodeEncodeError:
        # Some servers cut a character in two: as escapes its halves can be put together again.
        return b"data: " + _ascii_encoder.encode(payload).encode() + b"\n\n"


def error_event(body: Mapping[str, Any]) -> bytes:
    """The event that ends a stream which failed; clients raise it."""
    return _event(body)
