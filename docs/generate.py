"""Write into the pages of this folder what the code knows: help, settings, fields; and the JSON Schema of personas.

    python -m docs.generate            write what has changed
    python -m docs.generate --check    write nothing; exit with 1 if something is out of date

In a page, what stands between ``<!-- generated: KIND ARGUMENTS -->`` and ``<!-- end -->`` is written here, the rest by
hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rolebook.__main__ import COMMANDS
from rolebook.cli.command import Group
from rolebook.cli.invocation import Invocation
from rolebook.cli.program import Program
from rolebook.config import FOREIGN_VARIABLES, SETTINGS
from rolebook.core.persona_schema import persona_schema

FOLDER = Path(__file__).parent
_BLOCK = re.compile(
    r"(?P<head><!-- generated: (?P<kind>\w+)(?: (?P<arguments>[^\n]*?))? -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def command_help(names: str) -> str:
    """What ``rolebook NAMES --help`` prints in English."""
    command: click.Command = Program(COMMANDS)
    context = click.Context(
        command,
        info_name="rolebook",
        obj=Invocation({}),
        terminal_width=90,
        help_option_names=["--help", "-h"],
    )
    for name in names.split():
        assert isinstance(command, Group)
        found = command.get_command(context, name)
        assert found is not None, names
        command, context = found, click.Context(found, info_name=name, parent=context)
    return f"```text\n{command.get_help(context).rstrip()}\n```\n"


def command_names() -> Iterator[str]:
    """Every command, and those of groups as ``sessions show``."""
    context = click.Context(Program(COMMANDS), obj=Invocation({}))
    for name in COMMANDS:
        yield name
        command = Program(COMMANDS).get_command(context, name)
        if isinstance(command, Group):
            yield from (f"{name} {inner}" for inner in command.list_commands(context))


def settings_table(_arguments: str) -> str:
    """The settings, and the variables that other programs read too."""
    rows = [
        (
            f"`{s.variable}`",
            f"`--{s.name.replace('_', '-')}`",
            f"`{s.default}`" if s.default else "",
            s.help,
        )
        for s in SETTINGS
    ]
    foreign = [
        (f"`{names.replace(', ', '`, `')}`", "", "", help) for names, help in FOREIGN_VARIABLES
    ]
    return _table(("Variable", "Flag", "Default", "What it sets"), [*rows, *foreign])


def field_table(name: str) -> str:
    """The keys of one part of a persona file; an empty name is the file itself."""
    schema = persona_schema()
    part = schema["$defs"][name] if name else schema
    required = part.get("required", []) or (["name", "system"] if not name else [])
    rows = [
        (f"`{key}`", _kind(field), _default(field, key in required), field.get("description", ""))
        for key, field in part["properties"].items()
    ]
    return _table(("Key", "Value", "Default", "Meaning"), rows)


def _kind(field: Mapping[str, Any]) -> str:
    """The type of a value, in words."""
    if "$ref" in field:
        return _link(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        kinds = [_kind(choice) for choice in field["anyOf"] if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map of names to {_kind(field['additionalProperties'])}"
    limits = f" from {field['minimum']:,} to {field['maximum']:,}" if "minimum" in field else ""
    return _WORDS.get(str(field.get("type")), "anything") + limits


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


_WORDS = {
    "['string', 'number', 'boolean']": "text",
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "object": "map",
}


def _default(field: Mapping[str, Any], is_required: bool) -> str:
    if is_required:
        return "needed"
    default = field.get("default")
    return f"`{json.dumps(default)}`" if default not in (None, "", [], {}) else ""


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


_KINDS: Mapping[str, Callable[[str], str]] = {
    "help": command_help,
    "settings": settings_table,
    "fields": field_table,
}


def fill(page: str) -> str:
    """A page with all its generated blocks written anew."""
    return _BLOCK.sub(
        lambda block: (
            block["head"] + _KINDS[block["kind"]](block["arguments"] or "") + block["end"]
        ),
        page,
    )


def outdated() -> Iterator[tuple[Path, str]]:
    """Each file that differs from what it should be, with what it should be."""
    schema = FOLDER / "persona.schema.json"
    wanted = {page: fill(page.read_text("utf-8")) for page in sorted(FOLDER.glob("*.md"))}
    wanted[schema] = json.dumps(persona_schema(), ensure_ascii=False, indent=2) + "\n"
    for path, text in wanted.items():
        if not path.exists() or path.read_text("utf-8") != text:
            yield path, text


def main() -> None:
    """Write or check."""
    is_check = "--check" in sys.argv[1:]
    stale = list(outdated())
    for path, text in stale:
        print(f"{path.relative_to(FOLDER.parent)} {'is out of date' if is_check else 'written'}")
        if not is_check:
            path.write_text(text, "utf-8")
    if stale and is_check:
        sys.exit("Run `make docs` and commit what it writes.")


if __name__ == "__main__":
    main()
