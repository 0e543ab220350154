"""The gateway: Rolebook as an OpenAI-compatible server whose models are the personas."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any, cast

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    make_response,
    request,
    stream_with_context,
)
from flask.typing import ResponseReturnValue

from rolebook.core.access import opened_forms, opens
from rolebook.core.chat import TurnEnded, TurnEvent, TurnStarted
from rolebook.core.completion import Endpoint, Received
from rolebook.core.errors import NotFoundError, RolebookError, UpstreamCancelled
from rolebook.core.persona import ResolvedPersona
from rolebook.core.session import Turn, TurnStatus
from rolebook.web.current import rolebook
from rolebook.web.dialogue import error_of
from rolebook.web.errors import UNEXPECTED, error_body, headers_of, status_of
from rolebook.web.gateway_request import (
    SESSION_HEADER,
    find_model,
    read_request,
)
from rolebook.web.leaving import Watch, client_socket
from rolebook.web.relay import Relay, error_event
from rolebook.web.request_log import name_request
from rolebook.web.suspension import Suspension

blueprint = Blueprint("gateway", __name__, url_prefix="/v1")

#: Programs send along all that was said so far, and images.
MAX_BODY_BYTES = 10_000_000


@blueprint.get("/models")
def list_models() -> ResponseReturnValue:
    """Every persona that can be asked by whoever calls, by the name that opens it."""
    models = [
        _model(persona, persona.persona.id)
        for persona in rolebook().library.personas()
        if opens(persona.persona.id)
    ]
    for name in opened_forms():
        # A label of its scope that nobody has set yet is no model yet.
        with suppress(NotFoundError):
            models.append(_model(rolebook().find_persona(name), name))
    return jsonify(object="list", data=models)


@blueprint.get("/models/<path:name>")
def show_model(name: str) -> ResponseReturnValue:
    """One persona, with what a program needs to ask it."""
    resolved, _ = find_model(name)
    return jsonify(_model(resolved, name))


@blueprint.post("/chat/completions")
def create_chat_completion() -> ResponseReturnValue:
    """The persona's answer to messages."""
    return _answer("chat")


@blueprint.post("/completions")
def create_completion() -> ResponseReturnValue:
    """The persona's answer to one text."""
    return _answer("completions")


def _model(resolved: ResolvedPersona, name: str) -> dict[str, Any]:
    """A persona as the API describes a model, and what else there is to say of it."""
    persona = resolved.persona
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "rolebook",
        "name": persona.name,
        "description": persona.description,
        "tags": list(persona.tags),
        "language": persona.language,
        "greeting": persona.greeting,
        "starters": list(persona.starters),
        "variables": {
            variable: value.model_dump(mode="json", exclude_defaults=True)
            for variable, value in persona.variables.items()
        },
        "revision": resolved.revision.id,
    }


def _answer(endpoint: Endpoint) -> Response:
    asked = read_request(endpoint)
    suspension = Suspension.by(request.environ) if asked.turn.is_streamed else None
    events = cast(Generator[TurnEvent], rolebook().gateway.stream(asked.turn, suspend=suspension))
    started = next(events)
    assert isinstance(started, TurnStarted)
    turn, chat = started.turn, rolebook().chat
    # The answer of a turn can be asked about by the turn's own id.
    name_request(turn.id)
    watch: Watch = current_app.extensions["rolebook-watch"]
    end_watch = watch.watch(client_socket(request.environ), lambda: chat.cancel(turn.id))
    relay = Relay(asked.model, endpoint, wants_usage=asked.wants_usage)
    try:
        response = (
            _stream(events, relay, suspension) if asked.turn.is_streamed else _whole(events, relay)
        )
    except BaseException:
        end_watch()
        raise
    response.call_on_close(end_watch)
    response.headers[SESSION_HEADER] = turn.session_id
    return response


def _whole(events: Iterator[TurnEvent], relay: Relay) -> Response:
    ended = next(event.turn for event in events if isinstance(event, TurnEnded))
    if ended.status is not TurnStatus.COMPLETE:
        return _refusal(ended)
    return jsonify(relay.whole(ended.reply))


def _stream(events: Generator[TurnEvent], relay: Relay, suspension: Suspension | None) -> Response:
    """A stream begins with the first word, so that what fails before it has a status of its own."""
    first = b""
    for event in events:
        if isinstance(event, TurnEnded) and event.turn.status is not TurnStatus.COMPLETE:
            return _refusal(event.turn)
        first += _bytes_of(event, relay)
        if relay.has_said:
            break
    response = Response(
        stream_with_context(_events(first, events, relay, suspension)),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
    # A generator that never ran is not closed with the response; the turn behind it must be.
    response.call_on_close(events.close)
    return response


def _events(
    first: bytes, events: Iterator[TurnEvent], relay: Relay, suspension: Suspension | None
) -> Iterator[bytes]:
    if suspension:
        suspension.is_allowed = True
    try:
        yield first
        for event in events:
            # Where there is nothing to pass on, too: the server decides who goes on, and for how long.
            yield _bytes_of(event, relay)
    except Exception as error:
        current_app.logger.exception("a stream failed", exc_info=error)
        known = error if isinstance(error, RolebookError) else RolebookError(UNEXPECTED)
        yield error_event(error_body(known))


def _bytes_of(event: TurnEvent, relay: Relay) -> bytes:
    """What the program gets of an event of the turn; often nothing."""
    match event:
        case Received():
            return relay.pieces(event)
        case TurnEnded(turn) if turn.status is TurnStatus.COMPLETE:
            return relay.ending()
        case TurnEnded(turn):
            return error_event(error_body(_error_of(turn)))
    return b""


def _refusal(turn: Turn) -> Response:
    error = _error_of(turn)
    response = make_response(jsonify(error_body(error)), status_of(error))
    response.headers.update(headers_of(error))
    return response


def _error_of(turn: Turn) -> RolebookError:
    if turn.error:
        return error_of(turn.error)
    return UpstreamCancelled("This answer was stopped.")
