"""The fake upstream does what its names say, on the wire and through the real openai client."""

import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import httpx2
import openai
import pytest

from tests.fake_upstream import BEHAVIOURS, FAULTS, FakeUpstream, token_count
from tests.fake_upstream.content import NO, TEXTS, THOUGHT
from tests.fake_upstream.exchange import Exchange, register
from tests.fake_upstream.peer import Peer
from tests.fake_upstream.wire import Pause, Steps

PROMPT = "héllo 世界 👩‍👧!"
TEXT = f"Echo: {PROMPT}"
KEY = "sk-canary-0123456789abcdef"


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeUpstream]:
    with FakeUpstream(max_wait_s=10) as upstream:
        yield upstream


@pytest.fixture
def upstream(shared: FakeUpstream) -> FakeUpstream:
    shared.wait_for(lambda: shared.open_connections == 0)
    shared.reset()
    return shared


@pytest.fixture
def client(upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
    with connect(upstream) as client:
        yield client


def connect(upstream: FakeUpstream, key: str = KEY) -> openai.OpenAI:
    # Loading the system's certificates would cost 20 ms a test.
    http_client = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(
        base_url=upstream.base_url, api_key=key, max_retries=0, timeout=5, http_client=http_client
    )


def ask(client: openai.OpenAI, model: str, **parameters: Any) -> Any:
    messages = parameters.pop("messages", [{"role": "user", "content": PROMPT}])
    return client.chat.completions.create(model=model, messages=messages, **parameters)


def ask_stream(client: openai.OpenAI, model: str, **parameters: Any) -> list[Any]:
    with ask(client, model, stream=True, **parameters) as stream:
        return list(stream)


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [
        choice for chunk in chunks for choice in chunk.choices if choice.index in (index, None)
    ]
    return "".join(choice.delta.content or "" for choice in choices)


@dataclass
class Wire:
    """What came over a raw socket, read as far as `max_bytes` or `max_s`."""

    pieces: list[bytes] = field(default_factory=list)
    ending: str = ""
    """closed, reset, silent (nothing for a while) or left (there was more)."""

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def head(self) -> str:
        return self._parts[0]

    @property
    def body(self) -> bytes:
        return self._parts[1]

    @property
    def _parts(self) -> tuple[str, bytes]:
        head, rest = "HTTP/1.1 100", self.raw
        while head.startswith("HTTP/1.1 100"):
            raw_head, _, rest = rest.partition(b"\r\n\r\n")
            head = raw_head.decode("latin-1")
        body = unchunked(rest) if "transfer-encoding: chunked" in head else rest
        return head, gzip.decompress(body) if "content-encoding: gzip" in head else body

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    @property
    def headers(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.head.split("\r\n")[1:])

    @property
    def events(self) -> list[str]:
        lines = re.sub("\r\n?", "\n", self.body.decode("utf-8-sig", "replace"))
        events = [
            "\n".join(re.findall(r"^data: ?(.*)", event, re.MULTILINE))
            for event in lines.split("\n\n")
        ]
        return [event for event in events if event]

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """The whole reply, or the events of the stream up to [DONE]."""
        if self.body.lstrip(b"\xef\xbb\xbf")[:1] == b"{":
            return [json.loads(self.body.decode("utf-8-sig"))]
        return [json.loads(event) for event in takewhile(lambda e: e != "[DONE]", self.events)]

    @property
    def choices(self) -> list[dict[str, Any]]:
        return [choice for payload in self.payloads for choice in payload["choices"]]

    @property
    def said(self) -> list[dict[str, Any]]:
        return [choice.get("message") or choice["delta"] for choice in self.choices]

    @property
    def text(self) -> str:
        return "".join(said.get("content") or "" for said in self.said)

    @property
    def finish_reasons(self) -> list[str]:
        return [choice["finish_reason"] for choice in self.choices if choice["finish_reason"]]

    @property
    def usages(self) -> list[Any]:
        return [payload["usage"] for payload in self.payloads if payload.get("usage")]

    @property
    def is_whole(self) -> bool:
        """Whether this is the answer of `ok`, in order to its end."""
        return self.status == 200 and self.text == TEXT and self.ending == "closed"

    @property
    def is_stream(self) -> bool:
        return "text/event-stream" in self.head

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


def unchunked(body: bytes) -> bytes:
    """The data of the chunks so far; stops at what is no chunk."""
    data = b""
    while found := re.match(rb"([0-9a-f]+)(?:;[^\r]*)?\r\n", body):
        length = int(found[1], 16)
        data += body[found.end() : found.end() + length]
        body = body[found.end() + length + 2 :]
    return data


def request_bytes(
    model: str, *, path: str = "/v1/chat/completions", keep_alive: bool = False, **parameters: Any
) -> bytes:
    messages = [{"role": "user", "content": PROMPT}]
    body = json.dumps(
        {"model": model, "messages": messages, "prompt": PROMPT, **parameters}
    ).encode()
    connection = "keep-alive" if keep_alive else "close"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Connection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def open_socket(upstream: FakeUpstream) -> socket.socket:
    port = int(upstream.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
    return socket.create_connection(("127.0.0.1", port))


def send(
    upstream: FakeUpstream,
    data: bytes,
    *,
    max_bytes: int = 1 << 20,
    max_s: float = 5,
    silence_s: float = 2,
    is_enough: Callable[[Wire], object] = lambda wire: False,
) -> Wire:
    """What comes for `data`: to its end, or until it is enough, silent or not."""
    wire, until = Wire(), time.monotonic() + max_s
    with open_socket(upstream) as sock:
        sock.sendall(data)
        sock.settimeout(silence_s)
        try:
            while True:
                try:
                    piece, wire.ending = sock.recv(65536), "left"
                except TimeoutError:
                    piece, wire.ending = b"", "silent"
                if not piece and wire.ending == "left":
                    wire.ending = "closed"
                    return wire
                wire.pieces += [piece] if piece else []
                is_late = time.monotonic() > until
                if is_late or is_enough(wire) or sum(map(len, wire.pieces)) > max_bytes:
                    return wire
        except ConnectionResetError:
            wire.ending = "reset"
    return wire


def refused(status: int, code: str | None, **headers: str) -> Callable[[Wire], bool]:
    return lambda wire: (
        (wire.status, wire.error["code"]) == (status, code)
        and wire.headers["content-type"] == "application/json"
        and all(wire.headers[name.replace("_", "-")] == value for name, value in headers.items())
    )


def whole(wire: Wire) -> bool:
    return wire.is_whole


def partial(wire: Wire) -> bool:
    """Some of the text came, and not all of it."""
    if wire.is_stream:
        texts = [json.loads(event)["choices"][0]["delta"]["content"] for event in wire.events]
        return 0 < len("".join(texts)) < len(TEXT)
    return b'"content":"Echo' in wire.body and b"}}" not in wire.body


def label(wire: Wire) -> str:
    return wire.headers["content-type"].partition(";")[0]


def has_json(body: bytes) -> bool:
    try:
        return bool(json.loads(body))
    except ValueError:
        return False


WHOLE_ROWS: dict[str, Callable[[Wire], bool]] = {
    "crlf": lambda wire: not wire.is_stream or wire.body.count(b"\r\n\r\n") == len(wire.events),
    "cr": lambda wire: not wire.is_stream or (b"\r\r" in wire.body and b"\n" not in wire.body),
    "bom": lambda wire: wire.body.startswith(b"\xef\xbb\xbf"),
    "comments": lambda wire: not wire.is_stream or b"\n: x\n" in wire.body,
    "multiline": lambda wire: not wire.is_stream or b'data: {\ndata:  "id"' in wire.body,
    "no-space": lambda wire: not wire.is_stream or b'data:{"id"' in wire.body,
    "event-names": lambda wire: not wire.is_stream or b"event: completion.chunk" in wire.body,
    "done-no-blank": lambda wire: not wire.is_stream or wire.body.endswith(b"data: [DONE]"),
    "byte-by-byte": lambda wire: wire.raw.count(b"\r\n1\r\n") > len(wire.body) - 3,
    "split-utf8": lambda wire: b"\xe4\r\n" in wire.raw and b"\xf0\r\n" in wire.raw,
    "one-segment": lambda wire: len(wire.pieces) == 1,
    "gzip": lambda wire: wire.headers["content-encoding"] == "gzip" and b"Echo" not in wire.raw,
    "chunk-extensions": lambda wire: b";a=b\r\n" in wire.raw and b"\r\nx-checksum: 1" in wire.raw,
    "close-delimited": lambda wire: not {"content-length", "transfer-encoding"} & {*wire.headers},
    "100-flood?count=50": lambda wire: wire.raw.count(b"HTTP/1.1 100 Continue\r\n\r\n") == 50,
    "plain-label": lambda wire: label(wire) == "text/plain",
    "no-label": lambda wire: "content-type" not in wire.headers,
    "no-usage": lambda wire: not any("usage" in payload for payload in wire.payloads),
    "usage-null": lambda wire: all(payload["usage"] is None for payload in wire.payloads),
    "usage-nulls": lambda wire: {*wire.usages[-1].values()} == {None},
    "usage-wrong": lambda wire: [*wire.usages[-1].values()] == [-3, "many", 1e300],
    "usage-each": lambda wire: len(wire.usages) == len(wire.payloads),
    "usage-in-finish": lambda wire: wire.payloads[-1]["usage"] and wire.payloads[-1]["choices"],
    "role-each": lambda wire: all(said["role"] == "assistant" for said in wire.said),
    "null-content": lambda wire: not wire.is_stream or wire.said[0]["content"] is None,
    "extra-fields": lambda wire: all("x_extra" in said for said in wire.said),
    "minimal": lambda wire: {*wire.payloads[0]} == {"choices"},
    "finish-with-content": lambda wire: (
        wire.said[-1]["content"].endswith("!") and wire.finish_reasons == ["stop"]
    ),
    "finish-twice": lambda wire: not wire.is_stream or wire.finish_reasons == ["stop", "stop"],
    "done-junk": lambda wire: not wire.is_stream or "[DONE]" in wire.events[:-4],
    "no-done": lambda wire: "[DONE]" not in wire.events and wire.finish_reasons == ["stop"],
    "reasoning-model": lambda wire: True,
    "no-system": lambda wire: True,
    "strict-roles": lambda wire: True,
    "n-ignored": lambda wire: not wire.is_stream or "[DONE]" not in wire.events,
    "finish-first": lambda wire: True,
    "cost": lambda wire: wire.usages[-1]["cost"] == 0.000015,
    "no-stream-options?latency_ms=1": lambda wire: True,
}
"""Faults that keep the answer whole, each with what is odd about it."""


def says(text: str) -> Callable[[Wire], bool]:
    return lambda wire: wire.text == text and wire.finish_reasons == ["stop"]


ROWS: dict[str, Callable[[Wire], bool]] = {
    **{name: says(text) for name, (_, text) in TEXTS.items()},
    "empty-text": lambda wire: wire.text == "" and wire.finish_reasons == ["stop"],
    "n2": lambda wire: [choice["index"] for choice in wire.choices][:2] == [0, 1],
    "length": lambda wire: (wire.text, wire.finish_reasons) == ("Echo:", ["length"]),
    "content-filter?after=3": lambda wire: (
        (wire.text, wire.finish_reasons) == ("Echo: h", ["content_filter"])
    ),
    "finish-odd": lambda wire: wire.finish_reasons == ["eos"] and wire.text == TEXT,
    "no-finish": lambda wire: wire.finish_reasons == [] and wire.text == TEXT,
    "tool-calls": lambda wire: (
        wire.finish_reasons == ["tool_calls"]
        and "".join(
            call["function"]["arguments"]
            for said in wire.said
            for call in said.get("tool_calls") or ()
        )
        == '{"city": "Paris"}'
    ),
    "refusal": lambda wire: "".join(said.get("refusal") or "" for said in wire.said) == NO,
    "reasoning": lambda wire: (
        "".join(said.get("reasoning_content", "") for said in wire.said) == THOUGHT
        and wire.text == TEXT
    ),
    "split-surrogates": lambda wire: not wire.is_stream or b'"\\ud83d"' in wire.body,
    "html-200": lambda wire: (wire.status, label(wire)) == (200, "text/html"),
    "204": lambda wire: wire.status == 204 and not wire.body,
    "empty-200": lambda wire: (wire.status, wire.headers["content-length"]) == (200, "0"),
    "only-done": lambda wire: wire.body == b"data: [DONE]\n\n",
    "string-body": lambda wire: json.loads(wire.body) == "ok",
    "array-body": lambda wire: json.loads(wire.body) == [1, 2],
    "null-body": lambda wire: json.loads(wire.body) is None,
    "sse-as-json": lambda wire: label(wire) == "application/json" and "[DONE]" in wire.events,
    "json-as-sse": lambda wire: label(wire) == "text/event-stream" and has_json(wire.body),
    "always-stream": lambda wire: wire.is_stream and wire.events[-1] == "[DONE]",
    "never-stream": lambda wire: label(wire) == "application/json" and has_json(wire.body),
    "empty-choices": lambda wire: all(payload["choices"] == [] for payload in wire.payloads),
    "null-choices": lambda wire: all(payload["choices"] is None for payload in wire.payloads),
    "no-choices": lambda wire: all("choices" not in payload for payload in wire.payloads),
    "dup-keys": lambda wire: (
        wire.body.count(b'"choices":[') == 2 * len(wire.payloads) and not wire.choices
    ),
    "error-200": lambda wire: wire.status == 200 and wire.payloads[0]["error"] is not None,
    "error-mid": lambda wire: "error" in wire.payloads[-1] and b"Echo" in wire.body,
    "wrong-type": lambda wire: wire.said[0]["content"] == {"value": 42},
    "malformed-sse": lambda wire: b"oops" in wire.body,
    "bad-utf8": lambda wire: b"\xff\xfe\xc3" in wire.body,
    "deep-json?depth=50000": lambda wire: b"[" * 50_000 in wire.body,
    "garbage": lambda wire: any(byte > 0xF8 for byte in wire.body),
    "truncated-json": lambda wire: (
        wire.ending == "closed"
        and "[DONE]" not in wire.events
        and not has_json(wire.events[-1].encode() if wire.events else wire.body)
    ),
    "cut": lambda wire: partial(wire) and wire.ending == "closed",
    "bad-chunked": lambda wire: partial(wire) and b"\r\nZZZ\r\n" in wire.raw,
    "not-http": lambda wire: wire.raw.startswith(b"SSH-2.0") and wire.ending == "closed",
    "rst": lambda wire: (wire.raw, wire.ending) == (b"", "reset"),
    "close": lambda wire: (wire.raw, wire.ending) == (b"", "closed"),
    "rst-mid": lambda wire: partial(wire) and wire.ending == "reset",
    "close-mid": lambda wire: partial(wire) and wire.ending == "closed",
    "hang": lambda wire: (wire.raw, wire.ending) == (b"", "silent"),
    "hang-headers": lambda wire: (
        wire.raw.startswith(b"HTTP/1.1 200 OK\r\ncontent-type")
        and b"\r\n\r\n" not in wire.raw
        and wire.ending == "silent"
    ),
    "hang-body": lambda wire: wire.raw.endswith(b"\r\n\r\n") and wire.ending == "silent",
    "hang-mid": lambda wire: partial(wire) and wire.ending == "silent",
    "hang-error": lambda wire: (
        wire.raw.startswith(b"HTTP/1.1 400")
        and wire.raw.endswith(b"\r\n\r\n")
        and wire.ending == "silent"
    ),
    "hang-end": lambda wire: (wire.text, wire.ending) == (TEXT, "silent"),
    "drip?every_ms=20": lambda wire: (
        [*map(len, wire.pieces[1:])].count(1) > 4 and wire.ending == "left"
    ),
    "slow-headers?every_ms=10": lambda wire: (
        [*map(len, wire.pieces)].count(1) > 4
        and b"\r\n\r\n" not in wire.raw
        and wire.ending == "left"
    ),
    "100-endless?every_ms=1": lambda wire: (
        wire.raw.count(b"100 Continue") > 50 and wire.ending == "left"
    ),
    "heartbeat?every_ms=2": lambda wire: (
        wire.body.strip(b"keep-alive: \n") == b"" and len(wire.pieces) > 9 and wire.ending == "left"
    ),
    "empty-deltas?every_ms=2": lambda wire: (
        wire.ending == "left" and wire.body.count(b'"content":""') >= 50 * wire.is_stream
    ),
    "endless": lambda wire: wire.ending == "left" and len(wire.raw) > 1 << 20,
    "endless-line": lambda wire: wire.ending == "left" and b"x" * (1 << 18) in wire.body,
    "huge-chunk?kb=300": lambda wire: (
        wire.text == "x" * 300 * 1024 and len(re.findall(rb"\r\n[0-9a-f]+\r\n", wire.raw)) == 2
    ),
    "gzip-bomb?mb=3": lambda wire: len(wire.raw) < 20_000 and wire.text == "x" * (3 << 20),
    "huge-headers?kb=200": lambda wire: len(wire.head) > 200 * 1024 and wire.is_whole,
    "400": refused(400, "invalid_value"),
    "400-context": refused(400, "context_length_exceeded"),
    "401": lambda wire: (
        refused(401, "invalid_api_key")(wire)
        and "sk-canar" in wire.error["message"]
        and KEY not in wire.error["message"]
    ),
    "403": refused(403, "unsupported_country_region_territory"),
    "404": refused(404, "model_not_found"),
    "413": refused(413, "request_too_large"),
    "429?retry_after=119": refused(429, "rate_limit_exceeded", retry_after="119"),
    "429-quota": refused(429, "insufficient_quota"),
    "429-tokens": refused(429, "rate_limit_exceeded"),
    "413-tokens": refused(413, "rate_limit_exceeded"),
    "500": refused(500, None),
    "503": refused(503, None),
    "529": refused(529, None),
    "limited?per_s=2": refused(429, "rate_limit_exceeded", retry_after="2"),
    "status?code=409": refused(409, None),
    "echo-key": lambda wire: KEY in wire.error["message"] and f"Bearer {KEY}" in wire.head,
    "redirect?code=307": lambda wire: (
        wire.status == 307 and wire.headers["location"].endswith("/v1/chat/completions")
    ),
    "error-html": lambda wire: (wire.status, label(wire)) == (502, "text/html"),
    "error-empty": lambda wire: (wire.status, wire.body) == (500, b""),
    "error-string": lambda wire: wire.status == 500 and isinstance(wire.error, str),
    "error-detail": lambda wire: wire.status == 422 and b'{"detail"' in wire.body,
    "error-long": lambda wire: len(wire.error["message"]) == 1_000_000,
}
"""Faults that do not give the answer of `ok`, each with what is to be seen on the wire."""


def test_every_fault_has_its_row() -> None:
    rows = [name.partition("?")[0] for name in [*WHOLE_ROWS, *ROWS]]
    assert sorted(FAULTS) == sorted(rows)


def test_the_kind_of_a_fault_tells_whether_its_answer_is_whole() -> None:
    whole_faults = {name for name, fault in FAULTS.items() if fault.kind == "whole"}
    assert whole_faults == {name.partition("?")[0] for name in WHOLE_ROWS}


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("model", [*WHOLE_ROWS, *ROWS])
def test_fault_shows_on_the_wire(upstream: FakeUpstream, model: str, streams: bool) -> None:
    name = model.partition("?")[0]
    asks_usage = streams and name != "no-stream-options"
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks_usage else {}
    holds = ROWS.get(model) or WHOLE_ROWS[model]
    # What never ends has shown itself as soon as its row holds; a busy machine takes longer until then.
    limits: dict[str, Any] = (
        {"silence_s": 0.05, "is_enough": holds} if FAULTS[name].kind == "silent" else {}
    )
    wire = send(upstream, request_bytes(model, stream=streams, **options), **limits)
    assert holds(wire), (wire.ending, wire.raw[:2000])
    assert model in ROWS or wire.is_whole, (wire.ending, wire.raw[:2000])


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("model", ["drip?every_ms=0.01", "slow-headers?every_ms=0.01"])
def test_slow_answer_is_whole_in_the_end(upstream: FakeUpstream, model: str, streams: bool) -> None:
    assert send(upstream, request_bytes(model, stream=streams)).is_whole


def test_broken_answers_go_on_after_the_breakage(upstream: FakeUpstream) -> None:
    for model in ("malformed-sse", "bad-utf8", "garbage", "deep-json?depth=10"):
        wire = send(upstream, request_bytes(model, stream=True))
        assert wire.events[-1] == "[DONE]", model
        assert b'"content":"!"' in wire.body, model


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("model", [name for name, f in BEHAVIOURS.items() if f.kind == "whole"])
def test_the_openai_client_reads_every_whole_answer(
    client: openai.OpenAI, model: str, streams: bool
) -> None:
    if streams:
        assert text_of(ask_stream(client, model)) == TEXT
        return
    assert ask(client, model).choices[0].message.content == TEXT


def test_chat_completion_is_well_formed(client: openai.OpenAI) -> None:
    reply = ask(client, "ok", n=2)
    assert [choice.message.content for choice in reply.choices] == [TEXT, f"Echo 2: {PROMPT}"]
    assert [choice.finish_reason for choice in reply.choices] == ["stop", "stop"]
    assert (reply.object, reply.model, reply.id[:9]) == ("chat.completion", "ok", "chatcmpl-")
    spent = token_count(TEXT) + token_count(f"Echo 2: {PROMPT}")
    assert reply.usage.prompt_tokens == token_count(PROMPT)
    assert reply.usage.completion_tokens == spent
    assert reply.usage.total_tokens == token_count(PROMPT) + spent


def test_stream_is_well_formed_and_cuts_inside_an_emoji(client: openai.OpenAI) -> None:
    chunks = ask_stream(client, "ok", n=2, stream_options={"include_usage": True})
    assert [text_of(chunks, index) for index in (0, 1)] == [TEXT, f"Echo 2: {PROMPT}"]
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert {" \U0001f469", "\u200d", "\U0001f467", " 世", "界"} <= set(deltas)
    assert [chunk.choices[0].index for chunk in chunks[2:6]] == [0, 1, 0, 1]
    *before, last = chunks
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in before)
    assert last.choices == []
    assert last.usage.completion_tokens == token_count(TEXT + f"Echo 2: {PROMPT}")


def test_stream_without_include_usage_has_no_usage(upstream: FakeUpstream) -> None:
    wire = send(upstream, request_bytes("ok", stream=True))
    assert not any("usage" in payload for payload in wire.payloads)


def test_last_user_message_is_said_back(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "see "}, {"type": "image_url", "image_url": {"url": "x"}}]
    messages = [
        {"role": "user", "content": "first"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "last"},
    ]
    said = ask(client, "gpt-4o-mini", messages=messages).choices[0].message.content
    assert said == "Echo: see [image_url]"


