"""Which entries of a mapping or a list stay, go, move, get another name or come anew. Plain data; no text, no YAML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from rolebook.core.frozen import frozen
from rolebook.library.yaml_text import resolve_scalar


class InOrder(dict[str, Any]):
    """A mapping whose keys are names that people choose, and shall stand in the order that they have here."""


@frozen
class Step:
    """One entry of the outcome: the entry it was, if it was there, its key or index, and its value."""

    source: int | None
    key: str | int
    value: Any
    is_moved: bool = False


def is_same(old: object, new: object) -> bool:
    """Whether a value as it was read means the one that is wanted.

    A text means the number or boolean that YAML 1.2 takes it for; the order of keys has a meaning in :class:`InOrder`.
    """
    if isinstance(new, Mapping):
        return (
            isinstance(old, Mapping)
            and old.keys() == new.keys()
            and (not isinstance(new, InOrder) or list(old) == list(new))
            and all(is_same(old[key], new[key]) for key in new)
        )
    if isinstance(new, list | tuple):
        return (
            isinstance(old, list | tuple) and len(old) == len(new) and all(map(is_same, old, new))
        )
    if isinstance(new, int | float) and isinstance(old, str):
        old = resolve_scalar(old)
    if isinstance(new, bool) or isinstance(old, bool):
        return old is new
    return old == new or (old != old and new != new)


def plan(old: Any, new: Any, order: Sequence[str]) -> list[Step]:
    """The entries of ``new``, in the order that they get. Both are mappings, or both lists, and neither is empty.

    ``order`` is the usual one of the keys; where it is empty, keys are names that people choose and may change.
    """
    if isinstance(new, InOrder):
        return _plan_in_order(old, new)
    if isinstance(new, Mapping):
        return _plan_mapping(old, new, order)
    return _plan_list(old, new)


def _plan_mapping(
    old: Mapping[str, Any], new: Mapping[str, Any], order: Sequence[str]
) -> list[Step]:
    renamed = {} if order else dict(_renamed(list(old), list(new)))
    steps = []
    for source, key in enumerate(old):
        name = renamed.get(key, key)
        if name in new:
            steps.append(Step(source, name, new[name]))
    names = list(new)
    known = {*old, *renamed.values()}
    for position, key in enumerate(names):
        if key not in known:
            keys = [str(step.key) for step in steps]
            before = names[position - 1] if position else None
            place = _best_place(keys, key, order) if order else _place_behind(keys, before)
            steps.insert(place, Step(None, key, new[key]))
    return steps


def _plan_in_order(old: Mapping[str, Any], new: InOrder) -> list[Step]:
    former = {name: key for key, name in _renamed(list(old), list(new))}
    gone = [key for key in old if key not in new and key not in former.values()]
    for name, value in new.items():
        # What has been moved and is called something else is known by what it says.
        if name not in old and name not in former:
            same = next((key for key in gone if is_same(old[key], value)), None)
            if same is not None:
                former[name] = same
                gone.remove(same)
    keys = list(old)
    came_from = [former.get(name, name) for name in new]
    matcher = SequenceMatcher(None, keys, came_from, autojunk=False)
    staying = {
        key
        for start, _, size in matcher.get_matching_blocks()
        for key in keys[start : start + size]
    }
    return [
        Step(
            keys.index(key) if key in old else None,
            name,
            new[name],
            is_moved=key in old and key not in staying,
        )
        for name, key in zip(new, came_from, strict=True)
    ]


def _renamed(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Keys that are gone, each with the new one in its place."""
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind == "replace" and end - start == new_end - new_start:
            for former, name in zip(old[start:end], new[new_start:new_end], strict=True):
                if former not in new and name not in old:
                    yield former, name


def _place_behind(keys: Sequence[str], before: str | None) -> int:
    return keys.index(before) + 1 if before in keys else 0


def _best_place(keys: Sequence[str], key: str, order: Sequence[str]) -> int:
    """Where the fewest keys stand on the wrong side of a new one, the first such place."""
    rank = {name: position for position, name in enumerate(order)}
    if key not in rank:
        return len(keys)
    is_later = [rank[name] > rank[key] if name in rank else None for name in keys]

    def misplaced(place: int) -> int:
        return is_later[:place].count(True) + is_later[place:].count(False)

    return min(range(len(keys) + 1), key=misplaced)


def _plan_list(old: Sequence[Any], new: Sequence[Any]) -> list[Step]:
    sources: list[int | None] = [None] * len(new)
    moved: set[int] = set()
    gaps: list[tuple[range, range]] = []
    end_old = end_new = 0
    for start, start_new, size in _common_runs(old, new):
        gaps.append((range(end_old, start), range(end_new, start_new)))
        for offset in range(size):
            sources[start_new + offset] = start + offset
        end_old, end_new = start + size, start_new + size
    unused = [source for source in range(len(old)) if source not in sources]
    for index in [index for index, source in enumerate(sources) if source is None]:
        source = next((source for source in unused if is_same(old[source], new[index])), None)
        if source is not None:
            sources[index] = source
            moved.add(index)
            unused.remove(source)
    for old_range, new_range in gaps:
        gone = [source for source in old_range if source in unused]
        fresh = [index for index in new_range if sources[index] is None]
        for index, source in _changed(old, new, gone, fresh):
            sources[index] = source
            unused.remove(source)
    for index in [index for index, source in enumerate(sources) if source is None]:
        source = next((source for source in unused if _shares_value(old[source], new[index])), None)
        if source is not None:
            sources[index] = source
            moved.add(index)
            unused.remove(source)
    return [
        Step(source, index, value, is_moved=index in moved)
        for index, (source, value) in enumerate(zip(sources, new, strict=True))
    ]


def _common_runs(old: Sequence[Any], new: Sequence[Any]) -> Sequence[tuple[int, int, int]]:
    matcher = SequenceMatcher(
        None, [_canonical(item) for item in old], [_canonical(item) for item in new], autojunk=False
    )
    return matcher.get_matching_blocks()


def _canonical(value: object) -> str:
    """Equal for values that mean the same, see :func:`is_same`."""
    if isinstance(value, Mapping):
        return json.dumps(
            {str(key): _canonical(item) for key, item in value.items()}, sort_keys=True
        )
    if isinstance(value, list | tuple):
        return json.dumps([_canonical(item) for item in value])
    return f"{type(value).__name__} {value}"


def _changed(
    old: Sequence[Any], new: Sequence[Any], gone: Sequence[int], fresh: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Items that were changed in their place: all in order; where some are gone or new, those that share a value."""
    if len(gone) == len(fresh):
        yield from zip(fresh, gone, strict=True)
        return
    rest = list(gone)
    for index in fresh:
        source = next((source for source in rest if _shares_value(old[source], new[index])), None)
        if source is not None:
            yield index, source
            rest = rest[rest.index(source) + 1 :]


def _shares_value(old: object, new: object) -> bool:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return False
    return any(key in old and is_same(old[key], new[key]) for key in new)
