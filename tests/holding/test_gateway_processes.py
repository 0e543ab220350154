"""A server of several processes: `/v1` is answered by some, all else by the one that was started."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rolebook.core.access import Role
from rolebook.core.budget import Limits
from rolebook.wiring import Rolebook, open_rolebook
from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import (
    HASTY,
    Reply,
    Server,
    connected,
    environment_of,
    make_folder,
    running,
    wait_until,
)

ROUTE = "gateway.list_models"
FLOWING = "ok?tokens=2000&delay_ms=20"
SEVERAL = ("--gateway-processes", "2")
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def children(process_id: int) -> list[int]:
    """The processes that one has made and that run the server as well."""
    own = Path(f"/proc/{process_id}/cmdline").read_bytes()
    found = [
        int(child)
        for listing in Path(f"/proc/{process_id}/task").glob("*/children")
        for child in listing.read_text().split()
    ]
    return [child for child in found if Path(f"/proc/{child}/cmdline").read_bytes() == own]


def gateways(server: Server) -> list[int]:
    """The processes that answer `/v1`."""
    (nursery,) = children(server.process.pid)
    return children(nursery)


def is_running(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return status != "Z"


def figures(server: Server, name: str, **headers: str) -> Counter[tuple[str, str]]:
    """A figure by process and by what it is of: the route, or the status of turns."""
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(server.get("/metrics", **headers).text):
        for sample in family.samples:
            if sample.name == name:
                of = sample.labels.get("endpoint", sample.labels.get("status", ""))
                found[sample.labels["process"], of] += int(sample.value)
    return found


def wait_for_all(server: Server, count: int = 2, **headers: str) -> Server:
    """Until so many processes for `/v1` are there."""

    def are_there() -> bool:
        named = {process for process, _ in figures(server, "rolebook_live_turns", **headers)}
        return len(named) == count + 1

    wait_until(are_there, 20)
    return server


@pytest.fixture(scope="module")
def several(
    tmp_path_factory: pytest.TempPathFactory, shared_upstream: FakeUpstream
) -> Iterator[Server]:
    """One server of three processes for all tests that leave it alive."""
    folder = make_folder(tmp_path_factory.mktemp("several") / "rolebook")
    with running(folder, connected(shared_upstream), arguments=SEVERAL) as server:
        yield wait_for_all(server)


def ask(
    server: Server,
    model: str = "",
    *,
    is_streamed: bool = False,
    over: http.client.HTTPConnection | None = None,
    **fields: Any,
) -> http.client.HTTPConnection:
    """A connection on which a program has asked; a new one, unless it is to be over an old one."""
    connection = over or server.connect()
    messages = [{"role": "user", "content": "Hello"}]
    name = f"plain/{model}" if model else "plain"
    body = {"model": name, "stream": is_streamed, "messages": messages, **fields}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection


def begin_stream(
    stack: ExitStack, server: Server, model: str = FLOWING, **fields: Any
) -> http.client.HTTPResponse:
    """A stream of which the first piece has come."""
    response = stack.enter_context(
        closing(ask(server, model, is_streamed=True, **fields))
    ).getresponse()
    assert response.readline().startswith(b"data: {")
    return response


def status_of(connection: http.client.HTTPConnection) -> int:
    """What a program was answered."""
    with closing(connection):
        response = connection.getresponse()
        response.read()
        return response.status


def last_event(response: http.client.HTTPResponse) -> Mapping[str, Any]:
    """The last event of a stream that ends with an error."""
    *_, last, blank = response.read().decode().split("\n\n")
    assert "" == blank
    event: Mapping[str, Any] = json.loads(last.strip().removeprefix("data: "))
    return event


def test_each_request_of_one_connection_is_answered_where_it_belongs(several: Server) -> None:
    name = "rolebook_http_responses_total"
    before = figures(several, name)
    with closing(several.connect()) as connection:
        for method, path, body in [
            ("GET", "/v1/models", None),
            ("GET", "/healthz", None),
            ("POST", "/v1/chat/completions", {"model": "plain", "messages": []}),
            (
                "POST",
                "/v1/chat/completions",
                {"model": "plain", "messages": [{"role": "user", "content": "Hi"}]},
            ),
            ("GET", "/", None),
            ("DELETE", "/v1/models", None),
            ("GET", "/v1", None),
        ]:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            port = connection.sock.getsockname()[1]
            response = connection.getresponse()
            response.read()
            assert response.status < 500
            assert connection.sock is not None, (method, path)
            assert port == connection.sock.getsockname()[1]
    answered = figures(several, name) - before
    by_pages = Counter({of: n for (process, of), n in answered.items() if process == "pages"})
    assert {"status.report_health": 1, "personas.list": 1, "": 1} == {
        of: n for of, n in by_pages.items() if of != "metrics.show"
    }
    by_others: Counter[str] = Counter()
    for (process, of), number in answered.items():
        if process != "pages" and of != "metrics.show":
            by_others[of] += number
    assert {"gateway.list_models": 1, "gateway.create_chat_completion": 2, "": 1} == by_others


def statuses(received: bytes) -> list[str]:
    """Which answers came one after the other: the models, or how the server is."""
    return re.findall(r'"object": ?"list"|"status": ?"ok"', received.decode())


def read_answers(connection: Any, count: int) -> bytes:
    received = b""
    while len(statuses(received)) < count:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received


def test_requests_that_are_sent_at_once_are_answered_in_their_order(several: Server) -> None:
    with closing(several.open_socket()) as sock:
        sock.sendall(MODELS + HEALTH + HEALTH + MODELS + MODELS + HEALTH)
        received = read_answers(sock, 6)
    kinds = ["models" if "list" in found else "health" for found in statuses(received)]
    assert ["models", "health", "health", "models", "models", "health"] == kinds


@pytest.mark.parametrize("request_bytes", [MODELS, HEALTH])
def test_request_that_comes_in_bits_is_answered_and_holds_nobody_up(
    several: Server, request_bytes: bytes
) -> None:
    with closing(several.open_socket()) as sock:
        # The connection has been at either kind of process before its bits come.
        for before in (b"", MODELS, HEALTH):
            if before:
                sock.sendall(before)
                read_answers(sock, 1)
            for bit in (request_bytes[:2], request_bytes[2:7], request_bytes[7:30]):
                sock.sendall(bit)
                assert several.get("/v1/models").status == 200
            sock.sendall(request_bytes[30:])
            read_answers(sock, 1)


def test_streams_are_shared_out_and_counted(several: Server) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            begin_stream(stack, several)
        wait_until(
            lambda: (
                {("gateway-1", ""): 2, ("gateway-2", ""): 2, ("pages", ""): 0}
                == figures(several, "rolebook_live_turns")
            )
        )
        assert 4 == several.get("/api/v1/status").json["live_turns"]
    name = "rolebook_turns_total"
    wait_until(lambda: sum(figures(several, name).values()) >= 4)
    assert "pages" not in {process for process, _ in figures(several, name)}


def test_answer_of_another_process_is_shown_as_running_and_can_be_stopped(
    several: Server,
) -> None:
    with ExitStack() as stack:
        response = begin_stream(stack, several)
        turn, session = response.headers["X-Request-Id"], response.headers["X-Rolebook-Session"]
        page = several.get(f"/sessions/{session}", Accept="text/html").text
        assert 'data-status="pending"' in page
        assert f"/turns/{turn}/stop" in page
        assert several.post(f"/turns/{turn}/stop").json == {"stopped": True}
        assert "stopped" in last_event(response)["error"]["message"]
    assert "cancelled" == several.wait_for_turn(turn, "cancelled")["status"]
    assert several.post(f"/turns/{turn}/stop").json == {"stopped": False}


def test_session_is_answered_by_one_process_at_a_time(several: Server) -> None:
    session = several.start_session().rpartition("/")[2]
    own = {"rolebook": {"session": session}}
    with ExitStack() as stack:
        response = begin_stream(stack, several, **own)
        program = ask(several, **own)
        page = several.post(f"/sessions/{session}/turns", {"input": "Meanwhile"})
        assert [409, 409] == [page.status, status_of(program)]
        several.post(f"/turns/{response.headers['X-Request-Id']}/stop")
        response.read()
    assert 200 == status_of(ask(several, **own))


def test_changes_of_files_and_labels_hold_in_all_processes(
    several: Server, shared_upstream: FakeUpstream
) -> None:
    persona = several.folder / "personas/changing.yaml"
    for text in ("One.", "Two.", "Three."):
        persona.write_text(f"name: Changing\nsystem: {text}\n")
        with ExitStack() as stack:
            opened = [stack.enter_context(closing(several.connect())) for _ in range(4)]
            for connection in opened:
                body = {"model": "changing", "messages": [{"role": "user", "content": "Hi"}]}
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
                connection.getresponse().read()
                sent = shared_upstream.requests[-1].body["messages"][0]["content"]
                assert text == sent.strip()


def test_turns_that_wait_for_the_log_are_counted_and_not_denied_in_all_processes(
    several: Server,
) -> None:
    with closing(sqlite3.connect(several.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with closing(ask(several)) as program:
            response = program.getresponse()
            response.read()
        assert 200 == response.status
        session = f"/api/v1/sessions/{response.headers['X-Rolebook-Session']}"
        missing = several.get(session)
        assert 503 == missing.status
        assert "perhaps only not yet" in missing.text
        wait_until(lambda: several.get("/healthz").json["unwritten_turns"] == 1)
        page = several.get("/status", Accept="text/html").text
        assert "<dt>Not written yet</dt><dd>1</dd>" in page
        other.execute("ROLLBACK")
    wait_until(lambda: several.get("/healthz").json["status"] == "ok", 10)
    assert 200 == several.get(session).status
    assert 404 == several.get("/api/v1/sessions/01nothing").status


def test_processes_that_hang_are_waited_for_once_and_named(several: Server) -> None:
    hanging = gateways(several)
    with ExitStack() as stack:
        for process_id in hanging:
            stack.callback(os.kill, process_id, signal.SIGCONT)
            os.kill(process_id, signal.SIGSTOP)
        # One for each upstream, its keys and its silences would take longer than these are waited for here.
        named = several.get("/api/v1/status").json["unanswering"]
        page = several.get("/status", Accept="text/html").text
    assert ["gateway-1", "gateway-2"] == named
    assert "The gateway processes gateway-1, gateway-2 did not answer" in page
    wait_until(lambda: several.get("/api/v1/status").json["unanswering"] == [])


def test_those_who_are_no_process_of_the_server_find_no_way_to_ask_them(several: Server) -> None:
    assert 404 == several.get("/siblings/keys?upstream=x").status
    assert 404 == several.post("/siblings/stop").status


def test_start_of_another_rolebook_leaves_running_answers_alone(several: Server) -> None:
    with ExitStack() as stack:
        response = begin_stream(stack, several)
        command = [sys.executable, "-m", "rolebook", "sessions", "--json"]
        environment = environment_of({})
        listed = subprocess.run(
            command, cwd=several.folder, env=environment, capture_output=True, check=True
        )
        assert json.loads(listed.stdout)
        turn = response.headers["X-Request-Id"]
        assert "pending" == several.turns()[turn]["status"]
        assert several.post(f"/turns/{turn}/stop").json == {"stopped": True}
        response.read()
    several.wait_for_turn(turn, "cancelled")


def with_users(folder: Path, **limits: int) -> tuple[Rolebook, str, str]:
    """A Rolebook on the log of a folder, with a token for figures and one with limits."""
    book = open_rolebook(environment={"ROLEBOOK_DATABASE": str(folder / "data/rolebook.db")})
    user = book.accounts.create_user("Ada", Role.ADMINISTRATOR, "a long enough password")
    _, watching = book.accounts.create_key(user, "watching")
    _, limited = book.accounts.create_key(user, "limited", limits=Limits(**limits))
    return book, watching, limited


def test_rate_of_a_key_holds_over_all_processes_and_a_revoked_one_opens_none(
    start: StartServer, folder: Path
) -> None:
    book, watching, limited = with_users(folder, requests_per_minute=3)
    server = wait_for_all(start(arguments=SEVERAL), Authorization=f"Bearer {watching}")
    bearer = {"Authorization": f"Bearer {limited}"}

    def list_models(_: int) -> Reply:
        return server.get("/v1/models", **bearer)

    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(list_models, range(14)))
    assert {200: 3, 429: 11} == Counter(reply.status for reply in replies)
    assert all(int(r.headers["retry-after"]) <= 20 for r in replies if r.status == 429)
    assert 429 == server.get("/api/v1/caller", **bearer).status
    with closing(book.log):
        (key,) = [key for key in book.accounts.list_keys() if key.name == "watching"]
        book.accounts.revoke_key(key)
    bearer = {"Authorization": f"Bearer {watching}"}
    paths = ["/v1/models"] * 4 + ["/metrics"]
    assert {401} == {server.get(path, **bearer).status for path in paths}


def test_calls_at_once_with_a_key_are_limited_in_sum(
    start: StartServer, folder: Path, upstream: FakeUpstream
) -> None:
    settings = {"base_url": upstream.base_url, "model": "ok", "concurrency": 3}
    (folder / "rolebook.yaml").write_text(
        json.dumps({"upstream": "fake", "upstreams": {"fake": settings}})
    )
    server = wait_for_all(start(arguments=SEVERAL, environment={"OPENAI_BASE_URL": ""}))
    with ExitStack() as stack:
        asked = [stack.enter_context(closing(ask(server, "ok?ttft_ms=250"))) for _ in range(12)]
        assert [200] * 12 == [connection.getresponse().status for connection in asked]
    calls = [(one.arrived_at, one.finished.at or 0.0) for one in upstream.requests]
    at_once = [sum(begin <= at < end for begin, end in calls) for at, _ in calls]
    assert 3 == max(at_once)
    answered = figures(server, "rolebook_turns_total")
    assert {"gateway-1", "gateway-2"} == {process for process, _ in answered}


def test_calls_of_all_processes_wait_in_one_line(
    start: StartServer, folder: Path, upstream: FakeUpstream
) -> None:
    settings = {"base_url": upstream.base_url, "model": "ok", "concurrency": 1}
    (folder / "rolebook.yaml").write_text(
        json.dumps({"upstream": "fake", "upstreams": {"fake": settings}})
    )
    server = wait_for_all(start(arguments=SEVERAL, environment={"OPENAI_BASE_URL": ""}))
    clients, rounds = 6, 6
    answered, when_first_is_done = [-1] * clients, [0] * clients
    all_are_warm = Barrier(clients)

    def ask_again_and_again(client: int) -> None:
        with closing(server.connect()) as connection:
            for _ in range(rounds + 1):
                response = ask(server, "ok?ttft_ms=20", over=connection).getresponse()
                response.read()
                assert 200 == response.status
                answered[client] += 1
                if answered[client] == 0:
                    all_are_warm.wait(20)
                if answered[client] == rounds and not any(when_first_is_done):
                    when_first_is_done[:] = answered

    with ThreadPoolExecutor(clients) as threads:
        for _ in threads.map(ask_again_and_again, range(clients)):
            pass
    processes = {process for process, _ in figures(server, "rolebook_turns_total")}
    assert {"gateway-1", "gateway-2"} == processes
    assert min(when_first_is_done) >= rounds / 2, when_first_is_done


def test_keys_and_upstreams_are_shown_and_tried_again_in_all_processes(
    start: StartServer, folder: Path
) -> None:
    arguments = (*SEVERAL, "--first-byte-timeout", "0.6")
    with FakeUpstream(require_key="sk-right-0123456789abcdef") as upstream:
        environment = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "sk-wrong-0123456789abcdef,sk-right-0123456789abcdef",
        }
        server = wait_for_all(start(arguments=arguments, environment=environment))

        def found() -> Mapping[str, Any]:
            status: Mapping[str, Any] = server.get("/api/v1/status").json["upstreams"][0]
            return status

        with closing(server.connect()) as connection:
            while not found()["silent_models"]:
                response = ask(server, "hang", over=connection).getresponse()
                response.read()
                assert 504 == response.status
        assert ["refused", "ready"] == [key["state"] for key in found()["keys"]]
        assert "sk-wrong" not in server.get("/status", Accept="text/html").text
        (silent,) = found()["silent_models"]
        assert "hang" == silent["model"]
        name = found()["name"]
        assert 303 == server.post("/status/keys", {"upstream": name, "position": "1"}).status
        assert 303 == server.post("/status/upstreams", {"upstream": name, "model": "hang"}).status
        assert ["ready", "ready"] == [key["state"] for key in found()["keys"]]
        assert 0 == found()["silent_models"][0]["seconds"]
        assert 404 == server.post("/status/upstreams", {"upstream": name, "model": "x"}).status


def test_process_that_hangs_gets_no_connections_until_it_goes_on(start: StartServer) -> None:
    server = wait_for_all(start(arguments=SEVERAL, command=HASTY))

    def are_up() -> list[int]:
        found = figures(server, "rolebook_process_up")
        return [found[process, ""] for process in ("pages", "gateway-1", "gateway-2")]

    def answered() -> Counter[str]:
        found = figures(server, "rolebook_http_responses_total")
        return Counter({process: n for (process, of), n in found.items() if of == ROUTE})

    assert [1, 1, 1] == are_up()
    with ExitStack() as stack:
        for count, process_id in enumerate(gateways(server), 1):
            stack.callback(os.kill, process_id, signal.SIGCONT)
            os.kill(process_id, signal.SIGSTOP)
            wait_until(lambda: server.stderr.count("has not been heard") == count, 15)  # noqa: B023
            replies = [server.get("/v1/models") for _ in range(8)]
            assert [200] * 8 == [reply.status for reply in replies]
            assert max(reply.took_s for reply in replies) < 2
            assert 3 - count == sum(are_up())
        # Where all of them hang, the process of the pages answers.
        assert 8 == answered()["pages"]
    wait_until(lambda: are_up() == [1, 1, 1])
    assert {"1", "2"} == set(re.findall(r"^gateway-(\d) goes on$", server.stderr, re.MULTILINE))
    before = answered()
    with ExitStack() as stack:
        # All at once: one after the other may all find the same one free.
        clients = [stack.enter_context(closing(server.connect())) for _ in range(8)]
        for client in clients:
            client.request("GET", "/v1/models")
        assert [200] * 8 == [client.getresponse().status for client in clients]
    assert {"gateway-1", "gateway-2"} == (answered() - before).keys()


def test_process_that_hangs_ends_with_the_server(start: StartServer) -> None:
    server = wait_for_all(start(arguments=SEVERAL, command=HASTY))
    hanging, _ = gateways(server)
    os.kill(hanging, signal.SIGSTOP)
    # It could take the streams of the others 6 s to end.
    assert 0 == server.stop(timeout_s=10)
    wait_until(lambda: not is_running(hanging))


def test_killed_process_takes_nobody_along_and_is_replaced(start: StartServer) -> None:
    server = wait_for_all(start(arguments=SEVERAL, command=HASTY))
    with ExitStack() as stack:
        streams = [begin_stream(stack, server) for _ in range(2)]
        turns = [stream.headers["X-Request-Id"] for stream in streams]
        killed, living = gateways(server)
        os.kill(killed, signal.SIGKILL)
        assert [200] * 8 == [server.get("/v1/models").status for _ in range(8)]
        wait_until(lambda: [server.turns()[turn]["status"] for turn in turns].count("interrupted"))
        assert 1 == [server.turns()[turn]["status"] for turn in turns].count("pending")
        wait_until(lambda: len(gateways(server)) == 2, 15)
        wait_for_all(server)
        assert living in gateways(server)
        for number in gateways(server):
            os.kill(number, signal.SIGKILL)
        # As long as there is none, the main process answers.
        assert [200] * 8 == [server.get("/v1/models").status for _ in range(8)]
    assert "a gateway process has ended" in server.stderr
    assert 0 == server.stop()


def test_connections_wait_for_a_main_process_that_has_no_time_to_take_them_back(
    start: StartServer,
) -> None:
    server = wait_for_all(start(arguments=("--gateway-processes", "1")), 1)
    (gateway,) = gateways(server)

    def count_files() -> int:
        return len(list(Path(f"/proc/{gateway}/fd").iterdir()))

    def is_way_full() -> bool:
        """Whether it has handed back what there is room for."""
        held = count_files()
        time.sleep(0.1)
        return held < all_held and held == count_files()

    with ExitStack() as stack:
        # More than the way between two processes has room for.
        socks = [stack.enter_context(closing(server.open_socket())) for _ in range(400)]
        for sock in socks:
            sock.sendall(MODELS)
            read_answers(sock, 1)
        all_held = count_files()
        server.process.send_signal(signal.SIGSTOP)
        for sock in socks:
            sock.sendall(HEALTH)
        wait_until(is_way_full)
        server.process.send_signal(signal.SIGCONT)
        for sock in socks:
            read_answers(sock, 1)
            sock.sendall(MODELS)
        for sock in socks:
            read_answers(sock, 1)


def test_server_whose_nursery_was_killed_says_once_that_it_goes_on_without(
    start: StartServer,
) -> None:
    server = wait_for_all(start(arguments=SEVERAL, command=HASTY))
    (nursery,) = children(server.process.pid)
    killed, living = children(nursery)
    os.kill(nursery, signal.SIGKILL)
    wait_until(lambda: "until Rolebook is restarted" in server.stderr)
    os.kill(killed, signal.SIGKILL)
    assert [200] * 4 == [server.get("/v1/models").status for _ in range(4)]
    assert is_running(living)
    os.kill(living, signal.SIGKILL)
    assert [200] * 4 == [server.get("/v1/models").status for _ in range(4)]
    # Another one would be started by now.
    time.sleep(1.5)
    assert "another one" not in server.stderr
    assert 1 == server.stderr.count("has ended")
    assert 200 == status_of(ask(server))
    assert 0 == server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_of_all_processes_end_with_an_error_when_the_server_is_stopped(
    start: StartServer, number: signal.Signals
) -> None:
    server = wait_for_all(start(arguments=SEVERAL))
    everybody = [*children(server.process.pid), *gateways(server)]
    with ExitStack() as stack:
        streams = [begin_stream(stack, server) for _ in range(4)]
        server.process.send_signal(number)
        errors = [last_event(stream)["error"]["message"] for stream in streams]
    assert all("Rolebook was stopped" in error for error in errors)
    assert 0 == server.process.wait(12)
    assert ["rolebook.db"] == [file.name for file in server.database.parent.iterdir()]
    assert {"interrupted"} == {row["status"] for row in server.turns().values()}
    wait_until(lambda: not any(map(is_running, everybody)))
    assert "Traceback" not in server.stderr


def test_second_signal_ends_all_processes_at_once(start: StartServer) -> None:
    server = wait_for_all(start(arguments=SEVERAL))
    everybody = [*children(server.process.pid), *gateways(server)]
    with ExitStack() as stack:
        # Readers that do not read, so that no stream can end.
        streams = [begin_stream(stack, server, "endless?delay_ms=0") for _ in range(2)]
        time.sleep(0.5)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert server.process.poll() is None
        assert 0 == server.stop(signal.SIGINT, timeout_s=2)
        wait_until(lambda: not any(map(is_running, everybody)), 3)
        assert len(streams) == 2


def test_killed_server_takes_all_its_processes_along(start: StartServer) -> None:
    server = wait_for_all(start(arguments=SEVERAL))
    everybody: Sequence[int] = [*children(server.process.pid), *gateways(server)]
    with ExitStack() as stack:
        streams = [begin_stream(stack, server) for _ in range(2)]
        server.kill()
        errors = [last_event(stream)["error"]["message"] for stream in streams]
    assert all("Rolebook was stopped" in error for error in errors)
    wait_until(lambda: not any(map(is_running, everybody)), 10)
    assert {"interrupted"} == {row["status"] for row in server.turns().values()}


def test_lines_of_json_come_whole_from_all_processes(start: StartServer) -> None:
    server = wait_for_all(start(arguments=(*SEVERAL, "--log-format", "json")))

    def asked(_: int) -> int:
        return status_of(ask(server))

    with ThreadPoolExecutor(8) as pool:
        assert {200} == set(pool.map(asked, range(40)))
    assert 0 == server.stop()
    lines = [json.loads(line) for line in server.stderr.splitlines() if line.startswith("{")]
    assert 40 == sum(line["logger"] == "rolebook.turn" for line in lines)
    routes = Counter(line.get("route") for line in lines)
    assert 40 == routes["/v1/chat/completions"]


def test_without_such_processes_there_is_only_the_one(start: StartServer) -> None:
    server = start()
    assert 200 == status_of(ask(server))
    assert [] == children(server.process.pid)
    assert "process=" not in server.get("/metrics").text
