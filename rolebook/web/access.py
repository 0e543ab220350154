"""Who calls, and whether they may: decided here for every request, before any view sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from flask import Flask, Response, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue

from rolebook.core.access import (
    LOCAL,
    NOBODY,
    Caller,
    Right,
    Role,
    User,
    acting_for,
    caller,
    least_role,
    may,
    set_caller,
)
from rolebook.core.errors import LoginError, RightError, StorageError
from rolebook.web.current import rolebook
from rolebook.web.errors import wants_json
from rolebook.web.rights import right_of
from rolebook.web.siblings import is_asking

#: The cookie that says who has logged in.
COOKIE = "rolebook-login"


def guard(app: Flask, *, is_exposed: bool) -> None:
    """Let nobody in who may not.

    Arguments:
        is_exposed: whether people log in even if there is no user yet.
    """
    app.config["is_exposed"] = is_exposed
    app.before_request(_admit)
    app.after_request(_keep_caller)
    app.teardown_request(lambda _error: set_caller(LOCAL))
    app.context_processor(lambda: {"visitor": visitor(), "may_open": may_open})


def is_login_required() -> bool:
    """Whether people have to log in here."""
    settings = rolebook().settings
    if settings.login != "auto":
        return settings.login == "always"
    return bool(current_app.config["is_exposed"]) or _has_users()


def _has_users() -> bool:
    accounts = rolebook().accounts
    try:
        return accounts.has_users()
    except StorageError:
        # Nobody gets in because the file cannot be read at the moment; nor is anybody kept from pages that were open
        # to them a moment ago, and say what is the matter with it.
        if accounts.had_users is None:
            raise
        return accounts.had_users


def visitor() -> User | None:
    """The user who calls; ``None`` where nobody has logged in, or nobody has to."""
    user = caller().user
    return user if user is not None and user != NOBODY.user else None


def may_open(endpoint: str) -> bool:
    """Whether whoever calls may use a route."""
    who = caller()
    return may(None if who is NOBODY else who, right_of(endpoint))


def _admit() -> ResponseReturnValue | None:
    set_caller(LOCAL)
    if is_asking() or not is_login_required():
        return None
    set_caller(NOBODY)
    # What is not there at all is so for everybody.
    right = right_of(request.endpoint) if request.endpoint else Right.OPEN
    who = _identified(right)
    if who is not None:
        if who.key is not None:
            rolebook().accounts.require_rate(who.key)
        set_caller(who)
    if may(who, right):
        return None
    return _refused(who, right)


def _identified(right: Right) -> Caller | None:
    """Whoever calls, by the key of a program or the cookie of a browser. Raises LoginError for a key that is none."""
    header = request.headers.get("Authorization")
    if header is not None and right is not Right.OPEN:
        scheme, _, token = header.partition(" ")
        return rolebook().accounts.caller_of_token(
            token.strip() if scheme.lower() == "bearer" else ""
        )
    token = request.cookies.get(COOKIE, "")
    user = rolebook().accounts.find_login(token) if token else None
    return Caller(user) if user else None


def _refused(who: Caller | None, right: Right) -> ResponseReturnValue:
    if who is None:
        if request.method == "GET" and not wants_json():
            here = request.full_path.rstrip("?")
            return redirect(url_for("logins.show", next=None if here == "/" else here), 303)
        raise LoginError(
            "This is for those who have logged in, or send an API key in the header Authorization: Bearer rb-…"
        )
    # Where its user may not either, another key would be of no use.
    if who.key is not None and (who.key.is_confined or may(replace(who, key=None), right)):
        raise RightError(
            "This API key is not for that: one with a scope or a budget only talks, and none changes accounts."
        )
    raise RightError(
        "This is for administrators. Ask one of them."
        if least_role(right) is Role.ADMINISTRATOR
        else "This is for authors. An administrator can make you one."
    )


class _Streamed:
    """The pieces of a response, each made on behalf of whoever it is for: what it reads is what they may see."""

    def __init__(self, pieces: Iterator[bytes | str], who: Caller) -> None:
        self._pieces = pieces
        self._who = who

    def __iter__(self) -> _Streamed:
        return self

    def __next__(self) -> bytes | str:
        with acting_for(self._who):
            return next(self._pieces)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            with acting_for(self._who):
                close()


def _keep_caller(response: Response) -> Response:
    who = caller()
    if who is not LOCAL and response.is_streamed and not response.direct_passthrough:
        pieces = iter(cast("Iterator[bytes | str]", response.response))
        response.response = cast("Iterator[bytes]", _Streamed(pieces, who))
    return response
