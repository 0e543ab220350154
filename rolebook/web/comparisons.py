"""Comparisons: planning one, beginning it, and the list of all of them. What one has found is shown elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse

from rolebook.core.chat import described
from rolebook.core.comparison_data import comparison_data
from rolebook.core.comparison_spec import VariantSpec, parse_spec
from rolebook.core.errors import ConflictError, InputError, NotFoundError, RolebookError
from rolebook.core.frozen import frozen
from rolebook.core.persona import Persona, unescape_jinja
from rolebook.core.planning import NothingSaidYetError
from rolebook.core.session import Session, id_for, new_id, now
from rolebook.library.comparison_file import parse_comparison
from rolebook.library.file_library import PersonaEntry
from rolebook.library.inputs_file import INPUT_SUFFIXES, parse_inputs
from rolebook.library.yaml_text import dump_yaml
from rolebook.report.presentation import hue
from rolebook.storage.comparison import ComparisonSummary
from rolebook.web import plan_draft, plan_filled, plan_form
from rolebook.web.current import gettext as _
from rolebook.web.current import rolebook
from rolebook.web.errors import describe, status_of
from rolebook.web.form import SamplingField, VariableField, sampling_fields, variable_fields
from rolebook.web.plan_form import FaultyFormError, FieldError, Fields, PlanForm
from rolebook.web.plan_like import form_like
from rolebook.web.plan_preview import PlanPreview, preview_of
from rolebook.web.security import local_path
from rolebook.web.submission import SAMPLING, VARIABLE, fields_under, submitted

blueprint = Blueprint("comparisons", __name__)
blueprint.add_app_template_filter(plan_form.moment)

_PAGE = 40
_REVISIONS_OFFERED = 20
#: How many of a persona's newest inputs are taken to see what an edit has changed.
_LAST = "10"
#: The inputs of a file travel with the form, which has to stay below the limit of a request; sessions are but named.
_LONGEST_ROWS = 600_000
#: What to try comparing with, if the library still has them.
_EXAMPLE = ("teacher", "socratic-teacher")


@frozen
class Listing:
    """A page of comparisons."""

    summaries: Sequence[ComparisonSummary]
    cursor: str
    is_first: bool
    in_trash: bool


@blueprint.get("/comparisons", endpoint="list")
def list_comparisons() -> str:
    """All comparisons, the newest first."""
    before, in_trash = request.args.get("before", ""), "trash" in request.args
    summaries, cursor = rolebook().comparisons.list_comparisons(
        limit=_PAGE, before=before, is_deleted=in_trash
    )
    return render_template(
        "comparisons.html",
        listing=Listing(summaries, cursor, is_first=not before, in_trash=in_trash),
        moved=_ids(request.args.get("deleted", "").split(",")),
        example=_example_address(),
    )


def _example_address() -> str:
    """The way to a plan that only has to be started."""
    known = [entry.id for entry in rolebook().library.entries() if entry.resolved]
    is_shipped = set(_EXAMPLE) <= set(known)
    return url_for(
        "comparisons.new",
        question=_("Which teacher asks better questions?") if is_shipped else None,
        variant=_EXAMPLE if is_shipped else known[:2],
        input=[
            _("Why is the sky blue?"),
            _("One half is less than one third, because two is less than three."),
            _("Just tell me: is 0.999… the same as 1?"),
        ],
    )


@blueprint.post("/comparisons/delete")
def delete() -> BaseResponse:
    """Stop comparisons, move them to the trash, and offer to take them out again."""
    ids = _ids(request.form.getlist("id"))
    for comparison_id in ids:
        # Whoever does not see it must not stop it.
        with suppress(NotFoundError):
            rolebook().comparisons.require_comparison(comparison_id)
            rolebook().compare.stop(comparison_id)
    rolebook().comparisons.delete_comparisons(ids)
    parts = urlsplit(local_path(request.form.get("next", "") or url_for("comparisons.list")))
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "deleted"]
    query += [("deleted", ",".join(ids))] if ids else []
    return redirect(parts._replace(query=urlencode(query)).geturl(), 303)


@blueprint.post("/comparisons/restore")
def restore() -> BaseResponse:
    """Take comparisons out of the trash."""
    rolebook().comparisons.restore_comparisons(_ids(request.form.getlist("id")))
    return redirect(local_path(request.form.get("next", "") or url_for("comparisons.list")), 303)


def _ids(given: Iterable[str]) -> list[str]:
    """What can be ids, each once."""
    return [text for text in dict.fromkeys(given) if re.fullmatch("[0-9a-z]{18}", text)]


@blueprint.get("/comparisons/new")
def new() -> ResponseReturnValue:
    """A plan to fill in. The address can begin it: ``?variant=teacher@3f9c…&input=…&session=…&last=teacher``, or
    ``?like=…`` with the id of a comparison.
    """
    if request.args.get("like"):
        comparison = rolebook().comparisons.get_comparison(request.args["like"])
        return _plan_page(_carried(form_like(comparison)))
    ticked = _ids(request.args.getlist("id"))
    if ticked:
        return redirect(url_for("comparisons.new", session=ticked))
    if request.args.get("persona"):
        return redirect(_address_of_page(request.args))
    return _plan_page(_form_of_address(request.args))


def _carried(form: PlanForm) -> PlanForm:
    """The form, if it can be sent back with all its inputs. Raises InputError."""
    if sum(len(form.get(name).encode()) for name in ("lines", "rows")) > _LONGEST_ROWS:
        raise InputError(
            "These are more inputs than a page can carry (600 kB). The command line takes them:"
            " rolebook compare --inputs FILE"
        )
    return form


def _form_of_address(given: MultiDict[str, str]) -> PlanForm:
    sessions = _ids(given.getlist("session"))
    variants = [_variant_at(address) for address in given.getlist("variant")]
    edited = _edited_persona(variants)
    if edited:
        variants = [
            {**variant, "name": plan_form.name_in_edit(variant["shown"])} for variant in variants
        ]
    if variants:
        variants[0] = {**_chosen(given), **variants[0]}
    if sessions:
        # A file that has just got another name is known by the old one, too.
        rolebook().recorder.record()
        asked = [_as_in_session(variant, _known(sessions)) for variant in variants]
        variants = asked or _variants_of_sessions(map(rolebook().log.get_session, sessions))
    fields = {
        "question": given.get("question") or _edit_question(edited),
        **_said(text for text in given.getlist("input") if text.strip()),
        "last-of": given.get("last", ""),
        "last": _LAST,
        "repeats": "1",
        "concurrency": "4",
        "recorded": "1" if sessions else "",
    }
    blank: list[Fields] = [{}] * max(0, 2 - len(variants))
    return PlanForm(fields, variants=(*variants, *blank), sessions=tuple(sessions))


def _said(texts: Iterable[str]) -> Fields:
    """Typed texts in the fields of the form; one of several lines has its place among those from files."""
    texts = list(texts)
    rows = [{"input": text} for text in texts if not plan_form.is_line(text)]
    return {
        "lines": "\n".join(filter(plan_form.is_line, texts)),
        "rows": json.dumps(rows, ensure_ascii=False) if rows else "",
    }


def _edited_persona(variants: Sequence[Fields]) -> Persona | None:
    """Whose edit it is about, if the variants are a persona as it was and as it is now."""
    match [(given["persona"], bool(given["revision"])) for given in variants]:
        case [(old, True), (new, False)] if old == new:
            resolved = plan_form.resolved_of({"persona": new})
            return resolved.persona if resolved else None
    return None


def _edit_question(persona: Persona | None) -> str:
    """What somebody wants to know who looks at a persona's inputs again after an edit."""
    if persona is None:
        return ""
    return _("What did my edit of %(persona)s change?", persona=persona.name)


