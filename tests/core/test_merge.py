"""Two texts from one base: what only one side changed is taken, what both changed stands between marks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolebook.core.merge import find_marks, merge

BASE = "name: Ada\nsystem: |\n  One.\n  Two.\n  Three.\ntags: [a]\n"

line = st.sampled_from(["a\n", "b\n", "c\n", "d\n", "天\n", "\n"])
text = st.lists(line, max_size=8).map("".join)


@st.composite
def versions(draw: st.DrawFn) -> tuple[str, str, str]:
    """A base and two edits of it, the last line of which may lack its end."""
    base = draw(st.lists(line, max_size=8))

    def edited() -> str:
        lines = list(base)
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(lines)))
            lines[place : place + draw(st.integers(0, 2))] = draw(st.lists(line, max_size=2))
        whole = "".join(lines)
        return whole.removesuffix("\n") if draw(st.booleans()) else whole

    return "".join(base), edited(), edited()


def test_changes_in_different_places_are_both_taken() -> None:
    merged = merge(BASE, BASE.replace("One", "1"), BASE.replace("[a]", "[a, b]"))
    assert BASE.replace("One", "1").replace("[a]", "[a, b]") == merged.text
    assert merged.is_clean


def test_what_both_changed_stands_between_marks() -> None:
    merged = merge(BASE, BASE.replace("Two", "Mine"), BASE.replace("Two", "Theirs"))
    assert (
        "name: Ada\nsystem: |\n  One.\n<<<<<<< your text\n  Mine.\n=======\n  Theirs.\n>>>>>>> on disk\n"
        "  Three.\ntags: [a]\n"
    ) == merged.text
    assert 1 == merged.conflicts
    assert [4, 8] == list(find_marks(merged.text))


def test_what_is_still_to_be_decided_is_merged_again_and_not_wrapped_once_more() -> None:
    theirs = BASE.replace("Two", "Theirs")
    marked = merge(BASE, BASE.replace("Two", "Mine").replace("[a]", "[b]"), theirs).text
    again = merge(theirs, marked, BASE.replace("Two", "Theirs, changed"))
    assert (
        "name: Ada\nsystem: |\n  One.\n<<<<<<< your text\n  Mine.\n=======\n  Theirs, changed.\n>>>>>>> on disk\n"
        "  Three.\ntags: [b]\n"
    ) == again.text
    assert 1 == again.conflicts
    back = merge(theirs, marked, BASE)
    assert marked.replace("Theirs", "Two") == back.text


def test_what_was_written_on_the_other_side_of_a_mark_is_not_lost() -> None:
    theirs = BASE.replace("Two", "Theirs")
    marked = merge(BASE, BASE.replace("Two", "Mine"), theirs).text.replace("Theirs", "Ours")
    assert "  Ours.\n" in merge(theirs, marked, BASE.replace("Two", "New")).text


def test_mark_begins_its_line_even_where_the_last_line_has_no_end() -> None:
    merged = merge("a", "b", "c")
    assert "<<<<<<< your text\nb\n=======\nc\n>>>>>>> on disk\n" == merged.text


def test_lines_like_those_of_other_programs_are_no_marks() -> None:
    assert [] == list(find_marks("<<<<<<< HEAD\n=======\n>>>>>>> main\n"))


@given(versions())
@settings(max_examples=200, deadline=None)
def test_nothing_of_either_side_is_lost(given: tuple[str, str, str]) -> None:
    base, mine, theirs = given
    assert (theirs, mine, mine) == (
        merge(base, base, theirs).text,
        merge(base, mine, base).text,
        merge(base, mine, mine).text,
    )
    lines = merge(base, mine, theirs).text.splitlines()
    kept = set(base.splitlines())
    for new in {*mine.splitlines(), *theirs.splitlines()} - kept:
        assert new in lines


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the one to compare with")
@given(given=versions())
@settings(max_examples=40, deadline=None)
def test_git_merges_to_the_same_text(
    tmp_path_factory: pytest.TempPathFactory, given: tuple[str, str, str]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    merged = merge(*given)
    theirs = git_merge(folder, *given)
    if merged.is_clean and theirs is not None:
        assert theirs == merged.text


def git_merge(folder: Path, base: str, mine: str, theirs: str) -> str | None:
    """What `git merge-file` makes of it; None where it finds a conflict."""
    names = [folder / name for name in ("mine", "base", "theirs")]
    for path, content in zip(names, (mine, base, theirs), strict=True):
        path.write_text(content, "utf-8")
    done = subprocess.run(["git", "merge-file", "-p", *names], capture_output=True, check=False)
    return done.stdout.decode() if done.returncode == 0 else None
