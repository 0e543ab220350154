"""`rolebook ask`: what arrives where, with which status, and what the log knows of it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time

import pytest

from rolebook.core.session import Turn
from rolebook.storage.log import SqliteLog
from tests.cli.conftest import Shell
from tests.fake_upstream import FakeUpstream


def last_turn(log: SqliteLog) -> Turn:
    session = log.list_sessions().summaries[0].session
    return log.get_turn(log.session_turns(session.id)[-1].id)


def test_answer_goes_to_standard_output_exactly(shell: Shell, log: SqliteLog) -> None:
    finished = shell.spawn("ask", "teacher", "Hi", "-m", "ok?text=One+😀%0A二")
    assert (0, "One 😀\n二".encode(), "") == (finished.status, finished.output, finished.notices)
    assert "complete" == last_turn(log).status


def test_rehearsal_answers_without_any_setting(rehearsing: Shell) -> None:
    finished = rehearsing.run("ask", "teacher", "Hi")
    assert 0 == finished.status
    assert "no language model has answered" in finished.text


def test_whole_reply_can_be_asked_for(shell: Shell, upstream: FakeUpstream) -> None:
    finished = shell.run("ask", "teacher", "Hi", "--no-stream", "-m", "ok?text=Whole")
    assert b"Whole" == finished.output
    assert "stream" not in upstream.requests[-1].body


@pytest.mark.parametrize(
    ("stdin", "received"),
    [
        (b"two\nlines\n", "two\nlines"),
        (b"\n\xef\xbb\xbf tab\t\n\n", "\n\ufeff tab\t\n"),
        (b"no newline", "no newline"),
        (b"dos\r\n", "dos\r"),
    ],
)
def test_standard_input_is_taken_as_it_is_less_one_newline(
    shell: Shell, upstream: FakeUpstream, stdin: bytes, received: str
) -> None:
    assert 0 == shell.spawn("ask", "teacher", "-", stdin=stdin).status
    assert received == upstream.requests[-1].body["messages"][-1]["content"]


def test_piped_input_needs_no_dash(shell: Shell, upstream: FakeUpstream) -> None:
    assert 0 == shell.run("ask", "teacher", stdin=b"From a pipe\n").status
    assert "From a pipe" == upstream.requests[-1].body["messages"][-1]["content"]


def test_input_that_is_no_text_is_refused_before_any_call(
    shell: Shell, upstream: FakeUpstream
) -> None:
    finished = shell.run("ask", "teacher", "-", stdin=b"caf\xe9")
    assert (2, True) == (finished.status, "not UTF-8" in finished.notices)
    assert [] == upstream.requests


def test_role_without_a_file_is_sent_literally(shell: Shell, upstream: FakeUpstream) -> None:
    assert 0 == shell.run("ask", "--system", "You are {{ brief }}.", "Hi").status
    assert upstream.requests[-1].body["messages"] == [
        {"role": "system", "content": "You are {{ brief }}."},
        {"role": "user", "content": "Hi"},
    ]


def test_choices_on_the_command_line_reach_the_upstream(
    shell: Shell, upstream: FakeUpstream
) -> None:
    chosen = (
        "-v",
        "subject=chemistry",
        "-s",
        "temperature=0.1",
        "-s",
        "user=me",
        "-s",
        "max_tokens=",
    )
    assert 0 == shell.run("ask", "teacher", "Hi", "-m", "gpt-4o", *chosen).status
    body = upstream.requests[-1].body
    assert "chemistry" in body["messages"][0]["content"]
    assert ("gpt-4o", 0.1, "me") == (body["model"], body["temperature"], body["user"])
    assert "max_tokens" not in body


def test_json_is_the_turn_in_the_words_of_the_log(shell: Shell, log: SqliteLog) -> None:
    turn = shell.run("ask", "teacher", "Hi", "--json").json
    logged = last_turn(log)
    assert (logged.id, "complete", "Hi") == (turn["id"], turn["status"], turn["input"])
    assert logged.text == turn["choices"][0]["text"]
    assert [m.as_dict() for m in logged.messages] == turn["messages"]
    assert logged.parameters_sent == turn["parameters_sent"]


@pytest.mark.parametrize(
    ("model", "said", "status", "logged"),
    [
        ("401", "key", 1, "failed"),
        ("400-context", "", 1, "failed"),
        ("rst-mid?after=3", "", 1, "interrupted"),
        ("html-200", "", 1, "failed"),
        ("length", "-s max_tokens=", 0, "complete"),
        ("content-filter", "content filter", 0, "complete"),
        ("refusal", "refuses", 0, "complete"),
        ("tool-calls", "asks for a tool", 0, "complete"),
    ],
)
def test_what_went_wrong_is_said_on_standard_error(
    shell: Shell, log: SqliteLog, model: str, said: str, status: int, logged: str
) -> None:
    finished = shell.run("ask", "teacher", "Hi", "-m", model)
    assert (status, logged) == (finished.status, last_turn(log).status)
    assert said in finished.notices
    assert finished.notices.strip()
    assert "Traceback" not in finished.notices
    assert "sk-secret" not in finished.notices


def test_answer_in_one_piece_that_broke_off_is_written_as_far_as_it_came(
    shell: Shell, log: SqliteLog
) -> None:
    said = "One two three. " * 300
    finished = shell.run("ask", "teacher", said, "-m", "rst-mid", "--no-stream")
    turn = last_turn(log)
    assert (1, "interrupted") == (finished.status, turn.status)
    assert f"Echo: {said}".startswith(turn.text)
    assert turn.text == finished.text != ""
    assert "broke before the answer was finished" in finished.notices


def test_parameter_that_the_model_did_not_take_is_said(shell: Shell, log: SqliteLog) -> None:
    finished = shell.run("ask", "teacher", "Hi", "-m", "o3-mini")
    assert 0 == finished.status
    assert "temperature" in finished.notices
    assert "temperature" not in last_turn(log).parameters_sent


def test_alternatives_are_numbered(shell: Shell) -> None:
    finished = shell.run("ask", "teacher", "Hi", "-s", "n=2", "-m", "ok?text=Yes")
    assert "[1]\nYes\n[2]\nYes" == finished.text


def test_alternative_that_did_not_come_is_said(shell: Shell) -> None:
    finished = shell.run("ask", "teacher", "Hi", "-s", "n=2", "-m", "n-ignored?text=Yes")
    assert (0, "[1]\nYes") == (finished.status, finished.text)
    assert "Asked for 2 answers, the server gave 1.\n" == finished.notices


def test_reader_that_leaves_ends_the_call_quietly(
    shell: Shell, upstream: FakeUpstream, log: SqliteLog
) -> None:
    with shell.start("ask", "teacher", "Hi", "-m", "ok?tokens=400&delay_ms=5") as running:
        running.stdout.read(10)
        running.stdout.close()
        assert b"" == running.stderr.read()
    assert 1 == running.returncode
    turn = last_turn(log)
    assert "cancelled" == turn.status
    assert turn.text
    assert upstream.requests[-1].client_gone.wait(2)


@pytest.mark.parametrize(("asked", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_the_call_and_keep_what_arrived(
    shell: Shell, upstream: FakeUpstream, log: SqliteLog, asked: signal.Signals, status: int
) -> None:
    with shell.start("ask", "teacher", "Hi", "-m", "ok?tokens=400&delay_ms=20") as running:
        running.stdout.read(10)
        running.send_signal(asked)
        _, notices = running.communicate(timeout=10)
    assert (status, b"") == (running.returncode, notices)
    turn = last_turn(log)
    assert ("cancelled", True) == (turn.status, bool(turn.text))
    assert upstream.requests[-1].client_gone.wait(2)


def test_terminal_gets_no_control_characters_of_the_model(shell: Shell) -> None:
    screen, terminal = pty.openpty()
    running = subprocess.Popen(
        shell.command("ask", "teacher", "Hi", "-m", "ok?text=%1B]0;owned%07%E2%80%AEab"),
        cwd=shell.folder,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
    )
    os.close(terminal)
    assert 0 == running.wait(10)
    shown = read_screen(screen)
    assert b"\\x1b]0;owned\\x07\\u202eab\r\n" == shown


def read_screen(screen: int) -> bytes:
    shown = b""
    end = time.monotonic() + 5
    try:
        while time.monotonic() < end and (piece := os.read(screen, 4096)):
            shown += piece
    except OSError:
        pass  # How Linux says that nobody holds the terminal any more.
    finally:
        os.close(screen)
    return shown


def test_log_that_cannot_be_opened_is_one_clear_message(shell: Shell) -> None:
    (shell.folder / "data").write_text("a file where the folder should be")
    finished = shell.run("ask", "teacher", "Hi")
    assert 1 == finished.status
    assert "rolebook.db" in finished.notices
    assert "Traceback" not in finished.notices
