"""Mutates persona files and prompt templates and looks whether anything comes out but a result or an error of ours.

    python -m tests.fuzz [--files N] [--templates N] [--seed N] [--only N] [--failures FOLDER]

Each input is made from a seed and its number alone, so `--only NUMBER` makes one again. It begins with what is shipped
and with what has been refused before, and is bent in the ways in which files break: cut, doubled, spliced, typed wrong,
with tokens of YAML and Jinja in wrong places. For each must hold:

- a file gives a persona or problems, each with line, column and words in both languages, within 0.2 s of processor
  time; a persona comes back equal from its own data, and from its file as it is written;
- a template gives messages or a PromptError with words in both languages, within 2.5 s, and no worker dies of it unless
  a limit has been passed;
- this process does not grow.

What breaks this is written to the folder, with what happened, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rolebook.core.errors import Problem, PromptError, PromptLimitError
from rolebook.core.persona import ResolvedPersona, parse_persona
from rolebook.core.prompt import PromptRenderer, history_messages
from rolebook.core.sandbox import DEADLINE_S, Sandbox
from rolebook.language.translator import translator
from rolebook.library.persona_file import build_persona, read_persona_file
from rolebook.library.yaml_text import dump_yaml
from tests.core.test_sandbox import CPU, ESCAPES, MEMORY, RECURSION
from tests.library.test_yaml_text import FRAGMENTS, REFUSED

ROOT = Path(__file__).parent.parent
_FILE_LIMIT_S = 0.2
_TEMPLATE_LIMIT_S = 2.5
_MAX_LENGTH = 20_000
_GROWTH_MB = 64
_TOKENS = [
    *FRAGMENTS,
    *("name", "system", "variables", "sampling", "examples", "checks", "extends", "context", "x"),
    *("type: choice", "choices: [a]", "default: ", "temperature: ", "is_json: ", "regex: ", "min: 9"),
    *("{% message 'user' %}", "{% endmessage %}", "{% history %}", "{% for a in examples %}", "{% endfor %}"),
    *("{% if input %}", "{% else %}", "{% endif %}", "{% set a = ", "{% macro m(a) %}", "{% endmacro %}"),
    *("{% include 'chat' %}", "{% extends 'x' %}", "{% raw %}", "{% endraw %}", "{#", "#}", "{{", "}}", "-%}"),
    *("{{ system }}", "{{ history[0].content }}", "|join", "|map(", "~", " is defined", "range(9)", "self", "loop"),
    *("9" * 400, "'", '"', "(", ")", "[" * 30, "{" * 30, "\n" * 30, "  " * 30, "a" * 300, "**99", "__class__"),
]  # fmt: skip


@dataclass
class Report:
    """What was tried, and what went wrong."""

    tried: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def mutate(source: bytes, chance: random.Random, corpus: list[bytes]) -> bytes:
    """The source, bent in one to eight ways."""
    data = bytearray(source)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 2, 3, 8))):
        chance.choice(_WAYS)(data, chance, corpus)
    return bytes(data[:_MAX_LENGTH])


def _spot(data: bytearray, chance: random.Random) -> int:
    return chance.randint(0, len(data))


def _flip(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _delete(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    start = _spot(data, chance)
    del data[start : start + chance.choice((1, 1, 2, 5, 20, 200))]


def _insert(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    spot = _spot(data, chance)
    data[spot:spot] = chance.choice(_TOKENS).encode("utf-8", "surrogatepass")


def _double(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    start = _spot(data, chance)
    piece = data[start : start + chance.choice((1, 5, 50, 500))]
    data[start:start] = piece * chance.choice((1, 1, 2, 50))


def _splice(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    other = chance.choice(corpus)
    start = chance.randint(0, len(other))
    spot = _spot(data, chance)
    data[spot:spot] = other[start : start + chance.choice((5, 50, 500))]


def _cut(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    del data[_spot(data, chance) :]


def _swap_lines(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    lines = data.split(b"\n")
    one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    data[:] = b"\n".join(lines)


def _indent(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    by = chance.choice((b" ", b"  ", b"\t", b"\xe3\x80\x80", b"- ", b""))
    lines[number] = by + lines[number].lstrip(chance.choice((b" ", b"")))
    data[:] = b"\n".join(lines)


def _recode(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    encoding = chance.choice(("utf-16", "utf-8-sig", "gb18030", "latin-1"))
    data[:] = data.decode("utf-8", "replace").encode(encoding, "replace")


def _break_lines(data: bytearray, chance: random.Random, corpus: list[bytes]) -> None:
    data[:] = data.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\xe2\x80\xa8", b"\n\n")))


_Way = Callable[[bytearray, random.Random, list[bytes]], None]
_WAYS: list[_Way] = [
    *(_flip, _delete, _delete, _insert, _insert, _insert, _double, _splice, _cut, _swap_lines),
    *(_indent, _recode, _break_lines),
]


def persona_corpus() -> list[bytes]:
    """Every shipped persona, and every file that the tests know to be refused."""
    shipped = [path.read_bytes() for path in sorted((ROOT / "personas").glob("*.yaml"))]
    refused = [source for source, _ in REFUSED.values()]
    encoded = [
        source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
        for source in refused
    ]
    return shipped * 20 + [source[:_MAX_LENGTH] for source in encoded]


def template_corpus() -> list[bytes]:
    """Every shipped template, and what is hostile, a tenth of it costly."""
    shipped = [path.read_bytes() for path in sorted((ROOT / "templates").glob("*.jinja"))]
    hostile = [*ESCAPES, *RECURSION.values()]
    costly = [*CPU.values(), *MEMORY.values()]
    wrapped = [f"{{% message 'user' %}}{text}{{% endmessage %}}" for text in (*hostile, *costly)]
    return shipped * 30 + [text.encode()[:_MAX_LENGTH] for text in wrapped]


class Fuzzer:
    """Tries inputs one by one. Close it at the end.

    Arguments:
        seed: what all inputs are made from, with their numbers.
        failures: where inputs go that break something.
        patience: times the limits of time, for a machine that does much else.
    """

    def __init__(self, *, seed: int, failures: Path, patience: float = 1.0) -> None:
        self.report = Report()
        self._patience = patience
        self._seed = seed
        self._folder = failures
        self._sandbox = Sandbox()
        self._renderer = PromptRenderer(self._sandbox)
        self._chinese = translator("zh")
        self._corpora = {"persona": persona_corpus(), "template": template_corpus()}
        self._partners = {
            path.stem: path.read_text("utf-8") for path in (ROOT / "templates").glob("*.jinja")
        }

    def close(self) -> None:
        self._sandbox.close()

    def source(self, kind: str, number: int) -> bytes:
        """The input of that number."""
        chance = random.Random(f"{self._seed} {kind} {number}")
        corpus = self._corpora[kind]
        return mutate(chance.choice(corpus), chance, corpus)

    def try_out(self, kind: str, number: int) -> None:
        """Make one input and look what comes of it."""
        source = self.source(kind, number)
        began = time.monotonic()
        try:
            faults = list(
                self._faults_of_persona(source)
                if kind == "persona"
                else self._faults_of_template(source.decode("utf-8", "replace"))
            )
        except Exception:
            faults = [traceback.format_exc()]
        took_s = time.monotonic() - began
        self.report.tried[kind] += 1
        self.report.slowest_s[kind] = max(took_s, self.report.slowest_s.get(kind, 0.0))
        if faults:
            self._keep(kind, number, source, faults)

    def _keep(self, kind: str, number: int, source: bytes, faults: list[str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = f"{kind}-{self._seed}-{number}"
        (self._folder / f"{stem}.{'yaml' if kind == 'persona' else 'jinja'}").write_bytes(source)
        (self._folder / f"{stem}.txt").write_text("\n".join(faults), "utf-8", "backslashreplace")
        self.report.failures.append(f"{stem}: {faults[0].strip().splitlines()[-1]}")

    def _faults_of_persona(self, source: bytes) -> Iterator[str]:
        began = time.thread_time()
        file = read_persona_file("p", file="personas/p.yaml", source=source)
        problems, persona = file.problems, None
        if file.document is not None:
            built = build_persona([file])
            places, problems = built.places, built.problems
            persona = None if built.unread else built.persona
        took_s = time.thread_time() - began
        if took_s > _FILE_LIMIT_S * self._patience:
            yield f"it took {took_s:.2f} s of processor time"
        is_refused = any(problem.severity == "error" for problem in problems)
        if is_refused == (persona is not None):
            yield "a persona with errors, or none without any"
        yield from self._faults_of_problems(problems)
        self.report.outcomes["file refused" if persona is None else "file read"] += 1
        if persona is None:
            return
        if parse_persona("p", persona.as_data()) != persona:
            yield "its data make another persona"
        if ResolvedPersona(persona, {}, places).revision.id == "":
            yield "it has no revision"
        written = read_persona_file("p", file="w", source=dump_yaml(persona.as_data()).encode())
        if written.document is None or build_persona([written]).persona != persona:
            yield "written to a file it is another persona"

    def _faults_of_problems(self, problems: tuple[Problem, ...]) -> Iterator[str]:
        for problem in problems:
            if not (problem.line and problem.column):
                yield f"no place: {problem}"
            if not self._chinese.problem(problem) or "\n" in problem.text:
                yield f"no words for one line: {problem!r}"
            if len(str(problem)) > 1000:
                yield f"too many words: {problem}"

    def _faults_of_template(self, text: str) -> Iterator[str]:
        persona = parse_persona(
            "p",
            {
                "name": "p",
                "system": "You are {{ subject }}.",
                "template": "fuzzed",
                "variables": {"subject": "x", "plan": "a, b", "rounds": "2", "house_rules": "z"},
                "examples": [{"user": "u", "assistant": "a"}],
            },
        )
        resolved = ResolvedPersona(
            persona, {**self._partners, "fuzzed": text}, templates_dir="templates/"
        )
        values = persona.parse_variables({})
        began = time.monotonic()
        outcome = "template rendered"
        try:
            prompt = self._renderer.render(resolved, values, history_messages([("q", "r")]), "i")
            if any(not isinstance(message.content, str) for message in prompt.messages):
                yield "a message without text"
        except PromptLimitError as error:
            outcome = "template stopped at a limit"
            is_early = time.monotonic() - began < DEADLINE_S * 0.8
            if is_early and "took longer" in error.message:
                yield f"the worker died: {error}"
        except PromptError as error:
            outcome = "template refused"
            if not (error.file and error.line):
                yield f"no place: {error}"
            if not self._chinese.error(error):
                yield f"no words: {error}"
        took_s = time.monotonic() - began
        self.report.outcomes[outcome] += 1
        if took_s > _TEMPLATE_LIMIT_S * self._patience:
            yield f"it took {took_s:.2f} s"


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(
    *,
    files: int,
    templates: int,
    seed: int,
    failures: Path,
    first: int = 0,
    patience: float = 1.0,
) -> Report:
    """Try so many of each kind, beginning with the number ``first``."""
    fuzzer = Fuzzer(seed=seed, failures=failures, patience=patience)
    try:
        # What is loaded once is no growth.
        for kind in ("persona", "template"):
            fuzzer.try_out(kind, first)
        before_mb = _memory_mb()
        for kind, count in (("persona", files), ("template", templates)):
            for number in range(first + 1, first + count):
                fuzzer.try_out(kind, number)
        grown_mb = _memory_mb() - before_mb
        if grown_mb > _GROWTH_MB:
            fuzzer.report.failures.append(f"this process grew by {grown_mb:.0f} MB")
        return fuzzer.report
    finally:
        fuzzer.close()


def main() -> int:
    """Run as the command line says, and tell what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=50_000, help="so many persona files")
    parser.add_argument("--templates", type=int, default=50_000, help="so many prompt templates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="only the inputs of this number")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    options = parser.parse_args()
    began = time.monotonic()
    count = {"files": options.files, "templates": options.templates}
    if options.only is not None:
        count = dict.fromkeys(count, 1)
    report = run(**count, seed=options.seed, failures=options.failures, first=options.only or 0)
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
    for kind, tried in report.tried.items():
        print(f"{kind + 's':<12} {tried:>7}   slowest {report.slowest_s[kind]:.2f} s")
    for outcome, number in sorted(report.outcomes.items()):
        print(f"  {outcome:<28} {number:>7}")
    print(f"peak memory of this process {_memory_mb():.0f} MB")
    print(f"failures {len(report.failures)}")
    for failure in report.failures[:20]:
        print(f"  {failure}")
    if report.failures:
        print(f"The inputs are in {options.failures}.")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
