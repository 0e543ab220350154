"""A comparison as plain pages and as a stream: its grid, its cells, and what can be done with a run."""

from __future__ import annotations

import cProfile
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from rolebook.core.comparison import Cell, CellKey, Comparison, Variant
from rolebook.core.comparison_spec import parse_spec
from rolebook.core.completion import Choice
from rolebook.core.session import Session, Turn, TurnStatus, new_id
from rolebook.report.money import money
from rolebook.web.app import create_app
from rolebook.web.comparison_cells import Layout, Part, layout_of, page_count, rows_per_page
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.judging import JUDGE_MODEL, add_judge, verdict
from tests.web.answering import answer_all
from tests.web.checks import assert_error

HTML = {"Accept": "text/html"}
JSON = {"Accept": "application/json"}
TWO = ["teacher", "plain"]
SLOW = "ok?tokens=400&delay_ms=20"


def plan(rolebook: Rolebook, **spec: Any) -> Comparison:
    """A comparison that is recorded and not begun: by default of two variants and two inputs."""
    data = {"variants": TWO, "inputs": ["Why is the sky blue?", "What is light?"], **spec}
    return rolebook.compare.create(rolebook.compare.plan(parse_spec(data)))


def fill(rolebook: Rolebook, **spec: Any) -> Comparison:
    """A comparison whose cells are all done."""
    comparison = plan(rolebook, **spec)
    assert rolebook.compare.start(comparison).wait(10)
    return comparison


def show(client: FlaskClient, comparison: Comparison, query: str = "", path: str = "") -> str:
    response = client.get(f"/comparisons/{comparison.id}{path}{query}", headers=HTML)
    assert response.status_code == 200, response.text
    return response.text


def act(client: FlaskClient, comparison: Comparison, action: str, **fields: str) -> None:
    url = f"/comparisons/{comparison.id}/{action}"
    response = client.post(url, data=fields, headers=HTML)
    assert response.status_code == 303, response.text
    assert response.location == f"/comparisons/{comparison.id}"


