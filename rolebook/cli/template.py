"""``rolebook templates``: the prompt templates, and what became of them."""

from __future__ import annotations

import click

from rolebook.cli.command import group
from rolebook.cli.editing import add_editing
from rolebook.cli.invocation import Invocation, pass_invocation


@group(
    help="List the prompt templates.",
    examples="""
    rolebook templates
    rolebook templates edit chat
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@pass_invocation
@click.pass_context
def templates(context: click.Context, invocation: Invocation, as_json: bool) -> None:
    if context.invoked_subcommand:
        return
    found = [state for state in invocation.rolebook.edits.files() if state.key.kind == "template"]
    if as_json:
        invocation.terminal.write_json(
            [
                {
                    "id": state.key.id,
                    "file": state.file,
                    "problems": [str(problem) for problem in state.problems],
                }
                for state in found
            ]
        )
    else:
        rows = [(state.key.id, state.file, str(len(state.problems) or "")) for state in found]
        invocation.terminal.write_table(("ID", "File", "Problems"), rows)


add_editing(templates, "template")
