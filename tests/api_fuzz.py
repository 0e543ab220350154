"""Calls the API in every way that its document allows, and in many that it does not, and looks what comes out.

    python -m tests.api_fuzz [--examples N] [--seed N] [--only OPERATION]

Rolebook is served on a free port over a library of its own with something of everything: sessions, turns, a
comparison, votes, a history, a file in the trash. Schemathesis makes the requests from the OpenAPI document; where a
part of a path names something, it is mostly something that is there. For each must hold what the document says: the
status, the content type, the shape of the answer; nothing fails inside; what the document forbids is refused, and what
it allows is done, or told with 422 why it cannot be. Nor may an answer have what the document does not name.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask import Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

from rolebook.core.access import LOCAL, Caller, Role, acting_for
from rolebook.core.budget import Limits
from rolebook.core.chat import TurnRequest
from rolebook.core.comparison import Ballot
from rolebook.core.comparison_spec import parse_spec
from rolebook.core.errors import UpstreamTimeoutError
from rolebook.core.session import Session, new_id
from rolebook.core.source import Author, FileKey
from rolebook.upstream.breaker import UNANSWERED_CALLS
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.wiring import Rolebook, open_rolebook
from tests.fake_upstream import FakeUpstream
from tests.web.api.described import undescribed

ROOT = Path(__file__).parent.parent
#: Names the file with what is there, for the hooks.
KNOWN = "API_FUZZ_KNOWN"
_PERSONAS = ("teacher", "socratic-teacher", "translator", "assistant", "judge")
#: Besides rehearsal, which is asked unless a request names the other one.
_UPSTREAMS = """\
upstream: rehearsal
upstreams:
  elsewhere: {{base_url: "{address}", keys: [env:ELSEWHERE]}}
"""
_SETTINGS = """\
[checks]
# 422 says: the request is what the document describes, and cannot be done.
positive_data_acceptance.expected-statuses = ["2xx", "403", "404", "409", "422", "429"]
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What schemathesis said, how often each operation was answered with which status, and what else was in answers."""

    status: int
    output: str
    answers: Counter[tuple[str, int]]
    undescribed: Counter[tuple[str, str]]

    @property
    def undone(self) -> Sequence[str]:
        """The operations that never succeeded, so that little is known of them."""
        done = {name for name, status in self.answers if status < 400}
        return sorted({name for name, _ in self.answers} - done)


@dataclass(frozen=True, slots=True)
class Served:
    """Where Rolebook is served, with which key, what is there by the names of parts of paths, and what it answered."""

    address: str
    token: str
    known: Mapping[str, Sequence[str]]
    answers: Counter[tuple[str, int]]
    undescribed: Counter[tuple[str, str]]


@contextmanager
def served_library(*, with_users: bool) -> Iterator[Served]:
    """Rolebook over a library of its own, until the end; with users, its things are those of the one who calls."""
    from rolebook.web.app import create_app

    with (
        FakeUpstream() as upstream,
        tempfile.TemporaryDirectory(prefix="rolebook-api-") as folder,
        chdir(folder),
    ):
        (Path(folder) / "personas").mkdir()
        for name in _PERSONAS:
            shutil.copy(ROOT / "personas" / f"{name}.yaml", Path(folder) / "personas")
        shutil.copytree(ROOT / "templates", Path(folder) / "templates")
        (Path(folder) / "rolebook.yaml").write_text(
            _UPSTREAMS.format(address=upstream.base_url), "utf-8"
        )
        book = open_rolebook(environment={"ELSEWHERE": "sk-no-secret"}, flags={})
        token, owner = _make_author(book) if with_users else ("", LOCAL)
        with acting_for(owner):
            known = _fill(book)
        app = create_app(book)
        answers: Counter[tuple[str, int]] = Counter()
        found: Counter[tuple[str, str]] = Counter()

        @app.after_request
        def count(response: Response) -> Response:
            endpoint = request.endpoint or ""
            if endpoint.startswith("api.") and request.method != "OPTIONS":
                name = endpoint.removeprefix("api.")
                answers[name, response.status_code] += 1
                if name != "show_document":
                    found.update((name, what) for what in undescribed(name, response))
            return response

        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield Served(f"http://127.0.0.1:{server.server_port}", token, known, answers, found)
        finally:
            server.shutdown()
            thread.join(5)
            server.server_close()
            book.close()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Requests are no news here."""


def _make_author(book: Rolebook) -> tuple[str, Caller]:
    """An API key of somebody who may do all that a program may, but for what is the administrators'."""
    user = book.accounts.create_user("Ada", Role.AUTHOR, "correct horse")
    _, token = book.accounts.create_key(user, "fuzz", scope=("*",), limits=Limits())
    return token, Caller(user)


