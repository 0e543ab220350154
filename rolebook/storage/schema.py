"""The tables, indexes and views of the log, and how a file gets them. ``docs/the-log.md`` explains each.

Columns that are short and often looked at stand before those that hold texts, because SQLite reads a row from its
start.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from sqlite_utils import Database, Migrations

from rolebook.core.errors import StorageError
from rolebook.storage.connection import (
    DAMAGED,
    connect,
    connect_writer,
    is_busy,
    storage_error,
    transaction,
)
from rolebook.storage.readable import is_unreadable_result, is_unreadable_turn

migrations = Migrations("rolebook")

_TABLES = (
    """
CREATE TABLE revisions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    persona_id TEXT NOT NULL,
    persona_name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    resolved TEXT NOT NULL,
    templates TEXT NOT NULL
)""",
    """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    activity INTEGER NOT NULL,
    persona_id TEXT NOT NULL,
    revision INTEGER NOT NULL REFERENCES revisions(number),
    is_starred INTEGER NOT NULL,
    is_purged INTEGER NOT NULL DEFAULT 0,
    deleted_at TEXT,
    created_at TEXT NOT NULL,
    used_at TEXT NOT NULL,
    upstream TEXT NOT NULL,
    model TEXT NOT NULL,
    forked_from TEXT NOT NULL,
    title TEXT NOT NULL,
    inherited TEXT,
    variables TEXT,
    parameters TEXT
)""",
    "CREATE INDEX sessions_by_activity ON sessions(activity)",
    "CREATE INDEX sessions_by_persona ON sessions(persona_id)",
    "CREATE INDEX sessions_deleted ON sessions(deleted_at) WHERE deleted_at IS NOT NULL",
    """
CREATE TABLE session_tags (
    session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (session, tag)
) WITHOUT ROWID""",
    "CREATE INDEX session_tags_by_tag ON session_tags(tag)",
    """
CREATE TABLE turns (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session INTEGER NOT NULL REFERENCES sessions(number),
    position INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    is_current INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    owner TEXT,
    revision INTEGER NOT NULL REFERENCES revisions(number),
    created_at TEXT NOT NULL,
    upstream TEXT NOT NULL,
    model_requested TEXT NOT NULL,
    model TEXT NOT NULL DEFAULT '',
    endpoint TEXT NOT NULL,
    is_streamed INTEGER NOT NULL,
    dropped_turns INTEGER NOT NULL,
    chosen INTEGER NOT NULL DEFAULT 0,
    finish_reason TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    total_tokens INTEGER,
    cached_tokens INTEGER,
    reasoning_tokens INTEGER,
    cost REAL,
    time_to_first_token_ms REAL,
    duration_ms REAL,
    input TEXT NOT NULL,
    text TEXT,
    messages TEXT NOT NULL,
    parameters_requested TEXT,
    parameters_sent TEXT,
    adaptations TEXT,
    error TEXT,
    choices TEXT,
    reply BLOB,
    UNIQUE (session, position, attempt)
)""",
    "CREATE INDEX turns_by_model ON turns(model_requested, session)",
    "CREATE INDEX turns_not_complete ON turns(status, session) WHERE status <> 'complete'",
    # ``turn`` is no foreign key, because that would need an index of its own to keep deleting quick.
    """
CREATE TABLE messages (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    role TEXT NOT NULL,
    turn INTEGER,
    content TEXT
)""",
    # Without its own copy of the texts, and without word counts, which only ranking by relevance would need.
    """
CREATE VIRTUAL TABLE turn_search USING fts5(
    input, text, title, content='', columnsize=0, tokenize='unicode61 remove_diacritics 2'
)""",
)

_VIEWS = (
    """
CREATE VIEW readable_turns AS
SELECT
    turns.number, turns.id AS turn_id, sessions.id AS session_id, sessions.title AS session_title,
    turns.position, turns.attempt, turns.is_current, turns.status,
    sessions.persona_id, revisions.persona_name, revisions.id AS revision,
    turns.upstream, turns.model_requested, turns.model, turns.input, turns.text, turns.finish_reason,
    turns.prompt_tokens, turns.completion_tokens, turns.total_tokens, turns.cost,
    turns.time_to_first_token_ms, turns.duration_ms, turns.parameters_requested, turns.parameters_sent,
    turns.dropped_turns, turns.error ->> 'code' AS error_code, turns.created_at
