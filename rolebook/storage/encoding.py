"""JSON and texts as the log keeps them: whatever an upstream or a person sends can be written, and comes back.

- Text that is no valid Unicode (lone surrogates) is kept byte for byte as a BLOB in its TEXT column. Other bytes, which
  another tool has put there, are read with a replacement character for each.
- JSON is readable text; only where it holds lone surrogates is all of it in ASCII escapes.
- JSON knows no NaN and no infinity: they become the texts "NaN", "Infinity" and "-Infinity".
- What is nested deeper than 100 levels is cut there, visibly, as "…".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

_DEEPEST = 100
_SURROGATE = re.compile("[\ud800-\udfff]")


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return sorted(value, key=str)
    return str(value)


_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_json
)
_ascii_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_as_json)


def encode_json(value: Any) -> str:
    """Compact JSON that is always valid and always encodable as UTF-8. Never raises."""
    try:
        encoded = _encoder.encode(value)
    except (ValueError, TypeError, RecursionError):
        encoded = _encoder.encode(_plain(value, 0))
    return encoded if _is_unicode(encoded) else _ascii_encoder.encode(json.loads(encoded))


def encode_some(value: Mapping[str, Any] | Sequence[Any]) -> str | None:
    """The same, but nothing for an empty mapping or list."""
    return encode_json(value) if value else None


def decode_json(stored: str | None, default: Any) -> Any:
    """What :func:`encode_json` was given; ``default`` where nothing is stored."""
    return default if stored is None else json.loads(stored)


def decode_text(stored: str | bytes) -> str:
    """A text as it was, from a column that may hold a BLOB for lone surrogates."""
    if isinstance(stored, bytes):
        try:
            return stored.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return stored.decode("utf-8", "replace")
    return stored


def encode_bytes(text: str) -> bytes:
    """UTF-8, in which lone surrogates keep their place."""
    return text.encode("utf-8", "surrogatepass")


def show_text(text: str) -> str:
    """The text with a replacement character for each lone surrogate, for those that can only take valid Unicode."""
    return text if _is_unicode(text) else _SURROGATE.sub("\ufffd", text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any, depth: int) -> Any:
    """The value with everything replaced that JSON cannot hold."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, str | bytes):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 10_000:
        # Python refuses to write or read decimal numbers of more than 4,300 digits.
        return hex(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)
