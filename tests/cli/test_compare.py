"""`rolebook compare` and `rolebook replay`: from what was said on the command line to a table, a status and the log."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rolebook.cli import choices
from rolebook.core.comparison import Cell, CellStatus, Comparison
from rolebook.core.comparison_spec import MAX_CONCURRENCY
from rolebook.report.export import EXPORT_FORMATS
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.storage.log import SqliteLog
from tests.cli.conftest import Shell
from tests.fake_upstream import FakeUpstream
from tests.judging import JUDGE_MODEL, add_judge, verdict

SPEC = """\
question: Who is brief?
variants:
  - plain
  - {persona: teacher, name: Expert, variables: {level: expert}}
inputs:
  - {file: questions.csv, tags: [all]}
  - {turns: [Hello, And then?]}
checks:
  - max_words: 5
"""


def test_what_help_needs_no_import_for_is_what_is_taken() -> None:
    assert (EXPORT_FORMATS, MAX_CONCURRENCY) == (choices.FORMATS, choices.MAX_CONCURRENCY)


@pytest.fixture
def comparisons(log: SqliteLog) -> SqliteComparisonLog:
    return SqliteComparisonLog(log)


@pytest.fixture
def spec(shell: Shell) -> Path:
    """A comparison file with a file of inputs."""
    (shell.folder / "questions.csv").write_text(
        "input,level\nWhat is it?,beginner\n=1+1,\n", "utf-8"
    )
    path = shell.folder / "spec.yaml"
    path.write_text(SPEC, "utf-8")
    return path


def newest(comparisons: SqliteComparisonLog) -> Comparison:
    return comparisons.list_comparisons(limit=1)[0][0].comparison


def cells_of(comparisons: SqliteComparisonLog) -> list[Cell]:
    return list(comparisons.cells(newest(comparisons)))


def said(upstream: FakeUpstream) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in upstream.requests]


def test_whole_way_with_a_file(
    shell: Shell, upstream: FakeUpstream, spec: Path, comparisons: SqliteComparisonLog
) -> None:
    finished = shell.run("compare", "spec.yaml")
    assert 0 == finished.status
    assert ["Plain assistant", "Expert"] == [
        line.split("\t")[0] for line in finished.text.splitlines()[:2]
    ]
    assert "max_words: 5\tExpert\t100 %" in finished.text
    assert ["=1+1", "=1+1", "And then?", "And then?", "Hello", "Hello"] == sorted(said(upstream))[
        :6
    ]
    comparison = newest(comparisons)
    assert ("Who is brief?", ("all",)) == (comparison.question, comparison.inputs[0].tags)
    assert {CellStatus.COMPLETE} == {cell.status for cell in cells_of(comparisons)}
    assert comparison.id in finished.notices
    assert "sk-secret" not in finished.text + finished.notices


def test_recorded_answers_are_checked_again_without_a_server_or_a_key(
    rehearsing: Shell, upstream: FakeUpstream, spec: Path
) -> None:
    settings = (
        f"upstreams:\n  mine: {{base_url: {upstream.base_url}, model: ok, record: a.jsonl}}\n"
    )
    (rehearsing.folder / "rolebook.yaml").write_text(settings, "utf-8")
    recorded = rehearsing.run("compare", "spec.yaml", "--repeats", "2")
    asked = len(upstream.requests)

    (rehearsing.folder / "ci.yaml").write_text(
        "upstreams:\n  mine: {playback: a.jsonl, model: ok}\n", "utf-8"
    )
    elsewhere = {"ROLEBOOK_CONFIG": "ci.yaml", "ROLEBOOK_DATABASE": "ci.db"}
    played = rehearsing.run("compare", "spec.yaml", "--repeats", "2", environment=elsewhere)
    other = rehearsing.run("ask", "plain", "Never asked", environment=elsewhere)

    assert (recorded.status, played.status) == (0, 0)
    assert [line for line in played.text.splitlines() if "max_words" in line] == [
        line for line in recorded.text.splitlines() if "max_words" in line
    ]
    assert len(upstream.requests) == asked > 0
    assert other.status == 1
    assert "a.jsonl holds no answer to this request (ok: “Never asked”)" in other.notices


def test_in_a_process_of_its_own_it_says_the_same(shell: Shell, upstream: FakeUpstream) -> None:
    finished = shell.spawn("compare", "plain", "teacher", "--input", "Hello")
    assert (0, 2) == (finished.status, len(upstream.requests))
    assert "› Hello\n── Plain assistant\nEcho: Hello\n── Teacher\nEcho: Hello\n" in finished.text


@pytest.mark.parametrize(
    ("arguments", "status", "notice"),
    [
        (["--check", "max_words=5"], 0, "2 of 2 cells"),
        (["--check", "max_words=1"], 1, "2 of 2 cells"),
        (["--check", 'contains=["Echo", "Hi"]'], 0, ""),
        (["--check", "contains=Bye"], 1, ""),
        (["--check", "max_cost=1"], 1, "Not checked: max_cost: 1.0. What the answer cost is not"),
        (
            ["--check", 'similarity={"at_least": 0}'],
            1,
            "Not checked: similarity: 0. There is no text",
        ),
        (
            ["-m", "500?retry_after_ms=1"],
            1,
            "Ask the failed cells again with: rolebook comparisons retry",
        ),
        (["-m", "ok", "-m", "500?retry_after_ms=1"], 1, "4 of 4 cells · 2 failed"),
    ],
)
def test_status_says_whether_cells_and_checks_were_good(
    shell: Shell, arguments: list[str], status: int, notice: str
) -> None:
    finished = shell.run("compare", "plain", "teacher", "--input", "Hi", *arguments)
    assert status == finished.status
    assert notice in finished.notices


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "Who shall answer?"),
        (["compare", "plain"], "What shall be said?"),
        (["compare", "nobody", "--input", "Hi"], "There is no persona 'nobody'."),
        (["compare", "plain@abc", "--input", "Hi"], "'plain' has no label or revision 'abc'."),
        (["compare", "plain", "spec.yaml"], "not both"),
        (["compare", "gone.yaml"], "gone.yaml cannot be read: No such file"),
        (["compare", "bad.yaml"], "bad.yaml:3:10: repeats must be a whole number"),
        (["compare", "bad.yaml"], "bad.yaml:4:1: 'concurency' is no known key"),
        (["compare", "plain", "--inputs", "bad.csv"], "bad.csv:3: Cells in this row: 2"),
        (["compare", "plain", "--inputs", "gone.csv"], "gone.csv cannot be read"),
        (
            ["compare", "plain", "--input", "Hi", "--check", "max_wrds=3"],
            "Did you mean 'max_words'",
        ),
        (["compare", "plain", "--input", "Hi", "--check", "max_words"], "name=value"),
        (["compare", "plain", "--input", "Hi", "-v", "level=expert"], "has a variable 'level'"),
        (["compare", "plain", "--input", "Hi", "-s", "temperature=warm"], "from 0 to 2"),
        (["compare", "plain", "--input", "Hi", "-o", "a.pdf"], "the ending says the format"),
        (
            ["compare", "plain", "--input", "Hi", "-o", "no/a.json"],
            "give a file in a folder that is there",
        ),
        (["compare", "plain", "--recent", "5"], "The log has no turn with 'plain' yet"),
        (["compare", "plain", "--changed"], "The log knows 'plain' only as it is now"),
        (["compare", "plain", "teacher", "--changed"], "give its id alone"),
        (["compare", "--resume", "00000"], "There is no comparison 00000"),
        (["compare", "plain", "--input", "Hi", "--cell", "1-1-1"], "give --plan with it"),
        (["compare", "--resume", "00000", "--cell", "1-1-1"], "has begun stays as it is"),
        (["compare", "plain", "--resume", "00000"], "Give --resume or --repeat alone"),
        (["compare", "--resume", "00000", "-m", "ok"], "stays as it is"),
        (["compare", "--resume", "00000", "--input", "Hi"], "Give --resume or --repeat alone"),
        (["compare", "--resume", "00000", "--concurrency", "65"], "is not in the range 1<=x<=64"),
        (["compare", "--repeat", "bad.csv"], "no comparison that Rolebook has exported"),
        (["compare", "--repeat", "bad.csv", "--changed"], "Give --resume or --repeat alone"),
        (["compare", "--repeat", "bad.csv", "-m", "ok"], "What is repeated stays as it was."),
        (["compare", "--repeat", "bad.csv", "--cell", "1-1-1"], "give --plan with it"),
        (["replay", "00000", "plain"], "00000"),
    ],
)
def test_wrong_use_is_told_before_any_call(
    shell: Shell, upstream: FakeUpstream, spec: Path, arguments: list[str], message: str
) -> None:
    (shell.folder / "bad.yaml").write_text(
        "variants: [plain]\ninputs: [Hi]\nrepeats: many\nconcurency: 3\n", "utf-8"
    )
    (shell.folder / "bad.csv").write_text("input\nHi\nHello, you\n", "utf-8")
    finished = shell.run(*arguments)
    assert 2 == finished.status
    assert message in finished.notices
    assert [] == upstream.requests


WRONG = """\
variants:
  - plain
  - nobody
  - {persona: teacher, variables: {level: genius}}
