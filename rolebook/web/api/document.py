"""The OpenAPI document of the API, made from the types of its operations when it is first asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from rolebook import __version__
from rolebook.web import request_log, turns
from rolebook.web.access import COOKIE
from rolebook.web.api import shapes
from rolebook.web.api.operation import Operation, Section
from rolebook.web.api.routes import PREFIX, SECTIONS
from rolebook.web.api.schema import Mode, schemas_of

_ABOUT = """\
Everything that Rolebook's pages do, for programs. Where nobody has to log in, no key is needed; elsewhere send an API
key as `Authorization: Bearer rb-…`. Errors are always JSON: 400 means that a request is not what this document says,
422 that it is and yet cannot be done; the message says why, in the language that `Accept-Language` asks for. Lists come
in pages: send the `next` of one as `cursor` of the following one. Every answer has an `X-Request-Id`, which the log of
the server has too.
"""
#: What any operation may answer instead.
_COMMON = (400, 401, 403, 429, 500, 503)
_OF_BODIES = (413, 415, 422)
_OF_QUERIES = (422,)
_JSON = "application/json"
_STREAM = "text/event-stream"
_TEXT: Mapping[str, Any] = {"type": "string"}
_OF_ERRORS = (
    request_log.REQUEST_ID,
    "Retry-After",
    "X-Should-Retry",
    "WWW-Authenticate",
    turns.TURN_HEADER,
)


@cache
def document() -> Mapping[str, Any]:
    """The document."""
    operations = [operation for section in SECTIONS for operation in section.operations]
    found, definitions = schemas_of(_types(operations))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rolebook", "version": __version__, "description": _ABOUT},
        "tags": [_tag(section) for section in SECTIONS],
        "paths": _paths(operations, found),
        "components": {
            "schemas": dict(sorted(definitions.items())),
            "responses": {"Error": _error(found)},
            "headers": _answer_headers(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "login": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
        "security": [{}, {"key": []}, {"login": []}],
    }


def _tag(section: Section) -> Mapping[str, str]:
    return {"name": section.name, "description": section.description}


def _types(operations: Sequence[Operation]) -> Iterator[tuple[str, Mode, Any]]:
    yield "error", "serialization", shapes.Error
    for operation in operations:
        if operation.body:
            yield f"{operation.name} body", "validation", operation.body
        if operation.answer is not None:
            yield f"{operation.name} answer", "serialization", operation.answer
        for name in operation.parts:
            yield f"{operation.name} {name}", "validation", operation.types[name]


def _error(found: Mapping[tuple[str, Mode], Any]) -> Mapping[str, Any]:
    schema = found["error", "serialization"]
    return {
        "description": "What went wrong.",
        "headers": _headers(*_OF_ERRORS),
        "content": {_JSON: {"schema": schema}},
    }


def _answer_headers() -> Mapping[str, Any]:
    said = {
        request_log.REQUEST_ID: "Names the request, here and in the log of the server.",
        "Content-Disposition": "A name for the file.",
        "Retry-After": "In how many seconds the same request may be answered, where that is known.",
        "X-Should-Retry": "`false` where the same request would only meet the same for long.",
        "WWW-Authenticate": "`Bearer`, where nobody has said who calls.",
        turns.TURN_HEADER: "The turn that has failed, where one had begun.",
    }
    return {name: {"description": text, "schema": _TEXT} for name, text in said.items()}


def _headers(*names: str) -> Mapping[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _paths(
    operations: Iterable[Operation], found: Mapping[tuple[str, Mode], Any]
) -> Mapping[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = PREFIX + re.sub("<([a-z_]+)>", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _described(operation, found)
    return paths


def _described(operation: Operation, found: Mapping[tuple[str, Mode], Any]) -> Mapping[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.section],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [
            *_parts(operation, found),
            *_named(operation.query_schema, "query"),
            *_named(operation.headers_schema, "header"),
        ],
        "responses": {
            str(operation.status): _success(operation, found),
            **{str(status): _refusal() for status in _refusals(operation)},
        },
    }
    if operation.body:
        described["requestBody"] = {
            "required": bool(operation.body_schema.get("required")),
            "content": {_JSON: {"schema": found[f"{operation.name} body", "validation"]}},
        }
    return {name: value for name, value in described.items() if value not in ("", [])}


def _parts(
    operation: Operation, found: Mapping[tuple[str, Mode], Any]
) -> Iterator[Mapping[str, Any]]:
    for name in operation.parts:
        schema = found[f"{operation.name} {name}", "validation"]
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _named(schema: Mapping[str, Any], place: str) -> Iterator[Mapping[str, Any]]:
    """What may stand in the address or in headers, by its name."""
    for name, given in schema.get("properties", {}).items():
        plain = {key: value for key, value in given.items() if key not in ("description", "title")}
        yield {
            "name": name,
            "in": place,
            "required": name in schema.get("required", ()),
            "schema": plain,
            **({"description": given["description"]} if "description" in given else {}),
        }


def _success(operation: Operation, found: Mapping[tuple[str, Mode], Any]) -> Mapping[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content[_JSON] = {"schema": found[f"{operation.name} answer", "serialization"]}
    elif operation.kinds:
        content[_JSON] = {"schema": {}}
    content |= {kind: {"schema": _TEXT} for kind in operation.kinds}
    if operation.events:
        content[_STREAM] = {"schema": _stream(operation.events)}
    return {
        "description": HTTPStatus(operation.status).phrase,
        "headers": _headers(
            request_log.REQUEST_ID, *(("Content-Disposition",) if operation.kinds else ())
        ),
        **({"content": content} if content else {}),
    }


def _stream(events: Sequence[str]) -> Mapping[str, Any]:
    """A stream, described by one of its events."""
    return {
        "type": "object",
        "properties": {
            "event": {"enum": list(events)},
            "data": {"type": "string", "contentMediaType": _JSON},
        },
        "required": ["event", "data"],
    }


def _refusals(operation: Operation) -> Sequence[int]:
    statuses = {*_COMMON, *operation.refusals}
    if operation.parts:
        statuses |= {404, 422}
    if operation.query or operation.headers:
        statuses |= {*_OF_QUERIES}
    if operation.body:
        statuses |= {*_OF_BODIES}
    return sorted(statuses)


def _refusal() -> Mapping[str, str]:
    return {"$ref": "#/components/responses/Error"}
