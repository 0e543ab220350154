"""When an upstream that gives no answer is left alone, and when it is asked again."""

from __future__ import annotations

import math
import threading
import time
from contextlib import closing

import pytest

from rolebook.core.completion import Cancellation, Waiting
from rolebook.core.errors import (
    UpstreamCancelled,
    UpstreamConnectionError,
    UpstreamError,
    UpstreamKeyError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamReplyError,
    UpstreamServerError,
    UpstreamSilentError,
    UpstreamTimeoutError,
)
from rolebook.core.upstream import Timeouts
from rolebook.upstream.breaker import (
    BACKGROUND_DELAY_S,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    UNANSWERED_CALLS,
    Breaker,
    is_answer,
)
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FakeUpstream
from tests.upstream.asking import OK_TEXT, QUESTION, Outcome, ask, ask_for, wait_until_idle
from tests.upstream.conftest import OpenUpstream
from tests.upstream.test_key_pool import Clock
from tests.upstream.test_several_keys import ask_at_once

SILENCE = UpstreamTimeoutError("Nothing came.", detail="nothing")
HASTY = Timeouts(1, 0.4, 1, 5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock)


def fail(breaker: Breaker, clock: Clock, *, calls: int = 1, took_s: float = 60.0) -> None:
    """Calls that begin together and end without an answer."""
    began = clock.now
    clock.now += took_s
    for _ in range(calls):
        breaker.note_silence("m", SILENCE, began=began)


def is_admitted(breaker: Breaker, model: str = "m") -> bool:
    return breaker.admit(model) == 0


# The rules, by a clock that the test moves.


def test_several_calls_in_a_row_without_an_answer_open_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS - 1)
    breaker.note_answer("m")
    fail(breaker, clock, calls=UNANSWERED_CALLS - 1)
    assert [True] * 5 == [is_admitted(breaker) for _ in range(5)]
    assert [] == breaker.silences()

    fail(breaker, clock)

    assert [True, False, False] == [is_admitted(breaker) for _ in range(3)]
    (silence,) = breaker.silences()
    assert ("m", UNANSWERED_CALLS, FIRST_PAUSE_S) == (silence.model, silence.calls, silence.seconds)
    assert "Nothing came. (nothing)" == str(silence.error)


def test_an_answer_closes_it_also_that_to_an_earlier_call(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS)
    assert [True, False] == [is_admitted(breaker) for _ in range(2)]

    breaker.note_answer("m")

    assert [True] * 5 == [is_admitted(breaker) for _ in range(5)]
    assert None is breaker.refusal("m")


@pytest.mark.parametrize(
    ("took_s", "expected"),
    [
        (60.0, [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S]),
        (5.0, [1, 2, 4, 5, 5]),
        (0.01, [FIRST_PAUSE_S] * 5),
    ],
)
def test_pauses_grow_but_not_beyond_what_finding_out_takes(
    breaker: Breaker, clock: Clock, took_s: float, expected: list[float]
) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS, took_s=took_s)
    clock.now += FIRST_PAUSE_S
    pauses = []
    for _ in expected:
        assert is_admitted(breaker)
        pauses.append(breaker.admit("m"))
        clock.now += pauses[-1]

    assert expected == pytest.approx(pauses)


@pytest.mark.parametrize("took_s", [0.001, 0.7, 1.0, 5.0, 60.0, 600.0])
def test_whoever_asks_one_call_after_the_other_never_meets_it(
    breaker: Breaker, clock: Clock, took_s: float
) -> None:
    for _ in range(20):
        assert is_admitted(breaker)
        fail(breaker, clock, took_s=took_s)

    assert 20 == breaker.silences()[0].calls
    assert 0 == breaker.silences()[0].spared


