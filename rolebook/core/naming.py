"""How long names may be, and how many fields, that others give: of models, sessions, upstreams and what is asked for.

A name stands in the log, in lists and in messages, so that whoever may only talk could make all of these as long as one
request may be.
"""

from __future__ import annotations

from collections.abc import Collection

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
