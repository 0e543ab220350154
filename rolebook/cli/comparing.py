"""A comparison from its plan to its end: what it takes, the run, what it has shown, and where that goes."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.choices import Choices, Ending
from rolebook.cli.invocation import Invocation
from rolebook.cli.program import FAILED, INTERRUPTED
from rolebook.cli.terminal import Terminal
from rolebook.core.errors import (
    FileError,
    InputError,
    NotFoundError,
    Problem,
    PromptError,
    RolebookError,
)
from rolebook.core.frozen import frozen

if TYPE_CHECKING:
    from rolebook.core.chat import ChatService
    from rolebook.core.comparison import Cell, Comparison, Tally
    from rolebook.core.comparison_spec import ComparisonSpec
    from rolebook.core.estimate import Estimate
    from rolebook.core.persona import Place
    from rolebook.core.planning import Plan, PlanFault
    from rolebook.core.run import Run
    from rolebook.library.yaml_text import Mark
    from rolebook.report.snapshot import Snapshot

#: If no more are asked within this time, the first calls are all on their way, and there is nothing to do but to wait.
_LOOK_S = 0.01
#: A plan that is only looked at may take a second to find cells that will fail.
_PLANNED_CELLS = 2_000
#: Above these somebody at a terminal is asked first: calls, and US dollars.
_MANY_CALLS, _MUCH_MONEY = 200, 1.0


@frozen
class Given:
    """What somebody wants to have compared, in the raw.

    ``place_of`` finds the place of a part of ``data`` by the path to it: ``None`` for what is in no file. ``text_at``
    finds where a text begins, so that what is wrong inside can be placed.
    """

    data: Mapping[str, Any]
    place_of: Callable[[tuple[str | int, ...]], Mark | None] = lambda _path: None
    text_at: Callable[[tuple[str | int, ...]], Place | None] = lambda _path: None


def parse_given(data: Mapping[str, Any]) -> ComparisonSpec:
    """The comparison that options describe. Raises InputError for the first thing wrong."""
    from rolebook.core.comparison_spec import parse_spec
    from rolebook.core.fault import FaultyDataError

    try:
        return parse_spec(data)
    except FaultyDataError as error:
        raise error.as_input_error() from None


def _plan(invocation: Invocation, given: Given, choices: Choices) -> Plan:
    """Raises InputError for options, else FileError with all that is wrong, each with its place if that is a file."""
    from rolebook.core.planning import UnplannableError

    try:
        return invocation.rolebook.compare.plan(parse_given(choices.over(given.data)))
    except UnplannableError as error:
        raise FileError(
            [problem for fault in error.faults for problem in _problems(fault, given, choices)]
        ) from None


def _problems(fault: PlanFault, given: Given, choices: Choices) -> Iterator[Problem]:
    if isinstance(fault.error, FileError):
        yield from fault.error.problems
        return
    path = choices.origin_of(fault.path)
    mark = given.place_of(path) if path else None
    file, line, column = (mark.file, mark.line, mark.column) if mark else ("", 0, 0)
    yield Problem(file, line, column, fault.error.message, fault.error.parameters)


def _tell_mistakes_in_texts(
    invocation: Invocation, comparison: Comparison, given: Given, choices: Choices
) -> None:
    """Raises FileError if there are variants whose texts in the file cannot be rendered, with the place in each."""
    from rolebook.core.prompt import placed

    problems: list[Problem] = []
    answering = [n for n, variant in enumerate(comparison.variants) if not variant.is_recorded]
    for index, variant in enumerate(answering):
        try:
            invocation.rolebook.estimator.try_out(comparison, variant)
        except PromptError as error:
            # What was changed here goes by the name of its key: `system`, or `examples[0].user`.
            keys = [int(key) if key.isdigit() else key for key in re.findall(r"\w+", error.file)]
            place = given.text_at(choices.origin_of(("variants", index, "changes", *keys)))
            if place:
                reason = str(error.parameters.get("reason", ""))
                line, column = placed(place, max(error.line, 1), error.column, reason)
                found = Problem(place.file, line, column, error.message, error.parameters)
                # Each model that a variant is asked with has the same text.
                problems += [] if found in problems else [found]
        except (InputError, NotFoundError):
            continue
    if problems:
        raise FileError(problems)


def carry_out(invocation: Invocation, given: Given, choices: Choices) -> None:
    """Plan a comparison, say what it takes, and unless only that was wanted, run it to its end.

    Raises InputError and whatever planning and running raise. Ends the command with its exit status.
    """
    choices.require_sense()
    invocation.warm_sandbox()
    carry_out_plan(invocation, _plan(invocation, given, choices), choices, given)


def carry_out_plan(
    invocation: Invocation, plan: Plan, choices: Choices, given: Given | None = None
) -> None:
    """The same for a comparison that is planned already.

    Arguments:
        given: what was planned, to find the place of a mistake in one of its texts.
    """
    rolebook, terminal = invocation.rolebook, invocation.terminal
    if not choices.is_only_planned:
        _get_ready(invocation)
    look_at = {"look_at": _PLANNED_CELLS} if choices.is_only_planned else {}
    try:
        estimate = rolebook.estimator.estimate(
            plan.comparison, is_reusing=choices.is_reusing, **look_at
        )
    except InputError:
        if given:
            _tell_mistakes_in_texts(invocation, plan.comparison, given, choices)
        raise
    if choices.is_only_planned and choices.ending.as_json:
        from rolebook.report.preview import plan_data

        terminal.write_json(plan_data(rolebook, plan, estimate, choices.cell))
        return
    from rolebook.cli.plan import show_plan, tell_estimate

    if choices.is_only_planned and choices.cell:
        _show_cell(invocation, plan.comparison, choices.cell)
    elif choices.is_only_planned:
        show_plan(terminal, rolebook, plan.comparison, estimate)
    tell_estimate(terminal, plan, estimate)
    if choices.is_reusing:
        _tell_never_reused(terminal, plan.comparison)
    if not choices.is_only_planned:
        _agree(invocation, choices, estimate)
        comparison = rolebook.compare.create(plan)
        run(
            invocation,
            comparison,
            choices.ending,
            is_reusing=choices.is_reusing,
            concurrency=choices.concurrency,
        )


def _tell_never_reused(terminal: Terminal, comparison: Comparison) -> None:
    """What later turns are sent hangs on the answers before, so these inputs are asked in any case."""
    count = sum(len(entry.turns) > 1 for entry in comparison.inputs)
    if count:
        terminal.tell(
            "Inputs of several turns, which are asked anew also with --reuse: %(count)d.",
            count=count,
        )


def _show_cell(invocation: Invocation, comparison: Comparison, cell: str) -> None:
    from rolebook.cli.prompt import show_prompt

    rolebook = invocation.rolebook
    key = comparison.key_of(cell)
    prepared = rolebook.cells.prepare(comparison, key)
    show_prompt(rolebook, invocation.terminal, prepared)
    turns = len(comparison.inputs[key.input].turns)
    if turns > 1:
        invocation.terminal.tell(
            "This is the first of %(count)s turns; the others follow as they are answered.",
            count=turns,
        )


def _agree(invocation: Invocation, choices: Choices, estimate: Estimate) -> None:
    """Ask somebody at a terminal before many calls; a script knows what it does."""
    is_large = estimate.calls > _MANY_CALLS or (estimate.cost or 0.0) > _MUCH_MONEY
    is_asked = is_large and not choices.is_agreed and sys.stdin.isatty() and sys.stderr.isatty()
    if is_asked and not click.confirm(invocation.terminal.gettext("Go ahead?"), err=True):
        click.get_current_context().exit(FAILED)


def run(
    invocation: Invocation,
    comparison: Comparison,
    ending: Ending,
    *,
    with_failed: bool = False,
    is_reusing: bool = False,
    concurrency: int | None = None,
) -> None:
    """Fill the cells of a comparison, show what came of it, and end the command with the status that this deserves.

    Raises what CompareService.start raises, and why a run ended as a whole before its time.
    """
    invocation.warm_sandbox()
    _get_ready(invocation)
    rolebook, terminal = invocation.rolebook, invocation.terminal
    from rolebook.cli.run_progress import watch

    # Said before anything can happen to this process: by its id a comparison goes on.
    terminal.tell("Comparison %(id)s.", id=comparison.id)
    try:
        running = rolebook.compare.start(
            comparison, with_failed=with_failed, is_reusing=is_reusing, concurrency=concurrency
        )
        loading = rolebook.chat, running, terminal.translator.language
        threading.Thread(target=_load_what_shows_it, args=loading, daemon=True).start()
        watch(terminal, running)
    except KeyboardInterrupt:
        rolebook.compare.stop(comparison.id)
        terminal.tell("Stopped. Go on with: rolebook compare --resume %(id)s", id=comparison.id)
        click.get_current_context().exit(INTERRUPTED)
    if running.error:
        _tell_how_to_go_on(terminal, comparison, running.progress.tally)
        raise running.error
    finish(invocation, comparison, ending)


def _get_ready(invocation: Invocation) -> None:
    """Begin to import what the first call needs, while a log that is made first waits for the disk."""
    from rolebook.upstream.openai_upstream import warm_up

    warm_up()
    invocation.rolebook.log.open()


def _tell_how_to_go_on(terminal: Terminal, comparison: Comparison, tally: Tally) -> None:
    if tally.to_retry:
        terminal.tell(
            "Go on, with the failed cells too: rolebook comparisons retry %(id)s", id=comparison.id
        )
    else:
        terminal.tell("Go on with: rolebook compare --resume %(id)s", id=comparison.id)


def _load_what_shows_it(chat: ChatService, running: Run, language: str) -> None:
    """Load what `finish` needs while the first answers are waited for."""
    asked = 0
    while asked == 0 or asked != chat.asked_turns:
        asked = chat.asked_turns
        if running.wait(_LOOK_S):
            return
    import rolebook.cli.answer
    import rolebook.cli.findings
    import rolebook.core.voting
    import rolebook.report.export
    import rolebook.report.sentences  # noqa: F401
    from rolebook.core.text import count_questions, count_words
    from rolebook.report.presentation import listed

    # The first text that is counted has patterns compiled, the first list has a language's data read.
    count_words("")
    count_questions("")
    listed(["1", "2", "3"], language)


def finish(invocation: Invocation, comparison: Comparison, ending: Ending) -> None:
    """Show a comparison as it stands, write its files, and exit with 1 if something failed or could not be checked."""
    from rolebook.cli.answer import tell_unwritten
    from rolebook.cli.findings import show_findings
    from rolebook.report.snapshot import take_snapshot

    rolebook, terminal = invocation.rolebook, invocation.terminal
    snapshot = take_snapshot(rolebook, comparison)
    # What was paid for is kept before anything is put out: whoever reads that may have gone, as `head` has.
    are_written = all([_is_written(terminal, snapshot, path) for path in ending.outputs])
    if ending.as_json:
        for piece in export(terminal, snapshot, "json"):
            terminal.write(piece)
    else:
        show_findings(terminal, snapshot)
    cells = list(snapshot.cells.values())
    tally = snapshot.tally
    _tell_what_next(terminal, comparison, cells, tally)
    tell_unwritten(terminal, rolebook)
    is_left = tally.unchecked or snapshot.breaks
    if not are_written or is_left or not _is_good(comparison, cells):
        click.get_current_context().exit(FAILED)


def _is_good(comparison: Comparison, cells: Sequence[Cell]) -> bool:
    """Whether no cell has failed, and every check has passed: one that could not be told has not."""
    return all(
        cell.status != "failed" and all(result.has_passed for result in cell.checks)
        for cell in _to_be_checked(comparison, cells)
    )


def _to_be_checked(comparison: Comparison, cells: Sequence[Cell]) -> Iterator[Cell]:
    """Recorded answers do not count: they are what the others are measured by."""
    return (cell for cell in cells if not comparison.variants[cell.key.variant].is_recorded)


def _tell_what_next(
    terminal: Terminal, comparison: Comparison, cells: Sequence[Cell], tally: Tally
) -> None:
    recorded = {n for n, variant in enumerate(comparison.variants) if variant.is_recorded}
    reused = sum(cell.is_reused and cell.key.variant not in recorded for cell in cells)
    if reused:
        terminal.tell("Answers taken from the log, not asked for again: %(count)d.", count=reused)
    tell_what_is_left(terminal, comparison, tally)
    if len(comparison.variants) > 1:
        terminal.tell(
            "Comparison %(id)s: see it again with `rolebook comparisons show %(id)s`, or vote on it at "
            "/comparisons/%(id)s of the pages.",
            id=comparison.id,
        )
    else:
        terminal.tell(
            "Comparison %(id)s: see it again with `rolebook comparisons show %(id)s`.",
            id=comparison.id,
        )


def tell_what_is_left(terminal: Terminal, comparison: Comparison, tally: Tally) -> None:
    """Say how many checks are still to be made, and how to go on where something is left to do.

    What could not be judged is a finding, and told among these.
    """
    if tally.unchecked:
        terminal.tell("Checks that have not been made yet: %(count)d.", count=tally.unchecked)
    if tally.to_retry and not tally.to_answer:
        terminal.tell(
            "Ask the failed cells again with: rolebook comparisons retry %(id)s", id=comparison.id
        )
    elif tally.unjudged and not tally.to_retry:
        terminal.tell(
            "Ask the judge again with: rolebook comparisons retry %(id)s", id=comparison.id
        )
    elif tally.unchecked or tally.to_answer:
        _tell_how_to_go_on(terminal, comparison, tally)


def export(terminal: Terminal, snapshot: Snapshot, format: str) -> Iterator[str]:
    """A comparison in one of FORMATS, piece by piece; what people read in their language."""
    from rolebook.report.export import export_snapshot

    return export_snapshot(snapshot, format, translator=terminal.translator)


def _is_written(terminal: Terminal, snapshot: Snapshot, path: Path) -> bool:
    """Write one of its files. That it cannot be written is said, and keeps nothing else from being put out."""
    try:
        write_file(terminal, snapshot, path)
    except RolebookError as error:
        terminal.fail(error)
        return False
    terminal.tell("Written: %(path)s.", path=path)
    return True


def write_file(terminal: Terminal, snapshot: Snapshot, path: Path) -> None:
    """Write a comparison to a file in the format of its ending. Raises RolebookError if it cannot be written."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(export(terminal, snapshot, path.suffix[1:]))
    except OSError as error:
        raise RolebookError(
            "%(path)s cannot be written: %(reason)s.", path=path, reason=error.strerror
        ) from None
