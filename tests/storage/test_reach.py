"""Whose sessions and comparisons are found: the log shows each caller what is theirs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from rolebook.core.access import LOCAL, ApiKey, Caller, Role, User, acting_for
from rolebook.core.comparison import Ballot, CellKey, Comparison, ComparisonInput, Variant
from rolebook.core.errors import NotFoundError
from rolebook.core.session import Session, Turn, new_id
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.storage.history_log import SqliteHistory
from rolebook.storage.log import SqliteLog
from rolebook.storage.query import SessionFilter
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_session, new_turn

ADA = Caller(User(1, "Ada", Role.READER))
BO = Caller(User(2, "Bo", Role.AUTHOR))
CHEN = Caller(User(3, "Chen", Role.ADMINISTRATOR))
KEY = Caller(ADA.user, ApiKey(7, "key", ADA.user, "ci", "rb-x", ("teacher",)))  # type: ignore[arg-type]
EVERYBODY = (ADA, BO, CHEN, KEY, LOCAL)


def said_by(log: SqliteLog, who: Caller) -> tuple[Session, Turn]:
    with acting_for(who):
        session = log_session(log, tags=(f"of-{name_of(who)}",))
        return session, log_turn(log, session, f"Why is the sky blue, asked {name_of(who)}?")


def name_of(who: Caller) -> str:
    if who.key is not None:
        return "key"
    return who.user.name if who.user else "local"


@pytest.fixture
def said(log: SqliteLog) -> dict[str, tuple[Session, Turn]]:
    """A session of each, by the names of those who had it."""
    return {name_of(who): said_by(log, who) for who in EVERYBODY}


#: What each sees.
SEEN = [
    (ADA, {"Ada", "key"}),
    (BO, {"Bo"}),
    (CHEN, {"Ada", "Bo", "Chen", "key", "local"}),
    (KEY, {"key"}),
    (LOCAL, {"Ada", "Bo", "Chen", "key", "local"}),
]


@pytest.mark.parametrize(("who", "seen"), SEEN, ids=[name_of(who) for who, _ in SEEN])
def test_lists_search_counts_and_export_show_what_is_theirs(
    log: SqliteLog, said: dict[str, tuple[Session, Turn]], who: Caller, seen: set[str]
) -> None:
    own = {said[name][0].id for name in seen}
    with acting_for(who):
        listed = log.list_sessions(SessionFilter()).summaries
        found = log.list_sessions(SessionFilter(search="sky")).summaries
        hits = log.search("sky").hits
        facets = log.facets()
        exported = "".join(log.export_sessions(None, "jsonl"))
        used = log.statistics_of_persona("teacher").sessions
        recent = SqliteComparisonLog(log).recent_turns("teacher", 99)
    assert own == {summary.session.id for summary in listed}
    assert own == {summary.session.id for summary in found}
    assert own == {hit.session_id for hit in hits}
    assert {f"of-{name}" for name in seen} == {facet.value for facet in facets.tags}
    assert [len(own)] == [facet.count for facet in facets.models]
    assert own == {id for _, (session, _) in said.items() if (id := session.id) in exported}
    assert len(own) == used
    assert own == {turn.session_id for turn in recent}


#: What can be done with a session or one of its turns by its id.
BY_ID: list[Callable[[SqliteLog, Session, Turn], object]] = [
    lambda log, session, turn: log.get_session(session.id),
    lambda log, session, turn: log.session_turns(session.id),
    lambda log, session, turn: log.history(session.id),
    lambda log, session, turn: log.last_turn(session.id),
    lambda log, session, turn: log.turns_up_to(turn.id),
    lambda log, session, turn: log.get_turn(turn.id),
    lambda log, session, turn: log.export_sessions([session.id], "md"),
    lambda log, session, turn: log.rename(session.id, "Mine"),
    lambda log, session, turn: log.star(session.id),
    lambda log, session, turn: log.tag(session.id, ["mine"]),
    lambda log, session, turn: log.choose_attempt(turn.id),
    lambda log, session, turn: log.choose_alternative(turn.id, 0),
    lambda log, session, turn: log.mark_turn(turn.id, is_starred=True),
    lambda log, session, turn: log.create_session(new_session(forked_from=turn.id), REVISION),
]


@pytest.mark.parametrize("act", BY_ID, ids=range(len(BY_ID)))
def test_id_of_somebody_else_is_like_one_that_does_not_exist(
    log: SqliteLog,
    said: dict[str, tuple[Session, Turn]],
    act: Callable[[SqliteLog, Session, Turn], object],
) -> None:
    nothing = new_session(), new_turn(new_session())
    for who, seen in SEEN:
        for name, (session, turn) in said.items():
            with acting_for(who):
                if name in seen:
                    act(log, session, turn)
                    continue
                with pytest.raises(NotFoundError) as refused:
                    act(log, session, turn)
                with pytest.raises(NotFoundError) as unknown:
                    act(log, *nothing)
                assert refused.value.message == unknown.value.message


def test_trash_is_ones_own(log: SqliteLog, said: dict[str, tuple[Session, Turn]]) -> None:
    ids = [session.id for session, _ in said.values()]
    with acting_for(ADA):
        assert 2 == log.delete(ids)
        assert 2 == len(log.list_sessions(SessionFilter(is_deleted=True)).summaries)
    with acting_for(KEY):
        assert 1 == log.restore(ids)
    assert 4 == len(log.list_sessions().summaries)


def test_marks_and_results_are_looked_up_within_reach(
    log: SqliteLog, said: dict[str, tuple[Session, Turn]]
) -> None:
    turn = said["Bo"][1]
    log.mark_turn(turn.id, note="mine")
    with acting_for(ADA):
        assert {} == log.marks_of([turn.id])
    with acting_for(BO):
        assert {turn.id} == set(log.marks_of([turn.id]))


def compared(log: SqliteLog, who: Caller) -> tuple[Comparison, CellKey, Turn]:
    """A comparison of somebody, with one cell answered behind their back, as runs do."""
    comparisons = SqliteComparisonLog(log)
    comparison = Comparison(
        id=new_id(),
        question=f"Of {name_of(who)}?",
        variants=(Variant("A", "teacher", REVISION.id), Variant("B", "teacher", REVISION.id)),
        inputs=(ComparisonInput(turns=("Why?",)),),
    )
    with acting_for(who):
        comparisons.create_comparison(comparison, [REVISION])
    session = new_session(comparison_id=comparison.id)
    key = CellKey(0, 0, 0)
    turn = comparisons.start_cell(comparison.id, key, session, new_turn(session, "Why?"), REVISION)
    log.finish_turn(answered(turn))
    return comparison, key, turn


def test_comparison_belongs_to_who_planned_it_with_all_its_answers(log: SqliteLog) -> None:
    comparisons = SqliteComparisonLog(log)
    mine, key, turn = compared(log, BO)
    other, _, _ = compared(log, ADA)
    with acting_for(BO):
        assert [mine.id] == [s.comparison.id for s in comparisons.list_comparisons()[0]]
        assert mine.question == comparisons.get_comparison(mine.id).question
        assert (turn.id,) == tuple(t.id for t in comparisons.get_cell(mine, key).turns)
        assert turn.id == log.get_turn(turn.id).id
        for act in (
            lambda: comparisons.get_comparison(other.id),
            lambda: comparisons.rename_comparison(other.id, "Mine"),
            lambda: comparisons.tally(other),
            lambda: comparisons.ballots(other.id),
            lambda: comparisons.claim_comparison(other.id),
        ):
            with pytest.raises(NotFoundError):
                act()
        assert 1 == comparisons.delete_comparisons([mine.id, other.id])
        assert 1 == comparisons.restore_comparisons([mine.id, other.id])
    with acting_for(CHEN):
        assert 2 == len(comparisons.list_comparisons()[0])
    with acting_for(KEY):
        assert [] == comparisons.list_comparisons()[0]


def test_ballot_is_found_with_its_comparison(log: SqliteLog) -> None:
    comparisons = SqliteComparisonLog(log)
    comparison, key, _ = compared(log, BO)
    ballot = Ballot(new_id(), comparison.id, key, CellKey(1, 0, 0))
    comparisons.create_ballot(ballot)
    with acting_for(BO):
        assert ballot.id == comparisons.get_ballot(ballot.id).id
    with acting_for(ADA), pytest.raises(NotFoundError):
        comparisons.get_ballot(ballot.id)


def test_answers_of_others_are_not_reused(log: SqliteLog) -> None:
    comparisons = SqliteComparisonLog(log)
    _, _, turn = compared(log, BO)
    wanted = {CellKey(1, 0, 0): log.get_turn(turn.id)}
    theirs, _, _ = compared(log, ADA)
    for who, expected in ((ADA, []), (BO, list(wanted))):
        with acting_for(who):
            assert expected == list(comparisons.reuse_answers(theirs.id, wanted))


def test_judging_belongs_to_whose_answer_is_judged(
    log: SqliteLog, said: dict[str, tuple[Session, Turn]]
) -> None:
    judging = new_session(judges=said["Ada"][1].id)
    log.create_session(judging, REVISION)
    with acting_for(ADA):
        assert judging.id == log.get_session(judging.id).id
    with acting_for(BO), pytest.raises(NotFoundError):
        log.get_session(judging.id)


def test_role_without_a_file_is_found_by_who_has_described_it(log: SqliteLog) -> None:
    described = REVISION.__class__("feed", "", {"name": "", "system": "A secret"}, {})
    with acting_for(BO):
        log.create_session(new_session(persona_id="", revision="feed"), described)
    history = SqliteHistory(log)
    with acting_for(ADA), pytest.raises(NotFoundError):
        history.find_revision("", "feed")
    with acting_for(BO):
        assert described == history.find_revision("", "feed")


def test_what_waits_for_the_file_is_seen_by_who_said_it_and_carried_by_anybody(
    log: SqliteLog,
) -> None:
    log.open()
    with sqlite3.connect(log.path, isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        session, turn = said_by(log, BO)
        with acting_for(BO):
            assert turn.id == log.get_turn(turn.id).id
            assert [turn.id] == [kept.id for kept in log.session_turns(session.id)]
        with acting_for(ADA):
            for look in (
                lambda: log.get_session(session.id),
                lambda: log.get_turn(turn.id),
                lambda: log.session_turns(session.id),
            ):
                with pytest.raises(NotFoundError):
                    look()
        blocker.execute("ROLLBACK")
    blocker.close()
    log._retry_at = 0.0
    said_by(log, ADA)
    assert 0 == log.unwritten
    with acting_for(BO):
        assert [turn.id] == [kept.id for kept in log.session_turns(session.id)]


def test_who_opens_the_log_first_marks_what_others_have_left_behind(log: SqliteLog) -> None:
    with acting_for(BO):
        session = log_session(log)
        turn = log.start_turn(new_turn(session), REVISION)
    log.close()
    with acting_for(ADA):
        log.list_sessions()
    assert "interrupted" == log.get_turn(turn.id).status


def test_changes_that_are_made_together_are_made_for_those_who_asked(
    log: SqliteLog, said: dict[str, tuple[Session, Turn]]
) -> None:
    theirs = said["Bo"][0]

    def rename(who: Caller) -> str:
        with acting_for(who):
            try:
                log.rename(theirs.id, name_of(who))
            except NotFoundError:
                return "not found"
        return "renamed"

    with ThreadPoolExecutor(3) as threads:
        with log._writer.lock:
            outcomes = [threads.submit(rename, who) for who in (ADA, BO, KEY)]
            deadline = time.monotonic() + 5
            while log._writer.waiting < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
        assert ["not found", "renamed", "not found"] == [each.result() for each in outcomes]
    assert "Bo" == log.get_session(theirs.id).title


def test_who_sees_everything_costs_no_connection_of_their_own(
    log: SqliteLog, said: dict[str, tuple[Session, Turn]]
) -> None:
    for who in (LOCAL, CHEN):
        with acting_for(who):
            log.list_sessions()
    assert [] == log._restricted_readers._idle
