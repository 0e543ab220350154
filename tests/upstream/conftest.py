"""Real parts only: the openai client on one side, a server on a loopback socket on the other."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from rolebook.core.upstream import Key, Timeouts, UpstreamSettings
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FakeUpstream

OpenUpstream = Callable[..., OpenAIUpstream]


@pytest.fixture(scope="session")
def running_fake() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def fake(running_fake: FakeUpstream) -> FakeUpstream:
    running_fake.reset()
    return running_fake


@pytest.fixture
def open_upstream(fake: FakeUpstream) -> Iterator[OpenUpstream]:
    """Opens upstreams on the fake; settings may be given by name."""
    with ExitStack() as stack:

        def open_one(*keys: str, **settings: object) -> OpenAIUpstream:
            given = {
                "name": "fake",
                "base_url": fake.base_url,
                "keys": tuple(Key(key, "OPENAI_API_KEY") for key in keys),
                "timeouts": Timeouts(2, 2, 2, 5),
                **settings,
            }
            upstream = OpenAIUpstream(UpstreamSettings(**given))  # type: ignore[arg-type]
            stack.callback(upstream.close)
            return upstream

        yield open_one


@pytest.fixture
def upstream(open_upstream: OpenUpstream) -> OpenAIUpstream:
    return open_upstream("sk-test-0123456789")
