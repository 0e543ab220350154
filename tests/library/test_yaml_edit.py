"""A YAML text is changed where it says something else, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolebook.library.yaml_change import InOrder, is_same
from rolebook.library.yaml_edit import edit_yaml
from rolebook.library.yaml_text import Path, YamlError, parse_yaml
from tests.library.yaml_sources import KEYS, TEXTS, Source, comments_in, sources, values


def in_order(*keys: str) -> Any:
    return lambda path: keys


def by_name(path: Path) -> Sequence[str]:
    return ()


def data_of(text: str) -> dict[str, Any]:
    return parse_yaml(text, file="f").data


def edited(text: str, order: Any = by_name, **changes: Any) -> str:
    return edit_yaml(text, {**data_of(text), **changes}, order=order)


# What becomes of a value: the text, the new value of ``a``, the new text.
CHANGES: dict[str, tuple[str, Any, str]] = {
    "plain": ("a: x  # why\nb: y\n", "z", "a: z  # why\nb: y\n"),
    "number": ("a: 0.70  # why\n", 0.5, "a: 0.5  # why\n"),
    "same number": ("a: 0.70\n", 0.7, "a: 0.70\n"),
    "truth": ("a: true\n", False, "a: false\n"),
    "text like a number": ("a: x\n", "1.10", 'a: "1.10"\n'),
    "double quotes": ('a: "x"\n', "y", 'a: "y"\n'),
    "single quotes": ("a: 'x'\n", "it's", "a: 'it''s'\n"),
    "unprintable in single quotes": ("a: 'x'\n", "\x85", 'a: "\\u0085"\n'),
    "aligned": ("a:   x\nbcd: y\n", "z", "a:   z\nbcd: y\n"),
    "plain on lines": ("a: x\n  y  # why\nb: z\n", "w", "a: w  # why\nb: z\n"),
    "on the next line": ("a:\n  x\nb: z\n", "w", "a: w\nb: z\n"),
    "comment between": ("a: # one\n  # two\n  x # three\n", "w", "a: w # one\n  # two\n  # three\n"),
    "no value": ("a:  # why\nb: y\n", "x", "a: x  # why\nb: y\n"),
    "to no value": ("a: x\n", None, "a: null\n"),
    "plain to lines": ("a: x  # why\nb: y\n", "x\nz", "a: |-  # why\n  x\n  z\nb: y\n"),
    "quoted to lines": ('a: "x"\nb: y\n', "x\nz\n", "a: |\n  x\n  z\nb: y\n"),
    "lines": ("a: |-  # why\n    x\n\n    y\n\nb: z\n", "p\n\n\nq", "a: |-  # why\n    p\n\n\n    q\n\nb: z\n"),
    "lines to a line": ("a: |\n  x\n  y\nb: z\n", "p", "a: |-\n  p\nb: z\n"),
    "lines to what is no block": ("a: |  # why\n  x\n  y\nb: z\n", "  p", 'a: "  p"  # why\nb: z\n'),
    "lines to an end with blank lines": ("a: |\n  x\n\n# c\nb: z\n", "p\n\n\n", "a: |+\n  p\n\n\n# c\nb: z\n"),
    "blank lines at the end": ("a: |+\n  x\n\n\nb: z\n", "p\n", "a: |\n  p\nb: z\n"),
    "line with blanks at its end": ("a: |-\n  x\nb: z\n", "p  \nq", "a: |-\n  p  \n  q\nb: z\n"),
    "indentation in numbers": ("a: |2-\n   x\n  y\n", "p\nq", "a: |-\n  p\n  q\n"),
    "folded": ("a: >-\n  x y z\nb: z\n", "p q r s", "a: >-\n  p q r s\nb: z\n"),
    "folded lines": ("a: >\n  one two\n  three\n", "some words more\n", "a: >\n  some\n  words\n  more\n"),
    "folded to lines": ("a: >-\n  x\nb: z\n", "p\nq", "a: |-\n  p\n  q\nb: z\n"),
    "Windows": ("a: x\r\nb: y\r\n", "p\nq", "a: |-\r\n  p\r\n  q\r\nb: y\r\n"),
    "no end of line": ("a: x", "z", "a: z"),
    "no end of line behind a comment": (
        "a: p\n   \nb: |\n  x\n\n# end",
        "q\n r",
        "a: |-\n  q\n   r\n\nb: |\n  x\n\n# end\n",
    ),
    "mark": ("\ufeffa: x\n", "z", "\ufeffa: z\n"),
    "item": ("a:\n  # one\n  - x  # x\n  - y  # y\n", ["x", "z"], "a:\n  # one\n  - x  # x\n  - z  # y\n"),
    "new item": ("a:\n- x\nb: y\n", ["x", "p\nq"], "a:\n- x\n- |-\n  p\n  q\nb: y\n"),
    "item gone": ("a:\n  - x\n  # y\n  - y  # y\n  - z\n", ["x", "z"], "a:\n  - x\n  - z\n"),
    "item moved": (
        "a:\n  # x\n  - x  # X\n  - y\n  - z\nb: c\n",
        ["y", "z", "x"],
        "a:\n  - y\n  - z\n  # x\n  - x  # X\nb: c\n",
    ),
    "all items gone": ("a:  # why\n  - x\nb: c\n", [], "a: []  # why\nb: c\n"),
    "what is nobody's stays": ("a:\n  # 1\n\n  - x\n  # 2\n\n  # y\n  - y\n", ["x"], "a:\n  # 1\n\n  - x\n  # 2\n\n"),
    "key of an item": (
        "a:\n  - x: 1\n    y: 2  # why\n  - x: 3\n",
        [{"x": "1", "y": "p\nq"}, {"x": "3"}],
        "a:\n  - x: 1\n    y: |-  # why\n      p\n      q\n  - x: 3\n",
    ),
    "first key of an item gone": ("a:\n  - x: 1\n    y: 2\n", [{"y": "2"}], "a:\n  - y: 2\n"),
    "changed and another gone": (
        "a:\n  - {x: 1, y: 2}  # one\n  - {x: 3, y: 4}  # two\n",
        [{"x": "3", "y": "5"}],
        'a:\n  - {x: 3, y: "5"}  # two\n',
    ),
    "changed and moved": (
        "a:\n  # one\n  - {x: 1, v: 2}\n  - {x: 3}\n",
        [{"x": "3"}, {"x": "1", "v": "no"}],
        'a:\n  - {x: 3}\n  # one\n  - {x: 1, v: "no"}\n',
    ),
    "key gone": ("a:\n  # x\n  x: 1\n  y: 2\n", {"y": "2"}, "a:\n  y: 2\n"),
    "comment below it goes along": ("a:\n  x:\n    z: 1\n    # z\n  y: 2\n", {"y": "2"}, "a:\n  y: 2\n"),
    "name changed": ("a:\n  x: 1  # why\n  y: 2\n", {"z": "1", "y": "2"}, "a:\n  z: 1  # why\n  y: 2\n"),
    "short to long": ("a: {x: b}  # why\n", {"x": {"y": "c d"}}, 'a: {x: {"y": c d}}  # why\n'),
    "in brackets": ("a: [x,y]  # why\n", ["x", "z"], "a: [x,z]  # why\n"),
    "new in brackets": ("a: [x,y]\n", ["x", "y", "z"], "a: [x,y, z]\n"),
    "gone in brackets": ("a: [ x, y, z ]\n", ["x", "z"], "a: [ x, z ]\n"),
    "last gone in brackets": ("a: [x, y, z]\n", ["x"], "a: [x]\n"),
    "moved in brackets": ("a: [x, 'y', z]\n", ["y", "z", "x"], "a: ['y', z, x]\n"),
    "in braces": ("a: {x: 1, y: 2}  # why\n", {"x": "b c", "y": "2"}, "a: {x: b c, y: 2}  # why\n"),
    "new in braces": ("a: {x: p}\n", {"x": "p", "y": 0.5}, 'a: {x: p, "y": 0.5}\n'),
    "key alone in braces": ("a: {x, y: p}\n", {"x": "q", "y": "p"}, "a: {x: q, y: p}\n"),
    "what needs quotes in brackets": ("a: [x]\n", ["x", "p, q?"], 'a: [x, "p, q?"]\n'),
    "lines in brackets": (
        "a: {x: p, z: q}  # why\n",
        {"x": "p", "z": "q\nr"},
        "a:  # why\n  x: p\n  z: |-\n    q\n    r\n",
    ),
    "comments in brackets": (
        "a: {\n  x: p,  # x\n  y: q,  # y\n  z: r  # z\n}\n",
        {"x": "p\nq", "z": "r", "w": "s"},
        'a: {\n  x: "p\\nq",  # x\n  # y\n  z: r,  # z\n  w: s}\n',
    ),
    "long in brackets": (
        "a: [x]\n",
        ["x" * 60, "z" * 60],
        f"a:\n  - {'x' * 60}\n  - {'z' * 60}\n",
    ),
    "list to text": ("a:  # why\n  - x\n  - y\n", "z", "a: z  # why\n"),
    "text to list": ("a: x  # why\n", ["x", "z"], "a: [x, z]  # why\n"),
    "text to mapping": ("a: x  # why\nb: c\n", {"x": "z"}, "a:  # why\n  x: z\nb: c\n"),
    "key behind a question mark": ("? a\n: x  # why\nb: c\n", "z", "? a\n: z  # why\nb: c\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_value_is_changed_in_its_lines(case: str) -> None:
    text, value, expected = CHANGES[case]
    assert expected == edited(text, a=value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nc: 3\n", "a: 1\nb: x\nc: 3\n"),
        ("a: 1  # a\n# c\nc: 3\n", "a: 1  # a\nb: x\n# c\nc: 3\n"),
        ("a:\n  p: q\n  # p\n\nc: 3\n", "a:\n  p: q\n  # p\nb: x\n\nc: 3\n"),
        ("# file\nc: 3\n", "# file\nb: x\nc: 3\n"),
        ("---\nc: 3\n...\n", "---\nb: x\nc: 3\n...\n"),
        ("a: 1", "a: 1\nb: x\n"),
        ("c: 3\na: 1\n", "b: x\nc: 3\na: 1\n"),
        ("z: 9\na: 1\ny: 8\nc: 3\n", "z: 9\na: 1\nb: x\ny: 8\nc: 3\n"),
        ("a: |\n  x", "a: |-\n  x\nb: x\n"),
        ("a: |+\n  x\n\nc: 3\n", "a: |+\n  x\n\nb: x\nc: 3\n"),
        ("{a: 1, c: 3}\n", "{a: 1, b: x, c: 3}\n"),
    ],
)
def test_new_key_is_put_where_it_usually_stands(text: str, expected: str) -> None:
    assert expected == edited(text, in_order("a", "b", "c"), b="x")


def test_new_key_without_an_order_follows_the_one_before_it() -> None:
    text = "a: 1\nc: 3\n"
    assert edit_yaml(text, {"b": "x", "a": "1", "c": "3"}, order=by_name) == "b: x\na: 1\nc: 3\n"
    assert edited(text, b="x") == "a: 1\nc: 3\nb: x\n"


def test_key_that_goes_takes_its_own_comments_along() -> None:
    text = "# file\n\na: 1\n# about b,\n# and more\nb: 2  # two\n  # below b\n\n# about c\nc: 3\n"
    expected = "# file\n\na: 1\n\n# about c\nc: 3\n"
    assert expected == edit_yaml(text, {"a": "1", "c": "3"}, order=by_name)


def test_comment_above_the_first_key_is_about_the_file() -> None:
    assert edit_yaml("# file\na: 1\nb: 2\n", {"b": "2"}, order=by_name) == "# file\nb: 2\n"


def test_broken_text_is_not_edited() -> None:
    with pytest.raises(YamlError, match="never closed"):
        edit_yaml('a: "x\n', {"a": "y"}, order=by_name)


def test_text_that_no_file_can_hold_is_not_written() -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        edited("a: x\n", a="\0")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "source",
    [
        *("a: x\nb: y\n", 'a: "x"\nb: y\n', "a: |\n  x\n\n# b\nb: y\n", "a: >-\n  x\nb: y\n"),
        *("a: {c: x}\nb: y\n", "a:\n- x\nb: y\n"),
    ],
)  # fmt: skip
def test_nasty_text_comes_back_from_every_style(source: str, text: str) -> None:
    for value in (text, {"c": text}, [text]):
        assert {"a": value, "b": "y"} == data_of(edited(source, a=value))


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(sources())
def test_no_change_is_no_change(source: Source) -> None:
    assert source.text == edit_yaml(source.text, data_of(source.text), order=by_name)


@settings(max_examples=250, deadline=None, database=None, derandomize=True)
@given(sources(), st.data())
def test_change_of_one_key_leaves_all_other_lines_alone(
    source: Source, data: st.DataObject
) -> None:
    was = data_of(source.text)
    key = data.draw(st.sampled_from(list(was)))
    value = changed(data, was[key])
    text = edit_yaml(source.text, {**was, key: value}, order=by_name)
    assert is_same(data_of(text), {**was, key: value})
    before, behind = (tidy(part) for part in source.around(key))
    assert tidy(text).startswith(before.rstrip("\r\n"))
    assert tidy(text).endswith(behind.lstrip("\r\n"))


@settings(max_examples=250, deadline=None, database=None, derandomize=True)
@given(sources(), st.data(), st.sampled_from([(), KEYS]))
def test_any_change_makes_what_was_meant_and_keeps_the_comments_of_what_stays(
    source: Source, data: st.DataObject, order: Sequence[str]
) -> None:
    was = data_of(source.text)
    wanted = changed(data, was)
    if not isinstance(wanted, dict):
        wanted = {"a": wanted}
    text = edit_yaml(source.text, wanted, order=lambda path: order)
    assert is_same(data_of(text), wanted)
    kept = [key for key in was if key in wanted and is_same(was[key], wanted[key])]
    comments = [comment for key in kept for comment in comments_in(source.entries[key])]
    assert set(comments) <= set(comments_in(text))


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(sources(), st.data())
def test_keys_that_shall_stand_in_another_order_take_their_comments_along(
    source: Source, data: st.DataObject
) -> None:
    was = data_of(source.text)
    wanted = InOrder((key, was[key]) for key in data.draw(st.permutations(list(was))))
    written = edit_yaml(source.text, wanted, order=by_name)
    assert is_same(data_of(written), wanted)
    assert list(wanted) == list(data_of(written))
    assert set(comments_in(source.text)) == set(comments_in(written))


def changed(data: st.DataObject, value: Any) -> Any:
    """A value with a few things in it changed, added, taken out, moved or called another name."""
    if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 5)) == 0:
        return data.draw(values)
    if isinstance(value, list):
        return changed_list(data, value)
    match data.draw(st.sampled_from(["change", "add", "remove", "rename"])):
        case "change":
            key = data.draw(st.sampled_from(list(value)))
            return {**value, key: changed(data, value[key])}
        case "add":
            return {**value, data.draw(st.sampled_from(KEYS)): data.draw(values)}
        case "remove":
            gone = data.draw(st.sampled_from(list(value)))
            return {key: item for key, item in value.items() if key != gone}
    former, name = data.draw(st.sampled_from(list(value))), data.draw(st.sampled_from(KEYS))
    return {name if key == former else key: item for key, item in value.items()}


def changed_list(data: st.DataObject, value: list[Any]) -> list[Any]:
    place = data.draw(st.integers(0, len(value) - 1))
    match data.draw(st.sampled_from(["change", "add", "remove", "move"])):
        case "change":
            return [*value[:place], changed(data, value[place]), *value[place + 1 :]]
        case "add":
            return [*value[:place], data.draw(values), *value[place:]]
        case "remove":
            return [*value[:place], *value[place + 1 :]]
    return data.draw(st.permutations(value))


def tidy(text: str) -> str:
    """Blanks of blank lines and before comments, which may have to change below a text, left out."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = (line.lstrip() if line.lstrip()[:1] in {"", "#"} else line for line in lines)
    return "\n".join(kept)


@pytest.mark.parametrize("entry", ["k%d: v\n", "k%d:\n  - a\n  # c\n", "# c\n\nk%d: {a: b}\n"])
def test_large_file_is_edited_as_quickly_as_its_size_allows(entry: str) -> None:
    """Four times the text takes about four times as long; sixteen times would be the square."""

    def took_s(entries: int) -> float:
        text = "a: x\n" + "".join(entry % number for number in range(entries))
        started = time.thread_time()
        assert edited(text, a="p\nq").startswith("a: |-\n  p\n  q\n")
        return time.thread_time() - started

    small, large = (min(took_s(entries) for _ in range(4)) for entries in (300, 1200))
    assert large < 9 * small
