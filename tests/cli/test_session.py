"""`rolebook sessions`: the log on the command line, and a role that is kept."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.cli.conftest import Shell


@pytest.fixture
def session_ids(shell: Shell) -> list[str]:
    """Three sessions: of a teacher, of a friend in Chinese, and a failed one."""
    asked = [
        ("ask", "teacher", "What is a fraction?"),
        ("ask", "friend", "今天有点丧"),
        ("ask", "teacher", "Hello", "-m", "401"),
    ]
    return [shell.run(*arguments, "--json").json["session_id"] for arguments in asked]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], [2, 1, 0]),
        (["--persona", "teacher"], [2, 0]),
        (["--search", "fraction"], [0]),
        (["--search", "有点"], [1]),
        (["--status", "failed"], [2]),
        (["--model", "401"], [2]),
        (["--since", "2000-01-01", "--until", "2000-12-31"], []),
        (["--limit", "1"], [2]),
        (["--starred"], []),
    ],
)
def test_sessions_are_filtered(
    shell: Shell, session_ids: list[str], filters: list[str], found: list[int]
) -> None:
    listed = shell.run("sessions", "--json", *filters).json
    assert [session_ids[n] for n in found] == [session["id"] for session in listed]


def test_sessions_of_a_file_with_a_new_name_on_disk_are_found_by_it(
    shell: Shell, session_ids: list[str]
) -> None:
    folder = shell.folder / "personas"
    shell.run("personas", "history", "teacher")
    (folder / "teacher.yaml").rename(folder / "tutor.yaml")
    listed = shell.run("sessions", "--json", "--persona", "tutor").json
    assert [session_ids[2], session_ids[0]] == [session["id"] for session in listed]
    assert {"teacher"} == {session["persona_id"] for session in listed}


def test_list_for_pipes_has_one_session_a_line(shell: Shell, session_ids: list[str]) -> None:
    lines = shell.run("sessions").text.splitlines()
    assert list(reversed(session_ids)) == [line.split("\t")[0] for line in lines]
    assert lines[2].endswith("What is a fraction?")


def test_session_is_shown_as_text_and_whole_as_json(shell: Shell, session_ids: list[str]) -> None:
    shown = shell.run("sessions", "show", session_ids[0])
    assert "> What is a fraction?" in shown.text
    turn = shell.run("sessions", "show", session_ids[0], "--json").json["sessions"][0]["turns"][0]
    assert "What is a fraction?" == turn["messages"][-1]["content"]
    assert "chat.completion" in turn["reply"]["object"]


def test_export_formats(shell: Shell, session_ids: list[str]) -> None:
    everything = shell.run("sessions", "export", "--all", "--format", "jsonl").text
    assert 3 == len([json.loads(line) for line in everything.splitlines()])
    table = shell.run("sessions", "export", *session_ids[:2], "--format", "csv").text
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))
    assert session_ids[:2] == [row["session_id"] for row in rows]
    assert shell.run("sessions", "export", session_ids[1], "--format", "md").text.startswith("# ")
    assert "sk-secret" not in everything + table


def test_sessions_are_marked_and_tidied(shell: Shell, session_ids: list[str]) -> None:
    one = session_ids[0]
    for arguments in (["star", one], ["tag", one, "maths", "keep"], ["rename", one, "Fractions"]):
        assert 0 == shell.run("sessions", *arguments).status
    marked = shell.run("sessions", "--starred", "--tag", "maths", "--json").json
    assert [("Fractions", ["keep", "maths"])] == [(s["title"], sorted(s["tags"])) for s in marked]
    assert 0 == shell.run("sessions", "delete", one, session_ids[1]).status
    assert session_ids[2:] == [s["id"] for s in shell.run("sessions", "--json").json]
    assert 2 == len(shell.run("sessions", "--deleted", "--json").json)
    assert 0 == shell.run("sessions", "restore", one).status
    assert 0 == shell.run("sessions", "star", "--off", one).status
    assert [] == shell.run("sessions", "--starred", "--json").json


def test_unknown_id_deletes_nothing(shell: Shell, session_ids: list[str]) -> None:
    assert 2 == shell.run("sessions", "delete", session_ids[0], "00000").status
    assert 3 == len(shell.run("sessions", "--json").json)


def test_described_role_is_kept_as_a_persona(shell: Shell) -> None:
    system = "You are {{ terse }} and kind."
    session = shell.run("ask", "--system", system, "Hi", "--json").json["session_id"]
    saved = shell.run("personas", "save", session, "terse", "--name", "Terse one")
    assert (0, True) == (saved.status, "personas/terse.yaml" in saved.notices)
    rendered = shell.run("render", "terse", "Hi", "--json").json
    assert system == rendered["messages"][0]["content"]
    again = shell.run("personas", "save", session, "terse")
    assert (1, True) == (again.status, "already" in again.notices)
