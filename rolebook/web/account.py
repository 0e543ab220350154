"""One's own account: password and API keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from rolebook.core.access import ApiKey, User, parse_scope
from rolebook.core.budget import Spending, parse_limits
from rolebook.core.errors import InputError, NotFoundError, RateLimitError, RolebookError
from rolebook.core.frozen import frozen
from rolebook.web.access import COOKIE, may_open, visitor
from rolebook.web.current import rolebook
from rolebook.web.errors import describe, headers_of, status_of, wants_json
from rolebook.web.security import local_path
from rolebook.web.submission import submitted

blueprint = Blueprint("account", __name__)


@frozen
class KeyRow:
    """A key in a list, with what it has used today and this month."""

    key: ApiKey
    day: Spending
    month: Spending
    used_at: str

    @property
    def has_reserved(self) -> bool:
        """Whether something counts in its budget beside what was used."""
        return self.key.limits.has_budget and self.month.has_reserved


def key_rows(user: User | None) -> Sequence[KeyRow]:
    """The keys of a user, or of all."""
    accounts = rolebook().accounts
    return [
        KeyRow(key, *accounts.spending(key), accounts.last_used(key))
        for key in accounts.list_keys(user)
    ]


@blueprint.get("/account")
def show() -> str:
    """The page."""
    return _page()


@blueprint.post("/account/password")
def change_password() -> ResponseReturnValue:
    """Change the password from ``old`` to ``new``; all other browsers are logged out."""
    fields, accounts, user = submitted(), rolebook().accounts, _user()
    try:
        address = request.remote_addr or ""
        if not accounts.is_password_of(user, fields.get("old", ""), address=address):
            raise InputError("This is not your present password.", key="old")
        accounts.set_password(user, fields.get("new", ""), keeping=request.cookies.get(COOKIE, ""))
    except (InputError, RateLimitError) as error:
        if wants_json():
            raise
        is_new = isinstance(error, InputError) and error.parameters.get("key") != "old"
        page = _page(errors={"new" if is_new else "old": error})
        return page, status_of(error), headers_of(error)
    return redirect(url_for("account.show", changed="password"), 303)


@blueprint.post("/account/keys")
def create_key() -> ResponseReturnValue:
    """Make a key, and show its token this once."""
    fields, user = submitted(), _user()
    try:
        key, token = rolebook().accounts.create_key(
            user,
            fields.get("name", ""),
            scope=parse_scope(re.split(r"[\s,，、]+", fields.get("scope", ""))),
            limits=parse_limits(fields),
        )
    except InputError as error:
        if wants_json():
            raise
        name = str(error.parameters.get("key", ""))
        return _page(errors={name: error}, fields=fields), status_of(error)
    if wants_json():
        return {"id": key.id, "key": token}, 201
    return _page(token=token, unknown=rolebook().unknown_personas(key.scope))


@blueprint.post("/account/keys/revoke")
def revoke_key() -> Response:
    """Revoke a key of one's own, or as an administrator anybody's."""
    fields = submitted()
    key = rolebook().accounts.get_key(fields.get("id", ""))
    if key.user != visitor() and not may_open("users.list"):
        raise NotFoundError("There is no API key %(id)s.", id=key.id)
    rolebook().accounts.revoke_key(key)
    return redirect(local_path(fields.get("next", "") or url_for("account.show")), 303)


@blueprint.get("/account/password")
@blueprint.get("/account/keys")
@blueprint.get("/account/keys/revoke")
def return_to_account() -> Response:
    """Where a reload or a change of language ends up after something that was sent here."""
    return redirect(url_for("account.show"), 303)


def _user() -> User:
    user = visitor()
    if user is None:
        raise NotFoundError("Nobody has to log in here, so that there are no accounts.")
    return user


def _page(
    *,
    errors: Mapping[str, RolebookError] | None = None,
    fields: Mapping[str, str] | None = None,
    token: str = "",
    unknown: Sequence[str] = (),
) -> str:
    user = visitor()
    return render_template(
        "account.html",
        keys=key_rows(user) if user else (),
        errors={name: describe(error) for name, error in (errors or {}).items()},
        fields=fields or {},
        token=token,
        unknown=unknown,
        personas=sorted(persona.persona.id for persona in rolebook().library.personas()),
    )
