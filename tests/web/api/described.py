"""Whether an answer of the API is what the document says of it, and says no more than that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from werkzeug.wrappers import Response

from rolebook.web.api.document import document
from rolebook.web.api.schema import closed

#: What answers have that are none of the API's, too.
_COMMON_HEADERS = {
    *("content-type", "content-length", "cache-control", "vary", "set-cookie", "x-accel-buffering"),
    *("content-security-policy", "cross-origin-opener-policy", "cross-origin-resource-policy"),
    *("permissions-policy", "referrer-policy", "x-content-type-options", "x-frame-options"),
}


def undescribed(operation: str, response: Response) -> Sequence[str]:
    """What an answer of an operation has that the document does not say; schemathesis looks for what it lacks."""
    described = _operations()[operation]["responses"].get(str(response.status_code))
    if described is None:
        return [f"status {response.status_code}"]
    if "$ref" in described:
        described = document()["components"]["responses"][described["$ref"].rpartition("/")[2]]
    headers = {name.lower() for name, _ in response.headers} - _COMMON_HEADERS
    found = [*headers - {name.lower() for name in described["headers"]}]
    kinds = described.get("content", {})
    if kinds and response.mimetype not in kinds:
        found.append(response.mimetype)
    if response.is_json and kinds:
        schema = json.dumps(kinds["application/json"]["schema"], sort_keys=True)
        found += [error.message for error in _validator(schema).iter_errors(response.get_json())]
    return found


@cache
def _operations() -> dict[str, Any]:
    paths = document()["paths"]
    return {facts["operationId"]: facts for path in paths.values() for facts in path.values()}


@cache
def _validator(schema: str) -> Draft202012Validator:
    whole = closed({"components": document()["components"]})
    return Draft202012Validator({**whole, **json.loads(schema)})
