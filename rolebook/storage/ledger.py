"""What API keys have used, as the turns in the log tell: :class:`Ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlite_utils import Database

from rolebook.core.access import ApiKey
from rolebook.core.budget import Spending, day_of, month_of, require_budget
from rolebook.storage.api_key import ALWAYS, spending


class Ledger:
    """Sums up what keys have used. Safe for threads.

    What was begun more than an hour ago is over and stays as it is, so that it is summed up once an hour: else a key
    with a hundred thousand turns a month would pay for it at each of them.
    """

    def __init__(self) -> None:
        self._settled: dict[int, tuple[datetime, Sequence[Spending]]] = {}

    def spending(self, db: Database, key: ApiKey) -> tuple[Spending, Spending]:
        """What a key has used today and this month, in UTC, on a connection that sees all turns."""
        moment = datetime.now(UTC)
        settled = moment.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        begins = day_of(moment), month_of(moment)
        known = self._settled.get(key.number)
        if known is None or known[0] != settled:
            known = settled, spending(db, key, [(begin, settled) for begin in begins])
            self._settled[key.number] = known
        recent = spending(db, key, [(max(begin, settled), ALWAYS) for begin in begins])
        day, month = (past + now for past, now in zip(known[1], recent, strict=True))
        return day, month

    def require_budget(
        self, db: Database, key: ApiKey, unwritten: Spending | None = None
    ) -> tuple[Spending, Spending]:
        """Raises BudgetError if a key may begin no turn now, else returns what it has used today and this month.

        Arguments:
            unwritten: what it has used that the file does not tell.
        """
        more = unwritten or Spending()
        day, month = (spent + more for spent in self.spending(db, key))
        require_budget(key.limits, day=day, month=month, moment=datetime.now(UTC))
        return day, month
