from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rolebook.storage.log import SqliteLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    """A fresh log that gives up waiting soon and tries again soon."""
    log = SqliteLog(tmp_path / "data" / "rolebook.db", patience_s=0.2, retry_s=0.1)
    yield log
    log.close()
