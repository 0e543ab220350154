"""The web application: its parts, put together."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from flask import Blueprint, Flask, Request, Response
from werkzeug.routing import MapAdapter, Rule

from rolebook import __version__
from rolebook.report import PAGES, STATIC
from rolebook.storage.encoding import show_text
from rolebook.web import (
    access,
    account,
    api_page,
    comparison_exports,
    comparisons,
    errors,
    evidence,
    exports,
    gateway,
    grid,
    languages,
    library,
    logins,
    metrics,
    persona_form,
    personas,
    presentation,
    request_log,
    saving,
    security,
    sessions,
    siblings,
    status,
    themes,
    timeline,
    trying,
    turn_difference,
    turns,
    users,
    votes,
    wording,
)
from rolebook.web.api import routes as api
from rolebook.web.leaving import Watch
from rolebook.web.submission import StrictJSONProvider
from rolebook.wiring import Rolebook, open_rolebook


class _Response(Response):
    def set_data(self, value: bytes | str) -> None:
        """A page may show a text of a server or of a command line that is no Unicode: only that much of it is lost."""
        try:
            super().set_data(value)
        except UnicodeEncodeError:
            super().set_data(show_text(str(value)))


class _Rule(Rule):
    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        """What puts its addresses together, compiled when the first is wanted: for all rules at once that took nine
        tenths of the time in which an application is made.
        """
        compiled = cache(super()._compile_builder)
        return lambda rule, **values: compiled(append_unknown)(rule, **values)


class _App(Flask):
    response_class = _Response
    url_rule_class = _Rule

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """There is no ``async`` view; Flask looks at each before each call, and at what comes before and after it."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """What finds the view. Which host serves which routes need not be found out: all of them serve all."""
        if request is None:
            return super().create_url_adapter(None)
        return MapAdapter(
            self.url_map,
            server_name=request.host.lower(),
            script_name=request.root_path,
            subdomain="",
            url_scheme=request.scheme,
            path_info=request.path,
            default_method=request.method,
            query_args=request.query_string.decode("utf-8", "replace"),
        )


def create_app(rolebook: Rolebook | None = None, *, is_exposed: bool | None = None) -> Flask:
    """A WSGI application over a Rolebook.

    Arguments:
        rolebook: what the pages work with; by default what the environment, ``.env`` and ``rolebook.yaml`` say.
        is_exposed: whether others than this computer reach it, so that people log in even if there is no user yet; by
            default as the settings say.

    Raises SettingError, FileError.
    """
    rolebook = rolebook or open_rolebook(environment=os.environ)
    app = _App(__name__, template_folder="pages", static_folder="static")
    app.json = StrictJSONProvider(app)
    app.extensions["rolebook"] = rolebook
    app.extensions["rolebook-watch"] = Watch()
    app.extensions["rolebook-siblings"] = siblings.Siblings()
    app.register_blueprint(
        Blueprint(
            "report",
            __name__,
            template_folder=str(PAGES),
            static_folder=str(STATIC),
            static_url_path="/static/report",
        )
    )
    wording.speak(app.jinja_env)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals["version"] = __version__
    settings = rolebook.settings
    security.protect(
        app,
        host=settings.host,
        names=[name for name in settings.host_names.split(",") if name],
        proxies=settings.proxies,
    )
    access.guard(app, is_exposed=bool(settings.exposure) if is_exposed is None else is_exposed)
    security.limit_bodies(app, larger={gateway.blueprint.name: gateway.MAX_BODY_BYTES})
    errors.handle_errors(app)
    presentation.add_filters(app)
    metrics.measure(app, rolebook)
    request_log.follow(app, rolebook)
    for noun in (
        personas,
        library,
        saving,
        trying,
        timeline,
        persona_form,
        sessions,
        turns,
        turn_difference,
        exports,
        comparisons,
        comparison_exports,
        grid,
        evidence,
        votes,
        status,
        siblings,
        metrics,
        languages,
        themes,
        gateway,
        api,
        api_page,
        logins,
        account,
        users,
    ):
        app.register_blueprint(noun.blueprint)
    return app
