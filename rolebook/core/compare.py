"""Comparing: planning a grid, saying what it will cost, filling its cells, and going on where it was left."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from rolebook.core.call import Prices
from rolebook.core.chat import ChatService, PreparedTurn, TokenCounter
from rolebook.core.check import Check
from rolebook.core.chosen import Usual, chosen_over
from rolebook.core.comparison import (
    Break,
    Cell,
    CellKey,
    CellStatus,
    Comparison,
    ComparisonInput,
    ComparisonLog,
    Standing,
    Variant,
)
from rolebook.core.comparison_spec import ComparisonSpec
from rolebook.core.completion import Usage
from rolebook.core.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    UpstreamError,
    UpstreamKeyError,
)
from rolebook.core.filling import CellPlan, Filling, missing_checks
from rolebook.core.frozen import frozen
from rolebook.core.judge import Judging
from rolebook.core.line import Place
from rolebook.core.persona import Persona, ResolvedPersona
from rolebook.core.planning import Plan, Planner, persona_at, values_for
from rolebook.core.run import Progress, Run, RunEvent, Workload
from rolebook.core.session import Revision, Session, SessionLog, Turn, new_id

#: So many cells are rendered and counted for an estimate; more are told by these.
_SAMPLE = 60
_MOST_PERSONAS = 500
#: The length of an answer, in tokens, where the log has none of the persona's to tell it by.
_USUAL_ANSWER = 250
#: What a judge is told beside answer and conversation, and what it says, in tokens.
_JUDGE_PROMPT, _VERDICT = 350, 60

#: There is no upstream of that name, or it has no key.
_MissingError = NotFoundError | UpstreamKeyError


@frozen
class CellFault:
    """Why a cell cannot be asked, as can be told before."""

    key: CellKey
    error: InputError | NotFoundError


@frozen
class Estimate:
    """What filling the cells of a comparison takes, as far as it can be told before.

    ``looked_at`` cells tell it; ``faults`` are those of them that will fail. ``prompt_tokens`` and
    ``completion_tokens`` are estimates, judging included; ``cost`` is in US dollars, ``None`` where a price is not
    known. ``judgements`` are calls of the judge, which ``calls`` has too. ``reused`` cells take an answer of the log.
    """

    cells: int
    calls: int
    judgements: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    looked_at: int = 0
    reused: int = 0
    faults: tuple[CellFault, ...] = ()


class CompareService:
    """Comparisons over a log and a chat. Safe for threads."""

    def __init__(
        self,
        *,
        planner: Planner,
        log: SessionLog,
        comparisons: ComparisonLog,
        chat: ChatService,
        judging: Judging,
        count_tokens: TokenCounter,
        prices: Prices,
    ) -> None:
        self._planner = planner
        self._log = log
        self._comparisons = comparisons
        self._chat = chat
        self._judging = judging
        self._count_tokens = count_tokens
        self._prices = prices
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._personas: dict[str, ResolvedPersona] = {}

    def plan(self, spec: ComparisonSpec) -> Plan:
        """Decide everything about a comparison. Calls nobody and writes nothing.

        Raises UnplannableError with all that is wrong.
        """
        plan = self._planner.plan(spec)
        self._keep(plan.personas)
        return plan

    def create(self, plan: Plan) -> Comparison:
        """Record a planned comparison. It is not begun.

        Where neither variant nor persona names a model, that is the upstream's default as it is now, so that another
        default tomorrow mixes no models. An upstream may be asked for it.
        """
        variants = tuple(map(self._with_model, plan.comparison.variants))
        comparison = replace(plan.comparison, variants=variants)
        self._comparisons.create_comparison(comparison, plan.revisions)
        return comparison

    def _with_model(self, variant: Variant) -> Variant:
        persona = self.persona_of(variant.revision).persona
        if variant.is_recorded or variant.model or persona.model:
            return variant
        # One that cannot be reached now may be when it is called, and says so then.
        with suppress(UpstreamError):
            model = self._chat.default_model(variant.upstream or persona.upstream)
            return replace(variant, model=model)
        return variant

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
        self._keep(plan.personas)
        return plan

    def persona_of(self, revision_id: str) -> ResolvedPersona:
        """A persona at a revision. Raises NotFoundError, InputError."""
        known = self._personas.get(revision_id)
        if known is None:
            known = persona_at(self._log.get_revision(revision_id))
            self._keep({revision_id: known})
        return known

    def _keep(self, personas: Mapping[str, ResolvedPersona]) -> None:
        """Reading one from the log takes a millisecond, so those in use are kept; drafts would pile up."""
        if len(self._personas) > _MOST_PERSONAS:
            self._personas = {}
        self._personas = {**self._personas, **personas}

    def chosen_in(self, session: Session, persona: Persona) -> dict[str, Any]:
        """What a variant of a persona says beside it, as a comparison file has it, to ask as a session did.

        Of an upstream that there is not any more, nothing is said.
        """
        history = self._log.history(session.id)
        last, then = (history[-1] if history else None), None
        if last is not None:
            with suppress(InputError):
                then = self.persona_of(last.revision).persona
        upstream, error = self._find_upstream(session.upstream or persona.upstream)
        if isinstance(error, NotFoundError) and session.upstream:
            session = replace(session, upstream="")
            upstream, _ = self._find_upstream(persona.upstream)
        usual = Usual(upstream, self._chat.known_model(upstream))
        return chosen_over(persona, session, last, then, usual)

    def checks_of(self, comparison: Comparison, variant: int) -> Sequence[Check]:
        """What the answers of a variant must be: the persona's checks, then those of the comparison."""
        revisions = comparison.variants[variant].revisions
        return comparison.checks_with(*(self.persona_of(id).persona.checks for id in revisions))

    def session_of(self, comparison: Comparison, key: CellKey) -> Session:
        """A new session for a cell, not recorded yet."""
        variant, entry = comparison.variants[key.variant], comparison.inputs[key.input]
        persona = self.persona_of(variant.revision).persona
        return Session(
            id=new_id(),
            persona_id=variant.persona_id,
            revision=variant.revision,
            variables=persona.parse_variables(values_for(variant, entry, persona)),
            upstream=variant.upstream,
            model=variant.model,
            parameters=variant.parameters,
            forked_from=entry.follows,
            comparison_id=comparison.id,
        )

    def prepare(self, comparison: Comparison, key: CellKey) -> PreparedTurn:
        """What the first turn of a cell would send. Calls nobody and writes nothing.

        Raises VariableError, PromptError, NotFoundError if the turn that it follows is gone.
        """
        entry = comparison.inputs[key.input]
        persona = self.persona_of(comparison.variants[key.variant].revision)
        session = self.session_of(comparison, key)
        return self._chat.prepare(session, persona, entry.text, self.history_of(entry))

    def planned_turn(self, comparison: Comparison, key: CellKey) -> Turn:
        """The first turn of a cell as it would be recorded before its call. Calls nobody and writes nothing.

        Raises what ``prepare`` raises; NotFoundError and UpstreamKeyError for an upstream that cannot be asked.
        """
        return self._asked(comparison, key, self._known_model)

    def try_out(self, comparison: Comparison, variant: int) -> None:
        """Raises what ``prepare`` raises if none of a variant's cells, as far as they are looked at, can be asked."""
        found: InputError | NotFoundError | None = None
        for key in _sample(comparison, variant, _SAMPLE):
            try:
                self.prepare(comparison, key)
            except (InputError, NotFoundError) as error:
                found = found or error
            else:
                return
        if found is not None:
            raise found

    def estimate(
        self, comparison: Comparison, *, look_at: int = _SAMPLE, is_reusing: bool = False
    ) -> Estimate:
        """What it takes to fill every cell, told by a sample of them. Calls nobody and writes nothing.

        Arguments:
            look_at: so many cells are looked at, about as many of each variant.
            is_reusing: whether answers that the log has already are taken, as ``start`` would take them.

        Raises InputError if none that was looked at of a variant can be asked.
        """
        keys = [k for k in comparison.cell_keys() if not comparison.variants[k.variant].is_recorded]
        reused = self._reusable(comparison, keys) if is_reusing else {}
        asked = [key for key in keys if key not in reused]
        variants = sorted({key.variant for key in asked})
        sample = [
            key
            for variant in variants
            for key in _sample(comparison, variant, max(1, look_at // len(variants)), reused)
        ]
        usual = {
            persona_id: self._comparisons.usual_answer(persona_id) or _USUAL_ANSWER
            for persona_id in {variant.persona_id for variant in comparison.variants}
        }
        parts: list[Estimate] = []
        faults: list[CellFault] = []
        for key in sample:
            try:
                parts.append(self._estimate_cell(comparison, key, usual))
            except (InputError, NotFoundError) as error:
                faults.append(CellFault(key, error))
        _require_some(comparison, sample, faults)
        scale = len(asked) / len(parts) if parts else 0.0
        judgements = sum(
            reused[key] if key in reused else self._rubrics(comparison, key) for key in keys
        )
        # Of an answer that is taken from the log, the length is not looked up.
        judged = self._estimate_judging(comparison, sum(reused.values()), _USUAL_ANSWER)
        asking = _sum(part.cost for part in parts)
        return Estimate(
            cells=len(keys),
            calls=sum(len(comparison.inputs[key.input].turns) for key in asked) + judgements,
            judgements=judgements,
            prompt_tokens=round(scale * sum(part.prompt_tokens for part in parts))
            + judged.prompt_tokens,
            completion_tokens=round(scale * sum(part.completion_tokens for part in parts))
            + judged.completion_tokens,
            cost=_sum([None if asking is None else scale * asking, judged.cost]),
            looked_at=len(sample),
            reused=len(reused),
            faults=tuple(faults),
        )

    def _rubrics(self, comparison: Comparison, key: CellKey) -> int:
        checks = self.checks_of(comparison, key.variant)
        return len(comparison.inputs[key.input].turns) * sum(check.is_rubric for check in checks)

    def _reusable(self, comparison: Comparison, keys: Sequence[CellKey]) -> Mapping[CellKey, int]:
        """The cells that need not be asked, each with how many rubrics its answer has not been judged by yet."""
        found = self._comparisons.reusable_turns(self._wanted(comparison, keys, self._known_model))
        if any(variant.is_recorded for variant in comparison.variants):
            # These are in it already, and none counts twice.
            taken = {id for entry in comparison.inputs for id in entry.recorded}
            found = {key: id for key, id in found.items() if id not in taken}
        results = self._comparisons.results_of_turns(found.values())

        def unjudged(key: CellKey) -> int:
            missing = missing_checks(
                self.checks_of(comparison, key.variant),
                results.get(found[key], ()),
                comparison.judge,
                comparison.inputs[key.input].reference,
                is_retry=False,
            )
            return sum(check.is_rubric for check in missing)

        return {key: unjudged(key) for key in found}

    def _known_model(self, prepared: PreparedTurn) -> str:
        return prepared.model or self._chat.known_model(prepared.upstream)

    def _estimate_cell(
        self, comparison: Comparison, key: CellKey, usual_answers: Mapping[str, float]
    ) -> Estimate:
        variant, entry = comparison.variants[key.variant], comparison.inputs[key.input]
        prepared = self.prepare(comparison, key)
        first = self._count_tokens(prepared.messages, prepared.model)
        usual = usual_answers[variant.persona_id]
        limit = prepared.parameters.get("max_tokens")
        answer = min(usual, limit) if isinstance(limit, int) else usual
        turns, rubrics = len(entry.turns), self._rubrics(comparison, key)
        # Each further turn sends the answers before it once more.
        asked = Usage(
            prompt_tokens=round(first * turns + answer * turns * (turns - 1) / 2),
            completion_tokens=round(answer * turns),
        )
        judged = self._estimate_judging(comparison, rubrics, answer + first / 2)
        costs = [self._cost(asked, prepared.upstream, prepared.model), judged.cost]
        return Estimate(
            cells=1,
            calls=turns,
            judgements=rubrics,
            prompt_tokens=(asked.prompt_tokens or 0) + judged.prompt_tokens,
            completion_tokens=(asked.completion_tokens or 0) + judged.completion_tokens,
            cost=_sum(costs),
        )

    def _estimate_judging(self, comparison: Comparison, rubrics: int, length: float) -> Estimate:
        """What so many calls of the judge take.

        Arguments:
            length: of what is judged, in tokens.
        """
        judged = Usage(
            prompt_tokens=round(rubrics * (length + _JUDGE_PROMPT)),
            completion_tokens=rubrics * _VERDICT,
        )
        cost: float | None = 0.0
        if comparison.judge and rubrics:
            judge = comparison.judge
            persona = self.persona_of(judge.revision).persona
            upstream, model = judge.upstream or persona.upstream, judge.model or persona.model
            cost = self._cost(judged, upstream, model)
        return Estimate(
            cells=0,
            calls=0,
            judgements=rubrics,
            prompt_tokens=judged.prompt_tokens or 0,
            completion_tokens=judged.completion_tokens or 0,
            cost=cost,
        )

    def _cost(self, usage: Usage, upstream: str, model: str) -> float | None:
        model = model or self._chat.known_model(upstream)
        name = self._chat.upstream_name(upstream)
        return self._prices.cost(
            usage, upstream=name, requested=model, answered=model, reported=None
        )

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
            self._runs[comparison.id] = run
        run.start()
        return run

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
                judge_upstream=self._upstream_of_judge(comparison)[0] if wanted else "",
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
        missing: dict[int, _MissingError] = {}
        for number in sorted({key.variant for key in keys}):
            upstreams[number], error = self._upstream_of_variant(comparison.variants[number])
            if error:
                missing[number] = error
        asked = {key.variant for key in keys if known.get(key) is not CellStatus.COMPLETE}
        errors = [missing.get(number) for number in sorted(asked)]
        if any(known.get(key) is CellStatus.COMPLETE for key in keys):
            errors.append(self._upstream_of_judge(comparison)[1])
        if errors and errors[0] and all(errors):
            raise errors[0]
        queues: dict[str, list[CellKey]] = {}
        for key in keys:
            queues.setdefault(upstreams[key.variant], []).append(key)
        return queues

    def _upstream_of_variant(self, variant: Variant) -> tuple[str, _MissingError | None]:
        return self._find_upstream(
            variant.upstream or self.persona_of(variant.revision).persona.upstream
        )

    def _upstream_of_judge(self, comparison: Comparison) -> tuple[str, _MissingError | None]:
        """An empty name where there is none."""
        judge = comparison.judge
        if judge is None:
            return "", None
        return self._find_upstream(
            judge.upstream or self.persona_of(judge.revision).persona.upstream
        )

    def _find_upstream(self, name: str) -> tuple[str, _MissingError | None]:
        """What an upstream is called, also if there is none of that name or it has no key, and which of these it is."""
        try:
            return self._chat.upstream_name(name), None
        except (NotFoundError, UpstreamKeyError) as error:
            # That of nobody's choice has its name from the settings.
            return name or str(error.parameters.get("upstream", "")), error

    def _reuse(self, comparison: Comparison, keys: Sequence[CellKey]) -> Sequence[CellKey]:
        wanted = self._wanted(comparison, keys, self._chat.model_of)
        return self._comparisons.reuse_answers(comparison.id, wanted)

    def _wanted(
        self,
        comparison: Comparison,
        keys: Iterable[CellKey],
        model_of: Callable[[PreparedTurn], str],
    ) -> Mapping[CellKey, Turn]:
        """The turns of cells as they would be recorded, those that repeat one another the same.

        Only of inputs of one turn: what later ones send hangs on the answers before.

        Arguments:
            model_of: the model that will be asked.
        """
        asked: dict[CellKey, Turn | None] = {}
        for key in keys:
            first = key._replace(repeat=0)
            if first not in asked and len(comparison.inputs[key.input].turns) == 1:
                try:
                    asked[first] = self._asked(comparison, first, model_of)
                except (InputError, NotFoundError, UpstreamError):
                    # It says so itself when it is to be filled.
                    asked[first] = None
        turns = ((key, asked.get(key._replace(repeat=0))) for key in keys)
        return {key: turn for key, turn in turns if turn}

    def _asked(
        self, comparison: Comparison, key: CellKey, model_of: Callable[[PreparedTurn], str]
    ) -> Turn:
        prepared = self.prepare(comparison, key)
        asked = self._chat.pending_turn(
            self.session_of(comparison, key), prepared, comparison.inputs[key.input].text
        )
        return replace(asked, model_requested=model_of(prepared))

    def run_of(self, comparison_id: str) -> Run | None:
        """The run of a comparison in this process, the last one if it has ended."""
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

    def history_of(self, entry: ComparisonInput) -> Sequence[Turn]:
        """What was said before an input. Raises NotFoundError if that is gone from the log."""
        if entry.follows:
            try:
                return self._comparisons.turns_up_to(entry.follows)
            except NotFoundError:
                raise NotFoundError(
                    "What was said before this input is no longer in the log, so it cannot be asked."
                ) from None
        return entry.history

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
            session = replace(self.session_of(comparison, key), forked_from="")
            session = replace(session, id=cell.session_id or session.id)
        plan = CellPlan(
            cell,
            session=session,
            persona=self.persona_of(comparison.variants[key.variant].revision),
            history=history,
            checks=self.checks_of(comparison, key.variant),
            judge_persona=self.persona_of(comparison.judge.revision) if comparison.judge else None,
            judge_upstream=self._upstream_of_judge(comparison)[0],
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
            return self.session_of(comparison, cell.key), self.history_of(entry)
        try:
            session = self._log.get_session(cell.session_id)
        except NotFoundError:
            # An answer that was only reused outlives its session, and to check it nothing else of that is needed.
            if cell.status is not CellStatus.COMPLETE:
                raise
            session = replace(
                self.session_of(comparison, cell.key), id=cell.session_id, forked_from=""
            )
        try:
            return session, self.history_of(entry)
        except NotFoundError:
            # A session keeps what it inherits, also where that is removed from its source for good.
            if session.forked_from != entry.follows:
                raise
            return session, self._log.history(session.id, before=cell.turns[0].position)


def _sum(costs: Iterable[float | None]) -> float | None:
    """The whole cost; ``None`` where one is not known."""
    found = list(costs)
    known = [cost for cost in found if cost is not None]
    return sum(known) if len(known) == len(found) else None


def _waiting(comparison: Comparison, key: CellKey) -> Cell:
    return Cell(key, len(comparison.inputs[key.input].turns))


def _sample(
    comparison: Comparison, variant: int, size: int, without: Collection[CellKey] = ()
) -> Iterator[CellKey]:
    """Cells of a variant that answers, evenly over the inputs. What repeats are sent is the same.

    Arguments:
        without: cells that are not to be asked.
    """
    last = comparison.repeats - 1
    inputs = [
        number
        for number in range(len(comparison.inputs))
        # The first repeats are the first to be reused.
        if CellKey(variant, number, last) not in without
    ]
    count = len(inputs)
    for number in range(min(size, count)):
        yield CellKey(variant, inputs[number * count // min(size, count)], 0)


def _require_some(
    comparison: Comparison, sample: Sequence[CellKey], faults: Sequence[CellFault]
) -> None:
    """Raises InputError if all cells of a variant have a fault."""
    looked_at = Counter(key.variant for key in sample)
    failing = Counter(fault.key.variant for fault in faults)
    for fault in faults:
        variant = fault.key.variant
        if failing[variant] == looked_at[variant]:
            raise InputError(
                "'%(variant)s' cannot be asked: %(reason)s",
                variant=comparison.variants[variant].name,
                reason=fault.error.said,
            )


def _statuses(comparison: Comparison, standings: Sequence[Standing]) -> dict[CellKey, CellStatus]:
    """How far each cell is that has begun."""
    return {
        CellKey(variant, *divmod(place, comparison.repeats)): status
        for variant, standing in enumerate(standings)
        for status, places in standing.places.items()
        for place in places
    }
