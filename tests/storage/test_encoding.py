"""Whatever an upstream or a person sends can be logged, and comes back."""

from __future__ import annotations

import json
import sqlite3
from types import MappingProxyType
from typing import Any

import pytest

from rolebook.core.completion import Choice, Usage
from rolebook.core.errors import Phrase
from rolebook.core.message import Message
from rolebook.core.naming import MAX_NAME
from rolebook.core.session import Revision, TurnError, TurnStatus
from rolebook.storage.encoding import encode_json
from rolebook.storage.log import SqliteLog
from tests.storage.examples import REVISION, answered, log_session, log_turn, new_session, new_turn

TEXTS = [
    "lone \ud800 surrogate",
    "\udfff",
    "a\0b",
    "\x1b[31mred\x1b[0m",
    "\u202ereversed",
    "e\u0301 é \u00a0 \u2028 \u0085",
    "'; DROP TABLE turns; --",
    "𠮷野家 🎓",
    "\ufeff\r\n\t",
    "x" * 300_000,
    "",
]


@pytest.mark.parametrize("text", TEXTS, ids=[str(number) for number in range(len(TEXTS))])
def test_text_comes_back_exactly_wherever_it_stands(log: SqliteLog, text: str) -> None:
    session = new_session(title=text, variables={"v": text}, model=text, upstream=text)
    log.create_session(session, Revision(REVISION.id, "teacher", {"name": text}, {"t": text}))
    turn = log.start_turn(
        new_turn(
            session,
            text,
            messages=(Message("system", text), Message("user", text + text)),
            parameters_requested={"stop": [text]},
            model_requested=text,
        ),
        REVISION,
    )
    turn = answered(
        turn,
        text,
        model=text,
        choices=(Choice(text, text or None, reasoning=text), Choice(text, None, refusal=text)),
        error=TurnError("upstream", "Said %(detail)s.", {"detail": text}),
        reply={"id": text, text: [text, {"content": text}], "$ref": text},
        adaptations=(Phrase(text, {"name": text}),),
    )
    log.finish_turn(turn)
    log.tag(session.id, [f"t{text}"])
    assert log.get_turn(turn.id) == turn
    assert log.get_session(session.id).title == text
    assert log.get_session(session.id).tags == (f"t{text}".strip(),)
    assert log.list_sessions().summaries[0].persona_name == text
    for format in ("json", "jsonl", "md", "csv"):
        "".join(log.export_sessions([session.id], format)).encode()
    # What is longer is no name that anybody would filter by.
    is_name = 0 < len(text) <= MAX_NAME
    assert [facet.value for facet in log.facets().models] == ([text] if is_name else [])
    log.rename(session.id, f"{text} again")
    assert log.delete([session.id]) == 1
    assert log.purge_deleted("3000-01-01").sessions == 1
    assert log.database_status(check=True).problems == ()


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (10**30, 10**30),
        (10**5000, hex(10**5000)),
        (MappingProxyType({"a": (1, 2)}), {"a": [1, 2]}),
        ({"b", "a"}, ["a", "b"]),
        (object, "<class 'object'>"),
    ],
    ids=["nan", "infinity", "huge", "unprintable", "mapping", "set", "object"],
)
def test_json_holds_what_json_cannot(log: SqliteLog, value: Any, expected: Any) -> None:
    session = log_session(log)
    turn = log.start_turn(new_turn(session, parameters_requested={"x": value}), REVISION)
    log.finish_turn(answered(turn, reply={"x": value}))
    logged = log.get_turn(turn.id)
    assert (logged.parameters_requested, logged.reply) == ({"x": expected}, {"x": expected})


def test_deep_nesting_is_cut_visibly() -> None:
    assert "…" in encode_json(nested(100_000))
    assert json.loads(encode_json(nested(50))) == nested(50)


def test_numbers_beyond_those_of_sqlite_do_not_break_a_turn(log: SqliteLog) -> None:
    turn = log.start_turn(new_turn(log_session(log)), REVISION)
    usage = Usage(prompt_tokens=10**30, completion_tokens=10**400, total_tokens=-(10**400))
    log.finish_turn(answered(turn, usage=usage, cost=float("nan"), duration_ms=float("inf")))
    logged = log.get_turn(turn.id)
    assert logged.usage.prompt_tokens == 1e30
    assert (logged.cost, logged.duration_ms) == (None, None)
    assert logged.status is TurnStatus.COMPLETE


def test_reply_does_not_repeat_the_text(log: SqliteLog) -> None:
    text = "No word of this is kept twice. " * 200
    turn = log_turn(log, log_session(log), answer=text)
    with sqlite3.connect(log.path) as connection:
        (size,) = connection.execute("SELECT length(reply) FROM turns").fetchone()
    connection.close()
    assert size < 150
    assert log.get_turn(turn.id).reply["choices"][0]["message"]["content"] == text
