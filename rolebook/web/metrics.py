"""Figures for Prometheus: what was answered, what it took, and what waits. ``docs/operations.md`` names each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from flask import Blueprint, Flask, Response, current_app
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from rolebook import __version__
from rolebook.core.session import Turn
from rolebook.web.current import this_request
from rolebook.web.siblings import name_of, siblings
from rolebook.wiring import Rolebook

blueprint = Blueprint("metrics", __name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Seconds; answers take from a tenth of one to minutes.
_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures of one application. Nothing in them says who talked about what.

    Arguments:
        book: whose turns are counted, from now on.
    """

    def __init__(self, book: Rolebook) -> None:
        # When each of them began says no more than when the process did.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(_Moment(book))
        self._turns = self._counter("turns", "Turns that have ended.", "upstream", "status")
        self._tokens = self._counter(
            "tokens", "Tokens, as upstreams count them.", "upstream", "kind"
        )
        self._cost = self._counter(
            "cost_dollars", "What turns with a known price have cost.", "upstream"
        )
        self._durations = self._histogram(
            "turn_duration_seconds", "From the call to the end of the answer."
        )
        self._first_tokens = self._histogram(
            "time_to_first_token_seconds", "From the call to the first piece of the answer."
        )
        self._responses = self._counter(
            "http_responses", "Requests that were answered.", "method", "endpoint", "status"
        )
        #: What is counted under labels, which is kept by what counts as well: to ask that takes longer than to count.
        self._labelled: Callable[..., Any] = cache(lambda metric, *labels: metric.labels(*labels))
        book.chat.listen(self._count_turn)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"rolebook_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str) -> Histogram:
        return Histogram(
            f"rolebook_{name}", help, ("upstream",), buckets=_BUCKETS, registry=self.registry
        )

    def _count_turn(self, turn: Turn) -> None:
        name = turn.upstream
        self._labelled(self._turns, name, turn.status.value).inc()
        for kind, tokens in (
            ("prompt", turn.usage.prompt_tokens),
            ("completion", turn.usage.completion_tokens),
        ):
            if tokens:
                self._labelled(self._tokens, name, kind).inc(tokens)
        if turn.cost:
            self._labelled(self._cost, name).inc(turn.cost)
        if turn.duration_ms is not None:
            self._labelled(self._durations, name).observe(turn.duration_ms / 1000)
        if turn.time_to_first_token_ms is not None:
            self._labelled(self._first_tokens, name).observe(turn.time_to_first_token_ms / 1000)

    def count_response(self, response: Response) -> Response:
        """After each request. What callers can make up, such as an address that is none, gets no figure of its own:
        anybody could fill the memory with such.
        """
        asked = this_request()
        method = asked.method if asked.method in _METHODS else "other"
        self._labelled(self._responses, method, asked.endpoint or "", response.status_code).inc()
        return response


class _Moment(Collector):
    """What can be said of this very moment."""

    def __init__(self, book: Rolebook) -> None:
        self._book = book

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        book = self._book
        runs = [progress.tally for progress in book.compare.running()]
        waiting = sum(tally.to_answer - tally.running for tally in runs)
        yield _gauge("live_turns", "Turns that are being answered.", book.chat.live_turns)
        yield _gauge(
            "unwritten_turns", "Turns that wait in memory for the log.", book.log.unwritten
        )
        yield _gauge("running_comparisons", "Comparisons that run in this process.", len(runs))
        yield _gauge("waiting_cells", "Cells of these that have not begun.", waiting)
        info = GaugeMetricFamily("rolebook_info", "Always 1.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield self._keys()
        yield self._silent_models()
        yield self._waiting_calls()

    def _keys(self) -> Metric:
        keys = GaugeMetricFamily(
            "rolebook_upstream_keys",
            "Keys of an upstream by state; any but ready rests.",
            labels=["upstream", "state"],
        )
        for name in self._book.upstreams.names:
            states = [key.state for key in self._book.upstreams.keys_of(name)]
            for state in dict.fromkeys(["ready", *states]):
                keys.add_metric([name, state], states.count(state))
        return keys

    def _silent_models(self) -> Metric:
        silent = GaugeMetricFamily(
            "rolebook_upstream_silent_models",
            "Models of an upstream that are not asked for now, because calls got no answer.",
            labels=["upstream"],
        )
        for name in self._book.upstreams.names:
            silent.add_metric([name], len(self._book.upstreams.silences_of(name)))
        return silent

    def _waiting_calls(self) -> Metric:
        waiting = GaugeMetricFamily(
            "rolebook_upstream_waiting_calls",
            "Calls that wait for room at an upstream: all its keys are busy, or rest.",
            labels=["upstream"],
        )
        for name in self._book.upstreams.names:
            waiting.add_metric([name], self._book.upstreams.waiting_calls(name))
        return waiting


class _ByProcess(Collector):
    """The figures of this process and of others, each with the name of its process.

    They are not added up here: the counts of a process that is replaced begin anew, which a sum would not show.
    """

    def __init__(self, own: CollectorRegistry, others: Mapping[int, str | None]) -> None:
        self._own = own
        self._others = others

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for process, found in self._by_process():
            for metric in found:
                family = families.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    labels = {**sample.labels, "process": process}
                    family.samples.append(sample._replace(labels=labels))
        return iter(families.values())

    def _by_process(self) -> Iterator[tuple[str, Iterable[Metric]]]:
        yield "pages", [_up(True), *self._own.collect()]
        for number, text in self._others.items():
            found = () if text is None else text_string_to_metric_families(text)
            yield name_of(number), [_up(text is not None), *found]


def _up(is_up: bool) -> Metric:
    return _gauge(
        "process_up", "Whether a process has told its figures; 0: it hangs, or is not there.", is_up
    )


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(f"rolebook_{name}", help, value=value)


def measure(app: Flask, book: Rolebook) -> None:
    """Count what an application answers."""
    metrics = app.extensions["rolebook-metrics"] = Metrics(book)
    app.after_request(metrics.count_response)


@blueprint.get("/metrics")
def show() -> Response:
    """The figures, in Prometheus' text format."""
    own = registry = current_app.extensions["rolebook-metrics"].registry
    others = siblings().figures()
    if others is not None:
        registry = CollectorRegistry()
        registry.register(_ByProcess(own, others))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_1_0_0)
