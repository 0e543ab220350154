"""From a model name to the behaviours it asks for: `500,500,ok?text=Hello&delay_ms=20`."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from tests.fake_upstream import breakage, content, excess, fields, framing, refusing
from tests.fake_upstream.exchange import REGISTRY, Fault

FAMILIES = (content, fields, framing, breakage, excess, refusing)
"""The modules that enter behaviours into the registry when they are imported."""

BEHAVIOURS: Mapping[str, Fault] = REGISTRY
"""Every behaviour by its name."""

FAULTS: Mapping[str, Fault] = {
    name: fault for name, fault in REGISTRY.items() if name not in ("ok", "pass")
}
"""Every behaviour but the good one, by its name, to parametrise tests with."""

_NAMES = "|".join(re.escape(name) for name in sorted(REGISTRY, key=len, reverse=True))
_COMMA = re.compile(rf",(?=(?:{_NAMES})(?:[?,]|$))")


@dataclass(frozen=True)
class Behaviour:
    """A behaviour with the options it was given."""

    fault: Fault
    given: Mapping[str, Any]
    text: str
    """As it was written."""


@lru_cache(maxsize=1024)
def parse_plan(text: str) -> tuple[Behaviour, ...]:
    """The behaviours of successive requests; a comma separates where the name of one follows.

    Raises ValueError for an unknown name, an unknown option, or a value of the wrong type.
    """
    return tuple(_parse_behaviour(part) for part in _COMMA.split(text))


def _parse_behaviour(text: str) -> Behaviour:
    name, _, query = text.partition("?")
    fault = REGISTRY.get(name)
    if fault is None:
        raise ValueError(f"there is no behaviour {name!r}")
    given = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    return Behaviour(
        fault, {option: _parse_option(fault, option, value) for option, value in given}, text
    )


def _parse_option(fault: Fault, name: str, value: str) -> Any:
    if name not in fault.options:
        raise ValueError(f"{fault.name!r} has no option {name!r}, only {', '.join(fault.options)}")
    parsed = type(fault.options[name])(value)
    if not isinstance(parsed, str) and not (parsed >= 0 and math.isfinite(parsed)):
        raise ValueError(f"{name!r} of {fault.name!r} must not be {value!r}")
    return parsed
