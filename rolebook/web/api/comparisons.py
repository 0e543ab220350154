"""Comparisons by the API: planned, begun, followed, gone on with, and what they have shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from flask import Response, stream_with_context
from pydantic import ConfigDict, Field

from rolebook.core import run
from rolebook.core.access import caller
from rolebook.core.comparison import Cell, Comparison
from rolebook.core.comparison_data import comparison_data
from rolebook.core.comparison_spec import ComparisonSpec
from rolebook.core.errors import ConflictError, NotFoundError
from rolebook.core.fields import Boolean
from rolebook.core.planning import Plan
from rolebook.core.session import TurnMark, id_of
from rolebook.report.export import cell_data, results_data
from rolebook.report.preview import asked_variants, plan_data
from rolebook.report.snapshot import take_snapshot
from rolebook.storage.comparison import break_data, summary_data, tally_data
from rolebook.web import comparison_exports, grid
from rolebook.web.api import shapes
from rolebook.web.api.comparison_events import EVENTS, CellFeed
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.sessions import turn_shape
from rolebook.web.api.shapes import Shape
from rolebook.web.current import rolebook
from rolebook.web.presentation import phrase

section = Section("Comparisons", "Several personas, models or wordings on the same inputs.")


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


class PlanQuery(Body):
    """Which messages to show."""

    cell: str = ""
    """One cell, such as `2-1-1`; left out, the first of each variant."""
    reuse: Boolean = False
    """Whether answers that the log has already would be taken, so that they count for nothing."""


@section.post("/plan", refusals=(404,))
def plan_comparison(query: PlanQuery, body: ComparisonSpec) -> PlanPreview:
    """Show what a comparison would take and send. Nothing is called, and nothing is kept."""
    plan = _plan(body)
    estimate = rolebook().estimator.estimate(plan.comparison, is_reusing=query.reuse)
    return cast(PlanPreview, plan_data(rolebook(), plan, estimate, query.cell))


def _plan(spec: ComparisonSpec) -> Plan:
    """A plan of which every variant is known to render. Raises UnplannableError, PromptError."""
    plan = rolebook().compare.plan(spec)
    for index in asked_variants(plan.comparison):
        rolebook().estimator.try_out(plan.comparison, index)
    return plan


class NewComparison(ComparisonSpec):
    """A comparison: variants, inputs and repeats."""

    model_config = ConfigDict(defer_build=True)

    start: Boolean = True
    """Whether it begins at once."""
    reuse: Boolean = False
    """Whether answers that the log has already, asked for in exactly the same way, are taken. Inputs of several turns
    are always asked."""


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


class OnceHeaders(Body):
    """What makes it safe to send a request again."""

    key: str = Field("", alias="Idempotency-Key")
    """Any text that is new for each comparison: the same request sent again with it begins no other one."""


@section.post("/comparisons", status=201, refusals=(404,))
def create_comparison(body: NewComparison, headers: OnceHeaders) -> ComparisonState:
    """Plan a comparison, record it and begin it.

    It goes on in the background; `/comparisons/{comparison_id}/progress` says how far it is. With an
    `Idempotency-Key` that came before, the answer to the same request is how far the first is by now.
    """
    compare, plan, own_id = rolebook().compare, _plan(body), _id_by_key(headers.key, body)
    if own_id:
        plan = replace(plan, comparison=replace(plan.comparison, id=own_id))
    try:
        comparison = compare.create(plan)
    except ConflictError:
        if not own_id:
            raise
        # The answer to the same request was lost, perhaps, and it was sent again.
        return _state(find_comparison(plan.comparison.id))
    if body.start:
        compare.start(comparison, is_reusing=body.reuse)
    return _state(comparison)


def _id_by_key(key: str, body: NewComparison) -> str:
    """The id that a comparison has by the key that was sent along; empty without one.

    Whoever calls with it and what they ask belong to it, too: the same key for another plan is another comparison.
    """
    if not key:
        return ""
    who = caller()
    asking = [who.user.number if who.user else None, who.key_number]
    return id_of(json.dumps([key, asking, body.model_dump(mode="json")], sort_keys=True))


def _state(comparison: Comparison) -> ComparisonState:
    return {
        "comparison": cast(ComparisonPlan, comparison_data(comparison)),
        "deleted_at": comparison.deleted_at,
        "progress": progress_shape(comparison),
    }


def _state_at_hand(comparison_id: str) -> ComparisonState:
    """The same of one that may be in the trash, or damaged: of that, what is left of it."""
    summary = rolebook().comparisons.get_summary(comparison_id)
    if summary.flaw is None:
        return _state(summary.comparison)
    return {
        "comparison": cast(ComparisonPlan, comparison_data(summary.comparison)),
        "deleted_at": summary.comparison.deleted_at,
        "progress": _progress_shape(run.Progress(summary.tally, breaks=summary.breaks)),
    }


def progress_shape(comparison: Comparison) -> Progress:
    """How far a comparison is."""
    return _progress_shape(rolebook().compare.progress_of(comparison))


def _progress_shape(progress: run.Progress) -> Progress:
    return {
        "tally": tally_data(progress.tally),
        "is_running": progress.is_running,
        "rate": progress.rate,
        "seconds_left": progress.seconds_left,
        "to_judge": progress.to_judge,
        "error": " ".join(phrase(each.said) for each in progress.breaks),
        "breaks": [cast(Break, break_data(each)) for each in progress.breaks],
    }


class ComparisonQuery(Body):
    """Which comparisons."""

    is_deleted: bool = False
    """Those in the trash instead."""
    limit: int = Field(40, ge=1, le=200)
    """So many at most."""
    cursor: str = ""
    """The `next` of the page before."""


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


@section.get("/comparisons")
def list_comparisons(query: ComparisonQuery) -> ComparisonList:
    """List comparisons."""
    summaries, cursor = rolebook().comparisons.list_comparisons(
        limit=query.limit, before=query.cursor, is_deleted=query.is_deleted
    )
    lines = [cast(ComparisonLine, summary_data(summary)) for summary in summaries]
    return {"comparisons": lines, "next": cursor}


def find_comparison(comparison_id: str) -> Comparison:
    """A comparison outside the trash. Raises NotFoundError."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    if comparison.deleted_at:
        raise _in_trash()
    return comparison


