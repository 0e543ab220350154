"""`rolebook chat`: scripted through a pipe, and once at a real terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time

from rolebook.storage.log import SqliteLog
from tests.cli.conftest import Shell
from tests.fake_upstream import FakeUpstream


def test_scripted_chat_keeps_one_session_with_all_its_turns(
    shell: Shell, upstream: FakeUpstream, log: SqliteLog
) -> None:
    finished = shell.run("chat", "teacher", "-m", "ok?text=Yes", stdin=b"One\n\nTwo\nquit\nThree\n")
    assert 0 == finished.status
    assert "Hello! What about mathematics shall we look at?\nYes\nYes\n" == finished.text
    (summary,) = log.list_sessions().summaries
    assert ["One", "Two"] == [turn.input for turn in log.session_turns(summary.session.id)]
    sent = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert ["One", "Yes", "Two"] == sent[-3:]
    assert f"--session {summary.session.id}" in finished.notices


def test_retry_keeps_both_answers(shell: Shell, log: SqliteLog) -> None:
    assert 0 == shell.run("chat", "plain", stdin=b"retry\nHello\nretry\n").status
    (summary,) = log.list_sessions().summaries
    turns = log.session_turns(summary.session.id)
    assert [(1, 1, False), (1, 2, True)] == [(t.position, t.attempt, t.is_current) for t in turns]


def test_new_starts_another_session(shell: Shell, log: SqliteLog) -> None:
    assert 0 == shell.run("chat", "plain", stdin=b"One\nnew\nTwo\n").status
    assert [1, 1] == [summary.turns for summary in log.list_sessions().summaries]


def test_errors_never_end_it(shell: Shell, log: SqliteLog) -> None:
    script = b"One\nTwo\n"
    finished = shell.run("chat", "plain", "-m", "400,ok?text=Yes", stdin=script)
    assert (0, b"Yes\n") == (finished.status, finished.output)
    assert "Error: " in finished.notices
    (summary,) = log.list_sessions().summaries
    assert ["failed", "complete"] == [t.status for t in log.session_turns(summary.session.id)]


def test_broken_template_does_not_end_it(shell: Shell) -> None:
    (shell.folder / "templates" / "chat.jinja").write_text("stray text")
    finished = shell.run("chat", "plain", stdin=b"One\nTwo\n")
    assert 0 == finished.status
    assert 2 == finished.notices.count("chat.jinja:1")


def test_word_after_a_space_is_said_and_a_backslash_joins_lines(
    shell: Shell, upstream: FakeUpstream
) -> None:
    assert 0 == shell.run("chat", "plain", stdin=b" help\nfirst\\\nsecond\n").status
    said = [request.body["messages"][-1]["content"] for request in upstream.requests]
    assert [" help", "first\nsecond"] == said


def test_help_lists_the_words(shell: Shell, upstream: FakeUpstream) -> None:
    notices = shell.run("chat", "plain", stdin=b"help\n").notices
    assert all(word in notices for word in ("new", "retry", "save", "quit"))
    assert [] == upstream.requests


def test_described_role_is_saved(shell: Shell) -> None:
    script = b"Hello\nsave pirate Captain Ada\n"
    assert 0 == shell.run("chat", "--system", "You are a pirate.", stdin=script).status
    saved = shell.run("personas", "show", "pirate", "--json").json["persona"]
    assert {"name": "Captain Ada", "system": "You are a pirate."} == saved


def test_save_is_an_ordinary_input_where_the_persona_has_a_file(
    shell: Shell, upstream: FakeUpstream
) -> None:
    assert 0 == shell.run("chat", "plain", stdin=b"save me from this\n").status
    assert "save me from this" == upstream.requests[-1].body["messages"][-1]["content"]


def test_session_is_picked_up_with_its_last_turns(
    shell: Shell, upstream: FakeUpstream, log: SqliteLog
) -> None:
    shell.run("chat", "teacher", "-v", "subject=music", "-m", "ok?text=Sol", stdin=b"Do re mi fa\n")
    (summary,) = log.list_sessions().summaries
    finished = shell.run("chat", "--session", summary.session.id, stdin=b"And then?\n")
    assert finished.text.startswith("› Do re mi fa\nSol\n")
    messages = upstream.requests[-1].body["messages"]
    assert "music" in messages[0]["content"]
    assert ["Do re mi fa", "Sol", "And then?"] == [m["content"] for m in messages[-3:]]
    other = shell.run("chat", "plain", "--session", summary.session.id)
    assert 2 == other.status


def test_session_is_picked_up_and_begun_anew_with_its_persona_under_its_new_name(
    shell: Shell, upstream: FakeUpstream, log: SqliteLog
) -> None:
    shell.run("chat", "teacher", "-v", "subject=music", stdin=b"Do re mi fa\n")
    (summary,) = log.list_sessions().summaries
    shell.run("personas", "rename", "teacher", "tutor")
    picked_up = ("--session", summary.session.id)
    assert 0 == shell.run("chat", "tutor", *picked_up, stdin=b"And then?\n").status
    assert 0 == shell.run("chat", *picked_up, stdin=b"new\nOne\n").status
    assert "music" in upstream.requests[-1].body["messages"][0]["content"]
    listed = [(s.session.persona_id, s.turns) for s in log.list_sessions().summaries]
    assert [("tutor", 1), ("teacher", 2)] == listed


def test_described_role_that_is_picked_up_starts_over_as_it_was(
    shell: Shell, upstream: FakeUpstream, log: SqliteLog
) -> None:
    shell.run("chat", "--system", "You are {{ terse }}.", stdin=b"One\n")
    (summary,) = log.list_sessions().summaries
    shell.run("chat", "--session", summary.session.id, stdin=b"new\nTwo\n")
    assert ["You are {{ terse }}.", "Two"] == [
        message["content"] for message in upstream.requests[-1].body["messages"]
    ]


def test_ctrl_c_stops_the_answer_only(shell: Shell, upstream: FakeUpstream, log: SqliteLog) -> None:
    with shell.start("chat", "plain", "-m", "ok?tokens=400&delay_ms=20,ok?text=Yes") as running:
        running.stdin.write(b"One\n")
        running.stdin.flush()
        running.stdout.read(10)
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(b"Two\n", timeout=10)
    assert 0 == running.returncode
    assert rest.endswith(b"\nYes\n")
    (summary,) = log.list_sessions().summaries
    assert ["cancelled", "complete"] == [t.status for t in log.session_turns(summary.session.id)]
    assert upstream.requests[0].client_gone.wait(2)


def test_at_a_terminal_lines_are_edited_recalled_and_continued(
    shell: Shell, upstream: FakeUpstream
) -> None:
    screen, terminal = pty.openpty()
    running = subprocess.Popen(
        shell.command("chat", "plain", "-m", "ok?text=Yes"),
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        talk = Talk(screen)
        talk.await_text("›")
        talk.type("Hellp\x7fo\\\rmore\r")
        upstream.wait_for(lambda: len(upstream.requests) == 1, 10)
        talk.await_text("Yes")
        talk.type("\x1b[A")
        talk.type("\x1b\rlast\r")
        upstream.wait_for(lambda: len(upstream.requests) == 2, 10)
        talk.await_text("Yes")
        talk.type("\x04")
        talk.await_text("Go on later")
        assert 0 == running.wait(10)
    finally:
        running.kill()
        running.wait()
        os.close(screen)
    said = [request.body["messages"][-1]["content"] for request in upstream.requests]
    assert "Hello\nmore" == said[0]
    assert "Hello\nmore" == said[1].replace("\nlast", "")
    assert "\nlast" in said[1]
    history = shell.folder / "data" / "chat_history"
    assert 0o600 == history.stat().st_mode & 0o777


class Talk:
    """A person at a terminal: waits for what appears, then types."""

    def __init__(self, screen: int) -> None:
        self._screen = screen
        os.set_blocking(screen, False)

    def await_text(self, text: str, timeout_s: float = 10) -> None:
        shown = b""
        end = time.monotonic() + timeout_s
        while text.encode() not in shown:
            assert time.monotonic() < end, shown
            try:
                shown += os.read(self._screen, 4096)
            except (BlockingIOError, OSError):
                time.sleep(0.02)
        # The prompt is drawn before it listens to keys.
        time.sleep(0.2)

    def type(self, keys: str) -> None:
        os.write(self._screen, keys.encode())
