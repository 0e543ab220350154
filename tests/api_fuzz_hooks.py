"""What schemathesis is told when it calls the API: most names are those of something that is there."""

from __future__ import annotations

import json
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation


@cache
def _known() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(Path(os.environ["API_FUZZ_KNOWN"]).read_text("utf-8"))
    return found


def _number_of(value: object) -> int:
    """A number that hangs on nothing but the value, so that the same seed makes the same requests."""
    return zlib.crc32(repr(value).encode("utf-8", "surrogatepass"))


def _named(values: dict[str, Any], part: int) -> dict[str, Any]:
    """With names of things that are there in all but one of ``part`` places."""
    known = _known()
    return {
        name: known[name][_number_of(value) % len(known[name])]
        if name in known and isinstance(value, str) and value and _number_of(value) % part
        else value
        for name, value in values.items()
    }


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Put names into whatever the document allows; what it forbids is sent as it is."""
    path, body = ({}, {}) if _number_of(case.body) % 2 else _achievable(case.operation)
    if _is_allowed(case, ParameterLocation.PATH) and case.path_parameters:
        case.path_parameters = {**_path(case.path_parameters, case.operation.path), **path}
    if _is_allowed(case, ParameterLocation.BODY) and isinstance(case.body, dict):
        case.body = {**_body(case.body), **body}


def _achievable(operation: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The names in path and body without which an operation could hardly ever be carried out: those of a file that
    nothing else changes, and of a model that is left alone.
    """
    known = _known()
    if operation.method == "put" and operation.path.endswith("/files/{kind}/{name}"):
        path = {"kind": "personas", "name": known["untouched"][0]}
        return path, {
            "etag": known["etag of untouched"][0],
            "text": "name: Judge\nsystem: Judge.\n",
        }
    if operation.path.endswith("/upstreams/{upstream}/retry"):
        return {"upstream": "elsewhere"}, {"model": known["silent"][0]}
    return {}, {}


def _is_allowed(case: Any, part: ParameterLocation) -> bool:
    found = case.meta.components.get(part) if case.meta else None
    return found is not None and found.mode == GenerationMode.POSITIVE


def _path(values: dict[str, Any], path: str) -> dict[str, Any]:
    """Names in paths; those of a version go with the file that it is of, and there are keys at one upstream only."""
    named, known = _named(values, 4), _known()
    if any(named.get(name) in known[name] for name in ("change_id", "commit_id") if name in named):
        return {**named, "kind": "personas", "name": "teacher"}
    if "name" in named and named["name"] in known["name"]:
        names = known[named["kind"]]
        named["name"] = names[_number_of(values) % len(names)]
    return {**named, "upstream": "elsewhere"} if path.endswith("/keys/retry") else named


def _body(body: dict[str, Any]) -> dict[str, Any]:
    """Names in bodies, and every other time something that can be carried out."""
    number = _number_of(body)
    if number % 2:
        return _named(body, 3)
    sensible: dict[str, Any] = {
        "variants": [{"persona": persona} for persona in _known()["persona"]],
        "inputs": [{"input": "What is rain?"}, {"turns": ["Hello.", "And now?"]}],
        "checks": [{"max_words": 80}],
        "id": f"new-{number}",
        "text": "name: Somebody\nsystem: You are {{ what }}.\nvariables: {what: somebody}\n",
        "etag": _known()["etag"][0],
        "persona": "",
        "system": "You are somebody.",
        "session": "",
        "variables": {},
        "parameters": {"temperature": 0.5},
        "upstream": "",
        "input": "What is rain?",
        "position": 0,
        "at": "",
        "cell": "",
        "index": 0,
        "earlier": [],
    }
    left_out = ("repeats", "context", "judge", "recorded")
    return {name: sensible.get(name, value) for name, value in body.items() if name not in left_out}
