"""What reports are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rolebook.core.cells import Cells
    from rolebook.core.compare import CompareService
    from rolebook.storage.comparison_log import SqliteComparisonLog
    from rolebook.storage.log import SqliteLog


class Book(Protocol):
    """Where comparisons are planned, run and recorded; a Rolebook is one."""

    @property
    def cells(self) -> Cells: ...

    @property
    def compare(self) -> CompareService: ...

    @property
    def comparisons(self) -> SqliteComparisonLog: ...

    @property
    def log(self) -> SqliteLog: ...
