from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rolebook.core.chat import TurnEnded, TurnRequest, TurnStarted
from rolebook.core.completion import Delta
from rolebook.core.session import Session, Turn, TurnStatus, new_id
from rolebook.wiring import Rolebook, open_rolebook
from tests.real_server.conftest import RealServer

pytestmark = pytest.mark.real_server

ENGLISH = ("teacher", "What is a fraction?")
CHINESE = ("companion", "今天好累，什么都不想干。")
BASE_MODEL = os.environ.get("ROLEBOOK_REAL_SERVER_BASE_MODEL", "")
"""A model that takes plain prompts (``/v1/completions``); few hosted ones do, so it is only asked when named."""

ROLES = [
    pytest.param(*ENGLISH, "", id="english"),
    pytest.param(*CHINESE, "", id="chinese"),
    *([pytest.param("story-continuer", "渡船开了。", BASE_MODEL, id="base")] if BASE_MODEL else []),
]


@dataclass(frozen=True)
class Heard:
    """One turn as whoever read it saw it."""

    turn: Turn
    deltas: Sequence[str]
    kinds: Sequence[type]


def start(rolebook: Rolebook, persona_id: str, *, model: str = "") -> Session:
    session = Session(id=new_id(), persona_id=persona_id, revision="", model=model)
    return rolebook.chat.start_session(session)


def hear(
    rolebook: Rolebook,
    session: Session,
    text: str,
    *,
    is_streamed: bool = True,
    parameters: Mapping[str, Any] = {"max_tokens": 48},
) -> Heard:
    request = TurnRequest(session.id, text, parameters=parameters, is_streamed=is_streamed)
    events = list(rolebook.chat.stream_turn(request))
    ended = events[-1]
    assert isinstance(ended, TurnEnded)
    deltas = [event.text for event in events if isinstance(event, Delta) and event.kind == "text"]
    return Heard(ended.turn, deltas, [type(event) for event in events])


def test_models_are_listed_and_can_be_looked_up(rolebook: Rolebook, server: RealServer) -> None:
    upstream = rolebook.upstreams.get("")

    listed = [model.id for model in upstream.models()]

    assert listed
    assert upstream.default_model in listed
    assert upstream.model(listed[0]).id == listed[0]


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("persona_id", "text", "model"), ROLES)
def test_answer_completes_and_stands_in_the_log_as_it_was_heard(
    rolebook: Rolebook, persona_id: str, text: str, model: str, is_streamed: bool
) -> None:
    session = start(rolebook, persona_id, model=model)

    heard = hear(rolebook, session, text, is_streamed=is_streamed)

    turn = heard.turn
    assert turn.status is TurnStatus.COMPLETE, turn.error and turn.error.text
    assert turn.choice.finish_reason in {"stop", "length"}
    assert turn.text == "".join(heard.deltas)
    assert turn.text.strip()
    assert heard.kinds[0] is TurnStarted
    logged = rolebook.log.get_turn(turn.id)
    assert (logged.status, logged.text, logged.choices) == (turn.status, turn.text, turn.choices)
    assert logged.messages[-1].content.rstrip().removesuffix("]").endswith(text)
    assert logged.is_streamed is is_streamed
    assert logged.parameters_requested["max_tokens"] == 48
    assert logged.parameters_sent["max_tokens"] == 48 or logged.adaptations
    assert logged.model_requested
    assert logged.model
    assert logged.reply["choices"]
    assert logged.duration_ms is not None
    assert 0 < (logged.time_to_first_token_ms or 0) <= logged.duration_ms


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
def test_usage_is_what_the_server_said_or_unknown(rolebook: Rolebook, is_streamed: bool) -> None:
    heard = hear(rolebook, start(rolebook, ENGLISH[0]), ENGLISH[1], is_streamed=is_streamed)

    said, usage = heard.turn.reply.get("usage") or {}, heard.turn.usage
    assert usage.prompt_tokens == said.get("prompt_tokens")
    assert usage.completion_tokens == said.get("completion_tokens")
    assert usage.total_tokens == said.get("total_tokens")


def test_stream_comes_in_pieces(rolebook: Rolebook) -> None:
    heard = hear(rolebook, start(rolebook, ENGLISH[0]), ENGLISH[1])

    assert len(heard.deltas) > 3


def test_next_turn_is_sent_with_the_ones_before(rolebook: Rolebook) -> None:
    session = start(rolebook, CHINESE[0])
    first = hear(rolebook, session, CHINESE[1]).turn

    second = hear(rolebook, session, "还有呢？").turn

    assert second.status is TurnStatus.COMPLETE
    assert [message.content for message in second.messages[-3:]] == [
        CHINESE[1],
        first.text,
        "还有呢？",
    ]


@pytest.mark.parametrize("way", ["the reader leaves", "somebody presses stop"])
def test_stopped_answer_ends_at_once_and_leaves_the_server_free(
    rolebook: Rolebook, way: str
) -> None:
    session = start(rolebook, ENGLISH[0])
    request = TurnRequest(session.id, ENGLISH[1], parameters={"max_tokens": 4000})
    heard: list[str] = []
    with closing(rolebook.chat.stream_turn(request)) as events:  # type: ignore[type-var]
        started = next(events)
        assert isinstance(started, TurnStarted)
        while not heard:
            heard += [event.text for event in [next(events)] if isinstance(event, Delta)]
        began = time.monotonic()
        if way == "somebody presses stop":
            assert rolebook.chat.cancel(started.turn.id)
            heard += [event.text for event in events if isinstance(event, Delta)]

    stopped_s = time.monotonic() - began
    logged = rolebook.log.get_turn(started.turn.id)
    assert logged.status is TurnStatus.CANCELLED
    assert logged.text == "".join(heard)
    assert stopped_s < 1
    # A server that goes on generating for nobody would keep the next one waiting.
    after = hear(rolebook, session, "And then?").turn
    assert after.status is TurnStatus.COMPLETE
    assert after.duration_ms is not None
    assert after.duration_ms < 20_000


def test_wrong_key_is_refused_in_words_that_do_not_show_it(
    server: RealServer, tmp_path: Path, rolebook: Rolebook
) -> None:
    wrong = "sk-wrong-0123456789-9876543210"
    stranger = open_rolebook(
        environment=server.environment(tmp_path, key=wrong) | {"ROLEBOOK_MODEL": "any"}
    )
    with closing(stranger):
        turn = hear(stranger, start(stranger, ENGLISH[0]), ENGLISH[1]).turn

    if server.key:
        assert turn.status is TurnStatus.FAILED
        assert turn.error is not None
        assert turn.error.text
    assert wrong not in str(turn)
    assert wrong.encode() not in (tmp_path / "log.db").read_bytes()
