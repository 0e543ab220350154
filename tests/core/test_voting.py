"""Which two answers are laid before somebody next, and what the ballots say as votes."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from rolebook.core.comparison import Ballot, Cell, CellKey, Comparison, ComparisonInput
from rolebook.core.interval import Interval
from rolebook.core.preference import Outcome, Verdict, Vote
from rolebook.core.session import TurnStatus, new_id
from rolebook.core.voting import (
    Pair,
    Pairing,
    input_label,
    look_alike,
    vote_rows,
    votes_of,
)
from tests.core.grids import ballot, cell, filled, grid, saying


def vote_all(
    comparison: Comparison, cells: list[Cell], *, seed: int = 1, rounds: int = 1, limit: int = 1000
) -> list[Ballot]:
    """Vote on every pair that comes, until none does."""
    source, pairing = Random(seed), Pairing(cells, comparison.same_inputs())
    ballots: list[Ballot] = []
    while len(ballots) < limit:
        pair = pairing.next_pair(ballots, source, rounds=rounds)
        if pair is None:
            return ballots
        outcome = source.choice(list(Outcome))
        ballots.append(Ballot(new_id(), comparison.id, *pair, outcome))
    return ballots


def places(ballots: list[Ballot]) -> list[Pair]:
    """Pairs of cells, whichever side they were on."""
    return [(min(b.left, b.right), max(b.left, b.right)) for b in ballots]


def test_every_pair_of_cells_comes_once() -> None:
    comparison = grid(variants=3, inputs=4, repeats=2)
    ballots = vote_all(comparison, filled(comparison))
    assert 3 * 4 * 2 * 2 == len(ballots) == len(set(places(ballots)))
    assert all(b.left.input == b.right.input for b in ballots)
    assert all(b.left.variant != b.right.variant for b in ballots)


def test_another_round_brings_them_once_more() -> None:
    comparison = grid(variants=2, inputs=3)
    ballots = vote_all(comparison, filled(comparison), rounds=2)
    assert {2} == set(Counter(places(ballots)).values())
    assert set(places(ballots[:3])) == set(places(ballots[3:]))


def test_many_rounds_are_no_more_work_than_one() -> None:
    comparison = grid(variants=4, inputs=250)
    cells = [
        cell(f"{variant}-{number}-1", "Same.")
        for variant in (1, 2, 3, 4)
        for number in range(1, 251)
    ]
    pairing = Pairing(cells, comparison.same_inputs())
    begun = time.process_time()
    assert pairing.next_pair([], Random(1), rounds=999) is None
    assert time.process_time() - begun < 2


def test_variants_and_inputs_with_the_fewest_votes_come_first() -> None:
    comparison = grid(variants=4, inputs=5, repeats=2)
    ballots = vote_all(comparison, filled(comparison), limit=30)
    met = Counter(frozenset((b.left.variant, b.right.variant)) for b in ballots)
    assert {5} == set(met.values())
    assert 6 == len(met)
    inputs = Counter((frozenset((b.left.variant, b.right.variant)), b.left.input) for b in ballots)
    assert {1} == set(inputs.values())


def test_inputs_that_say_the_same_share_their_votes() -> None:
    """Votes on other words tell more, so these come before a second one on the same."""
    comparison = saying(grid(variants=2, inputs=4), "a", "a", "a", "b")
    ballots = vote_all(comparison, filled(comparison), limit=2)
    assert {True, False} == {ballot.left.input == 3 for ballot in ballots}
    votes = votes_of(comparison, vote_all(comparison, filled(comparison)))
    assert {"1. a": 3, "4. b": 1} == Counter(vote.input for vote in votes)


def test_sides_are_random_and_a_seed_repeats_them() -> None:
    comparison = grid(variants=2, inputs=200)
    cells = filled(comparison)
    ballots = vote_all(comparison, cells)
    assert 70 < sum(b.left.variant == 0 for b in ballots) < 130
    again = vote_all(comparison, cells)
    assert [(b.left, b.right) for b in ballots] == [(b.left, b.right) for b in again]


def test_only_complete_cells_take_part() -> None:
    comparison = grid(variants=2, inputs=3)
    cells = [
        cell("1-1-1", "One."),
        cell("2-1-1", "Two."),
        cell("1-2-1", "One."),
        cell("2-2-1", "Cut", status=TurnStatus.CANCELLED),
        replace(cell("1-3-1", "First of two."), length=2),
        cell("2-3-1", "One.", "Two."),
    ]
    assert 1 == Pairing(cells, comparison.same_inputs()).different
    assert [(CellKey(0, 0, 0), CellKey(1, 0, 0))] == places(vote_all(comparison, cells))


def test_answers_that_are_word_for_word_the_same_are_left_out_and_counted() -> None:
    comparison = grid(variants=2, inputs=2, repeats=2)
    cells = [
        cell("1-1-1", "Same."),
        cell("1-1-2", "Other."),
        cell("2-1-1", " Same.\n"),
        cell("2-1-2", "Same."),
        cell("1-2-1", "Yes.", "No."),
        cell("2-2-1", "Yes.", "Never."),
    ]
    pairing = Pairing(cells, comparison.same_inputs())
    assert (2, 3) == (pairing.alike, pairing.different)
    assert 3 == len(vote_all(comparison, cells))


def test_what_is_skipped_does_not_come_again_in_this_round() -> None:
    comparison = grid(variants=2, inputs=2)
    pairing = Pairing(filled(comparison), comparison.same_inputs())
    ballots = [ballot(comparison, "2-1-1", "1-1-1", "skip")]
    pair = pairing.next_pair(ballots, Random(1))
    assert pair is not None
    assert 1 == pair[0].input
    ballots.append(Ballot(new_id(), comparison.id, *pair, Outcome.TIE))
    assert pairing.next_pair(ballots, Random(1)) is None
    assert pairing.next_pair(ballots, Random(1), rounds=2) is not None


def test_what_lies_before_somebody_else_waits_but_is_not_lost() -> None:
    comparison = grid(variants=2, inputs=2)
    pairing = Pairing(filled(comparison), comparison.same_inputs())
    ballots = [ballot(comparison, "1-1-1", "2-1-1")]
    for seed in range(20):
        pair = pairing.next_pair(ballots, Random(seed))
        assert pair is not None
        assert 1 == pair[0].input
    ballots.append(ballot(comparison, "1-2-1", "2-2-1", "left"))
    left_over = pairing.next_pair(ballots, Random(1))
    assert left_over is not None
    assert 0 == left_over[0].input


@pytest.mark.parametrize("cells", [[], ["1-1-1"], ["1-1-1", "1-1-2"], ["1-1-1", "2-2-1"]])
def test_without_two_answers_to_one_input_there_is_nothing_to_vote_on(cells: list[str]) -> None:
    pairing = Pairing((cell(key, f"Answer {key}") for key in cells), grid().same_inputs())
    assert (0, 0) == (pairing.alike, pairing.different)
    assert pairing.next_pair([], Random(1)) is None


def test_votes_name_variants_inputs_and_tags() -> None:
    inputs = (ComparisonInput(("Why?",), tags=("easy", "sky")), ComparisonInput(("How?",)))
    comparison = replace(grid(), inputs=inputs)
    ballots = [
        ballot(comparison, "2-1-1", "1-1-1", "left"),
        ballot(comparison, "1-2-1", "2-2-1", "both_bad"),
        ballot(comparison, "1-2-1", "2-2-1", "skip"),
        ballot(comparison, "1-2-1", "2-2-1"),
    ]
    assert [
        Vote("B", "A", Outcome.LEFT, "1. Why?", ("easy", "sky")),
        Vote("A", "B", Outcome.BOTH_BAD, "2. How?", ()),
    ] == votes_of(comparison, ballots)


def test_an_input_goes_by_its_number_and_its_name_in_one_short_line() -> None:
    inputs = (ComparisonInput(("Why\nis it?",), name="Sky"), ComparisonInput(("Why\n  " * 60,)))
    comparison = replace(grid(), inputs=inputs)
    assert "1. Sky" == input_label(comparison, 0)
    label = input_label(comparison, 1)
    assert label.startswith("2. Why Why Why")
    assert label.endswith("…")
    assert 83 == len(label)


def test_rows_of_an_export_say_who_was_preferred() -> None:
    comparison = grid(variants=2, inputs=2, repeats=3)
    ballots = [
        ballot(comparison, "2-1-3", "1-1-1", "right"),
        ballot(comparison, "1-2-1", "2-2-1", "tie"),
        ballot(comparison, "1-2-1", "2-2-2"),
    ]
    first, second = vote_rows(comparison, ballots)
    assert {
        "id": ballots[0].id,
        "voted_at": "",
        "input": 1,
        "text": "Question 1",
        "left": "B",
        "left_repeat": 3,
        "right": "A",
        "right_repeat": 1,
        "outcome": "right",
        "preferred": "A",
    } == first
    assert ("tie", "") == (second["outcome"], second["preferred"])


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Interval(0.5, 0.44, 0.56, 200, "votes"), True),
        (Interval(0.5, 0.09, 0.91, 2, "votes"), False),
        (Interval(0.56, 0.42, 0.66, 60, "votes"), False),
        (Interval(0.58, 0.52, 0.64, 300, "votes"), False),
    ],
)
def test_only_who_has_many_even_votes_looks_alike(share: Interval, expected: bool) -> None:
    verdict = Verdict("A", "B", share, inputs=20, is_clear=False, votes_needed=None)
    assert expected is look_alike(verdict)
