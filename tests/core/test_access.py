"""The policy: who may do what, and who sees what."""

from __future__ import annotations

import threading

import pytest

from rolebook.core.access import (
    LOCAL,
    ApiKey,
    Caller,
    Reach,
    Right,
    Role,
    User,
    acting_for,
    caller,
    is_within,
    may,
    parse_scope,
    reach_of,
    require_persona,
)
from rolebook.core.budget import Limits
from rolebook.core.errors import InputError, NotFoundError

READER = User(1, "Ada", Role.READER)
AUTHOR = User(2, "Bo", Role.AUTHOR)
ADMINISTRATOR = User(3, "Chen", Role.ADMINISTRATOR)


def key_of(user: User, *scope: str, limits: Limits | None = None) -> Caller:
    return Caller(user, ApiKey(7, "id", user, "ci", "rb-x", scope or ("*",), limits or Limits()))


@pytest.mark.parametrize(
    ("who", "rights"),
    [
        (None, {"open"}),
        (LOCAL, set(Right)),
        (Caller(READER), {"open", "look", "talk", "account"}),
        (Caller(AUTHOR), {"open", "look", "talk", "account", "write", "compare"}),
        (Caller(ADMINISTRATOR), set(Right)),
        (key_of(READER), {"open", "look", "talk"}),
        (key_of(ADMINISTRATOR), {"open", "look", "talk", "write", "compare", "watch", "operate"}),
        (key_of(ADMINISTRATOR, "teacher"), {"open", "talk"}),
        (key_of(AUTHOR, limits=Limits(tokens_per_day=1)), {"open", "talk"}),
        (
            key_of(AUTHOR, limits=Limits(requests_per_minute=1)),
            set(Right) - {"account", "administer", "operate", "watch"},
        ),
    ],
)
def test_each_role_and_key_has_its_rights(who: Caller | None, rights: set[str]) -> None:
    assert rights == {right for right in Right if may(who, right)}


@pytest.mark.parametrize(
    ("who", "reach"),
    [
        (LOCAL, None),
        (Caller(ADMINISTRATOR), None),
        (Caller(READER), Reach(1)),
        (key_of(ADMINISTRATOR), Reach(3)),
        (key_of(READER, "teacher"), Reach(1, 7)),
    ],
)
def test_administrators_see_all_users_their_own_and_confined_keys_what_they_have_begun(
    who: Caller, reach: Reach | None
) -> None:
    assert reach == reach_of(who)


@pytest.mark.parametrize(
    ("reach", "user", "api_key", "expected"),
    [
        (None, None, None, True),
        (None, 2, 9, True),
        (Reach(1), 1, None, True),
        (Reach(1), 1, 7, True),
        (Reach(1), 2, None, False),
        (Reach(1), None, None, False),
        (Reach(1, 7), 1, 7, True),
        (Reach(1, 7), 1, 8, False),
        (Reach(1, 7), 1, None, False),
        (Reach(1, 7), 2, 7, False),
    ],
)
def test_what_is_within_reach(
    reach: Reach | None, user: int | None, api_key: int | None, expected: bool
) -> None:
    assert expected is is_within(reach, user, api_key)


@pytest.mark.parametrize(
    ("scope", "persona_id", "pin", "expected"),
    [
        (("*",), "teacher", "", True),
        (("*",), "", "", True),
        (("teacher",), "teacher", "", True),
        (("teacher",), "teacher", "draft", True),
        (("teacher",), "socratic-teacher", "", False),
        (("teacher",), "", "", False),
        (("teacher@production",), "teacher", "production", True),
        (("teacher@production",), "teacher", "", False),
        (("teacher@production",), "teacher", "draft", False),
        (("teacher@production",), "friend", "production", False),
        (("teacher@production", "friend"), "friend", "", True),
    ],
)
def test_key_opens_the_personas_of_its_scope_and_no_others(
    scope: tuple[str, ...], persona_id: str, pin: str, expected: bool
) -> None:
    with acting_for(key_of(READER, *scope)):
        if expected:
            require_persona(persona_id, pin)
            return
        with pytest.raises(NotFoundError, match="There is no persona"):
            require_persona(persona_id, pin)


def test_caller_is_known_to_the_thread_that_serves_them_and_to_no_other() -> None:
    seen: list[Caller] = []
    with acting_for(Caller(READER)):
        thread = threading.Thread(target=lambda: seen.append(caller()))
        thread.start()
        thread.join()
        seen.append(caller())
    assert [LOCAL, Caller(READER), LOCAL] == [*seen, caller()]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("*",)),
        (["teacher", "*"], ("*",)),
        ([" teacher ", "teacher", "friend@production"], ("teacher", "friend@production")),
    ],
)
def test_scope_is_read_as_typed(given: list[str], expected: tuple[str, ...]) -> None:
    assert expected == parse_scope(given)


@pytest.mark.parametrize("name", ["../x", "Teacher", "teacher@", "@production", "a b"])
def test_scope_that_can_name_no_persona_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="by id"):
        parse_scope([name])
