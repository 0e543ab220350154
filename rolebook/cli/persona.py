"""``rolebook personas``: what is in the library, and keeping a role that proved good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rolebook.cli.command import group
from rolebook.cli.editing import add_editing
from rolebook.cli.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from rolebook.library.file_library import PersonaEntry


@group(
    help="List the personas.",
    examples="""
    rolebook personas
    rolebook personas --json | jq '.[].id'
    rolebook personas show teacher
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@pass_invocation
@click.pass_context
def personas(context: click.Context, invocation: Invocation, as_json: bool) -> None:
    if context.invoked_subcommand:
        return
    entries = invocation.rolebook.library.entries()
    terminal = invocation.terminal
    if as_json:
        from rolebook.library.summary import persona_summary

        terminal.write_json([persona_summary(entry) for entry in entries])
    else:
        terminal.write_table(("ID", "Name", "Language", "Tags", "Description"), map(_row, entries))
    errors = sum(len(entry.errors) for entry in entries)
    if errors:
        terminal.tell(
            "Mistakes in the files: %(count)d. `rolebook check` shows them.", count=errors
        )
    elif not entries:
        folder = invocation.rolebook.settings.personas
        terminal.tell("There is no persona in %(folder)s.", folder=folder)


def _row(entry: PersonaEntry) -> tuple[str, str, str, str, str]:
    if entry.resolved is None:
        return entry.id, "?", "", "", entry.errors[0].text
    persona = entry.resolved.persona
    name = f"{persona.avatar} {persona.name}".strip()
    return entry.id, name, persona.language, ", ".join(persona.tags), persona.description


@personas.command(
    help="""Show one persona as it is used: with its bases merged in.

    The text is a persona file again.""",
    examples="""
    rolebook personas show teacher
    rolebook personas show socratic-teacher --json | jq .persona.sampling
    """,
)
@click.argument("persona_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the persona as JSON.")
@pass_invocation
def show(invocation: Invocation, persona_id: str, as_json: bool) -> None:
    from rolebook.library.file_library import PersonaEntry
    from rolebook.library.summary import persona_data, persona_summary

    resolved = invocation.rolebook.find_persona(persona_id)
    if "@" in persona_id:
        entry = PersonaEntry(persona_id, "", resolved, ())
    else:
        entry = invocation.rolebook.library.get_entry(persona_id)
    terminal = invocation.terminal
    if as_json:
        terminal.write_json({**persona_summary(entry), "persona": persona_data(resolved.persona)})
    else:
        from rolebook.library.yaml_text import dump_yaml

        terminal.write_line(f"# {entry.file or entry.id}, {resolved.revision.id}")
        terminal.write(dump_yaml(persona_data(resolved.persona)))
    if entry.is_stale:
        terminal.tell(
            "%(file)s is broken now; this is its last good version. `rolebook check` says why.",
            file=entry.file,
        )


@personas.command(
    help="""Keep the role of a session as a persona file.

    This is how a role that was only described, with `chat --system` or on the front page, gets a file.""",
    examples="""
    rolebook personas save 01kajq3m5w8r2c9x0v terse-cook
    rolebook personas save 01kajq3m5w8r2c9x0v terse-cook --name "Terse cook"
    """,
)
@click.argument("session_id", metavar="SESSION")
@click.argument("persona_id", metavar="ID")
@click.option("--name", metavar="TEXT", default="", help="What people shall call it.")
@pass_invocation
def save(invocation: Invocation, session_id: str, persona_id: str, name: str) -> None:
    save_persona(invocation, session_id, persona_id, name)


def save_persona(invocation: Invocation, session_id: str, persona_id: str, name: str) -> None:
    """Write a session's persona to a file of its own and say where.

    Raises NotFoundError, ConflictError, InputError.
    """
    from rolebook.core.source import Author, FileKey

    rolebook = invocation.rolebook
    resolved = rolebook.chat.persona_of(rolebook.log.get_session(session_id))
    data = resolved.persona.as_data() | ({"name": name} if name else {})
    saved = rolebook.edits.create(FileKey("persona", persona_id), data, author=Author("command"))
    invocation.terminal.tell("Saved as %(path)s.", path=saved.source.file)


add_editing(personas, "persona")
