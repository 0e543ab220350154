"""`rolebook comparisons`: what was compared, listed, shown, carried on, tidied, voted on and taken away."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from rolebook.core.comparison import Ballot, CellKey
from rolebook.core.preference import Outcome
from rolebook.core.session import new_id
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.storage.log import SqliteLog
from tests.cli.conftest import Shell
from tests.fake_upstream import FakeUpstream


def compare(shell: Shell, *arguments: str) -> str:
    """Make a comparison of two personas and return its id."""
    shell.run("compare", "plain", "teacher", *arguments)
    newest: str = shell.run("comparisons", "--json").json[0]["id"]
    return newest


@pytest.fixture
def comparison_id(shell: Shell) -> str:
    return compare(shell, "--input", "=1+1", "--question", "Who adds?")


def test_list_has_the_newest_first(shell: Shell, comparison_id: str) -> None:
    newer = compare(shell, "--input", "Hi", "-m", "500?retry_after_ms=1")
    assert [newer, comparison_id] == [c["id"] for c in shell.run("comparisons", "--json").json]
    lines = [line.split("\t") for line in shell.run("comparisons").text.splitlines()]
    assert ["0/2", "2", "0", "Plain assistant – Teacher"] == lines[0][2:]
    assert ["2/2", "0", "0", "Who adds?"] == lines[1][2:]
    limited = shell.run("comparisons", "--limit", "1")
    assert (1, True) == (len(limited.text.splitlines()), "There are more" in limited.notices)


def test_list_of_nothing_says_so(shell: Shell) -> None:
    assert "There is no comparison." in shell.run("comparisons").notices


def test_one_is_shown(shell: Shell, comparison_id: str) -> None:
    shown = shell.run("comparisons", "show", comparison_id)
    assert shown.text.startswith("Plain assistant\t1/1\t0\t")
    assert "── Teacher\nEcho: =1+1\n" in shown.text
    assert "Who adds?" in shown.notices


def test_failed_cells_are_told_and_asked_again(
    shell: Shell, upstream: FakeUpstream, comparison_id: str
) -> None:
    upstream.model_rule("broken", "ok,401")
    failing = compare(shell, "--input", "Hi", "--concurrency", "1", "-m", "broken")
    upstream.model_rule("broken", "ok")
    sent = len(upstream.requests)
    for command in (("comparisons", "resume"), ("compare", "--resume")):
        resumed = shell.run(*command, failing)
        assert (1, sent) == (resumed.status, len(upstream.requests))
        told = f"Ask the failed cells again with: rolebook comparisons retry {failing}\n"
        assert told in resumed.notices
    chinese = shell.run("compare", "--resume", failing, environment={"ROLEBOOK_LANGUAGE": "zh"})
    assert f"rolebook comparisons retry {failing}\n" in chinese.notices
    retried = shell.run("comparisons", "retry", failing)
    assert (0, sent + 1) == (retried.status, len(upstream.requests))


DAMAGES = {
    "$.variants[0].name": None,
    "$.variants[1].name": "Plain assistant",
    "$.repeats": "often",
    "$": "no plan at all",
}


def damage(shell: Shell, comparison_id: str, path: str) -> None:
    """Leave a plan in the log as no Rolebook writes one any more."""
    damaged = "json_set(plan, :path, :damage)" if path != "$" else ":damage || :path"
    with closing(sqlite3.connect(shell.folder / "data/rolebook.db")) as db, db:
        changed = db.execute(
            f"UPDATE comparisons SET plan = {damaged} WHERE id = :id",
            {"path": path, "damage": DAMAGES[path], "id": comparison_id},
        )
        assert 1 == changed.rowcount


@pytest.mark.parametrize("path", DAMAGES)
def test_damaged_plan_takes_no_others_away_and_can_be_deleted(
    shell: Shell, comparison_id: str, path: str
) -> None:
    whole = compare(shell, "--input", "Hi")
    damage(shell, comparison_id, path)
    listed = shell.run("comparisons")
    lines = [line.split("\t") for line in listed.text.splitlines()]
    assert (0, [whole, comparison_id]) == (listed.status, [line[0] for line in lines])
    assert ["–", "–", "0", "Who adds?"] == lines[1][2:]
    told = f"The comparison {comparison_id} in the log is damaged"
    assert told in listed.notices
    assert ["", True] == [
        told in line["flaw"] or line["flaw"] for line in shell.run("comparisons", "--json").json
    ]
    shown = shell.run("comparisons", "show", comparison_id)
    assert (1, True) == (
        shown.status,
        f"rolebook comparisons delete {comparison_id}" in shown.notices,
    )
    assert 0 == shell.run("comparisons", "delete", comparison_id).status
    assert [whole] == [line["id"] for line in shell.run("comparisons", "--json").json]
    assert 0 == shell.run("comparisons", "restore", comparison_id).status
    assert 0 == shell.run("comparisons", "delete", comparison_id).status
    emptied = shell.run("empty-trash", "--days", "0", "--yes")
    assert "comparisons: 1" in emptied.notices
    assert [] == shell.run("comparisons", "--deleted", "--json").json


def test_comparisons_are_tidied(shell: Shell, comparison_id: str) -> None:
    assert 0 == shell.run("comparisons", "rename", comparison_id, "Who  counts?").status
    assert "Who counts?" == shell.run("comparisons", "--json").json[0]["question"]
    assert 0 == shell.run("comparisons", "delete", comparison_id).status
    assert [] == shell.run("comparisons", "--json").json
    assert 1 == len(shell.run("comparisons", "--deleted", "--json").json)
    assert 0 == shell.run("comparisons", "restore", comparison_id).status
    assert 1 == len(shell.run("comparisons", "--json").json)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "00000"],
        ["export", "00000"],
        ["resume", "00000"],
        ["retry", "00000"],
        ["rename", "00000", "x"],
        ["votes", "00000"],
        ["restore", "00000"],
    ],
)
def test_unknown_id_is_wrong_use(shell: Shell, arguments: list[str]) -> None:
    finished = shell.run("comparisons", *arguments)
    assert 2 == finished.status
    assert "There is no comparison 00000 in the log." in finished.notices


def test_unknown_id_deletes_nothing(shell: Shell, comparison_id: str) -> None:
    assert 2 == shell.run("comparisons", "delete", comparison_id, "00000").status
    assert 1 == len(shell.run("comparisons", "--json").json)


def test_votes_are_listed(shell: Shell, comparison_id: str, log: SqliteLog) -> None:
    assert "Nobody has voted" in shell.run("comparisons", "votes", comparison_id).notices
    comparisons = SqliteComparisonLog(log)
    for round, outcome in enumerate((Outcome.LEFT, None)):
        cells = CellKey(1, 0, 0), CellKey(0, 0, 0)
        ballot = Ballot(new_id(), comparison_id, *cells, round=round)
        comparisons.create_ballot(ballot)
        comparisons.cast_ballot(ballot.id, outcome, is_skipped=outcome is None)
    (vote,) = shell.run("comparisons", "votes", comparison_id, "--json").json
    assert ("Teacher", "Teacher", "left") == (vote["left"], vote["preferred"], vote["outcome"])
    table = shell.run("comparisons", "votes", comparison_id).text
    assert table.startswith("=1+1\tTeacher\tPlain assistant\tleft\t")
    text = shell.run("comparisons", "votes", comparison_id, "--csv").text.removeprefix("\ufeff")
    (row,) = csv.DictReader(io.StringIO(text))
    assert ("'=1+1", "Teacher", "left") == (row["text"], row["left"], row["outcome"])
    assert 2 == shell.run("comparisons", "votes", comparison_id, "--csv", "--json").status
    shown = shell.run("comparisons", "show", comparison_id)
    assert "of 1 blind vote" in shown.notices


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "md", "html"])
def test_outcome_goes_to_files_and_is_exported(shell: Shell, format: str) -> None:
    comparison_id = compare(shell, "--input", "Hi", "-o", f"out.{format}", "--check", "max_words=5")
    written = (shell.folder / f"out.{format}").read_text("utf-8")
    exported = shell.run("comparisons", "export", comparison_id, "--format", format).text
    assert "Echo: Hi" in written
    assert "Echo: Hi" in exported
    assert "sk-secret" not in written + exported


def test_outcome_is_written_though_nobody_reads_the_table(shell: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = shell.command("compare", "plain", "--input", "Hi", "-o", "out.html")
    environment = {"cwd": shell.folder, "env": shell.environment}
    subprocess.run(command, stdout=writing, stderr=subprocess.DEVNULL, check=False, **environment)
    os.close(writing)
    assert "Echo: Hi" in (shell.folder / "out.html").read_text("utf-8")


def test_outcome_is_json_on_standard_output(shell: Shell, comparison_id: str) -> None:
    finished = shell.run("compare", "plain", "--input", "Hi", "--check", "max_words=1", "--json")
    assert 1 == finished.status
    assert "Echo: Hi" in json.dumps(finished.json)
    assert "Who adds?" in json.dumps(shell.run("comparisons", "show", comparison_id, "--json").json)


@pytest.mark.parametrize("format", ["json", "html"])
def test_exported_comparison_is_done_once_more_elsewhere(
    shell: Shell, upstream: FakeUpstream, format: str
) -> None:
    compare(shell, "--input", "Hi", "--repeats", "2", "-o", f"out.{format}")
    upstream.reset()
    arguments = ("compare", "--repeat", f"out.{format}", "--database", "other.db")
    assert 0 == shell.run(*arguments).status
    assert 4 == len(upstream.requests)


def test_file_that_cannot_be_written_is_told_before_any_call(
    shell: Shell, upstream: FakeUpstream
) -> None:
    (shell.folder / "out.json").mkdir()
    finished = shell.run("compare", "plain", "--input", "Hi", "-o", "out.json")
    assert 2 == finished.status
    assert [] == upstream.requests
    assert Path("out.json").name in finished.notices
