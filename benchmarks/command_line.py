"""How long a command takes from start to end, beside `llm` 0.36 doing the same against the same upstream.

The commands take turns, so that all meet the same weather; the ratios are what counts. `llm` gets an environment of its
own under `~/.cache/rolebook-benchmarks`, made once. Nothing leaves this computer but that installation.

    python -m benchmarks.command_line [--rounds 15] [--llm FILE]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.comparison import users_environment

ROOT = Path(__file__).parent.parent
LLM_VERSION = "0.36"
CACHE = Path.home() / ".cache" / "rolebook-benchmarks" / f"llm-{LLM_VERSION}"
ROLEBOOK = [sys.executable, "-m", "rolebook"]
#: The highest ratio of medians that passes.
LIMITS = {"--version": 0.25, "ask": 0.8}

Commands = Mapping[str, tuple[Sequence[str], Sequence[str]]]


def install_llm() -> Path:
    """The `llm` program, installed if this is the first time. Raises CalledProcessError, TimeoutExpired."""
    program = CACHE / "bin" / "llm"
    if not program.exists():
        print(f"Installing llm {LLM_VERSION} into {CACHE} …", file=sys.stderr)
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(CACHE)], check=True, timeout=120
        )
        pip = [str(CACHE / "bin" / "pip"), "install", "--quiet", f"llm=={LLM_VERSION}"]
        subprocess.run(pip, check=True, timeout=600)
    return program


@contextmanager
def fake_upstream() -> Iterator[str]:
    """The base URL of an upstream in a process of its own that answers 16 tokens at once."""
    command = [sys.executable, "-m", "tests.fake_upstream", "--tokens", "16"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def environment(base_url: str, folder: Path) -> dict[str, str]:
    """What both programs find: the same upstream, and an empty folder each for their logs."""
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: fake\n  model_name: ok\n  api_base: {base_url}\n", "utf-8"
    )
    return {
        **users_environment(),
        "OPENAI_API_KEY": "sk-benchmark",
        "OPENAI_BASE_URL": base_url,
        "LLM_USER_PATH": str(folder),
        "ROLEBOOK_MODEL": "ok",
        "ROLEBOOK_DATABASE": str(folder / "rolebook.db"),
    }


def measure(
    commands: Commands, environment: Mapping[str, str], rounds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of every run, ours and theirs by name; the first round warms the caches and does not count."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in commands}
    for round_number in range(rounds + 1):
        for name, (ours, theirs) in commands.items():
            for command, taken in zip((ours, theirs), seconds[name], strict=True):
                began = time.perf_counter()
                subprocess.run(
                    command,
                    cwd=ROOT,
                    env=dict(environment),
                    check=True,
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    timeout=60,
                )
                if round_number:
                    taken.append(time.perf_counter() - began)
    return seconds


def _shown(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):6.3f} s [{min(seconds):.3f}–{max(seconds):.3f}]"


def main() -> int:
    """Measure and report; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--llm", type=Path, help="an installed llm, to save installing one")
    options = parser.parse_args()
    llm = str(options.llm or install_llm())
    commands = {
        "--version": ([*ROLEBOOK, "--version"], [llm, "--version"]),
        "ask": ([*ROLEBOOK, "ask", "assistant", "Hello"], [llm, "-m", "fake", "Hello"]),
    }
    with fake_upstream() as base_url, tempfile.TemporaryDirectory() as folder:
        seconds = measure(commands, environment(base_url, Path(folder)), options.rounds)
    is_good = True
    for name, (ours, theirs) in seconds.items():
        ratio = statistics.median(ours) / statistics.median(theirs)
        is_good = is_good and ratio <= LIMITS[name]
        print(f"{name:10} rolebook {_shown(ours)}   llm {_shown(theirs)}   ", end="")
        print(f"ratio {ratio:.2f}, goal {LIMITS[name]}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
