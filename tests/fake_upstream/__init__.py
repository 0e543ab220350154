"""An OpenAI-compatible server that behaves well by default and badly on request.

    with FakeUpstream() as upstream:
        client = openai.OpenAI(base_url=upstream.base_url, api_key="sk-test", max_retries=0)
        client.chat.completions.create(model="rst-mid?after=3", messages=[...], stream=True)

The model name says what happens: a name out of `FAULTS` (or `ok`), its options as a query, and
commas between the behaviours of successive requests: `500,500,ok?text=Hello`. What every behaviour
takes: `text`, `tokens`, `latency_ms` (before the first byte), `ttft_ms` (before the first delta) and
`delay_ms` (between deltas). A whole reply takes as long as its stream would.
"""

from tests.fake_upstream.behaviour import BEHAVIOURS, FAULTS
from tests.fake_upstream.exchange import Fault
from tests.fake_upstream.record import Moment, Request
from tests.fake_upstream.reply import token_count
from tests.fake_upstream.rules import MODELS
from tests.fake_upstream.server import FakeUpstream

__all__ = [
    "BEHAVIOURS",
    "FAULTS",
    "MODELS",
    "FakeUpstream",
    "Fault",
    "Moment",
    "Request",
    "token_count",
]
