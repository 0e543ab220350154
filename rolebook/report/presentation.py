"""How values are shown to people, in pages and in files alike; what is not known is a dash."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from babel.lists import format_list
from babel.numbers import format_decimal

from rolebook.core.comparison import Variant
from rolebook.language.translator import Translator
from rolebook.report.money import UNKNOWN
from rolebook.report.visible import visible

HUES = 24
#: How far the hues of one comparison lie apart, in steps of 15 degrees; so many variants that this leaves no room for
#: all have to do with less.
_LEAST_APART = (3, 2, 1, 0)


def hue(persona_id: str) -> str:
    """The CSS class of a persona's hue: the same for the same id, always."""
    return f"hue-{zlib.crc32(persona_id.encode()) % HUES}"


def hue_of(variant: Variant) -> str:
    """The CSS class of the hue of a variant's persona, or of its name where it has none."""
    return hue(variant.persona_id or variant.name)


def hues_of(variants: Sequence[Variant]) -> tuple[str, ...]:
    """The CSS class of the hue of each variant of a comparison, by which it can be told from all others there."""
    return told_apart([hue_of(variant) for variant in variants])


def told_apart(hues: Sequence[str]) -> tuple[str, ...]:
    """The same CSS classes of hues, but for those that are too near to another one: they give way to the next free.

    The first with a hue keeps it before a second one is given any; the same hues always give the same result.
    """
    numbers = [int(css_class.removeprefix("hue-")) for css_class in hues]
    given: dict[int, int] = {}
    for index in sorted(
        range(len(numbers)), key=lambda index: numbers.index(numbers[index]) < index
    ):
        given[index] = _free_hue(numbers[index], list(given.values()))
    return tuple(f"hue-{given[index]}" for index in range(len(numbers)))


def _free_hue(wanted: int, taken: Sequence[int]) -> int:
    nearest = sorted(range(HUES), key=lambda number: _steps_between(number, wanted))
    return next(
        number
        for least in _LEAST_APART
        for number in nearest
        if all(_steps_between(number, other) >= least for other in taken)
    )


def _steps_between(number: int, other: int) -> int:
    """How far two hues lie apart on their circle."""
    return min((number - other) % HUES, (other - number) % HUES)


def variant_name(variant: Variant, translator: Translator) -> str:
    """What a variant is called, in the reader's language where the name is Rolebook's own."""
    return translator.gettext(variant.name) if variant.is_recorded else variant.name


def call_text(call: Mapping[str, Any]) -> str:
    """A tool that an answer asks for, with what it is to be given: ``get_weather({"city": "Paris"})``."""
    function = call.get("function")
    if isinstance(function, Mapping) and isinstance(function.get("name"), str):
        return visible(f"{function['name']}({function.get('arguments') or ''})")
    return visible(json.dumps(call, ensure_ascii=False))


@lru_cache(maxsize=4096)
def _decimal(number: float, language: str) -> str:
    """A page has hundreds of numbers, few of them different; babel takes 30 µs for each."""
    return format_decimal(number, locale=language)


def count(number: float | None, language: str) -> str:
    """A number with the separators of a language."""
    # Both zeros are one key to what is kept, and babel would tell them apart.
    return UNKNOWN if number is None else _decimal(number + 0, language)


def seconds(milliseconds: float | None, language: str) -> str:
    """A duration, given in milliseconds, in seconds."""
    if milliseconds is None:
        return UNKNOWN
    value = milliseconds / 1000
    if 0 < value < 0.05:
        return f"<{_decimal(0.1, language)} s"
    return f"{_decimal(round(value, 1 if value < 10 else 0), language)} s"


def listed(texts: Sequence[str], language: str) -> str:
    """Several texts one after the other, as a language lists them."""
    return format_list(texts, locale=language)


def lang(code: str) -> str:
    """The value of an HTML ``lang`` attribute for a persona's or the reader's language."""
    return "zh-Hans" if code == "zh" else code
