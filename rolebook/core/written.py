"""Where in which file each piece of a prompt was written, so that whoever reads a preview can go there.

A span tells its origin, not its line: that would cost every render something. What is literal is found again in the
text that it came from, in the order in which texts are rendered; what was filled in, where its name is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rolebook.core.frozen import frozen
from rolebook.core.message import Message, Origin, Span
from rolebook.core.persona import Place, ResolvedPersona

#: How much of a line is looked for: enough to tell it from others, short enough to survive being folded.
_NEEDLE = 60
_FOLDED_NEEDLE = 24
_GREETING, _SYSTEM = "greeting", "system"
_TEXTS = {Origin.SYSTEM: _SYSTEM, Origin.GREETING: _GREETING}


@frozen
class Written:
    """The line of a file where the first words of a span are written.

    ``is_literal``: each further line of the span is a further line of the file.
    """

    file: str
    line: int
    is_literal: bool = False


def find_written(
    messages: Sequence[Message], resolved: ResolvedPersona
) -> tuple[tuple[Written | None, ...], ...]:
    """For each span of each message where it was written; None for what was typed or said: input and history.

    What a loop repeats, or an expression computes, is placed where it is written; what cannot be found has None.
    """
    texts = _Texts(resolved)
    return tuple(tuple(texts.places_of(message)) for message in messages)


class _Texts:
    """The texts of one persona, each with how far it has been rendered."""

    def __init__(self, resolved: ResolvedPersona) -> None:
        persona = resolved.persona
        self._resolved = resolved
        self._texts = {_SYSTEM: persona.system, _GREETING: persona.greeting, **resolved.templates}
        main = persona.template_name
        self._templates = sorted(resolved.templates, key=lambda name: name != main)
        self._reached = dict.fromkeys(self._texts, 0)
        self._examples = {
            text: f"examples[{index}].{part}"
            for index, example in reversed(list(enumerate(persona.examples)))
            for part, text in (("assistant", example.assistant), ("user", example.user))
        }

    def places_of(self, message: Message) -> Iterator[Written | None]:
        ground = self._ground(message)
        for span in message.spans:
            if span.origin in _TEXTS:
                ground = _TEXTS[span.origin]
            yield self._place(span, ground)

    def _ground(self, message: Message) -> str:
        """The text that the first piece of a message stands in."""
        origin = next((span.origin for span in message.spans if span.origin in _TEXTS), None)
        if origin:
            return _TEXTS[origin]
        literal = (span for span in message.spans if span.origin is Origin.TEMPLATE)
        found = next((self._template_with(_needle(span.text)) for span in literal), None)
        return found or self._templates[0]

    def _template_with(self, needle: str) -> str | None:
        return next((name for name in self._templates if needle in self._texts[name]), None)

    def _place(self, span: Span, ground: str) -> Written | None:
        match span.origin:
            case Origin.SYSTEM | Origin.GREETING:
                return self._literal(span.text, ground)
            case Origin.TEMPLATE:
                name = self._template_with(_needle(span.text))
                return self._literal(span.text, name) if name else None
            case Origin.VARIABLE:
                return self._expression(rf"\{{[{{%][^}}]*?\b{re.escape(span.name)}\b", ground)
            case Origin.COMPUTED:
                return self._expression(r"\{\{", ground)
            case Origin.EXAMPLE:
                return self._example(span.text)
        return None

    def _literal(self, text: str, name: str) -> Written | None:
        needle = _needle(text)
        if not needle:
            return None
        source = self._texts[name]
        index = source.find(needle, self._reached[name])
        if index < 0:
            index = source.find(needle)
        if index < 0:
            return None
        self._reached[name] = index + len(needle)
        return self._at(name, source.count("\n", 0, index), needle)

    def _expression(self, pattern: str, ground: str) -> Written | None:
        """Where the next expression like this is written, in the text at hand or in any other."""
        for name in dict.fromkeys((ground, _SYSTEM, *self._templates)):
            found = re.compile(pattern).search(self._texts[name], self._reached[name])
            found = found or re.search(pattern, self._texts[name])
            if found:
                self._reached[name] = found.end()
                line = self._texts[name].count("\n", 0, found.start())
                return self._at(name, line, found[0])
        return None

    def _example(self, text: str) -> Written | None:
        needle = _needle(text)
        for whole, name in self._examples.items():
            if text == whole or text in whole:
                line = whole.count("\n", 0, max(0, whole.find(needle)))
                return self._at(name, line, needle)
        return None

    def _at(self, name: str, line: int, needle: str) -> Written | None:
        """A line of a text (from 0) as a line of its file."""
        place = self._resolved.places.get(name)
        if place is not None:
            if place.lines:
                return Written(place.file, place.line + _folded_line(place, needle))
            return Written(place.file, place.line + line, is_literal=True)
        if name in self._resolved.templates:
            file = f"{self._resolved.templates_dir}{name}.jinja"
            return Written(file, line + 1, is_literal=True)
        return None


def _needle(text: str) -> str:
    """The first words of a piece, to look for."""
    # A line that is cut off by an expression has blanks at its end that count.
    return next((line.lstrip()[:_NEEDLE] for line in text.split("\n") if line.strip()), "")


def _folded_line(place: Place, needle: str) -> int:
    words = needle.strip()[:_FOLDED_NEEDLE]
    return next((number for number, line in enumerate(place.lines) if words in line), 0)
