"""Upstreams that are reached by https, directly and through a proxy."""

import datetime
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from rolebook.core.errors import UpstreamConnectionError, UpstreamError
from tests.upstream.asking import ask, ask_for
from tests.upstream.conftest import OpenUpstream
from tests.upstream.scripted_server import ScriptedServer

COMPLETION = {
    "choices": [{"message": {"role": "assistant", "content": "Safely."}, "finish_reason": "stop"}]
}


def reply() -> list[bytes]:
    body = json.dumps(COMPLETION).encode()
    return [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    ]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user does who has an authority of their own."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def encryption_for(authority: trustme.CA, name: str, **more: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(name, **more).configure_cert(context)
    return context


@pytest.mark.usefixtures("trusted")
def test_calls_share_an_encrypted_connection(
    authority: trustme.CA, open_upstream: OpenUpstream
) -> None:
    encryption = encryption_for(authority, "localhost")
    with ScriptedServer(reply(), reply(), encryption=encryption) as server:
        upstream = open_upstream(base_url=f"https://localhost:{server.port}/v1")
        said = [ask(upstream, ask_for(is_streamed=False)).text for _ in range(2)]
        upstream.close()

    assert (said, server.connections) == (["Safely.", "Safely."], 1)


@pytest.mark.usefixtures("trusted")
def test_certificate_for_another_name_is_not_accepted(
    authority: trustme.CA, open_upstream: OpenUpstream
) -> None:
    encryption = encryption_for(authority, "other.example")
    with ScriptedServer(encryption=encryption) as server:
        upstream = open_upstream(base_url=f"https://localhost:{server.port}/v1", attempts=1)
        error = ask(upstream, ask_for()).error

    assert isinstance(error, UpstreamConnectionError)
    assert "is for another name" in str(error)
    assert "is for another name" not in error.parameters["cause"]
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
def test_certificate_that_has_expired_is_not_accepted(
    authority: trustme.CA, open_upstream: OpenUpstream
) -> None:
    encryption = encryption_for(
        authority, "localhost", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    )
    with ScriptedServer(encryption=encryption) as server:
        upstream = open_upstream(base_url=f"https://localhost:{server.port}/v1", attempts=1)
        error = ask(upstream, ask_for()).error

    assert isinstance(error, UpstreamConnectionError)
    assert "not valid today" in str(error)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named(
    open_upstream: OpenUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    error = ask(open_upstream(base_url="https://127.0.0.1:9/v1", attempts=1), ask_for()).error

    assert isinstance(error, UpstreamError)
    assert f"cannot be read from {path}, which SSL_CERT_FILE names" in str(error)
    assert "Errno" not in str(error)


def test_server_without_encryption_is_told_from_one_whose_certificate_is_not_accepted(
    open_upstream: OpenUpstream,
) -> None:
    def refuse() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        address = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        error = ask(open_upstream(base_url=address, attempts=1), ask_for()).error
        thread.join(5)

    assert isinstance(error, UpstreamConnectionError)
    assert f"What answers at {address} does not speak https." in str(error)
    assert "SSL" in error.parameters["cause"]


def test_certificate_of_an_unknown_authority_is_not_accepted(
    authority: trustme.CA, open_upstream: OpenUpstream
) -> None:
    with ScriptedServer(encryption=encryption_for(authority, "localhost")) as server:
        upstream = open_upstream(base_url=f"https://localhost:{server.port}/v1", attempts=1)
        error = ask(upstream, ask_for()).error

    assert isinstance(error, UpstreamConnectionError)
    assert "SSL_CERT_FILE" in error.message
    assert server.requests == []


@contextmanager
def tunnelling_proxy(port: int) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that connects one client to the server at ``port``: its address, and what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            asked.append(client.recv(65536))
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                threading.Thread(target=pump, args=(client, server), daemon=True).start()
                pump(server, client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}", asked
    listener.close()
    thread.join(5)


@pytest.mark.usefixtures("trusted")
def test_proxy_carries_an_encrypted_call(
    authority: trustme.CA, open_upstream: OpenUpstream
) -> None:
    encryption = encryption_for(authority, "far.example")
    with (
        ScriptedServer(reply(), encryption=encryption) as server,
        tunnelling_proxy(server.port) as (proxy, asked),
    ):
        upstream = open_upstream("sk-own", base_url="https://far.example/v1", proxy=proxy)
        said = ask(upstream, ask_for(is_streamed=False)).text
        upstream.close()

    assert said == "Safely."
    assert asked[0].startswith(b"CONNECT far.example:443 HTTP/1.1\r\n")
    assert b"sk-own" not in asked[0]
    assert b"authorization: bearer sk-own" in server.requests[0].lower()
