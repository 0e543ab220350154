"""How long a comparison of 500 cells takes, beside promptfoo 0.121.20 doing the same against the same upstream.

20 personas times 25 inputs, 200 ms for each answer, stored and checked with one `contains`. The programs take turns, so
that all meet the same weather; each run has a fresh upstream in a process of its own, which counts what it is asked.
Everything counts, from the start of the process to its end. Bare calls by the standard library, neither stored nor
checked against anything but that they were answered, show what this computer can do at best.

Both are measured as their users have them, each in a folder of its own under `~/.cache/rolebook-benchmarks`, made
once: Rolebook's code with nothing but requirements.txt (what tests need would slow its start: sqlite-utils imports
numpy where it finds it), and promptfoo (1.4 GB; needs Node.js). Nothing leaves this computer but these installations.

promptfoo asks for whole answers, so Rolebook is held to its goals when it does the same; streamed, as it is unless told
otherwise, stands beside it.

    python -m benchmarks.comparison [--rounds 3] [--only PROGRAM]...
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from compileall import compile_dir
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROMPTFOO_VERSION = "0.121.20"
CACHE = Path.home() / ".cache" / "rolebook-benchmarks"
SYSTEM_TEXTS = [f"You are persona number {n}. Answer in a few words." for n in range(1, 21)]
INPUTS = [f"This is input number {n}, said to measure." for n in range(1, 26)]
CELLS = len(SYSTEM_TEXTS) * len(INPUTS)
LATENCY_S = 0.2
#: The fake upstream echoes the input, so every answer has this in it.
EXPECTED = "Echo"
#: Longer than the slowest peer takes by far: then something hangs.
PATIENCE_S = 120
QUIET = {
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "true",
}
#: By concurrency: the highest wall time that passes, as a multiple of the ideal and of promptfoo's.
LIMITS = {20: (1.15, 0.6), 50: (1.3, 0.4)}
CPU_LIMIT = 1 / 3


class MeasureError(Exception):
    """A run did not do what was to be measured, so its time means nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one program, from the start of its process to its end."""

    wall_s: float
    cpu_s: float
    """User and system time, of the processes that it started as well."""
    memory_mb: float
    """The most that one of its processes held."""
    requests: int
    connections: int
    """The most that were open at once."""
    rows: int | None
    """The answers that it stored; None where it stores nothing."""


@dataclass(frozen=True, slots=True)
class Program:
    """One that can run the comparison.

    ``prepare`` writes what it reads into an empty folder, given the upstream's base URL and the concurrency, and
    returns its command and its environment; ``count_rows`` then counts what it has stored in that folder.
    """

    name: str
    prepare: Callable[[Path, str, int], tuple[Sequence[str], Mapping[str, str]]]
    count_rows: Callable[[Path], int] | None = None


Runs = dict[tuple[str, int], list[Run]]


def prepare_rolebook(
    python: Path, is_streamed: bool, folder: Path, base_url: str, concurrency: int
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Twenty persona files, and the comparison as a file."""
    personas = folder / "personas"
    personas.mkdir()
    ids = [f"p{number:02}" for number in range(1, len(SYSTEM_TEXTS) + 1)]
    for persona_id, text in zip(ids, SYSTEM_TEXTS, strict=True):
        (personas / f"{persona_id}.yaml").write_text(f"name: {persona_id}\nsystem: {text}\n")
    # JSON is YAML too.
    specification = {
        "question": "Benchmark",
        "variants": [{"persona": persona_id} for persona_id in ids],
        "inputs": INPUTS,
        "checks": [{"contains": EXPECTED}],
        "stream": is_streamed,
    }
    (folder / "comparison.yaml").write_text(json.dumps(specification))
    command = [str(python), "-m", "rolebook", "compare", str(folder / "comparison.yaml")]
    command += ["--concurrency", str(concurrency), "--output", str(folder / "results.json")]
    return command, {
        "OPENAI_API_KEY": "x",
        "OPENAI_BASE_URL": base_url,
        "ROLEBOOK_MODEL": "ok",
        "ROLEBOOK_PERSONAS": str(personas),
        "ROLEBOOK_DATABASE": str(folder / "rolebook.db"),
    }


def prepare_promptfoo(
    promptfoo: Path, folder: Path, base_url: str, concurrency: int
) -> tuple[Sequence[str], Mapping[str, str]]:
    """The same as a promptfoo configuration: a persona is a prompt, an input is a test."""
    prompts = [
        [{"role": "system", "content": text}, {"role": "user", "content": "{{input}}"}]
        for text in SYSTEM_TEXTS
    ]
    check = {"type": "contains", "value": EXPECTED}
    configuration = {
        "description": "Benchmark",
        "prompts": [
            {"raw": json.dumps(prompt), "label": f"p{number:02}"}
            for number, prompt in enumerate(prompts, 1)
        ],
        "providers": [{"id": "openai:chat:ok", "config": {"apiBaseUrl": base_url, "apiKey": "x"}}],
        "tests": [{"vars": {"input": text}, "assert": [check]} for text in INPUTS],
    }
    (folder / "promptfooconfig.json").write_text(json.dumps(configuration))
    command = [str(promptfoo), "eval", "-c", str(folder / "promptfooconfig.json")]
    command += ["-j", str(concurrency), "--no-cache", "--no-progress-bar", "--no-table"]
    command += ["-o", str(folder / "results.json")]
    return command, {**QUIET, "PROMPTFOO_CONFIG_DIR": str(folder / "promptfoo")}