def _variant_at(address: str) -> Fields:
    """A variant by ``teacher`` or ``teacher@3f9c…``."""
    persona_id, _at, revision = address.partition("@")
    return {"persona": persona_id, "revision": revision, "shown": address}


def _chosen(given: Mapping[str, str]) -> Fields:
    """What an address chooses over what the first persona says."""
    return {
        name: value
        for name, value in given.items()
        if (name.startswith((VARIABLE, SAMPLING)) or name in {"model", "upstream", "more"})
        and value.strip()
    }


def _address_of_page(given: Mapping[str, str]) -> str:
    """Where the form of a persona's page leads to: without what stands there by itself."""
    resolved = plan_form.resolved_of(given)
    fields = variable_fields(resolved.persona, {}) if resolved else ()
    usual = {field.id: field.value for field in fields}
    chosen: dict[str, Any] = {
        name: value for name, value in _chosen(given).items() if usual.get(name) != value
    }
    said = given.get("input", "")
    return url_for("comparisons.new", variant=given["persona"], input=said or None, **chosen)


def _variants_of_sessions(sessions: Iterable[Session]) -> list[Fields]:
    """The personas that the sessions were had with, as they are now."""
    variants: list[Fields] = []
    for session in sessions:
        variant = _variant_of_session(session)
        if variant not in variants and len(variants) < plan_form.MOST_VARIANTS:
            variants.append(variant)
    return variants


