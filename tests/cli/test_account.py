"""`rolebook users` and `rolebook keys`."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from rolebook.core.access import Caller, acting_for
from rolebook.storage.accounts import SqliteAccounts
from rolebook.storage.log import SqliteLog
from tests.cli.conftest import Finished, Shell
from tests.cli.test_turn import read_screen
from tests.storage.examples import REVISION, answered, log_session, new_turn

PASSWORD = b"correct horse\n"


def add(shell: Shell, name: str = "Chen", role: str = "administrator") -> Finished:
    return shell.run("users", "add", name, "--role", role, stdin=PASSWORD)


def test_first_user_is_made_with_a_password_from_standard_input(
    shell: Shell, log: SqliteLog
) -> None:
    assert "rolebook users add NAME" in shell.run("users").notices
    made = add(shell)
    assert (0, b"") == (made.status, made.output)
    assert "Chen may log in, as administrator." in made.notices
    assert SqliteAccounts(log).log_in("Chen", "correct horse", address="::1")
    assert "Chen\tadministrator\t" in shell.run("users").text
    listed = shell.run("users", "--json")
    assert [("Chen", "administrator")] == [(user["name"], user["role"]) for user in listed.json]
    assert b"scrypt" not in listed.output


def test_first_user_has_to_be_an_administrator(shell: Shell) -> None:
    refused = add(shell, "Ada", "reader")
    assert 2 == refused.status
    assert "--role administrator" in refused.notices
    assert "" == shell.run("users").text


def test_users_are_changed_and_removed(shell: Shell, log: SqliteLog) -> None:
    add(shell)
    add(shell, "Ada", "reader")
    assert 0 == shell.run("users", "role", "ada", "author").status
    assert 0 == shell.run("users", "password", "Ada", stdin=b"another horse\r\n").status
    assert SqliteAccounts(log).log_in("Ada", "another horse", address="::1")
    refused = shell.run("users", "remove", "Chen")
    assert 1 == refused.status
    assert "only administrator" in refused.notices
    assert 0 == shell.run("users", "remove", "Ada").status
    kept = shell.run("users", "remove", "Chen")
    assert 1 == kept.status
    assert "--last" in kept.notices
    assert "nobody has to log in" in shell.run("users", "remove", "Chen", "--last").notices
    assert "" == shell.run("users").text


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "said"),
    [
        (("users", "add", "Chen"), PASSWORD, 1, "already"),
        (("users", "add", "a/b"), PASSWORD, 2, "60 letters"),
        (("users", "add", "Bo"), b"short\n", 2, "8 to 200"),
        (("users", "add", "Bo"), b"", 2, "8 to 200"),
        (("users", "role", "Eve", "reader"), b"", 2, "There is no user 'Eve'"),
        (("keys", "add", "Eve"), b"", 2, "There is no user 'Eve'"),
        (("keys", "add", "Chen", "--persona", "../x"), b"", 2, "by id"),
        (("keys", "add", "Chen", "--tokens-per-day", "many"), b"", 2, "whole number"),
        (("keys", "revoke", "nothing"), b"", 2, "There is no API key nothing"),
    ],
)
def test_what_cannot_be_done_is_said(
    shell: Shell, arguments: tuple[str, ...], stdin: bytes, status: int, said: str
) -> None:
    add(shell)
    refused = shell.run(*arguments, stdin=stdin)
    assert status == refused.status
    assert said in refused.notices
    assert b"" == refused.output


def test_key_for_a_persona_that_is_not_there_is_made_and_said_to_open_nothing_yet(
    shell: Shell,
) -> None:
    add(shell)
    scope = ("--persona", "tecaher", "--persona", "teacher", "--persona", "teacher@nolabel")
    made = shell.run("keys", "add", "Chen", *scope)
    assert 0 == made.status
    assert re.fullmatch(r"rb-[\w-]{43}\n", made.text)
    assert "No persona goes by tecaher, teacher@nolabel yet." in made.notices
    assert "goes by" not in shell.run("keys", "add", "Chen", "--persona", "teacher").notices
    assert "goes by" not in shell.run("keys", "add", "Chen").notices


def test_key_is_printed_alone_and_listed_without_its_token(shell: Shell, log: SqliteLog) -> None:
    add(shell)
    limits = ("--requests-per-minute", "60", "--cost-per-month", "2.5")
    made = shell.run("keys", "add", "Chen", "--name", "ci", "--persona", "teacher", *limits)
    token = made.text.removesuffix("\n")
    assert re.fullmatch(r"rb-[\w-]{43}", token)
    key = SqliteAccounts(log).find_key(token)
    assert key is not None
    listed = shell.run("keys", "--user", "Chen", "--json")
    assert token not in listed.text
    assert [key.id] == [entry["id"] for entry in listed.json]
    assert 60 == listed.json[0]["limits"]["requests_per_minute"]
    assert 0 == listed.json[0]["this_month"]["tokens"]
    columns = shell.run("keys").text.split("\t")
    assert [key.id, "Chen", "ci", f"{key.hint}…", "teacher", "0", "0"] == columns[:7]
    assert ["$0.0000", "0 $0.0000"] == columns[7:9]
    assert 0 == shell.run("keys", "revoke", key.id).status
    assert SqliteAccounts(log).find_key(token) is None


def test_cost_that_nobody_knows_is_not_listed_as_nothing(shell: Shell, log: SqliteLog) -> None:
    add(shell)
    shell.run("keys", "add", "Chen")
    (key,) = SqliteAccounts(log).list_keys()

    def cost_with(cost: float | None) -> str:
        with acting_for(Caller(key.user, key)):
            turn = log.start_turn(new_turn(log_session(log)), REVISION)
            log.finish_turn(answered(turn, cost=cost))
        return shell.run("keys").text.split("\t")[7]

    assert ["–", "≥ $0.2500"] == [cost_with(None), cost_with(0.25)]


def test_list_in_a_narrow_window_leaves_ids_whole_and_empty_columns_out(
    shell: Shell, log: SqliteLog
) -> None:
    add(shell)
    shell.run("keys", "add", "Chen", "--name", "for the lessons", "--tokens-per-day", "3000")
    (key,) = SqliteAccounts(log).list_keys()
    screen, terminal = pty.openpty()
    running = subprocess.Popen(
        shell.command("keys"),
        cwd=shell.folder,
        env={**shell.environment, "COLUMNS": "80", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
    )
    os.close(terminal)
    assert 0 == running.wait(10)
    shown = read_screen(screen).decode()
    assert ["Reserve", key.id] == [
        words for words in ("Reserve", "Revoke", key.id) if words in shown
    ]
    assert max(map(len, shown.splitlines())) <= 80
