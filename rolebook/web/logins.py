"""Logging in and out."""

from __future__ import annotations

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from rolebook.core.errors import AccessError
from rolebook.storage.user import LONGEST
from rolebook.web.access import COOKIE, is_login_required, visitor
from rolebook.web.current import rolebook
from rolebook.web.errors import headers_of, status_of, wants_json
from rolebook.web.security import local_path
from rolebook.web.submission import submitted

blueprint = Blueprint("logins", __name__)


@blueprint.get("/login")
def show() -> ResponseReturnValue:
    """The page to log in on; who has nothing to do there goes on."""
    to = local_path(request.args.get("next", "/"))
    if visitor() is not None or not is_login_required():
        return redirect(to, 303)
    return _page(to)


@blueprint.post("/login")
def log_in() -> ResponseReturnValue:
    """Begin a login with ``name`` and ``password``, and go on to ``next``."""
    fields = submitted()
    to = local_path(fields.get("next", "/"))
    if not is_login_required():
        return redirect(to, 303)
    try:
        token = rolebook().accounts.log_in(
            fields.get("name", ""),
            fields.get("password", ""),
            address=request.remote_addr or "",
            instead_of=request.cookies.get(COOKIE, ""),
        )
    except AccessError as error:
        if wants_json():
            raise
        response = make_response(
            _page(to, name=fields.get("name", ""), error=error), status_of(error)
        )
        response.headers.update(headers_of(error))
        return response
    return _with_cookie(redirect(to, 303), token)


@blueprint.post("/logout")
def log_out() -> Response:
    """End the login of this browser."""
    rolebook().accounts.log_out(request.cookies.get(COOKIE, ""))
    response = redirect(url_for("logins.show"), 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="Lax", secure=request.is_secure)
    return response


@blueprint.get("/logout")
def return_to_account() -> Response:
    """Where a reload after logging out ends up."""
    return redirect(url_for("account.show"), 303)


def _page(to: str, *, name: str = "", error: AccessError | None = None) -> str:
    return render_template(
        "login.html", to=to, name=name, error=error, has_users=rolebook().accounts.has_users()
    )


def _with_cookie(response: Response, token: str) -> Response:
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(LONGEST.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
    )
    return response
