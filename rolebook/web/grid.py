"""One comparison: its grid, its matrix, a cell's own page, the live stream, and starting, stopping, trying again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from flask import (
    Blueprint,
    Response,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as BaseResponse

from rolebook.core.comparison import Cell, CellKey, Comparison, Variant
from rolebook.core.difference import Piece
from rolebook.core.errors import ConflictError, NotFoundError
from rolebook.core.frozen import frozen
from rolebook.core.run import Progress
from rolebook.report.differing import Differing
from rolebook.web.comparison_cells import (
    Layout,
    Part,
    blank_grid,
    cells_now,
    inputs_on,
    layout_of,
    marks_of,
    open_grid,
    page_count,
    parts_of,
    recorded_texts,
    rows_per_page,
    squares,
    trouble_in,
    turns_before,
    variant_name,
)
from rolebook.web.comparison_stream import Feed, Watched
from rolebook.web.current import current_translator, rolebook
from rolebook.web.current import gettext as _
from rolebook.web.errors import RequestError, wants_json
from rolebook.web.evidence import findings_at_once
from rolebook.web.presentation import duration
from rolebook.web.security import local_path
from rolebook.web.submission import submitted
from rolebook.web.variant_settings import (
    answer_difference,
    differing_answers,
    differing_variants,
)

blueprint = Blueprint("grid", __name__)
blueprint.add_app_template_filter(variant_name)
blueprint.add_app_template_filter(squares)
blueprint.add_app_template_filter(inputs_on)

_LONGEST_QUESTION = 500


@blueprint.app_template_filter()
def span(seconds: float) -> str:
    """About how long, in words."""
    return duration(timedelta(seconds=seconds), threshold=1.5)


@blueprint.get("/comparisons/<comparison_id>")
def show(comparison_id: str) -> str:
    """The page of a comparison: its grid, or with ``view=matrix`` all of it at once."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    layout = layout_of(comparison, request.args)
    grid = blank_grid(comparison, layout) if layout.is_matrix else open_grid(comparison, layout)
    marks = marks_of(comparison) if layout.is_matrix else ()
    progress = rolebook().compare.progress_of(comparison)
    return render_template(
        "comparison.html",
        comparison=comparison,
        has_original=_is_there(comparison.repeats_of),
        grid=grid,
        layout=layout,
        progress=progress,
        findings=None if progress.is_running else findings_at_once(comparison, progress.tally),
        stands=_stands(comparison, progress),
        differing=differing_variants(comparison, layout.order),
        marks=marks,
        counts=Counter("".join(marks)),
        trouble=trouble_in(comparison, marks),
    )


def _is_there(comparison_id: str) -> bool:
    """Whether there is a comparison; what was taken along from another log repeats one that is there only."""
    try:
        rolebook().comparisons.require_comparison(comparison_id)
    except NotFoundError:
        return False
    return True


@blueprint.get("/comparisons/<comparison_id>/state")
def state(comparison_id: str) -> ResponseReturnValue:
    """How it stands, in short: a page at rest looks whether somebody has gone on with it elsewhere."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    return {"stands": _stands(comparison, rolebook().compare.progress_of(comparison))}


def _stands(comparison: Comparison, progress: Progress) -> str:
    """What is another text whenever something else is to be done with it, or another cell is done or checked."""
    tally = progress.tally
    answered = (tally.complete, tally.failed, tally.stopped)
    checked = (tally.checked, tally.unchecked, tally.unjudged)
    marks = ("running" * progress.is_running, "deleted" * bool(comparison.deleted_at))
    return " ".join([*map(str, answered + checked), *filter(None, marks)])


@blueprint.get("/comparisons/<comparison_id>/events")
def events(comparison_id: str) -> Response:
    """The run as it goes on, as server-sent events.

    The page says what it shows: ``inputs=0-24&repeat=0`` or ``marks=1``. It is told of ``cell``, when one has another
    state, ``marks`` of all, ``delta``, when words have arrived, ``progress``, and the ``end``, after which
    nothing comes.
    """
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    watched = Watched(
        inputs=_inputs(comparison, request.args.get("inputs", "")),
        repeat=_index(request.args.get("repeat", "")),
        has_marks="marks" in request.args,
    )
    return Response(
        stream_with_context(Feed(comparison, watched).frames()),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _inputs(comparison: Comparison, text: str) -> range:
    """The inputs from one to another, as many of them as a page has at most."""
    first, dash, last = text.partition("-")
    start = _index(first)
    end = min(_index(last) + 1, start + rows_per_page(comparison), len(comparison.inputs))
    return range(start, end) if dash else range(0)


def _index(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


@blueprint.post("/comparisons/<comparison_id>/question")
def rename(comparison_id: str) -> ResponseReturnValue:
    """Put its question in other words; without any it goes by its variants."""
    question = question_of(submitted().get("question", ""))
    rolebook().comparisons.rename_comparison(comparison_id, question)
    return _back_to(comparison_id)


def question_of(given: str) -> str:
    """A question as it is kept: in one line, and not too long."""
    return " ".join(given.split())[:_LONGEST_QUESTION]


@blueprint.post("/comparisons/<comparison_id>/start")
def start(comparison_id: str) -> ResponseReturnValue:
    """Fill its cells; with ``reuse`` take the answers that the log has already."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    rolebook().compare.start(comparison, is_reusing=bool(submitted().get("reuse")))
    return _back_to(comparison_id)


