"""Revisions, the histories of the files that made them, and the labels that point at them.

Each function is the content of one transaction, or of a part of one.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlite_utils import Database

from rolebook.core.access import opens
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.frozen import frozen
from rolebook.core.history import (
    SHORTEST_PREFIX,
    Change,
    Head,
    Label,
    NewChange,
    Timeline,
)
from rolebook.core.reference import SHORT_REVISION, split_reference
from rolebook.core.session import Revision, new_id, now
from rolebook.core.source import DISK, Author, FileKey, FileKind, etag_of
from rolebook.storage.connection import execute, insert
from rolebook.storage.encoding import decode_json, decode_text, encode_json
from rolebook.storage.record import revision_of

#: What does not say how a file is now.
_ASIDE = "('tried', 'labelled', 'used')"
#: Another process may see a file that was saved a moment before it hears who saved it.
_TAKEN_OVER_S = 10
_MOST_FORMER = 20
_MOST_NAMED = 5

_CHANGES = (
    "SELECT changes.*, sources.hash AS etag, revisions.id AS revision_id FROM changes "
    "LEFT JOIN sources ON sources.number = changes.source "
    "LEFT JOIN revisions ON revisions.number = changes.revision"
)


def insert_revision(db: Database, revision: Revision, author: str = "") -> int:
    """The number of a revision. One that is new is recorded, together with the text of its file where it has one.

    Arguments:
        author: the name of who tries it out, if it is a draft.
    """
    number = _known_revision(db, revision)
    if number:
        return number
    number = _insert_revision(db, revision)
    if revision.source:
        by = Author("browser", author) if revision.is_draft else DISK
        key = FileKey("persona", revision.persona_id)
        action = "tried" if revision.is_draft else "seen"
        _record(db, NewChange(key, action, by, revision.source, revision))  # type: ignore[arg-type]
    return number


def _known_revision(db: Database, revision: Revision) -> int:
    known = execute(db, "SELECT number FROM revisions WHERE id = ?", (revision.id,)).fetchone()
    return int(known["number"]) if known else 0


def _insert_revision(db: Database, revision: Revision) -> int:
    row = {
        "id": revision.id,
        "persona_id": revision.persona_id,
        "persona_name": str(revision.resolved.get("name", "")),
        "created_at": now(),
        "resolved": encode_json(revision.resolved),
        "templates": encode_json(revision.templates),
    }
    return int(insert(db, "INTO revisions", row).lastrowid)


def record(db: Database, changes: Iterable[NewChange]) -> None:
    """Record changes, less those that say what the history of their file ends with already."""
    for change in changes:
        _record(db, change)


def _record(db: Database, change: NewChange) -> None:
    head = _head(db, change.key)
    source = None if change.text is None else _source_number(db, change.text)
    revision = change.revision and (
        _known_revision(db, change.revision) or _insert_revision(db, change.revision)
    )
    is_same = head is not None and (head["source"], head["revision"]) == (source, revision)
    is_noticed = change.author.via == "disk"
    if is_same and is_noticed:
        return
    if change.action == "renamed" and change.key.kind == "persona":
        _copy_labels(db, change.former, change.key.id)
    action = change.action
    if is_noticed and head is not None and head["source"] == source and source and revision:
        action = "followed"
    row = {
        "action": action,
        "via": change.author.via,
        "author": change.author.name,
        "former": change.former,
        "message": change.message,
        "causes": _encode_causes(change.causes or _causes(db, action, head, change)),
    }
    if is_same and head is not None and _is_taken_over(head):
        assignments = ", ".join(f"{name} = ?" for name in row)
        execute(
            db,
            f"UPDATE changes SET {assignments} WHERE number = ?",
            [*row.values(), head["number"]],
        )
        return
    where = {"id": new_id(), "kind": change.key.kind, "file": change.key.id, "created_at": now()}
    insert(db, "INTO changes", {**where, **row, "source": source, "revision": revision})


def _head(db: Database, key: FileKey) -> sqlite3.Row | None:
    row: sqlite3.Row | None = execute(
        db,
        f"SELECT * FROM changes WHERE kind = ? AND file = ? AND action NOT IN {_ASIDE} ORDER BY number DESC LIMIT 1",
        (key.kind, key.id),
    ).fetchone()
    return row


def _is_taken_over(head: sqlite3.Row) -> bool:
    """Whether what was noticed on disk is what somebody says now that they have done."""
    age = datetime.now(UTC) - datetime.fromisoformat(head["created_at"])
    return head["via"] == "disk" and age < timedelta(seconds=_TAKEN_OVER_S)


def _causes(
    db: Database, action: str, head: sqlite3.Row | None, change: NewChange
) -> Sequence[FileKey]:
    """The files that made another persona of an unchanged one: templates, and the base where all else changed."""
    if action != "followed" or head is None or head["revision"] is None or not change.revision:
        return ()
    sql = "SELECT * FROM revisions WHERE number = ?"
    before, after = (
        revision_of(execute(db, sql, (head["revision"],)).fetchone()),
        change.revision,
    )
    names = sorted({*before.templates, *after.templates})
    causes = [
        FileKey("template", name)
        for name in names
        if before.templates.get(name) != after.templates.get(name)
    ]
    base = str(after.resolved.get("extends") or "")
    if base and json.dumps(before.resolved, sort_keys=True) != json.dumps(
        after.resolved, sort_keys=True, default=str
    ):
        causes.insert(0, FileKey("persona", base))
    return causes


def _encode_causes(causes: Sequence[FileKey]) -> str | None:
    return encode_json([[cause.kind, cause.id] for cause in causes]) if causes else None


def _source_number(db: Database, text: str) -> int:
    """The number of a text, which is recorded if it is new."""
    etag = etag_of(text)
    known = execute(db, "SELECT number FROM sources WHERE hash = ?", (etag,)).fetchone()
    if known:
        return int(known["number"])
    return int(insert(db, "INTO sources", {"hash": etag, "text": text}).lastrowid)


def heads(db: Database) -> dict[FileKey, Head]:
    """Where the history of each file stands."""
    rows = execute(
        db,
        f"{_CHANGES} WHERE changes.number IN (SELECT max(number) FROM changes "
        f"WHERE action NOT IN {_ASIDE} GROUP BY kind, file)",
    )
    return {_key(row): Head(row["etag"] or "", row["revision_id"] or "") for row in rows}


def timeline(db: Database, key: FileKey, *, limit: int, before: str) -> Timeline:
    """One page of a file's changes, the newest first, with those from before it was renamed.

    Arguments:
        before: the cursor of the page before; anything else begins with the newest.
    """
    conditions, parameters = [], []
    for segment in _segments(db, key):
        conditions.append("(kind = ? AND file = ? AND changes.number <= ?)")
        parameters += [key.kind, segment.file, segment.last]
    cursor = int(before) if before.isdecimal() and len(before) < 19 else 2**62
    rows = execute(
        db,
        f"{_CHANGES} WHERE ({' OR '.join(conditions)}) AND changes.number < ? ORDER BY changes.number DESC LIMIT ?",
        [*parameters, cursor, limit + 1],
    ).fetchall()
    shown = rows[:limit]
    return Timeline(
        changes=tuple(_changes_of(db, key, shown)),
        next=str(shown[-1]["number"]) if len(rows) > limit else "",
    )


@frozen
class _Segment:
    """A part of a history: what ``file`` was up to its change ``last``, which was at the time ``until``.

    What it was up to ``since`` has another name than this one by now.
    """

    file: str
    last: int = 2**62
    until: str = "9999"
    since: str = ""


def _segments(db: Database, key: FileKey) -> Iterator[_Segment]:
    """A file's own changes, and those of the files that it was before, each up to the time when it was renamed."""
    segment = _Segment(key.id)
    for _ in range(_MOST_FORMER):
        yield segment
        row = execute(
            db,
            "SELECT number, created_at, former FROM changes WHERE kind = ? AND file = ? AND number <= ? "
            "AND action = 'renamed' AND former <> '' ORDER BY number DESC LIMIT 1",
            (key.kind, segment.file, segment.last),
        ).fetchone()
        if row is None:
            return
        # The change by which the former file went away says nothing new.
        former, last = row["former"], row["number"] - 1
        away = execute(
            db,
            "SELECT max(created_at) FROM changes "
            "WHERE kind = ? AND action = 'renamed' AND former = ? AND number <= ?",
            (key.kind, former, last),
        ).fetchone()
        segment = _Segment(former, last, row["created_at"], away[0] or "")


