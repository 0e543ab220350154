"""Who may do what: roles, API keys, and the one policy that every request and every look into the log goes by.

Who is calling is known to the thread that serves them (:func:`caller`). So the log can show each user what is theirs,
whichever page, export or stream asks, and none of these can forget to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from enum import StrEnum
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

from rolebook.core.budget import Limits
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.frozen import frozen
from rolebook.core.naming import is_persona_id

P = ParamSpec("P")
T = TypeVar("T")


class Role(StrEnum):
    """What a user may do; each may do what those before it may."""

    READER = "reader"
    """Looks, and talks."""
    AUTHOR = "author"
    """Also edits personas and prompt templates, and runs comparisons."""
    ADMINISTRATOR = "administrator"
    """Also sees everybody's sessions, the status of it all, the users and their keys."""


class Right(StrEnum):
    """What a route asks of whoever calls it."""

    OPEN = "open"
    """Nothing: not even to be logged in."""
    LOOK = "look"
    TALK = "talk"
    WRITE = "write"
    COMPARE = "compare"
    ACCOUNT = "account"
    """To be a person, not a program: one's own password and keys."""
    WATCH = "watch"
    """To read the figures of the process, as a program that watches over it does."""
    OPERATE = "operate"
    """To look after upstreams: ask what they have, try them again."""
    ADMINISTER = "administer"


_LOOKING = frozenset({Right.OPEN, Right.LOOK, Right.TALK, Right.ACCOUNT})
_WRITING = _LOOKING | {Right.WRITE, Right.COMPARE}
_RIGHTS = {
    Role.READER: _LOOKING,
    Role.AUTHOR: _WRITING,
    Role.ADMINISTRATOR: _WRITING | {Right.WATCH, Right.OPERATE, Right.ADMINISTER},
}
#: What only a person may do: a program that could would turn a lost key into a lost account.
_PERSONAL = frozenset({Right.ACCOUNT, Right.ADMINISTER})

#: The scope of a key that opens every persona.
EVERYTHING = "*"


@frozen
class User:
    """Somebody who can log in."""

    number: int
    name: str
    role: Role
    created_at: str = ""


@frozen
class ApiKey:
    """A key that programs call with, for a user. The token itself is not known here: only who made it has it.

    ``scope`` are the personas that it opens: ``teacher``, ``teacher@production`` or ``*``. ``hint`` is how the token
    begins.
    """

    number: int
    id: str
    user: User
    name: str
    hint: str
    scope: tuple[str, ...] = (EVERYTHING,)
    limits: Limits = field(default_factory=Limits)
    created_at: str = ""
    revoked_at: str = ""

    @property
    def is_confined(self) -> bool:
        """Whether it is for talking only: a budget or a scope could be got round by all else."""
        return EVERYTHING not in self.scope or self.limits.has_budget

    def admits(self, persona_id: str, pin: str = "") -> bool:
        """Whether it opens a persona, at a label or revision if a ``pin`` is given.

        ``teacher`` in the scope opens every form of it, ``teacher@production`` what that label points at now and no
        other. A role that is described and has no file is opened by ``*`` alone.
        """
        if EVERYTHING in self.scope:
            return True
        named = {persona_id, f"{persona_id}@{pin}" if pin else persona_id}
        return bool(persona_id) and not named.isdisjoint(self.scope)


@frozen
class Caller:
    """On whose behalf something is done. Without a user: on this computer, where nobody has to log in."""

    user: User | None = None
    key: ApiKey | None = None

    @property
    def key_number(self) -> int | None:
        """The number of the key in the log, if it is a program that calls."""
        return self.key.number if self.key else None


#: Commands, what Rolebook does by itself, and everybody where no login is required.
LOCAL = Caller()


class Reach(NamedTuple):
    """Whose sessions and comparisons can be seen: a user's, of these only what was begun with a key if one is named.

    Both are numbers in the log.
    """

    user: int
    api_key: int | None = None


