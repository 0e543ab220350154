"""Personas with checks, and a judge whose verdict the test decides."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tests.conftest import PLAIN, ROOT

#: What requests of the judge are known by.
JUDGE_MODEL = "judging"
GENTLE = "  - {name: gentle, rubric: Is gentle with the learner.}\n"
ONE_QUESTION = "  - {name: one question, max_questions: 1}\n"
SHORT = "  - {name: short, max_words: 3}\n"


def add_checks(library_dir: Path, *checks: str, persona: str = "plain") -> None:
    """Give the persona `plain` checks, as lines of its file."""
    text = PLAIN + "checks:\n" + "".join(checks)
    (library_dir / "personas" / f"{persona}.yaml").write_text(text, "utf-8")


def add_judge(library_dir: Path) -> None:
    """The judge that is shipped, with a model of its own."""
    text = (ROOT / "personas" / "judge.yaml").read_text("utf-8")
    judge = library_dir / "personas" / "judge.yaml"
    judge.write_text(f"{text}model: {JUDGE_MODEL}\n", "utf-8")


def verdict(passed: str, reason: str = "It pats the learner on the back.") -> str:
    """What the fake upstream is to do so that the judge says so."""
    said = f'Let me see.\n{{"passed": {passed}, "reason": "{reason}"}}'
    return f"ok?text={quote(said)}"
