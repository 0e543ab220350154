"""What the list of sessions shows: pages of summaries, what they can be filtered by, and a persona's statistics."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

from sqlite_utils import Database

from rolebook.core.errors import InputError
from rolebook.core.frozen import frozen
from rolebook.core.naming import MAX_NAME
from rolebook.core.session import Session, TurnStatus, written_time
from rolebook.storage.connection import execute
from rolebook.storage.encoding import decode_json, decode_text, encode_json
from rolebook.storage.lookup import SESSION_COLUMNS, tags_of
from rolebook.storage.record import session_of
from rolebook.storage.revision import given_up_names, meant_by, renamed_personas, sessions_of

_SNIPPET_CHARACTERS = 200
#: What was chosen for a session may be a whole book; a line of a list has the begin of it.
_BRIEF_CHARACTERS = 200
#: More to choose from help nobody to find anything.
_MOST_FACETS = 200

_MARK_SQL = {"star": "is_starred", "up": "thumb = 1", "down": "thumb = -1", "note": "note <> ''"}
#: What a session can be found by that is noted on one of its turns.
MARKS = tuple(_MARK_SQL)
#: Who may have asked: a program through the gateway, or nobody but people.
WAYS = ("gateway", "people")


@frozen
class SessionFilter:
    """Which sessions to list; what is empty does not matter.

    ``persona_id`` is about those from before the persona was renamed, too. It may be a reference,
    ``teacher@production``: then those are meant that were begun by this very name or have a turn at the revision that
    it means now. ``search`` is a query as in search by words and looks at the newest
    5,000 turns that match. ``model`` (as requested), ``revision``, ``status`` and ``mark`` (one of MARKS) hold if any
    turn of the session has them; ``via`` is one of WAYS.
    ``since`` (inclusive) and ``until`` (exclusive) are about the last use, as :func:`comparable_time` reads them; plain
    dates count whole.
    """

    search: str = ""
    persona_id: str = ""
    revision: str = ""
    model: str = ""
    tag: str = ""
    status: str = ""
    mark: str = ""
    via: str = ""
    since: str = ""
    until: str = ""
    is_starred: bool = False
    is_deleted: bool = False


@frozen
class SessionSummary:
    """A session as a line of a list.

    ``turns`` counts current turns, with those that a fork inherits; ``statuses``, ``total_tokens`` and ``cost`` (US
    dollars) take in all attempts of its own. ``None`` is unknown: no turn has a known count, or cost.
    ``snippet`` is the start of the first input. In the variables and parameters of ``session`` long values are cut.
    """

    session: Session
    persona_name: str
    turns: int
    models: tuple[str, ...]
    total_tokens: int | None
    cost: float | None
    turns_without_cost: int
    statuses: Mapping[str, int]
    last_used_at: str
    snippet: str


def summary_data(summary: SessionSummary) -> dict[str, Any]:
    """A line of the list as JSON has it: what is known of the session, and the sums."""
    data = asdict(summary)
    return {**data.pop("session"), **data}


@frozen
class SessionPage:
    """Some sessions, the last used first. ``cursor`` asks for the next page and is empty on the last one."""

    summaries: tuple[SessionSummary, ...]
    cursor: str


@frozen
class Facet:
    """A value to filter by, what to show for it, and how many sessions have it."""

    value: str
    label: str
    count: int


@frozen
class Facets:
    """Values to filter by, the most frequent first and not all where there are very many. The trash does not count."""

    personas: tuple[Facet, ...]
    models: tuple[Facet, ...]
    tags: tuple[Facet, ...]
    statuses: tuple[Facet, ...]


@frozen
class PersonaStatistics:
    """How much a persona was used, by whatever name; the trash does not count.

    ``last_used_at`` is empty if it never was.
    """

    sessions: int
    turns: int
    last_used_at: str


def list_sessions(
    db: Database, wanted: SessionFilter, *, found: Iterable[int] | None, limit: int, before: str
) -> SessionPage:
    """One page of sessions.

    Arguments:
        wanted: all that a session must be; its ``search`` is answered by ``found``.
        found: numbers of the sessions that the search has found; None: not searched for.
        before: the cursor of the page before.
    """
    conditions, parameters = _conditions(wanted)
    if wanted.persona_id:
        persona_id, at, revision_id = meant_by(db, wanted.persona_id)
        with_it, named = sessions_of(db, persona_id)
        # A plus sign keeps the planner from an index that would have all of a persona's sessions sorted for one page.
        conditions.append(f"+{with_it}")
        parameters += named
        if at:
            conditions.append(f"(sessions.pin = ? OR {_IN_TURNS.format(_AT_REVISION)})")
            parameters += [at, revision_id]
    if found is not None:
        conditions.append("sessions.number IN (SELECT value FROM json_each(?))")
        parameters.append(_json(found))
    if before.isdecimal():
        conditions.append("sessions.activity < ?")
        parameters.append(int(before))
    found_rows = execute(
        db,
        f"SELECT {SESSION_COLUMNS} FROM sessions "
        f"JOIN revisions ON revisions.number = sessions.revision WHERE {' AND '.join(conditions)} "
        "ORDER BY sessions.activity DESC LIMIT ?",
        [*parameters, limit + 1],
    )
    # One after the other, so that no more than one of them is ever held whole.
    rows = [_brief_row(row) for row in found_rows]
    shown = rows[:limit]
    return SessionPage(
        summaries=tuple(_summaries(db, shown)),
        cursor=str(shown[-1]["activity"]) if len(rows) > limit else "",
    )


def _brief_row(row: sqlite3.Row) -> Mapping[str, Any]:
    """A row of ``sessions`` with the begin of what was chosen."""
    brief = dict(row)
    for name in ("variables", "parameters"):
        if len(brief[name] or "") > _BRIEF_CHARACTERS:
            chosen = decode_json(brief[name], {})
            brief[name] = encode_json({key: _brief(value) for key, value in chosen.items()})
    brief["model"] = _cut(decode_text(brief["model"]), MAX_NAME)
    return brief


def _brief(value: Any) -> Any:
    """A text with no more than its begin; of a list or a mapping that is as long, the begin of its JSON."""
    if isinstance(value, str):
        return _cut(value, _BRIEF_CHARACTERS)
    if isinstance(value, Mapping | list):
        text = encode_json(value)
        return value if len(text) <= _BRIEF_CHARACTERS else _cut(text, _BRIEF_CHARACTERS)
    return value


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def facets(db: Database) -> Facets:
    """What sessions can be filtered by."""
    return Facets(
        personas=_sorted(_persona_facets(db)),
        models=_facets_of(db, "SELECT DISTINCT model_requested AS value, session FROM turns"),
        tags=_facets_of(db, "SELECT tag AS value, session FROM session_tags"),
        statuses=_status_facets(db),
    )


def _persona_facets(db: Database) -> Iterator[Facet]:
    """Personas by the name that they have now; one that was renamed counts what it had under others, too.

    A name that a persona has given up is left out where all that was begun under it counts there.
    """
    found: dict[str, Facet] = {}
    for row in execute(db, _COUNTED.format("persona_id <> ''") + "GROUP BY persona_id" + _NAMED):
        found[row["persona_id"]] = _persona_facet(row["persona_id"], row)
    for persona_id in renamed_personas(db):
        with_it, named = sessions_of(db, persona_id)
        for row in execute(db, _COUNTED.format(with_it) + _NAMED, named):
            found[persona_id] = _persona_facet(persona_id, row)
    given_up = given_up_names(db)
    return (facet for persona_id, facet in found.items() if persona_id not in given_up)


_COUNTED = (
    "SELECT counted.persona_id, sessions, persona_name FROM (SELECT persona_id, count(*) AS sessions, "
    "max(revision) AS revision FROM sessions WHERE deleted_at IS NULL AND activity > 0 AND {} "
)
_NAMED = ") AS counted JOIN revisions ON revisions.number = counted.revision"


def _persona_facet(persona_id: str, row: sqlite3.Row) -> Facet:
    return Facet(decode_text(persona_id), decode_text(row["persona_name"]), row["sessions"])


def statistics_of_persona(db: Database, persona_id: str) -> PersonaStatistics:
    """Its sessions, turns and last use, also from before it was renamed."""
    with_it, named = sessions_of(db, persona_id)
    row = execute(
        db,
        "SELECT count(*), max(used_at), coalesce(sum((SELECT count(*) FROM turns WHERE session = sessions.number)), 0) "
        f"FROM sessions WHERE {with_it} AND deleted_at IS NULL AND activity > 0",
        named,
    ).fetchone()
    return PersonaStatistics(sessions=row[0], turns=row[2], last_used_at=row[1] or "")


def _conditions(wanted: SessionFilter) -> tuple[list[str], list[Any]]:
    """SQL conditions with their parameters, all to be met, for what needs no look at the log before."""
    status_sql = (
        "turns.status = ?" if wanted.status == "complete" else "status <> 'complete' AND status = ?"
    )
    choices = (
        (wanted.revision, _IN_TURNS.format(_AT_REVISION)),
        (wanted.model, _IN_TURNS.format("turns.model_requested = ?")),
        (wanted.status, _IN_TURNS.format(status_sql)),
        (
            wanted.tag,
            "EXISTS (SELECT 1 FROM session_tags WHERE session = sessions.number AND tag = ?)",
        ),
        (wanted.since and comparable_time("since", wanted.since), "sessions.used_at >= ?"),
        (
            wanted.until and _end_of(comparable_time("until", wanted.until)),
            "sessions.used_at < ?",
        ),
    )
    # Sessions of comparisons have no activity of their own, and are found there.
    conditions = ["NOT sessions.is_purged", "sessions.activity > 0"]
    conditions.append(
        "sessions.deleted_at IS NOT NULL" if wanted.is_deleted else "+sessions.deleted_at IS NULL"
    )
    if wanted.is_starred:
        conditions.append("sessions.is_starred")
    if wanted.via:
        conditions.append(_via_sql(wanted.via))
    if wanted.mark:
        conditions.append(_MARKED.format(_mark_sql(wanted.mark)))
    conditions += [condition for value, condition in choices if value]
    return conditions, [value for value, _ in choices if value]


_IN_TURNS = "EXISTS (SELECT 1 FROM turns WHERE turns.session = sessions.number AND {})"
_AT_REVISION = "turns.revision = (SELECT number FROM revisions WHERE id = ?)"

#: Few turns are marked, so that these are looked for first.
_MARKED = (
    "sessions.number IN (SELECT turns.session FROM turn_marks "
    "JOIN turns ON turns.number = turn_marks.turn WHERE turn_marks.{})"
)


def _via_sql(via: str) -> str:
    if via not in WAYS:
        raise InputError(
            "Asked by is one of %(known)s, got '%(got)s'.", known=", ".join(WAYS), got=via
        )
    through = "EXISTS (SELECT 1 FROM turns WHERE turns.via = 'gateway' AND turns.session = sessions.number)"
    return through if via == "gateway" else f"NOT {through}"


def _mark_sql(mark: str) -> str:
    if mark not in _MARK_SQL:
        raise InputError(
            "A mark is one of %(known)s, got '%(got)s'.", known=", ".join(MARKS), got=mark
        )
    return _MARK_SQL[mark]


_DATE = re.compile(r"\d{4}(?:-\d\d-\d\d|\d{4}|-W\d\d(?:-\d)?|W\d{2,3})")
_TIME = re.compile(rf"(?:{_DATE.pattern})[T ]")


def comparable_time(name: str, given: str) -> str:
    """A date or a time in ISO 8601 such that it can be compared with the times in the log, which are texts.

    A time is one of UTC unless it names a zone; a plain date stays one, and sorts before every time of its day.
    Raises InputError for anything else, with the name of what was given.
    """
    if _DATE.fullmatch(given):
        with suppress(ValueError):
            return date.fromisoformat(given).isoformat()
    try:
        # Python reads ten digits as a date and two more that it passes over.
        if not _TIME.match(given):
            raise ValueError(given)
        time = datetime.fromisoformat(given)
        return written_time(time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise InputError(
            "%(name)s must be a date such as 2026-11-20, got '%(got)s'.", name=name, got=given
        ) from None


def _end_of(time: str) -> str:
    """A plain date ends with its day: every time of that day sorts before ``T~``."""
    return f"{time}T~" if len(time) == len("2026-11-20") else time


def _summaries(db: Database, rows: Sequence[Mapping[str, Any]]) -> list[SessionSummary]:
    numbers = [row["number"] for row in rows]
    tags = tags_of(db, numbers)
    groups = _turn_groups(db, numbers)
    snippets = _snippets(db, numbers)
    heirs = [row for row in rows if row["inherited"]]
    positions = {row["number"]: _positions_of_fork(db, row) for row in heirs}
    for row in heirs:
        snippets[row["number"]] = _first_inherited(db, row)
    return [
        _summary(
            row,
            tags[row["number"]],
            groups[row["number"]],
            snippets.get(row["number"], ""),
            positions.get(row["number"]),
        )
        for row in rows
    ]


def _positions_of_fork(db: Database, row: Mapping[str, Any]) -> int:
    """How many places a fork has, its own turns standing in for those that it inherits at the same place."""
    return int(
        execute(
            db,
            "SELECT count(DISTINCT position) FROM turns WHERE session = ? "
            "OR number IN (SELECT value FROM json_each(?))",
            (row["number"], row["inherited"]),
        ).fetchone()[0]
    )


def _first_inherited(db: Database, row: Mapping[str, Any]) -> str:
    first = json.loads(row["inherited"])[0]
    found = execute(db, "SELECT input FROM turns WHERE number = ?", (first,)).fetchone()
    return snippet_of(decode_text(found["input"])) if found else ""


def _summary(
    row: Mapping[str, Any],
    tags: Sequence[str],
    groups: Sequence[sqlite3.Row],
    snippet: str,
    positions: int | None,
) -> SessionSummary:
    statuses: Counter[str] = Counter()
    for group in groups:
        statuses[decode_text(group["status"])] += group["attempts"]
    tokens = [group["tokens"] for group in groups if group["tokens"] is not None]
    costs = [group["cost"] for group in groups if group["cost"] is not None]
    return SessionSummary(
        session=session_of(row, tags),
        persona_name=decode_text(row["persona_name"]),
        turns=sum(group["current"] for group in groups) if positions is None else positions,
        models=tuple(
            dict.fromkeys(_cut(decode_text(group["model_requested"]), MAX_NAME) for group in groups)
        ),
        total_tokens=sum(tokens) if tokens else None,
        cost=sum(costs) if costs else None,
        turns_without_cost=sum(group["without_cost"] for group in groups),
        statuses=dict(statuses),
        last_used_at=row["used_at"],
        snippet=snippet,
    )


def _turn_groups(db: Database, numbers: Sequence[int]) -> dict[int, list[sqlite3.Row]]:
    """Sums over the turns of each session, one row for each model and status in it."""
    rows = execute(
        db,
        "SELECT session, model_requested, status, count(*) AS attempts, sum(is_current) AS current, "
        "sum(total_tokens) AS tokens, sum(cost) AS cost, sum(cost IS NULL) AS without_cost "
        "FROM turns WHERE session IN (SELECT value FROM json_each(?)) "
        "GROUP BY session, model_requested, status ORDER BY session, min(number)",
        (_json(numbers),),
    )
    groups: dict[int, list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        groups[row["session"]].append(row)
    return groups


def _snippets(db: Database, numbers: Sequence[int]) -> dict[int, str]:
    rows = execute(
        db,
        "SELECT session, input FROM turns WHERE number IN (SELECT min(number) FROM turns "
        "WHERE session IN (SELECT value FROM json_each(?)) GROUP BY session)",
        (_json(numbers),),
    )
    return {row["session"]: snippet_of(decode_text(row["input"])) for row in rows}


def snippet_of(text: str) -> str:
    """How a text begins, in one line."""
    return " ".join(text[:1000].split())[:_SNIPPET_CHARACTERS]


def _facets_of(db: Database, values: str) -> tuple[Facet, ...]:
    """Counts over a query for pairs of ``value`` and ``session``, without values that are too long for names."""
    rows = execute(
        db,
        f"SELECT value, count(*) FROM ({values}) JOIN sessions ON sessions.number = session "
        "WHERE deleted_at IS NULL AND activity > 0 AND value <> '' AND length(value) <= ? "
        "GROUP BY value ORDER BY count(*) DESC, value LIMIT ?",
        (MAX_NAME, _MOST_FACETS),
    )
    return _sorted(Facet(decode_text(row[0]), decode_text(row[0]), row[1]) for row in rows)


def _status_facets(db: Database) -> tuple[Facet, ...]:
    """Complete turns are not indexed by status, so that a session's other turns are counted and these inferred."""
    others = _facets_of(
        db, "SELECT DISTINCT status AS value, session FROM turns WHERE status <> 'complete'"
    )
    complete = execute(
        db,
        "SELECT count(*) FROM sessions WHERE deleted_at IS NULL AND activity > 0 "
        "AND EXISTS (SELECT 1 FROM turns WHERE session = sessions.number AND turns.status = 'complete')",
    ).fetchone()[0]
    own = (
        [Facet(TurnStatus.COMPLETE.value, TurnStatus.COMPLETE.value, complete)] if complete else []
    )
    return _sorted([*own, *others])


def _sorted(facets: Iterable[Facet]) -> tuple[Facet, ...]:
    return tuple(sorted(facets, key=lambda facet: (-facet.count, facet.label)))


def _json(numbers: Iterable[int]) -> str:
    return json.dumps(list(numbers))
