"""The page of the API: its document, to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, render_template, request
from markupsafe import Markup

from rolebook.core.frozen import frozen
from rolebook.web.api.document import document
from rolebook.web.api.routes import PREFIX, SECTIONS

blueprint = Blueprint("api_page", __name__)

_JSON = "application/json"


@frozen
class Described:
    """An operation as the page shows it.

    ``parameters`` are those in the address and those in headers, ``taken`` is the schema of its body, empty where there
    is none, and ``given`` that of its answer and the names of content types that have none.
    """

    method: str
    path: str
    facts: Mapping[str, Any]
    parameters: Sequence[Sequence[Mapping[str, Any]]]
    taken: Mapping[str, Any]
    given: Sequence[Mapping[str, Any] | str]
    curl: str

    @property
    def name(self) -> str:
        return str(self.facts["operationId"])


@blueprint.get("/api")
def show() -> str:
    """The page."""
    found = document()
    schemas = found["components"]["schemas"]
    operations: dict[str, list[Described]] = {section.name: [] for section in SECTIONS}
    for path, by_method in found["paths"].items():
        for method, facts in by_method.items():
            operations[facts["tags"][0]].append(_described(method.upper(), path, facts))
    return render_template(
        "api.html",
        sections=SECTIONS,
        operations=operations,
        schemas=schemas,
        taken={name for name, schema in schemas.items() if _is_closed(schema)},
        count=sum(map(len, operations.values())),
        url=request.host_url.rstrip("/") + PREFIX,
    )


def _is_closed(schema: Mapping[str, Any]) -> bool:
    """Whether it is of something that is sent: there, what must be filled in is worth saying."""
    return schema.get("additionalProperties") is False


@blueprint.app_template_filter()
def coded(text: str) -> Markup:
    """A text with what stands in backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part
        for number, part in enumerate(parts)
    )


def _described(method: str, path: str, facts: Mapping[str, Any]) -> Described:
    success = next(facts["responses"][status] for status in facts["responses"] if status < "3")
    content = success.get("content", {})
    taken = facts.get("requestBody", {}).get("content", {}).get(_JSON, {}).get("schema", {})
    parameters = facts.get("parameters", ())
    in_headers = [parameter for parameter in parameters if parameter["in"] == "header"]
    in_address = [parameter for parameter in parameters if parameter["in"] != "header"]
    return Described(
        method=method,
        path=path,
        facts=facts,
        parameters=[part for part in (in_address, in_headers) if part],
        taken=taken,
        given=[(kind == _JSON and content[kind]["schema"]) or kind for kind in content],
        curl=_curl(method, path, facts, taken),
    )


def _curl(method: str, path: str, facts: Mapping[str, Any], taken: Mapping[str, Any]) -> str:
    """A line for a shell that calls it, with the names of what is to be filled in."""
    asked = [p for p in facts.get("parameters", ()) if p["in"] == "query" and p["required"]]
    query = "&".join(f"{parameter['name']}=…" for parameter in asked)
    address = request.host_url.rstrip("/") + path + (f"?{query}" if query else "")
    lines = ["curl" + ("" if method == "GET" else f" -X {method}") + f" '{address}'"]
    if taken:
        schema = document()["components"]["schemas"][taken["$ref"].rpartition("/")[2]]
        needed = {name: _sample(schema["properties"][name]) for name in schema.get("required", ())}
        lines += [
            "-H 'Content-Type: application/json'",
            f"-d '{json.dumps(needed, ensure_ascii=False)}'",
        ]
    return " \\\n  ".join(lines)


def _sample(schema: Mapping[str, Any]) -> Any:
    """A value of a required field, to be replaced."""
    if "enum" in schema:
        return schema["enum"][0]
    kinds = {"string": "…", "integer": schema.get("minimum", 1), "array": [], "object": {}}
    return kinds.get(str(schema.get("type")), "…")
