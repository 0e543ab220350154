"""Sessions as text to take away: JSON and JSON Lines exactly, Markdown to read, CSV for spreadsheets.

Whatever the format, a piece of text can be encoded as UTF-8, and no database transaction stays open between two pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol

from rolebook import __version__
from rolebook.core.check import CheckResult
from rolebook.core.errors import InputError, Phrase
from rolebook.core.frozen import frozen
from rolebook.core.session import Revision, Session, Turn, TurnError, TurnMark, now
from rolebook.storage.csv_text import CSV_BEGIN, csv_line, json_cell
from rolebook.storage.encoding import encode_json, encode_some, show_text

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
    "upstream_requested",
    "model_requested",
    "model",
    "parameters_sent",
    "input",
    "text",
    "refusal",
    "tool_calls",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "time_to_first_token_ms",
    "duration_ms",
    "error",
    "is_starred",
    "thumb",
    "note",
    "rolebook_version",
)


class Source(Protocol):
    """What an export reads from."""

    def get_session(self, session_id: str) -> Session: ...

    def get_revision(self, revision_id: str) -> Revision: ...

    def get_turn(self, turn_id: str) -> Turn: ...

    def session_turns(self, session_id: str) -> Sequence[Turn]: ...

    def marks_of(self, turn_ids: Iterable[str]) -> Mapping[str, TurnMark]: ...

    def results_of_turns(
        self, turn_ids: Iterable[str]
    ) -> Mapping[str, tuple[CheckResult, ...]]: ...


@frozen
class _Logged:
    """A whole turn with what people have noted on it and what checks have found."""

    turn: Turn
    mark: TurnMark | None
    results: tuple[CheckResult, ...]

    @property
    def data(self) -> dict[str, Any]:
        return turn_data(self.turn, self.mark, self.results)


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


#: What is set aside for a turn is the business of budgets while it runs.
_TURN_NAMES = tuple(field.name for field in fields(Turn) if field.compare)


def turn_data(
    turn: Turn, mark: TurnMark | None = None, results: Sequence[CheckResult] = ()
) -> dict[str, Any]:
    """All that the log knows of a turn, by the names of :class:`Turn` and of the log's columns, as JSON can hold it.

    Arguments:
        mark: what is noted on it.
        results: what checks found on it.
    """
    return {name: getattr(turn, name) for name in _TURN_NAMES} | {
        "status": turn.status.value,
        "messages": [message.as_dict() for message in turn.messages],
        "adaptations": [_readable(adaptation) for adaptation in turn.adaptations],
        "choices": [_plain(choice) for choice in turn.choices],
        "usage": (usage := _plain(turn.usage)),
        **usage,
        "text": turn.text,
        "finish_reason": turn.choice.finish_reason,
        "error": {"code": turn.error.code, **_readable(turn.error)} if turn.error else None,
        "mark": mark_data(mark) if mark else None,
        "checks": [_plain(result) | {"said": _readable(result.said)} for result in results],
    }


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a flat dataclass; ``asdict`` copies what is in them, which takes ten times as long."""
    return {name: getattr(value, name) for name in value.__slots__}


def mark_data(mark: TurnMark) -> dict[str, Any]:
    """What is noted on a turn, by the names of :class:`TurnMark`."""
    return {name: value for name, value in asdict(mark).items() if name != "turn_id"}


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
        for j, logged in enumerate(_turns(source, session)):
            revision = logged.turn.revision
            revisions.setdefault(revision, source.get_revision(revision))
            yield f"{',' if j else ''}\n{encode_json(logged.data)}"
        yield f'\n],\n"revisions": {encode_json([asdict(revision) for revision in revisions.values()])}}}'
    yield "\n]}\n"


def _export_jsonl(source: Source, ids: Iterable[str]) -> Iterator[str]:
    """One turn a line. A revision is written whole on the first line that uses it."""
    revisions: dict[str, Revision] = {}
    for session_id in ids:
        session = source.get_session(session_id)
        for logged in _turns(source, session):
            used = logged.turn.revision
            is_new = used not in revisions
            revision = revisions.setdefault(used, source.get_revision(used))
            line = {
                "rolebook": {"format": FORMAT_VERSION, "version": __version__},
                "session": asdict(session),
                "persona": {"id": revision.persona_id, "name": persona_name(revision)},
                "turn": logged.data,
            }
            yield encode_json(line | ({"revision": asdict(revision)} if is_new else {})) + "\n"


