"""One HTTP connection, against replies as servers send them and as they should not."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from rolebook.core.errors import UpstreamReplyError
from rolebook.core.upstream import Timeouts
from rolebook.upstream.call import Call
from rolebook.upstream.http1 import MAX_HEAD_BYTES, Http1Connection
from rolebook.upstream.network import CallNetwork
from tests.upstream.scripted_server import CLOSE, ScriptedServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TWO_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\ncontent-length: %b\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def connected(server: ScriptedServer) -> Iterator[Http1Connection]:
    timeouts = Timeouts(connect_s=5, first_byte_s=5)
    with Call(timeouts, deadline=math.inf):
        connection = Http1Connection(lambda: CallNetwork().connect_tcp("127.0.0.1", server.port))
        try:
            yield connection
        finally:
            connection.close()


def fetch(connection: Http1Connection, **request: object) -> tuple[int, bytes]:
    given = {"method": "POST", "url": "http://h/v1/x?y=1", "content": b"hello", **request}
    reply = connection.send(httpx2.Request(**given))  # type: ignore[arg-type]
    try:
        return reply.status, b"".join(reply)
    finally:
        reply.close()


def answer_to(*pieces: bytes) -> tuple[int, bytes]:
    with ScriptedServer(pieces) as server, connected(server) as connection:
        return fetch(connection)


def test_request_is_written_as_rfc_9112_has_it() -> None:
    with ScriptedServer([OK]) as server, connected(server) as connection:
        fetch(connection, headers={"X-One": "1"})

    assert server.requests == [
        b"POST /v1/x?y=1 HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nContent-Length: 5\r\n\r\nhello"
    ]


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([OK], (200, b"ok")),
        ([OK[:9], OK[9:30], OK[30:]], (200, b"ok")),
        ([CHUNKED, b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"], (200, b"abcde")),
        ([CHUNKED, b"2;x=y\r\nab\r\n0\r\nTrailer: 1\r\n\r\n"], (200, b"ab")),
        ([CHUNKED, b"2 \r\nab\r\n0\r\n\r\n"], (200, b"ab")),
        ([b"HTTP/1.1 200 OK\r\n\r\nto the end", CLOSE], (200, b"to the end")),
        ([b"HTTP/1.0 200 OK\r\n\r\nto the end", CLOSE], (200, b"to the end")),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], (204, b"")),
        ([b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n"], (500, b"")),
        ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", OK], (200, b"ok")),
        ([b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"], (200, b"ok")),
        ([b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"], (200, b"ok")),
        ([b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok"], (200, b"ok")),
        ([CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n0\r\n\r\n")], (200, b"")),
    ],
)
def test_reply_is_read_whole(pieces: list[bytes], answer: tuple[int, bytes]) -> None:
    assert answer_to(*pieces) == answer


@pytest.mark.parametrize(
    "pieces",
    [
        [CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-", CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", CLOSE],
        [TWO_LENGTHS % b"3"],
        [TWO_LENGTHS % b"2, 3"],
        [TWO_LENGTHS % b""],
        [b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\nContent-Length : 2\r\n\r\nok"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n", CLOSE],
        [CHUNKED, b"5\r\nab", CLOSE],
        [CHUNKED, b"2\r\nab\r\n", CLOSE],
        [CHUNKED, b"zz\r\nab\r\n"],
        [CHUNKED.replace(b"chunked", b"identity"), b"ab"],
        [b"<html>no HTTP</html>"],
        [b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nxyz"],
    ],
)
def test_what_ends_too_early_or_is_no_http_is_an_error(pieces: list[bytes]) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        answer_to(*pieces)


@pytest.mark.parametrize(
    "pieces",
    [
        [TWO_LENGTHS % b"2"],
        [TWO_LENGTHS % b" 2 , 2"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"],
        [bytes([byte]) for byte in TWO_LENGTHS % b"2"],
        [b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + TWO_LENGTHS % b"2"],
        [b"HTTP/1.1 103 Hints\r\nContent-Length: 0\r\n\r\n" + TWO_LENGTHS % b"2"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", (TWO_LENGTHS % b"2")[:-6], (TWO_LENGTHS % b"2")[-6:]],
    ],
)
def test_length_that_is_told_twice_is_one_where_both_say_the_same(pieces: list[bytes]) -> None:
    with ScriptedServer(pieces, [OK]) as server, connected(server) as it:
        assert fetch(it) == fetch(it) == (200, b"ok")
        assert server.connections == 1


def test_length_that_is_told_twice_may_be_cut_anywhere() -> None:
    reply = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + TWO_LENGTHS % b"2"
    scripts = [[reply[:at], reply[at:]] for at in range(1, len(reply))]
    with ScriptedServer(*scripts) as server, connected(server) as it:
        assert {(200, b"ok")} == {fetch(it) for _ in scripts}


def test_headers_of_a_reply_are_its_own() -> None:
    interim = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
    trailing = CHUNKED + b"2\r\nok\r\n0\r\nTrailer: 1\r\n\r\n"
    with ScriptedServer([interim, trailing]) as server, connected(server) as connection:
        reply = connection.send(httpx2.Request("GET", "http://h/"))
        list(reply)

    assert reply.headers == [(b"Transfer-Encoding", b"chunked")]


def test_headers_without_an_end_are_cut_off() -> None:
    line = b"X: " + b"a" * 1000 + b"\r\n"
    endless = [b"HTTP/1.1 200 OK\r\n", *[line] * (MAX_HEAD_BYTES // 500)]

    with pytest.raises(UpstreamReplyError) as caught:
        answer_to(*endless)

    assert "headers without an end" in caught.value.message


def test_trailers_without_an_end_are_cut_off() -> None:
    line = b"X: " + b"a" * 1000 + b"\r\n"
    endless = [CHUNKED, b"2\r\nok\r\n0\r\n", *[line] * (MAX_HEAD_BYTES // 500)]

    with pytest.raises(UpstreamReplyError):
        answer_to(*endless)


def test_what_came_before_a_fault_is_passed_on_before_it() -> None:
    with ScriptedServer([CHUNKED + b"2\r\nok\r\nzz\r\n"]) as server, connected(server) as it:
        pieces = iter(it.send(httpx2.Request("GET", "http://h/")))
        assert next(pieces) == b"ok"
        with pytest.raises(httpx2.RemoteProtocolError, match="chunk size"):
            next(pieces)


def test_what_arrives_together_is_passed_on_together() -> None:
    chunks = CHUNKED + b"2\r\nab\r\n" * 3 + b"0\r\n\r\n"
    with ScriptedServer([chunks]) as server, connected(server) as connection:
        assert list(connection.send(httpx2.Request("GET", "http://h/"))) == [b"ababab"]


def test_connection_serves_one_request_after_the_other() -> None:
    with ScriptedServer([OK], [CHUNKED + b"0\r\n\r\n"], [OK]) as server, connected(server) as it:
        for _ in range(3):
            fetch(it)

    assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize(
    "last",
    [
        [OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")],
        [OK + b"HTTP/1.1 200 Again\r\nContent-Length: 0\r\n\r\n"],
        [OK + b"what"],
        [b"HTTP/1.1 200 OK\r\n\r\nto the end", CLOSE],
    ],
)
def test_connection_that_cannot_serve_again_is_opened_anew(last: list[bytes]) -> None:
    with ScriptedServer(last, [OK]) as server, connected(server) as connection:
        fetch(connection)
        assert fetch(connection) == (200, b"ok")

    assert server.connections == 2


def test_connection_that_the_server_closed_meanwhile_is_opened_anew() -> None:
    with ScriptedServer([OK, CLOSE], [OK]) as server, connected(server) as connection:
        fetch(connection)
        assert server.has_closed.wait(5)
        assert fetch(connection) == (200, b"ok")

    assert server.connections == 2


def test_reply_that_was_not_read_to_its_end_takes_its_connection_along() -> None:
    with ScriptedServer([OK[:-1]], [OK]) as server, connected(server) as connection:
        connection.send(httpx2.Request("GET", "http://h/")).close()
        assert fetch(connection) == (200, b"ok")

    assert server.connections == 2


def test_answer_of_a_server_that_takes_no_more_of_the_request_is_read() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    with ScriptedServer([refusal, CLOSE], reads_bodies=False) as server, connected(server) as it:
        assert fetch(it, content=b"x" * 10_000_000)[0] == 413


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\0b"), ("X Y", "a"), ("", "a"), ("X:", "a")],
)
def test_header_that_is_none_is_not_sent(name: str, value: str) -> None:
    with (
        ScriptedServer() as server,
        connected(server) as connection,
        pytest.raises(httpx2.LocalProtocolError),
    ):
        fetch(connection, headers=[(name, value)])

    assert server.connections == 0
