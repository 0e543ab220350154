"""A comparison while it runs, as programs follow it: nothing is left out, and what was told is not told again."""

from __future__ import annotations

import gc
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import ref

import pytest
from flask.testing import FlaskClient

from rolebook.wiring import Rolebook
from tests.conftest import ROOT, MakeRolebook, Serve
from tests.fake_upstream import FakeUpstream
from tests.web.api.calls import PREFIX, call
from tests.web.api.test_comparisons import SPEC

ALL = ["1-1-1", "1-2-1", "2-1-1", "2-2-1"]


class Event(NamedTuple):
    name: str
    data: dict[str, Any]
    id: str


@pytest.fixture(autouse=True)
def slow_answers(upstream: FakeUpstream) -> None:
    """One call after the other, so that there is something to follow."""
    upstream.model_rule("ok", "ok?latency_ms=40")
    upstream.model_rule("plain", "ok?latency_ms=40")


def begin(client: FlaskClient, **more: Any) -> str:
    """The address of a new comparison."""
    begun = call(client, "POST", "/comparisons", 201, **{**SPEC, "concurrency": 1, **more})
    return f"/comparisons/{begun['comparison']['id']}"


def follow(client: FlaskClient, path: str, query: str = "", **headers: str) -> Iterator[Event]:
    response = client.get(f"{PREFIX}{path}/events{query}", headers=headers)
    assert (200, "text/event-stream") == (response.status_code, response.mimetype)
    rest = ""
    try:
        for piece in _pieces(response):
            *blocks, rest = (rest + piece.decode()).split("\n\n")
            for block in blocks:
                if lines := dict(re.findall(r"^(id|event|data): (.*)$", block, re.MULTILINE)):
                    yield Event(lines["event"], json.loads(lines["data"]), lines.get("id", ""))
    finally:
        response.close()


def follow_from_the_begin(client: FlaskClient, path: str, upstream: FakeUpstream) -> list[Event]:
    """All that is told of a run whose model `ok` is held, which goes on as soon as somebody follows it."""
    events = follow(client, path)
    first = next(events)
    upstream.let_go("ok")
    return [first, *events]


def _pieces(response: Any) -> Iterator[bytes]:
    yield from response.response


def keys(events: list[Event]) -> list[str]:
    return sorted(event.data["key"] for event in events if event.name == "cell")


