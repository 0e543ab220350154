"""Sessions as text to take away: JSON and JSON Lines exactly, Markdown to read, CSV for spreadsheets.

Whatever the format, a piece of text can be encoded as UTF-8, and no database transaction stays open between two pieces.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol

from rolebook import __version__
from rolebook.core.errors import InputError, Phrase
from rolebook.core.session import Revision, Session, Turn, TurnError, now
from rolebook.storage.encoding import encode_json, show_text

#: Counts changes of the JSON formats that an importer must know of.
FORMAT_VERSION = 1

_CSV_COLUMNS = (
    "session_id",
    "session_title",
    "turn_id",
    "position",
    "attempt",
    "is_current",
    "is_inherited",
    "status",
    "created_at",
    "persona_id",
    "persona_name",
    "revision",
    "upstream",
    "model_requested",
    "model",
    "parameters_sent",
    "input",
    "text",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "time_to_first_token_ms",
    "duration_ms",
    "error",
    "rolebook_version",
)
# What a spreadsheet takes for the start of a formula; the wide forms are what Chinese keyboards type.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class Source(Protocol):
    """What an export reads from."""

    def get_session(self, session_id: str) -> Session: ...

    def get_revision(self, revision_id: str) -> Revision: ...

    def get_turn(self, turn_id: str) -> Turn: ...

    def session_turns(self, session_id: str) -> Sequence[Turn]: ...


def export_sessions(source: Source, ids: Iterable[str], format: str) -> Iterator[str]:
    """Sessions, one after the other, in one of EXPORT_FORMATS. Raises InputError for another format, at once."""
    exporter = _EXPORTERS.get(format)
    if exporter is None:
        raise InputError(
            "There is no export format %(format)s. Choose one of: %(formats)s.",
            format=format,
            formats=", ".join(EXPORT_FORMATS),
        )
    return exporter(source, ids)


def turn_data(turn: Turn) -> dict[str, Any]:
    """All that the log knows of a turn, by the names of :class:`Turn` and of the log's columns, as JSON can hold it."""
    data = {field.name: getattr(turn, field.name) for field in fields(turn)}
    return data | {
        "status": turn.status.value,
        "messages": [message.as_dict() for message in turn.messages],
        "adaptations": [_readable(adaptation) for adaptation in turn.adaptations],
        "choices": [asdict(choice) for choice in turn.choices],
        "usage": asdict(turn.usage),
        **asdict(turn.usage),
        "text": turn.text,
        "finish_reason": turn.choice.finish_reason,
        "error": {"code": turn.error.code, **_readable(turn.error)} if turn.error else None,
    }


def _readable(said: Phrase | TurnError) -> dict[str, Any]:
    """Words as a person reads them, and what they were made of."""
    text = said.text if isinstance(said, TurnError) else str(said)
    return {"message": text, "template": said.message, "parameters": dict(said.parameters)}


def _export_json(source: Source, ids: Iterable[str]) -> Iterator[str]:
    head = {"format": FORMAT_VERSION, "version": __version__, "exported_at": now()}
    yield f'{{"rolebook": {encode_json(head)},\n"sessions": ['
    for i, session_id in enumerate(ids):
        session = source.get_session(session_id)
        yield f'{"," if i else ""}\n{{"session": {encode_json(asdict(session))},\n"turns": ['
        revisions = {session.revision: source.get_revision(session.revision)}
        for j, turn in enumerate(_turns(source, session)):
            revisions.setdefault(turn.revision, source.get_revision(turn.revision))
            yield f"{',' if j else ''}\n{encode_json(turn_data(turn))}"
        yield f'\n],\n"revisions": {encode_json([asdict(revision) for revision in revisions.values()])}}}'
    yield "\n]}\n"


def _export_jsonl(source: Source, ids: Iterable[str]) -> Iterator[str]:
    """One turn a line. A revision is written whole on the first line that uses it."""
    revisions: dict[str, Revision] = {}
    for session_id in ids:
        session = source.get_session(session_id)
        for turn in _turns(source, session):
            is_new = turn.revision not in revisions
            revision = revisions.setdefault(turn.revision, source.get_revision(turn.revision))
            line = {
                "rolebook": {"format": FORMAT_VERSION, "version": __version__},
                "session": asdict(session),
                "persona": {"id": revision.persona_id, "name": _persona_name(revision)},
                "turn": turn_data(turn),
            }
            yield encode_json(line | ({"revision": asdict(revision)} if is_new else {})) + "\n"


