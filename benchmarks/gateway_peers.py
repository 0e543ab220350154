"""The programs beside Rolebook in `gateway.py`, each a process of its own that prints its address when it is ready.

python -m benchmarks.gateway_peers upstream    a server that answers at once, or slowly, for the model `slow`
python -m benchmarks.gateway_peers flask URL   a bare passthrough to it: Flask on Rolebook's own server, http.client
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

TOKENS = 16
SLOW_TOKENS = 40
SLOW_FIRST_S, SLOW_NEXT_S = 0.5, 0.25

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_FRAME = {"id": "chatcmpl-1", "created": 1795969103, "model": "mock"}
_USAGE = {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 9 + TOKENS}


def _whole() -> bytes:
    message = {"role": "assistant", "content": "word " * TOKENS}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    reply = {**_FRAME, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    body = json.dumps(reply).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _event(delta: dict[str, Any] | None, finish_reason: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    payload: dict[str, Any] = {**_FRAME, "object": "chat.completion.chunk"}
    payload |= {"choices": [], "usage": _USAGE} if delta is None else {"choices": choices}
    return _chunk(b"data: " + json.dumps(payload).encode() + b"\n\n")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = _whole()
FIRST, TOKEN = _event({"role": "assistant", "content": ""}), _event({"content": "word "})
LAST = _event({}, "stop") + _event(None) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
FAST = HEAD + FIRST + TOKEN * TOKENS + LAST


class Upstream(asyncio.Protocol):
    """Answers one request after the other on a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, blank, body = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or (length and len(body) < int(length[1])):
            return
        self._data = b""
        if b'"slow"' in body:
            asyncio.get_running_loop().call_later(SLOW_FIRST_S, self._say_slowly, SLOW_TOKENS)
        else:
            is_streamed = b'"stream":true' in body.replace(b" ", b"")
            self._transport.write(FAST if is_streamed else WHOLE)

    def _say_slowly(self, tokens: int) -> None:
        """Say one token, and the others one after the other."""
        self._transport.write(TOKEN if tokens < SLOW_TOKENS else HEAD + FIRST + TOKEN)
        if tokens > 1:
            loop = asyncio.get_running_loop()
            loop.call_later(SLOW_NEXT_S, self._say_slowly, tokens - 1)
        else:
            self._transport.write(LAST)


async def serve_upstream() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    await server.serve_forever()


class _Nothing:
    """What is behind an application that keeps nothing."""

    def tidy(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def serve_flask(base_url: str) -> None:
    """Serve the bare passthrough until the process is ended."""
    from flask import Flask, Response, request

    from rolebook.serving.server import serve

    parts = urlsplit(base_url)
    app = Flask(__name__)
    threads = threading.local()

    def ask() -> http.client.HTTPResponse:
        if not hasattr(threads, "connection"):
            threads.connection = http.client.HTTPConnection(parts.netloc)
        connection: http.client.HTTPConnection = threads.connection
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"{parts.path}/chat/completions", request.get_data(), headers)
        return connection.getresponse()

    @app.post("/v1/chat/completions")
    def pass_on() -> Response:
        answer = ask()
        kind = answer.headers["Content-Type"]
        if kind == "application/json":
            return Response(answer.read(), mimetype=kind)
        return Response(iter(lambda: answer.read1(65536), b""), mimetype=kind)

    serve(
        app,
        address=("127.0.0.1", 0),
        threads=1100,
        service=_Nothing(),
        on_ready=lambda host, port: print(f"http://{host}:{port}/v1", flush=True),
    )


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        # What shares the two cores with the server that is measured should need little of them.
        import uvloop

        uvloop.run(serve_upstream())
    else:
        serve_flask(sys.argv[2])
