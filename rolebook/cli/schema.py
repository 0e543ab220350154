"""``rolebook schema``: the persona format for editors."""

from __future__ import annotations

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation

_HELP = """Print the JSON Schema of the persona format, with which editors complete and check persona files.

The same schema is docs/persona.schema.json; the shipped personas name it in their first line."""


@command(help=_HELP, examples="rolebook schema > persona.schema.json")
@pass_invocation
def schema(invocation: Invocation) -> None:
    from rolebook.core.persona_schema import persona_schema

    invocation.terminal.write_json(persona_schema())
