"""``rolebook ask``: one turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.cli.role import Role, read_input, role_options, settle_input
from rolebook.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolebook.core.check import CheckResult
    from rolebook.core.session import Turn

#: How long the end waits for those who judge rubrics.
_JUDGES_S = 60.0

_HELP = """Ask a persona once; the answer goes to standard output as it comes.

INPUT is the text, or - for standard input, which is also read when INPUT is missing and something is piped in. The
turn is kept in the log. What the persona's checks find wrong with the answer is told on standard error. The exit
status is 0 when the answer is complete, whatever they find."""

_EXAMPLES = """
rolebook ask teacher "Why is the sky blue?"
rolebook ask teacher -v level=advanced -s temperature=0.2 "What is a group?"
git diff | rolebook ask code-reviewer > review.md
rolebook ask --system "You answer in one word." "The capital of Peru?"
rolebook ask assistant -m gpt-4o -s n=3 --json "Name a colour" | jq .choices
"""


@command(help=_HELP, examples=_EXAMPLES, options_metavar="[OPTIONS]")
@role_options
@click.argument("input_text", metavar="[INPUT|-]", required=False)
@click.option(
    "--no-stream", is_flag=True, help="Ask for the whole answer at once instead of a stream."
)
@click.option("--json", "as_json", is_flag=True, help="Print the finished turn as JSON.")
@pass_invocation
def ask(
    invocation: Invocation, role: Role, input_text: str | None, no_stream: bool, as_json: bool
) -> None:
    role, given = settle_input(role, input_text)
    text = read_input(given)
    turn = _take_turn(invocation, role, text, is_streamed=not no_stream, is_shown=not as_json)
    results = _found(invocation, turn)
    if as_json:
        from rolebook.storage.export import turn_data

        data = turn_data(turn, results=results)
        invocation.terminal.write_json(data | {"persona_id": role.persona_id})
    _tell(invocation.terminal, invocation, turn, results)
    if turn.status != "complete":
        click.get_current_context().exit(1)


def _take_turn(
    invocation: Invocation, role: Role, text: str, *, is_streamed: bool, is_shown: bool
) -> Turn:
    invocation.warm_sandbox()
    rolebook = invocation.rolebook
    from rolebook.cli.answer import AnswerWriter, run_turn
    from rolebook.core.chat import TurnRequest
    from rolebook.upstream.openai_upstream import warm_up

    warm_up()
    session = role.start_session(rolebook)
    request = TurnRequest(session.id, text, is_streamed=is_streamed)
    return run_turn(rolebook, request, AnswerWriter(invocation.terminal) if is_shown else None)


def _found(invocation: Invocation, turn: Turn) -> Sequence[CheckResult]:
    """What its checks found; the answer has been shown, so there is time to hear the judges too."""
    from rolebook.cli.answer import results_of

    invocation.rolebook.live_checks.wait(turn.id, _JUDGES_S)
    return results_of(invocation.rolebook, turn.id)


def _tell(
    terminal: Terminal, invocation: Invocation, turn: Turn, results: Sequence[CheckResult]
) -> None:
    from rolebook.cli.answer import figures, tell_turn, tell_unwritten

    tell_turn(terminal, turn, results)
    tell_unwritten(terminal, invocation.rolebook)
    if terminal.is_interactive:
        terminal.tell_line(f"{figures(terminal, turn)} · {turn.session_id}")
