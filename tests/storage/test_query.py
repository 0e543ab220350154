from __future__ import annotations

from dataclasses import replace
from time import sleep
from typing import Any

import pytest

from rolebook.core.errors import InputError
from rolebook.core.history import Label, NewChange
from rolebook.core.session import Revision, Session, TurnStatus, now
from rolebook.core.source import Author, FileKey
from rolebook.storage.history_log import SqliteHistory
from rolebook.storage.log import SqliteLog
from rolebook.storage.query import Facet, PersonaStatistics, SessionFilter
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_session, new_turn

FRIEND = Revision("revision-f", "friend", {"name": "知心朋友"}, {})


@pytest.fixture
def sessions(log: SqliteLog) -> dict[str, Session]:
    """Four sessions by the words that tell them apart; the last is in the trash."""
    maths = log_session(
        log, title="Fractions", tags=("good",), created_at="2026-11-01T08:00:00.000Z"
    )
    log_turn(log, maths, "What is a half?", created_at="2026-11-01T08:00:01.000Z")
    failed = log_session(log)
    turn = log.start_turn(
        new_turn(failed, "Hello?", created_at="2026-11-10T08:00:00.000Z"), REVISION
    )
    log.finish_turn(replace(turn, status=TurnStatus.FAILED))
    friend = new_session(
        persona_id="friend",
        revision=FRIEND.id,
        is_starred=True,
        created_at="2026-11-20T08:00:00.000Z",
    )
    log.create_session(friend, FRIEND)
    turn = new_turn(
        friend, "今天有点丧", model_requested="qwen", created_at="2026-11-20T23:30:00.000Z"
    )
    log.finish_turn(answered(log.start_turn(turn, FRIEND), "来，说说看。"))
    deleted = log_session(log)
    log_turn(log, deleted, "Forget this")
    log.delete([deleted.id])
    return {"maths": maths, "failed": failed, "friend": friend, "deleted": deleted}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["friend", "failed", "maths"]),
        ({"persona_id": "friend"}, ["friend"]),
        ({"persona_id": "nobody"}, []),
        ({"model": "qwen"}, ["friend"]),
        ({"status": "complete"}, ["friend", "maths"]),
        ({"status": "failed"}, ["failed"]),
        ({"status": "no such status"}, []),
        ({"tag": "good"}, ["maths"]),
        ({"is_starred": True}, ["friend"]),
        ({"is_deleted": True}, ["deleted"]),
        ({"since": "2026-11-10"}, ["friend", "failed"]),
        ({"until": "2026-11-10"}, ["failed", "maths"]),
        ({"since": "2026-11-20", "until": "2026-11-20"}, ["friend"]),
        ({"since": "2026-11-10T09:00:00Z"}, ["friend"]),
        ({"since": "20261110"}, ["friend", "failed"]),
        ({"until": "20261110"}, ["failed", "maths"]),
        ({"since": "2026-W47-5", "until": "2026-W47-5"}, ["friend"]),
        ({"since": "2026-11-10 16:00+08:00"}, ["friend", "failed"]),
        ({"until": "2026-11-10T16:00:00+08:00"}, ["maths"]),
        ({"until": "2026-11-10T00:00:01-08:00"}, ["failed", "maths"]),
        ({"until": "2026-11-10T08:00:00"}, ["maths"]),
        ({"until": "9999-12-31"}, ["friend", "failed", "maths"]),
        ({"search": "half"}, ["maths"]),
        ({"search": "fractions"}, ["maths"]),
        ({"search": "今天"}, ["friend"]),
        ({"search": "forget"}, []),
        ({"search": "forget", "is_deleted": True}, ["deleted"]),
        ({"search": "half", "persona_id": "friend"}, []),
        ({"search": "???"}, []),
        ({"search": "  "}, ["friend", "failed", "maths"]),
        (
            {"persona_id": "teacher", "model": "gpt-4o-mini", "status": "complete", "tag": "good"},
            ["maths"],
        ),
        ({"persona_id": "\ud800", "tag": "' OR 1=1 --"}, []),
    ],
)
def test_filter_lists_the_sessions_that_fit(
    log: SqliteLog, sessions: dict[str, Session], wanted: dict[str, Any], expected: list[str]
) -> None:
    names = {session.id: name for name, session in sessions.items()}
    page = log.list_sessions(SessionFilter(**wanted))
    assert [names[summary.session.id] for summary in page.summaries] == expected
    assert page.cursor == ""


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("teacher", "ABC"),
        ("teacher@production", "ABC"),
        ("teacher@retired", "C"),
        ("teacher@revision-1", "A"),
        ("teacher@2222", "BC"),
        ("teacher@no such label", ""),
        ("friend@production", ""),
        ("teacher@\ud800\ud800\ud800\ud800", ""),
    ],
)
def test_a_reference_finds_what_was_begun_by_it_and_what_was_asked_at_its_revision(
    log: SqliteLog, reference: str, expected: str
) -> None:
    later = replace(REVISION, id="2222-later")
    for title, pin, revision in (
        ("A", "production", REVISION),
        ("B", "", later),
        ("C", "retired", later),
    ):
        session = new_session(title=title, pin=pin, revision=revision.id)
        log.create_session(session, revision)
        turn = new_turn(session, "Why?", revision=revision.id)
        log.finish_turn(answered(log.start_turn(turn, revision)))
    SqliteHistory(log).set_label(Label("teacher", "production", later.id, Author("command"), now()))
    listed = log.list_sessions(SessionFilter(persona_id=reference)).summaries
    assert expected == "".join(sorted(found.session.title for found in listed))
    hits = log.search("why", persona_id=reference).hits
    assert expected == "".join(sorted(hit.session_title for hit in hits))


