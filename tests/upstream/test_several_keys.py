"""Several keys as one: over real sockets, with a server that limits, refuses and counts them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable

import pytest

from rolebook.core.completion import Cancellation, Waiting
from rolebook.core.errors import (
    UpstreamCancelled,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamServerError,
)
from rolebook.core.upstream import Timeouts
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FakeUpstream
from tests.upstream.asking import OK_TEXT, Outcome, ask, ask_for, wait_until_idle
from tests.upstream.conftest import OpenUpstream

LIMITED = "sk-limited-0123456789"
GOOD = "sk-good-0123456789"
OTHER = "sk-other-0123456789"


def ask_at_once(upstream: OpenAIUpstream, count: int, model: str = "ok") -> list[Outcome]:
    """So many calls, all made at the same moment."""
    outcomes: list[Outcome] = []
    start = threading.Barrier(count)

    def run() -> None:
        start.wait(10)
        outcomes.append(ask(upstream, ask_for(model)))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def ask_quickly(upstream: OpenAIUpstream, model: str = "ok") -> Outcome:
    """The quickest of three calls: one of them alone may meet a busy moment of the machine."""
    return min((ask(upstream, ask_for(model)) for _ in range(3)), key=lambda said: said.duration_s)


def keys_used(fake: FakeUpstream) -> list[str | None]:
    return [request.api_key for request in fake.requests]


def states(upstream: OpenAIUpstream) -> list[str]:
    return [key.state for key in upstream.keys.health()]


def peak(spans: Iterable[tuple[float, float]]) -> int:
    """How many of the spans overlap at most."""
    ends = sorted(edge for begin, end in spans for edge in ((begin, 1), (end, -1)))
    running = most = 0
    for _, step in ends:
        running += step
        most = max(most, running)
    return most


def test_keys_share_the_calls(open_upstream: OpenUpstream, fake: FakeUpstream) -> None:
    upstream = open_upstream(GOOD, OTHER)
    for _ in range(4):
        assert ask(upstream, ask_for()).is_complete

    assert Counter(keys_used(fake)) == {GOOD: 2, OTHER: 2}
    assert fake.stats["connections"] <= 2


@pytest.mark.parametrize(
    ("trouble", "state"),
    [
        ("429?retry_after=30", "limited"),
        ("429?retry_after=119", "limited"),
        ("429?x_ratelimit_reset_requests=6m0s", "limited"),
        ("429-quota", "quota"),
        ("401", "refused"),
        ("403", "refused"),
        ("echo-key", "refused"),
        ("status?code=402", "quota"),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
def test_call_that_one_key_fails_is_made_with_another_at_once(
    open_upstream: OpenUpstream, fake: FakeUpstream, trouble: str, state: str, is_streamed: bool
) -> None:
    upstream = open_upstream(LIMITED, GOOD, attempts=1)
    fake.key_rule(LIMITED, trouble)

    first, second = (ask(upstream, ask_for(is_streamed=is_streamed)) for _ in range(2))

    assert (first.text, second.text) == (OK_TEXT, OK_TEXT)
    assert keys_used(fake) == [LIMITED, GOOD, GOOD]
    assert states(upstream) == [state, "ready"]
    assert first.duration_s < 9


def test_request_that_is_too_large_for_a_minute_costs_no_key_its_turn(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(LIMITED, GOOD, OTHER)
    fake.model_rule("ok", "429-tokens?x_ratelimit_reset_tokens=30s")
    refused = ask(upstream, ask_for())
    fake.model_rule("ok", "ok")
    next_one = ask(upstream, ask_for())

    assert isinstance(refused.upstream_error, UpstreamRefusedError)
    assert refused.upstream_error.retry_after_s is None
    assert next_one.text == OK_TEXT
    assert states(upstream) == ["ready"] * 3
    assert len(fake.requests) == 2


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(("code", "state"), [(429, "limited"), (402, "quota"), (401, "refused")])
def test_refusal_with_status_200_is_one_all_the_same(
    open_upstream: OpenUpstream, fake: FakeUpstream, code: int, state: str, is_streamed: bool
) -> None:
    """OpenRouter has begun to answer before it knows what a provider says, and so do other gateways."""
    upstream = open_upstream(LIMITED, GOOD)
    fake.key_rule(LIMITED, f"error-200?code={code}")
    answer = ask(upstream, ask_for(is_streamed=is_streamed))
    assert (OK_TEXT, [state, "ready"]) == (answer.text, states(upstream))


AFFORD = (
    "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only"
    " afford {}. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid account"
)
LONG_PROMPT = (
    "Prompt tokens limit exceeded: 230799 > 91442. To increase, visit https://openrouter.ai/"
)


@pytest.mark.parametrize("said", [AFFORD.format(3024), LONG_PROMPT])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_request_that_no_account_can_pay_costs_no_key_its_turn(
    open_upstream: OpenUpstream, fake: FakeUpstream, said: str, is_streamed: bool
) -> None:
    upstream = open_upstream(LIMITED, GOOD)
    fake.model_rule("ok", f"status?code=402&message={said}")
    refused = ask(upstream, ask_for(is_streamed=is_streamed))
    assert isinstance(refused.upstream_error, UpstreamRefusedError)
    assert "cannot pay for as much" in str(refused.upstream_error)
    assert states(upstream) == ["ready"] * 2
    assert sorted(keys_used(fake)) == sorted([LIMITED, GOOD])

    fake.model_rule("ok", "ok")
    fake.key_rule(LIMITED, f"status?code=402&message={said}")
    assert [OK_TEXT] * 2 == [ask(upstream, ask_for()).text for _ in range(2)]


def test_account_that_can_pay_is_asked_however_busy_its_key_is(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(LIMITED, GOOD)
    fake.key_rule(LIMITED, f"status?code=402&message={AFFORD.format(3024)}")
    fake.key_rule(GOOD, "ok?delay_ms=20")
    assert [OK_TEXT] * 6 == [said.text for said in ask_at_once(upstream, 6)]


def test_account_without_any_credit_is_one_whose_quota_is_used_up(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(LIMITED, GOOD)
    for said in (AFFORD.format(0), AFFORD.format(-12), "Insufficient credits."):
        fake.key_rule(LIMITED, f"status?code=402&message={said}")
        upstream.keys.try_again(0)
        assert [OK_TEXT] * 2 == [ask(upstream, ask_for()).text for _ in range(2)]
        assert states(upstream) == ["quota", "ready"], said


def test_limited_key_gets_no_call_until_it_has_rested(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    """Three keys, one of which takes five calls a second: fifty at once and more after them all succeed."""
    upstream = open_upstream(LIMITED, GOOD, OTHER)
    fake.key_rule(LIMITED, "limited?requests=5&per_s=2")

    outcomes = ask_at_once(upstream, 50)
    known = len(fake.requests)
    rested_at = time.monotonic() + upstream.keys.health()[0].seconds
    outcomes += ask_at_once(upstream, 50) + ask_at_once(upstream, 50)

    assert [outcome.text for outcome in outcomes] == [OK_TEXT] * 150
    assert LIMITED in [r.api_key for r in fake.requests if r.behaviour.startswith("limited")]
    asked = [request for request in fake.requests[known:] if request.api_key == LIMITED]
    assert [request for request in asked if request.arrived_at < rested_at] == []
    assert wait_until_idle() == []


@pytest.mark.parametrize(
    ("troubles", "kind"),
    [
        (("429?retry_after=30", "429?retry_after=119"), UpstreamRateError),
        (("429-quota", "429?retry_after=119"), UpstreamRateError),
        (("429-quota", "401"), UpstreamQuotaError),
        (("401", "403"), UpstreamKeyError),
    ],
)
def test_without_a_usable_key_the_answer_comes_at_once_and_nobody_is_asked(
    open_upstream: OpenUpstream, fake: FakeUpstream, troubles: tuple[str, str], kind: type
) -> None:
    upstream = open_upstream(LIMITED, OTHER)
    fake.key_rule(LIMITED, troubles[0])
    fake.key_rule(OTHER, troubles[1])
    assert ask(upstream, ask_for()).error is not None
    asked = len(fake.requests)

    again = ask_quickly(upstream)

    assert asked == len(fake.requests) == 2
    assert type(again.error) is kind
    assert again.duration_s < 0.1
    assert again.upstream_error.retry_after_s
    assert again.upstream_error.detail


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ("429?retry_after=119", UpstreamRateError),
        ("429-quota", UpstreamQuotaError),
        ("401", UpstreamKeyError),
    ],
)
def test_single_key_is_no_exception(
    upstream: OpenAIUpstream, fake: FakeUpstream, trouble: str, kind: type
) -> None:
    first, second = ask(upstream, ask_for(trouble)), ask_quickly(upstream, trouble)

    assert (type(first.error), type(second.error)) == (kind, kind)
    assert second.duration_s < 0.1
    assert len(fake.requests) == 1
    assert second.upstream_error.detail == first.upstream_error.detail
    assert second.upstream_error.retry_after_s


def test_refused_key_is_tried_again_on_demand(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(LIMITED)
    fake.key_rule(LIMITED, "401,pass")
    assert ask(upstream, ask_for()).error is not None
    assert ask(upstream, ask_for()).error is not None

    upstream.keys.try_again(1)

    assert ask(upstream, ask_for()).is_complete
    assert states(upstream) == ["ready"]


def test_refused_model_or_text_is_not_held_against_the_key(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(GOOD, OTHER)
    for words in ("The model `x` does not exist or you do not have access to it.", "Input flagged"):
        model = f"status?code=403&message={words}"
        assert isinstance(ask(upstream, ask_for(model)).error, UpstreamRefusedError)

    assert states(upstream) == ["ready", "ready"]
    assert len(fake.requests) == 2


def test_page_of_a_firewall_is_held_against_no_key(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    """It refuses words, such as those of SQL: an hour's rest for each key would be everybody's."""
    upstream = open_upstream(GOOD, OTHER)

    error = ask(upstream, ask_for("error-html?code=403")).error

    assert isinstance(error, UpstreamRefusedError)
    assert "firewalls" in str(error)
    assert states(upstream) == ["ready", "ready"]
    assert len(fake.requests) == 1


def test_trouble_of_the_server_is_no_keys_fault_and_ends_after_three_attempts(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(GOOD, OTHER, LIMITED, LIMITED + "2")

    assert isinstance(ask(upstream, ask_for("503")).error, UpstreamServerError)
    assert len(fake.requests) == 3
    assert states(upstream) == ["ready"] * 4


def test_no_other_key_is_asked_once_something_was_passed_on(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(LIMITED, GOOD)
    fake.key_rule(LIMITED, "rst-mid?after=2")

    broken = ask(upstream, ask_for())

    assert OK_TEXT.startswith(broken.text)
    assert keys_used(fake) == [LIMITED]
    assert states(upstream) == ["ready", "ready"]


def test_call_waits_for_a_key_with_room_in_the_order_of_asking(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(GOOD, OTHER, concurrency=2)

    outcomes = ask_at_once(upstream, 12, "ok?latency_ms=100")

    assert [outcome.text for outcome in outcomes] == [OK_TEXT] * 12
    # Who asked has the last byte a moment before the server notes that it was the last.
    fake.wait_for(lambda: all(request.finished.at for request in fake.requests))
    assert len(fake.requests) == 12
    for key in (GOOD, OTHER):
        spans = [
            (request.arrived_at, request.finished.at)
            for request in fake.requests
            if request.api_key == key and request.finished.at
        ]
        # On a busy machine the calls of one key may take longer, so that the other one takes more of them.
        assert len(spans) in range(4, 9)
        assert peak(spans) == 2


def test_server_without_keys_may_be_limited_to_so_many_calls(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(concurrency=1)

    ask_at_once(upstream, 4, "ok?latency_ms=20")

    assert peak((r.arrived_at, r.finished.at or 0.0) for r in fake.requests) == 1


def test_waiting_for_room_ends_at_the_limit_and_when_it_is_cancelled(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(GOOD, concurrency=1, timeouts=Timeouts(1, 0.7, 5, 5))
    stream = upstream.stream(ask_for("ok?tokens=500&delay_ms=5"))
    next(stream)
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.cancel).start()

    cancelled = ask(upstream, ask_for(cancellation=cancellation))
    late = ask(upstream, ask_for())

    assert isinstance(cancelled.error, UpstreamCancelled)
    assert cancelled.duration_s < 0.7
    assert isinstance(late.error, UpstreamRateError)
    assert late.duration_s < 3
    assert Waiting() in late.events
    assert len(fake.requests) == 1
    stream.close()  # type: ignore[attr-defined]
    assert ask(upstream, ask_for()).is_complete


def test_call_that_is_left_says_whether_the_upstream_was_asked(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(GOOD, concurrency=1, attempts=9)

    def is_delivered(model: str) -> bool:
        """Whether it was, by the time that somebody who waits for an answer leaves."""
        asked = ask_for(model)
        stream = upstream.stream(asked)
        assert isinstance(next(stream), Waiting)
        stream.close()  # type: ignore[attr-defined]
        return asked.delivery.is_made

    assert is_delivered("hang")
    assert [1, 1] == [len(fake.requests), fake.requests[-1].client_gone.wait(2)]
    # What was refused costs nothing, and the next attempt at it is not made yet.
    assert not is_delivered("503?retry_after=1.5")
    running = upstream.stream(ask_for("ok?tokens=500&delay_ms=5"))
    next(running)
    assert not is_delivered("waiting-for-its-place")
    running.close()  # type: ignore[attr-defined]


def test_call_with_patience_waits_until_a_key_has_rested(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(LIMITED)
    fake.key_rule(LIMITED, "429?retry_after=2.2,pass")
    assert isinstance(ask(upstream, ask_for()).error, UpstreamRateError)

    hurried, patient = ask_quickly(upstream), ask(upstream, ask_for(patience_s=9.0))

    assert isinstance(hurried.error, UpstreamRateError)
    assert hurried.duration_s < 0.1
    assert patient.text == OK_TEXT
    refused, answered = fake.requests
    assert answered.arrived_at - refused.arrived_at > 2.2


def test_all_attempts_end_at_one_deadline(open_upstream: OpenUpstream, fake: FakeUpstream) -> None:
    keys = [f"sk-slow-{number}-0123456789" for number in range(8)]
    upstream = open_upstream(*keys, timeouts=Timeouts(1, 1, 1, 0.6))
    for key in keys:
        fake.key_rule(key, "429?latency_ms=200&retry_after=9")

    outcome = ask(upstream, ask_for())

    assert outcome.error is not None
    assert outcome.duration_s < 1.5


def test_list_of_models_comes_with_another_key_too(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(LIMITED, GOOD)
    fake.key_rule(LIMITED, "401")

    assert "gpt-4o" in [model.id for model in upstream.models()]
    assert keys_used(fake) == [LIMITED, GOOD]


def test_keys_go_nowhere_but_to_their_own_address(open_upstream: OpenUpstream) -> None:
    """Wherever a server sends us, and whatever fails: a key is seen by its own server only."""
    with FakeUpstream() as here, FakeUpstream() as there:
        mine = open_upstream(GOOD, LIMITED, base_url=here.base_url, attempts=1)
        theirs = open_upstream(OTHER, base_url=there.base_url, attempts=1)
        for model in ("ok", "redirect", "redirect?code=307", "401", "429", "rst", "ok"):
            ask(mine, ask_for(model))
            ask(theirs, ask_for(model))

        assert {request.api_key for request in here.requests} == {GOOD, LIMITED}
        assert {request.api_key for request in there.requests} == {OTHER}
        assert not any(request.to_other_origin for request in [*here.requests, *there.requests])


def test_picking_a_key_costs_next_to_nothing(open_upstream: OpenUpstream) -> None:
    """A few microseconds; the limit leaves room for a busy machine."""
    pool = open_upstream(*(f"sk-number-{n}-0123456789" for n in range(8))).keys
    best = min(_seconds_of(pool) for _ in range(5))

    assert best < 50e-6


def _seconds_of(pool: object) -> float:
    began = time.thread_time()
    for _ in range(200):
        lease = pool.take("ok")  # type: ignore[attr-defined]
        with lease:
            pool.note_success(lease)  # type: ignore[attr-defined]
    return (time.thread_time() - began) / 200