@blueprint.post("/comparisons/<comparison_id>/resume")
def resume(comparison_id: str) -> ResponseReturnValue:
    """Go on where it was stopped."""
    rolebook().compare.start(rolebook().comparisons.get_comparison(comparison_id))
    return _back_to(comparison_id)


@blueprint.post("/comparisons/<comparison_id>/retry")
def retry(comparison_id: str) -> ResponseReturnValue:
    """Try one ``cell`` again, or all that failed, and ask the judge again about what it could not tell."""
    comparison = rolebook().comparisons.get_comparison(comparison_id)
    compare, named = rolebook().compare, submitted().get("cell", "")
    keys = [comparison.key_of(named)] if named else compare.unsettled_cells(comparison)
    compare.start(comparison, keys=keys)
    return _back_to(comparison_id)


@blueprint.post("/comparisons/<comparison_id>/stop")
def stop(comparison_id: str) -> ResponseReturnValue:
    """Stop its run; what has been answered stays."""
    stop_run(rolebook().comparisons.get_comparison(comparison_id))
    return _back_to(comparison_id)


def stop_run(comparison: Comparison) -> bool:
    """Stop the run of a comparison; False if it does not run. Raises ConflictError if another process runs it."""
    is_elsewhere = rolebook().comparisons.is_run_elsewhere(comparison.id)
    was_running = rolebook().compare.stop(comparison.id)
    if not was_running and is_elsewhere:
        raise ConflictError("Another Rolebook runs this comparison at the moment. Stop it there.")
    return was_running


def _back_to(comparison_id: str) -> ResponseReturnValue:
    url = url_for("grid.show", comparison_id=comparison_id)
    if wants_json():
        return {"url": url}
    return redirect(local_path(request.form.get("next", "") or url), 303)


@blueprint.get("/comparisons/<comparison_id>/question")
@blueprint.get("/comparisons/<comparison_id>/start")
@blueprint.get("/comparisons/<comparison_id>/resume")
@blueprint.get("/comparisons/<comparison_id>/retry")
@blueprint.get("/comparisons/<comparison_id>/stop")
def return_to_comparison(comparison_id: str) -> BaseResponse:
    """Where a reload or a change of language ends up after something that was sent here could not be used."""
    return redirect(url_for("grid.show", comparison_id=comparison_id), 303)


@frozen
class Neighbour:
    """A cell beside the one that is shown. ``arrow`` is the key that leads there."""

    arrow: str
    key: CellKey


@frozen
class Comparand:
    """Another cell to hold against the one that is shown, turn by turn.

    ``names`` are what the shown one and this one are called where they stand side by side: what tells them apart.
    """

    key: CellKey
    variant: Variant
    names: tuple[str, str]
    pieces: tuple[Sequence[Piece] | None, ...]
    """For each of the shown turns how its words differ from the other's; ``None`` where one of the two has none."""
    differing: Differing


