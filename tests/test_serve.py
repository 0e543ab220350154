"""`rolebook serve`: the real server in a process of its own, from the first line it prints to its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlencode

from tests.cli.conftest import Shell, log, rehearsing, shell

__all__ = ["log", "rehearsing", "shell"]


@contextmanager
def serving(shell: Shell, *arguments: str) -> Iterator[tuple[Any, int]]:
    """A running server and its port; killed at the end if it still runs."""
    with shell.start("serve", "--port", "0", *arguments) as process:
        try:
            line = process.stdout.readline().decode()
            found = re.fullmatch(r"Rolebook: http://127\.0\.0\.1:(\d+)/\n", line)
            assert found, line + process.stderr.read().decode()
            yield process, int(found[1])
        finally:
            process.kill()


def stop(process: Any, number: signal.Signals) -> str:
    """Ask the server to stop, see that it ends well, and return what it has said."""
    process.send_signal(number)
    assert 0 == process.wait(10)
    return str(process.stderr.read().decode())


@contextmanager
def asked(port: int, method: str, path: str, **fields: str) -> Iterator[HTTPResponse]:
    """The response to one request."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        kind = "text/event-stream" if path.endswith("/turns") else "*/*"
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": kind}
        connection.request(method, path, urlencode(fields), headers)
        with connection.getresponse() as response:
            yield response


def test_pages_are_served_and_ctrl_c_ends_with_success(rehearsing: Shell) -> None:
    with serving(rehearsing) as (process, port):
        with asked(port, "GET", "/healthz") as response:
            assert 200 == response.status
        notices = stop(process, signal.SIGINT)
    assert "Upstream: rehearsal. No language model answers." in notices
    assert "Ctrl-C" in notices


def test_start_says_who_answers_and_how_many_problems_there_are(shell: Shell) -> None:
    (shell.folder / "personas" / "bad.yaml").write_text("name: Bad\n")
    with serving(shell) as (process, _):
        notices = stop(process, signal.SIGTERM)
    assert f" at {shell.environment['OPENAI_BASE_URL']}, model: ok." in notices
    assert "files: 1." in notices
    assert "sk-secret" not in notices


def test_sigterm_ends_running_streams_with_an_event_that_says_so(shell: Shell) -> None:
    session = shell.run("ask", "plain", "Hello", "--json").json["session_id"]
    with serving(shell, "--model", "ok?tokens=2000&delay_ms=50") as (process, port):
        with asked(port, "POST", f"/sessions/{session}/turns", input="Go on") as stream:
            assert 200 == stream.status
            assert stream.read1(100).startswith(b"event: turn")
            process.send_signal(signal.SIGTERM)
            rest = stream.read()
        assert 0 == process.wait(10)
    assert rest.decode().rpartition("event: ")[2].startswith(("error", "end"))
    found = shell.open_log()
    assert ["complete", "interrupted"] == [turn.status for turn in found.session_turns(session)]
    found.close()


def test_requests_and_turns_are_lines_of_json_that_tell_nothing_private(shell: Shell) -> None:
    session = shell.run("ask", "plain", "Hello", "--json").json["session_id"]
    with serving(shell, "--log-format", "json") as (process, port):
        with asked(port, "POST", f"/sessions/{session}/turns", input="A secret") as stream:
            stream.read()
            request_id = stream.headers["X-Request-Id"]
        with asked(port, "GET", "/sessions?q=secret") as response:
            response.read()
        with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as program:
            said = {"model": "plain", "messages": [{"role": "user", "content": "A secret"}]}
            headers = {"Content-Type": "application/json", "X-Request-Id": "proxy-7"}
            program.request("POST", "/v1/chat/completions", json.dumps(said), headers)
            called = program.getresponse()
            called.read()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nAuthorization Bearer secret\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
        notices = stop(process, signal.SIGTERM)
    lines = [json.loads(line) for line in notices.splitlines()]
    begin = [line for line in lines if line["logger"] == "rolebook.serve"]
    assert ["Upstream:", "Ctrl-C"] == [line["message"].split()[0] for line in begin]
    lines = [line for line in lines if line not in begin]
    turn, asking, listing = (
        next(line for line in lines if line.get("route") == route)
        for route in (None, "/sessions/<session_id>/turns", "/sessions")
    )
    assert ("rolebook.turn", "complete", "ok") == (turn["logger"], turn["status"], turn["model"])
    assert (session, request_id) == (turn["session_id"], turn["request_id"])
    assert (request_id, "POST", 200) == (
        asking["request_id"],
        asking["method"],
        asking["status"],
    )
    assert asking["duration_ms"] >= turn["duration_ms"]
    assert ("GET", 200) == (listing["method"], listing["status"])
    called_id = called.headers["X-Request-Id"]
    call = [line for line in lines if line.get("request_id") == called_id]
    assert {"rolebook.turn", "rolebook.request"} == {line["logger"] for line in call}
    assert {called_id} == {line["turn_id"] for line in call}
    assert ["proxy-7"] == [line["given_id"] for line in call if "given_id" in line]
    assert "A malformed request was refused: header" in [line["message"] for line in lines]
    assert "secret" not in notices
    # A turn names its upstream, which has no other name here.
    assert not any("127.0.0.1" in str(line) for line in lines if "upstream" not in line)


def test_port_that_is_taken_is_said_with_what_to_do(rehearsing: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = rehearsing.spawn("serve", "--port", str(port))
    assert 1 == finished.status
    assert f"Port {port} is in use" in finished.notices
    assert f"--port {port + 1}" in finished.notices
    assert "Traceback" not in finished.notices


def test_log_that_is_no_database_is_said_and_left_alone(rehearsing: Shell) -> None:
    (rehearsing.folder / "notes.txt").write_text("not a database, " * 100)
    finished = rehearsing.spawn("serve", "--port", "0", "--database", "notes.txt")
    assert 1 == finished.status
    assert "notes.txt" in finished.notices
    assert (rehearsing.folder / "notes.txt").read_text().startswith("not a database")


def test_network_is_not_served_before_somebody_can_log_in(rehearsing: Shell) -> None:
    for option, value in (
        ("host", "0.0.0.0"),
        ("proxies", "1"),
        ("host-names", "roles.example.com"),
    ):
        refused = rehearsing.spawn("serve", "--port", "0", f"--{option}", value)
        assert 2 == refused.status
        assert f"By {option.replace('-', '_')} {value} others reach Rolebook" in refused.notices
        assert "rolebook users add NAME --role administrator" in refused.notices
        assert "--allow-network" in refused.notices
    with (
        serving(rehearsing, "--proxies", "1", "--allow-network") as (_, port),
        asked(port, "GET", "/sessions") as response,
    ):
        assert 200 == response.status
    rehearsing.run("users", "add", "Chen", "--role", "administrator", stdin=b"correct horse")
    never = rehearsing.spawn("serve", "--port", "0", "--host", "0.0.0.0", "--login", "never")
    assert 2 == never.status
    assert "login set to never" in never.notices


def test_only_a_setting_says_who_is_believed_about_the_scheme(rehearsing: Shell) -> None:
    rehearsing.run("users", "add", "Chen", "--role", "administrator", stdin=b"correct horse")
    body = urlencode({"name": "Chen", "password": "correct horse"})
    for proxies, expected in (("0", False), ("1", True)):
        with (
            serving(rehearsing, "--proxies", proxies) as (_, port),
            closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection,
        ):
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "X-Forwarded-Proto": "https",
            }
            connection.request("POST", "/login", body, headers)
            cookie = connection.getresponse().headers["Set-Cookie"]
        assert expected is ("Secure" in cookie)


def test_wsgi_entry_is_an_application(rehearsing: Shell) -> None:
    code = (
        "import app, json; print(json.dumps([rule.rule for rule in app.app.url_map.iter_rules()]))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=rehearsing.folder,
        env=rehearsing.environment,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert "/healthz" in json.loads(finished.stdout)
