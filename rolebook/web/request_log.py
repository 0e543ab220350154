"""A line of JSON for every request and every turn, for machines that collect them; and an id for every request.

Nothing that was said, nobody's name and no address is in them: a request is known by its route, not by its path.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, cast

from flask import Flask, Request, Response, has_request_context

from rolebook.core.session import Turn, new_id
from rolebook.upstream.redaction import redacted
from rolebook.web.current import rolebook, this_request
from rolebook.wiring import Rolebook

REQUEST_ID = "X-Request-Id"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Collectors take lines of some length only: Docker, for one, breaks them in two after 16 KB.
_LONGEST, _LONGEST_EXCEPTION = 1000, 6000

_requests = logging.getLogger("rolebook.request")
_turns = logging.getLogger("rolebook.turn")


class JSONFormatter(logging.Formatter):
    """One line for a record: time in UTC, level, logger, message, and what it carries in ``fields``.

    Long texts are cut.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if has_request_context():
            line.setdefault("request_id", _request().id)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Upstreams repeat keys, as the name of a model for instance.
        clean = {name: redacted(it) if isinstance(it, str) else it for name, it in line.items()}
        # What has failed stands at the end of an exception, and at the begin of all else.
        exception = clean.get("exception")
        short = {name: it[:_LONGEST] if isinstance(it, str) else it for name, it in clean.items()}
        if isinstance(exception, str):
            short["exception"] = exception[-_LONGEST_EXCEPTION:]
        return json.dumps(short, ensure_ascii=True, default=str)


def write_json_lines() -> None:
    """From now on all that is logged goes to standard error, a line of JSON each; so does what the server says."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for logger in (_requests, _turns):
        logger.setLevel(logging.INFO)
    # It has handlers of its own, set when it starts.
    for own in logging.getLogger("gunicorn.error").handlers:
        own.setFormatter(handler.formatter)


class _Request(Request):
    """A request that has an id: the one that a proxy gave it, else that of the turn it begins, else one of ours.

    Without a proxy anybody may have written what it came with, or copied it from the answer to somebody else. Then it
    is logged beside our own.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.began = time.monotonic()
        self.turn_id = ""

    @cached_property
    def id(self) -> str:
        given = self.given_id if rolebook().settings.proxies else ""
        return given or self.turn_id or new_id()

    @cached_property
    def given_id(self) -> str:
        """What it came with; empty if that is nothing for a log."""
        given = self.headers.get(REQUEST_ID, "")
        return given if _GIVEN_ID.fullmatch(given) else ""


def _request() -> _Request:
    return cast(_Request, this_request())


def follow(app: Flask, book: Rolebook) -> None:
    """Give each request of an application an id, and log it and each turn of a Rolebook if anybody listens."""
    app.request_class = _Request
    app.after_request(_end)
    book.chat.listen(_log_turn)


def name_request(turn_id: str) -> None:
    """Let the answer to the request at hand be found by the id of its turn: it is in the headers of the response, and
    in the line that is logged of it, beside the id that the request came with.
    """
    _request().turn_id = turn_id


def _end(response: Response) -> Response:
    asked = _request()
    response.headers[REQUEST_ID] = asked.turn_id or asked.id
    if _requests.isEnabledFor(logging.INFO):
        fields = {
            "request_id": asked.id,
            "method": asked.method,
            "route": asked.url_rule.rule if asked.url_rule else "",
            "status": response.status_code,
            **({"turn_id": asked.turn_id} if asked.turn_id else {}),
            **({"given_id": asked.given_id} if asked.given_id not in ("", asked.id) else {}),
        }
        # A stream has ended only when its last byte is out.
        response.call_on_close(partial(_log_request, fields, asked.began))
    return response


def _log_request(fields: dict[str, Any], began: float) -> None:
    duration_ms = round((time.monotonic() - began) * 1000, 1)
    _requests.info("request", extra={"fields": {**fields, "duration_ms": duration_ms}})


def _log_turn(turn: Turn) -> None:
    if not _turns.isEnabledFor(logging.INFO):
        return
    fields = {
        "turn_id": turn.id,
        "session_id": turn.session_id,
        "status": turn.status.value,
        "upstream": turn.upstream,
        "model": turn.model or turn.model_requested,
        "prompt_tokens": turn.usage.prompt_tokens,
        "completion_tokens": turn.usage.completion_tokens,
        "cost": turn.cost,
        "time_to_first_token_ms": turn.time_to_first_token_ms,
        "duration_ms": turn.duration_ms,
        "error": turn.error.code if turn.error else None,
        "cause": turn.error.parameters.get("cause") if turn.error else None,
    }
    _turns.info("turn", extra={"fields": fields})
