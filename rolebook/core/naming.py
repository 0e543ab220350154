"""How long names may be, and how many fields, that others give: of models, sessions, upstreams and what is asked for.

A name stands in the log, in lists and in messages, so that whoever may only talk could make all of these as long as one
request may be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rolebook.core.errors import InputError

#: Longer than any name of a model that servers go by, be it the path of a file.
MAX_NAME = 256
#: Request fields beside the messages; all that the OpenAI API knows are some forty.
MAX_FIELDS = 100


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