def _in_trash() -> NotFoundError:
    return NotFoundError("This comparison is in the trash. Restore it to go on with it.")


@section.get("/comparisons/<comparison_id>", refusals=(404,))
def show_comparison(comparison_id: str) -> ComparisonState:
    """Show a comparison as it was planned, and how far it is."""
    return _state(find_comparison(comparison_id))


@section.get("/comparisons/<comparison_id>/progress", refusals=(404,))
def show_progress(comparison_id: str) -> Progress:
    """Show how far a comparison is.

    Ask again while `is_running` is true, or follow `/comparisons/{comparison_id}/events`.
    """
    return progress_shape(find_comparison(comparison_id))


class EventQuery(Body):
    """From where on."""

    after: str = ""
    """The `id` of the last event that you have. It counts before `Last-Event-ID`."""


class EventHeaders(Body):
    """From where on, as browsers say it by themselves."""

    after: str = Field("", alias="Last-Event-ID")
    """The `id` of the last event that you have."""


@section.get("/comparisons/<comparison_id>/events", events=EVENTS, refusals=(404,))
def follow_comparison(comparison_id: str, query: EventQuery, headers: EventHeaders) -> Response:
    """Follow a comparison, as server-sent events.

    First come the cells that have ended, a `cell` event each, then those that end from now on, with `progress` between
    them, and in the end `end` with the last progress. Where nothing runs, that is at once. Whoever comes back
    with the `id` of the last event is told of what has ended since; where that cannot be told any more, of all.
    """
    feed = CellFeed(
        find_comparison(comparison_id),
        query.after or headers.after,
        show_cells=_cells,
        show_progress=progress_shape,
    )
    return Response(
        stream_with_context(feed.frames()),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


class ComparisonChange(Body):
    """What is to be otherwise."""

    question: str = Field(max_length=500)
    """What it shall answer, in words; empty takes it away."""


@section.patch("/comparisons/<comparison_id>", refusals=(404,))
def change_comparison(comparison_id: str, body: ComparisonChange) -> ComparisonState:
    """Put the question of a comparison in other words."""
    found = find_comparison(comparison_id)
    rolebook().comparisons.rename_comparison(found.id, grid.question_of(body.question))
    return _state(find_comparison(comparison_id))


@section.delete("/comparisons/<comparison_id>", refusals=(404,))
def delete_comparison(comparison_id: str) -> ComparisonState:
    """Stop a comparison and move it to the trash.

    Until it is restored it is listed with `is_deleted`, and found nowhere else.
    """
    log = rolebook().comparisons
    if log.get_summary(comparison_id).comparison.deleted_at:
        raise _in_trash()
    rolebook().compare.stop(comparison_id)
    log.delete_comparisons([comparison_id])
    return _state_at_hand(comparison_id)


@section.post("/comparisons/<comparison_id>/restore", refusals=(404,))
def restore_comparison(comparison_id: str) -> ComparisonState:
    """Take a comparison out of the trash."""
    log = rolebook().comparisons
    log.require_comparison(comparison_id)
    log.restore_comparisons([comparison_id])
    return _state_at_hand(comparison_id)


class Starting(Body):
    """How to begin."""

    reuse: bool = False
    """Whether answers that the log has already, asked for in exactly the same way, are taken. Inputs of several turns
    are always asked."""


@section.post("/comparisons/<comparison_id>/start", refusals=(404, 409))
def start_comparison(comparison_id: str, body: Starting) -> ComparisonState:
    """Fill the cells of a comparison. It goes on in the background."""
    return _begun(comparison_id, lambda _comparison: {"is_reusing": body.reuse})


def _begun(
    comparison_id: str, choose: Callable[[Comparison], Mapping[str, Any]]
) -> ComparisonState:
    comparison = find_comparison(comparison_id)
    rolebook().compare.start(comparison, **choose(comparison))
    return _state(comparison)


@section.post("/comparisons/<comparison_id>/resume", refusals=(404, 409))
def resume_comparison(comparison_id: str) -> ComparisonState:
    """Go on where a comparison was stopped. What is complete is never asked for again."""
    return _begun(comparison_id, lambda _comparison: {})


class Retrying(Body):
    """What to try again."""

    cell: str = ""
    """One cell, such as `2-1-1`; left out, all that failed, and all with a check that has told nothing yet."""


@section.post("/comparisons/<comparison_id>/retry", refusals=(404, 409))
def retry_comparison(comparison_id: str, body: Retrying) -> ComparisonState:
    """Try failed cells again, or one of your choice."""

    def choose(comparison: Comparison) -> Mapping[str, Any]:
        named = body.cell
        keys = (
            [comparison.key_of(named)] if named else rolebook().compare.unsettled_cells(comparison)
        )
        return {"keys": keys}

    return _begun(comparison_id, choose)


@section.post("/comparisons/<comparison_id>/stop", refusals=(404, 409))
def stop_comparison(comparison_id: str) -> ComparisonState:
    """Stop a comparison. What has been answered stays."""
    comparison = find_comparison(comparison_id)
    grid.stop_run(comparison)
    return _state(comparison)


@section.post("/comparisons/<comparison_id>/repeat", status=201, refusals=(404,))
def repeat_comparison(comparison_id: str) -> ComparisonState:
    """Record the same comparison once more, with no cell begun."""
    return _state(rolebook().compare.repeat(find_comparison(comparison_id)))


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


class CellQuery(Body):
    """Which cells."""

    limit: int = Field(20, ge=1, le=100)
    """The cells of so many inputs at most."""
    cursor: str = ""
    """The `next` of the page before."""


class CellList(Shape):
    """The cells of some inputs that have begun. `next` asks for more, and is empty on the last page."""

    cells: list[ComparedCell]
    next: str


@section.get("/comparisons/<comparison_id>/cells", refusals=(404,))
def list_cells(comparison_id: str, query: CellQuery) -> CellList:
    """List the answers of a comparison, input by input."""
    comparison = find_comparison(comparison_id)
    is_number = query.cursor.isascii() and query.cursor.isdigit() and len(query.cursor) < 8
    first = int(query.cursor) if is_number else 0
    end = min(first + query.limit, len(comparison.inputs))
    cells = rolebook().comparisons.cells(comparison, inputs=range(first, end))
    return {
        "cells": _cells(comparison, cells),
        "next": str(end) if end < len(comparison.inputs) else "",
    }


def _cells(comparison: Comparison, cells: Sequence[Cell]) -> list[ComparedCell]:
    marks = rolebook().log.marks_of(turn.id for cell in cells for turn in cell.turns)
    return [_cell(comparison, cell, marks) for cell in cells]


def _cell(comparison: Comparison, cell: Cell, marks: Mapping[str, TurnMark]) -> ComparedCell:
    turns = [
        turn_shape(turn, mark=marks.get(turn.id), results=cell.results.get(turn.id, ()))
        for turn in cell.turns
    ]
    return cast(ComparedCell, {**cell_data(comparison, cell), "turns": turns})


@section.get("/comparisons/<comparison_id>/cells/<cell>", refusals=(404,))
def show_cell(comparison_id: str, cell: str) -> ComparedCell:
    """Show one cell of a comparison.

    Cells are named by variant, input and repeat, all counted from 1: `2-1-1`.
    """
    comparison = find_comparison(comparison_id)
    found = rolebook().comparisons.get_cell(comparison, comparison.key_of(cell))
    return _cell(comparison, found, rolebook().log.marks_of(turn.id for turn in found.turns))


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


@section.get("/comparisons/<comparison_id>/results", refusals=(404,))
def show_results(comparison_id: str) -> Results:
    """Show what has come out of a comparison so far: measures, checks, votes."""
    snapshot = take_snapshot(rolebook(), find_comparison(comparison_id))
    return cast(Results, results_data(snapshot))


class ComparisonExportQuery(Body):
    """As what to take it away."""

    format: Literal["json", "jsonl", "csv", "md", "html"] = "json"


@section.get(
    "/comparisons/<comparison_id>/export",
    kinds=("application/jsonl", "text/csv", "text/markdown", "text/html"),
    refusals=(404,),
)
def export_comparison(comparison_id: str, query: ComparisonExportQuery) -> Response:
    """Take a comparison away as a file."""
    return comparison_exports.file_of(find_comparison(comparison_id), query.format)
