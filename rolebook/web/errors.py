"""Errors as people and programs meet them: one table of HTTP statuses, one page, one JSON shape."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from math import ceil
from pathlib import PurePath
from typing import Any, ClassVar

from flask import Flask, Response, current_app, jsonify, make_response, render_template, request
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.wrappers import Response as BaseResponse

from rolebook.core.errors import (
    AccessError,
    BudgetError,
    ConflictError,
    CutOffError,
    FileError,
    InputError,
    LibraryError,
    LoginError,
    NotFoundError,
    PromptError,
    RateLimitError,
    RightError,
    RolebookError,
    StorageError,
    UpstreamCancelled,
    UpstreamError,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamReplyError,
    UpstreamSilentError,
    UpstreamTimeoutError,
    VariableError,
)
from rolebook.web.current import current_translator


class RequestError(RolebookError):
    """The HTTP request itself cannot be served."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, *, status: int, **parameters: Any) -> None:
        super().__init__(message, **parameters)
        self.status = status


#: A kind that is not listed has the status of its nearest listed ancestor. That a persona or a prompt template on this
#: side is at fault is no reason to send the same request again, so it is no 5xx.
STATUSES: Mapping[type[RolebookError], int] = {
    RolebookError: 500,
    InputError: 400,
    FileError: 422,
    PromptError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    AccessError: 403,
    LoginError: 401,
    RateLimitError: 429,
    BudgetError: 429,
    LibraryError: 503,
    StorageError: 503,
    UpstreamError: 502,
    UpstreamKeyError: 503,
    UpstreamRefusedError: 400,
    UpstreamRateError: 429,
    UpstreamTimeoutError: 504,
    UpstreamSilentError: 503,
    UpstreamCancelled: 499,
    CutOffError: 503,
}

#: Statuses after which the client of OpenAI sends its request once more, and once more, by itself.
_REPEATED = frozenset({408, 409, 429, *range(500, 600)})
#: What that would only meet again, or pay for again: an upstream whose time was used up has worked for as long.
_LASTING = {
    kind.code
    for kind in (UpstreamKeyError, UpstreamQuotaError, UpstreamTimeoutError, UpstreamReplyError)
}
#: Older ones come after eight seconds at most, however much longer they are to wait.
_LONGEST_WAIT_S = 60.0

_HTTP_MESSAGES: Mapping[int, str] = {
    400: "The request cannot be understood. Go back and try again.",
    403: "This is not allowed.",
    404: "There is no such page. The address may be mistyped, or what it showed is gone.",
    405: "This address does not take that kind of request. Go back and use the page's buttons.",
    408: "The rest of what you sent did not arrive in time. Please send it again.",
    413: "This is more than Rolebook takes at once (1 MB). Shorten it and try again.",
    415: "Rolebook cannot read this kind of content here. Send a form or JSON.",
}
#: What programs are told instead.
_PROGRAM_MESSAGES: Mapping[int, str] = {
    404: "There is nothing at this address of the API. The documentation lists what there is, and with which methods.",
    405: "This address of the API does not take that method. The documentation lists which it takes.",
}
UNEXPECTED = "Something failed inside Rolebook. What it was stands in the output of its process; please try again."


def status_of(error: RolebookError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, RequestError):
        return error.status
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def describe(error: RolebookError) -> str:
    """An error in the reader's language, with the upstream's own words where there are any.

    Of files of this computer it names no folders: a program that calls may be anybody's. Standard error has them.
    """
    if isinstance(error, StorageError):
        current_app.logger.warning("%s", error)
    return current_translator().error(_without_folders(error))


def _without_folders(error: RolebookError) -> RolebookError:
    path = PurePath(str(error.parameters.get("path", "")))
    if not path.is_absolute():
        return error
    shown = copy(error)
    shown.parameters = {
        name: _shortened(value, path) if isinstance(value, str) else value
        for name, value in error.parameters.items()
    }
    return shown


def _shortened(text: str, path: PurePath) -> str:
    return path.parent.name if text == str(path.parent) else text.replace(str(path), path.name)


def error_body(error: RolebookError) -> dict[str, Any]:
    """The one JSON shape of errors, which is OpenAI's."""
    return {
        "error": {
            "message": describe(error),
            "type": _type_of(error),
            "param": _param_of(error),
            "code": error.code,
        }
    }