FROM turns
JOIN sessions ON sessions.number = turns.session
JOIN revisions ON revisions.number = turns.revision
WHERE sessions.deleted_at IS NULL""",
    """
CREATE VIEW readable_sessions AS
SELECT
    sessions.number, sessions.id AS session_id, sessions.title, sessions.persona_id, revisions.persona_name,
    (SELECT group_concat(tag, ', ') FROM session_tags WHERE session = sessions.number) AS tags,
    sessions.is_starred,
    coalesce(sum(turns.is_current), 0) AS turns, count(turns.number) AS attempts,
    sum(turns.total_tokens) AS total_tokens, sum(turns.cost) AS cost,
    sum(turns.number IS NOT NULL AND turns.cost IS NULL) AS turns_without_cost,
    sessions.created_at, sessions.used_at
FROM sessions
JOIN revisions ON revisions.number = sessions.revision
LEFT JOIN turns ON turns.session = sessions.number
WHERE sessions.deleted_at IS NULL
GROUP BY sessions.number""",
    """
CREATE VIEW readable_personas AS
SELECT
    sessions.persona_id, revisions.persona_name, revisions.id AS revision, turns.model_requested,
    count(DISTINCT sessions.number) AS sessions, count(*) AS turns, sum(turns.status = 'complete') AS complete,
    avg(turns.completion_tokens) AS mean_completion_tokens, avg(turns.duration_ms) AS mean_duration_ms,
    sum(turns.cost) AS cost, max(turns.created_at) AS last_used_at
FROM turns
JOIN sessions ON sessions.number = turns.session
JOIN revisions ON revisions.number = turns.revision
WHERE sessions.deleted_at IS NULL
GROUP BY sessions.persona_id, revisions.number, turns.model_requested""",
    """
CREATE VIEW readable_messages AS
SELECT
    turns.id AS turn_id, listed.key + 1 AS place, messages.role,
    coalesce(messages.content, CASE messages.role WHEN 'assistant' THEN source.text ELSE source.input END) AS content
FROM turns
JOIN json_each(turns.messages) AS listed
JOIN messages ON messages.number = listed.value
LEFT JOIN turns AS source ON source.number = messages.turn""",
)


@migrations(name="0001_sessions_and_turns")
def _create_sessions_and_turns(db: Database) -> None:
    for statement in (*_TABLES, *_VIEWS):
        db.execute(statement)


_COMPARISONS = (
    """
CREATE TABLE comparisons (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    question TEXT NOT NULL,
    created_at TEXT NOT NULL,
    deleted_at TEXT,
    repeats_of TEXT NOT NULL,
    runner TEXT,
    plan TEXT NOT NULL
)""",
    "ALTER TABLE sessions ADD COLUMN comparison INTEGER REFERENCES comparisons(number)",
    # No foreign keys for what points to turns only to say so: each would need an index of its own.
    "ALTER TABLE sessions ADD COLUMN judges INTEGER",
    """
CREATE TABLE cells (
    comparison INTEGER NOT NULL REFERENCES comparisons(number) ON DELETE CASCADE,
    input INTEGER NOT NULL,
    repeat INTEGER NOT NULL,
    variant INTEGER NOT NULL,
    session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
    reused TEXT,
    PRIMARY KEY (comparison, input, repeat, variant)
) WITHOUT ROWID""",
    "CREATE INDEX cells_by_session ON cells(session)",
    "CREATE INDEX sessions_by_comparison ON sessions(comparison) WHERE comparison IS NOT NULL",
    """
CREATE TABLE check_results (
    turn INTEGER NOT NULL REFERENCES turns(number) ON DELETE CASCADE,
    label TEXT NOT NULL,
    digest TEXT NOT NULL,
    comparison INTEGER,
    has_passed INTEGER,
    value,
    said TEXT NOT NULL,
    judged_by INTEGER,
    created_at TEXT NOT NULL,
    PRIMARY KEY (turn, label, digest)
) WITHOUT ROWID""",
    """
