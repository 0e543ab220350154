"""Rolebook behind nginx with TLS, as docs/examples/nginx.conf has it."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.cli.conftest import Shell, rehearsing, shell
from tests.conftest import ROOT
from tests.fake_upstream import FakeUpstream
from tests.test_serve import serving

__all__ = ["rehearsing", "shell"]

NAME = "roles.example.com"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

pytestmark = pytest.mark.skipif(
    NGINX is None, reason="needs nginx: apt-get install nginx-light (`make proxy` says so too)"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Site:
    """nginx on loopback, under the name of the example."""

    port: int
    context: ssl.SSLContext

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, **fields: str
    ) -> tuple[HTTPSConnection, HTTPResponse]:
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=15, context=self.context)
        own = {"Host": NAME, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, urlencode(fields), own | (headers or {}))
        return connection, connection.getresponse()


@pytest.fixture
def site(shell: Shell, tmp_path: Path) -> Iterator[Site]:
    """The example with paths and ports of the test's own, before a server with one user."""
    assert NGINX is not None
    shell.run("users", "add", "Chen", "--role", "administrator", stdin=b"correct horse")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={NAME}", "-keyout", "site.key", "-out", "site.pem"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    arguments = ("--host-names", NAME, "--proxies", "1", "--model", "ok?tokens=40&delay_ms=50")
    with serving(shell, *arguments) as (_, port):
        outer, plain = free_port(), free_port()
        example = (ROOT / "docs" / "examples" / "nginx.conf").read_text("utf-8")
        changes = {
            "listen 443 ssl": f"listen 127.0.0.1:{outer} ssl",
            "listen 80": f"listen 127.0.0.1:{plain}",
            "127.0.0.1:8000": f"127.0.0.1:{port}",
            "/etc/ssl/rolebook.pem": str(tmp_path / "site.pem"),
            "/etc/ssl/rolebook.key": str(tmp_path / "site.key"),
            "http {": "http {\n" + _folders(tmp_path),
        }
        for old, new in changes.items():
            assert old in example
            example = example.replace(old, new)
        (tmp_path / "nginx.conf").write_text(example, "utf-8")
        command = [NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        settings = f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;"
        with subprocess.Popen([*command, "-g", settings]) as nginx:
            try:
                _wait_for(outer)
                context = ssl.create_default_context(cafile=str(tmp_path / "site.pem"))
                context.check_hostname = False
                yield Site(outer, context)
            finally:
                nginx.terminate()
                nginx.wait(10)


def _folders(folder: Path) -> str:
    """Who is not root can write nowhere else."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "access_log off;" + "".join(f" {kind}_temp_path {folder}/{kind};" for kind in kinds)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def logged_in(site: Site) -> dict[str, str]:
    """The cookie of who has logged in, as a header."""
    connection, response = site.ask(
        "POST", "/login", {"Origin": f"https://{NAME}"}, name="Chen", password="correct horse"
    )
    with closing(connection):
        assert 303 == response.status, response.read()
        cookie = response.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    return {"Cookie": cookie.partition(";")[0], "Origin": f"https://{NAME}"}


def status_of(site: Site, path: str, headers: dict[str, str]) -> int:
    connection, response = site.ask("GET", path, headers)
    with closing(connection):
        return response.status


def test_site_behind_nginx_is_safe_and_streams(site: Site, upstream: FakeUpstream) -> None:
    own = logged_in(site)
    assert [200, 303] == [status_of(site, "/sessions", headers) for headers in (own, {})]
    # The name goes through and is checked; what a caller claims in its own headers is not believed.
    assert 400 == status_of(site, "/", own | {"Host": "evil.example"})
    assert 200 == status_of(site, "/sessions", own | {"X-Forwarded-Host": "evil.example"})
    connection, response = site.ask(
        "POST", "/theme", own | {"Origin": "http://roles.example.com"}, theme="dark"
    )
    with closing(connection):
        assert 403 == response.status
    session_id = _session(site, own)
    _stream_arrives_word_by_word(site, own, session_id)
    _who_leaves_is_noticed(site, own, session_id, upstream)


def _session(site: Site, own: dict[str, str]) -> str:
    connection, response = site.ask("POST", "/sessions", own, persona="plain")
    with closing(connection):
        found = re.search(r"/sessions/(\w{18})", response.headers["Location"])
    assert found
    return found[1]


def _stream(site: Site, own: dict[str, str], session_id: str) -> tuple[Any, HTTPResponse]:
    headers = own | {"Accept": "text/event-stream"}
    return site.ask("POST", f"/sessions/{session_id}/turns", headers, input="Go on")


def _stream_arrives_word_by_word(site: Site, own: dict[str, str], session_id: str) -> None:
    """The first piece long before the last: forty words take two seconds."""
    connection, response = _stream(site, own, session_id)
    with closing(connection):
        assert response.read1(100)
        began = time.monotonic()
        rest = response.read()
    assert time.monotonic() - began > 0.8
    assert b"event: end" in rest


def _who_leaves_is_noticed(
    site: Site, own: dict[str, str], session_id: str, upstream: FakeUpstream
) -> None:
    connection, response = _stream(site, own, session_id)
    assert response.read1(100)
    response.close()
    connection.close()
    assert upstream.requests[-1].client_gone.wait(5), "nobody told the upstream"
