"""What it costs that one of three keys is limited: fifty calls at once, beside the same with three good keys.

Both take turns, so that they meet the same weather. The upstream is the fake one of the tests, whose limited key takes
five calls a second; every round begins with keys that have rested.

    python -m benchmarks.failover [--rounds 12] [--calls 50]
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Sequence

from rolebook.core.completion import Completion, CompletionRequest
from rolebook.core.message import Message
from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FakeUpstream

LIMITED = "sk-limited-0123456789"
GOOD = ("sk-good-0123456789", "sk-other-0123456789", "sk-third-0123456789")
RESTED_S = 1.1


def ask_at_once(upstream: OpenAIUpstream, calls: int) -> list[float]:
    """Milliseconds of each call. Raises whatever a call raises."""
    request = CompletionRequest([Message("user", "How are you?")], "ok?tokens=16")
    taken: list[float] = []
    start = threading.Barrier(calls)

    def run() -> None:
        start.wait()
        began = time.perf_counter()
        last = list(upstream.stream(request))[-1]
        assert isinstance(last, Completion)
        taken.append((time.perf_counter() - began) * 1000)

    threads = [threading.Thread(target=run) for _ in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == calls, f"only {len(taken)} of {calls} calls were answered"
    return taken


def microseconds_of_a_pick(upstream: OpenAIUpstream) -> float:
    """Taking a key and giving it back, the best of many."""
    best = float("inf")
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(200):
            lease = upstream.keys.take("ok")
            assert lease is not None
            with lease:
                upstream.keys.note_success(lease)
        best = min(best, (time.perf_counter() - began) / 200 * 1e6)
    return best


def _shown(taken: Sequence[float]) -> str:
    centiles = statistics.quantiles(taken, n=100)
    return f"p50 {centiles[49]:6.1f} ms   p95 {centiles[94]:6.1f} ms   longest {max(taken):6.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--calls", type=int, default=50)
    chosen = parser.parse_args()
    with FakeUpstream() as fake:
        fake.key_rule(LIMITED, "limited?requests=5&per_s=1")

        def opened(*keys: str) -> OpenAIUpstream:
            return OpenAIUpstream(
                UpstreamSettings("fake", fake.base_url, tuple(Key(key) for key in keys))
            )

        good, limited = opened(*GOOD), opened(LIMITED, *GOOD[:2])
        taken: dict[str, list[float]] = {"three good keys": [], "one of three limited": []}
        for upstream in (good, limited):
            ask_at_once(upstream, chosen.calls)
        for _ in range(chosen.rounds):
            time.sleep(RESTED_S)
            taken["three good keys"] += ask_at_once(good, chosen.calls)
            taken["one of three limited"] += ask_at_once(limited, chosen.calls)
        refused = sum(request.behaviour.startswith("limited") for request in fake.requests)
        for name, times in taken.items():
            print(f"{name:22} {_shown(times)}   {len(times)} of {len(times)} answered")
        p95 = [statistics.quantiles(times, n=100)[94] for times in taken.values()]
        print(
            f"added at p95 {p95[1] - p95[0]:.1f} ms (goal 150); {refused} calls were refused and made with another key"
        )
        print(f"a pick among three keys {microseconds_of_a_pick(limited):.1f} µs")
        good.close()
        limited.close()


if __name__ == "__main__":
    main()
