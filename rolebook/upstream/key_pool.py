"""The keys of one upstream: which of them is called with next, and which of them rest.

A key rests because the server said so: too many requests, quota used up, key refused. Servers count per model, and a
key may be allowed one and not another, so it rests for the model that was asked for; a key that is dead costs one call
for each model. All times are those of a monotonic clock, so that no change of the computer's time shortens a rest.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Literal, Self

from rolebook.core.access import Right, may, payer
from rolebook.core.errors import (
    UpstreamError,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRateError,
)
from rolebook.core.frozen import frozen
from rolebook.core.shared import SharedPlaces
from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.address import is_openai
from rolebook.upstream.pace import LONGEST_PAUSE_S

KeyState = Literal["ready", "limited", "quota", "refused", "unusable"]

QUOTA_REST_S = 600.0
"""How long a key rests whose quota is used up, unless the server asks for longer: money comes back slowly."""
REFUSED_REST_S = 3600.0
"""How long a refused key rests."""

_SHORTEST_REST_S = 0.05
_FIRST_REST_S = 0.5
"""How long a limited key rests where the server does not say; twice as long each time that it happens again."""
_LONGEST_GUESS_S = 30.0
_MOST_MODELS = 256
_FIRST_LOOK_S = 0.001
"""How soon the first in line looks whether another process has given back a place; each time twice as long after."""
_LONGEST_LOOK_S = 0.01


@frozen
class KeyHealth:
    """One key of the pool as it may be shown. ``position`` counts from 1; it and ``source`` say which key it is.

    ``seconds`` are those until it is tried again by itself, ``reason`` the server's own words and ``models`` those that
    it rests for. ``calls`` were made with it, ``failures`` of them failed because of it.
    """

    position: int
    hint: str
    source: str
    state: KeyState
    seconds: float
    reason: str
    models: tuple[str, ...]
    running: int
    calls: int
    failures: Mapping[KeyState, int]


@dataclass(slots=True)
class _Rest:
    """Until when a key is left alone for one model, and why. ``strikes`` count how often in a row."""

    until: float
    state: KeyState
    detail: str
    strikes: int


@dataclass(slots=True, eq=False)
class _Slot:
    """One key and what is known of it; the key is None for a server without keys."""

    position: int
    key: Key | None
    is_flawed: bool = False
    running: int = 0
    calls: int = 0
    last_used: int = 0
    failures: dict[KeyState, int] = field(default_factory=dict)
    rests: dict[str, _Rest] = field(default_factory=dict)

    def free_at(self, model: str) -> float:
        """When it may be called with; infinity for a key that no server could accept."""
        if self.is_flawed:
            return math.inf
        rest = self.rests.get(model)
        return rest.until if rest is not None else 0.0


class Lease:
    """One key while a call is made with it; ``place`` is what it holds of what processes share."""

    __slots__ = ("_pool", "model", "place", "slot")

    def __init__(self, pool: KeyPool, slot: _Slot, model: str, place: int | None = None) -> None:
        self._pool = pool
        self.slot = slot
        self.model = model
        self.place = place

    @property
    def key(self) -> Key | None:
        """None: the server may need none."""
        return self.slot.key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.give_back(self)


class Ticket(threading.Event):
    """A place in the line of those who wait for a key with room; set when it may be worth another look.

    ``since`` is when it came to stand there, ``looks`` how often it has looked in vain since it is the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.since = math.inf
        self.looks = 0


