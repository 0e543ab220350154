"""What may come in at the real socket, static files and the server's own errors included."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.server import FORM, ROOT, Server

ROUTES = [
    "/",
    "/status",
    "/sessions",
    "/personas/plain",
    "/healthz",
    "/static/base.css",
    "/nothing",
]
FOREIGN_HOSTS = ["evil.example", "127.0.0.1.nip.io", "", "127.0.0.1@evil.example", "127.0.0.1, a.b"]


def status_of(response: bytes) -> int:
    assert response.startswith(b"HTTP/1."), response[:200]
    return int(response.split(b" ", 2)[1])


def send(server: Server, head: str, body: bytes = b"") -> bytes:
    """A request exactly as written, on a connection that is closed after it."""
    lines = [*head.splitlines(), "Connection: close", "", ""]
    return server.exchange("\r\n".join(lines).encode("latin-1") + body)


@pytest.mark.parametrize("path", ROUTES)
def test_foreign_host_is_refused_on_every_route(shared_server: Server, path: str) -> None:
    for host in FOREIGN_HOSTS:
        response = send(shared_server, f"GET {path} HTTP/1.1\nHost: {host}")
        assert status_of(response) == 400, (path, host)
        assert b"<svg" not in response
    assert status_of(send(shared_server, f"GET {path} HTTP/1.1")) == 400
    assert status_of(send(shared_server, f"GET {path} HTTP/1.0")) == 400
    twice = f"GET {path} HTTP/1.1\nHost: 127.0.0.1\nHost: evil.example"
    assert status_of(send(shared_server, twice)) == 400
    forwarded = f"GET {path} HTTP/1.1\nHost: evil.example\nX-Forwarded-Host: 127.0.0.1"
    assert status_of(send(shared_server, forwarded)) == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.0.0.1:{port}"])
def test_own_names_are_served(shared_server: Server, host: str) -> None:
    host = host.format(port=shared_server.port)
    assert status_of(send(shared_server, f"GET /static/base.css HTTP/1.1\nHost: {host}")) == 200


@pytest.mark.parametrize(
    "headers",
    [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Origin: null",
        "Origin: http://localhost:3000",
        "Origin: https://127.0.0.1:{port}",
        "Origin: http://127.0.0.1.nip.io:{port}",
        "Origin: http://app.127.0.0.1:{port}",
        "Origin: http://evil.example",
    ],
)
def test_other_sites_change_nothing(
    shared_server: Server, shared_upstream: FakeUpstream, headers: str
) -> None:
    session = shared_server.start_session()
    calls, turns = len(shared_upstream.requests), len(shared_server.turns())
    headers = headers.format(port=shared_server.port)
    body = b"input=Hello&persona=plain&theme=dark"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/sessions", f"{session}/turns", "/theme", f"{session}/title", "/"):
            for content_type in (FORM, "text/plain"):
                head = (
                    f"{method} {path} HTTP/1.1\nHost: 127.0.0.1:{shared_server.port}\n{headers}\n"
                    f"Content-Type: {content_type}\nContent-Length: {len(body)}"
                )
                assert status_of(send(shared_server, head, body)) == 403, (method, path)
    assert (len(shared_upstream.requests), len(shared_server.turns())) == (calls, turns)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_own_origin_may_change_things(shared_server: Server, name: str) -> None:
    origin = f"http://{name}:{shared_server.port}"
    head = (
        f"POST /theme HTTP/1.1\nHost: {name}:{shared_server.port}\nOrigin: {origin}\n"
        f"Content-Type: {FORM}\nContent-Length: 10"
    )
    assert status_of(send(shared_server, head, b"theme=dark")) == 303


@pytest.mark.parametrize(
    "name",
    [
        *("..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        *("a%00b", "a%5C..%5Cb", "C:%5Cx", ".", "-rf", "CON", "x" * 300, "%ff", "%c0%ae%c0%ae"),
    ],
)
def test_nothing_outside_the_folders_is_reached(shared_server: Server, name: str) -> None:
    (shared_server.folder / "secret.yaml").write_text("name: Secret\nsystem: unseen\n")
    for path in (f"/personas/{name}", f"/personas/..%2fsecret/{name}", f"/static/{name}"):
        for method in ("GET", "POST"):
            head = f"{method} {path} HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 0"
            response = send(shared_server, head)
            assert status_of(response) in {400, 404, 405, 308}, (method, path)
            assert b"unseen" not in response
            assert b"root:" not in response


@pytest.mark.parametrize(
    "target",
    [
        *("//evil.example", "/%5Cevil.example", "%09//evil.example", "https:evil.example"),
        *("javascript:alert(1)", "https://evil.example/", "/ok%0d%0aSet-Cookie:x=1", "%00"),
    ],
)
def test_next_stays_on_the_site(shared_server: Server, target: str) -> None:
    body = f"theme=dark&next={target}".encode()
    head = (
        f"POST /theme HTTP/1.1\nHost: 127.0.0.1\nContent-Type: {FORM}\nContent-Length: {len(body)}"
    )
    response = send(shared_server, head, body)
    headers = response.partition(b"\r\n\r\n")[0].lower()
    assert status_of(response) == 303
    assert b"\r\nlocation: /\r\n" in headers
    assert b"set-cookie: x=1" not in headers


@pytest.mark.parametrize(
    "title", ["a\r\nSet-Cookie: x=1", "nul\x00nul", "🎓 角色", "../../etc/x", '"']
)
def test_odd_titles_make_sound_downloads(shared_server: Server, title: str) -> None:
    session = shared_server.start_session()
    shared_server.stream(session).wait_for("end")
    assert shared_server.post(f"{session}/title", {"title": title}).status == 303
    for format in ("json", "jsonl", "md", "csv"):
        reply = shared_server.get(f"/sessions/export?format={format}&id={session.split('/')[-1]}")
        assert reply.status == 200
        assert "set-cookie" not in reply.headers
        name = reply.headers["content-disposition"]
        assert ".." not in name
        assert "/" not in name
        assert name.isascii()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"input": "' + "x" * 1_100_000 + '"}', "application/json"),
        ("&".join(f"v-{number}=x" for number in range(50_000)), FORM),
        ("input=" + "x" * 1_100_000, FORM),
        ("[" * 100_000, "application/json"),
        ('{"input": NaN}', "application/json"),
        ('{"input": 1e999}', "application/json"),
        ('{"input": ' + "9" * 5000 + "}", "application/json"),
        ('{"input": "\\ud800"}', "application/json"),
        (
            "".join(
                f'--b\r\nContent-Disposition: form-data; name="v-{number}"\r\n\r\nx\r\n'
                for number in range(15_000)
            )
            + "--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("path", ["/personas/plain/preview", "/sessions"])
def test_monsters_are_answered_quickly_and_never_as_our_fault(
    shared_server: Server, path: str, body: str, content_type: str
) -> None:
    quiet_s = min(shared_server.get("/healthz").took_s for _ in range(3))
    replies = [
        shared_server.ask(
            "POST", path, body, {"Content-Type": content_type, "Accept": "application/json"}
        )
        for _ in range(3)
    ]
    assert {reply.status for reply in replies} <= {400, 413}
    assert all("error" in reply.json for reply in replies)
    assert min(reply.took_s for reply in replies) < 1 + 10 * quiet_s


@pytest.mark.parametrize(
    "raw",
    [
        *(b"GET /\x1b[31mred HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"),
        *(b"GET / HTTP/1.1\r\nHo\x1bst: x\r\n\r\n", b"<b>X</b> / HTTP/1.1\r\nHost: x\r\n\r\n"),
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\nConnection: close\r\n\r\n",
    ],
    ids=lambda raw: ascii(raw)[:30],
)
def test_what_is_no_request_is_refused_and_leaves_no_control_bytes(
    shared_server: Server, raw: bytes
) -> None:
    response = shared_server.exchange(raw)
    assert 400 <= status_of(response) < 500
    assert b"Traceback" not in response
    assert b"<b>X" not in response
    assert "\x1b" not in shared_server.stderr


@pytest.mark.parametrize(
    ("status", "lines", "kind"),
    [
        (400, "GET /sessions?q=PRIVATE one two HTTP/1.1", "request line"),
        (400, "GET /sessions?q=PRIVATE HTTP/9.9", "request line"),
        (400, "get /sessions?q=PRIVATE HTTP/1.1", "request line"),
        (400, "GET /v1/models HTTP/1.1\nAuthorization Bearer rb-PRIVATE", "header"),
        (400, "GET /v1/models HTTP/1.1\nAuthorization : Bearer rb-PRIVATE", "header"),
        (400, "GET /v1/models HTTP/1.1\nA: b\n Authorization: Bearer rb-PRIVATE", "header"),
        (400, "POST /v1/completions HTTP/1.1\nContent-Length: PRIVATE", "header"),
        (400, "POST /v1/completions HTTP/1.1\nContent-Length: 5\nContent-Length: 6", "header"),
        (414, f"GET /?q=PRIVATE{'x' * 9000} HTTP/1.1", "long request line"),
        (431, f"GET / HTTP/1.1\nX-Private: PRIVATE{'x' * 9000}", "large headers"),
        (431, "GET / HTTP/1.1" + f"\nX-Private: PRIVATE{'x' * 4000}" * 20, "large headers"),
        (417, "POST /v1/completions HTTP/1.1\nContent-Length: 2\nExpect: PRIVATE", "Expect header"),
        (501, "POST /v1/completions HTTP/1.1\nTransfer-Encoding: PRIVATE", "Transfer-Encoding"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_request_is_answered_as_programs_expect_and_nothing_of_it_is_repeated(
    shared_server: Server, status: int, lines: str, kind: str
) -> None:
    logged = len(shared_server.stderr)
    response = send(shared_server, f"{lines}\nHost: 127.0.0.1")
    head, _, body = response.partition(b"\r\n\r\n")
    assert status == status_of(response)
    assert b"Content-Type: application/json\r\n" in head
    error = json.loads(body)["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert ("server_error" if status == 501 else "invalid_request_error") == error["type"]
    line = shared_server.stderr[logged:]
    assert f"A malformed request was refused: {kind}" in line
    for text in (response.decode().lower(), line.lower()):
        assert "private" not in text
        assert "127.0.0.1" not in text


def test_chunked_body_is_limited_too(shared_server: Server) -> None:
    head = (
        b"POST /personas/plain/preview HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        b"Connection: close\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
        % FORM.encode()
    )
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with shared_server.open_socket() as sock:
        sock.sendall(head + b"6\r\ninput=\r\n")
        try:
            for _ in range(40):
                sock.sendall(piece)
            sock.sendall(b"0\r\n\r\n")
        except OSError:
            return
        assert status_of(sock.recv(65536)) == 413


@pytest.mark.parametrize("path", ["/nothing/<b>x</b>", "/turns/<b>x</b>", "/sessions/<b>x</b>"])
def test_errors_show_nothing_of_the_inside_and_echo_no_html(
    shared_server: Server, path: str
) -> None:
    quoted = path.replace("<", "%3C").replace(">", "%3E")
    for accept in ("text/html", "application/json"):
        reply = shared_server.get(quoted, Accept=accept)
        assert reply.status == 404
        assert reply.headers["content-type"].startswith(accept)
        for part in ("Traceback", "werkzeug", str(ROOT), str(shared_server.folder)):
            assert part not in reply.text
    assert "<b>" not in shared_server.get(quoted, Accept="text/html").text


def test_slow_body_is_told_and_its_thread_taken_back(hasty_server: Server) -> None:
    head = (
        b"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: 100\r\n"
        b"Connection: close\r\n\r\ntheme=" % FORM.encode()
    )
    assert status_of(hasty_server.exchange(head)) == 408


@pytest.mark.parametrize("megabytes", [1, 5, 10.4, 12, 40])
def test_body_that_is_too_large_can_be_sent_to_its_end_and_its_refusal_read(
    shared_server: Server, megabytes: float
) -> None:
    body = b"theme=".ljust(round(megabytes * 1_000_000), b"x")
    head = f"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    with closing(shared_server.open_socket()) as sock:
        sock.sendall(head.encode() + body)
        assert status_of(sock.recv(65536)) == 413


def test_body_that_is_too_large_is_not_waited_for(shared_server: Server) -> None:
    head = f"POST /theme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\nContent-Length: 20000000\r\n\r\n"
    with closing(shared_server.open_socket()) as sock:
        sock.sendall(head.encode())
        answer = sock.recv(65536)
    assert status_of(answer) == 413
    assert b"\r\nConnection: close\r\n" in answer


def sessions_in(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 100\r\n\r\n%b",
        b"Transfer-Encoding: chunked\r\n\r\n40\r\n%b",
        b"Transfer-Encoding: chunked\r\n\r\n2d\r\n%b\r\n",
    ],
)
@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/theme", FORM, b"theme=dark".ljust(45, b"&")),
        ("/sessions", FORM, b"persona=plain".ljust(45, b"&")),
        ("/v1/completions", "application/json", b'{"model": "plain", "prompt": "to be or not"}\n'),
    ],
)
def test_body_of_which_the_rest_never_comes_does_nothing(
    shared_server: Server, path: str, content_type: str, body: bytes, framing: bytes
) -> None:
    rows = sessions_in(shared_server.database)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
    with closing(shared_server.open_socket()) as sock:
        sock.sendall(head.encode() + framing % body)
        sock.shutdown(socket.SHUT_WR)
        assert status_of(sock.recv(65536)) == 408
    assert rows == sessions_in(shared_server.database)
