"""Characters that do not show, written out: text that somebody else has made must not hide what it says."""

from __future__ import annotations

import re

#: Control characters and others that do not show. An emoji flag is made of tag characters; everywhere else they and
#: their like hide what a text says.
INVISIBLE = re.compile(
    "(?P<flag>\U0001f3f4[\U000e0061-\U000e007a]{2,6}\U000e007f)"
    "|(?P<control>[\0-\x08\x0b-\x1f\x7f])"
    "|[\x80-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with control characters, bidirectional marks and other invisible characters written out.

    Line feeds and tabs stay; a control character becomes its picture (``␛``), all others their code (``⟨U+202E⟩``).
    """
    return INVISIBLE.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(match: re.Match[str]) -> str:
    character = match[0]
    if match["flag"]:
        return character
    if match["control"]:
        return "␡" if character == "\x7f" else chr(0x2400 + ord(character))
    return f"⟨U+{ord(character):04X}⟩"
