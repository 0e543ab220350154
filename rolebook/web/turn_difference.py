"""Any two answers of the log beside each other: what differs by words, and in what they were asked with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from rolebook.core.difference import Piece
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.frozen import frozen
from rolebook.core.session import Turn
from rolebook.report.differing import Differing, Setting, told_apart
from rolebook.web.current import gettext as _
from rolebook.web.current import rolebook
from rolebook.web.dialogue import Dialogue, open_dialogue
from rolebook.web.errors import status_of
from rolebook.web.variant_settings import answer_difference, differing_turns

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
    differing: Differing
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
    differing = differing_turns([turn, other])
    return Beside(
        other,
        open_dialogue(other.session_id),
        asked=_difference(turn.input, other.input),
        answered=_difference(turn.text, other.text),
        differing=differing,
        settings=[*differing.settings, *told_apart([_answered(turn), _answered(other)])],
    )


def _difference(own: str, other: str) -> Sequence[Piece] | None:
    return answer_difference(own, other) if own and other and own != other else None


def _answered(turn: Turn) -> Mapping[tuple[str, bool], str]:
    """Who has answered a turn: the upstream only where that is another one than was asked."""
    stood_in = turn.upstream_requested not in {"", turn.upstream}
    told = {
        (_("Model that answered"), False): turn.model,
        (_("Upstream that stood in"), False): turn.upstream if stood_in else "",
    }
    return {name: value for name, value in told.items() if value}
