"""What the documentation says is true: links lead somewhere, names exist, the tutorial's files work."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rolebook import __version__
from rolebook.core.comparison import Ballot, CellKey, Comparison
from rolebook.core.measure import summarise
from rolebook.core.message import Origin
from rolebook.core.preference import Outcome
from rolebook.core.session import TurnStatus
from rolebook.language.translator import translator
from rolebook.library.comparison_file import read_comparison_file
from rolebook.library.file_library import FileLibrary
from rolebook.report.evidence import findings
from tests.conftest import ROOT, MakeRolebook

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")


def _yaml_of(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = [page.parent / target for target in _LINK.findall(page.read_text("utf-8"))]
    assert [] == [str(target) for target in targets if not target.exists()]


def test_changelog_agrees_with_the_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = [heading.split()[0] for heading in headings[1:]]
    assert not released or released[0] == __version__


def test_glossary_has_every_origin_of_a_span() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    assert [] == [origin for origin in Origin if origin not in glossary]


def test_every_status_of_a_turn_is_explained() -> None:
    page = (ROOT / "docs" / "the-log.md").read_text("utf-8")
    assert [] == [status for status in TurnStatus if f"`{status}`" not in page]


def test_hook_and_workflow_of_the_page_about_editors_work(library_dir: Path) -> None:
    page = ROOT / "docs" / "with-your-own-editor.md"
    documents = [data for text in _yaml_of(page) if (data := yaml.safe_load(text))]
    by_key = {key: value for data in documents for key, value in data.items()}
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert [hook["id"]] == [named["id"] for named in by_key["repos"][0]["hooks"]]
    told = [
        path
        for path in ("personas/a.yaml", "templates/chat.jinja")
        if re.match(hook["files"], path)
    ]
    assert 2 == len(told)
    assert not re.match(hook["files"], "docs/a.yaml")
    installing, checking = [
        step["run"] for step in by_key["jobs"]["check"]["steps"] if "run" in step
    ]
    assert installing.startswith("pip install ")
    for command in (hook["entry"], checking):
        program = [sys.executable, "-m", *command.split()]
        done = subprocess.run(
            program,
            cwd=library_dir,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize(
    ("page", "index"), [(ROOT / "docs" / "tutorial.md", 0), (ROOT / "README.md", 0)]
)
def test_persona_of_a_page_is_one_without_any_problem(
    page: Path, index: int, library_dir: Path
) -> None:
    (library_dir / "personas" / "cook.yaml").write_text(_yaml_of(page)[index], "utf-8")
    library = FileLibrary(library_dir / "personas", library_dir / "templates")
    assert [] == [str(problem) for problem in library.problems()]
    assert "Cook" == library.get_persona("cook").persona.name


def test_mistake_of_the_tutorial_is_reported_as_it_says(library_dir: Path) -> None:
    page = ROOT / "docs" / "tutorial.md"
    broken = _yaml_of(page)[0].replace("temperature: 0.7}  ", "temperature: warm}")
    (library_dir / "personas" / "cook.yaml").write_text(broken, "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "rolebook", "check"],
        cwd=library_dir,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 1 == run.returncode
    assert run.stdout.strip() in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "size"), [("teachers", (4, 24, 192)), ("two-teachers", (2, 24, 96))]
)
def test_comparison_that_an_example_tells_of_can_be_planned(
    name: str, size: tuple[int, int, int], make_rolebook: MakeRolebook
) -> None:
    comparison = _planned(make_rolebook, name)
    assert size == (len(comparison.variants), len(comparison.inputs), comparison.size)


def _planned(make_rolebook: MakeRolebook, name: str) -> Comparison:
    read = read_comparison_file(ROOT / "docs/examples" / f"{name}.yaml")
    assert () == read.problems
    book = make_rolebook(personas=str(ROOT / "personas"), templates=str(ROOT / "templates"))
    return book.compare.plan(read.spec).comparison


@pytest.mark.parametrize(("name", "counts"), [("asks", (10, 40)), ("helps", (40,))])
def test_what_an_example_says_of_votes_is_what_these_say(
    name: str, counts: tuple[int, ...], make_rolebook: MakeRolebook
) -> None:
    comparison = _planned(make_rolebook, "two-teachers")
    with (ROOT / f"docs/examples/two-teachers-{name}.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    numbers = {variant.name: number for number, variant in enumerate(comparison.variants)}
    ballots = [
        Ballot(
            row["id"],
            comparison.id,
            *(
                CellKey(numbers[row[side]], int(row["input"]) - 1, int(row[f"{side}_repeat"]) - 1)
                for side in ("left", "right")
            ),
            Outcome(row["outcome"]),
        )
        for row in rows
    ]
    assert [row["text"] for row in rows] == [
        comparison.inputs[ballot.left.input].text for ballot in ballots
    ]
    page = (ROOT / "docs/comparing.md").read_text("utf-8")
    for count in counts:
        found = findings(
            comparison,
            summarise(comparison, []),
            ballots[:count],
            translator=translator("en"),
            hues=["hue-0", "hue-1"],
            by_tag={},
        )
        told = [sentence.text for sentence in found.sentences if "blind votes" in sentence.text]
        assert [True] == [f"> {sentence}\n" in page for sentence in told], told
