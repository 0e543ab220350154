"""How Rolebook is doing: upstreams, library, database, settings; and how to connect a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from rolebook import __version__
from rolebook.config import REHEARSAL, SETTINGS
from rolebook.core.completion import Model
from rolebook.core.errors import NotFoundError, RolebookError, StorageError, UpstreamError
from rolebook.core.frozen import frozen
from rolebook.core.upstream import UpstreamSettings
from rolebook.storage.connection import GoneError
from rolebook.storage.status import DatabaseStatus
from rolebook.upstream.breaker import Silence
from rolebook.upstream.discovery import LocalServer, find_local_servers
from rolebook.upstream.key_pool import KeyHealth
from rolebook.web import siblings
from rolebook.web.current import rolebook
from rolebook.web.errors import status_of, wants_json
from rolebook.web.submission import submitted

blueprint = Blueprint("status", __name__)


@frozen
class UpstreamState:
    """One upstream as the page shows it. ``missing_key`` is the name of a key that is needed and not there."""

    name: str
    is_default: bool
    settings: UpstreamSettings | None
    model: str
    missing_key: str
    keys: Sequence[KeyHealth] = ()
    silences: Sequence[Silence] = ()

    @property
    def is_rehearsal(self) -> bool:
        return self.name == REHEARSAL


@frozen
class Answer:
    """What an upstream said when it was asked for its models, or for the details of one."""

    upstream: str
    models: tuple[Model, ...] = ()
    model: Model | None = None
    error: RolebookError | None = None


@blueprint.get("/status")
def show() -> str:
    """The page."""
    return _page()


@blueprint.post("/status/models")
def ask_for_models() -> Response | str | tuple[str, int]:
    """Ask an upstream for its models, or for the details of one, and show what it says."""
    fields = submitted()
    upstream, model = fields.get("upstream", ""), fields.get("model", "").strip()
    try:
        answer = ask_upstream(upstream, model)
    except (UpstreamError, NotFoundError) as error:
        if wants_json():
            raise
        return _page(answer=Answer(upstream, error=error)), status_of(error)
    if wants_json():
        return jsonify(
            models=[{"id": found.id, "owned_by": found.owned_by} for found in answer.models]
        )
    return _page(answer=answer)


def ask_upstream(name: str, model: str) -> Answer:
    """The models of an upstream, or the details of one. Raises NotFoundError, UpstreamError."""
    upstream = rolebook().upstreams.get(name)
    if model:
        return Answer(upstream.name, model=upstream.model(model))
    return Answer(upstream.name, models=tuple(upstream.models()))


@blueprint.post("/status/keys")
def try_key_again() -> Response:
    """Let a key that rests be used again from the next call on."""
    fields = submitted()
    upstream, position = fields.get("upstream", ""), fields.get("position", "")
    is_number = position.isascii() and position.isdigit() and len(position) < 6
    siblings.try_key_again(upstream, int(position) if is_number else 0)
    return redirect(url_for("status.show", _anchor=f"keys-{upstream}"), 303)


@blueprint.post("/status/upstreams")
def ask_again() -> Response:
    """Let an upstream that is left alone be asked by the next call."""
    fields = submitted()
    upstream = fields.get("upstream", "")
    siblings.ask_again(upstream, fields.get("model", ""))
    return redirect(url_for("status.show", _anchor=f"answers-{upstream}"), 303)


@blueprint.post("/status/servers")
def look_for_servers() -> str:
    """Look for model servers on this machine and show how to use them."""
    own = {int(request.environ["SERVER_PORT"]), rolebook().settings.port}
    return _page(servers=find_local_servers(own_ports=own))


@blueprint.get("/healthz")
def report_health() -> tuple[Response, int]:
    """For whoever watches over the process: 503 where the log cannot be used, else 200.

    A log that was moved away may be put back, and only this process knows what is to be written to it then.
    """
    status = "ok"
    try:
        rolebook().log.probe()
    except GoneError:
        status = "behind"
    except StorageError as error:
        return jsonify(status="failing", version=__version__, reason=error.code), 503
    unwritten = siblings.unwritten_turns()
    status = "behind" if unwritten else status
    return jsonify(status=status, version=__version__, unwritten_turns=unwritten), 200


@blueprint.get("/readyz")
def report_readiness() -> tuple[Response, int]:
    """For whoever sends requests here: 200 while a turn can begin, else 503 with what is in the way."""
    book = rolebook()
    missing = []
    try:
        book.log.probe()
    except StorageError:
        missing.append("log")
    if not book.library.personas():
        missing.append("personas")
    status = "failing" if missing else "ready"
    return jsonify(status=status, version=__version__, missing=missing), 503 if missing else 200


def _page(*, answer: Answer | None = None, servers: tuple[LocalServer, ...] | None = None) -> str:
    book = rolebook()
    database, database_error = _database()
    upstreams = [state_of(name) for name in book.upstreams.names]
    return render_template(
        "status.html",
        upstreams=upstreams,
        unanswering=siblings.siblings().unanswering,
        is_unconnected=book.settings.is_rehearsal or bool(book.settings.missing_keys),
        answer=answer,
        servers=servers,
        problems=list(book.find_problems()),
        personas=len(book.library.personas()),
        database=database,
        database_error=database_error,
        table=_settings_table(),
    )


def state_of(name: str) -> UpstreamState:
    """How an upstream is set up, how its keys are, and whether it answers."""
    settings = rolebook().settings
    configured = settings.upstreams.get(name)
    model = configured.model if configured else ""
    is_default = name == settings.upstream
    return UpstreamState(
        name=name,
        is_default=is_default,
        settings=configured,
        model=settings.model or model if is_default else model,
        missing_key=settings.missing_keys.get(name, ""),
        keys=siblings.keys_of(name),
        silences=siblings.silences_of(name),
    )


def _database() -> tuple[DatabaseStatus | None, StorageError | None]:
    log = rolebook().log
    try:
        log.probe()
        return log.database_status(), None
    except StorageError as error:
        return None, error


def _settings_table() -> list[tuple[str, Any, str]]:
    """Variable, value and explanation of every setting that has one value for all."""
    settings = rolebook().settings
    return [
        (setting.variable, getattr(settings, setting.name), setting.help)
        for setting in SETTINGS
        if hasattr(settings, setting.name)
    ]
