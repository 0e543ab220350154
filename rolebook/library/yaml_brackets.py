"""The entries of a YAML mapping or list in brackets, put together with the commas and comments between them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMENT = re.compile(r"#[^\r\n]*")
_COMMENT_LINES = re.compile(r"(?:[^\r\n]*(?:\r\n|[\r\n]))*[^\r\n]*#[^\r\n]*(?:\r\n|[\r\n])")


class Brackets:
    """Puts the entries between brackets together again, with what stood between them."""

    def __init__(self, gaps: Sequence[str]) -> None:
        opening, *between, closing = gaps
        comments = _COMMENT_LINES.match(closing)
        self._closing = closing[comments.end() :] if comments else closing
        self._behind: list[str | None] = [_without_comma(gap) for gap in between]
        self._behind.append(_without_comma(comments[0]) if comments else None)
        self._has_last_comma = "," in without_comments(closing)
        blanks = re.search(r"\s+\Z", self._behind[0] or "")
        self._padding = blanks[0] if blanks else " "
        # Each entry with what stands behind the comma that follows it; the bracket is the first.
        self._entries: list[tuple[str, str | None]] = [("", opening)]
        self._passed = 0

    def add(self, written: str, source: int | None) -> None:
        """One more entry; ``source`` is its place in the old text, if it still stands there."""
        if source is not None:
            self._leave_comments(source)
            self._passed = source + 1
        self._entries.append((written, self._behind[source] if source is not None else None))

    def _leave_comments(self, end: int) -> None:
        """Entries that are gone leave the comments that stood after them."""
        for gap in self._behind[self._passed : end]:
            if gap and "#" in gap:
                written, behind = self._entries.pop()
                self._entries.append((written, (behind or " ") + gap.lstrip(" \t")))

    def joined(self) -> str:
        self._leave_comments(len(self._behind))
        (_, opening), *entries, (last, comments) = self._entries
        text = opening or ""
        for written, gap in entries:
            text += f"{written},{self._padding if gap is None else gap}"
            if text.endswith(("\n", "\r")):
                text += self._padding.strip("\r\n") or " "
        text += last + "," * self._has_last_comma
        if comments and "#" in comments:
            return text + comments + _without_comma(self._closing).lstrip("\r\n")
        return text + _without_comma(self._closing)


def _without_comma(gap: str) -> str:
    """What stands between two entries, without the comma."""
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", gap)
    stripped = []
    for line in lines:
        comment = _COMMENT.search(line)
        end = comment.start() if comment else len(line)
        stripped.append(line[:end].replace(",", "") + line[end:])
    return "".join(stripped)


def without_comments(gap: str) -> str:
    """What stands between two entries, without the comments."""
    return _COMMENT.sub("", gap)
