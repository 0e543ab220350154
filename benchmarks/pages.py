"""How long pages take with a large library: `python -m benchmarks.pages [--rounds N] [--personas N]`.

Each page is asked for through Flask's test client (the application alone) and from a real gunicorn over loopback (what
a browser waits for). A page whose p95 passes its limit fails the run. To measure another page, add it to PAGES, and
what it needs to `build`.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rolebook.web.app import create_app
from rolebook.wiring import open_rolebook

ROOT = Path(__file__).parent.parent
WARM_UP = 3


class Page(NamedTuple):
    """A page and the milliseconds within which 95 of 100 requests for it must be answered.

    ``{number}`` in the path is another number for each request. What happens ``before`` each of them is not measured.
    A page that takes a second is asked for no more than ``most`` times.
    """

    name: str
    path: str
    limit_ms: float
    before: Callable[[], object] = lambda: None
    most: int = 1000


PAGES = [
    Page("gallery", "/", 100),
    Page("gallery, searched", "/?q=number+7", 100),
    Page("gallery, filtered", "/?tag=tag-3&language=zh", 100),
    Page("gallery, last page", "/?page=17", 100),
    Page("persona", "/personas/persona-0500?input=Why", 100),
    Page("status", "/status", 100),
]

PERSONA = """\
name: Persona number {number}
description: Explains one idea at a time, from an example to the rule, and checks that it has arrived.
tags: [tag-{tag}, tag-{other}]
language: {language}
avatar: "🎓"
system: |-
  You are a patient teacher of {{{{ subject }}}}, number {number}.
variables: {{subject: mathematics}}
sampling: {{temperature: 0.7}}
examples:
  - {{user: What is a fraction?, assistant: A piece of a whole.}}
"""


def build(folder: Path, *, personas: int) -> dict[str, str]:
    """What the pages show, in a folder. Returns the environment that points to it."""
    (folder / "personas").mkdir()
    for number in range(personas):
        text = PERSONA.format(
            number=number,
            tag=number % 12,
            other=12 + number % 5,
            language="zh" if number % 2 else "en",
        )
        (folder / f"personas/persona-{number:04}.yaml").write_text(text, "utf-8")
    shutil.copytree(ROOT / "templates", folder / "templates")
    return {
        "ROLEBOOK_PERSONAS": str(folder / "personas"),
        "ROLEBOOK_TEMPLATES": str(folder / "templates"),
        "ROLEBOOK_DATABASE": str(folder / "rolebook.db"),
        "ROLEBOOK_CONFIG": "",
    }


#: Asks for a path and returns the status.
Ask = Callable[[str], int]


def measure(ask: Ask, page: Page, *, rounds: int) -> list[float]:
    """The milliseconds of each request, sorted, after a few that do not count."""
    times = []
    for number in range(WARM_UP + min(rounds, page.most)):
        page.before()
        path = page.path.format(number=number)
        began = time.perf_counter()
        status = ask(path)
        ended = time.perf_counter()
        if status != 200:
            raise SystemExit(f"{path} answers {status}")
        if number >= WARM_UP:
            times.append((ended - began) * 1000)
    return sorted(times)


@contextmanager
def served(environment: Mapping[str, str]) -> Iterator[http.client.HTTPConnection]:
    """A connection to a gunicorn of one process on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "app:app", f"--bind=127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--threads=8", "--log-level=error", "--no-control-socket"],
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    try:
        _wait_for(port)
        yield http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the server does not start")


def report(page: Page, means: str, times: list[float]) -> bool:
    """Print one line. Returns whether the limit holds."""
    p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
    holds = p95 <= page.limit_ms
    verdict = "ok" if holds else f"above {page.limit_ms:g} ms"
    figures = f"p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   max {times[-1]:6.1f} ms"
    print(f"{page.name:<27} {means:<9} {figures}   {verdict}")
    return holds


def measure_application(
    environment: Mapping[str, str], pages: Sequence[Page], *, rounds: int
) -> list[bool]:
    """Each page through the test client."""
    began = time.perf_counter()
    book = open_rolebook(environment=environment)
    client = create_app(book).test_client()
    client.get("/")
    print(f"first page, every file read: {time.perf_counter() - began:.2f} s")

    def ask(path: str) -> int:
        return client.get(path).status_code

    results = [report(page, "client", measure(ask, page, rounds=rounds)) for page in pages]
    book.close()
    return results


def measure_server(
    environment: Mapping[str, str], pages: Sequence[Page], *, rounds: int
) -> list[bool]:
    """Each page from a real server."""
    with served(environment) as connection:

        def ask(path: str) -> int:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status

        return [report(page, "gunicorn", measure(ask, page, rounds=rounds)) for page in pages]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--personas", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        environment = build(Path(name), personas=options.personas)
        results = measure_application(environment, PAGES, rounds=options.rounds)
        results += measure_server(environment, PAGES, rounds=options.rounds)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
