"""An operation of the API: a function with a type for what it takes and gives; the rest is read off these types.

    @section.post("/sessions", status=201)
    def start_session(body: NewSession) -> Session:
        ...

``body``, ``query`` and ``headers`` are models, every other argument is a part of the path. What arrives is held against
the JSON Schema of its type, the same that stands in the document, before the function sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, wraps
from types import UnionType
from typing import Any, get_args, get_type_hints

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict
from werkzeug.wrappers import Response as BaseResponse

from rolebook.core.fields import Part
from rolebook.storage.encoding import encode_json
from rolebook.web.api.schema import schema_of

Function = Callable[..., Any]


class Body(Part):
    """What a request carries, as JSON or in its address. Nothing is built before it is asked for."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class _Nothing(Body):
    """What stands behind the ``?`` of an address that takes nothing there."""


@dataclass(frozen=True)
class Operation:
    """One thing to do.

    ``status`` is that of success, ``kinds`` the content types besides JSON in which it may answer, ``events`` the names
    of those of its stream, and ``refusals`` the statuses of the errors that are its own.
    """

    method: str
    path: str
    function: Function
    section: str
    status: int
    kinds: Sequence[str]
    events: Sequence[str]
    refusals: Sequence[int]

    @property
    def name(self) -> str:
        """What it is called among all others, which is the name of its function."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.function.__doc__ or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """What else there is to say of it."""
        lines = (self.function.__doc__ or "").split("\n")[1:]
        return "\n".join(line.strip() for line in lines).strip()

    @cached_property
    def types(self) -> Mapping[str, Any]:
        """The types of its arguments by name, and of what it gives as ``return``."""
        return get_type_hints(self.function, include_extras=True)

    @property
    def body(self) -> type[BaseModel] | None:
        """What is sent to it as JSON, if anything."""
        return self.types.get("body")

    @property
    def query(self) -> type[BaseModel] | None:
        """What stands behind the ``?`` of its address, if anything."""
        return self.types.get("query")

    @property
    def headers(self) -> type[BaseModel] | None:
        """The headers of its own, if any; the aliases of the fields are their names."""
        return self.types.get("headers")

    @property
    def answer(self) -> Any:
        """The type of its answer as JSON; None where that says no more."""
        given = self.types["return"]
        kinds = get_args(given) if isinstance(given, UnionType) else (given,)
        told = [kind for kind in kinds if kind is not type(None) and not _is_response(kind)]
        return told[0] if told else None

    @property
    def parts(self) -> Sequence[str]:
        """The names in its path."""
        return re.findall("<([a-z_]+)>", self.path)

    @property
    def body_schema(self) -> Mapping[str, Any]:
        """The schema of what is sent to it."""
        return schema_of(self.body) if self.body else {}

    @property
    def query_schema(self) -> Mapping[str, Any]:
        """The schema of what stands behind the ``?`` of its address."""
        return schema_of(self.query) if self.query else {}

    @property
    def headers_schema(self) -> Mapping[str, Any]:
        """The schema of its own headers."""
        return schema_of(self.headers) if self.headers else {}


def _is_response(given: Any) -> bool:
    """Whether a type is a response as a whole, of which no schema says more."""
    return isinstance(given, type) and issubclass(given, BaseResponse)


class Section:
    """Operations on one kind of thing."""

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.operations: list[Operation] = []

    def get(self, path: str, **more: Any) -> Callable[[Function], Function]:
        """Reads something."""
        return self._operation("GET", path, **more)

    def post(self, path: str, **more: Any) -> Callable[[Function], Function]:
        """Makes or does something."""
        return self._operation("POST", path, **more)

    def put(self, path: str, **more: Any) -> Callable[[Function], Function]:
        """Puts something into a place."""
        return self._operation("PUT", path, **more)

    def patch(self, path: str, **more: Any) -> Callable[[Function], Function]:
        """Changes what is sent of something, and nothing else of it."""
        return self._operation("PATCH", path, **more)

    def delete(self, path: str, **more: Any) -> Callable[[Function], Function]:
        """Takes something away."""
        return self._operation("DELETE", path, **more)

    def _operation(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        kinds: Sequence[str] = (),
        events: Sequence[str] = (),
        refusals: Sequence[int] = (),
    ) -> Callable[[Function], Function]:
        def add(function: Function) -> Function:
            self.operations.append(
                Operation(method, path, function, self.name, status, kinds, events, refusals)
            )
            return function

        return add

    def serve_on(self, blueprint: Blueprint) -> None:
        """Give each operation its address."""
        for operation in self.operations:
            blueprint.add_url_rule(
                operation.path,
                endpoint=operation.name,
                view_func=_view_of(operation),
                methods=[operation.method],
            )


def _view_of(operation: Operation) -> Callable[..., BaseResponse]:
    @wraps(operation.function)
    def view(**parts: str) -> BaseResponse:
        # What holds requests against schemas is loaded with the first of them.
        from rolebook.web.api.reading import read_body, read_headers, read_query

        given: dict[str, Any] = dict(parts)
        query = read_query(operation.query or _Nothing)
        if operation.query:
            given["query"] = query
        if operation.headers:
            given["headers"] = read_headers(operation.headers)
        if operation.body:
            given["body"] = read_body(operation.body)
        return respond(operation.function(**given), operation.status)

    return view


def respond(answer: Any, status: int = 200) -> BaseResponse:
    """An answer as JSON; none is 204."""
    if isinstance(answer, BaseResponse):
        return answer
    if answer is None:
        return Response(status=204)
    return Response(encode_json(plain(answer)) + "\n", status, mimetype="application/json")


def plain(value: Any) -> Any:
    """Data with dicts in place of dataclasses."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
