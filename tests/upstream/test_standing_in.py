"""Upstreams that stand in for another, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rolebook.core.completion import Cancellation, Delta, Sent
from rolebook.core.errors import (
    UpstreamCancelled,
    UpstreamConnectionError,
    UpstreamError,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRefusedError,
    UpstreamServerError,
)
from rolebook.core.upstream import Fallback, Timeouts
from rolebook.language.translator import translator
from rolebook.upstream.breaker import UNANSWERED_CALLS
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.upstream.standing_in import StandingIn
from tests.fake_upstream import FakeUpstream
from tests.upstream.asking import OK_TEXT, ask, ask_for
from tests.upstream.conftest import OpenUpstream

KEY = "sk-first-0123456789"
OTHER_KEY = "sk-second-0123456789"


@pytest.fixture(scope="module")
def running_second() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def second(running_second: FakeUpstream) -> FakeUpstream:
    running_second.reset()
    return running_second


@pytest.fixture
def standing_in(open_upstream: OpenUpstream, second: FakeUpstream) -> StandingIn:
    """The fake, and a second one for which the model `large` goes by the name `ok`."""
    fallback = Fallback("second", models={"large": "ok"})
    first = open_upstream(KEY, name="first", attempts=1, fallbacks=(fallback,))
    return StandingIn(first, named(open_upstream, second))


def named(open_upstream: OpenUpstream, second: FakeUpstream) -> object:
    opened: dict[str, OpenAIUpstream] = {}

    def get(name: str) -> OpenAIUpstream:
        if name == "keyless":
            raise UpstreamKeyError("no key", upstream=name)
        if name not in opened:
            opened[name] = open_upstream(OTHER_KEY, name=name, base_url=second.base_url, attempts=1)
        return opened[name]

    return get


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("503", "because first failed."),
        ("429?retry_after=119", "because first took no more calls."),
        ("429-quota", "because the quota at first is used up."),
        ("429-tokens", "because first refused the request."),
        ("413-tokens", "because first refused the request."),
        ("status?code=402&message=fewer max_tokens", "because first refused the request."),
        ("error-html?code=403", "because first refused the request."),
        ("401", "because first refused its keys."),
        ("rst", "because first could not be reached."),
        ("html-200", "because first failed."),
        ("rst-mid?after=0", "because first could not be reached."),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
def test_another_upstream_answers_and_says_why(
    standing_in: StandingIn,
    fake: FakeUpstream,
    second: FakeUpstream,
    trouble: str,
    why: str,
    is_streamed: bool,
) -> None:
    fake.model_rule("large", trouble)

    outcome = ask(standing_in, ask_for("large", is_streamed=is_streamed))

    assert outcome.text == OK_TEXT
    assert (outcome.sent.upstream, outcome.sent.model) == ("second", "ok")
    assert str(outcome.sent.adaptations[0]) == f"second answered with ok, {why}"
    assert (len(fake.requests), len(second.requests)) == (1, 1)
    assert {request.api_key for request in fake.requests} == {KEY}
    assert {request.api_key for request in second.requests} == {OTHER_KEY}


def test_nobody_stands_in_for_one_that_answers(
    standing_in: StandingIn, second: FakeUpstream
) -> None:
    outcome = ask(standing_in, ask_for())

    assert (outcome.text, outcome.sent.upstream) == (OK_TEXT, "")
    assert second.requests == []


@pytest.mark.parametrize("refusal", ["400", "400-context", "404", "413", "redirect"])
def test_refused_request_is_not_sent_elsewhere(
    standing_in: StandingIn, second: FakeUpstream, refusal: str
) -> None:
    assert isinstance(ask(standing_in, ask_for(refusal)).error, UpstreamRefusedError)
    assert second.requests == []


def test_nobody_stands_in_once_something_was_passed_on(
    standing_in: StandingIn, second: FakeUpstream
) -> None:
    outcome = ask(standing_in, ask_for("rst-mid?after=2"))

    assert isinstance(outcome.error, UpstreamConnectionError)
    assert OK_TEXT.startswith(outcome.text)
    assert second.requests == []


@pytest.mark.parametrize(
    ("asked", "kept"), [("rst-mid?text=One", "One"), ("500", "")], ids=["first", "stand-in"]
)
def test_of_answers_that_broke_off_only_that_of_the_first_is_told_with_its_error(
    standing_in: StandingIn, second: FakeUpstream, asked: str, kept: str
) -> None:
    second.model_rule(asked, "rst-mid?text=Two")

    outcome = ask(standing_in, ask_for(asked, is_streamed=False))

    assert second.requests
    assert (outcome.text, outcome.upstream_error.parameters["upstream"]) == (kept, "first")


def test_stopped_call_is_not_sent_elsewhere(standing_in: StandingIn, second: FakeUpstream) -> None:
    cancellation = Cancellation()
    cancellation.cancel()

    assert isinstance(
        ask(standing_in, ask_for("503", cancellation=cancellation)).error, UpstreamCancelled
    )
    assert second.requests == []


def test_upstream_whose_keys_rest_is_left_out_at_once(
    standing_in: StandingIn, fake: FakeUpstream, second: FakeUpstream
) -> None:
    fake.model_rule("ok", "429-quota")

    outcomes = [ask(standing_in, ask_for()) for _ in range(3)]

    assert [outcome.sent.upstream for outcome in outcomes] == ["second"] * 3
    assert (len(fake.requests), len(second.requests)) == (1, 3)


def test_upstream_that_hangs_is_left_out_at_once_and_costs_no_patience(
    open_upstream: OpenUpstream, fake: FakeUpstream, second: FakeUpstream
) -> None:
    first = open_upstream(
        KEY, name="first", timeouts=Timeouts(1, 0.4, 1, 5), fallbacks=(Fallback("second"),)
    )
    standing_in = StandingIn(first, named(open_upstream, second))  # type: ignore[arg-type]
    fake.model_rule("ok", "hang")

    outcomes = [ask(standing_in, ask_for(patience_s=9.0)) for _ in range(UNANSWERED_CALLS + 6)]

    assert [OK_TEXT] * len(outcomes) == [outcome.text for outcome in outcomes]
    why = [str(outcome.sent.adaptations[0]) for outcome in outcomes]
    hung, left_out = (
        f"second answered with ok, because first {reason}."
        for reason in ("did not answer in time", "has not been answering for a while")
    )
    assert [hung] * UNANSWERED_CALLS == why[:UNANSWERED_CALLS]
    assert left_out in why[UNANSWERED_CALLS:]
    quickest = min(outcome.duration_s for outcome in outcomes)
    assert quickest < outcomes[0].duration_s / 3
    assert why.count(hung) == len(fake.requests)


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("large", ["large", "ok"]),  # not known there: the first that it offers
        ("gpt-4o", ["gpt-4o"]),
        ("", ["ok"]),
    ],
)
def test_default_stands_in_where_no_model_is_named(
    open_upstream: OpenUpstream,
    fake: FakeUpstream,
    second: FakeUpstream,
    model: str,
    asked: list[str],
) -> None:
    first = open_upstream(KEY, name="first", attempts=1, fallbacks=(Fallback("second"),))
    for path in ("/v1/models", "/v1/chat/completions"):
        fake.path_rule(path, "503")

    outcome = ask(StandingIn(first, named(open_upstream, second)), ask_for(model))  # type: ignore[arg-type]

    assert OK_TEXT == outcome.text
    assert f"second answered with {asked[-1]}, " in str(outcome.sent.adaptations[0])
    assert asked == [request.model for request in second.requests if request.model]


def test_model_that_the_settings_name_is_asked_for_and_no_other(
    open_upstream: OpenUpstream, fake: FakeUpstream, second: FakeUpstream
) -> None:
    fallback = Fallback("second", model="mistyped")
    first = open_upstream(KEY, name="first", attempts=1, fallbacks=(fallback,))
    fake.model_rule("ok", "503")

    error = ask(StandingIn(first, named(open_upstream, second)), ask_for()).error  # type: ignore[arg-type]

    assert ["mistyped"] == [request.model for request in second.requests]
    assert "second: The model `mistyped` does not exist" in str(error)


def test_each_is_asked_in_turn_and_the_first_has_the_last_word(
    open_upstream: OpenUpstream, fake: FakeUpstream, second: FakeUpstream
) -> None:
    fallbacks = (
        Fallback("keyless"),
        Fallback("second", model="404"),
        Fallback("third", model="500"),
    )
    first = open_upstream(KEY, name="first", attempts=1, fallbacks=fallbacks)
    fake.model_rule("ok", "429-quota")

    error = ask(StandingIn(first, named(open_upstream, second)), ask_for()).upstream_error  # type: ignore[arg-type]

    assert isinstance(error, UpstreamQuotaError)
    assert [request.model for request in second.requests] == ["404", "500"]
    assert ["keyless", "second", "third"] == [
        other["upstream"] for other in error.parameters["others"]
    ]
    assert "; keyless: no key can be used; second: " in str(error)
    assert "; third: The server had an error" in str(error)
    assert "；keyless：没有可用的密钥；second：" in translator("zh").error(error)


def test_one_that_sends_no_words_is_told_in_words_and_no_code(
    standing_in: StandingIn, fake: FakeUpstream, second: FakeUpstream
) -> None:
    fake.model_rule("large", "503")
    second.model_rule("ok", "html-200")

    error = ask(standing_in, ask_for("large")).upstream_error

    assert "; second: sent something that is no answer)" in str(error)
    assert "；second：发来的内容不是回答）" in translator("zh").error(error)
    assert "upstream_" not in str(error)


def test_all_of_it_ends_at_the_deadline_of_the_first(
    open_upstream: OpenUpstream, second: FakeUpstream
) -> None:
    first = open_upstream(
        KEY,
        name="first",
        attempts=1,
        timeouts=Timeouts(1, 0.4, 1, 1.0),
        fallbacks=(Fallback("second"), Fallback("third")),
    )
    began = time.monotonic()

    error = ask(StandingIn(first, named(open_upstream, second)), ask_for("hang")).error  # type: ignore[arg-type]

    assert isinstance(error, UpstreamError)
    assert time.monotonic() - began < 3
    assert len(second.requests) == 1


def test_account_with_the_first_is_named_to_no_other(
    standing_in: StandingIn, fake: FakeUpstream, second: FakeUpstream
) -> None:
    fake.model_rule("ok", "503")

    ask(standing_in, ask_for(parameters={"organization": "org-1", "project": "p-1", "seed": 7}))

    assert fake.requests[0].headers["openai-organization"] == "org-1"
    assert "openai-organization" not in second.requests[0].headers
    assert "openai-project" not in second.requests[0].headers
    assert second.requests[0].body["seed"] == 7


def test_reader_who_leaves_leaves_the_one_that_stands_in_too(
    standing_in: StandingIn, fake: FakeUpstream, second: FakeUpstream
) -> None:
    fake.model_rule("large", "503")
    second.model_rule("ok", "hang-mid")
    stream = standing_in.stream(ask_for("large"))
    assert isinstance(next(event for event in stream if isinstance(event, Sent | Delta)), Sent)

    stream.close()  # type: ignore[attr-defined]

    assert second.requests[0].client_gone.wait(2)


def test_models_are_those_of_the_first(standing_in: StandingIn, fake: FakeUpstream) -> None:
    assert standing_in.name == "first"
    assert standing_in.default_model == "ok"
    assert standing_in.model("ok") in standing_in.models()
    fake.path_rule("/v1/models", "503")
    with pytest.raises(UpstreamServerError):
        standing_in.models()


def test_what_answers_have_used_that_could_not_be_used_is_known_of_all_that_were_asked(
    standing_in: StandingIn, fake: FakeUpstream, second: FakeUpstream
) -> None:
    fake.model_rule("large", "empty-text")
    used = []
    for rule in ("empty-text", "429"):
        second.model_rule("ok", rule)
        asked = ask_for("large", is_streamed=False)
        assert isinstance(ask(standing_in, asked).error, UpstreamError)
        assert asked.delivery.is_made
        used.append(asked.delivery.usage.total_tokens)
    assert used[1]
    assert 2 * used[1] == used[0]
