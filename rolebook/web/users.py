"""Users, for administrators: who may use Rolebook, as what, and with which keys."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from rolebook.core.access import Role
from rolebook.core.errors import InputError, NotFoundError, RolebookError
from rolebook.web.access import is_login_required
from rolebook.web.account import key_rows
from rolebook.web.current import rolebook
from rolebook.web.errors import describe, status_of, wants_json
from rolebook.web.submission import submitted

blueprint = Blueprint("users", __name__)


@blueprint.get("/users", endpoint="list")
def list_users() -> str:
    """The page."""
    return _page()


@blueprint.post("/users")
def create() -> ResponseReturnValue:
    """Add somebody, with ``name``, ``role`` and ``password``."""
    fields = submitted()
    _require_login()
    try:
        role = _role(fields.get("role", ""))
        rolebook().accounts.create_user(fields.get("name", ""), role, fields.get("password", ""))
    except RolebookError as error:
        return _faulty("new", error, fields)
    return _done()


@blueprint.post("/users/role")
def set_role() -> ResponseReturnValue:
    """Give the user ``name`` another ``role``."""
    fields, accounts = submitted(), rolebook().accounts
    user = accounts.get_user(fields.get("name", ""))
    try:
        accounts.set_role(user, _role(fields.get("role", "")))
    except RolebookError as error:
        return _faulty(user.name, error, fields)
    return _done()


@blueprint.post("/users/password")
def set_password() -> ResponseReturnValue:
    """Give the user ``name`` another ``password``; they are logged out everywhere."""
    fields, accounts = submitted(), rolebook().accounts
    user = accounts.get_user(fields.get("name", ""))
    try:
        accounts.set_password(user, fields.get("password", ""))
    except InputError as error:
        return _faulty(user.name, error, fields)
    return _done()


@blueprint.post("/users/remove")
def remove() -> ResponseReturnValue:
    """Remove the user ``name`` with their keys; what they said stays in the log."""
    fields, accounts = submitted(), rolebook().accounts
    user = accounts.get_user(fields.get("name", ""))
    try:
        accounts.remove_user(user)
    except RolebookError as error:
        return _faulty(user.name, error, fields)
    return _done()


@blueprint.get("/users/role")
@blueprint.get("/users/password")
@blueprint.get("/users/remove")
def return_to_users() -> Response:
    """Where a reload or a change of language ends up after something that was sent here."""
    return _done()


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise InputError(
            "A role is one of %(known)s, got '%(got)s'.",
            key="role",
            known=", ".join(Role),
            got=text[:40],
        ) from None


def _require_login() -> None:
    """The first user is made on the command line: who reaches these pages from there may not be whom one thinks."""
    if not is_login_required():
        raise NotFoundError("Nobody has to log in here, so that there are no accounts.")


def _done() -> Response:
    return redirect(url_for("users.list"), 303)


def _faulty(name: str, error: RolebookError, fields: Mapping[str, str]) -> ResponseReturnValue:
    if wants_json():
        raise error
    return _page(at=name, error=error, fields=fields), status_of(error)


def _page(
    *,
    at: str = "",
    error: RolebookError | None = None,
    fields: Mapping[str, str] | None = None,
) -> str:
    return render_template(
        "users.html",
        users=rolebook().accounts.list_users(),
        keys=key_rows(None),
        roles=list(Role),
        at=at,
        error=describe(error) if error else "",
        fields=fields or {},
        is_login_required=is_login_required(),
    )