def sessions_of(db: Database, persona_id: str, *, is_own: bool = False) -> tuple[str, list[str]]:
    """A condition on ``sessions``, and its parameters: those with a persona, also from before it was renamed.

    Arguments:
        is_own: leave out those with another persona that gave the name up before this one got it.
    """
    own, *former = _segments(db, FileKey("persona", persona_id))
    conditions, parameters = ["sessions.persona_id = ?"], [own.file]
    if is_own:
        conditions[0] += " AND sessions.created_at > ?"
        parameters.append(_taken_since(db, persona_id))
    for segment in former:
        conditions.append(
            "sessions.persona_id = ? AND sessions.created_at <= ? AND sessions.created_at > ?"
        )
        parameters += [segment.file, segment.until, segment.since]
    return f"({' OR '.join(conditions)})", parameters


def _taken_since(db: Database, persona_id: str) -> str:
    """When another persona gave a name up that has been taken again since; empty if none has."""
    row = execute(
        db,
        "SELECT created_at FROM changes AS away WHERE kind = 'persona' AND action = 'renamed' AND former = ? "
        "AND EXISTS (SELECT 1 FROM changes WHERE kind = 'persona' AND file = away.former "
        f"AND number > away.number AND action NOT IN {_ASIDE} AND action <> 'deleted') "
        "ORDER BY number DESC LIMIT 1",
        (persona_id,),
    ).fetchone()
    return row["created_at"] if row else ""


