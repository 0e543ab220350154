"""What changed between two texts: exact to the character, by words or Chinese characters, and without confetti."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolebook.core.difference import LineDifference, Piece, differences, line_differences

MARKS = {"same": "%s", "removed": "[-%s-]", "added": "{+%s+}"}


def marked(pieces: tuple[Piece, ...]) -> str:
    return "".join(MARKS[piece.kind] % piece.text for piece in pieces)


CASES = [
    ("", "", ""),
    ("", "new", "{+new+}"),
    ("old", "", "[-old-]"),
    ("same", "same", "same"),
    ("The quick fox.", "The slow fox.", "The [-quick-]{+slow+} fox."),
    ("one two", "one  two", "one[- -]{+  +}two"),
    ("word", "words", "[-word-]{+words+}"),
    ("Be kind.", "Be patient and kind.", "Be {+patient and +}kind."),
    (
        "我周末和朋友去看电影。",
        "我周日和家人去看书。",
        "我周[-末-]{+日+}和[-朋友-]{+家人+}去看[-电影-]{+书+}。",
    ),
    ("用Python写", "用Rust写", "用[-Python-]{+Rust+}写"),
    ("First.\nSecond.\n", "First.\n\nSecond.\n", "First.\n{+\n+}Second.\n"),
    ("a b c", "x y z", "[-a b c-]{+x y z+}"),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_difference_is_shown_by_words_and_chinese_characters(
    old: str, new: str, expected: str
) -> None:
    assert expected == marked(differences(old, new))


def test_scrap_between_two_rewritten_parts_is_drawn_into_them() -> None:
    pieces = differences(
        "Explain everything at great length to the learner.",
        "Ask short questions, never lecture at anybody, hardly ever talk.",
    )
    assert ["removed", "added", "same"] == [piece.kind for piece in pieces]


def test_paragraphs_stay_apart() -> None:
    kinds = [piece.kind for piece in differences("One two.\n\nThree.", "Four five.\n\nSix.")]
    assert ["removed", "added", "same", "removed", "added", "same"] == kinds


texts = st.lists(
    st.sampled_from(
        ["a", "b", "ab", " ", "\n", "\r\n", ".", "。", "好", "吗", "？", "\u0301", "👍🏽"]
    )
).map("".join)


@given(texts | st.text(), texts | st.text())
def test_pieces_make_up_both_texts_exactly(old: str, new: str) -> None:
    pieces = differences(old, new)
    assert old == "".join(piece.text for piece in pieces if piece.kind != "added")
    assert new == "".join(piece.text for piece in pieces if piece.kind != "removed")
    assert all(piece.text for piece in pieces)
    assert all(a.kind != b.kind for a, b in pairwise(pieces))


@given(texts | st.text(), texts | st.text())
def test_lines_make_up_both_texts_exactly(old: str, new: str) -> None:
    lines = line_differences(old, new)
    assert old == "".join(line.old for line in lines)
    assert new == "".join(line.new for line in lines)


def test_lines_are_kept_apart_and_changed_ones_show_their_words() -> None:
    found = line_differences("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 4\nc: 3\nd: 5\n")
    assert (
        LineDifference("same", (Piece("same", "a: 1\n"),)),
        LineDifference(
            "changed",
            (Piece("same", "b: "), Piece("removed", "2"), Piece("added", "4"), Piece("same", "\n")),
        ),
        LineDifference("same", (Piece("same", "c: 3\n"),)),
        LineDifference("added", (Piece("added", "d: 5\n"),)),
    ) == found
    assert "removed" == line_differences("x\ny\n", "y\n")[0].kind


def chinese(length: int, seed: int, stop_every: int = 30) -> str:
    choose = random.Random(seed)
    return "".join(
        "。" if index % stop_every == stop_every - 1 else chr(0x4E00 + choose.randrange(900))
        for index in range(length)
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (chinese(100_000, 1), chinese(100_000, 2)),
        (chinese(100_000, 1, 10**6), chinese(100_000, 2, 10**6)),
        ("ab" * 50_000, "ba" * 50_000),
        (".!" * 50_000, "!?" * 50_000),
        ("\n" * 100_000, "\n" * 90_000 + "a"),
        ("word " * 20_000, "words " * 17_000),
    ],
)
def test_a_hundred_thousand_characters_take_bounded_time(old: str, new: str) -> None:
    start = time.process_time()
    pieces = differences(old, new)
    line_differences(old, new)
    assert time.process_time() - start < 2
    assert old == "".join(piece.text for piece in pieces if piece.kind != "added")


def test_single_edits_in_a_very_long_text_are_still_found_by_character() -> None:
    old = chinese(100_000, 1)
    new = old[:20_000] + "新" + old[20_001:70_000] + "旧" + old[70_001:]
    changed = [piece.text for piece in differences(old, new) if piece.kind != "same"]
    assert [old[20_000], "新", old[70_000], "旧"] == changed
