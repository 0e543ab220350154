"""Reading a request: what was sent is held against the schema that the document has of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from flask import request
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from pydantic import ValidationError as ModelError

from rolebook.core.errors import Phrase
from rolebook.core.fault import FaultyDataError, describe_path, fault_of
from rolebook.core.fields import nearest, quote
from rolebook.web.api.errors import Fault, FaultyRequestError, UnusableRequestError
from rolebook.web.api.schema import schema_of
from rolebook.web.errors import RequestError
from rolebook.web.submission import sent_json

Model = TypeVar("Model", bound=BaseModel)

#: After so many mistakes the rest is not worth reading.
_MOST_FAULTS = 20
#: Far above what any plan of a comparison has that fits into a request, and a second's work at most.
_MOST_VALUES = 50_000
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_WORDS: Mapping[str, Phrase] = {
    "string": Phrase("text"),
    "integer": Phrase("a whole number"),
    "number": Phrase("a number"),
    "boolean": Phrase("true or false"),
    "array": Phrase("a list"),
    "object": Phrase("an object"),
    "null": Phrase("nothing"),
}
_LIMITS: Mapping[str, Phrase] = {
    "minimum": Phrase("at least %(limit)g"),
    "maximum": Phrase("at most %(limit)g"),
    "minLength": Phrase("text that is not empty"),
    "maxLength": Phrase("text of at most %(limit)d characters"),
    "minItems": Phrase("a list that is not empty"),
    "maxItems": Phrase("a list of at most %(limit)d"),
}
_SOMETHING_ELSE = Phrase("something else")
_UNKNOWN = "There is no field '%(key)s' here. There are: %(known)s."
_NEARLY_KNOWN = "There is no field '%(key)s' here. Did you mean '%(near)s'?"


def read_body(model: type[Model]) -> Model:
    """The JSON that was sent; where nothing is needed, nothing may be sent, whatever the header calls it.

    Raises FaultyRequestError, RequestError, UnusableRequestError.
    """
    is_needed = bool(schema_of(model).get("required"))
    if not is_needed and request.get_data(cache=True) == b"":
        return _model_of(model, {})
    data = sent_json()
    if _has_too_many_values(data):
        raise RequestError(
            "This is more than Rolebook takes at once: more than %(limit)d values.",
            status=413,
            limit=_MOST_VALUES,
        )
    _require_fit(data, model)
    return _model_of(model, data)


def _has_too_many_values(data: Any) -> bool:
    """Counted before they are looked at, which costs a hundred times as much."""
    pending, count = [data], 0
    while pending and count <= _MOST_VALUES:
        value = pending.pop()
        count += 1
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return count + len(pending) > _MOST_VALUES


def read_query(model: type[Model]) -> Model:
    """What stands behind the ``?`` of the address. Raises FaultyRequestError, UnusableRequestError."""
    known = schema_of(model).get("properties", {})
    data: dict[str, Any] = {}
    for name, values in request.args.lists():
        kinds = _kinds_of(known.get(name, {}))
        if "array" in kinds:
            data[name] = values
        elif len(values) > 1:
            raise FaultyRequestError(
                [Fault(name, "%(key)s stands there more than once.", {"key": name[:80]})]
            )
        else:
            data[name] = _typed(values[0], kinds)
    _require_fit(data, model)
    return _model_of(model, data)


def read_headers(model: type[Model]) -> Model:
    """The headers that an operation has of its own. Raises FaultyRequestError."""
    known = schema_of(model)["properties"]
    data = {name: request.headers[name] for name in known if name in request.headers}
    _require_fit(data, model)
    return _model_of(model, data)


def _kinds_of(schema: Mapping[str, Any]) -> set[str]:
    """The types that a value may have."""
    choices = schema.get("anyOf", [schema])
    return {str(choice.get("type", "")) for choice in choices}


def _typed(text: str, kinds: set[str]) -> Any:
    """A text of the address as what it stands for; one that stands for nothing stays, and is refused as such."""
    if "integer" in kinds and _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if "boolean" in kinds and text in {"true", "false"}:
        return text == "true"
    return text


def _model_of(model: type[Model], data: Any) -> Model:
    try:
        return model.model_validate(data)
    except ModelError as error:
        # Its form is right, so it is what it says that cannot be.
        raise UnusableRequestError([_fault_of(detail) for detail in error.errors()]) from None
    except FaultyDataError as error:
        raise UnusableRequestError(
            [Fault(describe_path(f.path), f.message, f.parameters) for f in error.faults]
        ) from None


def _fault_of(detail: Any) -> Fault:
    found = fault_of(detail)
    return Fault(describe_path(found.path), found.message, found.parameters)


def _require_fit(data: Any, model: type[BaseModel]) -> None:
    """Raises FaultyRequestError with all that the schema does not allow."""
    faults: list[Fault] = []
    for error in _validator_of(model).iter_errors(data):
        faults += _faults_of(error)
        if len(faults) >= _MOST_FAULTS:
            break
    if faults:
        raise FaultyRequestError(faults)


@cache
def _validator_of(model: type[BaseModel]) -> Draft202012Validator:
    return Draft202012Validator(schema_of(model))


def _faults_of(error: Any) -> Iterator[Fault]:
    """What an error of the library comes to in our words."""
    path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        yield from _unknown_names(error, path)
    elif error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        for name in missing:
            yield Fault.at((*path, name), "'%(key)s' is missing.")
    elif inner := _inside(error):
        yield from _faults_of(inner)
    else:
        yield Fault.at(
            path,
            "%(key)s must be %(expected)s, got %(got)s.",
            expected=_expected(error),
            got=quote(error.instance),
        )


def _inside(error: Any) -> Any:
    """Of several forms that something may have, what is wrong inside the one that was meant; None if it is none."""
    closer = [
        inner
        for inner in error.context
        # Beyond a limit it is of the right kind.
        if inner.absolute_path != error.absolute_path or inner.validator in _LIMITS
    ]
    return closer[0] if closer else None


def _unknown_names(error: Any, path: Sequence[str | int]) -> Iterator[Fault]:
    known = list(error.schema.get("properties", {}))
    for name in [name for name in error.instance if name not in known][:_MOST_FAULTS]:
        near = nearest(name, known)
        yield Fault.at(
            (*path, name),
            _NEARLY_KNOWN if near else _UNKNOWN,
            **({"near": near} if near else {"known": ", ".join(known) or "–"}),
        )


def _expected(error: Any) -> Phrase:
    """What a keyword of a schema asks for, as a noun."""
    kind, wanted = error.validator, error.validator_value
    if kind == "type":
        return _WORDS.get(wanted, _SOMETHING_ELSE)
    if kind == "enum":
        return Phrase("one of %(choices)s", {"choices": ", ".join(map(str, wanted))})
    if kind == "anyOf":
        kinds = sorted(_kinds_of(error.schema) - {"null"})
        return _WORDS.get(kinds[0], _SOMETHING_ELSE) if len(kinds) == 1 else _SOMETHING_ELSE
    return replace(_LIMITS.get(kind, _SOMETHING_ELSE), parameters={"limit": wanted})
