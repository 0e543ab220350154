"""Voting blind: two answers side by side, and no word about who gave them until the vote is cast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import SystemRandom
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as BaseResponse

from rolebook.core.comparison import (
    Ballot,
    Cell,
    CellKey,
    Comparison,
    ComparisonInput,
)
from rolebook.core.errors import ConflictError, NotFoundError
from rolebook.core.frozen import frozen
from rolebook.core.preference import Outcome, preference
from rolebook.core.session import Turn, new_id
from rolebook.core.text import language_of
from rolebook.core.voting import Pairing, is_open, look_alike, uses_of, votes_of
from rolebook.web.comparison_cells import turns_before, variant_name
from rolebook.web.current import rolebook
from rolebook.web.errors import RequestError, wants_json
from rolebook.web.kept import Kept
from rolebook.web.submission import submitted

blueprint = Blueprint("votes", __name__)

_SKIP, _WITHDRAW = "skip", "withdraw"
_OUTCOMES = {str(outcome): outcome for outcome in Outcome}
#: Who guesses the sides has to guess; no seed is kept.
_RANDOM = SystemRandom()
_pairings: Kept[Pairing] = Kept(8)


@frozen
class Answer:
    """One answer as it is laid before somebody. Its language is told from its text, and not from its persona."""

    text: str
    refusal: str
    language: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@frozen
class Exchange:
    """What was said, and both answers to it."""

    input: str
    answers: tuple[Answer, Answer]


@frozen
class Sheet:
    """A ballot to look at. ``before`` is what was said before the input, ``None`` if that is gone.

    ``names`` are known once the vote is cast.
    """

    ballot: Ballot
    entry: ComparisonInput
    before: Sequence[Turn] | None
    exchanges: tuple[Exchange, ...]
    names: tuple[str, str] | None


@frozen
class Count:
    """How many votes there are. ``more`` are about as many as it takes until it is clear who is best.

    ``is_partial``: as nobody can tell that of all, until it is clear of one more of them.
    ``is_clear``: it is. ``are_alike``: no number of votes would tell them apart. ``inputs_needed``: on so many further
    inputs there have to be votes before they tell of any but these; that alone is missing if this ``is_narrow``.
    """

    votes: int
    more: int = 0
    is_partial: bool = False
    inputs_needed: int = 0
    is_narrow: bool = False
    is_clear: bool = False
    are_alike: bool = False


@blueprint.get("/comparisons/<comparison_id>/vote")
def begin(comparison_id: str) -> str:
    """Where voting begins, and where it ends when nothing is left."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    return _page(comparison, None)


@blueprint.post("/comparisons/<comparison_id>/vote")
def draw(comparison_id: str) -> BaseResponse:
    """Lay two answers before somebody."""
    return _go_on(rolebook().comparisons.get_comparison(comparison_id))


