"""What people are told, in each language."""

from __future__ import annotations

import pytest

from rolebook.core.errors import (
    FileError,
    NotFoundError,
    Phrase,
    Problem,
    PromptError,
    RolebookError,
    UpstreamRefusedError,
)
from rolebook.core.fault import FaultyDataError
from rolebook.core.persona import parse_persona
from rolebook.core.session import TurnError
from rolebook.language.translator import Translator, translator

PERSONA = {"name": "Teacher", "system": "You teach."}


@pytest.fixture
def english() -> Translator:
    return translator("en")


@pytest.fixture
def chinese() -> Translator:
    return translator("zh")


def test_english_is_the_message_itself(english: Translator) -> None:
    assert english.gettext("Who do you want to talk to?") == "Who do you want to talk to?"


def test_chinese_is_from_the_catalogue(chinese: Translator) -> None:
    assert chinese.gettext("Sessions") == "会话"


def test_a_language_without_a_catalogue_speaks_english() -> None:
    assert Translator("tlh").gettext("Sessions") == "Sessions"


def test_a_message_that_the_catalogue_lacks_stays_english(chinese: Translator) -> None:
    assert chinese.gettext("Nobody has said this yet.") == "Nobody has said this yet."


def test_the_empty_text_stays_empty(chinese: Translator) -> None:
    assert chinese.gettext("") == ""


@pytest.mark.parametrize(
    ("language", "number", "expected"),
    [
        ("en", 1, "%(num)s session"),
        ("en", 2, "%(num)s sessions"),
        ("en", 0, "%(num)s sessions"),
        ("zh", 1, "%(num)s 个会话"),
        ("zh", 2, "%(num)s 个会话"),
    ],
)
def test_a_plural_fits_the_number(language: str, number: int, expected: str) -> None:
    said = translator(language).ngettext("%(num)s session", "%(num)s sessions", number)
    assert said == expected


def test_a_plural_that_the_catalogue_lacks_stays_english(chinese: Translator) -> None:
    assert chinese.ngettext("%(num)s goose", "%(num)s geese", 2) == "%(num)s geese"


def test_parameters_are_filled_in_as_they_are(chinese: Translator) -> None:
    said = chinese.say("There is no file %(path)s.", {"path": "100% %(x)s.yaml"})
    assert said == "没有文件 100% %(x)s.yaml。"


def test_a_doubled_percent_sign_is_one(chinese: Translator) -> None:
    error = PromptError(
        "'%(text)s' stands outside of any message."
        ' Put it between {%% message "…" %%} and {%% endmessage %%}.',
        text="Hello",
    )
    assert (
        chinese.error(error)
        == '“Hello”不在任何消息里。请放到 {% message "…" %} 和 {% endmessage %} 之间。'
    )


def test_phrases_inside_a_message_are_translated_with_it(chinese: Translator) -> None:
    phrase = Phrase("a whole number from %(low)d to %(high)d", {"low": 1, "high": 16})
    said = chinese.say(
        "%(key)s must be %(expected)s, got %(got)s.",
        {"key": "n", "expected": phrase, "got": Phrase("a list")},
    )
    assert said == "n 应为 1 到 16 之间的整数，实际是列表。"


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            {"sampling": {"temperature": "hot"}},
            "sampling.temperature 应为 0 到 2 之间的数，实际是 'hot'。",
        ),
        ({"sampling": {"n": 0}}, "sampling.n 应为 1 到 16 之间的整数，实际是 '0'。"),
        (
            {"sampling": {"echo": "maybe"}},
            "sampling.echo 应为真假值（true 或 false），实际是 'maybe'。",
        ),
        ({"sampling": []}, "sampling 应为一行行的 `key: value`，实际是列表。"),
        ({"system": None}, "system 应为文本，实际是空值：请写上文本，或删去这个键。"),
        ({"name": "  "}, "name 应为非空的文本，实际是 '  '。"),
        (
            {"description": {"a": 1}},
            "description 应为文本，实际是映射，因为冒号加空格或 `{` 会让它成为映射：请给文本加引号，或写在 `|` 下面。",
        ),
        (
            {"endpoint": "chats"},
            "endpoint 应为下列之一（chat, completions），实际是 'chats'。是不是想写 chat？",
        ),
        (
            {"variables": {"day": {"type": "date", "default": "soon"}}},
            "variables.day.default 应为 2026-11-20 这样的日期，实际是 'soon'。",
        ),
        (
            {"variables": {"level": {"type": "choice", "choices": ["a", "b"], "default": "c"}}},
            "variables.level.default 应为下列之一（a, b），实际是 'c'。",
        ),
        ({"request": {"top_p": 1}}, "'top_p' 应写在 sampling 下面。"),
        ({"variables": {"1st": ""}}, "'1st' 不能作变量名：请用字母、数字和 _，以字母开头。"),
    ],
)
def test_a_mistake_in_a_persona_reads_well(
    chinese: Translator, wrong: dict[str, object], expected: str
) -> None:
    with pytest.raises(FaultyDataError) as caught:
        parse_persona("teacher", {**PERSONA, **wrong})
    fault = caught.value.faults[0]
    assert (
        chinese.problem(Problem("teacher.yaml", 1, 1, fault.message, fault.parameters)) == expected
    )


def test_the_english_of_an_error_is_its_own_text(english: Translator) -> None:
    error = NotFoundError("There is no persona '%(id)s'.", id="teacher")
    assert english.error(error) == str(error)


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("chat.jinja", 3, "chat.jinja:3: 提示词超过了 10 个字符。"),
        ("chat.jinja", 0, "chat.jinja: 提示词超过了 10 个字符。"),
        ("", 0, "提示词超过了 10 个字符。"),
    ],
)
def test_an_error_says_its_place_as_far_as_it_is_known(
    chinese: Translator, file: str, line: int, expected: str
) -> None:
    error = PromptError(
        "The prompt has more than %(limit)s characters.", file=file, line=line, limit=10
    )
    assert chinese.error(error) == expected


def test_a_file_error_lists_every_problem_with_its_place(chinese: Translator) -> None:
    error = FileError(
        [
            Problem("a.yaml", 2, 5, "'%(key)s' is missing.", {"key": "name"}),
            Problem("a.yaml", 0, 0, "The file is empty: write 'key: value' lines."),
        ]
    )
    assert chinese.error(error).splitlines() == [
        "a.yaml:2:5: 缺少 name。",
        "a.yaml: 文件是空的：请写上一行行的 `key: value`。",
    ]


def test_an_upstreams_own_words_follow_as_they_are(chinese: Translator) -> None:
    error = UpstreamRefusedError(
        "%(upstream)s refused the request with status %(status)d.",
        upstream="work",
        status=400,
        detail="No connected db. 100%",
    )
    logged = TurnError(error.code, error.message, error.parameters)
    assert (
        "work 拒绝了请求，状态码 400。（No connected db. 100%）"
        == chinese.error(error)
        == chinese.turn_error(logged)
    )


def test_an_upstream_without_words_of_its_own_adds_nothing(english: Translator) -> None:
    assert english.error(UpstreamRefusedError("It refused.")) == "It refused."
    assert english.turn_error(TurnError("upstream_refused", "It refused.")) == "It refused."


def test_an_error_without_a_translation_is_told_in_english(chinese: Translator) -> None:
    assert chinese.error(RolebookError("The %(thing)s is odd.", thing="moon")) == "The moon is odd."


def test_a_translator_is_read_once() -> None:
    assert translator("zh") is translator("zh")
