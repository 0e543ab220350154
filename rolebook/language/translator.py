"""Messages in the language of whoever reads them, from gettext catalogues.

The catalogue is the ``.po`` file itself, read when its language is first asked for: there is no compiled copy that
could be out of date.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolebook.core.errors import (
    FileError,
    Phrase,
    Problem,
    PromptError,
    RolebookError,
    UpstreamError,
    detail_of,
)
from rolebook.language.punctuation import PUNCTUATION, close_up

if TYPE_CHECKING:
    from rolebook.core.session import TurnError

_FOLDER = Path(__file__).parent


class Translator:
    """Speaks one language; what a catalogue lacks stays English.

    Arguments:
        language: ``en`` or ``zh``.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.punctuation = PUNCTUATION.get(language, PUNCTUATION["en"])
        self._catalogue = _read_catalogue(language)

    def gettext(self, message: str) -> str:
        """The message, translated."""
        found = self._catalogue.get(message)
        return found if isinstance(found, str) and found else message

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        """The form of a message that fits a number."""
        found = self._catalogue.get(singular)
        if isinstance(found, tuple) and found[0]:
            return found[0]
        return singular if number == 1 else plural

    def say(self, message: str, parameters: Mapping[str, Any]) -> str:
        """A message with its parameters filled in; phrases among them are translated too."""
        filled = {
            name: self.say(value.message, value.parameters) if isinstance(value, Phrase) else value
            for name, value in parameters.items()
        }
        return self.fill(self.gettext(message), filled)

    def fill(self, pattern: str, parameters: Mapping[str, Any]) -> str:
        """A translated message, given its parameters as they are; set closely where both are Chinese."""
        return (close_up(pattern, parameters) if self.language == "zh" else pattern) % parameters

    def problem(self, problem: Problem) -> str:
        """What is wrong in a file, without the place."""
        return self.say(problem.message, problem.parameters)

    def error(self, error: RolebookError) -> str:
        """An error as it is told to a person: the place where there is one, what happened, what to do.

        The upstream's own words, where it gave a reason, follow in brackets as they are.
        """
        if isinstance(error, FileError):
            return "\n".join(map(self._placed, error.problems))
        text = self.say(error.message, error.parameters)
        place = error.place if isinstance(error, PromptError) else ""
        if isinstance(error, UpstreamError):
            return self._with_detail(text, detail_of({**error.parameters, "detail": error.detail}))
        return f"{place}: {text}" if place else text

    def _placed(self, problem: Problem) -> str:
        text = self.problem(problem)
        return f"{problem.place}: {text}" if problem.place else text

    def turn_error(self, error: TurnError) -> str:
        """Why a turn did not complete, told as the error was that ended it."""
        text = self.say(error.message, error.parameters)
        return self._with_detail(text, detail_of(error.parameters))

    def _with_detail(self, text: str, detail: Phrase | str) -> str:
        if isinstance(detail, Phrase):
            detail = self.say(detail.message, detail.parameters)
        return (
            f"{text}{self.punctuation.opening}{detail}{self.punctuation.closing}"
            if detail
            else text
        )


@lru_cache
def translator(language: str) -> Translator:
    """The translator of a language."""
    return Translator(language)


def _read_catalogue(language: str) -> Mapping[str, str | tuple[str, ...]]:
    path = _FOLDER / f"{language}.po"
    if language == "en" or not path.exists():
        return {}
    # Only who needs another language pays for this import.
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    entries: dict[str, str | tuple[str, ...]] = {}
    for message in catalogue:
        if message.id and not message.fuzzy:
            key = message.id if isinstance(message.id, str) else message.id[0]
            found = message.string
            entries[key] = found if isinstance(found, str) else tuple(found or ())
    return entries