CREATE TABLE ballots (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    comparison INTEGER NOT NULL REFERENCES comparisons(number) ON DELETE CASCADE,
    input INTEGER NOT NULL,
    left_variant INTEGER NOT NULL,
    left_repeat INTEGER NOT NULL,
    right_variant INTEGER NOT NULL,
    right_repeat INTEGER NOT NULL,
    outcome TEXT,
    is_skipped INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    voted_at TEXT
)""",
    "CREATE INDEX ballots_by_comparison ON ballots(comparison)",
    """
CREATE TABLE turn_marks (
    turn INTEGER PRIMARY KEY REFERENCES turns(number) ON DELETE CASCADE,
    is_starred INTEGER NOT NULL,
    thumb INTEGER NOT NULL,
    note TEXT NOT NULL,
    updated_at TEXT NOT NULL
)""",
)

_COMPARISON_VIEWS = (
    """
CREATE VIEW readable_cells AS
SELECT
    comparisons.id AS comparison_id, comparisons.question,
    cells.input + 1 AS input, cells.repeat + 1 AS repeat, cells.variant + 1 AS variant,
    comparisons.plan ->> ('$.variants[' || cells.variant || '].name') AS variant_name,
    cells.reused IS NOT NULL AS is_reused,
    turns.id AS turn_id, turns.position, turns.status, turns.model, turns.input AS said, turns.text,
    turns.finish_reason, turns.prompt_tokens, turns.completion_tokens, turns.cost,
    turns.time_to_first_token_ms, turns.duration_ms,
    (SELECT count(*) FROM check_results WHERE turn = turns.number AND has_passed) AS checks_passed,
    (SELECT count(*) FROM check_results WHERE turn = turns.number AND NOT has_passed) AS checks_failed
FROM cells
JOIN comparisons ON comparisons.number = cells.comparison
JOIN turns ON CASE WHEN cells.reused IS NULL THEN turns.session = cells.session AND turns.is_current
    ELSE turns.number IN (SELECT value FROM json_each(cells.reused)) END
WHERE comparisons.deleted_at IS NULL""",
    """
CREATE VIEW readable_votes AS
SELECT
    comparisons.id AS comparison_id, comparisons.question, ballots.input + 1 AS input,
    comparisons.plan ->> ('$.variants[' || ballots.left_variant || '].name') AS left_variant,
    comparisons.plan ->> ('$.variants[' || ballots.right_variant || '].name') AS right_variant,
    ballots.outcome, ballots.voted_at
FROM ballots
JOIN comparisons ON comparisons.number = ballots.comparison
WHERE comparisons.deleted_at IS NULL AND ballots.outcome IS NOT NULL""",
    """
CREATE VIEW readable_checks AS
SELECT
    turns.id AS turn_id, sessions.id AS session_id, sessions.persona_id, revisions.id AS revision,
    check_results.label, check_results.has_passed, check_results.value, check_results.created_at
FROM check_results
JOIN turns ON turns.number = check_results.turn
JOIN sessions ON sessions.number = turns.session
JOIN revisions ON revisions.number = turns.revision
WHERE sessions.deleted_at IS NULL""",
)


@migrations(name="0002_comparisons")
def _create_comparisons(db: Database) -> None:
    for statement in (*_COMPARISONS, *_COMPARISON_VIEWS):
        db.execute(statement)


_USERS = (
    # Numbers are never given twice: what somebody has begun must not become another's who comes after.
    """
CREATE TABLE users (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    folded_name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at TEXT NOT NULL,
    password TEXT NOT NULL
)""",
    """
