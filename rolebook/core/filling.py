"""How one cell is filled: its turns asked one after the other, each answer checked, from wherever it was left."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from rolebook.core.chat import ChatService, TurnEnded, TurnStarted
from rolebook.core.check import Check, CheckResult, run_check
from rolebook.core.comparison import Cell, ComparisonLog
from rolebook.core.completion import Delta
from rolebook.core.errors import RolebookError, StorageError
from rolebook.core.judge import Judgement, Judging, answer_of
from rolebook.core.persona import ResolvedPersona
from rolebook.core.run import CellDelta, CellEnded, CellStarted, Run, RunEvent
from rolebook.core.session import (
    Revision,
    Session,
    SessionLog,
    Turn,
    TurnError,
    TurnStatus,
    new_id,
)


def unchecked_turns(cell: Cell, checks: Sequence[Check]) -> Sequence[Turn]:
    """The answers of a cell that lack the result of a check."""
    labels = {check.label for check in checks}
    return [
        turn
        for turn in cell.turns
        if turn.status is TurnStatus.COMPLETE
        and not labels <= {result.label for result in cell.results.get(turn.id, ())}
    ]


@dataclass(frozen=True, slots=True)
class CellPlan:
    """What it takes to fill a cell.

    ``cell`` is as it stands in the log. ``session`` is its own, recorded with the first turn if the cell has not begun.
    ``history`` are the turns that its input follows; ``judge_persona`` judges rubrics.
    """

    cell: Cell
    session: Session
    persona: ResolvedPersona
    history: Sequence[Turn]
    checks: Sequence[Check]
    judge_persona: ResolvedPersona | None


class Filling:
    """The filling of one cell; ``events`` is to be read once.

    Arguments:
        run: whose cell it is; it is told of each turn, so that it can stop it.
    """

    def __init__(
        self,
        run: Run,
        plan: CellPlan,
        *,
        chat: ChatService,
        log: SessionLog,
        comparisons: ComparisonLog,
        judging: Judging,
    ) -> None:
        self._run = run
        self._plan = plan
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

    def events(self) -> Iterator[RunEvent]:
        """Fill it: yields what happens, at the end CellEnded. Raises StorageError."""
        for turn in unchecked_turns(self._begun, self._plan.checks):
            self._check(turn, self._turns[: self._turns.index(turn)])
        broken: list[Turn] = []
        for index in range(len(self._turns), self._begun.length):
            if self._run.is_stopping:
                break
            yield CellStarted(self._key, index)
            ended = yield from self._ask(index)
            if ended.status is not TurnStatus.COMPLETE:
                broken = [ended]
                break
            self._check(ended, self._turns)
            self._turns.append(ended)
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

    def _ask(self, index: int) -> Generator[CellDelta, None, Turn]:
        """One turn: yields its deltas and returns it with its end."""
        text = self._entry.turns[index]
        history = [*self._plan.history, *self._turns]
        try:
            with self._run.rendering:
                prepared = self._chat.prepare(self._session, self._plan.persona, text, history)
            events = self._chat.stream_prepared(
                self._session,
                prepared,
                text,
                is_streamed=self._run.comparison.is_streamed,
                position=self._position(index),
                start=self._start,
                finish=self._finish,
            )
        except StorageError:
            raise
        except RolebookError as error:
            return self._fail(index, error)
        with closing(events):  # type: ignore[type-var]
            for event in events:
                match event:
                    case TurnStarted(turn):
                        self._run.note_turn(self._key, turn.id)
                    case Delta(piece, 0, "text"):
                        yield CellDelta(self._key, index, piece)
                    case TurnEnded(turn):
                        self._run.note_turn(self._key, "")
                        return turn
        raise AssertionError("a turn that starts ends")

    def _position(self, index: int) -> int:
        """Where a turn that did not complete is tried again; 0 for one that was not asked yet."""
        return self._begun.turns[index].position if index < len(self._begun.turns) else 0

    def _start(self, turn: Turn, revision: Revision) -> Turn:
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
            upstream=self._session.upstream,
            model_requested=self._session.model,
        )
        begun = self._start(turn, self._plan.persona.revision)
        failed = replace(
            begun,
            status=TurnStatus.FAILED,
            error=TurnError(error.code, error.message, error.parameters),
        )
        self._finish(failed)
        return failed

    def _finish(self, turn: Turn) -> None:
        """Record the turn together with what needs no judge, so that nothing can come between them."""
        results: tuple[CheckResult, ...] = ()
        if turn.status is TurnStatus.COMPLETE:
            answer = answer_of(turn, self._entry.reference)
            results = tuple(
                run_check(check, answer) for check in self._plan.checks if not check.is_rubric
            )
        self._log.finish_turn(turn, results)
        if results:
            self._results[turn.id] = results

    def _check(self, turn: Turn, before: Sequence[Turn]) -> None:
        """Run the checks that an answer lacks: its rubrics, and what a killed process left out."""
        done = {result.label for result in self._results.get(turn.id, ())}
        missing = [check for check in self._plan.checks if check.label not in done]
        if not missing:
            return
        conversation = [(said.input, said.text) for said in (*self._plan.history, *before)]
        for found in self._judging.judge(
            missing,
            turn,
            conversation=conversation,
            reference=self._entry.reference,
            judge=self._run.comparison.judge,
            judge_persona=self._plan.judge_persona,
            comparison_id=self._run.comparison.id,
        ):
            if isinstance(found, Judgement):
                if found.judged_by and self._run.is_stopping:
                    # A judge that was stopped has said nothing; it is asked again when the run goes on.
                    return
                self._results[turn.id] = (*self._results.get(turn.id, ()), *found.results)
                self._comparisons.record_results(turn.id, found.results, judged_by=found.judged_by)
            else:
                self._run.note_turn(self._key, found)
