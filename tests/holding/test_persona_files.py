"""Persona files that change, break and cost while a server uses them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_upstream import FakeUpstream
from tests.holding.conftest import StartServer
from tests.holding.server import PLAIN, Server, environment_of, make_folder, running, wait_until

SLOW = "ok?tokens=25&delay_ms=20"


def edit(path: Path) -> None:
    path.write_text(PLAIN.replace("Answer briefly", "Answer at length"), "utf-8")


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed.yaml"))


@pytest.mark.parametrize("change", [edit, Path.unlink, rename])
def test_stream_ends_with_the_persona_it_began_with(
    start: StartServer, folder: Path, upstream: FakeUpstream, change: Callable[[Path], None]
) -> None:
    server = start()
    session = server.start_session(SLOW)
    stream = server.stream(session)
    stream.wait_for("delta")
    change(folder / "personas/plain.yaml")
    assert stream.wait_for("end").data["turn"]["status"] == "complete"
    logged = server.get(f"/turns/{stream.turn_id}/request?format=json").json["messages"]
    assert logged == upstream.requests[-1].body["messages"]
    assert logged[0]["content"] == "Answer briefly."
    following = server.stream(session, "Go on")
    following.wait_for("end")
    expected = "Answer at length." if change is edit else "Answer briefly."
    assert upstream.requests[-1].body["messages"][0]["content"] == expected


def test_broken_file_among_fifty_is_listed_and_the_others_serve(tmp_path: Path) -> None:
    personas = {f"p{number:02}": f"name: Number {number}\nsystem: Hi.\n" for number in range(50)}
    folder = make_folder(tmp_path / "rolebook", personas)
    with running(folder, {}) as server:
        assert "Number 7" in server.get("/", Accept="text/html").text
        (folder / "personas/p07.yaml").write_text("name: Number 7\nsystem: [Hi.\n")
        (folder / "personas/new.yaml").write_text("name: [\n")

        def gallery() -> str:
            return server.get("/", Accept="text/html").text

        # On a busy machine a large folder is not looked through for every request.
        wait_until(lambda: "p07.yaml" in gallery() and "new.yaml" in gallery())
        assert all(f"Number {number}" in gallery() for number in range(50))
        assert server.get("/personas/p08", Accept="text/html").status == 200
        assert server.start_session(persona="p07")
        check = subprocess.run(
            [sys.executable, "-m", "rolebook", "check"],
            cwd=folder,
            env=environment_of({}),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert check.returncode == 1
    problems = (check.stdout + check.stderr).splitlines()
    assert any(line.startswith("personas/p07.yaml:") for line in problems)
    assert any(line.startswith("personas/new.yaml:") for line in problems)
    assert not any("p08.yaml" in line for line in problems)


HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "times": "{{ 'a' * 500000000 }}",
    "percent": "{{ '%2000000000d' % 1 }}",
    "format": "{{ '{:>2000000000}'.format(1) }}",
    "doubling": "{% set ns = namespace(a='a') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
}


@pytest.fixture
def hostile_server(start: StartServer, folder: Path) -> Server:
    """A server with some personas that nobody should have written."""
    for name, template in HOSTILE.items():
        text = f"name: {name}\nsystem: |-\n  {template}\n"
        (folder / f"personas/{name}.yaml").write_text(text, "utf-8")
    return start()


def quantile_99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def ask_for_a_second_or(server: Server, is_over: Callable[[], bool]) -> list[float]:
    """Ask for pages and innocent previews until it is over; the seconds that each took."""
    times = []
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline or not is_over():
        times.append(server.get("/personas/plain?input=x").took_s)
        times.append(server.post("/personas/plain/preview", {"input": "x"}).took_s)
        times.append(server.get("/").took_s)
    return times


def test_hostile_templates_cost_nobody_else_time_and_the_server_no_memory(
    hostile_server: Server,
) -> None:
    server = hostile_server
    # What a quiet server takes on this machine at this moment is no fault of the templates.
    quiet = quantile_99(ask_for_a_second_or(server, lambda: True))
    before_mb = server.rss_mb
    replies: dict[str, tuple[int, str, float]] = {}

    def preview(name: str) -> None:
        reply = server.post(f"/personas/{name}/preview", {"input": "x"}, Accept="text/html")
        replies[name] = (reply.status, reply.text, reply.took_s)

    threads = [threading.Thread(target=preview, args=(name,)) for name in HOSTILE]
    for thread in threads:
        thread.start()
    times = ask_for_a_second_or(server, lambda: len(replies) == len(HOSTILE))
    for thread in threads:
        thread.join()
    assert quantile_99(times) < 0.25 + quiet
    assert server.rss_mb - before_mb < 64
    for name, (status, text, took_s) in replies.items():
        assert status in {200, 422}, (name, status)
        assert f"personas/{name}.yaml" in text, name
        assert took_s < 2.5 * 2, name


def test_hostile_templates_do_not_make_pages_slow_for_ever(hostile_server: Server) -> None:
    first = hostile_server.get("/status", Accept="text/html")
    again = hostile_server.get("/status", Accept="text/html")
    for page in (first, again):
        assert all(f"personas/{name}.yaml:3" in page.text for name in HOSTILE)
    assert again.took_s < 1


def test_folders_full_of_what_is_no_file_are_served(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "rolebook", {"plain": PLAIN})
    for name, suffix in (("personas", "yaml"), ("templates", "jinja")):
        inside = os.fsencode(folder / name)
        os.mkfifo(folder / name / f"pipe.{suffix}")
        (folder / name / f"folder.{suffix}").mkdir()
        for link, target in {
            "zero": "/dev/zero",
            "secret": "/etc/passwd",
            "self": f"self.{suffix}",
        }.items():
            (folder / name / f"{link}.{suffix}").symlink_to(target)
        for odd in (b"\xff\xfe", b"a\nb", b"\x1b[31m", b"<script>alert(1)<", b"{{ 7*7 }}"):
            Path(os.fsdecode(inside + b"/" + odd + f".{suffix}".encode())).write_text(PLAIN)
        with (folder / name / f"endless.{suffix}").open("wb") as file:
            file.truncate(50 * 2**30)
    with running(folder, {}) as server:
        pages = [
            server.get(path, Accept="text/html") for path in ("/", "/status", "/personas/plain")
        ]
        assert [200, 200, 200] == [page.status for page in pages]
        status = pages[1].text
        assert all(
            f"personas/{name}.yaml" in status for name in ("pipe", "zero", "self", "endless")
        )
        assert "root:" not in status
        assert "<script>alert" not in status
        assert r"\xff\xfe.yaml" in status
        assert server.start_session()
        assert server.rss_mb < 300
