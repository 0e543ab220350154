"""A comparison as one HTML page that opens anywhere, loads nothing and runs nothing.

What personas have said is untrusted. It is set by :mod:`rolebook.report.markdown`, everything else is escaped, the page
holds no script at all, and its own policy forbids the browser to run or fetch anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from rolebook import __version__
from rolebook.core.comparison import Cell, CellKey, ComparisonInput
from rolebook.core.errors import Phrase
from rolebook.core.frozen import frozen
from rolebook.core.session import Turn
from rolebook.language.translator import Translator
from rolebook.report import PAGES, STATIC
from rolebook.report.differing import Differing
from rolebook.report.markdown import render_markdown
from rolebook.report.money import UNKNOWN, money
from rolebook.report.presentation import call_text, count, hues_of, lang, seconds, variant_name
from rolebook.report.snapshot import FORMAT_VERSION, Conduct, Snapshot
from rolebook.report.visible import visible
from rolebook.storage.encoding import encode_json, show_text

#: The plan in a file: text of the last such element, as nothing that anybody said can make one.
PLAN_IN_HTML = re.compile(r'\A.*<pre id="plan"[^>]*>(.*?)</pre>', re.DOTALL)
_SHEETS = ("tokens.css", "chart.css", "evidence.css", "report.css")
#: More inputs than this are folded, each to a line.
_MOST_OPEN = 12
_LONGEST_LINE = 160
#: So many pieces of the template are given out as one.
_BUFFERED = 200


@frozen
class Member:
    """A variant as the page names and describes it. ``language`` is what its persona speaks, if that is known."""

    index: int
    name: str
    hue_class: str
    language: str
    personas: str
    revisions: str
    systems: tuple[str, ...]
    variables: str
    conduct: Conduct


@frozen
class Box:
    """What a member said to one text in one repeat; ``turn`` is ``None`` where it was not asked yet."""

    key: CellKey
    cell: Cell | None
    turn: Turn | None


@frozen
class Said:
    """One text of an input, and for each member the boxes of its repeats."""

    text: str
    columns: tuple[tuple[Member, tuple[Box, ...]], ...]


@frozen
class Row:
    """One input with all that was answered to it."""

    number: int
    entry: ComparisonInput
    before: Sequence[Turn]
    said: tuple[Said, ...]
    failed: int
    """How many answers failed, or failed a check."""

    @property
    def is_short(self) -> bool:
        """Whether the line that it is folded to says all of its first text."""
        text = self.entry.text
        return not self.entry.name and "\n" not in text and len(text) <= _LONGEST_LINE


def export_html(snapshot: Snapshot, translator: Translator) -> Iterator[str]:
    """The page, piece by piece, in the translator's language."""
    comparison = snapshot.comparison
    members = _members(snapshot, translator)
    differing = Differing(snapshot.asked, translator)
    stream = (
        _environment(translator.language)
        .get_template("report.html")
        .stream(
            language=translator.language,
            comparison=comparison,
            snapshot=snapshot,
            findings=snapshot.findings(translator),
            members=members,
            settings=differing.settings,
            prompts=differing.prompts,
            compared=differing.variants,
            is_example=differing.is_example,
            rows=_rows(snapshot, members),
            is_folded=len(comparison.inputs) > _MOST_OPEN,
            styles=_styles(),
            version=__version__,
            format=FORMAT_VERSION,
        )
    )
    stream.enable_buffering(_BUFFERED)
    yield from map(show_text, stream)


def _members(snapshot: Snapshot, translator: Translator) -> Sequence[Member]:
    members = []
    hues = hues_of(snapshot.comparison.variants)
    for index, variant in enumerate(snapshot.comparison.variants):
        persona, revisions = snapshot.persona_of(index), snapshot.revisions_of(index)
        members.append(
            Member(
                index,
                name=visible(variant_name(variant, translator)),
                hue_class=hues[index],
                language=persona.language if persona else "",
                personas=", ".join(snapshot.personas_of(index)),
                revisions=", ".join(variant.revisions),
                systems=tuple(dict.fromkeys(str(r.resolved.get("system", "")) for r in revisions)),
                variables=encode_json(variant.variables) if variant.variables else "",
                conduct=snapshot.conduct_of(index),
            )
        )
    return members


def _rows(snapshot: Snapshot, members: Sequence[Member]) -> Iterator[Row]:
    """One by one, so that no more than one input is set at a time."""
    for index, entry in enumerate(snapshot.comparison.inputs):
        said = tuple(
            Said(
                text,
                tuple((member, _boxes(snapshot, member.index, index, turn)) for member in members),
            )
            for turn, text in enumerate(entry.turns)
        )
        boxes = [box for text in said for _, column in text.columns for box in column]
        yield Row(
            index + 1,
            entry,
            before=snapshot.history_of(entry),
            said=said,
            failed=sum(map(_has_failed, boxes)),
        )


def _boxes(snapshot: Snapshot, variant: int, index: int, turn: int) -> tuple[Box, ...]:
    keys = [CellKey(variant, index, repeat) for repeat in range(snapshot.comparison.repeats)]
    asked = [(key, snapshot.cells.get(key)) for key in keys if snapshot.comparison.has(key)]
    return tuple(
        Box(key, cell, cell.turns[turn] if cell and turn < len(cell.turns) else None)
        for key, cell in asked
    )


def _has_failed(box: Box) -> bool:
    if box.turn is None or box.cell is None:
        return False
    results = box.cell.results.get(box.turn.id, ())
    return box.turn.error is not None or any(result.has_passed is False for result in results)


@lru_cache
def _styles() -> Markup:
    """All style sheets; an element of styles ends at its end tag only, which none of them has."""
    return Markup("\n".join((STATIC / name).read_text("utf-8") for name in _SHEETS))


@lru_cache
def _environment(language: str) -> Environment:
    from rolebook.language.translator import translator as translator_of

    translator = translator_of(language)
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["punctuation"] = translator.punctuation
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        translator.gettext, translator.ngettext, newstyle=True
    )

    def phrase(said: Phrase) -> str:
        return translator.say(said.message, said.parameters)

    environment.filters.update(
        call_text=call_text,
        count=partial(count, language=language),
        json=encode_json,
        lang=lang,
        markdown=render_markdown,
        minute=_minute,
        money=money,
        phrase=phrase,
        seconds=partial(seconds, language=language),
        turn_error=translator.turn_error,
        visible=visible,
    )
    return environment


def _minute(time: str) -> str:
    """A time of the log as people read it, the same wherever they are."""
    return f"{time[:10]} {time[11:16]} UTC" if time else UNKNOWN
