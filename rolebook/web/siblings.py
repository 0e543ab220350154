"""The other processes of this server, which answer ``/v1``: what they know, and what they are to do.

They are asked by requests like any other, over connections that nobody but the server itself can make.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol, cast
from urllib.parse import urlencode

from flask import Blueprint, current_app, g, jsonify, request
from werkzeug.wrappers import Response

from rolebook.core.errors import NotFoundError, UpstreamError
from rolebook.core.session import TurnError
from rolebook.core.shared import Told
from rolebook.upstream.breaker import Silence
from rolebook.upstream.key_pool import KeyHealth
from rolebook.web.current import rolebook
from rolebook.web.dialogue import error_of

blueprint = Blueprint("siblings", __name__, url_prefix="/siblings")

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_UNANSWERING = "rolebook_unanswering"
_GRAVITY = ("ready", "limited", "quota", "refused", "unusable")


class Processes(Protocol):
    """The processes, as whoever runs them knows them."""

    @property
    def numbers(self) -> Collection[int]:
        """The numbers of all that there are to be."""

    def ask(
        self,
        method: str,
        path: str,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        but: Collection[int] = (),
    ) -> Mapping[int, bytes | None]:
        """What each of them answers, by its number, ``but`` some; None of one that does not, or not in time."""

    def told(self) -> Sequence[Told]:
        """What each of them has last told of itself."""


class Siblings:
    """Asks them. Safe for threads; without any it costs nothing.

    One that does not answer is asked nothing more for the request at hand, which so waits for it once.
    """

    def __init__(self, processes: Processes | None = None) -> None:
        self._processes = processes

    def told(self) -> Sequence[Told]:
        """What each of them has last told of itself."""
        return self._processes.told() if self._processes is not None else ()

    def look(self, what: str, upstream: str) -> Sequence[Any]:
        """What each of them knows of the ``keys`` or the ``silences`` of an upstream."""
        query = urlencode({"upstream": upstream})
        answers = self._ask("GET", f"/siblings/{what}?{query}")
        return [json.loads(answer) for answer in answers.values()]

    def do(self, what: str, **given: Any) -> bool:
        """Have each of them do something; whether that changed anything in any of them."""
        answers = self._ask("POST", f"/siblings/{what}", json.dumps(given), _JSON)
        return any(json.loads(answer).get("is_done") for answer in answers.values())

    def figures(self) -> Mapping[int, str | None] | None:
        """The figures of each, None of one that gives none; None where there are no others."""
        if self._processes is None:
            return None
        answers = self._ask("GET", "/metrics")
        return {
            number: answers[number].decode() if number in answers else None
            for number in self._processes.numbers
        }

    @property
    def unanswering(self) -> Sequence[str]:
        """The names of those that have not answered for the request at hand."""
        return [name_of(number) for number in sorted(g.get(_UNANSWERING, ()))]

    def _ask(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> Mapping[int, bytes]:
        if self._processes is None:
            return {}
        silent: set[int] = g.setdefault(_UNANSWERING, set())
        answers = self._processes.ask(method, path, body, headers, but=silent)
        silent |= {number for number, answer in answers.items() if answer is None}
        return {number: answer for number, answer in answers.items() if answer is not None}


def name_of(number: int) -> str:
    """What one of them is called."""
    return f"gateway-{number + 1}"


def siblings() -> Siblings:
    """Those of this application."""
    return cast(Siblings, current_app.extensions["rolebook-siblings"])


def live_turns() -> int:
    """How many turns are being answered at the moment, in all processes."""
    return rolebook().chat.live_turns + sum(told.live_turns for told in siblings().told())


def unwritten_turns() -> int:
    """How many turns wait for the log, in all processes."""
    return rolebook().log.unwritten + sum(told.unwritten_turns for told in siblings().told())


def stop_turn(turn_id: str) -> bool:
    """Stop a turn, whichever process answers it. False if none does (any more)."""
    return rolebook().chat.cancel(turn_id) or siblings().do("stop", turn=turn_id)


def try_key_again(upstream: str, position: int) -> None:
    """Let a key rest no longer, in no process. Raises NotFoundError."""
    rolebook().upstreams.try_key_again(upstream, position)
    siblings().do("keys", upstream=upstream, position=position)


def ask_again(upstream: str, model: str) -> None:
    """Let an upstream that is left alone be asked by the next call, in all processes. Raises NotFoundError."""
    is_asked = siblings().do("silences", upstream=upstream, model=model)
    try:
        rolebook().upstreams.ask_again(upstream, model)
    except NotFoundError:
        if not is_asked:
            raise


def keys_of(upstream: str) -> Sequence[KeyHealth]:
    """The keys of an upstream and how each of them is, in all processes taken together."""
    keys = rolebook().upstreams.keys_of(upstream)
    for found in siblings().look("keys", upstream):
        others = [KeyHealth(**{**key, "models": tuple(key["models"])}) for key in found]
        by_position = {other.position: other for other in others}
        keys = [
            _together(key, by_position[key.position]) if key.position in by_position else key
            for key in keys
        ]
    return keys


def _together(key: KeyHealth, other: KeyHealth) -> KeyHealth:
    """A key of two processes: as the one knows it that had more trouble with it; the calls are those of both."""
    worse = max(key, other, key=lambda health: _GRAVITY.index(health.state))
    failures = dict(key.failures)
    for state, times in other.failures.items():
        failures[state] = failures.get(state, 0) + times
    return replace(
        worse,
        running=key.running + other.running,
        calls=key.calls + other.calls,
        failures=failures,
    )


def silences_of(upstream: str) -> Sequence[Silence]:
    """The models of an upstream that get no answer at the moment, in all processes taken together."""
    known = {silence.model: silence for silence in rolebook().upstreams.silences_of(upstream)}
    for found in siblings().look("silences", upstream):
        for data in found:
            silence = Silence(**{**data, "error": error_of(TurnError(**data["error"]))})
            other = known.get(silence.model, silence)
            known[silence.model] = silence if other is silence else _both(silence, other)
    return [known[model] for model in sorted(known)]


def _both(silence: Silence, other: Silence) -> Silence:
    return replace(
        max(silence, other, key=lambda one: one.calls),
        since=min(silence.since, other.since),
        calls=silence.calls + other.calls,
        spared=silence.spared + other.spared,
        seconds=min(silence.seconds, other.seconds),
    )


def is_asking() -> bool:
    """Whether the request at hand comes from another process of this server: by a pair of sockets, not by a network."""
    client = request.environ.get("gunicorn.socket")
    return isinstance(client, socket.socket) and client.family == socket.AF_UNIX


@blueprint.before_request
def _require_sibling() -> None:
    # To everybody else there is no such page.
    if not is_asking():
        raise NotFoundError(
            "There is no such page. The address may be mistyped, or what it showed is gone."
        )


@blueprint.get("/keys")
def list_keys() -> Response:
    """The keys of an upstream, as this process knows them."""
    return jsonify(list(rolebook().upstreams.keys_of(request.args["upstream"])))


@blueprint.get("/silences")
def list_silences() -> Response:
    """The models of an upstream that give this process no answer."""
    silences = rolebook().upstreams.silences_of(request.args["upstream"])
    return jsonify([{**_as_dict(silence), "error": _plain(silence.error)} for silence in silences])


def _as_dict(silence: Silence) -> Mapping[str, Any]:
    return {part.name: getattr(silence, part.name) for part in fields(cast(Any, silence))}


def _plain(error: UpstreamError) -> Mapping[str, Any]:
    """An error as it can be made again from JSON."""
    plain = {
        name: value
        for name, value in error.parameters.items()
        if isinstance(value, str | int | float)
    }
    return {"code": error.code, "message": error.message, "parameters": plain}


@blueprint.post("/stop")
def stop() -> Response:
    """Stop a turn if this process answers it."""
    return _done(rolebook().chat.cancel(request.get_json()["turn"]))


@blueprint.post("/keys")
def try_key() -> Response:
    """Use a key again from the next call on."""
    given = request.get_json()
    rolebook().upstreams.try_key_again(given["upstream"], given["position"])
    return _done(True)


@blueprint.post("/silences")
def try_upstream() -> Response:
    """Let an upstream be asked by the next call if it is left alone."""
    given = request.get_json()
    try:
        rolebook().upstreams.ask_again(given["upstream"], given["model"])
    except NotFoundError:
        return _done(False)
    return _done(True)


def _done(is_done: bool) -> Response:
    return jsonify(is_done=is_done)
