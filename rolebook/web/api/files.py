"""Files of the library by the API: persona files and prompt templates, read, checked, tried, saved, kept."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Literal, cast

from flask import Response
from pydantic import Field

from rolebook.core.chat import TurnEvent
from rolebook.core.checking import Checked
from rolebook.core.edit import FileState, Saved
from rolebook.core.errors import FileError, InputError, NotFoundError, Problem
from rolebook.core.persona import ResolvedPersona
from rolebook.core.source import FileKey, Trashed
from rolebook.web.api import shapes
from rolebook.web.api.errors import problem_data
from rolebook.web.api.operation import Body, Section
from rolebook.web.api.personas import Circumstances, Prompt, prepare, prompt_shape
from rolebook.web.api.shapes import Shape
from rolebook.web.api.turns import TURN_EVENTS, UPSTREAM_REFUSALS, answer
from rolebook.web.current import rolebook
from rolebook.web.draft import Draft
from rolebook.web.library import key_of, named
from rolebook.web.saving import author

section = Section("Files", "The library: persona files and prompt templates, as text.")

#: What addresses call the two kinds of files.
Kind = Literal["personas", "templates"]


class File(Shape):
    """A file of the library. `status` is `stale` where it is broken and its last good version is in use."""

    kind: Literal["persona", "template"]
    id: str
    name: str
    file: str
    status: Literal["clean", "warning", "broken", "stale"]
    etag: str
    problems: list[shapes.Problem]


class FileList(Shape):
    """All files: personas by id, then prompt templates by name."""

    files: list[File]
    problems: list[shapes.Problem]
    """What is wrong with files that cannot be opened, such as one whose name makes no id."""


@section.get("/files")
def list_files() -> FileList:
    """List all files of the library with their state."""
    edits = rolebook().edits
    return {
        "files": [_file(state) for state in edits.files()],
        "problems": _problems(edits.stray_problems()),
    }


def _file(state: FileState) -> File:
    return {
        "kind": state.key.kind,
        "id": state.key.id,
        "name": state.name,
        "file": state.file,
        "status": state.status,
        "etag": state.etag,
        "problems": _problems(state.problems),
    }


def _problems(problems: Iterable[Problem]) -> list[shapes.Problem]:
    return [cast(shapes.Problem, problem_data(problem)) for problem in problems]


class Text(Shape):
    """The text of a file. Its `etag` goes back when the file is saved."""

    kind: Literal["persona", "template"]
    id: str
    file: str
    text: str
    etag: str


@section.get("/files/<kind>/<name>", refusals=(404,))
def show_file(kind: Kind, name: str) -> Text:
    """Read the text of a file."""
    source = rolebook().edits.open(key_of(kind, name))
    return {
        "kind": source.key.kind,
        "id": source.key.id,
        "file": source.file,
        "text": source.text,
        "etag": source.etag,
    }


class SavedFile(Shape):
    """A file after saving."""

    kind: Literal["persona", "template"]
    id: str
    file: str
    etag: str
    is_changed: bool
    """Whether anything was written: the text may have stood there already."""
    revision: str
    """The revision that the persona is now; empty for a prompt template, and while the file is broken."""
    problems: list[shapes.Problem]


def saved_shape(saved: Saved) -> SavedFile:
    """A file after saving, as the API gives it."""
    resolved = saved.checked.resolved
    return {
        "kind": saved.key.kind,
        "id": saved.key.id,
        "file": saved.source.file,
        "etag": saved.source.etag,
        "is_changed": saved.is_changed,
        "revision": resolved.revision.id if resolved else "",
        "problems": _problems(saved.checked.problems),
    }


class NewFile(Body):
    """A new file."""

    id: str
    """Lower-case letters, digits, `-` and `_`, 64 at most."""
    text: str = ""
    """Its text. Left out, it begins as a new file does in the library."""
    name: str = ""
    """What people call a persona whose text is left out."""
    message: str = Field("", max_length=500)
    """Why, for the history."""
    insist: bool = False
    """Save it although it has errors."""


@section.post("/files/<kind>", status=201, refusals=(404, 409))
def create_file(kind: Kind, body: NewFile) -> SavedFile:
    """Save a new file."""
    key, edits = _key(kind, body.id), rolebook().edits
    saved = edits.save(
        key,
        body.text or edits.new_text(key, body.name.strip()),
        etag="",
        author=author("api"),
        message=body.message,
        insist=body.insist,
    )
    return saved_shape(saved)


def _key(kind: str, file_id: str) -> FileKey:
    """The key of a file that may not be there; its id is judged by whoever makes it."""
    return FileKey(key_of(kind, "any").kind, file_id)


class FileText(Body):
    """What a file shall say, and which text that was made from."""

    text: str
    etag: str = Field(min_length=1)
    """That of the file when it was read. If it has changed since, both versions come back and nothing is written."""
    message: str = Field("", max_length=500)
    """Why, for the history."""
    insist: bool = False
    """Save it although it has errors; the last good version stays in use."""


@section.put("/files/<kind>/<name>", refusals=(404, 409))
def save_file(kind: Kind, name: str, body: FileText) -> SavedFile:
    """Save a file, unless somebody else has meanwhile.

    Then the answer is 409 with `conflict`: both texts, both put together, and the etag with which one of them can be
    saved.
    """
    saved = rolebook().edits.save(
        key_of(kind, name),
        body.text,
        etag=body.etag,
        author=author("api"),
        message=body.message,
        insist=body.insist,
    )
    return saved_shape(saved)


class Insisting(Body):
    """Whether to do it although others need the file."""

    insist: bool = False


class TrashedFile(Shape):
    """A file in the trash."""

    trash_id: str
    kind: Literal["persona", "template"]
    id: str
    deleted_at: str


@section.delete("/files/<kind>/<name>", refusals=(404, 409))
def delete_file(kind: Kind, name: str, query: Insisting) -> TrashedFile:
    """Move a file to the trash."""
    key = key_of(kind, name)
    return _trashed(rolebook().edits.delete(key, author=author("api"), insist=query.insist))


def _trashed(found: Trashed) -> TrashedFile:
    return {
        "trash_id": found.id,
        "kind": found.key.kind,
        "id": found.key.id,
        "deleted_at": found.deleted_at,
    }


class Trash(Shape):
    """What was deleted, the newest first."""

    files: list[TrashedFile]


@section.get("/trash")
def list_trash() -> Trash:
    """List the files in the trash."""
    return {"files": [_trashed(found) for found in rolebook().edits.trash()]}


class OtherId(Body):
    """Under which id to take it out, where its own is taken."""

    id: str = ""


@section.post("/trash/<trash_id>/restore", refusals=(404, 409))
def restore_trashed_file(trash_id: str, body: OtherId) -> SavedFile:
    """Take a file out of the trash."""
    return saved_shape(rolebook().edits.undelete(trash_id, author=author("api"), as_id=body.id))


class NewId(Body):
    """The id of the copy."""

    id: str


@section.post("/files/<kind>/<name>/duplicate", status=201, refusals=(404, 409))
def duplicate_file(kind: Kind, name: str, body: NewId) -> SavedFile:
    """Copy a file.

    Of `teacher@production` it is the text that the file had then.
    """
    key, at = named(kind, name)
    return saved_shape(rolebook().edits.duplicate(key, body.id, author=author("api"), at=at))


class Renaming(Body):
    """The new id."""

    id: str
    carry: bool = False
    """Change the files that name it along with it."""


@section.post("/files/<kind>/<name>/rename", refusals=(404, 409))
def rename_file(kind: Kind, name: str, body: Renaming) -> SavedFile:
    """Give a file another id. Sessions and the log keep the old one."""
    key = key_of(kind, name)
    return saved_shape(
        rolebook().edits.rename(key, body.id, author=author("api"), carry=body.carry)
    )


class DraftText(Body):
    """A text that is not saved."""

    text: str


class FileUser(Shape):
    """A persona that extends the draft or renders with it, as it would be."""

    id: str
    is_changed: bool
    problems: list[shapes.Problem]


class Checkup(Shape):
    """What is known of a text that is not saved."""

    is_good: bool
    """Whether it may be saved without a second thought."""
    problems: list[shapes.Problem]
    revision: str
    """The revision that it would make; empty for a prompt template, and for a text with errors."""
    users: list[FileUser]


@section.post("/files/<kind>/<name>/check", refusals=(404,))
def check_file(kind: Kind, name: str, body: DraftText) -> Checkup:
    """Check a text with everything else of the library, without saving it. The file need not be there yet."""
    return _checkup(rolebook().edits.check(key_of(kind, name), body.text))


def _checkup(checked: Checked) -> Checkup:
    return {
        "is_good": checked.is_good,
        "problems": _problems(checked.problems),
        "revision": checked.resolved.revision.id if checked.resolved else "",
        "users": [
            {"id": user.id, "is_changed": user.is_changed, "problems": _problems(user.problems)}
            for user in checked.users
        ],
    }


class DraftToRender(Circumstances):
    """A text that is not saved, and what is said to it."""

    text: str
    persona: str = ""
    """For a prompt template: the persona to look at it with; by default one that uses it."""


@section.post("/files/<kind>/<name>/render", refusals=(404,))
def render_file(kind: Kind, name: str, body: DraftToRender) -> Prompt:
    """Show what a text would send if it were saved. Nothing is sent, and nothing is kept."""
    session, prepared = prepare(_resolved(key_of(kind, name), body), body)
    return prompt_shape(prepared, session)


def _resolved(key: FileKey, body: DraftToRender) -> ResolvedPersona:
    """The persona that a draft makes. Raises FileError, NotFoundError."""
    draft = Draft(key, body.text, {"persona": body.persona})
    if draft.resolved is None:
        if draft.checked.errors:
            raise FileError(draft.checked.errors)
        raise NotFoundError("There is no persona to look at this template with. Write one first.")
    return draft.resolved


class DraftToTry(DraftToRender):
    """A text that is not saved, and what is said to it."""

    stream: bool = False
    """Whether the answer comes as server-sent events, as that of any turn."""


@section.post("/files/<kind>/<name>/try", events=TURN_EVENTS, refusals=(404, *UPSTREAM_REFUSALS))
def try_file(kind: Kind, name: str, body: DraftToTry) -> shapes.Turn | Response:
    """Talk to a text before it is saved. The answer is logged at the draft's revision."""
    if not body.input.strip():
        raise InputError("There is nothing to send yet. Write something first.", key="input")
    book, resolved = rolebook(), _resolved(key_of(kind, name), body)
    # What cannot be rendered leaves no session behind.
    session, _ = prepare(resolved, body)
    begun = book.edits.start_draft(resolved, session)
    prepared = book.chat.prepare(begun, resolved, body.input, body.history())
    events: Any = book.chat.stream_prepared(begun, prepared, body.input)
    return answer(cast(Generator[TurnEvent], events), is_streamed=body.stream)
