from __future__ import annotations

import pytest

from rolebook.core.completion import Choice
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.message import Message
from rolebook.storage.log import SqliteLog
from rolebook.storage.query import SessionFilter
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_turn


def test_session_is_found_by_its_new_title_only(log: SqliteLog) -> None:
    session = log_session(log, title="Photosynthesis")
    log_turn(log, session)
    log_turn(log, session)
    log.rename(session.id, "光合作用")
    assert log.get_session(session.id).title == "光合作用"
    assert [len(log.search(word).hits) for word in ("photosynthesis", "光合", "sky")] == [0, 1, 2]


def test_title_given_before_the_first_turn_ends_is_found(log: SqliteLog) -> None:
    session = log_session(log)
    turn = log.start_turn(new_turn(session), REVISION)
    log.rename(session.id, "Weather")
    log.finish_turn(answered(turn))
    assert [hit.turn.id for hit in log.search("weather").hits] == [turn.id]


def test_stars_and_tags(log: SqliteLog) -> None:
    session = log_session(log, tags=("old",))
    log.star(session.id)
    log.tag(session.id, [" new ", "", "课堂", "new"])
    changed = log.get_session(session.id)
    assert (changed.is_starred, changed.tags) == (True, ("new", "课堂"))
    log.star(session.id, False)
    assert log.list_sessions(SessionFilter(is_starred=True)).summaries == ()


def test_earlier_attempt_can_count_again(log: SqliteLog) -> None:
    session = log_session(log)
    first = log_turn(log, session, answer="first answer")
    log_turn(log, session, answer="second answer", position=1)
    assert log.choose_attempt(first.id).is_current
    assert [turn.text for turn in log.history(session.id)] == ["first answer"]


def test_other_alternative_can_count(log: SqliteLog) -> None:
    session = log_session(log)
    choices = (
        Choice("the first alternative", "stop"),
        Choice("the second alternative", "length", reasoning="hm"),
    )
    first = answered(log.start_turn(new_turn(session), REVISION), choices=choices)
    log.finish_turn(first)
    sent = (
        *first.messages,
        Message("assistant", "the first alternative"),
        Message("user", "And then?"),
    )
    second = log_turn(log, session, "And then?", messages=sent)
    chosen = log.choose_alternative(first.id, 1)
    assert (chosen.text, chosen.choices, chosen.reply) == (
        "the second alternative",
        choices,
        first.reply,
    )
    assert log.history(session.id)[0].text == "the second alternative"
    assert log.get_turn(second.id).messages == sent
    assert len(log.search('"second alternative"').hits) == 1
    with pytest.raises(InputError, match="has 2 answers, so there is no answer number 3"):
        log.choose_alternative(first.id, 2)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("rename", ("x", "y")), ("star", ("x",)), ("tag", ("x", [])), ("choose_attempt", ("x",))],
)
def test_unknown_ids_are_not_found(
    log: SqliteLog, method: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(NotFoundError):
        getattr(log, method)(*arguments)
