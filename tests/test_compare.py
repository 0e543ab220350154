"""A comparison, end to end: persona files, a real upstream on a socket, and the log."""

from __future__ import annotations

import csv
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import openai
import pytest

from rolebook.core.chat import TurnEnded, TurnRequest
from rolebook.core.check import Check
from rolebook.core.compare import CompareService
from rolebook.core.comparison import Cell, CellKey, CellStatus, Comparison
from rolebook.core.comparison_data import comparison_data, parse_comparison
from rolebook.core.comparison_spec import parse_spec
from rolebook.core.completion import Delta
from rolebook.core.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    UpstreamKeyError,
    VariableError,
)
from rolebook.core.estimate import Estimate
from rolebook.core.fault import FaultyDataError
from rolebook.core.fields import RECORDED
from rolebook.core.line import Line
from rolebook.core.persona import persona_of_revision
from rolebook.core.planning import AS_RECORDED, NothingSaidYetError, Plan, UnplannableError
from rolebook.core.run import CellDelta, CellEnded, CellStarted, Run, RunEnded, RunEvent
from rolebook.core.session import Session, Turn, TurnStatus, new_id
from rolebook.language.translator import translator
from rolebook.report.along import tell_along
from rolebook.report.asking import asked_in
from rolebook.report.differing import Differing
from rolebook.report.export import export_comparison
from rolebook.report.snapshot import take_snapshot
from rolebook.report.unasked import tell_failing, tell_left_out
from rolebook.wiring import Rolebook
from tests.conftest import ROOT
from tests.fake_upstream import FakeUpstream
from tests.holding.server import wait_until
from tests.judging import JUDGE_MODEL, add_judge, verdict

Make = Callable[..., Rolebook]


class Judged(NamedTuple):
    """A Rolebook, and the upstream that its judge has."""

    rolebook: Rolebook
    judge: FakeUpstream


def plan(rolebook: Rolebook, **spec: Any) -> Comparison:
    """Record a comparison."""
    return rolebook.compare.create(rolebook.compare.plan(parse_spec(spec)))


def fill(rolebook: Rolebook, comparison: Comparison, **arguments: Any) -> Run:
    """Run it to its end."""
    run = rolebook.compare.start(comparison, **arguments)
    assert run.wait(20)
    return run


def cells_of(rolebook: Rolebook, comparison: Comparison) -> dict[str, Cell]:
    return {str(cell.key): cell for cell in rolebook.comparisons.cells(comparison)}


def failed_of(rolebook: Rolebook, comparison: Comparison) -> list[str]:
    """The cells that have failed."""
    cells = cells_of(rolebook, comparison).items()
    return [name for name, cell in cells if cell.status is CellStatus.FAILED]


def talk(rolebook: Rolebook, persona_id: str, *inputs: str, **chosen: Any) -> list[Turn]:
    """A session that somebody had."""
    session = rolebook.chat.start_session(Session(new_id(), persona_id, "", **chosen))
    events = [
        event
        for text in inputs
        for event in rolebook.chat.stream_turn(TurnRequest(session.id, text))
    ]
    return [event.turn for event in events if isinstance(event, TurnEnded)]


def stop(rolebook: Rolebook, session_id: str, text: str) -> None:
    """A turn that somebody stops when the first word of its answer has come."""
    events = rolebook.chat.stream_turn(TurnRequest(session_id, text, model="ok?delay_ms=20"))
    with closing(events):  # type: ignore[type-var]
        next(event for event in events if isinstance(event, Delta))


def test_what_was_compared_with_a_schema_that_is_refused_by_now_stays_to_be_seen(
    rolebook: Rolebook,
) -> None:
    spec: dict[str, Any] = {"variants": ["plain"], "inputs": ["Why?"]}
    own, common = ({"is_json": {"typ": kind}} for kind in ("object", "array"))
    with pytest.raises(FaultyDataError, match="'typ' is no keyword"):
        plan(rolebook, **spec, checks=[common])
    plain = rolebook.library.get_persona("plain")
    checks = (Check.model_validate(own, context=RECORDED),)
    plain = replace(plain, persona=plain.persona.model_copy(update={"checks": checks}))
    personas = {plain.revision.id: plain}
    planned = rolebook.compare.plan(parse_spec(spec)).comparison
    variant = replace(planned.variants[0], revision=plain.revision.id)
    checks = (Check.model_validate(common, context=RECORDED),)
    rolebook.cells.keep(personas)
    first = rolebook.compare.create(
        Plan(replace(planned, variants=(variant,), checks=checks), personas)
    )
    fill(rolebook, first)
    assert first == rolebook.comparisons.get_comparison(first.id)
    assert (
        plain.persona == persona_of_revision(rolebook.log.get_revision(plain.revision.id)).persona
    )
    (cell,) = cells_of(rolebook, first).values()
    assert 2 == len(cell.checks)


def test_every_variant_answers_every_input_in_a_session_of_its_own(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook, variants=["teacher", "plain"], inputs=["What is a fraction?", "Why?"], repeats=2
    )
    run = fill(rolebook, comparison)
    cells = cells_of(rolebook, comparison)
    assert [f"{v}-{i}-{r}" for i in (1, 2) for r in (1, 2) for v in (1, 2)] == list(cells)
    assert {CellStatus.COMPLETE} == {cell.status for cell in cells.values()}
    assert 8 == len({cell.session_id for cell in cells.values()}) == len(upstream.requests)
    assert ["Echo: Why?"] == [turn.text for turn in cells["2-2-1"].turns]
    assert run.progress.tally == rolebook.comparisons.tally(comparison)
    assert (8, 8, 0) == (
        run.progress.tally.total,
        run.progress.tally.complete,
        run.progress.tally.failed,
    )


def test_cell_is_a_turn_like_any_other_but_its_session_is_not_listed(rolebook: Rolebook) -> None:
    comparison = plan(rolebook, variants=["teacher"], inputs=["What is a fraction?"])
    fill(rolebook, comparison)
    cell = cells_of(rolebook, comparison)["1-1-1"]
    turn = rolebook.log.get_turn(cell.turns[0].id)
    prepared = rolebook.cells.prepare(comparison, cell.key)
    assert prepared.messages == turn.messages
    session = rolebook.log.get_session(cell.session_id)
    assert comparison.id == session.comparison_id
    assert () == rolebook.log.list_sessions().summaries
    assert () == rolebook.log.search("fraction").hits
    with pytest.raises(ConflictError, match="belongs to a comparison"):
        list(rolebook.chat.stream_turn(TurnRequest(session.id, "go on")))


def test_one_may_compare_only_what_one_changed(rolebook: Rolebook, upstream: FakeUpstream) -> None:
    comparison = plan(
        rolebook,
        variants=[
            "teacher",
            {"persona": "teacher", "sampling": {"temperature": 0}, "model": "other"},
            {"persona": "teacher", "variables": {"level": "expert"}},
            {
                "persona": "teacher",
                "changes": {"system": "You are terse.", "template": "no-system"},
            },
            {"system": "You are a poet.", "name": "Poet"},
        ],
        inputs=["Hello"],
    )
    assert comparison == rolebook.comparisons.get_comparison(comparison.id)
    fill(rolebook, comparison)
    names = [variant.name for variant in comparison.variants]
    assert [
        "Teacher",
        "Teacher (other, temperature 0.0)",
        "Teacher (level expert)",
        "Teacher (system, template)",
        "Poet",
    ] == names
    turns = [
        rolebook.log.get_turn(cell.turns[0].id) for cell in cells_of(rolebook, comparison).values()
    ]
    assert (0.7, 0.0) == tuple(turn.parameters_requested["temperature"] for turn in turns[:2])
    assert "other" == turns[1].model_requested
    assert "for a expert" in turns[2].messages[0].content
    assert turns[0].revision == turns[1].revision == turns[2].revision != turns[3].revision
    assert not any(message.role == "system" for message in turns[3].messages)
    assert "You are a poet." == turns[4].messages[0].content


def test_edit_during_a_run_does_not_mix_wordings(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "model": "ok?latency_ms=100"}],
        inputs=["a", "b", "c"],
        concurrency=1,
    )
    run = rolebook.compare.start(comparison)
    upstream.wait_for(lambda: upstream.requests)
    (rolebook.library.personas_dir / "plain.yaml").write_text("name: New\nsystem: New.\n", "utf-8")
    assert run.wait(10)
    revisions = {c.turns[0].revision for c in cells_of(rolebook, comparison).values()}
    assert {comparison.variants[0].revision} == revisions


def test_revision_of_a_persona_survives_the_log(rolebook: Rolebook) -> None:
    (rolebook.library.personas_dir / "child.yaml").write_text(
        "name: Child\nextends: teacher\nchecks: [{max_words: 5}]\n", "utf-8"
    )
    for persona_id in ("teacher", "friend", "child"):
        revision = rolebook.library.get_persona(persona_id).revision
        assert revision == persona_of_revision(revision).revision


