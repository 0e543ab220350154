"""What differs between the variants of a comparison: their settings, and the words of their system prompts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from rolebook.core.comparison import Variant
from rolebook.core.difference import LineDifference, line_differences
from rolebook.core.frozen import frozen
from rolebook.core.persona import Persona, ResolvedPersona
from rolebook.core.reference import SHORT_REVISION
from rolebook.core.session import Turn, TurnStatus
from rolebook.core.transcript import INSTRUCTING
from rolebook.language.translator import Translator

#: The settings that every variant has.
_EVERYBODYS = (
    *("Persona", "Revision", "Model", "Upstream", "Prompt template", "Language"),
    *("Greeting", "Examples", "History sent"),
)
#: With a smaller share of two texts in common, one is no change of the other.
_LEAST_SAME = 0.2
#: Two system prompts of a page each take a few milliseconds, and revisions never change.
_text_difference = lru_cache(maxsize=128)(line_differences)


@frozen
class Asked:
    """How a variant is asked, or was.

    ``personas`` are what can be read of its ``revisions``. ``turns`` are of the log, or as they would be there: the
    first one has its messages, others are asked in another way. There are none where it cannot be asked. ``variables``
    are those of the first turn; those ``given`` are what inputs say, so that with another input they may be others.
    """

    index: int
    variant: Variant
    revisions: tuple[str, ...]
    personas: tuple[ResolvedPersona, ...]
    turns: tuple[Turn, ...]
    variables: Mapping[str, Any]
    given: frozenset[str] = frozenset()

    @property
    def system(self) -> str:
        """The system message of its first turn as it was rendered; empty where there is none."""
        messages = self.turns[0].messages if self.turns else ()
        return "\n\n".join(m.content for m in messages if m.role in INSTRUCTING)

    @property
    def models(self) -> Sequence[str]:
        """Those that are asked for."""
        own = [self.variant.model or each.persona.model for each in self.personas]
        return _once([turn.model_requested for turn in self.turns] or own)

    @property
    def upstreams(self) -> Sequence[str]:
        """Those that are asked, by name."""
        own = [self.variant.upstream or each.persona.upstream for each in self.personas]
        asked = [turn.upstream_requested or turn.upstream for turn in self.turns]
        return _once(asked or own)

    def parameters(self, *, is_sent: bool) -> Sequence[Mapping[str, Any]]:
        """What goes with its messages.

        Arguments:
            is_sent: as it was sent, and not as it was asked for.
        """
        if not self.turns:
            own = self.personas[0].persona.parameters if self.personas else {}
            return [{**own, **self.variant.parameters}]
        return [
            turn.parameters_sent if is_sent else turn.parameters_requested for turn in self.turns
        ]

    @property
    def was_sent(self) -> bool:
        """Whether it is known what was sent of what was asked for."""
        return bool(self.turns) and all(turn.status is TurnStatus.COMPLETE for turn in self.turns)


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
    """How the system prompt of a variant, or its prompt template, differs from ``against``, that of the first one.

    Where next to nothing is the same there is nothing to be seen in a difference, and ``lines`` are empty.
    """

    variant: int
    against: str
    text: str
    lines: tuple[LineDifference, ...]
    is_template: bool = False


class Differing:
    """Tells variants apart.

    Arguments:
        asked: how each of them is asked.
        translator: speaks the language of the settings' names.
    """

    def __init__(self, asked: Sequence[Asked], translator: Translator) -> None:
        self._asked = asked
        self._translator = translator

    @property
    def variants(self) -> Sequence[int]:
        """Those that are told apart, by their index."""
        return [asked.index for asked in self._asked]

    @property
    def settings(self) -> Sequence[Setting]:
        """The settings that are not the same for all."""
        is_sent = all(asked.was_sent for asked in self._asked)
        chosen = [self._settings(asked, is_sent=is_sent) for asked in self._asked]
        left_out = set(self._unsaid(chosen))
        return [row for row in told_apart(chosen) if (row.name, row.is_code) not in left_out]

    @property
    def prompts(self) -> Sequence[PromptDifference]:
        """How system prompts and prompt templates differ from those of the first; what is the same is left out."""
        return [*self._compared(self._systems()), *self._templates()]

    @property
    def has_same_prompts(self) -> bool:
        """Whether the same system prompt is sent for all; not where any sends none, or it is not known."""
        return self._is_rendered and len({asked.system for asked in self._asked}) == 1

    @property
    def is_example(self) -> bool:
        """Whether system prompts are those of one input, and others may have another."""
        return self._is_rendered and any(
            asked.given or asked.variant.is_recorded for asked in self._asked
        )

    @property
    def _is_rendered(self) -> bool:
        return all(asked.system for asked in self._asked)

    def _systems(self) -> Sequence[tuple[int, str]]:
        """As they are sent, where all send one; else as the personas have it."""
        if self._is_rendered:
            return [(asked.index, asked.system) for asked in self._asked]
        return [
            (asked.index, asked.personas[0].persona.system)
            for asked in self._asked
            if asked.personas
        ]

    def _compared(
        self, texts: Sequence[tuple[int, str]], *, is_template: bool = False
    ) -> Sequence[PromptDifference]:
        found = [
            PromptDifference(index, texts[0][1], text, _lines(texts[0][1], text), is_template)
            for index, text in texts[1:]
            if text != texts[0][1]
        ]
        if any(not difference.lines for difference in found):
            index, text = texts[0]
            found.insert(0, PromptDifference(index, text, text, (), is_template))
        return found

    def _templates(self) -> Sequence[PromptDifference]:
        """What is said under one name in other words; that others have another name is a setting."""
        known = [(asked.index, asked.personas[0]) for asked in self._asked if asked.personas]
        if len({resolved.persona.template_name for _, resolved in known}) != 1:
            return ()
        names = sorted({name for _, resolved in known for name in resolved.templates})
        unlike = [
            name for name in names if len({each.templates.get(name) for _, each in known}) > 1
        ]
        texts = [
            (index, "\n".join(resolved.templates.get(name, "") for name in unlike))
            for index, resolved in known
        ]
        return self._compared(texts, is_template=True)

    def _settings(self, asked: Asked, *, is_sent: bool) -> Mapping[tuple[str, bool], str]:
        """What is set, by its name and whether that is a request field."""
        _, personas = self._translator.gettext, [each.persona for each in asked.personas]
        known: dict[tuple[str, bool], str] = {
            (_("Persona"), False): self._listed(persona.name for persona in personas),
            (_("Revision"), False): self._listed(
                revision[:SHORT_REVISION] for revision in asked.revisions
            ),
            (_("Model"), False): self._listed(asked.models) or _("default model"),
            (_("Upstream"), False): self._listed(asked.upstreams),
            (_("Prompt template"), False): self._listed(each.template_name for each in personas),
            (_("Language"), False): self._listed(persona.language for persona in personas),
            (_("Greeting"), False): "\n".join(_once(persona.greeting for persona in personas)),
            (_("Examples"), False): "\n".join(_once(map(_examples, personas))),
            (_("History sent"), False): self._listed(map(self._context, personas)),
        }
        sets = asked.parameters(is_sent=is_sent)
        for name in dict.fromkeys(name for each in sets for name in each):
            known[name, True] = self._listed(
                shown_value(each[name]) if name in each else "–" for each in sets
            )
        for name, value in asked.variables.items():
            if value not in (None, ""):
                known[self._variable_row(name), False] = shown_value(value)
        return {name: value for name, value in known.items() if value}

    def _unsaid(
        self, chosen: Sequence[Mapping[tuple[str, bool], str]]
    ) -> Iterable[tuple[str, bool]]:
        """The settings that go without saying: whose names are those of the variants, and what only some know."""
        _ = self._translator.gettext
        names = [asked.variant.name for asked in self._asked]
        if [settings.get((_("Persona"), False)) for settings in chosen] == names:
            yield _("Persona"), False
        ids = [id for asked in self._asked for id in {p.persona.id for p in asked.personas}]
        if len(set(ids)) == len(ids) and all(asked.personas for asked in self._asked):
            yield _("Revision"), False
        for name in set().union(*(asked.given for asked in self._asked)):
            shown = self._variable_row(name), False
            if len({settings[shown] for settings in chosen if shown in settings}) == 1:
                yield shown

    def _variable_row(self, name: str) -> str:
        """What the setting of a variable is called, never as one that every variant has, or as a request field."""
        shown = name.replace("_", " ")
        if shown not in self._taken_names:
            return shown
        return self._translator.say("%(name)s (variable)", {"name": shown})

    @cached_property
    def _taken_names(self) -> Collection[str]:
        sets = [
            parameters
            for asked in self._asked
            for is_sent in (False, True)
            for parameters in asked.parameters(is_sent=is_sent)
        ]
        fields = {name for parameters in sets for name in parameters}
        return fields | set(map(self._translator.gettext, _EVERYBODYS))

    def _listed(self, texts: Iterable[str]) -> str:
        return self._translator.punctuation.comma.join(_once(texts))

    def _context(self, persona: Persona) -> str:
        turns, tokens = persona.context.turns, persona.context.tokens
        say = self._translator.say
        parts = [
            "" if turns is None else say("at most %(count)s turns", {"count": turns}),
            "" if tokens is None else say("at most %(count)s tokens", {"count": tokens}),
        ]
        return self._translator.punctuation.comma.join(filter(None, parts))


def told_apart(chosen: Sequence[Mapping[tuple[str, bool], str]]) -> Sequence[Setting]:
    """The settings that are not the same in all of these, each by its name and whether that is a request field."""
    names = dict.fromkeys(name for settings in chosen for name in settings)
    rows = [
        Setting(name, tuple(settings.get((name, is_code)) for settings in chosen), is_code)
        for name, is_code in names
    ]
    return [row for row in rows if len(set(row.values)) > 1]


def _once(texts: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(text for text in texts if text))


def _lines(old: str, new: str) -> tuple[LineDifference, ...]:
    lines = _text_difference(old, new)
    pieces = [piece for line in lines for piece in line.pieces]
    same = sum(len(piece.text) for piece in pieces if piece.kind == "same")
    return lines if same >= _LEAST_SAME * max(len(old), len(new)) else ()


def _examples(persona: Persona) -> str:
    """Their number; two personas may have as many and others, so their words are told too."""
    return "\n".join(f"{e.user} → {e.assistant}" for e in persona.examples)


def shown_value(value: Any) -> str:
    """A value of a setting as people read it: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
