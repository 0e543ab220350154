"""A comparison is a grid: variants by inputs by repeats. Each cell of it is a session of its own in the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, cast

from rolebook.core.check import Check, CheckResult
from rolebook.core.completion import Choice
from rolebook.core.errors import NotFoundError, Phrase, detail_of, phrase_with_detail
from rolebook.core.frozen import frozen
from rolebook.core.message import Message, MessageRole, Origin, Span
from rolebook.core.preference import Outcome
from rolebook.core.session import Revision, Session, Turn, TurnError, TurnStatus, now
from rolebook.core.transcript import whole_turns


class CellKey(NamedTuple):
    """A place in the grid: indexes into variants and inputs, and the number of the repeat, all counted from 0."""

    variant: int
    input: int
    repeat: int

    def __str__(self) -> str:
        """As addresses and exports have it, counted from 1: ``2-1-3``."""
        return "-".join(str(part + 1) for part in self)


@frozen
class Variant:
    """A persona as it takes part: at one revision, with what was chosen over it.

    ``name`` is unique in its comparison. ``persona_id`` is empty for a role without a file. ``variables`` win over
    those of an input, ``parameters`` are as in a session. A variant that ``is_recorded`` makes no call: its cells are
    turns that were in the log before. Where these come from several revisions, of one persona or of several, ``others``
    are those beside the first.
    """

    name: str
    persona_id: str
    revision: str
    model: str = ""
    upstream: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_recorded: bool = False
    others: tuple[str, ...] = ()

    @property
    def revisions(self) -> tuple[str, ...]:
        """All revisions that its answers are from."""
        return (self.revision, *self.others)


@frozen
class ComparisonInput:
    """What is said to every variant: one text, or several, one turn after the other.

    ``variables`` go to those variants whose persona has them. ``reference`` is an answer to measure others by.
    ``follows`` is the turn whose session, up to it, is the history of this input (fixed history); ``earlier`` is such a
    history as texts, each an input and its answer; ``sent`` is one as a program has sent it, each message a role and a
    text, where that is more than the log's or another one. ``request`` are the request fields of a program that say
    what an answer to it may be, such as tools; what a persona or a variant says itself wins over them. ``source`` is
    the session that the texts were taken from, ``recorded`` are the turns there that answered them.
    """

    turns: tuple[str, ...]
    name: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    tags: tuple[str, ...] = ()
    follows: str = ""
    earlier: tuple[tuple[str, str], ...] = ()
    sent: tuple[tuple[str, str], ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    recorded: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The first of its texts."""
        return self.turns[0]

    @property
    def said(self) -> Hashable:
        """All of it that a model is told, so that two inputs of which this is the same are the same to a variant."""
        variables = tuple(sorted((name, str(value)) for name, value in self.variables.items()))
        texts = tuple(map(str.strip, self.turns))
        request = json.dumps(self.request, sort_keys=True)
        return texts, variables, self.follows, self.earlier, self.sent, request

    @property
    def history(self) -> Sequence[Turn]:
        """What was said before it, as far as that is not in the log."""
        if self.sent:
            return [_turn_sent(messages) for messages in whole_turns(messages_sent(self.sent))]
        return [said_before(asked, answered) for asked, answered in self.earlier]


def messages_sent(sent: Iterable[tuple[str, str]]) -> Sequence[Message]:
    """The messages that a program has sent before an input."""
    return [
        Message(cast(MessageRole, role), text, (Span(text, Origin.HISTORY),)) for role, text in sent
    ]


def _turn_sent(messages: Sequence[Message]) -> Turn:
    asked = "\n".join(each.content for each in messages if each.role != "assistant")
    answered = "\n".join(each.content for each in messages if each.role == "assistant")
    return replace(said_before(asked, answered), messages=tuple(messages))


def said_before(asked: str, answered: str) -> Turn:
    """An earlier turn that is in no log: nothing but what was said."""
    return Turn(
        id="",
        session_id="",
        revision="",
        input=asked,
        status=TurnStatus.COMPLETE,
        choices=(Choice(answered),),
    )


