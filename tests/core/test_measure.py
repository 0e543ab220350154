"""What is counted in the answers of a comparison, held against the same numbers worked out by hand or by scipy."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean

import pytest
from scipy import stats  # type: ignore[import-untyped]

from rolebook.core.comparison import Cell, ComparisonInput
from rolebook.core.completion import Usage
from rolebook.core.interval import Interval, wilson
from rolebook.core.measure import CHECKS, SIMILARITY, summarise, summarise_by_tag
from rolebook.core.session import TurnError, TurnStatus
from rolebook.core.text import similarity
from tests.core.grids import cell, grid, saying, turn


def figures(interval: Interval | None) -> tuple[float, float | None, float | None]:
    assert interval is not None
    return interval.value, interval.low, interval.high


def words(count: int) -> str:
    return " ".join(["word"] * count) + "."


def test_an_interval_is_over_inputs_and_repeats_are_averaged_first() -> None:
    counts = {1: (20, 24), 2: (20, 20), 3: (27, 23)}
    cells = [
        cell(f"1-{entry}-{repeat}", words(count))
        for entry, pair in counts.items()
        for repeat, count in enumerate(pair, start=1)
    ]
    interval = summarise(grid(1, 3, 2), cells).get("words").intervals[0]
    means = [fmean(pair) for pair in counts.values()]
    low, high = stats.t.interval(0.95, 2, fmean(means), stats.sem(means))
    assert pytest.approx((67 / 3, low, high)) == figures(interval)


def test_turns_of_one_conversation_are_no_repeats() -> None:
    comparison = grid(2, 1, 2)
    cells = [
        cell("1-1-1", words(10), words(30)),
        cell("1-1-2", words(22), words(22)),
        cell("2-1-1", words(10), words(20)),
    ]
    first, second = summarise(comparison, cells).get("words").intervals
    assert first is not None
    assert second is not None
    assert (21, 2, "repeats") == (first.value, first.n, first.over)
    assert (15, None, 1) == (second.value, second.low, second.n)


def test_differences_are_to_the_first_variant_on_the_inputs_that_both_answered() -> None:
    counts = {1: (10, 12), 2: (20, 25), 3: (33, 34), 4: (90, None)}
    cells = [
        cell(f"{variant}-{entry}-1", words(count))
        for entry, pair in counts.items()
        for variant, count in enumerate(pair, start=1)
        if count
    ]
    measured = summarise(grid(3, 4), cells).get("words")
    none, difference, unanswered = measured.differences
    assert none is unanswered is None
    assert difference is not None
    deltas = [2, 5, 1]
    low, high = stats.t.interval(0.95, 2, fmean(deltas), stats.sem(deltas))
    assert pytest.approx((8 / 3, low, high)) == figures(difference)
    assert 3 == difference.n
    assert not difference.is_clear


def test_every_measure_takes_its_number_in_its_unit_from_the_turn() -> None:
    answer = cell(
        "1-1-1",
        "Why? Because 3.5 is more than 3!",
        usage=Usage(9, 12, 21),
        cost=0.25,
        time_to_first_token_ms=300.0,
        duration_ms=1500.0,
        checks={"a": True, "b": False, "c": None},
    )
    evidence = summarise(grid(1, 1), [answer])
    found = {m.name: (m.unit, m.intervals[0] and m.intervals[0].value) for m in evidence.measured}
    assert {
        "words": ("words", 7),
        "characters": ("characters", 26),
        "questions": ("questions", 1),
        "time to first token": ("s", 0.3),
        "duration": ("s", 1.5),
        "tokens": ("tokens", 12),
        "cost": ("$", 0.25),
        SIMILARITY: ("share", None),
        CHECKS: ("share", 0.5),
    } == found
    assert not evidence.get(SIMILARITY).is_known


def test_what_is_unknown_is_left_out_and_is_not_zero() -> None:
    cells = [
        cell("1-1-1", "One.", cost=0.5),
        cell("1-2-1", "Two."),
        cell("2-1-1", "One."),
        cell("2-2-1", "Two."),
    ]
    cost = summarise(grid(2, 2), cells).get("cost")
    assert cost.intervals == (Interval(0.5, None, None, 1), None)
    assert cost.differences == (None, None)
    assert cost.is_known


def test_nothing_counted_is_below_zero_and_no_share_above_one() -> None:
    texts = ["What? How? Who?", "So.", "So."]
    cells = [cell(f"1-{n}-{r}", text) for n, text in enumerate(texts, 1) for r in (1, 2)]
    cells[0] = cell("1-1-1", "What? How? When?")
    evidence = summarise(grid(1, 3, 2), cells)
    questions, alike = (evidence.get(name).intervals[0] for name in ("questions", SIMILARITY))
    assert questions is not None
    assert alike is not None
    assert (1, 0) == (questions.value, questions.low)
    assert 1 == alike.high
    assert alike.low is not None
    assert alike.low < alike.value < 1


def test_no_two_shares_are_further_apart_than_none_and_all() -> None:
    # All that the first passes fails for the second, but for one of two repeats of one input.
    cells = [
        cell(f"{v}-{n}-{r}", "Yes.", checks={"kind": v == 1 or (n, r) == (1, 1)})
        for v in (1, 2)
        for n in (1, 2, 3)
        for r in (1, 2)
    ]
    difference = summarise(grid(2, 3, 2), cells).get(CHECKS).differences[1]
    assert difference is not None
    low, high = stats.t.interval(0.95, 2, -2.5 / 3, stats.sem([-0.5, -1, -1]))
    assert low < -1
    assert pytest.approx((-2.5 / 3, -1, high)) == figures(difference)


@pytest.mark.parametrize("count", [3, 5, 6, 8])
def test_checks_passed_differ_on_no_fewer_inputs_however_many_checks_there_are(count: int) -> None:
    """One check that all pass makes a half of nothing: that is no more evidence than the other check alone."""
    for others in ({}, {"short": True}, {"short": True, "polite": True}):
        cells = [
            # For the first variant the other check fails, and for the second but once.
            cell(f"{v}-{n}-{r}", "Yes.", checks={"kind": v == 2 and (n, r) != (1, 1), **others})
            for v in (1, 2)
            for n in range(1, count + 1)
            for r in (1, 2, 3)
        ]
        difference = summarise(grid(2, count, 3), cells).get(CHECKS).differences[1]
        assert difference is not None
        assert difference.excludes(0)
        assert difference.is_clear == (count >= 6)


def test_a_few_answers_without_a_question_do_not_prove_that_none_is_ever_asked() -> None:
    source = random.Random(3)

    def holds(inputs: int) -> bool:
        said = [source.choice(["What?", *["So."] * 9]) for _ in range(inputs)]
        cells = [cell(f"1-{n}-1", text) for n, text in enumerate(said, 1)]
        interval = summarise(grid(1, inputs), cells).get("questions").intervals[0]
        assert interval is not None
        return not interval.excludes(0.1)

    for inputs in (3, 8):
        assert sum(holds(inputs) for _ in range(300)) >= 0.93 * 300


def test_answers_that_are_all_alike_bound_a_share_and_leave_a_length_open() -> None:
    cells = [cell(f"1-{n}-{r}", "So it is.") for n in range(1, 6) for r in (1, 2)]
    evidence = summarise(grid(1, 5, 2), cells)
    alike, length = (evidence.get(name).intervals[0] for name in (SIMILARITY, "words"))
    assert alike is not None
    low, high = stats.binomtest(5, 5).proportion_ci(method="wilson")
    assert pytest.approx((1, low, high)) == figures(alike)
    assert Interval(3, None, None, 5) == length


def test_differences_of_several_variants_hold_together() -> None:
    lengths = {1: (10, 12, 12), 2: (20, 25, 25), 3: (33, 34, 34), 4: (7, 8, 8)}
    cells = [
        cell(f"{variant}-{entry}-1", words(count))
        for entry, counts in lengths.items()
        for variant, count in enumerate(counts, start=1)
    ]
    two = summarise(grid(2, 4), [found for found in cells if found.key.variant < 2])
    three = summarise(grid(3, 4), cells)
    reaches = []
    for evidence in (two, three):
        difference = evidence.get("words").differences[1]
        assert difference is not None
        assert difference.high is not None
        reaches.append(difference.high - difference.value)
    expected = [stats.t.ppf(1 - 0.025 / among, 3) for among in (1, 2)]
    assert pytest.approx(expected[1] / expected[0]) == reaches[1] / reaches[0]


def test_similarity_is_over_all_pairs_of_an_inputs_repeats_turn_by_turn() -> None:
    texts = [("the sky is blue", "yes"), ("the sky is red", "no"), ("grass", "no")]
    cells = [cell(f"1-1-{r}", *pair) for r, pair in enumerate(texts, 1)]
    interval = summarise(grid(1, 1, 3), cells).get(SIMILARITY).intervals[0]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = fmean(fmean(similarity(texts[a][n], texts[b][n]) for n in (0, 1)) for a, b in pairs)
    assert interval is not None
    assert pytest.approx(expected) == interval.value


def test_cells_that_failed_are_counted_and_their_answered_turns_still_measured() -> None:
    failed = turn("", status=TurnStatus.FAILED, error=TurnError("upstream", "It broke."))
    half = cell("1-1-1", words(8))
    cells = [
        replace(half, length=2, turns=(*half.turns, failed)),
        Cell(cell("1-2-1").key, 1, "s", (failed,)),
        cell("2-1-1", words(4)),
    ]
    evidence = summarise(grid(2, 2), cells)
    assert ((2, 0), (1, 1), 1) == (evidence.failed, evidence.answers, evidence.inputs)
    interval = evidence.get("words").intervals[0]
    assert interval is not None
    assert (8, 1) == (interval.value, interval.n)


def test_finish_reasons_and_lengths_are_of_single_answers() -> None:
    cells = [
        cell("1-1-1", words(3), words(9), finish_reason="length"),
        cell("1-2-1", words(5)),
        cell("1-3-1", words(4), finish_reason=None),
    ]
    evidence = summarise(grid(1, 3), cells)
    assert ({"length": 2, "stop": 1, "unknown": 1},) == evidence.finish_reasons
    assert [[3, 9, 5, 4]] == [list(counts) for counts in evidence.words]
    spread = evidence.lengths[0]
    assert spread is not None
    assert (3, 4.5, 9, 4) == (spread.minimum, spread.median, spread.maximum, spread.count)


def test_finish_reasons_are_shares_with_their_intervals() -> None:
    cells = [
        cell(f"1-{n}-1", "Yes.", finish_reason="length" if n < 4 else "stop") for n in range(1, 13)
    ]
    stopped, cut_off = summarise(grid(2, 12), cells).reasons
    assert ("stop", "length") == (stopped.reason, cut_off.reason)
    share, nothing = cut_off.shares
    assert share is not None
    assert (0.25, 12, "answers") == (share.value, share.n, share.over)
    assert (wilson(0.25, 12), None) == ((share.low, share.high), nothing)


def test_checks_of_one_name_that_demand_different_things_are_told_apart() -> None:
    def cells(*demanded: str) -> list[Cell]:
        return [
            cell(f"{v}-{n}-1", "Yes.", checks={"short": v == 2}, demanded=demand)
            for v, demand in enumerate(demanded, 1)
            for n in range(1, 9)
        ]

    different = summarise(grid(2, 8), cells("1 word", "1000 words"))
    assert ["short", "short"] == [check.label for check in different.checks]
    assert [(0.0, None), (None, 1.0)] == [
        tuple(share and share.value for share in check.shares) for check in different.checks
    ]
    assert ["short"] == different.ambiguous_checks
    assert not different.get(CHECKS).is_known

    same = summarise(grid(2, 8), cells("1 word", "1 word"))
    assert [] == same.ambiguous_checks
    assert same.get(CHECKS).differences[1]

    # A reference makes each result that of its input, and it stays one check.
    by_input = [
        cell(f"{v}-{n}-1", "Yes.", checks={"like": v == 2}, demanded=f"reference {n}")
        for v in (1, 2)
        for n in range(1, 9)
    ]
    assert ["like"] == [check.label for check in summarise(grid(2, 8), by_input).checks]


def test_only_checks_that_all_have_count_between_variants() -> None:
    cells = [
        cell(f"{v}-{n}-1", "Yes.", checks={"both": True, **({"first": False} if v == 1 else {})})
        for v in (1, 2)
        for n in range(1, 9)
    ]
    evidence = summarise(grid(3, 8), cells)
    assert [1.0, 1.0, None] == [s and s.value for s in evidence.get(CHECKS).intervals]
    assert ["both", "first"] == [check.label for check in evidence.checks]


def test_a_check_has_a_share_for_each_variant_that_it_was_run_on() -> None:
    outcomes = [True, True, False, None]
    cells = [cell(f"1-{n}-1", "Yes.", checks={"short": ok}) for n, ok in enumerate(outcomes, 1)]
    cells += [cell("2-1-1", "Yes.", checks={"polite": True})]
    short, polite = summarise(grid(2, 4), cells).checks
    low, high = stats.binomtest(2, 3).proportion_ci(method="wilson")
    assert ("short", (1, 0), None) == (short.label, short.untold, short.shares[1])
    assert pytest.approx((2 / 3, low, high)) == figures(short.shares[0])
    assert ("polite", None) == (polite.label, polite.shares[0])


def test_repeats_of_an_input_do_not_make_a_share_surer_than_inputs_do() -> None:
    cells = [
        cell(f"1-{entry}-{repeat}", "Yes.", checks={"ok": entry == 1})
        for entry in (1, 2)
        for repeat in range(1, 11)
    ]
    shares = summarise(grid(1, 2, 10), cells).checks[0].shares
    assert shares[0] is not None
    assert (0.5, 2, "inputs") == (shares[0].value, shares[0].n, shares[0].over)
    alone = summarise(grid(1, 2, 10), cells[:10]).checks[0].shares
    assert alone[0] is not None
    assert (1, 10, "repeats") == (alone[0].value, alone[0].n, alone[0].over)


def test_a_comparison_without_answers_has_nothing_to_show() -> None:
    evidence = summarise(grid(2, 3), [])
    assert ((0, 0), 0, ()) == (evidence.answers, evidence.inputs, evidence.checks)
    assert not any(measured.is_known for measured in evidence.measured)
    assert (None, None) == evidence.lengths


def test_each_tag_has_the_evidence_of_its_inputs_alone() -> None:
    tags = [("hard", "sky"), ("easy",), ()]
    comparison = replace(
        grid(1, 3), inputs=tuple(ComparisonInput(("Why?",), tags=own) for own in tags)
    )
    cells = [cell(f"1-{n}-1", words(10 * n)) for n in (1, 2, 3)]
    by_tag = summarise_by_tag(comparison, cells)
    means = {tag: evidence.get("words").intervals[0] for tag, evidence in by_tag.items()}
    assert ["easy", "hard", "sky"] == list(by_tag)
    assert {"easy": 20, "hard": 10, "sky": 10} == {tag: i and i.value for tag, i in means.items()}


def test_of_many_tags_none_stands_out_by_chance() -> None:
    source = random.Random(11)

    def stands_out() -> bool:
        comparison = replace(
            grid(2, 80),
            inputs=tuple(
                ComparisonInput((f"Why {n}?",), tags=(f"tag {n % 10}",)) for n in range(80)
            ),
        )
        cells = [
            cell(f"{v}-{n}-1", words(source.randint(20, 60))) for v in (1, 2) for n in range(1, 81)
        ]
        by_tag = summarise_by_tag(comparison, cells).values()
        found = [evidence.get("words").differences[1] for evidence in by_tag]
        return any(difference and difference.is_clear for difference in found)

    # Each by itself would do so in 40 of 100.
    assert sum(stands_out() for _ in range(60)) <= 8


def test_answers_to_the_same_words_are_repeats_wherever_they_stand() -> None:
    """A file of inputs in which a line stands twice tells no more than one that asks it twice."""
    source = random.Random(3)
    texts = {
        (variant, entry, repeat): words(source.randint(5, 40))
        for variant in (1, 2)
        for entry in (1, 2, 3)
        for repeat in (1, 2)
    }
    checks = {place: {"short": source.random() < 0.5} for place in texts}
    repeated = [
        cell(f"{v}-{n}-{r}", text, checks=checks[v, n, r]) for (v, n, r), text in texts.items()
    ]
    written_twice = [
        cell(f"{v}-{2 * n + r - 2}-1", text, checks=checks[v, n, r])
        for (v, n, r), text in texts.items()
    ]

    once = summarise(grid(2, 3, 2), repeated)
    twice = summarise(saying(grid(2, 6), "a", "a", "b", "b", "c", "c"), written_twice)

    assert (once.measured, once.checks, once.inputs) == (twice.measured, twice.checks, twice.inputs)
    assert 3 == twice.inputs
    means = [fmean(len(texts[1, n, r].split()) for r in (1, 2)) for n in (1, 2, 3)]
    low, high = stats.t.interval(0.95, 2, fmean(means), stats.sem(means))
    assert pytest.approx((fmean(means), max(low, 0.0), high)) == figures(
        twice.get("words").intervals[0]
    )


def test_intervals_hold_the_truth_as_often_as_they_say_where_inputs_stand_several_times() -> None:
    """Eight inputs, each written three times, which differ more than the answers to each do."""
    texts = [str(number // 3) for number in range(24)]
    same, as_if_other = saying(grid(1, 24), *texts), grid(1, 24)
    source, held = random.Random(5), {"same": 0, "as if other": 0}
    for _ in range(400):
        effects = [source.gauss(0, 1) for _ in range(8)]
        cells = [
            cell(f"1-{n + 1}-1", "x", cost=100 + effects[n // 3] + source.gauss(0, 0.5))
            for n in range(24)
        ]
        for name, comparison in (("same", same), ("as if other", as_if_other)):
            _, low, high = figures(summarise(comparison, cells).get("cost").intervals[0])
            assert low is not None
            assert high is not None
            held[name] += low <= 100 <= high

    assert stats.binomtest(held["same"], 400, 0.95).pvalue > 0.01
    assert held["as if other"] < 0.85 * 400


def test_inputs_are_the_same_where_a_model_is_told_the_same() -> None:
    told = ComparisonInput(("Why?",), variables={"level": 3, "subject": "maths"})
    others = (
        replace(told, name="other", tags=("t",), reference="Because."),
        replace(told, turns=(" Why?\n",), variables={"subject": "maths", "level": "3"}),
        replace(told, turns=("Why?", "Why?")),
        replace(told, variables={"level": 4, "subject": "maths"}),
        replace(told, follows="turn"),
        replace(told, earlier=(("Hi", "Hello"),)),
        replace(told, turns=("why?",)),
        told,
    )
    comparison = replace(grid(1, 1), inputs=(told, *others))
    assert [0, 0, 0, 3, 4, 5, 6, 7, 0] == comparison.same_inputs()
