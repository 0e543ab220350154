"""JSON Schema on texts that nobody vouches for: nothing is fetched, and nothing takes long.

The standard is https://json-schema.org (drafts 4 to 2020-12, by ``$schema``), the code is the jsonschema library's.
``format`` asks nothing, which is the standard's default; patterns are those of :func:`rolebook.core.text.has_match`.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any, NoReturn

from rolebook.core.frozen import frozen
from rolebook.core.text import REGEX_TIMEOUT_S, compile_regex, has_match

TIMEOUT_S = 1.0
#: A whole number of more digits would keep Python busy for its own sake.
_MOST_DIGITS = 400
_MOST_REASON = 200
#: To follow these, what was compared already is compared again with everything.
_UNSUPPORTED = {"unevaluatedItems", "unevaluatedProperties"}
_REFERENCES = {"$ref", "$dynamicRef", "$recursiveRef"}
_USUAL_DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: What says something of a schema and asks nothing of a value.
_NOTES = frozenset(
    [
        "title",
        "description",
        "default",
        "example",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "nullable",
        "format",
        "id",
        "definitions",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
    ]
)
#: A key that is as near to a keyword is misspelt; hardly anything is too far from a shorter one.
_MISSPELT = 0.8
_LEAST_MISSPELT = 4

_deadline: ContextVar[float] = ContextVar("deadline")

#: A keyword of the library: validator, the keyword's value, instance, schema.
Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterable[Any] | None]


@frozen
class Misfit:
    """What a schema does not allow: the place, as in ``$.name[0]``, and the reason in the library's English."""

    place: str
    reason: str


def parse_json(text: str) -> Any:
    """The value of a JSON text (RFC 8259); no NaN, no infinity.

    Raises json.JSONDecodeError, or RecursionError if it is nested too deeply to be read.
    """

    def refuse(name: str) -> NoReturn:
        raise json.JSONDecodeError(f"{name} is no JSON", text, text.index(name))

    return json.loads(text, parse_constant=refuse, parse_int=_parse_integer)


def _parse_integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def check_schema(schema: Mapping[str, Any], *, is_new: bool = True) -> None:
    """Raises ValueError, with the reason in English, if a schema is none, or one that is not followed here.

    Arguments:
        is_new: whether a keyword that checks nothing is refused, too; what the log has was carried out with it.
    """
    _check_schema(json.dumps(schema), is_new)


@lru_cache(maxsize=64)
def _check_schema(text: str, is_new: bool) -> None:
    schema = json.loads(text)
    name = schema.pop("$schema", None)
    dialect = _dialect(name)
    _check_form(schema, dialect)
    if is_new:
        _check_keywords(schema, dialect, name)
    for key, value in _entries(schema):
        if key in _REFERENCES and isinstance(value, str):
            _check_form(_target(value, schema), dialect)
        else:
            _check_entry(key, value)


def _check_form(schema: object, dialect: Any) -> None:
    """Raises ValueError if a schema is not as its draft wants it."""
    from jsonschema import FormatChecker, SchemaError

    try:
        dialect.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        raise ValueError(f"{error.json_path}: {_reason(error)}") from None


def _check_keywords(schema: dict[str, Any], dialect: Any, name: object) -> None:
    """Raises ValueError for a keyword that is nearly one: the standard has it ignored, and every answer would pass.

    What is like none is somebody's own note, unless all of the schema is.
    """
    known = {
        word.lower(): word
        for word in (*dialect.VALIDATORS, "then", "else", "minContains", "maxContains")
        if len(word) >= _LEAST_MISSPELT and word != "format"
    }
    for part in _subschemas(schema, str(name or _USUAL_DRAFT)):
        for key in part.keys() - known.values() - _NOTES:
            near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=_MISSPELT)
            if near and not key.startswith(("$", "x-")):
                raise ValueError(
                    f"{key!r} is no keyword and checks nothing, and may mean {known[near[0]]!r}"
                )
    own = [key for key in schema if not key.startswith(("$", "x-"))]
    if own and not schema.keys() & {*dialect.VALIDATORS, *_NOTES}:
        raise ValueError(
            f"{own[0]!r} is no keyword and checks nothing; fields stand under 'properties'"
        )


def _subschemas(schema: object, name: str) -> Iterator[Mapping[str, Any]]:
    """A schema, and all that stand in it where schemas do: a field may have any name."""
    from referencing.jsonschema import specification_with

    if isinstance(schema, dict):
        yield schema
        for part in specification_with(name).subresources_of(schema):
            yield from _subschemas(part, name)