def _param_of(error: RolebookError) -> str | None:
    """The variable or parameter that is at fault, where it is one."""
    if isinstance(error, VariableError):
        return error.name
    # A key in a file or a template is no parameter of the request.
    is_about_file = isinstance(error, FileError | PromptError)
    known = InputError | NotFoundError | RightError
    is_about_request = isinstance(error, known) and not is_about_file
    key = error.parameters.get("key") if is_about_request else None
    return None if key is None else str(key)


def _type_of(error: RolebookError) -> str:
    status = status_of(error)
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def wants_json() -> bool:
    """Whether the answer goes to a program rather than to a reader."""
    if (
        request.path.startswith(("/v1/", "/api/"))
        or request.path in {"/healthz", "/readyz", "/metrics"}
        or request.is_json
    ):
        return True
    return bool(request.accept_mimetypes) and not request.accept_mimetypes.accept_html


def respond(error: RolebookError) -> Response:
    """An error as JSON or as a page, whichever was asked for."""
    status = status_of(error)
    if wants_json():
        response = jsonify(error_body(error))
    else:
        page = render_template("error.html", error=error, status=status, text=describe(error))
        response = make_response(page)
    response.status_code = status
    response.headers.update(headers_of(error))
    return response


def headers_of(error: RolebookError) -> dict[str, str]:
    """What an error says in headers: when the same request is worth sending again, or how to say who one is."""
    headers = {}
    wait_s, is_lasting = _prospect(error)
    if wait_s is not None:
        # Whoever comes a moment too early would have to wait again.
        headers["Retry-After"] = str(max(1, ceil(wait_s)))
    if isinstance(error, LoginError):
        headers["WWW-Authenticate"] = "Bearer"
    if is_lasting and status_of(error) in _REPEATED:
        headers["X-Should-Retry"] = "false"
    return headers


def _prospect(error: RolebookError) -> tuple[float | None, bool]:
    """In how many seconds the same may be answered, where that is known, and whether it is no use to ask before long.

    Of several that were asked, the one counts that answers first: one whose trouble lasts only where all others' does.
    """
    wait_s = error.retry_after_s if isinstance(error, UpstreamError | AccessError) else None
    # What a server has failed at after long work it would work at again, and be paid for.
    found = [(wait_s, _lasts(error.code, wait_s) or "took_s" in error.parameters)]
    for other in error.parameters.get("others") or () if isinstance(error, UpstreamError) else ():
        wait_s = other["retry_after_s"]
        is_refused = other["code"] == UpstreamRefusedError.code
        found.append((wait_s, is_refused or _lasts(other["code"], wait_s)))
    is_lasting = all(lasts for _, lasts in found)
    waits = [wait_s for wait_s, lasts in found if wait_s is not None and lasts == is_lasting]
    return min(waits, default=None), is_lasting


def _lasts(code: str, wait_s: float | None) -> bool:
    return code in _LASTING or (wait_s or 0.0) > _LONGEST_WAIT_S


def handle_errors(app: Flask) -> None:
    """Answer every error of an application in one way."""
    app.register_error_handler(RolebookError, respond)
    app.register_error_handler(HTTPException, _respond_to_http)
    app.register_error_handler(Exception, _respond_to_unexpected)


def _respond_to_http(error: HTTPException) -> BaseResponse:
    # A client that has really gone reads no status; one that was only too slow does.
    status = 408 if isinstance(error, ClientDisconnected) else error.code or 500
    if status < 400:
        return error.get_response()
    messages = _HTTP_MESSAGES
    if f"{request.path}/".startswith(("/v1/", "/api/")):
        messages = {**_HTTP_MESSAGES, **_PROGRAM_MESSAGES}
    message = messages.get(status, messages[400] if status < 500 else UNEXPECTED)
    response = respond(RequestError(message, status=status))
    for name, value in error.get_headers(request.environ):
        if name in {"Allow", "Retry-After"}:
            response.headers[name] = value
    return response


def _respond_to_unexpected(error: Exception) -> BaseResponse:
    # In a path may stand what nobody but whom it concerns should read.
    route = request.url_rule.rule if request.url_rule else "a request"
    current_app.logger.exception("%s %s failed", request.method, route, exc_info=error)
    return respond(RolebookError(UNEXPECTED))
