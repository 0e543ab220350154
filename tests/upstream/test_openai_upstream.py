"""Retries, limits, keys, redirects, models: what a single fault does not show."""

import gc
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from rolebook.core.completion import (
    Cancellation,
    Completion,
    Delta,
    Endpoint,
    Sent,
    Usage,
    Waiting,
)
from rolebook.core.errors import (
    SettingError,
    UpstreamCancelled,
    UpstreamConnectionError,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamReplyError,
    UpstreamServerError,
    UpstreamTimeoutError,
)
from rolebook.core.message import Message
from rolebook.core.upstream import Key, Timeouts, UpstreamSettings
from rolebook.upstream import attempts, wire
from rolebook.upstream.openai_upstream import OpenAIUpstream, read_model
from tests.fake_upstream import FakeUpstream
from tests.upstream.asking import OK_TEXT, Outcome, ask, ask_for, wait_until_idle
from tests.upstream.conftest import OpenUpstream
from tests.upstream.scripted_server import CLOSE, ScriptedServer


@pytest.mark.parametrize("fault", ["500", "503", "529", "rst", "429?retry_after=0.1"])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_passing_trouble_is_tried_again(
    upstream: OpenAIUpstream, fake: FakeUpstream, fault: str, is_streamed: bool
) -> None:
    outcome = ask(upstream, ask_for(f"{fault},{fault},ok", is_streamed=is_streamed))

    assert outcome.text == OK_TEXT
    assert len(fake.requests) == 3
    assert len([event for event in outcome.events if isinstance(event, Sent)]) == 1


@pytest.mark.parametrize("fault", ["500", "rst", "429?retry_after=0.05"])
def test_trouble_that_stays_ends_after_three_attempts(
    upstream: OpenAIUpstream, fake: FakeUpstream, fault: str
) -> None:
    outcome = ask(upstream, ask_for(fault))

    assert isinstance(
        outcome.error, UpstreamServerError | UpstreamConnectionError | UpstreamRateError
    )
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    "fault", ["400", "400-context", "404", "401", "403", "html-200", "error-200"]
)
def test_refusal_is_not_tried_again(
    upstream: OpenAIUpstream, fake: FakeUpstream, fault: str
) -> None:
    assert ask(upstream, ask_for(fault, is_streamed=False)).error is not None
    assert len(fake.requests) == 1


def test_used_up_quota_is_not_tried_again(upstream: OpenAIUpstream, fake: FakeUpstream) -> None:
    error = ask(upstream, ask_for("429-quota")).upstream_error

    assert isinstance(error, UpstreamQuotaError)
    assert error.status == 429
    assert len(fake.requests) == 1


