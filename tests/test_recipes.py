"""The recipes of docs/gateway.md, as they stand there, against a server of this Rolebook.

Those with programs that have to be installed first run with `make recipes`; each program gets a folder of its own under
`~/.cache/rolebook-recipes`, made once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rolebook.wiring import Rolebook
from tests.conftest import ROOT, MakeRolebook, Serve
from tests.fake_upstream import FakeUpstream

CACHE = Path.home() / ".cache" / "rolebook-recipes"
PAGE = (ROOT / "docs" / "gateway.md").read_text("utf-8")
VERSIONS = {"llm": "0.36", "litellm": "1.106.2", "promptfoo": "0.121.20"}
#: Nothing of whoever runs the tests, and no call home.
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "true",
}

#: Runs a command in the test's folder and returns what it prints.
Run = Callable[..., str]


def block(heading: str) -> str:
    """The first block of code under a heading of the page."""
    found = re.search(rf"^#+ {heading}$.*?^```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


@pytest.fixture
def book(make_rolebook: MakeRolebook, upstream: FakeUpstream) -> Rolebook:
    """A Rolebook with the personas that are shipped."""
    return make_rolebook(
        {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"},
        personas=str(ROOT / "personas"),
        templates=str(ROOT / "templates"),
    )


@pytest.fixture
def run(book: Rolebook, serve: Serve, tmp_path: Path) -> Run:
    url = serve(book).url

    def run_it(
        text: str, *command: str, file: str = "recipe", path: str = "", **environment: str
    ) -> str:
        script = tmp_path / file
        script.write_text(text.replace("http://127.0.0.1:8000", url), "utf-8")
        done = subprocess.run(
            [*command, str(script)],
            cwd=tmp_path,
            env={
                "PATH": f"{path}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                **QUIET,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_it


def logged(book: Rolebook) -> list[tuple[str, str, int, Mapping[str, object]]]:
    """Persona, first input, number of turns and variables of each session that came through the gateway."""
    found = []
    for summary in book.log.list_sessions().summaries:
        turns = book.log.session_turns(summary.session.id)
        assert {"gateway"} == {turn.via for turn in turns}
        session = summary.session
        found.append((session.persona_id, turns[0].input, len(turns), session.variables))
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_asks_a_persona(run: Run, book: Rolebook) -> None:
    assert '"content":"Echo: Why is the sky blue?"' in run(block("The gateway"), "sh")
    assert ["teacher"] == [persona for persona, *_ in logged(book)]


def test_official_client_asks_a_persona(run: Run, book: Rolebook) -> None:
    assert "Echo: What is an acid?" == run(block("The official client"), sys.executable)
    ((persona, said, _, variables),) = logged(book)
    assert ("teacher", "What is an acid?") == (persona, said)
    assert "chemistry" == variables["subject"]


def environment_with(program: str) -> Path:
    """The `bin` of a folder of its own in which a program from PyPI is installed."""
    folder = CACHE / f"{program}-{VERSIONS[program]}"
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run(
            [str(folder / "bin/pip"), "install", "-qq", "--disable-pip-version-check",
             f"{program}=={VERSIONS[program]}"],
            check=True,
        )  # fmt: skip
        (folder / "done").touch()
    return folder / "bin"


@pytest.mark.recipe
@pytest.mark.timeout(600)
def test_llm_talks_to_a_persona(run: Run, book: Rolebook, tmp_path: Path) -> None:
    text = block("llm")
    said = run(text, "sh", "-e", path=str(environment_with("llm")), LLM_USER_PATH=str(tmp_path))
    assert "Echo: What is an acid?\nEcho: And what is a base?\n" == said
    assert [("teacher", "What is an acid?", 2)] == [found[:3] for found in logged(book)]


@pytest.mark.recipe
@pytest.mark.timeout(600)
def test_litellm_asks_a_persona(run: Run, book: Rolebook) -> None:
    python = environment_with("litellm") / "python"
    assert "Echo: What is an acid?\n" == run(block("LiteLLM"), str(python))
    ((persona, *_, variables),) = logged(book)
    assert ("teacher", "chemistry") == (persona, variables["subject"])


@pytest.mark.recipe
@pytest.mark.timeout(900)
def test_promptfoo_compares_personas(run: Run, book: Rolebook, tmp_path: Path) -> None:
    folder = CACHE / f"promptfoo-{VERSIONS['promptfoo']}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--prefix", str(folder),
             f"promptfoo@{VERSIONS['promptfoo']}"],
            check=True,
        )  # fmt: skip
        (folder / "done").touch()
    program = str(folder / "node_modules/.bin/promptfoo")
    command = (program, "eval", "--no-cache", "--no-progress-bar", "-c")
    run(block("promptfoo"), *command, file="promptfooconfig.yaml")
    assert {("socratic-teacher", "What is an acid?", 1), ("teacher", "What is an acid?", 1)} == {
        found[:3] for found in logged(book)
    }
