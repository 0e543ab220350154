"""What changed from one text to another: by words where a script has spaces, by characters where it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from rolebook.core.frozen import frozen
from rolebook.core.text import pattern

#: A word, a Han or Kana character, white space, or one other character: together they are the whole text.
_TOKEN = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}]\p{M}*"
    r"|[[\p{L}\p{N}\p{M}_]--[\p{Han}\p{Hiragana}\p{Katakana}]]+"
    r"|\n|[^\S\n]+|[\s\S]"
)
#: A sentence or a line, whichever ends first, with all that ends it.
_SENTENCE = r"[^\n.!?。！？]*+(?:\n|[.!?。！？]+[^\S\n]*|\Z)"
_LINE = r"[^\n]*\n|[^\n]+"
#: The comparison keeps a bit for each pair of tokens: 50 MB, and some 50 ms.
_MOST_PAIRS = 400_000_000
#: What is the same between two changes and no longer than this, in characters, may be drawn into them.
_LONGEST_ISLAND = 12


@frozen
class Piece:
    """A part of both texts, or of one of them. The parts of a text, joined, are that text."""

    kind: Literal["same", "removed", "added"]
    text: str


@frozen
class LineDifference:
    """Whole lines: the same in both texts, in one of them, or changed; ``pieces`` are what they consist of."""

    kind: Literal["same", "removed", "added", "changed"]
    pieces: tuple[Piece, ...]

    @property
    def old(self) -> str:
        """The lines as they were."""
        return "".join(piece.text for piece in self.pieces if piece.kind != "added")

    @property
    def new(self) -> str:
        """The lines as they are."""
        return "".join(piece.text for piece in self.pieces if piece.kind != "removed")

    def as_data(self) -> dict[str, str]:
        """As JSON has it."""
        return {"kind": self.kind, "old": self.old, "new": self.new}


class TextChange(NamedTuple):
    """Where the texts differ, as indexes of characters: ``old[start:end]`` became ``new[new_start:new_end]``."""

    start: int
    end: int
    new_start: int
    new_end: int


def differences(old: str, new: str) -> tuple[Piece, ...]:
    """The pieces of two texts in order: same and removed, joined, are ``old``; same and added are ``new``.

    Words and Chinese or Japanese characters are compared; what stayed the same is their longest common subsequence.
    Where two texts have more than 400 million pairs of them (each 20,000), sentences are compared first, and words only
    within what changed, as far as that is small enough. Scraps of sameness between two changes are drawn into them.
    """
    return tuple(_pieces(old, new, _tidied(_changes(old, new), old)))


def line_differences(old: str, new: str) -> tuple[LineDifference, ...]:
    """Two texts laid side by side by lines, with what changed in the words of those that are not the same."""
    return tuple(_line_differences(old, new))


def line_changes(old: str, new: str) -> Sequence[TextChange]:
    """Where whole lines of two texts differ; all of them where they have too many lines to compare."""
    lines = _aligned(_split(_LINE, old), _split(_LINE, new))
    return [_whole(old, new)] if lines is None else lines


def _line_differences(old: str, new: str) -> Iterator[LineDifference]:
    changes = _tidied(line_changes(old, new), old)
    for piece_old, piece_new, is_same in _blocks(old, new, changes):
        if is_same:
            yield LineDifference("same", (Piece("same", piece_old),))
        elif piece_old and piece_new:
            yield LineDifference("changed", differences(piece_old, piece_new))
        elif piece_old:
            yield LineDifference("removed", (Piece("removed", piece_old),))
        else:
            yield LineDifference("added", (Piece("added", piece_new),))


def _pieces(old: str, new: str, changes: Sequence[TextChange]) -> Iterator[Piece]:
    for piece_old, piece_new, is_same in _blocks(old, new, changes):
        if is_same:
            yield Piece("same", piece_old)
            continue
        if piece_old:
            yield Piece("removed", piece_old)
        if piece_new:
            yield Piece("added", piece_new)


def _blocks(old: str, new: str, changes: Sequence[TextChange]) -> Iterator[tuple[str, str, bool]]:
    """Both texts cut at the changes: each block as it was, as it is, and whether that is the same."""
    end = 0
    for change in changes:
        if end < change.start:
            yield old[end : change.start], old[end : change.start], True
        yield old[change.start : change.end], new[change.new_start : change.new_end], False
        end = change.end
    if end < len(old):
        yield old[end:], old[end:], True


def _whole(old: str, new: str) -> TextChange:
    return TextChange(0, len(old), 0, len(new))


def _changes(old: str, new: str) -> Sequence[TextChange]:
    by_words = _aligned(_split(_TOKEN, old), _split(_TOKEN, new))
    if by_words is not None:
        return by_words
    by_sentences = _aligned(_split(_SENTENCE, old), _split(_SENTENCE, new))
    if by_sentences is None:
        return [_whole(old, new)]
    return [finer for change in by_sentences for finer in _refined(old, new, change)]


def _refined(old: str, new: str, change: TextChange) -> Sequence[TextChange]:
    """A change of sentences as changes of words."""
    start, end, new_start, new_end = change
    by_words = _aligned(_split(_TOKEN, old[start:end]), _split(_TOKEN, new[new_start:new_end]))
    if by_words is None:
        return [change]
    return [
        TextChange(start + inner[0], start + inner[1], new_start + inner[2], new_start + inner[3])
        for inner in by_words
    ]


def _split(source: str, text: str) -> Sequence[str]:
    return [match[0] for match in pattern(source).finditer(text) if match[0]]


def _aligned(old: Sequence[str], new: Sequence[str]) -> Sequence[TextChange] | None:
    """What is outside the longest common subsequence of two lists of tokens; None if there are too many of them."""
    from rapidfuzz.distance import Indel

    head = _common_length(old, new)
    if (len(old) - head) * (len(new) - head) > _MOST_PAIRS:
        return None
    # As numbers, tokens are told apart by what they are, and not by a hash that two of them may share.
    numbers: dict[str, int] = {}
    old_numbers, new_numbers = (
        [numbers.setdefault(token, len(numbers)) for token in tokens[head:]]
        for tokens in (old, new)
    )
    old_ends, new_ends = ([0, *accumulate(map(len, tokens))] for tokens in (old, new))
    blocks = Indel.opcodes(old_numbers, new_numbers)
    return _joined(
        TextChange(
            old_ends[head + block.src_start],
            old_ends[head + block.src_end],
            new_ends[head + block.dest_start],
            new_ends[head + block.dest_end],
        )
        for block in blocks
        if block.tag != "equal"
    )


def _common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """How many tokens two lists begin with in common."""
    differing = (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differing, min(len(a), len(b)))


def _joined(
    changes: Iterable[TextChange],
    is_one: Callable[[TextChange, TextChange], bool] = lambda before, after: (
        before.end == after.start
    ),
) -> Sequence[TextChange]:
    """The changes, with those joined that are one; by default where nothing stayed the same between them."""
    joined: list[TextChange] = []
    for change in changes:
        while joined and is_one(joined[-1], change):
            before = joined.pop()
            change = TextChange(before.start, change.end, before.new_start, change.new_end)
        joined.append(change)
    return joined


def _tidied(changes: Sequence[TextChange], old: str) -> Sequence[TextChange]:
    """The changes, with those joined between which next to nothing stayed the same."""

    def is_one(before: TextChange, after: TextChange) -> bool:
        return _is_island(old[before.end : after.start], before, after)

    return _joined(changes, is_one)


def _is_island(same: str, before: TextChange, after: TextChange) -> bool:
    """Whether what is the same is a scrap: no word in one line, or not half of what changed on either side of it."""
    if len(same) > _LONGEST_ISLAND or "\n" in same:
        return False
    is_wordless = not any(character.isalnum() for character in same)
    return is_wordless or 2 * len(same) <= min(_size(before), _size(after))


def _size(change: TextChange) -> int:
    return max(change.end - change.start, change.new_end - change.new_start)
