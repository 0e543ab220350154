"""Every answer that a test of the API gets is held against the document."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from tests.web.api.calls import PREFIX
from tests.web.api.described import undescribed


class DescribedClient(FlaskClient):
    """A program that believes the document to the letter."""

    def open(self, *arguments: Any, **named: Any) -> TestResponse:
        response = super().open(*arguments, **named)
        path, method = response.request.path, response.request.method
        try:
            endpoint, _ = self.application.url_map.bind("").match(path, method)
        except HTTPException:
            return response
        if path.startswith(PREFIX) and endpoint != "api.show_document":
            assert [] == undescribed(endpoint.removeprefix("api."), response), (method, path)
        return response


@pytest.fixture
def app(app: Flask) -> Flask:
    app.test_client_class = DescribedClient
    return app