@pytest.mark.parametrize(
    ("model", "parameters", "text", "finish_reason"),
    [
        ("ok?text=one two three", {}, "one two three", "stop"),
        ("ok?text=one, two", {}, "one, two", "stop"),
        ("ok?text=a%26b%2Cok", {}, "a&b,ok", "stop"),
        ("ok?text=one two three", {"max_tokens": 2}, "one two", "length"),
        ("ok?text=one two three", {"max_completion_tokens": 1}, "one", "length"),
        ("ok?text=one two three", {"stop": " three"}, "one two", "stop"),
        ("ok?text=one two three", {"stop": ["three", "two"]}, "one ", "stop"),
        ("ok?text=one&tokens=3", {}, "one word1 word2", "stop"),
        ("ok?text=one two three&tokens=2", {}, "one two", "stop"),
    ],
)
def test_text_obeys_options_and_parameters(
    client: openai.OpenAI, model: str, parameters: dict[str, Any], text: str, finish_reason: str
) -> None:
    choice = ask(client, model, **parameters).choices[0]
    assert (choice.message.content, choice.finish_reason) == (text, finish_reason)
    assert text_of(ask_stream(client, model, **parameters)) == text


def test_completions_endpoint_echoes_and_streams(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon"}
    reply = client.completions.create(**given, echo=True, max_tokens=2)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("Once uponEcho:", "length")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 2
    with client.completions.create(**given, stream=True, n=2) as stream:
        chunks = list(stream)
    texts = [
        "".join(c.choices[0].text for c in chunks if c.choices[0].index == index)
        for index in (0, 1)
    ]
    assert texts == ["Echo: Once upon", "Echo 2: Once upon"]


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("model", [*FAULTS])
def test_every_fault_serves_the_other_endpoints_too(model: str, streams: bool) -> None:
    slow = dict.fromkeys(("drip", "slow-headers"), "?every_ms=0")
    small = {"huge-chunk": "?kb=1", "gzip-bomb": "?mb=1", "deep-json": "?depth=9", **slow}
    with FakeUpstream(max_wait_s=0.02) as upstream:
        upstream.model_rule("chosen", model + small.get(model, ""))
        upstream.path_rule("/v1/models", model + small.get(model, ""))
        asked = [
            request_bytes("chosen", path="/v1/completions", stream=streams, n=2, max_tokens=0),
            b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n",
        ]
        for data in asked:
            send(upstream, data, max_bytes=1 << 22)
        assert len(upstream.requests) == 2


def test_models_are_listed_and_found(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.model_rule("house/model", "ok")
    listed = {model.id: model for model in client.models.list()}
    assert {"ok", "gpt-4o-mini", "o3-mini", "house/model"} <= listed.keys()
    assert listed["gpt-4o-mini"].owned_by == "openai"
    assert listed["ok"].created > 0
    assert client.models.retrieve("house/model").id == "house/model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    "model",
    ["no-such-model", "ok?colour=red", "ok?tokens=many", "drip?every_ms=-1", "rst-mid,okay"],
)
def test_misspelt_model_is_unknown_and_told_why(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError, match=r"does not exist .*\(.+\)") as caught:
        ask(client, model)
    assert caught.value.code == "model_not_found"


def test_misspelt_rule_is_refused_at_once(upstream: FakeUpstream) -> None:
    with pytest.raises(ValueError, match="there is no behaviour 'quota'"):
        upstream.key_rule(KEY, "quota")


def test_key_is_checked_when_one_is_required() -> None:
    with FakeUpstream(require_key=["sk-right", "sk-also"]) as upstream:
        for key in ("sk-right", "sk-also"):
            with connect(upstream, key) as client:
                assert ask(client, "ok").choices[0].message.content == TEXT
        with connect(upstream, KEY) as client, pytest.raises(openai.AuthenticationError) as caught:
            ask(client, "ok")
        assert caught.value.code == "invalid_api_key"
        assert KEY not in str(caught.value)
        keyless = b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n"
        wire = send(upstream, keyless)
        assert (wire.status, wire.error["type"]) == (401, "invalid_request_error")
        assert "didn't provide an API key" in wire.error["message"]


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"n": 0}, "n"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": 5}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_invalid_parameter_is_named(
    client: openai.OpenAI, parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "ok", **parameters)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{",
            400,
        ),
        (
            b'POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{"n":NaN}',
            400,
        ),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/chat/completions HTTP/1.1\r\nConnection: close\r\n\r\n", 405),
        (b"GET /chat/completions HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"DELETE /v1/models/ok HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_bad_request_is_refused_in_the_shape_of_openai(
    upstream: FakeUpstream, data: bytes, status: int
) -> None:
    wire = send(upstream, data)
    assert wire.status == status
    assert wire.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("parameters", "param", "code", "message"),
    [
        (
            {"max_tokens": 5, "temperature": 0.5},
            "max_tokens",
            "unsupported_parameter",
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
        ),
        (
            {"temperature": 0.5, "top_p": 0.9},
            "temperature",
            "unsupported_value",
            "Unsupported value: 'temperature' does not support 0.5 with this model. "
            "Only the default (1) value is supported.",
        ),
        (
            {"temperature": 1, "top_p": 0.9},
            "top_p",
            "unsupported_parameter",
            "Unsupported parameter: 'top_p' is not supported with this model.",
        ),
    ],
)
def test_reasoning_model_refuses_in_the_words_of_openai(
    client: openai.OpenAI, parameters: dict[str, Any], param: str, code: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "o3-mini", **parameters)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.body == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }


