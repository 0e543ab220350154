"""How values are shown to people, in pages and in files alike; what is not known is a dash."""

from __future__ import annotations

import math
import zlib

from babel.numbers import format_decimal

from rolebook.core.comparison import Variant
from rolebook.language.translator import Translator

UNKNOWN = "–"
HUES = 24


def hue(persona_id: str) -> str:
    """The CSS class of a persona's hue: the same for the same id, always."""
    return f"hue-{zlib.crc32(persona_id.encode()) % HUES}"


def hue_of(variant: Variant) -> str:
    """The CSS class of a variant's hue: that of its persona, or of its name where it has none."""
    return hue(variant.persona_id or variant.name)


def variant_name(variant: Variant, translator: Translator) -> str:
    """What a variant is called, in the reader's language where the name is Rolebook's own."""
    return translator.gettext(variant.name) if variant.is_recorded else variant.name


def count(number: float | None, language: str) -> str:
    """A number with the separators of a language."""
    return UNKNOWN if number is None else format_decimal(number, locale=language)


def seconds(milliseconds: float | None, language: str) -> str:
    """A duration, given in milliseconds, in seconds."""
    if milliseconds is None:
        return UNKNOWN
    value = milliseconds / 1000
    return f"{format_decimal(round(value, 1 if value < 10 else 0), locale=language)} s"


def money(dollars: float | None) -> str:
    """US dollars, with as many digits as it takes to see that they are not nothing."""
    if dollars is None:
        return UNKNOWN
    if dollars == 0:
        return "$0"
    digits = 2 if dollars >= 1 else 1 - math.floor(math.log10(dollars))
    return f"${dollars:.{digits}f}"


def lang(code: str) -> str:
    """The value of an HTML ``lang`` attribute for a persona's or the reader's language."""
    return "zh-Hans" if code == "zh" else code
