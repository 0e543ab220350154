"""What a key may use: requests a minute, tokens and cost a day and a month; and how that is told from the log."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any

from rolebook.core.errors import (
    BudgetError,
    BudgetHeldError,
    InputError,
    Phrase,
    RateLimitError,
)
from rolebook.core.frozen import frozen

#: What an answer counts as while nobody knows how long it is.
UNKNOWN_TOKENS = 1000
#: When it is worth another look at a budget that is held by turns that run.
_HELD_S = 5.0
_MOST_NAMES = 10_000


@frozen
class Limits:
    """What a key may use; ``None`` is no limit. Costs are in US dollars; days and months are those of UTC."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    cost_per_day: float | None = None
    cost_per_month: float | None = None

    @property
    def has_budget(self) -> bool:
        """Whether tokens or cost are limited."""
        budgets = (
            self.tokens_per_day,
            self.tokens_per_month,
            self.cost_per_day,
            self.cost_per_month,
        )
        return any(budget is not None for budget in budgets)

    @property
    def has_cost(self) -> bool:
        """Whether the cost is limited."""
        return self.cost_per_day is not None or self.cost_per_month is not None


@frozen
class Reserve:
    """What a turn counts as in the budget of a key until it is known what it used; ``key`` is the key's number.

    One that ``is_given_back`` counts as nothing: the turn has ended without an upstream that worked on it.
    """

    key: int
    tokens: int
    cost: float = 0.0
    is_given_back: bool = False


