"""Comparing: planning a grid, filling its cells, and going on where it was left."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from rolebook.core.cells import Cells, MissingError
from rolebook.core.chat import ChatService
from rolebook.core.chosen import Usual, chosen_over
from rolebook.core.comparison import (
    Break,
    Cell,
    CellKey,
    CellStatus,
    Comparison,
    ComparisonLog,
    Judge,
    Standing,
    Variant,
)
from rolebook.core.comparison_spec import ComparisonSpec
from rolebook.core.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    UpstreamError,
)
from rolebook.core.filling import CellPlan, Filling
from rolebook.core.judge import Judging
from rolebook.core.line import Place
from rolebook.core.persona import Persona
from rolebook.core.planning import Plan, Planner, persona_at
from rolebook.core.run import Progress, Run, RunEvent, Workload
from rolebook.core.session import Revision, Session, SessionLog, Turn

#: Runs that have ended are kept for those whose line broke: they come back to the place in it that they know.
_MOST_ENDED = 16


class CompareService:
    """Comparisons over a log and a chat. Safe for threads."""

    def __init__(
        self,
        *,
        planner: Planner,
        cells: Cells,
        log: SessionLog,
        comparisons: ComparisonLog,
        chat: ChatService,
        judging: Judging,
    ) -> None:
        self._planner = planner
        self._cells = cells
        self._log = log
        self._comparisons = comparisons
        self._chat = chat
        self._judging = judging
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}

    def plan(self, spec: ComparisonSpec) -> Plan:
        """Decide everything about a comparison. Calls nobody and writes nothing.

        Raises UnplannableError with all that is wrong.
        """
        plan = self._planner.plan(spec)
        self._cells.keep(plan.personas)
        return plan

    def create(self, plan: Plan) -> Comparison:
        """Record a planned comparison. It is not begun.

        Where neither variant nor persona names an upstream or a model, that is the default as it is now, so that
        another default tomorrow mixes no models. An upstream may be asked for its model.
        """
        comparison = plan.comparison
        if not comparison.upstream:
            comparison = replace(comparison, upstream=self._cells.find_upstream("")[0])
        variants = tuple(self._with_model(variant, comparison) for variant in comparison.variants)
        judge = comparison.judge and self._with_judges_model(comparison.judge, comparison)
        comparison = replace(comparison, variants=variants, judge=judge)
        self._comparisons.create_comparison(comparison, plan.revisions)
        return comparison

    def _with_model(self, variant: Variant, comparison: Comparison) -> Variant:
        persona = self._cells.persona_of(variant.revision).persona
        if variant.is_recorded or variant.model or persona.model:
            return variant
        model = self._default_model(variant.upstream or persona.upstream or comparison.upstream)
        return replace(variant, model=model)

    def _with_judges_model(self, judge: Judge, comparison: Comparison) -> Judge:
        persona = self._cells.persona_of(judge.revision).persona
        if judge.model or persona.model:
            return judge
        model = self._default_model(judge.upstream or persona.upstream or comparison.upstream)
        return replace(judge, model=model)

    def _default_model(self, upstream: str) -> str:
        # One that cannot be reached now may be when it is called, and says so then.
        with suppress(UpstreamError):
            return self._chat.default_model(upstream)
        return ""

    def repeat(self, comparison: Comparison) -> Comparison:
        """Record the same comparison once more, with no cell begun. Raises what ``plan_again`` raises."""
        return self.create(self.plan_again(comparison))

    def plan_again(self, comparison: Comparison, revisions: Sequence[Revision] = ()) -> Plan:
        """The same comparison once more. Calls nobody and writes nothing.

        Arguments:
            revisions: of its variants and its judge, as far as they need not be in the log.

        Raises NotFoundError for other revisions that are not in the log either, UnplannableError where something that
        it needs is missing here.
        """
        given = {revision.id: revision for revision in revisions}
        needed = {variant.revision for variant in comparison.variants}
        if comparison.judge:
            needed.add(comparison.judge.revision)
        known = [given.get(id) or self._log.get_revision(id) for id in needed]
        plan = self._planner.again(comparison, {found.id: persona_at(found) for found in known})
        self._cells.keep(plan.personas)
        return plan

    def chosen_in(self, session: Session, persona: Persona) -> dict[str, Any]:
        """What a variant of a persona says beside it, as a comparison file has it, to ask as a session did.

        Of an upstream that there is not any more, nothing is said.
        """
        history = self._log.history(session.id)
        last, then = (history[-1] if history else None), None
        if last is not None:
            with suppress(InputError):
                then = self._cells.persona_of(last.revision).persona
        upstream, error = self._cells.find_upstream(session.upstream or persona.upstream)
        if isinstance(error, NotFoundError) and session.upstream:
            session = replace(session, upstream="")
            upstream, _ = self._cells.find_upstream(persona.upstream)
        usual = Usual(upstream, self._chat.known_model(upstream))
        return chosen_over(persona, session, last, then, usual)

    def start(
        self,
        comparison: Comparison,
        *,
        keys: Sequence[CellKey] | None = None,
        with_failed: bool = False,
        is_reusing: bool = False,
        concurrency: int | None = None,
    ) -> Run:
        """Fill cells in the background, or go on with it. An answer that is complete is never asked for again.

        Arguments:
            keys: only these cells; by default all that are not complete and checked, except failed ones.
            with_failed: whether cells that failed are tried again, and rubrics that could not be told; ``keys`` are in
                any case.
            is_reusing: whether answers that the log has already, asked for in exactly the same way, are taken.
            concurrency: how many cells of an upstream at once; by default the comparison's.

        Raises ConflictError if it runs already, here or in another process, or is in the trash; StorageError.
        """
        if self._comparisons.get_comparison(comparison.id).deleted_at:
            raise ConflictError("This comparison is in the trash. Restore it to go on with it.")
        with self._lock:
            running = self._runs.get(comparison.id)
            if running and not running.has_ended:
                raise ConflictError("This comparison is running already.")
            self._comparisons.claim_comparison(comparison.id)
            breaks = self._comparisons.breaks_of(comparison.id)
            try:
                run = self._make_run(comparison, keys, with_failed, is_reusing, concurrency, breaks)
                if run.breaks != breaks:
                    self._comparisons.record_breaks(comparison.id, run.breaks)
            except BaseException:
                self._comparisons.release_comparison(comparison.id, breaks)
                raise
            self._runs.pop(comparison.id, None)
            self._forget_runs()
            self._runs[comparison.id] = run
        run.start()
        return run

    def _forget_runs(self) -> None:
        """Let go of the oldest runs of which all is in the log: each holds something for every one of its cells."""
        ended = [id for id, run in self._runs.items() if run.has_ended and run.is_kept]
        for id in ended[:-_MOST_ENDED]:
            del self._runs[id]

    def unsettled_cells(self, comparison: Comparison) -> Sequence[CellKey]:
        """The cells that have ended and are worth another try: they failed, or lack what a check has to tell."""
        return self._comparisons.unsettled(comparison, is_retry=True)

    def _make_run(
        self,
        comparison: Comparison,
        keys: Sequence[CellKey] | None,
        with_failed: bool,
        is_reusing: bool,
        concurrency: int | None,
        breaks: Sequence[Break],
    ) -> Run:
        is_retry = with_failed or keys is not None
        known = _statuses(comparison, self._comparisons.standings(comparison))
        settled = {CellStatus.COMPLETE, CellStatus.FAILED}
        unsettled = set(self._comparisons.unsettled(comparison, is_retry=is_retry))

        def is_open(key: CellKey) -> bool:
            # Nobody is asked for the rest of a recorded answer.
            is_recorded = comparison.variants[key.variant].is_recorded
            return not is_recorded and known.get(key) not in settled

        wanted = [
            key
            for key in (comparison.cell_keys() if keys is None else keys)
            if key in unsettled or is_open(key)
        ]
        if is_reusing:
            reused = self._reuse(comparison, [key for key in wanted if key not in known])
            known |= dict.fromkeys(reused, CellStatus.COMPLETE)
        begun = sorted({key.input for key in wanted if key in known})
        cells = {cell.key: cell for cell in self._comparisons.cells(comparison, inputs=begun)}
        return Run(
            comparison,
            Workload(
                begun=known,
                spent=self._comparisons.tally(comparison),
                queues=self._queues(comparison, wanted, known),
                concurrency=concurrency or comparison.concurrency,
                judge_upstream=self._cells.upstream_of_judge(comparison)[0] if wanted else "",
                breaks=() if wanted else breaks,
            ),
            fill=lambda run, key, place: self._fill(
                run, cells.get(key) or _waiting(comparison, key), place, is_retry
            ),
            cancel=self._chat.cancel,
            on_break=partial(self._comparisons.record_breaks, comparison.id),
            on_end=partial(self._comparisons.release_comparison, comparison.id),
        )

    def _queues(
        self,
        comparison: Comparison,
        keys: Sequence[CellKey],
        known: Mapping[CellKey, CellStatus],
    ) -> Mapping[str, Sequence[CellKey]]:
        """The cells by the upstream that answers them.

        Cells of an upstream that there is not fail, and say so; where it is the judge's, rubrics could not be told.
        Raises its error if there is nobody else to ask.

        Arguments:
            known: how far they are that have begun; those that are complete need the judge alone.
        """
        upstreams: dict[int, str] = {}
        missing: dict[int, MissingError] = {}
        for number in sorted({key.variant for key in keys}):
            upstreams[number], error = self._cells.upstream_of_variant(comparison, number)
            if error:
                missing[number] = error
        asked = {key.variant for key in keys if known.get(key) is not CellStatus.COMPLETE}
        errors = [missing.get(number) for number in sorted(asked)]
        if any(known.get(key) is CellStatus.COMPLETE for key in keys):
            errors.append(self._cells.upstream_of_judge(comparison)[1])
        if errors and errors[0] and all(errors):
            raise errors[0]
        queues: dict[str, list[CellKey]] = {}
        for key in keys:
            queues.setdefault(upstreams[key.variant], []).append(key)
        return queues

    def _reuse(self, comparison: Comparison, keys: Sequence[CellKey]) -> Sequence[CellKey]:
        wanted = self._cells.planned_turns(comparison, keys, self._chat.model_of)
        return self._comparisons.reuse_answers(comparison.id, wanted)

    def run_of(self, comparison_id: str) -> Run | None:
        """The run of a comparison in this process; where it has ended, only as long as it is one of the last."""
        return self._runs.get(comparison_id)

    def running(self) -> Sequence[Progress]:
        """How far each comparison is that runs in this process."""
        return [run.progress for run in list(self._runs.values()) if not run.has_ended]

    def progress_of(self, comparison: Comparison) -> Progress:
        """How far a comparison is."""
        run = self._runs.get(comparison.id)
        if run and not (run.has_ended and run.is_kept):
            return run.progress
        is_elsewhere = self._comparisons.is_run_elsewhere(comparison.id)
        return Progress(
            self._comparisons.tally(comparison),
            is_running=is_elsewhere,
            is_elsewhere=is_elsewhere,
            breaks=self._comparisons.breaks_of(comparison.id),
        )

    def stop(self, comparison_id: str) -> bool:
        """Stop its run and wait for the end of what is under way. False if it does not run in this process."""
        run = self._runs.get(comparison_id)
        if run is None or run.has_ended:
            return False
        run.stop()
        run.wait(5.0)
        return True

    def stop_all(self) -> None:
        """Stop every run, because the process ends. Returns at once."""
        for run in list(self._runs.values()):
            run.stop()

    def wait_all(self, timeout_s: float) -> None:
        """Wait until what was stopped is in the log, at most so long for each run."""
        for run in list(self._runs.values()):
            run.wait(timeout_s)

    def _fill(self, run: Run, cell: Cell, place: Place, is_retry: bool) -> Iterator[RunEvent]:
        comparison, key = run.comparison, cell.key
        if self._has_lost_session(cell):
            cell = _waiting(comparison, key)
        flaw = None
        try:
            session, history = self._origin_of(comparison, cell)
        except NotFoundError as error:
            # The others have nothing to do with it, so it fails like any other, in a session that follows nothing.
            flaw, history = error, ()
            session = replace(self._cells.session_of(comparison, key), forked_from="")
            session = replace(session, id=cell.session_id or session.id)
        plan = CellPlan(
            cell,
            session=session,
            persona=self._cells.persona_of(comparison.variants[key.variant].revision),
            history=history,
            checks=self._cells.checks_of(comparison, key.variant),
            judge=self._cells.asked_judge(comparison),
            is_retry=is_retry,
            flaw=flaw,
        )
        return Filling(
            run,
            plan,
            place,
            chat=self._chat,
            log=self._log,
            comparisons=self._comparisons,
            judging=self._judging,
        ).events()

    def _has_lost_session(self, cell: Cell) -> bool:
        """Whether a cell cannot go on where it was left. Some of its turns may be there, because others show them."""
        if not cell.turns or cell.status is CellStatus.COMPLETE:
            return False
        try:
            self._log.get_session(cell.session_id)
        except NotFoundError:
            return True
        return False

    def _origin_of(self, comparison: Comparison, cell: Cell) -> tuple[Session, Sequence[Turn]]:
        """The session of a cell, and what was said before. Raises NotFoundError if that is gone from the log."""
        entry = comparison.inputs[cell.key.input]
        if not cell.turns:
            return self._cells.session_of(comparison, cell.key), self._cells.history_of(entry)
        try:
            session = self._log.get_session(cell.session_id)
        except NotFoundError:
            # An answer that was only reused outlives its session, and to check it nothing else of that is needed.
            if cell.status is not CellStatus.COMPLETE:
                raise
            session = replace(
                self._cells.session_of(comparison, cell.key), id=cell.session_id, forked_from=""
            )
        try:
            return session, self._cells.history_of(entry)
        except NotFoundError:
            # A session keeps what it inherits, also where that is removed from its source for good.
            if session.forked_from != entry.follows:
                raise
            return session, self._log.history(session.id, before=cell.turns[0].position)


def _waiting(comparison: Comparison, key: CellKey) -> Cell:
    return Cell(key, len(comparison.inputs[key.input].turns))


def _statuses(comparison: Comparison, standings: Sequence[Standing]) -> dict[CellKey, CellStatus]:
    """How far each cell is that has begun."""
    return {
        CellKey(variant, *divmod(place, comparison.repeats)): status
        for variant, standing in enumerate(standings)
        for status, places in standing.places.items()
        for place in places
    }
