"""A message, and where each piece of its text came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, get_args

from rolebook.core.frozen import frozen

#: ``prompt`` is the one message of a plain prompt for base models: it is sent as text, with no role.
MessageRole = Literal["system", "developer", "user", "assistant", "tool", "prompt"]
MESSAGE_ROLES: tuple[str, ...] = get_args(MessageRole)
#: The most characters of a prompt without its history: more than any model takes, and a runaway loop passes it soon.
MAX_OUTPUT = 4_000_000


class Origin(StrEnum):
    """Where a span of a rendered message came from."""

    SYSTEM = "system"
    """The persona's system text."""
    VARIABLE = "variable"
    """A variable's value; the span's name says which."""
    EXAMPLE = "example"
    GREETING = "greeting"
    HISTORY = "history"
    INPUT = "input"
    TEMPLATE = "template"
    """Text that stands in the prompt template itself."""
    COMPUTED = "computed"
    """The result of an expression: a filter, a concatenation, an attribute of the persona."""


class Span(NamedTuple):
    """A piece of a message with one origin.

    ``name`` is the variable's name for variables, otherwise empty.
    """

    text: str
    origin: Origin
    name: str = ""


@frozen
class Message:
    """One entry of the list that is sent. ``spans``, joined, are ``content``; they may be empty.

    ``fields`` are what a message of a program may have besides a role and a text, as the API names it: ``tool_calls``,
    ``tool_call_id``, ``name``; and ``content`` itself where that is no plain text but a list of parts, or nothing.
    Two messages are equal when role, content and fields are: where the text came from is no part of it.
    """

    role: MessageRole
    content: str
    spans: tuple[Span, ...] = field(default=(), compare=False)
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def other_parts(self) -> Sequence[Mapping[str, Any]]:
        """What it has beside texts, such as images."""
        return [part for part in self.fields.get("content") or () if part.get("type") != "text"]

    def as_dict(self) -> dict[str, Any]:
        """The message as the API takes it."""
        return {"role": self.role, "content": self.content, **self.fields}
