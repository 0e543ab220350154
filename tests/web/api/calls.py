"""Calling the API as a program does."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

PREFIX = "/api/v1"


def call(client: FlaskClient, method: str, path: str, status: int = 200, **body: Any) -> Any:
    """What an operation answers, as JSON; it must be with this status."""
    sent: dict[str, Any] = {} if method in {"GET", "DELETE"} else {"json": body}
    response = client.open(PREFIX + path, method=method, **sent)
    assert status == response.status_code, response.text
    if status == 204:
        return None
    assert "application/json" == response.mimetype
    return response.get_json()


def error_of(
    client: FlaskClient, method: str, path: str, status: int, **body: Any
) -> dict[str, Any]:
    """The error that an operation answers with."""
    found: dict[str, Any] = call(client, method, path, status, **body)["error"]
    return found
