"""Search by words: what a person types becomes a query that cannot fail, and a hit shows where it matched.

Words must all occur, in the input, the answers or the title; ``"several words"`` must follow each other,
``begin*`` is the start of a word. Each character of Chinese, Japanese and Korean is a word of its own, so that a
run of them is a phrase.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from sqlite_utils import Database

from rolebook.core.frozen import frozen
from rolebook.core.session import Turn
from rolebook.storage.connection import execute
from rolebook.storage.encoding import decode_text, show_text
from rolebook.storage.index import CJK, segment
from rolebook.storage.lookup import readable_turns
from rolebook.storage.readable import UNREADABLE_TURNS
from rolebook.storage.revision import meant_by, sessions_of

#: How many matching turns a search for sessions looks at, the newest first.
NEWEST_MATCHES = 5_000

_MOST_TERMS = 16
_MOST_WORDS_IN_A_TERM = 32
_MOST_EXCERPTS = 3
_MARKED_CHARACTERS = 200_000
_LINES_AROUND = 2
_LONGEST_EXCERPT = 600
_BEFORE_MARK = 150

_QUOTES = str.maketrans(dict.fromkeys("“”„«»「」『』＂", '"') | {"＊": "*"})
_TERM = re.compile(r'"([^"]*)"?(\*?)|([^\s"]+)')


@frozen
class Term:
    """Words that must follow each other; the last is the start of a word if it ``is_prefix``."""

    words: tuple[str, ...]
    is_prefix: bool = False


@frozen
class Excerpt:
    """The lines of a field (``title``, ``input`` or ``text``) that match, with two lines around.

    ``marks`` are ranges of ``text``, the end excluded; ``line`` is the number of its first line, from 1;
    ``is_cut`` says that long lines were shortened.
    """

    field: str
    text: str
    marks: tuple[tuple[int, int], ...]
    line: int
    is_cut: bool


@frozen
class SearchHit:
    """A turn that matches, without its messages and reply, and where it does."""

    turn: Turn
    session_id: str
    session_title: str
    persona_id: str
    persona_name: str
    excerpts: tuple[Excerpt, ...]


@frozen
class SearchPage:
    """Some hits, the newest first. ``cursor`` asks for the next page and is empty on the last one."""

    hits: tuple[SearchHit, ...]
    cursor: str


@cache
def _word() -> re.Pattern[str]:
    """A word as the index sees it: letters and digits, and the accents that follow them. Compiled at first use."""
    return re.compile(f"[{CJK}]|[^\\W_{CJK}](?:[^\\W_{CJK}]|[\u0300-\u036f])*")


def parse_query(query: str) -> tuple[Term, ...]:
    """What was typed, as terms; none if it holds no letter and no digit. Takes any text."""
    terms = (
        _term(*match.groups(default=""))
        for match in _TERM.finditer(query[:2000].translate(_QUOTES))
    )
    return tuple(islice((term for term in terms if term.words), _MOST_TERMS))


def search(db: Database, query: str, *, persona_id: str, limit: int, before: str) -> SearchPage:
    """One page of turns outside the trash that match a query, the newest first; without those that cannot be read."""
    terms = parse_query(query)
    if not terms:
        return SearchPage((), "")
    persona_id, at, revision_id = meant_by(db, persona_id)
    with_it, named = sessions_of(db, persona_id) if persona_id else ("TRUE", [])
    rows = execute(
        db,
        "SELECT turn_search.rowid AS number, sessions.title, sessions.persona_id, revisions.persona_name "
        "FROM turn_search JOIN turns ON turns.number = turn_search.rowid "
        "JOIN sessions ON sessions.number = turns.session JOIN revisions ON revisions.number = turns.revision "
        "WHERE turn_search MATCH ? AND turn_search.rowid < ? AND sessions.deleted_at IS NULL AND activity > 0 "
        f"AND +{with_it} AND (? = '' OR sessions.pin = ? OR revisions.id = ?) "
        f"AND turns.number NOT IN {UNREADABLE_TURNS} "
        "ORDER BY turn_search.rowid DESC LIMIT ?",
        (
            _match(terms),
            _before(before),
            *named,
            *(at, at, revision_id),
            limit + 1,
        ),
    ).fetchall()
    shown = rows[:limit]
    turns = readable_turns(db, [row["number"] for row in shown])
    hits = tuple(
        _hit(
            turns[row["number"]],
            terms,
            title=decode_text(row["title"]),
            persona_id=decode_text(row["persona_id"]),
            persona_name=decode_text(row["persona_name"]),
        )
        for row in shown
        if row["number"] in turns
    )
    return SearchPage(hits, str(shown[-1]["number"]) if len(rows) > limit else "")


def found_sessions(db: Database, query: str) -> list[int]:
    """The numbers of the sessions of the newest turns that match a query."""
    terms = parse_query(query)
    if not terms:
        return []
    rows = execute(
        db,
        "SELECT DISTINCT turns.session FROM (SELECT rowid AS number FROM turn_search WHERE turn_search MATCH ? "
        "ORDER BY rowid DESC LIMIT ?) AS found JOIN turns ON turns.number = found.number",
        (_match(terms), NEWEST_MATCHES),
    )
    return [row[0] for row in rows]


def find_marks(text: str, terms: Sequence[Term]) -> list[tuple[int, int]]:
    """Where terms occur in a text: ranges in order that do not overlap."""
    words = [(match.start(), match.end(), _fold(match[0])) for match in _word().finditer(text)]
    ranges = sorted(found for term in terms for found in _occurrences(words, term))
    marks: list[tuple[int, int]] = []
    for start, end in ranges:
        if marks and start < marks[-1][1]:
            marks[-1] = (marks[-1][0], max(end, marks[-1][1]))
        else:
            marks.append((start, end))
    return marks


def excerpts_of(field: str, text: str, terms: Sequence[Term]) -> list[Excerpt]:
    """The first places of a field that match, with the lines around them."""
    text = text[:_MARKED_CHARACTERS]
    marks = find_marks(text, terms)
    return [
        _excerpt(
            field, text, [mark for mark in marks if start <= mark[0] < end], start=start, end=end
        )
        for start, end in _windows(text, marks)
    ]


def _term(phrase: str, star: str, word: str) -> Term:
    content = phrase or word
    words = tuple(
        islice((match[0] for match in _word().finditer(show_text(content))), _MOST_WORDS_IN_A_TERM)
    )
    return Term(words, is_prefix=bool(star) or word.endswith("*"))


def _match(terms: Sequence[Term]) -> str:
    """The query in the language of FTS5. Words are letters and digits, so nothing in them can be taken for syntax."""
    return " AND ".join(
        f'"{segment(" ".join(term.words))}"' + "*" * term.is_prefix for term in terms
    )


def _before(cursor: str) -> int:
    return int(cursor) if cursor.isdecimal() and len(cursor) < 19 else 2**63 - 1


def _hit(
    turn: Turn, terms: Sequence[Term], *, title: str, persona_id: str, persona_name: str
) -> SearchHit:
    answers = "\n\n".join(
        [turn.text, *(choice.text for choice in turn.choices if choice is not turn.choice)]
    )
    fields = (("title", title), ("input", turn.input), ("text", answers))
    return SearchHit(
        turn=turn,
        session_id=turn.session_id,
        session_title=title,
        persona_id=persona_id,
        persona_name=persona_name,
        excerpts=tuple(
            excerpt for field, text in fields for excerpt in excerpts_of(field, text, terms)
        ),
    )


def _fold(word: str) -> str:
    """Without case and accents, as the index compares words."""
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(
        character for character in decomposed if not unicodedata.combining(character)
    ).lower()


def _occurrences(words: Sequence[tuple[int, int, str]], term: Term) -> Iterator[tuple[int, int]]:
    *leading, last = [_fold(word) for word in term.words]
    size = len(term.words)
    for i in range(len(words) - size + 1):
        folded = words[i + size - 1][2]
        if (folded.startswith(last) if term.is_prefix else folded == last) and all(
            words[i + j][2] == word for j, word in enumerate(leading)
        ):
            yield words[i][0], words[i + size - 1][1]


def _windows(text: str, marks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of whole lines around the marks; those that touch are one."""
    windows: list[tuple[int, int]] = []
    for start, end in marks:
        first, last = _line_start(text, start), _line_end(text, end)
        if windows and first <= windows[-1][1] + 1:
            windows[-1] = (windows[-1][0], max(last, windows[-1][1]))
        elif len(windows) < _MOST_EXCERPTS:
            windows.append((first, last))
        else:
            break
    return windows


def _line_start(text: str, offset: int) -> int:
    start = offset
    for _ in range(_LINES_AROUND + 1):
        start = text.rfind("\n", 0, start)
        if start < 0:
            return 0
    return start + 1


def _line_end(text: str, offset: int) -> int:
    end = offset - 1
    for _ in range(_LINES_AROUND + 1):
        end = text.find("\n", end + 1)
        if end < 0:
            return len(text)
    return end


def _excerpt(
    field: str, text: str, marks: Sequence[tuple[int, int]], *, start: int, end: int
) -> Excerpt:
    is_cut = end - start > _LONGEST_EXCERPT
    if is_cut:
        start = max(start, marks[0][0] - _BEFORE_MARK)
        end = min(end, start + _LONGEST_EXCERPT)
    return Excerpt(
        field=field,
        text=text[start:end],
        marks=tuple(
            (mark[0] - start, min(mark[1], end) - start) for mark in marks if mark[0] < end
        ),
        line=text.count("\n", 0, start) + 1,
        is_cut=is_cut,
    )