inputs:
  - Hi
  - {input: Hello, variables: {levl: expert}}
  - {file: questions.csv, variables: {topic: music}}
"""


def test_all_that_cannot_be_planned_is_told_with_its_place(
    shell: Shell, spec: Path, upstream: FakeUpstream
) -> None:
    spec.write_text(WRONG, "utf-8")
    (shell.folder / "questions.csv").write_text(
        'input,level\n"What\nis it?",beginner\nWhy?,master\n', "utf-8"
    )
    assert (
        "spec.yaml:3:5: There is no persona 'nobody'." in shell.run("compare", "spec.yaml").notices
    )
    spec.write_text(WRONG.replace("  - nobody\n", ""), "utf-8")
    finished = shell.run("compare", "spec.yaml", "-m", "ok", "-m", "gpt-4o")
    assert (2, []) == (finished.status, upstream.requests)
    places = [line.split(": ")[0] for line in finished.notices.removeprefix("Error: ").splitlines()]
    assert ["spec.yaml:3:43"] * 2 + ["spec.yaml:6:38", "spec.yaml:7:46"] == places
    found = shell.run("compare", "teacher", "--input", "Hi", "--inputs", "questions.csv")
    assert "questions.csv:4: Input 3 with 'Teacher': level must be one of" in found.notices
    typed = shell.run("compare", "teacher", "--inputs", "questions.csv", "-v", "level=genius")
    assert typed.notices.startswith("Error: Input 1 with 'Teacher': level must be one of")


def test_mistake_in_a_text_that_is_changed_is_told_with_its_place(shell: Shell, spec: Path) -> None:
    spec.write_text(
        "variants:\n"
        "  - plain\n"
        "  - persona: plain\n"
        '    changes: {system: "Say {{ nothing }}."}\n'
        "  - persona: plain\n"
        "    changes:\n"
        "      system: |\n"
        "        Be kind.\n"
        "        Say {{ nobody }}.\n"
        "inputs: [Hi]\n",
        "utf-8",
    )
    finished = shell.run("compare", "spec.yaml", "-m", "ok", "-m", "gpt-4o")
    assert 2 == finished.status
    wrong = finished.notices.removeprefix("Error: ").splitlines()
    assert ["spec.yaml:4:31: There is no 'nothing'", "spec.yaml:9:16: There is no 'nobody'"] == [
        line.partition(" here:")[0] for line in wrong
    ]
    broken = shell.folder / "personas" / "odd.yaml"
    broken.write_text("name: Odd\nsystem: Say {{ nothing }}.\n", "utf-8")
    spec.write_text(
        "variants: [{persona: odd, changes: {sampling: {seed: 1}}}]\ninputs: [Hi]\n", "utf-8"
    )
    assert "cannot be asked: odd.yaml:2:16: There is" in shell.run("compare", "spec.yaml").notices


def test_judge_that_cannot_judge_is_told_with_all_else_that_is_wrong(
    shell: Shell, spec: Path
) -> None:
    add_judge(shell.folder)
    text = "variants:\n  - nobody\ninputs: [Hi]\nchecks: [{rubric: It rhymes.}]\njudge:\n"
    spec.write_text(f"{text}  persona: teacher\n  upstream: none\n", "utf-8")
    finished = shell.run("compare", "spec.yaml")
    assert 2 == finished.status
    wrong = finished.notices.removeprefix("Error: ")
    places = [line.split(": ")[0] for line in wrong.splitlines()]
    assert ["spec.yaml:2:5", "spec.yaml:6:12"] == places
    assert "The persona 'teacher' cannot judge: it has no variable rubric" in wrong
    spec.write_text(f"{text}  persona: judge\n  upstream: none\n", "utf-8")
    assert (
        "spec.yaml:7:13: There is no upstream 'none'" in shell.run("compare", "spec.yaml").notices
    )
    spec.write_text(text.replace("nobody", "plain") + "  model: ok\n", "utf-8")
    typed = shell.run("compare", "spec.yaml", "--judge", "plain")
    assert typed.notices.startswith("Error: The persona 'plain' cannot judge")


def test_answer_that_is_no_text_is_shown_as_what_it_is(shell: Shell) -> None:
    models = ("-m", "tool-calls", "-m", "refusal")
    done = shell.run(
        "compare", "plain", *models, "--input", "Why?", "--check", "not_contains=Sorry."
    )
    assert (
        'It asks for a tool, and Rolebook has none:\nget_weather({"city": "Paris"})\n' in done.text
    )
    assert "The model refuses: I'm sorry, I can't help with that.\n" in done.text
    assert (1, True) == (done.status, "contains: Sorry. The answer has no text" in done.notices)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is full")
def test_file_that_finds_no_room_keeps_no_other_from_being_written(shell: Shell) -> None:
    names = ["a.csv", "b.json", "c.html"]
    for name in (names[0], names[2]):
        (shell.folder / name).symlink_to("/dev/full")
    given = [part for name in names for part in ("-o", name)]
    done = shell.run("compare", "plain", "--input", "Hi", *given)
    assert 1 == done.status
    for name in (names[0], names[2]):
        assert f"Error: {name} cannot be written: No space left on device." in done.notices
        assert f"Written: {name}" not in done.notices
    assert "Written: b.json." in done.notices
    assert "comparison" in json.loads((shell.folder / "b.json").read_text("utf-8"))
    assert "Plain assistant" in done.text


def test_variants_are_multiplied_by_models_and_options_win_over_the_file(
    shell: Shell, upstream: FakeUpstream, spec: Path, comparisons: SqliteComparisonLog
) -> None:
    shell.run(
        *("compare", "spec.yaml", "-m", "ok", "-m", "gpt-4o", "--repeats", "2", "--input", "Hi"),
        *(
            "-s",
            "temperature=0.1",
            "-s",
            "user=me",
            "--question",
            "Other?",
            "--concurrency",
            "2",
            "--no-stream",
        ),
    )
    comparison = newest(comparisons)
    assert ["ok", "gpt-4o", "ok", "gpt-4o"] == [variant.model for variant in comparison.variants]
    assert {"temperature": 0.1, "user": "me"} == comparison.variants[3].parameters
    assert ("Other?", 2, 2) == (comparison.question, comparison.repeats, comparison.concurrency)
    assert ["Hi"] == [entry.text for entry in comparison.inputs]
    assert not any(request.body.get("stream") for request in upstream.requests)


def test_empty_value_leaves_out_what_the_persona_sets(shell: Shell, upstream: FakeUpstream) -> None:
    assert 0 == shell.run("compare", "teacher", "--input", "Hi", "-s", "max_tokens=").status
    assert "max_tokens" not in upstream.requests[0].body
    assert 0.7 == upstream.requests[0].body["temperature"]


def test_variable_goes_to_those_that_have_it(shell: Shell, upstream: FakeUpstream) -> None:
    shell.run("compare", "teacher", "plain", "--input", "Hi", "-v", "subject=music")
    systems = sorted(request.body["messages"][0]["content"] for request in upstream.requests)
    assert ["Answer briefly.", "You are a patient teacher of music for a beginner."] == systems


def test_plan_calls_nobody_and_shows_what_would_be_sent(
    shell: Shell, upstream: FakeUpstream, spec: Path
) -> None:
    shown = shell.run("compare", "spec.yaml", "--plan")
    assert (0, []) == (shown.status, upstream.requests)
    assert "--- Plain assistant\n+++ Expert\n" in shown.text
    assert "+ level: expert\n" in shown.text
    assert (
        "- Answer briefly.\n+ You are a patient teacher of mathematics for a expert.\n"
        in shown.text
    )
    assert "Variants: 2, inputs: 3, repeats: 1, calls: 8." in shown.notices
    planned = shell.run("compare", "spec.yaml", "--plan", "--json").json
    assert 8 == planned["estimate"]["calls"]
    assert ["1-1-1", "2-1-1"] == [cell["cell"] for cell in planned["cells"]]
    messages = planned["cells"][1]["messages"]
    assert "You are a patient teacher of mathematics for a expert." == messages[0]["content"]
    assert [] == shell.run("comparisons", "--json").json


def test_plan_tells_variants_apart_by_what_will_be_sent(shell: Shell) -> None:
    (shell.folder / "templates" / "loud.jinja").write_text(
        '{% message "system" %}{{ system }} SPEAK UP.{% endmessage %}\n'
        '{% message "user" %}{{ input }}{% endmessage %}\n',
        "utf-8",
    )
    (shell.folder / "q.csv").write_text("input,subject\nDo re mi,music\nA fugue,music\n", "utf-8")
    (shell.folder / "loud.yaml").write_text(
        "variants:\n"
        "  - teacher\n"
        "  - {persona: teacher, name: Loud, changes: {template: loud}, variables: {level: expert}}\n"
        "  - {persona: teacher, name: Painter, variables: {subject: painting}}\n"
        "inputs: [{file: q.csv}]\n",
        "utf-8",
    )
    shown = shell.run("compare", "loud.yaml", "--plan")
    teacher = "You are a patient teacher of music for a beginner."
    assert (
        "--- Teacher\n+++ Loud\n"
        "- Prompt template: chat\n+ Prompt template: loud\n"
        "- level: beginner\n+ level: expert\n"
        "@@ System prompt @@\n"
        f"- {teacher}\n+ You are a patient teacher of music for a expert. SPEAK UP.\n"
    ) in re.sub(r"[-+] Revision: \w+\n", "", shown.text)
    assert f"- {teacher}\n+ You are a patient teacher of painting for a beginner.\n" in shown.text
    assert "System prompts as they are sent with one of the inputs." in shown.notices
    loud, painter = shell.run("compare", "loud.yaml", "--plan", "--json").json["differences"]
    assert ("Loud", "Teacher", 1) == (loud["variant"], loud["against"], loud["input"])
    assert {"name": "level", "is_field": False, "old": "beginner", "new": "expert"} in loud[
        "settings"
    ]
    (prompt,) = painter["prompts"]
    assert (False, [teacher]) == (
        prompt["is_template"],
        [line["old"] for line in prompt["lines"]],
    )
    command = ("compare", "loud.yaml", "--plan", "--json", "--cell", "3-2-1")
    assert [2, 2] == [each["input"] for each in shell.run(*command).json["differences"]]


def test_plan_says_which_inputs_are_the_same(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "inputs.csv").write_text("input\nWhy?\nHow?\nWhy?\n", "utf-8")
    command = ("compare", "plain", "--inputs", str(tmp_path / "inputs.csv"), "--plan")
    assert (
        "1 input says the same as an earlier one and counts as a repeat of it: number 3."
        in shell.run(*command).notices
    )
    planned = shell.run(*command, "--json").json
    assert [{"input": 3, "same_as": 1}] == planned["same_inputs"]
    assert 3 == planned["estimate"]["cells"]


def test_plan_names_the_cells_that_will_fail_and_a_run_has_them_as_failed(shell: Shell) -> None:
    (shell.folder / "personas" / "picky.yaml").write_text(
        "name: Picky\nsystem: \"{{ {'a': 'x'}[about] }}\"\nvariables: {about: a}\n", "utf-8"
    )
    (shell.folder / "q.csv").write_text("input,about\nabc,b\nHello,a\n", "utf-8")
    command = ("compare", "picky", "plain", "--inputs", "q.csv")
    planned = shell.run(*command, "--plan")
    assert (
        "warning: 1 of 4 cells that were looked at cannot be asked and will fail: Picky, input 1: "
        in planned.notices
    )
    data = shell.run(*command, "--plan", "--json").json
    assert (["1-1-1"], ["1-2-1", "2-1-1"]) == (
        [cell["cell"] for cell in data["failing"]],
        [cell["cell"] for cell in data["cells"]],
    )
    finished = shell.run(*command)
    assert (1, True) == (finished.status, "1 of 4 cells failed" in finished.notices)


def test_plan_says_which_variants_are_the_same(shell: Shell) -> None:
    command = ("compare", "plain", "teacher", "plain", "--input", "Hello", "--plan")
    assert (
        "Nothing is different between 'Plain assistant' and 'Plain assistant 2': their answers show how much answers "
        "vary by chance.\n"
    ) in shell.run(*command).notices
    assert [{"variant": 3, "same_as": 1}] == shell.run(*command, "--json").json["same_variants"]


def test_stopped_by_ctrl_c_it_goes_on_where_it_was(
    shell: Shell, upstream: FakeUpstream, comparisons: SqliteComparisonLog
) -> None:
    upstream.model_rule("slow", "ok?text=Quick,ok?text=Quick,ok?tokens=400&delay_ms=20")
    arguments = ["compare", "plain", "--concurrency", "2", "-m", "slow"]
    texts = [part for number in range(6) for part in ("--input", f"Number {number}")]
    with shell.start(*arguments, *texts) as running:
        upstream.wait_for(lambda: len(upstream.requests) == 4, 10)
        upstream.wait_for(lambda: len(cells_of(comparisons)) == 6, 10)
        running.send_signal(signal.SIGINT)
        _, notices = running.communicate(timeout=10)
    comparison = newest(comparisons)
    assert 130 == running.returncode
    assert f"Go on with: rolebook compare --resume {comparison.id}" in notices.decode()
    # Two were answered, which ones is a matter of luck; two were broken off, and two were ready to be called.
    cells = cells_of(comparisons)
    assert ["complete"] * 2 + ["stopped"] * 4 == sorted(cell.status for cell in cells)
    assert 4 == len(upstream.requests)
    stopped = [f"Number {cell.key.input}" for cell in cells if cell.status == "stopped"]
    upstream.reset()
    upstream.model_rule("slow", "ok")
    resumed = shell.run("compare", "--resume", comparison.id)
    assert (0, 4) == (resumed.status, len(upstream.requests))
    assert stopped == sorted(said(upstream))


def test_nobody_is_sent_to_vote_on_a_single_variant(shell: Shell) -> None:
    one, two = (
        shell.run("compare", *names, "--input", "Hi").notices
        for names in (["plain"], ["plain", "teacher"])
    )
    assert [(True, False), (True, True)] == [
        ("see it again with" in said, "vote on it" in said) for said in (one, two)
    ]


def test_similarity_to_the_reference_is_asked_for_by_a_number(shell: Shell) -> None:
    (shell.folder / "q.csv").write_text("input,reference\nWhy?,Echo: Why?\n", "utf-8")
    command = ("compare", "plain", "--inputs", "q.csv", "--check")
    assert 0 == shell.run(*command, "similarity=0.9").status
    told = shell.run(*command, "similarity=high")
    assert (2, True) == (told.status, "at_least must be a number from 0 to 1" in told.notices)


def test_a_column_that_is_no_variable_is_told_once_with_what_it_may_be_called(shell: Shell) -> None:
    rows = "".join(f"Number {n}?,{n},beginner,math\n" for n in range(150))
    (shell.folder / "q.csv").write_text(f"question,id,level,标签\n{rows}", "utf-8")
    found = shell.run("compare", "teacher", "--inputs", "q.csv", "--plan")
    assert 2 == found.status
    first, second = found.notices.splitlines()
    assert "q.csv:2: Input 1: no persona of this comparison has a variable 'id'." in first
    assert "'标签'" in second
    assert "only the columns input, name, reference and tags are no variables" in second


def test_server_that_is_down_is_told_soon_and_gone_on_with_when_it_is_there(
    shell: Shell,
    upstream: FakeUpstream,
    comparisons: SqliteComparisonLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How long it has to be down is tested with the line itself.
    monkeypatch.setattr("rolebook.core.line._UNANSWERED_S", 0.5)
    (shell.folder / "questions.txt").write_text("".join(f"Number {n}\n" for n in range(20)))
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    finished = shell.run(
        *("compare", "plain", "teacher", "--inputs", "questions.txt"),
        environment={"OPENAI_BASE_URL": f"http://{address}/v1"},
    )
    comparison = newest(comparisons)
    assert 1 == finished.status
    assert (
        f"Go on, with the failed cells too: rolebook comparisons retry {comparison.id}\n"
        in finished.notices
    )
    assert f"Error: {address} gives no answers: " in finished.notices
    assert f"Nothing listens at http://{address}/v1. Check that {address} runs" in finished.notices
    assert "Errno" not in finished.notices
    tally = comparisons.tally(comparison)
    assert 5 <= tally.failed < 20 < tally.waiting
    chinese = {"ROLEBOOK_LANGUAGE": "zh"}
    shown = shell.run("comparisons", "show", comparison.id, environment=chinese)
    assert f"{address} 没有给出回答：连续" in shown.notices
    (told,) = shell.run("comparisons", "show", comparison.id, "--json").json["breaks"]
    assert (address, "upstream_connection") == (told["upstream"], told["code"])
    # Addresses of servers are nobody's business to whom a file is given.
    assert f"Nothing listens at …. Check that {address} runs" in told["message"]
    for format, words in (("md", "Broken off: "), ("html", "The run broke off: ")):
        exported = shell.run("comparisons", "export", comparison.id, "--format", format).text
        assert f"{words}{address} gives no answers" in exported.replace("**", "")
    assert [told["code"]] == [
        each["code"] for each in shell.run("comparisons", "--json").json[0]["breaks"]
    ]
    gone_on = shell.run("comparisons", "retry", comparison.id)
    assert (0, 40) == (gone_on.status, len(upstream.requests))
    assert 40 == comparisons.tally(comparison).complete
    assert [] == shell.run("comparisons", "show", comparison.id, "--json").json["breaks"]


def test_killed_it_loses_nothing_and_asks_nothing_twice(
    shell: Shell, upstream: FakeUpstream, comparisons: SqliteComparisonLog
) -> None:
    (shell.folder / "questions.txt").write_text("".join(f"Number {n}\n" for n in range(12)))
    with shell.start(
        *("compare", "plain", "teacher", "--inputs", "questions.txt"),
        *("-m", "ok?latency_ms=60", "--concurrency", "3"),
    ) as running:
        upstream.wait_for(lambda: len(upstream.requests) >= 10, 10)
        running.kill()
        running.communicate(timeout=10)
    done = {cell.key for cell in cells_of(comparisons) if cell.status is CellStatus.COMPLETE}
    assert 4 <= len(done) < 24
    answers = {cell.key: cell.turns[0].id for cell in cells_of(comparisons)}
    upstream.reset()
    resumed = shell.run("comparisons", "resume", newest(comparisons).id)
    assert (0, 24 - len(done)) == (resumed.status, len(upstream.requests))
    cells = {cell.key: cell for cell in cells_of(comparisons)}
    assert 24 == len(cells) == len({cell.turns[0].id for cell in cells.values()})
    assert {CellStatus.COMPLETE} == {cell.status for cell in cells.values()}
    assert [] == [key for key in done if cells[key].turns[0].id != answers[key]]


def test_killed_while_it_judges_it_asks_for_no_verdict_twice(
    shell: Shell, upstream: FakeUpstream, comparisons: SqliteComparisonLog
) -> None:
    add_judge(shell.folder)
    upstream.model_rule(JUDGE_MODEL, f"{verdict('true')},{verdict('false')},hang")
    rubrics = [
        part for text in ("Asks.", "Greets.", "Thanks.") for part in ("--check", f"rubric={text}")
    ]

    def judged() -> int:
        return sum(request.body["model"] == JUDGE_MODEL for request in upstream.requests)

    with shell.start("compare", "plain", "--input", "Hi", *rubrics) as running:
        upstream.wait_for(lambda: 3 == judged(), 60)
        running.kill()
        running.communicate(timeout=10)
    (cell,) = cells_of(comparisons)
    assert [True, False] == [result.has_passed for result in cell.checks]
    upstream.reset()
    upstream.model_rule(JUDGE_MODEL, verdict("true"))
    shell.run("comparisons", "resume", newest(comparisons).id)
    assert 1 == judged() == len(upstream.requests)
    (cell,) = cells_of(comparisons)
    assert [True, False, True] == [result.has_passed for result in cell.checks]


def test_figures_and_findings_are_written_as_pages_have_them(shell: Shell) -> None:
    models = ("-m", "cost?dollars=0.0001", "-m", "cost?dollars=0.0000065&tokens=40")
    inputs = [part for word in "abcdefg" for part in ("--input", f"Say {word * 3} {word} {word}?")]
    finished = shell.run("compare", "plain", *models, *inputs, "--check", "max_words=12")
    assert "\t0 % [0–35]\n" in finished.text
    lines = finished.notices.splitlines()
    assert any("passes fewer of its checks than" in line for line in lines)
    assert any("costs 94 % less an answer than" in line for line in lines)
    assert any(line.endswith("14 of 14 cells · $0.00075") for line in lines)


MOVED = """\
variants:
  - {persona: plain, name: Then, changes: {checks: [{name: short, max_words: 1}]}}
  - {persona: plain, name: Now, changes: {checks: [{name: short, max_words: 1000}]}}
