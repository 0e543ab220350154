"""What the API answers about comparisons: plans, progress, cells and results, each a shape of its document."""

from __future__ import annotations

from typing import Any, Literal

from rolebook.web.api import shapes
from rolebook.web.api.shapes import Shape


class ComparedVariant(Shape, total=False):
    """A persona as it takes part. What is empty is left out."""

    name: str
    persona_id: str
    revision: str
    model: str
    upstream: str
    variables: dict[str, Any]
    parameters: dict[str, Any]
    is_recorded: bool
    """Whether its answers were in the log before, so that nothing is called."""
    others: list[str]
    """The revisions beside the first that recorded answers come from."""


class ComparedInput(Shape, total=False):
    """What is said to every variant. What is empty is left out."""

    turns: list[str]
    name: str
    variables: dict[str, Any]
    reference: str
    tags: list[str]
    follows: str
    earlier: list[tuple[str, str]]
    sent: list[tuple[str, str]]
    request: dict[str, Any]
    """Request fields of a program that say what an answer may be, such as tools. What a persona fixes wins."""
    source: str
    recorded: list[str]


class LeftOutTogether(Shape):
    """So many inputs from the log, not taken for one reason; `said` is that as a template and its parameters."""

    count: int
    reason: str
    said: dict[str, Any]


class ComparisonPlan(Shape, total=False):
    """A grid as planned. What is empty is left out."""

    id: str
    question: str
    variants: list[ComparedVariant]
    inputs: list[ComparedInput]
    repeats: int
    checks: list[dict[str, Any]]
    judge: dict[str, Any]
    concurrency: int
    stream: bool
    upstream: str
    """The default upstream when it was recorded: it answers where neither a variant nor its persona names one."""
    repeats_of: str
    left_out: list[LeftOutTogether]
    created_at: str


class PlannedSetting(Shape):
    """Something that can be chosen, as two variants have it; null is: not set. Where `is_field`, the name is that of a
    request field."""

    name: str
    is_field: bool
    old: str | None
    new: str | None


class PlannedPrompt(Shape):
    """The lines in which system prompts differ; where `is_template`, those of prompt templates of one name."""

    is_template: bool
    lines: list[shapes.Line]


class PlannedDifference(Shape):
    """How what a variant sends differs from what the first one does, which may be what was recorded.

    System prompts are those of one `input`, counted from 1; with others they may be other ones.
    """

    variant: str
    against: str
    input: int
    settings: list[PlannedSetting]
    prompts: list[PlannedPrompt]


class PlannedCell(Shape):
    """The exact messages of a cell. Cells are named `variant-input-repeat`, counted from 1."""

    cell: str
    variant: str
    input: str
    messages: list[dict[str, Any]]
    parameters: dict[str, Any]
    model: str
    upstream: str
    dropped_turns: int


class SameInput(Shape):
    """An input that says the same as an earlier one, so that its answers count as repeats of that. Counted from 1."""

    input: int
    same_as: int


class SameVariant(Shape):
    """A variant that is made of the same as an earlier one. Counted from 1."""

    variant: int
    same_as: int


class LeftOut(Shape):
    """An input from the log that is not taken, by the entry of `inputs` that it comes from, counted from 1."""

    input: int
    reason: str


class Estimate(Shape):
    """What filling the cells takes. Of the calls, `judgements` are the judge's; `looked_at` cells tell the tokens.

    `reused` cells take an answer that the log has already.
    """

    cells: int
    calls: int
    judgements: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    looked_at: int
    reused: int


class Failing(Shape):
    """A cell that cannot be asked and will fail, found among those that were looked at for the estimate."""

    cell: str
    reason: str


class PlanPreview(Shape):
    """What a comparison would take and send. Tokens and cost (US dollars) are estimates; null is unknown."""

    comparison: ComparisonPlan
    estimate: Estimate
    same_inputs: list[SameInput]
    failing: list[Failing]
    left_out: list[LeftOut]
    same_variants: list[SameVariant]
    differences: list[PlannedDifference]
    cells: list[PlannedCell]


class Break(Shape):
    """Why the last run has called an upstream no more; where none is named, why it ended as a whole."""

    upstream: str
    calls: int
    """So many in a row got no answer."""
    code: str
    message: str
    at: str


class Progress(Shape):
    """How far a comparison is. Costs are in US dollars, as far as they are known."""

    tally: dict[str, int | float]
    """Cells by how far they are: total, waiting, running, complete, failed, stopped; and what they have cost. Recorded
    answers among those failed and stopped (recorded_failed, recorded_stopped) are not asked for again. Of those
    complete, the checks with a result (checked) and without (unchecked), and the rubrics that could not be told
    (unjudged): 0 while it runs."""
    is_running: bool
    """Whether it runs, here or in another process."""
    rate: float | None
    """Cells a second."""
    seconds_left: float | None
    cost_left: float | None
    """About what the cells will cost that have not ended; null until enough of each variant's have."""
    to_judge: int
    """Cells that are answered, and wait for their judge or are with it."""
    error: str
    """Why the last run broke off; empty if it did not."""
    breaks: list[Break]
    """The same for each upstream. Kept until the comparison goes on."""


