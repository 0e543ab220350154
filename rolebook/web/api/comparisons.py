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
from rolebook.web.api.comparison_events import EVENTS, CellFeed
from rolebook.web.api.comparison_shapes import (
    Break,
    CellList,
    ComparedCell,
    ComparisonLine,
    ComparisonList,
    ComparisonPlan,
    ComparisonState,
    PlanPreview,
    Progress,
    Results,
)
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.sessions import turn_shape
from rolebook.web.current import rolebook
from rolebook.web.presentation import phrase

section = Section("Comparisons", "Several personas, models or wordings on the same inputs.")


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
        "cost_left": progress.cost_left,
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


class CellQuery(Body):
    """Which cells."""

    limit: int = Field(20, ge=1, le=100)
    """The cells of so many inputs at most."""
    cursor: str = ""
    """The `next` of the page before."""


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