CREATE TABLE logins (
    hash BLOB PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES users(number) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    used_at TEXT NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX logins_by_user ON logins(user)",
    """
CREATE TABLE api_keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE,
    user INTEGER NOT NULL REFERENCES users(number) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    revoked_at TEXT,
    name TEXT NOT NULL,
    hint TEXT NOT NULL,
    scope TEXT NOT NULL,
    limits TEXT
)""",
    "CREATE INDEX api_keys_by_user ON api_keys(user)",
    # No foreign keys: what somebody has said stays in the log when they are gone.
    "ALTER TABLE sessions ADD COLUMN user INTEGER",
    "ALTER TABLE sessions ADD COLUMN api_key INTEGER",
    "ALTER TABLE comparisons ADD COLUMN user INTEGER",
    "ALTER TABLE turns ADD COLUMN api_key INTEGER",
    "CREATE INDEX sessions_by_user ON sessions(user, activity) WHERE user IS NOT NULL",
    "CREATE INDEX comparisons_by_user ON comparisons(user) WHERE user IS NOT NULL",
    # Holds all that a budget asks for, so that a month of turns is summed up without reading one of them.
    "CREATE INDEX turns_by_api_key ON turns(api_key, created_at, status, total_tokens, cost) "
    "WHERE api_key IS NOT NULL",
)


@migrations(name="0003_users")
def _create_users(db: Database) -> None:
    for statement in _USERS:
        db.execute(statement)


_STANDING_IN = (
    "ALTER TABLE turns ADD COLUMN upstream_requested TEXT",
    "DROP VIEW readable_turns",
    _VIEWS[0].replace("turns.upstream,", "turns.upstream, turns.upstream_requested,"),
)


@migrations(name="0004_standing_in")
def _add_upstream_requested(db: Database) -> None:
    for statement in _STANDING_IN:
        db.execute(statement)


_TRANSCRIPTS = (
    "ALTER TABLE messages ADD COLUMN fields TEXT",
    "ALTER TABLE turns ADD COLUMN via TEXT",
    "CREATE INDEX turns_by_via ON turns(via, session) WHERE via IS NOT NULL",
    # ``turn`` is no foreign key, for the same reason as that of messages.
    """
CREATE TABLE transcripts (
    digest BLOB NOT NULL,
    turn INTEGER NOT NULL,
    choice INTEGER NOT NULL,
    PRIMARY KEY (digest, turn)
) WITHOUT ROWID""",
    "DROP VIEW readable_turns",
    _STANDING_IN[2].replace("turns.created_at", "turns.created_at, turns.via"),
    "DROP VIEW readable_messages",
    _VIEWS[3].replace(" AS content", " AS content,\n    messages.fields"),
)


@migrations(name="0005_transcripts")
def _create_transcripts(db: Database) -> None:
    for statement in _TRANSCRIPTS:
        db.execute(statement)


_HISTORY = (
    """
CREATE TABLE sources (
    number INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL
)""",
    """
CREATE TABLE changes (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    file TEXT NOT NULL,
    action TEXT NOT NULL,
    created_at TEXT NOT NULL,
    via TEXT NOT NULL,
    author TEXT NOT NULL,
    source INTEGER REFERENCES sources(number),
    revision INTEGER REFERENCES revisions(number),
    former TEXT NOT NULL,
    message TEXT NOT NULL,
    causes TEXT
)""",
    "CREATE INDEX changes_by_file ON changes(kind, file, number, action)",
    """
CREATE TABLE labels (
    persona_id TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL REFERENCES revisions(number),
    created_at TEXT NOT NULL,
    via TEXT NOT NULL,
    author TEXT NOT NULL,
    PRIMARY KEY (persona_id, name)
) WITHOUT ROWID""",
    "CREATE INDEX revisions_by_persona ON revisions(persona_id)",
    "ALTER TABLE sessions ADD COLUMN pin TEXT NOT NULL DEFAULT ''",
    # What people have talked with before there were histories. Of what only comparisons tried there is no file.
    """
INSERT INTO changes (id, kind, file, action, created_at, via, author, revision, former, message)
SELECT revisions.id, 'persona', revisions.persona_id, 'used', revisions.created_at, 'turn', '', revisions.number, '', ''
FROM revisions WHERE persona_id <> '' AND number IN (SELECT revision FROM sessions WHERE activity > 0 UNION
    SELECT turns.revision FROM turns JOIN sessions ON sessions.number = turns.session WHERE activity > 0)""",
    """
CREATE VIEW readable_changes AS
SELECT
    changes.number, changes.id AS change_id, changes.kind, changes.file, changes.action, changes.created_at,
    changes.via, changes.author, revisions.id AS revision, changes.former, changes.causes, changes.message,
    sources.text AS source
FROM changes
LEFT JOIN revisions ON revisions.number = changes.revision
LEFT JOIN sources ON sources.number = changes.source""",
)


