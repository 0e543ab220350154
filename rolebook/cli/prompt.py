"""``rolebook render``: what would be sent, without sending it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.cli.role import Role, read_input, role_options, settle_input
from rolebook.cli.terminal import Terminal

if TYPE_CHECKING:
    from rolebook.core.chat import PreparedTurn
    from rolebook.core.message import Message

_HELP = """Show the message list and the parameters that an input would be sent with.

Nothing is called and nothing is logged. On a terminal each piece of text has the colour of its origin: the persona's
own text, a variable, an example, the greeting, the input, the template. Standard input is read only for the INPUT -."""

_EXAMPLES = """
rolebook render teacher "Why is the sky blue?"
rolebook render teacher -v subject=chemistry -v level=expert
rolebook render translator --json - < letter.txt | jq .messages
"""

_STYLES: Mapping[str, Mapping[str, Any]] = {
    "system": {},
    "variable": {"fg": "cyan", "bold": True},
    "example": {"fg": "green"},
    "greeting": {"fg": "magenta"},
    "history": {"fg": "blue"},
    "input": {"fg": "yellow"},
    "template": {"dim": True},
    "computed": {"underline": True},
}
"""How each origin looks; all of them can be told apart on dark and on light ground."""


@command(help=_HELP, examples=_EXAMPLES)
@role_options
@click.argument("input_text", metavar="[INPUT|-]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the messages and parameters as JSON.")
@pass_invocation
def render(invocation: Invocation, role: Role, input_text: str | None, as_json: bool) -> None:
    role, given = settle_input(role, input_text)
    text = read_input(given) if given is not None else ""
    rolebook = invocation.rolebook
    rolebook.sandbox.warm()
    prepared = rolebook.chat.prepare(role.as_session(), role.resolve(rolebook), text)
    if as_json:
        invocation.terminal.write_json(_as_data(prepared))
        return
    tokens = rolebook.count_tokens(prepared.messages, prepared.model)
    show_prompt(invocation.terminal, prepared, tokens)


def _as_data(prepared: PreparedTurn) -> dict[str, Any]:
    return {
        "messages": [message.as_dict() for message in prepared.messages],
        "parameters": dict(prepared.parameters),
        "persona": prepared.resolved.persona.id,
        "revision": prepared.resolved.revision.id,
        "dropped_turns": prepared.prompt.dropped_turns,
    }


def show_prompt(terminal: Terminal, prepared: PreparedTurn, tokens: int) -> None:
    """The messages that would be sent, coloured by where their words come from; the rest on standard error."""
    for number, message in enumerate(prepared.messages):
        if number:
            terminal.write_line()
        _show_message(terminal, message)
    if terminal.is_interactive:
        _show_legend(terminal, prepared)
    for name, value in prepared.parameters.items():
        terminal.tell_line(f"{name} = {value}")
    terminal.tell(
        "Messages: %(messages)d, tokens: about %(tokens)d, model: %(model)s.",
        messages=len(prepared.messages),
        tokens=tokens,
        model=prepared.model or terminal.gettext("the upstream's default"),
    )


def _show_message(terminal: Terminal, message: Message) -> None:
    terminal.write_styled(f"── {message.role} ──\n", bold=True)
    for span in message.spans:
        terminal.write_styled(span.text, **_STYLES[span.origin.value])
    if not message.content.endswith("\n"):
        terminal.write_line()


def _show_legend(terminal: Terminal, prepared: PreparedTurn) -> None:
    origins = dict.fromkeys(span.origin for m in prepared.messages for span in m.spans)
    words = [click.style(terminal.gettext(origin.value), **_STYLES[origin]) for origin in origins]
    click.echo("\n" + " · ".join(words), err=True)
