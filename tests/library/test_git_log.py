"""The commits of a file, from a repository that may be anybody's: nothing in it is run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rolebook.core.errors import NotFoundError
from rolebook.core.source import FileKey
from rolebook.library.file_library import FileLibrary
from rolebook.library.git_log import list_commits
from rolebook.library.source_files import SourceFiles

ADA = FileKey("persona", "ada")


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Ann Ö", "-c", "user.email=ann@example.org"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(
        ["git", *who, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose persona was written, renamed and changed."""
    git(tmp_path, "init", "-q")
    (tmp_path / "personas").mkdir()
    (tmp_path / "templates").mkdir()
    old = tmp_path / "personas/old ä.yaml"
    old.write_text("name: Ada\nsystem: |\n  One.\n  Two.\n  Three.\n", "utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Begin|it; 天")
    git(tmp_path, "mv", "personas/old ä.yaml", "personas/ada.yaml")
    git(tmp_path, "commit", "-q", "-m", "Rename")
    (tmp_path / "personas/ada.yaml").write_text(old_text().replace("Two", "2"), "utf-8")
    git(tmp_path, "commit", "-q", "-a", "-m", "Say 2")
    return tmp_path


def old_text() -> str:
    return "name: Ada\nsystem: |\n  One.\n  Two.\n  Three.\n"


@pytest.fixture
def files(repository: Path) -> SourceFiles:
    return SourceFiles(FileLibrary(repository / "personas", repository / "templates"))


def test_commits_are_told_under_earlier_names_too(files: SourceFiles) -> None:
    commits = files.commits(ADA)
    assert ["Say 2", "Rename", "Begin|it; 天"] == [commit.subject for commit in commits]
    assert {"Ann Ö"} == {commit.author for commit in commits}
    assert ["personas/ada.yaml", "personas/ada.yaml", "personas/old ä.yaml"] == [
        commit.name for commit in commits
    ]
    assert [old_text().replace("Two", "2"), old_text(), old_text()] == [
        files.text_at(ADA, commit) for commit in commits
    ]


def test_without_a_repository_or_without_git_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ada.yaml").write_text("name: Ada\n", "utf-8")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert [] == list(list_commits(tmp_path / "ada.yaml"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert [] == list(list_commits(tmp_path / "ada.yaml"))


def test_unknown_commit_has_no_text(files: SourceFiles) -> None:

    commit = replace(files.commits(ADA)[0], id="0" * 40)
    with pytest.raises(NotFoundError, match="has no text of"):
        files.text_at(ADA, commit)


def test_configuration_of_the_repository_runs_nothing(files: SourceFiles, repository: Path) -> None:
    mark = repository / "was-run"
    script = repository / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n", "utf-8")
    script.chmod(0o755)
    evil = str(script)
    for name in (
        *("core.fsmonitor", "core.pager", "pager.log", "diff.external", "gpg.program"),
        *("core.sshCommand", "core.askPass", "diff.evil.textconv", "diff.evil.command"),
        *("filter.evil.smudge", "filter.evil.clean", "core.editor", "credential.helper"),
    ):
        git(repository, "config", name, evil)
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "alias.log", f"!{evil}")
    git(repository, "config", "remote.origin.url", f"ext::{evil}")
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "extensions.partialClone", "origin")
    (repository / ".git/info/attributes").write_text("*.yaml diff=evil filter=evil\n", "utf-8")
    (repository / ".git/hooks/post-index-change").write_text(f"#!/bin/sh\n{evil}\n", "utf-8")
    (repository / ".git/hooks/post-index-change").chmod(0o755)
    commits = files.commits(ADA)
    for commit in commits:
        files.text_at(ADA, commit)
    # An object that is missing would be fetched, by a program that the repository names.

    with pytest.raises(NotFoundError):
        files.text_at(ADA, replace(commits[0], id="1" * 40))
    assert 3 == len(commits)
    assert not mark.exists()