def _dialect(name: object) -> Any:
    """The library's class for a draft by its address. Raises ValueError if it knows none."""
    from jsonschema.validators import Draft3Validator, Draft202012Validator, validator_for

    if name is None:
        return Draft202012Validator
    unknown: Any = None
    found = validator_for({"$schema": str(name)}, default=unknown)
    # Draft 3 lets a schema ask for types that there are not.
    if found in {unknown, Draft3Validator}:
        raise ValueError(f"$schema: {name!r} is no known draft")
    return found


def _entries(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    for part in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _entries(part)


def _check_entry(key: str, value: object) -> None:
    if key in _UNSUPPORTED:
        raise ValueError(f"{key} is not supported")
    if key == "$schema" and isinstance(value, str):
        # The library would go on with a validator of its own there, which keeps no time.
        raise ValueError("$schema: only the whole schema can name a draft")
    if key == "pattern" and isinstance(value, str):
        compile_regex(value)
    if key == "patternProperties" and isinstance(value, dict):
        for source in value:
            compile_regex(source)


def _target(reference: str, schema: Mapping[str, Any]) -> object:
    """The part of a schema that a reference leads to; it need not stand where schemas do."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    if not reference.startswith("#"):
        raise ValueError(f"$ref: {reference!r} leads out of the schema, and nothing is fetched")
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    try:
        return resolver.lookup(reference).contents
    except Unresolvable:
        raise ValueError(f"$ref: {reference!r} leads nowhere") from None


def find_misfit(schema: Mapping[str, Any], value: object) -> Misfit | None:
    """The first thing in a JSON value that a schema does not allow, if any.

    Arguments:
        schema: one that :func:`check_schema` has passed.

    Raises TimeoutError after TIMEOUT_S, RecursionError for a schema that goes round in circles.
    """
    validator_class = _bounded_dialect(schema.get("$schema"))
    inner = {key: part for key, part in schema.items() if key != "$schema"}
    token = _deadline.set(time.monotonic() + TIMEOUT_S)
    try:
        error = next(validator_class(inner).iter_errors(value), None)
    finally:
        _deadline.reset(token)
    return None if error is None else Misfit(error.json_path, _reason(error))


def _reason(error: Any) -> str:
    text: str = error.message
    return text if len(text) <= _MOST_REASON else text[: _MOST_REASON - 1] + "…"


@cache
def _bounded_dialect(name: object) -> Any:
    """A draft of the library in which every keyword keeps the time."""
    from jsonschema.validators import extend

    dialect = _dialect(name)
    keywords = dialect.VALIDATORS | {
        name: own for name, own in _OWN.items() if name in dialect.VALIDATORS
    }
    bounded = {name: _bounded(keyword) for name, keyword in keywords.items()}
    return extend(dialect, bounded)  # type: ignore[no-untyped-call]


def _bounded(keyword: Keyword) -> Keyword:
    def keep_time(
        validator: Any, wanted: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[Any]:
        _time_left()
        yield from keyword(validator, wanted, value, schema) or ()

    return keep_time


def _time_left() -> float:
    """Seconds, more than 0. Raises TimeoutError if there are none left."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _matches(source: str, text: str) -> bool:
    return has_match(source, text, timeout_s=min(_time_left(), REGEX_TIMEOUT_S))


def _error(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)


def _pattern(validator: Any, source: str, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if validator.is_type(value, "string") and not _matches(source, value):
        yield _error(f"{value!r} does not match {source!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if validator.is_type(value, "object"):
        for source, wanted in patterns.items():
            for key in value:
                if _matches(source, key):
                    yield from validator.descend(value[key], wanted, path=key, schema_path=source)


def _additional_properties(
    validator: Any, wanted: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key in value:
        if key in named or any(_matches(source, key) for source in patterns):
            continue
        if wanted is False:
            yield _error(f"{key!r} is none of the allowed properties")
        else:
            yield from validator.descend(value[key], wanted, path=key)


def _unique_items(
    validator: Any, is_wanted: bool, value: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if not is_wanted or not validator.is_type(value, "array"):
        return
    seen: set[str] = set()
    for item in value:
        _time_left()
        written = json.dumps(_comparable(item), sort_keys=True)
        if written in seen:
            yield _error(f"{item!r} stands there twice")
        seen.add(written)


def _comparable(value: Any) -> Any:
    """To JSON Schema, 1 and 1.0 are the same number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    return value


#: Keywords that the library would follow without regard to time: by the standard library's patterns, or pair by pair.
_OWN: Mapping[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
