"""Two texts that were made from one, put together line by line: what only one of them changed is taken from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rolebook.core.difference import TextChange, line_changes
from rolebook.core.frozen import frozen

#: The lines that stand around what both have changed. Nothing else in a file looks like the first and the last.
MINE_MARK = "<<<<<<< your text"
BETWEEN_MARK = "======="
THEIRS_MARK = ">>>>>>> on disk"
_MARKED = re.compile(
    rf"^{MINE_MARK}\n((?:(?!{MINE_MARK}\n).*\n)*?){BETWEEN_MARK}\n((?:.*\n)*?){THEIRS_MARK}(?:\n|\Z)",
    re.MULTILINE,
)


@frozen
class Merge:
    """The text of both. Where both changed the same lines, both stand there, between marks: ``conflicts`` times."""

    text: str
    conflicts: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left to decide."""
        return not self.conflicts


def merge(base: str, mine: str, theirs: str) -> Merge:
    """Put two texts together that were both made from ``base``. What either has and ``base`` has not, is in it.

    Where ``mine`` still has what an earlier merge left to decide, its own side of that is taken: the other side is the
    base of this one, and what came of it stands in ``theirs``.
    """
    mine = _MARKED.sub(lambda found: found[1] if found[2].strip("\n") in base else found[0], mine)
    parts: list[str] = []
    conflicts = 0
    end = 0
    ours = _Side(mine, line_changes(base, mine))
    other = _Side(theirs, line_changes(base, theirs))
    for start, stop in _regions([*ours.changes, *other.changes]):
        parts.append(base[end:start])
        old, my, their = base[start:stop], ours.text(start, stop), other.text(start, stop)
        if my == their or their == old:
            parts.append(my)
        elif my == old:
            parts.append(their)
        else:
            parts += _marked(my, their)
            conflicts += 1
        end = stop
    parts.append(base[end:])
    return Merge("".join(parts), conflicts)


def find_marks(text: str) -> Iterator[int]:
    """The lines, counted from 1, on which a mark of a merge is left."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.rstrip() in (MINE_MARK, THEIRS_MARK):
            yield number


class _Side:
    """One of the two texts, and how it came from their base."""

    def __init__(self, text: str, changes: Sequence[TextChange]) -> None:
        self._text = text
        self.changes = changes

    def text(self, start: int, stop: int) -> str:
        """What became of a region of the base that touches no change outside of it."""
        before = self._shift(change for change in self.changes if change.end < start)
        within = self._shift(change for change in self.changes if change.end <= stop)
        return self._text[start + before : stop + within]

    def _shift(self, changes: Iterable[TextChange]) -> int:
        """By how much what follows these changes stands further on than in the base."""
        return sum((c.new_end - c.new_start) - (c.end - c.start) for c in changes)


def _regions(changes: Sequence[TextChange]) -> Iterator[tuple[int, int]]:
    """The parts of the base that were changed; changes that touch each other are one."""
    start, stop = -1, -2
    for change in sorted(changes):
        if change.start > stop:
            if start >= 0:
                yield start, stop
            start, stop = change.start, change.end
        stop = max(stop, change.end)
    if start >= 0:
        yield start, stop


def _marked(mine: str, theirs: str) -> Sequence[str]:
    """Both between marks, less the lines with which both begin or end."""
    my, their = mine.splitlines(keepends=True), theirs.splitlines(keepends=True)
    head = _common(my, their)
    tail = _common(my[head:][::-1], their[head:][::-1])
    middle = [
        *(f"{MINE_MARK}\n", *_whole(my[head : len(my) - tail])),
        *(f"{BETWEEN_MARK}\n", *_whole(their[head : len(their) - tail])),
        f"{THEIRS_MARK}\n",
    ]
    return [*_whole(my[:head]), *middle, *my[len(my) - tail :]]


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    return next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _whole(lines: Sequence[str]) -> Sequence[str]:
    """The lines, the last of them ended, because a mark must begin on a line of its own."""
    return [line if line.endswith("\n") else f"{line}\n" for line in lines]
