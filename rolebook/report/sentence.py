"""One thing that is said of a comparison, and what its variants are called in the middle of it."""

from __future__ import annotations

import re
from typing import Literal

from rolebook.core.frozen import frozen

#: ``clear`` is no chance, ``open`` is not told yet; ``note`` says what it rests on, ``warning`` what spoils it.
Kind = Literal["clear", "open", "note", "warning"]

#: A number with its unit, and an interval.
_FIGURE = re.compile(r"([−$<]*\d[\d,.]* [%s](?!\w)|\[[−\d][^\[\]]{0,40}\])")


@frozen
class Sentence:
    """One thing that can be said of the whole."""

    text: str
    kind: Kind

    @property
    def is_finding(self) -> bool:
        """Whether it says something of the variants, and not of what that rests on."""
        return self.kind in ("clear", "open")

    @property
    def pieces(self) -> tuple[tuple[str, bool], ...]:
        """Its text in pieces; each with whether it is a figure, which no line may break."""
        parts = _FIGURE.split(self.text)
        return tuple((part, bool(index % 2)) for index, part in enumerate(parts) if part)


@frozen
class Called:
    """A variant as a sentence begins with it, and as it stands anywhere else."""

    first: str
    within: str
