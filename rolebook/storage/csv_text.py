"""CSV as spreadsheets read it: CRLF, and no cell that is a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rolebook.storage.encoding import show_text

#: What a file begins with: without a byte order mark Excel takes Chinese for Latin.
CSV_BEGIN = "\ufeff"

# What a spreadsheet takes for the start of a formula; the wide forms are what Chinese keyboards type.
_FORMULA_MARKS = "=+\\-@＝＋－＠"
_FORMULA = re.compile(f"[{_FORMULA_MARKS}\t\r\n]")
#: What has to stand in quotes. A program may take semicolons and tabs for separators, too.
_QUOTED = re.compile('[",;\t\r\n]')
# For a program that splits by semicolons or tabs alone, a quote behind a comma is a character like any other: there a
# cell or a row begins in the middle of a text. Behind a space nothing is a formula, and a list stays one.
_BEGINNING = re.compile(f'([;\t\r\n]"*)(?=[{_FORMULA_MARKS}])')
_BEGINNING_IN_JSON = re.compile(f";([{_FORMULA_MARKS}])")


def csv_line(cells: Iterable[Any]) -> str:
    """One row. Truth is 1 or 0.

    Texts that a spreadsheet would take for a formula begin with an apostrophe; where one would begin inside a text for
    a program that splits rows by something else than commas, a space stands before it.
    """
    return ",".join(map(_cell, cells)) + "\r\n"


def json_cell(text: str) -> str:
    """JSON as a cell that says the same: what could be taken for the beginning of a formula in it is escaped."""
    return _BEGINNING_IN_JSON.sub(lambda found: f";\\u{ord(found[1]):04x}", text)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(int(value) if isinstance(value, bool) else value)
    text = show_text(f"'{value}" if _FORMULA.match(value) else value)
    if _QUOTED.search(text) is None:
        return text
    doubled = _BEGINNING.sub(r"\1 ", text).replace('"', '""')
    return f'"{doubled}"'
