from __future__ import annotations

import csv
import io
import json
from itertools import product

import pytest

from rolebook.storage.csv_text import csv_line, json_cell

MARKS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def read(line: str, separator: str) -> list[str]:
    """The cells that a program finds which splits by nothing but one separator."""
    rows = csv.reader(io.StringIO(line, newline=""), delimiter=separator)
    return [cell for row in rows for cell in row]


@pytest.mark.parametrize("separator", [";", "\t", ",", "\n", '"'])
def test_a_text_with_anything_that_separates_cells_stands_in_quotes(separator: str) -> None:
    text = f"Well{separator}so{separator}done"
    line = csv_line([text, None, 1, True, 0.5, "plain"])
    assert line.startswith('"Well')
    assert [text, "", "1", "1", "0.5", "plain"] == next(csv.reader(io.StringIO(line, newline="")))


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_is_a_formula_whatever_separates_them(separator: str, mark: str) -> None:
    begins = ("", "x", '"', "\r", "\n", ";", "\t", ",")
    for before, between, quotes in product(begins, begins[3:], ("", '"', '""')):
        said = f"{before}{between}{quotes}{mark}1+1&{quotes}{between}"
        cells = read(csv_line(["id", said, 7, said]), separator)
        assert [cell for cell in cells if cell.startswith(MARKS)] == [], repr(said)


def test_honest_texts_stay_as_they_are_but_for_a_space() -> None:
    said = 'Two things; one - the first:\r\n- a\n- "b"\n\nx = y;\n\n  - c; see @d'
    (cell,) = read(csv_line([said]), ",")
    assert said.replace("\n-", "\n -") == cell


@pytest.mark.parametrize("mark", MARKS)
def test_json_says_the_same_and_begins_no_formula(mark: str) -> None:
    data = {f"a;{mark}1": [f'x";"{mark}1', f";;\\;{mark}1\n{mark}\t{mark}"]}
    line = csv_line(["id", json_cell(json.dumps(data, ensure_ascii=False))])
    assert data == json.loads(read(line, ",")[1])
    for separator in (";", "\t"):
        assert [cell for cell in read(line, separator) if cell.startswith(MARKS)] == []
