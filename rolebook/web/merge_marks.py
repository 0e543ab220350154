"""The marks of a merge in the reader's language; all else knows them as :mod:`rolebook.core.merge` makes them.

They are put into words where a text is shown, and taken back where it is submitted, in whatever language the page was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rolebook.config import LANGUAGES
from rolebook.core.merge import MINE_MARK, THEIRS_MARK
from rolebook.language.translator import Translator, translator
from rolebook.web.current import current_translator


def show_marks(text: str) -> str:
    """A text as its reader sees it."""
    return _replaced(text, _marks(current_translator()).items())


def read_marks(text: str) -> str:
    """What somebody has submitted, with the marks as they are."""
    known = (_marks(translator(code)).items() for code in LANGUAGES)
    return _replaced(text, ((shown, mark) for marks in known for mark, shown in marks))


def _marks(speaker: Translator) -> Mapping[str, str]:
    return {
        MINE_MARK: speaker.gettext("<<<<<<< your text"),
        THEIRS_MARK: speaker.gettext(">>>>>>> on disk"),
    }


def _replaced(text: str, lines: Iterable[tuple[str, str]]) -> str:
    for old, new in lines:
        if old != new and old in text:
            text = re.sub(rf"^{re.escape(old)}(?=[ \t]*\r?$)", new, text, flags=re.MULTILINE)
    return text