def prepare_bare_calls(
    folder: Path, base_url: str, concurrency: int
) -> tuple[Sequence[str], Mapping[str, str]]:
    """As many calls, and nothing else."""
    command = [sys.executable, "-m", "benchmarks.comparison_calls", base_url]
    return [*command, str(CELLS), str(concurrency)], {}


def count_turns(folder: Path) -> int:
    """The complete turns in Rolebook's log."""
    return _count(folder / "rolebook.db", "SELECT count(*) FROM turns WHERE status = 'complete'")


def count_results(folder: Path) -> int:
    """The results in promptfoo's database that passed."""
    return _count(
        folder / "promptfoo" / "promptfoo.db", "SELECT count(*) FROM eval_results WHERE success"
    )


def _count(path: Path, sql: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(sql).fetchone()[0])


def users_environment() -> dict[str, str]:
    """The environment at hand, but Python keeps what it has compiled, as it does for whoever has not forbidden it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def install_rolebook() -> Path:
    """A Python with what requirements.txt names and no more, made if this is the first time.

    Rolebook itself is compiled, as an installation would do it.

    Raises CalledProcessError, TimeoutExpired.
    """
    requirements = ROOT / "requirements.txt"
    digest = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()[:8]
    folder = CACHE / f"rolebook-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"Installing what Rolebook needs into {folder} …", file=sys.stderr)
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120
        )
        pip = [str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
        subprocess.run(pip, check=True, timeout=600)
        (folder / "installed").touch()
    compile_dir(ROOT / "rolebook", quiet=1)
    return python


def install_promptfoo() -> Path | None:
    """The `promptfoo` program, installed if this is the first time; None without Node.js.

    Raises CalledProcessError, TimeoutExpired.
    """
    folder = CACHE / f"promptfoo-{PROMPTFOO_VERSION}"
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    if not (folder / "installed").exists():
        print(f"Installing promptfoo {PROMPTFOO_VERSION} into {folder} …", file=sys.stderr)
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run([*npm, f"promptfoo@{PROMPTFOO_VERSION}"], check=True, timeout=600)
        (folder / "installed").touch()
    return folder / "node_modules" / ".bin" / "promptfoo"


@contextmanager
def fake_upstream() -> Iterator[str]:
    """The base URL of an upstream in a process of its own that thinks for 200 ms and then says 16 tokens."""
    command = [sys.executable, "-m", "tests.fake_upstream", "--tokens", "16"]
    command += ["--latency-ms", f"{LATENCY_S * 1000:g}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def run_once(program: Program, concurrency: int) -> Run:
    """Run the program in an empty folder against a fresh upstream. Raises MeasureError."""
    with fake_upstream() as base_url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command, environment = program.prepare(folder, base_url, concurrency)
        wall_s, usage = _timed(command, environment, folder / "printed.txt")
        counts = _counts(base_url)
        rows = program.count_rows(folder) if program.count_rows else None
    if counts["requests"] != CELLS or rows not in (None, CELLS):
        raise MeasureError(
            f"{program.name} at concurrency {concurrency}: {CELLS} cells, but the upstream saw"
            f" {counts['requests']} requests, and {rows} answers were stored."
        )
    return Run(
        wall_s=wall_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        # macOS counts bytes, all others KiB.
        memory_mb=usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        requests=counts["requests"],
        connections=counts["peak_connections"],
        rows=rows,
    )


def _timed(
    command: Sequence[str], environment: Mapping[str, str], printed: Path
) -> tuple[float, resource.struct_rusage]:
    """Seconds of a whole process, and what the operating system says that it and all that it started have used."""
    with printed.open("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**users_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        watch = threading.Timer(PATIENCE_S, process.kill)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        watch.cancel()
        # So that nobody waits for it a second time.
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise MeasureError(
                f"{' '.join(command)} ended with {process.returncode}:\n{output.read()[-2000:]}"
            )
    return wall_s, usage


def _counts(base_url: str) -> Mapping[str, int]:
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/stats", timeout=5) as reply:
        counts: Mapping[str, int] = json.load(reply)
        return counts


def measure(programs: Sequence[Program], rounds: int) -> Runs:
    """All runs by program and concurrency. A first round at the higher one warms the caches and does not count."""
    runs: Runs = {(program.name, count): [] for count in LIMITS for program in programs}
    for program in programs:
        run_once(program, max(LIMITS))
    for _ in range(rounds):
        for concurrency in LIMITS:
            for program in programs:
                runs[program.name, concurrency].append(run_once(program, concurrency))
    return runs


def median(runs: Sequence[Run], figure: Callable[[Run], float]) -> float:
    """The median of a figure over some runs."""
    return statistics.median(figure(run) for run in runs)


def wall(run: Run) -> float:
    """Seconds from start to end."""
    return run.wall_s


def cpu_of_cell(run: Run) -> float:
    """Milliseconds of CPU for each cell, with its share of the start."""
    return run.cpu_s / CELLS * 1000


def table(runs: Runs) -> Iterator[str]:
    """The lines of a Markdown table: medians, with the lowest and the highest run in brackets."""
    yield (
        "| program | concurrency | wall, s | × ideal | × promptfoo | CPU a cell, ms | peak memory, MB"
        " | requests | connections | rows |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for (name, concurrency), own in runs.items():
        theirs = runs.get(("promptfoo", concurrency))
        compared = f"{median(own, wall) / median(theirs, wall):.2f}" if theirs else "–"
        cells = [
            name,
            concurrency,
            _shown(own, wall),
            f"{median(own, wall) / ideal_s(concurrency):.2f}",
            compared,
            _shown(own, cpu_of_cell),
            f"{median(own, lambda run: run.memory_mb):.0f}",
            own[0].requests,
            max(run.connections for run in own),
            "–" if own[0].rows is None else own[0].rows,
        ]
        yield f"| {' | '.join(map(str, cells))} |"


def ideal_s(concurrency: int) -> float:
    """How long all answers take if nothing else takes any time."""
    return CELLS / concurrency * LATENCY_S


def _shown(runs: Sequence[Run], figure: Callable[[Run], float]) -> str:
    values = [figure(run) for run in runs]
    return f"{statistics.median(values):.2f} [{min(values):.2f}–{max(values):.2f}]"


def goals(runs: Runs) -> Iterator[tuple[str, float, float]]:
    """What is asked for, as measured, and the highest value that passes."""
    for concurrency, (of_ideal, of_promptfoo) in LIMITS.items():
        ours = runs.get(("rolebook", concurrency), [])
        theirs = runs.get(("promptfoo", concurrency), [])
        where = f"at concurrency {concurrency}"
        if ours:
            yield f"wall / ideal {where}", median(ours, wall) / ideal_s(concurrency), of_ideal
        if ours and theirs:
            ratio = median(ours, wall) / median(theirs, wall)
            yield f"wall / promptfoo's {where}", ratio, of_promptfoo
            ratio = median(ours, cpu_of_cell) / median(theirs, cpu_of_cell)
            yield f"CPU a cell / promptfoo's {where}", ratio, CPU_LIMIT


def floors(runs: Runs) -> Iterator[str]:
    """Which goals nobody could reach, because the upstream alone takes longer than they allow."""
    for concurrency, (_, limit) in LIMITS.items():
        if theirs := runs.get(("promptfoo", concurrency)):
            floor = ideal_s(concurrency) / median(theirs, wall)
            if floor > limit:
                yield (
                    f"At concurrency {concurrency} the ideal itself is {floor:.2f} of promptfoo's wall, above {limit}:"
                    " no program can reach that goal on this computer."
                )


def find_programs() -> Sequence[Program]:
    """Those that can be run here, installed if this is the first time."""
    python = install_rolebook()
    programs = [
        Program("bare calls", prepare_bare_calls),
        Program("rolebook", partial(prepare_rolebook, python, False), count_turns),
        Program("rolebook, streamed", partial(prepare_rolebook, python, True), count_turns),
    ]
    if promptfoo := install_promptfoo():
        programs.append(Program("promptfoo", partial(prepare_promptfoo, promptfoo), count_results))
    else:
        print("promptfoo is left out: it needs Node.js with npm, and there is none here.\n")
    return programs


def report(runs: Runs) -> bool:
    """Print the table and each goal. Returns whether all hold."""
    print(*table(runs), "", sep="\n")
    is_good = True
    for name, ratio, limit in goals(runs):
        holds = ratio <= limit
        is_good = is_good and holds
        print(f"{name:40} {ratio:.2f}, goal {limit:.2f}: {'holds' if holds else 'MISSED'}")
    for line in floors(runs):
        print(line)
    return is_good


def main() -> int:
    """Measure and report; 1 if a goal is missed or a run did not do its work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", metavar="PROGRAM", help="may be repeated")
    options = parser.parse_args()
    programs = [
        program
        for program in find_programs()
        if options.only is None or program.name in options.only
    ]
    try:
        runs = measure(programs, options.rounds)
    except MeasureError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if report(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
