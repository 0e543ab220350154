"""An answer as it reaches a terminal or a pipe: streamed, and beside it what is worth knowing about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from rolebook.cli.terminal import Terminal, visible
from rolebook.core.chat import TurnEnded, TurnRequest, TurnStarted
from rolebook.core.completion import Choice, Delta
from rolebook.report.money import money

if TYPE_CHECKING:
    from rolebook.core.check import CheckResult
    from rolebook.core.session import Turn
    from rolebook.wiring import Rolebook


def run_turn(rolebook: Rolebook, request: TurnRequest, writer: AnswerWriter | None) -> Turn:
    """Run one turn and return it with its end.

    Arguments:
        writer: shows the answer while it comes; ``None`` shows nothing.

    Raises what ChatService.stream_turn raises. An exception out of the writer, or Ctrl-C, leaves the turn in the log as
    cancelled.
    """
    events = rolebook.chat.stream_turn(request)
    with closing(events):  # type: ignore[type-var]
        for event in events:
            match event:
                case TurnStarted(turn) if writer:
                    writer.begin(turn)
                case Delta() if writer:
                    writer.add(event)
                case TurnEnded(turn):
                    if writer:
                        writer.end(turn)
                    return turn
    raise AssertionError("a turn that starts ends")


class AnswerWriter:
    """Writes one answer, or several alternatives one after the other, to standard output.

    The first alternative is written as it comes; others, which arrive in between, when it is whole. On a terminal the
    model's thoughts are shown dimly on standard error, and the answer ends with a newline.
    """

    def __init__(self, terminal: Terminal, *, ends_line: bool = False) -> None:
        self._terminal = terminal
        self._ends_line = ends_line or terminal.is_interactive
        self._last = "\n"
        self._has_begun = False
        self._is_thinking = False

    def begin(self, turn: Turn) -> None:
        """The call is about to be made."""
        if (turn.parameters_requested.get("n") or 1) > 1:
            self._write("[1]\n")

    def add(self, delta: Delta) -> None:
        """One piece has arrived."""
        if delta.index:
            return
        if delta.kind == "text":
            self._has_begun = True
            self._stop_thinking()
            self._write(delta.text)
        elif delta.kind == "reasoning" and self._terminal.is_interactive:
            self._is_thinking = True
            click.secho(visible(delta.text), err=True, dim=True, nl=False)

    def end(self, turn: Turn) -> None:
        """The turn has ended, whichever way."""
        self._stop_thinking()
        if not self._has_begun:
            # Of an answer in one piece that broke off there was no delta.
            self._write(turn.text)
        for number, choice in enumerate(turn.choices[1:], start=2):
            self._end_line()
            self._write(f"[{number}]\n{choice.text}")
        if self._ends_line:
            self._end_line()

    def break_off(self) -> None:
        """Nothing more will come, and nobody says how it ended."""
        self._stop_thinking()
        self._end_line()

    def _stop_thinking(self) -> None:
        if self._is_thinking:
            click.echo(err=True)
            self._is_thinking = False

    def _write(self, text: str) -> None:
        if text:
            self._terminal.write(text)
            self._last = text[-1]

    def _end_line(self) -> None:
        if self._last != "\n":
            self._write("\n")


def results_of(rolebook: Rolebook, turn_id: str) -> Sequence[CheckResult]:
    """What checks have found on a turn so far."""
    # A turn that waits to be written has none yet, and the file may not even be readable.
    if rolebook.log.unwritten:
        return ()
    return rolebook.log.results_of_turns([turn_id]).get(turn_id, ())


def tell_checks(terminal: Terminal, results: Sequence[CheckResult]) -> None:
    """Each check that failed, or that could not be told."""
    for result in results:
        # Rubrics are sentences, and have their full stop.
        label = result.label.rstrip(".。")
        if result.has_passed is None:
            terminal.tell("Not checked: %(label)s. %(said)s", label=label, said=result.said)
        elif not result.has_passed:
            terminal.tell("Check failed: %(label)s. %(said)s", label=label, said=result.said)


def tell_turn(terminal: Terminal, turn: Turn, results: Sequence[CheckResult] = ()) -> None:
    """What an ended turn's text does not say: why it failed, what was changed or left out, what checks found wrong.

    Arguments:
        results: what checks have found.
    """
    if turn.dropped_turns:
        terminal.tell(
            "Earlier turns left out, as the persona's context allows no more: %(count)d.",
            count=turn.dropped_turns,
        )
    for adaptation in turn.adaptations:
        terminal.tell(adaptation.message, **adaptation.parameters)
    if turn.error:
        terminal.fail_line(terminal.translator.turn_error(turn.error))
    elif turn.status == "cancelled":
        terminal.tell("Stopped. What had arrived is in the log.")
    elif turn.status == "complete":
        for choice in turn.choices:
            _tell_choice(terminal, choice)
        tell_checks(terminal, results)


def _tell_choice(terminal: Terminal, choice: Choice) -> None:
    if choice.refusal:
        terminal.tell("The model refuses: %(refusal)s", refusal=choice.refusal)
    for call in choice.tool_calls:
        terminal.tell(
            "The model asks for a tool, and Rolebook runs none: %(call)s",
            call=json.dumps(call, ensure_ascii=False),
        )
    match choice.finish_reason:
        case "stop" | "tool_calls":
            pass
        case None:
            terminal.tell("The upstream did not say why the answer ends here (no finish reason).")
        case "length":
            terminal.tell(
                "The answer is cut off at its limit of tokens (finish reason: length)."
                " Allow more with -s max_tokens=NUMBER."
            )
        case "content_filter":
            terminal.tell(
                "The upstream's content filter stopped the answer (finish reason: content_filter)."
            )
        case other:
            terminal.tell("The answer ended for another reason: %(reason)s.", reason=other)


def tell_unwritten(terminal: Terminal, rolebook: Rolebook) -> None:
    """Say so when the log cannot be written and turns wait in memory."""
    if rolebook.log.unwritten:
        terminal.tell(
            "Turns not in the log yet: %(count)d. %(path)s cannot be written at the moment; it is tried again.",
            count=rolebook.log.unwritten,
            path=rolebook.log.path,
        )


def figures(terminal: Terminal, turn: Turn) -> str:
    """The turn in one line of figures: model, tokens, cost, time. What is unknown is not there."""
    usage = turn.usage
    parts = [turn.model or turn.model_requested]
    if usage.prompt_tokens is not None and usage.completion_tokens is not None:
        parts.append(
            terminal.gettext(
                "%(sent)d + %(received)d tokens",
                sent=usage.prompt_tokens,
                received=usage.completion_tokens,
            )
        )
    if turn.cost is not None:
        parts.append(money(turn.cost))
    if turn.duration_ms is not None:
        parts.append(f"{turn.duration_ms / 1000:.1f} s")
    return " · ".join(part for part in parts if part)