def test_many_variants_without_a_question_make_no_heading_of_all_their_names(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    names = [{"persona": "plain", "name": f"Number {n}"} for n in range(1, 9)]
    heading = re.search(r"<h1[^>]*>([^<]+)<", show(client, plan(rolebook, variants=names)))
    assert heading
    assert "Number 1 · Number 2 · Number 3 · and 5 more" == heading[1]
    few = re.search(r"<h1[^>]*>([^<]+)<", show(client, plan(rolebook, variants=names[:4])))
    assert few
    assert "Number 1 · Number 2 · Number 3 · Number 4" == few[1]


def test_how_it_stands_is_told_in_short_and_changes_with_what_can_be_done(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    def stands() -> str:
        told = client.get(f"/comparisons/{comparison.id}/state").json
        assert told
        assert f'data-stands="{told["stands"]}"' in show(client, comparison)
        return str(told["stands"])

    comparison = plan(rolebook)
    seen = [stands()]
    run = rolebook.compare.start(comparison)
    assert run.wait(10)
    seen.append(stands())
    rolebook.comparisons.delete_comparisons([comparison.id])
    seen.append(stands())
    assert len(set(seen)) == 3


def test_the_judge_is_asked_again_about_what_it_could_not_tell(
    library_dir: Path, rolebook: Rolebook, client: FlaskClient, upstream: FakeUpstream
) -> None:
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, f"ok?text=Perhaps,{verdict('true')}")
    comparison = fill(rolebook, variants=["plain"], inputs=["Hi"], checks=[{"rubric": "Greets."}])
    page = show(client, comparison)
    assert "Ask the judge again" in page
    assert ["act-retry"] == main_buttons(page)
    act(client, comparison, "retry")
    run = rolebook.compare.run_of(comparison.id)
    assert run
    assert run.wait(10)
    assert ["ok", JUDGE_MODEL, JUDGE_MODEL] == [r.body["model"] for r in upstream.requests]
    assert "Ask the judge again" not in show(client, comparison)


def main_buttons(html: str) -> list[str]:
    return re.findall(r'class="(?:button )?primary" id="([a-z-]+)"', html)


def test_one_main_button_says_what_is_to_be_done_next(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(rolebook, inputs=["Hi"], concurrency=1)
    assert ["act-start"] == main_buttons(show(client, comparison))
    upstream.model_rule("ok", f"400,{SLOW}")
    act(client, comparison, "start")
    upstream.wait_for(lambda: rolebook.comparisons.tally(comparison).failed == 1)
    assert [] == main_buttons(show(client, comparison))
    act(client, comparison, "stop")
    assert ["act-resume"] == main_buttons(show(client, comparison))
    assert '<button class="primary" aria-label="Try again: Teacher, input 1">' in show(
        client, comparison, path="/cells/1-1-1"
    )
    upstream.model_rule("ok", "ok")
    for action, main in (("resume", "act-retry"), ("retry", "vote-blind")):
        act(client, comparison, action)
        run = rolebook.compare.run_of(comparison.id)
        assert run is None or run.wait(10)
        assert [main] == main_buttons(show(client, comparison))


def test_an_answer_is_shown_while_it_is_judged(
    library_dir: Path, rolebook: Rolebook, client: FlaskClient, upstream: FakeUpstream
) -> None:
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, verdict("true"))
    upstream.hold("ok", after=1)
    upstream.hold(JUDGE_MODEL)
    comparison = plan(rolebook, variants=["plain"], inputs=["Hi"], checks=[{"rubric": "Greets."}])
    run = rolebook.compare.start(comparison)
    early = (data for name, data in watch(client, comparison) if name == "cell")
    # Before its call leaves, it waits; whoever looks may be early enough to see that.
    assert any("Being answered…" in data["parts"][0] for data in early)
    upstream.let_go("ok")
    judged = next(data for data in early if "Being answered" not in data["parts"][0])
    late = next(data for name, data in watch(client, comparison) if name == "cell")
    assert judged == late
    assert "r" == judged["mark"]
    page = boxes(show(client, comparison))["1-1-1-1"]
    for html in (judged["parts"][0], page, show(client, comparison, path="/cells/1-1-1")):
        assert "Echo: Hi" in html
        assert "Being judged…" in html
        assert "Being answered" not in html
    upstream.let_go(JUDGE_MODEL)
    said = [data["parts"][0] for data in early]
    assert "1 of 1" in said[-1]
    assert "Being judged" not in said[-1]
    assert run.wait(10)


def test_an_answer_of_a_stand_in_says_so_and_so_does_the_result(
    make_rolebook: MakeRolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    (library_dir / "rolebook.yaml").write_text(
        f"upstreams:\n  work: {{base_url: {upstream.base_url}, attempts: 1,"
        " fallbacks: [{upstream: spare, model: ok}]}\n"
        f"  spare: {{base_url: {upstream.base_url}}}\n"
    )
    upstream.model_rule("large", "401")
    rolebook = make_rolebook()
    large = {"persona": "plain", "name": "Large", "upstream": "work", "model": "large"}
    comparison = fill(rolebook, variants=[large], inputs=["Hi"])
    client = create_app(rolebook).test_client()
    for path in ("", "/cells/1-1-1"):
        page = show(client, comparison, path=path)
        assert "spare answered with ok, because work refused its keys." in page
    told = "ok of spare stood in for large of work: Large 1/1."
    assert told in show(client, comparison, path="/evidence")


@pytest.mark.parametrize("action", ["resume", "retry"])
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_answers_that_are_not_checked_yet_are_shown_and_gone_on_with(
    library_dir: Path,
    rolebook: Rolebook,
    client: FlaskClient,
    upstream: FakeUpstream,
    action: str,
    prefix: str,
) -> None:
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, verdict("true"))
    comparison = plan(rolebook, checks=[{"rubric": "Greets."}, {"max_words": 9}])
    # As a process leaves them that is killed before it checks them.
    answer_all(rolebook, comparison)
    page = show(client, comparison)
    assert "8 checks not made yet" in page
    assert 'id="act-resume"' in page
    # What comes next stands out, and that is not to vote.
    assert '"button quiet" id="vote-blind"' in page
    assert "8 checks not made yet" in client.get("/comparisons").text
    assert client.post(f"{prefix}/comparisons/{comparison.id}/{action}", json={}).status_code < 400
    run = rolebook.compare.run_of(comparison.id)
    assert run
    assert run.wait(10)
    assert [JUDGE_MODEL] * 4 == [request.body["model"] for request in upstream.requests]
    page = show(client, comparison)
    assert "not made yet" not in page
    assert '"button primary" id="vote-blind"' in page
    assert "act-" not in page


def test_while_it_runs_checks_are_on_their_way_wherever_it_is_told(
    library_dir: Path,
    rolebook: Rolebook,
    make_rolebook: MakeRolebook,
    client: FlaskClient,
    upstream: FakeUpstream,
) -> None:
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, SLOW)
    comparison = plan(rolebook, checks=[{"rubric": "Greets."}])
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})

    def unchecked() -> list[int]:
        """As the pages, and the API, tell it of one comparison and in the list."""
        found = []
        for shown in (client, create_app(other).test_client()):
            for path in (f"/comparisons/{comparison.id}", "/comparisons"):
                told = re.search(r"(\d+) checks? not made yet", shown.get(path, headers=HTML).text)
                found.append(int(told[1]) if told else 0)
            api = shown.get(f"/api/v1/comparisons/{comparison.id}/progress").json
            listed = shown.get("/api/v1/comparisons").json
            assert api
            assert listed
            found += [line["tally"]["unchecked"] for line in (api, *listed["comparisons"])]
        return found

    rolebook.compare.start(comparison)
    upstream.wait_for(
        lambda: JUDGE_MODEL in [request.body["model"] for request in upstream.requests]
    )
    assert [0] * 8 == unchecked()
    rolebook.compare.stop(comparison.id)
    complete = rolebook.comparisons.tally(comparison).complete
    assert complete > 0
    assert [complete] * 8 == unchecked()


def boxes(html: str) -> dict[str, str]:
    """The boxes of the grid by their ids, each with its status in front."""
    found = re.findall(r'<td class="box (\w+)" id="answer-([\d-]+)">(.*?)</td>', html, re.DOTALL)
    return {name: f"{status} {body}" for status, name, body in found}


def states(rolebook: Rolebook, comparison: Comparison) -> dict[str, str]:
    return {str(cell.key): cell.status.value for cell in rolebook.comparisons.cells(comparison)}