class ComparisonState(Shape):
    """A comparison and how far it is."""

    comparison: ComparisonPlan
    deleted_at: str
    progress: Progress


class ComparisonLine(ComparisonPlan):
    """A comparison as a line of a list."""

    tally: dict[str, int | float]
    votes: int
    breaks: list[Break]
    flaw: str
    """Why its plan in the log cannot be read: it can only be deleted. Empty if it can."""


class ComparisonList(Shape):
    """Some comparisons, the newest first. `next` asks for more, and is empty on the last page."""

    comparisons: list[ComparisonLine]
    next: str


class ComparedCell(Shape):
    """One variant's answers to one input. Everything is counted from 1."""

    key: str
    variant: int
    variant_name: str
    input: int
    repeat: int
    status: Literal["waiting", "running", "complete", "failed", "stopped"]
    is_reused: bool
    session_id: str
    turns: list[shapes.Turn]
    """Without messages and replies."""


class CellList(Shape):
    """The cells of some inputs that have begun. `next` asks for more, and is empty on the last page."""

    cells: list[ComparedCell]
    next: str


class Estimated(Shape):
    """A number with the interval that holds the true one 95 times in 100. Null is: nothing tells how far off it is."""

    value: float
    low: float | None
    high: float | None
    n: int
    over: str
    is_small: bool
    """Whether it rests on so little that this must be said wherever it is shown."""


class EstimatedDifference(Estimated):
    """A difference with its interval."""

    among: int
    """So many differences are told together: the intervals are so wide that 95 times in 100 all of them hold."""
    is_share: bool
    """Whether it is one of shares: each answer is so or not, or passes so many of a few checks. On fewer than six
    inputs none of these is clear."""
    is_clear: bool
    """Whether there is a difference at all: zero lies outside of its interval, or all inputs are alike in it, and
    there are enough of them."""


class Measured(Shape):
    """A number of every answer, for each variant by its name; differences are to the first variant."""

    name: str
    unit: str
    intervals: dict[str, Estimated | None]
    differences: dict[str, EstimatedDifference | None]


class ReasonShare(Shape):
    """How many answers ended for one finish reason, for each variant by its name; `unknown`: none was told."""

    reason: str
    shares: dict[str, Estimated | None]


class CheckShare(Shape):
    """How many answers pass a check, for each variant by its name."""

    label: str
    shares: dict[str, Estimated | None]
    untold: dict[str, int]


class OtherRevision(Shape):
    """A revision beside the first that recorded answers come from."""

    persona_id: str
    persona_name: str
    revision: str


class AnswersOfStandIn(Shape):
    """So many answers came from another upstream than was asked, and from which model there."""

    upstream: str
    model: str
    for_upstream: str
    for_model: str
    answers: int


class VariantResult(Shape):
    """How the answers of a variant were asked for, and how they ended."""

    variant: int
    name: str
    persona_id: str
    persona_name: str
    revision: str
    others: list[OtherRevision]
    variables: dict[str, Any]
    models_requested: list[str]
    models: list[str]
    upstreams: list[str]
    parameters_requested: list[dict[str, Any]]
    parameters_sent: list[dict[str, Any]]
    answers: int
    failed: int
    finish_reasons: dict[str, int]
    stand_ins: list[AnswersOfStandIn]


class Verdict(Shape):
    """Whether one variant is preferred to another, by all votes."""

    better: str
    worse: str
    share: Estimated
    inputs: int
    """On how many different inputs these votes are."""
    inputs_needed: int
    """On how many further inputs there have to be votes before they tell of any but these."""
    is_clear: bool
    votes_needed: int | None
    """About how many more votes would make it clear; none if over a thousand, or below ten on each variant."""


class SideBias(Shape):
    """Whether votes go to a side rather than to an answer: sides are drawn, so about half should go to the left."""

    left_wins: int
    right_wins: int
    interval: Estimated | None
    """The left's share of the decided votes."""
    is_suspicious: bool
    """Whether chance does not explain how far it is from one half."""


class Preferred(Shape):
    """Who is preferred."""

    votes: int
    both_bad: int
    strength: dict[str, Estimated]
    verdicts: list[Verdict]
    side_bias: SideBias


class CountedVote(Shape):
    """A vote. `preferred` is the name of a variant, empty after a tie and where both are bad."""

    id: str
    voted_at: str
    input: int
    text: str
    left: str
    left_repeat: int
    right: str
    right_repeat: int
    outcome: Literal["left", "right", "tie", "both_bad"]
    preferred: str


class TagResult(Shape):
    """What the inputs of one tag show on their own. Differences and verdicts of all tags hold together."""

    tag: str
    inputs: int
    measures: list[Measured]
    check_shares: list[CheckShare]
    finish_reasons: list[ReasonShare]
    preference: Preferred


class Results(Shape):
    """What has come out so far."""

    progress: dict[str, int]
    """Cells by how far they are, and the checks that these figures do without: those not made yet (unchecked), and
    rubrics that could not be judged (unjudged)."""
    breaks: list[Break]
    """Why upstreams were called no more, if any were not."""
    variants: list[VariantResult]
    measures: list[Measured]
    check_shares: list[CheckShare]
    finish_reasons: list[ReasonShare]
    votes: list[CountedVote]
    preference: Preferred
    by_tag: list[TagResult]