def test_server_that_refuses_at_once_after_it_hung_is_not_left_alone_for_long(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(9):
        assert is_admitted(breaker)
        fail(breaker, clock, took_s=60.0)
    assert is_admitted(breaker)
    assert LONGEST_PAUSE_S == breaker.admit("m")

    fail(breaker, clock, took_s=0.1)

    assert is_admitted(breaker)
    assert FIRST_PAUSE_S == pytest.approx(breaker.admit("m"))


def test_call_that_is_given_up_gives_its_turn_back(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS)
    assert is_admitted(breaker)
    began = clock.now
    clock.now += 0.1
    assert not is_admitted(breaker)

    breaker.note_end("m", began=began)

    assert [True, False] == [is_admitted(breaker) for _ in range(2)]


def test_end_of_an_earlier_call_does_not_end_the_pause_of_the_last(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS)
    assert is_admitted(breaker)
    began = clock.now
    clock.now += FIRST_PAUSE_S
    assert is_admitted(breaker)

    breaker.note_end("m", began=began)

    assert not is_admitted(breaker)


def test_call_that_nobody_waits_for_lets_those_come_first_who_come_back_when_told(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS)
    assert is_admitted(breaker)
    assert FIRST_PAUSE_S + BACKGROUND_DELAY_S == breaker.admit("m", delay_s=BACKGROUND_DELAY_S)
    refusal = breaker.refusal("m")
    assert refusal is not None
    # In whole seconds, and a moment on the way.
    clock.now += math.ceil(refusal.retry_after_s or 0) + 0.9
    assert breaker.admit("m", delay_s=BACKGROUND_DELAY_S) > 0

    assert is_admitted(breaker)
    assert breaker.admit("m", delay_s=BACKGROUND_DELAY_S) > BACKGROUND_DELAY_S


def test_calls_that_were_under_way_when_it_opened_let_no_other_one_through(
    breaker: Breaker, clock: Clock
) -> None:
    began = clock.now
    clock.now += 60
    admitted = []
    for _ in range(50):
        breaker.note_silence("m", SILENCE, began=began)
        admitted.append(is_admitted(breaker))

    # Those before it opened, and one that asks whether it was right to.
    assert UNANSWERED_CALLS == admitted.count(True)


def test_silence_of_one_model_is_not_that_of_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS)
    breaker.note_answer("other")

    assert [True, False] == [is_admitted(breaker) for _ in range(2)]
    assert [True] * 5 == [is_admitted(breaker, "other") for _ in range(5)]


def test_it_is_asked_at_once_on_demand(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS)
    assert [True, False] == [is_admitted(breaker) for _ in range(2)]

    assert breaker.try_again("m")

    assert [True, False] == [is_admitted(breaker) for _ in range(2)]
    assert not breaker.try_again("other")


def test_refusal_says_since_when_and_when_to_come_back(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, calls=UNANSWERED_CALLS, took_s=5.0)
    assert is_admitted(breaker)
    clock.now += 0.4
    refusal = breaker.refusal("m")

    assert isinstance(refusal, UpstreamSilentError)
    assert 0.6 == pytest.approx(refusal.retry_after_s)
    parameters = refusal.parameters
    assert ("m", 3, 1, "nothing") == tuple(
        parameters[name] for name in ("model", "count", "seconds", "detail")
    )
    assert 1 == breaker.silences()[0].spared
    since = time.mktime(time.strptime(parameters["since"][:16], "%Y-%m-%d %H:%M"))
    assert 5.4 == pytest.approx(time.time() - since, abs=61)


def test_models_that_callers_make_up_do_not_fill_the_memory(breaker: Breaker) -> None:
    for number in range(2_000):
        for _ in range(UNANSWERED_CALLS):
            breaker.note_silence(f"made-{number}", SILENCE, began=number)

    assert 256 == len(breaker.silences())
    assert "made-1999" in [silence.model for silence in breaker.silences()]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UpstreamTimeoutError("x"), False),
        (UpstreamConnectionError("x"), False),
        (UpstreamServerError("x", status=504), False),
        (UpstreamServerError("x", status=524), False),
        (UpstreamServerError("x", status=503), True),
        (UpstreamRateError("x", status=429), True),
        (UpstreamRefusedError("x", status=400), True),
        (UpstreamKeyError("x", status=401), True),
        (UpstreamReplyError("x"), True),
        (UpstreamCancelled("x"), False),
    ],
)
def test_answer_is_whatever_the_server_says_itself(error: UpstreamError, expected: bool) -> None:
    assert expected == is_answer(error)