@blueprint.get("/comparisons/<comparison_id>/vote/<ballot_id>")
def show(comparison_id: str, ballot_id: str) -> str:
    """One ballot: the same two answers on the same sides, however often one looks."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    return _page(comparison, ballot_of(comparison, ballot_id))


@blueprint.post("/comparisons/<comparison_id>/vote/<ballot_id>")
def cast(comparison_id: str, ballot_id: str) -> ResponseReturnValue:
    """Vote, with ``vote`` being an outcome or ``skip``, and go on to the next two; ``withdraw`` takes a vote back."""
    log = rolebook().comparisons
    comparison = log.get_comparison(comparison_id)
    ballot = ballot_of(comparison, ballot_id)
    vote = submitted().get("vote", "")
    if vote == _WITHDRAW:
        return _withdraw(comparison, ballot)
    if vote != _SKIP and vote not in _OUTCOMES:
        raise RequestError("A vote is left, right, tie, both_bad or skip.", status=400)
    try:
        log.cast_ballot(ballot.id, _OUTCOMES.get(vote), is_skipped=vote == _SKIP)
    except ConflictError as error:
        if wants_json():
            raise
        present = log.get_ballot(ballot.id)
        # Who has voted on this one sees how; who was too late for it goes on.
        following = present if present.is_used else draw_ballot(comparison, rounds=_rounds())
        return _page(comparison, following, error=error), 409
    return _go_on(comparison, last=ballot.id)


def _withdraw(comparison: Comparison, ballot: Ballot) -> BaseResponse:
    """Take a vote back, and go on with the two answers that lie before somebody by now."""
    if ballot.outcome is None:
        return redirect(_address(comparison, ballot.id), 303)
    rolebook().comparisons.withdraw_vote(ballot.id)
    if present := submitted().get("present", ""):
        address = _address(comparison, ballot_of(comparison, present).id, withdrawn=True)
        return redirect(address, 303)
    return _go_on(comparison, withdrawn=True)


def ballot_of(comparison: Comparison, ballot_id: str) -> Ballot:
    """One ballot of a comparison. Raises NotFoundError."""
    ballot = rolebook().comparisons.get_ballot(ballot_id)
    if ballot.comparison_id != comparison.id:
        raise NotFoundError("There is no such ballot.")
    return ballot


def _go_on(comparison: Comparison, *, last: str = "", withdrawn: bool = False) -> BaseResponse:
    """To the next two answers, or to where voting ends."""
    ballot = draw_ballot(comparison, rounds=_rounds())
    ballot_id = ballot.id if ballot else ""
    return redirect(_address(comparison, ballot_id, last=last, withdrawn=withdrawn), 303)


def draw_ballot(comparison: Comparison, *, rounds: int) -> Ballot | None:
    """Two answers that nobody has voted on so often, laid before somebody; ``None`` if none are left."""
    log = rolebook().comparisons
    ballots = log.ballots(comparison.id)
    pair = pairing_of(comparison).next_pair(ballots, _RANDOM, rounds=rounds)
    if pair is None:
        return None
    ballot = Ballot(new_id(), comparison.id, *pair, round=uses_of(pair, ballots))
    log.create_ballot(ballot)
    return ballot


def pairing_of(comparison: Comparison) -> Pairing:
    """Which of its answers can be laid side by side."""
    log = rolebook().comparisons
    return _pairings.get(
        *(comparison.id, log.tally(comparison)),
        lambda: Pairing(log.cells(comparison), comparison.same_inputs()),
    )


def _address(
    comparison: Comparison,
    ballot_id: str,
    *,
    last: str = "",
    withdrawn: bool = False,
    rounds: int = 0,
) -> str:
    rounds = rounds or _rounds()
    said = {
        "last": last,
        "withdrawn": "1" if withdrawn else "",
        "rounds": str(rounds) if rounds > 1 else "",
    }
    query: dict[str, Any] = {name: value for name, value in said.items() if value}
    if ballot_id:
        return url_for("votes.show", comparison_id=comparison.id, ballot_id=ballot_id, **query)
    return url_for("votes.begin", comparison_id=comparison.id, **query)


def _rounds() -> int:
    """How often each pair may be voted on: 1, unless somebody goes round again."""
    text = request.args.get("rounds", "")
    is_number = text.isascii() and text.isdecimal() and len(text) < 4
    return max(1, int(text)) if is_number else 1


def _page(comparison: Comparison, ballot: Ballot | None, error: ConflictError | None = None) -> str:
    log = rolebook().comparisons
    ballots, pairing = log.ballots(comparison.id), pairing_of(comparison)
    last = next((b for b in ballots if b.id == request.args.get("last")), None)
    return render_template(
        "vote.html",
        comparison=comparison,
        sheet=sheet_of(comparison, ballot) if ballot else None,
        is_open=ballot is not None and is_open(ballot, ballots),
        last=last,
        last_names=_names(comparison, last) if last and last.outcome else None,
        is_withdrawn="withdrawn" in request.args,
        count=count_votes(comparison, ballots, pairing),
        pairing=pairing,
        can_go_on=pairing.next_pair(ballots, _RANDOM, rounds=_rounds()) is not None,
        progress=rolebook().compare.progress_of(comparison),
        start_to=_address(comparison, ""),
        again=_address(comparison, "", rounds=_rounds() + 1),
        here_to=_address(comparison, ballot.id if ballot else ""),
        withdraw_at=_address(comparison, last.id) if last else "",
        error=error,
    )


def _names(comparison: Comparison, ballot: Ballot) -> tuple[str, str]:
    left, right = (comparison.variants[key.variant] for key in (ballot.left, ballot.right))
    return variant_name(left), variant_name(right)


def sheet_of(comparison: Comparison, ballot: Ballot) -> Sheet:
    """A ballot with both answers, and no word about who gave them until the vote is cast."""
    entry = comparison.inputs[ballot.left.input]
    cells = rolebook().comparisons.cells(comparison, inputs=[ballot.left.input])
    left, right = (_turns(cells, key) for key in (ballot.left, ballot.right))
    exchanges = (
        Exchange(text, (_answer(left, number), _answer(right, number)))
        for number, text in enumerate(entry.turns)
    )
    names = _names(comparison, ballot) if ballot.outcome else None
    return Sheet(ballot, entry, turns_before(entry), tuple(exchanges), names)


def _turns(cells: Sequence[Cell], key: CellKey) -> Sequence[Turn]:
    return next((cell.turns for cell in cells if cell.key == key), ())


def _answer(turns: Sequence[Turn], number: int) -> Answer:
    if number >= len(turns):
        return Answer("", "", "")
    choice = turns[number].choice
    return Answer(choice.text, choice.refusal, language_of(choice.text), choice.tool_calls)


def count_votes(comparison: Comparison, ballots: Sequence[Ballot], pairing: Pairing) -> Count:
    """How many votes there are, and about how many more it takes.

    Arguments:
        pairing: of the comparison; variants that nobody can vote on are missing in nothing.
    """
    votes = votes_of(comparison, ballots)
    if not votes:
        return Count(0)
    found = preference(votes)
    votable = {comparison.variants[number].name for number in pairing.variants}
    is_whole = found.is_connected and votable <= set(found.variants)
    unclear = [verdict for verdict in found.verdicts if not verdict.is_clear]
    told = [verdict.votes_needed for verdict in unclear if verdict.votes_needed]
    if not is_whole:
        return Count(found.votes, more=min(told, default=0), is_partial=True)
    is_partial = len(told) < len(unclear)
    return Count(
        found.votes,
        more=min(told, default=0) if is_partial else max(told, default=0),
        is_partial=is_partial,
        inputs_needed=max((verdict.inputs_needed for verdict in unclear), default=0),
        is_narrow=any(verdict.is_narrow for verdict in unclear),
        is_clear=not unclear,
        are_alike=bool(unclear) and all(map(look_alike, unclear)),
    )