def _known(ids: Iterable[str]) -> list[Session]:
    """Those sessions that there are; of others the plan says that there are none such."""
    found = []
    for session_id in ids:
        with suppress(NotFoundError):
            found.append(rolebook().log.get_session(session_id))
    return found


def _variant_of_session(session: Session) -> Fields:
    if session.persona_id:
        own = rolebook().finder.present_id(session)
        variant = {"persona": own, "shown": own}
        return _as_in_session(variant, [session])
    persona = rolebook().chat.persona_of(session).persona
    described = {"persona": plan_form.DESCRIBED, "shown": plan_form.DESCRIBED}
    system = unescape_jinja(persona.system)
    return {**described, "system": system, **_chosen_in(session, persona)}


def _as_in_session(variant: Fields, sessions: Sequence[Session]) -> Fields:
    """A variant that is asked as its persona was in the first of these sessions that was had with it."""
    persona_id, at = variant["persona"], variant.get("revision", "")
    own = [each for each in sessions if rolebook().finder.is_own(each, persona_id, at)]
    resolved = plan_form.resolved_of(variant)
    return {**_chosen_in(own[0], resolved.persona), **variant} if own and resolved else variant


def _chosen_in(session: Session, persona: Persona) -> Fields:
    """What was chosen for a session over what its persona says, in the fields of a variant."""
    chosen = rolebook().compare.chosen_in(session, persona)
    spec = VariantSpec.model_validate({"persona": session.persona_id or "-", **chosen})
    fields = plan_filled.fields_of_variant(spec)
    return {name: value for name, value in fields.items() if name not in {"persona", "shown"}}


@blueprint.post("/comparisons/new", endpoint="edit")
def edit() -> ResponseReturnValue:
    """The plan after one of its buttons: something added, removed, moved, or read from a file."""
    form, action = plan_form.read_form(submitted()), request.form.get("do", "")
    try:
        if action == "read-inputs":
            return _plan_page(_with_rows(form), focus="rows-read")
        if action == "read-plan":
            return _plan_page(_read_plan(), focus="question")
    except FaultyFormError as error:
        return _faulty_page(form, error)
    edited, focus = plan_form.edit(form, action)
    return _plan_page(edited, focus=focus)


def _with_rows(form: PlanForm) -> PlanForm:
    """The form with the inputs of the file that was chosen. Raises FaultyFormError."""
    content, name = _upload("inputs-file")
    try:
        read = parse_inputs(content, file=name)
    except InputError as error:
        raise FaultyFormError({"inputs-file": error}) from None
    placed = [{**row.data, plan_form.PLACE: f"{row.file}:{row.line}"} for row in read]
    text = json.dumps([*_rows(form), *placed], ensure_ascii=False)
    try:
        return _carried(replace(form, fields={**form.fields, "rows": text}))
    except InputError as error:
        raise FaultyFormError({"inputs-file": error}) from None


def _read_plan() -> PlanForm:
    """The form as a comparison file fills it in. Raises FaultyFormError."""
    content, name = _upload("plan-file")
    try:
        return _carried(plan_filled.form_of_spec(parse_comparison(content, file=name).spec))
    except InputError as error:
        raise FaultyFormError({"plan-file": error}) from None


def _upload(name: str) -> tuple[bytes, str]:
    """The content of a file that was sent, and its name. Raises FaultyFormError."""
    storage = request.files.get(name)
    if storage is None or not storage.filename:
        raise FaultyFormError({name: InputError("Choose a file first.")})
    with storage.stream:
        return storage.read(), storage.filename