def present_id(db: Database, persona_id: str, at: str) -> str:
    """What a persona is called by now that was called so at a time: by each name that it was given since."""
    last = 0
    for _ in range(_MOST_FORMER):
        row = execute(
            db,
            "SELECT number, file FROM changes WHERE kind = 'persona' AND action = 'renamed' "
            "AND former = ? AND created_at >= ? AND number > ? ORDER BY number LIMIT 1",
            (persona_id, at, last),
        ).fetchone()
        if row is None:
            break
        persona_id, last = row["file"], row["number"]
    return persona_id


_RENAMINGS = "SELECT number, created_at, file, former FROM changes WHERE kind = 'persona' AND action = 'renamed'"


def renamed_personas(db: Database) -> Sequence[str]:
    """The names that personas have got which had others before."""
    return [row["file"] for row in execute(db, f"SELECT DISTINCT file FROM ({_RENAMINGS})")]


def given_up_names(db: Database) -> Sequence[str]:
    """The names of personas which have others now, if nothing outside the trash has begun under them since."""
    rows = execute(
        db,
        f"WITH renamings AS ({_RENAMINGS}) SELECT former FROM (SELECT former, max(number) AS number, "
        "max(created_at) AS at FROM renamings GROUP BY former) AS away "
        "WHERE NOT EXISTS (SELECT 1 FROM renamings WHERE file = away.former AND number > away.number) "
        "AND NOT EXISTS (SELECT 1 FROM sessions WHERE persona_id = away.former AND created_at > away.at "
        "AND activity > 0 AND deleted_at IS NULL)",
    )
    return [row["former"] for row in rows]


def last_revision(db: Database, persona_id: str) -> str:
    """The id of what a persona's file was made into last; empty where the log knows none."""
    row = execute(
        db,
        "SELECT revisions.id FROM changes JOIN revisions ON revisions.number = changes.revision "
        f"WHERE kind = 'persona' AND file = ? AND action NOT IN {_ASIDE} ORDER BY changes.number DESC LIMIT 1",
        (persona_id,),
    ).fetchone()
    return row["id"] if row else ""


def get_change(db: Database, key: FileKey, change_id: str) -> Change:
    """A change of a file or of one that it was before. Raises NotFoundError."""
    row = execute(db, f"{_CHANGES} WHERE changes.id = ?", (change_id,)).fetchone()
    if row is None or not any(
        (row["kind"], row["file"]) == (key.kind, segment.file) and row["number"] <= segment.last
        for segment in _segments(db, key)
    ):
        raise NotFoundError(
            "The history of '%(file)s' has no change %(id)s.", file=key.id, id=change_id[:80]
        )
    return next(_changes_of(db, key, [row]))


def _changes_of(db: Database, key: FileKey, rows: Sequence[sqlite3.Row]) -> Iterator[Change]:
    numbers = {row["revision"] for row in rows if row["revision"] is not None}
    labels = _labels_by_revision(db, key)
    sessions = _sessions_by_revision(db, {_key(row) for row in rows}, numbers)
    for row in rows:
        yield Change(
            id=row["id"],
            key=_key(row),
            action=row["action"],
            author=Author(row["via"], decode_text(row["author"])),
            created_at=row["created_at"],
            source=row["etag"] or "",
            revision=row["revision_id"] or "",
            causes=tuple(FileKey(*cause) for cause in decode_json(row["causes"], ())),
            former=row["former"],
            message=decode_text(row["message"]),
            labels=tuple(labels.get(row["revision"], ())),
            sessions=sessions.get((row["file"], row["revision"]), 0),
        )