def _fill(book: Rolebook) -> Mapping[str, Sequence[str]]:
    """Something of everything."""
    sessions = [
        book.chat.start_session(Session(id=new_id(), persona_id=persona, revision=""))
        for persona in ("teacher", "translator", "teacher")
    ]
    for session in sessions[:2]:
        for text in ("Why is the sky blue?", "天空为什么是蓝色的？"):
            # Rehearsal takes its time only where somebody watches.
            list(book.chat.stream_turn(TurnRequest(session.id, text, is_streamed=False)))
    turns = [turn.id for session in sessions for turn in book.log.session_turns(session.id)]
    variants = [
        {"persona": persona, "upstream": "elsewhere", "model": "ok"}
        for persona in ("teacher", "socratic-teacher")
    ]
    spec = {"variants": variants, "inputs": ["What is rain?", "And snow?"]}
    comparison = book.compare.create(book.compare.plan(parse_spec(spec)))
    book.compare.start(comparison).wait(30)
    key, author = FileKey("persona", "teacher"), Author("command")
    text = book.edits.open(key)
    book.edits.save(key, text.text + "# again\n", etag=text.etag, author=author)
    book.edits.set_label("teacher", "production", author=author)
    book.edits.duplicate(key, "spare", author=author)
    trashed = book.edits.delete(FileKey("persona", "spare"), author=author)
    changes = [change.id for change in book.edits.history(key).changes if change.source]
    _leave_alone(book, "elsewhere", "silent")
    _git("init", "--quiet")
    _git("add", "personas")
    _git("commit", "--quiet", "-m", "Begin")
    commits = [commit.id for commit in book.edits.commits(key)]
    cells = comparison.key_of("1-1-1"), comparison.key_of("2-1-1")
    ballots = [Ballot(new_id(), comparison.id, *cells) for _ in range(6)]
    for ballot in ballots:
        book.comparisons.create_ballot(ballot)
    return {
        "session_id": [session.id for session in sessions],
        "turn_id": turns,
        "comparison_id": [comparison.id],
        "cell": ["1-1-1", "2-2-1"],
        "reference": ["teacher", "teacher@production", "translator"],
        "persona_id": ["teacher", "translator"],
        "kind": ["personas", "templates"],
        "name": ["teacher", "chat", "assistant"],
        "personas": ["teacher", "assistant", "translator", "socratic-teacher"],
        "templates": ["chat", "base"],
        "change_id": changes,
        "commit_id": commits,
        "ballot_id": [ballot.id for ballot in ballots],
        "etag": [book.edits.open(key).etag],
        "untouched": ["judge"],
        "etag of untouched": [book.edits.open(FileKey("persona", "judge")).etag],
        "silent": ["silent"],
        "label": ["production", "next"],
        "trash_id": [trashed.id],
        "upstream": ["rehearsal"],
        "id": ["teacher", "new-one", "new-two"],
        "persona": ["teacher", "assistant"],
        "session": [sessions[0].id],
    }


def _leave_alone(book: Rolebook, name: str, model: str) -> None:
    """As if an upstream had given no answer, again and again, to who asked for a model."""
    upstream = book.upstreams.get(name)
    assert isinstance(upstream, OpenAIUpstream)
    error = UpstreamTimeoutError("%(upstream)s did not begin to answer.", upstream=name)
    for _ in range(UNANSWERED_CALLS):
        upstream.breaker.note_silence(model, error, began=time.monotonic() - 60)


def _git(*arguments: str) -> None:
    name = ("-c", "user.name=Fuzz", "-c", "user.email=fuzz@example.org")
    subprocess.run(["git", *name, *arguments], check=True)


def run(
    *, examples: int, seed: int, only: str = "", phases: str = "", with_users: bool = False
) -> Outcome:
    """Have schemathesis call a served library."""
    with served_library(with_users=with_users) as served, tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "known.json"
        names.write_text(json.dumps(served.known), "utf-8")
        settings = Path(folder) / "schemathesis.toml"
        settings.write_text(_SETTINGS, "utf-8")
        command = [
            *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(settings)),
            *("run", f"{served.address}/api/v1/openapi.json", "--max-examples", str(examples)),
            # How long anything takes is no matter here, and depends on what else the machine does.
            *("--request-timeout", "60", "--suppress-health-check", "all"),
            *("--seed", str(seed), "--continue-on-failure", "--no-color", "--warnings", "off"),
            *(("--include-operation-id", only) if only else ()),
            *(("--phases", phases) if phases else ()),
            *(("-H", f"Authorization: Bearer {served.token}") if served.token else ()),
        ]
        done = subprocess.run(
            command,
            cwd=folder,
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.api_fuzz_hooks",
                KNOWN: str(names),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        return Outcome(done.returncode, output, served.answers, served.undescribed)


def main() -> int:
    """Run as the command line says, and tell what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=100, help="so many of each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only this operation")
    parser.add_argument("--phases", default="", help="only these phases")
    parser.add_argument("--with-users", action="store_true", help="call with the key of an author")
    options = parser.parse_args()
    outcome = run(**vars(options))
    print(outcome.output)
    for name in sorted({name for name, _ in outcome.answers}):
        counts = {status: n for (which, status), n in outcome.answers.items() if which == name}
        print(f"{name:<24}", *(f"{status}: {n}" for status, n in sorted(counts.items())))
    print("never done:", ", ".join(outcome.undone) or "–")
    for name, what in outcome.undescribed:
        print(f"not in the document: {name}: {what}")
    return outcome.status or int(bool(outcome.undescribed))


if __name__ == "__main__":
    sys.exit(main())
