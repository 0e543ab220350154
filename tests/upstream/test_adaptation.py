"""Parameters that a model refuses are renamed or left out, told, and remembered."""

import time

import pytest

from rolebook.core.completion import CompletionRequest
from rolebook.core.errors import UpstreamRefusedError
from rolebook.core.message import Message
from rolebook.upstream.adaptation import Adapter
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FakeUpstream
from tests.upstream.asking import OK_TEXT, ask, ask_for

WISHES = {"max_tokens": 50, "temperature": 0.7, "top_p": 0.9, "seed": 7}


def test_reasoning_model_gets_what_it_takes_and_the_turn_can_say_so(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    outcome = ask(upstream, ask_for("reasoning-model", parameters=WISHES))

    assert outcome.text == OK_TEXT
    assert outcome.sent.parameters == {
        "max_completion_tokens": 50,
        "seed": 7,
        "stream_options": {"include_usage": True},
    }
    assert tuple(map(str, outcome.sent.adaptations)) == (
        "max_tokens was sent as max_completion_tokens, because the model asks for it under that name.",
        "temperature was left out, because the model refuses it.",
        "top_p was left out, because the model refuses it.",
    )
    assert len(fake.requests) == 4


def test_what_a_model_refuses_is_asked_only_once(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    first = ask(upstream, ask_for("reasoning-model", parameters=WISHES))
    before = len(fake.requests)
    second = ask(upstream, ask_for("reasoning-model", parameters=WISHES, is_streamed=False))

    assert len(fake.requests) == before + 1
    assert second.sent.adaptations == first.sent.adaptations


def test_other_models_are_not_adapted(upstream: OpenAIUpstream) -> None:
    ask(upstream, ask_for("reasoning-model", parameters=WISHES))

    sent = ask(upstream, ask_for("ok", parameters=WISHES)).sent

    assert WISHES.items() <= sent.parameters.items()
    assert sent.adaptations == ()


def test_server_that_cannot_report_usage_in_streams_is_not_asked_again(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    assert ask(upstream, ask_for("no-stream-options")).text == OK_TEXT
    assert len(fake.requests) == 2
    assert ask(upstream, ask_for("no-stream-options")).text == OK_TEXT
    assert len(fake.requests) == 3


def test_model_that_cannot_report_usage_in_streams_costs_no_other_its_own(
    upstream: OpenAIUpstream,
) -> None:
    """Behind one address there may be many servers, as there are behind a proxy."""
    ask(upstream, ask_for("no-stream-options"))
    assert ask(upstream, ask_for("ok")).completion.usage.total_tokens


def test_option_of_somebody_that_is_refused_costs_nobody_else_the_usage() -> None:
    wishes = {"stream_options": {"bogus": 1}}
    request = CompletionRequest([Message("user", "hi")], "m", wishes)
    adapter = Adapter()
    unknown = refusal(
        "Unknown parameter: 'stream_options.bogus'.",
        param="stream_options.bogus",
        code="unknown_parameter",
    )
    assert not adapter.learn(request, adapter.plan(request), unknown)
    others = CompletionRequest([Message("user", "hi")], "m", {})
    assert {"include_usage": True} == adapter.plan(others).fields["stream_options"]


@pytest.mark.parametrize(
    ("said", "param", "is_usage_refused"),
    [
        ("Invalid value: 'include_usage'. Supported values are: 'low'.", "reasoning_effort", False),
        ("Unknown tool: 'stream_options'", "tools[0].function.name", False),
        ("Value error in {'messages': [], 'stream_options': {'include_usage': True}}", "", False),
        ("Unrecognized request argument supplied: stream_options", "", True),
        ("body.stream_options: Extra inputs are not permitted", "", True),
        ("Unknown field: include_usage", "", True),
        ("", "stream_options", True),
    ],
)
def test_words_about_usage_in_a_refusal_of_something_else_cost_nobody_the_usage(
    said: str, param: str, *, is_usage_refused: bool
) -> None:
    request = CompletionRequest([Message("user", "hi")], "m", {"reasoning_effort": "x"})
    adapter = Adapter()
    learnt = adapter.learn(request, adapter.plan(request), refusal(said, param=param))
    assert learnt is is_usage_refused
    assert is_usage_refused is ("stream_options" not in adapter.plan(request).fields)


def test_model_without_a_system_role_gets_the_text_in_another(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    messages = [Message("system", "Be kind."), Message("user", "How are you?")]

    outcome = ask(upstream, ask_for("no-system", messages=messages))

    assert outcome.text == OK_TEXT
    assert [message["role"] for message in fake.requests[-1].body["messages"]] == [
        "developer",
        "user",
    ]
    assert "developer" in str(outcome.sent.adaptations[0])


def test_refused_role_of_another_message_is_not_taken_for_that_of_the_system() -> None:
    messages = [Message("system", "x"), Message("developer", "y"), Message("user", "z")]
    request = CompletionRequest(messages, "m", {})
    adapter = Adapter()

    def learn(role: str, at: int) -> str:
        said = f"Invalid value: '{role}'. Supported values are: 'system', 'developer', 'assistant', 'user'."
        error = refusal(said, param=f"messages[{at}].role", code="invalid_value")
        adapter.learn(request, adapter.plan(request), error)
        return adapter.plan(request).system_role

    assert "system" == learn("developer", 1)
    assert "system" == learn("system", 9)
    assert "developer" == learn("system", 0)
    assert "user" == learn("developer", 0)


def refusal(message: str, *, param: str = "", code: str = "") -> UpstreamRefusedError:
    return UpstreamRefusedError("no", status=400, detail=message, param=param, reason_code=code)


@pytest.mark.parametrize(
    ("error", "left_out"),
    [
        (refusal("", param="seed", code="unsupported_parameter"), {"seed"}),
        (refusal("Unknown parameter: 'seed'.", code="unknown_parameter"), {"seed"}),
        (refusal("body.seed: Extra inputs are not permitted"), {"seed"}),
        (refusal("property 'seed' is unsupported"), {"seed"}),
        (refusal('Unknown name "seed": Cannot find field.'), {"seed"}),
        (
            refusal(
                "'seed' does not support 7 with this model.", param="seed", code="unsupported_value"
            ),
            {"seed"},
        ),
        (
            refusal("Unsupported parameter: 'tools'", param="tools", code="unsupported_parameter"),
            set(),
        ),
        (refusal("n > 1 is not supported"), set()),
        (refusal("Invalid value for seed: too large", param="seed", code="invalid_value"), set()),
        (
            refusal(
                "Unsupported value: 'seed' does not support 'x' with this model. Supported values are: 1 and 2.",
                param="seed",
                code="unsupported_value",
            ),
            set(),
        ),
        (refusal("seed 'x' is not supported: it must be one of 1, 2"), set()),
        (refusal("Unsupported image: 'seed'", param="messages.[0].content"), set()),
        (refusal("This model does not exist"), set()),
        (refusal("something else is not supported"), set()),
    ],
)
def test_refusal_is_understood_in_the_words_of_many_servers(
    error: UpstreamRefusedError, left_out: set[str]
) -> None:
    wishes = {"seed": 7, "tools": [], "n": 2}
    request = CompletionRequest([Message("user", "hi")], "m", wishes)
    adapter = Adapter()

    learnt = adapter.learn(request, adapter.plan(request), error)

    assert learnt is bool(left_out)
    assert wishes.keys() - adapter.plan(request).fields.keys() == left_out


def test_what_was_learnt_is_forgotten_after_an_hour_and_of_the_oldest_of_many_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter, now = Adapter(), time.monotonic()

    def learn(model: str, name: str = "seed") -> CompletionRequest:
        request = CompletionRequest([Message("user", "hi")], model, {"seed": 7})
        said = refusal("", param=name, code="unsupported_parameter")
        assert adapter.learn(request, adapter.plan(request), said)
        return request

    learn("first", "stream_options")
    first = learn("first")
    assert {} == adapter.plan(first).fields
    monkeypatch.setattr(time, "monotonic", lambda: now + 3700)
    assert {"seed", "stream_options"} == adapter.plan(first).fields.keys()

    first = learn("first")
    for number in range(255):
        learn(f"model-{number}")
    assert "seed" not in adapter.plan(first).fields
    learn("one more")
    assert "seed" in adapter.plan(first).fields


def test_model_that_does_not_stream_here_is_asked_for_the_whole() -> None:
    request = CompletionRequest([Message("user", "hi")], "m")
    adapter = Adapter()
    error = refusal(
        "Your organization must be verified to stream this model.",
        param="stream",
        code="unsupported_value",
    )

    assert adapter.learn(request, adapter.plan(request), error)
    plan = adapter.plan(request)
    assert not plan.is_streamed
    assert "stream_options" not in plan.fields
    assert len(plan.adaptations) == 1
