"""Upstreams and the state of it all by the API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal, cast

from flask import request
from pydantic import Field

from rolebook import __version__
from rolebook.core.access import caller
from rolebook.core.budget import Limits, Spending
from rolebook.core.completion import Model
from rolebook.core.errors import StorageError
from rolebook.storage.status import DatabaseStatus
from rolebook.upstream.discovery import find_local_servers
from rolebook.upstream.key_pool import KeyHealth
from rolebook.web import siblings, status
from rolebook.web.access import visitor
from rolebook.web.api import shapes
from rolebook.web.api.errors import problem_data
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.shapes import Shape
from rolebook.web.current import rolebook
from rolebook.web.errors import describe

section = Section("Upstreams and status", "Who answers, and how Rolebook is doing.")


class UpstreamName(Shape):
    """An upstream that can be asked. `model` is its default; empty where only the server knows it."""

    name: str
    is_default: bool
    is_rehearsal: bool
    model: str


class UpstreamList(Shape):
    """The upstreams, the default first."""

    upstreams: list[UpstreamName]


@section.get("/upstreams")
def list_upstreams() -> UpstreamList:
    """List the upstreams that can be asked."""
    states = [status.state_of(name) for name in rolebook().upstreams.names]
    return {
        "upstreams": [
            {
                "name": state.name,
                "is_default": state.is_default,
                "is_rehearsal": state.is_rehearsal,
                "model": rolebook().upstreams.known_model(state.name),
            }
            for state in states
        ]
    }


class ModelLine(Shape):
    """A model that an upstream offers."""

    id: str
    owned_by: str
    created_at: str


class ModelList(Shape):
    """The models of an upstream."""

    models: list[ModelLine]


@section.get("/upstreams/<upstream>/models", refusals=(404, 429, 502, 503, 504))
def list_models(upstream: str) -> ModelList:
    """Ask an upstream for its models."""
    return {"models": [_model(model) for model in status.ask_upstream(upstream, "").models]}


def _model(model: Model) -> ModelLine:
    return {"id": model.id, "owned_by": model.owned_by, "created_at": model.created_at}


class ModelQuery(Body):
    """Which model."""

    id: str = Field(min_length=1)


class WholeModel(ModelLine):
    """A model with what the upstream says of it, as it says it."""

    details: dict[str, Any]


@section.get("/upstreams/<upstream>/model", refusals=(404, 429, 502, 503, 504))
def show_model(upstream: str, query: ModelQuery) -> WholeModel:
    """Ask an upstream for the details of one model."""
    model = rolebook().upstreams.get(upstream).model(query.id)
    return {**_model(model), "details": dict(model.details)}


class KeyPosition(Body):
    """Which key; the first counts from 1."""

    position: int = Field(ge=1, le=100_000)


class KeyStates(Shape):
    """The keys of an upstream. A key is known by its position and by where it comes from."""

    keys: list[KeyHealth]


@section.post("/upstreams/<upstream>/keys/retry", refusals=(404,))
def retry_key(upstream: str, body: KeyPosition) -> KeyStates:
    """Let a key that rests be used again from the next call on."""
    siblings.try_key_again(upstream, body.position)
    return {"keys": list(siblings.keys_of(upstream))}


class SilentModel(Shape):
    """A model that is not asked for now, because calls got no answer; an empty `model` is the list of models.

    It has been so `since` then, for `calls` in a row; `spared` were not made. The next is made in `seconds`.
    """

    model: str
    since: str
    calls: int
    spared: int
    seconds: float
    reason: str
    """What ended the last call, in words."""


class SilentModels(Shape):
    """The models of an upstream that get no answer. An answer takes one from the list."""

    silent_models: list[SilentModel]


class ModelToAskFor(Body):
    """Which model; an empty one is the list of models."""

    model: str = ""


@section.post("/upstreams/<upstream>/retry", refusals=(404,))
def retry_upstream(upstream: str, body: ModelToAskFor) -> SilentModels:
    """Let an upstream that gives no answer be asked by the next call."""
    siblings.ask_again(upstream, body.model)
    return {"silent_models": _silent_models(upstream)}


def _silent_models(upstream: str) -> list[SilentModel]:
    return [
        {
            "model": silence.model,
            "since": silence.since,
            "calls": silence.calls,
            "spared": silence.spared,
            "seconds": silence.seconds,
            "reason": describe(silence.error),
        }
        for silence in siblings.silences_of(upstream)
    ]


class ServerFound(Shape):
    """A model server on this computer. `usage` are the settings that make it the upstream."""

    kind: str
    base_url: str
    models: list[str]
    usage: str


class ServerList(Shape):
    """The model servers that answer on this computer."""

    servers: list[ServerFound]


@section.post("/local-servers")
def find_servers() -> ServerList:
    """Look for model servers on this computer, on their usual ports."""
    own = {int(request.environ["SERVER_PORT"]), rolebook().settings.port}
    found = find_local_servers(own_ports=own)
    servers = [{**asdict(server), "usage": server.usage} for server in found]
    return {"servers": cast(list[ServerFound], servers)}


class UpstreamHealth(UpstreamName):
    """How an upstream is set up, how its keys are, and whether it answers."""

    base_url: str
    missing_key: str
    """The name of a key that is needed and not there."""
    keys: list[KeyHealth]
    silent_models: list[SilentModel]


class Status(Shape):
    """How Rolebook is doing."""

    version: str
    upstreams: list[UpstreamHealth]
    unanswering: list[str]
    """The gateway processes that did not answer, so that what they know of keys and upstreams is missing here."""
    personas: int
    problems: list[shapes.Problem]
    """What is wrong in the library."""
    database: DatabaseStatus | None
    database_error: str
    live_turns: int
    """How many turns are being answered at the moment."""
    unwritten_turns: int
    """How many wait in memory, because the log cannot be written."""


@section.get("/status")
def show_status() -> Status:
    """Show how Rolebook is doing: upstreams and their keys, the library, the log."""
    book = rolebook()
    upstreams = [_health(name) for name in book.upstreams.names]
    database, reason = None, ""
    try:
        database = book.log.database_status()
    except StorageError as error:
        reason = describe(error)
    return {
        "version": __version__,
        "upstreams": upstreams,
        "unanswering": list(siblings.siblings().unanswering),
        "personas": len(book.library.personas()),
        "problems": [
            cast(shapes.Problem, problem_data(problem)) for problem in book.find_problems()
        ],
        "database": database,
        "database_error": reason,
        "live_turns": siblings.live_turns(),
        "unwritten_turns": siblings.unwritten_turns(),
    }


def _health(name: str) -> UpstreamHealth:
    state = status.state_of(name)
    return {
        "name": state.name,
        "is_default": state.is_default,
        "is_rehearsal": state.is_rehearsal,
        "model": state.model,
        "base_url": state.settings.base_url if state.settings else "",
        "missing_key": state.missing_key,
        "keys": list(state.keys),
        "silent_models": _silent_models(name),
    }


class Who(Shape):
    """On whose behalf a program calls. Both are null where nobody has to log in."""

    user: str | None
    role: Literal["reader", "author", "administrator"] | None
    key: str | None
    """How the API key is called that it calls with."""
    scope: list[str]
    """What that key opens: personas, or `*` for all."""
    limits: Limits | None
    """What that key may use; costs are in US dollars."""
    today: Spending | None
    """What it has used since the day began, by UTC. What is reserved counts, too: for turns that run, and for those of
    which nobody has told what they used."""
    this_month: Spending | None
    """The same since the month began."""


@section.get("/caller")
def show_caller() -> Who:
    """Show who is calling, and what their API key may use and has used."""
    user, key = visitor(), caller().key
    today, this_month = rolebook().accounts.spending(key) if key else (None, None)
    return {
        "user": user.name if user else None,
        "role": user.role.value if user else None,
        "key": key.name if key else None,
        "scope": list(key.scope) if key else ["*"],
        "limits": key.limits if key else None,
        "today": today,
        "this_month": this_month,
    }
