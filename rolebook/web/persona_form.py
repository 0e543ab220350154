"""A persona file as a form, for those who do not want YAML. Form and text are two views of one file.

The page holds the text that it began from and the fields as they are filled in; what both make is the file. So a change
goes along from one view to the other, and nothing is lost that the form does not show.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from rolebook.core.errors import FileError, InputError, NotFoundError, Problem, RolebookError
from rolebook.core.persona import Persona, Sampling
from rolebook.core.source import FileKey
from rolebook.library.persona_fields import (
    LINE_KEYS,
    LIST_KEYS,
    MAX_ROWS,
    ROW_KEYS,
    TEXT_KEYS,
    FieldsError,
    Row,
    Shown,
    edit_fields,
    field_of,
    rows_of,
    show_fields,
    with_rows,
)
from rolebook.library.persona_file import TYPED_KEYS
from rolebook.library.yaml_text import Path, YamlError, parse_yaml
from rolebook.web.current import gettext, rolebook
from rolebook.web.draft import Draft, Look, look
from rolebook.web.errors import describe, status_of
from rolebook.web.library import context_of, file_page, key_of, pieces_of
from rolebook.web.merge_marks import read_marks
from rolebook.web.presentation import problem as said_of
from rolebook.web.saving import not_saved, save_draft
from rolebook.web.submission import fields_under, submitted

blueprint = Blueprint("persona_form", __name__, url_prefix="/library/personas/<name>/form")

#: What the fields of the file begin with on the page, beside those with which a draft is looked at.
_FIELD = "f-"
#: The sampling parameters as a form has them: least, greatest, and a step that can be felt.
_SLIDERS: Mapping[str, tuple[float, float, float]] = {
    "temperature": (0, 2, 0.1),
    "top_p": (0, 1, 0.05),
    "presence_penalty": (-2, 2, 0.1),
    "frequency_penalty": (-2, 2, 0.1),
}
_EXPLAINED: Mapping[str, str] = Sampling.explanations()
#: What stands under "More".
_MORE = {*LINE_KEYS, *TEXT_KEYS, *LIST_KEYS, "context"} - {"name", "description", "system"}
#: Where a slider begins that was not set: in the middle of what is usual.
_USUAL: Mapping[str, float] = {"temperature": 0.7, "top_p": 1}


@dataclass(frozen=True)
class Form:
    """A form as it is filled in. ``base`` is the text that it began from, ``given`` what was submitted of the fields.

    ``circumstances`` are all other fields of the page, see :class:`rolebook.web.draft.Draft`.
    """

    key: FileKey
    base: str
    given: Mapping[str, str] = field(default_factory=dict)
    circumstances: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """What the text says that it began from. Raises YamlError."""
        return parse_yaml(self.base, file=self._file, typed=TYPED_KEYS).data

    @property
    def _file(self) -> str:
        return Draft(self.key, "", {}).file

    @cached_property
    def shown(self) -> Shown:
        return show_fields(self.data)

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """All fields, as they were submitted, else as the file has them."""
        rows = {part for part in ROW_KEYS if f"{part}-rows" in self.given}
        kept = {
            name: value
            for name, value in self.shown.fields.items()
            if name.partition("-")[0] not in rows
        }
        return {**kept, **self.given}

    @cached_property
    def faults(self) -> Mapping[str, InputError]:
        """What keeps the fields from making a file, by the field that it is wrong in."""
        try:
            self._edited  # noqa: B018
        except FieldsError as error:
            return error.faults
        return {}

    @cached_property
    def _edited(self) -> str:
        return edit_fields(self.base, self.fields)

    @property
    def text(self) -> str:
        """The file's text; where the fields make none, the one that it began from."""
        return self.base if self.faults else self._edited

    @cached_property
    def draft(self) -> Draft:
        return Draft(self.key, self.text, self.circumstances)

    @cached_property
    def seen(self) -> Look:
        return look(self.draft)

    @cached_property
    def mistakes(self) -> Mapping[str, str]:
        """What is wrong, by the field that shows it; the rest stands below the empty name."""
        found = {name: describe(error) for name, error in self.faults.items()}
        if self.faults:
            return found
        for problem in self.seen.errors:
            name = self._field_at(problem)
            found[name] = " ".join(filter(None, (found.get(name, ""), said_of(problem))))
        return found

    def _field_at(self, problem: Problem) -> str:
        """The field that shows the place of a problem."""
        if problem.file != self.draft.file:
            return ""
        try:
            document = parse_yaml(self.text, file="", typed=TYPED_KEYS)
        except YamlError:
            return ""
        places = sorted(
            ((mark.line, mark.column), path)
            for path, mark in (*document.marks.items(), *document.key_marks.items())
            if path
        )
        # A missing key has no place; the message names it.
        key = str(problem.parameters.get("key", ""))
        if key in {"name", "system"} and key not in document.data:
            return key
        index = bisect_right([place for place, _ in places], (problem.line, problem.column))
        path: Path = places[index - 1][1] if index else ()
        return field_of(path, self.fields)

    @cached_property
    def inherited(self) -> Persona | None:
        """The persona that it extends, if that can be used."""
        base = self.fields.get("extends", "").strip()
        if not base or base == self.key.id:
            return None
        try:
            return rolebook().library.get_persona(base).persona
        except (NotFoundError, FileError):
            return None

    def inherited_text(self, name: str) -> str:
        """What holds where a field is left blank, from the persona that it extends; empty if that says nothing."""
        if self.inherited is None:
            return ""
        part, _, key = name.rpartition("-")
        holder = getattr(self.inherited, part) if part else self.inherited
        value = getattr(holder, key or name, None)
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def is_unsaved(self) -> bool:
        """Whether the file on disk says something else."""
        try:
            return rolebook().edits.open(self.key).text != self.text
        except (NotFoundError, FileError):
            return True

    def is_open(self, part: str) -> bool:
        """Whether a part of the form is open: where it holds something to be seen first, or a mistake."""
        if part in ROW_KEYS and (self.rows(part) or part in self.shown.odd):
            return True
        heads = {name.partition("-")[0] for name in self.mistakes}
        return part in heads or (part == "more" and bool(heads & _MORE))

    def rows(self, part: str) -> Sequence[Row]:
        """The rows of examples or variables."""
        return rows_of(self.fields, part)

    def may_add(self, part: str) -> bool:
        return len(self.rows(part)) < MAX_ROWS[part]

    def with_step(self, step: str) -> Form:
        """The form after a row was added, removed or moved, as ``add-examples`` and ``up-examples-2`` say."""
        verb, _, rest = step.partition("-")
        part, _, number = rest.partition("-")
        if part not in ROW_KEYS:
            return self
        rows = list(self.rows(part))
        if verb == "add" and self.may_add(part):
            rows.append(
                dict.fromkeys(ROW_KEYS[part], "")
                | ({"type": "text"} if part == "variables" else {})
            )
        index = int(number) if number.isdecimal() and int(number) < len(rows) else None
        if index is not None and verb == "remove":
            del rows[index]
        elif index is not None and verb in {"up", "down"}:
            other = index + (-1 if verb == "up" else 1)
            if 0 <= other < len(rows):
                rows[index], rows[other] = rows[other], rows[index]
        return replace(self, given=with_rows(self.fields, part, rows))


