"""Counting in English, in Chinese and in both; telling languages apart, and saying so where that cannot be done."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolebook.core.text import (
    LANGUAGES,
    compile_regex,
    count_characters,
    count_questions,
    count_words,
    has_match,
    language_of,
    similarity,
    words,
)
from tests.nasty import NASTY

WORDS = [
    ("", ()),
    (" ,.!? —…「」。 ", ()),
    ("Don't count, well-known words!", ("Don't", "count", "well-known", "words")),
    ("It costs 1,000.50 now.", ("It", "costs", "1,000.50", "now")),
    ("one. two", ("one", "two")),
    ("你好，世界。", ("你", "好", "世", "界")),
    ("我用Python 3写", ("我", "用", "Python", "3", "写")),
    ("ラーメン大好き", ("ラ", "ー", "メ", "ン", "大", "好", "き")),
    ("한국어 문장", ("한국어", "문장")),
    ("cafe\u0301 naïve", ("cafe\u0301", "naïve")),
    ("👍🏽 ok", ("ok",)),
    ("snake_case x", ("snake_case", "x")),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_words_are_runs_of_letters_and_single_chinese_characters(
    text: str, expected: tuple[str, ...]
) -> None:
    assert expected == words(text)


@given(st.text())
def test_words_are_counted_as_they_are_listed(text: str) -> None:
    assert len(words(text)) == count_words(text)


def test_characters_are_counted_without_white_space() -> None:
    assert 6 == count_characters(" ab\n\tc \u3000你好。")


QUESTIONS = [
    ("", 0),
    ("Why?", 1),
    ("Why?? Really?! No?!?", 3),
    ("Why ? !", 1),
    ("?", 0),
    ("你好吗？为什么？", 2),
    ("你好吗?我很好。", 1),
    ("你好吗。", 0),
    ('"Why?" she asked. (Or did she?)', 2),
    ("كيف حالك؟", 1),
    ("Use `a ? b : c` here.", 0),
    ("Is it `a ? b : c`?", 1),
    ("Before?\n```js\nx = a ? b : c\n// why?\n```\nAfter?", 2),
    ("~~~\nwhy?\n~~~\n", 0),
    ("```\nnever closed?\n", 0),
    ("See https://example.com/?a=1&b=2 now.", 0),
    ("See https://example.com/?a=1?", 1),
    ("Was it www.example.com? Or https://a.org/x?y=z？", 2),
    ("[this](https://a.b/c?d) or that?", 1),
    ("look at page?id=7", 0),
    ("a lone ` tick? And ` another?", 1),
]


@pytest.mark.parametrize(("text", "expected"), QUESTIONS)
def test_questions_are_sentences_that_end_in_a_mark(text: str, expected: int) -> None:
    assert expected == count_questions(text)


LANGUAGE_EXAMPLES = {
    "en": "What do you think would happen if you cut the cake into four pieces and ate one of them?",
    "de": "Was glaubst du, was passiert, wenn man den Kuchen in vier Stücke schneidet und eines davon isst?",
    "fr": "À ton avis, que se passe-t-il si on coupe le gâteau en quatre et que tu manges une part ?",
    "es": "¿Qué crees que pasa si cortas el pastel en cuatro partes y te comes una de ellas?",
    "it": "Che cosa succede secondo te se tagli la torta in quattro parti e ne mangi una?",
    "pt": "O que você acha que acontece se cortar o bolo em quatro partes e comer uma delas?",
    "nl": "Wat denk je dat er gebeurt als je de taart in vier stukken snijdt en er een van opeet?",
    "sv": "Vad tror du händer om du skär kakan i fyra bitar och äter en av dem?",
    "pl": "Jak myślisz, co się stanie, jeśli podzielisz ciasto na cztery części i zjesz jedną z nich?",
    "tr": "Pastayı dörde bölüp bir dilimini yersen sence ne olur ve bu ne kadar eder?",
    "vi": "Bạn nghĩ điều gì sẽ xảy ra nếu bạn cắt cái bánh thành bốn phần và ăn một phần?",
    "id": "Menurut kamu apa yang akan terjadi jika kue itu dipotong empat dan kamu makan satu?",
    "ru": "Как вы думаете, что будет, если разрезать торт на четыре части и съесть одну из них?",
    "uk": "Як ви думаєте, що буде, якщо розрізати торт на чотири частини і з'їсти одну з них?",
    "ar": "ما الذي يحدث إذا قطعت الكعكة إلى أربع قطع ثم أكلت قطعة من هذه القطع؟",
    "fa": "اگر کیک را به چهار قسمت ببرید و یک قسمت را بخورید چه می شود؟",
    "hi": "अगर आप केक को चार टुकड़ों में काटते हैं और एक टुकड़ा खाते हैं तो क्या होगा?",
    "zh": "如果把蛋糕切成四块，你吃掉其中一块，还剩下多少？",
    "ja": "ケーキを四つに切って一つ食べたら、どれくらい残りますか。",
    "ko": "케이크를 네 조각으로 잘라 하나를 먹으면 얼마나 남을까요?",
    "el": "Τι θα συμβεί αν κόψεις την τούρτα στα τέσσερα;",
    "he": "מה יקרה אם תחתוך את העוגה לארבע?",
    "th": "ถ้าตัดเค้กเป็นสี่ชิ้นแล้วกินหนึ่งชิ้นจะเหลือเท่าไร",
}


@pytest.mark.parametrize(("code", "text"), LANGUAGE_EXAMPLES.items())
def test_language_of_a_sentence_is_told(code: str, text: str) -> None:
    assert code == language_of(text)
    assert code in LANGUAGES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "OK",
        "👍",
        "Paris",
        "好",
        "Lorem ipsum dolor amet",
        "```python\nif it is not in the list: return all of them\n```",
        "https://example.com/the/and/of/it/is",
        "The answer is that it depends on you and on what you do. 答案是这取决于你自己的做法。",
    ],
)
def test_language_that_cannot_be_told_is_left_open(text: str) -> None:
    assert "" == language_of(text)


def test_chinese_with_english_terms_and_code_is_chinese() -> None:
    text = "可以用 Python 的 list comprehension 来写：\n```python\nthe_list = [x for x in it]\n```\n你会怎么改？"
    assert "zh" == language_of(text)


def test_japanese_that_is_mostly_han_is_japanese() -> None:
    assert "ja" == language_of("東京都知事選挙の投票率は前回を上回った。")


def test_similarity_is_twice_the_common_words_by_all() -> None:
    assert 1.0 == similarity("The cat sat.", "the CAT, sat")
    assert 0.0 == similarity("one two", "three four")
    assert pytest.approx(2 * 3 / 8) == similarity("the cat sat", "the dog and cat sat")
    assert pytest.approx(2 * 3 / 10) == similarity("我喜欢红茶", "你们喜欢茶")
    assert 1.0 == similarity("", "…")
    assert 0.0 == similarity("word", "")


@given(st.text(), st.text())
def test_similarity_is_symmetric_and_within_bounds(a: str, b: str) -> None:
    assert 0.0 <= similarity(a, b) <= 1.0
    assert similarity(a, b) == pytest.approx(similarity(b, a))


def test_broken_regular_expression_says_why() -> None:
    with pytest.raises(ValueError, match="missing"):
        compile_regex("(a")
    with pytest.raises(ValueError, match="recursion"):
        compile_regex("(" * 5000 + ")" * 5000)


def test_catastrophic_regular_expression_is_given_up() -> None:
    start = time.process_time()
    with pytest.raises(TimeoutError):
        has_match("(a|a)*$", "a" * 40 + "b")
    assert time.process_time() - start < 1.5


@pytest.mark.parametrize("text", NASTY)
def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    assert 0 <= count_questions(text) <= count_words(text)
    assert language_of(text) in {*LANGUAGES, ""}


HOSTILE = {
    "ticks": "` `` ``` ```` " * 70_000,
    "longer and longer ticks": "".join("`" * length + "x" for length in range(1400)),
    "marks in words": "a?" * 500_000,
    "addresses": "http://" * 150_000,
    "apostrophes": "a'" * 500_000,
    "fences": "```\n~~~\n" * 120_000,
    "accents": "\u0301" * 1_000_000,
    "chinese": "好" * 1_000_000,
}


@pytest.mark.parametrize("count", [count_words, count_characters, count_questions, language_of])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_is_read_in_bounded_time(count: Callable[[str], object], name: str) -> None:
    start = time.process_time()
    count(HOSTILE[name])
    assert time.process_time() - start < 2


def test_similarity_of_very_long_texts_takes_bounded_time() -> None:
    start = time.process_time()
    similarity("ab " * 300_000, "b a " * 300_000)
    assert time.process_time() - start < 3