@blueprint.get("/comparisons/file")
@blueprint.get("/comparisons/preview")
def return_to_form() -> BaseResponse:
    """Where a reload or a change of language after a preview ends up."""
    return redirect(url_for("comparisons.new"), 303)


@blueprint.post("/comparisons/preview")
def preview() -> ResponseReturnValue:
    """What the plan would take and send: as a piece of a page for JSON, otherwise as the whole page."""
    form = plan_form.read_form(submitted())
    shown, fault = _preview(form)
    if request.is_json:
        return render_template("plan_fragment.html", shown=shown, fault=fault)
    return _plan_page(form, errors=fault.errors if fault else {}, focus="consequence")


@blueprint.post("/comparisons/file", endpoint="download")
def download() -> ResponseReturnValue:
    """The plan as a comparison file. What a persona will have been asked by then, the file may wait for."""
    form = plan_form.read_form(submitted())
    try:
        plan_draft.plan_of(form)
    except FaultyFormError as error:
        if not all(isinstance(each, NothingSaidYetError) for each in error.errors.values()):
            return _faulty_page(form, error)
    spec = parse_spec(plan_draft.draft_of(form).data)
    text = dump_yaml(spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True))
    response = Response(text, mimetype="application/yaml")
    name = f"rolebook-comparison-{now()[:10]}.yaml"
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    return response


@blueprint.post("/comparisons")
def create() -> ResponseReturnValue:
    """Begin the comparison, and go to where its answers arrive. A form that is sent twice begins one."""
    fields, compare = submitted(), rolebook().compare
    form = plan_form.read_form(fields)
    try:
        plan = plan_draft.plan_of(form)
    except FaultyFormError as error:
        return _faulty_page(form, error)
    begun = _ids([form.get("begun")])
    if begun:
        # What was changed meanwhile, on a page that somebody has gone back to or in a role, is another comparison.
        planned = comparison_data(replace(plan.comparison, id="", created_at=""))
        own_id = id_for(begun[0], json.dumps([sorted(fields.items()), planned]))
        plan = replace(plan, comparison=replace(plan.comparison, id=own_id))
    comparison_id = plan.comparison.id
    # The same form was sent before, with a second click perhaps.
    with suppress(ConflictError):
        comparison = compare.create(plan)
        compare.start(comparison, is_reusing=bool(form.get("reusing")))
    return redirect(url_for("grid.show", comparison_id=comparison_id), 303)


@frozen
class VariantCard:
    """A variant as the page shows it: its fields, and the persona that they are about, if one is chosen."""

    number: int
    fields: Fields
    persona: Persona | None
    variables: Sequence[VariableField]
    sampling: Sequence[SamplingField]
    revisions: Mapping[str, str]
    own_text: str
    is_open: bool

    @property
    def prefix(self) -> str:
        """What the names of its fields begin with."""
        return f"variant-{self.number}-"

    @property
    def is_described(self) -> bool:
        """Whether its role is described here and has no file."""
        return self.fields.get("persona") == plan_form.DESCRIBED

    @property
    def summary(self) -> str:
        """What is chosen over what its persona says, in short."""
        given = self.fields
        parts = [given.get(name, "") for name in ("name", "model", "upstream", "template")]
        parts.append(f"@{given['revision'][:8]}" if given.get("revision") else "")
        for name in (*fields_under(VARIABLE, given), *fields_under(SAMPLING, given)):
            value = given.get(VARIABLE + name) or given.get(SAMPLING + name)
            parts.append(f"{name} {value[:24]}" if value else "")
        parts.append(_("another wording") if self._is_reworded else "")
        parts += [" ".join(given.get(name, "").split())[:40] for name in ("more", "changes")]
        return " · ".join(part for part in parts if part.strip())

    @property
    def _is_reworded(self) -> bool:
        return bool(self.persona and plan_form.new_wording(self.fields))

    @property
    def hue(self) -> str:
        return hue(self.fields["persona"]) if self.persona else ""

    @property
    def system(self) -> str:
        """What stands in the field of its wording."""
        return self.fields.get("system") or self.own_text

    @property
    def unknown_variables(self) -> list[str]:
        """Variables that were filled in elsewhere and that its persona does not have."""
        known = self.persona.variables if self.persona else {}
        given = fields_under(VARIABLE, self.fields)
        return [name for name, value in given.items() if name not in known and value]


