"""Passwords as they are kept: scrypt, with a salt of its own for each."""

from __future__ import annotations

import threading

from rolebook.core.errors import InputError

_SHORTEST, _LONGEST = 8, 200
_METHOD = "scrypt:32768:8:1"
#: Each takes 32 MB and a tenth of a second of a core: a crowd that knocks must not take all of both.
_gate = threading.BoundedSemaphore(2)
#: What somebody is held against whose name is not known, so that it takes as long as for one that is: the hash of a
#: random password that was thrown away.
_NOBODY = (
    "scrypt:32768:8:1$uV4CDFRWHg8MFo8T$e940d0cf1d3de62f2161b74c4a230bb771ff7ff9180133d"
    "0c61680a3e45adadd8177d22371b201b436713754ca15cccaeae38ba404ae7f3a11c90b463d784e60"
)


def hash_password(password: str) -> str:
    """Raises InputError for one that is too short, or longer than anybody would type."""
    if not _SHORTEST <= len(password) <= _LONGEST:
        raise InputError(
            "A password has %(shortest)s to %(longest)s characters.",
            key="password",
            shortest=_SHORTEST,
            longest=_LONGEST,
        )
    # Commands that know no passwords need not wait for all of werkzeug.
    from werkzeug.security import generate_password_hash

    with _gate:
        return generate_password_hash(_encodable(password), _METHOD)


def is_password(password: str, kept: str | None) -> bool:
    """Whether it is the password that is kept; takes as long where none is."""
    from werkzeug.security import check_password_hash

    with _gate:
        is_right = check_password_hash(kept or _NOBODY, _encodable(password)[:_LONGEST])
    return is_right and kept is not None


def _encodable(password: str) -> str:
    return password.encode("utf-8", "backslashreplace").decode()
