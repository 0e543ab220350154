"""What a command line says of a comparison: its options, and the comparison's data with them in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click

from rolebook.cli.role import _Assignment
from rolebook.core.errors import InputError
from rolebook.core.frozen import frozen

#: As rolebook.report.export has them; named here so that help needs no import.
FORMATS = ("json", "jsonl", "csv", "md", "html")
#: As rolebook.core.comparison_spec has it.
MAX_CONCURRENCY = 64


@frozen
class Ending:
    """Where the outcome of a comparison goes: into files by their endings, and as JSON to standard output."""

    outputs: tuple[Path, ...]
    as_json: bool

    def check(self) -> None:
        """Raises InputError for a file that could not be written when all is done and paid for."""
        for path in self.outputs:
            if path.suffix[1:] not in FORMATS:
                raise InputError(
                    "%(path)s: the ending says the format, and must be one of %(formats)s.",
                    path=path,
                    formats=", ".join(FORMATS),
                )
            place = path if path.exists() else path.parent
            if path.is_dir() or not os.access(place, os.W_OK):
                raise InputError(
                    "%(path)s cannot be written: give a file in a folder that is there and can be written to.",
                    path=path,
                )


@frozen
class Choices:
    """What a command line says over a comparison, and how it shall be carried out."""

    question: str
    models: tuple[str, ...]
    variables: Mapping[str, str]
    parameters: Mapping[str, str]
    repeats: int | None
    concurrency: int | None
    checks: tuple[tuple[str, str], ...]
    judge: str
    judge_model: str
    no_stream: bool
    is_reusing: bool
    is_only_planned: bool
    cell: str
    is_agreed: bool
    ending: Ending

    def over(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data of a comparison with these choices in it. Raises InputError."""
        judge = {"persona": self.judge, "model": self.judge_model}
        said = {
            "question": self.question,
            "repeats": self.repeats,
            "concurrency": self.concurrency,
        }
        return {
            **data,
            **{name: value for name, value in said.items() if value},
            **({"stream": False} if self.no_stream else {}),
            "variants": list(self._variants(data["variants"])),
            "inputs": [self._input(entry) for entry in data["inputs"]],
            "checks": [*(data.get("checks") or ()), *map(_check, self.checks)],
            "judge": {**(data.get("judge") or {}), **{k: v for k, v in judge.items() if v}},
        }

    def origin_of(self, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """Where that which stands at a path of ``over(data)`` stood in the data."""
        match path:
            case ("variants", int(index), *rest):
                return ("variants", index // max(1, len(self.models)), *rest)
            case ("inputs", _, "variables", name) if name in self.variables:
                return ()
            case ("judge", "persona") if self.judge:
                return ()
        return path

    def require_sense(self) -> None:
        """Raises InputError for an option that would do nothing."""
        if self.cell and not self.is_only_planned:
            raise InputError(
                "--cell shows what one cell would be sent: give --plan with it. Without it the comparison would run."
            )

    def require_unchanged(self) -> None:
        """Raises InputError if they would change a comparison that has begun, or only plan it."""
        if self._are_changing or self.is_only_planned or self.cell:
            raise InputError(
                "A comparison that has begun stays as it is. Only --concurrency, --reuse, --output and --json can be "
                "given with it."
            )

    def require_same(self) -> None:
        """Raises InputError if they would change a comparison that is to be done once more."""
        if self._are_changing:
            raise InputError(
                "What is repeated stays as it was. Only --plan, --cell, --yes, --concurrency, --reuse, --output and "
                "--json can be given with --repeat."
            )

    @property
    def _are_changing(self) -> bool:
        said = self.question, self.models, self.variables, self.parameters, self.repeats
        return any((*said, *self.checks, self.judge, self.judge_model, self.no_stream))

    def _variants(self, given: Sequence[Any]) -> Iterator[dict[str, Any]]:
        from rolebook.core.persona import Sampling, parse_parameters

        chosen = parse_parameters(self.parameters)
        sampling = {name: value for name, value in chosen.items() if name in Sampling.model_fields}
        request = {name: value for name, value in chosen.items() if name not in sampling}
        unset = [name for name, value in sampling.items() if value is None]
        for entry in given:
            variant = as_variant(entry) if isinstance(entry, str) else dict(entry)
            variant["sampling"] = {**(variant.get("sampling") or {}), **sampling}
            variant["request"] = {**(variant.get("request") or {}), **request}
            if unset:
                # Nothing in a variant can say "not even the persona's own", but a changed persona can.
                changes = variant.get("changes") or {}
                own = {**(changes.get("sampling") or {}), **dict.fromkeys(unset)}
                variant["changes"] = {**changes, "sampling": own}
            yield from ({**variant, "model": model} for model in self.models or [_model(variant)])

    def _input(self, entry: Any) -> Any:
        if not self.variables:
            return entry
        given: dict[str, Any] = {"input": entry} if isinstance(entry, str) else entry
        return {**given, "variables": {**(given.get("variables") or {}), **self.variables}}


def as_variant(text: str) -> dict[str, Any]:
    """A variant from an argument: ``teacher``, or ``teacher@3f9c2a`` for an earlier revision."""
    persona_id, _, revision = text.partition("@")
    return {"persona": persona_id, "revision": revision}


def _model(variant: Mapping[str, Any]) -> str:
    return variant.get("model") or ""


def _check(given: tuple[str, str]) -> dict[str, Any]:
    """``max_words=80``; only what begins like it is taken as JSON, all else as text, as in a file.

    How alike an answer is to be has a number alone where it is the input's reference that it is like.
    """
    kind, text = given
    value: Any = text
    if text.startswith(("{", "[", '"')):
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
    elif kind == "similarity":
        value = {"at_least": text}
    return {kind: value}


_ENDING_OPTIONS = (
    click.option(
        "-o",
        "--output",
        "outputs",
        metavar="FILE",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Write the outcome to a file; its ending says how: json, jsonl, csv, md or html. May be repeated.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON."),
)
_concurrency = click.option(
    "--concurrency",
    metavar="NUMBER",
    type=click.IntRange(1, MAX_CONCURRENCY),
    help="How many calls an upstream gets at once; 4 where nothing is said.",
)
_GRID_OPTIONS = (
    click.option("--question", metavar="TEXT", default="", help="What it shall answer, in words."),
    click.option(
        "-m",
        "--model",
        "models",
        metavar="MODEL",
        multiple=True,
        help="The model that answers; may be repeated: then every persona answers with each.",
    ),
    click.option(
        "-v",
        "--variable",
        "variables",
        type=_Assignment(),
        multiple=True,
        help="Fill in a variable of those personas that have it; may be repeated.",
    ),
    click.option(
        "-s",
        "--set",
        "parameters",
        type=_Assignment(),
        multiple=True,
        help="Set a sampling parameter or any other request field for all; may be repeated. An empty value leaves "
        "out what the persona sets.",
    ),
    click.option(
        "--repeats",
        metavar="NUMBER",
        type=click.IntRange(1),
        help="How often each answers each input.",
    ),
    _concurrency,
    click.option(
        "--check",
        "checks",
        type=_Assignment(),
        multiple=True,
        help="What every answer must be, such as max_words=80; may be repeated.",
    ),
    click.option("--judge", metavar="ID", default="", help="The persona that judges rubrics."),
    click.option("--judge-model", metavar="MODEL", default="", help="The model that judges."),
    click.option(
        "--no-stream", is_flag=True, help="Ask for the whole answer at once instead of a stream."
    ),
    click.option(
        "--reuse",
        "is_reusing",
        is_flag=True,
        help="Take answers that the log has already, where exactly the same was asked; inputs of several turns are "
        "always asked anew.",
    ),
    click.option(
        "--plan",
        "is_only_planned",
        is_flag=True,
        help="Only show what would be done: calls, tokens, cost, and how the variants differ.",
    ),
    click.option(
        "--cell",
        metavar="V-I-R",
        default="",
        help="With --plan: the exact messages of this cell; 2-1-3 is variant 2, input 1, repeat 3.",
    ),
    click.option("--yes", "is_agreed", is_flag=True, help="Do not ask before many calls."),
)


def ending_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say where the outcome goes; the function gets them as ``ending``."""

    @wraps(function)
    def with_ending(*args: Any, outputs: tuple[Path, ...], as_json: bool, **given: Any) -> None:
        ending = Ending(outputs, as_json)
        ending.check()
        function(*args, ending=ending, **given)

    return _decorated(with_ending, _ENDING_OPTIONS)


def grid_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds all options that a comparison takes; the function gets them as ``choices``."""
    names = set(Choices.__dataclass_fields__) - {"ending"}

    @wraps(function)
    def with_choices(*args: Any, ending: Ending, **given: Any) -> None:
        chosen = {name: given.pop(name) for name in names}
        chosen |= {name: dict(chosen[name]) for name in ("variables", "parameters")}
        function(*args, choices=Choices(**chosen, ending=ending), **given)

    return _decorated(ending_options(with_choices), _GRID_OPTIONS)


def resuming_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the options for a comparison that goes on; the function gets ``ending`` and ``concurrency``."""
    return _concurrency(ending_options(function))


def _decorated(
    function: Callable[..., None], options: Sequence[Callable[..., Any]]
) -> Callable[..., None]:
    for option in reversed(options):
        function = option(function)
    return function