def test_summary_adds_up_all_attempts(log: SqliteLog) -> None:
    session = log_session(log, title="Sums", tags=("b", "a"))
    log_turn(log, session, "First\n\nquestion  here")
    log_turn(log, session, position=1, model_requested="another")
    log.finish_turn(answered(log.start_turn(new_turn(session), REVISION), cost=None))
    (summary,) = log.list_sessions().summaries
    assert summary.session == log.get_session(session.id)
    assert (summary.persona_name, summary.turns, summary.snippet) == (
        "Teacher 老师",
        2,
        "First question here",
    )
    assert (summary.total_tokens, summary.cost, summary.turns_without_cost) == (54, 0.5, 1)
    assert (summary.models, summary.statuses) == (("gpt-4o-mini", "another"), {"complete": 3})


def test_summary_of_a_new_session_knows_no_sums(log: SqliteLog) -> None:
    session = log_session(log)
    (summary,) = log.list_sessions().summaries
    assert (summary.turns, summary.models, summary.total_tokens, summary.cost) == (
        0,
        (),
        None,
        None,
    )
    assert summary.last_used_at == session.created_at


def test_line_of_a_list_has_the_begin_of_what_was_chosen(log: SqliteLog) -> None:
    book, image = "x" * 100_000, [{"url": "y" * 100_000}]
    chosen = {"subject": book, "count": 7, "level": "expert"}
    session = log_session(
        log,
        model="m" * 1000,
        variables=chosen,
        parameters={"metadata": image, "stop": ["a"], "seed": 7},
    )
    log_turn(log, session, model_requested="n" * 1000)
    (summary,) = log.list_sessions().summaries
    listed = summary.session
    assert {"subject": "x" * 199 + "…", "count": 7, "level": "expert"} == listed.variables
    assert '[{"url":"' + "y" * 190 + "…" == listed.parameters["metadata"]
    assert (["a"], 7) == (listed.parameters["stop"], listed.parameters["seed"])
    assert ("m" * 255 + "…", ("n" * 255 + "…",)) == (listed.model, summary.models)
    assert (chosen, image) == (
        log.get_session(session.id).variables,
        log.get_session(session.id).parameters["metadata"],
    )


def test_names_to_filter_by_are_names_and_not_without_end(log: SqliteLog) -> None:
    session = log_session(log)
    log_turn(log, session, model_requested="n" * 257)
    for number in range(201):
        log_turn(log, session, model_requested=f"model-{number:03}", position=number + 2)
    log_turn(log, log_session(log), model_requested="model-200")
    models = [facet.value for facet in log.facets().models]
    assert ("model-200", "model-000", 200) == (models[0], models[1], len(models))
    assert "n" * 257 not in models


def test_session_used_again_comes_first(log: SqliteLog) -> None:
    first, second = log_session(log), log_session(log)
    log_turn(log, first)
    assert [summary.session.id for summary in log.list_sessions().summaries] == [
        first.id,
        second.id,
    ]


def test_pages_follow_each_other_without_gaps(log: SqliteLog) -> None:
    expected = [log_session(log).id for _ in range(7)][::-1]
    listed, cursor = [], "not a cursor"
    while cursor:
        page = log.list_sessions(limit=3, before=cursor)
        listed += [summary.session.id for summary in page.summaries]
        cursor = page.cursor
    assert listed == expected


