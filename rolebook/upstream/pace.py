"""How long a server asks to be left alone, in the many ways in which servers say so."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: The longest pause that is believed, whatever a server asks for: by then it is another day.
LONGEST_PAUSE_S = 86_400.0
_LIMITS = ("requests", "tokens")
_DURATION = re.compile(
    r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_UNITS_S = (86_400, 3600, 60, 1, 0.001)
_EARLIEST_EPOCH_S = 1e9
_EARLIEST_EPOCH_MS = 1e12


def asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server which has refused a call for its rate asks to wait; None if it does not say."""
    seconds = retry_after(headers)
    return _believed(_until_reset(headers)) if seconds is None else seconds


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds by ``Retry-After`` (RFC 9110, section 10.2.3) and ``retry-after-ms``; None without them."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            seconds = float(milliseconds) / 1000
        elif value is not None and not value.strip().endswith("GMT"):
            seconds = float(value)
        else:
            seconds = _http_date(value or "") - _now(headers)
    except (ValueError, TypeError, OverflowError):
        return None
    return _believed(max(0.0, seconds)) if math.isfinite(seconds) else None


def _now(headers: Mapping[str, str]) -> float:
    """The time by the clock of the server that names another one: this computer's may be an hour behind."""
    try:
        return _http_date(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return time.time()


def _http_date(text: str) -> float:
    date = parsedate_to_datetime(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _believed(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, LONGEST_PAUSE_S)


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until there is room again, by ``x-ratelimit-reset-requests``, ``-tokens`` (OpenAI) or none (OpenRouter).

    Where it is known which limit has no room left, that one counts; else the one that is over first.
    """
    now = _now(headers)
    resets = {limit: _parsed(headers.get(f"x-ratelimit-reset-{limit}"), now) for limit in _LIMITS}
    known = {limit: seconds for limit, seconds in resets.items() if seconds is not None}
    spent = [
        seconds
        for limit, seconds in known.items()
        if headers.get(f"x-ratelimit-remaining-{limit}", "").strip() == "0"
    ]
    if spent:
        return max(spent)
    return min(known.values()) if known else _parsed(headers.get("x-ratelimit-reset"), now)


def _parsed(value: str | None, now: float) -> float | None:
    """Seconds from now: ``1s``, ``6m0s``, ``120ms``, ``17.5``, a time in seconds or milliseconds since 1970, a date."""
    text = (value or "").strip()
    if not text:
        return None
    duration = _DURATION.fullmatch(text)
    if duration is not None:
        parts = zip(duration.groups(), _UNITS_S, strict=True)
        return sum(float(count) * unit for count, unit in parts if count is not None)
    try:
        seconds = float(text)
    except ValueError:
        return _until_date(text, now)
    if not math.isfinite(seconds):
        return None
    if seconds >= _EARLIEST_EPOCH_MS:
        seconds = seconds / 1000 - now
    elif seconds >= _EARLIEST_EPOCH_S:
        seconds -= now
    return max(0.0, seconds)


def _until_date(text: str, now: float) -> float | None:
    try:
        date = datetime.fromisoformat(text)
        return max(0.0, date.timestamp() - now) if date.tzinfo else None
    except (ValueError, OverflowError, OSError):
        return None
