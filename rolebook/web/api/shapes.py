"""What the answers of the API are made of, by the names that exports and ``--json`` have too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from rolebook.core.completion import Choice, Usage
from rolebook.core.fields import explanations_of


def _explain(schema: dict[str, Any], kind: type) -> None:
    """Put into the schema of a class what stands below its fields."""
    texts = _explanations_of(kind)
    for name, field in schema.get("properties", {}).items():
        if name in texts:
            field["description"] = texts[name]


def _explanations_of(kind: type) -> Mapping[str, str]:
    """Also of those that it is made from; a typed dict has no other trace of them."""
    found: dict[str, str] = {}
    for base in getattr(kind, "__orig_bases__", ()):
        if isinstance(base, type) and base is not Shape:
            found |= _explanations_of(base)
    return {**found, **explanations_of(kind)}


@with_config(ConfigDict(json_schema_extra=_explain))
class Shape(TypedDict):
    """Something that an operation gives; docstrings below its fields say in the document what they mean."""


class Problem(Shape):
    """Something wrong or doubtful: in a file, by its place there, or in a request, by the `key` of a field."""

    file: str
    line: int
    column: int
    severity: Literal["error", "warning"]
    message: str
    key: str


class FileName(Shape):
    """Which file of the library."""

    kind: Literal["persona", "template"]
    id: str


class Conflict(Shape):
    """Both versions of a file that somebody else has changed meanwhile."""

    etag: str
    """That of the file as it is now. With it the text that shall stand can be saved."""
    mine: str
    theirs: str
    base: str | None
    """What both were made from, where it is still known."""
    merged: str
    """Both put together, with marks where both changed the same lines."""


class ErrorDetails(Shape, total=False):
    """What went wrong."""

    message: str
    """What happened, where, and what to do, in the language that was asked for."""
    type: str
    param: str | None
    """The field that it is about."""
    code: str
    """Names the kind of error; it is the same in all languages."""
    problems: list[Problem]
    """All that was found, where there may be more than one."""
    conflict: Conflict
    users: list[FileName]
    """The files that need the one that should go away."""


class Error(Shape):
    """Every error of the API."""

    error: ErrorDetails


class Readable(Shape):
    """Words as a person reads them, in English, and what they were made of."""

    message: str
    template: str
    parameters: dict[str, Any]


class TurnError(Readable):
    """Why a turn did not complete."""

    code: str


class Mark(Shape):
    """What somebody has noted on a turn."""

    is_starred: bool
    thumb: Literal[-1, 0, 1]
    note: str
    updated_at: str


class CheckFinding(Shape):
    """What a check has found in an answer; `has_passed` is null where it could not be told."""

    label: str
    has_passed: bool | None
    said: Readable
    value: float | str | None
    digest: str


class Turn(Shape):
    """One input and what became of it. Times are in milliseconds, the cost in US dollars; null is unknown."""

    id: str
    session_id: str
    revision: str
    input: str
    position: int
    attempt: int
    is_current: bool
    status: Literal["pending", "complete", "failed", "cancelled", "interrupted"]
    upstream: str
    upstream_requested: str
    endpoint: Literal["chat", "completions"]
    is_streamed: bool
    model_requested: str
    model: str
    messages: list[dict[str, Any]]
    """What was sent; empty in lists."""
    parameters_requested: dict[str, Any]
    parameters_sent: dict[str, Any]
    adaptations: list[Readable]
    dropped_turns: int
    choices: list[Choice]
    chosen: int
    usage: Usage
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None
    time_to_first_token_ms: float | None
    duration_ms: float | None
    text: str
    finish_reason: str | None
    error: TurnError | None
    reply: dict[str, Any]
    """What came, as it came; empty in lists."""
    mark: Mark | None
    checks: list[CheckFinding]
    via: str
    created_at: str


class Span(Shape):
    """A piece of a message, and where it comes from. `name` is that of a variable."""

    text: str
    origin: Literal[
        "system", "variable", "example", "greeting", "history", "input", "template", "computed"
    ]
    name: str


class Line(Shape):
    """Lines that are the same in two texts, stand in one of them, or were changed."""

    kind: Literal["same", "removed", "added", "changed"]
    old: str
    new: str
