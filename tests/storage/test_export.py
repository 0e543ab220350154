from __future__ import annotations

import csv
import io
import json
import threading

import pytest

from rolebook import __version__
from rolebook.core.completion import Choice
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.session import Session
from rolebook.storage.export import EXPORT_FORMATS, turn_data
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_turn


@pytest.fixture
def session(log: SqliteLog) -> Session:
    session = log_session(log, title="Sky 天空", tags=("a",), variables={"subject": "physics"})
    log_turn(log, session, "为什么？", "因为\n空气。")
    log_turn(log, session, "Again?", "Yes.", position=1)
    return session


def exported(log: SqliteLog, session: Session, format: str) -> str:
    return "".join(log.export_sessions([session.id], format))


def test_json_holds_everything(log: SqliteLog, session: Session) -> None:
    document = json.loads(exported(log, session, "json"))
    assert document["rolebook"]["version"] == __version__
    (data,) = document["sessions"]
    assert (data["session"]["title"], data["session"]["tags"]) == ("Sky 天空", ["a"])
    assert data["revisions"][0]["resolved"] == REVISION.resolved
    turns = [log.get_turn(turn.id) for turn in log.session_turns(session.id)]
    assert data["turns"] == [json.loads(json.dumps(turn_data(turn))) for turn in turns]


def test_jsonl_has_one_turn_a_line_and_each_revision_once(log: SqliteLog, session: Session) -> None:
    lines = [json.loads(line) for line in exported(log, session, "jsonl").splitlines()]
    said = [(line["turn"]["input"], line["turn"]["text"]) for line in lines]
    assert said == [("为什么？", "因为\n空气。"), ("Again?", "Yes.")]
    assert {line["rolebook"]["version"] for line in lines} == {__version__}
    assert {line["persona"]["name"] for line in lines} == {"Teacher 老师"}
    assert ["revision" in line for line in lines] == [True, False]


def test_markdown_names_all_that_shaped_an_answer(log: SqliteLog, session: Session) -> None:
    page = exported(log, session, "md")
    expected = (
        "# Sky 天空",
        "Persona: Teacher 老师 (teacher)",
        f"Revision: {REVISION.id}",
        '{"subject":"physics"}',
        f"by Rolebook {__version__}",
        "> 为什么？",
        "因为\n空气。",
        "Model: gpt-4o-mini → gpt-4o-mini-2024-07-18",
        'Parameters sent: {"temperature":0.5}',
        "## 1, attempt 2",
        "## 1 (not the one that counts)",
        "Date: 2",
    )
    assert [text for text in expected if text not in page] == []


def test_csv_opens_in_a_spreadsheet(log: SqliteLog, session: Session) -> None:
    table = exported(log, session, "csv")
    assert table.startswith("\ufeffsession_id,")
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))
    assert [(row["input"], row["text"]) for row in rows] == [
        ("为什么？", "因为\n空气。"),
        ("Again?", "Yes."),
    ]
    assert (rows[0]["persona_name"], rows[0]["revision"], rows[0]["model"]) == (
        "Teacher 老师",
        REVISION.id,
        "gpt-4o-mini-2024-07-18",
    )
    assert (rows[0]["parameters_sent"], rows[0]["total_tokens"], rows[0]["rolebook_version"]) == (
        '{"temperature":0.5}',
        "18",
        __version__,
    )


def test_refusal_and_calls_of_tools_are_in_what_is_read(log: SqliteLog) -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    session = log_session(log)
    for position, choice in enumerate(
        (Choice(refusal="I cannot do that."), Choice("Let me see.", "tool_calls", "", "", (call,))),
        start=1,
    ):
        turn = log.start_turn(new_turn(session, "x", position=position), REVISION)
        log.finish_turn(answered(turn, choices=(choice,)))
    page = exported(log, session, "md")
    assert "\n> x\n\nThe model refuses:\n\nI cannot do that.\n\n- Model:" in page
    asked = json.dumps(call, separators=(",", ":"))
    assert f"\nLet me see.\n\nIt asks for a tool:\n\n    {asked}\n\n- Model:" in page
    table = exported(log, session, "csv").removeprefix("\ufeff")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [
        ("", "I cannot do that.", ""),
        ("Let me see.", "", json.dumps([call], separators=(",", ":"))),
    ] == [(row["text"], row["refusal"], row["tool_calls"]) for row in rows]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_csv_cell_is_never_a_formula(log: SqliteLog, start: str) -> None:
    session = log_session(log, title=f"{start}1+1")
    log_turn(log, session, f"{start}cmd|' /C calc'!A0", f'{start}HYPERLINK("x")')
    rows = list(
        csv.DictReader(
            io.StringIO(exported(log, session, "csv").removeprefix("\ufeff"), newline="")
        )
    )
    cells = [rows[0][column] for column in ("session_title", "input", "text")]
    assert [cell[:2] for cell in cells] == [f"'{start}"] * 3
    exact = json.loads(exported(log, session, "jsonl"))["turn"]["input"]
    assert exact == f"{start}cmd|' /C calc'!A0"


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_fork_is_exported_with_what_it_inherits(
    log: SqliteLog, session: Session, format: str
) -> None:
    last = log.history(session.id)[-1]
    fork = log_session(log, forked_from=last.id)
    log_turn(log, fork, "Own question")
    text = exported(log, fork, format)
    assert [word for word in ("Again?", "Own question") if word not in text] == []


def test_all_sessions_but_the_trash_are_exported_in_order(log: SqliteLog) -> None:
    sessions = [log_session(log) for _ in range(3)]
    for session in sessions:
        log_turn(log, session)
    log.delete([sessions[1].id])
    lines = "".join(log.export_sessions(None, "jsonl")).splitlines()
    assert [json.loads(line)["session"]["id"] for line in lines] == [sessions[0].id, sessions[2].id]


def test_unknown_format_or_session_is_told_at_once(log: SqliteLog, session: Session) -> None:
    with pytest.raises(InputError, match="Choose one of: json, jsonl, md, csv"):
        log.export_sessions([session.id], "xml")
    with pytest.raises(NotFoundError):
        log.export_sessions([session.id, "unknown"], "json")


def test_export_during_many_writes_does_not_keep_the_write_ahead_log_large(log: SqliteLog) -> None:
    session = log_session(log)
    for number in range(20):
        log_turn(log, session, f"question {number} " * 50)
    export = log.export_sessions([session.id], "json")
    next(export)

    def write() -> None:
        busy = log_session(log)
        for number in range(200):
            log_turn(log, busy, f"{number} {'busy ' * 1000}")

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    pieces = 0
    while any(writer.is_alive() for writer in writers):
        pieces += bool(next(export, None))
        writers[0].join(0.05)
    for writer in writers:
        writer.join()
    assert pieces + len(list(export)) > 20
    log_turn(log, session)
    assert log.database_status().wal_bytes < 16 * 1024 * 1024
