"""The commits that changed a file, from the git repository that it stands in, if it stands in one.

A repository may come from anybody, and its configuration can name programs. git is therefore asked in a way that runs
none: no hooks, no pager, no file system monitor, no external differences, no text conversion, no signatures checked, no
transport for objects that are missing. Where git is absent, refuses or takes too long, there are no commits.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rolebook.core.blocking import blocking
from rolebook.core.errors import NotFoundError
from rolebook.core.history import Commit
from rolebook.library.yaml_text import MAX_BYTES

_PATIENCE_S = 3.0
_FIELDS = "%x1e%H%x1f%an%x1f%aI%x1f%s%x1f"
_SAFE = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.pager=cat",
    "core.askPass=",
    "core.sshCommand=false",
    "diff.external=",
    "log.showSignature=false",
    "gpg.program=false",
    "protocol.allow=never",
    "credential.helper=",
    "color.ui=false",
)


def list_commits(path: Path, *, limit: int = 50) -> Sequence[Commit]:
    """The commits that changed a file, the newest first, under its earlier names too."""
    output = _git(
        path.parent,
        *("log", "--follow", "--no-ext-diff", "--no-textconv", "--no-show-signature", "-z"),
        *(f"--max-count={limit}", f"--format={_FIELDS}", "--name-only", "--", path.name),
    )
    commits = []
    for record in (output or b"").decode("utf-8", "replace").split("\x1e")[1:]:
        id, author, at, subject, names = record.split("\x1f")
        name = next((name for name in names.strip("\0\n").split("\0") if name), "")
        commits.append(Commit(id, author, at, subject, name.strip("\n")))
    return commits


def text_at(path: Path, commit: Commit) -> bytes:
    """The content of a file as of a commit that changed it. Raises NotFoundError."""
    # The name is as the repository has it, from its root.
    content = _git(path.parent, "cat-file", "blob", f"{commit.id}:{commit.name}")
    if content is None or len(content) > MAX_BYTES:
        raise NotFoundError(
            "The commit %(commit)s has no text of '%(file)s'.",
            commit=commit.id[:12],
            file=path.name,
        )
    return content


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git says; None where it says nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    safe = [part for option in _SAFE for part in ("-c", option)]
    try:
        with blocking():
            done = subprocess.run(
                [
                    "git",
                    "--no-pager",
                    "--no-optional-locks",
                    "--literal-pathspecs",
                    *safe,
                    *arguments,
                ],
                cwd=folder,
                env={
                    **kept,
                    "GIT_ALLOW_PROTOCOL": "",
                    "GIT_NO_LAZY_FETCH": "1",
                    "GIT_TERMINAL_PROMPT": "0",
                    "LC_ALL": "C.UTF-8",
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE_S,
                check=False,
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
