"""Reads what :mod:`rolebook.report.export` has written, so that a comparison can be done again from its file."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from rolebook.core.comparison import Comparison, ComparisonInput
from rolebook.core.comparison_data import parse_comparison
from rolebook.core.errors import FileError, InputError, NotFoundError, Problem
from rolebook.core.fault import FaultyDataError, describe_path
from rolebook.core.frozen import frozen
from rolebook.core.persona import persona_of_revision
from rolebook.core.planning import Plan
from rolebook.core.session import Revision
from rolebook.report.book import Book
from rolebook.report.html_export import PLAN_IN_HTML
from rolebook.report.markdown_export import PLAN_IN_MARKDOWN
from rolebook.report.snapshot import FORMAT_VERSION, KIND

if TYPE_CHECKING:
    from rolebook.storage.comparison_log import SqliteComparisonLog
    from rolebook.storage.log import SqliteLog

_CSV_BEGIN = re.compile(r'"?comparison_id"?(?P<delimiter>[,;\t])')
#: After so many mistakes the rest is not worth reading.
_MOST_FAULTS = 100


@frozen
class ExportedPlan:
    """A comparison as it was exported, with the revisions of its variants and of its judge.

    ``histories`` is what had been said before inputs that follow a turn of the log, each an input and its answer, by
    the id of that turn.
    """

    comparison: Comparison
    revisions: tuple[Revision, ...]
    histories: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


class _Head(BaseModel):
    kind: str = ""
    format: int
    version: str = ""


class _Said(BaseModel):
    input: str
    text: str


class _History(BaseModel):
    turns: dict[str, _Said] = Field(default_factory=dict)
    before: dict[str, list[str]] = Field(default_factory=dict)

    @property
    def texts(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """What was said up to each turn that an input follows; what is not all there is left out."""
        return {
            last: tuple((self.turns[id].input, self.turns[id].text) for id in ids)
            for last, ids in self.before.items()
            if all(id in self.turns for id in ids)
        }


class _Document(BaseModel):
    rolebook: _Head
    revisions: tuple[Revision, ...] = Field(min_length=1)
    history: _History = Field(default_factory=_History)


@frozen
class Repetition:
    """A comparison that is planned once more. ``unrecorded`` counts the inputs whose recorded answers stay behind."""

    plan: Plan
    unrecorded: int = 0


def plan_export(book: Book, path: Path) -> Repetition:
    """Plan once more the comparison that a file holds. Calls nobody and writes nothing.

    Inputs that follow turns of another log get what was said there as texts; recorded answers stay behind. A CSV file
    whose plan somebody has taken out still names its comparison, if that is in this log. Raises InputError.
    """
    text = _read(path)
    row = _row_of_csv(text)
    if row is not None and not row.get("plan"):
        if not row.get("comparison_id"):
            raise _foreign(path)
        known = _look_up(book.comparisons, row["comparison_id"], path)
        return Repetition(book.compare.plan_again(known))
    given = _parse(text, path)
    comparison = _at_home(given, book.log, path)
    lost = _recorded(given.comparison) - _recorded(comparison)
    return Repetition(book.compare.plan_again(comparison, given.revisions), lost)


def _recorded(comparison: Comparison) -> int:
    """The inputs whose recorded answers take part."""
    takes_part = any(variant.is_recorded for variant in comparison.variants)
    return takes_part * sum(bool(entry.recorded) for entry in comparison.inputs)


def read_export(path: Path) -> ExportedPlan:
    """The plan in a comparison that was exported, in whatever format.

    Raises InputError for any other file, a newer format, and a revision whose text is not what its id stands for;
    FileError with all that is wrong in a plan that somebody has changed.
    """
    return _parse(_read(path), path)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            "%(path)s cannot be read: %(reason)s.", path=path, reason=error.strerror
        ) from None
    except UnicodeDecodeError:
        raise _foreign(path) from None


def _foreign(path: Path) -> InputError:
    return InputError(
        "%(path)s is no comparison that Rolebook has exported, or it is damaged. Export it again: "
        "rolebook comparisons export ID --format json",
        path=path,
    )


def _parse(text: str, path: Path) -> ExportedPlan:
    data = _data_in(text, path)
    _require_format(data, path)
    try:
        document = _Document.model_validate(data)
    except ValidationError:
        raise _foreign(path) from None
    comparison = _comparison_in(data, path)
    plan = ExportedPlan(comparison, document.revisions, document.history.texts)
    _require_unchanged(plan, path)
    return plan


def _data_in(text: str, path: Path) -> Mapping[str, Any]:
    """The object that holds the plan, wherever in a file it stands."""
    found = [text]
    row = _row_of_csv(text)
    if row is not None:
        found = [row.get("plan") or ""]
    elif text.startswith("<"):
        found = [html.unescape(plan) for plan in PLAN_IN_HTML.findall(text)]
    elif not text.startswith("{"):
        found = PLAN_IN_MARKDOWN.findall(text)
    if not found:
        raise _foreign(path)
    try:
        # JSON Lines begin with an object like JSON; Markdown may have shown a plan within an answer, ours is the last.
        data, _ = json.JSONDecoder().raw_decode(found[-1])
    except (ValueError, RecursionError):
        raise _foreign(path) from None
    if not isinstance(data, Mapping):
        raise _foreign(path)
    return data


def _require_format(data: Mapping[str, Any], path: Path) -> None:
    """Before anything else is looked at: what a newer format means, only a newer Rolebook knows."""
    try:
        head = _Head.model_validate(data.get("rolebook"))
    except ValidationError:
        raise _foreign(path) from None
    if head.kind != KIND:
        raise _foreign(path)
    if head.format > FORMAT_VERSION:
        raise InputError(
            "%(path)s was exported by a newer Rolebook (%(version)s). Update Rolebook to use it.",
            path=path,
            version=head.version[:40] or "?",
        )


def _comparison_in(data: Mapping[str, Any], path: Path) -> Comparison:
    if not isinstance(data.get("comparison"), Mapping):
        raise _foreign(path)
    try:
        return parse_comparison(data["comparison"])
    except FaultyDataError as error:
        raise FileError(
            [
                Problem(
                    *(str(path), 0, 0, fault.message),
                    {**fault.parameters, "key": describe_path(("comparison", *fault.path))},
                )
                for fault in error.faults[:_MOST_FAULTS]
            ]
        ) from None


def _require_unchanged(plan: ExportedPlan, path: Path) -> None:
    """Raises InputError unless each revision is there, and is what its id says: the hash of its content."""
    for revision in plan.revisions:
        try:
            actual = persona_of_revision(revision).revision.id
        except FaultyDataError:
            actual = ""
        if actual != revision.id:
            raise InputError(
                "%(path)s was changed after it was exported: revision %(revision)s of '%(persona)s' is not what its id "
                "stands for. Use the file as it was, or put the new wording into a persona file of its own.",
                path=path,
                revision=revision.id[:80],
                persona=revision.persona_id[:80],
            )
    known = {revision.id for revision in plan.revisions}
    judge = plan.comparison.judge
    needed = {id for variant in plan.comparison.variants for id in variant.revisions}
    if not needed | ({judge.revision} if judge else set()) <= known:
        raise _foreign(path)


def _row_of_csv(text: str) -> Mapping[str, str] | None:
    """The row of a CSV file that holds the plan, wherever rows were sorted to; the first one if none does.

    Spreadsheets of other languages write semicolons. ``None`` if it is no such file.
    """
    begin = _CSV_BEGIN.match(text)
    if begin is None:
        return None
    usual = csv.field_size_limit(len(text) + 1)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=begin["delimiter"]))
    except csv.Error:
        return {"comparison_id": ""}
    finally:
        csv.field_size_limit(usual)
    planned = (row for row in rows if row.get("plan"))
    return next(planned, rows[0] if rows else {"comparison_id": ""})


def _look_up(comparisons: SqliteComparisonLog, comparison_id: str, path: Path) -> Comparison:
    try:
        return comparisons.get_comparison(comparison_id)
    except NotFoundError:
        raise InputError(
            "%(path)s has lost its plan, and this log has no comparison %(id)s. Export it again where it was made.",
            path=path,
            id=comparison_id[:80],
        ) from None


def _at_home(plan: ExportedPlan, log: SqliteLog, path: Path) -> Comparison:
    """The comparison with what this log lacks of others taken along as text."""
    inputs = tuple(_input_at_home(entry, plan, log, path) for entry in plan.comparison.inputs)
    has_recorded = any(entry.recorded for entry in inputs)
    variants = tuple(
        variant for variant in plan.comparison.variants if has_recorded or not variant.is_recorded
    )
    if not variants:
        raise _foreign(path)
    return replace(plan.comparison, inputs=inputs, variants=variants)


def _input_at_home(
    entry: ComparisonInput, plan: ExportedPlan, log: SqliteLog, path: Path
) -> ComparisonInput:
    needed = [id for id in (entry.follows, *entry.recorded) if id]
    if all(_has_turn(log, id) for id in needed):
        return entry
    if entry.follows and entry.follows not in plan.histories:
        raise InputError(
            "%(path)s goes on from sessions that are not in this log. Do it again with the log that it was made "
            "with (ROLEBOOK_DATABASE).",
            path=path,
        )
    earlier = plan.histories.get(entry.follows, entry.earlier)
    return replace(entry, follows="", earlier=earlier, source="", recorded=())


def _has_turn(log: SqliteLog, turn_id: str) -> bool:
    try:
        log.get_turn(turn_id)
    except NotFoundError:
        return False
    return True
