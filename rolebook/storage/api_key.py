"""API keys, and what was spent with them: each function is the content of one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlite_utils import Database

from rolebook.core.access import ApiKey
from rolebook.core.budget import UNKNOWN_TOKENS, Limits, Spending, month_of
from rolebook.core.errors import NotFoundError
from rolebook.core.session import now
from rolebook.storage.connection import execute, insert
from rolebook.storage.encoding import decode_json, encode_json, encode_some
from rolebook.storage.user import user_of

_KEYS = (
    "SELECT api_keys.number AS key_number, api_keys.id, api_keys.name AS key_name, api_keys.hint, api_keys.scope, "
    "api_keys.limits, api_keys.created_at AS made_at, api_keys.revoked_at, users.* "
    "FROM api_keys JOIN users ON users.number = api_keys.user"
)


def create_key(db: Database, key: ApiKey, hash: bytes) -> ApiKey:
    """Record a key by the hash of its token. Returns it with its number."""
    limits = {name: value for name, value in asdict(key.limits).items() if value is not None}
    row: dict[str, Any] = {
        "id": key.id,
        "hash": hash,
        "user": key.user.number,
        "created_at": now(),
        "name": key.name,
        "hint": key.hint,
        "scope": encode_json(key.scope),
        "limits": encode_some(limits),
    }
    number = int(insert(db, "INTO api_keys", row).lastrowid)
    return replace(key, number=number, created_at=row["created_at"])


def find_key(db: Database, hash: bytes) -> ApiKey | None:
    """The key with a token of this hash, unless it was revoked."""
    sql = f"{_KEYS} WHERE hash = ? AND revoked_at IS NULL"
    row = execute(db, sql, (hash,)).fetchone()
    return None if row is None else _key_of(row)


def list_keys(db: Database, user: int | None) -> list[ApiKey]:
    """The keys of a user, or of all, the newest first; revoked ones last."""
    rows = execute(
        db,
        f"{_KEYS} WHERE :user IS NULL OR api_keys.user = :user "
        "ORDER BY revoked_at IS NOT NULL, api_keys.number DESC",
        {"user": user},
    )
    return [_key_of(row) for row in rows]


def get_key(db: Database, key_id: str) -> ApiKey:
    """Raises NotFoundError."""
    row = execute(db, f"{_KEYS} WHERE api_keys.id = ?", (key_id,)).fetchone()
    if row is None:
        raise NotFoundError("There is no API key %(id)s.", id=key_id[:80])
    return _key_of(row)


def revoke_key(db: Database, key: ApiKey) -> None:
    """From now on it opens nothing."""
    sql = "UPDATE api_keys SET revoked_at = ? WHERE number = ? AND revoked_at IS NULL"
    execute(db, sql, (now(), key.number))


def _key_of(row: sqlite3.Row) -> ApiKey:
    return ApiKey(
        number=row["key_number"],
        id=row["id"],
        user=user_of(row),
        name=row["key_name"],
        hint=row["hint"],
        scope=tuple(decode_json(row["scope"], ())),
        limits=Limits(**decode_json(row["limits"], {})),
        created_at=row["made_at"],
        revoked_at=row["revoked_at"] or "",
    )


#: All times that the log writes are before it.
ALWAYS = datetime.max.replace(tzinfo=UTC)


def spending(
    db: Database, key: ApiKey, times: Sequence[tuple[datetime, datetime]]
) -> list[Spending]:
    """What the turns of a key have used that were begun in some times, each from its begin to before its end.

    Times are those at which hours begin. Turns that were removed for good since count as well.
    Where nobody has told what they used, they count as what is reserved for them.
    """
    return [
        _spending(db, key.number, begin, end) if begin < end else Spending() for begin, end in times
    ]


#: What the turns of a key have used, by the names of Spending; what of it is for those that run is left out.
_USED = (
    "count(*) AS turns, coalesce(sum(total_tokens), 0) AS tokens, coalesce(sum(cost), 0.0) AS cost, "
    "coalesce(sum(total_tokens IS NULL), 0) AS unknown, "
    f"coalesce(sum(coalesce(reserved_tokens, {UNKNOWN_TOKENS})) FILTER (WHERE total_tokens IS NULL), 0) "
    "AS reserved_tokens, "
    "coalesce(sum(reserved_cost) FILTER (WHERE cost IS NULL), 0.0) AS reserved_cost, "
    "coalesce(sum(cost IS NULL AND status <> 'pending'), 0) AS without_cost"
)
_RUNNING = (
    f"coalesce(sum(coalesce(reserved_tokens, {UNKNOWN_TOKENS})) FILTER (WHERE status = 'pending'), 0) "
    "AS running_tokens, "
    "coalesce(sum(reserved_cost) FILTER (WHERE status = 'pending'), 0.0) AS running_cost"
)
#: A turn that failed counts only as far as an upstream has worked on it, or may have.
_COUNTS = "(status <> 'failed' OR total_tokens > 0 OR cost > 0 OR reserved_tokens > 0 OR reserved_cost > 0)"
_KEPT = (
    "turns",
    "tokens",
    "cost",
    "unknown",
    "reserved_tokens",
    "reserved_cost",
    "without_cost",
)


def _spending(db: Database, number: int, begin: datetime, end: datetime) -> Spending:
    row = execute(
        db,
        f"SELECT {_USED}, {_RUNNING} FROM turns INDEXED BY turns_by_api_key "
        f"WHERE api_key = ? AND created_at >= ? AND created_at < ? AND {_COUNTS}",
        (number, *(time.isoformat(timespec="milliseconds")[:23] for time in (begin, end))),
    ).fetchone()
    kept = execute(
        db,
        f"SELECT {', '.join(f'coalesce(sum({name}), 0) AS {name}' for name in _KEPT)} FROM spendings "
        "WHERE api_key = ? AND hour >= ? AND hour < ?",
        (number, _hour(begin), _hour(end)),
    ).fetchone()
    return Spending(**dict(row)) + Spending(**dict(kept))


def keep_spending(db: Database, turns: str) -> None:
    """Let these turns, whose numbers are a list in JSON, count for their keys also when they are removed.

    Only those of the month that runs are ever asked for again.
    """
    month = month_of(datetime.now(UTC))
    execute(db, "DELETE FROM spendings WHERE hour < ?", (_hour(month),))
    execute(
        db,
        f"INSERT INTO spendings (api_key, hour, {', '.join(_KEPT)}) "
        f"SELECT api_key, substr(created_at, 1, {len(_hour(month))}) AS hour, {_USED} FROM turns "
        "WHERE number IN (SELECT value FROM json_each(?)) AND api_key IN (SELECT number FROM api_keys) "
        f"AND created_at >= ? AND {_COUNTS} GROUP BY api_key, hour "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _KEPT)}",
        (turns, _hour(month)),
    )


def _hour(time: datetime) -> str:
    """As the times in the log begin in this hour."""
    return time.isoformat()[: len("2026-11-20T21")]


def last_used(db: Database, key: ApiKey) -> str:
    """When a turn was last begun with it; empty if none was."""
    sql = "SELECT max(created_at) FROM turns WHERE api_key = ?"
    return execute(db, sql, (key.number,)).fetchone()[0] or ""
