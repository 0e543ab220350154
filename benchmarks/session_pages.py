"""How long the pages of sessions take with a large log: `python -m benchmarks.session_pages [--turns N] [--rounds N]`.

The log is that of `benchmarks.log_read`. As in `benchmarks.pages`, each page is asked for through the test client
and from a real server, and a p95 above its limit fails the run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import log_read, pages
from benchmarks.pages import Page, measure_application, measure_server


def pages_of(session_id: str) -> Sequence[Page]:
    """What is measured, in a log that has this session."""
    return [
        Page("sessions", "/sessions", 100),
        Page("sessions, filtered", "/sessions?persona=persona-3&model=model-5", 100),
        Page("sessions, failed", "/sessions?status=failed", 100),
        Page("sessions, searched", "/sessions?q=%E5%A4%A9%E7%A9%BA", 100),
        Page("sessions, rare tag", "/sessions?tag=rare", 100),
        Page("sessions, far back", "/sessions?before=5000", 100),
        Page("a session", f"/sessions/{session_id}", 100),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--turns", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        environment = pages.build(Path(name), personas=40)
        ids = log_read.build(Path(environment["ROLEBOOK_DATABASE"]), options.turns)
        measured = pages_of(ids[len(ids) // 2])
        results = measure_application(environment, measured, rounds=options.rounds)
        results += measure_server(environment, measured, rounds=options.rounds)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
