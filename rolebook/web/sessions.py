"""Sessions: beginning one, its page, what people note on it, and the list of all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from werkzeug.wrappers import Response

from rolebook.core.errors import InputError, RolebookError, StorageError
from rolebook.core.frozen import frozen
from rolebook.core.session import TurnStatus
from rolebook.core.source import Author, FileKey
from rolebook.report.markdown import render_markdown
from rolebook.report.visible import visible
from rolebook.storage.export import EXPORT_FORMATS
from rolebook.storage.query import Facets, SessionFilter, SessionSummary
from rolebook.storage.search import Excerpt, Term, excerpts_of, parse_query
from rolebook.web import personas, turns
from rolebook.web.current import rolebook
from rolebook.web.dialogue import differences, error_of, open_dialogue, render_session
from rolebook.web.errors import wants_json
from rolebook.web.security import local_path
from rolebook.web.submission import start_of, submitted

blueprint = Blueprint("sessions", __name__)

_PAGE = 40
_LONGEST_TITLE = 200
_MOST_TAGS = 20
#: A session that is found is shown with the first places that match; more of them are on its page.
_PAGE_OF_FOUND = 20
_PLACES_SHOWN = 2
_TURNS_LOOKED_THROUGH = 50

blueprint.add_app_template_filter(render_markdown, "markdown")
blueprint.add_app_template_filter(visible)
blueprint.add_app_template_filter(differences)
blueprint.add_app_template_filter(error_of)


@blueprint.post("/sessions")
def start() -> ResponseReturnValue:
    """Begin a session. Scripts get its address; for people, what was said first is answered before they see it."""
    fields = submitted()
    book = rolebook()
    try:
        begun = start_of(fields)
        session = book.chat.start_session(begun.session, system=begun.system)
    except InputError as error:
        if wants_json():
            raise
        if fields.get("persona"):
            return personas.show_form(fields["persona"], fields, error)
        return personas.show_gallery(fields, error)
    url = url_for("sessions.show", session_id=session.id)
    if wants_json():
        return {"url": url}, 201
    if begun.input.strip():
        try:
            turns.run(turns.begin(session.id, {"input": begun.input}))
        except InputError as error:
            return render_session(session.id, error=error, fields=fields)
    return redirect(url, 303)


@blueprint.get("/sessions/<session_id>")
def show(session_id: str) -> ResponseReturnValue:
    """The page of a session."""
    return render_session(session_id)


@blueprint.post("/sessions/<session_id>/title")
def rename(session_id: str) -> Response:
    """Give it another title; an empty one takes it away."""
    rolebook().log.rename(session_id, title_of(submitted().get("title", "")))
    return _back_to(session_id)


def title_of(given: str) -> str:
    """A title as it is kept: in one line, and not too long."""
    return " ".join(given.split())[:_LONGEST_TITLE]


@blueprint.post("/sessions/<session_id>/star")
def star(session_id: str) -> Response:
    """Mark it, or with ``starred`` empty take the mark away."""
    rolebook().log.star(session_id, bool(submitted().get("starred")))
    return _back_to(session_id)


@blueprint.post("/sessions/<session_id>/tags")
def tag(session_id: str) -> Response:
    """Replace its tags by those between commas."""
    given = submitted().get("tags", "").replace("，", ",").replace("、", ",").split(",")
    rolebook().log.tag(session_id, tags_of(given))
    return _back_to(session_id)


def tags_of(given: Iterable[str]) -> Sequence[str]:
    """Tags as they are kept: each once and in one line, and not too many."""
    tags = dict.fromkeys(" ".join(tag.split())[:60] for tag in given)
    return list(tags)[:_MOST_TAGS]


def _back_to(session_id: str) -> Response:
    return redirect(url_for("sessions.show", session_id=session_id), 303)


@blueprint.post("/sessions/<session_id>/persona")
def save_persona(session_id: str) -> ResponseReturnValue:
    """Save the role of a session as a persona, with an ``id`` and a ``name``."""
    fields = submitted()
    name = " ".join(fields.get("name", "").split())
    try:
        if not name:
            raise InputError("Give the persona a name.", key="name")
        data = open_dialogue(session_id).persona.as_data()
        key = FileKey("persona", fields.get("id", "").strip())
        rolebook().edits.create(key, {**data, "name": name}, author=Author("browser"))
    except RolebookError as error:
        if wants_json():
            raise
        return render_session(session_id, error=error, fields=fields)
    return redirect(url_for("personas.show", persona_id=fields["id"].strip()), 303)


@blueprint.get("/sessions/<session_id>/turns")
@blueprint.get("/sessions/<session_id>/persona")
def return_to_session(session_id: str) -> Response:
    """Where a reload or a change of language ends up after something that was sent here could not be used."""
    return _back_to(session_id)


@frozen
class Row:
    """A session in the list, with the places where it matches what was searched for."""

    summary: SessionSummary
    excerpts: tuple[Excerpt, ...] = ()


@frozen
class Listing:
    """The page of sessions. ``chosen`` are the filters as the address has them, without the page."""

    rows: tuple[Row, ...]
    cursor: str
    wanted: SessionFilter
    chosen: Mapping[str, str]
    facets: Facets
    is_first: bool

    @property
    def is_filtered(self) -> bool:
        """Whether some sessions are left out."""
        return self.wanted != SessionFilter(is_deleted=self.wanted.is_deleted)


#: The names of the filters in an address.
_FILTERS = {
    "q": "search",
    "persona": "persona_id",
    "revision": "revision",
    "model": "model",
    "tag": "tag",
    "status": "status",
    "mark": "mark",
    "via": "via",
    "since": "since",
    "until": "until",
    "starred": "is_starred",
    "trash": "is_deleted",
}


@blueprint.get("/sessions", endpoint="list")
def list_sessions() -> str:
    """All sessions that the filters let through, the last used first."""
    log = rolebook().log
    wanted = filter_of(request.args)
    before = request.args.get("before", "")
    limit = _PAGE_OF_FOUND if wanted.search else _PAGE
    page = log.list_sessions(wanted, limit=limit, before=before)
    listing = Listing(
        rows=tuple(_rows(page.summaries, wanted.search)),
        cursor=page.cursor,
        wanted=wanted,
        chosen=chosen_filters(request.args),
        facets=log.facets(),
        is_first=not before,
    )
    return render_template(
        "sessions.html",
        listing=listing,
        formats=EXPORT_FORMATS,
        statuses=[status.value for status in TurnStatus],
        moved=_ids(request.args.get("deleted", "").split(",")),
    )


def chosen_filters(given: Mapping[str, str]) -> dict[str, str]:
    """The filters among the fields of an address that are set."""
    return {name: given[name].strip() for name in _FILTERS if given.get(name, "").strip()}


def filter_of(given: Mapping[str, str]) -> SessionFilter:
    """The filter that the fields of an address describe."""
    chosen = chosen_filters(given)
    texts = {_FILTERS[name]: chosen.get(name, "") for name in list(_FILTERS)[:-2]}
    return SessionFilter(**texts, is_starred="starred" in chosen, is_deleted="trash" in chosen)


def _rows(summaries: Iterable[SessionSummary], query: str) -> Iterator[Row]:
    terms = parse_query(query)
    for summary in summaries:
        places = places_in(summary.session.id, terms) if terms else iter(())
        yield Row(summary, tuple(islice(places, _PLACES_SHOWN)))


def places_in(session_id: str, terms: Sequence[Term]) -> Iterator[Excerpt]:
    """Where a session matches, as far as it is looked through; nowhere, where it cannot be read."""
    try:
        turns = rolebook().log.session_turns(session_id)[:_TURNS_LOOKED_THROUGH]
    except StorageError:
        return
    for turn in turns:
        yield from excerpts_of("input", turn.input, terms)
        yield from excerpts_of("text", turn.text, terms)


@blueprint.app_template_filter()
def marked(excerpt: Excerpt) -> Markup:
    """The lines of an excerpt with what was searched for marked."""
    pieces: list[Markup] = []
    end = 0
    for start, stop in excerpt.marks:
        pieces.append(Markup("{}<mark>{}</mark>").format(*_pieces(excerpt.text, end, start, stop)))
        end = stop
    lines = Markup("").join([*pieces, Markup.escape(visible(excerpt.text[end:]))])
    return Markup(re.sub(r"\n\s*\n", "\n", ("…\n" if excerpt.line > 1 else "") + lines.strip()))


def _pieces(text: str, *cuts: int) -> list[str]:
    return [visible(text[start:stop]) for start, stop in pairwise(cuts)]


@blueprint.post("/sessions/delete")
def delete() -> Response:
    """Move sessions to the trash, and offer to take them out again."""
    ids = _ids(request.form.getlist("id"))
    rolebook().log.delete(ids)
    parts = urlsplit(local_path(request.form.get("next", "") or url_for("sessions.list")))
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "deleted"]
    query += [("deleted", ",".join(ids))] if ids else []
    return redirect(parts._replace(query=urlencode(query)).geturl(), 303)


@blueprint.post("/sessions/restore")
def restore() -> Response:
    """Take sessions out of the trash."""
    rolebook().log.restore(_ids(request.form.getlist("id")))
    return redirect(local_path(request.form.get("next", "") or url_for("sessions.list")), 303)


def _ids(given: Iterable[str]) -> list[str]:
    """What can be ids, each once."""
    return [text for text in dict.fromkeys(given) if re.fullmatch("[0-9a-z]{18}", text)]
