"""Sessions and turns to log, and the shortest way to log them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rolebook.core.completion import Choice, Usage
from rolebook.core.message import Message
from rolebook.core.session import Revision, Session, Turn, TurnStatus, new_id
from rolebook.storage.log import SqliteLog

REVISION = Revision(
    "revision-1",
    "teacher",
    {"name": "Teacher 老师", "system": "Be patient."},
    {"chat": "{% history %}"},
)


def new_session(**values: Any) -> Session:
    """A session with the teacher."""
    return Session(**({"id": new_id(), "persona_id": "teacher", "revision": REVISION.id} | values))


def new_turn(session: Session, text: str = "Why is the sky blue?", **values: Any) -> Turn:
    """A turn that sends the system text and the input."""
    messages = (Message("system", "You are a patient teacher."), Message("user", text))
    default: dict[str, Any] = {
        "id": new_id(),
        "session_id": session.id,
        "revision": REVISION.id,
        "input": text,
        "model_requested": "gpt-4o-mini",
        "upstream": "openai",
        "messages": messages,
        "parameters_requested": {"temperature": 0.7},
    }
    return Turn(**(default | values))


def answered(turn: Turn, text: str = "Because air scatters blue light.", **values: Any) -> Turn:
    """The turn with an answer, and with all else that a call leaves behind."""
    reply = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
    }
    default: dict[str, Any] = {
        "status": TurnStatus.COMPLETE,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": (Choice(text, "stop"),),
        "usage": Usage(11, 7, 18),
        "cost": 0.25,
        "duration_ms": 1500.5,
        "parameters_sent": {"temperature": 0.5},
        "reply": reply,
    }
    return replace(turn, **(default | values))


def log_session(log: SqliteLog, **values: Any) -> Session:
    """A session that is in the log."""
    session = new_session(**values)
    log.create_session(session, REVISION)
    return session


def log_turn(
    log: SqliteLog,
    session: Session,
    text: str = "Why is the sky blue?",
    answer: str = "Because air scatters blue light.",
    **values: Any,
) -> Turn:
    """A complete turn that is in the log; ``values`` are about how it was asked."""
    turn = answered(log.start_turn(new_turn(session, text, **values), REVISION), answer)
    log.finish_turn(turn)
    return turn
