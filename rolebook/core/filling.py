"""How one cell is filled: its turns asked one after the other, then each answer checked, from wherever it was left.

It gets ready, waits for its place at the upstream, and gives it back when nothing more is to be called from there. The
judge is called from a place at its own upstream.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from rolebook.core.chat import ChatService, TurnEnded, TurnStarted
from rolebook.core.check import Check, CheckResult, run_check
from rolebook.core.comparison import Cell, ComparisonLog, Judge, digest_of
from rolebook.core.completion import Delta
from rolebook.core.errors import Phrase, RolebookError, StorageError
from rolebook.core.frozen import frozen
from rolebook.core.judge import AskedJudge, Judgement, Judging, answer_of
from rolebook.core.line import Place
from rolebook.core.persona import ResolvedPersona
from rolebook.core.run import CellDelta, CellEnded, CellStarted, Run, RunEvent
from rolebook.core.session import (
    Revision,
    Session,
    SessionLog,
    Turn,
    TurnStatus,
    new_id,
)


def missing_checks(
    checks: Sequence[Check],
    results: Sequence[CheckResult],
    judge: Judge | None,
    reference: str,
    *,
    is_retry: bool,
) -> Sequence[Check]:
    """Those checks of an answer that have no result yet.

    Arguments:
        reference: what the answer is held against, if anything.
        is_retry: whether a rubric that its judge could not tell is asked about once more.
    """
    done = {(result.label, result.digest): result.has_passed is not None for result in results}

    def is_missing(check: Check) -> bool:
        is_told = done.get((check.label, digest_of(check, judge, reference)))
        return is_told is None or (is_retry and check.is_rubric and not is_told)

    return [check for check in checks if is_missing(check)]


@frozen
class CellPlan:
    """What it takes to fill a cell.

    ``cell`` is as it stands in the log. ``session`` is its own, recorded with the first turn if the cell has not begun.
    ``history`` are the turns that its input follows; ``judge`` judges rubrics, those that it could not tell before as
    well if this ``is_retry``. ``flaw`` is why nothing can be asked: then texts that are still to be asked fail, and
    rubrics are told to be beyond judging.
    """

    cell: Cell
    session: Session
    persona: ResolvedPersona
    history: Sequence[Turn]
    checks: Sequence[Check]
    judge: AskedJudge | None
    is_retry: bool = False
    flaw: RolebookError | None = None


class Filling:
    """The filling of one cell, and the recorder of its turns; ``events`` is to be read once.

    Arguments:
        run: whose cell it is; it is told of each turn, so that it can stop it.
        place: from which the cell is called.
    """

    def __init__(
        self,
        run: Run,
        plan: CellPlan,
        place: Place,
        *,
        chat: ChatService,
        log: SessionLog,
        comparisons: ComparisonLog,
        judging: Judging,
    ) -> None:
        self._run = run
        self._plan = plan
        self._place = place
        self._begun = plan.cell
        self._key = plan.cell.key
        self._entry = run.comparison.inputs[self._key.input]
        self._session = plan.session
        self._chat = chat
        self._log = log
        self._comparisons = comparisons
        self._judging = judging
        self._turns = [turn for turn in self._begun.turns if turn.status is TurnStatus.COMPLETE]
        self._results = dict(self._begun.results)
        self._judging_place: Place | None = None
        self._judge_upstream = plan.judge.upstream if plan.judge else ""

    def events(self) -> Iterator[RunEvent]:
        """Fill it: yields what happens, at the end CellEnded. Raises StorageError."""
        broken: list[Turn] = []
        for index in range(len(self._turns), self._begun.length):
            if self._run.is_closed(self._place.upstream):
                break
            ended = yield from self._ask(index)
            if ended.status is not TurnStatus.COMPLETE:
                broken = [ended]
                break
            self._turns.append(ended)
        self._check_all()
        is_begun = bool(self._turns or broken)
        turns = (*self._turns, *broken) if is_begun else self._begun.turns
        yield CellEnded(
            replace(
                self._begun,
                session_id=self._session.id if turns else "",
                turns=turns,
                results=self._results,
            )
        )

    def _ask(self, index: int) -> Generator[CellStarted | CellDelta, None, Turn]:
        """One turn: yields that it starts and its deltas, and returns it with its end."""
        text = self._entry.turns[index]
        history = [*self._plan.history, *self._turns]
        try:
            if self._plan.flaw:
                raise self._plan.flaw
            with self._run.rendering:
                prepared = self._chat.prepare(self._session, self._plan.persona, text, history)
            # Its session names no upstream that is only the default.
            prepared = replace(prepared, upstream=self._place.upstream)
            events = self._chat.stream_prepared(
                self._session,
                prepared,
                text,
                is_streamed=self._run.comparison.is_streamed,
                reader="nobody",
                position=self._position(index),
                recorder=self,
            )
        except StorageError:
            raise
        except RolebookError as error:
            return self._fail(index, error)
        with closing(events):  # type: ignore[type-var]
            for event in events:
                match event:
                    case TurnStarted(turn):
                        self._run.note_turn(self._key, self._place.upstream, turn.id)
                        yield CellStarted(self._key, index)
                    case Delta(piece, 0, "text"):
                        yield CellDelta(self._key, index, piece)
                    case TurnEnded(turn):
                        self._run.note_turn(self._key, self._place.upstream, "")
                        return turn
        raise AssertionError("a turn that starts ends")

    def _position(self, index: int) -> int:
        """Where a turn that did not complete is tried again; 0 for one that was not asked yet."""
        return self._begun.turns[index].position if index < len(self._begun.turns) else 0

    def start_turn(self, turn: Turn, revision: Revision) -> Turn:
        """Record a turn as pending, and wait until its call may be made."""
        begun = self._record_start(turn, revision)
        self._run.note_ready(self._key)
        self._run.take_place(self._key, self._place)
        return begun

    def _record_start(self, turn: Turn, revision: Revision) -> Turn:
        """Record a turn as pending; the first begins the cell."""
        if self._turns or self._begun.turns:
            return self._log.start_turn(turn, revision)
        return self._comparisons.start_cell(
            self._run.comparison.id, self._key, self._session, turn, revision
        )

    def _fail(self, index: int, error: RolebookError) -> Turn:
        """A cell that cannot even be sent has its error in the log like any other."""
        turn = Turn(
            id=new_id(),
            session_id=self._session.id,
            revision=self._plan.persona.revision.id,
            input=self._entry.turns[index],
            position=self._position(index),
            upstream=self._place.upstream,
            model_requested=self._session.model,
        )
        failed = self._record_start(turn, self._plan.persona.revision).failed_with(error)
        self.finish_turn(failed)
        return failed

    def finish_turn(self, turn: Turn) -> None:
        """Record the turn together with what needs no judge, so that nothing can come between them.

        Where it was the last call for the cell, the next one leaves first.
        """
        if self._is_last_call(turn):
            self._place.give_back()
        results: tuple[CheckResult, ...] = ()
        if turn.status is TurnStatus.COMPLETE:
            answer = answer_of(turn, self._entry.reference)
            results = tuple(
                replace(
                    run_check(check, answer), digest=digest_of(check, None, self._entry.reference)
                )
                for check in self._plan.checks
                if not check.is_rubric
            )
        self._log.finish_turn(turn, results)
        self._run.note_end(self._key, turn, self._place.upstream)
        if results:
            self._results[turn.id] = results

    def _is_last_call(self, turn: Turn) -> bool:
        """Whether neither another turn nor a judge is called from this place after it."""
        if turn.status is not TurnStatus.COMPLETE:
            return True
        is_last = len(self._turns) + 1 == self._begun.length
        has_rubric = any(check.is_rubric for check in self._plan.checks)
        return is_last and not (has_rubric and self._is_judged_here)

    @property
    def _is_judged_here(self) -> bool:
        """Whether the judge has the cell's own upstream."""
        return self._place.upstream == self._judge_upstream

    def _check_all(self) -> None:
        """Run the checks that the answers lack, once nothing more is to be asked."""
        try:
            for index, turn in enumerate(self._turns):
                self._check(turn, self._turns[:index])
        finally:
            if self._judging_place:
                self._judging_place.give_back()

    def _may_judge(self) -> bool:
        """Wait for a place at the judge's upstream. False if nobody is called there any more.

        It is the cell's own where the upstream is the same. Else that one goes to the next cell first: nobody has one
        place and waits for another, so nobody waits for ever.
        """
        upstream = self._judge_upstream
        if not upstream or self._run.is_closed(upstream):
            return False
        self._run.note_answered(self._key)
        if self._judging_place is None:
            if not self._is_judged_here:
                self._place.give_back()
            self._judging_place = (
                self._place if self._place.is_needed else self._run.join_line(upstream)
            )
        self._run.take_place(self._key, self._judging_place)
        if self._run.is_closed(upstream):
            return False
        self._run.note_judged(self._key)
        return True

    def _check(self, turn: Turn, before: Sequence[Turn]) -> None:
        """Run the checks that an answer lacks: its rubrics, and what a killed process left out."""
        judge = self._run.comparison.judge
        known = self._results.get(turn.id, ())
        missing = missing_checks(
            self._plan.checks, known, judge, self._entry.reference, is_retry=self._plan.is_retry
        )
        rubrics = [check for check in missing if check.is_rubric]
        if self._plan.flaw and rubrics:
            self._record(turn, Judgement(tuple(map(self._beyond_judging, rubrics))))
        if rubrics and (self._plan.flaw or not self._may_judge()):
            missing = [check for check in missing if not check.is_rubric]
        if not missing:
            return
        conversation = [(said.input, said.text) for said in (*self._plan.history, *before)]
        for found in self._judging.judge(
            missing,
            turn,
            conversation=conversation,
            reference=self._entry.reference,
            asked=self._plan.judge,
            comparison_id=self._run.comparison.id,
        ):
            if isinstance(found, Judgement):
                self._record(turn, found)
            elif isinstance(found, Turn):
                self._run.note_end(self._key, found, self._judge_upstream)
            else:
                self._run.note_turn(self._key, self._judge_upstream, found)

    def _beyond_judging(self, rubric: Check) -> CheckResult:
        """That a rubric can never be judged, so that nobody is offered to have it done."""
        said = Phrase(
            "What was said before this answer is no longer in the log, so it cannot be judged."
        )
        digest = digest_of(rubric, self._run.comparison.judge, self._entry.reference)
        return replace(rubric.result(None, said), digest=digest)

    def _record(self, turn: Turn, found: Judgement) -> None:
        """Keep what checks found on an answer, in place of what the same ones had found before."""
        new = {(result.label, result.digest) for result in found.results}
        known = self._results.get(turn.id, ())
        kept = [result for result in known if (result.label, result.digest) not in new]
        self._results[turn.id] = (*kept, *found.results)
        if not found.is_recorded:
            comparison_id = self._run.comparison.id
            self._comparisons.record_results(turn.id, found.results, comparison_id=comparison_id)