@migrations(name="0006_history")
def _create_history(db: Database) -> None:
    for statement in _HISTORY:
        db.execute(statement)


@migrations(name="0007_breaks")
def _create_breaks(db: Database) -> None:
    # Why the last run broke off, as a list in JSON.
    db.execute("ALTER TABLE comparisons ADD COLUMN breaks TEXT")


@migrations(name="0008_rounds")
def _create_rounds(db: Database) -> None:
    # How often the two answers had been voted on or skipped when they were laid before somebody.
    db.execute("ALTER TABLE ballots ADD COLUMN round INTEGER NOT NULL DEFAULT 0")


@migrations(name="0009_reserves")
def _create_reserves(db: Database) -> None:
    # What a turn of a key with a budget counts as until its use is known.
    db.execute("ALTER TABLE turns ADD COLUMN reserved_tokens INTEGER")
    db.execute("ALTER TABLE turns ADD COLUMN reserved_cost REAL")
    db.execute("DROP INDEX turns_by_api_key")
    # Still all that a budget asks for.
    db.execute(
        "CREATE INDEX turns_by_api_key "
        "ON turns(api_key, created_at, status, total_tokens, cost, reserved_tokens, reserved_cost) "
        "WHERE api_key IS NOT NULL"
    )


@migrations(name="0010_trials")
def _create_trials(db: Database) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN is_trial INTEGER NOT NULL DEFAULT 0")
    # What was said to a draft before its text stood in the file. Who tried the saved text beside it, nobody has noted.
    db.execute(
        "UPDATE sessions SET is_trial = 1 WHERE pin <> '' "
        "AND pin = (SELECT id FROM revisions WHERE number = sessions.revision) AND EXISTS ("
        "SELECT 1 FROM changes WHERE kind = 'persona' AND file = sessions.persona_id "
        "AND changes.revision = sessions.revision AND action = 'tried') AND NOT EXISTS ("
        "SELECT 1 FROM changes WHERE kind = 'persona' AND file = sessions.persona_id "
        "AND changes.revision = sessions.revision AND action NOT IN ('tried', 'labelled', 'used') "
        "AND changes.created_at <= sessions.created_at)"
    )


@migrations(name="0011_spendings")
def _create_spendings(db: Database) -> None:
    # What a key has used in an hour with turns that were removed for good since.
    db.execute("""
CREATE TABLE spendings (
    api_key INTEGER NOT NULL REFERENCES api_keys(number) ON DELETE CASCADE,
    hour TEXT NOT NULL,
    turns INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    unknown INTEGER NOT NULL,
    reserved_tokens INTEGER NOT NULL,
    reserved_cost REAL NOT NULL,
    PRIMARY KEY (api_key, hour)
) WITHOUT ROWID""")
    # Until now what had failed counted as nothing, whatever was reserved for it.
    db.execute(
        "UPDATE turns SET reserved_tokens = 0, reserved_cost = 0 "
        "WHERE status = 'failed' AND reserved_tokens IS NOT NULL"
    )


@migrations(name="0012_unreadable")
def _create_unreadable(db: Database) -> None:
    # What cannot be read, which is hardly ever anything, so that a long comparison need not be looked through for it.
    db.execute(f"CREATE INDEX turns_unreadable ON turns(number) WHERE {is_unreadable_turn()}")
    db.execute(
        f"CREATE INDEX check_results_unreadable ON check_results(turn) WHERE {is_unreadable_result()}"
    )


@migrations(name="0013_unreadable_columns")
def _recreate_unreadable(db: Database) -> None:
    # All columns of a turn count by now, of which any could keep a page from being shown.
    db.execute("DROP INDEX turns_unreadable")
    db.execute("DROP INDEX check_results_unreadable")
    _create_unreadable(db)


@migrations(name="0014_renamings")
def _index_renamings(db: Database) -> None:
    # Each turn asks what its persona is called by now, which is told by a few of many changes.
    db.execute("CREATE INDEX changes_renamed ON changes(kind, former) WHERE action = 'renamed'")