def test_long_retry_after_is_passed_on_at_once(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    outcome = ask(upstream, ask_for("429?retry_after=119"))

    assert isinstance(outcome.error, UpstreamRateError)
    assert outcome.error.retry_after_s == 119
    assert outcome.duration_s < 1
    assert len(fake.requests) == 1


def test_nothing_is_tried_again_once_something_was_passed_on(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    outcome = ask(upstream, ask_for("rst-mid?after=2,ok"))

    assert isinstance(outcome.error, UpstreamConnectionError)
    assert OK_TEXT.startswith(outcome.text)
    assert len(fake.requests) == 1


#: Longer than all that stands around it in a reply, so that half of one ends within it.
LONG_TEXT = "我说：“好。”\n" * 400


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_answer_in_one_piece_that_breaks_off_is_kept_as_far_as_it_came(
    upstream: OpenAIUpstream, fake: FakeUpstream, endpoint: Endpoint
) -> None:
    request = ask_for("rst-mid", LONG_TEXT, is_streamed=False, endpoint=endpoint)

    outcome = ask(upstream, request)

    assert isinstance(outcome.error, UpstreamConnectionError)
    assert not outcome.kinds
    (arrived,) = outcome.arrived
    whole = f"Echo: {LONG_TEXT}"
    assert whole.startswith(arrived.text)
    assert 1000 < len(arrived.text) < len(whole)
    assert arrived.finish_reason is None
    assert request.delivery.usage == Usage()
    assert len(fake.requests) == 3


def test_answer_in_one_piece_is_asked_for_again_where_it_breaks_off(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    outcome = ask(upstream, ask_for("rst-mid,ok", is_streamed=False))

    assert (outcome.text, outcome.is_complete) == (OK_TEXT, True)
    assert [event.text for event in outcome.events if isinstance(event, Delta)] == [OK_TEXT]
    assert len(fake.requests) == 2


def test_what_had_come_stays_where_the_server_is_gone_afterwards(upstream: OpenAIUpstream) -> None:
    outcome = ask(upstream, ask_for("rst-mid,rst,500", is_streamed=False))

    assert isinstance(outcome.error, UpstreamServerError)
    assert outcome.text == OK_TEXT


def test_attempts_stay_within_the_total_time(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream(timeouts=Timeouts(1, 1, 1, 1.3), attempts=9)
    # The first call of all loads the client, which on a busy machine takes as long as this.
    ask(upstream, ask_for())
    fake.reset()

    outcome = ask(upstream, ask_for("500"))

    # It says what the server said, and not that time is up: an attempt that would come too late is not made.
    assert isinstance(outcome.error, UpstreamServerError)
    # The pauses before a fourth are longer than that, whatever their chance.
    assert len(fake.requests) < 4


@pytest.mark.parametrize("fault", ["rst", "500"])
def test_what_has_taken_long_is_not_repeated(
    upstream: OpenAIUpstream, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """As a proxy that breaks off silent connections would let the server work three times for nothing."""
    monkeypatch.setattr(attempts, "_LONGEST_REPEATED_S", 0.2)

    error = ask(upstream, ask_for(f"{fault}?latency_ms=250")).upstream_error

    assert len(fake.requests) == 1
    is_broken_off = re.search("broke after [0-9]+ s, before the answer was finished", str(error))
    assert (fault == "rst") == bool(is_broken_off) == isinstance(error, UpstreamTimeoutError)


def test_server_that_is_not_there_is_named(open_upstream: OpenUpstream) -> None:
    upstream = open_upstream(base_url="http://127.0.0.1:9/v1", attempts=1)

    error = ask(upstream, ask_for()).upstream_error

    assert isinstance(error, UpstreamConnectionError)
    assert "http://127.0.0.1:9/v1" in str(error)


@pytest.mark.parametrize(
    "model", ["hang", "hang-headers", "hang-mid", "429?retry_after=1.9", "ok?latency_ms=3000"]
)
def test_cancel_interrupts_every_wait(
    upstream: OpenAIUpstream, fake: FakeUpstream, model: str
) -> None:
    cancellation = Cancellation()
    threading.Timer(0.15, cancellation.cancel).start()

    outcome = ask(upstream, ask_for(model, cancellation=cancellation))

    assert isinstance(outcome.error, UpstreamCancelled)
    assert outcome.duration_s < 1.5
    assert wait_until_idle() == []


def test_upstream_notices_at_once_that_a_reader_left(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    stream = upstream.stream(ask_for("hang-mid"))
    with closing(stream):  # type: ignore[type-var]
        next(event for event in stream if isinstance(event, Delta))

    assert fake.requests[0].client_gone.wait(1)
    assert wait_until_idle(0.5) == []


def test_stream_that_is_dropped_unread_leaves_nothing_behind(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    stream = upstream.stream(ask_for("ok?tokens=1000&delay_ms=5"))
    next(stream)
    del stream
    gc.collect()

    assert fake.requests[0].client_gone.wait(1)
    assert wait_until_idle(0.5) == []


def test_waiting_comes_every_half_second_of_silence(upstream: OpenAIUpstream) -> None:
    outcome = ask(upstream, ask_for("ok?latency_ms=1200"))

    assert outcome.text == OK_TEXT
    assert [type(event) for event in outcome.events[:3]] == [Waiting, Waiting, Sent]


def test_long_prompt_may_take_the_time_to_the_first_piece_though_the_role_came_at_once(
    open_upstream: OpenUpstream,
) -> None:
    upstream = open_upstream(timeouts=Timeouts(1, 2, 0.2, 5))

    assert ask(upstream, ask_for("ok?ttft_ms=700")).text == OK_TEXT


def test_answer_of_which_only_the_role_came_has_not_begun(open_upstream: OpenUpstream) -> None:
    upstream = open_upstream(timeouts=Timeouts(1, 0.4, 3, 5))

    outcome = ask(upstream, ask_for("ok?ttft_ms=2000"))

    assert isinstance(outcome.error, UpstreamTimeoutError)
    assert "did not begin to answer" in str(outcome.error)
    assert outcome.duration_s < 1.5


def test_answer_in_one_piece_that_takes_long_is_told_as_that(open_upstream: OpenUpstream) -> None:
    """The server is at work on it all the time, and is neither busy nor loading anything."""
    upstream = open_upstream(timeouts=Timeouts(1, 0.4, 3, 5))

    outcome = ask(upstream, ask_for("ok?delay_ms=200", is_streamed=False))

    assert isinstance(outcome.error, UpstreamTimeoutError)
    assert "An answer that is not streamed comes only when all of it is there" in str(outcome.error)
    assert ask(upstream, ask_for("ok?delay_ms=200")).text == OK_TEXT


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(
    ("model", "reasons"), [("n-ignored", ["stop"]), ("finish-first", ["stop", None])]
)
def test_several_answers_are_complete_as_far_as_the_server_gives_them(
    upstream: OpenAIUpstream, model: str, reasons: list[str | None], is_streamed: bool
) -> None:
    outcome = ask(upstream, ask_for(model, parameters={"n": 2}, is_streamed=is_streamed))

    assert [choice.finish_reason for choice in outcome.completion.choices] == reasons
    assert outcome.text == OK_TEXT


@pytest.mark.parametrize("is_streamed", [True, False])
def test_server_may_say_what_it_cost(upstream: OpenAIUpstream, is_streamed: bool) -> None:
    assert ask(upstream, ask_for("cost", is_streamed=is_streamed)).completion.cost == 0.000015


STRICT = [Message("system", "Be kind."), Message("user", "Hi")]


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        "System role not supported",
        "Error: Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
        "This model does not support system messages.",
    ],
)
@pytest.mark.parametrize("code", [400, 422, 500])
def test_model_without_system_messages_is_told_with_the_way_out(
    upstream: OpenAIUpstream, fake: FakeUpstream, code: int, words: str, is_streamed: bool
) -> None:
    model = f"strict-roles?{urlencode({'code': code, 'message': words})}"

    error = ask(upstream, ask_for(model, messages=STRICT, is_streamed=is_streamed)).upstream_error

    assert isinstance(error, UpstreamRefusedError)
    assert "`template: no-system`" in str(error)
    assert error.detail == words
    assert len(fake.requests) == 1


@pytest.mark.parametrize("is_streamed", [True, False])
def test_refusal_of_system_messages_may_come_with_status_200(
    upstream: OpenAIUpstream, is_streamed: bool
) -> None:
    asked = ask_for("strict-roles?code=200", messages=STRICT, is_streamed=is_streamed)
    error = ask(upstream, asked).upstream_error

    assert isinstance(error, UpstreamRefusedError)
    assert "`template: no-system`" in str(error)


def test_reader_that_is_slower_than_the_idle_limit_loses_nothing(
    open_upstream: OpenUpstream,
) -> None:
    upstream = open_upstream(timeouts=Timeouts(1, 0.3, 0.3, 5))
    text = ""
    for event in upstream.stream(ask_for("ok?tokens=2000")):
        if isinstance(event, Delta):
            if not text:
                time.sleep(0.8)
            text += event.text
    assert isinstance(event, Completion)
    assert event.choices[0].text == text
    assert len(text) > 10_000


def test_connection_is_used_again(upstream: OpenAIUpstream, fake: FakeUpstream) -> None:
    for is_streamed in (True, False) * 5:
        assert ask(upstream, ask_for(is_streamed=is_streamed)).is_complete
        assert wait_until_idle() == []

    # A busy machine may give up one that is late with its last bytes; a client that never reuses makes ten.
    assert fake.stats["connections"] <= 4


def test_connection_that_was_idle_for_long_is_not_used_again(
    upstream: OpenAIUpstream, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies between may have forgotten it without a word, and then nobody would answer."""
    monkeypatch.setattr(wire, "_KEEP_ALIVE_S", 0.2)
    for _ in range(2):
        assert ask(upstream, ask_for()).is_complete
        time.sleep(0.3)

    assert fake.stats["connections"] == 2


def test_connection_that_was_idle_for_long_can_be_closed_without_another_call(
    upstream: OpenAIUpstream, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.close_idle()
    assert ask(upstream, ask_for()).is_complete
    upstream.close_idle()
    assert fake.stats["open_connections"] == 1
    monkeypatch.setattr(wire, "_KEEP_ALIVE_S", 0.0)
    upstream.close_idle()
    fake.wait_for(lambda: fake.open_connections == 0)


def test_reply_that_is_no_http_says_what_is_wrong_with_it(open_upstream: OpenUpstream) -> None:
    with ScriptedServer([b"HTTP/1.1 200 OK\r\nX-A : b\r\n\r\n"]) as server:
        upstream = open_upstream(base_url=f"http://127.0.0.1:{server.port}/v1", attempts=1)
        error = ask(upstream, ask_for()).upstream_error

    assert "header" in error.detail


@pytest.mark.parametrize(
    ("address", "said", "cause"),
    [
        (
            "http://127.0.0.1:9/v1",
            "Nothing listens at http://127.0.0.1:9/v1. Check that",
            "refused",
        ),
        (
            "http://no-such-host.invalid/v1",
            "The name in the address http://no-such-host.invalid/v1 is not known",
            "Errno",
        ),
        ("http://127.0.0.1:{junk}/v1", "does not speak HTTP, or only with encryption", "HTTP/"),
        ("http://127.0.0.1:{closing}/v1", "broke before the answer was finished", ""),
    ],
    ids=["refused", "unknown name", "no HTTP", "closed"],
)
def test_server_that_is_not_reached_is_told_of_in_words_and_the_rest_is_kept(
    open_upstream: OpenUpstream, address: str, said: str, cause: str
) -> None:
    with ScriptedServer([b"SSH-2.0-OpenSSH_9.6\r\n"]) as junk, ScriptedServer([CLOSE]) as closing:
        base_url = address.format(junk=junk.port, closing=closing.port)
        error = ask(open_upstream(base_url=base_url, attempts=1), ask_for()).upstream_error

    assert isinstance(error, UpstreamConnectionError)
    assert said in str(error)
    assert "Errno" not in str(error)
    assert cause in error.parameters.get("cause", "")


def test_cookie_of_a_server_is_not_sent_back(open_upstream: OpenUpstream) -> None:
    body = b'{"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}'
    head = b"HTTP/1.1 200 OK\r\nSet-Cookie: who=you\r\nContent-Length: %d\r\n\r\n" % len(body)
    with ScriptedServer([head, body], [head, body]) as server:
        upstream = open_upstream(base_url=f"http://127.0.0.1:{server.port}/v1")
        said = [ask(upstream, ask_for(is_streamed=False)).text for _ in range(2)]
        upstream.close()

    assert said == ["Hello.", "Hello."]
    assert b"who=you" not in server.requests[1]


def test_connections_of_calls_at_one_time_are_kept_and_end_with_the_upstream(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    upstream = open_upstream()
    with ThreadPoolExecutor(3) as threads:
        for _ in range(4):
            begun = threading.Barrier(3)

            def ask_together(begun: threading.Barrier = begun) -> Outcome:
                begun.wait(5)
                return ask(upstream, ask_for("ok?latency_ms=200", is_streamed=False))

            calls = [threads.submit(ask_together) for _ in range(3)]
            assert all(call.result().is_complete for call in calls)

    # Three are needed; a client that opened one for each call would have twelve.
    assert 3 <= fake.stats["connections"] <= 6
    assert fake.open_connections >= 3
    upstream.close()
    fake.wait_for(lambda: not fake.open_connections)


def test_two_hundred_streams_run_at_once(open_upstream: OpenUpstream) -> None:
    upstream = open_upstream(timeouts=Timeouts(5, 10, 10, 20))
    complete = []

    def run() -> None:
        complete.append(ask(upstream, ask_for("ok?tokens=5&delay_ms=100")).is_complete)

    threads = [threading.Thread(target=run) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert complete == [True] * 200
    assert wait_until_idle() == []


@pytest.mark.parametrize(
    "fault", ["endless", "endless-line", "huge-chunk?kb=65536", "gzip-bomb?mb=256"]
)
def test_flood_is_cut_before_it_fills_the_memory(open_upstream: OpenUpstream, fault: str) -> None:
    # No other limit is to cut it, however long a busy machine takes to read so much.
    upstream = open_upstream(timeouts=Timeouts(9, 9, 9, 90))
    ask(upstream, ask_for("ok"))
    before = _resident_mb()
    for is_streamed in (True, False):
        assert isinstance(
            ask(upstream, ask_for(fault, is_streamed=is_streamed)).error, UpstreamReplyError
        )

    assert _resident_mb() - before < 64


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


@pytest.mark.parametrize("model", ["no-usage", "usage-null", "usage-wrong"])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_usage_that_did_not_come_is_unknown_and_not_zero(
    upstream: OpenAIUpstream, model: str, is_streamed: bool
) -> None:
    assert ask(upstream, ask_for(model, is_streamed=is_streamed)).completion.usage == Usage()


def test_completions_take_a_plain_prompt_and_its_parameters(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    parameters = {"n": 2, "echo": True, "stop": ["!"], "logprobs": 1, "best_of": 2}
    outcome = ask(
        upstream, ask_for(text="Once upon", endpoint="completions", parameters=parameters)
    )

    assert fake.requests[0].path == "/v1/completions"
    assert fake.requests[0].body["prompt"] == "Once upon"
    assert parameters.items() <= fake.requests[0].body.items()
    assert outcome.text.startswith("Once upon")
    assert len(outcome.completion.choices) == 2


def test_organization_and_project_travel_as_headers(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    outcome = ask(
        upstream, ask_for(parameters={"organization": "org-1", "project": "proj-1", "seed": 7})
    )

    headers = fake.requests[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")
    assert "organization" not in fake.requests[0].body
    assert {
        "organization": "org-1",
        "project": "proj-1",
        "seed": 7,
    }.items() <= outcome.sent.parameters.items()


@pytest.mark.parametrize("value", ["org\r\nX-Evil: 1", "Zoë"])
def test_header_cannot_be_split_by_a_parameter(
    upstream: OpenAIUpstream, fake: FakeUpstream, value: str
) -> None:
    error = ask(upstream, ask_for(parameters={"organization": value})).error

    assert isinstance(error, UpstreamRefusedError)
    assert fake.requests == []


def test_nothing_of_the_environment_is_sent_along(
    open_upstream: OpenUpstream, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "from-the-environment")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer from-the-environment")

    ask(open_upstream("sk-mine-0123456789"), ask_for())
    ask(open_upstream(), ask_for())

    assert [request.api_key for request in fake.requests] == ["sk-mine-0123456789", "no-key-needed"]
    assert "from-the-environment" not in str([request.headers for request in fake.requests])


def test_server_is_told_nothing_of_this_computer(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    ask(upstream, ask_for())

    assert [name for name in fake.requests[0].headers if name.startswith("x-stainless")] == []


def test_redirect_is_not_followed_so_that_no_key_travels(
    upstream: OpenAIUpstream, fake: FakeUpstream
) -> None:
    error = ask(upstream, ask_for("redirect")).upstream_error

    assert isinstance(error, UpstreamRefusedError)
    assert error.status in (301, 302, 303, 307, 308)
    assert [request.to_other_origin for request in fake.requests] == [False]


@pytest.mark.parametrize("key", ["", " ", "sk-a b", "sk-ab\n", "sk-ключ", "sk-\x00"])
def test_key_that_no_server_accepts_is_told_before_the_call(
    open_upstream: OpenUpstream, fake: FakeUpstream, key: str
) -> None:
    error = ask(open_upstream(key), ask_for()).upstream_error

    assert isinstance(error, UpstreamKeyError)
    assert "OPENAI_API_KEY" in str(error)
    assert fake.requests == []


def test_openai_is_not_called_without_a_key(open_upstream: OpenUpstream) -> None:
    error = ask(open_upstream(base_url="https://api.openai.com/v1"), ask_for()).upstream_error

    assert isinstance(error, UpstreamKeyError)
    assert "OPENAI_API_KEY" in str(error)


def test_server_that_wants_a_key_says_so_and_how_to_set_one(open_upstream: OpenUpstream) -> None:
    with FakeUpstream(require_key="sk-right-0123456789") as fake:
        keyless = ask(open_upstream(base_url=fake.base_url), ask_for()).upstream_error
        wrong = ask(
            open_upstream("sk-wrong-0123456789", base_url=fake.base_url), ask_for()
        ).upstream_error
        right = ask(open_upstream("sk-right-0123456789", base_url=fake.base_url), ask_for())

    assert isinstance(keyless, UpstreamKeyError)
    assert "none is set" in str(keyless)
    assert isinstance(wrong, UpstreamKeyError)
    assert "…6789" in str(wrong)
    assert wrong.status == 401
    assert right.is_complete


@pytest.mark.parametrize(
    ("model", "is_said"),
    [
        ("status?code=400&message=No connected db.", True),
        ("403", True),
        ("400", False),
        ("400-context", False),
        ("404", False),
        ("500", False),
    ],
)
def test_refusal_may_be_for_want_of_a_key(
    open_upstream: OpenUpstream, model: str, is_said: bool
) -> None:
    keyless = str(ask(open_upstream(attempts=1), ask_for(model)).upstream_error)
    with_key = str(ask(open_upstream("sk-test-0123456789"), ask_for(model)).upstream_error)

    assert ("OPENAI_API_KEY" in keyless) is is_said
    assert "OPENAI_API_KEY" not in with_key


@pytest.mark.parametrize(
    ("words", "is_unknown"),
    [
        ("/chat/completions: Invalid model name passed in model=nosuch.", True),
        ("Invalid model: nosuch", True),
        ("Model Not Exist", True),
        ("model 'nosuch' not found, try pulling it first", True),
        ("The model `nosuch` does not exist.", True),
        ("模型不存在，请检查模型代码。", True),
        ("Unknown model parameter 'seed'.", False),
        ("This model does not support tools.", False),
        ("The tool that the model called was not found.", False),
    ],
)
def test_unknown_model_is_understood_in_the_words_of_many_servers(
    upstream: OpenAIUpstream, words: str, is_unknown: bool
) -> None:
    model = f"status?{urlencode({'code': 400, 'message': words})}"

    error = ask(upstream, ask_for(model)).upstream_error

    assert ("`rolebook models`" in str(error)) is is_unknown
    assert error.detail == words


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.openai.com/v1",
        "ftp://host/v1",
        "http://",
        "http://user:secret@host/v1",
        "http://host:99999/v1",
        "http://host/v1?key=secret",
        "file:///etc/passwd",
        "http://ho st/v1",
        "http://host/\n",
    ],
)
def test_base_url_that_is_none_is_a_setting_error(base_url: str) -> None:
    with pytest.raises(SettingError) as caught:
        OpenAIUpstream(UpstreamSettings(name="mine", base_url=base_url))

    assert "mine" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_models_come_in_many_shapes(upstream: OpenAIUpstream, fake: FakeUpstream) -> None:
    assert upstream.model("gpt-4o").created_at.startswith("2023-11-14T")

    fake.path_rule("/v1/models", "html-200")
    with pytest.raises(UpstreamReplyError):
        upstream.models()
    fake.path_rule("/v1/models", "401")
    with pytest.raises(UpstreamKeyError):
        upstream.models()


def test_default_model_is_the_first_in_the_servers_own_order(upstream: OpenAIUpstream) -> None:
    assert upstream.default_model == "ok"
    assert upstream.models()[0].id == "deepseek-chat"


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (1_700_000_000.75, "2023-11-14T22:13:20Z"),
        (1e300, ""),
        (float("nan"), ""),
        (True, ""),
        ("2023", ""),
        (None, ""),
    ],
)
def test_time_of_a_model_may_be_any_number_that_is_a_time(created: Any, expected: str) -> None:
    model = read_model({"id": "m", "created": created})
    assert model is not None
    assert model.created_at == expected


def test_name_of_a_model_is_kept_without_half_a_character() -> None:
    model = read_model({"id": "a\ud800b", "owned_by": "\ud800", "x": "\ud800"})
    assert model is not None
    assert (model.id, model.owned_by) == ("a\ufffdb", "\ufffd")
    assert model.details == {"id": "a\ufffdb", "owned_by": "\ufffd", "x": "\ufffd"}


@pytest.mark.parametrize(
    "fault", ["string-body", "null-body", "204", "truncated-json", "deep-json"]
)
def test_list_of_models_that_is_none_is_a_reply_error(
    upstream: OpenAIUpstream, fake: FakeUpstream, fault: str
) -> None:
    fake.path_rule("/v1/models", fault)

    with pytest.raises(UpstreamReplyError, match="fake"):
        upstream.models()


@pytest.mark.parametrize("fault", ["error-200", "500", "rst"])
def test_list_of_models_is_asked_for_again_after_passing_trouble(
    upstream: OpenAIUpstream, fake: FakeUpstream, fault: str
) -> None:
    fake.path_rule("/v1/models", f"{fault},pass")

    assert "gpt-4o" in [model.id for model in upstream.models()]


def test_model_list_that_hangs_ends_at_its_limit(
    open_upstream: OpenUpstream, fake: FakeUpstream
) -> None:
    fake.path_rule("/v1/models", "hang")
    upstream = open_upstream(timeouts=Timeouts(0.3, 0.3, 0.3, 0.3))
    began = time.monotonic()

    with pytest.raises(UpstreamTimeoutError):
        upstream.models()
    # The limits that it has unless told otherwise come after half a minute and more.
    assert time.monotonic() - began < 5


def test_upstream_can_be_used_again_after_it_was_closed(upstream: OpenAIUpstream) -> None:
    assert ask(upstream, ask_for()).is_complete
    upstream.close()
    assert ask(upstream, ask_for()).is_complete


def test_key_shows_no_more_than_its_end() -> None:
    settings = UpstreamSettings(
        name="x", base_url="http://h/v1", keys=(Key("sk-secret-0123456789"),)
    )

    assert "secret" not in repr(settings) + repr(OpenAIUpstream(settings))