def test_failed_cell_is_a_value_and_the_others_finish(make_rolebook: Make) -> None:
    """Six cells, one of them hangs and one breaks off: the other four are done in the usual time."""
    with FakeUpstream(max_wait_s=3) as upstream:
        rolebook = make_rolebook(
            {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"},
            idle_timeout="1",
            first_byte_timeout="1",
        )
        models = ["ok", "hang", "ok?text=b", "rst-mid", "ok?text=c", "500,500,500"]
        comparison = plan(
            rolebook,
            variants=[{"persona": "plain", "model": model} for model in models],
            inputs=["Hello"],
            concurrency=6,
        )
        run = rolebook.compare.start(comparison)
        began = time.monotonic()
        with run.watching() as events:
            ended = {key.variant: 0.0 for key in events.ended}
            while not isinstance(event := events.get(20), RunEnded):
                if isinstance(event, CellEnded):
                    ended[event.cell.key.variant] = time.monotonic() - began
    cells = cells_of(rolebook, comparison)
    expected = ["complete", "failed", "complete", "failed", "complete", "failed"]
    assert expected == [cell.status.value for cell in cells.values()]
    assert max(ended[number] for number in (0, 2, 4)) < ended[1]
    errors = [cell.turns[0].error for cell in cells.values()]
    assert ["", "upstream_timeout", "", "upstream_connection", "", "upstream_server"] == [
        error.code if error else "" for error in errors
    ]
    assert "Echo:" in cells["4-1-1"].turns[0].text
    tally = rolebook.comparisons.tally(comparison)
    assert (3, 3, 0) == (tally.complete, tally.failed, tally.waiting)


def test_cell_that_cannot_be_rendered_fails_with_its_reason(rolebook: Rolebook) -> None:
    (rolebook.library.personas_dir / "odd.yaml").write_text(
        "name: Odd\nsystem: '{% if deep %}{{ nothing }}{% endif %}Hi.'\n"
        "variables: {deep: {type: boolean, default: false}}\n",
        "utf-8",
    )
    comparison = plan(
        rolebook, variants=["odd"], inputs=["fine", {"input": "bad", "variables": {"deep": True}}]
    )
    run = fill(rolebook, comparison)
    assert run.error is None
    cells = cells_of(rolebook, comparison)
    assert (CellStatus.COMPLETE, CellStatus.FAILED) == (
        cells["1-1-1"].status,
        cells["1-2-1"].status,
    )
    error = cells["1-2-1"].turns[0].error
    assert error is not None
    assert "nothing" in error.text


PICKY = """\
name: Picky
system: "{{ {'a': 'x'}[about] }}"
variables: {about: a}
"""


def test_input_that_cannot_be_rendered_keeps_no_comparison_from_beginning_wherever_it_stands(
    rolebook: Rolebook, library_dir: Path
) -> None:
    (library_dir / "personas" / "picky.yaml").write_text(PICKY, "utf-8")
    estimator = rolebook.estimator
    for place in (0, 1, 99):
        inputs: list[Any] = [f"input {number}" for number in range(100)]
        inputs[place] = {"input": "abc", "variables": {"about": "b"}}
        found = rolebook.compare.plan(
            parse_spec({"variants": ["plain", "picky"], "inputs": inputs})
        )
        estimator.try_out(found.comparison, 1)
        assert 200 == estimator.estimate(found.comparison).cells
        estimate = estimator.estimate(found.comparison, look_at=200)
        assert [f"2-{place + 1}-1"] == [str(fault.key) for fault in estimate.faults]
        said = tell_failing(found.comparison, estimate, translator("en"))
        assert (
            f"1 of 200 cells that were looked at cannot be asked and will fail: Picky, input {place + 1}: "
            in said
        )
    spec = parse_spec({"variants": ["plain", "picky"], "inputs": inputs[-1:]})
    with pytest.raises(InputError, match="'Picky' cannot be asked: "):
        estimator.estimate(rolebook.compare.plan(spec).comparison)
    with pytest.raises(InputError):
        estimator.try_out(rolebook.compare.plan(spec).comparison, 1)


def test_resuming_runs_only_what_is_missing_and_retry_only_what_failed(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook,
        variants=[
            "plain",
            {
                "persona": "plain",
                "model": "500?retry_after_ms=1,500?retry_after_ms=1,500,ok?text=better",
            },
        ],
        inputs=["a", "b"],
        concurrency=1,
    )
    fill(rolebook, comparison, keys=[CellKey(0, 0, 0), CellKey(1, 0, 0)])
    before = len(upstream.requests)
    fill(rolebook, comparison)
    assert before + 2 == len(upstream.requests)
    assert 1 == rolebook.comparisons.tally(comparison).failed
    failed = cells_of(rolebook, comparison)["2-1-1"]
    fill(rolebook, comparison, with_failed=True)
    again = cells_of(rolebook, comparison)["2-1-1"]
    assert (CellStatus.COMPLETE, 2) == (again.status, again.turns[0].attempt)
    assert failed.session_id == again.session_id
    assert before + 3 == len(upstream.requests)
    fill(rolebook, comparison, with_failed=True)
    assert before + 3 == len(upstream.requests)


def test_stopped_run_keeps_what_arrived_and_goes_on_there(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "model": "ok?tokens=50&delay_ms=50,ok,ok,ok"}],
        inputs=["a", {"turns": ["b", "c"]}],
        concurrency=1,
    )
    run = rolebook.compare.start(comparison)
    with run.watching() as events:
        while not isinstance(events.get(5), CellDelta):
            pass
    assert run.live_texts()[CellKey(0, 0, 0)].text.startswith("Echo")
    with pytest.raises(ConflictError):
        rolebook.compare.start(comparison)
    assert rolebook.compare.stop(comparison.id)
    cells = cells_of(rolebook, comparison)
    assert [(CellStatus.STOPPED, TurnStatus.CANCELLED)] * 2 == [
        (cell.status, cell.turns[0].status) for cell in cells.values()
    ]
    assert cells["1-1-1"].turns[0].text.startswith("Echo")
    # The other one was ready to be called, and was not.
    assert 1 == len(upstream.requests)
    fill(rolebook, comparison)
    cells = cells_of(rolebook, comparison)
    assert [CellStatus.COMPLETE] * 2 == [cell.status for cell in cells.values()]
    assert ["b", "c"] == [turn.input for turn in cells["1-2-1"].turns]
    assert 4 == len(upstream.requests)


def test_script_goes_on_with_its_own_answers(rolebook: Rolebook) -> None:
    comparison = plan(rolebook, variants=["plain"], inputs=[{"turns": ["one", "two", "three"]}])
    fill(rolebook, comparison)
    cell = cells_of(rolebook, comparison)["1-1-1"]
    last = rolebook.log.get_turn(cell.turns[2].id)
    said = [message.content for message in last.messages[1:]]
    assert ["one", "Echo: one", "two", "Echo: two", "three"] == said


def test_replay_with_fixed_history_answers_each_turn_after_the_recorded_ones(
    rolebook: Rolebook,
) -> None:
    recorded = talk(rolebook, "plain", "one", "two", "three")
    comparison = plan(
        rolebook,
        variants=["teacher"],
        recorded=True,
        inputs=[{"session": recorded[0].session_id}],
    )
    assert [AS_RECORDED, "Teacher"] == [variant.name for variant in comparison.variants]
    fill(rolebook, comparison)
    cells = cells_of(rolebook, comparison)
    assert [turn.id for turn in recorded] == [
        cells[f"1-{index}-1"].turns[0].id for index in (1, 2, 3)
    ]
    last = rolebook.log.get_turn(cells["2-3-1"].turns[0].id)
    assert ["one", "Echo: one", "two", "Echo: two", "three"] == [
        message.content for message in last.messages[-5:]
    ]
    assert recorded[1].id == rolebook.log.get_session(last.session_id).forked_from
    assert 3 == last.position


