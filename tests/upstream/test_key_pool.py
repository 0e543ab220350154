"""Which key is used next, by a clock that the test moves."""

from __future__ import annotations

import math

import pytest

from rolebook.core.errors import (
    UpstreamConnectionError,
    UpstreamError,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamServerError,
)
from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.key_pool import KeyPool, Lease, Ticket

LIMITED = UpstreamRateError("slow down", status=429, retry_after_s=5.0)
QUOTA = UpstreamQuotaError("no money", status=429, detail="You exceeded your current quota.")
REFUSED = UpstreamKeyError("no", status=401, detail="Incorrect API key provided.")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pool_of(count: int, clock: Clock, *, concurrency: int = 0) -> KeyPool:
    keys = tuple(Key(f"sk-number-{n}-0123456789", f"KEY_{n}") for n in range(1, count + 1))
    settings = UpstreamSettings("fake", "http://127.0.0.1:9/v1", keys, concurrency=concurrency)
    return KeyPool(settings, clock=clock)


def take(pool: KeyPool, model: str = "m") -> Lease:
    lease = pool.take(model)
    assert lease is not None
    return lease


def fail(pool: KeyPool, error: UpstreamError, model: str = "m") -> int:
    """Let one call fail; the position of its key."""
    with take(pool, model) as lease:
        pool.note_failure(lease, error)
    return lease.slot.position


def used(pool: KeyPool, calls: int, model: str = "m") -> list[int]:
    """The positions of the keys that calls, one after the other, are made with."""
    positions = []
    for _ in range(calls):
        with take(pool, model) as lease:
            positions.append(lease.slot.position)
    return positions


def test_keys_take_turns_and_the_least_busy_is_next(clock: Clock) -> None:
    pool = pool_of(3, clock)
    assert used(pool, 6) == [1, 2, 3, 1, 2, 3]

    running = [take(pool) for _ in range(4)]
    pool.give_back(running[1])

    assert [lease.slot.position for lease in running] == [1, 2, 3, 1]
    assert take(pool).slot.position == 2
    assert [key.running for key in pool.health()] == [2, 1, 1]


@pytest.mark.parametrize(
    ("error", "state", "seconds"),
    [
        (LIMITED, "limited", 5),
        (UpstreamRateError("x", retry_after_s=0.0), "limited", 0.05),
        (UpstreamRateError("x", retry_after_s=1e34), "limited", 86_400),
        (QUOTA, "quota", 600),
        (UpstreamQuotaError("x", retry_after_s=3.0), "quota", 600),
        (UpstreamQuotaError("x", retry_after_s=7200.0), "quota", 7200),
        (REFUSED, "refused", 3600),
    ],
)
def test_key_rests_as_long_as_its_trouble_asks(
    clock: Clock, error: UpstreamError, state: str, seconds: float
) -> None:
    pool = pool_of(2, clock)

    assert fail(pool, error) == 1
    assert used(pool, 2) == [2, 2]
    (rested, _) = pool.health()
    assert (rested.state, rested.models) == (state, ("m",))
    assert rested.seconds == pytest.approx(seconds)
    clock.now += seconds - 0.01
    assert used(pool, 2) == [2, 2]
    clock.now += 0.02
    assert used(pool, 2) == [1, 2]
    assert [key.state for key in pool.health()] == ["ready", "ready"]


@pytest.mark.parametrize(
    "error", [UpstreamServerError("x"), UpstreamConnectionError("x"), UpstreamRefusedError("x")]
)
def test_key_does_not_rest_for_what_is_not_its_fault(clock: Clock, error: UpstreamError) -> None:
    pool = pool_of(1, clock)

    fail(pool, error)

    assert [key.state for key in pool.health()] == ["ready"]


def test_key_rests_for_the_model_that_was_asked_for(clock: Clock) -> None:
    pool = pool_of(2, clock)

    fail(pool, LIMITED, "large")

    assert used(pool, 2, "large") == [2, 2]
    assert used(pool, 2, "small") == [1, 2]


def test_unsaid_rest_grows_each_time_and_begins_anew_after_a_success(clock: Clock) -> None:
    pool, rests = pool_of(1, clock), []
    for _ in range(8):
        fail(pool, UpstreamRateError("x"))
        rests.append(pool.rest_s("m"))
        clock.now += rests[-1] + 0.01
    assert rests == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])

    with take(pool) as lease:
        pool.note_success(lease)
    fail(pool, UpstreamRateError("x"))

    assert pool.rest_s("m") == pytest.approx(0.5)


