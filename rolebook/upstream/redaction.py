"""Keeps secrets out of what is shown, logged and stored."""

from __future__ import annotations

import base64
import logging
import re
import threading
import traceback
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

from rolebook.core.upstream import UpstreamSettings
from rolebook.upstream.address import password_of

REMOVED = "[key removed]"

_SHORTEST_SECRET = 6
"""A shorter secret would tear holes into innocent words, and protects nothing."""
_TELLING_START = 12
"""As much of a key's start gives it away: servers repeat keys cut in the middle."""
_MASKED_START = 4
"""Servers also repeat a key with its middle masked; what they leave of it is more than anyone needs to see."""


class Redactor:
    """Removes secrets from texts: as they are, as JSON writes them, URL-encoded, in base64, masked, and cut off.

    Arguments:
        secrets: keys and passwords.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {
            form for secret in secrets if len(secret) >= _SHORTEST_SECRET for form in _forms(secret)
        }
        longest_first = sorted(forms, key=len, reverse=True)
        self.pattern = re.compile("|".join(longest_first), re.IGNORECASE) if forms else None

    def redact(self, text: str) -> str:
        """``text`` without any secret."""
        return self.pattern.sub(REMOVED, text) if self.pattern else text


def redactor_of(settings: UpstreamSettings) -> Redactor:
    """Removes the keys of an upstream, and the password of its proxy."""
    return Redactor([*(key.value for key in settings.keys), password_of(settings.proxy)])


def _forms(secret: str) -> Iterable[str]:
    yield re.escape(secret)
    yield re.escape(secret.replace("/", r"\/"))
    yield re.escape(quote(secret, safe=""))
    yield re.escape(quote_plus(secret))
    if len(secret) > _TELLING_START:
        yield re.escape(secret[:_TELLING_START]) + r"[\w.~+/=-]*"
        yield (
            re.escape(secret[:_MASKED_START])
            + r"[\w.~+/=-]{,40}(?:\*{2,}|…|\.{3,})(?:[\w.~+/=*-]*[\w*])?"
        )
    raw = secret.encode("utf-8", "surrogatepass")
    for offset in range(3):
        # In base64 a secret looks different at each of three offsets; its first and last letters depend on what is
        # around it.
        encoded = base64.b64encode(bytes(offset) + raw).decode().rstrip("=")
        middle = encoded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
        yield re.escape(middle) + "=*"
        yield re.escape(middle.replace("+", "-").replace("/", "_")) + "=*"


_installing = threading.Lock()
_protected: dict[str, Redactor] = {}


def protect_logs(redactor: Redactor) -> None:
    """Remove the secrets of ``redactor`` from every log record of this process, whoever writes it, and from what
    :func:`redacted` is given, as a record gets what it carries besides its message only later.

    A filter would have to be put on each logger by name, and the openai client and its transport have many; the
    record factory is the one place that all records pass.
    """
    if redactor.pattern is None:
        return
    with _installing:
        if not _protected:
            _wrap_record_factory()
        _protected[redactor.pattern.pattern] = redactor


def _wrap_record_factory() -> None:
    make_record = logging.getLogRecordFactory()

    def make_clean_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        _clean(record)
        return record

    logging.setLogRecordFactory(make_clean_record)


def redacted(text: str) -> str:
    """``text`` without any secret of any upstream of this process."""
    for redactor in tuple(_protected.values()):
        text = redactor.redact(text)
    return text


def _clean(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:
        return  # Arguments that do not fit: logging itself reports them when the record is written.
    if (clean := redacted(text)) != text:
        record.msg, record.args = clean, None
    if record.exc_info and record.exc_info[1] is not None:
        shown = "".join(traceback.format_exception(record.exc_info[1]))
        if (clean := redacted(shown)) != shown:
            record.exc_text = clean.rstrip()
