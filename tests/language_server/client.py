"""A small editor: speaks the Language Server Protocol with the real yaml-language-server."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
PROGRAM = HERE / "node_modules/yaml-language-server/bin/yaml-language-server"
#: Longer than all tests take on the busiest machine; a server that says nothing more is ended.
_PATIENCE_S = 300
_ABLE = {
    "textDocument": {
        "completion": {
            "completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}
        },
        "hover": {"contentFormat": ["markdown"]},
    }
}


class LanguageServer:
    """A running server; files are opened below ``folder`` without being written there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = count(1)
        self._diagnostics: dict[str, list[dict[str, Any]]] = {}
        self._process = subprocess.Popen(
            ["node", str(PROGRAM), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        )
        self._watchdog = threading.Timer(_PATIENCE_S, self._process.kill)
        self._watchdog.start()

    def __enter__(self) -> Self:
        root = self._folder.as_uri()
        self._request("initialize", {"processId": None, "rootUri": root, "capabilities": _ABLE})
        self._send({"method": "initialized", "params": {}})
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()

    def open(self, name: str, text: str) -> list[dict[str, Any]]:
        """Open a file with this text. Returns what is found wrong in it."""
        uri = self._uri(name)
        self._diagnostics.pop(uri, None)
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        while uri not in self._diagnostics:
            self._receive()
        return self._diagnostics[uri]

    def complete(self, name: str, line: int, column: int) -> dict[str, dict[str, Any]]:
        """What is offered at a place of an opened file, counted from 0, by its label."""
        found = self._ask_at("completion", name, line, column)
        return {item["label"]: item for item in found["items"]}

    def hover(self, name: str, line: int, column: int) -> str:
        """What is told about a place of an opened file."""
        text: str = self._ask_at("hover", name, line, column)["contents"]["value"]
        return text

    def _ask_at(self, question: str, name: str, line: int, column: int) -> Any:
        position = {"line": line, "character": column}
        document = {"uri": self._uri(name)}
        return self._request(
            f"textDocument/{question}", {"textDocument": document, "position": position}
        )

    def _uri(self, name: str) -> str:
        return (self._folder / name).as_uri()

    def _request(self, method: str, params: Mapping[str, Any]) -> Any:
        number = next(self._ids)
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == number and "method" not in message:
                return message["result"]

    def _send(self, message: Mapping[str, Any]) -> None:
        content = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        """The next message; questions of the server are answered, what it finds is noted."""
        assert self._process.stdout is not None
        length = 0
        while (line := self._process.stdout.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if not length:
            raise EOFError("the language server has ended")
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        if "method" in message and "id" in message:
            wanted = message.get("params", {}).get("items", [])
            self._send({"id": message["id"], "result": [{} for _ in wanted] or None})
        if message.get("method") == "textDocument/publishDiagnostics":
            self._diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        return message
