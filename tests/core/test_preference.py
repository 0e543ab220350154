"""What blind votes say, held against choix's Bradley-Terry and against simulated votes whose truth is known."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, pairwise

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats  # type: ignore[import-untyped]
from scipy.special import expit, logit  # type: ignore[import-untyped]

from rolebook.core.interval import Interval
from rolebook.core.preference import (
    Outcome,
    PairRecord,
    Preference,
    Vote,
    preference,
    preference_by,
    side_bias,
)

LEFT, RIGHT, TIE, BOTH_BAD = Outcome
MIRROR = {LEFT: RIGHT, RIGHT: LEFT, TIE: TIE, BOTH_BAD: BOTH_BAD}
NAMES = "ABCDEF"
# Every example is thousands of fits.
FEW_EXAMPLES = settings(max_examples=25, deadline=None)

PAIRS = st.sampled_from([(a, b) for a in "ABCD" for b in "ABCD" if a != b])
VOTES = st.lists(
    st.builds(
        lambda pair, outcome, on: Vote(pair[0], pair[1], outcome, on),
        PAIRS,
        st.sampled_from(Outcome),
        st.sampled_from(["", "", "x", "y", "z"]),
    ),
    max_size=20,
)


def between(a: str, b: str, wins: int, losses: int, ties: int = 0, both_bad: int = 0) -> list[Vote]:
    counts = {LEFT: wins, RIGHT: losses, TIE: ties, BOTH_BAD: both_bad}
    return [Vote(a, b, outcome) for outcome, count in counts.items() for _ in range(count)]


def drawn(votes: int, variants: int, source: random.Random) -> Iterator[Vote]:
    """Votes between variants that are the weaker the later they come, one in eight of them a tie."""
    for _ in range(votes):
        a, b = source.sample(range(variants), 2)
        is_won = source.random() < (b + 1) / (a + b + 2)
        outcome = TIE if source.random() < 1 / 8 else LEFT if is_won else RIGHT
        yield Vote(NAMES[a], NAMES[b], outcome)


def games(votes: Iterable[Vote], *, times: int) -> list[tuple[int, int]]:
    """Pairs of winner and loser for choix, each vote ``times`` two of them: a tie is one each way."""
    pairs = []
    for vote in votes:
        left, right = NAMES.index(vote.left), NAMES.index(vote.right)
        wins = {LEFT: 2, RIGHT: 0, TIE: 1, BOTH_BAD: 1}[vote.outcome] * times
        pairs += [(left, right)] * wins + [(right, left)] * (2 * times - wins)
    return pairs


def against_average(log_strengths: Iterable[float]) -> list[float]:
    strengths = np.exp(np.array(list(log_strengths)))
    shares = strengths[:, None] / (strengths[:, None] + strengths)
    return list((shares.sum(axis=1) - 0.5) / (len(strengths) - 1))


def strengths(result: Preference) -> list[float]:
    return [result.strength[name].value for name in sorted(result.variants)]


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def lasting(share: float, n: float, among: int = 1) -> tuple[float, float]:
    """The ends of Robbins' interval: where what was seen has a chance of 5 % through n + 1, by scipy."""

    def excess(p: float) -> float:
        chance = stats.beta(share * n + 1, (1 - share) * n + 1).logpdf(p)
        return float(chance) - math.log(0.05 / among)

    def end(outside: float) -> float:
        return share if share == outside else float(optimize.brentq(excess, outside, share))

    return end(1e-12) if share else 0.0, end(1 - 1e-12) if share < 1 else 1.0


def widened(value: float, low: float, high: float, among: int = 1) -> tuple[float, float]:
    """An interval for one look made to last: a normal mean's, under a prior as wide as a uniform one on a share."""

    def moved(end: float) -> float:
        error = (logit(end) - logit(value)) / stats.norm.ppf(0.975)
        # In units of the prior: each vote tells value · (1 - value) of the log odds, the prior three times that.
        information = 1 / (value * (1 - value)) / error**2 / 3
        spread = math.log(1 + information) + 2 * math.log(among / 0.05)
        return float(expit(logit(value) + error * math.sqrt((1 + 1 / information) * spread)))

    return moved(low), moved(high)