def test_each_cell_comes_once_with_its_answers_and_progress_between(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    upstream.hold("ok")
    path = begin(client)

    told = follow_from_the_begin(client, path, upstream)

    assert ALL == keys(told)
    cells = {event.data["key"]: event.data for event in told if event.name == "cell"}
    assert call(client, "GET", f"{path}/cells/2-1-1") == cells["2-1-1"]
    assert "Echo: Why is the sky blue?" == cells["1-1-1"]["turns"][0]["text"]
    assert [False] == [check["has_passed"] for check in cells["1-1-1"]["turns"][0]["checks"]]
    assert "progress" in [event.name for event in told]
    assert [event.name for event in told].index("end") == len(told) - 1
    assert call(client, "GET", f"{path}/progress") == told[-1].data
    assert (4, False) == (told[-1].data["tally"]["complete"], told[-1].data["is_running"])


@pytest.mark.parametrize("way", ["header", "address"])
def test_connection_that_broke_is_taken_up_where_it_was(client: FlaskClient, way: str) -> None:
    path = begin(client)
    first = list(follow(client, path))
    places = [(event.id, keys(first[: number + 1])) for number, event in enumerate(first)]
    assert len({place for place, _ in places if place}) > 3

    for place, known in places:
        if place:
            query, headers = (
                ("", {"Last-Event-ID": place}) if way == "header" else (f"?after={place}", {})
            )
            rest = list(follow(client, path, query, **headers))
            assert ALL == sorted([*known, *keys(rest)])
            assert "end" == rest[-1].name


def test_connection_that_breaks_again_and_again_leaves_nothing_out(client: FlaskClient) -> None:
    """While it runs, after each step."""
    path, place = begin(client, repeats=3), ""
    told: list[Event] = []
    connections = 0
    while not told or told[-1].name != "end":
        connection = follow(client, path, f"?after={place}")
        for event in connection:
            told.append(event)
            if event.id not in ("", place):
                place = event.id
                break
        connection.close()  # type: ignore[attr-defined]
        connections += 1
    assert connections > 3
    every = [f"{v}-{n}-{r}" for v in (1, 2) for n in (1, 2) for r in (1, 2, 3)]
    assert every == keys(told)


@pytest.mark.parametrize("place", ["nonsense", ".", "01m8mpt7fcg1b4dsd0.3", "é.1", "x" * 5000])
def test_whoever_comes_from_a_place_that_nobody_knows_is_told_of_all(
    client: FlaskClient, place: str
) -> None:
    path = begin(client)
    list(follow(client, path))
    assert ALL == keys(list(follow(client, path, f"?after={place}")))


def test_where_nothing_runs_the_end_comes_at_once(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    path = begin(client, start=False)
    assert ["end"] == [event.name for event in follow(client, path)]
    upstream.model_rule("plain", "500?retry_after_ms=1")
    call(client, "POST", f"{path}/start")
    list(follow(client, path))

    told = list(follow(client, path))

    assert ALL == keys(told)
    assert {"failed": 2, "complete": 2}.items() <= told[-1].data["tally"].items()


def test_cell_that_is_tried_again_comes_again(client: FlaskClient, upstream: FakeUpstream) -> None:
    upstream.model_rule("plain", "500?retry_after_ms=1")
    path = begin(client)
    end = list(follow(client, path))[-1]
    upstream.model_rule("plain", "ok")
    call(client, "POST", f"{path}/retry", cell="2-1-1")

    told = list(follow(client, path, f"?after={end.id}"))

    statuses = [e.data["status"] for e in told if e.name == "cell" and e.data["key"] == "2-1-1"]
    assert "complete" == statuses[-1]
    assert 1 == told[-1].data["tally"]["failed"]


def test_run_of_another_process_is_followed_through_the_log(
    client: FlaskClient, make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    path = begin(client, start=False)
    comparison = other.comparisons.get_comparison(path.rpartition("/")[2])
    upstream.hold("ok")
    other.compare.start(comparison)

    told = follow_from_the_begin(client, path, upstream)

    assert ALL == keys(told)
    assert "progress" in [event.name for event in told]
    assert 4 == told[-1].data["tally"]["complete"]


def test_reader_who_leaves_stops_nothing(client: FlaskClient, rolebook: Rolebook) -> None:
    path = begin(client)
    response = client.get(f"{PREFIX}{path}/events")
    next(_pieces(response))
    response.close()

    run = rolebook.compare.run_of(path.rpartition("/")[2])
    assert run is not None
    assert run.wait(10)
    assert 4 == run.progress.tally.complete


def test_document_names_the_events(client: FlaskClient) -> None:
    paths = call(client, "GET", "/openapi.json")["paths"]
    operation = paths[f"{PREFIX}/comparisons/{{comparison_id}}/events"]["get"]
    (kind,) = operation["responses"]["200"]["content"].items()
    assert "text/event-stream" == kind[0]
    assert ["cell", "progress", "end"] == kind[1]["schema"]["properties"]["event"]["enum"]


def test_recipe_of_the_documentation_runs(
    make_rolebook: MakeRolebook, upstream: FakeUpstream, serve: Serve
) -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    recipe = page.partition("### Following a comparison")[2].split("```")[1].removeprefix("sh\n")
    book = make_rolebook(
        {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"},
        personas=str(ROOT / "personas"),
        templates=str(ROOT / "templates"),
    )
    script = recipe.replace("http://127.0.0.1:8000", serve(book).url)

    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)

    assert [
        "1-1-1 Teacher: Echo: Why is the sky blue?",
        "1-2-1 Teacher: Echo: What is rain?",
        "2-1-1 Socratic teacher: Echo: Why is the sky blue?",
        "2-2-1 Socratic teacher: Echo: What is rain?",
    ] == sorted(done.stdout.splitlines()), done.stderr


def test_a_run_of_long_ago_takes_no_memory_and_is_told_from_the_log(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok")
    upstream.model_rule("plain", "ok")
    first = begin(client)
    place = list(follow(client, first))[-1].id
    run = ref(rolebook.compare.run_of(first.rpartition("/")[2]))
    assert [] == [
        event for event in follow(client, first, f"?after={place}") if event.name == "cell"
    ]
    for _ in range(17):
        assert run()
        assert "end" == list(follow(client, begin(client)))[-1].name
        gc.collect()
    assert run() is None
    told = list(follow(client, first, f"?after={place}"))
    assert ALL == sorted(event.data["key"] for event in told if event.name == "cell")
    assert 4 == told[-1].data["tally"]["complete"]
