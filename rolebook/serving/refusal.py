"""What is answered where no application is reached: to a request that is none, and after a fault of the server's own.

Neither the answer nor what is logged repeats anything of the request: in a line that is no header, a key may stand.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from http import HTTPStatus

from gunicorn.http import errors  # type: ignore[import-untyped]

from rolebook.core.frozen import frozen


@frozen
class Refusal:
    """Why a request is not answered.

    ``kind`` is what is wrong in a word or two, ``text`` what whoever sent it is told.
    """

    status: HTTPStatus
    kind: str
    text: str


FAULT = Refusal(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "failed",
    "Something failed inside Rolebook. What it was stands in the output of its process; please try again.",
)
_MALFORMED = Refusal(
    HTTPStatus.BAD_REQUEST, "malformed", "This is no HTTP/1.1 request, so nothing was done."
)
_LINE = Refusal(
    HTTPStatus.BAD_REQUEST,
    "request line",
    "The first line of the request is not one of HTTP/1.1: a method, a path and the version, ended by CR and LF.",
)
_HEADER = Refusal(
    HTTPStatus.BAD_REQUEST,
    "header",
    "A header of the request is not as HTTP/1.1 has it, or two of them contradict each other. Each is a name, a colon "
    "and a value in one line, ended by CR and LF; the length of the body is told once.",
)
_BODY = Refusal(
    HTTPStatus.BAD_REQUEST, "body", "The chunks of the request's body are not as HTTP/1.1 has them."
)
#: The first that fits counts.
_REFUSALS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Refusal], ...] = (
    # The application has tried to send it.
    ((errors.InvalidResponseHeader, errors.InvalidResponseHeaderName), FAULT),
    (errors.ConfigurationProblem, FAULT),
    (
        errors.LimitRequestLine,
        Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            "long request line",
            "The address is longer than Rolebook takes. Shorten what is behind its question mark.",
        ),
    ),
    (
        errors.LimitRequestHeaders,
        Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "large headers",
            "The request has more headers, or longer ones, than Rolebook takes.",
        ),
    ),
    (
        errors.ExpectationFailed,
        Refusal(
            HTTPStatus.EXPECTATION_FAILED,
            "Expect header",
            "The header Expect can only be 100-continue. Send the request without it.",
        ),
    ),
    (
        errors.UnsupportedTransferCoding,
        Refusal(
            HTTPStatus.NOT_IMPLEMENTED,
            "Transfer-Encoding header",
            "The body can come in chunks or with its length, and in no other transfer coding.",
        ),
    ),
    ((errors.InvalidRequestLine, errors.InvalidRequestMethod, errors.InvalidHTTPVersion), _LINE),
    ((errors.InvalidHeader, errors.InvalidHeaderName, errors.ObsoleteFolding), _HEADER),
    (errors.InvalidSchemeHeaders, _HEADER),
    ((errors.InvalidChunkSize, errors.ChunkMissingTerminator, errors.InvalidChunkExtension), _BODY),
    (errors.ParseException, _MALFORMED),
)


def refusal_of(problem: Exception) -> Refusal:
    """What a request is refused with that has raised this."""
    return next((refusal for kind, refusal in _REFUSALS if isinstance(problem, kind)), FAULT)


def answer(client: socket.socket, refusal: Refusal) -> None:
    """Send a refusal, as far as there is room for it, in the shape that errors have in OpenAI's API: whoever sends what
    is no request is a program, and its path is not known.
    """
    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    code = "error" if refusal.status >= 500 else "invalid_request"
    error = {"message": refusal.text, "type": kind, "param": None, "code": code}
    body = json.dumps({"error": error})
    head = (
        f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "\r\n"
    )
    with suppress(OSError):
        client.send((head + body).encode("ascii"), socket.MSG_DONTWAIT)
