"""Turns: asking, live or at one go, stopping, choosing between answers, forking, and what exactly was sent and came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, cast

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as BaseResponse

from rolebook.core.chat import TurnEnded, TurnEvent, TurnRequest, TurnStarted
from rolebook.core.completion import Delta, Received, Waiting
from rolebook.core.errors import ConflictError, InputError, RolebookError, UpstreamError
from rolebook.core.session import Session, Turn, new_id, now
from rolebook.report.visible import INVISIBLE
from rolebook.web import siblings
from rolebook.web.current import rolebook
from rolebook.web.dialogue import (
    differences,
    error_of,
    has_failed,
    open_dialogue,
    render_pieces,
    render_session,
    request_body,
)
from rolebook.web.errors import RequestError, error_body, headers_of, status_of, wants_json
from rolebook.web.security import local_path
from rolebook.web.submission import start_of, submitted

blueprint = Blueprint("turns", __name__)

#: What is told of a turn that has ended.
Show = Callable[[Turn], dict[str, Any]]
#: What is answered where a turn has failed.
Refuse = Callable[[Turn], Response]
#: Says which turn in the log an error is of.
TURN_HEADER = "X-Rolebook-Turn"

#: A response that has not begun cannot notice that its reader has left, so it begins after this time at the latest.
_PATIENCE_S = 2.0
_LONGEST_NOTE = 2000
_THUMBS: Mapping[str, Literal[-1, 0, 1]] = {"1": 1, "0": 0, "-1": -1}
_UNEXPECTED = (
    "Something failed inside Rolebook. What had arrived is in the log: reload the page to see it."
)


@blueprint.post("/sessions/<session_id>/turns")
def create(session_id: str) -> ResponseReturnValue:
    """Say something: ``input``; at ``position`` to try again there, with other words or other ``s-`` parameters.

    As a stream for whoever takes ``text/event-stream``; otherwise run to its end, then back to the session.
    """
    fields = submitted()
    try:
        events = begin(session_id, fields)
    except InputError as error:
        if wants_json():
            raise
        return render_session(session_id, error=error, fields=fields)
    if request.accept_mimetypes.best == "text/event-stream":
        return stream(events)
    return redirect(_address(run(events)), 303)


def begin(session_id: str, fields: dict[str, str]) -> Generator[TurnEvent]:
    """Write a turn as pending and return its events, of which the first is that. Raises RolebookError."""
    position = fields.get("position", "0") or "0"
    if not (position.isascii() and position.isdigit() and len(position) < 10):
        raise RequestError("A position is a whole number.", status=400)
    start = start_of(fields)
    if not start.input.strip():
        raise InputError("There is nothing to send yet. Write something first.")
    events = rolebook().chat.stream_turn(
        TurnRequest(
            session_id=session_id,
            input=start.input,
            position=int(position),
            parameters=start.session.parameters,
            model=start.session.model,
        )
    )
    return cast(Generator[TurnEvent], events)


def run(events: Generator[TurnEvent]) -> Turn:
    """Run a turn to its end, whatever that is."""
    ended = [event.turn for event in events if isinstance(event, TurnEnded)]
    return ended[-1]


def stream(
    events: Generator[TurnEvent],
    show: Show | None = None,
    *,
    show_begun: Show | None = None,
    refuse: Refuse | None = None,
) -> Response:
    """The events of a turn as they come; one that gets no answer is a real error.

    Arguments:
        show: says with what the end is announced; by default with the piece of the session's page.
        show_begun: the same of the beginning; by default with what a script has to know.
        refuse: answers where the turn has failed before anything came.
    """
    begun = _pull(events)
    last = begun[-1]
    if isinstance(last, TurnEnded) and has_failed(last.turn):
        return (refuse or _refusal)(last.turn)
    response = Response(
        stream_with_context(_frames(begun, events, show or _shown, show_begun or facts_of)),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
    # A generator that never ran is not closed with the response; the turn behind it must be.
    response.call_on_close(events.close)
    return response


def _pull(events: Iterator[TurnEvent]) -> Sequence[TurnEvent]:
    """The events up to the first that says how it goes: a delta or the end; or as many as patience allows."""
    deadline = time.monotonic() + _PATIENCE_S
    pulled: list[TurnEvent] = []
    for event in events:
        pulled.append(event)
        if isinstance(event, Delta | TurnEnded) or time.monotonic() > deadline:
            break
    return pulled


def _refusal(turn: Turn) -> Response:
    """The error of a turn that got no answer, as a real status; a header says which turn in the log it is."""
    error = failure_of(turn)
    response = make_response(jsonify(error_body(error)), status_of(error))
    response.headers.update({TURN_HEADER: turn.id, **headers_of(error)})
    return response


def failure_of(turn: Turn) -> UpstreamError:
    """Why a turn has failed."""
    return error_of(turn.error) if turn.error else UpstreamError(_UNEXPECTED)


def _frames(
    begun: Sequence[TurnEvent], events: Iterator[TurnEvent], show: Show, show_begun: Show
) -> Iterator[str]:
    try:
        for event in chain(begun, events):
            yield _frame(event, show, show_begun)
    except Exception as error:
        current_app.logger.exception("a stream failed", exc_info=error)
        known = error if isinstance(error, RolebookError) else RolebookError(_UNEXPECTED)
        yield _event("error", error_body(known))


def _frame(event: TurnEvent, show: Show, show_begun: Show) -> str:
    match event:
        case TurnStarted(turn):
            return _event("turn", show_begun(turn))
        case Delta(text, index, kind):
            return _event("delta", {"index": index, "kind": kind, "text": text})
        case Received(_, deltas):
            return "".join(_frame(delta, show, show_begun) for delta in deltas)
        case Waiting():
            return ": ping\n\n"
        case TurnEnded(turn) if has_failed(turn):
            return _event("error", error_body(failure_of(turn)))
        case TurnEnded(turn):
            return _event("end", show(turn))


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def facts_of(turn: Turn) -> dict[str, Any]:
    """What a script has to know of a turn."""
    return {
        "id": turn.id,
        "session": turn.session_id,
        "revision": turn.revision,
        "position": turn.position,
        "attempt": turn.attempt,
        "status": turn.status.value,
    }


def _shown(turn: Turn, session_id: str = "") -> dict[str, Any]:
    """A turn with the pieces of the page that show it."""
    return {"turn": facts_of(turn), **render_pieces(session_id or turn.session_id, turn.position)}


def _address(turn: Turn, session_id: str = "") -> str:
    return url_for(
        "sessions.show",
        session_id=session_id or turn.session_id,
        _anchor=f"turn-{turn.position}",
    )


def _done(turn: Turn) -> ResponseReturnValue:
    """Back to where the turn is shown, or to ``next``: as JSON for scripts, for people the page itself."""
    fields = submitted()
    session_id = fields.get("session", "")
    if wants_json():
        return _shown(turn, session_id)
    to = fields.get("next", "")
    return redirect(local_path(to) if to else _address(turn, session_id), 303)


@blueprint.get("/turns/<turn_id>")
def show(turn_id: str) -> ResponseReturnValue:
    """Where the turn is: the piece of the page for scripts, a way to the session for people."""
    turn = rolebook().log.get_turn(turn_id)
    return _shown(turn) if wants_json() else redirect(_address(turn))


@blueprint.post("/turns/<turn_id>/stop")
def stop(turn_id: str) -> ResponseReturnValue:
    """Stop a turn that runs."""
    turn = rolebook().log.get_turn(turn_id)
    was_running = siblings.stop_turn(turn_id)
    if wants_json():
        return {"stopped": was_running}
    return redirect(_address(turn), 303)


@blueprint.post("/turns/<turn_id>/choose")
def choose(turn_id: str) -> ResponseReturnValue:
    """Let an answer count as history: the attempt, and of several answers in it the one with ``index``."""
    index = submitted().get("index", "")
    if index and not (index.isascii() and index.isdigit() and len(index) < 5):
        raise RequestError("An answer's index is a whole number.", status=400)
    if index:
        choose_alternative(turn_id, int(index))
    return _done(rolebook().log.choose_attempt(turn_id))


def choose_alternative(turn_id: str, index: int) -> None:
    """Let another answer of a turn count. What checks found was true of the one before, so they run again.

    Raises NotFoundError, InputError.
    """
    book = rolebook()
    before = book.log.get_turn(turn_id)
    after = book.log.choose_alternative(turn_id, index)
    if after.chosen != before.chosen and book.log.results_of_turns([turn_id]):
        with suppress(ConflictError):
            book.live_checks.check_again(turn_id)


@blueprint.post("/turns/<turn_id>/mark")
def mark(turn_id: str) -> ResponseReturnValue:
    """Note something on a turn, of ``star`` (empty takes it away), ``thumb`` (1, 0 or -1) and ``note`` what is sent."""
    fields = submitted()
    thumb = _THUMBS.get(fields.get("thumb", "0"))
    if thumb is None:
        raise RequestError("A thumb is 1, 0 or -1.", status=400)
    noted = rolebook().log.mark_turn(
        turn_id,
        is_starred=bool(fields["star"]) if "star" in fields else None,
        thumb=thumb if "thumb" in fields else None,
        note=fields["note"].strip()[:_LONGEST_NOTE] if "note" in fields else None,
    )
    return _done(rolebook().log.get_turn(noted.turn_id))


@blueprint.post("/turns/<turn_id>/check")
def check(turn_id: str) -> ResponseReturnValue:
    """Run all checks that its persona has on a turn; what a judge says of it comes later."""
    rolebook().live_checks.check_again(turn_id)
    return _done(rolebook().log.get_turn(turn_id))


@blueprint.post("/turns/<turn_id>/fork")
def fork(turn_id: str) -> BaseResponse:
    """Begin another session that goes on from this turn."""
    session = fork_from(turn_id, submitted().get("session", ""))
    return redirect(_page_of(session), 303)


def fork_from(turn_id: str, session_id: str = "") -> Session:
    """A new session that goes on from a turn, as it is seen in one that inherits it. Raises NotFoundError."""
    log = rolebook().log
    turn = log.get_turn(turn_id)
    origin = log.get_session(session_id or turn.session_id)
    session = replace(
        origin,
        id=new_id(),
        persona_id=rolebook().chat.present_id(origin),
        forked_from=turn.id,
        revision=turn.revision,
        comparison_id="",
        judges="",
        is_starred=False,
        deleted_at="",
        created_at=now(),
    )
    # It needs no check: it goes on with what was chosen, and with the persona that answered here.
    log.create_session(session, log.get_revision(turn.revision))
    return session


def _page_of(session: Session) -> str:
    return url_for("sessions.show", session_id=session.id, _anchor="composer")


@blueprint.get("/turns/<turn_id>/request")
def show_request(turn_id: str) -> ResponseReturnValue:
    """The request as it was sent, as JSON: to read, or raw."""
    turn = rolebook().log.get_turn(turn_id)
    return _exact(turn, request_body(turn), is_request=True)


@blueprint.get("/turns/<turn_id>/reply")
def show_reply(turn_id: str) -> ResponseReturnValue:
    """The reply as it came, as JSON: to read, or raw."""
    turn = rolebook().log.get_turn(turn_id)
    return _exact(turn, turn.reply, is_request=False)


def _exact(turn: Turn, body: Any, *, is_request: bool) -> ResponseReturnValue:
    text = json.dumps(body, indent=2, ensure_ascii=False)
    # What cannot be seen, or not even be sent, is escaped: it is the same JSON.
    text = INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], text)
    if wants_json() or request.args.get("format") == "json":
        name = f"rolebook-{turn.id}-{'request' if is_request else 'reply'}.json"
        response = Response(text + "\n", mimetype="application/json")
        if not wants_json():
            response.headers.set("Content-Disposition", "attachment", filename=name)
        return response
    return render_template(
        "session_exact.html",
        turn=turn,
        dialogue=open_dialogue(turn.session_id),
        text=text,
        is_request=is_request,
        is_known=bool(body),
        differences=differences(turn),
        error=error_of(turn.error) if turn.error else None,
    )
