"""What every request must pass, and what every response says to the browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Request
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from rolebook.core.access import NOBODY, caller
from rolebook.web.current import this_request
from rolebook.web.errors import RequestError
from rolebook.web.submission import MAX_FIELDS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_BODY_BYTES = 1_000_000
#: Of whoever has not logged in: enough for a name, a password and where to go on.
MAX_STRANGER_BYTES = 16_384
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_WILDCARDS = {"", "0.0.0.0", "::"}
#: Any address by its number: who serves a whole network is reached by it, and no DNS stands behind it.
_NUMBERS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-f:.]+\]", re.IGNORECASE)
#: Says whether a name in lower case is one of ours.
OwnNames = Callable[[str], bool]
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_AUTHORITY = re.compile(
    r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?P<port>:[0-9]{1,5})?", re.IGNORECASE
)

#: What every response says, unless its view has said otherwise.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HEADERS_BY_KEY = {name.lower(): (name, value) for name, value in _HEADERS.items()}


def protect(
    app: Flask,
    *,
    host: str,
    names: Collection[str] = (),
    proxies: int = 0,
) -> None:
    """Guard every route of an application, static files and errors included.

    Arguments:
        host: the address it is served on; its name is let in besides the names of loopback. Where that is every
            address of this computer, so is any address given by its number.
        names: further names that are let in.
        proxies: how many reverse proxies are in front of it, which say in X-Forwarded headers who calls, how, and
            under which name. Anybody can write such headers, so that without a proxy they say nothing.
    """
    is_own = _own_names(host.lower(), names)
    if proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies
        )
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_BODY_BYTES,
        MAX_FORM_PARTS=MAX_FIELDS,
        SESSION_COOKIE_SAMESITE="Lax",
    )

    def check_request() -> None:
        asked = this_request()
        _check_host(asked, is_own)
        if asked.method not in _SAFE_METHODS:
            _check_origin(asked, is_own)

    app.before_request(check_request)
    app.wsgi_app = _restricting(app.wsgi_app)  # type: ignore[assignment, method-assign]


def limit_bodies(app: Flask, *, larger: Mapping[str, int]) -> None:
    """Refuse bodies that are too large. To be asked after it is known who calls: what comes in chunks is read for it,
    and of those who may not call anybody could fill the memory.

    Arguments:
        larger: the blueprints that take larger bodies than others, and how large, in bytes.
    """

    def check_body() -> None:
        asked = this_request()
        if asked.method not in _SAFE_METHODS and asked.endpoint is not None:
            most = larger.get(asked.blueprint or "", MAX_BODY_BYTES)
            _check_size(asked, MAX_STRANGER_BYTES if caller() is NOBODY else most)

    app.before_request(check_body)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _own_names(host: str, further: Collection[str]) -> OwnNames:
    names = LOOPBACK_NAMES | ({_bracketed(host)} - _WILDCARDS) | set(further)
    is_network = host in _WILDCARDS
    return lambda name: name in names or (is_network and bool(_NUMBERS.fullmatch(name)))


def _check_host(asked: Request, is_own: OwnNames) -> None:
    """A name that an attacker's DNS points here is refused. The port is not looked at: it proves nothing, and it is
    another one wherever a tunnel or a container forwards to this one.
    """
    authority = _AUTHORITY.fullmatch(asked.environ.get("HTTP_HOST", ""))
    if authority is None or not is_own(authority["name"].lower()):
        raise RequestError(
            "Rolebook does not answer under this name. Open it under %(name)s, or list it in ROLEBOOK_HOST_NAMES.",
            status=400,
            name="http://127.0.0.1:" + asked.environ.get("SERVER_PORT", ""),
        )


def _check_origin(asked: Request, is_own_name: OwnNames) -> None:
    """Only Rolebook's own pages, and programs that are no browser, may change anything."""
    site = asked.headers.get("Sec-Fetch-Site")
    origin = asked.headers.get("Origin")
    is_own = (
        site in {"same-origin", "none"}
        if site is not None
        else origin is None or _is_own_origin(asked, origin, is_own_name)
    )
    if not is_own:
        raise RequestError(
            "This request came from another site, so nothing was done."
            " If it was you, open the page itself and try again.",
            status=403,
        )


def _is_own_origin(asked: Request, origin: str, is_own_name: OwnNames) -> bool:
    scheme, _, rest = origin.partition("://")
    authority = _AUTHORITY.fullmatch(rest)
    own = _AUTHORITY.fullmatch(asked.environ["HTTP_HOST"])
    if authority is None or own is None:
        return False
    return (
        scheme == asked.scheme
        and is_own_name(authority["name"].lower())
        and authority["port"] == own["port"]
    )


def _check_size(asked: Request, limit: int) -> None:
    asked.max_content_length = limit
    is_large = _body_size(asked) >= limit
    if is_large and limit < MAX_BODY_BYTES:
        raise RequestError(
            "This is more than Rolebook takes of whoever has not logged in.", status=413
        )
    if is_large:
        raise RequestError(
            "This is more than Rolebook takes at once (%(limit)d MB). Shorten it and try again.",
            status=413,
            limit=limit // 1_000_000,
        )
    # Counted before they are taken apart, which costs a hundred times as much.
    if (
        asked.mimetype == "application/x-www-form-urlencoded"
        and _body(asked).count(b"&") >= MAX_FIELDS
    ):
        raise RequestError(
            "This form has more than %(limit)s fields.", status=413, limit=MAX_FIELDS
        )


def _body_size(asked: Request) -> int:
    if asked.content_length is not None:
        return asked.content_length
    # A body that comes in chunks would be cut at the limit, and what was cut taken for the whole.
    return len(_body(asked))


def _body(asked: Request) -> bytes:
    try:
        return asked.get_data()
    except HTTPException:
        raise
    except Exception as error:
        # Each server has errors of its own for chunks that are none.
        raise BadRequest from error


def _restricting(application: WSGIApplication) -> WSGIApplication:
    """The application with our headers, added last: on the way through Flask each header is looked at three times."""

    def restricted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *further: Any) -> Any:
            said = {name.lower() for name, _ in headers}
            ours = [header for key, header in _HEADERS_BY_KEY.items() if key not in said]
            return start_response(status, headers + ours, *further)

        return application(environ, start)

    return restricted


def local_path(target: str) -> str:
    """A path on this site to go on to, or ``/`` where the given one could lead elsewhere."""
    parts = urlsplit(target)
    is_plain = bool(re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", target)) and "\\" not in target
    return target if is_plain and not parts.scheme and not parts.netloc else "/"