def _export_markdown(source: Source, ids: Iterable[str]) -> Iterator[str]:
    for i, session_id in enumerate(ids):
        session = source.get_session(session_id)
        yield show_text(
            ("\n---\n\n" if i else "")
            + _markdown_head(session, source.get_revision(session.revision))
        )
        for logged in _turns(source, session):
            yield show_text(_markdown_turn(logged))


def _markdown_head(session: Session, revision: Revision) -> str:
    facts = {
        "Persona": f"{persona_name(revision)} ({session.persona_id})"
        if session.persona_id
        else persona_name(revision),
        "Revision": session.revision,
        "Session": session.id,
        "Begun": session.created_at,
        "Tags": ", ".join(session.tags),
        "Variables": encode_json(session.variables) if session.variables else "",
        "Exported": f"{now()} by Rolebook {__version__}",
    }
    return f"# {_one_line(session.title) or session.id}\n\n" + _markdown_list(facts)


def _markdown_turn(logged: _Logged) -> str:
    turn = logged.turn
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
        "Checks": "; ".join(_markdown_check(result) for result in logged.results),
        "Mark": _markdown_mark(logged.mark) if logged.mark else "",
        "Date": turn.created_at,
    }
    question = "\n".join(f"> {line}".rstrip() for line in turn.input.split("\n"))
    return (
        f"\n## {turn.position}{attempt}{counting}\n\n{question}\n\n{_markdown_answer(turn)}\n\n"
        + _markdown_list(facts)
    )


def _markdown_answer(turn: Turn) -> str:
    """The text of the answer that counts, and whatever it is besides or instead."""
    answer = turn.choice
    parts = [turn.text] if turn.text or not (answer.refusal or answer.tool_calls) else []
    if answer.refusal:
        parts.append(f"The model refuses:\n\n{answer.refusal}")
    # JSON has no line breaks of its own, so that nothing in it ends the indented block.
    parts += [f"It asks for a tool:\n\n    {encode_json(call)}" for call in answer.tool_calls]
    return "\n\n".join(parts)


def _markdown_check(result: CheckResult) -> str:
    verdict = {True: "passed", False: "failed", None: "could not be told"}[result.has_passed]
    return f"{result.label}: {verdict}" + ("" if result.has_passed else f" ({result.said})")


def _markdown_mark(mark: TurnMark) -> str:
    signs = ("★" if mark.is_starred else "", {1: "👍", 0: "", -1: "👎"}[mark.thumb], mark.note)
    return " ".join(sign for sign in signs if sign)


def _markdown_list(facts: Mapping[str, str]) -> str:
    return "".join(f"- {name}: {_one_line(value)}\n" for name, value in facts.items() if value)


def _export_csv(source: Source, ids: Iterable[str]) -> Iterator[str]:
    yield CSV_BEGIN + csv_line(_CSV_COLUMNS)
    for session_id in ids:
        session = source.get_session(session_id)
        for logged in _turns(source, session):
            row = _csv_row(session, logged, source.get_revision(logged.turn.revision))
            yield csv_line(row[column] for column in _CSV_COLUMNS)


def _csv_row(session: Session, logged: _Logged, revision: Revision) -> dict[str, Any]:
    turn = logged.turn
    return {
        **logged.data,
        **mark_data(logged.mark or TurnMark(turn.id)),
        "session_id": session.id,
        "session_title": session.title,
        "turn_id": turn.id,
        "is_inherited": turn.session_id != session.id,
        "persona_id": revision.persona_id,
        "persona_name": persona_name(revision),
        "parameters_sent": json_cell(encode_json(turn.parameters_sent)),
        "refusal": turn.choice.refusal,
        "tool_calls": json_cell(encode_some(turn.choice.tool_calls) or ""),
        "error": turn.error.text if turn.error else "",
        "rolebook_version": __version__,
    }


def _turns(source: Source, session: Session) -> Iterator[_Logged]:
    """Whole turns, read one by one, so that the longest session neither fills the memory nor holds up the log."""
    ids = [turn.id for turn in source.session_turns(session.id)]
    marks, results = source.marks_of(ids), source.results_of_turns(ids)
    for turn_id in ids:
        yield _Logged(source.get_turn(turn_id), marks.get(turn_id), results.get(turn_id, ()))


def persona_name(revision: Revision) -> str:
    """What a persona was called at a revision; its id where it had no name."""
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
