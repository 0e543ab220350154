"""Blind votes: which two answers are laid before somebody next, and what the ballots say as votes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import combinations, product
from random import Random
from typing import Any, TypeVar

from rolebook.core.comparison import Ballot, Cell, CellKey, CellStatus, Comparison
from rolebook.core.frozen import frozen
from rolebook.core.preference import Outcome, Verdict, Vote
from rolebook.core.session import Turn

#: Two cells, the left one first.
Pair = tuple[CellKey, CellKey]
_Item = TypeVar("_Item")
_LONGEST_LABEL = 80
#: A share of votes that is no further from one half makes no difference to anybody.
_NEARLY_EVEN = 0.15


def input_label(comparison: Comparison, index: int) -> str:
    """What an input is called among the others: its number, counted from 1, and its name or how it begins."""
    entry = comparison.inputs[index]
    line = " ".join((entry.name or entry.text).split())
    short = line if len(line) <= _LONGEST_LABEL else line[: _LONGEST_LABEL - 1] + "…"
    return f"{index + 1}. {short}"


def votes_of(comparison: Comparison, ballots: Iterable[Ballot]) -> list[Vote]:
    """What the ballots say, variants and inputs by their names; those without an outcome are left out.

    Inputs that say the same go by the name of the first of them.
    """
    same_inputs = comparison.same_inputs()
    return [
        Vote(
            comparison.variants[ballot.left.variant].name,
            comparison.variants[ballot.right.variant].name,
            ballot.outcome,
            input_label(comparison, same_inputs[ballot.left.input]),
            comparison.inputs[ballot.left.input].tags,
        )
        for ballot in ballots
        if ballot.outcome is not None
    ]


def vote_rows(comparison: Comparison, ballots: Iterable[Ballot]) -> list[dict[str, Any]]:
    """The votes as exports have them, a row for each; inputs and repeats count from 1.

    ``preferred`` is the name of a variant, or empty after a tie and where both are bad.
    """
    return [_row(comparison, ballot) for ballot in ballots if ballot.outcome is not None]


def _row(comparison: Comparison, ballot: Ballot) -> dict[str, Any]:
    left, right = (comparison.variants[key.variant].name for key in (ballot.left, ballot.right))
    return {
        "id": ballot.id,
        "voted_at": ballot.voted_at,
        "input": ballot.left.input + 1,
        "text": comparison.inputs[ballot.left.input].text,
        "left": left,
        "left_repeat": ballot.left.repeat + 1,
        "right": right,
        "right_repeat": ballot.right.repeat + 1,
        "outcome": str(ballot.outcome),
        "preferred": {Outcome.LEFT: left, Outcome.RIGHT: right}.get(
            ballot.outcome or Outcome.TIE, ""
        ),
    }


@frozen
class _Answer:
    """A cell, and what tells its texts from those of another."""

    key: CellKey
    texts: int


def _said(turn: Turn) -> tuple[str, str, str]:
    """All of an answer that whoever votes gets to see."""
    # Each call of a tool has an id of its own, which nobody sees.
    calls = [call.get("function", call) for call in turn.choice.tool_calls]
    return turn.text.strip(), turn.choice.refusal.strip(), json.dumps(calls) if calls else ""


def look_alike(verdict: Verdict) -> bool:
    """Whether there are votes enough to say that two variants are much the same, and not only that nobody knows yet."""
    low, high = verdict.share.low, verdict.share.high
    if verdict.share.excludes(0.5) or low is None or high is None:
        return False
    return 0.5 - _NEARLY_EVEN <= low and high <= 0.5 + _NEARLY_EVEN


class Pairing:
    """Which answers of a comparison can be laid side by side: complete ones to the same input that differ.

    Two that are word for word the same are left out, because nobody could prefer one of them: ``alike`` counts them.
    ``different`` counts the others. No texts are kept.

    Arguments:
        same_inputs: for each input the first one that says the same.
    """

    def __init__(self, cells: Iterable[Cell], same_inputs: Sequence[int]) -> None:
        self._same_inputs = same_inputs
        self._answers: dict[int, dict[int, list[_Answer]]] = defaultdict(lambda: defaultdict(list))
        for cell in cells:
            if cell.status is CellStatus.COMPLETE:
                texts = hash(tuple(map(_said, cell.turns)))
                self._answers[cell.key.input][cell.key.variant].append(_Answer(cell.key, texts))
        self.alike, self.different = self._count()

    def _count(self) -> tuple[int, int]:
        alike = total = 0
        for by_variant in self._answers.values():
            for one, other in combinations(by_variant.values(), 2):
                same = Counter(answer.texts for answer in other)
                alike += sum(same[answer.texts] for answer in one)
                total += len(one) * len(other)
        return alike, total - alike

    @property
    def variants(self) -> Collection[int]:
        """Those that can be laid beside another one."""
        beside = (numbers for numbers in self._answers.values() if len(numbers) > 1)
        return {number for numbers in beside for number in numbers}

    def next_pair(
        self, ballots: Iterable[Ballot], random: Random, *, rounds: int = 1
    ) -> Pair | None:
        """The two cells to lay before somebody, on random sides, or ``None`` if all have been.

        The two variants with the fewest votes come first, then the input with the fewest votes on them, those on others
        that say the same included. Pairs that lie
        before somebody at the moment wait until there are no others.

        Arguments:
            ballots: all of the comparison so far.
            rounds: how often a pair is voted on, or skipped, until it is used up.
        """
        seen = _Seen(ballots, self._same_inputs)
        best: Pair | None = None
        least = (rounds, False)
        for pair in self._candidates(seen, random):
            rank = (seen.uses[pair], pair in seen.open)
            if rank < least:
                best, least = pair, rank
            if least == (0, False):
                break
        if best is None:
            return None
        return best if random.random() < 0.5 else (best[1], best[0])

    def _candidates(self, seen: _Seen, random: Random) -> Iterator[Pair]:
        """All pairs, the most wanted first, the lower variant on the left."""
        variants = {number for by_variant in self._answers.values() for number in by_variant}
        for one, other in _mixed(combinations(sorted(variants), 2), random, seen.variants.get):
            places = [
                index
                for index, by_variant in self._answers.items()
                if one in by_variant and other in by_variant
            ]

            def votes_on(index: int, none: int, pair: tuple[int, int] = (one, other)) -> int:
                return seen.inputs.get((self._same_inputs[index], *pair), none)

            for index in _mixed(places, random, votes_on):
                by_variant = self._answers[index]
                for a, b in _mixed(product(by_variant[one], by_variant[other]), random):
                    if a.texts != b.texts:
                        yield a.key, b.key


class _Seen:
    """What has been laid before somebody: pairs of cells with the lower variant first."""

    def __init__(self, ballots: Iterable[Ballot], same_inputs: Sequence[int]) -> None:
        self.open: set[Pair] = set()
        self.uses: Counter[Pair] = Counter()
        self.variants: Counter[tuple[int, int]] = Counter()
        self.inputs: Counter[tuple[int, int, int]] = Counter()
        for ballot in ballots:
            one, other = sorted((ballot.left, ballot.right))
            if ballot.is_used:
                self.uses[one, other] += 1
            else:
                self.open.add((one, other))
            if ballot.outcome is not None:
                self.variants[one.variant, other.variant] += 1
                self.inputs[same_inputs[one.input], one.variant, other.variant] += 1


def uses_of(pair: Collection[CellKey], ballots: Iterable[Ballot]) -> int:
    """How often two cells were voted on or skipped."""
    return sum(ballot.is_used and ballot.pair == frozenset(pair) for ballot in ballots)


def is_open(ballot: Ballot, ballots: Iterable[Ballot]) -> bool:
    """Whether a vote on it counts: nobody has voted on it, nor on another ballot of this round with the same two."""
    return not ballot.is_used and uses_of(ballot.pair, ballots) <= ballot.round


def _mixed(
    items: Iterable[_Item], random: Random, votes: Callable[[_Item, int], int] | None = None
) -> list[_Item]:
    """In random order; with ``votes`` the fewest first."""
    mixed = list(items)
    random.shuffle(mixed)
    return sorted(mixed, key=lambda item: votes(item, 0)) if votes else mixed
