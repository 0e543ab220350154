from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolebook.storage.log import SqliteLog
from rolebook.storage.search import Term, excerpts_of, find_marks, parse_query
from tests.storage.examples import log_session, log_turn

TEXTS = {
    "sky": "为什么天空是蓝色的？因为空气散射蓝光。",
    "python": "用Python编程很有趣，《三体》也是。",
    "english": "The quick brown fox can't jump over GPT-4o's lazy dog.",
    "accents": "Café Zoë naïve ÜBER straße",
    "japanese": "東京タワーへ行きました",
    "korean": "안녕하세요 세계",
    "rare": "𠮷野家で食べる",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> SqliteLog:
    log = SqliteLog(tmp_path_factory.mktemp("search") / "rolebook.db")
    for name, text in TEXTS.items():
        log_turn(log, log_session(log, title=f"标题 {name}"), text, answer="–")
    return log


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("天空", ["sky"]),
        ("天", ["sky"]),
        ("蓝色", ["sky"]),
        ("天蓝", []),
        ("空气 天空", ["sky"]),
        ("“蓝色的”", ["sky"]),
        ("为什么天空是蓝色的？", ["sky"]),
        ("三体", ["python"]),
        ("python", ["python"]),
        ("Python编程", ["python"]),
        ("编程 python", ["python"]),
        ("quick fox", ["english"]),
        ('"quick fox"', []),
        ('"quick brown fox"', ["english"]),
        ('"quick brown', ["english"]),
        ("QUICK", ["english"]),
        ("qui*", ["english"]),
        ("qui", []),
        ('"quick bro"*', ["english"]),
        ("can't", ["english"]),
        ("gpt-4o", ["english"]),
        ("cafe zoe", ["accents"]),
        ("über", ["accents"]),
        ("タワー", ["japanese"]),
        ("東京", ["japanese"]),
        ("안녕", ["korean"]),
        ("𠮷野", ["rare"]),
        ("标题", list(TEXTS)[::-1]),
        ("标题 sky", ["sky"]),
        ("", []),
        ("   ", []),
        ("*", []),
        ('"', []),
        ('"" ""', []),
        ("？！，。", []),
    ],
)
def test_words_find_the_turns_that_hold_them(
    log: SqliteLog, query: str, expected: list[str]
) -> None:
    names = {text: name for name, text in TEXTS.items()}
    assert [names[hit.turn.input] for hit in log.search(query).hits] == expected


@pytest.mark.parametrize(
    "query",
    [
        "AND", "OR NOT", "NEAR(a b, 3)", "input:fox", "text : {", "a + b", "^fox", "fox*^", "(", ")", "((((", "-fox",
        "'", "fox AND", "\\", "%", "_", "\0", "fox\0", "\ud800", "\ud800天", "col:*", '"a" "', "a\u3000b", "*" * 1000,
        "a " * 5000, "天" * 5000, '"' * 999, "𝔘𝔫𝔦", "ﷺ", "\u202e", "a" * 100_000, "½", "١٢٣", "x̷̧", "\u0301",
    ],
)  # fmt: skip
def test_nothing_that_is_typed_raises(log: SqliteLog, query: str) -> None:
    assert log.search(query).cursor == ""


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text())
def test_nothing_at_all_raises(log: SqliteLog, query: str) -> None:
    assert len(log.search(query, before=query).hits) <= len(TEXTS)


def test_whatever_a_text_holds_is_found_by_its_own_words(log: SqliteLog) -> None:
    for name, text in TEXTS.items():
        assert log.search(text).hits[0].turn.input == TEXTS[name]
        assert log.search(text).hits[0].excerpts[0].marks


def test_hits_come_newest_first_in_pages(log: SqliteLog) -> None:
    first = log.search("标题", limit=4)
    second = log.search("标题", limit=4, before=first.cursor)
    inputs = [hit.turn.input for hit in (*first.hits, *second.hits)]
    assert (inputs, second.cursor) == (list(TEXTS.values())[::-1], "")


def test_hit_says_where_it_is_from(log: SqliteLog) -> None:
    (hit,) = log.search("三体").hits
    assert (hit.session_id, hit.session_title) == (hit.turn.session_id, "标题 python")
    assert (hit.persona_id, hit.persona_name) == ("teacher", "Teacher 老师")
    assert log.search("三体", persona_id="friend").hits == ()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("one two*", (Term(("one",)), Term(("two",), is_prefix=True))),
        ('"one two" three', (Term(("one", "two")), Term(("three",)))),
        ("「蓝色」＊x", (Term(("蓝", "色"), is_prefix=True), Term(("x",)))),
        ("gpt-4o", (Term(("gpt", "4o")),)),
    ],
)
def test_query_is_read_as_terms(query: str, expected: tuple[Term, ...]) -> None:
    assert parse_query(query) == expected


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("The quick brown fox", "QUICK fox", ["quick", "fox"]),
        ("Café au lait", "cafe", ["Café"]),
        ("Cafe\u0301 au lait", "café", ["Cafe\u0301"]),
        ("天空是蓝色的", "蓝色 天空", ["天空", "蓝色"]),
        ("beginning begin", "beg*", ["beginning", "begin"]),
        ("a b a b", '"b a" "a b"', ["a b a b"]),
        ("nothing here", "absent", []),
    ],
)
def test_marks_are_where_the_words_are(text: str, query: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in find_marks(text, parse_query(query))] == expected


def test_excerpt_has_two_lines_around() -> None:
    text = "\n".join(["zero", "one", "two", "three match", "four", "five", "six"])
    (excerpt,) = excerpts_of("text", text, parse_query("match"))
    assert excerpt.text == "one\ntwo\nthree match\nfour\nfive"
    assert (excerpt.line, excerpt.is_cut) == (2, False)
    assert [excerpt.text[start:end] for start, end in excerpt.marks] == ["match"]


def test_excerpts_that_touch_are_one_and_three_are_enough() -> None:
    near = "\n".join(["match"] * 4)
    assert [len(excerpt.marks) for excerpt in excerpts_of("text", near, parse_query("match"))] == [
        4
    ]
    far = ("match" + "\n" * 20) * 9
    assert [excerpt.line for excerpt in excerpts_of("text", far, parse_query("match"))] == [
        1,
        19,
        39,
    ]


def test_long_line_is_cut_around_the_mark() -> None:
    (excerpt,) = excerpts_of(
        "text", "word " * 1000 + "match " + "word " * 1000, parse_query("match")
    )
    assert excerpt.is_cut
    assert len(excerpt.text) <= 600
    assert [excerpt.text[start:end] for start, end in excerpt.marks] == ["match"]