@blueprint.get("/comparisons/<comparison_id>/cells/<cell>")
def show_cell(comparison_id: str, cell: str) -> str:
    """One cell on a page of its own; ``with`` names another to hold against it, if need be at another ``input``.

    How the reader has laid out the grid goes along, for the way back.
    """
    log = rolebook().comparisons
    comparison = log.get_comparison(comparison_id)
    key = comparison.key_of(cell)
    held = _held(comparison, key)
    cells, live = cells_now(comparison, sorted({key.input, held.input if held else key.input}))
    recorded, arriving = recorded_texts(comparison, key.input, cells), live.get(key)
    # What is on its way is shown where it arrives.
    shown = arriving if arriving and arriving.is_judged else None
    parts = tuple(parts_of(comparison, cells.get(key), key, recorded, shown))
    entry = comparison.inputs[key.input]
    return render_template(
        "comparison_answer.html",
        comparison=comparison,
        entry=entry,
        key=key,
        parts=parts,
        cell=parts[0].cell,
        variant=parts[0].variant,
        before=turns_before(entry),
        layout=_layout_around(comparison, key),
        neighbours=_neighbours(comparison, key),
        others=_others(comparison, key),
        judged_by=log.judging_turns([turn.id for turn in parts[0].cell.turns]),
        comparand=_comparand(comparison, parts, cells, held) if held else None,
    )


def _others(comparison: Comparison, key: CellKey) -> Sequence[CellKey]:
    """The cells that may be chosen to be held against this one; its own stands for the same at another input."""
    keys = [
        CellKey(variant, key.input, repeat)
        for variant in range(len(comparison.variants))
        for repeat in range(comparison.repeats)
    ]
    is_single = len(comparison.inputs) == 1
    return [each for each in keys if comparison.has(each) and not (is_single and each == key)]


def _held(comparison: Comparison, key: CellKey) -> CellKey | None:
    """The other cell that the address names. Raises NotFoundError if there is none, RequestError for the same one."""
    named, at = request.args.get("with", ""), request.args.get("input", "")
    if not named:
        return None
    other = comparison.key_of(named)
    if at:
        other = comparison.key_of(f"{other.variant + 1}-{at}-{other.repeat + 1}")
    if other == key:
        raise RequestError("This is the answer that is shown: choose another one.", status=400)
    return other


def _layout_around(comparison: Comparison, key: CellKey) -> Layout:
    """The grid where the cell is to be seen, laid out as the reader had it."""
    page = min(key.input // rows_per_page(comparison), page_count(comparison) - 1)
    return replace(layout_of(comparison, request.args), repeat=key.repeat, page=page)


def _neighbours(comparison: Comparison, key: CellKey) -> Sequence[Neighbour]:
    variant, entry, repeat = key
    around = [
        Neighbour("ArrowLeft", CellKey(variant - 1, entry, repeat)),
        Neighbour("ArrowRight", CellKey(variant + 1, entry, repeat)),
        Neighbour("ArrowUp", CellKey(variant, entry - 1, repeat)),
        Neighbour("ArrowDown", CellKey(variant, entry + 1, repeat)),
    ]
    return [neighbour for neighbour in around if comparison.has(neighbour.key)]


def _comparand(
    comparison: Comparison, parts: Sequence[Part], cells: Mapping[CellKey, Cell], key: CellKey
) -> Comparand:
    other = cells.get(key)
    texts = [turn.text for turn in other.turns] if other else []
    own = [part.turn.text if part.turn else "" for part in parts]
    texts = (texts + [""] * len(own))[: len(own)]
    asked = [parts[0].cell, other or Cell(key, len(comparison.inputs[key.input].turns))]
    return Comparand(
        key,
        comparison.variants[key.variant],
        (_told_apart(comparison, parts[0].key, key), _told_apart(comparison, key, parts[0].key)),
        tuple(
            answer_difference(text, words) if text and words else None
            for text, words in zip(own, texts, strict=True)
        ),
        differing_answers(comparison, asked),
    )


def _told_apart(comparison: Comparison, key: CellKey, other: CellKey) -> str:
    """What a cell is called beside another one."""
    parts = [
        variant_name(comparison.variants[key.variant]) if key.variant != other.variant else "",
        _("input %(number)s", number=key.input + 1) if key.input != other.input else "",
        _("repeat %(number)s", number=key.repeat + 1) if key.repeat != other.repeat else "",
    ]
    return current_translator().punctuation.comma.join(filter(None, parts))
