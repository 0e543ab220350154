"""``rolebook check``: every mistake in the library, where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.cli.terminal import Terminal, visible
from rolebook.core.errors import InputError, Problem

if TYPE_CHECKING:
    from rolebook.library.file_library import FileLibrary
    from rolebook.wiring import Rolebook

_HELP = """Check the persona files and prompt templates: format, references, and a trial rendering of each persona.

Every problem is one line, file:line:column: message. The exit status is 1 when there are errors; warnings do not count.
With FILEs only those are checked, wherever they are: a persona (.yaml) with the other personas of its folder as its
bases, a prompt template (.jinja) with every persona of the library that uses it.

--format github prints the annotations that GitHub shows beside the lines of a change."""

_EXAMPLES = """
rolebook check
rolebook check personas/teacher.yaml
rolebook check --json | jq '.[] | select(.severity == "error")'
rolebook check --format github
"""


@command(help=_HELP, examples=_EXAMPLES)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="How to print the problems: for people, as JSON, or as annotations of GitHub.",
)
@pass_invocation
def check(invocation: Invocation, files: tuple[Path, ...], as_json: bool, form: str) -> None:
    invocation.warm_sandbox()
    rolebook = invocation.rolebook
    if files:
        libraries = _Libraries(rolebook)
        problems = _unique(problem for file in files for problem in _check_file(libraries, file))
        checked = len(files)
    else:
        problems = list(rolebook.find_problems())
        checked = len(rolebook.library.entries()) + len(rolebook.library.templates())
    terminal = invocation.terminal
    if as_json or form == "json":
        terminal.write_json([problem.as_data() for problem in problems])
    elif form == "github":
        for problem in problems:
            text = terminal.translator.problem(problem)
            terminal.write_line(visible(_annotation(problem, text)))
    else:
        _show(terminal, problems)
    errors = sum(problem.severity == "error" for problem in problems)
    terminal.tell(
        "Files checked: %(files)d, errors: %(errors)d, warnings: %(warnings)d.",
        files=checked,
        errors=errors,
        warnings=len(problems) - errors,
    )
    if errors:
        click.get_current_context().exit(1)


def _show(terminal: Terminal, problems: Sequence[Problem]) -> None:
    for problem in problems:
        mark = terminal.gettext("warning") + ": " if problem.severity == "warning" else ""
        # A pipe mostly ends at a terminal, or in the log of a check of somebody else's files.
        text = terminal.translator.problem(problem)
        terminal.write_line(visible(f"{problem.place}: {mark}{text}"))


def _annotation(problem: Problem, text: str) -> str:
    """A problem as a command of a GitHub workflow."""
    properties = {
        "file": problem.file,
        "line": problem.line,
        "col": problem.column,
        "title": "rolebook check",
    }
    told = ",".join(
        f"{name}={_escaped(str(value), also=':,')}" for name, value in properties.items() if value
    )
    return f"::{problem.severity} {told}::{_escaped(text)}"


def _escaped(text: str, *, also: str = "") -> str:
    """Text inside a workflow command, in which these characters would end it or one of its properties."""
    return "".join(f"%{ord(letter):02X}" if letter in f"%\r\n{also}" else letter for letter in text)


class _Libraries:
    """The library with another folder in the place of one of its two, each read once."""

    def __init__(self, rolebook: Rolebook) -> None:
        self.rolebook = rolebook
        self._known: dict[tuple[Path, Path], FileLibrary] = {}

    def with_personas(self, folder: Path) -> FileLibrary:
        return self._get(folder, self.rolebook.library.templates_dir)

    def with_templates(self, folder: Path) -> FileLibrary:
        return self._get(self.rolebook.library.personas_dir, folder)

    def _get(self, personas: Path, templates: Path) -> FileLibrary:
        from rolebook.library.file_library import FileLibrary

        if (personas, templates) not in self._known:
            self._known[personas, templates] = FileLibrary(personas, templates)
        return self._known[personas, templates]


def _unique(problems: Iterable[Problem]) -> list[Problem]:
    """Each once: a broken base is reported by every file that extends it."""
    return list({str(problem): problem for problem in problems}.values())


def _check_file(libraries: _Libraries, file: Path) -> Iterable[Problem]:
    if not file.is_file():
        raise InputError("There is no file %(path)s.", path=file)
    if file.suffix in (".yaml", ".yml"):
        return _check_persona(libraries, file)
    if file.suffix == ".jinja":
        return _check_template(libraries, file)
    raise InputError(
        "%(path)s is neither a persona (.yaml) nor a prompt template (.jinja).", path=file
    )


def _check_persona(libraries: _Libraries, file: Path) -> Iterator[Problem]:
    from rolebook.library.folder import shown

    library = libraries.with_personas(file.parent)
    name = shown(file)
    for entry in library.entries():
        if entry.file == name:
            yield from libraries.rolebook.find_problems([entry])
            return
    yield from (problem for problem in library.problems() if problem.file == name)


def _check_template(libraries: _Libraries, file: Path) -> Iterator[Problem]:
    from rolebook.library.folder import shown

    library = libraries.with_templates(file.parent)
    yield from (problem for problem in library.problems() if problem.file == shown(file))
    users = [
        entry
        for entry in library.entries()
        if entry.resolved is not None and file.stem in entry.resolved.templates
    ]
    if users:
        yield from libraries.rolebook.find_problems(users)
    elif file.stem in library.templates():
        yield from _try_template(libraries.rolebook, library, file.stem)


def _try_template(rolebook: Rolebook, library: FileLibrary, name: str) -> Iterable[Problem]:
    """A trial with a plain persona, for a template that nobody uses yet."""
    resolved = library.resolve_plainly(name, library.templates()[name])
    return rolebook.renderer.find_problems(resolved)