def _card(number: int, given: Fields, *, errors: Iterable[str], focus: str) -> VariantCard:
    prefix = f"variant-{number}-"
    inside = [name for name in errors if name.startswith(prefix)]
    resolved = plan_form.resolved_of(given)
    persona = resolved.persona if resolved else None
    return VariantCard(
        number,
        fields=given,
        persona=persona,
        variables=variable_fields(persona, given) if persona else (),
        sampling=sampling_fields(persona or _described(given), given),
        revisions=_revisions(given["persona"]) if persona else {},
        own_text=persona.system if persona else "",
        is_open=inside not in ([], [f"{prefix}persona"])
        or (focus == f"{prefix}persona" and plan_form.is_different(given)),
    )


def _described(given: Fields) -> Persona:
    """A role that is described in a variant's fields, as far as it says anything of its own."""
    return described(given.get("system", ""), {}).persona


def _revisions(persona_id: str) -> Mapping[str, str]:
    """The ids of a persona's revisions besides that of today, with the time when each was first used."""
    book = rolebook()
    today = plan_form.resolved_of({"persona": persona_id})
    times = book.comparisons.revision_times(persona_id)
    newest = sorted(times, key=times.__getitem__, reverse=True)[:_REVISIONS_OFFERED]
    return {id: times[id] for id in newest if today is None or id != today.revision.id}


def _preview(form: PlanForm) -> tuple[PlanPreview | None, FaultyFormError | None]:
    """What the plan comes to, or why it comes to nothing."""
    is_sketch = not plan_form.says_something(form)
    try:
        plan = plan_draft.plan_of(form, stand_in=_("What you write comes here."))
        cell = [form.get(f"cell-{part}") for part in ("variant", "input")]
        variant, entry = (int(text) if text.isdecimal() and len(text) < 6 else 0 for text in cell)
        chosen = {"is_sketch": is_sketch, "is_reusing": bool(form.get("reusing"))}
        return preview_of(plan, variant=variant, entry=entry, **chosen), None
    except FaultyFormError as error:
        return None, error
    except InputError as error:
        return None, FaultyFormError({"": error})


def _faulty_page(form: PlanForm, fault: FaultyFormError) -> tuple[str, int]:
    """The page again, with what is wrong at its fields."""
    first = next(iter(fault.errors.values()))
    return _plan_page(form, errors=fault.errors, focus=next(iter(fault.errors))), status_of(first)


def _plan_page(
    form: PlanForm, *, errors: Mapping[str, RolebookError] | None = None, focus: str = ""
) -> str:
    """The page of a plan.

    Arguments:
        errors: what is wrong, by the names of fields.
        focus: the field to go on with.
    """
    book = rolebook()
    shown, fault = _preview(form)
    return render_template(
        "comparison_new.html",
        form=form,
        begun=next(iter(_ids([form.get("begun")])), "") or new_id(),
        cards=[
            _card(number, given, errors=errors or (), focus=focus)
            for number, given in enumerate(form.variants)
        ],
        rows=_rows(form),
        sessions=_titles(form.sessions),
        shown=shown,
        fault=fault,
        errors={name: describe(error) for name, error in (errors or {}).items()},
        focus=focus,
        personas=_choices(book.library.entries()),
        templates=sorted(book.library.templates()),
        upstreams=book.upstreams.names,
        models=[facet.value for facet in book.log.facets().models if facet.value],
        check_kinds=plan_form.CHECK_KINDS,
        most_variants=plan_form.MOST_VARIANTS,
        input_suffixes=",".join(INPUT_SUFFIXES),
    )


def _choices(entries: Iterable[PersonaEntry]) -> list[Persona]:
    found = [entry.resolved.persona for entry in entries if entry.resolved]
    return sorted(found, key=lambda persona: persona.name.casefold())


def _rows(form: PlanForm) -> list[dict[str, object]]:
    try:
        return form.rows
    except FieldError:
        return []


def _titles(ids: Iterable[str]) -> dict[str, str]:
    """What sessions are called, or how they begin; unknown ones by their id."""
    log, titles = rolebook().log, {}
    for session_id in ids:
        try:
            session = log.get_session(session_id)
            turns = () if session.title else log.history(session_id)
            titles[session_id] = session.title or (turns[0].input if turns else session_id)
        except NotFoundError:
            titles[session_id] = session_id
    return titles
