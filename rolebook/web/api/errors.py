"""Errors of the API: the one JSON shape of all errors, with every problem in it, and a rule for 400 and 422.

400: the request is not what the document says. 422: it is, and yet it cannot be done; the message says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from flask import Response

from rolebook.core.edit import EditConflict
from rolebook.core.errors import FileError, Problem, PromptError, RolebookError
from rolebook.core.fault import describe_path
from rolebook.core.frozen import frozen
from rolebook.core.planning import UnplannableError
from rolebook.core.source import InUseError
from rolebook.storage.encoding import encode_json
from rolebook.web.current import current_translator
from rolebook.web.errors import RequestError, error_body, headers_of, status_of


@frozen
class Fault:
    """What is wrong with one field of a request."""

    key: str
    message: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Sequence[str | int], message: str, **parameters: Any) -> Fault:
        """By the way to the field; none leads to all of what was sent."""
        key = describe_path(path) or "body"
        return cls(key, message, {"key": key, **parameters})


class FaultyRequestError(RequestError):
    """A request that is not what the document says; its own message is that of the first fault."""

    def __init__(self, faults: Sequence[Fault], *, status: int = 400) -> None:
        first = faults[0]
        super().__init__(first.message, status=status, **first.parameters)
        self.faults = tuple(faults)


class UnusableRequestError(FaultyRequestError):
    """A request of the right form in which fields do not go together, or say what cannot be."""

    code = "invalid_input"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults, status=422)


def respond_to_error(error: RolebookError) -> Response:
    """The answer to an error anywhere in the API."""
    status = status_of(error)
    if status == 400 and not isinstance(error, RequestError):
        status = 422
    body = {"error": {**error_body(error)["error"], **dict(_details(error))}}
    response = Response(encode_json(body) + "\n", status, mimetype="application/json")
    response.headers.update(headers_of(error))
    return response


def _details(error: RolebookError) -> Iterator[tuple[str, Any]]:
    """What more there is to say than one message."""
    if problems := list(_problems(error)):
        yield "problems", problems
    if isinstance(error, FaultyRequestError):
        yield "param", error.faults[0].key
    if isinstance(error, EditConflict):
        yield "conflict", conflict_data(error)
    if isinstance(error, InUseError):
        yield "users", [{"kind": user.kind, "id": user.id} for user in error.users]


def _problems(error: RolebookError) -> Iterator[Mapping[str, Any]]:
    match error:
        case FileError():
            yield from map(problem_data, error.problems)
        case PromptError():
            found = Problem(error.file, error.line, error.column, error.message, error.parameters)
            yield problem_data(found)
        case FaultyRequestError():
            for fault in error.faults:
                yield _fault_data(fault.key, fault.message, fault.parameters)
        case UnplannableError():
            for planned in error.faults:
                key, reason = describe_path(planned.path), planned.error
                yield _fault_data(key, reason.message, reason.parameters)


def problem_data(problem: Problem) -> dict[str, Any]:
    """A problem as JSON has it, in the reader's language."""
    return {**problem.as_data(), "message": current_translator().problem(problem), "key": ""}


def _fault_data(key: str, message: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is wrong in one place of the request, which is no file."""
    return {**problem_data(Problem("", 0, 0, message, parameters)), "key": key}


def conflict_data(error: EditConflict) -> dict[str, Any]:
    """Both versions of a file, and what they come to put together."""
    return {
        "etag": error.theirs.etag,
        "mine": error.mine,
        "theirs": error.theirs.text,
        "base": error.base,
        "merged": error.merged.text,
    }
