import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolebook.core.message import Message
from rolebook.upstream.tokens import (
    count_messages,
    count_tokens,
    estimate_messages,
    estimate_request,
    is_exact,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("text", "model", "count"),
    [
        ("", "gpt-4o", 0),
        ("Hello, world!", "gpt-4o", 4),
        ("tiktoken is great!", "gpt-4", 6),
        ("你好，世界！", "gpt-4o", 4),
        ("<|endoftext|>", "gpt-4o", 7),
        ("\ud800", "gpt-4o", 1),
    ],
)
def test_tokens_are_those_of_the_model(text: str, model: str, count: int) -> None:
    assert count_tokens(text, model) == count


@pytest.mark.parametrize(
    ("model", "is_known"),
    [
        ("gpt-4o", True),
        ("gpt-4o-mini-2024-07-18", True),
        ("openai/gpt-4.1", True),
        ("gpt-5-mini", True),
        ("o3-mini", True),
        ("gpt-oss-20b", True),
        ("ft:gpt-4o-mini:me", True),
        ("gpt-3.5-turbo", True),
        ("davinci", False),
        ("llama3.1:8b", False),
        ("deepseek-chat", False),
        ("", False),
    ],
)
def test_count_is_called_exact_only_for_known_vocabularies(model: str, is_known: bool) -> None:
    assert is_exact(model) is is_known


def test_messages_cost_their_roles_and_frames_and_a_plain_prompt_does_not() -> None:
    messages = [Message("system", "Be kind."), Message("user", "Hi")]

    assert count_messages(messages, "gpt-4o") == 3 + 2 * 3 + 2 + count_tokens("Be kind.") + 1
    assert count_messages([Message("prompt", "Hi")], "gpt-4o") == 1


@pytest.mark.parametrize("text", [" ", "a", "\n", "aA", "好", "!", "1", "👩‍👩‍👧", "ab "])
def test_hostile_text_is_counted_fast_and_breaks_nothing(text: str) -> None:
    count_tokens("warm")
    began = time.process_time()

    assert count_tokens(text * (1_000_000 // len(text))) > 1000
    assert time.process_time() - began < 2


@pytest.mark.parametrize("path", sorted(ROOT.glob("personas/*.yaml")), ids=lambda path: path.stem)
def test_estimate_without_a_vocabulary_is_near_the_count(path: Path) -> None:
    messages = [Message("user", path.read_text("utf-8"))]
    assert 0.75 < estimate_messages(messages) / count_messages(messages) < 1.25


def test_estimate_of_a_request_has_what_is_told_besides_texts() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "word " * 1000}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    asked = [Message("user", "Why?")]
    plain = estimate_messages(asked)

    def more_than_plain(messages: list[Message], parameters: dict[str, Any]) -> int:
        return estimate_request(messages, parameters) - plain

    assert 0 == more_than_plain(asked, {"temperature": 0.5, "seed": 7, "logprobs": True})
    for told in ({"tools": [tool]}, {"grammar": "word " * 1000}, {"x": {"y": "字" * 1300}}):
        assert 1000 < more_than_plain(asked, told) < 1400
    called = Message("assistant", "", fields={"content": None, "tool_calls": [tool]})
    assert 1000 < more_than_plain([*asked, called], {}) < 1400
    seen = Message("user", "Why?", fields={"content": [{"type": "text", "text": "Why?"}, image]})
    assert 1000 == more_than_plain([seen], {})
    read = {"type": "input_text", "text": "word " * 4000}
    assert 5000 < more_than_plain([replace(seen, fields={"content": [read]})], {}) < 7000
