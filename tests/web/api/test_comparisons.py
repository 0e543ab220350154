"""A comparison over the API: from the plan to the votes and the file that is taken away."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fake_upstream import FakeUpstream
from tests.web.api.calls import PREFIX, call, error_of

SPEC: dict[str, Any] = {
    "question": "Which one?",
    "variants": [{"persona": "teacher"}, {"persona": "plain", "model": "plain"}],
    "inputs": [{"input": "Why is the sky blue?", "tags": ["light"]}, {"input": "What is rain?"}],
    "checks": [{"max_words": 3}],
}


@pytest.fixture(autouse=True)
def two_answers(upstream: FakeUpstream) -> None:
    """The second variant says something else than the first."""
    upstream.model_rule("plain", "ok?text=Air scatters blue light.")


def until(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The progress once nothing runs any more."""
    deadline = time.monotonic() + 20
    while (progress := read())["is_running"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return progress


def run(client: FlaskClient, **more: Any) -> str:
    """The id of a comparison that has run to its end."""
    begun = call(client, "POST", "/comparisons", 201, **{**SPEC, **more})
    path = f"/comparisons/{begun['comparison']['id']}"
    progress = until(lambda: call(client, "GET", f"{path}/progress"))
    assert progress["tally"]["total"] == progress["tally"]["complete"]
    return path


def test_plan_says_what_it_takes_and_sends_nothing(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    plan = call(client, "POST", "/plan", **SPEC, repeats=3)
    assert (12, 12) == (plan["estimate"]["cells"], plan["estimate"]["calls"])
    assert ["1-1-1", "2-1-1"] == [cell["cell"] for cell in plan["cells"]]
    (difference,) = plan["differences"]
    assert ("Teacher", "Plain assistant", 1) == (
        *(difference["against"], difference["variant"], difference["input"]),
    )
    model = {"name": "Model", "is_field": False, "old": "ok", "new": "plain"}
    assert model in difference["settings"]
    (prompt,) = difference["prompts"]
    assert (False, "Answer briefly.") == (prompt["is_template"], prompt["lines"][0]["new"])
    cell = client.post(f"{PREFIX}/plan?cell=2-2-1", json=SPEC).get_json()["cells"][0]
    assert "What is rain?" == cell["messages"][-1]["content"]
    assert [] == upstream.requests


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"checks": [{"max_words": -3}]}, "checks[0].max_words must be at least 0, got '-3'."),
        (
            {"variants": [{"persona": "plain", "sampling": {"temperature": 9}}]},
            "variants[0].sampling.temperature must be at most 2, got '9'.",
        ),
        (
            {"variants": [{"persona": "plain", "sampling": {"temperature": "9"}}]},
            "variants[0].sampling.temperature must be a number, got '9'.",
        ),
    ],
)
def test_a_number_beyond_its_limit_is_not_called_none(
    client: FlaskClient, part: dict[str, Any], said: str
) -> None:
    assert said == error_of(client, "POST", "/plan", 400, **{**SPEC, **part})["message"]


def test_what_cannot_be_planned_is_told_all_at_once(client: FlaskClient) -> None:
    spec = {
        "variants": [{"persona": "nobody"}, {"persona": "plain", "variables": {"x": 1}}],
        "inputs": [{"session": "0" * 18}],
        "checks": [{"rubric": "It rhymes."}],
        "judge": {"persona": "teacher"},
    }
    wrong = {"variants[0]", "variants[1].variables.x", "inputs[0]", "judge.persona"}
    for path in ("/plan", "/comparisons"):
        error = error_of(client, "POST", path, 422, **spec)
        assert wrong == {problem["key"] for problem in error["problems"]}
    strict = error_of(client, "POST", "/plan", 400, **{**SPEC, "repeats": "3"})
    assert "repeats" == strict["problems"][0]["key"]
    mistyped = error_of(client, "POST", "/plan", 400, **SPEC, quesion="x")
    assert "Did you mean 'question'?" in mistyped["message"]


def test_comparison_runs_is_measured_and_taken_away(client: FlaskClient) -> None:
    path = run(client)
    cells = call(client, "GET", f"{path}/cells?limit=1")
    rest = call(client, "GET", f"{path}/cells?cursor={cells['next']}")
    keys = [cell["key"] for cell in [*cells["cells"], *rest["cells"]]]
    assert ["1-1-1", "2-1-1", "1-2-1", "2-2-1"] == keys
    cell = call(client, "GET", f"{path}/cells/2-1-1")
    assert cells["cells"][1] == cell
    assert (False, "Air scatters blue light.") == (
        cell["turns"][0]["checks"][0]["has_passed"],
        cell["turns"][0]["text"],
    )
    results = call(client, "GET", f"{path}/results")
    words = next(measure for measure in results["measures"] if measure["name"] == "words")
    assert 4 == words["intervals"]["Plain assistant"]["value"]
    exported = json.loads(client.get(f"{PREFIX}{path}/export?format=json").text)
    assert results["measures"] == exported["measures"]
    assert results["by_tag"] == exported["by_tag"]
    assert [("light", 1)] == [(tag["tag"], tag["inputs"]) for tag in results["by_tag"]]
    assert "text/html" == client.get(f"{PREFIX}{path}/export?format=html").mimetype
    (line,) = call(client, "GET", "/comparisons")["comparisons"]
    assert ("Which one?", 4) == (line["question"], line["tally"]["complete"])