def test_fixed_history_has_answers_that_were_stopped_as_the_recorded_answer_had(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    session_id = talk(rolebook, "plain", "one")[0].session_id
    stop(rolebook, session_id, "two")
    list(rolebook.chat.stream_turn(TurnRequest(session_id, "three", model="429")))
    list(rolebook.chat.stream_turn(TurnRequest(session_id, "four")))
    asked = upstream.requests[-1].body["messages"]
    for source in ({"session": session_id}, {"persona": "plain", "last": 1}):
        comparison = plan(rolebook, variants=["plain"], inputs=[source])
        key = CellKey(0, len(comparison.inputs) - 1, 0)
        prepared = rolebook.cells.prepare(comparison, key)
        assert asked == [message.as_dict() for message in prepared.messages]


def test_input_whose_session_was_removed_for_good_fails_alone(rolebook: Rolebook) -> None:
    gone, kept = (talk(rolebook, "plain", *texts) for texts in (("one", "two"), ("three", "four")))
    comparison = plan(
        rolebook,
        variants=["teacher", "friend"],
        inputs=[{"session": said[0].session_id} for said in (gone, kept)],
        checks=[{"contains": "Echo"}],
    )
    assert gone[0].id == comparison.inputs[1].follows
    fill(rolebook, comparison, keys=[CellKey(0, 1, 0)])
    rolebook.log.delete([gone[0].session_id])
    rolebook.log.purge_deleted("9999-01-01")
    run = fill(rolebook, comparison, is_reusing=True)
    assert run.error is None
    assert ["2-2-1"] == failed_of(rolebook, comparison)
    assert 7 == rolebook.comparisons.tally(comparison).complete
    (turn,) = cells_of(rolebook, comparison)["2-2-1"].turns
    assert turn.error is not None
    assert "What was said before this input is no longer in the log" in turn.error.text
    # The session of the cell that had begun has kept what it goes on from; what never had that is not asked without.
    run = fill(rolebook, comparison, keys=[CellKey(n, 1, 0) for n in (0, 1)])
    assert (None, 1) == (run.error, run.progress.tally.failed)
    assert ["2-2-1"] == failed_of(rolebook, comparison)


def test_failed_cell_goes_on_from_what_its_own_session_has_kept(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    said = talk(rolebook, "plain", "one", "two")
    source = said[0].session_id
    comparison = plan(rolebook, variants=["teacher"], inputs=[{"session": source}])
    upstream.model_rule("ok", "400")
    fill(rolebook, comparison)
    assert 2 == rolebook.comparisons.tally(comparison).failed
    rolebook.log.delete([source])
    rolebook.log.purge_deleted("9999-01-01")
    upstream.model_rule("ok", "ok")
    fill(rolebook, comparison, with_failed=True)
    assert 2 == rolebook.comparisons.tally(comparison).complete
    turn = rolebook.log.get_turn(cells_of(rolebook, comparison)["1-2-1"].turns[0].id)
    assert ["one", "Echo: one", "two"] == [message.content for message in turn.messages[-3:]]


def test_session_of_a_program_is_replayed_like_any_other(
    rolebook: Rolebook, sdk: openai.OpenAI
) -> None:
    messages: list[Any] = []
    for text in ("one", "two"):
        messages.append({"role": "user", "content": text})
        answer = sdk.chat.completions.create(model="plain", messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    session_id = rolebook.log.list_sessions().summaries[0].session.id
    comparison = plan(
        rolebook, variants=["teacher"], recorded=True, inputs=[{"session": session_id}]
    )
    fill(rolebook, comparison)
    cells = cells_of(rolebook, comparison)
    assert ["Echo: one", "Echo: two"] == [cells[f"1-{n}-1"].turns[0].text for n in (1, 2)]
    last = rolebook.log.get_turn(cells["2-2-1"].turns[0].id)
    assert ["one", "Echo: one", "two"] == [message.content for message in last.messages[-3:]]


def test_replay_of_a_programs_call_sends_what_the_program_had_sent(
    rolebook: Rolebook, sdk: openai.OpenAI, upstream: FakeUpstream
) -> None:
    said: list[Any] = [
        {"role": "system", "content": "Speak French."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "An answer from elsewhere."},
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": "two"},
    ]
    answer = sdk.chat.completions.create(model="plain", messages=said)
    recorded = upstream.requests[-1].body["messages"]
    assert said == recorded[-5:]
    said += [
        {"role": "assistant", "content": answer.choices[0].message.content},
        {"role": "user", "content": "three"},
    ]
    sdk.chat.completions.create(model="plain", messages=said)
    session_id = rolebook.log.list_sessions().summaries[0].session.id
    for source in ({"session": session_id}, {"persona": "plain", "last": 2}):
        comparison = plan(rolebook, variants=["plain"], inputs=[source])
        assert comparison == rolebook.comparisons.get_comparison(comparison.id)
        upstream.reset()
        fill(rolebook, comparison)
        asked = [request.body["messages"] for request in upstream.requests]
        assert [recorded, [*recorded[:-5], *said]] == sorted(asked, key=len)
        history = rolebook.cells.history_of(comparison.inputs[1])
        assert ["Speak French.\none\nBe short.", "two"] == [turn.input for turn in history]
    # A template without a history still tells the persona what the program does, and what is told is in an export.
    (rolebook.library.templates_dir / "bare.jinja").write_text(
        '{% message "user" %}{{ input }}{% endmessage %}', "utf-8"
    )
    bare = {"persona": "plain", "changes": {"template": "bare"}}
    comparison = plan(rolebook, variants=[bare], inputs=[source])
    prepared = rolebook.cells.prepare(comparison, CellKey(0, 0, 0))
    assert ["Speak French.", "Be short.", "two"] == [m.content for m in prepared.messages]
    exported = json.loads("".join(export_comparison(rolebook, comparison, "json")))
    assert comparison.inputs == parse_comparison(exported["comparison"]).inputs


def test_replay_names_what_a_program_has_asked_with_something_behind_its_input(
    rolebook: Rolebook, sdk: openai.OpenAI
) -> None:
    said: list[Any] = [
        {"role": "system", "content": "Speak French."},
        {"role": "user", "content": "both sides"},
        {"role": "assistant", "content": "It begins"},
    ]
    sdk.chat.completions.create(model="plain", messages=said)
    sdk.chat.completions.create(model="plain", messages=said[:2])
    sessions = [listed.session.id for listed in rolebook.log.list_sessions().summaries]
    comparison = plan(
        rolebook, variants=["plain"], inputs=[{"session": session} for session in sessions]
    )
    assert [(("system", "Speak French."),)] == [entry.sent for entry in comparison.inputs]
    assert "1 “both sides”" in tell_left_out(comparison, translator("en"))


def test_variable_that_is_called_like_a_setting_does_not_hide_it(rolebook: Rolebook) -> None:
    (rolebook.library.personas_dir / "car.yaml").write_text(
        "name: Car\nsystem: '{{ Model }}'\nvariables: {Model: {default: x}}\n"
    )
    variants = [
        {"persona": "car", "model": model, "variables": {"Model": name}}
        for model, name in (("aa", "Beetle"), ("zz", "Mini"))
    ]
    comparison = plan(rolebook, variants=variants, inputs=["Why?"])
    found = Differing(asked_in(rolebook, comparison), translator("en")).settings
    assert {("Model", ("aa", "zz")), ("Model (variable)", ("Beetle", "Mini"))} <= {
        (setting.name, tuple(setting.values)) for setting in found
    }


def test_recent_inputs_are_what_was_said_with_the_answers_that_count(rolebook: Rolebook) -> None:
    (whole,) = talk(rolebook, "teacher", "Why?")
    again = TurnRequest(whole.session_id, "Why?", position=1, model="400")
    list(rolebook.chat.stream_turn(again))
    talk(rolebook, "teacher", " ")
    comparison = plan(
        rolebook, variants=["teacher"], inputs=[{"persona": "teacher", "last": 1}], recorded=True
    )
    assert [(("Why?",), (whole.id,))] == [(e.turns, e.recorded) for e in comparison.inputs]


@pytest.mark.parametrize("history", ["fixed", "free"])
def test_replay_names_what_a_program_has_asked_with_more_than_texts(
    rolebook: Rolebook, sdk: openai.OpenAI, history: str
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    looked: Any = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    said: list[Any] = [{"role": "user", "content": "one"}]
    for further in (looked, {"role": "user", "content": "three"}):
        answer = sdk.chat.completions.create(model="plain", messages=said)
        said += [{"role": "assistant", "content": answer.choices[0].message.content}, further]
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tools: list[Any] = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "A line."},
    ]
    sdk.chat.completions.create(model="plain", messages=said[:3])
    sdk.chat.completions.create(model="plain", messages=tools)
    sessions = [listed.session.id for listed in rolebook.log.list_sessions().summaries]
    replayed = [{"session": id, "history": history} for id in reversed(sessions)]
    found = rolebook.compare.plan(parse_spec({"variants": ["plain"], "inputs": replayed}))
    assert ["one"] == [text for entry in found.comparison.inputs for text in entry.turns]
    told = tell_left_out(found.comparison, translator("en"))
    assert "2 “What is it?”" in told
    assert "1 “A line.”" in told
    with pytest.raises(UnplannableError, match="no text and cannot be asked again"):
        plan(rolebook, variants=["plain"], inputs=replayed[1:])


TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


@pytest.fixture
def offered(sdk: openai.OpenAI, rolebook: Rolebook, upstream: FakeUpstream) -> Session:
    """A session in which a program has offered tools, and in its second turn another choice among them."""
    said: list[Any] = []
    for text, choice in (("one", "auto"), ("two", "none")):
        said.append({"role": "user", "content": text})
        answer = sdk.chat.completions.create(
            model="teacher", messages=said, tools=TOOLS, tool_choice=choice, presence_penalty=0.1
        )
        said.append({"role": "assistant", "content": answer.choices[0].message.content})
    upstream.reset()
    (summary,) = rolebook.log.list_sessions().summaries
    assert 2 == summary.turns
    return summary.session


@pytest.mark.parametrize(("history", "choices"), [("fixed", "auto none"), ("free", "none none")])
@pytest.mark.parametrize("persona_id", ["teacher", "plain"])
def test_replay_offers_the_tools_that_a_program_has_offered_whoever_is_asked(
    rolebook: Rolebook,
    upstream: FakeUpstream,
    offered: Session,
    persona_id: str,
    history: str,
    choices: str,
) -> None:
    own = rolebook.library.get_persona(persona_id).persona
    chosen = rolebook.compare.chosen_in(offered, own) if persona_id == "teacher" else {}
    comparison = plan(
        rolebook,
        variants=[{"persona": persona_id, **chosen}],
        inputs=[{"session": offered.id, "history": history}],
        recorded=True,
        concurrency=1,
    )
    assert comparison == rolebook.comparisons.get_comparison(comparison.id)
    fill(rolebook, comparison)
    asked = [request.body for request in upstream.requests]
    assert [(TOOLS, choice) for choice in choices.split()] == [
        (body["tools"], body["tool_choice"]) for body in asked
    ]
    # What else it has sent is no part of the question.
    assert {0.1 if persona_id == "teacher" else None} == {
        body.get("presence_penalty") for body in asked
    }
    names = {
        row.name for row in Differing(asked_in(rolebook, comparison), translator("en")).settings
    }
    assert "tools" not in names


@pytest.mark.parametrize(
    ("request_of", "choice", "sent"),
    [
        ("tools: [{type: function, function: {name: own}}]", {}, {"tool_choice", "tools"}),
        ("functions: [{name: own}]", {}, {"functions", "tool_choice"}),
        ("user: me", {"request": {"tools": None, "tool_choice": None}}, {"user"}),
    ],
)
def test_what_a_persona_or_a_variant_fixes_wins_over_what_a_program_has_offered(
    rolebook: Rolebook,
    upstream: FakeUpstream,
    offered: Session,
    request_of: str,
    choice: dict[str, Any],
    sent: set[str],
) -> None:
    path = rolebook.library.personas_dir / "own.yaml"
    path.write_text(f"name: Own\nsystem: Be brief.\nrequest: {{{request_of}}}\n", "utf-8")
    variants = [{"persona": "own", **choice}]
    fill(rolebook, plan(rolebook, variants=variants, inputs=[{"session": offered.id}]))
    for request in upstream.requests:
        assert sent == request.body.keys() - {"model", "messages", "stream", "stream_options"}
        assert TOOLS != request.body.get("tools")


def test_what_goes_along_with_inputs_is_told_and_taken_away(
    rolebook: Rolebook, offered: Session
) -> None:
    inputs = [{"session": offered.id}, "one", {"persona": "teacher", "last": 1}]
    comparison = plan(rolebook, variants=["plain"], inputs=inputs)
    told = "3 inputs go with what was wanted of their answers: tool_choice, tools."
    assert told in tell_along(comparison, translator("en"))
    # The same words without tools are another input.
    assert [0, 1, 2, 1] == list(comparison.same_inputs())
    assert comparison == parse_comparison(comparison_data(comparison))
    fill(rolebook, comparison)
    for format in ("md", "html"):
        text = "".join(export_comparison(rolebook, comparison, format))
        assert told in text.replace("\\_", "_")
    assert not tell_along(plan(rolebook, variants=["plain"], inputs=["one"]), translator("en"))


def test_replay_with_free_history_carries_its_own_answers_on(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    recorded = talk(rolebook, "plain", "one", "two")
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "model": "ok?text=Mine."}],
        recorded=True,
        inputs=[{"session": recorded[0].session_id, "history": "free"}],
    )
    before = len(upstream.requests)
    fill(rolebook, comparison)
    cells = cells_of(rolebook, comparison)
    last = rolebook.log.get_turn(cells["2-1-1"].turns[1].id)
    assert ["one", "Mine.", "two"] == [message.content for message in last.messages[1:]]
    assert [turn.id for turn in recorded] == [turn.id for turn in cells["1-1-1"].turns]
    assert cells["1-1-1"].is_reused
    assert before + 2 == len(upstream.requests)


def test_newest_real_inputs_of_a_persona_lay_two_revisions_side_by_side(rolebook: Rolebook) -> None:
    for text in ("one", "two", "three"):
        talk(rolebook, "plain", text)
    old = rolebook.library.get_persona("plain").revision.id
    (rolebook.library.personas_dir / "plain.yaml").write_text(
        "name: Plain\nsystem: New.\n", "utf-8"
    )
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "revision": old[:6]}, "plain"],
        inputs=[{"persona": "plain", "last": 2}],
    )
    assert ["two", "three"] == [entry.text for entry in comparison.inputs]
    assert old == comparison.variants[0].revision != comparison.variants[1].revision
    fill(rolebook, comparison)
    assert 4 == rolebook.comparisons.tally(comparison).complete
    with pytest.raises(UnplannableError, match="no label or revision 'ffffff'"):
        plan(rolebook, variants=[{"persona": "plain", "revision": "ffffff"}], inputs=["x"])


ART = "name: Art\nsystem: 'You teach {{ topic }}.'\nvariables:\n  topic: {type: choice, choices: [maths, art]}\n"


def test_recorded_answers_of_several_personas_are_held_against_what_all_of_them_demand(
    rolebook: Rolebook, library_dir: Path
) -> None:
    personas, one = library_dir / "personas", "{name: one word, max_words: 1}"
    text = "name: {}\nsystem: Be brief.\nchecks: [{}]\n"
    (personas / "p1.yaml").write_text(text.format("P1", f"{one}, {{max_words: 9}}"), "utf-8")
    (personas / "p2.yaml").write_text(text.format("P2", "{max_words: 9}"), "utf-8")
    told = [talk(rolebook, persona_id, "Say it")[0] for persona_id in ("p1", "p2")]
    comparison = plan(
        rolebook,
        variants=["plain"],
        inputs=[{"session": turn.session_id} for turn in told],
        recorded=True,
        checks=[{"contains": "Echo"}],
    )
    assert tuple(turn.revision for turn in told) == comparison.variants[0].revisions
    assert comparison == rolebook.comparisons.get_comparison(comparison.id)
    fill(rolebook, comparison)
    cells = cells_of(rolebook, comparison)
    for recorded in (cells["1-1-1"], cells["1-2-1"]):
        assert {"max_words: 9", "contains: Echo"} == {check.label for check in recorded.checks}
    rows = list(csv.DictReader(export_comparison(rolebook, comparison, "csv")))
    assert ["p1", "p2"] == [row["persona_id"] for row in rows if row["cell"].startswith("1-")]
    for format in ("md", "html"):
        text = "".join(export_comparison(rolebook, comparison, format))
        assert "P1 (p1), P2 (p2)" in text
        assert all(turn.revision in text for turn in told)


def test_inputs_that_an_edit_lets_fit_no_more_are_left_out_and_why_is_said(
    rolebook: Rolebook, library_dir: Path
) -> None:
    file = library_dir / "personas" / "art.yaml"
    file.write_text(ART, "utf-8")
    (kept,) = talk(rolebook, "art", "What is a number?", variables={"topic": "maths"})
    (lost,) = talk(rolebook, "art", "What is a line?", variables={"topic": "art"})
    file.write_text(ART.replace("art]", "painting]"), "utf-8")
    spec = {
        "variants": [f"art@{kept.revision}", "art"],
        "inputs": [{"persona": "art"}],
        "recorded": True,
    }
    found = rolebook.compare.plan(parse_spec(spec))
    assert ["What is a number?"] == [entry.text for entry in found.comparison.inputs]
    assert (
        "1 input from the log is left out: 'Art': topic must be one of maths, painting, got 'art'."
        == tell_left_out(found.comparison, translator("en"))
    )
    comparison = rolebook.compare.create(found)
    assert comparison == rolebook.comparisons.get_comparison(comparison.id)
    for format in ("md", "html"):
        text = "".join(export_comparison(rolebook, comparison, format))
        assert "1 input from the log is left out: &#39;Art&#39;" in text.replace("'", "&#39;")
    # Whoever does it again elsewhere leaves out nothing.
    exported = json.loads("".join(export_comparison(rolebook, comparison, "json")))
    assert [1] == [each["count"] for each in exported["comparison"]["left_out"]]
    assert () == parse_comparison(exported["comparison"]).left_out
    with pytest.raises(UnplannableError, match=r"None of the inputs fits\. 'Art': topic must be"):
        plan(rolebook, variants=["art"], inputs=[{"session": lost.session_id}])
    plan(
        rolebook,
        variants=["art"],
        inputs=[{"session": lost.session_id, "variables": {"topic": "painting"}}],
    )


