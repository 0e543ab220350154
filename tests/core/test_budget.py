"""What keys may use, and when they have used it up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rolebook.core.budget import (
    Limits,
    RateLimit,
    Reserve,
    Spending,
    parse_limits,
    require_budget,
    require_rate,
)
from rolebook.core.errors import BudgetError, InputError, RateLimitError

EVENING = datetime(2026, 12, 31, 23, 0, tzinfo=UTC)


def refusal(limits: Limits, day: Spending, month: Spending) -> BudgetError | None:
    try:
        require_budget(limits, day=day, month=month, moment=EVENING)
    except BudgetError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("limits", "day", "month", "expected"),
    [
        (Limits(), Spending(9, 10**9, 10.0**9), Spending(9, 10**9, 10.0**9), None),
        (Limits(tokens_per_day=3000), Spending(2, 2999), Spending(), None),
        (Limits(tokens_per_day=3000), Spending(2, 3000), Spending(), "3000 tokens a day"),
        (Limits(tokens_per_month=3000), Spending(), Spending(2, 3000), "3000 tokens a month"),
        (Limits(cost_per_day=0.5), Spending(1, 9, 0.5), Spending(), "$0.5 a day"),
        (Limits(cost_per_month=2.0), Spending(), Spending(1, 9, 2.5), "$2.0 a month"),
        # What runs, and what no upstream has told, counts as what is reserved for it.
        (
            Limits(tokens_per_day=3000),
            Spending(3, 10, unknown=2, reserved_tokens=2989),
            Spending(),
            None,
        ),
        (
            Limits(tokens_per_day=3000),
            Spending(3, 10, unknown=2, reserved_tokens=2990),
            Spending(),
            "3000 tokens a day",
        ),
        (
            Limits(cost_per_day=1.0),
            Spending(3, 9, 0.25, unknown=2, reserved_cost=0.75),
            Spending(),
            "$1.0 a day",
        ),
    ],
)
def test_budget_holds_what_was_used_and_what_runs(
    limits: Limits, day: Spending, month: Spending, expected: str | None
) -> None:
    error = refusal(limits, day, month)
    assert expected == (error and str(error.parameters["budget"]))


UNTOLD = Spending(3, 10, unknown=2, reserved_tokens=2990)
RUNNING = Spending(3, 10, unknown=2, reserved_tokens=2990, running_tokens=1990)
COSTLY = Spending(1, 0, 0.25, unknown=1, reserved_cost=0.75, running_cost=0.75)


@pytest.mark.parametrize(
    ("limits", "day", "code", "said", "retry_after_s"),
    [
        (Limits(tokens_per_day=10), UNTOLD, "insufficient_quota", "used up: 10 tokens", 3600.0),
        (
            Limits(tokens_per_day=3000),
            UNTOLD,
            "insufficient_quota",
            "of 3000 tokens a day, 10 used and 2990 reserved for turns of which nobody has told",
            3600.0,
        ),
        (
            Limits(tokens_per_day=3000),
            RUNNING,
            "rate_limit_exceeded",
            "of 3000 tokens a day, 10 used and 2990 reserved. Try again when they have ended.",
            5.0,
        ),
        (
            Limits(cost_per_day=1.0),
            COSTLY,
            "rate_limit_exceeded",
            "of $1.0 a day, $0.2500 used and $0.7500 reserved. Try again",
            5.0,
        ),
        # Of two that are used up, the one that no turn gives back has the say.
        (
            Limits(tokens_per_day=3000, cost_per_month=0.5),
            RUNNING,
            "insufficient_quota",
            "used up: $0.5 a month",
            3600.0,
        ),
    ],
)
def test_refusal_says_what_is_used_what_is_reserved_and_when_to_come_again(
    limits: Limits, day: Spending, code: str, said: str, retry_after_s: float
) -> None:
    error = refusal(limits, day, Spending(9, 9, 0.75))
    assert error is not None
    assert said in str(error)
    assert (code, retry_after_s) == (error.code, error.retry_after_s)


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        (Spending(), Reserve(7, 1020, 0.01)),
        (Spending(3, 0, 0.0, unknown=3, reserved_tokens=9000), Reserve(7, 1020, 0.01)),
        (Spending(3, 4000, 0.005, unknown=1, reserved_tokens=9000), Reserve(7, 2000, 0.01)),
        (Spending(2, 100, 0.5), Reserve(7, 1020, 0.25)),
    ],
)
def test_turn_counts_as_a_usual_one_and_no_less_than_it_is_likely_to_use(
    spent: Spending, expected: Reserve
) -> None:
    assert expected == spent.reserve(7, tokens=1020, cost=0.01)


def test_budget_begins_anew_with_the_day_or_the_month_of_utc() -> None:
    daily = refusal(Limits(tokens_per_day=1), Spending(1, 1), Spending(1, 1))
    monthly = refusal(Limits(tokens_per_month=1), Spending(), Spending(1, 1))
    assert daily is not None
    assert monthly is not None
    assert (3600.0, 3600.0) == (daily.retry_after_s, monthly.retry_after_s)
    assert "2027-01-01" in str(monthly)


def test_bucket_lets_a_burst_through_and_then_what_flows_in() -> None:
    limit = RateLimit(3, 60.0)
    assert [0.0, 0.0, 0.0] == [limit.take("a", 100.0) for _ in range(3)]
    assert 20.0 == pytest.approx(limit.take("a", 100.0))
    assert 0.0 == limit.take("b", 100.0)
    assert 5.0 == pytest.approx(limit.take("a", 115.0))
    assert 0.0 == limit.take("a", 120.0)
    limit.give_back("a", 120.0)
    assert 0.0 == limit.take("a", 120.0)


def test_bucket_survives_many_names() -> None:
    limit = RateLimit(1, 60.0)
    for number in range(30_000):
        limit.take(number, 0.0)
    assert len(limit._buckets) == 10_000
    assert limit.take(29_999, 0.0) > 0


def test_time_to_wait_is_an_error_that_says_so() -> None:
    require_rate(0.0)
    with pytest.raises(RateLimitError, match="in 3 s") as raised:
        require_rate(2.1)
    assert 2.1 == raised.value.retry_after_s


def test_limits_are_read_as_typed() -> None:
    given = {"requests_per_minute": " 60 ", "tokens_per_day": "", "cost_per_month": "12.50"}
    assert Limits(requests_per_minute=60, cost_per_month=12.5) == parse_limits(given)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokens_per_day", "many"),
        ("tokens_per_day", "0"),
        ("tokens_per_day", "-5"),
        ("tokens_per_day", "1.5"),
        ("tokens_per_day", "9" * 5000),
        ("cost_per_day", "nan"),
        ("cost_per_day", "inf"),
        ("cost_per_day", "0"),
        ("cost_per_day", "$5"),
    ],
)
def test_limit_that_is_no_number_is_refused(name: str, text: str) -> None:
    with pytest.raises(InputError, match=name):
        parse_limits({name: text})
