"""Bring the Chinese catalogue up to date with the messages in code and pages.

    python -m tools.messages

What is translated stays so; new messages are added without a translation, and those that nobody says any more go.
Babel reads the pages. In Python files a message may also be the argument of an error, or a constant that becomes
one, so these are read by the rules below; help texts, settings and other tables are taken from the modules themselves.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import click
import yaml
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parent.parent
CATALOGUE = ROOT / "rolebook" / "language" / "zh.po"

Text = str | tuple[str, ...]

#: Calls whose first argument is a message; so is that of every error of our own, whose ``kind`` may be chosen first.
_SPEAKERS = {"_", "gettext", "tell", "say", "Phrase", "kind"}
#: Calls that take a message among other texts; only a text of several words is one.
_CARRIERS = {"Problem", "Fault", "Advice", "TurnError", "flaw"}
#: Speaks both languages itself, as its words are the answer of a model.
_BILINGUAL = ROOT / "rolebook" / "upstream" / "rehearsal.py"
#: Speaks to editors, in English as the descriptions of the fields do.
_SCHEMA = ROOT / "rolebook" / "core" / "persona_schema.py"
#: Speaks to programs, of whose requests not even the language could be read.
_REFUSAL = ROOT / "rolebook" / "serving" / "refusal.py"


def find_messages() -> Catalog:
    """Every message of code and pages, with the files where it stands."""
    catalogue = Catalog(locale="zh", domain="messages")
    for path, message in (*_of_code(), *_of_pages(), *_of_tables(), *_of_help(), *_of_personas()):
        # Without lines: they would change with every edit of a file.
        catalogue.add(message, locations=[(str(path.relative_to(ROOT)), 0)])
    return catalogue


def updated_catalogue(found: Catalog) -> tuple[Catalog, bytes]:
    """The catalogue with the messages that there are now, and what its file should hold."""
    with CATALOGUE.open("rb") as file:
        catalogue = read_po(file, locale="zh", domain="messages")
    catalogue.update(found, no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    written = BytesIO()
    write_po(
        written, catalogue, width=110, omit_header=True, sort_output=True, include_lineno=False
    )
    return catalogue, written.getvalue()


def _of_code() -> Iterator[tuple[Path, Text]]:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in (ROOT / "rolebook").rglob("*.py")}
    classes = [
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    errors = {name for name in classes if name.endswith(("Error", "Cancelled"))} - _CARRIERS
    for path, tree in sorted(trees.items()):
        if path not in (_BILINGUAL, _SCHEMA, _REFUSAL):
            for node in ast.walk(tree):
                yield from ((path, message) for message in _messages_of(node, _SPEAKERS | errors))


def _messages_of(node: ast.AST, speakers: set[str]) -> Iterator[Text]:
    if isinstance(node, ast.Call):
        yield from _messages_of_call(node, speakers)
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if "headings" in names:
            yield from _texts(node.value)
        elif any(name == "message" or name.isupper() for name in names):
            yield from filter(_is_sentence, _texts(node.value))


def _messages_of_call(node: ast.Call, speakers: set[str]) -> Iterator[Text]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "ngettext":
        # Where a call only passes its arguments on, there is no text.
        forms = tuple(text for argument in node.args[:2] for text in _texts(argument))
        yield from [forms] if forms else []
    elif name in speakers:
        for argument in node.args[:1]:
            yield from _choices(argument)
    elif name == "write_table":
        yield from _texts(node.args[0])
    elif name in _CARRIERS:
        yield from (
            text for argument in node.args for text in _texts(argument) if " " in text.strip()
        )


def _choices(node: ast.expr) -> Iterator[str]:
    """A text, or both of ``one if … else other``."""
    if isinstance(node, ast.Constant):
        yield from _texts(node)
    elif isinstance(node, ast.IfExp):
        yield from _choices(node.body)
        yield from _choices(node.orelse)


def _texts(node: ast.expr) -> Iterator[str]:
    """The texts anywhere in a value: a text, a choice of two, a table."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
            yield part.value


def _is_sentence(text: str) -> bool:
    """Whether a constant is for people: neither a pattern, nor SQL, nor help (which is taken from the commands)."""
    return " " in text and "\n" not in text and (text.endswith((".", "?")) or "%(" in text)


def _of_pages() -> Iterator[tuple[Path, Text]]:
    options = {"extensions": "jinja2.ext.i18n", "silent": "false", "newstyle_gettext": "true"}
    for path in sorted((ROOT / "rolebook").glob("*/pages/**/*.html")):
        for _, message, _, _ in extract_from_file("jinja2", str(path), options=options):
            yield path, message


def _of_tables() -> Iterator[tuple[Path, Text]]:
    """Texts that pages and commands take from the models and the table of settings."""
    from rolebook.config import FOREIGN_VARIABLES, SETTINGS
    from rolebook.core.message import Origin
    from rolebook.core.persona import Sampling
    from rolebook.web.api.routes import SECTIONS

    config, core = ROOT / "rolebook" / "config.py", ROOT / "rolebook" / "core"
    yield from ((config, text) for text in [setting.help for setting in SETTINGS])
    yield from ((config, text) for _, text in FOREIGN_VARIABLES)
    yield from ((core / "persona.py", text) for text in Sampling.explanations().values())
    yield from ((core / "message.py", word.value) for word in Origin)
    for section in SECTIONS:
        module = Path(sys.modules[section.operations[0].function.__module__].__file__ or "")
        yield from ((module, text) for text in (section.name, section.description))
        yield from ((module, operation.summary) for operation in section.operations)


def _of_help() -> Iterator[tuple[Path, Text]]:
    """The help of every command and option."""
    from rolebook.__main__ import COMMANDS
    from rolebook.cli.command import help_texts
    from rolebook.cli.program import Program

    def texts_of(command: click.Command) -> Iterable[str]:
        yield from help_texts(command)
        yield from (
            param.help for param in command.params if isinstance(param, click.Option) and param.help
        )
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                yield from texts_of(command.get_command(context, name) or command)

    program = Program(COMMANDS)
    context = click.Context(program)
    yield from (
        (ROOT / "rolebook" / "cli" / "program.py", text) for text in texts_of(program) if text
    )


def _of_personas() -> Iterator[tuple[Path, Text]]:
    """The tags of the personas that come with Rolebook, which the gallery filters by."""
    for path in sorted((ROOT / "personas").glob("*.yaml")):
        data = yaml.safe_load(path.read_text("utf-8"))
        yield from ((path, tag) for tag in data.get("tags", ()))


def main() -> int:
    """Update the catalogue; says how much is left to translate."""
    catalogue, written = updated_catalogue(find_messages())
    CATALOGUE.write_bytes(written)
    missing = [message for message in catalogue if message.id and not any(message.string or ())]
    print(f"{len(catalogue)} messages, {len(missing)} without a translation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
