"""Turns by the API: asking, whole or as a stream, stopping, choosing, marking, forking."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal, cast

from flask import Response, current_app, request
from pydantic import Field

from rolebook.core.chat import TurnEvent, TurnRequest, TurnStarted
from rolebook.core.errors import InputError
from rolebook.core.persona import parse_parameters
from rolebook.core.session import Session, Turn
from rolebook.web import siblings, turns
from rolebook.web.api import shapes
from rolebook.web.api.errors import respond_to_error
from rolebook.web.api.operation import Body, Section, plain
from rolebook.web.api.sessions import find_session, turn_shape
from rolebook.web.api.shapes import Shape
from rolebook.web.current import rolebook
from rolebook.web.dialogue import has_failed, request_body
from rolebook.web.leaving import Watch, client_socket

section = Section("Turns", "One input and the completion it got.")

#: Of the stream of a turn.
TURN_EVENTS = ("turn", "delta", "end", "error")
#: Where the answer of an upstream is what an operation gives, it may refuse or fail.
UPSTREAM_REFUSALS = (409, 429, 499, 502, 503, 504)


class NewTurn(Body):
    """What is said."""

    input: str = Field(min_length=1)
    """The words."""
    position: int = Field(0, ge=0, le=1_000_000)
    """0 goes on. The position of the last turn tries again there, with the same words or others."""
    model: str = ""
    """The model that answers this turn."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Sampling parameters and other request fields for this turn."""
    stream: bool = False
    """Whether the answer comes as server-sent events: `turn`, `delta` …, and `end` or `error`."""


@section.post(
    "/sessions/<session_id>/turns", events=TURN_EVENTS, refusals=(404, *UPSTREAM_REFUSALS)
)
def create_turn(session_id: str, body: NewTurn) -> shapes.Turn | Response:
    """Say something, and get the answer.

    With `stream`, a `turn` event carries the turn as it begins, `delta` events carry `index`, `kind` and `text`, and
    `end` carries the whole turn. What fails before the first word has a status of its own. A client that leaves stops
    the turn; what had arrived is in the log.
    """
    if not body.input.strip():
        raise InputError("There is nothing to send yet. Write something first.", key="input")
    asked = TurnRequest(
        session_id=find_session(session_id).id,
        input=body.input,
        position=body.position,
        parameters=parse_parameters(body.parameters),
        model=body.model,
    )
    events = cast(Generator[TurnEvent], rolebook().chat.stream_turn(asked))
    return answer(events, is_streamed=body.stream)


def answer(events: Generator[TurnEvent], *, is_streamed: bool) -> shapes.Turn | Response:
    """What a turn comes to: its stream, the turn at its end, or the error that it ended with."""
    if is_streamed:
        return turns.stream(
            events,
            lambda turn: _data(shown(turn)),
            show_begun=lambda turn: _data(turn_shape(turn)),
            refuse=_refusal,
        )
    turn = _run(events)
    return _refusal(turn) if has_failed(turn) else shown(turn)


def _refusal(turn: Turn) -> Response:
    response = respond_to_error(turns.failure_of(turn))
    response.headers[turns.TURN_HEADER] = turn.id
    return response


def _data(turn: shapes.Turn) -> dict[str, Any]:
    return cast(dict[str, Any], plain(turn))


def _run(events: Generator[TurnEvent]) -> Turn:
    """Run a turn to its end; it is stopped when whoever waits for it leaves."""
    started = next(events)
    assert isinstance(started, TurnStarted)
    watch: Watch = current_app.extensions["rolebook-watch"]
    # Whoever looks after clients does so outside of any request.
    chat, turn_id = rolebook().chat, started.turn.id
    end_watch = watch.watch(client_socket(request.environ), lambda: chat.cancel(turn_id))
    try:
        return turns.run(events)
    finally:
        end_watch()


def shown(turn: Turn) -> shapes.Turn:
    """A turn with what is noted on it and what checks have found."""
    log = rolebook().log
    marks, results = log.marks_of([turn.id]), log.results_of_turns([turn.id])
    return turn_shape(turn, mark=marks.get(turn.id), results=results.get(turn.id, ()))


@section.get("/turns/<turn_id>", refusals=(404,))
def show_turn(turn_id: str) -> shapes.Turn:
    """Show a turn, with the messages that were sent and the reply as it came."""
    return shown(rolebook().log.get_turn(turn_id))


@section.get("/turns/<turn_id>/request", refusals=(404,))
def show_turn_request(turn_id: str) -> dict[str, Any]:
    """Show the request of a turn as it was sent to the upstream."""
    return dict(request_body(rolebook().log.get_turn(turn_id)))


class Stopped(Shape):
    """Whether there was something to stop."""

    stopped: bool


@section.post("/turns/<turn_id>/stop", refusals=(404,))
def stop_turn(turn_id: str) -> Stopped:
    """Stop a turn that is being answered."""
    turn = rolebook().log.get_turn(turn_id)
    return {"stopped": siblings.stop_turn(turn.id)}


class Choosing(Body):
    """Which of the answers of a turn; the first counts from 0."""

    index: int | None = Field(None, ge=0, le=1000)


@section.post("/turns/<turn_id>/choose", refusals=(404, 409))
def choose_turn(turn_id: str, body: Choosing) -> shapes.Turn:
    """Let a turn count as history at its position.

    With `index`, another of its answers counts from now on.
    """
    if body.index is not None:
        turns.choose_alternative(turn_id, body.index)
    return shown(rolebook().log.choose_attempt(turn_id))


class MarkChange(Body):
    """What is to be noted. What is left out stays as it is."""

    is_starred: bool | None = None
    thumb: Literal[-1, 0, 1] | None = None
    """1 up, -1 down, 0 none."""
    note: str | None = Field(None, max_length=2000)


@section.patch("/turns/<turn_id>/mark", refusals=(404,))
def mark_turn(turn_id: str, body: MarkChange) -> shapes.Turn:
    """Note something on a turn: a star, a thumb, some words."""
    note = None if body.note is None else body.note.strip()
    rolebook().log.mark_turn(turn_id, is_starred=body.is_starred, thumb=body.thumb, note=note)
    return shown(rolebook().log.get_turn(turn_id))


@section.post("/turns/<turn_id>/check", refusals=(404, 409))
def check_turn(turn_id: str) -> shapes.Turn:
    """Run the checks of the persona on a turn again. What a judge says comes later."""
    rolebook().live_checks.check_again(turn_id)
    return shown(rolebook().log.get_turn(turn_id))


class Forking(Body):
    """From where to go on otherwise."""

    session: str = ""
    """The session in which the turn is seen, where that inherits it; by default its own."""


@section.post("/turns/<turn_id>/fork", status=201, refusals=(404,))
def fork_turn(turn_id: str, body: Forking) -> Session:
    """Begin another session that goes on from a turn."""
    return turns.fork_from(turn_id, body.session)
