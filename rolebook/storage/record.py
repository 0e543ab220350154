"""Sessions, turns and revisions as rows, and rows as them again: nothing here touches a database."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar

from rolebook.core.budget import Reserve
from rolebook.core.completion import Choice, Usage
from rolebook.core.errors import Phrase, StorageError, phrase_data, phrase_of
from rolebook.core.message import Message
from rolebook.core.session import Revision, Session, Turn, TurnError, TurnStatus
from rolebook.storage.encoding import (
    decode_json,
    decode_text,
    encode_bytes,
    encode_json,
    encode_some,
)
from rolebook.storage.reply import decode_reply, encode_reply

T = TypeVar("T", int, float)


def message_hash(role: str, content: str, fields: str | None = None) -> bytes:
    """What a message is found by: 128 bits of BLAKE2b over its role, a NUL and its content.

    Where it has further fields, the hash is personalised (BLAKE2's word) with a hash of them.
    """
    person = b"" if fields is None else hashlib.blake2b(fields.encode(), digest_size=16).digest()
    return hashlib.blake2b(
        encode_bytes(f"{role}\0{content}"), digest_size=16, person=person
    ).digest()


def session_columns(session: Session) -> dict[str, Any]:
    """The columns of ``sessions`` that a session decides by itself."""
    return {
        "id": session.id,
        "persona_id": session.persona_id,
        "is_starred": session.is_starred,
        "deleted_at": session.deleted_at or None,
        "created_at": session.created_at,
        "upstream": session.upstream,
        "model": session.model,
        "forked_from": session.forked_from,
        "pin": session.pin,
        "is_trial": session.is_trial,
        "title": session.title,
        "variables": encode_some(session.variables),
        "parameters": encode_some(session.parameters),
    }


def session_of(row: sqlite3.Row | Mapping[str, Any], tags: Iterable[str]) -> Session:
    """A session from a row of ``sessions`` with ``revision_id``, ``comparison_id`` and ``judged_id``."""
    return Session(
        id=row["id"],
        persona_id=decode_text(row["persona_id"]),
        revision=row["revision_id"],
        title=decode_text(row["title"]),
        variables=decode_json(row["variables"], {}),
        upstream=decode_text(row["upstream"]),
        model=decode_text(row["model"]),
        parameters=decode_json(row["parameters"], {}),
        forked_from=row["forked_from"],
        comparison_id=row["comparison_id"] or "",
        judges=row["judged_id"] or "",
        pin=decode_text(row["pin"]),
        is_trial=bool(row["is_trial"]),
        is_starred=bool(row["is_starred"]),
        tags=tuple(tags),
        created_at=row["created_at"],
        deleted_at=row["deleted_at"] or "",
    )


def revision_of(row: sqlite3.Row) -> Revision:
    """A revision from a row of ``revisions``."""
    return Revision(
        id=row["id"],
        persona_id=decode_text(row["persona_id"]),
        resolved=decode_json(row["resolved"], {}),
        templates=decode_json(row["templates"], {}),
    )


def asked_columns(turn: Turn) -> dict[str, Any]:
    """The columns of ``turns`` that are known before the call; the others wait at their defaults."""
    return {
        "id": turn.id,
        "created_at": turn.created_at,
        "upstream": turn.upstream,
        "model_requested": turn.model_requested,
        "endpoint": turn.endpoint,
        "is_streamed": turn.is_streamed,
        "via": turn.via or None,
        "dropped_turns": turn.dropped_turns,
        "input": turn.input,
        "parameters_requested": encode_some(turn.parameters_requested),
        **(_reserve_columns(turn.reserve) if turn.reserve else {}),
    }


def _reserve_columns(reserve: Reserve) -> dict[str, Any]:
    return {"reserved_tokens": reserve.tokens, "reserved_cost": reserve.cost}


def answered_columns(turn: Turn) -> dict[str, Any]:
    """The columns of ``turns`` that the call decides."""
    return {
        "upstream": turn.upstream,
        "upstream_requested": turn.upstream_requested or None,
        # The upstream names its default model only when it is called.
        "model_requested": turn.model_requested,
        "status": turn.status.value,
        "model": turn.model,
        "prompt_tokens": turn.usage.prompt_tokens,
        "completion_tokens": turn.usage.completion_tokens,
        "total_tokens": turn.usage.total_tokens,
        "cached_tokens": turn.usage.cached_tokens,
        "reasoning_tokens": turn.usage.reasoning_tokens,
        "cost": _finite(turn.cost),
        "time_to_first_token_ms": _finite(turn.time_to_first_token_ms),
        "duration_ms": _finite(turn.duration_ms),
        "parameters_sent": encode_some(turn.parameters_sent),
        "adaptations": encode_some([asdict(adaptation) for adaptation in turn.adaptations]),
        "error": _encode_error(turn.error),
        "reply": encode_reply(turn.reply, turn.choices),
        **choice_columns(turn.choices, turn.chosen),
    }


def choice_columns(choices: Sequence[Choice], chosen: int) -> dict[str, Any]:
    """The chosen answer as plain columns, and ``choices`` for what they cannot say."""
    if not choices:
        return {"chosen": 0, "text": None, "finish_reason": None, "choices": None}
    chosen = chosen if 0 <= chosen < len(choices) else 0
    counting = choices[chosen]
    is_plain = len(choices) == 1 and not (
        counting.reasoning or counting.refusal or counting.tool_calls
    )
    encoded = [_choice_data(choice, is_counting=i == chosen) for i, choice in enumerate(choices)]
    return {
        "chosen": chosen,
        "text": counting.text,
        "finish_reason": counting.finish_reason,
        "choices": None if is_plain else encode_json(encoded),
    }


def choices_of(row: sqlite3.Row) -> tuple[Choice, ...]:
    """All answers of a turn, from a row of ``turns``."""
    if row["text"] is None:
        return ()
    finish_reason = row["finish_reason"]
    counting = Choice(
        decode_text(row["text"]), None if finish_reason is None else decode_text(finish_reason)
    )
    stored = decode_json(row["choices"], None)
    if stored is None:
        return (counting,)
    return tuple(
        _choice_of(data, counting if i == row["chosen"] else None) for i, data in enumerate(stored)
    )


def turn_of(
    row: sqlite3.Row, messages_of: Callable[[str], Iterable[Message]] | None = None
) -> Turn:
    """A turn from a row of ``turns`` with ``session_id`` and ``revision_id``.

    Arguments:
        messages_of: finds its messages; with them it is whole, so it has its reply as well.

    Raises StorageError for a row that something else than Rolebook has written to.
    """
    try:
        messages = messages_of(row["messages"]) if messages_of else ()
        turn = _turn_of(row, messages, is_whole=messages_of is not None)
        _require_sound(turn)
    except FAULTS as fault:
        raise StorageError(
            "The turn %(id)s in the log is damaged, so its session %(session)s cannot be shown. Mend it in the file, or"
            " delete the session: rolebook sessions delete %(session)s",
            id=decode_text(row["id"]),
            session=row["session_id"],
        ) from fault
    return turn


#: What reading a row raises that is none of ours.
FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _require_sound(turn: Turn) -> None:
    """Raises something of FAULTS where what stands in a row is of no use, though it could be read."""
    is_sound = (
        type(turn.position) is type(turn.attempt) is type(turn.dropped_turns) is int
        and type(turn.chosen) is int
        and 0 <= turn.chosen < (len(turn.choices) or 1)
        and type(turn.id) is type(turn.endpoint) is type(turn.via) is str
        and type(turn.parameters_requested) is type(turn.parameters_sent) is dict
        and datetime.fromisoformat(turn.created_at)
    )
    if not is_sound:
        raise ValueError("no turn is like this")
    # A sentence that lacks what it is about fails here, and not on a page.
    for said in turn.adaptations:
        str(said)
    if turn.error is not None:
        str(turn.error.text)


def _turn_of(row: sqlite3.Row, messages: Iterable[Message], *, is_whole: bool) -> Turn:
    choices = choices_of(row)
    return Turn(
        id=row["id"],
        session_id=row["session_id"],
        revision=row["revision_id"],
        input=decode_text(row["input"]),
        position=row["position"],
        attempt=row["attempt"],
        is_current=bool(row["is_current"]),
        status=TurnStatus(row["status"]),
        upstream=decode_text(row["upstream"]),
        upstream_requested=decode_text(row["upstream_requested"] or ""),
        endpoint=row["endpoint"],
        is_streamed=bool(row["is_streamed"]),
        model_requested=decode_text(row["model_requested"]),
        model=decode_text(row["model"]),
        messages=tuple(messages),
        parameters_requested=decode_json(row["parameters_requested"], {}),
        parameters_sent=decode_json(row["parameters_sent"], {}),
        adaptations=tuple(Phrase(**said) for said in decode_json(row["adaptations"], ())),
        dropped_turns=row["dropped_turns"],
        choices=choices,
        chosen=row["chosen"],
        usage=_usage_of(row),
        cost=_finite(row["cost"]),
        time_to_first_token_ms=_finite(row["time_to_first_token_ms"]),
        duration_ms=_finite(row["duration_ms"]),
        error=_error_of(row["error"]),
        reply=decode_reply(row["reply"], choices) if is_whole else {},
        via=row["via"] or "",
        created_at=row["created_at"],
    )


def encode_phrase(said: Phrase) -> str:
    """A phrase as JSON."""
    return encode_json(phrase_data(said))


def decode_phrase(stored: str) -> Phrase:
    """What :func:`encode_phrase` was given."""
    return phrase_of(decode_json(stored, {}))


def encode_error(error: TurnError) -> str:
    """A turn's error as JSON."""
    return encode_json(
        {"code": error.code, "message": error.message, "parameters": error.parameters}
    )


def _encode_error(error: TurnError | None) -> str | None:
    return None if error is None else encode_error(error)


def _error_of(stored: str | None) -> TurnError | None:
    return None if stored is None else TurnError(**decode_json(stored, {}))


def _usage_of(row: sqlite3.Row) -> Usage:
    return Usage(
        prompt_tokens=_finite(row["prompt_tokens"]),
        completion_tokens=_finite(row["completion_tokens"]),
        total_tokens=_finite(row["total_tokens"]),
        cached_tokens=_finite(row["cached_tokens"]),
        reasoning_tokens=_finite(row["reasoning_tokens"]),
    )


def _finite(value: T | None) -> T | None:
    """Unknown instead of infinity, so that sums stay useful. Raises TypeError for what is no number."""
    return value if value is not None and math.isfinite(value) else None


def _choice_data(choice: Choice, *, is_counting: bool) -> dict[str, Any]:
    """What of a choice no other column holds."""
    own = {} if is_counting else {"text": choice.text, "finish_reason": choice.finish_reason}
    extra = {
        "reasoning": choice.reasoning,
        "refusal": choice.refusal,
        "tool_calls": choice.tool_calls,
    }
    return {key: value for key, value in (own | extra).items() if value}


def _choice_of(data: Mapping[str, Any], counting: Choice | None) -> Choice:
    return Choice(
        text=counting.text if counting else data.get("text", ""),
        finish_reason=counting.finish_reason if counting else data.get("finish_reason"),
        reasoning=data.get("reasoning", ""),
        refusal=data.get("refusal", ""),
        tool_calls=tuple(data.get("tool_calls", ())),
    )
