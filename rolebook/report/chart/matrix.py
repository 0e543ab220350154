"""Who won against whom, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rolebook.core.frozen import frozen
from rolebook.report.chart.axis import (
    CELL_PX,
    NARROW_PX,
    PERCENT,
    WIDE_PX,
    Name,
    Unit,
    cut_name,
)

MATRIX_CELL_PX = 44
MATRIX_HEAD_PX = 24
#: What the names beside the matrix take of its width, in per cent.
MATRIX_NAMES = 34.0


@frozen
class Duel:
    """How one variant did against another: its share of the wins, 0 to 1, in ``n`` votes; None before the first."""

    share: float | None
    n: int


@frozen
class MatrixCell:
    """How the variant of a row did against that of a column: ``x`` and ``width`` in per cent, ``heat`` from 0 to 10.

    ``heat`` is None where there is no vote, ``is_diagonal`` where a variant meets itself. ``short_text`` leaves out the
    unit, which every cell would repeat.
    """

    duel: Duel | None
    column: int
    x: float
    width: float
    heat: int | None
    text: str
    short_text: str
    is_diagonal: bool

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@frozen
class MatrixRow:
    """A variant's wins against each of the others; ``number`` stands for it over its column."""

    number: int
    name: Name
    hue_class: str
    y: float
    cells: tuple[MatrixCell, ...]


@frozen
class MatrixChart:
    """Variants by variants, in cells of ``cell_px`` pixels down."""

    rows: tuple[MatrixRow, ...]
    cell_px: ClassVar[float] = MATRIX_CELL_PX

    @property
    def height(self) -> float:
        return MATRIX_HEAD_PX + len(self.rows) * MATRIX_CELL_PX

    @property
    def clearest(self) -> tuple[MatrixRow, MatrixRow, MatrixCell] | None:
        """Winner, loser and cell of the pair that is least likely to be even, if any is not even."""
        duels = [
            (row, other, cell)
            for row in self.rows
            for other, cell in zip(self.rows, row.cells, strict=True)
            if not cell.is_diagonal and _lead(cell.duel) > 0
        ]
        return max(duels, key=lambda duel: _lead(duel[2].duel), default=None)


def _lead(duel: Duel | None) -> float:
    """How far a share is from even, in standard errors of an even one (but for a factor)."""
    if duel is None or duel.share is None:
        return 0.0
    return (duel.share - 0.5) * math.sqrt(duel.n)


def matrix_chart(
    variants: Sequence[tuple[str, str]], duels: Sequence[Sequence[Duel | None]]
) -> MatrixChart:
    """A heat map of wins.

    Arguments:
        variants: name and hue class of each.
        duels: for each variant a row, in it for each variant how the first did against it; None on the diagonal.
    """
    width = (100 - MATRIX_NAMES) / max(1, len(variants))
    return MatrixChart(
        tuple(
            MatrixRow(
                index + 1,
                cut_name(label, wide=_names_room(WIDE_PX), narrow=_names_room(NARROW_PX)),
                hue_class,
                MATRIX_HEAD_PX + index * MATRIX_CELL_PX,
                tuple(
                    _matrix_cell(duel, column, width=width, is_diagonal=column == index)
                    for column, duel in enumerate(duels[index])
                ),
            )
            for index, (label, hue_class) in enumerate(variants)
        )
    )


def _names_room(width_px: float) -> int:
    """For the names beside a matrix, after their number."""
    return int((width_px * MATRIX_NAMES / 100 - 28) / CELL_PX)


def _matrix_cell(duel: Duel | None, column: int, *, width: float, is_diagonal: bool) -> MatrixCell:
    share = None if is_diagonal or duel is None else duel.share
    return MatrixCell(
        duel,
        column,
        MATRIX_NAMES + column * width,
        width,
        None if share is None else round(share * 10),
        "" if is_diagonal else PERCENT.text(share, 0.01),
        "" if is_diagonal else Unit(factor=100).text(share, 0.01),
        is_diagonal,
    )
