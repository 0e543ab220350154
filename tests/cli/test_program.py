"""The program as a whole: help, language, errors, settings, and how little it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from docs.generate import command_names, outdated
from rolebook import __version__
from rolebook.__main__ import COMMANDS
from rolebook.cli.command import Group, _Spoken
from rolebook.cli.invocation import Invocation
from rolebook.cli.program import Program
from tests.cli.conftest import Shell
from tests.conftest import ROOT

NAMES = list(command_names())


def find_command(names: str) -> click.Command:
    command: click.Command = Program(COMMANDS)
    context = click.Context(command, obj=Invocation({}))
    for name in names.split():
        assert isinstance(command, Group)
        found = command.get_command(context, name)
        assert found is not None
        command = found
    return command


@pytest.mark.parametrize("name", NAMES)
def test_every_command_teaches_by_example_and_is_documented(name: str) -> None:
    command = find_command(name)
    assert isinstance(command, _Spoken)
    assert command.help
    assert f"rolebook {name}" in command.examples
    page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    assert f"<!-- generated: help {name} -->" in page


@pytest.mark.parametrize("name", NAMES)
def test_every_option_says_what_it_does(name: str) -> None:
    for param in find_command(name).params:
        if isinstance(param, click.Option) and param.name != "format":
            assert param.help, param.name


def test_generated_pages_and_schema_are_current() -> None:
    assert [] == [path.name for path, _ in outdated()]


@pytest.mark.parametrize("arguments", [["--version"], ["--language", "zh", "--version"]])
def test_version_is_told(rehearsing: Shell, arguments: list[str]) -> None:
    assert f"rolebook {__version__}\n" == rehearsing.run(*arguments).text


def test_no_command_is_wrong_use_and_shows_the_help(rehearsing: Shell) -> None:
    finished = rehearsing.run()
    assert 2 == finished.status
    assert "Examples:" in finished.text + finished.notices


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["bogus"], 2, "No such command"),
        (["ask", "nobody", "Hi"], 2, "There is no persona 'nobody'."),
        (["ask", "teacher", "Hi", "-s", "temperature=warm"], 2, "from 0 to 2, got 'warm'"),
        (["ask", "teacher", "Hi", "-v", "topic=x"], 2, "It has: subject, level."),
        (["ask", "teacher", "Hi", "-v", "subject"], 2, "name=value"),
        (["ask", "teacher"], 2, "What shall be asked?"),
        (["ask"], 2, "Which persona?"),
        (["ask", "teacher", "Hi", "--system", "Be brief."], 2, "not both"),
        (["render", "teacher", "Hi", "--upstream", "nowhere", "--port", "high"], 2, "port must be"),
        (["models", "--upstream", "nowhere"], 2, "There is no upstream 'nowhere'."),
        (["sessions", "show", "00000"], 2, "00000"),
        (["sessions", "export"], 2, "--all"),
        (["chat", "--session", "00000"], 2, "00000"),
        (["--config", "missing.yaml", "personas"], 2, "missing.yaml"),
        (["check", "missing.yaml"], 2, "There is no file missing.yaml."),
        (["serve", "--host", "0.0.0.0"], 2, "--allow-network"),
    ],
)
def test_wrong_use_is_one_clear_message(
    rehearsing: Shell, arguments: list[str], status: int, said: str
) -> None:
    finished = rehearsing.run(*arguments)
    assert status == finished.status
    assert said in finished.notices
    assert b"" == finished.output
    assert "Traceback" not in finished.notices


def test_settings_stand_before_or_after_the_command(rehearsing: Shell, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    before = rehearsing.run("--personas", str(tmp_path / "other"), "personas", "--json")
    after = rehearsing.run("personas", "--json", "--personas", str(tmp_path / "other"))
    inner = rehearsing.run("personas", "show", "teacher", "--personas", str(tmp_path / "other"))
    assert ([], [], 2) == (before.json, after.json, inner.status)


def test_flag_wins_over_environment_and_environment_over_dotenv(rehearsing: Shell) -> None:
    (rehearsing.folder / ".env").write_text("ROLEBOOK_PERSONAS=from-dotenv\n")
    assert "from-dotenv" in rehearsing.run("personas").notices
    named = rehearsing.run("personas", environment={"ROLEBOOK_PERSONAS": "from-environment"})
    assert "from-environment" in named.notices
    flagged = rehearsing.run(
        "personas", "--personas", "from-flag", environment={"ROLEBOOK_PERSONAS": "other"}
    )
    assert "from-flag" in flagged.notices


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--language", "zh", "ask", "nobody", "Hi"], {}),
        (["ask", "nobody", "Hi"], {"ROLEBOOK_LANGUAGE": "zh"}),
        (["ask", "nobody", "Hi"], {"LANG": "zh_CN.UTF-8"}),
    ],
)
def test_errors_are_in_the_language_that_is_asked_for(
    rehearsing: Shell, arguments: list[str], environment: dict[str, str]
) -> None:
    notices = rehearsing.run(*arguments, environment=environment).notices
    assert "nobody" in notices
    assert "There is no persona" not in notices


def test_empty_key_is_said_and_rehearsal_goes_on(rehearsing: Shell) -> None:
    finished = rehearsing.run("ask", "teacher", "Hi", environment={"OPENAI_API_KEY": ""})
    assert 0 == finished.status
    assert "OPENAI_API_KEY is set but empty" in finished.notices


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        (["--version"], {"click", "pydantic", "flask", "openai", "sqlite3"}),
        (["ask", "--help"], {"flask", "openai", "sqlite3", "rich", "prompt_toolkit"}),
        (["render", "teacher", "Hi", "--json"], {"flask", "openai", "rich", "prompt_toolkit"}),
        (["ask", "teacher", "Hi"], {"flask", "rich", "prompt_toolkit", "gunicorn", "tiktoken"}),
        (["sessions"], {"flask", "openai", "prompt_toolkit"}),
    ],
)
def test_command_imports_only_what_it_needs(
    shell: Shell, command: list[str], unwanted: set[str]
) -> None:
    code = (
        "import sys, contextlib\n"
        "from rolebook.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=shell.folder,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=True,
    )
    imported = set(finished.stderr.decode().split())
    assert set() == imported & unwanted


@pytest.mark.parametrize(
    "left",
    ["atexit.register(print, 'done')", "threading.Timer(0.1, print, ['done']).start()"],
    ids=["registered", "thread"],
)
def test_what_is_left_to_do_is_done_before_the_process_ends(shell: Shell, left: str) -> None:
    code = (
        "import atexit, sys, threading\n"
        f"{left}\n"
        "from rolebook.__main__ import main\n"
        "sys.argv[1:] = ['personas', 'show', 'nobody']\n"
        "main()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (2, b"done\n") == (finished.returncode, finished.stdout)
    assert b"nobody" in finished.stderr


needs_full_disk = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no disk that is full"
)


def run_on_full_disk(shell: Shell, *arguments: str, language: str = "en") -> tuple[int, str]:
    """The status of a command whose output finds no room, and what it says."""
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(
            shell.command(*arguments),
            env=shell.environment | {"ROLEBOOK_LANGUAGE": language},
            cwd=shell.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    return finished.returncode, finished.stderr.decode()


@needs_full_disk
@pytest.mark.parametrize(
    "arguments", [["personas"], ["personas", "--json"], ["schema"], ["--help"]]
)
def test_output_that_finds_no_room_is_an_error_of_the_disk(
    shell: Shell, arguments: list[str]
) -> None:
    status, said = run_on_full_disk(shell, *arguments)
    assert (1, "Error: The output cannot be written: No space left on device.\n") == (status, said)
    status, said = run_on_full_disk(shell, *arguments, language="zh")
    assert 1 == status
    assert said.startswith("错误: 输出无法写入：")


@needs_full_disk
def test_server_that_cannot_say_where_it_is_ends(shell: Shell) -> None:
    status, said = run_on_full_disk(shell, "serve", "--port", "0")
    assert 1 == status
    assert "No space left on device" in said


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_closed_stream_leads_nowhere(shell: Shell, closed: str) -> None:
    """Not into a file that is opened later and gets its number, such as the log."""
    finished = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *shell.command("ask", "plain", "Hello there")],
        env=shell.environment,
        cwd=shell.folder,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (0, b"") == (finished.returncode, finished.stderr)
    assert (b"Hello there" in finished.stdout) is (closed != ">&-")
    [session] = shell.run("sessions", "--json").json
    assert "Hello there" in shell.run("sessions", "show", session["id"]).text
