"""Lines for machines: what stands in them, and what never does."""

from __future__ import annotations

import json
import logging
import sys
from urllib.parse import quote

from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.web.request_log import JSONFormatter

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
