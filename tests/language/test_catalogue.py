"""The Chinese catalogue: complete, current, and set as Chinese is set."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

from tools.messages import CATALOGUE, find_messages, updated_catalogue

#: What is the same in both languages: codes and names.
SAME_IN_BOTH = {"ID", "%(reason)s"}

_PLACEHOLDER = re.compile(r"%(?:\(\w+\)[#0\- +]*\d*(?:\.\d+)?[a-zA-Z]|.)")
_CHINESE = "\u3400-\u9fff"
_FULL_WIDTH = "，。：；？！、（）“”…"


@pytest.fixture(scope="module")
def found() -> Catalog:
    return find_messages()


@pytest.fixture(scope="module")
def written() -> Catalog:
    with CATALOGUE.open("rb") as file:
        return read_po(file, locale="zh", domain="messages")


def _forms(texts: object) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts or ())  # type: ignore[arg-type]


def _entries(catalogue: Catalog) -> Iterator[Message]:
    return (message for message in catalogue if message.id)


def _translations(catalogue: Catalog) -> Iterator[tuple[str, str]]:
    """The English of every entry, its plural where it has one, with the Chinese."""
    for message in _entries(catalogue):
        for form in filter(None, _forms(message.string)):
            yield _forms(message.id)[-1], form


def test_every_message_is_translated(found: Catalog, written: Catalog) -> None:
    missing = [
        message.id
        for message in _entries(found)
        if not (entry := written.get(message.id)) or not all(_forms(entry.string))
    ]
    assert missing == []


def test_no_translation_is_a_guess(written: Catalog) -> None:
    assert [message.id for message in _entries(written) if message.fuzzy] == []


def test_the_file_is_as_the_tool_writes_it(found: Catalog) -> None:
    _, current = updated_catalogue(found)
    assert CATALOGUE.read_bytes() == current, "run: python -m tools.messages"


def test_a_plural_has_the_one_form_of_chinese(written: Catalog) -> None:
    plurals = [message for message in _entries(written) if message.pluralizable]
    assert plurals
    assert {len(_forms(message.string)) for message in plurals} == {1}


def test_placeholders_stay_as_they_are(written: Catalog) -> None:
    differing = [
        chinese
        for english, chinese in _translations(written)
        if set(_PLACEHOLDER.findall(english)) != set(_PLACEHOLDER.findall(chinese))
    ]
    assert differing == []


def test_white_space_at_the_ends_stays_as_it_is(written: Catalog) -> None:
    differing = [
        chinese
        for english, chinese in _translations(written)
        if english.isspace() != chinese.isspace()
        or len(english) - len(english.lstrip()) != len(chinese) - len(chinese.lstrip())
        or len(english) - len(english.rstrip()) != len(chinese) - len(chinese.rstrip())
    ]
    assert differing == []


@pytest.mark.parametrize(
    "slip",
    [
        pytest.param(f"[{_CHINESE}][,.?!:;]", id="half-width punctuation after Chinese"),
        pytest.param(f"[{_CHINESE}] +[{_CHINESE}]", id="a space between Chinese characters"),
        pytest.param(
            f" [{_FULL_WIDTH[:-2]}]|[{_FULL_WIDTH[:-2]}] ",
            id="a space beside full-width punctuation",
        ),
        pytest.param(f"[{_CHINESE}]\\(|\\)[{_CHINESE}]", id="half-width parentheses"),
        pytest.param(
            f"[{_CHINESE}][A-Za-z0-9]|[A-Za-z0-9][{_CHINESE}]",
            id="no space beside a number or Latin",
        ),
        pytest.param("您|令牌|人设", id="a word of another product"),
    ],
)
def test_chinese_is_set_as_chinese(written: Catalog, slip: str) -> None:
    pattern = re.compile(slip)
    # What stands in backticks, and placeholders, are no Chinese text.
    shown = (
        re.sub(r"`[^`]*`|%\(\w+\)\w|{}", "x", chinese) for _, chinese in _translations(written)
    )
    assert [chinese for chinese in shown if pattern.search(chinese)] == []


def test_a_text_of_a_page_is_safe_in_its_html(written: Catalog) -> None:
    """Jinja's gettext takes translations for HTML, and some stand in attributes."""
    in_pages = [
        form
        for message in _entries(written)
        if any(place.endswith(".html") for place, _ in message.locations)
        for form in _forms(message.string)
    ]
    assert in_pages
    assert [text for text in in_pages if set(text) & set('<>&"')] == []


def test_only_codes_and_names_are_the_same_in_both(written: Catalog) -> None:
    assert {
        english for english, chinese in _translations(written) if english == chinese
    } == SAME_IN_BOTH


MESSAGES = {
    "error": "The connection to %(upstream)s broke before the answer was finished. Try again.",
    "error of a chosen kind": (
        "%(upstream)s reported an error instead of going on with the answer. Try again."
    ),
    "advice": "A tab stands where YAML needs spaces: use spaces only.",
    "fault": "'%(key)s' is missing.",
    "phrase": "a whole number from %(low)d to %(high)d",
    "variable": "The file is written in %(encoding)s: save it as UTF-8.",
    "constant": "The log %(path)s is locked by another program. Close it there, or wait and try again.",
    "page": "Who do you want to talk to?",
    "sampling parameter": "The longest answer, in tokens.",
    "setting": "Folder of the persona files.",
    "notice": "Ctrl-C stops it.",
    "heading of a table": "Last used",
    "help of a command": "Talk to a persona.",
    "help of an option": "Look for model servers on this computer.",
    "origin": "computed",
    "tag of a persona": "education",
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_messages_are_found_wherever_they_are(found: Catalog, message: str) -> None:
    assert message in found


def test_a_plural_is_found(found: Catalog) -> None:
    assert found["%(num)s session"].id == ("%(num)s session", "%(num)s sessions")


def test_what_is_for_machines_is_no_message(found: Catalog) -> None:
    """Patterns, SQL, headers of HTTP and whole help texts have lines, braces or no letters that begin a word."""
    texts = [form for message in _entries(found) for form in _forms(message.id)]
    odd = re.compile(r"\n|\bSELECT\b|\bCREATE\b|\[\^|\\w|\\s|'self'")
    assert [text for text in texts if odd.search(text) or not re.search(r"[A-Za-z]{2}", text)] == []
