"""Answers recorded from a real socket, and played back where there is none."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from rolebook.core.completion import CompletionRequest, Delta
from rolebook.core.errors import UpstreamError, UpstreamRefusedError
from rolebook.core.upstream import UpstreamSettings
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FAULTS, FakeUpstream
from tests.upstream.asking import ask, ask_for, wait_until_idle
from tests.upstream.conftest import OpenUpstream

KEY = "sk-canary+7/Qx9=Zt40Wb"

OpenPlayback = Callable[..., OpenAIUpstream]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "answers.jsonl"


@pytest.fixture
def recorded(open_upstream: OpenUpstream, path: Path) -> OpenAIUpstream:
    """The fake, whose answers are recorded."""
    return open_upstream(KEY, record=str(path), attempts=1)


@pytest.fixture
def play_back(path: Path) -> OpenPlayback:
    """An upstream that is played back, and has neither a server nor a key."""

    def open_one(**settings: object) -> OpenAIUpstream:
        given = {"name": "demo", "base_url": "http://playback.invalid/v1", "playback": str(path)}
        return OpenAIUpstream(UpstreamSettings(**{**given, **settings}))  # type: ignore[arg-type]

    return open_one


def lines(path: Path) -> list[dict[str, object]]:
    return (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    )


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(
    "request_of",
    [
        lambda **given: ask_for(**given),
        lambda **given: ask_for(
            text="天空为什么是蓝色的？🎓", parameters={"n": 2, "seed": 7}, **given
        ),
        lambda **given: ask_for(endpoint="completions", **given),
        lambda **given: ask_for("gpt-5-mini", parameters={"max_tokens": 9}, **given),
        lambda **given: ask_for("split-utf8", **given),
        lambda **given: ask_for("tool-calls", **given),
    ],
    ids=["plain", "chinese", "completions", "adapted", "split", "tools"],
)
def test_answer_is_played_back_as_it_came(
    recorded: OpenAIUpstream,
    play_back: OpenPlayback,
    fake: FakeUpstream,
    request_of: Callable[..., CompletionRequest],
    is_streamed: bool,
) -> None:
    came = ask(recorded, request_of(is_streamed=is_streamed))
    asked = len(fake.requests)

    again = ask(play_back(), request_of(is_streamed=is_streamed))
    other = ask(play_back(), request_of(is_streamed=not is_streamed))

    assert came.error is again.error is other.error is None
    assert again.completion == came.completion
    assert other.completion.choices == came.completion.choices
    assert (again.text, again.sent) == (came.text, came.sent)
    assert len(fake.requests) == asked
    assert wait_until_idle() == []


def test_line_says_what_was_asked_and_answered(recorded: OpenAIUpstream, path: Path) -> None:
    ask(recorded, ask_for(text="Why?", parameters={"temperature": 0.5}))

    (line,) = lines(path)

    assert (line["format"], line["status"]) == (1, 200)
    assert line["request"] == {
        "method": "POST",
        "path": "/chat/completions",
        "body": {
            "model": "ok",
            "messages": [{"role": "user", "content": "Why?"}],
            "temperature": 0.5,
        },
    }
    pieces, pauses_ms = line["pieces"], line["pauses_ms"]
    assert isinstance(pieces, list)
    assert isinstance(pauses_ms, list)
    assert "".join(pieces).endswith("data: [DONE]\n\n")
    assert len(pauses_ms) == len(pieces)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_answers_to_one_request_come_in_turn_and_then_anew(
    recorded: OpenAIUpstream, play_back: OpenPlayback, fake: FakeUpstream
) -> None:
    for text in ("one", "two"):
        fake.model_rule("m", f"ok?text={text}")
        ask(recorded, ask_for("m"))

    upstream = play_back()

    assert [ask(upstream, ask_for("m")).text for _ in range(5)] == [
        "one",
        "two",
        "one",
        "two",
        "one",
    ]


@pytest.mark.parametrize(
    "fault",
    ["429", "429-quota", "401", "403", "500", "529", "rst", "rst-mid", "close-mid"],
)
@pytest.mark.parametrize("is_streamed", [True, False])
def test_passing_trouble_and_half_answers_are_not_recorded(
    recorded: OpenAIUpstream, path: Path, fault: str, is_streamed: bool
) -> None:
    assert ask(recorded, ask_for(fault, is_streamed=is_streamed)).error is not None
    assert wait_until_idle() == []
    assert lines(path) == []


def test_refusal_that_hangs_on_the_request_is_played_back(
    recorded: OpenAIUpstream, play_back: OpenPlayback
) -> None:
    came, again = (ask(upstream, ask_for("400-context")) for upstream in (recorded, play_back()))

    assert isinstance(again.error, UpstreamRefusedError)
    assert again.upstream_error.detail == came.upstream_error.detail
    assert again.upstream_error.status == 400


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if f.kind in ("whole", "told")])
def test_every_odd_answer_is_the_same_when_it_is_played_back(
    recorded: OpenAIUpstream, play_back: OpenPlayback, name: str
) -> None:
    came, again = ask(recorded, ask_for(name)), ask(play_back(), ask_for(name))

    assert type(again.error) is type(came.error)
    if came.error is None:
        assert again.completion == came.completion


def test_no_key_is_recorded(recorded: OpenAIUpstream, path: Path) -> None:
    """Not where a server repeats it, not where somebody types it, in no form."""
    ask(recorded, ask_for(f"ok?text={quote(f'Your key is {KEY}, is it not?')}"))
    ask(recorded, ask_for(text=f"My key is {KEY}", is_streamed=False))
    ask(recorded, ask_for("echo-key?code=400"))

    text = path.read_text("utf-8")

    assert len(lines(path)) == 3
    assert "[key removed]" in text
    assert "uthorization" not in text
    for form in (KEY, KEY[:12], quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()[4:-8]):
        assert form not in text


def test_missing_answer_is_named_with_the_nearest_one(
    recorded: OpenAIUpstream, play_back: OpenPlayback, path: Path
) -> None:
    ask(recorded, ask_for(text="Why is the sky blue?", parameters={"temperature": 0.5}))
    near = ask_for(text="Why is the sky blue?", parameters={"temperature": 0.7, "seed": 1})
    far = ask_for("large", "Something else", parameters={"temperature": 1, "seed": 1})

    missing, lost = (ask(play_back(), asked).upstream_error for asked in (near, far))

    assert isinstance(missing, UpstreamRefusedError)
    assert str(path) in str(missing)
    assert "ok: “Why is the sky blue?”" in str(missing)
    assert "differs in: seed, temperature." in str(missing)
    assert "large: “Something else”" in str(lost)
    assert "nearest" not in str(lost)


def test_models_are_those_that_were_asked_for_unless_they_were_recorded(
    recorded: OpenAIUpstream, play_back: OpenPlayback
) -> None:
    ask(recorded, ask_for("reasoning"))
    ask(recorded, ask_for("ok"))
    assert (play_back().default_model, [model.id for model in play_back().models()]) == (
        "reasoning",
        ["ok", "reasoning"],
    )

    recorded.models()

    assert "gpt-4o" in [model.id for model in play_back().models()]


def test_playback_may_take_the_time_that_it_took(
    recorded: OpenAIUpstream, play_back: OpenPlayback
) -> None:
    request = ask_for("ok?tokens=8&delay_ms=60")
    ask(recorded, request)
    began = time.monotonic()
    arrivals = [
        time.monotonic() - began
        for event in play_back(is_playback_timed=True).stream(request)
        if isinstance(event, Delta)
    ]

    assert arrivals[-1] - arrivals[0] > 0.3
    assert ask(play_back(), request).is_complete


@pytest.mark.parametrize("content", ["no JSON", "{}", "[]", '{"request": 7}', "\xff"])
def test_file_that_is_no_recording_is_named_with_its_line(
    recorded: OpenAIUpstream, play_back: OpenPlayback, path: Path, content: str
) -> None:
    ask(recorded, ask_for())
    with path.open("ab") as file:
        file.write(content.encode("latin-1") + b"\n")

    error = ask(play_back(), ask_for()).upstream_error

    assert str(error).startswith(f"Line 2 of the recording {path}")


@pytest.mark.parametrize("left", [1, 20, 200])
def test_half_a_line_that_a_kill_has_left_is_told_and_costs_nothing_else(
    recorded: OpenAIUpstream,
    play_back: OpenPlayback,
    path: Path,
    left: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second, third = (ask_for(text=text) for text in ("one", "two", "three"))
    ask(recorded, first)
    whole = path.stat().st_size
    ask(recorded, second)
    os.truncate(path, whole + left)

    assert ask(play_back(), first).is_complete
    assert f"Line 2 of the recording {path} is left out" in caplog.text
    assert "holds no answer" in str(ask(play_back(), second).error)

    ask(recorded, third)

    assert all(ask(play_back(), request).is_complete for request in (first, third))


def test_recording_that_is_not_there_is_named_as_a_whole(
    play_back: OpenPlayback, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir(exist_ok=True)
    monkeypatch.chdir(path.parent)
    for named in (str(path), path.name):
        error = ask(play_back(playback=named), ask_for()).error
        assert f"{path} cannot be read: No such file" in str(error)


def test_nothing_is_asked_where_nothing_can_be_recorded(
    open_upstream: OpenUpstream, fake: FakeUpstream, tmp_path: Path
) -> None:
    upstream = open_upstream(KEY, record=str(tmp_path))

    error = ask(upstream, ask_for()).error

    assert isinstance(error, UpstreamError)
    assert f"cannot be recorded in {tmp_path}: Is a directory" in str(error)
    assert fake.requests == []


def test_what_cannot_be_written_as_text_is_recorded_all_the_same(
    recorded: OpenAIUpstream, play_back: OpenPlayback
) -> None:
    request = ask_for("bad-utf8", is_streamed=False)

    came, again = ask(recorded, request), ask(play_back(), request)

    assert type(again.error) is type(came.error)
    assert again.error is not None


def test_many_answers_at_once_are_all_recorded(
    recorded: OpenAIUpstream, play_back: OpenPlayback, path: Path
) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: ask(recorded, ask_for(text=f"number {n}.")), range(40)))
    assert wait_until_idle() == []
    upstream = play_back()

    assert len(lines(path)) == 40
    assert [ask(upstream, ask_for(text=f"number {n}.")).text for n in range(40)] == [
        f"Echo: number {n}." for n in range(40)
    ]