def _key(row: sqlite3.Row) -> FileKey:
    return FileKey(cast(FileKind, row["kind"]), row["file"])


def _labels_by_revision(db: Database, key: FileKey) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    if key.kind == "persona":
        sql = "SELECT name, revision FROM labels WHERE persona_id = ? ORDER BY name"
        for row in execute(db, sql, (key.id,)):
            found[row["revision"]].append(row["name"])
    return found


def _sessions_by_revision(
    db: Database, keys: Iterable[FileKey], numbers: Iterable[int]
) -> dict[tuple[str, int], int]:
    """In how many talks each of these personas answered at each revision, the trash apart."""
    rows = execute(
        db,
        "SELECT sessions.persona_id, turns.revision, count(DISTINCT turns.session) AS sessions FROM sessions "
        "JOIN turns ON turns.session = sessions.number WHERE sessions.persona_id IN (SELECT value FROM json_each(?)) "
        "AND sessions.activity > 0 AND sessions.deleted_at IS NULL "
        "AND turns.revision IN (SELECT value FROM json_each(?)) GROUP BY sessions.persona_id, turns.revision",
        (
            json.dumps([key.id for key in keys if key.kind == "persona"]),
            json.dumps(list(numbers)),
        ),
    )
    return {(row["persona_id"], row["revision"]): row["sessions"] for row in rows}


def get_source(db: Database, etag: str) -> str:
    """Raises NotFoundError."""
    row = execute(db, "SELECT text FROM sources WHERE hash = ?", (etag,)).fetchone()
    if row is None:
        raise NotFoundError("This text is not in the log (%(etag)s).", etag=etag[:80])
    return decode_text(row["text"])


def _revisions_of(db: Database, persona_id: str) -> tuple[str, dict[str, Any]]:
    """A query for the revisions that a persona ever had, and its parameters: several personas may share one.

    A role without a file belongs to whoever has described it.
    """
    queries: list[str] = []
    parameters: dict[str, Any] = {}
    for place, segment in enumerate(_segments(db, FileKey("persona", persona_id))):
        queries.append(
            f"SELECT number FROM revisions WHERE persona_id = :file{place} AND created_at <= :until{place} "
            "AND (persona_id <> '' OR EXISTS (SELECT 1 FROM sessions WHERE sessions.revision = revisions.number)) "
            f"UNION SELECT revision FROM changes WHERE kind = 'persona' AND file = :file{place} "
            f"AND number <= :last{place} AND revision IS NOT NULL"
        )
        parameters |= {
            f"file{place}": segment.file,
            f"until{place}": segment.until,
            f"last{place}": segment.last,
        }
    return " UNION ".join(queries), parameters


def revision_times(db: Database, persona_id: str) -> dict[str, str]:
    """When the log first saw each revision of a persona, by the revision's id."""
    numbers, parameters = _revisions_of(db, persona_id)
    rows = execute(
        db, f"SELECT id, created_at FROM revisions WHERE number IN ({numbers})", parameters
    )
    return {row["id"]: row["created_at"] for row in rows}


def find_revision(db: Database, persona_id: str, at: str) -> Revision:
    """What a label points at, else the revision whose id begins so.

    Raises NotFoundError that names the known ones to whoever may use them, InputError if several begin so.
    """
    labelled = execute(
        db,
        "SELECT revisions.* FROM labels JOIN revisions ON revisions.number = labels.revision "
        "WHERE labels.persona_id = ? AND labels.name = ?",
        (persona_id, at),
    ).fetchone()
    if labelled:
        return revision_of(labelled)
    prefix = at.lower()
    numbers, parameters = _revisions_of(db, persona_id)
    rows = (
        execute(
            db,
            f"SELECT * FROM revisions WHERE number IN ({numbers}) AND substr(id, 1, :length) = :prefix LIMIT 2",
            {**parameters, "length": len(prefix), "prefix": prefix},
        ).fetchall()
        if len(prefix) >= SHORTEST_PREFIX
        else []
    )
    if len(rows) > 1:
        raise InputError(
            "Several revisions of '%(persona)s' begin with %(revision)s: give more of it.",
            revision=at[:80],
            persona=persona_id,
        )
    if not rows:
        raise _unknown(db, persona_id, at)
    return revision_of(rows[0])


