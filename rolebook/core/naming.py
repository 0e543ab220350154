"""What names others may give: how a persona's id is written, how long names of models, sessions, upstreams and what is
asked for may be, and how many fields a request has.

A name stands in the log, in lists and in messages, so that whoever may only talk could make all of these as long as one
request may be.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from rolebook.core.errors import InputError

PERSONA_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
#: Names that Windows keeps for devices; a repository of personas must work there too.
_DEVICE = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
KEPT_NAME = "Windows keeps the name '%(name)s' for a device: choose another one."
#: Longer than any name of a model that servers go by, be it the path of a file.
MAX_NAME = 256
#: Request fields beside the messages; all that the OpenAI API knows are some forty.
MAX_FIELDS = 100


def is_persona_id(text: str) -> bool:
    """Whether ``text`` may be a persona's id: lower-case letters, digits, ``-`` and ``_``, 64 at most."""
    return bool(PERSONA_ID.fullmatch(text)) and not _DEVICE.fullmatch(text)


def require_persona_id(text: str) -> None:
    """Raises InputError that says why ``text`` may be no persona's id."""
    if is_persona_id(text):
        return
    if PERSONA_ID.fullmatch(text):
        raise InputError(KEPT_NAME, name=text)
    raise InputError(
        "'%(id)s' makes no id: use lower-case letters, digits, - and _, 64 at most.", id=text[:80]
    )


def require_short(key: str, name: str) -> None:
    """Raises InputError for a name that is too long to be one.

    Arguments:
        key: what it is the name of; of a name that is its own the begin is told.
    """
    if len(name) > MAX_NAME:
        raise InputError(
            "%(key)s has %(count)d characters, and %(limit)d are the most.",
            key=key[:80],
            count=len(name),
            limit=MAX_NAME,
        )


def require_fields(names: Collection[str]) -> None:
    """Raises InputError for more request fields than a request has, and for one with too long a name."""
    if len(names) > MAX_FIELDS:
        raise InputError(
            "These are %(count)d request fields, and %(limit)d are the most.",
            count=len(names),
            limit=MAX_FIELDS,
        )
    for name in names:
        require_short(name, name)


def require_spelling(given: Iterable[str], known: Iterable[str], *, within: str = "") -> None:
    """Raises InputError for a field that is a known one but for letter case.

    Servers written in Go take both for the same, so that one would be passed by under the name of the other.

    Arguments:
        within: what has these fields, if it is not the request itself.
    """
    names = {name.casefold(): name for name in known}
    for name in given:
        plain = names.get(name.casefold(), name)
        if plain != name:
            raise InputError(
                "%(key)s must be written %(name)s: capital letters count.",
                key=f"{within}.{name[:80]}" if within else name[:80],
                name=plain,
            )
