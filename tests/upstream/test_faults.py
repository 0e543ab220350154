"""Every fault of the fake, streamed and whole: an answer that is one, or one of our errors, and always in time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rolebook.core.errors import (
    UpstreamConnectionError,
    UpstreamError,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamReplyError,
    UpstreamServerError,
    UpstreamTimeoutError,
)
from rolebook.core.upstream import Key, Timeouts, UpstreamSettings
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FAULTS, FakeUpstream
from tests.upstream.asking import OK_TEXT, Outcome, ask, ask_for, wait_until_idle

LIMITS = Timeouts(connect_s=1.5, first_byte_s=1.5, idle_s=1.0, total_s=3.0)
CASES = [(name, is_streamed) for name in FAULTS for is_streamed in (True, False)]

KINDS: dict[str, type[UpstreamError]] = {
    "400": UpstreamRefusedError,
    "400-context": UpstreamRefusedError,
    "401": UpstreamKeyError,
    "403": UpstreamKeyError,
    "404": UpstreamRefusedError,
    "413": UpstreamRefusedError,
    "429": UpstreamRateError,
    "429-quota": UpstreamQuotaError,
    "429-tokens": UpstreamRefusedError,
    "413-tokens": UpstreamRefusedError,
    "500": UpstreamServerError,
    "503": UpstreamServerError,
    "529": UpstreamServerError,
    "limited": UpstreamRateError,
    "redirect": UpstreamRefusedError,
    "echo-key": UpstreamKeyError,
    "error-html": UpstreamServerError,
    "rst": UpstreamConnectionError,
    "rst-mid": UpstreamConnectionError,
    "close-mid": UpstreamConnectionError,
    "bad-chunked": UpstreamConnectionError,
    "html-200": UpstreamReplyError,
    "204": UpstreamReplyError,
    "string-body": UpstreamReplyError,
    "array-body": UpstreamReplyError,
    "empty-choices": UpstreamReplyError,
    "null-choices": UpstreamReplyError,
    "no-choices": UpstreamReplyError,
    "dup-keys": UpstreamReplyError,
    "wrong-type": UpstreamReplyError,
    "malformed-sse": UpstreamReplyError,
    "bad-utf8": UpstreamReplyError,
    "deep-json": UpstreamReplyError,
    "truncated-json": UpstreamReplyError,
    "no-finish": UpstreamReplyError,
    "empty-text": UpstreamReplyError,
    "endless-line": UpstreamReplyError,
    "huge-chunk": UpstreamReplyError,
    "gzip-bomb": UpstreamReplyError,
    "huge-headers": UpstreamReplyError,
}
"""Which error a fault must become; those not named here only have to become one of ours."""

ANSWERED_ALL_THE_SAME = {"sse-as-json", "json-as-sse", "always-stream", "never-stream", "hang-end"}
"""Faults that leave a good answer behind if one is not fussy: another form than was asked for, or no end after it."""

PARTIAL_STREAMS = (
    "rst-mid",
    "close-mid",
    "hang-mid",
    "bad-utf8",
    "malformed-sse",
    "deep-json",
    "error-mid",
    "cut",
)
PARTIAL_WHOLES = ("rst-mid", "close-mid", "hang-mid", "bad-chunked", "cut", "truncated-json")


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[tuple[str, bool], Outcome]]:
    with FakeUpstream(max_wait_s=10) as fake:
        settings = UpstreamSettings(
            name="fake",
            base_url=fake.base_url,
            keys=(Key("sk-test-0123456789"),),
            timeouts=LIMITS,
            attempts=1,
        )
        upstream = OpenAIUpstream(settings)
        with ThreadPoolExecutor(8) as pool:
            asked = pool.map(
                lambda case: ask(upstream, ask_for(case[0], is_streamed=case[1])), CASES
            )
            yield dict(zip(CASES, asked, strict=True))
        assert wait_until_idle() == []
        upstream.close()
        fake.wait_for(lambda: not fake.open_connections)


@pytest.mark.parametrize(("name", "is_streamed"), CASES)
def test_fault_becomes_an_answer_or_one_of_our_errors_in_time(
    name: str, is_streamed: bool, outcomes: dict[tuple[str, bool], Outcome]
) -> None:
    outcome, fault = outcomes[name, is_streamed], FAULTS[name]

    assert outcome.duration_s < LIMITS.total_s + 1
    if outcome.error is None:
        assert fault.kind in ("whole", "told") or name in ANSWERED_ALL_THE_SAME
        assert outcome.is_complete
        assert outcome.text == outcome.completion.choices[0].text
        assert outcome.completion.choices[0].finish_reason
    else:
        assert fault.kind != "whole"
        assert isinstance(outcome.error, KINDS.get(name, UpstreamError))
        assert not outcome.is_complete
    if fault.kind == "whole":
        assert outcome.text == OK_TEXT


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.kind == "silent"])
def test_silence_ends_at_a_time_limit(name: str, outcomes: dict[tuple[str, bool], Outcome]) -> None:
    for is_streamed in (True, False):
        outcome = outcomes[name, is_streamed]
        if name not in ANSWERED_ALL_THE_SAME or not is_streamed:
            assert isinstance(outcome.error, UpstreamTimeoutError)
            assert 0.7 < outcome.duration_s < LIMITS.total_s + 1


@pytest.mark.parametrize(
    ("name", "is_streamed"),
    [*((name, True) for name in PARTIAL_STREAMS), *((name, False) for name in PARTIAL_WHOLES)],
)
def test_what_arrived_before_it_broke_is_kept(
    name: str, is_streamed: bool, outcomes: dict[tuple[str, bool], Outcome]
) -> None:
    text = outcomes[name, is_streamed].text

    assert text != ""
    assert OK_TEXT.startswith(text)


@pytest.mark.parametrize(("name", "is_streamed"), CASES)
def test_error_speaks_plainly(
    name: str, is_streamed: bool, outcomes: dict[tuple[str, bool], Outcome]
) -> None:
    error = outcomes[name, is_streamed].error
    if not isinstance(error, UpstreamError):
        return
    assert "%" not in str(error).replace(error.detail, "")
    assert len(error.detail) <= 500
    assert error.detail.isprintable()
    assert "<" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert error.parameters["detail"] == error.detail