def share(result: Preference, a: str, b: str) -> Interval:
    interval = result.win_matrix[a][b].share
    assert interval is not None
    return interval


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("variants", [2, 3, 5])
def test_strengths_are_choixs_with_one_tie_for_each_variant(seed, variants):
    votes = list(drawn(25 * variants, variants, random.Random(seed)))
    opponents = variants - 1
    prior = [pair for a, b in combinations(range(variants), 2) for pair in ((a, b), (b, a))]
    expected = choix.mm_pairwise(variants, games(votes, times=opponents) + prior)
    assert strengths(preference(votes)) == pytest.approx(against_average(expected), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_strengths_are_within_a_hundredth_of_choixs_plain_ones(seed):
    votes = list(drawn(300, 4, random.Random(seed)))
    plain = choix.ilsr_pairwise(4, games(votes, times=1))
    regularised = choix.mm_pairwise(4, games(votes, times=1), alpha=0.01)
    assert strengths(preference(votes)) == pytest.approx(against_average(plain), abs=0.01)
    assert strengths(preference(votes)) == pytest.approx(against_average(regularised), abs=0.01)


def test_the_strength_of_one_of_two_has_jeffreys_prior_and_interval():
    result = preference(between("A", "B", 30, 14))
    assert result.strength["A"].value == pytest.approx(30.5 / 45)
    expected = widened(30.5 / 45, *stats.beta(30.5, 14.5).ppf([0.025, 0.975]))
    assert ends(result.strength["A"]) == pytest.approx(expected, abs=0.015)
    assert result.strength["A"].n == 44


def test_along_a_chain_of_pairs_each_pair_speaks_for_itself():
    votes = between("A", "B", 30, 14) + between("B", "C", 25, 20) + between("C", "D", 9, 7)
    first, *_ = preference(votes).verdicts
    assert (first.better, first.worse) == ("A", "B")
    expected = stats.beta(30.5, 14.5)
    assert first.share.value == pytest.approx(expected.mean(), abs=1e-5)
    # Of four variants six pairs are to hold together.
    wider = widened(expected.mean(), *expected.ppf([0.025, 0.975]), among=6)
    assert ends(first.share) == pytest.approx(wider, abs=0.02)


def test_an_undefeated_variant_stays_finite_and_unsure():
    low, high = ends(preference(between("A", "B", 10, 0)).strength["A"])
    expected = widened(10.5 / 11, *stats.beta(10.5, 0.5).ppf([0.025, 0.975]))
    assert (low, high) == pytest.approx(expected, abs=0.03)
    assert preference(between("A", "B", 10, 0)).strength["A"].value == pytest.approx(10.5 / 11)


def test_a_pair_is_counted_from_both_sides():
    votes = [*between("A", "B", 3, 1, 2, 1), *between("B", "A", 2, 4)]
    matrix = preference(votes).win_matrix
    record = matrix["A"]["B"]
    assert record == PairRecord(wins=7, losses=3, ties=2, both_bad=1, share=record.share)
    assert ends(record.share) == pytest.approx(lasting(8.5 / 13, 13))
    assert matrix["A"]["B"].votes == 13
    mirrored = matrix["B"]["A"]
    assert (mirrored.wins, mirrored.losses, mirrored.ties, mirrored.both_bad) == (3, 7, 2, 1)
    assert mirrored.share is not None
    assert mirrored.share.value == pytest.approx(4.5 / 13)


def test_both_bad_is_half_a_win_each_and_reported():
    bad, tied = preference(between("A", "B", 5, 2, 0, 4)), preference(between("A", "B", 5, 2, 4))
    assert strengths(bad) == strengths(tied)
    assert (bad.both_bad, tied.both_bad) == (4, 0)
    assert share(bad, "A", "B") == share(tied, "A", "B")


@FEW_EXAMPLES
@given(VOTES, st.randoms(use_true_random=False))
def test_neither_sides_nor_order_matter(votes, source):
    changed = [
        replace(vote, left=vote.right, right=vote.left, outcome=MIRROR[vote.outcome])
        for vote in votes
    ]
    source.shuffle(changed)
    assert preference(changed) == preference(votes)


@FEW_EXAMPLES
@given(VOTES)
def test_turning_every_vote_round_mirrors_the_strengths(votes):
    turned = preference(replace(vote, outcome=MIRROR[vote.outcome]) for vote in votes)
    result = preference(votes)
    if all(len(component) == 2 for component in result.components):
        mirrored = [1 - value for value in strengths(turned)]
        assert strengths(result) == pytest.approx(mirrored, abs=1e-6)
    assert set(turned.variants) == set(result.variants)
    for a, b in combinations(sorted(result.variants), 2):
        was, now = result.win_matrix[a][b], turned.win_matrix[a][b]
        assert (was.wins, was.losses) == (now.losses, now.wins)
        if was.share and now.share:
            assert was.share.value == pytest.approx(1 - now.share.value)
            low, high = ends(now.share)
            assert ends(was.share) == pytest.approx((1 - high, 1 - low))


@FEW_EXAMPLES
@given(VOTES)
def test_every_interval_holds_its_value_and_lies_between_none_and_all(votes):
    result = preference(votes)
    shares = [record.share for row in result.win_matrix.values() for record in row.values()]
    for interval in [*result.strength.values(), *filter(None, shares)]:
        low, high = ends(interval)
        assert 0 <= low <= interval.value <= high <= 1
    assert math.fsum(strengths(result)) == pytest.approx(len(result.variants) / 2, abs=1e-6)


def test_only_ties_are_one_half():
    result = preference(
        between("A", "B", 0, 0, 7) + between("B", "C", 0, 0, 0, 5) + between("A", "C", 0, 0, 4)
    )
    assert strengths(result) == pytest.approx([0.5, 0.5, 0.5])
    assert [verdict.is_clear for verdict in result.verdicts] == [False, False]


def test_no_votes_say_nothing():
    assert preference([]) == Preference((), 0, 0, 0, {}, {}, (), ())
    assert preference([]).best is None
    assert preference([]).is_connected


def test_a_variant_beside_itself_is_no_vote():
    with pytest.raises(ValueError, match="'A' and itself"):
        Vote("A", "A", TIE)


def test_of_two_variants_the_better_one_is_named_with_its_share():
    result = preference(between("Socratic", "Teacher", 33, 11))
    (verdict,) = result.verdicts
    assert (verdict.better, verdict.worse) == ("Socratic", "Teacher")
    assert (verdict.share.value, verdict.share.n) == (33 / 44, 44)
    assert ends(verdict.share) == pytest.approx(lasting(33 / 44, 44))
    assert (verdict.is_clear, verdict.votes_needed) == (True, 0)
    assert result.best == "Socratic"
    assert result.variants == ("Socratic", "Teacher")


@pytest.mark.parametrize(
    ("wins", "losses", "is_clear", "votes_needed"),
    [
        (1, 0, False, None),
        (7, 0, False, None),
        (8, 0, True, 0),
        (6, 3, False, None),
        (7, 3, False, 50),
        (15, 10, False, 254),
        (30, 14, False, 30),
        (52, 48, False, None),
        (560, 440, True, 0),
        (10, 10, False, None),
    ],
)
def test_a_verdict_says_about_how_many_more_votes_it_needs(wins, losses, is_clear, votes_needed):
    (verdict,) = preference(between("A", "B", wins, losses)).verdicts
    assert (verdict.is_clear, verdict.votes_needed) == (is_clear, votes_needed)


@pytest.mark.parametrize(("wins", "losses"), [(15, 10), (33, 25), (60, 45), (9, 4)])
def test_so_many_more_votes_at_the_same_share_are_about_enough(wins, losses):
    votes = wins + losses
    (verdict,) = preference(between("A", "B", wins, losses)).verdicts
    assert verdict.votes_needed
    factor = 1 + verdict.votes_needed / votes

    def is_clear(by: float) -> bool:
        more = between("A", "B", round(wins * by), round(losses * by))
        return preference(more).verdicts[0].is_clear

    assert is_clear(factor * 1.2)
    assert not is_clear(factor * 0.8)


def test_of_three_variants_the_best_is_held_against_each_other_by_all_votes():
    votes = between("A", "B", 60, 20) + between("B", "C", 60, 20) + between("A", "C", 12, 6)
    result = preference(votes)
    assert result.variants == ("A", "B", "C")
    assert [(verdict.better, verdict.worse) for verdict in result.verdicts] == [
        ("A", "B"),
        ("A", "C"),
    ]
    over_b, over_c = result.verdicts
    assert over_b.is_clear
    assert over_c.is_clear
    # The direct votes alone would not show it: 12 of 18, while B lies between the two.
    assert not share(result, "A", "C").excludes(0.5)
    assert over_c.share.value > over_b.share.value > 0.6
    assert over_c.share.n == len(votes)


def test_votes_that_all_agree_make_the_best_of_three_clearer_the_more_they_are():
    rounds = {
        n: preference(between("A", "B", n, 0) + between("A", "C", n, 0) + between("B", "C", n, 0))
        for n in (4, 8, 16, 32)
    }
    for worse in range(2):
        lows = [ends(result.verdicts[worse].share)[0] for result in rounds.values()]
        assert lows == sorted(lows)
    assert all(verdict.is_clear for verdict in rounds[16].verdicts)
    # C, which B is preferred to as well, is further off than B.
    for result in rounds.values():
        over_b, over_c = (ends(verdict.share)[0] for verdict in result.verdicts)
        assert over_c > over_b


def test_that_another_beats_it_too_never_lowers_how_much_the_best_is_preferred_to_a_variant():
    """Within a tenth, by which resamples differ where nobody has lost: they are drawn anew for every set of votes."""
    agreed = between("A", "B", 16, 0) + between("A", "C", 16, 0)
    lows = [
        ends(preference(agreed + between("B", "C", n, 0)).verdicts[1].share)[0]
        for n in (0, 1, 2, 4, 8, 16, 32)
    ]
    assert all(later > earlier - 0.1 for earlier, later in pairwise(lows))
    assert lows[-1] > lows[0] + 0.05


def test_variants_that_never_met_are_compared_by_way_of_others():
    result = preference(between("A", "B", 40, 10) + between("B", "C", 40, 10))
    assert result.win_matrix["A"]["C"] == PairRecord(0, 0, 0, 0, None)
    assert result.verdicts[1].worse == "C"
    # Odds multiply: four to one, twice; a little less with the prior.
    assert result.verdicts[1].share.value == pytest.approx(16 / 17, abs=0.01)
    assert result.is_connected


def test_few_votes_of_many_variants_decide_nothing():
    result = preference(between("A", "B", 2, 0) + between("A", "C", 2, 0) + between("B", "C", 1, 0))
    assert [verdict.is_clear for verdict in result.verdicts] == [False, False]
    assert [verdict.votes_needed for verdict in result.verdicts] == [None, None]
    more = preference(between("A", "B", 5, 2) + between("A", "C", 5, 1) + between("B", "C", 1, 1))
    assert all(verdict.votes_needed for verdict in more.verdicts)


def test_what_no_votes_connect_is_not_ranked_together():
    result = preference(
        between("C", "D", 1, 20) + between("A", "B", 3, 2) + between("B", "E", 4, 4)
    )
    assert not result.is_connected
    assert result.best is None
    assert result.components == (("A", "B", "E"), ("D", "C"))
    assert result.variants == ("A", "B", "E", "D", "C")
    assert {(verdict.better, verdict.worse) for verdict in result.verdicts} == {
        ("A", "B"),
        ("A", "E"),
        ("D", "C"),
    }
    assert result.strength["D"].value == pytest.approx(20.5 / 22)


def test_a_chain_of_votes_connects_whatever_their_order():
    links = [*between("C", "D", 1, 0), *between("A", "B", 1, 0), *between("D", "A", 1, 0)]
    assert preference(links).is_connected
    assert len(preference(links).components) == 1


def test_votes_on_one_input_that_agree_count_little():
    alone = [Vote("A", "B", LEFT if n % 5 else RIGHT) for n in range(40)]
    spread = [replace(vote, input=f"input {n}") for n, vote in enumerate(alone)]
    agreeing = [replace(vote, input=f"input {n % 10}") for n, vote in enumerate(alone)]
    single = [replace(vote, input="the only one") for vote in alone]
    assert share(preference(spread), "A", "B") == share(preference(alone), "A", "B")
    assert share(preference(single), "A", "B") == share(preference(alone), "A", "B")
    # Two of ten inputs always lost: ten observations, not forty.
    assert ends(share(preference(agreeing), "A", "B")) == pytest.approx(lasting(0.8, 10))
    assert share(preference(agreeing), "A", "B").n == 40
    assert [preference(votes).inputs for votes in (alone, spread, agreeing, single)] == [
        0,
        40,
        10,
        1,
    ]


def test_votes_on_inputs_that_all_agree_count_as_inputs():
    votes = [Vote("A", "B", LEFT, f"input {n % 5}") for n in range(40)]
    result = preference(votes)
    assert ends(share(result, "A", "B")) == pytest.approx(lasting(1.0, 5))
    assert not result.verdicts[0].is_clear
    # It takes eight that say the same.
    assert result.verdicts[0].votes_needed == 24


@pytest.mark.parametrize(
    ("inputs", "is_clear", "inputs_needed", "votes_needed"),
    [(1, False, 7, 14), (2, False, 6, 6), (7, False, 1, 1), (8, True, 0, 0)],
)
def test_many_votes_on_few_inputs_tell_nothing_of_others(
    inputs, is_clear, inputs_needed, votes_needed
):
    votes = [
        Vote("A", "B", LEFT if n < 8 * inputs else RIGHT, f"input {n % inputs}")
        for n in range(10 * inputs)
    ]
    (verdict,) = preference(votes).verdicts
    assert verdict.share.excludes(0.5) or inputs < 3
    assert (verdict.inputs, verdict.is_clear) == (inputs, is_clear)
    assert (verdict.inputs_needed, verdict.votes_needed) == (inputs_needed, votes_needed)


def test_votes_between_several_variants_are_on_as_many_inputs_as_all_of_them_name():
    votes = [
        Vote(a, b, LEFT, f"input {n % 3 + start}")
        for a, b, start in [("A", "B", 0), ("B", "C", 2)]
        for n in range(12)
    ]
    votes += [Vote("D", "E", LEFT, "another")]
    first, *_, last = preference(votes).verdicts
    assert (first.inputs, first.inputs_needed, first.is_clear) == (5, 3, False)
    assert (last.better, last.inputs) == ("D", 1)


def test_the_effective_number_of_votes_is_korns_and_graubards():
    won = [9, 5, 8, 6, 10, 3, 7, 7]
    votes = [
        Vote("A", "B", LEFT if n < wins else RIGHT, f"input {index}")
        for index, wins in enumerate(won)
        for n in range(10)
    ]
    interval = share(preference(votes), "A", "B")
    means = np.array(won) / 10
    # For groups of one size the variance of the share is that of the mean of their shares.
    ratio = stats.norm.ppf(0.975) / stats.t.ppf(0.975, 7)
    effective = means.mean() * (1 - means.mean()) / (means.var(ddof=1) / 8) * ratio**2
    assert 8 < effective < 80
    assert ends(interval) == pytest.approx(lasting(means.mean(), effective))


def test_strengths_are_less_sure_where_votes_on_one_input_agree():
    alone = preference(between("A", "B", 28, 12))
    agreeing = preference(
        Vote("A", "B", LEFT if n % 10 < 7 else RIGHT, f"input {n % 10}") for n in range(40)
    )
    low, high = ends(alone.strength["A"])
    wider_low, wider_high = ends(agreeing.strength["A"])
    # Twice for one look, and less than twice as sure of it for all others.
    assert (wider_high - wider_low) / (high - low) == pytest.approx(1.85, abs=0.25)


def test_at_one_look_more_than_95_of_100_strength_intervals_hold_the_truth():
    source = random.Random(11)
    truth = against_average(math.log(1 / (index + 1)) for index in range(3))
    held = 0
    for _ in range(150):
        votes = [vote for vote in drawn(60, 3, source) if vote.outcome is not TIE]
        result = preference(votes)
        for name, value in zip("ABC", truth, strict=True):
            held += not result.strength[name].excludes(value)
    assert held / 450 >= 0.98


def test_at_one_look_more_than_95_of_100_intervals_hold_the_truth_where_inputs_differ():
    source = random.Random(5)
    held_share = held_strength = 0
    for _ in range(200):
        votes = []
        for index in range(12):
            # Uniform from 0.3 to 1: on some inputs nearly always A, on others more often B; 0.65 in the mean.
            chance = source.uniform(0.3, 1)
            votes += [
                Vote("A", "B", LEFT if source.random() < chance else RIGHT, f"input {index}")
                for _ in range(6)
            ]
        result = preference(votes)
        held_share += not share(result, "A", "B").excludes(0.65)
        held_strength += not result.strength["A"].excludes(0.65)
    assert held_share / 200 >= 0.98
    assert held_strength / 200 >= 0.98


def test_the_same_votes_give_the_same_figures_and_others_do_not():
    votes = list(drawn(80, 4, random.Random(1)))
    assert preference(votes) == preference(iter(votes))
    assert preference(votes) != preference(votes[1:])


def test_two_thousand_votes_on_six_variants_are_weighed_at_once():
    votes = [
        replace(vote, input=f"input {n % 300}")
        for n, vote in enumerate(drawn(2000, 6, random.Random(2)))
    ]
    started = time.process_time()
    result = preference(votes)
    assert time.process_time() - started < 1
    assert result.variants[0] == "A"


def test_preference_by_input_and_by_tag_holds_the_votes_that_name_one():
    votes = [
        Vote("A", "B", LEFT, "sky", ("physics", "short")),
        Vote("A", "B", RIGHT, "sky", ("physics",)),
        Vote("A", "C", LEFT, "primes"),
        Vote("B", "C", TIE),
    ]
    by_input = preference_by(votes, "input")
    assert list(by_input) == ["primes", "sky"]
    assert by_input["sky"] == preference(votes[:2], among=2)
    assert by_input["primes"] == preference(votes[2:3], among=2)
    by_tag = preference_by(votes, "tag")
    assert list(by_tag) == ["physics", "short"]
    assert by_tag["physics"] == preference(votes[:2], among=2)
    assert by_tag["short"] == preference(votes[:1], among=2)
    assert preference_by([], "tag") == {}
    # What is just clear alone is not, where it has been picked from several.
    won = [Vote("A", "B", LEFT, f"input {n}", ("picked",)) for n in range(9)]
    (alone,) = preference_by(won, "tag")["picked"].verdicts
    assert alone.is_clear
    others = [replace(vote, tags=(f"tag {n}",)) for n in range(20) for vote in won]
    (picked,) = preference_by([*won, *others], "tag")["picked"].verdicts
    assert not picked.is_clear


@pytest.mark.parametrize(
    ("left", "right", "is_suspicious"),
    [(33, 11, True), (11, 33, True), (30, 14, False), (7, 0, False), (0, 8, True), (0, 0, False)],
)
def test_a_side_that_wins_too_often_is_suspicious(left, right, is_suspicious):
    bias = side_bias(between("A", "B", left, right, 5, 5))
    assert (bias.left_wins, bias.right_wins) == (left, right)
    if left + right:
        assert ends(bias.interval) == pytest.approx(lasting(left / (left + right), left + right))
    assert bias.is_suspicious is is_suspicious


def test_side_bias_counts_the_side_and_not_the_variant():
    bias = side_bias([Vote("A", "B", LEFT), Vote("B", "A", LEFT), Vote("A", "B", RIGHT)])
    assert (bias.left_wins, bias.right_wins) == (2, 1)
