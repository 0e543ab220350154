"""One turn, end to end: a persona file, a real upstream on a socket, and the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rolebook.core.chat import ChatService, TurnEnded, TurnRequest, TurnStarted
from rolebook.core.completion import Delta, Usage, Waiting
from rolebook.core.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    PromptError,
    UpstreamKeyError,
    VariableError,
)
from rolebook.core.session import Revision, Session, Turn, TurnStatus, new_id
from rolebook.core.source import Author, FileKey
from rolebook.upstream.tokens import count_messages
from rolebook.wiring import Rolebook
from tests.fake_upstream import FakeUpstream

Make = Callable[..., Rolebook]


@pytest.fixture
def connected(make_rolebook: Make, upstream: FakeUpstream) -> Rolebook:
    return make_rolebook(
        environment={"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-test-0123456789"}
    )


def write_persona(rolebook: Rolebook, persona_id: str, text: str) -> None:
    path = rolebook.library.personas_dir / f"{persona_id}.yaml"
    path.write_text(text, "utf-8")


def begin(rolebook: Rolebook, persona_id: str = "ada", **chosen: Any) -> Session:
    system = chosen.pop("system", "")
    return rolebook.chat.start_session(Session(new_id(), persona_id, "", **chosen), system=system)


def run(rolebook: Rolebook, session: Session, text: str = "hello", **arguments: Any) -> Turn:
    events = list(rolebook.chat.stream_turn(TurnRequest(session.id, text, **arguments)))
    assert isinstance(events[0], TurnStarted)
    assert isinstance(events[-1], TurnEnded)
    assert events[-1].turn == rolebook.log.get_turn(events[-1].turn.id)
    return events[-1].turn


ADA = "name: Ada\nsystem: You are Ada.\n"


@pytest.fixture
def ada(connected: Rolebook) -> Rolebook:
    write_persona(connected, "ada", ADA + "model: ok\n")
    return connected


def test_turn_is_streamed_logged_and_remembered(ada: Rolebook, upstream: FakeUpstream) -> None:
    session = begin(ada)
    first = run(ada, session, "one")
    assert (TurnStatus.COMPLETE, "Echo: one", 1) == (first.status, first.text, first.position)
    assert first.usage.total_tokens
    assert first.duration_ms
    second = run(ada, session, "two")
    assert [
        ("system", "You are Ada."),
        ("user", "one"),
        ("assistant", "Echo: one"),
        ("user", "two"),
    ] == [(message.role, message.content) for message in second.messages]
    body = upstream.requests[-1].body
    assert isinstance(body, dict)
    assert [m.as_dict() for m in second.messages] == body["messages"]
    assert "ok" == body["model"] == second.model_requested


def test_whole_reply_is_the_same_turn(ada: Rolebook, upstream: FakeUpstream) -> None:
    turn = run(ada, begin(ada), "one", is_streamed=False)
    assert (TurnStatus.COMPLETE, "Echo: one", False) == (turn.status, turn.text, turn.is_streamed)
    body = upstream.requests[-1].body
    assert isinstance(body, dict)
    assert not body.get("stream")


def test_edited_persona_file_is_live_at_the_next_turn(ada: Rolebook) -> None:
    session = begin(ada)
    first = run(ada, session, "one")
    write_persona(ada, "ada", "name: Ada\nsystem: You are Eva.\nmodel: ok\n")
    second = run(ada, session, "two")
    assert "You are Eva." == second.messages[0].content
    assert first.revision != second.revision
    old = ada.log.get_revision(first.revision)
    assert "You are Ada." == old.resolved["system"]


def test_turn_on_its_way_keeps_the_persona_it_began_with(ada: Rolebook) -> None:
    session = begin(ada, model="ok?delay_ms=20&tokens=10")
    events = ada.chat.stream_turn(TurnRequest(session.id, "hello"))
    started = next(events)
    assert isinstance(started, TurnStarted)
    (ada.library.personas_dir / "ada.yaml").unlink()
    *_, ended = events
    assert isinstance(ended, TurnEnded)
    assert TurnStatus.COMPLETE == ended.turn.status
    assert "You are Ada." == ada.log.get_turn(ended.turn.id).messages[0].content


def test_session_goes_on_when_its_persona_file_is_gone(ada: Rolebook) -> None:
    session = begin(ada)
    (ada.library.personas_dir / "ada.yaml").unlink()
    assert "You are Ada." == run(ada, session).messages[0].content


def test_session_goes_on_with_its_persona_under_its_new_name(ada: Rolebook) -> None:
    session = begin(ada)
    run(ada, session, "one")
    ada.edits.rename(FileKey("persona", "ada"), "eva", author=Author("command"))
    write_persona(ada, "eva", "name: Eva\nsystem: You are Eva.\nmodel: ok\n")
    # Another persona under the old name is not this one.
    write_persona(ada, "ada", "name: Ida\nsystem: You are Ida.\nmodel: ok\n")
    assert "You are Eva." == run(ada, session, "two").messages[0].content
    assert "You are Ida." == run(ada, begin(ada)).messages[0].content
    # Where nothing goes by the new name any more, the old one is better than nothing.
    (ada.library.personas_dir / "eva.yaml").unlink()
    assert "You are Ida." == run(ada, session, "three").messages[0].content


def test_variable_that_the_persona_loses_is_left_out_of_a_running_session(
    connected: Rolebook,
) -> None:
    text = "name: Ada\nsystem: You teach {{ subject }}.\nmodel: ok\nvariables: {subject: sums, tone: dry}\n"
    write_persona(connected, "ada", text)
    session = begin(connected, variables={"subject": "physics"})
    write_persona(connected, "ada", text.replace(", tone: dry", ""))
    assert "You teach physics." == run(connected, session).messages[0].content


def test_value_that_no_longer_fits_a_running_session_says_what_to_do(connected: Rolebook) -> None:
    text = "name: Ada\nsystem: s\nmodel: ok\nvariables: {level: {type: choice, choices: [a, b]}}\n"
    write_persona(connected, "ada", text)
    session = begin(connected, variables={"level": "b"})
    write_persona(connected, "ada", text.replace("[a, b]", "[a, c]"))
    with pytest.raises(
        ConflictError, match=r"level must be one of a, c, got .b.\. Start a new session"
    ):
        run(connected, session)


def test_variables_model_and_parameters_of_the_session_win(
    connected: Rolebook, upstream: FakeUpstream
) -> None:
    write_persona(
        connected,
        "ada",
        "name: Ada\nsystem: You teach {{ subject }}.\nvariables: {subject: sums}\nmodel: ok\n"
        "sampling: {temperature: 0.7, top_p: 0.9}\nrequest: {user: file}\n",
    )
    session = begin(
        connected,
        variables={"subject": "physics"},
        model="ok?text=Hi",
        parameters={"temperature": 0.1, "top_p": None},
    )
    turn = run(connected, session, parameters={"user": "alice"})
    assert "You teach physics." == turn.messages[0].content
    assert {"temperature": 0.1, "user": "alice"} == turn.parameters_requested
    body = upstream.requests[-1].body
    assert isinstance(body, dict)
    assert (0.1, "alice", "ok?text=Hi") == (body["temperature"], body["user"], body["model"])
    assert "top_p" not in body


def test_organization_and_project_travel_as_headers(ada: Rolebook, upstream: FakeUpstream) -> None:
    run(ada, begin(ada), parameters={"organization": "org-1", "project": "proj-2"})
    headers = upstream.requests[-1].headers
    assert ("org-1", "proj-2") == (headers["openai-organization"], headers["openai-project"])
    body = upstream.requests[-1].body
    assert isinstance(body, dict)
    assert not {"organization", "project"} & set(body)


def test_role_without_a_file_starts_at_once_and_lives_in_the_log(connected: Rolebook) -> None:
    session = begin(connected, "", system="Speak like {{ a pirate }}.", model="ok")
    turn = run(connected, session)
    assert "Speak like {{ a pirate }}." == turn.messages[0].content
    resolved = connected.chat.persona_of(connected.log.get_session(session.id))
    data = {**resolved.persona.as_data(), "name": "Pirate"}
    connected.edits.create(FileKey("persona", "pirate"), data, author=Author("command"))
    again = run(connected, begin(connected, "pirate", model="ok"))
    assert turn.messages[0] == again.messages[0]


def test_greeting_is_sent_first_and_always(connected: Rolebook) -> None:
    write_persona(
        connected,
        "ada",
        "name: Ada\nsystem: s\nmodel: ok\ngreeting: Hello {{ who }}\nvariables: {who: Bob}\n"
        "context: {turns: 1}\n",
    )
    session = begin(connected)
    resolved = connected.chat.persona_of(session)
    assert "Hello Bob" == connected.chat.greeting_of(session, resolved)
    for text in ("one", "two", "three"):
        turn = run(connected, session, text)
    assert ["s", "Hello Bob", "two", "Echo: two", "three"] == [m.content for m in turn.messages]
    assert 1 == turn.dropped_turns


def test_oldest_whole_turns_are_dropped_until_the_tokens_fit(connected: Rolebook) -> None:
    write_persona(
        connected,
        "ada",
        "name: Ada\nsystem: stays\nmodel: ok?text=word word word word\n"
        "examples: [{user: example, assistant: stays}]\ncontext: {tokens: 120}\n",
    )
    session = begin(connected)
    turns = [run(connected, session, f"input {number} " + "word " * 8) for number in range(8)]
    last = turns[-1]
    assert 0 < last.dropped_turns < 7
    assert connected.count_tokens(last.messages, last.model_requested) <= 120
    contents = [message.content for message in last.messages]
    assert ["stays", "example", "stays"] == contents[:3]
    kept = [text for text in contents[3:-1] if text.startswith("input")]
    assert [f"input {n} " + "word " * 8 for n in range(last.dropped_turns, 7)] == kept
    assert contents[-1].startswith("input 7")


def test_context_never_drops_system_examples_or_the_newest_input(connected: Rolebook) -> None:
    write_persona(
        connected,
        "ada",
        "name: Ada\nsystem: stays\nmodel: ok\nexamples: [{user: u, assistant: a}]\n"
        "context: {tokens: 1}\n",
    )
    session = begin(connected)
    run(connected, session, "one")
    turn = run(connected, session, "two")
    assert ["stays", "u", "a", "two"] == [message.content for message in turn.messages]
    assert 1 == turn.dropped_turns


def test_trying_again_keeps_both_answers_and_only_the_current_one_is_history(
    ada: Rolebook,
) -> None:
    session = begin(ada)
    first = run(ada, session, "one")
    again = run(ada, session, "one, edited", position=1)
    assert (1, 2) == (again.position, again.attempt)
    assert [m.content for m in first.messages[:-1]] == [m.content for m in again.messages[:-1]]
    second = run(ada, session, "two")
    assert "one, edited" == second.messages[1].content
    assert [first.id, again.id, second.id] == [t.id for t in ada.log.session_turns(session.id)]


def test_failed_second_attempt_leaves_the_first_answer_in_the_history(ada: Rolebook) -> None:
    session = begin(ada)
    run(ada, session, "one")
    assert (
        TurnStatus.FAILED
        == run(ada, session, "one", position=1, model="500?retry_after_ms=1").status
    )
    assert ["You are Ada.", "one", "Echo: one", "two"] == [
        message.content for message in run(ada, session, "two").messages
    ]


def test_only_the_last_turn_can_be_tried_again(ada: Rolebook) -> None:
    session = begin(ada)
    run(ada, session, "one")
    run(ada, session, "two")
    for position in (1, 3, 99):
        with pytest.raises(ConflictError, match="fork"):
            run(ada, session, "one", position=position)


@pytest.mark.parametrize(
    ("model", "status", "code", "text"),
    [
        ("401", TurnStatus.FAILED, "upstream_key", ""),
        ("429-quota", TurnStatus.FAILED, "upstream_quota", ""),
        ("400-context", TurnStatus.FAILED, "upstream_refused", ""),
        ("500?retry_after_ms=1", TurnStatus.FAILED, "upstream_server", ""),
        ("html-200", TurnStatus.FAILED, "upstream_reply", ""),
        (
            "rst-mid?text=one two three four&after=2",
            TurnStatus.INTERRUPTED,
            "upstream_connection",
            "one two",
        ),
    ],
)
def test_what_the_upstream_does_wrong_is_in_the_turn(
    ada: Rolebook, model: str, status: TurnStatus, code: str, text: str
) -> None:
    turn = run(ada, begin(ada, model=model))
    assert turn.error is not None
    assert (status, code) == (turn.status, turn.error.code)
    assert text == turn.text.strip()
    assert turn.error.text
    session = ada.log.get_session(turn.session_id)
    assert TurnStatus.COMPLETE == run(ada, session, model="ok").status


def test_closing_the_stream_cancels_the_turn_and_the_upstream(
    ada: Rolebook, upstream: FakeUpstream
) -> None:
    session = begin(ada, model="ok?tokens=200&delay_ms=20")
    events = ada.chat.stream_turn(TurnRequest(session.id, "hello"))
    for event in events:
        if isinstance(event, Delta):
            break
    began = time.monotonic()
    events.close()  # type: ignore[attr-defined]
    assert upstream.requests[-1].client_gone.wait(2)
    assert time.monotonic() - began < 2
    (turn,) = ada.log.session_turns(session.id)
    assert TurnStatus.CANCELLED == turn.status
    assert turn.text


def test_turn_that_is_stopped_before_any_upstream_was_asked_has_used_nothing(
    make_rolebook: Make, upstream: FakeUpstream
) -> None:
    Path("rolebook.yaml").write_text(
        f"upstreams:\n  fake: {{base_url: {upstream.base_url}, concurrency: 1}}\n", "utf-8"
    )
    book = make_rolebook()
    write_persona(book, "ada", ADA)
    calls = [
        book.chat.stream_turn(TurnRequest(begin(book, model="hang").id, "hello")) for _ in range(2)
    ]
    # The first one has the only place by the time that the second one is told to wait.
    for events in calls:
        assert [TurnStarted, Waiting] == [type(next(events)), type(next(events))]
    for events in calls:
        events.close()  # type: ignore[attr-defined]
    waiting, asked = (
        book.log.session_turns(listed.session.id)[0]
        for listed in book.log.list_sessions().summaries
    )
    assert [TurnStatus.CANCELLED] * 2 == [asked.status, waiting.status]
    assert (None, None) == (asked.usage.total_tokens, asked.cost)
    assert (0, 0.0) == (waiting.usage.total_tokens, waiting.cost)
    assert 1 == len(upstream.requests)


def test_stopping_from_another_thread_ends_a_silent_turn(
    ada: Rolebook, upstream: FakeUpstream
) -> None:
    session = begin(ada, model="hang")
    events = ada.chat.stream_turn(TurnRequest(session.id, "hello"))
    started = next(events)
    assert isinstance(started, TurnStarted)
    threading.Timer(0.3, ada.chat.cancel, [started.turn.id]).start()
    began = time.monotonic()
    *_, ended = events
    assert time.monotonic() - began < 2
    assert isinstance(ended, TurnEnded)
    assert TurnStatus.CANCELLED == ended.turn.status
    assert upstream.requests[-1].client_gone.wait(2)
    assert not ada.chat.cancel(started.turn.id)


def test_turn_cut_off_by_the_end_of_rolebook_is_interrupted_and_says_so(ada: Rolebook) -> None:
    session = begin(ada, model="ok?tokens=200&delay_ms=20")
    events = ada.chat.stream_turn(TurnRequest(session.id, "hello"))
    for event in events:
        if isinstance(event, Delta):
            break
    ada.chat.cancel_all()
    *_, ended = events
    assert isinstance(ended, TurnEnded)
    assert ended.turn.error is not None
    assert (TurnStatus.INTERRUPTED, True) == (ended.turn.status, bool(ended.turn.text))
    assert "Rolebook was stopped" in ended.turn.error.text


def test_second_input_waits_for_the_turn_before_it_or_is_refused(ada: Rolebook) -> None:
    session = begin(ada, model="ok?tokens=4&delay_ms=50")
    slow = ada.chat.stream_turn(TurnRequest(session.id, "one"))
    next(slow)
    reader = threading.Thread(target=list, args=(slow,))
    reader.start()
    second = run(ada, session, "two")
    reader.join()
    assert "one" == second.messages[1].content
    hanging = ada.chat.stream_turn(TurnRequest(session.id, "three", model="hang"))
    next(hanging)
    with pytest.raises(ConflictError, match="still on its way"):
        run(ada, session, "four")
    hanging.close()  # type: ignore[attr-defined]
    assert TurnStatus.COMPLETE == run(ada, session, "five", model="ok").status


def test_of_inputs_that_come_together_each_answer_has_seen_those_before_it(ada: Rolebook) -> None:
    session = begin(ada, model="ok?ttft_ms=100")
    start = threading.Barrier(6)
    refused: list[str] = []

    def say(number: int) -> None:
        start.wait(10)
        try:
            run(ada, session, f"input {number}")
        except ConflictError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=say, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turns = ada.log.session_turns(session.id, is_whole=True)
    assert 6 == len(turns) + len(refused)
    inputs = [turn.input for turn in turns]
    for number, turn in enumerate(turns):
        seen = [message.content for message in turn.messages if message.role == "user"]
        assert inputs[: number + 1] == seen


def test_session_in_the_trash_takes_no_turns(ada: Rolebook) -> None:
    session = begin(ada)
    ada.log.delete([session.id])
    with pytest.raises(ConflictError, match="in the trash"):
        run(ada, session)
    ada.log.restore([session.id])
    assert TurnStatus.COMPLETE == run(ada, session).status


def test_what_cannot_be_rendered_is_refused_before_anything_is_sent_or_written(
    connected: Rolebook, upstream: FakeUpstream
) -> None:
    write_persona(connected, "ada", ADA + "model: ok\n")
    session = begin(connected)
    write_persona(connected, "ada", "name: Ada\nsystem: |\n  one\n  {{ nope }}\nmodel: ok\n")
    with pytest.raises(PromptError) as caught:
        run(connected, session)
    assert caught.value.file.endswith("ada.yaml")
    assert 4 == caught.value.line
    assert [] == list(connected.log.session_turns(session.id))
    assert [] == upstream.requests


def test_session_that_cannot_start_is_not_recorded(connected: Rolebook) -> None:
    write_persona(connected, "ada", "name: Ada\nsystem: s\nvariables: {n: {type: integer}}\n")
    with pytest.raises(VariableError):
        begin(connected, variables={"n": "many"})
    with pytest.raises(NotFoundError, match="no persona 'nobody'"):
        begin(connected, "nobody")
    with pytest.raises(NotFoundError, match="no upstream 'mars'"):
        begin(connected, upstream="mars")
    with pytest.raises(InputError, match="say what the role should be"):
        begin(connected, "", system="  ")
    assert 0 == connected.log.database_status().sessions


def test_missing_key_is_said_before_the_call(make_rolebook: Make) -> None:
    rolebook = make_rolebook(environment={"OPENAI_BASE_URL": "https://api.openai.com/v1"})
    write_persona(rolebook, "ada", ADA)
    with pytest.raises(UpstreamKeyError, match="OPENAI_API_KEY holds none"):
        begin(rolebook)


def test_rehearsal_needs_nothing_and_shows_what_a_model_would_be_given(
    make_rolebook: Make,
) -> None:
    rolebook = make_rolebook()
    write_persona(rolebook, "ada", ADA)
    turn = run(rolebook, begin(rolebook), "Why?")
    assert TurnStatus.COMPLETE == turn.status
    assert "You are Ada." in turn.text
    assert "Why?" in turn.text
    assert "rehearsal" in turn.text.lower()
    assert turn.cost is None


def test_cost_is_what_the_server_says_where_no_price_is_known(ada: Rolebook) -> None:
    turn = run(ada, begin(ada), model="cost?dollars=0.25")
    assert turn.cost == 0.25


def test_own_prices_win_over_what_the_server_says(
    make_rolebook: Make, upstream: FakeUpstream
) -> None:
    Path("rolebook.yaml").write_text("prices: {cost: {input: 1000000, output: 0}}")
    rolebook = make_rolebook({"OPENAI_BASE_URL": upstream.base_url})
    write_persona(rolebook, "ada", ADA + "model: cost\n")
    turn = run(rolebook, begin(rolebook))
    assert turn.cost == turn.usage.prompt_tokens


class OddPrices:
    """Prices in which a mistake shows only when there is something to pay."""

    def require_budget(self) -> None:
        pass

    def reserve(self, turn: Turn) -> None:
        pass

    def cost(self, usage: Usage, **_: Any) -> float:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("model", "status", "text"),
    [("ok", TurnStatus.INTERRUPTED, "Echo: one"), ("empty-text", TurnStatus.FAILED, "")],
)
def test_fault_over_an_answer_leaves_no_turn_pending(
    ada: Rolebook, model: str, status: TurnStatus, text: str
) -> None:
    chat = ChatService(
        library=ada.finder,
        log=ada.log,
        renderer=ada.renderer,
        upstreams=ada.upstreams,
        count_tokens=count_messages,
        prices=OddPrices(),
        on_end=lambda *ended: None,
    )
    session = begin(ada)
    with pytest.raises(ZeroDivisionError):
        list(chat.stream_turn(TurnRequest(session.id, "one", model=model)))
    turn = ada.log.last_turn(session.id)
    assert (status, text) == (turn.status, turn.text)
    assert turn.error
    assert "Rolebook itself failed here" in turn.error.text
    assert 0 == chat.live_turns


class FaultyRecorder:
    """Records beside each turn what cannot be found out."""

    def __init__(self, rolebook: Rolebook) -> None:
        self._log = rolebook.log

    def start_turn(self, turn: Turn, revision: Revision) -> Turn:
        return self._log.start_turn(turn, revision)

    def finish_turn(self, turn: Turn) -> None:
        raise ZeroDivisionError


def test_fault_at_the_end_keeps_what_arrived_and_leaves_no_turn_pending(ada: Rolebook) -> None:
    session, chat = begin(ada), ada.chat
    prepared = chat.prepare(session, chat.persona_of(session), "one")
    with pytest.raises(ZeroDivisionError):
        list(chat.stream_prepared(session, prepared, "one", recorder=FaultyRecorder(ada)))
    turn = ada.log.last_turn(session.id)
    assert (TurnStatus.INTERRUPTED, "Echo: one") == (turn.status, turn.text)
    assert turn.error
    assert "Rolebook itself failed here" in turn.error.text
    assert turn.usage.total_tokens
    assert TurnStatus.COMPLETE == run(ada, session, "two").status


def test_listener_that_fails_spoils_no_answer(
    ada: Rolebook, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(turn: Turn) -> None:
        raise ZeroDivisionError

    ended: list[Turn] = []
    ada.chat.listen(fail)
    ada.chat.listen(ended.append)
    turn = run(ada, begin(ada), "one")
    assert (TurnStatus.COMPLETE, [turn]) == (turn.status, ended)
    assert 1 == caplog.text.count("Traceback")


@pytest.mark.parametrize("is_streamed", [True, False])
def test_fewer_answers_than_asked_for_are_a_complete_turn_that_says_so(
    ada: Rolebook, is_streamed: bool
) -> None:
    arguments: dict[str, Any] = {"parameters": {"n": 2}, "is_streamed": is_streamed}
    turn = run(ada, begin(ada), model="n-ignored", **arguments)
    assert (TurnStatus.COMPLETE, 1) == (turn.status, len(turn.choices))
    assert ["Asked for 2 answers, the server gave 1."] == list(map(str, turn.adaptations))
    assert () == run(ada, begin(ada), **arguments).adaptations


def test_base_model_persona_sends_one_plain_prompt(
    connected: Rolebook, upstream: FakeUpstream
) -> None:
    (Path(connected.library.templates_dir) / "plain.jinja").write_text(
        "{{ system }}{% for m in history %}|{{ m.content }}{% endfor %}|{{ input }}", "utf-8"
    )
    write_persona(
        connected,
        "ada",
        "name: Ada\nsystem: Once\nmodel: ok\nendpoint: completions\ntemplate: plain\n"
        "sampling: {echo: false, n: 2, stop: END}\n",
    )
    session = begin(connected)
    turn = run(connected, session, "upon")
    body = upstream.requests[-1].body
    assert isinstance(body, dict)
    assert upstream.requests[-1].path.endswith("/completions")
    assert "chat" not in upstream.requests[-1].path
    assert ("Once|upon", 2, ["END"]) == (body["prompt"], body["n"], body["stop"])
    assert 2 == len(turn.choices)
    connected.log.choose_alternative(turn.id, 1)
    assert (
        f"Once|upon|{turn.choices[1].text}|more"
        == run(connected, session, "more").messages[0].content
    )
