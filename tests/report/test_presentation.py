"""Values as pages and files show them."""

from __future__ import annotations

from itertools import combinations

import pytest

from rolebook.core.comparison import Variant
from rolebook.report.presentation import HUES, count, hue, hues_of, listed, told_apart


def degrees_apart(classes: tuple[str, ...]) -> int:
    """The least distance between any two hues on their circle."""
    numbers = [int(each.removeprefix("hue-")) for each in classes]
    return min(
        min((a - b) % HUES, (b - a) % HUES) * 360 // HUES for a, b in combinations(numbers, 2)
    )


@pytest.mark.parametrize(
    ("hues", "least"),
    [
        (["hue-3"] * 5, 45),
        (["hue-0", "hue-1", "hue-23", "hue-12"], 45),
        (["hue-5"] * 8, 45),
        ([f"hue-{number}" for number in (0, 5, 9, 14, 19, 0, 7, 3)], 15),
        (["hue-5"] * 24, 15),
    ],
)
def test_hues_of_a_comparison_can_be_told_apart(hues: list[str], least: int) -> None:
    apart = told_apart(hues)
    assert least <= degrees_apart(apart)
    assert apart == told_apart(hues)


def test_more_variants_than_hues_share_some() -> None:
    assert 30 == len(told_apart(["hue-5"] * 30))


def test_a_persona_keeps_its_hue_where_another_one_takes_part_twice() -> None:
    assert ("hue-0", "hue-21", "hue-3") == told_apart(["hue-0", "hue-0", "hue-3"])
    teacher, poet = Variant("Teacher", "teacher", "r"), Variant("Poet", "poet", "r")
    strict = Variant("Teacher, strict", "teacher", "s")
    first, second, third = hues_of([teacher, strict, poet])
    assert (hue("teacher"), hue("poet")) == (first, third)
    assert second not in (first, third)


@pytest.mark.parametrize(
    ("texts", "language", "expected"),
    [
        (["a"], "en", "a"),
        (["a", "b"], "en", "a and b"),
        (["a", "b", "c"], "en", "a, b, and c"),
        (["甲", "乙", "丙"], "zh", "甲、乙和丙"),
    ],
)
def test_lists_are_those_of_a_language(texts: list[str], language: str, expected: str) -> None:
    assert expected == listed(texts, language)


def test_zero_has_no_sign_in_whatever_order_zeros_come() -> None:
    assert ["0", "0", "0"] == [count(number, "zh") for number in (-0.0, 0, 0.0)]