def test_reasoning_model_takes_what_it_supports(client: openai.OpenAI) -> None:
    choice = ask(client, "gpt-5-mini", temperature=1, max_completion_tokens=2).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Echo:", "length")


def test_old_servers_refuse_what_they_do_not_know(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="stream_options"):
        ask_stream(client, "no-stream-options", stream_options={"include_usage": True})
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "no-system", messages=[{"role": "system", "content": "Be brief."}])
    assert caught.value.param == "messages[0].role"


def test_sequence_goes_on_by_itself_for_each_key(upstream: FakeUpstream) -> None:
    model = "500,429?retry_after=1,ok"
    statuses = {
        key: [_status(upstream, key, model) for _ in range(4)] for key in ("sk-one", "sk-two")
    }
    assert statuses == {"sk-one": [500, 429, 200, 200], "sk-two": [500, 429, 200, 200]}


def _status(upstream: FakeUpstream, key: str, model: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    url = f"{upstream.base_url}/chat/completions"
    return httpx2.post(url, headers=headers, json=body).status_code


def test_rule_of_a_key_goes_before_path_and_model(upstream: FakeUpstream) -> None:
    upstream.key_rule("sk-bad", "401")
    upstream.key_rule("sk-tired", "429-quota,pass")
    upstream.path_rule("/v1/chat/completions", "503,pass")
    upstream.model_rule("gpt-4o", "404,ok")
    assert _status(upstream, "sk-bad", "gpt-4o") == 401
    assert [_status(upstream, "sk-tired", "gpt-4o") for _ in range(4)] == [429, 503, 404, 200]
    upstream.key_rule("sk-bad", None)
    assert [_status(upstream, "sk-bad", "gpt-4o") for _ in range(3)] == [503, 404, 200]
    upstream.reset()
    assert _status(upstream, "sk-tired", "gpt-4o") == 200


def test_limited_key_is_good_again_after_its_window(upstream: FakeUpstream) -> None:
    upstream.key_rule("sk-limited", "limited?requests=2&per_s=60")
    assert [_status(upstream, "sk-limited", "ok") for _ in range(3)] == [200, 200, 429]
    assert _status(upstream, "sk-other", "ok") == 200
    # The window of the same two requests, as if most of the minute were over.
    upstream.key_rule("sk-limited", "limited?requests=2&per_s=0.1")
    assert upstream.wait_for(lambda: _status(upstream, "sk-limited", "ok") == 200)


def test_requests_are_recorded_as_they_came(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    before = time.monotonic()
    ask(client, "ok?text=a", temperature=0.5, extra_headers={"X-Test": "one, two"})
    [request] = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert (request.api_key, request.model, request.behaviour) == (KEY, "ok?text=a", "ok?text=a")
    assert request.body["temperature"] == 0.5
    assert request.headers["x-test"] == "one, two"
    assert before < request.arrived_at < time.monotonic()
    assert request.finished.wait(1)
    assert (request.client_gone.is_set(), request.client_gone.at) == (False, None)
    send(
        upstream,
        b"POST /v1/files HTTP/1.1\r\nConnection: close\r\nContent-Length: 3\r\n\r\n\x00\xff{",
    )
    assert upstream.requests[-1].body == b"\x00\xff{"


def test_pace_is_kept_and_nothing_comes_early(client: openai.OpenAI) -> None:
    model = "ok?latency_ms=50&ttft_ms=60&delay_ms=10&tokens=21"
    started = time.monotonic()
    with ask(client, model, stream=True) as stream:
        assert time.monotonic() - started >= 0.05
        arrivals = [
            time.monotonic() - started for chunk in stream if chunk.choices[0].delta.content
        ]
    assert len(arrivals) == 21
    assert arrivals[0] >= 0.11
    assert arrivals[-1] >= 0.31
    started = time.monotonic()
    assert len(ask(client, model).choices[0].message.content) > 21
    assert time.monotonic() - started >= 0.31


def test_pace_does_not_drift() -> None:
    """What a step costs is taken off the pause after it."""
    costs_s: list[float] = []

    def costly() -> Steps:
        for _ in range(10):
            yield Pause(0.02)
            began = time.monotonic()
            time.sleep(0.02)
            costs_s.append(time.monotonic() - began)

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as ours,
    ):
        started = time.monotonic()
        Peer(ours, 10).perform(costly())
        took_s = time.monotonic() - started
    assert took_s >= 0.2
    assert took_s - sum(costs_s) < 0.15


def test_pace_of_the_server_holds_where_the_model_gives_none() -> None:
    with FakeUpstream(tokens=3, latency_ms=40) as upstream, connect(upstream) as client:
        started = time.monotonic()
        assert ask(client, "ok?text=a").choices[0].message.content == "a word1 word2"
        assert time.monotonic() - started >= 0.04
        assert (
            ask(client, "ok?text=a&tokens=2&latency_ms=0").choices[0].message.content == "a word1"
        )


def test_what_is_held_goes_on_when_it_is_let_go(
    upstream: FakeUpstream, client: openai.OpenAI
) -> None:
    upstream.model_rule("ok", "ok?text=one two three four")
    upstream.hold("ok", after=2)
    with ask(client, "ok", stream=True) as stream, ThreadPoolExecutor(2) as pool:
        pieces = (chunk.choices[0].delta.content or "" for chunk in stream)
        assert "one two" == "".join(next(pieces) for _ in range(3))
        rest, whole = pool.submit(list, pieces), pool.submit(ask, client, "ok")
        assert "Echo" in text_of(ask_stream(client, "gpt-4o"))
        assert [False, False] == [rest.done(), whole.done()]
        upstream.let_go("ok")
        assert " three four" == "".join(rest.result(5))
        assert "one two three four" == whole.result(5).choices[0].message.content
    assert "one two three four" == text_of(ask_stream(client, "ok"))


SILENCES = [
    "hang",
    "hang-headers",
    "hang-body",
    "hang-mid",
    "hang-end",
    "hang-error",
    "ok?ttft_ms=60000",
]
LONG_PAUSES = ["ok?latency_ms=60000", "drip?every_ms=60000", "heartbeat?every_ms=60000", "endless"]


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("model", [*SILENCES, *LONG_PAUSES])
def test_leaving_client_is_noticed_at_once(
    upstream: FakeUpstream, model: str, streams: bool
) -> None:
    with open_socket(upstream) as sock:
        sock.sendall(request_bytes(model, stream=streams))
        [request] = upstream.wait_for(lambda: upstream.requests)
        time.sleep(0.05)
        assert not request.client_gone.is_set()
    # In the pause, which is a minute, and not when the next byte cannot be sent.
    assert request.client_gone.wait(5)
    upstream.wait_for(lambda: upstream.open_connections == 0)


def test_closed_stream_of_the_openai_client_is_noticed(
    client: openai.OpenAI, upstream: FakeUpstream
) -> None:
    stream = ask(client, "ok?tokens=1000&delay_ms=20", stream=True)
    for _, _ in zip(range(3), stream, strict=False):
        pass
    assert upstream.open_connections == 1
    stream.close()
    assert upstream.requests[0].client_gone.wait(5)
    assert upstream.stats["clients_gone"] == 1


def test_client_that_stays_to_the_end_is_not_gone(
    client: openai.OpenAI, upstream: FakeUpstream
) -> None:
    for _ in range(50):
        ask_stream(client, "ok")
    client.close()
    upstream.wait_for(lambda: upstream.open_connections == 0)
    assert (upstream.stats["requests"], upstream.stats["clients_gone"]) == (50, 0)


def test_connection_is_kept_and_takes_requests_ahead_of_the_reply(upstream: FakeUpstream) -> None:
    models = ["ok?text=one&latency_ms=50", "204", "500", "ok?text=two"]
    *ahead, last = models
    data = b"".join(request_bytes(model, keep_alive=True) for model in ahead)
    wire = send(upstream, data + request_bytes(last))
    assert re.findall(rb"HTTP/1.1 (\d+)", wire.raw) == [b"200", b"204", b"500", b"200"]
    assert re.findall(rb'"content":"(\w+)"', wire.raw) == [b"one", b"two"]
    assert upstream.stats["peak_connections"] == 1


def test_endless_waits_end_by_themselves() -> None:
    with FakeUpstream(max_wait_s=0.1) as upstream:
        for model in ("hang", "hang-mid", "endless", "heartbeat"):
            wire = send(upstream, request_bytes(model, stream=True), max_bytes=1 << 30)
            assert wire.ending == "closed"
        assert not any(request.client_gone.is_set() for request in upstream.requests)


def test_close_ends_everything_at_once_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    upstream = FakeUpstream()
    sockets = [open_socket(upstream) for _ in range(30)]
    models = ["hang", "ok?delay_ms=9999", "endless", "endless-line", "drip", "gzip-bomb?mb=99999"]
    for sock, model in zip(sockets, models * 4, strict=False):
        sock.sendall(request_bytes(model, stream=True))
    upstream.wait_for(lambda: len(upstream.requests) == 24)
    started = time.monotonic()
    upstream.close()
    # Each of them would go on for a minute.
    assert time.monotonic() - started < 10
    # Threads of the tests before this one may have ended in the meantime.
    assert set(threading.enumerate()) <= before
    assert upstream.open_connections == 0
    assert not any(request.client_gone.is_set() for request in upstream.requests)
    assert all(request.finished.is_set() for request in upstream.requests)
    for sock in sockets:
        sock.close()
    upstream.close()


def test_redirect_leads_to_another_origin_that_records_too(upstream: FakeUpstream) -> None:
    body = {"model": "redirect?code=307,ok", "messages": [{"role": "user", "content": "hi"}]}
    url = f"{upstream.base_url}/chat/completions"
    reply = httpx2.post(url, json=body, follow_redirects=True)
    assert reply.json()["choices"][0]["message"]["content"] == "Echo: hi"
    assert reply.url.port != httpx2.URL(upstream.base_url).port
    assert [request.to_other_origin for request in upstream.requests] == [False, True]


def test_failure_inside_the_fake_is_not_silent(upstream: FakeUpstream) -> None:
    @register("fails", "broken", "fails inside")
    def fails(x: Exchange) -> Steps:
        raise LookupError("inside")

    try:
        failing = FakeUpstream()
        assert send(failing, request_bytes("fails")).raw == b""
        with pytest.raises(ExceptionGroup, match="the fake upstream failed"):
            failing.close()
    finally:
        del BEHAVIOURS["fails"]  # type: ignore[attr-defined]


def test_wait_for_says_what_it_saw(upstream: FakeUpstream) -> None:
    with pytest.raises(TimeoutError, match="'requests': 0"):
        upstream.wait_for(lambda: upstream.requests, timeout_s=0.01)


def test_many_clients_are_served_at_the_same_time(upstream: FakeUpstream) -> None:
    def one_stream(number: int) -> str:
        wire = send(
            upstream,
            request_bytes(f"ok?text=client {number}&ttft_ms=300", stream=True),
        )
        return wire.text

    started = time.monotonic()
    with ThreadPoolExecutor(50) as pool:
        texts = list(pool.map(one_stream, range(50)))
    assert texts == [f"client {number}" for number in range(50)]
    # One after the other they would take fifteen seconds.
    assert time.monotonic() - started < 7


def test_runs_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.fake_upstream", "--tokens", "2", "--keep", "1"]
    rules = ["--key-rule", "sk-bad=401", "--model-rule", "house=ok?text=a&tokens=1"]
    with subprocess.Popen([*command, *rules], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=base_url, api_key=KEY) as client:
            assert ask(client, "ok").choices[0].message.content == "Echo:"
            assert ask(client, "house").choices[0].message.content == "a"
        with urllib.request.urlopen(base_url.removesuffix("v1") + "stats") as reply:
            assert json.load(reply)["requests"] == 2
        process.terminate()
        assert process.wait(5) == 0


def test_command_lists_every_behaviour() -> None:
    command = [sys.executable, "-m", "tests.fake_upstream", "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split(" ")[0] for line in listed.splitlines()] == [*BEHAVIOURS]