def meant_by(db: Database, reference: str) -> tuple[str, str, str]:
    """The id of a persona, what stands behind its ``@``, and the id of the revision that this means now.

    The latter two are empty where nothing stands there, and the last where it means nothing (any more).

    Raises InputError if several revisions begin so.
    """
    persona_id, at = split_reference(reference)
    if not at:
        return persona_id, "", ""
    try:
        return persona_id, at, find_revision(db, persona_id, at).id
    except NotFoundError:
        return persona_id, at, ""


def _unknown(db: Database, persona_id: str, at: str) -> NotFoundError:
    """It names the ones that are there, unless a key calls that does not open them."""
    if not opens(persona_id):
        return NotFoundError(
            "'%(persona)s' has no label or revision '%(at)s' now. GET /v1/models lists what this key opens.",
            persona=persona_id[:80],
            at=at[:80],
        )
    numbers, parameters = _revisions_of(db, persona_id)
    newest = execute(
        db,
        f"SELECT id FROM revisions WHERE number IN ({numbers}) ORDER BY number DESC LIMIT {_MOST_NAMED}",
        parameters,
    ).fetchall()
    return NotFoundError(
        "'%(persona)s' has no label or revision '%(at)s'. Its labels: %(labels)s. Its newest revisions: %(revisions)s.",
        persona=persona_id[:80],
        at=at[:80],
        labels=", ".join(label.name for label in labels(db, persona_id)) or "–",
        revisions=", ".join(row["id"][:SHORT_REVISION] for row in newest) or "–",
    )


def labels(db: Database, persona_id: str) -> list[Label]:
    """The labels of a persona, by name."""
    rows = execute(
        db,
        "SELECT labels.*, revisions.id AS revision_id FROM labels "
        "JOIN revisions ON revisions.number = labels.revision WHERE labels.persona_id = ? ORDER BY name",
        (persona_id,),
    )
    return [
        Label(
            row["persona_id"],
            row["name"],
            row["revision_id"],
            Author(row["via"], decode_text(row["author"])),
            row["created_at"],
        )
        for row in rows
    ]


def set_label(db: Database, label: Label) -> None:
    """Let a label point at a revision, and note that in the history. Raises NotFoundError."""
    row = execute(db, "SELECT number FROM revisions WHERE id = ?", (label.revision,)).fetchone()
    if row is None:
        raise NotFoundError("There is no revision %(id)s in the log.", id=label.revision[:80])
    columns = {
        "persona_id": label.persona_id,
        "name": label.name,
        "revision": row["number"],
        "created_at": label.created_at,
        "via": label.author.via,
        "author": label.author.name,
    }
    insert(db, "OR REPLACE INTO labels", columns)
    _note_label(db, label.persona_id, label.name, label.author, row["number"])


def remove_label(db: Database, persona_id: str, name: str, author: Author) -> None:
    """Raises NotFoundError."""
    removed = execute(
        db, "DELETE FROM labels WHERE persona_id = ? AND name = ?", (persona_id, name)
    )
    if not removed.rowcount:
        raise NotFoundError(
            "'%(persona)s' has no label '%(label)s'. Its labels: %(labels)s.",
            persona=persona_id[:80],
            label=name[:80],
            labels=", ".join(label.name for label in labels(db, persona_id)) or "–",
        )
    _note_label(db, persona_id, name, author, None)


def _copy_labels(db: Database, former_id: str, persona_id: str) -> None:
    """Give a persona the labels of another one."""
    execute(
        db,
        "INSERT OR REPLACE INTO labels (persona_id, name, revision, created_at, via, author) "
        "SELECT ?, name, revision, created_at, via, author FROM labels WHERE persona_id = ?",
        (persona_id, former_id),
    )


def _note_label(
    db: Database, persona_id: str, name: str, author: Author, revision: int | None
) -> None:
    row: Mapping[str, Any] = {
        "id": new_id(),
        "kind": "persona",
        "file": persona_id,
        "action": "labelled",
        "created_at": now(),
        "via": author.via,
        "author": author.name,
        "revision": revision,
        "former": "",
        "message": name,
    }
    insert(db, "INTO changes", row)