def test_calls_that_ran_together_neither_shorten_a_rest_nor_count_as_several(clock: Clock) -> None:
    pool = pool_of(1, clock)
    together = [take(pool) for _ in range(3)]

    pool.note_failure(together[0], QUOTA)
    pool.note_failure(together[1], UpstreamRateError("x"))
    pool.note_success(together[2])

    (key,) = pool.health()
    assert (key.state, key.seconds) == ("quota", 600)
    clock.now += 601
    fail(pool, UpstreamRateError("x"))
    assert pool.rest_s("m") == pytest.approx(1.0)


def test_rested_key_can_be_tried_again_at_once(clock: Clock) -> None:
    pool = pool_of(2, clock)
    fail(pool, REFUSED)
    assert (pool.try_again(1), pool.try_again(7)) == (True, False)
    assert sorted(used(pool, 2)) == [1, 2]
    assert [key.state for key in pool.health()] == ["ready", "ready"]


@pytest.mark.parametrize(
    ("errors", "kind", "seconds"),
    [
        ([LIMITED], UpstreamRateError, 5),
        ([QUOTA], UpstreamQuotaError, 600),
        ([REFUSED], UpstreamKeyError, 3600),
        ([REFUSED, LIMITED, QUOTA], UpstreamRateError, 5),
        ([REFUSED, QUOTA], UpstreamQuotaError, 600),
        ([REFUSED, REFUSED], UpstreamKeyError, 3600),
    ],
)
def test_pool_without_a_usable_key_says_why_and_until_when(
    clock: Clock, errors: list[UpstreamError], kind: type[UpstreamError], seconds: float
) -> None:
    pool = pool_of(len(errors), clock)
    for error in errors:
        fail(pool, error)

    assert pool.take("m") is None
    refusal = pool.refusal("m")

    assert type(refusal) is kind
    assert refusal.retry_after_s == pytest.approx(seconds)
    assert refusal.message % {**refusal.parameters, "upstream": "fake"}


def test_key_that_no_server_accepts_is_left_out(clock: Clock) -> None:
    keys = (Key("sk-cut\nin-two-0123456789", "A"), Key("sk-good-0123456789", "B"))
    pool = KeyPool(UpstreamSettings("fake", "http://127.0.0.1:9/v1", keys), clock=clock)

    assert used(pool, 2) == [2, 2]
    assert [key.state for key in pool.health()] == ["unusable", "ready"]
    fail(pool, LIMITED)
    assert pool.rest_s("m") == pytest.approx(5)


def test_server_without_keys_is_called_without_and_can_only_be_limited(clock: Clock) -> None:
    pool = KeyPool(UpstreamSettings("fake", "http://127.0.0.1:9/v1"), clock=clock)

    fail(pool, REFUSED)
    assert take(pool).key is None
    fail(pool, LIMITED)
    assert pool.rest_s("m") == pytest.approx(5)
    assert pool.health() == []


def test_openai_without_a_key_has_nobody_to_call_with(clock: Clock) -> None:
    pool = KeyPool(UpstreamSettings("openai", "https://api.openai.com/v1"), clock=clock)

    assert pool.take("m") is None
    assert pool.rest_s("m") == math.inf
    assert "OPENAI_API_KEY" in pool.refusal("m").message


def test_who_came_first_gets_the_next_key_with_room(clock: Clock) -> None:
    pool = pool_of(1, clock, concurrency=1)
    running, first, second = take(pool), Ticket(), Ticket()
    pool.stand_in_line(first)
    pool.stand_in_line(second)
    pool.give_back(running)

    assert first.is_set()
    assert pool.take("m") is None
    assert pool.take("m", second) is None
    taken = pool.take("m", first)
    assert taken is not None
    assert second.is_set()
    pool.leave_line(second)
    pool.give_back(taken)
    assert pool.take("m") is not None


def test_health_shows_no_key(clock: Clock) -> None:
    pool = pool_of(2, clock)
    fail(pool, REFUSED)

    shown = repr(pool.health())

    assert "sk-number" not in shown
    assert "…6789" in shown
    assert dict(pool.health()[0].failures) == {"refused": 1}


def test_many_models_are_not_remembered_for_ever(clock: Clock) -> None:
    pool = pool_of(1, clock)
    for number in range(1000):
        fail(pool, LIMITED, f"model-{number}")

    (key,) = pool.health()
    assert len(key.models) <= 256