def test_request_that_is_sent_again_with_its_key_begins_no_other_comparison(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    plan = {"variants": [{"persona": "teacher"}], "inputs": [{"input": "Why?"}]}

    def begun(key: str, **more: Any) -> str:
        headers = {"Idempotency-Key": key} if key else {}
        response = client.post(f"{PREFIX}/comparisons", json=plan | more, headers=headers)
        assert response.status_code == 201, response.text
        return str(response.get_json()["comparison"]["id"])

    first = begun("a-key 1")
    assert re.fullmatch("[0-9a-z]{18}", first)
    until(lambda: call(client, "GET", f"/comparisons/{first}/progress"))
    assert [first] * 2 == [begun("a-key 1"), begun("a-key 1")]
    others = [begun("a-key 2"), begun("a-key 1", repeats=2), begun(""), begun("")]
    assert 5 == len({first, *others})
    for other in others:
        until(lambda other=other: call(client, "GET", f"/comparisons/{other}/progress"))
    assert 1 + 1 + 2 + 1 + 1 == len(upstream.requests)
    call(client, "DELETE", f"/comparisons/{first}")
    again = client.post(f"{PREFIX}/comparisons", json=plan, headers={"Idempotency-Key": "a-key 1"})
    assert "in the trash" in again.get_json()["error"]["message"]


def test_votes_are_blind_until_they_are_cast(client: FlaskClient) -> None:
    path = run(client)
    seen = 0
    while ballot := call(client, "POST", f"{path}/ballots")["ballot"]:
        assert ballot["variants"] is None
        (exchange,) = ballot["exchanges"]
        assert {"Air scatters blue light."} < {
            exchange["left"]["text"],
            exchange["right"]["text"],
        }
        here = f"{path}/ballots/{ballot['id']}"
        assert ballot == call(client, "GET", here)
        side = "left" if exchange["left"]["text"].startswith("Air") else "right"
        cast = call(client, "POST", f"{here}/vote", vote=side)
        assert "Plain assistant" == cast["variants"][side]
        assert "conflict" == error_of(client, "POST", f"{here}/vote", 409, vote="tie")["code"]
        seen += 1
    assert 2 == seen
    count = call(client, "GET", f"{path}/votes")
    assert ["Plain assistant"] * 2 == [vote["preferred"] for vote in count["votes"]]
    assert "Plain assistant" == count["preference"]["verdicts"][0]["better"]
    assert not count["preference"]["side_bias"]["is_suspicious"]
    first = count["votes"][0]["id"]
    taken_back = call(client, "POST", f"{path}/ballots/{first}/vote", vote="withdraw")
    assert (None, True) == (taken_back["outcome"], taken_back["is_skipped"])
    assert 1 == len(call(client, "GET", f"{path}/votes")["votes"])


def test_who_votes_for_a_side_is_told(client: FlaskClient) -> None:
    path = run(client, inputs=[{"input": f"Question {number}?"} for number in range(10)])
    for _ in range(10):
        ballot = call(client, "POST", f"{path}/ballots")["ballot"]
        call(client, "POST", f"{path}/ballots/{ballot['id']}/vote", vote="left")
    for address in ("votes", "results"):
        bias = call(client, "GET", f"{path}/{address}")["preference"]["side_bias"]
        assert (10, 0, True) == (bias["left_wins"], bias["right_wins"], bias["is_suspicious"])
        assert 1.0 == bias["interval"]["value"]
        assert 0.5 < bias["interval"]["low"]


def test_failed_cells_are_tried_again(client: FlaskClient, upstream: FakeUpstream) -> None:
    upstream.model_rule("plain", "500?retry_after_ms=1")
    begun = call(client, "POST", "/comparisons", 201, **SPEC, start=False)
    path = f"/comparisons/{begun['comparison']['id']}"
    assert 4 == begun["progress"]["tally"]["waiting"]
    call(client, "POST", f"{path}/start")
    failed = until(lambda: call(client, "GET", f"{path}/progress"))["tally"]
    assert (2, 2) == (failed["complete"], failed["failed"])
    upstream.model_rule("plain", "ok?text=Now.")
    call(client, "POST", f"{path}/retry", cell="2-1-1")
    assert 1 == until(lambda: call(client, "GET", f"{path}/progress"))["tally"]["failed"]
    call(client, "POST", f"{path}/retry")
    assert 0 == until(lambda: call(client, "GET", f"{path}/progress"))["tally"]["failed"]
    again = call(client, "POST", f"{path}/repeat", 201)["comparison"]
    assert begun["comparison"]["id"] == again["repeats_of"]


def test_comparison_is_stopped_renamed_deleted_and_restored(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    upstream.model_rule("plain", "ok?tokens=400&delay_ms=20")
    begun = call(client, "POST", "/comparisons", 201, **SPEC)
    path = f"/comparisons/{begun['comparison']['id']}"
    call(client, "POST", f"{path}/stop")
    assert not call(client, "GET", f"{path}/progress")["is_running"]
    call(client, "POST", f"{path}/resume")
    changed = call(client, "PATCH", path, question="Another?")
    assert "Another?" == changed["comparison"]["question"]
    assert call(client, "DELETE", path)["deleted_at"]
    assert "in the trash" in error_of(client, "GET", f"{path}/results", 404)["message"]
    call(client, "POST", f"{path}/restore")
    assert "" == call(client, "GET", path)["deleted_at"]