class KeyPool:
    """Hands out the least busy key that does not rest; among equals the one used longest ago. Safe for threads.

    Arguments:
        clock: seconds that only ever go forward.
    """

    def __init__(
        self, settings: UpstreamSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._most = settings.concurrency or math.inf
        self._clock = clock
        self._lock = threading.Lock()
        self._line: deque[Ticket] = deque()
        self._uses = count(1)
        self._places: SharedPlaces | None = None
        self._slots = [
            _Slot(position, key, not _is_sound(key))
            for position, key in enumerate(settings.keys, 1)
        ]
        if not self._slots and not is_openai(settings.base_url):
            self._slots = [_Slot(0, None)]

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def waiting(self) -> int:
        """How many calls wait for a key with room."""
        return len(self._line)

    def share(self, places: SharedPlaces) -> None:
        """Let the calls of other processes count too where it is limited how many may run at once with a key."""
        if self._settings.concurrency:
            self._places = places

    def take(
        self, model: str, ticket: Ticket | None = None, tried: Collection[int] = ()
    ) -> Lease | None:
        """A key to call ``model`` with; None if all rest or are busy, or if others have waited longer.

        Arguments:
            ticket: the caller's place in the line, which a success takes out of it.
            tried: the positions of keys that have failed the caller; others come first, however busy they are.
        """
        with self._lock:
            if self._line and self._line[0] is not ticket:
                return None
            slot, place = self._choose(model, ticket, tried)
            if slot is None:
                return None
            slot.running += 1
            slot.calls += 1
            slot.last_used = next(self._uses)
            if ticket is not None:
                self._step_out(ticket)
            return Lease(self, slot, model, place)

    def _choose(
        self, model: str, ticket: Ticket | None, tried: Collection[int]
    ) -> tuple[_Slot | None, int | None]:
        """The next key, and its place among those of all processes where these are counted."""
        now = self._clock()
        free = [slot for slot in self._slots if slot.free_at(model) <= now]
        free.sort(key=lambda slot: (slot.position in tried, slot.running, slot.last_used))
        if self._places is not None:
            return self._choose_shared(free, self._places, now, ticket)
        return next((slot for slot in free if slot.running < self._most), None), None

    def _choose_shared(
        self, free: Sequence[_Slot], places: SharedPlaces, now: float, ticket: Ticket | None
    ) -> tuple[_Slot | None, int | None]:
        names = [f"{self._settings.name} {slot.position}" for slot in free]
        since = ticket.since if ticket is not None else now
        found = places.take(names, self._settings.concurrency, since)
        if found is None:
            if ticket is not None:
                places.wait(names, since)
            return None, None
        return free[found[0]], found[1]

    def give_back(self, lease: Lease) -> None:
        """The call is over, however it went."""
        with self._lock:
            lease.slot.running -= 1
            if self._places is not None and lease.place is not None:
                self._places.give_back(lease.place)
            if self._line:
                self._line[0].set()

    def stand_in_line(self, ticket: Ticket) -> None:
        """Wait for a key with room; those who came first are served first."""
        with self._lock:
            if ticket not in self._line:
                ticket.since = self._clock()
                self._line.append(ticket)

    def leave_line(self, ticket: Ticket) -> None:
        """Wait no longer."""
        with self._lock:
            self._step_out(ticket)

    def _step_out(self, ticket: Ticket) -> None:
        if ticket in self._line:
            self._line.remove(ticket)
            ticket.looks = 0
            if self._line:
                self._line[0].set()
            elif self._places is not None:
                self._places.wait((), ticket.since)

    def look_s(self, ticket: Ticket) -> float:
        """Seconds after which a ticket should look again though nothing was heard; infinity where all is heard."""
        with self._lock:
            if self._places is None or not self._line or self._line[0] is not ticket:
                return math.inf
            ticket.looks += 1
            return min(_FIRST_LOOK_S * 2.0 ** min(ticket.looks - 1, 16), _LONGEST_LOOK_S)

    def rest_s(self, model: str) -> float:
        """Seconds until a key has rested; 0 where one is only busy, infinity where none ever will."""
        with self._lock:
            soonest = min((slot.free_at(model) for slot in self._slots), default=math.inf)
            return max(0.0, soonest - self._clock())

    def note_success(self, lease: Lease) -> None:
        """The server has accepted the key."""
        if not lease.slot.rests:
            return
        with self._lock:
            rest = lease.slot.rests.get(lease.model)
            if rest is not None and rest.until <= self._clock():
                del lease.slot.rests[lease.model]

    def note_failure(self, lease: Lease, error: UpstreamError) -> bool:
        """Let the key rest if ``error`` is about it. Whether it is."""
        state = _state_after(error)
        if state is None or (lease.key is None and state != "limited"):
            return False
        slot, model, detail = lease.slot, lease.model, error.detail
        with self._lock:
            now = self._clock()
            slot.failures[state] = slot.failures.get(state, 0) + 1
            before = slot.rests.pop(model, None)
            is_news = before is None or before.until <= now
            strikes = 1 if before is None else before.strikes + is_news
            until = now + _rest_after(error, state, strikes)
            if before is not None and before.until > until:
                # Calls that were under way together are refused together: a later word does not shorten a rest.
                until, state, detail = before.until, before.state, before.detail
            slot.rests[model] = _Rest(until, state, detail, strikes)
            if len(slot.rests) > _MOST_MODELS:
                del slot.rests[min(slot.rests, key=lambda name: slot.rests[name].until)]
        return True

    def try_again(self, position: int) -> bool:
        """Let a key rest no longer. False if there is none at this position."""
        with self._lock:
            for slot in self._slots:
                if slot.position == position:
                    slot.rests.clear()
                    if self._line:
                        self._line[0].set()
                    return True
        return False

    def health(self) -> Sequence[KeyHealth]:
        """Every key with its state, as plain values."""
        with self._lock:
            now = self._clock()
            return [_health_of(slot, now) for slot in self._slots if slot.key is not None]

    def refusal(self, model: str) -> UpstreamError:
        """Why there is no key to call ``model`` with, though nobody was asked."""
        if not self._slots:
            return UpstreamKeyError(
                "%(upstream)s needs a key and none is set. Put it into OPENAI_API_KEY, or into a file named by "
                "OPENAI_API_KEY_FILE, and start again."
            )
        with self._lock:
            usable = [slot for slot in self._slots if not slot.is_flawed]
            if not usable:
                return _flawed(self._slots[0])
            now = self._clock()
            resting = [slot for slot in usable if slot.free_at(model) > now]
            if len(resting) < len(usable):
                return UpstreamRateError(
                    "As many calls to %(upstream)s run as its settings allow, and none of them ended in time. Try "
                    "again in a moment."
                )
            first = min(resting, key=lambda slot: slot.free_at(model))
            states = {slot.rests[model].state for slot in resting}
            rest = first.rests[model]
        refused = _refusal_of_one(first, rest) if len(self._slots) == 1 else _refusal_of_all(states)
        seconds = rest.until - now
        refused.detail = rest.detail
        refused.retry_after_s = refused.parameters["retry_after_s"] = seconds
        refused.parameters["minutes"] = math.ceil(seconds / 60)
        refused.parameters["seconds"] = math.ceil(seconds)
        return refused


def _is_sound(key: Key) -> bool:
    """Whether a server could accept the key at all."""
    value = key.value
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def _flawed(slot: _Slot) -> UpstreamKeyError:
    return UpstreamKeyError(
        "The key for %(upstream)s from %(source)s is empty or holds a blank, a line break or a letter that no "
        "key has. Copy it again, in one piece.",
        source=(slot.key.source if slot.key else "") or "the settings",
    )


def _state_after(error: UpstreamError) -> KeyState | None:
    """What an error says of the key; None if it is about something else."""
    match error:
        case UpstreamQuotaError():
            return "quota"
        case UpstreamRateError():
            return "limited"
        case UpstreamKeyError():
            return "refused"
    return None


def _rest_after(error: UpstreamError, state: KeyState, strikes: int) -> float:
    """Seconds that a key rests: as long as the server asks, within reason."""
    least = {"quota": QUOTA_REST_S, "refused": REFUSED_REST_S}.get(state, _SHORTEST_REST_S)
    asked_s = error.retry_after_s
    if asked_s is None and state == "limited":
        asked_s = min(_FIRST_REST_S * 2.0 ** min(strikes - 1, 16), _LONGEST_GUESS_S)
    return min(max(asked_s or 0.0, least), LONGEST_PAUSE_S)


#: For whoever looks after no keys: which one it is, and where it comes from, is nothing to tell every caller.
KEY_REFUSED = (
    "%(upstream)s does not accept a key that is set for it. Tell whoever runs Rolebook here: the status page says "
    "which one it is."
)


def _refusal_of_one(slot: _Slot, rest: _Rest) -> UpstreamError:
    if rest.state == "limited" or slot.key is None:
        return UpstreamRateError(
            "%(upstream)s gets too many requests from this key. Wait a little and try again."
        )
    if rest.state == "quota":
        return UpstreamQuotaError(
            "The quota of the key for %(upstream)s is used up, so it rests for another %(minutes)d minutes. Add credit "
            "or raise its limit; the status page then tries it again at once."
        )
    if not may(payer(), Right.WATCH):
        return UpstreamKeyError(KEY_REFUSED)
    return UpstreamKeyError(
        "%(upstream)s has refused the key %(hint)s from %(source)s, so it rests for another %(minutes)d minutes. Mend "
        "it where it comes from; the status page then tries it again at once.",
        hint=slot.key.hint,
        source=slot.key.source or "the settings",
    )


def _refusal_of_all(states: Collection[KeyState]) -> UpstreamError:
    if "limited" in states:
        return UpstreamRateError(
            "No key for %(upstream)s can be used now: they are at their limits. One may be used again in %(seconds)d "
            "s; the status page shows each of them."
        )
    if "quota" in states:
        return UpstreamQuotaError(
            "No key for %(upstream)s can be used: their quota is used up. Add credit or another key; the status page "
            "shows each of them and tries it again at once."
        )
    return UpstreamKeyError(
        "%(upstream)s has refused every key that is set for it. The status page says why, and tries one again at once."
    )


_GRAVITY: Sequence[KeyState] = ("limited", "quota", "refused")


def _health_of(slot: _Slot, now: float) -> KeyHealth:
    rests = {model: rest for model, rest in slot.rests.items() if rest.until > now}
    worst = max(rests.values(), key=lambda rest: _GRAVITY.index(rest.state), default=None)
    state: KeyState = "unusable" if slot.is_flawed else worst.state if worst else "ready"
    alike = {model: rest for model, rest in rests.items() if rest.state == state}
    assert slot.key is not None
    return KeyHealth(
        position=slot.position,
        hint=slot.key.hint,
        source=slot.key.source,
        state=state,
        seconds=min((rest.until - now for rest in alike.values()), default=0.0),
        reason=worst.detail if worst else "",
        models=tuple(sorted(filter(None, alike))),
        running=slot.running,
        calls=slot.calls,
        failures=dict(slot.failures),
    )
