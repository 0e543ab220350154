"""What the documentation says is true: links lead somewhere, names exist, the tutorial's files work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rolebook import __version__
from rolebook.core.message import Origin
from rolebook.core.session import TurnStatus
from rolebook.library.comparison_file import read_comparison_file
from rolebook.library.file_library import FileLibrary
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
    "path", sorted((ROOT / "docs/examples").glob("*.yaml")), ids=lambda p: p.stem
)
def test_comparison_that_an_example_tells_of_can_be_planned(
    path: Path, make_rolebook: MakeRolebook
) -> None:
    read = read_comparison_file(path)
    assert () == read.problems
    book = make_rolebook(personas=str(ROOT / "personas"), templates=str(ROOT / "templates"))
    comparison = book.compare.plan(read.spec).comparison
    assert (4, 12, 96) == (len(comparison.variants), len(comparison.inputs), comparison.size)