def _export_markdown(source: Source, ids: Iterable[str]) -> Iterator[str]:
    for i, session_id in enumerate(ids):
        session = source.get_session(session_id)
        yield show_text(
            ("\n---\n\n" if i else "")
            + _markdown_head(session, source.get_revision(session.revision))
        )
        for turn in _turns(source, session):
            yield show_text(_markdown_turn(turn))


def _markdown_head(session: Session, revision: Revision) -> str:
    facts = {
        "Persona": f"{_persona_name(revision)} ({session.persona_id})"
        if session.persona_id
        else _persona_name(revision),
        "Revision": session.revision,
        "Session": session.id,
        "Begun": session.created_at,
        "Tags": ", ".join(session.tags),
        "Variables": encode_json(session.variables) if session.variables else "",
        "Exported": f"{now()} by Rolebook {__version__}",
    }
    return f"# {_one_line(session.title) or session.id}\n\n" + _markdown_list(facts)


def _markdown_turn(turn: Turn) -> str:
    attempt = f", attempt {turn.attempt}" if turn.attempt > 1 else ""
    counting = "" if turn.is_current else " (not the one that counts)"
    facts = {
        "Model": " → ".join(
            dict.fromkeys(name for name in (turn.model_requested, turn.model) if name)
        ),
        "Revision": turn.revision,
        "Parameters sent": encode_json(turn.parameters_sent),
        "Status": ", ".join(
            part for part in (turn.status.value, turn.choice.finish_reason) if part
        ),
        "Error": turn.error.text if turn.error else "",
        "Tokens": "" if turn.usage.total_tokens is None else str(turn.usage.total_tokens),
        "Cost": "" if turn.cost is None else f"${turn.cost:.6f}",
        "Date": turn.created_at,
    }
    question = "\n".join(f"> {line}".rstrip() for line in turn.input.split("\n"))
    return (
        f"\n## {turn.position}{attempt}{counting}\n\n{question}\n\n{turn.text}\n\n"
        + _markdown_list(facts)
    )


def _markdown_list(facts: Mapping[str, str]) -> str:
    return "".join(f"- {name}: {_one_line(value)}\n" for name, value in facts.items() if value)


def _export_csv(source: Source, ids: Iterable[str]) -> Iterator[str]:
    """As spreadsheets read it: a byte order mark, or Excel takes Chinese for Latin; CRLF; no cell that is a formula."""
    yield "\ufeff" + _csv_line(_CSV_COLUMNS)
    for session_id in ids:
        session = source.get_session(session_id)
        for turn in _turns(source, session):
            row = _csv_row(session, turn, source.get_revision(turn.revision))
            yield _csv_line([_cell(row[column]) for column in _CSV_COLUMNS])


def _csv_row(session: Session, turn: Turn, revision: Revision) -> dict[str, Any]:
    return {
        **turn_data(turn),
        "session_id": session.id,
        "session_title": session.title,
        "turn_id": turn.id,
        "is_inherited": turn.session_id != session.id,
        "persona_id": revision.persona_id,
        "persona_name": _persona_name(revision),
        "parameters_sent": encode_json(turn.parameters_sent),
        "error": turn.error.text if turn.error else "",
        "rolebook_version": __version__,
    }


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        return value
    return show_text(f"'{value}" if value.startswith(_FORMULA_STARTS) else value)


def _turns(source: Source, session: Session) -> Iterator[Turn]:
    """Whole turns, read one by one, so that the longest session neither fills the memory nor holds up the log."""
    for turn in source.session_turns(session.id):
        yield source.get_turn(turn.id)


def _persona_name(revision: Revision) -> str:
    return str(revision.resolved.get("name", "") or revision.persona_id)


def _one_line(text: str) -> str:
    return " ".join(text.split())


_EXPORTERS: dict[str, Callable[[Source, Iterable[str]], Iterator[str]]] = {
    "json": _export_json,
    "jsonl": _export_jsonl,
    "md": _export_markdown,
    "csv": _export_csv,
}
EXPORT_FORMATS = tuple(_EXPORTERS)