@migrations(name="0015_unknown_costs")
def _count_unknown_costs(db: Database) -> None:
    # Of the turns that were removed for good, how many nobody knows the cost of; of those until now it is not told.
    db.execute("ALTER TABLE spendings ADD COLUMN without_cost INTEGER NOT NULL DEFAULT 0")


def known_migrations() -> tuple[str, ...]:
    """The names of all migrations, oldest first; their number is the schema's version."""
    with closing(Database(memory=True, execute_plugins=False)) as empty:
        return tuple(migration.name for migration in migrations.pending(empty))


def prepare(path: Path, *, patience_s: float) -> Database:
    """The connection to write with, to a file that has the newest schema; made or brought up to date if need be.

    A file that is no log of Rolebook, or of a newer one, is only ever looked at.

    Arguments:
        path: the log; folders on the way are made.
        patience_s: how long a lock of somebody else is waited for.

    Raises StorageError.
    """
    try:
        _require_folder(path)
        _require_file(path)
        return _opened(path, patience_s)
    except sqlite3.Error as error:
        raise storage_error(error, path) from error
    except OSError as error:
        raise StorageError(
            "The folder of the log %(path)s cannot be used: %(reason)s. Name another file in ROLEBOOK_DATABASE.",
            path=str(path),
            reason=error.strerror or str(error),
        ) from error


def require_sound(path: Path) -> None:
    """Raises StorageError if SQLite's quick check finds the file damaged. Only looks."""
    if not path.exists():
        return
    try:
        with closing(connect(path, mode="ro")) as db:
            problems = quick_check(db)
    except sqlite3.Error as error:
        raise storage_error(error, path) from error
    if problems:
        raise StorageError(DAMAGED, path=str(path), reason=problems[0].replace("\n", " "))


def quick_check(db: Database) -> tuple[str, ...]:
    """What SQLite's quick check finds wrong in the file; nothing in a sound one. Takes seconds for gigabytes."""
    findings = [str(row[0]) for row in db.execute("PRAGMA quick_check(5)").fetchall()]
    return tuple(finding for finding in findings if finding != "ok")


def _require_folder(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unwritable = next(
        (p for p in (path.parent, path) if p.exists() and not os.access(p, os.W_OK)), None
    )
    if unwritable:
        raise StorageError(
            "The log %(path)s cannot be kept: %(place)s is read-only. Allow writing there, or name another file in "
            "ROLEBOOK_DATABASE.",
            path=str(path),
            place=str(unwritable),
        )


def _require_file(path: Path) -> None:
    """Make the file, if there is none, such that no other account of this computer can read it; SQLite makes those
    beside it alike. Whoever has opened it for others afterwards has done so on purpose.
    """
    # Why it cannot be made, SQLite finds as well.
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _require_known_schema(path: Path) -> None:
    with closing(connect(path, mode="ro")) as db:
        tables = {
            row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        applied = {migration.name for migration in migrations.applied(db)}
    # Another process may be making the file right now, and begins with the list of its migrations.
    if tables - {migrations.migrations_table} and not applied:
        raise StorageError(
            "%(path)s is a database of another program, not a log of Rolebook. It was not touched. Name another "
            "file in ROLEBOOK_DATABASE.",
            path=str(path),
        )
    if newer := applied - set(known_migrations()):
        raise StorageError(
            "The log %(path)s was written by a newer Rolebook (%(migration)s). It was not touched. Use that version, "
            "or name another file in ROLEBOOK_DATABASE.",
            path=str(path),
            migration=max(newer),
        )


def _opened(path: Path, patience_s: float) -> Database:
    """Retries, because neither switching a new file to WAL nor recovering one waits for another process at it."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if path.exists() and path.stat().st_size:
                _require_known_schema(path)
            return _migrated(path, patience_s)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _migrated(path: Path, patience_s: float) -> Database:
    db = connect_writer(path, patience_s=patience_s)
    try:
        if migrations.pending(db):
            with transaction(db):
                migrations.apply(db)
    except BaseException:
        db.close()
        raise
    return db
