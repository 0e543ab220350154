"""What differs between the variants of a comparison: their settings, and the words of their system prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rolebook.core.comparison import Comparison
from rolebook.core.difference import LineDifference, line_differences
from rolebook.core.frozen import frozen
from rolebook.core.persona import Persona
from rolebook.language.translator import Translator

_SHORT_REVISION = 8
#: With a smaller share of two texts in common, one is no change of the other.
_LEAST_SAME = 0.2
#: Two system prompts of a page each take a few milliseconds, and revisions never change.
_prompt_difference = lru_cache(maxsize=128)(line_differences)


@frozen
class Setting:
    """One thing that can be chosen, as the variants have it; ``None`` is: not set.

    ``is_code`` says that the name is that of a request field.
    """

    name: str
    values: tuple[str | None, ...]
    is_code: bool = False


@frozen
class PromptDifference:
    """How the system prompt of a variant differs from that of the first one.

    Where next to nothing is the same there is nothing to be seen in a difference, and ``lines`` are empty.
    """

    variant: int
    text: str
    lines: tuple[LineDifference, ...]


class Differing:
    """Tells the variants of a comparison apart.

    Arguments:
        persona_of: the persona of a variant, by its index, as it was when the comparison was planned; ``None`` if this
            version cannot read that any more.
        translator: speaks the language of the settings' names.
    """

    def __init__(
        self,
        comparison: Comparison,
        persona_of: Callable[[int], Persona | None],
        translator: Translator,
    ) -> None:
        self._comparison = comparison
        self._persona_of = persona_of
        self._translator = translator

    def settings(self, variants: Sequence[int]) -> Sequence[Setting]:
        """The settings that are not the same for all of these variants."""
        chosen = [self._settings(index) for index in variants]
        names = dict.fromkeys(name for settings in chosen for name in settings)
        rows = [
            Setting(name, tuple(settings.get((name, is_code)) for settings in chosen), is_code)
            for name, is_code in names
        ]
        return [row for row in rows if len(set(row.values)) > 1]

    def prompts(self, variants: Sequence[int]) -> Sequence[PromptDifference]:
        """How the system prompts of these differ from that of the first; those that are the same are left out."""
        texts = [(index, self._system_text(index)) for index in variants]
        known = [(index, text) for index, text in texts if text is not None]
        found = [
            PromptDifference(index, text, _lines(known[0][1], text))
            for index, text in known[1:]
            if text != known[0][1]
        ]
        if any(not difference.lines for difference in found):
            found.insert(0, PromptDifference(*known[0], ()))
        return found

    def _system_text(self, index: int) -> str | None:
        persona = self._persona_of(index)
        is_recorded = self._comparison.variants[index].is_recorded
        return None if persona is None or is_recorded else persona.system

    def _settings(self, index: int) -> Mapping[tuple[str, bool], str]:
        """What is set, by its name and whether that is a request field."""
        persona, variant = self._persona_of(index), self._comparison.variants[index]
        if persona is None or variant.is_recorded:
            return {}
        ids = [other.persona_id for other in self._comparison.variants if not other.is_recorded]
        shared = ids.count(variant.persona_id) > 1
        _ = self._translator.gettext
        known: dict[tuple[str, bool], Any] = {
            (_("Revision"), False): variant.revision[:_SHORT_REVISION] if shared else None,
            (_("Model"), False): variant.model or persona.model or None,
            (_("Upstream"), False): variant.upstream or persona.upstream or None,
            (_("Prompt template"), False): persona.template_name,
            (_("Examples"), False): _examples(persona),
            (_("History sent"), False): self._context(persona),
        }
        known |= {
            (name, True): value
            for name, value in {**persona.parameters, **variant.parameters}.items()
        }
        known |= {
            (name.replace("_", " "), False): variant.variables.get(name, variable.fallback)
            for name, variable in persona.variables.items()
        }
        return {name: _shown(value) for name, value in known.items() if value not in (None, "")}

    def _context(self, persona: Persona) -> str | None:
        turns, tokens = persona.context.turns, persona.context.tokens
        say = self._translator.say
        parts = [
            "" if turns is None else say("at most %(count)s turns", {"count": turns}),
            "" if tokens is None else say("at most %(count)s tokens", {"count": tokens}),
        ]
        return self._translator.punctuation.comma.join(filter(None, parts)) or None


def _lines(old: str, new: str) -> tuple[LineDifference, ...]:
    lines = _prompt_difference(old, new)
    pieces = [piece for line in lines for piece in line.pieces]
    same = sum(len(piece.text) for piece in pieces if piece.kind == "same")
    return lines if same >= _LEAST_SAME * max(len(old), len(new)) else ()


def _examples(persona: Persona) -> str | None:
    """Their number; two personas may have as many and others, so their words are told too."""
    return "\n".join(f"{e.user} → {e.assistant}" for e in persona.examples) or None


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
