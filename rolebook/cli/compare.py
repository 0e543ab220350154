"""``rolebook compare``: several personas, the same inputs, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.choices import Choices, as_variant, grid_options
from rolebook.cli.command import command
from rolebook.cli.comparing import Given, carry_out, carry_out_plan, run
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.core.errors import InputError
from rolebook.core.frozen import frozen

if TYPE_CHECKING:
    from rolebook.library.yaml_text import Mark

_HELP = """Let personas answer the same inputs, and lay the answers side by side.

ID is a persona, or teacher@3f9c2a for an earlier revision of it that the log knows. FILE is a comparison as a YAML
file (docs/comparison-files.md); options win over what it says, and inputs given here take the place of its own.

The table at the end goes to standard output. The exit status is 1 when a cell or a check has failed or an
answer could not be checked, 130 after Ctrl-C; --resume goes on where it was left, and answers nothing twice."""

_EXAMPLES = """
rolebook compare teacher socratic-teacher --input "What is a fraction?"
rolebook compare teacher friend --inputs questions.csv --repeats 3 --check max_words=80 -o result.html
rolebook compare teacher -m gpt-4o -m gpt-4o-mini --recent 20 --plan
rolebook compare teacher --changed
rolebook compare teachers.yaml --json > result.json
rolebook compare --resume 01kajq3m5w8r2c9x0v
"""

_USUAL_RECENT = 10


@frozen
class _Said:
    """Where the inputs come from."""

    texts: tuple[str, ...]
    files: tuple[Path, ...]
    sessions: tuple[str, ...]
    history: str
    recent: int | None

    @property
    def is_anything(self) -> bool:
        """Whether there are any."""
        return bool(self.texts or self.files or self.sessions or self.recent)

    def inputs(self, persona_id: str) -> Iterator[tuple[Mapping[str, Any], Mark | None]]:
        """The raw data of all inputs, and where those from files stand; those of ``--recent`` are this persona's.

        Raises InputError, FileError.
        """
        from rolebook.library.inputs_file import read_inputs

        yield from (({"input": text}, None) for text in self.texts)
        for path in self.files:
            yield from ((row.data, row.place) for row in read_inputs(path))
        yield from (({"session": id, "history": self.history}, None) for id in self.sessions)
        if self.recent is not None:
            yield {"persona": persona_id, "last": self.recent}, None


@command(help=_HELP, examples=_EXAMPLES)
@click.argument("names", metavar="[ID|FILE]...", nargs=-1)
@click.option(
    "--input", "texts", metavar="TEXT", multiple=True, help="What is said; may be repeated."
)
@click.option(
    "--inputs",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of inputs: .csv, .jsonl, .json or .txt; may be repeated.",
)
@click.option(
    "--session",
    "sessions",
    metavar="ID",
    multiple=True,
    help="Say what was said in this session; may be repeated.",
)
@click.option(
    "--history",
    type=click.Choice(["fixed", "free"]),
    default="fixed",
    show_default=True,
    help="For --session: after the recorded answers, or after each persona's own.",
)
@click.option(
    "--recent",
    metavar="NUMBER",
    type=click.IntRange(1),
    help="The newest inputs that the first persona had in the log.",
)
@click.option(
    "--changed",
    "is_changed",
    is_flag=True,
    help="One persona as it is now against its newest other revision, on its 10 newest inputs.",
)
@click.option("--resume", "resumed", metavar="ID", default="", help="Go on with this comparison.")
@click.option(
    "--repeat",
    "repeated",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Do the comparison of an export once more, whatever its format.",
)
@grid_options
@pass_invocation
def compare(
    invocation: Invocation,
    /,
    names: tuple[str, ...],
    choices: Choices,
    is_changed: bool,
    resumed: str,
    repeated: Path | None,
    **given: Any,
) -> None:
    invocation.warm_sandbox()
    said = _Said(**given)
    is_fixed = bool(resumed or repeated)
    if (resumed and repeated) or (is_fixed and (names or is_changed or said.is_anything)):
        raise InputError("Give --resume or --repeat alone: who and what is in the comparison.")
    if resumed:
        _go_on(invocation, choices, resumed)
    elif repeated:
        _repeat(invocation, choices, repeated)
    elif is_changed:
        carry_out(invocation, _changed(invocation, names, said), choices)
    else:
        carry_out(invocation, _given(invocation, names, said), choices)


def _go_on(invocation: Invocation, choices: Choices, resumed: str) -> None:
    choices.require_unchanged()
    run(
        invocation,
        invocation.rolebook.comparisons.get_comparison(resumed),
        choices.ending,
        is_reusing=choices.is_reusing,
        concurrency=choices.concurrency,
    )


def _repeat(invocation: Invocation, choices: Choices, path: Path) -> None:
    from rolebook.report.reading import plan_export

    choices.require_sense()
    choices.require_same()
    found, terminal = plan_export(invocation.rolebook, path), invocation.terminal
    if found.unrecorded:
        said = terminal.translator.ngettext(
            "The recorded answer to %(num)s input is in another log and takes no part.",
            "The recorded answers to %(num)s inputs are in another log and take no part.",
            found.unrecorded,
        )
        terminal.tell_line(said % {"num": found.unrecorded})
    carry_out_plan(invocation, found.plan, choices)


def _given(invocation: Invocation, names: tuple[str, ...], said: _Said) -> Given:
    """A comparison from a file, or from ids and inputs."""
    files = [name for name in names if _is_file(name)]
    if files and len(names) > 1:
        raise InputError("Give either ids of personas or one comparison file, not both.")
    if files:
        given = _read_file(invocation, Path(files[0]))
    elif names:
        given = Given({"variants": [as_variant(name) for name in names], "inputs": []})
    else:
        raise InputError(
            "Who shall answer? Give the ids of personas (`rolebook personas` lists them), or a comparison file."
        )
    inputs = list(said.inputs(_first_persona(given.data)))
    if not inputs and not given.data["inputs"]:
        raise InputError(
            "What shall be said? Give --input, --inputs FILE, --session ID or --recent NUMBER."
        )
    return _with_inputs(given, inputs) if inputs else given


def _with_inputs(given: Given, inputs: Sequence[tuple[Mapping[str, Any], Mark | None]]) -> Given:
    """The same with other inputs in the place of its own."""

    def place_of(path: tuple[str | int, ...]) -> Mark | None:
        match path:
            case ("inputs", int(index), *_):
                return inputs[index][1]
        return given.place_of(path)

    return Given({**given.data, "inputs": [data for data, _ in inputs]}, place_of, given.text_at)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or Path(name).is_file()


def _read_file(invocation: Invocation, path: Path) -> Given:
    from rolebook.library.comparison_file import read_comparison_file

    found = read_comparison_file(path)
    terminal = invocation.terminal
    for problem in found.problems:
        text = terminal.translator.problem(problem)
        terminal.tell_line(f"{problem.place}: {terminal.gettext('warning')}: {text}")
    return Given(found.data, found.place_of, found.text_at)


def _first_persona(data: Mapping[str, Any]) -> str:
    first = data["variants"][0]
    variant = as_variant(first) if isinstance(first, str) else first
    return str(variant.get("persona") or "")


def _changed(invocation: Invocation, names: tuple[str, ...], said: _Said) -> Given:
    """What a persona was when it answered people before against what it is now."""
    if len(names) != 1:
        raise InputError("--changed compares one persona with what it was: give its id alone.")
    rolebook, persona_id = invocation.rolebook, names[0]
    # A file that has just got another name has what it was under the old one.
    rolebook.recorder.record()
    present = rolebook.library.get_persona(persona_id).revision.id
    before = rolebook.comparisons.former_revision(persona_id, present)
    if before is None:
        raise InputError(
            "The log knows '%(persona)s' only as it is now: there is nothing to compare it with. If it had another id"
            " before, name a revision of that (`rolebook personas history OLD` lists them):"
            " rolebook compare OLD@REVISION %(persona)s --recent 10",
            persona=persona_id,
        )
    inputs = list(said.inputs(persona_id))
    variants = [{"persona": persona_id, "revision": before.id}, {"persona": persona_id}]
    newest = {"persona": persona_id, "last": _USUAL_RECENT}
    return _with_inputs(Given({"variants": variants}), inputs or [(newest, None)])