inputs: [a, b, c, d, e, f, g, h]
"""


def test_a_limit_that_was_moved_under_its_name_is_no_verdict_on_the_answers(shell: Shell) -> None:
    (shell.folder / "moved.yaml").write_text(MOVED, "utf-8")
    finished = shell.run("compare", "moved.yaml")
    lines = finished.text.splitlines()
    told = [line.split(" [")[0] for line in lines if line.startswith("short\t")]
    assert ["short\tThen\t0 %", "short\tNow\t–", "short\tThen\t–", "short\tNow\t100 %"] == told
    assert "passes more" not in finished.notices
    assert "not the same check for all variants: “short”." in finished.notices


def test_answers_of_the_log_are_reused_on_request(
    shell: Shell, upstream: FakeUpstream, spec: Path
) -> None:
    shell.run("compare", "plain", "--input", "Hi", "--input", "Hello")
    finished = shell.run("compare", "plain", "teacher", "--input", "Hi", "--reuse")
    assert 3 == len(upstream.requests)
    assert "repeats: 1, calls: 1." in finished.notices
    assert "Answers that the log has already: 1." in finished.notices
    assert "Answers taken from the log, not asked for again: 1." in finished.notices
    assert "several turns" not in finished.notices
    planned = shell.run("compare", "spec.yaml", "--reuse", "--plan")
    assert "several turns, which are asked anew also with --reuse: 1." in planned.notices


@pytest.fixture
def standing_in(shell: Shell, upstream: FakeUpstream) -> Shell:
    """A shell with an upstream `work` that is down, for whose model `large` the upstream `spare` answers with `ok`."""
    (shell.folder / "rolebook.yaml").write_text(
        f"upstreams:\n  work: {{base_url: {upstream.base_url}, attempts: 1,"
        " fallbacks: [{upstream: spare, model: ok}]}\n"
        f"  spare: {{base_url: {upstream.base_url}}}\n",
        "utf-8",
    )
    upstream.model_rule("large", "401")
    return shell


FELL_BACK = """\
variants:
  - {persona: plain, name: Large, upstream: work, model: large}
  - {persona: plain, name: Small, upstream: spare}
