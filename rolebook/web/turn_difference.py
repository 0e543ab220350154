"""Any two answers of the log beside each other: what differs by words, and in what they were asked with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from rolebook.core.difference import Piece
from rolebook.core.errors import InputError, NotFoundError, RolebookError
from rolebook.core.frozen import frozen
from rolebook.core.reference import SHORT_REVISION
from rolebook.core.session import Turn
from rolebook.report.differing import Setting, shown_value, told_apart
from rolebook.web.current import gettext as _
from rolebook.web.current import rolebook
from rolebook.web.dialogue import Dialogue, open_dialogue
from rolebook.web.errors import status_of
from rolebook.web.variant_settings import answer_difference

blueprint = Blueprint("turn_difference", __name__)

#: So many other answers of the same session can be chosen from a list.
_MOST_OFFERED = 100
_TURN = re.compile(r"(?:.*/turns/)?([0-9a-z]{18})(?:[/?#].*)?")
_PLACE = re.compile(r".*/sessions/([0-9a-z]{18})[^#]*#turn-([0-9]{1,6})")


@frozen
class Beside:
    """Another answer, and how the one that is shown differs from it; ``None`` where nothing does, or one is empty."""

    turn: Turn
    dialogue: Dialogue
    asked: Sequence[Piece] | None
    answered: Sequence[Piece] | None
    settings: Sequence[Setting]


@blueprint.get("/turns/<turn_id>/difference")
def show(turn_id: str) -> ResponseReturnValue:
    """An answer beside another one, which ``with`` names by its turn, or ``at`` by an address where it stands."""
    turn = rolebook().log.get_turn(turn_id)
    given = request.args.get("at", "").strip() or request.args.get("with", "")
    beside, error = None, None
    try:
        beside = _beside(turn, _turn_at(given)) if given else None
    except (InputError, NotFoundError) as found:
        error = found
    dialogue = open_dialogue(turn.session_id)
    page = render_template(
        "turn_difference.html",
        turn=turn,
        dialogue=dialogue,
        offered=_offered(turn),
        beside=beside,
        given=request.args.get("at", ""),
        error=error,
    )
    return page, status_of(error) if error else 200


def _turn_at(given: str) -> Turn:
    """The turn that somebody means. Raises InputError, NotFoundError."""
    log = rolebook().log
    if place := _PLACE.fullmatch(given):
        # The one that counts there; where there is none, the last that was tried.
        for turn in log.latest_turns(place[1]):
            if turn.position == int(place[2]):
                return log.get_turn(turn.id)
        raise NotFoundError("This session has no turn %(number)s.", number=place[2])
    if named := _TURN.fullmatch(given):
        return log.get_turn(named[1])
    raise InputError(
        "This is no address of an answer. Open its request, or find it by searching the sessions, and copy the address"
        " from there."
    )


def _offered(turn: Turn) -> Sequence[Turn]:
    """Other answers of the same session, in order."""
    turns = rolebook().log.session_turns(turn.session_id)
    return [each for each in turns if each.id != turn.id and each.text][:_MOST_OFFERED]


def _beside(turn: Turn, other: Turn) -> Beside:
    if turn.id == other.id:
        raise InputError("This is the answer that is shown: choose another one.")
    return Beside(
        other,
        open_dialogue(other.session_id),
        asked=_difference(turn.input, other.input),
        answered=_difference(turn.text, other.text),
        settings=told_apart([_settings(turn), _settings(other)]),
    )


def _difference(own: str, other: str) -> Sequence[Piece] | None:
    return answer_difference(own, other) if own and other and own != other else None


def _settings(turn: Turn) -> Mapping[tuple[str, bool], str]:
    """What a turn was asked with, by its name and whether that is a request field; what is not set is left out."""
    return {name: value for name, value in _all_settings(turn) if value}


def _all_settings(turn: Turn) -> Iterator[tuple[tuple[str, bool], str]]:
    log = rolebook().log
    session = log.get_session(turn.session_id)
    try:
        name = str(log.get_revision(turn.revision).resolved.get("name", ""))
    except RolebookError:
        name = ""
    yield (_("Persona"), False), name or session.persona_id
    yield (_("Revision"), False), turn.revision[:SHORT_REVISION]
    yield (_("Upstream"), False), turn.upstream
    yield (_("Model asked for"), False), turn.model_requested
    yield (_("Model that answered"), False), turn.model
    # Nothing is known of what was sent where no answer came.
    for key, value in (turn.parameters_sent or turn.parameters_requested).items():
        yield (key, True), shown_value(value)
    for key, value in session.variables.items():
        yield (key.replace("_", " "), False), shown_value(value)
