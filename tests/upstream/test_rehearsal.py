"""Rehearsal is no language model, says so, and shows what one would have been given."""

from typing import Any

import pytest

from rolebook.core.message import Message
from rolebook.upstream.rehearsal import REHEARSAL_MODEL, rehearsal_upstream
from rolebook.upstream.tokens import count_messages
from tests.upstream.asking import ask, ask_for


def answer_to(*messages: Message, **request: Any) -> str:
    return ask(rehearsal_upstream(delay_s=0), ask_for(messages=messages, **request)).text


def test_it_says_that_it_is_no_model_and_shows_what_one_would_get() -> None:
    text = answer_to(
        Message("system", "You are a teacher."),
        Message("user", "Why is the sky blue?"),
        parameters={"temperature": 0.5},
    )

    assert "no language model" in text
    assert "messages: 2" in text
    assert "**system**\n\n> You are a teacher." in text
    assert "**user**\n\n> Why is the sky blue?" in text
    assert "`temperature` = `0.5`" in text


@pytest.mark.parametrize(
    ("question", "is_chinese"),
    [
        ("为什么天空是蓝色的？", True),
        ("用 Python 写一个函数", True),
        ("Why is the sky blue?", False),
        ("What does 你好 mean in English?", False),
        ("", False),
    ],
)
def test_it_speaks_the_language_of_the_newest_input(question: str, is_chinese: bool) -> None:
    text = answer_to(
        Message("user", "你好你好你好"), Message("assistant", "Hi"), Message("user", question)
    )

    assert ("排练" in text) is is_chinese


def test_long_messages_are_shortened_and_nothing_breaks_out_of_its_quote() -> None:
    text = answer_to(Message("user", "# Heading\n\n```\n" + "word " * 500))

    assert len(text) < 900
    assert "(2515 characters in all)" in text
    assert "\n#" not in text


def test_answers_are_numbered_when_several_were_asked_for() -> None:
    outcome = ask(rehearsal_upstream(delay_s=0), ask_for(parameters={"n": 2}))

    texts = [choice.text for choice in outcome.completion.choices]
    assert ["answer 1 of 2" in texts[0], "answer 2 of 2" in texts[1]] == [True, True]


def test_usage_is_the_estimate() -> None:
    request = ask_for(text="Why is the sky blue?")
    usage = ask(rehearsal_upstream(delay_s=0), request).completion.usage

    assert usage.prompt_tokens == count_messages(request.messages)


def test_it_streams_at_a_lively_pace_however_much_it_shows() -> None:
    upstream = rehearsal_upstream(delay_s=1.0)
    messages = [Message("user", f"message {number}") for number in range(30)]

    assert ask(upstream, ask_for(messages=messages)).duration_s < 4


def test_it_is_local_and_needs_no_setting() -> None:
    upstream = rehearsal_upstream()

    assert (upstream.name, upstream.default_model, upstream.is_local) == (
        "rehearsal",
        REHEARSAL_MODEL,
        True,
    )