@frozen
class Spending:
    """What the turns of a key have used in a time.

    ``unknown`` are turns whose use nobody has told, among them those that run; ``turns`` are all of them. The reserved
    are what stands for the tokens, and for the cost, that nobody has told; the running are what of it is for turns that
    run, and may be told yet. ``without_cost`` are those that have ended and of which nobody knows what they cost.
    """

    turns: int = 0
    tokens: int = 0
    cost: float = 0.0
    unknown: int = 0
    reserved_tokens: int = 0
    reserved_cost: float = 0.0
    running_tokens: int = 0
    running_cost: float = 0.0
    without_cost: int = 0

    def __add__(self, other: Spending) -> Spending:
        """Of two times together."""
        return Spending(
            self.turns + other.turns,
            self.tokens + other.tokens,
            self.cost + other.cost,
            self.unknown + other.unknown,
            self.reserved_tokens + other.reserved_tokens,
            self.reserved_cost + other.reserved_cost,
            self.running_tokens + other.running_tokens,
            self.running_cost + other.running_cost,
            self.without_cost + other.without_cost,
        )

    def __neg__(self) -> Spending:
        """What is to be added to leave it out."""
        return Spending(
            -self.turns,
            -self.tokens,
            -self.cost,
            -self.unknown,
            -self.reserved_tokens,
            -self.reserved_cost,
            -self.running_tokens,
            -self.running_cost,
            -self.without_cost,
        )

    @property
    def amounts(self) -> tuple[float, ...]:
        """All of it as numbers, for other processes."""
        return astuple(self)

    @classmethod
    def of_amounts(cls, amounts: Iterable[float]) -> Spending:
        """As it was told."""
        nothing = cls().amounts
        typed: Any = (type(zero)(amount) for zero, amount in zip(nothing, amounts, strict=True))
        return cls(*typed)

    @property
    def has_reserved(self) -> bool:
        """Whether it holds more than what was used."""
        return self.reserved_tokens > 0 or self.reserved_cost > 0

    def reserve(self, key: int, *, tokens: int, cost: float) -> Reserve:
        """What another turn is to count as: what it is likely to use, and at least the mean of what is known."""
        known = self.turns - self.unknown
        if not known:
            return Reserve(key, tokens, cost)
        return Reserve(key, max(tokens, self.tokens // known), max(cost, self.cost / known))


def day_of(moment: datetime) -> datetime:
    """When the day began."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def month_of(moment: datetime) -> datetime:
    """When the month began."""
    return day_of(moment).replace(day=1)


@frozen
class _Budget:
    """One budget of a key, how far it is used, and by what; ``what`` says how large it is."""

    what: Phrase
    most: float
    used: float
    reserved: float
    running: float
    is_month: bool
    is_cost: bool

    @property
    def is_exhausted(self) -> bool:
        return self.used + self.reserved >= self.most

    @property
    def is_held(self) -> bool:
        """Whether some of it may be free again when the turns that run have ended."""
        return self.used + self.reserved - self.running < self.most

    def shown(self, amount: float) -> str:
        """An amount of it, as one writes it."""
        return f"${amount:.4f}" if self.is_cost else f"{amount:.0f}"


def require_budget(limits: Limits, *, day: Spending, month: Spending, moment: datetime) -> None:
    """Raises BudgetError if a turn that begins now would find a budget used up.

    Arguments:
        day: what has been used since the day began.
        month: and since the month began.
    """
    exhausted = [budget for budget in _budgets(limits, day, month) if budget.is_exhausted]
    if exhausted:
        # What only time can mend is said first: who waits for turns to end would wait for nothing.
        raise _refusal(min(exhausted, key=lambda budget: budget.is_held), moment)


def _refusal(budget: _Budget, moment: datetime) -> BudgetError:
    begin = month_of(moment) if budget.is_month else day_of(moment)
    again = _next_month(begin) if budget.is_month else begin + timedelta(days=1)
    anew_s = (again - moment).total_seconds()
    used, reserved = budget.shown(budget.used), budget.shown(budget.reserved)
    if budget.is_held:
        return BudgetHeldError(
            "What is left of the budget of this key is reserved for turns that run: of %(budget)s, %(used)s used and "
            "%(reserved)s reserved. Try again when they have ended.",
            budget=budget.what,
            used=used,
            reserved=reserved,
            retry_after_s=min(_HELD_S, anew_s),
        )
    if budget.used < budget.most:
        return BudgetError(
            "The budget of this key is used up: of %(budget)s, %(used)s used and %(reserved)s reserved for turns of "
            "which nobody has told what they used. It begins anew on %(date)s (UTC).",
            budget=budget.what,
            used=used,
            reserved=reserved,
            date=again.date().isoformat(),
            retry_after_s=anew_s,
        )
    return BudgetError(
        "The budget of this key is used up: %(budget)s. It begins anew on %(date)s (UTC).",
        budget=budget.what,
        date=again.date().isoformat(),
        retry_after_s=anew_s,
    )


def _budgets(limits: Limits, day: Spending, month: Spending) -> Iterator[_Budget]:
    for spent, is_month, tokens, dollars in (
        (day, False, limits.tokens_per_day, limits.cost_per_day),
        (month, True, limits.tokens_per_month, limits.cost_per_month),
    ):
        if tokens is not None:
            message = "%(most)s tokens a month" if is_month else "%(most)s tokens a day"
            sums = spent.tokens, spent.reserved_tokens, spent.running_tokens
            yield _Budget(Phrase(message, {"most": tokens}), tokens, *sums, is_month, is_cost=False)
        if dollars is not None:
            message = "$%(most)s a month" if is_month else "$%(most)s a day"
            costs = spent.cost, spent.reserved_cost, spent.running_cost
            yield _Budget(
                Phrase(message, {"most": dollars}), dollars, *costs, is_month, is_cost=True
            )


def _next_month(begin: datetime) -> datetime:
    return (begin + timedelta(days=32)).replace(day=1)


def parse_limits(given: Mapping[str, str]) -> Limits:
    """Limits as somebody types them, by their names; blank is none. Raises InputError."""
    return Limits(
        requests_per_minute=_count("requests_per_minute", given),
        tokens_per_day=_count("tokens_per_day", given),
        tokens_per_month=_count("tokens_per_month", given),
        cost_per_day=_dollars("cost_per_day", given),
        cost_per_month=_dollars("cost_per_month", given),
    )


def _count(name: str, given: Mapping[str, str]) -> int | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text)):
        raise InputError(
            "%(key)s must be a whole number above 0, got '%(got)s'.", key=name, got=text[:40]
        )
    return int(text)


def _dollars(name: str, given: Mapping[str, str]) -> float | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < 1e9:
        raise InputError(
            "%(key)s must be a number of US dollars above 0, got '%(got)s'.",
            key=name,
            got=text[:40],
        )
    return amount


class RateLimit:
    """At most so many events in so many seconds for each name. Safe for threads.

    A bucket that fills steadily: after a pause all of them may come at once. Only the names seen last are remembered,
    so that many names cost no memory.

    Arguments:
        count: how many events.
        seconds: in what time.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._per_second = count / seconds
        self._lock = threading.Lock()
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, name: object, moment: float) -> float:
        """Let an event pass, or say in how many seconds one could; 0: it has passed.

        Arguments:
            moment: seconds of a clock that only goes forward.
        """
        with self._lock:
            left = self._level(name, moment)
            if left < 1:
                return (1 - left) / self._per_second
            self._keep(name, left - 1, moment)
            return 0.0

    def give_back(self, name: object, moment: float) -> None:
        """An event that passed is not to count after all."""
        with self._lock:
            self._keep(name, min(self._count, self._level(name, moment) + 1), moment)

    def _level(self, name: object, moment: float) -> float:
        level, then = self._buckets.get(name, (float(self._count), moment))
        return min(float(self._count), level + (moment - then) * self._per_second)

    def _keep(self, name: object, level: float, moment: float) -> None:
        self._buckets[name] = level, moment
        self._buckets.move_to_end(name)
        while len(self._buckets) > _MOST_NAMES:
            self._buckets.popitem(last=False)


def require_rate(wait_s: float) -> None:
    """Raises RateLimitError if there is a time to wait."""
    if wait_s > 0:
        raise RateLimitError(
            "Too many requests at once. Try again in %(seconds)s s.",
            seconds=math.ceil(wait_s),
            retry_after_s=wait_s,
        )
