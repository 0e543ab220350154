"""CSV as spreadsheets read it: CRLF, and no cell that is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from rolebook.storage.encoding import show_text

#: What a file begins with: without a byte order mark Excel takes Chinese for Latin.
CSV_BEGIN = "\ufeff"

# What a spreadsheet takes for the start of a formula; the wide forms are what Chinese keyboards type.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_line(cells: Iterable[Any]) -> str:
    """One row. Texts that a spreadsheet would take for a formula begin with an apostrophe; truth is 1 or 0."""
    line = io.StringIO()
    csv.writer(line).writerow(map(_cell, cells))
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        return value
    return show_text(f"'{value}" if value.startswith(_FORMULA_STARTS) else value)
