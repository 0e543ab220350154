"""A comparison as text to take away: JSON and JSON Lines exactly, CSV for spreadsheets, Markdown and HTML to read.

Every format holds the whole plan, so that the comparison can be done again from it; see :mod:`rolebook.report.reading`.
That of a CSV file stands in one cell: a spreadsheet that cuts cells at 32,767 characters leaves nothing to do again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from rolebook import __version__
from rolebook.core.comparison import Ballot, Cell, CellKey, Comparison
from rolebook.core.errors import InputError
from rolebook.core.interval import Difference, Interval
from rolebook.core.measure import Evidence
from rolebook.core.preference import Outcome, Preference, Vote, preference, preference_by, side_bias
from rolebook.core.session import Turn, TurnMark
from rolebook.core.text import count_characters, count_questions, count_words
from rolebook.core.voting import vote_rows, votes_of
from rolebook.language.translator import Translator
from rolebook.language.translator import translator as translator_of
from rolebook.report.book import Book
from rolebook.report.snapshot import FORMAT_VERSION, Snapshot, take_snapshot
from rolebook.storage.comparison import break_data
from rolebook.storage.csv_text import CSV_BEGIN, csv_line, json_cell
from rolebook.storage.encoding import encode_json
from rolebook.storage.export import mark_data, persona_name, turn_data

_CSV_COLUMNS = (
    "comparison_id",
    "question",
    "cell",
    "variant",
    "variant_name",
    "persona_id",
    "persona_name",
    "revision",
    "input_number",
    "input_name",
    "input_tags",
    "repeat",
    "turn",
    "cell_status",
    "is_reused",
    "session_id",
    "turn_id",
    "status",
    "created_at",
    "upstream",
    "upstream_requested",
    "model_requested",
    "model",
    "parameters_requested",
    "parameters_sent",
    "variables",
    "input",
    "text",
    "reference",
    "finish_reason",
    "error",
    "words",
    "characters",
    "questions",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "time_to_first_token_ms",
    "duration_ms",
    "checks_passed",
    "checks_failed",
    "checks_not_made",
    "checks",
    "votes_won",
    "votes_lost",
    "votes_tied",
    "votes_both_bad",
    "is_starred",
    "thumb",
    "note",
    "exported_at",
    "rolebook_version",
    "format_version",
    "plan",
)
_ENGLISH = translator_of("en")
_MIRRORED = {Outcome.LEFT: Outcome.RIGHT, Outcome.RIGHT: Outcome.LEFT}


def export_comparison(
    book: Book,
    comparison: Comparison,
    format: str,
    *,
    translator: Translator = _ENGLISH,
) -> Iterator[str]:
    """A comparison as it stands now; what happens while the pieces are taken changes nothing of it.

    Arguments:
        book: where its answers are; a Rolebook.
        format: one of EXPORT_FORMATS.
        translator: speaks the language of Markdown and HTML; the other formats have the same words for everybody.

    Returns text piece by piece, each of which can be encoded as UTF-8. Raises InputError for another format, and
    StorageError, at once.
    """
    _require_format(format)
    return export_snapshot(take_snapshot(book, comparison), format, translator=translator)


def export_snapshot(
    snapshot: Snapshot, format: str, *, translator: Translator = _ENGLISH
) -> Iterator[str]:
    """A comparison as it was read; see ``export_comparison``. Raises InputError for another format."""
    _require_format(format)
    return _EXPORTERS[format](snapshot.discreet, translator)


def _require_format(format: str) -> None:
    if format not in _EXPORTERS:
        raise InputError(
            "There is no export format %(format)s. Choose one of: %(formats)s.",
            format=format,
            formats=", ".join(EXPORT_FORMATS),
        )


def _export_json(snapshot: Snapshot, _translator: Translator) -> Iterator[str]:
    yield "{"
    for name, value in _head(snapshot).items():
        yield f'"{name}": {encode_json(value)},\n'
    yield '"cells": ['
    for i, cell in enumerate(snapshot.cells.values()):
        turns = [_turn_data(snapshot, cell, turn) for turn in cell.turns]
        yield f"{',' if i else ''}\n{encode_json({**cell_data(snapshot.comparison, cell), 'turns': turns})}"
    yield "\n]}\n"


def _export_jsonl(snapshot: Snapshot, _translator: Translator) -> Iterator[str]:
    """What holds for all of it on the first line, then one turn a line."""
    yield encode_json(_head(snapshot)) + "\n"
    for cell in snapshot.cells.values():
        for turn in cell.turns:
            line = {
                "cell": cell_data(snapshot.comparison, cell),
                "turn": _turn_data(snapshot, cell, turn),
            }
            yield encode_json(line) + "\n"


def _head(snapshot: Snapshot) -> dict[str, Any]:
    """Everything but the answers."""
    return {
        "rolebook": snapshot.head,
        **snapshot.plan_data,
        **results_data(snapshot),
    }


def results_data(snapshot: Snapshot) -> dict[str, Any]:
    """What has come out so far, as JSON has it: how far it is, what was measured, who was voted for."""
    return {
        "progress": snapshot.progress,
        "breaks": list(map(break_data, snapshot.breaks)),
        "variants": [_variant_data(snapshot, index) for index in _variants(snapshot)],
        **_evidence_data(snapshot, snapshot.evidence),
        "votes": vote_rows(snapshot.comparison, snapshot.votes),
        "preference": preference_data(votes_of(snapshot.comparison, snapshot.votes)),
        "by_tag": list(_tags_data(snapshot)),
    }


def _tags_data(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    votes = votes_of(snapshot.comparison, snapshot.votes)
    found = preference_by(votes, "tag")
    for tag, evidence in snapshot.evidence_by_tag.items():
        own = [vote for vote in votes if tag in vote.tags]
        yield {
            "tag": tag,
            "inputs": evidence.inputs,
            **_evidence_data(snapshot, evidence),
            "preference": preference_data(own, found.get(tag)),
        }


def _variants(snapshot: Snapshot) -> range:
    return range(len(snapshot.comparison.variants))


def _variant_data(snapshot: Snapshot, index: int) -> dict[str, Any]:
    variant = snapshot.comparison.variants[index]
    evidence = snapshot.evidence
    return {
        "variant": index + 1,
        "name": variant.name,
        "persona_id": variant.persona_id,
        "persona_name": persona_name(snapshot.revisions[variant.revision]),
        "revision": variant.revision,
        "others": [
            {
                "persona_id": other.persona_id,
                "persona_name": persona_name(other),
                "revision": other.id,
            }
            for other in snapshot.revisions_of(index)[1:]
        ],
        "variables": variant.variables,
        **asdict(snapshot.conduct_of(index)),
        "answers": evidence.answers[index],
        "failed": evidence.failed[index],
        "finish_reasons": evidence.finish_reasons[index],
        "stand_ins": [
            {**asdict(each), "answers": count} for each, count in evidence.stand_ins[index].items()
        ],
    }


def _evidence_data(snapshot: Snapshot, evidence: Evidence) -> dict[str, Any]:
    names = [variant.name for variant in snapshot.comparison.variants]

    def by_name(values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(names, values, strict=True))

    return {
        "measures": [
            {
                "name": measured.name,
                "unit": measured.unit,
                "intervals": by_name(list(map(_interval_data, measured.intervals))),
                "differences": by_name(list(map(_interval_data, measured.differences))),
            }
            for measured in evidence.measured
        ],
        "check_shares": [
            {
                "label": check.label,
                "shares": by_name(list(map(_interval_data, check.shares))),
                "untold": by_name(check.untold),
            }
            for check in evidence.checks
        ],
        "finish_reasons": [
            {
                "reason": each.reason,
                "shares": by_name(list(map(_interval_data, each.shares))),
            }
            for each in evidence.reasons
        ],
    }


def _interval_data(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    # There are hundreds, each of plain numbers: asdict would look into every one of them.
    parts = {part.name: getattr(interval, part.name) for part in fields(interval)}
    if isinstance(interval, Difference):
        parts["is_clear"] = interval.is_clear
    return {**parts, "is_small": interval.is_small}


def _share_data(share: Interval, found: Preference) -> dict[str, Any]:
    parts = _interval_data(share) or {}
    return {**parts, "is_small": share.is_small or found.is_small}


def preference_data(votes: Sequence[Vote], found: Preference | None = None) -> dict[str, Any]:
    """Who is preferred, by all votes; a pair's own figures can be counted from the votes.

    Arguments:
        found: what they show, where they were weighed together with other votes.
    """
    found, bias = found or preference(votes), side_bias(votes)
    return {
        "votes": found.votes,
        "both_bad": found.both_bad,
        "strength": {name: _share_data(share, found) for name, share in found.strength.items()},
        "verdicts": [
            {
                **asdict(verdict),
                "share": _share_data(verdict.share, found),
                "inputs_needed": verdict.inputs_needed,
            }
            for verdict in found.verdicts
        ],
        "side_bias": {**asdict(bias), "interval": _interval_data(bias.interval)},
    }


def cell_data(comparison: Comparison, cell: Cell) -> dict[str, Any]:
    """Where a cell stands, all counted from 1."""
    return {
        "key": str(cell.key),
        "variant": cell.key.variant + 1,
        "variant_name": comparison.variants[cell.key.variant].name,
        "input": cell.key.input + 1,
        "repeat": cell.key.repeat + 1,
        "status": cell.status.value,
        "is_reused": cell.is_reused,
        "session_id": cell.session_id,
    }


def _turn_data(snapshot: Snapshot, cell: Cell, turn: Turn) -> dict[str, Any]:
    """A turn as exports of sessions have it, less the messages: they follow from the plan, and are long."""
    data = turn_data(turn, snapshot.marks.get(turn.id), cell.results.get(turn.id, ()))
    return {name: value for name, value in data.items() if name not in ("messages", "reply")}


def _export_csv(snapshot: Snapshot, _translator: Translator) -> Iterator[str]:
    """One turn a row. The first holds the plan as well, so that the comparison can be done again.

    Where no turn has begun, there is a row for the plan alone.
    """
    yield CSV_BEGIN + csv_line(_CSV_COLUMNS)
    scores = _scores(snapshot.votes)
    plan = json_cell(snapshot.plan_text.replace("\n", ""))
    for cell in snapshot.cells.values():
        for number, turn in enumerate(cell.turns):
            row = {
                **_cell_row(snapshot, cell),
                **_turn_row(snapshot, cell, turn),
                "turn": number + 1,
                "plan": plan,
                # A vote is on all of a cell; more than once it would be counted more than once.
                **({} if number else scores.get(cell.key, {})),
            }
            plan = ""
            yield csv_line(row.get(column) for column in _CSV_COLUMNS)
    if plan:
        row = {**_common_row(snapshot), "plan": plan}
        yield csv_line(row.get(column) for column in _CSV_COLUMNS)


def _common_row(snapshot: Snapshot) -> dict[str, Any]:
    """What every row says; alone it stands for a comparison of which no cell has begun."""
    return {
        "comparison_id": snapshot.comparison.id,
        "question": snapshot.comparison.question,
        "exported_at": snapshot.taken_at,
        "rolebook_version": __version__,
        "format_version": FORMAT_VERSION,
    }


def _cell_row(snapshot: Snapshot, cell: Cell) -> dict[str, Any]:
    comparison = snapshot.comparison
    variant, entry = comparison.variants[cell.key.variant], comparison.inputs[cell.key.input]
    data = cell_data(snapshot.comparison, cell)
    revision = snapshot.revisions[variant.revision]
    if variant.is_recorded and cell.turns:
        revision = snapshot.revisions.get(cell.turns[0].revision, revision)
    return {
        **data,
        **_common_row(snapshot),
        "cell": data["key"],
        "cell_status": data["status"],
        "persona_id": revision.persona_id if variant.is_recorded else variant.persona_id,
        "persona_name": persona_name(revision),
        "revision": revision.id,
        "input_number": data["input"],
        "input_name": entry.name,
        "input_tags": ", ".join(entry.tags),
        "variables": json_cell(encode_json({**entry.variables, **variant.variables})),
        "reference": entry.reference,
    }


def _turn_row(snapshot: Snapshot, cell: Cell, turn: Turn) -> dict[str, Any]:
    results = cell.results.get(turn.id, ())
    return {
        **_turn_data(snapshot, cell, turn),
        **mark_data(snapshot.marks.get(turn.id) or TurnMark(turn.id)),
        "turn_id": turn.id,
        "parameters_requested": json_cell(encode_json(turn.parameters_requested)),
        "parameters_sent": json_cell(encode_json(turn.parameters_sent)),
        "error": turn.error.text if turn.error else "",
        "words": count_words(turn.text),
        "characters": count_characters(turn.text),
        "questions": count_questions(turn.text),
        "checks_passed": sum(result.has_passed is True for result in results),
        "checks_failed": sum(result.has_passed is False for result in results),
        "checks_not_made": snapshot.unchecked_in(cell, turn),
        "checks": "; ".join(f"{result.label}: {result.said}" for result in results),
    }


def _scores(votes: Sequence[Ballot]) -> Mapping[CellKey, Mapping[str, int]]:
    """How the votes on each cell went, by the names of columns."""
    names = {
        Outcome.LEFT: "votes_won",
        Outcome.RIGHT: "votes_lost",
        Outcome.TIE: "votes_tied",
        Outcome.BOTH_BAD: "votes_both_bad",
    }
    scores: dict[CellKey, Counter[str]] = {}
    for ballot in votes:
        assert ballot.outcome is not None
        for key, outcome in (
            (ballot.left, ballot.outcome),
            (ballot.right, _MIRRORED.get(ballot.outcome, ballot.outcome)),
        ):
            scores.setdefault(key, Counter())[names[outcome]] += 1
    return scores


def _export_markdown(snapshot: Snapshot, translator: Translator) -> Iterator[str]:
    # Loaded by those who ask: what lays out charts and Markdown takes a tenth of a second.
    from rolebook.report.markdown_export import export_markdown

    return export_markdown(snapshot, translator)


def _export_html(snapshot: Snapshot, translator: Translator) -> Iterator[str]:
    from rolebook.report.html_export import export_html

    return export_html(snapshot, translator)


_EXPORTERS: dict[str, Callable[[Snapshot, Translator], Iterator[str]]] = {
    "json": _export_json,
    "jsonl": _export_jsonl,
    "csv": _export_csv,
    "md": _export_markdown,
    "html": _export_html,
}
EXPORT_FORMATS = tuple(_EXPORTERS)
