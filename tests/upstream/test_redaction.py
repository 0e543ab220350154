"""A canary key goes through everything that can go wrong and is found nowhere (keys, plain, URL-encoded, base64)."""

import base64
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote, quote_plus, urlencode

import pytest

from rolebook.core.errors import RolebookError
from rolebook.core.upstream import Key, Timeouts, UpstreamSettings
from rolebook.upstream.error_mapping import ErrorMapper
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.upstream.redaction import Redactor
from tests.fake_upstream import FAULTS, FakeUpstream
from tests.upstream.asking import ask, ask_for

CANARY = "sk-canary+7/Qx9=Zt40Wb"
FORMS = (
    CANARY,
    CANARY[:14],
    CANARY.replace("/", r"\/"),
    quote(CANARY, safe=""),
    quote_plus(CANARY).lower(),
    base64.b64encode(CANARY.encode()).decode().rstrip("="),
    base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
    base64.b64encode(f"Bearer {CANARY}".encode()).decode(),
    base64.b64encode(f"user:{CANARY}".encode()).decode(),
    base64.b64encode(f"x{CANARY} and more".encode()).decode(),
)
SECRET_MIDDLE = base64.b64encode(CANARY.encode()).decode()[4:-8]


@pytest.mark.parametrize("form", FORMS)
def test_secret_is_removed_in_every_form(form: str) -> None:
    clean = Redactor([CANARY]).redact(f"before {form} after")

    assert clean.startswith("before ")
    assert clean.endswith(" after")
    assert "[key removed]" in clean
    assert "canary" not in clean
    assert SECRET_MIDDLE not in clean


@pytest.mark.parametrize(
    "masked",
    [f"{CANARY[:8]}**********{CANARY[-4:]}", f"{CANARY[:5]}…{CANARY[-4:]}", "sk-c...t40Wb"],
)
def test_key_that_a_server_repeats_masked_is_removed_whole(masked: str) -> None:
    assert Redactor([CANARY]).redact(f"Wrong key: {masked}. Go") == "Wrong key: [key removed]. Go"


def test_innocent_text_stays() -> None:
    text = "An innocent text about sk- and keys, 100 % of it: a+b/c=d."

    assert Redactor([CANARY, "", "abc"]).redact(text) == text


@pytest.fixture
def debug_log() -> Iterator[list[str]]:
    """Everything that any logger writes, tracebacks included."""
    lines: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record) + repr(record.args) + repr(record.msg))

    root, handler = logging.getLogger(), Keeping()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def test_canary_key_is_found_nowhere(debug_log: list[str]) -> None:
    shown: list[str] = []
    with FakeUpstream(max_wait_s=2) as fake:
        limits = Timeouts(1, 0.2, 0.2, 0.5)
        settings = UpstreamSettings(
            name="fake", base_url=fake.base_url, keys=(Key(CANARY),), timeouts=limits, attempts=1
        )
        upstream = OpenAIUpstream(settings)
        proxy = fake.base_url.removesuffix("/v1")
        far = OpenAIUpstream(replace(settings, base_url="http://far.example/v1", proxy=proxy))
        shown.append(str(ask(far, ask_for()).error))
        told = [f"status?{urlencode({'code': 418, 'message': form})}" for form in FORMS]
        names = [name for name, fault in FAULTS.items() if fault.kind != "flood"]
        for model in (*names, *told):
            for is_streamed in (True, False):
                outcome = ask(upstream, ask_for(model, is_streamed=is_streamed))
                shown += [repr(outcome), str(outcome.error), *_traceback(outcome.error)]
        assert {request.api_key for request in fake.requests} == {CANARY}
        shown.append(repr(upstream) + repr(settings) + repr(vars(upstream)))
        upstream.close()
        far.close()
    logging.getLogger("anyone").warning("a key %s, and %s", CANARY, quote(CANARY, safe=""))
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("anyone").exception("in a traceback")

    everything = "\n".join([*shown, *debug_log])
    assert "Building HTTP request" in everything
    assert "receive_response_headers" in everything
    assert "[key removed]" in everything
    for form in (*FORMS, SECRET_MIDDLE):
        assert form not in everything
    assert "sk-canary" not in everything


def _traceback(error: BaseException | None) -> list[str]:
    return traceback.format_exception(error) if error else []


def test_log_record_with_wrong_arguments_is_left_to_logging() -> None:
    OpenAIUpstream(UpstreamSettings(name="x", base_url="http://h/v1", keys=(Key(CANARY),)))

    record = logging.getLogRecordFactory()("n", logging.INFO, "f", 1, "%s %s", ("one",), None)

    assert record.args == ("one",)


@pytest.mark.parametrize(
    ("detail", "clean"),
    [
        (f"wrong key {CANARY}", "wrong key [key removed]"),
        (
            "<html><head><style>p{}</style><title>502</title></head><body><h1>Bad</h1></body>",
            "502 Bad",
        ),
        ("<scr<script>ipt>alert(1)</script>", "‹scr"),
        ("a < b and b > c", "a ‹ b and b › c"),
        (
            "red\x1b[31m\x00 \u202edesrever\u2066 two\nlines\u2028three",
            "red [31m desrever two lines three",
        ),
        ("x" * 600, "x" * 499 + "…"),
        ("", ""),
    ],
)
def test_reason_of_a_server_becomes_one_plain_line(detail: str, clean: str) -> None:
    settings = UpstreamSettings(name="x", base_url="http://h/v1", keys=(Key(CANARY),))

    assert ErrorMapper(settings, Redactor([CANARY])).clean(detail) == clean


def test_unforeseen_exception_becomes_one_of_our_errors_without_its_chain() -> None:
    settings = UpstreamSettings(name="x", base_url="http://h/v1")
    try:
        raise KeyError(CANARY)
    except KeyError as reason:
        error = ErrorMapper(settings, Redactor([CANARY])).explain(reason)

    assert isinstance(error, RolebookError)
    assert "KeyError" in str(error)
    assert "canary" not in str(error)
    assert (error.__cause__, error.__context__, error.__traceback__) == (None, None, None)
