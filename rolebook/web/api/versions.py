"""The past of files by the API: their history, what changed, commits, and labels."""

from __future__ import annotations

from typing import cast

from pydantic import Field

from rolebook.core.access import require_persona
from rolebook.core.history import Action, Change, Commit
from rolebook.core.history import Label as CoreLabel
from rolebook.core.source import FileKey
from rolebook.web.api import shapes
from rolebook.web.api.files import Kind, SavedFile, saved_shape
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.shapes import Shape
from rolebook.web.current import rolebook
from rolebook.web.library import key_of, named
from rolebook.web.saving import author

section = Section("History", "What files were, and labels that point at revisions.")

_MOST_COMMITS = 100


class HistoryQuery(Body):
    """Which page of a history."""

    limit: int = Field(30, ge=1, le=200)
    """So many at most."""
    cursor: str = ""
    """The `next` of the page before."""


class FileChange(Shape):
    """One entry of a history."""

    id: str
    action: Action
    created_at: str
    via: str
    author: str
    revision: str
    source: str
    """The etag of the text then; empty where it is not known."""
    causes: list[shapes.FileName]
    former: str
    message: str
    labels: list[str]
    sessions: int
    is_current: bool


class FileHistory(Shape):
    """Some changes, the newest first. `next` asks for those before, and is empty at the beginning."""

    changes: list[FileChange]
    next: str


@section.get("/files/<kind>/<name>/history", refusals=(404,))
def list_changes(kind: Kind, name: str, query: HistoryQuery) -> FileHistory:
    """List what became of a file, the newest first; of one that is gone too.

    `teacher@production` means all of its file.
    """
    key, at = named(kind, name)
    if at:
        rolebook().find_persona(name)
    key = _known(kind, key.id)
    timeline = rolebook().edits.history(key, limit=query.limit, before=query.cursor)
    return {"changes": [_change(change) for change in timeline.changes], "next": timeline.next}


def _change(change: Change) -> FileChange:
    return cast(FileChange, change.as_data())


def _known(kind: str, name: str) -> FileKey:
    """The key of a file that is there, or was. Raises NotFoundError."""
    key, edits = key_of(kind, name), rolebook().edits
    if not edits.history(key, limit=1).changes:
        edits.open(key)
    return key


class FormerText(Shape):
    """A file as it was."""

    change: FileChange
    text: str


@section.get("/files/<kind>/<name>/history/<change_id>", refusals=(404,))
def show_change(kind: Kind, name: str, change_id: str) -> FormerText:
    """Read the text that a file had at a change."""
    key, edits = key_of(kind, name), rolebook().edits
    change = edits.get_change(key, change_id)
    return {"change": _change(change), "text": edits.source_at(key, change_id)}


class Restoring(Body):
    """Which text it replaces."""

    etag: str | None = None
    """That of the file as it was read; empty for a file that is gone; left out: whatever is there."""
    message: str = Field("", max_length=500)
    """Why, for the history."""
    insist: bool = False
    """Save it although it has errors."""


@section.post("/files/<kind>/<name>/history/<change_id>/restore", refusals=(404, 409))
def restore_change(kind: Kind, name: str, change_id: str, body: Restoring) -> SavedFile:
    """Save the text that a file had at a change once more."""
    saved = rolebook().edits.restore(
        key_of(kind, name),
        change_id,
        author=author("api"),
        etag=body.etag,
        message=body.message,
        insist=body.insist,
    )
    return saved_shape(saved)


class DifferenceQuery(Body):
    """Which versions: the id of a change, a label, the beginning of a revision; empty is the file as it is now."""

    old: str = ""
    new: str = ""


class FileDifference(Shape):
    """What changed, by lines. Null is not known."""

    source: list[shapes.Line] | None
    """In the text."""
    resolved: list[shapes.Line] | None
    """In what it makes; null for a prompt template."""


@section.get("/files/<kind>/<name>/difference", refusals=(404,))
def show_difference(kind: Kind, name: str, query: DifferenceQuery) -> FileDifference:
    """Show what changed between two versions of a file.

    Of `teacher@production`, `old` is that revision unless it is given.
    """
    key, at = named(kind, name)
    found = rolebook().edits.difference(key, query.old or at, query.new)
    source, resolved = (
        None if lines is None else [cast(shapes.Line, line.as_data()) for line in lines]
        for lines in (found.source, found.resolved)
    )
    return {"source": source, "resolved": resolved}


class CommitList(Shape):
    """The commits that changed a file, the newest first; none where there is no git."""

    commits: list[Commit]


@section.get("/files/<kind>/<name>/commits", refusals=(404,))
def list_commits(kind: Kind, name: str) -> CommitList:
    """List what git knows of a file."""
    commits = rolebook().edits.commits(_known(kind, name))
    return {"commits": list(commits[:_MOST_COMMITS])}


class CommittedText(Shape):
    """A file as of a commit."""

    text: str


@section.get("/files/<kind>/<name>/commits/<commit_id>", refusals=(404,))
def show_commit(kind: Kind, name: str, commit_id: str) -> CommittedText:
    """Read the text of a file as of a commit."""
    return {"text": rolebook().edits.source_at_commit(_known(kind, name), commit_id)}


class Label(Shape):
    """A name for a revision: `teacher@production` then means that one."""

    name: str
    revision: str
    created_at: str


class LabelList(Shape):
    """The labels of a persona, by name."""

    labels: list[Label]


@section.get("/personas/<persona_id>/labels", refusals=(404,))
def list_labels(persona_id: str) -> LabelList:
    """List the labels of a persona."""
    require_persona(persona_id)
    key = _known("personas", persona_id)
    return {"labels": [_label(label) for label in rolebook().edits.labels(key.id)]}


def _label(label: CoreLabel) -> Label:
    return {"name": label.name, "revision": label.revision, "created_at": label.created_at}


class Pointing(Body):
    """What the label shall point at."""

    at: str = ""
    """Another label, or the beginning of a revision; empty: the persona as it is now."""


@section.put("/personas/<persona_id>/labels/<label>", refusals=(404,))
def set_label(persona_id: str, label: str, body: Pointing) -> Label:
    """Let a label point at a revision, wherever it pointed before."""
    key = _known("personas", persona_id)
    return _label(rolebook().edits.set_label(key.id, label, body.at, author=author("api")))


@section.delete("/personas/<persona_id>/labels/<label>", status=204, refusals=(404,))
def remove_label(persona_id: str, label: str) -> None:
    """Take a label away."""
    key = _known("personas", persona_id)
    rolebook().edits.remove_label(key.id, label, author=author("api"))
