"""CSV as spreadsheets read it: CRLF, and no cell that is a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rolebook.storage.encoding import show_text

#: What a file begins with: without a byte order mark Excel takes Chinese for Latin.
CSV_BEGIN = "\ufeff"

# What a spreadsheet takes for the start of a formula; the wide forms are what Chinese keyboards type.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


#: What has to stand in quotes. A program may take semicolons and tabs for separators, too.
_QUOTED = re.compile('[",;\t\r\n]')


def csv_line(cells: Iterable[Any]) -> str:
    """One row. Texts that a spreadsheet would take for a formula begin with an apostrophe; truth is 1 or 0."""
    return ",".join(map(_cell, cells)) + "\r\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(int(value) if isinstance(value, bool) else value)
    text = show_text(f"'{value}" if value.startswith(_FORMULA_STARTS) else value)
    if _QUOTED.search(text) is None:
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
