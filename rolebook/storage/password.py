"""Passwords as they are kept: scrypt, with a salt of its own for each."""

from __future__ import annotations

import threading

from werkzeug.security import check_password_hash, generate_password_hash

from rolebook.core.errors import InputError

_SHORTEST, _LONGEST = 8, 200
_METHOD = "scrypt:32768:8:1"
#: Each takes 32 MB and a tenth of a second of a core: a crowd that knocks must not take all of both.
_gate = threading.BoundedSemaphore(2)
#: What somebody is held against whose name is not known, so that it takes as long as for one that is.
_NOBODY = generate_password_hash("nobody has this password", _METHOD)


def hash_password(password: str) -> str:
    """Raises InputError for one that is too short, or longer than anybody would type."""
    if not _SHORTEST <= len(password) <= _LONGEST:
        raise InputError(
            "A password has %(shortest)s to %(longest)s characters.",
            key="password",
            shortest=_SHORTEST,
            longest=_LONGEST,
        )
    with _gate:
        return generate_password_hash(_encodable(password), _METHOD)


def is_password(password: str, kept: str | None) -> bool:
    """Whether it is the password that is kept; takes as long where none is."""
    with _gate:
        is_right = check_password_hash(kept or _NOBODY, _encodable(password)[:_LONGEST])
    return is_right and kept is not None


def _encodable(password: str) -> str:
    return password.encode("utf-8", "backslashreplace").decode()
