"""The library: the files of personas and prompt templates, written here, with what they would send beside the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from rolebook.core.difference import line_differences
from rolebook.core.edit import FileState
from rolebook.core.errors import (
    FileError,
    NotFoundError,
    Problem,
    RolebookError,
)
from rolebook.core.naming import is_persona_id
from rolebook.core.persona_schema import persona_schema
from rolebook.core.reference import split_reference
from rolebook.core.source import FileKey, FileKind, plain_text
from rolebook.core.template_advice import ABOUT_MISSING_NAMES
from rolebook.library.persona_edit import declare_variable
from rolebook.library.yaml_text import Mark, YamlError
from rolebook.web.current import gettext, rolebook
from rolebook.web.draft import Draft, Look, drafts_to_choose, look, sessions_to_choose
from rolebook.web.merge_marks import read_marks
from rolebook.web.presentation import problem as said_of
from rolebook.web.submission import submitted

blueprint = Blueprint("library", __name__, url_prefix="/library")

#: What addresses call the kinds of files.
_KINDS: Mapping[str, FileKind] = {"personas": "persona", "templates": "template"}
_FOLDERS = {kind: folder for folder, kind in _KINDS.items()}


def key_of(kind: str, name: str) -> FileKey:
    """The file that an address names. Raises NotFoundError for one that cannot be."""
    if kind not in _KINDS or not is_persona_id(name):
        raise NotFoundError("There is no such file in the library.")
    return FileKey(_KINDS[kind], name)


def named(kind: str, name: str) -> tuple[FileKey, str]:
    """The file that an address names, and the label or revision behind an ``@``. Raises NotFoundError."""
    persona_id, at = split_reference(name) if kind == "personas" else (name, "")
    return key_of(kind, persona_id), at


def address_of(key: FileKey, endpoint: str = "library.show", **more: Any) -> str:
    """The address of a file, or of what is done with it."""
    return url_for(endpoint, kind=_FOLDERS[key.kind], name=key.id, **more)


blueprint.add_app_template_global(address_of, "file_address")


@blueprint.get("")
@blueprint.get("/", endpoint="list")
def list_files() -> str:
    """All files, what the library is for, and the trash."""
    return list_page()


def list_page(error: RolebookError | None = None, fields: Mapping[str, str] | None = None) -> str:
    """The page of all files; with why a new one could not be begun."""
    edits = rolebook().edits
    return render_template(
        "library.html",
        files=_files(),
        strays=edits.stray_problems(),
        trash=edits.trash(),
        trashed=request.args.get("trashed", ""),
        fields=fields or {},
        error=error,
    )


def _files() -> Sequence[FileState]:
    return rolebook().edits.files()


@blueprint.get("/<kind>/<name>")
def show(kind: str, name: str) -> ResponseReturnValue:
    """A file to write in. With ``new``, one that is not there yet; with ``at`` or ``commit``, as it was then.

    ``declare`` names a variable to declare in it first. Nothing is written yet.
    """
    key, at = named(kind, name)
    edits = rolebook().edits
    if at:
        return redirect(address_of(key, at=edits.find_change(key, at).id), 303)
    if request.args.get("new") is not None:
        if any(state.key == key for state in _files()):
            return redirect(address_of(key), 303)
        title = request.args.get("title", "").strip()
        text, etag = edits.new_text(key, title, system=gettext("You are …")), ""
    else:
        source = edits.open(key)
        text, etag = source.text, source.etag
        if former := _former_text(key):
            return file_page(Draft(key, former, {**request.args, "etag": etag}), is_former=True)
    draft, place = with_declared(Draft(key, text, {**request.args, "etag": etag}))
    return file_page(_carried(draft), declared=place) if place else file_page(draft)


def _former_text(key: FileKey) -> str:
    """The text that the address asks for: as it was at a change, or as of a commit; empty if it asks for none."""
    edits = rolebook().edits
    if at := request.args.get("at"):
        return edits.source_at(key, at)
    commit = request.args.get("commit")
    return edits.source_at_commit(key, commit) if commit else ""


@blueprint.post("/<kind>/<name>")
def show_again(kind: str, name: str) -> ResponseReturnValue:
    """The page with what is written on it looked at: for those without scripts, and after a change of the language.

    ``declare`` names a variable to declare in it first.
    """
    draft, place = with_declared(draft_of(kind, name))
    return file_page(_carried(draft), declared=place)


def _carried(draft: Draft) -> Draft:
    """A draft that says of itself if it is not what the file says."""
    carried = {"carried": "1"} if _differs_on_disk(draft) else {}
    return Draft(draft.key, draft.text, {**draft.fields, **carried})


def _differs_on_disk(draft: Draft) -> bool:
    try:
        return rolebook().edits.open(draft.key).text != plain_text(draft.text)
    except (NotFoundError, FileError):
        return True


@blueprint.post("/<kind>/<name>/look", endpoint="look")
def look_at(kind: str, name: str) -> ResponseReturnValue:
    """What is wrong with a text and what it would send, for scripts: the marks, and pieces of the page.

    ``declare`` names a variable to declare in it first; the answer has the text with it, and where it stands.
    """
    draft, place = with_declared(draft_of(kind, name))
    seen = look(draft)
    return {
        "declared": place and {"text": draft.text, "line": place.line, "column": place.column},
        "problems": [_mark(problem, draft) for problem in seen.problems],
        "etag": _etag_on_disk(draft.key),
        "variables": list(seen.draft.resolved.persona.variables) if seen.draft.resolved else None,
        "html": render_template("library_pieces.html", **pieces_of(seen)),
        "hasPreview": seen.preview is not None,
    }


def draft_of(kind: str, name: str) -> Draft:
    """What is submitted of a file's page."""
    fields = submitted()
    return Draft(key_of(kind, name), read_marks(fields.get("text", "")), fields)