def test_inputs_without_a_whole_answer_are_asked_too(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    session_id = talk(rolebook, "plain", "one")[0].session_id
    stop(rolebook, session_id, "two")
    for text, model in (("three", "429"), ("four", "ok")):
        list(rolebook.chat.stream_turn(TurnRequest(session_id, text, model=model)))
    spec = {"variants": ["plain"], "recorded": True, "checks": [{"contains": "Echo"}]}
    fixed, recent, free = (
        plan(rolebook, **spec, inputs=[source])
        for source in (
            {"session": session_id},
            {"persona": "plain", "last": 4},
            {"session": session_id, "history": "free"},
        )
    )
    for comparison in (fixed, recent, free):
        upstream.reset()
        said = [text for entry in comparison.inputs for text in entry.turns]
        assert ["one", "two", "three", "four"] == said
        assert "" == tell_left_out(comparison, translator("en"))
        for _ in range(2):
            run = fill(rolebook, comparison, with_failed=True)
        # What was recorded stays as it is: nobody is asked for the rest of it.
        asked = [request.body["messages"][-1]["content"] for request in upstream.requests]
        assert sorted(said) == sorted(asked)
        tally = rolebook.comparisons.tally(comparison)
        # Several answers of one cell are a failed one if the last of them that is not whole failed.
        stopped = int(comparison is not free)
        assert (1, 1, stopped, stopped) == (
            *(tally.failed, tally.recorded_failed),
            *(tally.stopped, tally.recorded_stopped),
        )
        assert tally.total == tally.complete + 1 + stopped
        assert (0, 0, ()) == (
            *(tally.to_retry, tally.to_answer),
            tuple(rolebook.compare.unsettled_cells(comparison)),
        )
        assert tally.without_checks == run.progress.tally
        cells = [c for key, c in cells_of(rolebook, comparison).items() if key.startswith("1-")]
        arrived = [(turn.status, turn.text) for cell in cells for turn in cell.turns]
        assert ["Echo: one", "Echo", "", "Echo: four"] == [text.strip() for _, text in arrived]
        assert ["complete", "cancelled", "failed", "complete"] == [each for each, _ in arrived]


def test_what_a_replay_cannot_ask_is_named(rolebook: Rolebook) -> None:
    turns = talk(rolebook, "plain", "What is a line?", title="Lines")
    list(rolebook.chat.stream_turn(TurnRequest(turns[0].session_id, " ")))
    empty = rolebook.chat.start_session(Session(new_id(), "plain", "", title="Later"))
    pending = Turn(new_id(), turns[0].session_id, turns[0].revision, "And a point? " * 5)
    rolebook.log.start_turn(pending, rolebook.log.get_revision(turns[0].revision))
    told = (
        "3 inputs from the log are left out: Nothing has been said in 'Later' yet. "
        "Still being answered in 'Lines': 3 “And a point? And a point? And a point? …”. "
        "Without any words in 'Lines': 2."
    )
    for history in ("fixed", "free"):
        replayed = [
            {"session": session_id, "history": history}
            for session_id in (empty.id, turns[0].session_id)
        ]
        found = rolebook.compare.plan(parse_spec({"variants": ["plain"], "inputs": replayed}))
        said = [text for entry in found.comparison.inputs for text in entry.turns]
        assert ["What is a line?"] == said
        assert told == tell_left_out(found.comparison, translator("en"))
    comparison = rolebook.compare.create(found)
    assert comparison == rolebook.comparisons.get_comparison(comparison.id)
    with pytest.raises(UnplannableError, match="Nothing has been said in 'Later' yet"):
        plan(rolebook, variants=["plain"], inputs=replayed[:1])


def test_answers_that_the_log_has_are_reused_on_request_and_say_so(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    spec = {"variants": ["plain", "teacher"], "inputs": ["Hello", {"turns": ["a", "b"]}]}
    fill(rolebook, plan(rolebook, **spec))
    talk(rolebook, "plain", "Hello")
    before = len(upstream.requests)
    again = plan(rolebook, **spec, repeats=3)
    told = rolebook.estimator.estimate(again, is_reusing=True)
    assert (12, 3, 3 + 12) == (told.cells, told.reused, told.calls)
    fill(rolebook, again, is_reusing=True)
    cells = cells_of(rolebook, again)
    assert ["1-1-1", "2-1-1", "1-1-2"] == [key for key, cell in cells.items() if cell.is_reused]
    assert cells["1-1-1"].turns[0].id != cells["1-1-2"].turns[0].id
    # Of 12 cells three are reused; the others are three of one turn and six of two.
    assert before + 3 + 12 == len(upstream.requests)
    other = plan(
        rolebook, variants=[{"persona": "plain", "sampling": {"seed": 1}}], inputs=["Hello"]
    )
    fill(rolebook, other, is_reusing=True)
    assert not cells_of(rolebook, other)["1-1-1"].is_reused


def test_an_estimate_counts_only_what_will_be_called_where_answers_are_reused(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    add_judge(rolebook.library.personas_dir.parent)
    upstream.model_rule(JUDGE_MODEL, verdict("true"))
    spec = {"variants": ["plain", "teacher"], "inputs": ["Hello", "Hi"], "repeats": 2}
    judged = {**spec, "checks": [{"rubric": "Kind."}]}

    def estimate(spec: Mapping[str, Any]) -> Estimate:
        again = rolebook.compare.plan(parse_spec(spec))
        return rolebook.estimator.estimate(again.comparison, is_reusing=True)

    fill(rolebook, plan(rolebook, **spec))
    unjudged = estimate(judged)
    assert (8, 8, 8) == (unjudged.reused, unjudged.calls, unjudged.judgements)
    assert unjudged.prompt_tokens > 0
    fill(rolebook, plan(rolebook, **judged), is_reusing=True)
    nothing = estimate(judged)
    assert (8, 0, 0, 0.0) == (nothing.reused, nothing.calls, nothing.prompt_tokens, nothing.cost)
    assert 8 + 8 == len(upstream.requests)
    more = estimate({**judged, "inputs": ["Hello", "Bye"]})
    assert (4, 8, 4) == (more.reused, more.calls, more.judgements)


def test_an_estimate_weighs_each_variant_by_what_is_left_of_it(rolebook: Rolebook) -> None:
    long = {"system": "word " * 500, "name": "Long"}
    spec = {"variants": ["plain", long], "inputs": [f"Input {n}" for n in range(6)]}
    begun = plan(rolebook, **spec)
    fill(rolebook, begun, keys=[CellKey(1, n, 0) for n in range(5)])

    def estimate(look_at: int) -> Estimate:
        again = rolebook.compare.plan(parse_spec(spec)).comparison
        return rolebook.estimator.estimate(again, look_at=look_at, is_reusing=True)

    of_all, of_two = estimate(60), estimate(2)
    assert (5, 7, 7, 2) == (of_all.reused, of_all.calls, of_all.looked_at, of_two.looked_at)
    assert 500 < of_all.prompt_tokens < 1000
    assert of_all.prompt_tokens == of_two.prompt_tokens


def test_checks_of_persona_and_comparison_run_on_every_answer(rolebook: Rolebook) -> None:
    (rolebook.library.personas_dir / "checked.yaml").write_text(
        "name: Checked\nsystem: Hi.\nchecks: [{max_words: 3}]\n", "utf-8"
    )
    comparison = plan(
        rolebook,
        variants=["checked", "plain"],
        inputs=[{"turns": ["x", "a long text with words"]}],
        checks=[{"contains": "Echo"}],
    )
    fill(rolebook, comparison)
    cells = cells_of(rolebook, comparison)
    assert [True, True, True, False] == [
        result.has_passed
        for result in sorted(
            (result for result in cells["1-1-1"].checks), key=lambda result: not result.has_passed
        )
    ]
    assert 2 == len(cells["2-1-1"].checks)
    assert {turn.id for turn in cells["2-1-1"].turns} == set(cells["2-1-1"].results)


def test_checks_that_a_killed_process_left_out_are_made_up_without_a_call(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(rolebook, variants=["plain"], inputs=["Hello"], checks=[{"contains": "Echo"}])
    fill(rolebook, comparison)
    rolebook.log.change(lambda db: db.conn.execute("DELETE FROM check_results"))
    before = len(upstream.requests)
    fill(rolebook, comparison)
    assert [True] == [
        result.has_passed for result in cells_of(rolebook, comparison)["1-1-1"].checks
    ]
    assert before == len(upstream.requests)


JUDGE = """\
name: Judge
system: You judge by {{ rubric }} what follows {{ conversation }}{{ reference }}.
variables: {rubric: "", conversation: "", reference: ""}
"""


def test_rubric_is_judged_by_a_persona_whose_turn_is_in_the_log(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    (rolebook.library.personas_dir / "judge.yaml").write_text(JUDGE, "utf-8")
    verdict = json.dumps({"passed": False, "reason": "It only echoes."})
    upstream.model_rule("strict", f"ok?text={quote(verdict)}")
    comparison = plan(
        rolebook,
        variants=["plain"],
        inputs=[{"turns": ["Why?", "And then?"]}],
        checks=[{"rubric": "It explains."}, {"contains": "Echo"}],
        judge={"model": "strict"},
    )
    fill(rolebook, comparison)
    cell = cells_of(rolebook, comparison)["1-1-1"]
    results = {result.label: result for result in cell.results[cell.turns[1].id]}
    judged = next(result for label, result in results.items() if label.startswith("rubric"))
    assert (False, "It only echoes.") == (judged.has_passed, str(judged.said))
    asked = [request for request in upstream.requests if request.body["model"] == "strict"]
    assert 2 == len(asked)
    messages = asked[-1].body["messages"]
    assert "It explains." in messages[0]["content"]
    assert "Echo: Why?" in messages[0]["content"]
    assert "Echo: And then?" == messages[-1]["content"]
    assert () == rolebook.log.list_sessions().summaries


@pytest.mark.parametrize(
    ("old", "new", "judged", "reason"),
    [
        (
            'reference: ""',
            "reference: {type: text, required: true}",
            [2],
            "It could not be judged: 'reference' is needed: please fill it in.",
        ),
        (
            "{{ reference }}",
            "{{ 100 // (input|length - 8) }}",
            [1, 2, 3],
            "It could not be judged: judge.yaml:2:9: The template fails: integer division or modulo by zero",
        ),
    ],
)
def test_answer_that_cannot_be_put_to_the_judge_keeps_no_other_from_being_judged(
    rolebook: Rolebook, upstream: FakeUpstream, old: str, new: str, judged: list[int], reason: str
) -> None:
    judge = JUDGE.replace(old, new)
    (rolebook.library.personas_dir / "judge.yaml").write_text(judge, "utf-8")
    upstream.model_rule("strict", verdict("true"))
    comparison = plan(
        rolebook,
        variants=["plain"],
        inputs=["ab", "a", {"input": "abc", "reference": "abc"}, "abcd"],
        checks=[{"rubric": "It explains."}],
        judge={"model": "strict"},
        concurrency=1,
    )
    run = fill(rolebook, comparison)
    assert run.error is None
    assert {CellStatus.COMPLETE} == {c.status for c in cells_of(rolebook, comparison).values()}
    found = [cell.checks[0] for cell in cells_of(rolebook, comparison).values()]
    assert judged == [n for n, result in enumerate(found) if result.has_passed]
    assert reason == str(found[0].said)
    # Trying again helps nothing, so nobody is offered to, and whoever does calls for nothing.
    before = len(upstream.requests)
    fill(rolebook, comparison, with_failed=True)
    assert before == len(upstream.requests)
    tally = rolebook.comparisons.tally(comparison)
    assert (len(judged), 0, 0) == (tally.checked, tally.unchecked, tally.unjudged)


def test_rubric_without_a_judge_is_an_error_before_anything_is_called(rolebook: Rolebook) -> None:
    with pytest.raises(UnplannableError, match="no persona 'judge'"):
        plan(rolebook, variants=["plain"], inputs=["x"], checks=[{"rubric": "It explains."}])


def test_estimate_says_what_it_will_take_and_calls_nobody(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook,
        variants=[{"persona": "teacher", "model": "gpt-4o-mini"}],
        inputs=["Why?", {"turns": ["a", "b", "c"]}],
        repeats=5,
    )
    estimate = rolebook.estimator.estimate(comparison)
    assert (10, 20, 0) == (estimate.cells, estimate.calls, estimate.judgements)
    prepared = rolebook.cells.prepare(comparison, CellKey(0, 0, 0))
    tokens = rolebook.count_tokens(prepared.messages, "gpt-4o-mini")
    # Five times the short one; the script sends its start three times and two and then one of its answers again.
    assert tokens * 20 * 0.75 < estimate.prompt_tokens - 5 * 3 * 250 < tokens * 20 * 1.25
    assert 20 * 250 == estimate.completion_tokens
    assert 0 == len(upstream.requests)


def test_deleted_comparison_is_out_of_the_list_until_it_is_restored(rolebook: Rolebook) -> None:
    comparison = plan(rolebook, question="Which?", variants=["plain"], inputs=["x"])
    fill(rolebook, comparison)
    ((summary,), _) = rolebook.comparisons.list_comparisons()
    assert (comparison, 1) == (summary.comparison, summary.tally.complete)
    assert 1 == rolebook.comparisons.delete_comparisons([comparison.id])
    assert ([], "") == rolebook.comparisons.list_comparisons()
    assert rolebook.comparisons.get_comparison(comparison.id).deleted_at
    assert 1 == rolebook.comparisons.restore_comparisons([comparison.id])
    rolebook.comparisons.rename_comparison(comparison.id, "Whose?")
    assert "Whose?" == rolebook.comparisons.list_comparisons()[0][0].comparison.question


def test_a_variant_is_called_by_words_in_one_line(rolebook: Rolebook) -> None:
    named = [{"persona": "plain", "name": name} for name in (" \n", "Plain\n and short ")]
    comparison = plan(rolebook, variants=named, inputs=["x"])
    assert ["Plain assistant", "Plain and short"] == [each.name for each in comparison.variants]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"variants": [], "inputs": ["x"]}, "variants"),
        ({"variants": ["plain"] * 201, "inputs": ["x"]}, "201 variants, and 200 are the most"),
        ({"variants": ["plain"], "inputs": []}, "inputs"),
        ({"variants": [{"model": "x"}], "inputs": ["x"]}, "variants[0]"),
        ({"variants": ["plain"], "inputs": [{"input": "x", "turns": ["y"]}]}, "inputs[0]"),
        ({"variants": ["plain"], "inputs": ["  "]}, "inputs[0]"),
        ({"variants": ["plain"], "inputs": ["x"], "repeats": 0}, "repeats"),
        ({"variants": ["plain"], "inputs": ["x"], "checks": [{"maxwords": 3}]}, "checks"),
        (
            {"variants": [{"persona": "plain", "sampling": {"temperature": 9}}], "inputs": ["x"]},
            "variants[0].sampling.temperature",
        ),
    ],
)
def test_plan_that_makes_no_sense_is_an_error_at_its_place(
    spec: dict[str, Any], expected: str
) -> None:
    with pytest.raises(FaultyDataError) as raised:
        parse_spec(spec)
    fault = raised.value.faults[0]
    text = fault.message % fault.parameters
    assert expected in text
    assert "something else" not in text


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"variants": ["nobody"], "inputs": ["x"]}, NotFoundError),
        ({"variants": [{"persona": "plain", "upstream": "none"}], "inputs": ["x"]}, NotFoundError),
        (
            {"variants": [{"persona": "teacher", "variables": {"x": 1}}], "inputs": ["x"]},
            VariableError,
        ),
        (
            {"variants": ["teacher"], "inputs": [{"input": "x", "variables": {"levle": "x"}}]},
            InputError,
        ),
        (
            {"variants": ["teacher"], "inputs": [{"input": "x", "variables": {"level": "x"}}]},
            VariableError,
        ),
        ({"variants": ["plain"], "inputs": [{"persona": "plain"}]}, NothingSaidYetError),
        ({"variants": ["plain"], "inputs": [{"session": "none"}]}, NotFoundError),
        (
            {"variants": [{"persona": "plain", "changes": {"template": "no"}}], "inputs": ["x"]},
            InputError,
        ),
        ({"variants": ["plain"], "inputs": ["x"] * 1001, "repeats": 100}, InputError),
    ],
)
def test_plan_that_cannot_be_carried_out_is_an_error_before_it_begins(
    rolebook: Rolebook, spec: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(UnplannableError) as raised:
        plan(rolebook, **spec)
    assert [error] == [type(fault.error) for fault in raised.value.faults]
    assert ([], "") == rolebook.comparisons.list_comparisons()


def test_another_process_cannot_run_it_at_the_same_time(
    rolebook: Rolebook, make_rolebook: Make, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook, variants=[{"persona": "plain", "model": "ok?latency_ms=300"}], inputs=["x"]
    )
    run = rolebook.compare.start(comparison)
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    assert other.comparisons.is_run_elsewhere(comparison.id)
    with pytest.raises(ConflictError):
        other.compare.start(other.comparisons.get_comparison(comparison.id))
    assert run.wait(10)
    assert not other.comparisons.is_run_elsewhere(comparison.id)
    fill(other, comparison)
    assert 1 == len(upstream.requests)


def test_whoever_watches_sees_everything_in_order(rolebook: Rolebook) -> None:
    comparison = plan(rolebook, variants=["plain"], inputs=["one"])
    run = rolebook.compare.start(comparison, keys=[])
    assert run.wait(5)
    seen: list[RunEvent] = []
    run = _slow_start(rolebook.compare, comparison, seen)
    assert run.wait(5)
    kinds = [type(event) for event in seen]
    assert kinds[-2:] == [CellEnded, RunEnded]
    assert CellStarted in kinds or CellDelta in kinds


def _slow_start(compare: CompareService, comparison: Comparison, seen: list[RunEvent]) -> Run:
    run = compare.start(comparison)
    with run.watching() as events:
        while not isinstance(event := events.get(5), RunEnded):
            assert event is not None
            seen.append(event)
        seen.append(event)
    return run


def test_reused_answer_is_held_against_the_checks_of_this_comparison_only(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    def spec(words: int, reference: str) -> dict[str, Any]:
        return {
            "variants": ["plain"],
            "inputs": [{"input": "a b c", "reference": reference}],
            "checks": [
                {"name": "short", "max_words": words},
                {"name": "alike", "similarity": {"at_least": 0.9}},
            ],
        }

    first = plan(rolebook, **spec(99, "Echo: a b c"))
    fill(rolebook, first)
    assert [True, True] == passes(rolebook, first)
    other = plan(rolebook, **spec(2, "Nothing of the kind"))
    fill(rolebook, other, is_reusing=True)
    assert cells_of(rolebook, other)["1-1-1"].is_reused
    assert [False, False] == passes(rolebook, other)
    assert [True, True] == passes(rolebook, first)
    outlines = {o.key: o for o in rolebook.comparisons.outlines(other)}
    assert (0, 2) == (outlines[CellKey(0, 0, 0)].passed, outlines[CellKey(0, 0, 0)].failed)
    assert 1 == len(upstream.requests)


def begin(rolebook: Rolebook, comparison: Comparison, cell: str) -> Turn:
    """Record that a cell begins, without a call."""
    key = comparison.key_of(cell)
    persona = rolebook.cells.persona_of(comparison.variants[key.variant].revision)
    session = rolebook.cells.session_of(comparison, key)
    prepared = rolebook.cells.prepare(comparison, key)
    text = comparison.inputs[key.input].text
    turn = rolebook.chat.pending_turn(session, prepared, text)
    return rolebook.comparisons.start_cell(comparison.id, key, session, turn, persona.revision)


def test_how_far_it_is_is_told_alike_of_each_cell_and_of_all_together(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    said = talk(rolebook, "plain", "a b c", "Why?")
    broken = [*talk(rolebook, "plain", "Hm", model="429"), *talk(rolebook, "plain", "So?")]
    stop(rolebook, broken[1].session_id, "And?")
    upstream.model_rule("half", "ok,401")
    spec = {
        "variants": ["plain", {"persona": "plain", "model": "half", "name": "Half"}],
        "inputs": [
            *({"session": said[0].session_id}, {"turns": ["one", "two"]}, "a b c", "last"),
            *({"session": each.session_id} for each in broken),
        ],
        "checks": [{"max_words": 3}],
        "recorded": True,
        "repeats": 2,
    }
    comparison = plan(rolebook, **spec)
    fill(rolebook, comparison, keys=[k for k in comparison.cell_keys() if k.input < 3])
    other = plan(rolebook, **spec)
    fill(rolebook, other, is_reusing=True, keys=[k for k in other.cell_keys() if k.input < 4])
    begin(rolebook, comparison, "2-5-1")
    stopped = begin(rolebook, comparison, "2-5-2")
    rolebook.log.finish_turn(replace(stopped, status=TurnStatus.CANCELLED))
    seen = set()
    for one in (comparison, other):
        cells = rolebook.comparisons.cells(one)
        some = [cell for cell in cells if cell.key.input in {0, 2} and cell.key.repeat == 1]
        assert some == rolebook.comparisons.cells(one, inputs=[0, 2], repeats=[1])
        tally, counted = rolebook.comparisons.tally(one), Counter(cell.status for cell in cells)
        assert len(list(one.cell_keys())) == one.size == tally.total
        assert [counted[s] for s in (CellStatus.COMPLETE, CellStatus.FAILED)] == [
            tally.complete,
            tally.failed,
        ]
        assert [counted[s] for s in (CellStatus.STOPPED, CellStatus.RUNNING)] == [
            tally.stopped,
            tally.running,
        ]
        progress = take_snapshot(rolebook, one).progress
        assert {**counted, "waiting": tally.waiting} == {
            name: count for name, count in progress.items() if name in set(CellStatus) and count
        }
        assert (1, 1) == (tally.recorded_failed, tally.recorded_stopped)
        told = {cell.key: (cell.status, has_failed(cell)) for cell in cells}
        outlines = rolebook.comparisons.outlines(one)
        assert told == {outline.key: (outline.status, outline.failed > 0) for outline in outlines}
        assert told == {
            CellKey(variant, *divmod(place, one.repeats)): (status, place in standing.failing)
            for variant, standing in enumerate(rolebook.comparisons.standings(one))
            for status, places in standing.places.items()
            for place in places
        }
        seen |= {(cell.status, has_failed(cell), cell.is_reused) for cell in cells}
    assert {status for status, _, _ in seen} == set(CellStatus) - {CellStatus.WAITING}
    assert {
        (CellStatus.COMPLETE, failed, reused)
        for failed in (True, False)
        for reused in (True, False)
    } <= seen
    assert {
        (status, False, reused)
        for status in (CellStatus.FAILED, CellStatus.STOPPED)
        for reused in (True, False)
    } <= seen


@pytest.mark.parametrize("length", [10, 1_100_000])
def test_what_changes_of_a_comparison_shows_at_once_whoever_has_read_it_before(
    rolebook: Rolebook, length: int
) -> None:
    comparison = plan(rolebook, variants=["plain"], inputs=["a" * length])
    log = rolebook.comparisons
    assert comparison == log.get_comparison(comparison.id)
    log.rename_comparison(comparison.id, "Another question?")
    log.delete_comparisons([comparison.id])
    changed = log.get_comparison(comparison.id)
    assert "Another question?" == changed.question
    assert changed.deleted_at
    log.restore_comparisons([comparison.id])
    assert replace(comparison, question="Another question?") == log.get_comparison(comparison.id)


def has_failed(cell: Cell) -> bool:
    return any(result.has_passed is False for result in cell.checks)


def passes(rolebook: Rolebook, comparison: Comparison) -> list[bool | None]:
    """What the checks of the first cell say, by label."""
    checks = cells_of(rolebook, comparison)["1-1-1"].checks
    return [result.has_passed for result in sorted(checks, key=lambda result: result.label)]


def test_what_a_comparison_finds_on_a_recorded_answer_is_not_told_of_the_talk(
    rolebook: Rolebook,
) -> None:
    (rolebook.library.personas_dir / "strict.yaml").write_text(
        "name: Strict\nsystem: Hi.\nchecks: [{name: short, max_words: 1}]\n", "utf-8"
    )
    (turn,) = talk(rolebook, "strict", "one two three")
    comparison = plan(
        rolebook,
        variants=["plain"],
        recorded=True,
        inputs=[{"session": turn.session_id}],
        checks=[{"name": "echoes", "contains": "Echo"}],
    )
    fill(rolebook, comparison)
    assert [True, False] == passes(rolebook, comparison)
    told = rolebook.log.results_of_turns([turn.id])[turn.id]
    assert [("short", False)] == [(result.label, result.has_passed) for result in told]


def test_two_checks_of_one_name_must_demand_the_same(rolebook: Rolebook) -> None:
    (rolebook.library.personas_dir / "strict.yaml").write_text(
        "name: Strict\nsystem: Hi.\nchecks: [{name: short, max_words: 1}]\n", "utf-8"
    )
    spec = {"variants": ["strict"], "inputs": ["x"]}
    plan(rolebook, **spec, checks=[{"name": "short", "max_words": 1}])
    with pytest.raises(InputError, match=r"'short'.*'Strict'.*another name"):
        plan(rolebook, **spec, checks=[{"name": "short", "max_words": 99}])


def test_checks_of_another_comparison_change_nothing_of_the_answers_that_it_reuses(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    (rolebook.library.personas_dir / "judge.yaml").write_text(JUDGE, "utf-8")
    upstream.model_rule("strict", "ok?text=Perhaps.")
    spec = {"variants": ["plain", "teacher"], "inputs": ["Why?", "How so?"]}
    own = plan(rolebook, **spec, checks=[{"max_words": 99}])
    fill(rolebook, own)
    reusing = plan(
        rolebook,
        **spec,
        checks=[{"max_words": 1}, {"rubric": "It explains."}],
        judge={"model": "strict"},
    )
    fill(rolebook, reusing, is_reusing=True)
    log = rolebook.comparisons
    failing = [[list(s.failing) for s in log.standings(each)] for each in (own, reusing)]
    assert [[[], []], [[0, 1], [0, 1]]] == failing
    counted = [{(o.passed, o.failed) for o in log.outlines(each)} for each in (own, reusing)]
    assert [{(1, 0)}, {(0, 1)}] == counted
    tallies = [log.tally(each) for each in (own, reusing)]
    assert [(4, 0, 0), (4, 0, 4)] == [(t.checked, t.unchecked, t.unjudged) for t in tallies]
    assert [0, 4] == [len(rolebook.compare.unsettled_cells(each)) for each in (own, reusing)]


def test_each_answer_is_held_against_the_reference_of_its_own_input(rolebook: Rolebook) -> None:
    comparison = plan(
        rolebook,
        variants=["plain"],
        inputs=[
            {"input": "a b c", "reference": "Echo: a b c"},
            {"turns": ["d e f", "g"], "reference": "Nothing of the kind"},
            "g h i",
        ],
        checks=[{"similarity": {"at_least": 0.9}}, {"max_words": 99}],
    )
    fill(rolebook, comparison)
    # What has no reference is like nothing; that is no failure, and no check that is still to be made.
    tally = rolebook.comparisons.tally(comparison)
    assert (7, 0, 0) == (tally.checked, tally.unchecked, tally.unjudged)
    assert [[1]] == [s.failing for s in rolebook.comparisons.standings(comparison)]
    with closing(sqlite3.connect(rolebook.log.path)) as db, db:
        # As a result stands there of the same check on another reference.
        db.execute("UPDATE check_results SET digest = 'another' WHERE NOT has_passed")
    tally = rolebook.comparisons.tally(comparison)
    assert (5, 2, 0) == (tally.checked, tally.unchecked, tally.unjudged)
    assert [[]] == [s.failing for s in rolebook.comparisons.standings(comparison)]


def test_no_answer_counts_twice_and_none_comes_from_the_trash(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    (turn,) = talk(rolebook, "plain", "Hello")
    rolebook.log.delete([turn.session_id])
    comparison = plan(rolebook, variants=["plain"], inputs=["Hello"], repeats=3)
    fill(rolebook, comparison, keys=[CellKey(0, 0, 0)])
    fill(rolebook, comparison, is_reusing=True)
    cells = cells_of(rolebook, comparison).values()
    assert [False, False, False] == [cell.is_reused for cell in cells]
    assert 3 == len({cell.turns[0].id for cell in cells})


def test_another_default_model_tomorrow_mixes_no_models(
    rolebook: Rolebook, make_rolebook: Make, upstream: FakeUpstream
) -> None:
    comparison = plan(rolebook, variants=["plain"], inputs=["a", "b"])
    fill(rolebook, comparison, keys=[CellKey(0, 0, 0)])
    rolebook.close()
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "newer"})
    fill(other, other.comparisons.get_comparison(comparison.id))
    assert ["ok", "ok"] == [request.body["model"] for request in upstream.requests]


def verdicts(rolebook: Rolebook, comparison: Comparison) -> list[bool | None]:
    """What the checks of all cells say."""
    cells = rolebook.comparisons.cells(comparison)
    return [result.has_passed for cell in cells for result in cell.checks]


def test_another_default_model_tomorrow_is_another_judge(
    make_rolebook: Make, library_dir: Path, upstream: FakeUpstream
) -> None:
    shipped = (ROOT / "personas" / "judge.yaml").read_text("utf-8")
    (library_dir / "personas" / "judge.yaml").write_text(shipped, "utf-8")
    upstream.model_rule("mild", verdict("true"))
    upstream.model_rule("strict", verdict("false"))
    spec = {
        "variants": [{"persona": "plain", "model": "ok"}],
        "inputs": ["a", "b"],
        "checks": [{"rubric": "Is polite"}],
    }

    def on(model: str) -> Rolebook:
        return make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": model})

    comparison = plan(today := on("mild"), **spec)
    fill(today, comparison, keys=[CellKey(0, 0, 0)])
    tomorrow = on("strict")
    fill(tomorrow, tomorrow.comparisons.get_comparison(comparison.id))
    assert [True, True] == verdicts(tomorrow, comparison)
    # Answers may be taken from the log, but not what another judge has said of them.
    other = plan(tomorrow, **spec)
    estimate = tomorrow.estimator.estimate(other, is_reusing=True)
    assert (2, 2) == (estimate.calls, estimate.judgements)
    fill(tomorrow, other, is_reusing=True)
    assert [False, False] == verdicts(tomorrow, other)
    asked = [request.body["model"] for request in upstream.requests]
    assert ["ok", "mild"] * 2 + ["strict"] * 2 == asked


def test_another_default_upstream_tomorrow_answers_for_nobody_as_long_as_there_is_todays(
    make_rolebook: Make, library_dir: Path, upstream: FakeUpstream
) -> None:
    add_judge(library_dir)
    settings = library_dir / "rolebook.yaml"
    each = "".join(
        f"  {day}: {{base_url: {upstream.base_url}, keys: [env:{day.upper()}], model: ok}}\n"
        for day in ("today", "tomorrow")
    )
    keys = {"TODAY": "sk-today", "TOMORROW": "sk-tomorrow"}

    def on(day: str, *, renamed: bool = False) -> Rolebook:
        known = each.replace("today:", "yesterday:") if renamed else each
        settings.write_text(f"upstream: {day}\nupstreams:\n{known}", "utf-8")
        return make_rolebook(keys)

    def answered(rolebook: Rolebook, comparison: Comparison) -> list[str]:
        return [cell.turns[0].upstream for cell in rolebook.comparisons.cells(comparison)]

    first = on("today")
    comparison = plan(
        first, variants=["plain"], inputs=list("abc"), checks=[{"rubric": "Is polite"}]
    )
    fill(first, comparison, keys=[CellKey(0, 0, 0)])
    other = on("tomorrow")
    comparison = other.comparisons.get_comparison(comparison.id)
    fill(other, comparison, keys=[CellKey(0, 1, 0)])
    assert ["today"] * 2 == answered(other, comparison)
    # The judge's too.
    assert ["sk-today"] * 4 == [request.api_key for request in upstream.requests]
    again = other.compare.repeat(comparison)
    fill(other, again)
    assert ["today"] * 3 == answered(other, again)
    # One that is gone, as by another address, leaves it to whoever is the default, and that is told.
    last = on("tomorrow", renamed=True)
    assert not _mixing(last, comparison)
    fill(last, comparison)
    assert ["today", "today", "tomorrow"] == answered(last, comparison)
    assert _mixing(last, comparison) == [
        "The answers of Plain assistant come from several models: ok of today 2, ok of tomorrow 1."
    ]
    assert last.compare.repeat(comparison).upstream == "tomorrow"


def _mixing(rolebook: Rolebook, comparison: Comparison) -> list[str]:
    """What is said of variants that several models have answered for."""
    found = take_snapshot(rolebook, comparison).findings(translator("en"))
    return [s.text for s in found.sentences if "come from several" in s.text]


def test_an_upstream_gets_so_many_calls_at_once_by_whatever_name(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    name = rolebook.upstreams.get("").name
    comparison = plan(
        rolebook,
        variants=[
            {"persona": "plain", "model": "ok?latency_ms=50"},
            {"persona": "plain", "model": "ok?latency_ms=50", "upstream": name},
        ],
        inputs=[f"{n}" for n in range(6)],
        concurrency=2,
    )
    fill(rolebook, comparison)
    assert 2 == upstream.stats["peak_connections"]


def test_next_call_leaves_before_the_answer_to_the_last_one_is_recorded(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "model": "ok?latency_ms=300"}],
        inputs=["a", "b", "c"],
        concurrency=1,
    )
    run = rolebook.compare.start(comparison)

    def are_two_recorded() -> bool:
        return 2 == rolebook.comparisons.tally(comparison).running

    upstream.wait_for(are_two_recorded)
    with closing(sqlite3.connect(rolebook.log.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        upstream.wait_for(lambda: 2 == len(upstream.requests))
        assert 0 == rolebook.comparisons.tally(comparison).complete
        other.execute("ROLLBACK")
    assert run.wait(10)
    assert ["a", "b", "c"] == [
        request.body["messages"][-1]["content"] for request in upstream.requests
    ]
    assert 3 == rolebook.comparisons.tally(comparison).complete


def test_cell_keeps_its_place_until_nothing_more_is_called_for_it(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    script = {"turns": ["one", "two"]}
    comparison = plan(rolebook, variants=["plain"], inputs=[script, script], concurrency=1)
    fill(rolebook, comparison)
    assert ["one", "two"] * 2 == [
        request.body["messages"][-1]["content"] for request in upstream.requests
    ]


@pytest.fixture
def judged(make_rolebook: Make, library_dir: Path, upstream: FakeUpstream) -> Iterator[Judged]:
    """A Rolebook whose judge has an upstream of its own."""
    with FakeUpstream() as judge:
        urls = {"a": judge.base_url, "b": upstream.base_url, "c": upstream.base_url}
        lines = [f"  {name}: {{base_url: {url}, model: ok}}\n" for name, url in urls.items()]
        (library_dir / "rolebook.yaml").write_text("upstreams:\n" + "".join(lines), "utf-8")
        (library_dir / "personas" / "judge.yaml").write_text(JUDGE, "utf-8")
        judge.model_rule("strict", f"{verdict('true')}&latency_ms=30")
        yield Judged(make_rolebook(), judge)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_judge_is_asked_by_no_more_at_once_than_any_upstream_and_nobody_waits_for_ever(
    judged: Judged, concurrency: int
) -> None:
    comparison = plan(
        judged.rolebook,
        variants=[{"persona": "plain", "upstream": name} for name in "abc"],
        inputs=["one", {"turns": ["two", "three"]}, "four"],
        checks=[{"rubric": "It explains."}, {"rubric": "It is short."}],
        judge={"model": "strict", "upstream": "a"},
        concurrency=concurrency,
    )
    run = fill(judged.rolebook, comparison)
    assert (None, ()) == (run.error, run.breaks)
    tally = judged.rolebook.comparisons.tally(comparison)
    assert (9, 2 * 12, 0) == (tally.complete, tally.checked, tally.unchecked)
    assert 4 + 2 * 12 == len(judged.judge.requests)
    assert concurrency == judged.judge.stats["peak_connections"]


def test_next_cell_has_the_place_while_a_judge_of_another_upstream_is_asked(
    judged: Judged, upstream: FakeUpstream
) -> None:
    comparison = plan(
        judged.rolebook,
        variants=[{"persona": "plain", "upstream": "b"}],
        inputs=[{"turns": ["one", "two"]}, "three", "four", "five"],
        checks=[{"rubric": "It explains."}],
        judge={"model": "strict", "upstream": "a"},
        concurrency=1,
    )
    judged.judge.model_rule("strict", "hang")
    run = judged.rolebook.compare.start(comparison)
    # The first cell is being judged, and the second waits for that.
    upstream.wait_for(lambda: 3 == len(upstream.requests) and judged.judge.requests, 10)
    upstream.wait_for(lambda: 2 == judged.rolebook.comparisons.tally(comparison).complete, 10)
    upstream.wait_for(lambda: 2 == run.progress.to_judge, 10)
    run.stop()
    assert run.wait(10)
    assert 0 == run.progress.to_judge
    tally = judged.rolebook.comparisons.tally(comparison)
    assert (2, 2, 3, 1) == (
        tally.complete,
        tally.waiting,
        tally.unchecked,
        len(judged.judge.requests),
    )
    judged.judge.model_rule("strict", "hang")
    run = judged.rolebook.compare.start(comparison, keys=[CellKey(0, 0, 0), CellKey(0, 1, 0)])
    assert 2 == run.progress.to_judge
    run.stop()
    assert run.wait(10)
    judged.judge.model_rule("strict", verdict("true"))
    fill(judged.rolebook, comparison)
    tally = judged.rolebook.comparisons.tally(comparison)
    assert (4, 5, 0) == (tally.complete, tally.checked, tally.unchecked)
    assert ["one", "two", "three", "four", "five"] == [
        request.body["messages"][-1]["content"] for request in upstream.requests
    ]


def test_run_breaks_off_where_no_key_is_accepted_and_goes_on_when_one_is(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = plan(rolebook, variants=["plain"], inputs=list("abcdefghijklmnop"), concurrency=2)
    fill(rolebook, comparison, keys=[CellKey(0, 0, 0)])
    upstream.model_rule("ok", "401")
    run = fill(rolebook, comparison)
    (found,) = run.progress.breaks
    assert "wants a key and none is set" in str(found.said)
    assert (found,) == rolebook.comparisons.breaks_of(comparison.id)
    # One before, five in a row, and what each of four threads had begun by then.
    assert len(upstream.requests) <= 1 + 5 + 4
    tally = rolebook.comparisons.tally(comparison)
    assert (1, 0) == (tally.complete, tally.running)
    assert tally.waiting > 0
    upstream.model_rule("ok", "ok")
    fill(rolebook, comparison, with_failed=True)
    assert () == rolebook.comparisons.breaks_of(comparison.id)
    assert 16 == rolebook.comparisons.tally(comparison).complete


KEY = {"OPENAI_API_KEY": "sk-of-a-test"}


@pytest.fixture
def two(make_rolebook: Make, library_dir: Path, upstream: FakeUpstream) -> Rolebook:
    """A Rolebook with two upstreams: what they are asked for by the models *bad* and *good*."""
    address = f"base_url: {upstream.base_url}, keys: [env:OPENAI_API_KEY]"
    (library_dir / "rolebook.yaml").write_text(
        f"upstreams:\n  good: {{{address}, model: good}}\n  bad: {{{address}, model: bad}}\n",
        "utf-8",
    )
    upstream.model_rule("bad", "401")
    upstream.model_rule("good", "ok?latency_ms=20")
    return make_rolebook(KEY)


def test_why_a_run_broke_off_is_known_until_another_one_really_goes_on(
    two: Rolebook, make_rolebook: Make, library_dir: Path, upstream: FakeUpstream
) -> None:
    variants = [{"persona": "plain", "upstream": "bad"}]
    comparison = plan(two, variants=variants, inputs=list("abcdefgh"), concurrency=1)
    fill(two, comparison)
    breaks = two.comparisons.breaks_of(comparison.id)
    assert ["bad"] == [found.upstream for found in breaks]
    settings = library_dir / "rolebook.yaml"
    written = settings.read_text("utf-8")
    settings.write_text(written.replace("bad:", "renamed:"), "utf-8")
    other = make_rolebook(KEY)
    with pytest.raises(NotFoundError, match="There is no upstream 'bad'"):
        other.compare.start(comparison)
    assert breaks == two.comparisons.breaks_of(comparison.id)
    settings.write_text(written, "utf-8")
    # Nothing is wanted of it.
    run = fill(make_rolebook(KEY), comparison, keys=[])
    assert breaks == run.progress.breaks == two.comparisons.breaks_of(comparison.id)
    upstream.model_rule("bad", "ok?latency_ms=300")
    run = two.compare.start(comparison)
    assert () == run.progress.breaks == two.comparisons.breaks_of(comparison.id)
    run.stop()
    assert run.wait(20)
    assert () == two.comparisons.breaks_of(comparison.id)


@pytest.fixture
def old(two: Rolebook, make_rolebook: Make, library_dir: Path) -> tuple[Rolebook, str]:
    """A Rolebook without the upstream of a persona that somebody has talked to, and the session of that."""
    (library_dir / "personas" / "old.yaml").write_text(
        "name: Old\nsystem: Be old.\nupstream: bad\nmodel: good\n", "utf-8"
    )
    (turn,) = talk(two, "old", "Hello")
    settings = library_dir / "rolebook.yaml"
    settings.write_text(settings.read_text("utf-8").replace("bad:", "renamed:"), "utf-8")
    return make_rolebook(KEY), turn.session_id


def test_recorded_answers_need_no_upstream(old: tuple[Rolebook, str]) -> None:
    rolebook, session = old
    comparison = plan(rolebook, variants=["plain"], inputs=[{"session": session}], recorded=True)
    fill(rolebook, comparison)
    assert [("1-1-1", "Echo: Hello"), ("2-1-1", "Echo: Hello")] == [
        (name, cell.turns[0].text) for name, cell in cells_of(rolebook, comparison).items()
    ]


def test_cells_of_an_upstream_that_is_gone_fail_and_the_others_are_asked(
    two: Rolebook, make_rolebook: Make, library_dir: Path
) -> None:
    variants = [{"persona": "plain", "upstream": name} for name in ("bad", "good")]
    comparison = plan(two, variants=variants, inputs=["Hello"])
    settings = library_dir / "rolebook.yaml"
    written = settings.read_text("utf-8")
    settings.write_text(written.replace("bad:", "renamed:"), "utf-8")
    other = make_rolebook(KEY)
    fill(other, comparison, is_reusing=True)
    failed, answered = cells_of(other, comparison).values()
    assert CellStatus.COMPLETE is answered.status
    assert failed.turns[0].error
    assert "There is no upstream 'bad'" in str(failed.turns[0].error.said)
    with pytest.raises(UnplannableError, match="There is no upstream 'bad'"):
        other.compare.repeat(comparison)
    assert 1 == len(other.comparisons.list_comparisons()[0])


def test_cells_of_a_default_upstream_without_its_key_fail_and_say_so(
    two: Rolebook, make_rolebook: Make, library_dir: Path
) -> None:
    settings = library_dir / "rolebook.yaml"
    settings.write_text(f"upstream: bad\n{settings.read_text('utf-8')}", "utf-8")
    variants = ["plain", {"persona": "plain", "upstream": "good"}]
    comparison = plan(make_rolebook(KEY), variants=variants, inputs=["Hello"])
    without_key = settings.read_text("utf-8").replace(
        "[env:OPENAI_API_KEY], model: bad", "[env:NONE], model: bad"
    )
    settings.write_text(without_key, "utf-8")
    other = make_rolebook(KEY)
    fill(other, comparison)
    failed, answered = cells_of(other, comparison).values()
    assert CellStatus.COMPLETE is answered.status
    assert failed.turns[0].error
    assert "The upstream 'bad' needs a key, and NONE holds none." in str(failed.turns[0].error.said)


@pytest.mark.parametrize(
    ("model", "is_streamed", "is_silent"),
    [
        ("hang", True, True),
        ("hang-body", False, True),
        ("hang-mid", True, False),
        ("hang-mid", False, False),
    ],
)
def test_only_what_says_nothing_at_all_is_not_called_again(
    make_rolebook: Make, model: str, is_streamed: bool, is_silent: bool
) -> None:
    with FakeUpstream(max_wait_s=3) as upstream:
        rolebook = make_rolebook(
            {"OPENAI_BASE_URL": upstream.base_url},
            first_byte_timeout="0.3",
            idle_timeout="0.3",
        )
        variants = [{"persona": "plain", "model": model}]
        comparison = plan(rolebook, variants=variants, inputs=["Hello"], stream=is_streamed)
        fill(rolebook, comparison)
    (turn,) = cells_of(rolebook, comparison)["1-1-1"].turns
    assert turn.error is not None
    assert "upstream_timeout" == turn.error.code
    seconds = count(step=10)
    line = Line("mine", (), 1, clock=lambda: next(seconds))
    assert is_silent == any(line.note_end(turn) for _ in range(8))


def test_upstream_that_gives_no_answers_stops_its_own_cells_and_no_others(
    two: Rolebook, make_rolebook: Make, upstream: FakeUpstream
) -> None:
    comparison = plan(
        two,
        variants=[{"persona": "plain", "upstream": name} for name in ("bad", "good")],
        inputs=[f"{n}" for n in range(20)],
        concurrency=1,
    )
    run = two.compare.start(comparison)
    other = make_rolebook(KEY)
    upstream.wait_for(lambda: other.comparisons.breaks_of(comparison.id))
    assert run.progress.is_running
    assert run.wait(20)
    (found,) = other.compare.progress_of(comparison).breaks
    assert ("bad", 5, "upstream_key") == (found.upstream, found.calls, found.error.code)
    ends = Counter((key[0], cell.status.value) for key, cell in cells_of(two, comparison).items())
    assert 20 == ends["2", "complete"]
    # Five in a row, and what could begin until that was known.
    assert 5 <= ends["1", "failed"] <= 7
    upstream.model_rule("bad", "ok")
    fill(other, comparison, with_failed=True)
    assert 40 == two.comparisons.tally(comparison).complete
    assert () == two.compare.progress_of(comparison).breaks


def test_judge_that_gives_no_answers_is_left_out_and_asked_later(
    two: Rolebook, make_rolebook: Make, upstream: FakeUpstream
) -> None:
    (two.library.personas_dir / "judge.yaml").write_text(JUDGE, "utf-8")
    comparison = plan(
        two,
        variants=["plain"],
        inputs=[f"{n}" for n in range(20)],
        checks=[{"rubric": "It explains."}, {"contains": "Echo"}],
        judge={"upstream": "bad"},
        concurrency=2,
    )
    fill(two, comparison)
    assert ["bad"] == [found.upstream for found in two.comparisons.breaks_of(comparison.id)]
    tally = two.comparisons.tally(comparison)
    assert 20 == tally.complete
    # Five in a row, and what had begun until that was known.
    assert 5 <= tally.unjudged <= 9
    assert (20, 20) == (tally.checked, tally.unjudged + tally.unchecked)
    assert 20 == len(two.compare.unsettled_cells(comparison))
    told = [r for cell in cells_of(two, comparison).values() for r in cell.checks]
    assert 20 == sum(result.has_passed is True for result in told)
    untold = next(result.said for result in told if result.has_passed is None)
    assert str(untold).startswith("The judge did not answer: bad ")
    chinese = translator("zh").say(untold.message, untold.parameters)
    assert chinese.startswith("评判者没有作答：bad ")
    assert "密钥" in chinese
    verdict = '{"passed": true, "reason": "It does."}'
    upstream.model_rule("bad", f"ok?text={quote(verdict)}")
    # A process that knows nothing of the key that was refused.
    fill(make_rolebook(KEY), comparison, with_failed=True)
    told = [r for cell in cells_of(two, comparison).values() for r in cell.checks]
    assert [True] * 40 == [result.has_passed for result in told]
    tally = two.comparisons.tally(comparison)
    assert (40, 0, 0) == (tally.checked, tally.unchecked, tally.unjudged)
    assert [] == two.compare.unsettled_cells(comparison)
    assert 20 == Counter(request.body["model"] for request in upstream.requests)["good"]


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        ("renamed: {{{address}, model: bad}}", "There is no upstream 'bad'"),
        ("bad: {{{keyless}, model: bad}}", "The upstream 'bad' needs a key, and NONE holds none."),
    ],
)
def test_answers_are_asked_where_only_their_judge_is_not_to_be_had(
    two: Rolebook, make_rolebook: Make, upstream: FakeUpstream, instead: str, reason: str
) -> None:
    (two.library.personas_dir / "judge.yaml").write_text(JUDGE, "utf-8")
    comparison = plan(
        two,
        variants=["plain"],
        inputs=["Why?", "How?"],
        checks=[{"rubric": "It explains."}, {"contains": "Echo"}],
        judge={"upstream": "bad"},
    )
    settings = two.library.personas_dir.parent / "rolebook.yaml"
    written = settings.read_text("utf-8")
    *others, line = written.splitlines()
    address = line.partition("{")[2].rpartition(", model")[0]
    keyless = address.replace("OPENAI_API_KEY", "NONE")
    changed = instead.format(address=address, keyless=keyless)
    settings.write_text("\n".join([*others, f"  {changed}\n"]), "utf-8")
    without = make_rolebook(KEY)
    fill(without, comparison)
    assert ["good", "good"] == [request.body["model"] for request in upstream.requests]
    cells = cells_of(without, comparison).values()
    assert {CellStatus.COMPLETE} == {cell.status for cell in cells}
    told = [result for cell in cells for result in cell.checks]
    assert [None, None, True, True] == sorted(
        (result.has_passed for result in told), key=lambda passed: passed is True
    )
    said = {str(result.said) for result in told if result.has_passed is None}
    assert 1 == len(said)
    assert f"The judge did not answer: {reason}" in said.pop()
    assert 2 == without.comparisons.tally(comparison).unjudged
    # Nothing else is left to do.
    with pytest.raises((NotFoundError, UpstreamKeyError), match=reason):
        without.compare.start(comparison, with_failed=True)
    settings.write_text(written, "utf-8")
    upstream.model_rule("bad", verdict("true"))
    fill(make_rolebook(KEY), comparison, with_failed=True)
    told = [result for cell in cells_of(two, comparison).values() for result in cell.checks]
    assert [True] * 4 == [result.has_passed for result in told]


def test_comparison_in_the_trash_neither_begins_nor_goes_on(
    rolebook: Rolebook, make_rolebook: Make, upstream: FakeUpstream
) -> None:
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "model": "ok?latency_ms=50"}],
        inputs=[f"{n}" for n in range(40)],
        concurrency=1,
    )
    run = rolebook.compare.start(comparison)
    upstream.wait_for(lambda: len(upstream.requests) > 2)
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    other.comparisons.delete_comparisons([comparison.id])
    assert run.wait(5)
    assert isinstance(run.error, ConflictError)
    assert len(upstream.requests) < 20
    with pytest.raises(ConflictError, match="trash"):
        rolebook.compare.start(comparison)


def test_judge_that_failed_is_asked_again_and_costs_something(
    make_rolebook: Make, library_dir: Path, upstream: FakeUpstream
) -> None:
    (library_dir / "rolebook.yaml").write_text(
        "prices: {ok: {input: 1000000, output: 0}, strict: {input: 10000000, output: 0}}\n", "utf-8"
    )
    rolebook = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    (rolebook.library.personas_dir / "judge.yaml").write_text(JUDGE, "utf-8")
    upstream.model_rule("strict", "400")
    comparison = plan(
        rolebook,
        variants=["plain"],
        inputs=["Why?"],
        checks=[{"rubric": "It explains."}],
        judge={"model": "strict"},
    )
    fill(rolebook, comparison)
    assert [None] == passes(rolebook, comparison)
    before = rolebook.comparisons.tally(comparison)
    assert 1 == before.unjudged
    verdict = 'Well {see [1]}. {"passed": true, "reason": "It uses the set {1, 2}."}'
    upstream.model_rule("strict", f"ok?text={quote(verdict)}")
    fill(rolebook, comparison)
    assert [None] == passes(rolebook, comparison)
    run = fill(rolebook, comparison, with_failed=True)
    assert [True] == passes(rolebook, comparison)
    after = rolebook.comparisons.tally(comparison)
    assert 0 == after.unjudged
    answer = cells_of(rolebook, comparison)["1-1-1"].turns[0]
    assert answer.cost == before.cost
    assert after.cost > 5 * before.cost
    assert after.cost == pytest.approx(run.progress.tally.cost)


def test_what_is_left_of_a_run_is_told_to_cost_what_others_of_the_same_variant_did(
    make_rolebook: Make, library_dir: Path, upstream: FakeUpstream
) -> None:
    (library_dir / "rolebook.yaml").write_text(
        "prices: {cheap: {input: 1000, output: 0}, dear: {input: 100000, output: 0}}\n", "utf-8"
    )
    rolebook = make_rolebook({"OPENAI_BASE_URL": upstream.base_url})
    upstream.model_rule("cheap", "ok?text=Yes")
    upstream.model_rule("dear", "ok?text=Yes")
    recorded = talk(rolebook, "plain", "Number 00", model="cheap")
    comparison = plan(
        rolebook,
        variants=[{"persona": "plain", "model": model} for model in ("cheap", "dear")],
        inputs=[{"session": recorded[0].session_id}, *(f"Number {n:02}" for n in range(1, 12))],
        recorded=True,
    )
    upstream.hold("dear")
    run, seen = rolebook.compare.start(comparison, concurrency=1), []
    for number in range(1, 13):
        wait_until(lambda: number <= sum(asked.model == "dear" for asked in upstream.requests))  # noqa: B023
        seen.append(run.progress)
        upstream.let_go("dear")
        upstream.hold("dear")
    upstream.let_go("dear")
    assert run.wait(10)
    assert run.progress.cost_left is None
    whole = rolebook.comparisons.tally(comparison).cost
    told = [each.tally.cost + each.cost_left for each in seen if each.cost_left is not None]
    assert len(told) > 2
    assert told == pytest.approx([whole] * len(told))
    # A few cheap ones, and what was recorded, tell nothing of the dear ones.
    assert {None} == {each.cost_left for each in seen if each.tally.complete < 1 + 6}


def test_what_was_said_earlier_may_come_as_texts(rolebook: Rolebook) -> None:
    comparison = plan(
        rolebook,
        variants=["plain"],
        inputs=[{"input": "two", "earlier": [{"user": "one", "assistant": "Once."}]}],
    )
    fill(rolebook, comparison)
    turn = rolebook.log.get_turn(cells_of(rolebook, comparison)["1-1-1"].turns[0].id)
    assert ["one", "Once.", "two"] == [message.content for message in turn.messages[1:]]
    said = rolebook.cells.history_of(comparison.inputs[0])
    assert [("one", "Once.")] == [(before.input, before.text) for before in said]


def test_reused_answer_whose_session_was_removed_for_good_is_judged_where_that_can_be(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    add_judge(rolebook.library.personas_dir.parent)
    said = talk(rolebook, "plain", "one", "two")
    source = said[0].session_id
    comparison = plan(
        rolebook, variants=["plain"], inputs=[{"session": source}], checks=[{"rubric": "Counts."}]
    )
    upstream.model_rule(JUDGE_MODEL, f"ok?text=Perhaps,ok?text=Perhaps,{verdict('true')}")
    fill(rolebook, comparison, is_reusing=True)
    assert {turn.id for turn in said} == {
        cell.turns[0].id for cell in cells_of(rolebook, comparison).values()
    }
    assert 2 == rolebook.comparisons.tally(comparison).unjudged
    rolebook.log.delete([source])
    rolebook.log.purge_deleted("9999-01-01")
    fill(rolebook, comparison, with_failed=True)
    first, second = (cells_of(rolebook, comparison)[f"1-{n}-1"].checks[0] for n in (1, 2))
    assert first.has_passed
    # Nothing is known any more of what the second one answers, and asking again would not help.
    assert second.has_passed is None
    assert "What was said before this answer is no longer in the log" in str(second.said)
    tally = rolebook.comparisons.tally(comparison)
    assert (1, 0, 0) == (tally.checked, tally.unchecked, tally.unjudged)
    assert 2 + 2 + 1 == len(upstream.requests)
