"""Users and their logins: each function is the content of one transaction."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from datetime import UTC, datetime, timedelta

from sqlite_utils import Database

from rolebook.core.access import Role, User
from rolebook.core.errors import ConflictError, InputError, NotFoundError
from rolebook.core.session import now
from rolebook.storage.connection import execute, insert

#: Letters and digits of any script, and what stands in addresses; no blank at an end.
_NAME = re.compile(r"\w(?:[\w\x20.@+-]{0,58}[\w.+-])?")
#: What is longer is none, and is looked at no further: anybody may send what takes long to fold.
_LONGEST_NAME = 100
#: A login ends when it was not used for a week, and after a month whatever happens.
IDLE = timedelta(days=7)
LONGEST = timedelta(days=30)
#: To say that it is still used once in so long is often enough, and spares a write at every request.
_NOTED_EVERY = timedelta(hours=1)


def fold_name(name: str) -> str:
    """What two names have in common that people would take for one; of what is too long to be a name, of its begin."""
    return unicodedata.normalize("NFKC", name[:_LONGEST_NAME]).casefold()


def has_users(db: Database) -> bool:
    """Whether there is any."""
    return bool(execute(db, "SELECT EXISTS (SELECT 1 FROM users)").fetchone()[0])


def create_user(db: Database, name: str, role: Role, password: str) -> User:
    """Raises InputError for a name that is none, ConflictError if it is taken.

    Arguments:
        password: its hash.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not _NAME.fullmatch(name):
        raise InputError(
            "A name has at most 60 letters, digits, blanks and . @ + - _, got '%(got)s'.",
            key="name",
            got=name[:80],
        )
    if _row_of(db, name) is not None:
        raise ConflictError("There is a user '%(name)s' already.", name=name)
    row = {
        "name": name,
        "folded_name": fold_name(name),
        "role": role.value,
        "created_at": now(),
        "password": password,
    }
    number = int(insert(db, "INTO users", row).lastrowid)
    return User(number, name, role, row["created_at"])


def list_users(db: Database) -> list[User]:
    """All of them, by name."""
    return [user_of(row) for row in execute(db, "SELECT * FROM users ORDER BY folded_name")]


def get_user(db: Database, name: str) -> User:
    """By name, however it is written. Raises NotFoundError."""
    row = _row_of(db, name)
    if row is None:
        raise NotFoundError("There is no user '%(name)s'.", name=name[:80])
    return user_of(row)


def find_password(db: Database, name: str) -> tuple[User, str] | None:
    """A user with the hash of their password."""
    row = _row_of(db, name)
    return None if row is None else (user_of(row), row["password"])


def _row_of(db: Database, name: str) -> sqlite3.Row | None:
    sql = "SELECT * FROM users WHERE folded_name = ?"
    row: sqlite3.Row | None = execute(db, sql, (fold_name(name.strip()),)).fetchone()
    return row


def user_of(row: sqlite3.Row) -> User:
    """A user from a row of ``users``."""
    return User(row["number"], row["name"], Role(row["role"]), row["created_at"])


def set_password(db: Database, user: User, password: str, *, but: bytes = b"") -> None:
    """Change a password, given as its hash, and end all logins of the user ``but`` the one with this hash."""
    execute(db, "UPDATE users SET password = ? WHERE number = ?", (password, user.number))
    execute(db, "DELETE FROM logins WHERE user = ? AND hash <> ?", (user.number, but))


def set_role(db: Database, user: User, role: Role) -> None:
    """Raises ConflictError if nobody could administer anything afterwards."""
    if role is not Role.ADMINISTRATOR:
        _require_another_administrator(db, user)
    execute(db, "UPDATE users SET role = ? WHERE number = ?", (role.value, user.number))


def remove_user(db: Database, user: User, *, may_be_last: bool = False) -> None:
    """Remove a user with their keys and logins; what they said stays in the log.

    Arguments:
        may_be_last: whether it is meant that afterwards nobody has to log in.

    Raises ConflictError if those who remain could administer nothing, and if nobody remains unless that is meant.
    """
    if execute(db, "SELECT count(*) FROM users").fetchone()[0] > 1:
        _require_another_administrator(db, user)
    elif not may_be_last:
        raise ConflictError(
            "'%(name)s' is the only user, and without users nobody has to log in: who reaches Rolebook then, may do"
            " everything. If that is what you want: rolebook users remove NAME --last",
            name=user.name,
        )
    execute(db, "DELETE FROM users WHERE number = ?", (user.number,))


def _require_another_administrator(db: Database, user: User) -> None:
    sql = "SELECT EXISTS (SELECT 1 FROM users WHERE role = ? AND number <> ?)"
    if not execute(db, sql, (Role.ADMINISTRATOR.value, user.number)).fetchone()[0]:
        raise ConflictError(
            "'%(name)s' is the only administrator. Make another user one first.", name=user.name
        )


def begin_login(db: Database, user: User, hash: bytes, *, instead_of: bytes) -> None:
    """Record a login, end the one that the same browser had, and forget what has expired."""
    execute(db, "DELETE FROM logins WHERE hash = ?", (instead_of,))
    moment = datetime.now(UTC)
    execute(
        db,
        "DELETE FROM logins WHERE used_at < ? OR created_at < ?",
        (_text(moment - IDLE), _text(moment - LONGEST)),
    )
    row = {"hash": hash, "user": user.number, "created_at": now(), "used_at": now()}
    insert(db, "INTO logins", row)


def find_login(db: Database, hash: bytes) -> tuple[User, bool] | None:
    """Who has logged in so, while that has not expired, and whether it is time to note that it is used."""
    moment = datetime.now(UTC)
    row = execute(
        db,
        "SELECT users.*, logins.used_at FROM logins JOIN users ON users.number = logins.user "
        "WHERE hash = ? AND used_at >= ? AND logins.created_at >= ?",
        (hash, _text(moment - IDLE), _text(moment - LONGEST)),
    ).fetchone()
    if row is None:
        return None
    return user_of(row), row["used_at"] < _text(moment - _NOTED_EVERY)


def note_login(db: Database, hash: bytes) -> None:
    """It is still used."""
    execute(db, "UPDATE logins SET used_at = ? WHERE hash = ?", (now(), hash))


def end_login(db: Database, hash: bytes) -> None:
    """Somebody logs out."""
    execute(db, "DELETE FROM logins WHERE hash = ?", (hash,))


def _text(moment: datetime) -> str:
    """As the log writes times."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
