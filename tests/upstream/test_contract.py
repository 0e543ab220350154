"""What every upstream keeps, over rehearsal and over a real socket alike."""

import threading
import time
from contextlib import closing

import pytest

from rolebook.core.completion import Cancellation, Completion, Delta, Sent, StreamEvent
from rolebook.core.errors import UpstreamCancelled, UpstreamError, UpstreamRefusedError
from rolebook.core.message import Message
from rolebook.core.upstream import Upstream
from rolebook.upstream.rehearsal import rehearsal_upstream
from tests.upstream.asking import ask, ask_for, wait_until_idle
from tests.upstream.conftest import OpenUpstream

SLOW = "ok?tokens=400&delay_ms=10"


@pytest.fixture(params=["rehearsal", "socket"])
def any_upstream(request: pytest.FixtureRequest, open_upstream: OpenUpstream) -> Upstream:
    """An upstream that takes its time when it is asked for SLOW."""
    if request.param == "rehearsal":
        return rehearsal_upstream(delay_s=0.01)
    return open_upstream("sk-test-0123456789", model="ok")


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_call_yields_sent_then_deltas_then_one_completion(
    any_upstream: Upstream, endpoint: str, is_streamed: bool
) -> None:
    outcome = ask(any_upstream, ask_for(endpoint=endpoint, is_streamed=is_streamed))

    assert outcome.error is None
    assert outcome.kinds == [Sent, Delta, Completion]
    assert sum(isinstance(event, Completion) for event in outcome.events) == 1
    assert outcome.text == outcome.completion.choices[0].text != ""
    assert outcome.completion.choices[0].finish_reason == "stop"
    assert outcome.completion.model
    assert outcome.completion.reply["choices"][0]["finish_reason"] == "stop"


def test_stream_comes_in_pieces_and_a_whole_reply_in_one_delta_a_choice(
    any_upstream: Upstream,
) -> None:
    streamed = ask(any_upstream, ask_for(parameters={"n": 2}))
    whole = ask(any_upstream, ask_for(parameters={"n": 2}, is_streamed=False))

    deltas = [event for event in streamed.events if isinstance(event, Delta)]
    assert len(deltas) > 4
    assert [event.index for event in whole.events if isinstance(event, Delta)] == [0, 1]
    assert [choice.text for choice in streamed.completion.choices] == [
        choice.text for choice in whole.completion.choices
    ]


def test_usage_adds_up(any_upstream: Upstream) -> None:
    usage = ask(any_upstream, ask_for()).completion.usage

    assert usage.prompt_tokens
    assert usage.completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_parameters_are_sent_as_they_are(any_upstream: Upstream) -> None:
    sent = ask(any_upstream, ask_for(parameters={"temperature": 0.5, "x_unknown": [1]})).sent

    assert sent.parameters["temperature"] == 0.5
    assert sent.parameters["x_unknown"] == [1]
    assert sent.adaptations == ()


def test_fields_that_a_call_sets_itself_cannot_be_overridden(any_upstream: Upstream) -> None:
    outcome = ask(any_upstream, ask_for(parameters={"stream": False, "messages": [], "model": "x"}))

    assert outcome.is_complete
    assert [str(said).partition(" ")[0] for said in outcome.sent.adaptations] == [
        "stream",
        "messages",
        "model",
    ]
    assert "messages" not in outcome.sent.parameters


def test_request_that_json_cannot_write_is_refused_before_it_is_sent(
    any_upstream: Upstream,
) -> None:
    for request in (ask_for(parameters={"temperature": float("nan")}), ask_for(text="\ud800")):
        assert isinstance(ask(any_upstream, request).error, UpstreamRefusedError)


def test_cancel_from_another_thread_ends_it_at_once(any_upstream: Upstream) -> None:
    cancellation = Cancellation()
    canceller = threading.Thread(target=cancellation.cancel)
    stream = any_upstream.stream(ask_for(SLOW, cancellation=cancellation))
    next(event for event in stream if isinstance(event, Delta))
    canceller.start()
    canceller.join()
    late: list[StreamEvent] = []

    with pytest.raises(UpstreamCancelled):
        late.extend(stream)

    # What had come by then may still be told; the rest never comes.
    assert len(late) < 40
    assert wait_until_idle() == []


def test_cancel_ends_a_call_that_waits_in_vain(open_upstream: OpenUpstream) -> None:
    cancellation = Cancellation()
    upstream = open_upstream("sk-test-0123456789", model="ok")
    stream = upstream.stream(ask_for("hang-mid", cancellation=cancellation))
    next(event for event in stream if isinstance(event, Delta))
    threading.Timer(0.1, cancellation.cancel).start()

    with pytest.raises(UpstreamCancelled):
        list(stream)
    assert wait_until_idle() == []


def test_request_that_was_cancelled_before_is_never_made(any_upstream: Upstream) -> None:
    cancellation = Cancellation()
    cancellation.cancel()

    outcome = ask(any_upstream, ask_for(cancellation=cancellation))

    assert isinstance(outcome.error, UpstreamCancelled)
    assert outcome.events == ()


def test_closing_the_stream_ends_it_at_once(any_upstream: Upstream) -> None:
    stream = any_upstream.stream(ask_for(SLOW))
    with closing(stream):  # type: ignore[type-var]
        assert isinstance(next(stream), Sent)

    assert wait_until_idle(0.6) == []


def test_many_calls_at_once_do_not_mix(any_upstream: Upstream) -> None:
    texts: dict[int, str] = {}

    def run(number: int) -> None:
        texts[number] = ask(any_upstream, ask_for(text=f"number {number}.")).text

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(f"number {number}." in text for number, text in texts.items())
    assert len(texts) == 12


def test_models_are_listed_and_described(any_upstream: Upstream) -> None:
    models = any_upstream.models()

    assert [model.id for model in models] == sorted(model.id for model in models)
    assert any_upstream.model(models[0].id).details["id"] == models[0].id
    assert any_upstream.default_model in [model.id for model in models]
    with pytest.raises(UpstreamRefusedError, match="no/such"):
        any_upstream.model("no/such")
    with pytest.raises(UpstreamError):
        any_upstream.model("")


def test_every_role_is_taken(any_upstream: Upstream) -> None:
    roles = ("system", "developer", "user", "assistant", "tool")
    messages = [Message(role, f"as {role}") for role in roles]  # type: ignore[arg-type]

    assert ask(any_upstream, ask_for(messages=messages)).is_complete


def test_stream_is_under_way_before_it_is_over(any_upstream: Upstream) -> None:
    stream = any_upstream.stream(ask_for("ok?tokens=50&delay_ms=10"))
    began = time.monotonic()
    with closing(stream):  # type: ignore[type-var]
        arrivals = [time.monotonic() - began for event in stream if isinstance(event, Delta)]

    assert arrivals[0] < arrivals[-1] / 2