inputs: [Hi, Hello]
"""


def test_what_stood_in_is_told_wherever_results_are_read(
    standing_in: Shell, comparisons: SqliteComparisonLog
) -> None:
    (standing_in.folder / "fell-back.yaml").write_text(FELL_BACK, "utf-8")
    told = (
        "ok of spare stood in for large of work: Large 2/2. These answers tell nothing of large of work. "
        "The same model has answered for Small: held against these, it is compared with itself."
    )
    files = [part for name in ("a.json", "a.csv", "a.md", "a.html") for part in ("--output", name)]
    assert told in standing_in.run("compare", "fell-back.yaml", *files).notices
    shown = standing_in.run("comparisons", "show", newest(comparisons).id, "--json")
    read = {name: (standing_in.folder / name).read_text("utf-8") for name in files[1::2]}
    stood_in = {
        "upstream": "spare",
        "model": "ok",
        "for_upstream": "work",
        "for_model": "large",
        "answers": 2,
    }
    for data in (shown.json, json.loads(read["a.json"])):
        assert [[stood_in], []] == [variant["stand_ins"] for variant in data["variants"]]
    rows = list(csv.DictReader(io.StringIO(read["a.csv"].removeprefix("\ufeff"))))
    assert ["work", "", "work", ""] == [row["upstream_requested"] for row in rows]
    assert told in read["a.md"]
    assert told in html.unescape(read["a.html"])
    for text in (read["a.md"], read["a.html"]):
        assert 2 == text.count("spare answered with ok, because work ")


def test_a_verdict_in_place_of_the_judge_is_told(
    standing_in: Shell, upstream: FakeUpstream, comparisons: SqliteComparisonLog
) -> None:
    add_judge(standing_in.folder)
    judge = standing_in.folder / "personas" / "judge.yaml"
    text = judge.read_text("utf-8").replace(f"model: {JUDGE_MODEL}", "model: large")
    judge.write_text(f"{text}upstream: work\n", "utf-8")
    upstream.model_rule("ok", verdict("true", "It does."))
    shown = standing_in.run("compare", "plain", "--input", "Hi", "--check", "rubric=Greets.")
    assert (
        "Verdicts on rubrics that are not the judge's own, as another upstream stood in: 1."
    ) in shown.notices
    (cell,) = cells_of(comparisons)
    (result,) = cell.checks
    assert "It does. (Judged by spare with ok, in place of work.)" == str(result.said)


def test_an_answer_of_a_stand_in_is_reused_for_nobody_else(
    standing_in: Shell, comparisons: SqliteComparisonLog
) -> None:
    (standing_in.folder / "fell-back.yaml").write_text(FELL_BACK, "utf-8")
    standing_in.run("compare", "fell-back.yaml")
    large = FELL_BACK.replace("work", "spare")
    (standing_in.folder / "large.yaml").write_text(large, "utf-8")
    shown = standing_in.run("compare", "large.yaml", "--reuse")
    assert "Answers taken from the log, not asked for again: 2." in shown.notices
    is_reused = {str(cell.key): cell.is_reused for cell in cells_of(comparisons)}
    assert {"1-1-1": False, "1-2-1": False, "2-1-1": True, "2-2-1": True} == is_reused


def test_answers_that_are_not_checked_are_told(
    shell: Shell, comparisons: SqliteComparisonLog
) -> None:
    shell.run("compare", "plain", "teacher", "--input", "Hi", "--check", "max_words=9")
    comparison = newest(comparisons)
    with closing(sqlite3.connect(shell.folder / "data" / "rolebook.db")) as db, db:
        # As a process leaves them that is killed between answers and checks.
        db.execute("DELETE FROM check_results")
    shown = shell.run("comparisons", "show", comparison.id)
    assert "Checks that have not been made yet: 2.\n" in shown.notices
    assert f"Go on with: rolebook compare --resume {comparison.id}\n" in shown.notices
    assert 0 == shell.run("comparisons", "resume", comparison.id).status
    assert "made yet" not in shell.run("comparisons", "show", comparison.id).notices


@pytest.fixture
def session_id(shell: Shell, upstream: FakeUpstream) -> Any:
    """A session of two turns with the teacher; what it took is forgotten by the upstream."""
    shell.run("chat", "teacher", "-v", "subject=music", stdin=b"Do re mi\nAnd then?\n")
    upstream.reset()
    return shell.run("sessions", "--json").json[0]["id"]


def test_rubric_that_can_never_be_judged_is_told_and_is_no_success(
    shell: Shell, upstream: FakeUpstream, log: SqliteLog, session_id: str
) -> None:
    add_judge(shell.folder)
    upstream.model_rule(JUDGE_MODEL, "ok?text=Perhaps")
    arguments = (
        "-v",
        "subject=music",
        "--session",
        session_id,
        "--reuse",
        "--check",
        "rubric=Sings",
    )
    finished = shell.run("compare", "teacher", *arguments)
    told = [line.split(":")[0] for line in finished.notices.splitlines() if "judge" in line]
    assert ["Checks that could not be judged", "Not checked", "Ask the judge again with"] == told
    log.delete([session_id])
    log.purge_deleted("9999-01-01")
    upstream.model_rule(JUDGE_MODEL, verdict("true"))
    comparison_id = shell.run("comparisons", "--json").json[0]["id"]
    finished = shell.run("comparisons", "retry", comparison_id)
    assert "What was said before this answer is no longer in the log" in finished.notices
    assert "Ask the judge again" not in finished.notices
    assert 1 == finished.status


def test_session_is_replayed_beside_what_was_recorded(
    shell: Shell, upstream: FakeUpstream, session_id: str
) -> None:
    finished = shell.run("replay", session_id, "plain", "teacher")
    assert 0 == finished.status
    names = [line.split("\t")[:2] for line in finished.text.splitlines()[:3]]
    assert [["As recorded", "2/2"], ["Plain assistant", "2/2"], ["Teacher", "2/2"]] == names
    assert 4 == len(upstream.requests)
    told = [request.body["messages"] for request in upstream.requests]
    assert any("music" in messages[0]["content"] for messages in told)
    followed = [messages[-3:] for messages in told if messages[-1]["content"] == "And then?"]
    assert {"Echo: Do re mi"} == {messages[1]["content"] for messages in followed}


def test_recorded_answers_need_no_checks(
    shell: Shell, comparisons: SqliteComparisonLog, session_id: str
) -> None:
    shell.run("replay", session_id, "plain", "--check", "max_words=9")
    with closing(sqlite3.connect(shell.folder / "data" / "rolebook.db")) as db, db:
        db.execute("DELETE FROM check_results")
    shown = shell.run("comparisons", "show", newest(comparisons).id)
    assert ["As recorded", "Plain assistant"] == [
        line.split("\t")[0] for line in shown.text.splitlines()[:2]
    ]
    assert "Checks that have not been made yet: 2.\n" in shown.notices


def test_check_that_only_the_recorded_answers_fail_leaves_the_status_good(
    shell: Shell, session_id: str
) -> None:
    arguments = ("plain", "-m", "ok?text=Sol", "--check", "contains=Sol")
    finished = shell.run("replay", session_id, *arguments)
    assert "contains: Sol\tAs recorded\t0 %" in finished.text
    assert 0 == finished.status


def test_recorded_answer_that_failed_is_told_and_nobody_is_to_try_it_again(
    shell: Shell, comparisons: SqliteComparisonLog, session_id: str
) -> None:
    shell.run("chat", "--session", session_id, "-m", "429", stdin=b"More?\n")
    finished = shell.run("replay", session_id, "plain", "-m", "ok")
    lines = [line.split("\t")[:3] for line in finished.text.splitlines()[:2]]
    assert [["As recorded", "2/3", "1"], ["Plain assistant", "3/3", "0"]] == lines
    assert (0, True) == (finished.status, "1 of 6 cells failed" in finished.notices)
    assert "6 of 6 cells · 1 failed" in finished.notices
    assert "retry" not in finished.notices
    comparison = newest(comparisons)
    listed = shell.run("comparisons").text
    assert "5/6\t1" in listed
    again = shell.run("comparisons", "retry", comparison.id)
    assert (0, lines) == (
        again.status,
        [line.split("\t")[:3] for line in again.text.splitlines()[:2]],
    )


def test_a_replay_asks_the_own_persona_as_the_session_did(
    shell: Shell, upstream: FakeUpstream
) -> None:
    chosen = (
        "-m",
        "ok?text=Clear",
        "-s",
        "temperature=0.33",
        "-s",
        "user=anna",
        "-s",
        "max_tokens=",
    )
    session_id = shell.run("ask", "teacher", "Why?", *chosen, "--json").json["session_id"]
    first = upstream.requests[0].body
    upstream.reset()

    def asked(*arguments: str) -> list[dict[str, Any]]:
        assert 0 == shell.run("replay", session_id, *arguments, "--no-recorded").status
        found = [{**request.body, "messages": ...} for request in upstream.requests]
        upstream.reset()
        return found

    same = {**first, "messages": ...}
    assert [same] == asked()
    assert [same] == asked("teacher")
    assert [{**same, "model": "ok?text=Dim", "temperature": 0.5}] == asked(
        "-m", "ok?text=Dim", "-s", "temperature=0.5"
    )
    (plain,) = asked("plain")
    assert ("ok", False) == (plain["model"], "user" in plain)


def test_a_replay_knows_the_own_persona_by_its_new_name(
    shell: Shell, upstream: FakeUpstream
) -> None:
    chosen = ("-m", "ok?text=Clear", "-s", "temperature=0.33")
    session_id = shell.run("ask", "teacher", "Why?", *chosen, "--json").json["session_id"]
    first = upstream.requests[0].body
    revision = shell.run("personas", "history", "teacher", "--json").json[0]["revision"]
    shell.run("personas", "rename", "teacher", "tutor")
    folder = shell.folder / "personas"

    def asked(*arguments: str) -> dict[str, Any]:
        upstream.reset()
        finished = shell.run("replay", session_id, *arguments, "--no-recorded")
        assert 0 == finished.status, finished.notices
        (request,) = upstream.requests
        return dict(request.body)

    assert first == asked()
    assert first == asked("tutor")
    assert first == asked(f"teacher@{revision[:8]}")
    # On disk, too.
    (folder / "tutor.yaml").rename(folder / "coach.yaml")
    assert first == asked()
    assert first == asked("coach")
    # Another persona under the old name is not this one.
    (folder / "teacher.yaml").write_text("name: Other\nsystem: You are another.\n", "utf-8")
    other = asked("teacher")
    assert ("ok", False) == (other["model"], "temperature" in other)
    assert first == asked()


def test_a_replay_says_what_became_of_a_persona_that_is_gone(
    shell: Shell, upstream: FakeUpstream, session_id: str
) -> None:
    revision = shell.run("personas", "history", "teacher", "--json").json[0]["revision"]
    shell.run("personas", "rename", "teacher", "tutor")
    told = shell.run("replay", session_id, "teacher")
    assert 2 == told.status
    assert "no persona 'teacher' any more: it was renamed, and is 'tutor' now." in told.notices
    shell.run("personas", "delete", "tutor")
    told = shell.run("replay", session_id)
    reference = f"tutor@{revision[:8]}"
    assert f"no persona 'tutor' any more. What it was last is {reference}" in told.notices
    assert 0 == shell.run("replay", session_id, reference).status
    assert "patient teacher of music" in upstream.requests[-1].body["messages"][0]["content"]
    assert "There is no persona 'nobody'.\n" in shell.run("replay", session_id, "nobody").notices


def test_the_messages_of_a_script_are_told_to_be_the_first_of_several(
    shell: Shell, spec: Path
) -> None:
    told = "This is the first of 2 turns; the others follow as they are answered."
    assert told in shell.run("compare", "spec.yaml", "--plan", "--cell", "1-3-1").notices
    assert told not in shell.run("compare", "spec.yaml", "--plan", "--cell", "1-1-1").notices


def test_a_replay_wants_the_form_of_answer_that_was_wanted_then_of_whomever_it_asks(
    shell: Shell, upstream: FakeUpstream
) -> None:
    form = ("-s", 'response_format={"type":"json_object"}')
    session_id = shell.run("ask", "teacher", "Why?", *form, "--json").json["session_id"]
    upstream.reset()
    planned = shell.run("replay", session_id, "plain", "--plan", "--cell", "2-1-1", "--json")
    (cell,) = planned.json["cells"]
    assert {"type": "json_object"} == cell["parameters"]["response_format"]
    told = "1 input goes with what was wanted of its answer: response_format."
    assert told in shell.run("replay", session_id, "plain", "--plan").notices
    shown = shell.run("replay", session_id, "plain", "teacher", "--no-recorded")
    assert told in shown.notices
    assert [{"type": "json_object"}] * 2 == [
        request.body["response_format"] for request in upstream.requests
    ]


def test_a_replays_plan_tells_what_was_sent_then_from_what_will_be(
    shell: Shell, upstream: FakeUpstream
) -> None:
    chosen = ("-m", "ok?text=Clear", "-s", "temperature=0.33")
    session_id = shell.run("ask", "teacher", "Why?", *chosen, "--json").json["session_id"]
    planned = shell.run("replay", session_id, "plain", "--plan").text
    assert ["As recorded", "teacher"] == planned.splitlines()[0].split("\t")[:2]
    assert "ok?text=Clear" in planned.splitlines()[0]
    assert "--- As recorded\n+++ Plain assistant\n" in planned
    assert "- Model: ok?text=Clear\n+ Model: ok\n" in planned
    assert "- temperature: 0.33\n" in planned
    data = shell.run("replay", session_id, "plain", "--plan", "--json").json
    assert [("As recorded", "Plain assistant")] == [
        (each["against"], each["variant"]) for each in data["differences"]
    ]


def test_a_replay_keeps_a_model_that_was_the_default_then(
    shell: Shell, upstream: FakeUpstream
) -> None:
    session_id = shell.run("ask", "plain", "Why?", "--json").json["session_id"]
    upstream.reset()
    shell.run("replay", session_id, environment={"ROLEBOOK_MODEL": "ok,ok"})
    shell.run("replay", session_id, "-m", "ok?text=Dim", environment={"ROLEBOOK_MODEL": "ok,ok"})
    assert ["ok", "ok?text=Dim"] == [request.body["model"] for request in upstream.requests]


def test_replay_goes_on_freely_with_the_own_persona_and_other_models(
    shell: Shell, upstream: FakeUpstream, session_id: str
) -> None:
    arguments = ("-m", "ok?text=La", "--free", "--no-recorded")
    finished = shell.run("replay", session_id, *arguments)
    assert ["Teacher\t1/1"] == [line[:11] for line in finished.text.splitlines()[:1]]
    assert "La" == upstream.requests[1].body["messages"][-2]["content"]


def test_session_and_recent_inputs_are_inputs(
    shell: Shell, upstream: FakeUpstream, session_id: str
) -> None:
    assert 0 == shell.run("compare", "plain", "--session", session_id, "--history", "free").status
    assert ["Do re mi", "And then?"] == said(upstream)
    upstream.reset()
    assert 0 == shell.run("compare", "teacher", "--recent", "1").status
    assert ["And then?"] == said(upstream)


def test_what_an_edit_has_changed(
    shell: Shell, upstream: FakeUpstream, session_id: str, comparisons: SqliteComparisonLog
) -> None:
    path = shell.folder / "personas" / "teacher.yaml"
    path.write_text(path.read_text("utf-8").replace("patient", "brisk"), "utf-8")
    planned = shell.run("compare", "teacher", "--changed", "--plan")
    assert "- You are a patient teacher" in planned.text
    assert "+ You are a brisk teacher" in planned.text
    assert 0 == shell.run("compare", "teacher", "--changed").status
    first, second = newest(comparisons).variants
    assert (f"Teacher (@{first.revision[:8]})", "Teacher") == (first.name, second.name)
    assert ["And then?"] * 2 + ["Do re mi"] * 2 == sorted(said(upstream))
    earlier = shell.run("compare", f"teacher@{first.revision[:6]}", "--input", "Hi")
    assert 0 == earlier.status
    assert "patient" in upstream.requests[-1].body["messages"][0]["content"]


def test_what_an_edit_has_changed_is_known_of_a_persona_that_was_renamed(
    shell: Shell, upstream: FakeUpstream, session_id: str
) -> None:
    folder = shell.folder / "personas"
    shell.run("personas", "rename", "teacher", "tutor")
    # Another persona under the old name is not this one.
    (folder / "teacher.yaml").write_text("name: Other\nsystem: You are another.\n", "utf-8")
    shell.run("ask", "teacher", "Who are you?")
    path = folder / "tutor.yaml"
    path.write_text(path.read_text("utf-8").replace("patient", "brisk"), "utf-8")
    planned = shell.run("compare", "tutor", "--changed", "--plan")
    assert "- You are a patient teacher" in planned.text
    assert "+ You are a brisk teacher" in planned.text
    path.rename(folder / "coach.yaml")
    upstream.reset()
    assert 0 == shell.run("compare", "coach", "--changed").status
    assert ["And then?"] * 2 + ["Do re mi"] * 2 == sorted(said(upstream))


def test_a_persona_whose_old_name_nobody_knows_is_held_against_a_revision_of_that_one(
    shell: Shell, session_id: str
) -> None:
    path = shell.folder / "personas" / "teacher.yaml"
    path.with_name("coach.yaml").write_text(path.read_text("utf-8").replace("patient", "brisk"))
    path.unlink()
    told = shell.run("compare", "coach", "--changed")
    assert "rolebook compare OLD@REVISION coach --recent 10" in told.notices
    revision = shell.run("personas", "history", "teacher", "--json").json[-1]["revision"]
    planned = shell.run("compare", f"teacher@{revision}", "coach", "--recent", "10", "--plan").text
    assert "- You are a patient teacher" in planned
    assert "+ You are a brisk teacher" in planned


def test_an_edit_is_held_against_what_it_replaced_and_not_against_what_was_asked_for_by_name(
    shell: Shell, upstream: FakeUpstream
) -> None:
    path = shell.folder / "personas" / "teacher.yaml"
    text = path.read_text("utf-8")
    first = shell.run("ask", "teacher", "Why?", "--json").json["revision"]
    path.write_text(text.replace("patient", "brisk"), "utf-8")
    assert "The log knows" not in shell.run("compare", "teacher", "--changed", "--plan").notices
    shell.run("ask", "teacher", "Why?")
    shell.run("ask", f"teacher@{first}", "Why?")
    path.write_text(text.replace("patient", "strict"), "utf-8")
    planned = shell.run("compare", "teacher", "--changed", "--plan").text
    assert "- You are a brisk teacher" in planned
    assert "+ You are a strict teacher" in planned


def test_recorded_answers_that_stay_behind_when_a_replay_is_repeated_are_told(
    shell: Shell, session_id: str
) -> None:
    shell.run("replay", session_id, "plain", "-o", "done.csv")
    repeat, told = ("compare", "--repeat", "done.csv", "--plan"), "in another log and take no part"
    here = shell.run(*repeat)
    assert "As recorded" in here.text
    assert told not in here.notices
    elsewhere = shell.run(*repeat, environment={"ROLEBOOK_DATABASE": "other.db"})
    assert (0, False) == (elsewhere.status, "As recorded" in elsewhere.text)
    assert f"The recorded answers to 2 inputs are {told}." in elsewhere.notices


def test_at_a_terminal_it_shows_a_bar_and_a_table_with_headings(
    shell: Shell, upstream: FakeUpstream
) -> None:
    shown = at_terminal(shell, "compare", "plain", "--input", "Hi", "-m", "ok?latency_ms=400")
    assert "━" in shown
    assert "1 of 1 cells" in shown
    assert "First token" in shown


def test_at_a_narrow_terminal_no_word_of_the_table_is_broken(shell: Shell) -> None:
    names = ("-v", "level=expert", "-m", "ok?text=One+two", "-m", "ok?text=One")
    command = ("compare", "teacher", *names, "--input", "Hi", "--input", "Ho", "--repeats", "2")

    def plain(columns: int) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", at_terminal(shell, *command, columns=columns))

    wide = plain(160)
    assert re.search(r"Variant +Complete +Failed +Words +First token", wide)
    lines = [line.rstrip() for line in plain(80).splitlines()]
    assert "Words        Teacher (ok?text=One+two)  2.0" in lines
    assert "Words        Teacher (ok?text=One)      1.0" in lines
    # Of what none has, nothing is said.
    assert not [line for line in lines if line.startswith(("Failed", "Cost"))]


def test_at_a_terminal_it_asks_before_very_many_calls(
    shell: Shell, upstream: FakeUpstream, comparisons: SqliteComparisonLog
) -> None:
    arguments = ["compare", "plain", *("--input", "Hi") * 3, "--repeats", "70"]
    assert "Go ahead?" in at_terminal(shell, *arguments, typed="n\n")
    assert [] == upstream.requests
    assert [] == comparisons.list_comparisons()[0]


def test_a_repeated_comparison_is_planned_and_asked_about_like_any_other(
    shell: Shell, upstream: FakeUpstream, comparisons: SqliteComparisonLog
) -> None:
    planned = ("compare", "plain", "teacher", "--input", "Hi")
    shell.run(*planned, "-o", "done.json")
    plan = shell.run(*planned, "--plan")
    asked, cell = len(upstream.requests), ("--plan", "--cell", "2-1-1")

    again = shell.run("compare", "--repeat", "done.json", "--plan")
    assert (0, plan.text, plan.notices) == (again.status, again.text, again.notices)
    again = shell.run("compare", "--repeat", "done.json", *cell)
    assert shell.run(*planned, *cell).text == again.text
    assert (asked, 1) == (len(upstream.requests), len(comparisons.list_comparisons()[0]))

    done = shell.run("compare", "--repeat", "done.json", "--concurrency", "2")
    assert "calls: 2." in done.notices
    first, second = (found.comparison for found in comparisons.list_comparisons()[0][::-1])
    assert (first.id, first.variants) == (second.repeats_of, second.variants)

    large = json.loads((shell.folder / "done.json").read_text("utf-8"))
    large["comparison"] |= {"inputs": large["comparison"]["inputs"] * 2, "repeats": 60}
    (shell.folder / "large.json").write_text(json.dumps(large), "utf-8")
    assert "Go ahead?" in at_terminal(shell, "compare", "--repeat", "large.json", typed="n\n")
    assert (2 * asked, 2) == (len(upstream.requests), len(comparisons.list_comparisons()[0]))


def at_terminal(shell: Shell, *arguments: str, typed: str = "", columns: int = 120) -> str:
    """What a person sees."""
    screen, terminal = pty.openpty()
    running = subprocess.Popen(
        shell.command(*arguments),
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm", "COLUMNS": str(columns)},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.write(screen, typed.encode())
    shown = b""
    try:
        while piece := os.read(screen, 4096):
            shown += piece
    except OSError:
        # A terminal that nobody writes to any more ends so.
        pass
    finally:
        running.kill()
        running.wait()
        os.close(screen)
    return shown.decode()


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [(["--help"], []), (["plain", "--input", "Hi"], ["pydantic"])],
)
def test_it_imports_no_pages_and_for_help_next_to_nothing(
    shell: Shell, arguments: list[str], imported: list[str]
) -> None:
    program = (
        "import json, sys\n"
        "from rolebook.__main__ import main\n"
        "try: main(['compare', *sys.argv[1:]])\n"
        "finally: print(json.dumps([n for n in ('flask', 'pydantic', 'rich') if n in sys.modules]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert imported == json.loads(run.stdout.splitlines()[-1])


def test_first_call_waits_for_nothing_that_only_the_end_needs(shell: Shell) -> None:
    program = (
        "import contextlib, json, sys\n"
        "loaded = []\n"
        "sys.addaudithook(lambda event, _: event == 'socket.connect' and loaded.append([*sys.modules]))\n"
        "from rolebook.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        "print(json.dumps(loaded[0]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "compare", "plain", "teacher", "--input", "Hi"],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    at_the_end = {"rolebook.cli.answer", "rolebook.report.export", "regex", "babel"}
    never = {"dateutil", "jsonschema", "rapidfuzz", "genai_prices", "tiktoken", "asyncio.events"}
    assert {"openai", "rolebook.cli.comparing"} <= loaded
    assert set() == loaded & (at_the_end | never)