def may(caller: Caller | None, right: Right) -> bool:
    """Whether somebody has a right; ``None`` is who should have logged in and has not."""
    if right is Right.OPEN:
        return True
    if caller is None:
        return False
    if caller.user is None:
        return True
    if caller.key is not None:
        if caller.key.is_confined:
            return right is Right.TALK
        if right in _PERSONAL:
            return False
    return right in _RIGHTS[caller.user.role]


def least_role(right: Right) -> Role:
    """Who has a right, of those that one can be, with the fewest others."""
    return next(role for role, rights in _RIGHTS.items() if right in rights)


def reach_of(caller: Caller) -> Reach | None:
    """What somebody sees of the log; ``None`` is all of it."""
    if caller.user is None:
        return None
    if caller.key is not None:
        return Reach(caller.user.number, caller.key.number if caller.key.is_confined else None)
    return None if caller.user.role is Role.ADMINISTRATOR else Reach(caller.user.number)


def is_within(reach: Reach | None, user: int | None, api_key: int | None) -> bool:
    """Whether what a user has begun, perhaps with a key, can be seen."""
    if reach is None:
        return True
    return user == reach.user and reach.api_key in (None, api_key)


#: Who has not logged in where that is required: nothing in the log is theirs.
NOBODY = Caller(User(0, "", Role.READER))

_caller: ContextVar[Caller] = ContextVar("caller", default=LOCAL)
_payer: ContextVar[Caller | None] = ContextVar("payer", default=None)


def caller() -> Caller:
    """On whose behalf this thread works at the moment."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """Work on somebody's behalf from now on; ``LOCAL`` ends that."""
    _caller.set(caller)


@contextmanager
def acting_for(caller: Caller) -> Iterator[None]:
    """Work on somebody's behalf, and then again as before."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def payer() -> Caller:
    """On whose account this thread calls upstreams at the moment: usually whoever calls it."""
    return _payer.get() or _caller.get()


def on_this_account(function: Callable[P, T]) -> Callable[P, T]:
    """A function to be run by a thread of our own: it sees all, and pays with the key of whoever calls now.

    Whatever asks upstreams on somebody's behalf in another thread is handed to that thread through this.
    """
    who = payer()

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _payer.set(who)
        try:
            return function(*args, **kwargs)
        finally:
            _payer.reset(token)

    return run


def only_talks() -> bool:
    """Whether whoever calls is a program with a key that is for talking only."""
    key = _caller.get().key
    return key is not None and key.is_confined


def opens(persona_id: str, pin: str = "") -> bool:
    """Whether whoever calls may use a persona: everybody may, but for a key with a scope."""
    key = _caller.get().key
    return key is None or key.admits(persona_id, pin)


def opens_only(persona_id: str, pin: str) -> bool:
    """Whether whoever calls may use a persona at this label or revision, but not in every form."""
    return not opens(persona_id) and opens(persona_id, pin)


def opened_forms() -> Sequence[str]:
    """The single forms of personas that the key at hand opens, such as ``teacher@production``; without a key none."""
    key = _caller.get().key
    return [name for name in key.scope if "@" in name] if key else []


def require_persona(persona_id: str, pin: str = "") -> None:
    """Raises NotFoundError if the key that calls does not open a persona, as if it did not exist."""
    if not opens(persona_id, pin):
        raise NotFoundError("There is no persona '%(id)s'.", id=persona_id[:80])


def parse_scope(given: Sequence[str]) -> tuple[str, ...]:
    """The personas that a key is to open, each once; none given is every one. Raises InputError."""
    names = tuple(dict.fromkeys(name.strip() for name in given if name.strip()))
    for name in names:
        persona_id, at, pin = name.partition("@")
        if name != EVERYTHING and not (is_persona_id(persona_id) and bool(at) == bool(pin)):
            raise InputError(
                "A key opens personas by id, such as teacher, teacher@production, or * for all; got '%(got)s'.",
                key="scope",
                got=name[:80],
            )
    return (EVERYTHING,) if not names or EVERYTHING in names else names
