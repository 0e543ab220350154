"""What it takes to fill the cells of a comparison: calls, tokens and cost, told by a sample of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from rolebook.core.call import Prices
from rolebook.core.cells import Cells
from rolebook.core.chat import ChatService, TokenCounter
from rolebook.core.comparison import CellKey, Comparison, ComparisonLog
from rolebook.core.completion import Usage
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.filling import missing_checks
from rolebook.core.frozen import frozen

#: So many cells are rendered and counted for an estimate; more are told by these.
_SAMPLE = 60
#: The length of an answer, in tokens, where the log has none of the persona's to tell it by.
_USUAL_ANSWER = 250
#: What a judge is told beside answer and conversation, and what it says, in tokens.
_JUDGE_PROMPT, _VERDICT = 350, 60


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


class Estimator:
    """Tells what comparisons will take. Calls nobody and writes nothing. Safe for threads."""

    def __init__(
        self,
        *,
        cells: Cells,
        comparisons: ComparisonLog,
        chat: ChatService,
        count_tokens: TokenCounter,
        prices: Prices,
    ) -> None:
        self._cells = cells
        self._comparisons = comparisons
        self._chat = chat
        self._count_tokens = count_tokens
        self._prices = prices

    def try_out(self, comparison: Comparison, variant: int) -> None:
        """Raises what ``prepare`` raises if none of a variant's cells, as far as they are looked at, can be asked."""
        found: InputError | NotFoundError | None = None
        for key in _sample(comparison, variant, _SAMPLE):
            try:
                self._cells.prepare(comparison, key)
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
        parts: dict[int, list[Estimate]] = defaultdict(list)
        faults: list[CellFault] = []
        for key in sample:
            try:
                parts[key.variant].append(self._estimate_cell(comparison, key, usual))
            except (InputError, NotFoundError) as error:
                faults.append(CellFault(key, error))
        _require_some(comparison, sample, faults)
        # Of a variant that has few answers to get, as many are looked at as of one that has many.
        left = Counter(key.variant for key in asked)
        told = [(left[n] / len(found), part) for n, found in parts.items() for part in found]
        judgements = sum(
            reused[key] if key in reused else self._rubrics(comparison, key) for key in keys
        )
        # Of an answer that is taken from the log, the length is not looked up.
        judged = self._estimate_judging(comparison, sum(reused.values()), _USUAL_ANSWER)
        return Estimate(
            cells=len(keys),
            calls=sum(len(comparison.inputs[key.input].turns) for key in asked) + judgements,
            judgements=judgements,
            prompt_tokens=round(sum(scale * part.prompt_tokens for scale, part in told))
            + judged.prompt_tokens,
            completion_tokens=round(sum(scale * part.completion_tokens for scale, part in told))
            + judged.completion_tokens,
            cost=_sum(
                [
                    *(None if part.cost is None else scale * part.cost for scale, part in told),
                    judged.cost,
                ]
            ),
            looked_at=len(sample),
            reused=len(reused),
            faults=tuple(faults),
        )

    def _rubrics(self, comparison: Comparison, key: CellKey) -> int:
        checks = self._cells.checks_of(comparison, key.variant)
        return len(comparison.inputs[key.input].turns) * sum(check.is_rubric for check in checks)

    def _reusable(self, comparison: Comparison, keys: Sequence[CellKey]) -> Mapping[CellKey, int]:
        """The cells that need not be asked, each with how many rubrics its answer has not been judged by yet."""
        found = self._comparisons.reusable_turns(
            self._cells.planned_turns(comparison, keys, self._cells.known_model)
        )
        if any(variant.is_recorded for variant in comparison.variants):
            # These are in it already, and none counts twice.
            taken = {id for entry in comparison.inputs for id in entry.recorded}
            found = {key: id for key, id in found.items() if id not in taken}
        results = self._comparisons.results_of_turns(found.values())

        def unjudged(key: CellKey) -> int:
            missing = missing_checks(
                self._cells.checks_of(comparison, key.variant),
                results.get(found[key], ()),
                comparison.judge,
                comparison.inputs[key.input].reference,
                is_retry=False,
            )
            return sum(check.is_rubric for check in missing)

        return {key: unjudged(key) for key in found}

    def _estimate_cell(
        self, comparison: Comparison, key: CellKey, usual_answers: Mapping[str, float]
    ) -> Estimate:
        variant, entry = comparison.variants[key.variant], comparison.inputs[key.input]
        prepared = self._cells.prepare(comparison, key)
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
            persona = self._cells.persona_of(judge.revision).persona
            upstream, model = judge.upstream or persona.upstream, judge.model or persona.model
            upstream = upstream or comparison.upstream
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


def _sum(costs: Iterable[float | None]) -> float | None:
    """The whole cost; ``None`` where one is not known."""
    found = list(costs)
    known = [cost for cost in found if cost is not None]
    return sum(known) if len(known) == len(found) else None


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