@frozen
class LeftOut:
    """Inputs from the log that were not taken, as they do not fit or say nothing: so many for one reason."""

    count: int
    reason: Phrase


@frozen
class Judge:
    """Who judges rubrics: a persona with the variables ``rubric``, ``conversation`` and ``reference``."""

    persona_id: str
    revision: str
    model: str = ""
    upstream: str = ""


def looks_at_reference(check: Check) -> bool:
    """Whether what it finds depends on the reference of the answer's input."""
    return check.kind in {"rubric", "similarity"}


def digest_of(check: Check, judge: Judge | None, reference: str = "") -> str:
    """What tells the results of a check from those of others.

    A verdict on a rubric is that of its judge too, and what looks at a reference is about that one only.
    """
    parts = [check.digest]
    if check.is_rubric and judge is not None:
        parts += [judge.revision, judge.model, judge.upstream]
    if reference and looks_at_reference(check):
        parts.append(reference)
    return check.digest if len(parts) == 1 else sha256_of(parts)


def sha256_of(parts: Sequence[str]) -> str:
    """A short hash of several texts: 16 hex digits of SHA-256."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@frozen
class Comparison:
    """A grid as planned; nothing of it changes once it has begun.

    ``question`` is what it shall answer, in words. ``concurrency`` is how many calls an upstream gets at once.
    ``checks`` hold for every answer, beside those of the personas. Answers that are not ``is_streamed`` take less of
    the computer, and have no time to first token. ``upstream`` is the one that was the default when it was recorded: it
    answers for variants, and for the judge, that name none and whose personas name none. ``repeats_of`` is the
    comparison that this one does again. ``left_out`` is what could not be taken of the inputs that were asked for.
    """

    id: str
    question: str
    variants: tuple[Variant, ...]
    inputs: tuple[ComparisonInput, ...]
    repeats: int = 1
    checks: tuple[Check, ...] = ()
    judge: Judge | None = None
    concurrency: int = 4
    is_streamed: bool = True
    upstream: str = ""
    repeats_of: str = ""
    left_out: tuple[LeftOut, ...] = ()
    created_at: str = field(default_factory=now)
    deleted_at: str = ""

    def checks_with(self, *own: Sequence[Check]) -> Sequence[Check]:
        """What the answers of a variant must be: the checks of its persona, then those of the comparison.

        Without a judge nobody can say whether a rubric holds, so it is left out.

        Arguments:
            own: the checks of each of its revisions; all of them must have a check, or it holds for none.
        """
        sets = [{(check.label, check.digest) for check in checks} for checks in own]
        shared = [
            check
            for check in (own[0] if own else ())
            if all((check.label, check.digest) in each for each in sets)
        ]
        checks = {(check.label, check.digest): check for check in (*shared, *self.checks)}
        return [check for check in checks.values() if self.judge or not check.is_rubric]

    @property
    def size(self) -> int:
        """How many cells it has."""
        answering = sum(not variant.is_recorded for variant in self.variants)
        return answering * len(self.inputs) * self.repeats + self.recorded_size

    @property
    def recorded_size(self) -> int:
        """How many of its cells are recorded answers: those are there before it begins, whole or not."""
        recorded = sum(variant.is_recorded for variant in self.variants)
        return recorded * sum(bool(entry.recorded) for entry in self.inputs)

    def cell_keys(self) -> Iterator[CellKey]:
        """Every cell in the order in which they run: repeat by repeat, input by input, all variants of one together.

        A recorded variant was said once, and only to inputs from the log.
        """
        for repeat in range(self.repeats):
            for index in range(len(self.inputs)):
                for number in range(len(self.variants)):
                    key = CellKey(number, index, repeat)
                    if self._is_asked(key):
                        yield key

    def same_inputs(self) -> Sequence[int]:
        """For each input the index of the first one that says the same: most often its own.

        Answers to the same words are repeats, wherever in the grid they stand, and no evidence of what holds for other
        words.
        """
        first: dict[Hashable, int] = {}
        return [first.setdefault(entry.said, index) for index, entry in enumerate(self.inputs)]

    def same_variants(self) -> Sequence[int]:
        """For each variant the index of the first one that is made of the same: most often its own."""
        made = [replace(variant, name="") for variant in self.variants]
        return [made.index(variant) for variant in made]

    def key_of(self, text: str) -> CellKey:
        """The cell that ``str(key)`` names. Raises NotFoundError if there is none."""
        parts = text.split("-")
        if len(parts) == 3 and all(
            part.isascii() and part.isdigit() and len(part) < 8 for part in parts
        ):
            key = CellKey(*(int(part) - 1 for part in parts))
            if self.has(key):
                return key
        raise NotFoundError(
            "There is no cell %(cell)s. Write it as variant-input-repeat, such as 2-1-1.",
            cell=text[:40],
        )

    def has(self, key: CellKey) -> bool:
        """Whether a key is one of its cells."""
        is_inside = (
            0 <= key.variant < len(self.variants)
            and 0 <= key.input < len(self.inputs)
            and 0 <= key.repeat < self.repeats
        )
        return is_inside and self._is_asked(key)

    def _is_asked(self, key: CellKey) -> bool:
        if not self.variants[key.variant].is_recorded:
            return True
        return key.repeat == 0 and bool(self.inputs[key.input].recorded)


class CellStatus(StrEnum):
    WAITING = "waiting"
    """Not begun."""
    RUNNING = "running"
    COMPLETE = "complete"
    """Every turn of it has its answer."""
    FAILED = "failed"
    """Its last turn failed, or broke off; a retry goes on there, except in a recorded answer."""
    STOPPED = "stopped"
    """Somebody stopped it, or Rolebook ended meanwhile; resuming goes on there, except in a recorded answer."""


_STATUS = {
    TurnStatus.PENDING: CellStatus.RUNNING,
    TurnStatus.FAILED: CellStatus.FAILED,
    TurnStatus.INTERRUPTED: CellStatus.FAILED,
    TurnStatus.CANCELLED: CellStatus.STOPPED,
}


def cell_status(
    complete: int, length: int, last_status: TurnStatus, last_error: str = ""
) -> CellStatus:
    """How far a cell is that has begun.

    Arguments:
        complete: how many of its turns have their answer, of ``length``.
        last_status, last_error: of the last turn that has none, else of its last; the error by its code.
    """
    if last_status is TurnStatus.COMPLETE:
        return CellStatus.COMPLETE if complete >= length else CellStatus.STOPPED
    # What a killed process left behind is interrupted too, but nothing failed there.
    return CellStatus.STOPPED if last_error == "interrupted" else _STATUS[last_status]


@frozen
class Cell:
    """One variant's answers to one input, as far as there are any.

    ``turns`` are the current attempts, in order, without messages and replies; ``results`` what checks found, by the
    turn's id. A cell that ``is_reused`` points to turns that were in the log before; ``session_id`` is then theirs.
    ``length`` is how many turns its input has.
    """

    key: CellKey
    length: int
    session_id: str = ""
    turns: tuple[Turn, ...] = ()
    results: Mapping[str, tuple[CheckResult, ...]] = field(default_factory=dict)
    is_reused: bool = False

    @property
    def status(self) -> CellStatus:
        """How far it is."""
        if not self.turns:
            return CellStatus.WAITING
        short = [turn for turn in self.turns if turn.status is not TurnStatus.COMPLETE]
        last = (short or self.turns)[-1]
        complete = len(self.turns) - len(short)
        return cell_status(
            complete, self.length, last.status, last.error.code if last.error else ""
        )

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """All results, turn by turn."""
        return tuple(result for turn in self.turns for result in self.results.get(turn.id, ()))


@frozen
class CellOutline:
    """How far a cell is and how its checks went, without what was said.

    ``passed`` and ``failed`` count results of checks.
    """

    key: CellKey
    status: CellStatus
    passed: int = 0
    failed: int = 0


@frozen
class Standing:
    """How far all cells of one variant are. Here they go by their places: ``input * repeats + repeat``.

    ``places`` are those of the cells that have begun, by how far these are; ``failing`` of those with an answer that a
    check has failed on.
    """

    places: Mapping[CellStatus, Sequence[int]]
    failing: Sequence[int]


@frozen
class Tally:
    """How many cells of a comparison are how far.

    ``cost`` is in US dollars, as far as it is known; ``without_cost`` turns have none that is. Reused answers cost
    nothing. Of those that failed or were stopped, ``recorded_failed`` and ``recorded_stopped`` are recorded answers:
    nobody asks for these again. Of the checks that the comparison wants, ``checked`` have told something. Of those on
    complete cells, ``unchecked`` have no result yet, which going on brings, and ``unjudged`` are rubrics that their
    judge could not tell; trying again asks it once more. While it runs nobody counts these.
    """

    total: int
    complete: int = 0
    failed: int = 0
    stopped: int = 0
    running: int = 0
    recorded_failed: int = 0
    recorded_stopped: int = 0
    cost: float = 0.0
    without_cost: int = 0
    checked: int = 0
    unchecked: int = 0
    unjudged: int = 0

    @property
    def waiting(self) -> int:
        """Cells that have not begun."""
        return self.total - self.complete - self.failed - self.stopped - self.running

    @property
    def to_retry(self) -> int:
        """Cells that failed and can be tried again."""
        return self.failed - self.recorded_failed

    @property
    def to_answer(self) -> int:
        """Cells that going on asks, or that are being asked."""
        return self.waiting + self.running + self.stopped - self.recorded_stopped

    @property
    def without_checks(self) -> Tally:
        """The same where nobody counts checks."""
        return replace(self, checked=0, unchecked=0, unjudged=0)


@frozen
class Break:
    """Why a run has called an upstream no more, or nobody at all. It is kept until the comparison goes on.

    ``upstream`` gave no answer to so many ``calls`` in a row, and ``error`` says why; where none is named, that is what
    ended the whole run.
    """

    error: TurnError
    upstream: str = ""
    calls: int = 0
    at: str = field(default_factory=now)

    @property
    def said(self) -> Phrase:
        """The same in a sentence."""
        said = Phrase(self.error.message, self.error.parameters)
        if self.upstream:
            said = Phrase(
                "%(upstream)s gives no answers: %(count)d calls in a row failed. %(reason)s What was answered is kept; "
                "the rest can be asked later.",
                {"upstream": self.upstream, "count": self.calls, "reason": said},
            )
        return phrase_with_detail(said, detail_of(self.error.parameters))


@frozen
class Ballot:
    """Two cells laid before somebody without their names, and what was said of them: ``None`` is nothing yet.

    One that ``is_skipped`` was passed over and stays without an outcome. ``round`` is how often the two had been voted
    on or skipped when they were laid before somebody: once that is more, it is too late for this one.
    """

    id: str
    comparison_id: str
    left: CellKey
    right: CellKey
    outcome: Outcome | None = None
    is_skipped: bool = False
    round: int = 0
    created_at: str = field(default_factory=now)
    voted_at: str = ""

    @property
    def is_used(self) -> bool:
        """Whether it was voted on or skipped."""
        return self.outcome is not None or self.is_skipped

    @property
    def pair(self) -> frozenset[CellKey]:
        """The two cells, whichever side they are on."""
        return frozenset((self.left, self.right))


class ComparisonLog(Protocol):
    """What comparing needs of a log, beside what the chat needs. Every method may raise StorageError."""

    def usual_answer(self, persona_id: str) -> float | None:
        """The mean length of a persona's newest answers, in tokens; ``None`` where none is known."""

    def recent_turns(self, persona_id: str, limit: int) -> Sequence[Turn]:
        """The newest turns that people had with a persona, however they ended, without trials; the oldest first."""

    def turns_up_to(self, turn_id: str) -> Sequence[Turn]:
        """The turns that are history after this one, which is the last. Raises NotFoundError."""

    def create_comparison(self, comparison: Comparison, revisions: Sequence[Revision]) -> None:
        """Record a comparison with the revisions of its variants and its judge, and link its recorded cells.

        Raises ConflictError if there is one of that id.
        """

    def get_comparison(self, comparison_id: str) -> Comparison:
        """Also finds one in the trash. Raises NotFoundError."""

    def tally(self, comparison: Comparison) -> Tally:
        """How many of its cells are how far, and what they have cost."""

    def cells(
        self, comparison: Comparison, *, inputs: Sequence[int] | None = None
    ) -> Sequence[Cell]:
        """The cells that have begun, with turns and results, in the order of their keys.

        Arguments:
            inputs: only those of these inputs.
        """

    def standings(self, comparison: Comparison) -> Sequence[Standing]:
        """How far all its cells are, by variant."""

    def unsettled(self, comparison: Comparison, *, is_retry: bool) -> Sequence[CellKey]:
        """The cells that have ended with something left to do, in the order in which they run.

        They lack the result of a check.

        Arguments:
            is_retry: whether those count, too, that failed, or have a rubric that its judge could not tell.
        """

    def get_cell(self, comparison: Comparison, key: CellKey) -> Cell:
        """One cell; a waiting one if it has not begun."""

    def start_cell(
        self, comparison_id: str, key: CellKey, session: Session, turn: Turn, revision: Revision
    ) -> Turn:
        """Record in one piece that a cell begins: its session, its place in the grid, its first turn as pending.

        What stood at that place before is replaced there; its session stays in the log. Returns the turn as recorded.
        """

    def reuse_answers(
        self, comparison_id: str, wanted: Mapping[CellKey, Turn]
    ) -> Sequence[CellKey]:
        """Fill cells with complete turns of the log that were asked in exactly the same way.

        Arguments:
            wanted: for each cell a turn as it would be sent; the same messages, upstream, model and parameters are
                looked for. Several repeats get different turns.

        Returns the keys that were filled.
        """

    def reusable_turns(self, wanted: Mapping[CellKey, Turn]) -> Mapping[CellKey, str]:
        """The ids of the turns that ``reuse_answers`` would fill cells with, if the comparison were recorded."""

    def results_of_turns(self, turn_ids: Iterable[str]) -> Mapping[str, tuple[CheckResult, ...]]:
        """What checks found on turns, by the turns' ids; those without results are left out."""

    def record_results(
        self,
        turn_id: str,
        results: Sequence[CheckResult],
        *,
        comparison_id: str,
    ) -> None:
        """Record what the checks of a comparison found on a turn; an older result of the same check is replaced.

        What a judge says is recorded with the judge's turn.

        Arguments:
            comparison_id: a turn that is only reused there keeps what its own talk was checked for.
        """

    def claim_comparison(self, comparison_id: str) -> None:
        """Keep other processes from running it meanwhile. Why its last run broke off stays known.

        Raises ConflictError if another one runs it.
        """

    def is_run_elsewhere(self, comparison_id: str) -> bool:
        """Whether another process runs it at the moment."""

    def record_breaks(self, comparison_id: str, breaks: Sequence[Break]) -> None:
        """Keep why the run of this process does not call everybody; nothing: it does."""

    def release_comparison(self, comparison_id: str, breaks: Sequence[Break]) -> None:
        """Let others run it again, and keep why this run broke off, if it did."""

    def breaks_of(self, comparison_id: str) -> Sequence[Break]:
        """Why its last run broke off; nothing if it did not. Raises NotFoundError."""