def test_facets_count_sessions_outside_the_trash(
    log: SqliteLog, sessions: dict[str, Session]
) -> None:
    facets = log.facets()
    assert facets.personas == (Facet("teacher", "Teacher 老师", 2), Facet("friend", "知心朋友", 1))
    assert facets.models == (Facet("gpt-4o-mini", "gpt-4o-mini", 2), Facet("qwen", "qwen", 1))
    assert facets.tags == (Facet("good", "good", 1),)
    assert facets.statuses == (Facet("complete", "complete", 2), Facet("failed", "failed", 1))


def test_statistics_of_a_persona(log: SqliteLog, sessions: dict[str, Session]) -> None:
    assert log.statistics_of_persona("teacher") == PersonaStatistics(
        2, 2, "2026-11-10T08:00:00.000Z"
    )
    assert log.statistics_of_persona("nobody") == PersonaStatistics(0, 0, "")


def rename(log: SqliteLog, old: str, new: str) -> None:
    """As somebody does it who is neither quicker nor slower than the sessions around it."""
    sleep(0.002)
    change = NewChange(FileKey("persona", new), "renamed", Author("command"), new, former=old)
    SqliteHistory(log).record([change])
    sleep(0.002)


def say(log: SqliteLog, title: str, persona_id: str) -> None:
    log_turn(log, log_session(log, title=title, persona_id=persona_id))


@pytest.fixture
def renamed(log: SqliteLog) -> SqliteLog:
    """Of two teachers, one after the other, the first became a tutor and then a coach, the second a pupil."""
    say(log, "A", "teacher")
    rename(log, "teacher", "tutor")
    say(log, "B", "teacher")
    say(log, "C", "tutor")
    rename(log, "tutor", "coach")
    rename(log, "teacher", "pupil")
    say(log, "D", "coach")
    return log


@pytest.mark.parametrize(
    ("persona_id", "found"),
    [("coach", "ACD"), ("pupil", "B"), ("teacher", "AB"), ("tutor", "AC"), ("friend", "")],
)
def test_persona_that_was_renamed_is_found_with_what_it_had_under_other_names(
    renamed: SqliteLog, persona_id: str, found: str
) -> None:
    listed = renamed.list_sessions(SessionFilter(persona_id=persona_id)).summaries
    assert "".join(sorted(each.session.title for each in listed)) == found
    hits = renamed.search("sky", persona_id=persona_id).hits
    assert "".join(sorted(hit.session_title for hit in hits)) == found
    statistics = renamed.statistics_of_persona(persona_id)
    assert (statistics.sessions, statistics.turns) == (len(found), len(found))
    last_used = max((each.last_used_at for each in listed), default="")
    assert statistics.last_used_at == last_used


def test_persona_that_was_renamed_is_offered_to_filter_by_under_its_present_name(
    renamed: SqliteLog,
) -> None:
    def offered() -> dict[str, int]:
        facets = SqliteLog(renamed.path).facets()
        return {facet.value: facet.count for facet in facets.personas}

    assert offered() == {"coach": 3, "pupil": 1}
    say(renamed, "E", "tutor")
    assert offered() == {"coach": 3, "pupil": 1, "tutor": 3}
    rename(renamed, "coach", "teacher")
    assert offered() == {"teacher": 4, "pupil": 1, "tutor": 3}


@pytest.mark.parametrize(
    ("title", "present"), [("A", "coach"), ("B", "pupil"), ("C", "coach"), ("D", "coach")]
)
def test_what_became_of_the_persona_of_a_session_is_known(
    renamed: SqliteLog, title: str, present: str
) -> None:
    listed = [each.session for each in renamed.list_sessions().summaries]
    (session,) = (each for each in listed if each.title == title)
    history = SqliteHistory(renamed)
    assert history.present_id(session.persona_id, session.created_at) == present
    rename(renamed, "coach", "teacher")
    there_and_back = "teacher" if present == "coach" else present
    assert history.present_id(session.persona_id, session.created_at) == there_and_back


def test_status_counts_what_is_there(log: SqliteLog, sessions: dict[str, Session]) -> None:
    status = log.database_status(check=True)
    assert (status.path, status.sessions, status.deleted_sessions, status.turns) == (
        str(log.path),
        3,
        1,
        4,
    )
    assert (status.unwritten, status.problems) == (0, ())
    assert status.size_bytes + status.wal_bytes > 0


@pytest.mark.parametrize("given", ["yesterday", "2026-13-01", "0001-01-01T00:00+08:00", "\ud800"])
def test_what_is_no_time_is_said_instead_of_compared(log: SqliteLog, given: str) -> None:
    with pytest.raises(InputError, match="since must be a date such as 2026-11-20, got"):
        log.list_sessions(SessionFilter(since=given))