def with_declared(draft: Draft) -> tuple[Draft, Mark | None]:
    """A draft with the variable that its field ``declare`` names, and where; a text that cannot be read stays."""
    name = draft.fields.get("declare", "")
    if not name or draft.key.kind != "persona":
        return draft, None
    try:
        text, place = declare_variable(draft.text, name)
    except YamlError:
        return draft, None
    return Draft(draft.key, text, draft.fields), place


@blueprint.app_template_filter()
def undeclared(problem: Problem) -> str:
    """The variable that would mend a problem if a persona declared it; empty where none would."""
    return str(problem.parameters["name"]) if problem.message in ABOUT_MISSING_NAMES else ""


def _mark(problem: Problem, draft: Draft) -> dict[str, Any]:
    """A problem as the editor marks it; one in another file has no place in this one."""
    is_here = problem.file == draft.file
    return {
        "declare": undeclared(problem) if draft.key.kind == "persona" else "",
        "line": problem.line if is_here else 0,
        "column": problem.column if is_here else 0,
        "severity": problem.severity,
        "message": said_of(problem),
    }


def _etag_on_disk(key: FileKey) -> str | None:
    """None where there is no file; empty where there is one that cannot be read."""
    try:
        return rolebook().edits.open(key).etag
    except NotFoundError:
        return None
    except FileError:
        return ""


def file_page(draft: Draft, **more: Any) -> str:
    """The page of a file with a draft of it; ``more`` is what has just been done with it."""
    if conflict := more.get("conflict"):
        more["conflict_lines"] = line_differences(conflict.theirs.text, conflict.mine)
    return render_template(
        "library_file.html",
        **context_of(look(draft)),
        drafts=drafts_to_choose(draft.key),
        has_editor=_has_editor(),
        phrases=_phrases(),
        **more,
    )


def context_of(seen: Look) -> dict[str, Any]:
    """What the page of a file needs, as text or as a form."""
    draft, files = seen.draft, _files()
    return {
        **pieces_of(seen),
        "files": files,
        "state": next((state for state in files if state.key == draft.key), None),
        "personas": [state for state in files if state.key.kind == "persona"],
        "sessions": sessions_to_choose(draft.persona_id),
    }


def pieces_of(seen: Look) -> dict[str, Any]:
    """What the pieces of the page need that follow what is written."""
    draft = seen.draft
    return {
        "seen": seen,
        "draft": draft,
        "key": draft.key,
        "own_file": draft.file,
        "key_at": _key_at,
        "is_stale": draft.checked.in_use is not None and draft.is_broken_on_disk,
        "is_broken": draft.checked.in_use is None and draft.is_broken_on_disk,
    }


def _key_at(file: str) -> FileKey:
    """The file of the library that a path names."""
    path = PurePath(file)
    return FileKey("template" if path.suffix == ".jinja" else "persona", path.stem)


def _has_editor() -> bool:
    """Whether the editor with colours was built; without it the plain field is as complete."""
    return Path(str(current_app.static_folder), "vendor", "codemirror.js").exists()


def _phrases() -> Mapping[str, str]:
    """The words of the editor itself, in the reader's language."""
    return {
        "Completions": gettext("Completions"),
        "Control character": gettext("Control character"),
        "Diagnostics": gettext("Problems"),
        "No diagnostics": gettext("Nothing is wrong with this text."),
        "Declare": gettext("Declare it"),
        "Find": gettext("Find"),
        "Replace": gettext("Replace"),
        "next": gettext("next"),
        "previous": gettext("previous"),
        "all": gettext("all"),
        "match case": gettext("match case"),
        "by word": gettext("whole words"),
        "regexp": gettext("regular expression"),
        "replace": gettext("replace"),
        "replace all": gettext("replace all"),
        "close": gettext("close"),
        "current match": gettext("current match"),
        "replaced $ matches": gettext("replaced $ matches"),
        "replaced match on line $": gettext("replaced match on line $"),
        "on line": gettext("on line"),
        "Go to line": gettext("Go to line"),
        "go": gettext("go"),
    }


@blueprint.get("/names")
def names() -> dict[str, Any]:
    """What can be completed: the format, and the names that are known."""
    files = _files()
    return {
        "schema": persona_schema(),
        "personas": [state.key.id for state in files if state.key.kind == "persona"],
        "templates": [state.key.id for state in files if state.key.kind == "template"],
        "upstreams": list(rolebook().upstreams.names),
        "tags": sorted({tag for p in rolebook().library.personas() for tag in p.persona.tags}),
    }