def events(pieces: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream as they come, comments left out."""
    rest = ""
    for piece in pieces:
        *blocks, rest = (rest + piece.decode()).split("\n\n")
        for block in blocks:
            if block.startswith("event: "):
                name, data = block.split("\n")
                yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def watch(
    client: FlaskClient, comparison: Comparison, query: str = "inputs=0-49&repeat=0"
) -> Iterator[tuple[str, dict[str, Any]]]:
    response = client.get(f"/comparisons/{comparison.id}/events?{query}")
    assert response.mimetype == "text/event-stream"
    return events(iter(response.response))  # type: ignore[arg-type]


def test_the_grid_has_a_row_for_each_input_and_a_column_for_each_variant(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    comparison = fill(
        rolebook, question="Who is clearer?", checks=[{"contains": "Echo"}, {"max_words": 1}]
    )
    html = show(client, comparison)
    assert "<h1>Who is clearer?</h1>" in html
    assert re.search(r'id="column-1".*Teacher.*id="column-2".*Plain assistant', html, re.DOTALL)
    assert list(boxes(html)) == ["1-1-1-1", "2-1-1-1", "1-2-1-1", "2-2-1-1"]
    box = boxes(html)["1-2-1-1"]
    assert box.startswith("complete")
    assert "Echo: What is light?" in box
    assert "tokens" in box
    assert "✗" in box
    assert "1 of 2" in box
    assert f"/comparisons/{comparison.id}/cells/1-2-1" in box
    assert f"/sessions/{rolebook.comparisons.cells(comparison)[2].session_id}" in box
    assert "4 of 4" in html


def test_a_check_that_failed_says_in_the_grid_which_one_it_is(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    """Two may have the same words for it, and a judge's reason has none of its rubric's."""
    checks = [{"max_words": 1, "name": "one word"}, {"max_words": 1, "name": "short <b>"}]
    comparison = fill(rolebook, variants=["plain"], inputs=["Hi"], checks=checks)
    (box,) = boxes(show(client, comparison)).values()
    said = "</strong> The number of words is 2; at most 1 is allowed."
    assert [1, 1] == [box.count(name + said) for name in ("one word", "short &lt;b&gt;")]


def test_a_comparison_that_is_not_begun_waits_and_can_be_started(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(rolebook)
    html = show(client, comparison)
    assert all(box.startswith("waiting") for box in boxes(html).values())
    assert "0 of 4" in html
    assert client.get(f"/comparisons/{comparison.id}/start", headers=HTML).status_code == 303
    assert upstream.requests == []
    act(client, comparison, "start")
    run = rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    assert set(states(rolebook, comparison).values()) == {"complete"}
    html = show(client, comparison)
    assert 'id="act-start"' not in html
    assert 'id="act-stop"' not in html


def test_recorded_answers_alone_are_no_beginning(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    session = rolebook.chat.start_session(Session(id=new_id(), persona_id="plain", revision=""))
    client.post(f"/sessions/{session.id}/turns", data={"input": "Why?"}, headers=HTML)
    upstream.model_rule("ok", SLOW)
    comparison = plan(rolebook, inputs=[{"session": session.id}], recorded=True)
    html = show(client, comparison)
    assert "1 of 3" in html
    assert re.findall('id="act-([a-z]+)"', html) == ["start"]
    act(client, comparison, "start")
    upstream.wait_for(lambda: len(upstream.requests) > 1)
    act(client, comparison, "stop")
    assert re.findall('id="act-([a-z]+)"', show(client, comparison)) == ["resume"]


def test_what_a_comparison_repeats_is_a_link_only_where_it_is_in_the_log(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    first = plan(rolebook)
    again = rolebook.compare.repeat(first)
    assert f'<a href="/comparisons/{first.id}">repeats another comparison</a>' in show(
        client, again
    )
    elsewhere = rolebook.compare.repeat(replace(first, id=new_id()))
    html = show(client, elsewhere)
    assert "repeats a comparison that is not in this log" in html
    assert f"/comparisons/{elsewhere.repeats_of}" not in html


def test_an_answer_out_of_the_log_says_so(client: FlaskClient, rolebook: Rolebook) -> None:
    first = fill(rolebook)
    again = rolebook.compare.repeat(first)
    act(client, again, "start", reuse="1")
    run = rolebook.compare.run_of(again.id)
    assert run is not None
    assert run.wait(10)
    html = show(client, again)
    assert all("from the log" in box for box in boxes(html).values())
    assert f'href="/comparisons/{first.id}"' in html


def test_its_question_can_be_put_otherwise(client: FlaskClient, rolebook: Rolebook) -> None:
    comparison = plan(rolebook)
    assert "Teacher · Plain assistant</h1>" in show(client, comparison)
    act(client, comparison, "question", question="  Who <b>is</b>\n clearer? ")
    assert "Who &lt;b&gt;is&lt;/b&gt; clearer?</h1>" in show(client, comparison)


def test_stop_and_resume(client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream) -> None:
    upstream.model_rule("ok", SLOW)
    comparison = plan(rolebook, concurrency=2)
    act(client, comparison, "start")
    upstream.wait_for(lambda: len(upstream.requests) == 2)
    assert 'id="act-stop"' in show(client, comparison)
    assert_error(client.post(f"/comparisons/{comparison.id}/resume", headers=JSON), 409, "conflict")
    act(client, comparison, "stop")
    assert set(states(rolebook, comparison).values()) == {"stopped"}
    html = show(client, comparison)
    assert 'id="act-resume"' in html
    assert boxes(html)["1-1-1-1"].startswith("stopped")
    upstream.model_rule("ok", "ok")
    act(client, comparison, "resume")
    run = rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    assert list(states(rolebook, comparison).values()) == ["complete"] * 4


def test_why_a_run_broke_off_is_told_beside_what_goes_on(
    client: FlaskClient, rolebook: Rolebook, make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "401")
    comparison = plan(rolebook, inputs=list("abcdefghij"), concurrency=1)
    act(client, comparison, "start")
    run = rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    # Another process knows it from the log.
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    for shown in (client, create_app(other).test_client()):
        html = show(shown, comparison)
        told = re.search(r'<div class="banner bad break">(.*)</div>', html)
        assert told
        assert "Broken off <time" in told[1]
        assert "gives no answers: 5 calls in a row failed." in told[1]
        assert 'id="act-resume"' in html
        assert "broken off" in shown.get("/comparisons").text
    chinese = client.get(
        f"/comparisons/{comparison.id}", headers=HTML | {"Accept-Language": "zh"}
    ).text
    assert "没有给出回答：连续 5 次调用失败" in chinese
    upstream.model_rule("ok", "ok")
    act(client, comparison, "retry")
    run = rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    assert "gives no answers" not in show(client, comparison)


def test_cell_that_is_ready_waits_until_it_is_called(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", SLOW)
    comparison = plan(rolebook, variants=["plain"], inputs=["a", "b", "c"], concurrency=1)
    act(client, comparison, "start")
    upstream.wait_for(lambda: rolebook.comparisons.tally(comparison).running == 2)
    statuses = [shown.split()[0] for shown in boxes(show(client, comparison)).values()]
    assert ["running", "waiting", "waiting"] == statuses
    assert "<i class=r></i><i class=w></i><i class=w></i>" in show(
        client, comparison, "?view=matrix"
    )
    assert "Waiting" in show(client, comparison, path="/cells/1-2-1")
    act(client, comparison, "stop")
    statuses = [shown.split()[0] for shown in boxes(show(client, comparison)).values()]
    assert ["stopped", "stopped", "waiting"] == statuses


def test_what_all_of_a_run_will_cost_is_told_once_enough_tell_it(
    make_rolebook: MakeRolebook, library_dir: Path, upstream: FakeUpstream
) -> None:
    (library_dir / "rolebook.yaml").write_text(
        "prices: {ok: {input: 100000, output: 0}}\n", "utf-8"
    )
    rolebook = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    client = create_app(rolebook).test_client()
    upstream.model_rule("ok", f"ok?text=Yes,ok?text=Yes,ok?text=Yes,{SLOW}")
    inputs = [f"Number {number}" for number in range(8)]
    comparison = plan(rolebook, variants=["plain"], inputs=inputs, concurrency=1)
    run = rolebook.compare.start(comparison)
    upstream.wait_for(lambda: run.progress.tally.complete == 3)
    cost = run.progress.tally.cost
    page = re.sub(r"<.*?>", " ", show(client, comparison))
    assert f"{money(cost)} of ≈ {money(8 / 3 * cost)}" in page
    path = f"/api/v1/comparisons/{comparison.id}/progress"
    assert client.get(path).get_json()["cost_left"] == pytest.approx(5 / 3 * cost)
    act(client, comparison, "stop")
    page = re.sub(r"<.*?>", " ", show(client, comparison))
    assert "of ≈" not in page
    assert client.get(path).get_json()["cost_left"] is None


def test_failed_cell_that_is_ready_to_be_tried_again_counts_as_waiting(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "400")
    comparison = plan(rolebook, variants=["plain"], inputs=list("abcd"), concurrency=1)
    run = rolebook.compare.start(comparison)
    assert run.wait(10)
    upstream.model_rule("ok", SLOW)
    act(client, comparison, "retry")

    def is_one_ready() -> bool:
        tally = rolebook.compare.progress_of(comparison).tally
        return (1, 1, 2) == (tally.running, tally.waiting, tally.failed)

    upstream.wait_for(is_one_ready)
    marks = "<i class=r></i><i class=w></i><i class=f></i><i class=f></i>"
    assert marks in show(client, comparison, "?view=matrix")
    act(client, comparison, "stop")
    tally = rolebook.compare.progress_of(comparison).tally
    assert (0, 0, 2, 2) == (tally.running, tally.waiting, tally.stopped, tally.failed)
    assert tally == rolebook.comparisons.tally(comparison)


def test_whoever_watches_sees_a_failed_cell_wait_before_it_is_asked_again(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "400")
    comparison = plan(rolebook, variants=["plain"], inputs=list("abc"), concurrency=1)
    assert rolebook.compare.start(comparison).wait(10)
    # The third gets ready when the first has ended: by then somebody watches.
    upstream.model_rule("ok", "ok?latency_ms=3000,ok")
    act(client, comparison, "retry")
    told = [data for name, data in watch(client, comparison, "marks=1") if name == "cell"]
    assert ["w", "r", "p"] == [data["mark"] for data in told if data["cell"] == "1-3-1"]


def test_faults_stay_in_their_cells(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    models = ["ok", "hang", "rst-mid?text=One two three four", "ok", "ok", "ok"]
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "model": model} for model in models],
        inputs=["Why?"],
        concurrency=6,
    )
    begun = time.monotonic()
    act(client, comparison, "start")
    upstream.wait_for(
        lambda: list(states(rolebook, comparison).values()).count("complete") == 4, 5.0
    )
    # What has an end in the log may be on its way for a moment longer to those who watch the run.
    upstream.wait_for(lambda: boxes(show(client, comparison))["3-1-1-1"].startswith("failed"), 5.0)
    assert time.monotonic() - begun < 5
    html = show(client, comparison)
    shown = boxes(html)
    assert shown["2-1-1-1"].startswith("running")
    assert shown["3-1-1-1"].startswith("failed")
    assert "One two" in shown["3-1-1-1"]
    assert "broke before the answer was finished" in shown["3-1-1-1"]
    assert "Try again" in shown["3-1-1-1"]
    act(client, comparison, "stop")
    assert boxes(show(client, comparison))["2-1-1-1"].startswith("stopped")


def test_one_cell_is_tried_again_or_all_that_failed(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "401,401,401,401,ok")
    comparison = fill(rolebook)
    assert set(states(rolebook, comparison).values()) == {"failed"}
    act(client, comparison, "retry", cell="2-1-1")
    run = rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    assert states(rolebook, comparison)["2-1-1"] == "complete"
    assert list(states(rolebook, comparison).values()).count("failed") == 3
    act(client, comparison, "retry")
    run = rolebook.compare.run_of(comparison.id)
    assert run is not None
    assert run.wait(10)
    assert set(states(rolebook, comparison).values()) == {"complete"}


@pytest.mark.parametrize("cell", ["9-1-1", "1-1", "1-1-1-1", "0-1-1", "x", "1-1-²", "1-1-2"])
def test_a_cell_that_is_none_is_not_found(
    client: FlaskClient, rolebook: Rolebook, cell: str
) -> None:
    comparison = plan(rolebook)
    response = client.get(f"/comparisons/{comparison.id}/cells/{cell}", headers=JSON)
    assert cell in assert_error(response, 404, "not_found")
    response = client.post(f"/comparisons/{comparison.id}/retry", data={"cell": cell}, headers=JSON)
    assert_error(response, 404, "not_found")


def test_a_run_is_told_as_it_goes(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=One two three four five six seven eight&delay_ms=60")
    comparison = plan(rolebook, inputs=["Why?"], checks=[{"max_words": 20}])
    rolebook.compare.start(comparison)
    told = list(watch(client, comparison))
    assert told[-1] == ("end", {})
    cells = [data for name, data in told if name == "cell"]
    assert {"1-1-1", "2-1-1"} == {data["cell"] for data in cells}
    last = {data["cell"]: data for data in cells}["2-1-1"]
    assert last["mark"] == "p"
    assert "One two three four five six seven eight" in last["parts"][0]
    assert "1 of 1" in last["parts"][0]
    words = [data for name, data in told if name == "delta" and data["id"] == "answer-2-1-1-1"]
    assert 1 < len(words) < 8
    assert "two three" in "".join(data["text"] for data in words)
    progress = [data["html"] for name, data in told if name == "progress"]
    assert "2 of 2" in progress[-1]
    assert list(watch(client, comparison))[-1][0] == "end"


def test_whoever_joins_later_gets_what_has_arrived(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=Already here,ok?text=Now this comes&delay_ms=300")
    comparison = plan(rolebook, variants=["plain"], concurrency=1)
    run = rolebook.compare.start(comparison)
    upstream.wait_for(lambda: any(live.text for live in run.live_texts().values()), 5.0)
    upstream.wait_for(lambda: CellKey(0, 1, 0) in run.live_texts(), 5.0)
    told = watch(client, comparison)
    first = [next(told) for _ in range(2)]
    parts = {data["cell"]: data["parts"][0] for _, data in first}
    assert "Already here" in parts["1-1-1"]
    assert "being answered" in parts["1-2-1"].lower()
    assert list(told)[-1][0] == "end"


def test_the_run_goes_on_when_everybody_leaves(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?delay_ms=50")
    comparison = plan(rolebook)
    run = rolebook.compare.start(comparison)
    response = client.get(f"/comparisons/{comparison.id}/events?inputs=0-1")
    next(iter(response.response))
    response.close()
    assert run.wait(10)
    assert run.progress.tally.complete == 4


def test_other_cells_are_told_in_short(client: FlaskClient, rolebook: Rolebook) -> None:
    comparison = plan(rolebook, repeats=2)
    rolebook.compare.start(comparison)
    cells = [
        data for name, data in watch(client, comparison, "inputs=1-1&repeat=1") if name == "cell"
    ]
    with_parts = {data["cell"] for data in cells if "parts" in data}
    assert with_parts == {"1-2-2", "2-2-2"}
    assert len({data["cell"] for data in cells}) > 2


@pytest.mark.parametrize("inputs", ["", "x", "5", "-", "0-999999999", "7-9", "²-3", "1-0"])
def test_a_stream_for_inputs_that_are_none_only_ends(
    client: FlaskClient, rolebook: Rolebook, inputs: str
) -> None:
    comparison = plan(rolebook)
    told = list(watch(client, comparison, f"inputs={inputs}&repeat=x"))
    assert [name for name, _ in told] == ["progress", "end"]


def test_the_run_of_another_process_is_followed_in_the_log(
    client: FlaskClient,
    rolebook: Rolebook,
    make_rolebook: MakeRolebook,
    upstream: FakeUpstream,
) -> None:
    upstream.model_rule("ok", "ok?delay_ms=150")
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    comparison = plan(other)
    assert other.compare.start(comparison, keys=[CellKey(0, 0, 0)]).wait(10)
    other.compare.start(comparison)
    html = show(client, comparison)
    assert 'data-running="elsewhere"' in html
    assert 'id="act-stop"' not in html
    response = client.post(f"/comparisons/{comparison.id}/stop", headers=JSON)
    assert "Stop it there" in assert_error(response, 409, "conflict")
    told = list(watch(client, comparison, "inputs=0-49&repeat=0&marks=1"))
    assert told[-1][0] == "end"
    last = {data["cell"]: data["mark"] for name, data in told if name == "cell"}
    assert last == dict.fromkeys(["1-1-1", "2-1-1", "1-2-1", "2-2-1"], "p")
    assert 1 == sum(data["cell"] == "1-1-1" for name, data in told if name == "cell")
    strips = [data["strips"] for name, data in told if name == "marks"]
    assert ["pp", "pp"] == strips[-1]
    assert strips == [strip for strip, _same in groupby(strips)]


def test_every_turn_of_a_script_is_a_row_of_its_own(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    comparison = fill(rolebook, inputs=[{"turns": ["Why?", "And then?"], "name": "Two steps"}])
    html = show(client, comparison)
    assert list(boxes(html)) == ["1-1-1-1", "2-1-1-1", "1-1-1-2", "2-1-1-2"]
    assert "Echo: And then?" in boxes(html)["2-1-1-2"]


def test_a_script_that_failed_says_which_turns_were_not_reached(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok,401")
    comparison = fill(rolebook, variants=["plain"], inputs=[{"turns": ["A?", "B?", "C?"]}])
    found = [box.split()[0] for box in boxes(show(client, comparison)).values()]
    assert found == ["complete", "failed", "unreached"]


def test_drift_is_told_where_answers_were_recorded(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=Light of short waves is scattered more")
    session = rolebook.chat.start_session(Session(id=new_id(), persona_id="plain", revision=""))
    client.post(f"/sessions/{session.id}/turns", data={"input": "Why?"}, headers=HTML)
    upstream.model_rule("ok", "ok?text=Light of long waves is scattered less")
    comparison = fill(rolebook, inputs=[{"session": session.id, "history": "free"}], recorded=True)
    shown = boxes(show(client, comparison))
    assert "recorded" in shown["1-1-1-1"]
    assert "drift" not in shown["1-1-1-1"]
    found = re.search(r"drift (\d+) %", shown["2-1-1-1"])
    assert found is not None
    assert 10 < int(found[1]) < 60


def test_only_what_differs_between_the_variants_is_told(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    variants = [
        {"persona": "teacher", "sampling": {"temperature": 0.2}, "name": "Cool"},
        {"persona": "teacher", "variables": {"level": "expert"}, "name": "Expert"},
        {
            "persona": "teacher",
            "changes": {
                "system": "You are an impatient teacher of {{ subject }} for a {{ level }}."
            },
            "name": "Impatient",
        },
    ]
    html = show(client, plan(rolebook, variants=variants))
    found, differing = told_apart(html)
    assert found["temperature"] == ["0.2", "0.7", "0.7"]
    assert found["level"] == ["beginner", "expert", "beginner"]
    assert set(found) == {"temperature", "level", "Revision"}
    assert "<del>a patient</del><ins>an impatient</ins>" in differing
    assert "for a <del>beginner</del><ins>expert</ins>." in differing


def told_apart(html: str) -> tuple[dict[str, list[str]], str]:
    """The settings that a page tells to differ, each with its values, and all of the page that says so."""
    differing = html[html.index('id="differences"') :]
    differing = differing[: differing.index("</details>")]
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', differing, re.DOTALL)
    return {
        re.sub("<.*?>", "", name): re.sub("<.*?>", " ", values).split() for name, values in rows
    }, differing


def test_a_variable_is_told_that_a_variant_has_whatever_an_input_says(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    variants = ["plain", {"persona": "teacher", "variables": {"level": "expert"}}]
    inputs = [
        {"input": "Hi"},
        {"input": "How?", "variables": {"level": "beginner", "subject": "art"}},
    ]
    found, differing = told_apart(show(client, plan(rolebook, variants=variants, inputs=inputs)))
    assert ["–", "expert"] == found["level"]
    assert "subject" not in found
    # The first input says nothing of the subject, but the second will have another prompt.
    assert "System prompts as they are sent with one of the inputs." in differing


def test_what_is_said_before_an_answer_differs_too(client: FlaskClient, rolebook: Rolebook) -> None:
    variants = [
        {"persona": "teacher", "name": "A"},
        {"persona": "teacher", "name": "B", "changes": {"greeting": "Welcome!", "language": "zh"}},
    ]
    found, differing = told_apart(show(client, plan(rolebook, variants=variants)))
    assert found["Greeting"][-1] == "Welcome!"
    assert found["Language"] == ["en", "zh"]
    assert "System prompt" not in differing


def test_an_edit_of_a_template_is_told_by_what_is_sent(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    before = rolebook.library.get_persona("teacher").revision
    fill(rolebook, variants=["teacher"])
    path = rolebook.library.templates_dir / "chat.jinja"
    text = path.read_text("utf-8")
    path.write_text(text.replace("{{ system }}", "{{ system }} Be brief.", 1), "utf-8")
    variants = [{"persona": "teacher", "revision": before.id, "name": "Before"}, "teacher"]
    _, differing = told_apart(show(client, plan(rolebook, variants=variants)))
    assert "System prompt of Teacher, against Before" in differing
    assert "Prompt template of Teacher, against Before" in differing
    assert 2 == len(re.findall(r"<ins>\s*Be brief\.?\s*</ins>", differing))


def test_recorded_answers_are_told_apart_by_how_they_were_asked_for(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    chosen = Session(
        id=new_id(),
        persona_id="teacher",
        revision="",
        model="ok?text=Clear",
        parameters={"temperature": 0.33},
        variables={"level": "expert"},
    )
    session = rolebook.chat.start_session(chosen)
    client.post(f"/sessions/{session.id}/turns", data={"input": "Why?"}, headers=HTML)
    spec = {"variants": ["plain"], "inputs": [{"session": session.id}], "recorded": True}
    planned = client.get(f"/comparisons/new?session={session.id}&variant=plain").text
    comparison = fill(rolebook, **spec)
    found, differing = told_apart(show(client, comparison))
    assert found["Model"] == ["ok?text=Clear", "ok"]
    assert found["temperature"] == ["0.33", "–"]
    assert found["Persona"] == ["Teacher", "Plain", "assistant"]
    assert "for a expert" in re.sub("<.*?>", "", differing)
    for said in ("ok?text=Clear", "0.33", "for a expert"):
        assert said in re.sub("<.*?>", "", planned[planned.index('id="differing"') :])
    beside = show(client, comparison, "?with=2-1-1", "/cells/1-1-1")
    assert found["Model"] == told_apart(beside)[0]["Model"]
    assert "for a expert" in re.sub("<.*?>", "", told_apart(beside)[1])


def test_any_two_answers_show_what_was_sent_for_them(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    variants = [
        "plain",
        "teacher",
        {"persona": "teacher", "name": "C", "changes": {"system": "Be."}},
    ]
    comparison = fill(rolebook, variants=variants, inputs=["Why?"])
    found, differing = told_apart(show(client, comparison, "?with=3-1-1", "/cells/2-1-1"))
    assert len(set(found["Revision"])) == 2
    assert "–" not in found["Revision"]
    assert "You are a patient teacher" in differing
    assert "Be." in differing
    found, _ = told_apart(show(client, comparison, "?with=2-1-1", "/cells/1-1-1"))
    assert "Revision" not in found


def test_a_cells_page_tells_it_whole_beside_another(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("clear", "ok?text=The sky is blue because of air.")
    upstream.model_rule("dim", "ok?text=The sky is dark because of night.")
    comparison = fill(
        rolebook,
        variants=[
            {"persona": "plain", "model": "clear"},
            {"persona": "plain", "model": "dim", "name": "Dim"},
        ],
        checks=[{"contains": "blue", "name": "says blue"}],
    )
    html = show(client, comparison, path="/cells/2-1-1", query="?with=1-1-1")
    turn = rolebook.comparisons.get_cell(comparison, CellKey(1, 0, 0)).turns[0]
    assert f"/turns/{turn.id}/request" in html
    assert "says blue" in html
    assert "✗" in html
    assert "<del>dark</del><ins>blue</ins>" in html
    assert told_apart(html)[0]["Model"] == ["dim", "clear"]
    assert re.findall(r'data-key="(\w+)" href="[^"]*/cells/([\d-]+)"', html) == [
        ("ArrowLeft", "1-1-1"),
        ("ArrowDown", "2-2-1"),
    ]
    url = f"/comparisons/{comparison.id}/cells/2-1-1"
    assert_error(client.get(f"{url}?with=2-1-1", headers=JSON), 400, "invalid_request")
    assert_error(client.get(f"{url}?with=1-1-1&input=3", headers=JSON), 404, "not_found")


def test_an_answer_is_held_against_any_other_of_the_comparison(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=天空是蓝色的。")
    upstream.model_rule("dim", "ok?text=天空是黑色的。")
    dim = {"persona": "plain", "model": "dim", "name": "Dim"}
    inputs = ["Why?", {"turns": ["How?", "Really?"]}]
    comparison = fill(rolebook, variants=["plain", dim], inputs=inputs)
    html = show(client, comparison, "?with=2-1-1&input=2", "/cells/1-1-1")
    assert "<del>蓝</del><ins>黑</ins>" in html
    assert "<del>only Plain assistant, input 1</del> <ins>only Dim, input 2</ins>" in html
    assert "which was said to: How?" in html
    assert 'value="2-1-1" selected' in html
    assert 'max="2" value="2"' in html
    html = show(client, comparison, "?with=1-1-1", "/cells/1-2-1")
    assert "Word for word the same." in html
    assert "which had no such turn" in html
    assert "Settings that differ" not in html


def test_repeats_are_told_apart_by_their_numbers(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=Red.,ok?text=Blue.,ok?text=Red.")
    comparison = fill(rolebook, variants=["teacher"], inputs=["Which?"], repeats=3, concurrency=1)
    html = show(client, comparison, "?with=1-1-2", "/cells/1-1-1")
    assert "<del>only repeat 1</del> <ins>only repeat 2</ins>" in html
    html = show(client, comparison, "?with=1-1-3", "/cells/1-1-1")
    assert "Word for word the same." in html
    assert 'class="words diff' not in html


def test_when_all_is_answered_the_verdict_is_there_at_once_and_voting_comes_next(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok,400,ok")
    comparison = fill(rolebook, inputs=["Why?"])
    html = show(client, comparison)
    assert "1 of 2 cells failed" in html
    assert '<rect class="failed" x="1" width="1"' in html
    assert 'class="button quiet" id="vote-blind"' in html
    act(client, comparison, "retry")
    run = rolebook.compare.run_of(comparison.id)
    assert run
    assert run.wait(10)
    html = show(client, comparison)
    assert 'class="verdicts' in html
    assert "cells failed" not in html
    assert "bar-of" not in html
    assert 'class="button primary" id="vote-blind"' in html


def test_nobody_is_sent_to_vote_on_a_single_variant(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    pages = [
        show(client, fill(rolebook, variants=variants, inputs=["Why?"]))
        for variants in (["plain"], ["plain", "teacher"])
    ]
    assert [False, True] == ["Vote blind" in page for page in pages]


def test_an_answer_is_set_in_the_language_that_it_is_in(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "ok?text=The%20*inverse*%20is%20what%20you%20add%20to%20it.")
    comparison = fill(rolebook, inputs=["Why?"])
    client.set_cookie("language", "zh")
    assert '<div class="prose voice" lang="en">' in boxes(show(client, comparison))["1-1-1-1"]


@pytest.mark.parametrize(
    ("text", "is_long"),
    [
        ("\n".join("a" * 12), False),
        ("\n".join("a" * 13), True),
        ("a" * 527, False),
        ("a" * 528, True),
        ("天" * 263, False),
        ("天" * 264, True),
        ("天" * 200 + "\n" + "é" * 87, False),
        ("天" * 200 + "\n" + "é" * 88, True),
    ],
)
def test_what_takes_more_lines_than_a_narrow_column_should_have_is_folded(
    text: str, is_long: bool
) -> None:
    turn = Turn("", "", "", "", status=TurnStatus.COMPLETE, choices=(Choice(text),))
    key = CellKey(0, 0, 0)
    assert is_long == Part(key, Variant("", "", ""), Cell(key, 1, turns=(turn,)), 0).is_long


def test_a_cell_that_waits_has_a_page_too(client: FlaskClient, rolebook: Rolebook) -> None:
    comparison = plan(rolebook)
    assert "Waiting" in show(client, comparison, path="/cells/1-1-1", query="?with=2-1-1")


def test_the_matrix_has_a_mark_for_every_cell(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("bad", "401")
    comparison = fill(
        rolebook,
        variants=["plain", {"persona": "plain", "model": "bad", "name": "Bad"}],
        checks=[{"contains": "sky"}],
    )
    html = show(client, comparison, "?view=matrix")
    assert "<i class=p></i><i class=x></i></div>" in html
    assert "<i class=f></i><i class=f></i></div>" in html
    assert "Bad, input 2" in html
    told = dict(watch(client, comparison, "marks=1"))
    assert told["marks"] == {"strips": ["px", "ff"]}


def test_many_inputs_are_paged(client: FlaskClient, rolebook: Rolebook) -> None:
    comparison = plan(rolebook, inputs=[f"Question {n}" for n in range(1, 121)])
    assert rows_per_page(comparison) == 50
    assert page_count(comparison) == 3
    html = show(client, comparison, "?page=3")
    assert "Question 101" in html
    assert "Question 100<" not in html
    assert "inputs 101–120 of 120" in html
    assert 'data-shows="inputs=100-119&amp;repeat=0"' in html
    wide = plan(rolebook, variants=["plain"] * 8, inputs=[f"Question {n}" for n in range(40)])
    assert rows_per_page(wide) == 12


def calls_for(client: FlaskClient, address: str) -> int:
    """How many calls of functions it takes to answer a request, once it was answered before."""
    assert 200 == client.get(address).status_code
    profile = cProfile.Profile()
    profile.runcall(client.get, address)
    return sum(entry.callcount for entry in profile.getstats())


def test_cells_that_a_page_does_not_show_make_it_hardly_dearer(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    few, many = (
        plan(rolebook, inputs=[f"Question {n}" for n in range(count)]) for count in (50, 300)
    )
    answer_all(rolebook, few)
    answer_all(rolebook, many)
    for path in ("", "/state", "/cells/2-20-1"):
        calls, more_calls = (calls_for(client, f"/comparisons/{c.id}{path}") for c in (few, many))
        # There are 500 more cells. To look at each of them for how far it is takes a dozen calls.
        assert more_calls - calls < 8 * 500


def test_a_reference_is_looked_at_once_for_all_variants_and_answers_are_not_read_to_count_them(
    rolebook: Rolebook,
) -> None:
    def calls(function: Callable[[Comparison], object], comparison: Comparison) -> int:
        profile = cProfile.Profile()
        profile.runcall(function, comparison)
        return sum(entry.callcount for entry in profile.getstats())

    few, many = (
        plan(
            rolebook,
            variants=["plain"] * 4,
            inputs=[{"input": "Why?", "reference": f"Since {n}."} for n in range(count)],
            checks=[{"similarity": {"at_least": 0.5}}, {"max_words": 9}],
        )
        for count in (10, 50)
    )
    answer_all(rolebook, few)
    answer_all(rolebook, many)
    assert 200 == len(rolebook.compare.unsettled_cells(many))
    for function in (rolebook.comparisons.tally, rolebook.compare.unsettled_cells):
        # To hold an answer against each of its checks takes a dozen calls, so that these would be a hundred an input.
        assert calls(function, many) - calls(function, few) < 40 * 30


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Layout((0, 1, 2))),
        ({"order": "3-1-2", "wide": "3"}, Layout((2, 0, 1), wide=2)),
        ({"order": "3-1", "wide": "4", "repeat": "9"}, Layout((0, 1, 2))),
        ({"order": "1-1-1", "page": "-1"}, Layout((0, 1, 2))),
        ({"repeat": "2", "view": "matrix"}, Layout((0, 1, 2), repeat=1, is_matrix=True)),
        ({"page": "99999999999999999999", "order": "²"}, Layout((0, 1, 2))),
    ],
)
def test_an_address_says_how_the_grid_is_laid_out(
    rolebook: Rolebook, given: Mapping[str, str], expected: Layout
) -> None:
    comparison = plan(rolebook, variants=["teacher", "plain", "friend"], repeats=2)
    layout = layout_of(comparison, given)
    assert layout == expected
    assert layout_of(comparison, layout.query) == layout


def test_columns_move_and_widen_by_links(client: FlaskClient, rolebook: Rolebook) -> None:
    comparison = plan(rolebook)
    html = show(client, comparison, "?order=2-1&wide=2")
    assert html.index('id="column-2"') < html.index('id="column-1"')
    assert re.findall(r'<col class="(\w+)">', html) == ["input", "wide", "column"]
    assert 'aria-label="Move Plain assistant right"' in html
    assert 'aria-label="Move Plain assistant left"' not in html
    assert "order=2-1#" in html[html.index('id="wide-2"') :].partition(">")[0]


def test_repeats_are_leafed_through(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = fill(rolebook, repeats=2, inputs=["Why?"])
    assert list(boxes(show(client, comparison))) == ["1-1-1-1", "2-1-1-1"]
    html = show(client, comparison, "?repeat=2")
    assert list(boxes(html)) == ["1-1-2-1", "2-1-2-1"]
    assert "repeat 2 of 2" in html


def test_what_a_model_says_runs_nothing(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("ok", "xss")
    comparison = fill(rolebook, inputs=["<script>alert(1)</script>"])
    for path in ("", "/cells/1-1-1?with=2-1-1"):
        html = show(client, comparison, path=path)
        assert "<script>" not in html.partition("<main")[2]
        assert "<iframe" not in html
        assert 'href="javascript:' not in html


def test_a_comparison_in_the_trash_can_be_looked_at_but_not_run(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    comparison = plan(rolebook)
    rolebook.comparisons.delete_comparisons([comparison.id])
    html = show(client, comparison)
    assert "in the trash" in html
    assert 'id="act-start"' not in html


def test_an_unknown_comparison_is_not_found(client: FlaskClient) -> None:
    for path in ("", "/events", "/cells/1-1-1"):
        response = client.get(f"/comparisons/000000000000000000{path}", headers=JSON)
        assert_error(response, 404, "not_found")
