"""What stands between the pieces of a text: each language has signs of its own, and Chinese ones take no space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rolebook.core.frozen import frozen


@frozen
class Punctuation:
    """The signs between texts that are put together: a colon, commas, what separates two sentences, brackets.

    ``listing`` stands between the names of a list, which Chinese keeps apart with a sign of its own.
    """

    colon: str
    comma: str
    listing: str
    gap: str
    opening: str
    closing: str


PUNCTUATION = {
    "en": Punctuation(": ", ", ", ", ", " ", " (", ")"),
    "zh": Punctuation("：", "，", "、", "", "（", "）"),
}

#: Texts, of which Python makes patterns when they are first needed, and keeps them: with so many characters that takes
#: milliseconds, and messages in other languages need neither.
_CHINESE = "[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff01-\uff60“”‘’…—]"
_AFTER_NUMBER = "(?<=[0-9])(?=[\u3400-\u9fff])"
_TAG = re.compile("<[^<>]*>")
_PLACE = re.compile(r"(%\((\w+)\)[sd])")


def close_up(pattern: str, parameters: Mapping[str, Any]) -> str:
    """A Chinese message without the spaces around a name that is Chinese too.

    They are meant for names in other scripts: "Teacher 的历史", and "知心朋友的历史".
    """
    # A text with one place is three pieces: what is before it, the place itself and its name, what is after it.
    pieces = _pieces(pattern)
    values = [_shown(parameters.get(name)) for name in pieces[2::3]]
    if not any(isinstance(value, str) and re.search(_CHINESE, value) for value in values):
        return pattern
    edges = ["", *(value if isinstance(value, str) else "" for value in values), ""]
    texts = (
        _closed(text, edges[number], edges[number + 1]) for number, text in enumerate(pieces[::3])
    )
    return "".join(text + place for text, place in zip(texts, [*pieces[1::3], ""], strict=True))


def _shown(value: Any) -> Any:
    """A value as it is read: of a piece of HTML its text."""
    return _TAG.sub("", value) if hasattr(value, "__html__") else value


@lru_cache(maxsize=8192)
def _pieces(pattern: str) -> tuple[str, ...]:
    return tuple(_PLACE.split(pattern))


def _closed(text: str, before: str, after: str) -> str:
    """A text between two that are filled in, without a space that has Chinese on both sides."""
    if text.startswith(" ") and _are_chinese(before[-1:], (text[1:] or after)[:1]):
        text = text[1:]
    if text.endswith(" ") and _are_chinese((before + text[:-1])[-1:], after[:1]):
        text = text[:-1]
    return text


def set_apart(text: str) -> str:
    """Words of somebody else, such as those for a time, with the space that Chinese has here behind a number."""
    return re.sub(_AFTER_NUMBER, " ", text)


def _are_chinese(*characters: str) -> bool:
    return all(re.match(_CHINESE, character) for character in characters)
