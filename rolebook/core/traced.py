"""Text that remembers where its pieces came from while Jinja puts them together.

Jinja joins the pieces of a template with ``environment.concat`` and passes each expression's result
through ``str`` and ``environment.finalize``. A ``str`` subclass survives both, so the pieces can carry
their spans without any change to Jinja itself; whatever a filter makes of a traced text is an ordinary
string again and counts as computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rolebook.core.message import Origin

#: (text, origin, variable name): a span in the form in which it leaves the worker.
TracedSpan = tuple[str, str, str]


class Traced(str):
    """A text with its spans."""

    __slots__ = ("spans",)
    # Jinja names the class of a value in its messages, to people who know of texts only.
    __module__ = "builtins"
    spans: tuple[TracedSpan, ...]

    def __str__(self) -> str:
        return self


def _keep_origin(method: str) -> Callable[..., Any]:
    """A method of str whose result, made of text of one origin, keeps that origin."""
    plain = getattr(str, method)

    def keeping(self: Traced, *arguments: Any, **keywords: Any) -> Any:
        result = plain(self, *arguments, **keywords)
        if len(self.spans) != 1:
            return result
        _, origin, name = self.spans[0]
        if isinstance(result, list):
            return [traced(piece, Origin(origin), name) for piece in result]
        return traced(result, Origin(origin), name)

    return keeping


# Only methods that cut text or change its case: their result holds nothing but the original's words.
for _method in (
    *("strip", "lstrip", "rstrip", "split", "rsplit", "splitlines"),
    *("removeprefix", "removesuffix"),
    *("lower", "upper", "title", "capitalize", "casefold", "swapcase"),
):
    setattr(Traced, _method, _keep_origin(_method))


Traced.__name__ = "text"


class TracedInteger(int):
    """A whole number that prints as a traced text."""

    name = ""

    def __str__(self) -> str:
        return traced(int.__repr__(self), Origin.VARIABLE, self.name)


class TracedNumber(float):
    """A decimal number that prints as a traced text."""

    name = ""

    def __str__(self) -> str:
        return traced(f"{float(self):g}", Origin.VARIABLE, self.name)


def traced(text: str, origin: Origin, name: str = "") -> Traced:
    """``text`` as one span."""
    return traced_span((text, origin.value, name))


def traced_span(span: TracedSpan) -> Traced:
    """One span as a text."""
    value = Traced(span[0])
    value.spans = (span,)
    return value


def trace_variable(name: str, value: str | float | int | bool) -> object:
    """A variable's value, in its type, that will say its name where it is printed."""
    if isinstance(value, str):
        return traced(value, Origin.VARIABLE, name)
    if isinstance(value, bool):
        return value
    number: TracedInteger | TracedNumber
    number = TracedInteger(value) if isinstance(value, int) else TracedNumber(value)
    number.name = name
    return number


def trace_computed(value: object) -> object:
    """What an expression gave: Jinja calls this for every ``{{ … }}`` (``finalize``)."""
    kind = type(value)
    if kind is Traced or kind is TracedInteger or kind is TracedNumber:
        return value
    # str() of a StrictUndefined raises: that is how a missing name is noticed.
    return traced(str(value), Origin.COMPUTED)


def joiner(origin: Origin) -> Callable[[Iterable[str]], Traced]:
    """A replacement for ``"".join`` that keeps spans; plain pieces get ``origin``."""
    name = origin.value

    def join(pieces: Iterable[str]) -> Traced:
        spans: list[TracedSpan] = []
        for piece in pieces:
            if type(piece) is Traced:
                spans.extend(piece.spans)
            elif piece:
                spans.append((piece, name, ""))
        if len(spans) == 1:
            return traced_span(spans[0])
        value = Traced("".join([span[0] for span in spans]))
        value.spans = tuple(spans)
        return value

    return join


def relabel(text: Traced, old: Origin, new: Origin) -> Traced:
    """``text`` with the spans of one origin given to another."""
    value = Traced(text)
    value.spans = tuple(
        (piece, new.value if origin == old.value else origin, name)
        for piece, origin, name in text.spans
    )
    return value