# The same with the real client and a real server.


def silent_models(upstream: OpenAIUpstream) -> list[str]:
    return [silence.model for silence in upstream.breaker.silences()]


def hang_for_a_while(upstream: OpenAIUpstream, fake: FakeUpstream) -> None:
    """Let it be known as silent, and answer from now on."""
    fake.model_rule("ok", "hang")
    ask_at_once(upstream, UNANSWERED_CALLS)
    fake.model_rule("ok", "ok")


def spared_by(upstream: OpenAIUpstream, model: str = "ok") -> Outcome:
    """What is said to a call while another one hangs; on a busy machine its pause may be over before one asks."""
    for _ in range(5):
        upstream.breaker.admit(model)
        outcome = ask(upstream, ask_for(model))
        if isinstance(outcome.error, UpstreamSilentError):
            return outcome
    raise AssertionError(outcome)


def test_upstream_that_hangs_is_left_alone_after_some_calls(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(timeouts=HASTY)
    hung = ask_at_once(upstream, UNANSWERED_CALLS, "hang")
    assert {UpstreamTimeoutError} == {type(outcome.error) for outcome in hung}

    spared = min((spared_by(upstream, "hang") for _ in range(3)), key=lambda said: said.duration_s)

    assert spared.duration_s < hung[0].duration_s / 4
    assert "fake has answered no call for hang since" in str(spared.error)
    assert 0 < (spared.upstream_error.retry_after_s or 0) <= 2 * FIRST_PAUSE_S
    assert ["hang"] == silent_models(upstream)
    assert ask(upstream, ask_for("ok")).is_complete
    assert wait_until_idle() == []


def test_crowd_before_an_upstream_that_hangs_is_sent_away(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    """One call after each pause asks it, however many there are."""
    upstream = open_upstream(timeouts=Timeouts(1, FIRST_PAUSE_S, 1, 5))
    ask_at_once(upstream, UNANSWERED_CALLS, "hang")

    errors = [type(outcome.error) for outcome in ask_at_once(upstream, 40, "hang")]

    made, spared = errors.count(UpstreamTimeoutError), errors.count(UpstreamSilentError)
    assert 40 == made + spared
    # A second one, where forty threads take more than the pause to begin.
    assert made in (1, 2)
    assert UNANSWERED_CALLS + made == len(fake.requests)


def test_upstream_that_answers_again_is_known_to_by_the_first_call(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(timeouts=HASTY)
    hang_for_a_while(upstream, fake)
    assert ["ok"] == silent_models(upstream)
    upstream.breaker.try_again("ok")

    assert [OK_TEXT] * 4 == [ask(upstream, ask_for()).text for _ in range(4)]
    assert [] == silent_models(upstream)


@pytest.mark.parametrize("attempts", [1, 2])
def test_caller_of_an_upstream_that_cannot_be_reached_hears_of_nothing_else(
    open_upstream: OpenUpstream, attempts: int
) -> None:
    """A call counts once, however often it is tried, and the next is made as soon as it has failed."""
    upstream = open_upstream(attempts=attempts, base_url="http://127.0.0.1:9/v1")

    kinds = [type(ask(upstream, ask_for()).error) for _ in range(UNANSWERED_CALLS + 2)]

    assert [UpstreamConnectionError] * len(kinds) == kinds
    assert UNANSWERED_CALLS + 2 == upstream.breaker.silences()[0].calls
    error = spared_by(upstream).error
    assert isinstance(error, UpstreamSilentError)
    assert "Connection refused" in error.parameters["cause"]


@pytest.mark.parametrize("is_left", [False, True])
def test_caller_who_stops_while_it_hangs_may_ask_again_right_away(
    open_upstream: OpenUpstream, fake: FakeUpstream, is_left: bool
) -> None:
    upstream = open_upstream(timeouts=Timeouts(1, 9, 1, 9))
    fake.model_rule("ok", "hang")
    for _ in range(UNANSWERED_CALLS):
        upstream.breaker.note_silence("ok", SILENCE, began=time.monotonic() - 60)
    # Where it has been silent for long, a pause is long.
    for _ in range(5):
        upstream.breaker.try_again("ok")
        assert is_admitted(upstream.breaker, "ok")
    upstream.breaker.try_again("ok")
    cancellation = Cancellation()
    events = upstream.stream(ask_for(cancellation=cancellation))
    with closing(events):  # type: ignore[type-var]
        assert Waiting() == next(events)
        assert not is_admitted(upstream.breaker, "ok")
        if not is_left:
            cancellation.cancel()
            with pytest.raises(UpstreamCancelled):
                list(events)
    fake.model_rule("ok", "ok")

    assert OK_TEXT == ask(upstream, ask_for()).text


@pytest.mark.parametrize("trouble", ["503", "400", "401", "429?retry_after=0", "html-200"])
def test_upstream_that_answers_with_trouble_is_not_left_alone(
    open_upstream: OpenUpstream, fake: FakeUpstream, trouble: str
) -> None:
    upstream = open_upstream(attempts=1)

    errors = [type(ask(upstream, ask_for(trouble)).error) for _ in range(UNANSWERED_CALLS + 2)]

    assert UpstreamSilentError not in errors
    assert [] == silent_models(upstream)


def test_upstream_that_falls_silent_in_the_middle_has_answered(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(timeouts=Timeouts(1, 2, 0.2, 5))
    ask_at_once(upstream, UNANSWERED_CALLS + 1, "hang-mid")

    assert [] == silent_models(upstream)


def test_calls_that_are_given_up_say_nothing_of_the_upstream(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream()
    for _ in range(UNANSWERED_CALLS + 1):
        cancellation = Cancellation()
        threading.Timer(0.05, cancellation.cancel).start()
        stopped = ask(upstream, ask_for("hang", cancellation=cancellation))
        assert isinstance(stopped.error, UpstreamCancelled)

    assert [] == silent_models(upstream)


def test_call_that_had_no_time_says_nothing_of_the_upstream(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream()
    for _ in range(UNANSWERED_CALLS + 1):
        with pytest.raises(UpstreamTimeoutError):
            list(upstream.stream(ask_for("hang"), deadline=time.monotonic() + 0.05))

    assert [] == silent_models(upstream)


def test_call_with_patience_waits_until_it_may_ask(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    """As those of comparisons: failing the rest of a grid within a moment would help nobody."""
    upstream = open_upstream(timeouts=HASTY)
    hang_for_a_while(upstream, fake)
    cancellation = Cancellation()
    cancellation.cancel()

    stopped = ask(upstream, ask_for(patience_s=9.0, cancellation=cancellation))
    patient = ask(upstream, ask_for(patience_s=9.0))

    assert isinstance(stopped.error, UpstreamCancelled)
    assert OK_TEXT == patient.text
    assert Waiting() in patient.events


def test_caller_who_comes_back_when_told_comes_before_those_with_patience(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    """Else the cells of a comparison, which take every turn as soon as there is one, keep everybody away."""
    upstream = open_upstream(timeouts=HASTY)
    hang_for_a_while(upstream, fake)
    told = spared_by(upstream).upstream_error
    request = ask_for(text="A cell", patience_s=9.0)
    cells = [threading.Thread(target=ask, args=(upstream, request)) for _ in range(3)]
    for cell in cells:
        cell.start()
    time.sleep(math.ceil(told.retry_after_s or 0))

    assert OK_TEXT == ask(upstream, ask_for()).text

    for cell in cells:
        cell.join()
    said = [request.body["messages"][-1]["content"] for request in fake.requests[-4:]]
    assert [QUESTION, *["A cell"] * 3] == said


def test_list_of_models_that_hangs_is_not_asked_for_by_every_call(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(timeouts=HASTY)
    fake.path_rule("/v1/models", "hang")
    for _ in range(UNANSWERED_CALLS):
        with pytest.raises(UpstreamTimeoutError):
            upstream.models()

    spared = spared_by(upstream, "")

    assert "fake has not said which models it offers since" in str(spared.error)
