"""What stands between the pieces of a text, in each language."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from rolebook.language.punctuation import set_apart
from rolebook.language.translator import Translator, translator


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("与 %(name)s 相比", "Teacher", "与 Teacher 相比"),
        ("与 %(name)s 相比", "知心朋友", "与知心朋友相比"),
        ("%(name)s 更好", "知心朋友（一句话版）", "知心朋友（一句话版）更好"),
        ("与 %(name)s 相比", "助手 v2", "与助手 v2 相比"),
        ("与 %(name)s 相比", "GPT 老师", "与 GPT 老师相比"),
        ("与 %(name)s 相比", "张 三", "与张 三相比"),
        ("与 %(name)s 相比", "", "与  相比"),
        ("%(name)s 开始", Markup("<b>9 秒钟前</b>"), "<b>9 秒钟前</b>开始"),
        ("%(name)s 开始", Markup("<b>Teacher</b>"), "<b>Teacher</b> 开始"),
        ("Rolebook %(name)s token", "助手", "Rolebook 助手 token"),
    ],
)
def test_chinese_stands_beside_chinese_without_a_space(
    pattern: str, name: str, expected: str
) -> None:
    assert translator("zh").fill(pattern, {"name": name}) == expected


def test_two_names_in_a_row_are_closed_up_too() -> None:
    speaker = translator("zh")
    assert speaker.fill("%(a)s %(b)s", {"a": "助手", "b": "老师"}) == "助手老师"
    assert speaker.fill("%(a)s %(b)s", {"a": "助手", "b": "Teacher"}) == "助手 Teacher"


def test_a_number_keeps_its_space() -> None:
    assert translator("zh").fill("共 %(num)d 条", {"num": 3}) == "共 3 条"


def test_number_of_a_time_has_its_space_too() -> None:
    assert ["3 分钟前", "3 minutes ago"] == [set_apart("3分钟前"), set_apart("3 minutes ago")]


def test_what_is_filled_in_stays_as_it_is() -> None:
    said = translator("zh").fill("从 %(a)s 到 %(b)s", {"a": "甲 %(b)s ", "b": "乙"})
    assert said == "从甲 %(b)s  到乙"


def test_other_languages_keep_their_spaces() -> None:
    said = translator("en").fill("Against %(name)s now", {"name": "知心朋友"})
    assert said == "Against 知心朋友 now"


def test_chinese_punctuation_is_full_width() -> None:
    signs = translator("zh").punctuation
    assert (signs.colon, signs.comma, signs.listing) == ("：", "，", "、")
    assert f"甲{signs.opening}乙{signs.closing}" == "甲（乙）"


def test_a_language_without_signs_of_its_own_has_the_english_ones() -> None:
    assert Translator("tlh").punctuation == translator("en").punctuation
