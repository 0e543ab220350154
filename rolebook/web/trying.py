"""Trying a draft: what the preview shows is sent, with the text as it stands. Saved is only the answer, in the log."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, cast

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from rolebook.core.chat import TurnEvent
from rolebook.core.errors import FileError, InputError, NotFoundError, RolebookError
from rolebook.core.frozen import frozen
from rolebook.core.persona import ResolvedPersona, persona_of_revision
from rolebook.core.session import Session, Turn
from rolebook.web import turns
from rolebook.web.current import rolebook
from rolebook.web.dialogue import Answer
from rolebook.web.draft import SAVED, Draft
from rolebook.web.errors import status_of
from rolebook.web.library import address_of, draft_of, file_page, key_of

blueprint = Blueprint("trying", __name__, url_prefix="/library")


@frozen
class Trial:
    """An answer to a draft, or to what stands beside it; ``at`` says to which: empty is the draft."""

    at: str
    turn: Turn
    resolved: ResolvedPersona

    @property
    def answers(self) -> Sequence[Answer]:
        """What came, if anything."""
        count = max(1, len(self.turn.choices))
        return [Answer(self.turn, index, index + 1, index == 0, False) for index in range(count)]


@blueprint.post("/<kind>/<name>/try", endpoint="begin")
def try_out(kind: str, name: str) -> ResponseReturnValue:
    """Send the draft, or what ``at`` names: ``saved`` or a revision.

    As a stream for whoever takes ``text/event-stream``; otherwise run to its end, with what ``beside`` names after it,
    and shown on the page.
    """
    draft = draft_of(kind, name)
    if request.accept_mimetypes.best == "text/event-stream":
        at = draft.fields.get("at", "")
        resolved, events = _begin(draft, at)
        return turns.stream(events, lambda turn: _shown(Trial(at, turn, resolved)))
    places = ["", *filter(None, [draft.fields.get("beside", "")])]
    trials: list[Trial] = []
    try:
        for at in places:
            resolved, events = _begin(draft, at)
            trials.append(Trial(at, turns.run(events), resolved))
    except RolebookError as error:
        return file_page(draft, trials=trials, trial_error=error), status_of(error)
    return file_page(draft, trials=trials)


@blueprint.get("/<kind>/<name>/try")
def return_to_file(kind: str, name: str) -> Response:
    """Where a reload or a change of language after a trial ends up."""
    return redirect(address_of(key_of(kind, name)), 303)


def _begin(draft: Draft, at: str) -> tuple[ResolvedPersona, Generator[TurnEvent]]:
    resolved = _persona_at(draft, at)
    session, words = draft.session(resolved)
    if not words.strip():
        raise InputError("There is nothing to send yet. Write something first.")
    history = draft.history()
    chat = rolebook().chat
    # What cannot be rendered leaves no session behind.
    chat.prepare(session, resolved, words, history)
    begun = _start(session, resolved, at)
    prepared = chat.prepare(begun, resolved, words, history)
    events = chat.stream_prepared(begun, prepared, words)
    return resolved, cast(Generator[TurnEvent], events)


def _start(session: Session, resolved: ResolvedPersona, at: str) -> Session:
    if not at:
        return rolebook().edits.start_draft(resolved, session)
    if at == SAVED:
        return rolebook().chat.start_session(session, is_trial=True)
    return rolebook().chat.start_session(session, resolved=resolved, is_trial=True)


def _persona_at(draft: Draft, at: str) -> ResolvedPersona:
    """Raises FileError for a draft with mistakes, NotFoundError."""
    book = rolebook()
    if at == SAVED:
        return book.library.get_persona(draft.persona_id)
    if at:
        return persona_of_revision(book.log.get_revision(at))
    if draft.resolved is None:
        if draft.checked.errors:
            raise FileError(draft.checked.errors)
        raise NotFoundError("There is no persona to look at this template with. Write one first.")
    return draft.resolved


def _shown(trial: Trial) -> dict[str, Any]:
    """The facts of a trial, and the piece of the page that shows it."""
    return {
        "turn": turns.facts_of(trial.turn),
        "text": trial.turn.text,
        "html": render_template("library_trial.html", trial=trial),
    }
