"""A run while it lasts: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rolebook.cli.terminal import Terminal
from rolebook.report.money import money

if TYPE_CHECKING:
    from rolebook.core.run import Progress, Run

_BAR_EVERY_S, _LINE_EVERY_S = 0.25, 5.0


def watch(terminal: Terminal, run: Run) -> None:
    """Wait for the end of a run and show how far it is."""
    is_live = sys.stderr.isatty()
    every_s = _BAR_EVERY_S if is_live else _LINE_EVERY_S
    with _bar(terminal, run) if is_live else _lines(terminal) as show:
        while not run.wait(every_s):
            show(run.progress)
        show(run.progress)


def progress_text(terminal: Terminal, progress: Progress) -> str:
    """How far it is in one line: cells, failed ones, rate, spend, time left. What is unknown is not there."""
    tally = progress.tally
    parts = [
        terminal.gettext("%(done)d of %(total)d cells", done=_done(progress), total=tally.total)
    ]
    if tally.failed:
        parts.append(terminal.gettext("%(count)d failed", count=tally.failed))
    if progress.to_judge:
        parts.append(terminal.gettext("%(count)s to be judged", count=progress.to_judge))
    if progress.rate:
        parts.append(terminal.gettext("%(rate).1f a second", rate=progress.rate))
    if progress.cost_left:
        whole = money(tally.cost + progress.cost_left)
        parts.append(terminal.gettext("%(cost)s of ≈ %(all)s", cost=money(tally.cost), all=whole))
    elif tally.cost:
        parts.append(money(tally.cost))
    if progress.seconds_left:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        parts.append(terminal.gettext("%(time)s left", time=f"{minutes}:{seconds:02}"))
    return " · ".join(parts)


def _done(progress: Progress) -> int:
    return progress.tally.total - progress.tally.to_answer


@contextmanager
def _lines(terminal: Terminal) -> Iterator[Callable[[Progress], None]]:
    told = -1, 0

    def show(progress: Progress) -> None:
        nonlocal told
        # A slow model is no reason to say the same again and again.
        if (_done(progress), progress.to_judge) != told:
            told = _done(progress), progress.to_judge
            terminal.tell_line(progress_text(terminal, progress))

    yield show


@contextmanager
def _bar(terminal: Terminal, run: Run) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(bar_width=30), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=run.comparison.size)
        yield lambda progress: bar.update(
            task, completed=_done(progress), description=progress_text(terminal, progress)
        )
