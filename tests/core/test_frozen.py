"""Frozen objects: what they have in common with those of the standard library's dataclasses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import pytest

from rolebook.core.frozen import frozen


@frozen
class Point:
    """A place."""

    x: int
    y: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)


@frozen
class Noted:
    x: int
    note: str = field(default="", compare=False)
    key: str = field(default="", repr=False)


@frozen
class Nothing:
    pass


@frozen
class Named:
    name: str

    def __repr__(self) -> str:
        return "<Named>"


@dataclass(frozen=True, slots=True)
class Other:
    """The same by the standard library."""

    x: int
    y: float = 0.0


@frozen
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(self.number)


def test_they_are_made_of_values_by_place_and_by_name() -> None:
    point = Point(1, tags={"a": "b"})
    assert (1, 0.0, {"a": "b"}) == (point.x, point.y, point.tags)


def test_missing_and_unknown_values_are_refused_like_those_of_dataclasses() -> None:
    for kind in Point, Other:
        name = kind.__name__
        with pytest.raises(TypeError, match=rf"{name}.__init__\(\) missing 1 .* argument: 'x'"):
            kind(y=1.0)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=rf"{name}.__init__\(\) got an unexpected .* 'z'"):
            kind(1, z=1)  # type: ignore[call-arg]


def test_one_looks_at_itself_when_it_is_made() -> None:
    assert 2 == Even(2).number
    with pytest.raises(ValueError, match="3"):
        Even(3)


def test_what_is_in_them_makes_them_equal() -> None:
    assert Point(1) == Point(1, 0.0, {})
    assert Point(1) != Point(2)
    assert Point(1) != Point(1, tags={"a": "b"})
    assert Nothing() == Nothing()


def test_objects_of_another_class_are_others() -> None:
    assert Noted(1) != Point(1)
    assert Point(1) != Other(1)
    assert Point(1) != 1


def test_part_that_is_not_compared_makes_no_difference() -> None:
    assert Noted(1, "first") == Noted(1, "second")
    assert hash(Noted(1, "first")) == hash(Noted(1, "second"))


def test_equal_ones_are_one_in_a_set() -> None:
    assert {Noted(1), Noted(2)} == {Noted(2), Noted(1), Noted(1)}
    assert 1 == len({Nothing(), Nothing()})


def test_one_with_a_part_that_changes_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_every_object_has_a_mapping_of_its_own() -> None:
    assert Point(1).tags is not Point(1).tags


def test_parts_are_shown_except_those_that_are_not_to_be() -> None:
    assert "Noted(x=1, note='n')" == repr(Noted(1, "n", key="secret"))
    assert "Nothing()" == repr(Nothing())
    assert repr(Other(1)).removeprefix("Other") == repr(Point(1)).removeprefix("Point").replace(
        ", tags={}", ""
    )


def test_method_of_its_own_stays() -> None:
    assert "<Named>" == repr(Named("x"))
    assert Named("x") == Named("x")


def test_they_are_copied_changed_and_kept_like_dataclasses() -> None:
    point = Point(1, 2.0, {"a": "b"})
    assert Point(3, 2.0, {"a": "b"}) == replace(point, x=3)
    assert {"x": 1, "y": 2.0, "tags": {"a": "b"}} == asdict(point)
    assert point == copy.copy(point) == copy.deepcopy(point) == pickle.loads(pickle.dumps(point))


def test_they_can_be_taken_apart_by_place() -> None:
    match Point(1, 2.0):
        case Point(x, y):
            assert (1, 2.0) == (x, y)


def test_they_have_no_room_for_other_attributes() -> None:
    assert not hasattr(Point(1), "__dict__")
    with pytest.raises(AttributeError):
        Point(1).colour = "red"  # type: ignore[attr-defined]
