"""``rolebook render``: what would be sent, without sending it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.cli.role import Role, read_input, role_options, settle_input
from rolebook.cli.terminal import Terminal
from rolebook.core.errors import FileError, NotFoundError, PromptError, RolebookError

if TYPE_CHECKING:
    from rolebook.core.chat import PreparedTurn
    from rolebook.core.message import Message
    from rolebook.core.persona import ResolvedPersona
    from rolebook.wiring import Rolebook

_HELP = """Show the message list and the parameters that an input would be sent with.

Nothing is called and nothing is logged. On a terminal each piece of text has the colour of its origin: the persona's
own text, a variable, an example, the greeting, the input, the template. Standard input is read only for the INPUT -."""

_EXAMPLES = """
rolebook render teacher "Why is the sky blue?"
rolebook render teacher -v subject=chemistry -v level=expert
rolebook render teacher "Why is the sky blue?" --watch
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


#: How often it is looked whether something has changed.
_LOOK_S = 0.2


@command(help=_HELP, examples=_EXAMPLES)
@role_options
@click.argument("input_text", metavar="[INPUT|-]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the messages and parameters as JSON.")
@click.option(
    "--watch",
    is_flag=True,
    help="Show it again whenever the persona or its prompt template changes, until Ctrl-C.",
)
@pass_invocation
def render(
    invocation: Invocation, role: Role, input_text: str | None, as_json: bool, watch: bool
) -> None:
    role, given = settle_input(role, input_text)
    invocation.warm_sandbox()
    text = read_input(given) if given is not None else ""
    if watch:
        _watch(invocation, role, text, as_json=as_json)
    else:
        _render(invocation, role, role.resolve(invocation.rolebook), text, as_json=as_json)


def _render(
    invocation: Invocation, role: Role, resolved: ResolvedPersona, text: str, *, as_json: bool
) -> None:
    rolebook = invocation.rolebook
    prepared = rolebook.chat.prepare(role.as_session(), resolved, text)
    if as_json:
        from rolebook.report.preview import prompt_data

        invocation.terminal.write_json(prompt_data(prepared))
        return
    show_prompt(rolebook, invocation.terminal, prepared)


def _watch(invocation: Invocation, role: Role, text: str, *, as_json: bool) -> None:
    """Show the prompt, or what is wrong, each time that it is another."""
    shown = said = ""
    while True:
        error: RolebookError | None = None
        try:
            resolved = role.resolve(invocation.rolebook)
            error = _staleness(invocation.rolebook, role.persona_id)
            if resolved.revision.id != shown:
                _tell_time(invocation.terminal, is_first=not shown)
                shown = resolved.revision.id
                _render(invocation, role, resolved, text, as_json=as_json)
        except PromptError as failed:
            # Told once, because its revision counts as shown.
            invocation.terminal.fail(failed)
        except RolebookError as failed:
            error = failed
        if error is not None and str(error) != said:
            invocation.terminal.fail(error)
        said = str(error or "")
        time.sleep(_LOOK_S)


def _staleness(rolebook: Rolebook, persona_id: str) -> RolebookError | None:
    """What is wrong with the file, where its last good version is in use."""
    with suppress(NotFoundError):
        entry = rolebook.library.get_entry(persona_id)
        return FileError(entry.errors) if entry.is_stale else None
    return None


def _tell_time(terminal: Terminal, *, is_first: bool) -> None:
    """From when the next one is, so that it can be told from the one before."""
    if not is_first:
        terminal.tell_line(f"── {time.strftime('%H:%M:%S')} ──")


def show_prompt(rolebook: Rolebook, terminal: Terminal, prepared: PreparedTurn) -> None:
    """The messages that would be sent, coloured by where their words come from; the rest on standard error."""
    for number, message in enumerate(prepared.messages):
        if number:
            terminal.write_line()
        _show_message(terminal, message)
    if terminal.is_interactive:
        _show_legend(terminal, prepared)
    for name, value in prepared.parameters.items():
        terminal.tell_line(f"{name} = {value}")
    model = rolebook.cells.known_model(prepared)
    terminal.tell(
        "Messages: %(messages)d, tokens: about %(tokens)d, model: %(model)s.",
        messages=len(prepared.messages),
        tokens=rolebook.count_tokens(prepared.messages, model),
        model=model or terminal.gettext("the upstream's default"),
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
