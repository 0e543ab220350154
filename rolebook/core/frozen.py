"""Objects that never change, told apart by nothing but what is in them.

``@frozen`` makes of a class what ``@dataclass(frozen=True, slots=True)`` makes of it, in a tenth of the time: that one
writes and compiles the same six methods for each class anew. A command makes 130 of these classes at its start, and
needs few of the methods, and objects of a third of the classes. Here all share what can be shared, and ``__init__`` is
written for the first object. That nobody assigns to an attribute is checked by mypy alone, which also spares every new
object the way around the check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, cast, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(described: type[T]) -> type[T]:
    """Make a class one of frozen objects, with an attribute for each annotation. What it defines itself stays."""
    # Without a text, dataclass would make one up, which takes longer than all the rest.
    described.__doc__ = described.__doc__ or described.__name__
    made = dataclass(init=False, repr=False, eq=False, slots=True)(described)
    parts = fields(cast(Any, made))
    content = attrgetter("__class__", *(part.name for part in parts if part.compare))
    own = {"__init__": _late_init(made), "__content__": content}
    for name, method in {**_SHARED, **own}.items():
        if name not in described.__dict__:
            setattr(made, name, method)
    return made


def _late_init(made: Any) -> Callable[..., None]:
    """The ``__init__`` of a class until there is an object of it."""

    def write_first(self: Any, *values: Any, **named: Any) -> None:
        made.__init__ = _written_init(made)
        made.__init__(self, *values, **named)

    return write_first


def _written_init(made: Any) -> Callable[..., None]:
    """Takes the parts of an object by place or by name, as that of a dataclass does."""
    known: dict[str, Any] = {"_LEFT_OUT": MISSING}
    taken, lines = ["self"], []
    for number, part in enumerate(fields(made)):
        value = part.name
        if part.default_factory is not MISSING:
            known[f"_make_{number}"] = part.default_factory
            taken.append(f"{part.name}=_LEFT_OUT")
            value = f"_make_{number}() if {part.name} is _LEFT_OUT else {part.name}"
        elif part.default is not MISSING:
            known[f"_default_{number}"] = part.default
            taken.append(f"{part.name}=_default_{number}")
        else:
            taken.append(part.name)
        lines.append(f" self.{part.name} = {value}")
    if hasattr(made, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec("\n".join([f"def __init__({', '.join(taken)}):", *lines, " pass"]), known)
    written: Callable[..., None] = known["__init__"]
    written.__qualname__ = f"{made.__qualname__}.__init__"
    return written


def _equals(self: Any, other: Any) -> Any:
    if self.__class__ is not other.__class__:
        return NotImplemented
    return self.__content__(self) == self.__content__(other)


def _hash(self: Any) -> int:
    return hash(self.__content__(self))


def _shown(self: Any) -> str:
    parts = (f"{part.name}={getattr(self, part.name)!r}" for part in fields(self) if part.repr)
    return f"{self.__class__.__qualname__}({', '.join(parts)})"


_SHARED: Mapping[str, Any] = {"__eq__": _equals, "__hash__": _hash, "__repr__": _shown}
