"""What a persona's checks find, as `ask` and `chat` tell it."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell
from tests.fake_upstream import FakeUpstream
from tests.judging import GENTLE, JUDGE_MODEL, SHORT, add_checks, add_judge, verdict


@pytest.fixture
def judge(shell: Shell, upstream: FakeUpstream) -> FakeUpstream:
    """The judge's upstream; it says no."""
    add_judge(shell.folder)
    upstream.model_rule(JUDGE_MODEL, verdict("false", "It scolds."))
    return upstream


def test_failed_checks_are_told_and_do_not_change_the_status(
    shell: Shell, judge: FakeUpstream
) -> None:
    add_checks(shell.folder, SHORT, GENTLE)
    finished = shell.run("ask", "plain", "One two three?")
    assert (finished.status, finished.text) == (0, "Echo: One two three?")
    assert (
        "Check failed: short. The number of words is 4; at most 3 is allowed." in finished.notices
    )
    assert "Check failed: gentle. It scolds." in finished.notices


def test_checks_that_pass_are_not_told(shell: Shell) -> None:
    add_checks(shell.folder, SHORT)
    assert shell.run("ask", "plain", "Why?").notices == ""


def test_json_has_all_that_was_found(shell: Shell, judge: FakeUpstream) -> None:
    add_checks(shell.folder, SHORT, GENTLE)
    turn = shell.run("ask", "plain", "Why?", "--json").json
    found = {
        check["label"]: (check["has_passed"], check["said"]["message"]) for check in turn["checks"]
    }
    assert found["short"] == (True, "The number of words is 2; at most 3 is allowed.")
    assert found["gentle"] == (False, "It scolds.")
    assert turn["mark"] is None


def test_json_of_a_persona_without_checks_says_so(shell: Shell) -> None:
    assert shell.run("ask", "plain", "Why?", "--json").json["checks"] == []


def test_what_could_not_be_told_is_told(shell: Shell) -> None:
    add_checks(shell.folder, GENTLE)
    finished = shell.run("ask", "plain", "Why?")
    assert finished.status == 0
    assert (
        "Not checked: gentle. It could not be judged: There is no persona 'judge'"
        in finished.notices
    )


def test_chat_tells_rules_at_once_and_judgements_when_they_come(
    shell: Shell, judge: FakeUpstream
) -> None:
    add_checks(shell.folder, SHORT, GENTLE)
    judge.model_rule("ok", "ok?text=One+two+three+four,ok?tokens=3&delay_ms=700")
    finished = shell.run("chat", "plain", stdin=b"One\nTwo\n")
    assert finished.status == 0
    assert "Check failed: short. The number of words is 4" in finished.notices
    assert finished.notices.count("Check failed: gentle. It scolds.") >= 1
