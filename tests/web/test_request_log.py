"""Lines for machines: what stands in them, and what never does."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.web.app import create_app
from rolebook.web.request_log import JSONFormatter
from tests.conftest import MakeRolebook

CANARY = "sk-canary/ZZ9911aaBBccDDeeFF0042"


def test_key_that_an_upstream_repeats_is_in_no_part_of_a_line() -> None:
    OpenAIUpstream(UpstreamSettings(name="x", base_url="http://h/v1", keys=(Key(CANARY),)))
    fields = {"model": f"m-{CANARY}", "cause": quote(CANARY, safe=""), "prompt_tokens": 7}
    try:
        raise ValueError(CANARY)
    except ValueError:
        record = logging.getLogger("rolebook.turn").makeRecord(
            *("rolebook.turn", logging.INFO, "file", 1, "the key %s", (CANARY,), sys.exc_info()),
            extra={"fields": fields},
        )
    line = JSONFormatter().format(record)
    assert "canary" not in line
    told = json.loads(line)
    assert ("m-[key removed]", "[key removed]", 7) == tuple(told[name] for name in fields)
    assert "the key [key removed]" == told["message"]
    assert "ValueError: [key removed]" in told["exception"]


def test_line_is_of_some_length_only_and_keeps_the_end_of_an_exception() -> None:
    try:
        raise ValueError("x" * 100_000 + " the reason")
    except ValueError:
        record = logging.getLogger("rolebook.turn").makeRecord(
            *("rolebook.turn", logging.INFO, "file", 1, "m" * 100_000, (), sys.exc_info()),
            extra={"fields": {"model": "n" * 100_000}},
        )
    line = JSONFormatter().format(record)
    told = json.loads(line)
    assert len(line) < 16_000
    assert ("m" * 1000, "n" * 1000) == (told["message"], told["model"])
    assert told["exception"].endswith("x the reason")


def lines_of(caplog: pytest.LogCaptureFixture, client: FlaskClient, given: str) -> Any:
    """What is logged of a request that comes with an id, and what comes back with the answer."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "rolebook.request"):
        response = client.get("/healthz", headers={"X-Request-Id": given})
        response.close()
    (record,) = caplog.records
    return record.fields, response.headers["X-Request-Id"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", ["a" * 65, "a b", "a\tb", "ä", "", '"'])
def test_id_that_is_nothing_for_a_log_is_left_out(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    fields, answered = lines_of(caplog, client, given)
    assert (fields["request_id"], False) == (answered, "given_id" in fields)


def test_id_is_taken_over_from_a_proxy_and_from_nobody_else(
    client: FlaskClient, make_rolebook: MakeRolebook, caplog: pytest.LogCaptureFixture
) -> None:
    fields, answered = lines_of(caplog, client, "theirs-1.2_3")
    assert "theirs-1.2_3" == fields["given_id"] != fields["request_id"] == answered
    behind = create_app(make_rolebook({"ROLEBOOK_PROXIES": "1", "ROLEBOOK_LOGIN": "never"}))
    fields, answered = lines_of(caplog, behind.test_client(), "theirs-1.2_3")
    assert ("theirs-1.2_3", False) == (answered, "given_id" in fields)
    assert answered == fields["request_id"]
