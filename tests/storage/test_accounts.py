"""Users, logins and keys in the log's file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rolebook.core.access import ApiKey, Caller, Role, acting_for
from rolebook.core.budget import Limits, Reserve, Spending
from rolebook.core.completion import Usage
from rolebook.core.errors import (
    BudgetError,
    BudgetHeldError,
    ConflictError,
    InputError,
    LoginError,
    NotFoundError,
    RateLimitError,
)
from rolebook.core.session import Session, Turn, TurnStatus
from rolebook.core.shared import SharedCounts, SharedSpending
from rolebook.storage import password
from rolebook.storage.accounts import SqliteAccounts
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_turn
from tests.storage.test_unwritten import locked, wait_for

PASSWORD = "correct horse"


@pytest.fixture
def accounts(log: SqliteLog) -> SqliteAccounts:
    return SqliteAccounts(log)


@pytest.fixture
def elsewhere(log: SqliteLog, accounts: SqliteAccounts) -> Iterator[SqliteAccounts]:
    """Another process on the same file."""
    other = SqliteLog(log.path)
    yield SqliteAccounts(other)
    other.close()


def kept_in(path: Path) -> str:
    with sqlite3.connect(path) as db:
        tables = ("users", "logins", "api_keys")
        rows = [db.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    db.close()
    return repr(rows)


def rows_of(log: SqliteLog, sql: str) -> list[Any]:
    with sqlite3.connect(log.path) as db:
        found = [row[0] for row in db.execute(sql)]
    db.close()
    return found


def set_time(log: SqliteLog, sql: str, *parameters: Any) -> None:
    with sqlite3.connect(log.path) as db:
        db.execute(sql, parameters)
    db.close()


def ago(**since: float) -> str:
    moment = datetime.now(UTC) - timedelta(**since)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_login_is_remembered_by_a_new_token_and_ends_when_asked(accounts: SqliteAccounts) -> None:
    user = accounts.create_user("Zoë", Role.READER, PASSWORD)
    first = accounts.log_in("zoë", PASSWORD, address="::1")
    second = accounts.log_in(" ZOË ", PASSWORD, address="::1", instead_of=first)
    assert first != second
    assert [None, user] == [accounts.find_login(first), accounts.find_login(second)]
    accounts.log_out(second)
    assert accounts.find_login(second) is None


def test_neither_passwords_nor_tokens_are_kept(accounts: SqliteAccounts, log: SqliteLog) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    login = accounts.log_in("Ada", PASSWORD, address="::1")
    key, token = accounts.create_key(user, "ci")
    kept = kept_in(log.path)
    assert "scrypt:" in kept
    assert key.hint in kept
    assert [text for text in (PASSWORD, login, token, token[3:]) if text in kept] == []


@pytest.mark.parametrize(
    ("column", "days"), [("used_at", 7.1), ("created_at", 30.1)], ids=["unused", "old"]
)
def test_login_expires(accounts: SqliteAccounts, log: SqliteLog, column: str, days: float) -> None:
    accounts.create_user("Ada", Role.READER, PASSWORD)
    token = accounts.log_in("Ada", PASSWORD, address="::1")
    set_time(log, f"UPDATE logins SET {column} = ?", ago(days=days))
    assert accounts.find_login(token) is None
    accounts.log_in("Ada", PASSWORD, address="::1")
    assert [1] == rows_of(log, "SELECT count(*) FROM logins")


def test_login_that_is_used_goes_on(accounts: SqliteAccounts, log: SqliteLog) -> None:
    accounts.create_user("Ada", Role.READER, PASSWORD)
    token = accounts.log_in("Ada", PASSWORD, address="::1")
    set_time(log, "UPDATE logins SET used_at = ?", ago(days=6.9))
    assert accounts.find_login(token) is not None
    set_time(log, "UPDATE logins SET created_at = ?", ago(days=29))
    assert accounts.find_login(token) is not None


def test_changing_a_password_ends_the_other_logins(accounts: SqliteAccounts) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    mine, other = (accounts.log_in("Ada", PASSWORD, address="::1") for _ in range(2))
    accounts.set_password(user, "another horse", keeping=mine)
    assert [user, None] == [accounts.find_login(mine), accounts.find_login(other)]
    assert [False, True] == [
        accounts.is_password_of(user, PASSWORD, address="::1"),
        accounts.is_password_of(user, "another horse", address="::1"),
    ]


def test_unknown_name_takes_as_long_as_a_wrong_password(
    accounts: SqliteAccounts, quick_passwords: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password, "_METHOD", quick_passwords)
    accounts.create_user("Ada", Role.READER, PASSWORD)

    def took(name: str) -> float:
        began = time.thread_time()
        with pytest.raises(LoginError, match="do not belong together"):
            accounts.log_in(name, "wrong horse", address="::1")
        return time.thread_time() - began

    known, unknown = (min(took(name) for _ in range(3)) for name in ("Ada", "Eve"))
    assert 0.6 < known / unknown < 1.7


def test_many_failures_for_one_name_have_to_wait_and_a_good_login_does_not_count(
    accounts: SqliteAccounts,
) -> None:
    accounts.create_user("Ada", Role.READER, PASSWORD)
    for number in range(10):
        with pytest.raises(LoginError):
            accounts.log_in("ada", "wrong horse", address=f"10.0.0.{number}")
    with pytest.raises(RateLimitError) as raised:
        accounts.log_in("Ada", PASSWORD, address="10.0.0.99")
    assert raised.value.retry_after_s is not None
    assert 0 < raised.value.retry_after_s <= 30


def test_nobody_is_kept_out_of_where_they_log_in_by_who_guesses_elsewhere(
    accounts: SqliteAccounts,
) -> None:
    accounts.create_user("Ada", Role.READER, PASSWORD)
    accounts.log_in("Ada", PASSWORD, address="10.0.0.1")
    for _ in range(10):
        accounts._of_name.take("ada", time.monotonic())
    with pytest.raises(RateLimitError):
        accounts.log_in("Ada", PASSWORD, address="10.0.0.2")
    accounts.log_in("ADA", PASSWORD, address="10.0.0.1")
    for _ in range(10):
        with pytest.raises(LoginError):
            accounts.log_in("Ada", "wrong horse", address="10.0.0.1")
    with pytest.raises(RateLimitError):
        accounts.log_in("Ada", PASSWORD, address="10.0.0.1")


def test_many_names_from_one_address_have_to_wait(accounts: SqliteAccounts) -> None:
    accounts.create_user("Ada", Role.READER, PASSWORD)
    for _ in range(2):
        accounts.log_in("Ada", PASSWORD, address="10.0.0.1")
    # A bucket is emptied without hashing anything twenty times.
    for _ in range(20):
        accounts._of_address.take("10.0.0.1", time.monotonic())
    with pytest.raises(RateLimitError):
        accounts.log_in("Nobody", "wrong horse", address="10.0.0.1")
    accounts.log_in("Ada", PASSWORD, address="10.0.0.2")


def test_names_that_people_would_take_for_one_are_one(accounts: SqliteAccounts) -> None:
    accounts.create_user("Zoë", Role.READER, PASSWORD)
    for name in ("zoë", "Zoe\u0308", "ＺＯË"):
        with pytest.raises(ConflictError, match="already"):
            accounts.create_user(name, Role.READER, PASSWORD)
    assert ["Zoë"] == [user.name for user in accounts.list_users()]


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\nb", "<b>", "x" * 61, "-rf", "\ud800"])
def test_odd_name_is_refused(accounts: SqliteAccounts, name: str) -> None:
    with pytest.raises(InputError, match="60 letters"):
        accounts.create_user(name, Role.READER, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "x" * 201])
def test_password_has_a_sensible_length(accounts: SqliteAccounts, password: str) -> None:
    with pytest.raises(InputError, match="8 to 200"):
        accounts.create_user("Ada", Role.READER, password)


def test_last_administrator_stays_one(accounts: SqliteAccounts) -> None:
    chen = accounts.create_user("Chen", Role.ADMINISTRATOR, PASSWORD)
    ada = accounts.create_user("Ada", Role.READER, PASSWORD)
    for change in (
        lambda: accounts.set_role(chen, Role.AUTHOR),
        lambda: accounts.remove_user(chen),
    ):
        with pytest.raises(ConflictError, match="only administrator"):
            change()
    accounts.set_role(ada, Role.ADMINISTRATOR)
    accounts.remove_user(chen)
    with pytest.raises(ConflictError, match="only user"):
        accounts.remove_user(ada)
    assert accounts.has_users()
    accounts.remove_user(ada, may_be_last=True)
    assert not accounts.has_users()


def test_number_of_somebody_gone_is_not_given_again(accounts: SqliteAccounts) -> None:
    first = accounts.create_user("Ada", Role.ADMINISTRATOR, PASSWORD)
    accounts.remove_user(first, may_be_last=True)
    assert accounts.create_user("Ada", Role.ADMINISTRATOR, PASSWORD).number > first.number


def test_user_of_another_process_is_noticed(
    accounts: SqliteAccounts, elsewhere: SqliteAccounts
) -> None:
    assert not accounts.has_users()
    elsewhere.create_user("Ada", Role.ADMINISTRATOR, PASSWORD)
    deadline = time.monotonic() + 5
    while not accounts.has_users() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert accounts.has_users()


def test_key_is_found_by_its_token_until_it_is_revoked(
    accounts: SqliteAccounts, elsewhere: SqliteAccounts
) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    limits = Limits(requests_per_minute=60, cost_per_month=1.5)
    key, token = accounts.create_key(user, " my  phone ", scope=("teacher",), limits=limits)
    assert token.startswith("rb-")
    assert 46 == len(token)
    assert key == accounts.find_key(token) == accounts.get_key(key.id)
    assert ("my phone", ("teacher",), limits) == (key.name, key.scope, key.limits)
    elsewhere.revoke_key(key)
    assert accounts.find_key(token) is None
    assert [True] == [bool(known.revoked_at) for known in accounts.list_keys(user)]


@pytest.mark.parametrize(
    "token",
    ["", "rb-", "' OR 1=1 --", "rb-" + "x" * 1_000_000, "rb-密钥", "\ud800", "rb-\0", "é" * 300],
    ids=lambda token: token[:12].encode("unicode_escape").decode(),
)
def test_token_that_is_no_keys_opens_nothing(accounts: SqliteAccounts, token: str) -> None:
    accounts.create_key(accounts.create_user("Ada", Role.READER, PASSWORD), "ci")
    with pytest.raises(LoginError):
        accounts.caller_of_token(token)
    assert accounts.find_login(token) is None


def test_keys_go_with_their_user(accounts: SqliteAccounts) -> None:
    accounts.create_user("Chen", Role.ADMINISTRATOR, PASSWORD)
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    _, token = accounts.create_key(user, "ci")
    accounts.remove_user(user)
    assert accounts.find_key(token) is None
    with pytest.raises(NotFoundError):
        accounts.get_user("Ada")


def test_spending_is_the_sum_of_the_turns_of_a_key(
    accounts: SqliteAccounts, log: SqliteLog
) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, other = (accounts.create_key(user, "ci")[0] for _ in range(2))
    with acting_for(Caller(user, other)):
        log_turn(log, log_session(log))
    with acting_for(Caller(user)):
        log_turn(log, log_session(log))
    with acting_for(Caller(user, key)):
        session = log_session(log)
        log_turn(log, session)
        asked = log.start_turn(new_turn(session), REVISION)
        log.finish_turn(answered(asked, usage=Usage(), cost=None))
        failed = log.start_turn(new_turn(session), REVISION)
        log.finish_turn(answered(failed, status=TurnStatus.FAILED, usage=Usage(), cost=None))
        log.start_turn(new_turn(session), REVISION)
        # A turn of last year is in neither sum.
        old = log_turn(log, session)
    set_time(log, "UPDATE turns SET created_at = '2020-01-01' WHERE id = ?", old.id)
    # A turn for which nothing was reserved counts as an answer of usual length.
    expected = Spending(
        turns=3,
        tokens=18,
        cost=0.25,
        unknown=2,
        reserved_tokens=2000,
        running_tokens=1000,
        without_cost=1,
    )
    assert (expected, expected) == accounts.spending(key)
    assert accounts.last_used(key).startswith(str(datetime.now(UTC).year))


def test_what_is_long_over_is_summed_up_once_and_counts_all_the_same(
    accounts: SqliteAccounts, log: SqliteLog
) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, _ = accounts.create_key(user, "ci")
    begin = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    with acting_for(Caller(user, key)):
        session = log_session(log)
        log_turn(log, session)
        set_time(
            log,
            "UPDATE turns SET created_at = ?",
            begin.isoformat(timespec="milliseconds")[:23] + "Z",
        )
        for number in range(1, 4):
            assert (number, number * 18) == (
                accounts.spending(key)[1].turns,
                accounts.spending(key)[1].tokens,
            )
            log_turn(log, session)
    # Another process, which has summed up nothing yet, comes to the same.
    assert accounts.spending(key) == SqliteAccounts(log).spending(key)


def test_budget_does_not_come_back_when_turns_are_removed_for_good(
    accounts: SqliteAccounts, log: SqliteLog, elsewhere: SqliteAccounts
) -> None:
    accounts.create_user("Chen", Role.ADMINISTRATOR, PASSWORD)
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, _ = accounts.create_key(user, "ci", limits=Limits(tokens_per_day=3000))
    with acting_for(Caller(user, key)):
        sessions = [log_session(log) for _ in range(3)]
        for session in sessions:
            log_turn(log, session)
            left = log.start_turn(reserved(accounts, key, session), REVISION)
            log.finish_turn(answered(left, status=TurnStatus.CANCELLED, usage=Usage(), cost=None))
    old = log_turn(log, sessions[0])
    set_time(
        log,
        "UPDATE turns SET created_at = '2020-01-01', api_key = ? WHERE id = ?",
        key.number,
        old.id,
    )
    used = accounts.spending(key)
    assert (54, 3000, 3) == (used[0].tokens, used[0].reserved_tokens, used[0].without_cost)
    for session in sessions[:2]:
        log.delete([session.id])
        assert 1 == log.purge_deleted("2999-01-01").sessions
        assert used == accounts.spending(key) == elsewhere.spending(key)
    with acting_for(Caller(user, key)), pytest.raises(BudgetError):
        accounts.require_budget()
    # With the key goes what it has used, and nothing is left that could not be removed.
    accounts.remove_user(user)
    log.delete([sessions[2].id])
    assert 1 == log.purge_deleted("2999-01-01").sessions


def reserved(accounts: SqliteAccounts, key: ApiKey, session: Session) -> Turn:
    """A turn that is about to begin on the account of a key."""
    return new_turn(session, reserve=accounts.reserve(key, tokens=1000, cost=0.0))


def given_back(turn: Turn) -> Reserve:
    """What was reserved for a turn on which no upstream has worked."""
    assert turn.reserve
    return replace(turn.reserve, is_given_back=True)


def test_running_turn_counts_until_it_is_over(accounts: SqliteAccounts, log: SqliteLog) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, _ = accounts.create_key(user, "ci", limits=Limits(tokens_per_day=2000))
    with acting_for(Caller(user, key)):
        session = log_session(log)
        running = [log.start_turn(reserved(accounts, key, session), REVISION) for _ in range(2)]
        with pytest.raises(BudgetHeldError) as held:
            accounts.reserve(key, tokens=1000, cost=0.0)
        assert held.value.retry_after_s == 5.0
        assert (0, 2000, 2000) == used_reserved_running(accounts, key)
        log.finish_turn(answered(running[0]))
        third = log.start_turn(reserved(accounts, key, session), REVISION)
        # What was left, and nobody knows what it has used, counts on; so does what has failed, but where no upstream
        # has worked on it.
        log.finish_turn(answered(running[1], status=TurnStatus.CANCELLED, usage=Usage(), cost=None))
        assert (18, 2000, 1000) == used_reserved_running(accounts, key)
        with pytest.raises(BudgetHeldError):
            accounts.require_budget()
        failed = answered(third, status=TurnStatus.FAILED, usage=Usage(), cost=None)
        log.finish_turn(failed)
        assert (18, 2000, 0) == used_reserved_running(accounts, key)
        log.finish_turn(replace(failed, reserve=given_back(third)))
        accounts.require_budget()
        fourth = log.start_turn(reserved(accounts, key, session), REVISION)
        log.finish_turn(answered(fourth, status=TurnStatus.CANCELLED, usage=Usage(), cost=None))
        with pytest.raises(BudgetError) as raised:
            accounts.require_budget()
    assert "18 used and 2000 reserved for turns of which nobody has told" in str(raised.value)
    assert (18, 2000, 0) == used_reserved_running(accounts, key)


def used_reserved_running(accounts: SqliteAccounts, key: ApiKey) -> tuple[int, int, int]:
    """The tokens of a key today."""
    day, _ = accounts.spending(key)
    return day.tokens, day.reserved_tokens, day.running_tokens


def test_turns_that_begin_at_once_in_several_processes_pass_no_budget(
    accounts: SqliteAccounts, log: SqliteLog, elsewhere: SqliteAccounts
) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, _ = accounts.create_key(user, "ci", limits=Limits(tokens_per_day=3500))
    outcomes = []
    with acting_for(Caller(user, key)):
        session = log_session(log)
        old = log.start_turn(reserved(accounts, key, session), REVISION)
        log.finish_turn(answered(old, status=TurnStatus.CANCELLED, usage=Usage(), cost=None))
        # All of them have looked before the first of them stands in the log.
        ready = [(book, reserved(book, key, session)) for book in (accounts, elsewhere) * 4]
        for book, turn in ready:
            try:
                book._log.start_turn(turn, REVISION)
                outcomes.append("begun")
            except BudgetError:
                outcomes.append("refused")
    assert ["begun"] * 3 + ["refused"] * 5 == outcomes


def test_turns_that_wait_in_memory_count(accounts: SqliteAccounts, log: SqliteLog) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, _ = accounts.create_key(user, "ci", limits=Limits(tokens_per_day=2030))
    with acting_for(Caller(user, key)):
        session = log_session(log)
        before = log.start_turn(reserved(accounts, key, session), REVISION)
        with locked(log.path):
            log.finish_turn(answered(before))
            log.finish_turn(answered(log.start_turn(reserved(accounts, key, session), REVISION)))
            assert (2, 36, 0) == told(accounts.spending(key)[0])
            failed = log.start_turn(reserved(accounts, key, session), REVISION)
            assert (3, 36, 1000) == told(accounts.spending(key)[0])
            ended = answered(failed, status=TurnStatus.FAILED, usage=Usage(), cost=None)
            log.finish_turn(replace(ended, reserve=given_back(failed)))
            assert (2, 36, 0) == told(accounts.spending(key)[0])
            for _ in range(2):
                log.start_turn(reserved(accounts, key, session), REVISION)
            assert (36, 2000, 2000) == used_reserved_running(accounts, key)
            late = new_turn(session, reserve=Reserve(key.number, 1000))
            with pytest.raises(BudgetError):
                log.start_turn(late, REVISION)
            with pytest.raises(BudgetError):
                accounts.require_budget()
        wait_for(lambda: log.unwritten == 0)
        assert (4, 36, 2000) == told(accounts.spending(key)[0])


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_turns_that_wait_in_the_memory_of_another_process_count(
    accounts: SqliteAccounts, log: SqliteLog
) -> None:
    shared = SharedCounts(), SharedSpending()
    go, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            token, session_id = os.read(go[0], 1000).decode().split()
            elsewhere = SqliteLog(log.path, patience_s=0.05, retry_s=0.05)
            elsewhere.share(*shared)
            book = SqliteAccounts(elsewhere)
            by = book.find_key(token)
            assert by
            with acting_for(Caller(by.user, by)):
                turn = reserved(book, by, elsewhere.get_session(session_id))
                elsewhere.finish_turn(answered(elsewhere.start_turn(turn, REVISION)))
            os.write(done[1], b"x")
            wait_for(lambda: not elsewhere.unwritten)
            os.write(done[1], b"x")
        os._exit(0)
    # If the child fails, nobody is left who could write.
    os.close(done[1])
    log.share(*shared)
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, token = accounts.create_key(user, "ci", limits=Limits(tokens_per_day=18))
    with acting_for(Caller(user, key)):
        session = log_session(log)
        mine = reserved(accounts, key, session)
        with locked(log.path):
            os.write(go[1], f"{token} {session.id}".encode())
            assert b"x" == os.read(done[0], 1)
            assert (1, 18, 0) == told(accounts.spending(key)[0])
            with pytest.raises(BudgetError):
                accounts.require_budget()
            with pytest.raises(BudgetError):
                log.start_turn(mine, REVISION)
        assert b"x" == os.read(done[0], 1)
        os.waitpid(child, 0)
        assert (1, 18, 0) == told(accounts.spending(key)[0])
    for end in (*go, done[0]):
        os.close(end)


def test_what_had_failed_before_failures_counted_still_counts_as_nothing(
    accounts: SqliteAccounts, log: SqliteLog
) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    key, _ = accounts.create_key(user, "ci", limits=Limits(tokens_per_day=9000))
    with acting_for(Caller(user, key)):
        session = log_session(log)
        for status in (TurnStatus.FAILED, TurnStatus.CANCELLED):
            turn = log.start_turn(reserved(accounts, key, session), REVISION)
            log.finish_turn(answered(turn, status=status, usage=Usage(), cost=None))
    assert (2, 0, 2000) == told(accounts.spending(key)[0])
    log.close()
    set_time(log, "DROP TABLE spendings")
    set_time(
        log,
        "DELETE FROM _sqlite_migrations WHERE name LIKE '%_spendings' OR name LIKE '%_unknown_costs'",
    )
    assert (1, 0, 1000) == told(accounts.spending(key)[0])


def told(spent: Spending) -> tuple[int, int, int]:
    return spent.turns, spent.tokens, spent.reserved_tokens


def test_requests_in_a_minute_are_counted_for_each_key(accounts: SqliteAccounts) -> None:
    user = accounts.create_user("Ada", Role.READER, PASSWORD)
    limits = Limits(requests_per_minute=2)
    first, second = (accounts.create_key(user, "ci", limits=limits)[0] for _ in range(2))
    for key in (first, first, second):
        accounts.require_rate(key)
    with pytest.raises(RateLimitError):
        accounts.require_rate(first)