def _form_of(name: str) -> Form:
    """What is submitted: from the form itself, or from the text of the file."""
    fields = submitted()
    given = fields_under(_FIELD, fields)
    fields.pop("carried", None)
    others = {key: value for key, value in fields.items() if not key.startswith(_FIELD)}
    text = read_marks(others.pop("text", ""))
    return Form(key_of("personas", name), text, given, others)


@blueprint.get("")
def show(name: str) -> ResponseReturnValue:
    """The form of a persona file. With ``new``, of one that is not there yet."""
    key = key_of("personas", name)
    edits = rolebook().edits
    if request.args.get("new") is not None:
        if any(state.key == key for state in edits.files()):
            return redirect(url_for("persona_form.show", name=name), 303)
        title = request.args.get("title", "").strip()
        text, etag = edits.new_text(key, title, system=gettext("You are …")), ""
    else:
        source = edits.open(key)
        text, etag = source.text, source.etag
    return _page(Form(key, text, circumstances={**request.args, "etag": etag}))


@blueprint.post("")
def show_again(name: str) -> ResponseReturnValue:
    """The form with what was submitted: ``do`` says what to do with it, if anything but looking.

    ``do`` is ``text`` for the view as text, ``save``, or a step as in :meth:`Form.with_step`.
    """
    form = _form_of(name)
    task = form.circumstances.get("do", "")
    try:
        if task == "text" and not form.faults:
            carried = {"carried": "1"} if form.is_unsaved else {}
            return file_page(Draft(form.key, form.text, {**form.circumstances, **carried}))
        if task == "save" and not form.faults:
            return _save(form)
        return _page(form.with_step(task))
    except YamlError as error:
        return _page_of_text(form, error)


def _save(form: Form) -> ResponseReturnValue:
    try:
        saved = save_draft(form.draft)
    except FileError as error:
        if not form.mistakes:
            return _page(form, error=error), status_of(error)
        return _page(form, is_refused=True), status_of(error)
    except RolebookError as error:
        return not_saved(form.draft, error), status_of(error)
    kept = {**form.circumstances, "etag": saved.source.etag, "message": ""}
    return _page(Form(form.key, saved.source.text, circumstances=kept), saved=saved)


@blueprint.post("/look", endpoint="look")
def look_at(name: str) -> ResponseReturnValue:
    """What the fields make, for scripts: what is wrong by field, and pieces of the page."""
    form = _form_of(name)
    form = form.with_step(form.circumstances.get("do", ""))
    return {
        "text": form.text,
        "mistakes": form.mistakes,
        "html": render_template(
            "persona_form_pieces.html", **pieces_of(form.seen), **_fields_of(form)
        ),
        "hasPreview": form.seen.preview is not None and not form.faults,
    }


def _page(form: Form, **more: Any) -> str:
    try:
        form.data  # noqa: B018
    except YamlError as error:
        return _page_of_text(form, error)
    return render_template(
        "persona_form.html",
        **context_of(form.seen),
        **_fields_of(form),
        upstreams=rolebook().upstreams.names,
        templates=sorted(rolebook().library.templates()),
        **more,
    )


def _page_of_text(form: Form, error: YamlError) -> str:
    """The text can be shown as a form only when it can be read."""
    draft = Draft(form.key, form.base, form.circumstances)
    return render_template(
        "persona_form_unreadable.html", **context_of(look(draft)), problems=error.problems
    )


def _fields_of(form: Form) -> dict[str, Any]:
    """What the inputs of the form are made with."""
    return {
        "form": form,
        "fields": form.fields,
        "mistakes": form.mistakes,
        "lines": form.text.removesuffix("\n").split("\n"),
        "sliders": _SLIDERS,
        "usual": _USUAL,
        "explained": _EXPLAINED,
        "is_persona": True,
    }
