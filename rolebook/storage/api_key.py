"""API keys, and what was spent with them: each function is the content of one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlite_utils import Database

from rolebook.core.access import ApiKey
from rolebook.core.budget import UNKNOWN_TOKENS, Limits, Spending
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
        f"{_KEYS} WHERE ?1 IS NULL OR api_keys.user = ?1 "
        "ORDER BY revoked_at IS NOT NULL, api_keys.number DESC",
        (user,),
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

    That a turn failed means that it got no answer, which costs nothing; of all others the use is known or not.
    """
    return [
        _spending(db, key.number, begin, end) if begin < end else Spending() for begin, end in times
    ]


def _spending(db: Database, number: int, begin: datetime, end: datetime) -> Spending:
    row = execute(
        db,
        "SELECT count(*) AS turns, coalesce(sum(total_tokens), 0) AS tokens, coalesce(sum(cost), 0.0) AS cost, "
        "coalesce(sum(total_tokens IS NULL), 0) AS unknown, "
        "coalesce(sum(coalesce(reserved_tokens, ?)) FILTER (WHERE total_tokens IS NULL), 0) AS reserved_tokens, "
        "coalesce(sum(reserved_cost) FILTER (WHERE cost IS NULL), 0.0) AS reserved_cost, "
        "coalesce(sum(coalesce(reserved_tokens, ?)) FILTER (WHERE status = 'pending'), 0) AS running_tokens, "
        "coalesce(sum(reserved_cost) FILTER (WHERE status = 'pending'), 0.0) AS running_cost "
        "FROM turns INDEXED BY turns_by_api_key "
        "WHERE api_key = ? AND created_at >= ? AND created_at < ? AND status <> 'failed'",
        (
            UNKNOWN_TOKENS,
            UNKNOWN_TOKENS,
            number,
            *(time.isoformat(timespec="milliseconds")[:23] for time in (begin, end)),
        ),
    ).fetchone()
    return Spending(**dict(row))


def last_used(db: Database, key: ApiKey) -> str:
    """When a turn was last begun with it; empty if none was."""
    sql = "SELECT max(created_at) FROM turns WHERE api_key = ?"
    return execute(db, sql, (key.number,)).fetchone()[0] or ""
