"""Blind votes by the API: two answers are drawn, judged without names, and counted."""

from __future__ import annotations

from typing import Literal, cast

from pydantic import Field

from rolebook.core.comparison import Ballot, Comparison
from rolebook.core.preference import Outcome
from rolebook.core.voting import vote_rows, votes_of
from rolebook.report.export import preference_data
from rolebook.web import votes
from rolebook.web.api.comparison_shapes import CountedVote, Preferred
from rolebook.web.api.comparisons import find_comparison
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.shapes import Shape
from rolebook.web.current import rolebook

section = Section("Votes", "Two answers whose names are hidden, and what somebody says of them.")


class BlindAnswer(Shape):
    """One of the two answers."""

    text: str
    refusal: str


class BlindExchange(Shape):
    """What was said, and both answers to it."""

    input: str
    left: BlindAnswer
    right: BlindAnswer


class Before(Shape):
    """An earlier turn."""

    input: str
    text: str


class BallotNames(Shape):
    """Who gave the two answers."""

    left: str
    right: str


class Sheet(Shape):
    """Two answers laid before somebody."""

    id: str
    comparison_id: str
    input: int
    """The number of the input, counted from 1."""
    before: list[Before] | None
    """What was said before; null if that is gone."""
    exchanges: list[BlindExchange]
    outcome: Literal["left", "right", "tie", "both_bad"] | None
    is_skipped: bool
    variants: BallotNames | None
    """The names of the variants, once the vote is cast."""


class Drawn(Shape):
    """The next two answers; null if none are left."""

    ballot: Sheet | None


class Drawing(Body):
    """How often to go round."""

    rounds: int = Field(1, ge=1, le=100)
    """How often each pair of answers may be voted on."""


@section.post("/comparisons/<comparison_id>/ballots", refusals=(404,))
def draw_ballot(comparison_id: str, body: Drawing) -> Drawn:
    """Draw two answers to be judged, on random sides and without names."""
    comparison = find_comparison(comparison_id)
    ballot = votes.draw_ballot(comparison, rounds=body.rounds)
    return {"ballot": _sheet(comparison, ballot) if ballot else None}


def _sheet(comparison: Comparison, ballot: Ballot) -> Sheet:
    sheet = votes.sheet_of(comparison, ballot)
    return {
        "id": ballot.id,
        "comparison_id": comparison.id,
        "input": ballot.left.input + 1,
        "before": None
        if sheet.before is None
        else [{"input": turn.input, "text": turn.text} for turn in sheet.before],
        "exchanges": [
            {"input": exchange.input, "left": _answer(left), "right": _answer(right)}
            for exchange in sheet.exchanges
            for left, right in [exchange.answers]
        ],
        "outcome": cast(
            Literal["left", "right", "tie", "both_bad"],
            ballot.outcome.value if ballot.outcome else None,
        ),
        "is_skipped": ballot.is_skipped,
        "variants": {"left": sheet.names[0], "right": sheet.names[1]} if sheet.names else None,
    }


def _answer(answer: votes.Answer) -> BlindAnswer:
    return {"text": answer.text, "refusal": answer.refusal}


@section.get("/comparisons/<comparison_id>/ballots/<ballot_id>", refusals=(404,))
def show_ballot(comparison_id: str, ballot_id: str) -> Sheet:
    """Show a ballot: the same two answers on the same sides, however often one looks."""
    comparison = find_comparison(comparison_id)
    return _sheet(comparison, votes.ballot_of(comparison, ballot_id))


class Voting(Body):
    """What is said of the two answers."""

    vote: Literal["left", "right", "tie", "both_bad", "skip", "withdraw"]
    """Which one is better. `skip` passes them over; `withdraw` takes a vote back, and nobody votes on them again."""


@section.post("/comparisons/<comparison_id>/ballots/<ballot_id>/vote", refusals=(404, 409))
def cast_vote(comparison_id: str, ballot_id: str, body: Voting) -> Sheet:
    """Vote. The answer names the variants."""
    log = rolebook().comparisons
    comparison = find_comparison(comparison_id)
    ballot = votes.ballot_of(comparison, ballot_id)
    if body.vote == "withdraw":
        log.withdraw_vote(ballot.id)
    elif body.vote == "skip":
        log.cast_ballot(ballot.id, None, is_skipped=True)
    else:
        log.cast_ballot(ballot.id, Outcome(body.vote))
    return _sheet(comparison, votes.ballot_of(comparison, ballot_id))


class VoteCount(Shape):
    """All votes, and what they say."""

    votes: list[CountedVote]
    preference: Preferred
    more: int
    """About how many more votes it takes until it is clear who is best; 0 if that cannot be told of all variants."""
    inputs_needed: int
    """On how many further inputs there have to be votes before they tell of any but these."""
    is_clear: bool
    are_alike: bool
    """Whether no number of votes would tell them apart."""


@section.get("/comparisons/<comparison_id>/votes", refusals=(404,))
def count_votes(comparison_id: str) -> VoteCount:
    """Count the votes: who is preferred, and how sure that is."""
    comparison = find_comparison(comparison_id)
    ballots = rolebook().comparisons.ballots(comparison.id)
    count = votes.count_votes(comparison, ballots, votes.pairing_of(comparison))
    found = preference_data(votes_of(comparison, ballots))
    return {
        "votes": cast(list[CountedVote], vote_rows(comparison, ballots)),
        "preference": cast(Preferred, found),
        "more": 0 if count.is_partial else count.more,
        "inputs_needed": count.inputs_needed,
        "is_clear": count.is_clear,
        "are_alike": count.are_alike,
    }
